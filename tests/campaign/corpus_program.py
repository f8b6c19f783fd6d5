"""The program of corpus schedules: plan, stage, run, read and write copies; it can be restarted.

It does what `docs/many-jobs.md` and `docs/redacted-copies.md` show. It keeps the plan in a file and
gives each plan its own ledger. Failed jobs are started again. If files have changed, it plans again
under the same name. When copies are written, files that the jobs have skipped are run again. The
user may abandon the first plan, for good or for some time.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import frozen

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    S3Location,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)
from comprehend_phi.corpus import (
    JobOutcome,
    JobPlan,
    PlanError,
    RunSummary,
    ServiceLimits,
    abandon,
    plan_jobs,
    plan_keys,
    run_jobs,
)

from .corpus_copies import DECIDED, ENDED_WELL, READ_PARTS, READER_KILLED, WROTE_ON, CopiesRun
from .corpus_plan import NOTES, RESULTS
from .plan import COPIES, FILE_BYTES, STAGED
from .world import REPAIR, STATE

PLANNED_AGAIN = "plans made again because files had changed"
STARTED_AGAIN = "runs that start failed jobs again"
RAN_SKIPPED = "plans of files that the jobs had skipped"
ABANDONED = "plans that were abandoned"
# Events that a few schedules already have.
CORPUS_EVENTS = (
    STARTED_AGAIN,
    RAN_SKIPPED,
    ABANDONED,
    DECIDED,
    READ_PARTS,
    READER_KILLED,
    WROTE_ON,
)

# How often the jobs of a plan are run, those that failed again each time, and how often the program
# plans.
RUNS, _PLANS = 3, 3

_WAIT = WaitPolicy(delay=45.0, multiplier=1.5, max_delay=90.0)

AGAIN = "again"  # the name of the plan of skipped files; the names of the others are numbers


class _Enough(Exception):
    """The user stops a run."""


@frozen(kw_only=True)
class CorpusRun(CopiesRun):
    """One life of the program."""

    def live_corpus(self) -> int:
        """Run one life of the program and return its exit code."""
        self.step_at_file_changes()
        if self.number < len(self.plan.cpu_kills):
            # If nobody handles this signal, it kills the process at once, wherever it is.
            signal.setitimer(signal.ITIMER_VIRTUAL, self.plan.cpu_kills[self.number])
        return self.live(self._work)

    def _work(self) -> None:
        if self.recall("done"):
            return
        with PHIClient(**self.options()) as client:
            if self.plan.abandons:
                self._abandon(client)
            if self.plan.abandons == "for good":
                plans = {"0": self._plan(client, "0")}
                known = self._nothing(plans["0"])
            else:
                known, plans = self._copy_all(client)
                if not self.plan.changes:
                    self.verify(client)
            # Copies that were kept because a manifest could not be read are deleted now.
            for name, plan in plans.items():
                self._run(client, plan, name)
            self._break(known)
            self.remember("done", known)

    def _copy_all(self, client: PHIClient) -> tuple[dict[str, Any], dict[str, JobPlan]]:
        """Run everything and write all copies. Return what became of the notes, and the plans."""
        known, count = self._copy_first(client)
        plans = {str(number): self._plan(client, str(number)) for number in range(count)}
        keys = [*known["unprocessed"], *known["skipped"]]
        if not (self.plan.repairs and keys):
            return known, plans
        self.ask(REPAIR)
        plan = self._plan_again(client, keys)
        if plan is None:
            return known, plans
        plans[AGAIN] = plan
        second = self.copy(client, self._run_all(client, plan, AGAIN), AGAIN)
        ran_again = set(plan.keys or ())
        for what in ("unprocessed", "skipped"):
            known[what] = [key for key in known[what] if key not in ran_again]
        return {what: value + second[what] for what, value in known.items()}, plans

    def _copy_first(self, client: PHIClient) -> tuple[dict[str, Any], int]:
        """Run all jobs and write copies, once. Return what became of the notes, and the plans."""
        copied = self.recall("copied")
        if not copied:
            summary, count = self._run_plans(client)
            copied["known"], copied["plans"] = self.copy(client, summary, "first"), count
            self.remember("copied", copied)
        return copied["known"], copied["plans"]

    def _run_plans(self, client: PHIClient) -> tuple[RunSummary, int]:
        """Plan and run, again if files have changed. Return the last run and how many plans."""
        count = 0
        while True:
            name = str(count)
            summary = self._run_all(client, self._plan(client, name), name)
            count += 1
            if count == _PLANS or all(job.status is not None for job in summary.jobs):
                return summary, count
            self.evidence.event(PLANNED_AGAIN)

    # --- Planning ---------------------------------------------------------------------------------

    def _plan(self, client: PHIClient, name: str) -> JobPlan:
        """Return the plan of the corpus, which an earlier life may have made."""

        def make() -> JobPlan:
            return plan_jobs(
                client,
                self._request,
                name=f"{self.plan.name}{self._suffix}",
                staging=S3Location(self.plan.bucket, STAGED) if self.plan.has_staging else None,
                limits=self._limits,
            )

        return self._known_plan(name, make)

    def _plan_again(self, client: PHIClient, keys: list[str]) -> JobPlan | None:
        """Return the plan of skipped files, which an earlier life may have made.

        Return None if AWS would skip all of them again.
        """
        wanted: list[str] = sorted(set(keys))
        if self.defect == "skipped file not run again":
            wanted.remove(min(self.plan.repairs))

        def make() -> JobPlan:
            return plan_keys(
                client,
                self._request,
                wanted,
                name=f"{self.plan.name} again",
                staging=S3Location(self.plan.bucket, STAGED),
                limits=self._limits,
            )

        while wanted:
            try:
                plan = self._known_plan(AGAIN, make)
            except PlanError as error:
                self.evidence.raised(error)
                if not error.keys:
                    is_hopeless = self.plan.repairs.keys().isdisjoint(wanted)
                    self.check(is_hopeless, "files that were repaired cannot be planned")
                    return None
                # Notes may be deleted at any time.
                wanted = [key for key in wanted if key not in error.keys]
            else:
                self.evidence.event(RAN_SKIPPED)
                return plan
        return None

    def _known_plan(self, name: str, make: Callable[[], JobPlan]) -> JobPlan:
        path = self.directory / f"plan-{name}{self._suffix}"
        if path.exists():
            return JobPlan.from_json(path.read_text("utf-8"))
        plan = make()
        self.step()
        self.evidence.shown(plan, *plan.jobs)
        self.write(path, plan.to_json())
        return plan

    @property
    def _request(self) -> StartPHIDetectionJobRequest:
        bucket = self.plan.bucket
        return StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=NOTES),
            output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key=RESULTS),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key=self.kms_key,
        )

    @property
    def _limits(self) -> ServiceLimits:
        return ServiceLimits(
            max_file_bytes=FILE_BYTES, max_job_files=self.plan.job_files, max_active_jobs=2
        )

    # --- Running ----------------------------------------------------------------------------------

    def _run_all(self, client: PHIClient, plan: JobPlan, name: str) -> RunSummary:
        """Run the jobs of a plan, and start those that failed again."""
        # What was abandoned only runs if the user asks for it.
        is_abandoned = name == "0" and bool(self.plan.abandons)
        summary = self._run(client, plan, name, retry_failed=is_abandoned)
        runs: int = self.recall(f"runs-{name}").get("count", 1)
        while runs < RUNS and any(job.status not in ENDED_WELL for job in summary.jobs):
            self.evidence.event(STARTED_AGAIN)
            runs += 1
            # A run that is killed does not count. But if each ends early, it must.
            if self.plan.run_timeout is not None:
                self.remember(f"runs-{name}", {"count": runs})
            retry_failed = self.defect != "failed jobs not started again"
            summary = self._run(client, plan, name, retry_failed=retry_failed)
            self.remember(f"runs-{name}", {"count": runs})
        return summary

    def _run(
        self,
        client: PHIClient,
        plan: JobPlan,
        name: str,
        *,
        retry_failed: bool = False,
        on_change: Callable[[JobOutcome], None] | None = None,
    ) -> RunSummary:
        summary = run_jobs(
            client,
            plan,
            self.directory / f"ledger-{name}{self._suffix}",
            wait=WaitPolicy(
                delay=_WAIT.delay,
                multiplier=_WAIT.multiplier,
                max_delay=_WAIT.max_delay,
                timeout=self.plan.run_timeout,
            ),
            on_change=on_change or self._changed,
            retry_failed=retry_failed,
            keep_staged=self.defect == "staged copies left",
        )
        self.step()
        self.evidence.shown(summary)
        return summary

    def _changed(self, outcome: JobOutcome) -> None:
        self.evidence.shown(outcome)
        self.evidence.add("message of a job", outcome.message or "")
        self.step()

    @property
    def _suffix(self) -> str:
        return f"-{min(self.number, 4)}" if self.defect == "new name" else ""

    # --- Abandoning -------------------------------------------------------------------------------

    def _abandon(self, client: PHIClient) -> None:
        """Run the first plan for some time, then abandon it. Nothing may remain."""
        if self.recall("abandoned"):
            return
        plan = self._plan(client, "0")
        if not self.recall("abandoning"):
            left = [self.plan.abandons_at]

            def changed(outcome: JobOutcome) -> None:
                self._changed(outcome)
                left[0] -= 1
                if left[0] == 0:
                    raise _Enough

            with suppress(_Enough):
                self._run(client, plan, "0", on_change=changed)
            self.remember("abandoning", {"begun": True})
        before = self.ask(STATE)
        if self.defect == "abandoned jobs not stopped":
            self._run(client, plan, "0")
        elif self.defect != "abandoned jobs run on":
            summary = abandon(client, plan, self.directory / f"ledger-0{self._suffix}")
            self.evidence.shown(summary, *summary.jobs)
        self.step()
        self.evidence.event(ABANDONED)
        after = self.ask(STATE)
        self.check(
            not (after["running"] or after["staged"]),
            "after a plan was abandoned, jobs run or there are staged copies",
        )
        self.check(
            after["stops"] - before["stops"] >= before["running"],
            "a plan was abandoned, but its jobs were not stopped",
        )
        self.remember("abandoned", {"ended": True})

    def _nothing(self, plan: JobPlan) -> dict[str, Any]:
        """Return what is known about the notes of an abandoned plan, which get no copies."""
        return {
            "unprocessed": [],
            "failed": [],
            "missing": [],
            "skipped": [p.key for p in plan.report.problems if p.severity == "error"],
            "without_results": [[job.first_key, job.last_key] for job in plan.jobs],
        }

    # --- Promises that are broken on purpose ------------------------------------------------------

    def _break(self, known: dict[str, Any]) -> None:
        """Break the promise that `defect` names."""
        if not self.defect or self.plan.copies_on_s3:
            return
        if self.defect == "key in the ledger":
            with (self.directory / "ledger-0").open("ab") as file:
                file.write(self.plan.notes[0].key.encode())
        elif self.defect == "lost copy":
            next((self.directory / COPIES).rglob("*.txt")).unlink()
        elif self.defect == "unredacted copy":
            copy = next((self.directory / COPIES).rglob("*.txt"))
            copy.write_bytes(self.plan.notes[0].versions[0] or b"")
        elif self.defect == "note not named":
            known["unprocessed"] = []
            known["skipped"] = []
        elif self.defect == "leak in a message":
            self.evidence.add("message of a job", self.plan.name)


# Promises that are broken on purpose, so that the campaign must notice.
CORPUS_DEFECTS = (
    "new name",
    "staged copies left",
    "key in the ledger",
    "note not named",
    "leak in a message",
    "lost copy",
    "unredacted copy",
    "failed jobs not started again",
    "skipped file not run again",
    "abandoned jobs run on",
    "abandoned jobs not stopped",
    "decisions ignored",
    "unreviewed note copied",
    "part not read",
)

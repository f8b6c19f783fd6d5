"""The program of corpus schedules: plan, stage, run, read and write copies; it can be restarted.

It does what `docs/many-jobs.md` and `docs/redacted-copies.md` show. It keeps the plan in a file and
gives each plan its own ledger. Failed jobs are started again. If files have changed, it plans again
under the same name.
"""

from __future__ import annotations

import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import frozen

from comprehend_phi import (
    IncompleteResultsError,
    InputDataConfig,
    JobStatus,
    OutputDataConfig,
    PHIClient,
    S3Location,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)
from comprehend_phi.corpus import (
    IncompleteCopiesError,
    JobOutcome,
    JobPlan,
    RunSummary,
    ServiceLimits,
    plan_jobs,
    run_jobs,
    verify_copies,
    write_copies,
)

from .corpus_plan import COPIES, NOTES, RESULTS, STAGED, CorpusPlan
from .life import Life
from .plan import FILE_BYTES

PLANNED_AGAIN = "plans made again because files had changed"
STARTED_AGAIN = "runs that start failed jobs again"
WROTE_AGAIN = "times copies were written again because notes had failed"
WROTE_ON = "runs that continued to write copies"

# How often the program starts failed jobs again, plans again, and writes failed copies again. It
# stops writing when several attempts in a row agree.
_RUNS, _PLANS, _WRITINGS, _AGREE = 3, 3, 8, 3

_WAIT = WaitPolicy(delay=20.0, multiplier=1.5, max_delay=60.0)
_ENDED_WELL = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


@frozen(kw_only=True)
class CorpusRun(Life):
    """One life of the program."""

    plan: CorpusPlan

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
            summary, count = self._run_plans(client)
            known = self._copy(client, summary)
            # Copies that were kept because a manifest could not be read are deleted now.
            for number in range(count):
                self._run(client, self._plan(client, number), number)
            self._break(known)
            self.remember("done", known)

    def _run_plans(self, client: PHIClient) -> tuple[RunSummary, int]:
        """Plan and run, again if files have changed. Return the last run and how many plans."""
        count = 0
        while True:
            summary = self._run_all(client, self._plan(client, count), count)
            count += 1
            if count == _PLANS or all(job.status is not None for job in summary.jobs):
                return summary, count
            self.evidence.event(PLANNED_AGAIN)

    def _plan(self, client: PHIClient, number: int) -> JobPlan:
        """Return a plan, which an earlier life may have made."""
        path = self.directory / f"plan-{number}{self._suffix}"
        if path.exists():
            return JobPlan.from_json(path.read_text("utf-8"))
        bucket = self.plan.bucket
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=NOTES),
            output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key=RESULTS),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key=self._kms_key,
        )
        plan = plan_jobs(
            client,
            request,
            name=f"{self.plan.name}{self._suffix}",
            staging=S3Location(bucket, STAGED) if self.plan.has_staging else None,
            limits=ServiceLimits(
                max_file_bytes=FILE_BYTES,
                max_job_files=self.plan.job_files,
                max_active_jobs=2,
            ),
        )
        self.step()
        self.evidence.shown(plan, *plan.jobs)
        self.write(path, plan.to_json())
        return plan

    def _run_all(self, client: PHIClient, plan: JobPlan, number: int) -> RunSummary:
        """Run the jobs of a plan, and start those that failed again."""
        summary = self._run(client, plan, number)
        runs: int = self.recall(f"runs-{number}").get("count", 1)
        while runs < _RUNS and any(job.status not in _ENDED_WELL for job in summary.jobs):
            runs += 1
            self.remember(f"runs-{number}", {"count": runs})
            self.evidence.event(STARTED_AGAIN)
            summary = self._run(client, plan, number, retry_failed=True)
        return summary

    def _run(
        self, client: PHIClient, plan: JobPlan, number: int, *, retry_failed: bool = False
    ) -> RunSummary:
        ledger = self.directory / f"ledger-{number}{self._suffix}"
        summary = run_jobs(
            client,
            plan,
            ledger,
            wait=WaitPolicy(
                delay=_WAIT.delay,
                multiplier=_WAIT.multiplier,
                max_delay=_WAIT.max_delay,
                timeout=self.plan.run_timeout,
            ),
            on_change=self._changed,
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

    @property
    def _kms_key(self) -> str | None:
        return "alias/results" if self.plan.encrypted else None

    def _copy(self, client: PHIClient, summary: RunSummary) -> dict[str, Any]:
        """Write the copies until all notes are copied, or the same notes fail again."""
        destination: S3Location | Path = self.directory / COPIES
        if self.plan.copies_on_s3:
            destination = S3Location(self.plan.bucket, COPIES)
        audit = self.directory / "audit"
        known: dict[str, Any] = {}
        agreeing = 0
        for _ in range(_WRITINGS):
            before = known
            report, known = self._write(client, summary, destination, audit)
            if report.already_written:
                self.evidence.event(WROTE_ON)
            agreeing = agreeing + 1 if known == before else 1
            if not (known["failed"] or known["missing"] or known["reasons"]) or agreeing == _AGREE:
                break
            self.evidence.event(WROTE_AGAIN)
        if not self.plan.changes:
            differences = verify_copies(audit, destination, client=client)
            obstructed = sum(note.is_obstructed for note in self.plan.notes)
            self.check(
                not differences.changed
                and not differences.missing
                and len([name for name in differences.added if ".comprehend-phi-" not in name])
                <= obstructed,
                "the copies are not those in the audit file",
            )
        return {
            **known,
            "skipped": [p.key for p in summary.plan.report.problems if p.severity == "error"],
            "without_results": [
                [job.planned.first_key, job.planned.last_key]
                for job in summary.jobs
                if job.status not in _ENDED_WELL
            ],
            "jobs": [job.job_id for job in summary.jobs],
        }

    def _write(
        self, client: PHIClient, summary: RunSummary, destination: S3Location | Path, audit: Path
    ) -> tuple[Any, dict[str, Any]]:
        results = summary.results(client)
        self.evidence.shown(results)
        missing: set[str] = set()
        failed: set[str] = set()
        reasons: set[str] = set()
        try:
            report = write_copies(
                results,
                destination,
                rename=renamed if self.plan.renames else None,
                kms_key=self._kms_key if self.plan.copies_on_s3 else None,
                audit=audit,
            )
        except IncompleteCopiesError as error:
            self.evidence.raised(error)
            report = error.report
            reasons.add(error.reason)
            missing.update(error.missing)
            failed.update(error.failed)
        failed.update(failure.input_key for failure in report.failures)
        self.evidence.shown(report, *report.failures)
        self.evidence.add("report", report.to_json())
        for failure in report.failures:
            self.evidence.raised(failure.error)
        self.step()
        unprocessed: list[str] = []
        try:
            unprocessed += [file.input_key for file in results.unprocessed]
        except IncompleteResultsError as error:
            # Jobs without results are known, but then nothing says which files were skipped.
            self.evidence.raised(error)
            reasons.add(error.reason)
            for index in range(len(summary.jobs)):
                unprocessed += self._unprocessed(client, summary, index)
        return report, {
            "unprocessed": unprocessed,
            "failed": sorted(failed),
            "missing": sorted(missing),
            "reasons": sorted(reasons),
        }

    def _unprocessed(self, client: PHIClient, summary: RunSummary, index: int) -> list[str]:
        """Return the files that one job did not process; none if it has no results."""
        one = RunSummary(plan=summary.plan, jobs=summary.jobs[index : index + 1])
        try:
            return [file.input_key for file in one.results(client).unprocessed]
        except IncompleteResultsError:
            return []

    def _break(self, known: dict[str, Any]) -> None:
        """Break the promise that `defect` names."""
        if not self.defect or self.plan.copies_on_s3:
            return
        copy = next((self.directory / COPIES).rglob("*.txt"))
        if self.defect == "key in the ledger":
            with (self.directory / "ledger-0").open("ab") as file:
                file.write(self.plan.notes[0].key.encode())
        elif self.defect == "lost copy":
            copy.unlink()
        elif self.defect == "unredacted copy":
            copy.write_bytes(self.plan.notes[0].versions[0] or b"")
        elif self.defect == "note not named":
            known["unprocessed"] = []
            known["skipped"] = []
        elif self.defect == "leak in a message":
            self.evidence.add("message of a job", self.plan.name)


def renamed(path: str) -> str:
    """Return the name of the copy of a note."""
    return f"{sha256(path.encode()).hexdigest()[:20]}.txt"


# Promises that are broken on purpose, so that the campaign must notice.
CORPUS_DEFECTS = (
    "new name",
    "staged copies left",
    "key in the ledger",
    "note not named",
    "leak in a message",
    "lost copy",
    "unredacted copy",
)

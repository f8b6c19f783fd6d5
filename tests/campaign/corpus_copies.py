"""Writing the copies of a corpus: by the program, or by several processes that read parts."""

from __future__ import annotations

import os
import pickle
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from attrs import frozen

from comprehend_phi import (
    ComprehendPHIError,
    IncompleteResultsError,
    JobStatus,
    PHIClient,
    S3Location,
)
from comprehend_phi.corpus import (
    IncompleteCopiesError,
    JobPlan,
    RunSummary,
    verify_copies,
    write_copies,
)
from comprehend_phi.review import AddedMark, Decisions, DecisionsError, DocumentDecisions

from .corpus_plan import ADDED_TYPE, CorpusPlan
from .life import BROKEN, GAVE_UP, Life
from .plan import COPIES

WROTE_AGAIN = "times copies were written again because notes had failed"
WROTE_ON = "runs that continued to write copies"
DECIDED = "times copies followed a reviewer's decisions"
READ_PARTS = "processes that wrote copies of a part"
READER_KILLED = "processes that were killed while they wrote copies of a part"

# How often failed copies are written again. It ends when several attempts in a row agree.
_WRITINGS, _AGREE = 8, 3

# The seconds after which SIGALRM kills a reader that hangs.
_READER_SECONDS = 120

ENDED_WELL = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


@frozen(kw_only=True)
class CopiesRun(Life):
    """One life of a program that writes copies."""

    plan: CorpusPlan

    @property
    def destination(self) -> S3Location | Path:
        """Where the copies are."""
        if self.plan.copies_on_s3:
            return S3Location(self.plan.bucket, COPIES)
        return self.directory / COPIES

    @property
    def kms_key(self) -> str | None:
        return "alias/results" if self.plan.encrypted else None

    def copy(self, client: PHIClient, summary: RunSummary, name: str) -> dict[str, Any]:
        """Write all copies, until all notes are copied or the same notes fail again.

        Return what became of the notes, and of the jobs of the plan with this name.
        """
        if self.plan.readers > 1:
            known = self._copy_in_parts(summary, name)
        else:
            known = self._copy_part(client, summary, name, 0)
        return {
            **known,
            "skipped": [p.key for p in summary.plan.report.problems if p.severity == "error"],
            "without_results": _without_results(summary),
        }

    def verify(self, client: PHIClient) -> None:
        """Compare all copies with the audit files, again if S3 does not find one of them."""
        self.check(
            any(self._are_unchanged(client) for _ in range(_AGREE)),
            "the copies are not those in the audit files",
        )

    def _are_unchanged(self, client: PHIClient) -> bool:
        audits = [*self.directory.glob("audit*")]
        found = [verify_copies(audit, self.destination, client=client) for audit in audits]
        obstructed = sum(note.is_obstructed for note in self.plan.notes)
        # What is in no audit file.
        added = set(found[0].added).intersection(*(each.added for each in found))
        return (
            not any(each.changed or each.missing for each in found)
            and len([name for name in added if ".comprehend-phi-" not in name]) <= obstructed
        )

    # --- In parts ---------------------------------------------------------------------------------

    def _copy_in_parts(self, summary: RunSummary, name: str) -> dict[str, Any]:
        """Let each reader write its part, all at the same time. Start readers again that die."""
        pickled = pickle.dumps(summary)
        kills = list(self.plan.reader_kills)
        waiting = list(range(self.plan.readers))
        if self.defect == "part not read":
            waiting.pop()
        while waiting:
            readers = {
                self._start_reader(pickled, name, index, kills.pop(0) if kills else None): index
                for index in waiting
            }
            waiting = []
            for pid, index in readers.items():
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if code == -signal.SIGKILL:
                    self.evidence.event(READER_KILLED)
                    waiting.append(index)
                elif code == GAVE_UP:
                    raise ComprehendPHIError("A reader gave up.")
                elif code:
                    self.evidence.wrong(f"a reader ended with code {code}")
        known: dict[str, Any] = {}
        for index in range(self.plan.readers):
            for what, value in self.recall(_part(name, index)).items():
                known[what] = value if what not in known else known[what] + value
        return known

    def _start_reader(self, pickled: bytes, name: str, index: int, kill_at: int | None) -> int:
        """Fork a process that writes one part, and return its id."""
        with self._lock:  # or another thread could hold the lock in the child forever
            pid = os.fork()
        if pid == 0:
            self._be_reader(pickled, name, index, kill_at)
        return pid

    def _be_reader(self, pickled: bytes, name: str, index: int, kill_at: int | None) -> NoReturn:
        code = BROKEN
        try:
            signal.alarm(_READER_SECONDS)
            self.clock.begin_again()
            self.die_after(kill_at)
            self.evidence.event(READ_PARTS)
            with PHIClient(**self.options()) as client:
                summary: RunSummary = pickle.loads(pickled)
                self.remember(_part(name, index), self._copy_part(client, summary, name, index))
            code = 0
        except ComprehendPHIError as error:
            self.evidence.raised(error)
            code = GAVE_UP
        except BaseException as error:  # noqa: BLE001 - the campaign counts these
            self.evidence.raised(error)
        finally:
            os._exit(code)

    # --- One part ---------------------------------------------------------------------------------

    def _copy_part(
        self, client: PHIClient, summary: RunSummary, name: str, index: int
    ) -> dict[str, Any]:
        """Write the copies of one part, and return what became of its notes."""
        known: dict[str, Any] = {}
        agreeing = 0
        for _ in range(_WRITINGS):
            before = known
            known, may_pass = self._write(client, summary, name, index)
            agreeing = agreeing + 1 if known == before else 1
            if not may_pass or agreeing == _AGREE:
                break
            self.evidence.event(WROTE_AGAIN)
        return known

    def _write(
        self, client: PHIClient, summary: RunSummary, name: str, index: int
    ) -> tuple[dict[str, Any], bool]:
        """Write the copies once. Return what became of the notes, and whether failures may pass."""
        results = summary.results(client).part(index, self.plan.readers)
        self.evidence.shown(results)
        missing: set[str] = set()
        failed: set[str] = set()
        reasons: set[str] = set()
        decisions = self._decisions()
        try:
            report = write_copies(
                results,
                self.destination,
                rename=renamed if self.plan.renames else None,
                kms_key=self.kms_key if self.plan.copies_on_s3 else None,
                audit=self.directory / f"audit-{name}-{index}",
                decisions=decisions,
                require_reviewed=self._requires_review,
            )
        except IncompleteCopiesError as error:
            self.evidence.raised(error)
            report = error.report
            reasons.add(error.reason)
            missing.update(error.missing)
            failed.update(error.failed)
        # Trying again does not help if decisions do not fit.
        may_pass = not all(isinstance(each.error, DecisionsError) for each in report.failures)
        failed.update(failure.input_key for failure in report.failures)
        if report.already_written:
            self.evidence.event(WROTE_ON)
        if decisions is not None:
            self.evidence.event(DECIDED)
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
            for number in range(len(summary.jobs)):
                unprocessed += self._unprocessed(client, summary, number, index)
        known = {
            "unprocessed": unprocessed,
            "failed": sorted(failed),
            "missing": sorted(missing),
            "reasons": sorted(reasons),
        }
        return known, bool(may_pass or reasons)

    def _unprocessed(
        self, client: PHIClient, summary: RunSummary, number: int, index: int
    ) -> list[str]:
        """Return the files that one job did not process; none if it has no results."""
        one = RunSummary(plan=summary.plan, jobs=summary.jobs[number : number + 1])
        [job] = one.jobs
        try:
            part = one.results(client).part(index, self.plan.readers)
            return [file.input_key for file in part.unprocessed]
        except IncompleteResultsError:
            if job.planned.staged or job.job_id is None or job.status not in ENDED_WELL:
                return []
        # The job was about other files than planned, because one was deleted, for example.
        results = client.results(job.job_id).part(index, self.plan.readers)
        return [file.input_key for file in results.unprocessed]

    def _decisions(self) -> Decisions | None:
        """Return the reviewer's decisions, if there are any."""
        documents = [
            DocumentDecisions(
                input_key=note.key,
                sha256=sha256(note.review.text.encode()).hexdigest(),
                reviewed=note.review.is_reviewed,
                rejected=tuple(note.review.rejected),
                added=(
                    AddedMark(
                        begin_offset=note.review.added[0],
                        end_offset=note.review.added[1],
                        type=ADDED_TYPE,
                    ),
                ),
            )
            for note in self.plan.notes
            if note.review is not None
        ]
        if self.defect == "decisions ignored" or not (documents or self._requires_review):
            return None
        decisions = Decisions(tuple(documents))
        self.evidence.shown(decisions, *documents)
        return decisions

    @property
    def _requires_review(self) -> bool:
        return self.plan.requires_review and self.defect not in (
            "decisions ignored",
            "unreviewed note copied",
        )


def renamed(path: str) -> str:
    """Return the name of the copy of a note."""
    return f"{sha256(path.encode()).hexdigest()[:20]}.txt"


def _part(name: str, index: int) -> str:
    return f"part-{name}-{index}"


def _without_results(summary: RunSummary) -> list[tuple[str, str]]:
    """Return the first and the last key of each range of notes whose job has no results."""
    plan: JobPlan = summary.plan
    ranges: list[tuple[str, str]] = []
    for job in summary.jobs:
        if job.status not in ENDED_WELL:
            first, last = job.planned.first_key, job.planned.last_key
            if plan.keys is None:
                ranges.append((first, last))
            else:
                ranges += [(key, key) for key in plan.keys if first <= key <= last]
    return ranges

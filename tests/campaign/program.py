"""The program under test: it starts jobs, waits for them and redacts notes, and can be restarted.

It does what `docs/waiting-and-resuming.md` shows, for several folders: it writes to disk what it
needs after a restart. It may be killed at each call of `step()`, and before each request and after
each response.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn
from uuid import uuid4

from attrs import define, evolve, field, frozen

from comprehend_phi import (
    AsyncJob,
    AsyncPHIClient,
    ClientClosedError,
    ComprehendPHIError,
    ExpiredTokenException,
    IncompleteResultsError,
    InputDataConfig,
    InvalidRequestException,
    Job,
    JobFailed,
    JobProperties,
    JobStopped,
    OutputDataConfig,
    PHIClient,
    ServiceError,
    StartPHIDetectionJobRequest,
    TransportError,
    WaitPolicy,
)

from .life import Life
from .plan import Folder, Plan

# The events of forks. Each fork that begins must end.
FORKED, FORK_ENDED = "forks", "forks that succeeded"
FORK_ANSWERED, FORK_REFUSED = "responses to forks", "forks that may not use clients of their parent"
FORK_READ_ON = "forks that continue reading where their parent was"
EVENTS = (FORKED, FORK_ENDED, FORK_ANSWERED, FORK_REFUSED, FORK_READ_ON)

# A note counts as changed after this many readings in a row, because S3 may fail to find a note.
_READINGS = 3

# The seconds after which SIGALRM kills a fork that hangs.
_FORK_SECONDS = 120


@frozen(kw_only=True)
class Run(Life):
    """One life of this program."""

    plan: Plan
    fork_at: int
    _fork_points: Counter[int] = field(factory=Counter[int])

    def fork(self, work: Callable[[], object], *, is_reading: bool = False) -> None:
        """Fork a child that does `work` if the plan says so, and go on in the parent."""
        sign = -1 if is_reading else 1
        self._fork_points[sign] += sign
        if self._fork_points[sign] != self.fork_at:
            return
        self.evidence.event(FORKED)
        with self._lock:  # or another thread could hold the lock in the child forever
            pid = os.fork()
        if pid == 0:
            self._be_child(work)

    def _be_child(self, work: Callable[[], object]) -> NoReturn:
        signal.alarm(_FORK_SECONDS)
        self.die_after(None)
        self.clock.begin_again()
        try:
            if self.defect == "fork that dies":
                os._exit(1)
            work()
            self.evidence.event(FORK_ENDED)
        except Exception as error:  # noqa: BLE001 - all exceptions are evidence
            self.evidence.raised(error)
        finally:
            os._exit(0)

    def journal(self, folder: Folder) -> dict[str, Any]:
        return self.recall(folder.prefix)

    def note_down(self, folder: Folder, known: dict[str, Any]) -> None:
        self.remember(folder.prefix, known)

    def note_down_list(self, job_ids: list[str]) -> None:
        """Record the jobs that the service lists."""
        self.remember("listed", {"job_ids": job_ids})


@define
class Watcher:
    """Observe one wait, which may only end as `Job.wait` documents."""

    run: Run
    folder: Folder
    job_id: str
    has_seen: bool = False
    answered_at: float = 0.0  # by AWS, at the latest; the wait's own hour begins later

    def polled(self, seen: JobProperties) -> None:
        self.has_seen, self.answered_at = True, self.run.clock.monotonic()
        self.run.check(is_about(seen, self.folder, self.job_id), "a poll described another job")
        self.run.evidence.shown(seen)
        self.run.step()

    def failed(self, error: ServiceError | TransportError) -> None:
        self.run.evidence.raised(error)
        if error.retryable:
            self.answered_at = self.run.clock.monotonic()
        if self.run.defect == "impatient wait":
            raise error

    def ended(self, error: ServiceError | TransportError) -> None:
        """Check the error that ended the wait. After a successful poll, passing faults must not."""
        is_about_sending = isinstance(error, (TransportError, ExpiredTokenException))
        if self.has_seen and (error.retryable or is_about_sending):
            self.run.check(
                not error.retryable and self.run.clock.monotonic() - self.answered_at >= 3600,
                "a wait ended because of a passing fault",
            )


def is_about(seen: JobProperties, folder: Folder, job_id: str) -> bool:
    return (seen.job_id, seen.job_name) == (job_id, folder.job_name)


def live(run: Run) -> int:
    """Run one life of the program and return its exit code."""
    return run.live(lambda: asyncio.run(work_async(run)) if run.plan.asynchronous else work(run))


def request_of(folder: Folder, bucket: str, known: dict[str, Any]) -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=folder.prefix),
        output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/results" if folder.encrypted else None,
        job_name=folder.job_name,
        client_request_token=known["token"],
    )


def prepared(run: Run, folder: Folder) -> tuple[dict[str, Any], StartPHIDetectionJobRequest]:
    """Return the journal of a folder and its request, whose token is on disk before it is sent."""
    known = run.journal(folder)
    if "token" not in known or (run.defect == "new token" and "job_id" not in known):
        known = {"token": str(uuid4())}
        run.note_down(folder, known)
    request = request_of(folder, run.plan.bucket, known)
    run.evidence.shown(request)
    return known, request


def check_start(run: Run, known: dict[str, Any], error: ServiceError | TransportError) -> None:
    """Check that the outcome of a start is only unknown if the start was sent."""
    if run.defect == "start of unknown outcome":
        error.outcome_unknown = True
    run.check(
        not error.outcome_unknown or run.was_sent(known["token"]),
        "the outcome of a start that was never sent is reported as unknown",
    )


class Readings:
    """Several readings of the same notes, to find out which notes have changed since the job."""

    def __init__(self, run: Run, folder: Folder) -> None:
        self._run = run
        self._folder = folder
        self._agreeing = 0
        self.failed: dict[str, str] = {}

    def are_enough(self, error: IncompleteResultsError | None) -> bool:
        """Add the end of a reading, and return whether the readings agree often enough."""
        if error is None:
            self.failed = {}
            return True
        self._run.evidence.raised(error)
        failed = dict(error.failed)
        if not all(reason.startswith("SourceChangedError: ") for reason in failed.values()):
            raise error
        if not failed:
            raise error
        self._agreeing = self._agreeing + 1 if failed.keys() == self.failed.keys() else 1
        self.failed = failed
        if self._agreeing < _READINGS:
            return False
        self._break()
        return True

    def _break(self) -> None:
        key = next(iter(self.failed))
        if self._run.defect == "changed note not named":
            del self.failed[key]
        if self._run.defect == "changed note passed on":
            note = next(note for note in self._folder.notes if note.key == key)
            keep(self._run, self._folder, [], key, note.replacement.decode())


def keep(run: Run, folder: Folder, redacted: list[str], key: str, text: str) -> None:
    """Store a redacted document."""
    if run.defect == "lost document" and not redacted:
        redacted.append(key)
        return
    if run.defect == "unredacted document":
        text = next(note.body.decode() for note in folder.notes if note.key == key)
    path = run.directory / "redacted" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    run.write(path, text)
    redacted.append(key)


def finish(run: Run, folder: Folder, known: dict[str, Any], **outcome: object) -> None:
    """Record that a folder is done."""
    plant(run, folder)
    run.note_down(folder, {**known, "done": True, **outcome})


# --- With the synchronous client ------------------------------------------------------------------


def work(run: Run) -> None:
    with PHIClient(**run.options()) as client:
        open_folders = [
            (folder, known, job)
            for folder in run.plan.folders
            for known, job in [start_or_resume(run, client, folder)]
            if job is not None
        ]
        for folder, known, job in open_folders:
            see_through(run, client, folder, known, job)
        listed = [job.job_id for job in client.list_phi_detection_jobs(page_size=2)]
        run.note_down_list(listed)


def start_or_resume(
    run: Run, client: PHIClient, folder: Folder
) -> tuple[dict[str, Any], Job | None]:
    known = run.journal(folder)
    if "done" in known:
        return known, None
    if "job_id" in known:
        return known, client.job(known["job_id"])
    known, request = prepared(run, folder)
    try:
        job = client.submit(request)
    except (ServiceError, TransportError) as error:
        check_start(run, known, error)
        raise
    run.step()
    known["job_id"] = job.job_id
    run.note_down(folder, known)
    return known, job


def see_through(
    run: Run, client: PHIClient, folder: Folder, known: dict[str, Any], job: Job
) -> None:
    def be_child(rest: Iterable[tuple[str, str]] | None = None) -> None:
        ask_in_fork(run, client, folder, known, rest)

    run.fork(be_child)
    if folder.to_be_stopped:
        try:
            job.stop()
        except InvalidRequestException as error:  # the job has already ended
            run.evidence.raised(error)
        run.step()

    watcher = Watcher(run, folder, job.job_id)

    def polled(seen: JobProperties) -> None:
        watcher.polled(seen)
        run.fork(be_child)

    policy = WaitPolicy(timeout=run.plan.wait_timeout)
    try:
        run.evidence.shown(job, job.wait(policy, polled, watcher.failed))
    except (ServiceError, TransportError) as error:
        watcher.ended(error)
        raise
    except JobStopped as error:
        run.evidence.raised(error)
        finish(run, folder, known, stopped=True)
        return
    except JobFailed as error:  # its results may still list the unprocessed files
        run.evidence.raised(error)
    results = job.results()
    run.evidence.shown(results, results.manifest)
    for document in results:
        run.evidence.shown(document, *document.entities)
    readings = Readings(run, folder)
    while True:
        redacted: list[str] = []
        incomplete: IncompleteResultsError | None = None
        texts = results.redacted()
        try:
            for key, text in texts:
                keep(run, folder, redacted, key, text)
                run.fork(partial(be_child, texts), is_reading=True)
        except IncompleteResultsError as error:
            incomplete = error
        if readings.are_enough(incomplete):
            break
    run.evidence.shown(*results.unprocessed)
    unprocessed = [file.input_key for file in results.unprocessed]
    end = {"redacted": redacted, "unprocessed": unprocessed, "failed": readings.failed}
    finish(run, folder, known, **end)


def ask_in_fork(
    run: Run,
    client: PHIClient,
    folder: Folder,
    known: dict[str, Any],
    rest: Iterable[tuple[str, str]] | None,
) -> None:
    """Use the client of the parent in a fork, and continue what the parent was reading."""

    def read_on() -> None:
        for key, text in rest or ():
            check_text(run, folder, key, text)
        run.evidence.event(FORK_READ_ON)

    def describe() -> None:
        check_description(run, folder, known, client.describe_phi_detection_job(known["job_id"]))

    def submit() -> None:
        check_submission(run, known, client.submit(request_in_fork(run, folder, known)).job_id)

    def read() -> None:
        for key, text in client.results(known["job_id"]).redacted():
            check_text(run, folder, key, text)

    for ask in (describe, submit, read) if rest is None else (read_on, describe, submit, read):
        try:
            ask()
        except ComprehendPHIError as error:
            note_failure_in_fork(run, error)
        else:
            note_answer_in_fork(run)


# Checks of both kinds of forks.


def request_in_fork(run: Run, folder: Folder, known: dict[str, Any]) -> StartPHIDetectionJobRequest:
    if run.defect == "new token in a fork":
        known = {**known, "token": str(uuid4())}
    return request_of(folder, run.plan.bucket, known)


def check_description(run: Run, folder: Folder, known: dict[str, Any], seen: JobProperties) -> None:
    if run.defect == "answer of another":
        seen = evolve(seen, job_id="0" * 32)
    run.check(is_about(seen, folder, known["job_id"]), "a fork received another job")


def check_submission(run: Run, known: dict[str, Any], job_id: str) -> None:
    run.check(job_id == known["job_id"], "a fork that sent the same request got another job")


def check_text(run: Run, folder: Folder, key: str, text: str) -> None:
    kept = [note.kept for note in folder.notes if note.key == key and not note.change]
    run.check(bool(kept) and kept[0] in text, "a fork received another text")
    run.evidence.add("text in a fork", text)


def note_answer_in_fork(run: Run) -> None:
    run.evidence.event(FORK_ANSWERED)
    run.check(run.plan.s3_reading != "client handed in", "a fork used the client of its parent")


def note_failure_in_fork(run: Run, error: ComprehendPHIError) -> None:
    run.evidence.raised(error)
    if run.plan.s3_reading == "client handed in":
        run.check(isinstance(error, ClientClosedError), "a fork used the client of its parent")
        run.evidence.event(FORK_REFUSED)
    else:
        run.check(not isinstance(error, ClientClosedError), "a fork could not use its own client")


# --- With the asynchronous client, all folders at the same time -----------------------------------


async def work_async(run: Run) -> None:
    async with AsyncPHIClient(**run.options()) as client:
        ends = await asyncio.gather(
            *(whole_async(run, client, folder) for folder in run.plan.folders),
            return_exceptions=True,
        )
        errors = [end for end in ends if end is not None]
        for error in errors:
            run.evidence.raised(error)
        if errors:
            raise next((e for e in errors if not isinstance(e, ComprehendPHIError)), errors[0])
        listed = [job.job_id async for job in client.list_phi_detection_jobs(page_size=2)]
        run.note_down_list(listed)


async def whole_async(run: Run, client: AsyncPHIClient, folder: Folder) -> None:
    known = run.journal(folder)
    if "done" in known:
        return
    if "job_id" in known:
        job = client.job(known["job_id"])
    else:
        known, request = prepared(run, folder)
        try:
            job = await client.submit(request)
        except (ServiceError, TransportError) as error:
            check_start(run, known, error)
            raise
        run.step()
        known["job_id"] = job.job_id
        run.note_down(folder, known)
    await see_through_async(run, client, folder, known, job)


async def see_through_async(
    run: Run, client: AsyncPHIClient, folder: Folder, known: dict[str, Any], job: AsyncJob
) -> None:
    def be_child() -> None:
        asyncio.run(ask_in_fork_async(run, client, folder, known))

    run.fork(be_child)
    if folder.to_be_stopped:
        try:
            await job.stop()
        except InvalidRequestException as error:
            run.evidence.raised(error)
        run.step()

    watcher = Watcher(run, folder, job.job_id)

    def polled(seen: JobProperties) -> None:
        watcher.polled(seen)
        run.fork(be_child)

    policy = WaitPolicy(timeout=run.plan.wait_timeout)
    try:
        run.evidence.shown(job, await job.wait(policy, polled, watcher.failed))
    except (ServiceError, TransportError) as error:
        watcher.ended(error)
        raise
    except JobStopped as error:
        run.evidence.raised(error)
        finish(run, folder, known, stopped=True)
        return
    except JobFailed as error:
        run.evidence.raised(error)
    results = await job.results()
    run.evidence.shown(results, results.manifest)
    async for document in results:
        run.evidence.shown(document, *document.entities)
    readings = Readings(run, folder)
    while True:
        redacted: list[str] = []
        incomplete: IncompleteResultsError | None = None
        try:
            async for key, text in results.redacted():
                keep(run, folder, redacted, key, text)
                run.fork(be_child, is_reading=True)
        except IncompleteResultsError as error:
            incomplete = error
        if readings.are_enough(incomplete):
            break
    run.evidence.shown(*results.unprocessed)
    unprocessed = [file.input_key for file in results.unprocessed]
    end = {"redacted": redacted, "unprocessed": unprocessed, "failed": readings.failed}
    finish(run, folder, known, **end)


async def ask_in_fork_async(
    run: Run, client: AsyncPHIClient, folder: Folder, known: dict[str, Any]
) -> None:
    async def describe() -> None:
        seen = await client.describe_phi_detection_job(known["job_id"])
        check_description(run, folder, known, seen)

    async def submit() -> None:
        job = await client.submit(request_in_fork(run, folder, known))
        check_submission(run, known, job.job_id)

    async def read() -> None:
        results = await client.results(known["job_id"])
        async for key, text in results.redacted():
            check_text(run, folder, key, text)

    for ask in (describe, submit, read):
        try:
            await ask()
        except ComprehendPHIError as error:
            note_failure_in_fork(run, error)
        else:
            note_answer_in_fork(run)


# --- Promises that are broken on purpose, so that the campaign must notice ------------------------

DEFECTS = (
    "new token",
    "lost document",
    "unredacted document",
    "leak in an exception",
    "leak in a hidden cause",
    "leak in a log record",
    "leak in a repr",
    "leak in a warning",
    "untyped exception",
    "untyped exception in a thread",
    "never done",
    "new token in a fork",
    "answer of another",
    "fork that dies",
    "changed note not named",
    "changed note passed on",
    "deaf to interrupts",
    "start of unknown outcome",
    "impatient wait",
)


def plant(run: Run, folder: Folder) -> None:
    """Break the promise that `defect` names."""
    import logging
    import warnings

    if run.defect == "leak in an exception":
        run.evidence.raised(ComprehendPHIError(folder.job_name))
    elif run.defect == "leak in a hidden cause":
        try:
            try:
                dict[str, str]()[folder.job_name]
            except KeyError:
                raise ComprehendPHIError("Something is missing.") from None
        except ComprehendPHIError as error:
            run.evidence.raised(error)
    elif run.defect == "leak in a log record":
        logging.getLogger("comprehend_phi").debug("started %s", folder.job_name)
    elif run.defect == "leak in a repr":
        run.evidence.shown({"name": folder.job_name})
    elif run.defect == "leak in a warning":
        warnings.warn(f"plain text for {folder.job_name}", stacklevel=2)
    elif run.defect == "untyped exception":
        run.journal(folder)["from outside"]
    elif run.defect == "untyped exception in a thread":
        thread = threading.Thread(target=dict[str, str]().__getitem__, args=("from outside",))
        thread.start()
        thread.join()

"""The program under test: starts jobs, waits for them, redacts; whoever kills it starts it again.

It is what `docs/waiting-and-resuming.md` shows, for several folders: what has to be known later is
on disk before it is needed. Every line `step()` is a moment between two steps, at which it may die;
so are the moments before a request is sent and after its answer has come.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import field, frozen

from comprehend_phi import (
    AsyncJob,
    AsyncPHIClient,
    ComprehendPHIError,
    InputDataConfig,
    InvalidRequestException,
    Job,
    JobFailed,
    JobFilter,
    JobProperties,
    JobStopped,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)

from .evidence import Evidence
from .plan import REFUSED_CANARY, Folder, Plan
from .world import REGION, SharedClock

# Exit codes, beside 0: sysexits' EX_TEMPFAIL and EX_SOFTWARE.
GAVE_UP, BROKEN = 75, 70


@frozen(kw_only=True)
class Run:
    """One life of the program.

    Attributes:
        kill_at: the step at which it ends.
        defect: what is wrong with it on purpose, to see that the campaign notices; or nothing.
    """

    plan: Plan
    directory: Path
    evidence: Evidence
    session: Any
    endpoint_url: str
    clock: SharedClock
    kill_at: int | None
    life: int
    defect: str
    _steps: list[int] = field(factory=lambda: [0])
    _lock: threading.Lock = field(factory=threading.Lock)

    def step(self, **_event: object) -> None:
        """The moment between two steps."""
        with self._lock:
            self._steps[0] += 1
            if self._steps[0] == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # the kernel may take its time

    def journal(self, folder: Folder) -> dict[str, Any]:
        path = self.directory / f"{folder.prefix}.json"
        known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return known

    def note_down(self, folder: Folder, known: dict[str, Any]) -> None:
        self.write(self.directory / f"{folder.prefix}.json", json.dumps(known))

    def note_down_list(self, job_ids: list[str]) -> None:
        """The jobs of the account, as the service lists them to the program."""
        self.write(self.directory / "listed.json", json.dumps({"job_ids": job_ids}))

    def write(self, path: Path, text: str) -> None:
        """All or nothing: a crash in the middle leaves the old file as it was."""
        new = path.with_suffix(".new")
        new.write_bytes(text.encode())
        self.step()
        new.replace(path)
        self.step()


def live(run: Run) -> int:
    """One life, from the start of the program to its end; returns the exit code."""
    run.evidence.watch()
    random.seed(f"{run.plan.seed} {run.life}")
    run.session.events.register("before-send", run.step)
    run.session.events.register("response-received", run.step)
    try:
        ask_for_nonsense(run)
        if run.plan.asynchronous:
            asyncio.run(work_async(run))
        else:
            work(run)
    except ComprehendPHIError as error:
        run.evidence.raised(error)
        return GAVE_UP
    except BaseException as error:
        run.evidence.raised(error)  # one that is not ours is what the campaign counts
        raise
    return 0


def options(run: Run) -> dict[str, Any]:
    from botocore.config import Config

    # botocore's own retries for S3 would really sleep.
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=run.plan.connections,
    )
    return {
        "region_name": REGION,
        "endpoint_url": run.endpoint_url,
        "session": run.session,
        "s3_client": run.session.client(
            "s3", region_name=REGION, endpoint_url=run.endpoint_url, config=config
        ),
        "retry": RetryPolicy(slot_timeout=run.plan.slot_timeout),
        "clock": run.clock,
    }


def ask_for_nonsense(run: Run) -> None:
    """What is refused before it is sent is refused without being quoted."""
    if run.defect == "never done":
        raise ComprehendPHIError("It gives up every time.")
    builders: tuple[Callable[[], object], ...] = (
        lambda: InputDataConfig(s3_bucket=REFUSED_CANARY),
        lambda: OutputDataConfig(s3_bucket="results", s3_key=f"{REFUSED_CANARY}//"),
        lambda: JobFilter(job_name=f"{REFUSED_CANARY}\n"),
    )
    try:
        random.choice(builders)()
    except RequestValidationError as error:
        run.evidence.raised(error)


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
    """What is known of a folder, and its request, whose token is on disk before it is sent."""
    known = run.journal(folder)
    if "token" not in known or (run.defect == "new token" and "job_id" not in known):
        known = {"token": str(uuid4())}
        run.note_down(folder, known)
    request = request_of(folder, run.plan.bucket, known)
    run.evidence.shown(request)
    return known, request


def keep(run: Run, folder: Folder, redacted: list[str], key: str, text: str) -> None:
    """Put a redacted document where it belongs."""
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
    """The last line on a folder."""
    plant(run, folder)
    run.note_down(folder, {**known, "done": True, **outcome})


# --- With the synchronous client ------------------------------------------------------------------


def work(run: Run) -> None:
    with PHIClient(**options(run)) as client:
        open_folders = [
            (folder, known, job)
            for folder in run.plan.folders
            for known, job in [start_or_resume(run, client, folder)]
            if job is not None
        ]
        for folder, known, job in open_folders:
            see_through(run, folder, known, job)
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
    job = client.submit(request)
    run.step()
    known["job_id"] = job.job_id
    run.note_down(folder, known)
    return known, job


def see_through(run: Run, folder: Folder, known: dict[str, Any], job: Job) -> None:
    if folder.to_be_stopped:
        try:
            job.stop()
        except InvalidRequestException as error:  # it has ended already
            run.evidence.raised(error)
        run.step()

    def polled(seen: JobProperties) -> None:
        run.evidence.shown(seen)
        run.step()

    try:
        run.evidence.shown(job, job.wait(WaitPolicy(timeout=run.plan.wait_timeout), polled))
    except JobStopped as error:
        run.evidence.raised(error)
        finish(run, folder, known, stopped=True)
        return
    except JobFailed as error:  # it may have left a list of what it could not process
        run.evidence.raised(error)
    results = job.results()
    redacted: list[str] = []
    run.evidence.shown(results, results.manifest)
    for document in results:
        run.evidence.shown(document, *document.entities)
    for key, text in results.redacted():
        keep(run, folder, redacted, key, text)
    run.evidence.shown(*results.unprocessed)
    unprocessed = [file.input_key for file in results.unprocessed]
    finish(run, folder, known, redacted=redacted, unprocessed=unprocessed)


# --- With the asynchronous client, all folders at the same time -----------------------------------


async def work_async(run: Run) -> None:
    async with AsyncPHIClient(**options(run)) as client:
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
        job = await client.submit(request)
        run.step()
        known["job_id"] = job.job_id
        run.note_down(folder, known)
    await see_through_async(run, folder, known, job)


async def see_through_async(run: Run, folder: Folder, known: dict[str, Any], job: AsyncJob) -> None:
    if folder.to_be_stopped:
        try:
            await job.stop()
        except InvalidRequestException as error:
            run.evidence.raised(error)
        run.step()

    def polled(seen: JobProperties) -> None:
        run.evidence.shown(seen)
        run.step()

    try:
        run.evidence.shown(job, await job.wait(WaitPolicy(timeout=run.plan.wait_timeout), polled))
    except JobStopped as error:
        run.evidence.raised(error)
        finish(run, folder, known, stopped=True)
        return
    except JobFailed as error:
        run.evidence.raised(error)
    results = await job.results()
    redacted: list[str] = []
    run.evidence.shown(results, results.manifest)
    async for document in results:
        run.evidence.shown(document, *document.entities)
    async for key, text in results.redacted():
        keep(run, folder, redacted, key, text)
    run.evidence.shown(*results.unprocessed)
    unprocessed = [file.input_key for file in results.unprocessed]
    finish(run, folder, known, redacted=redacted, unprocessed=unprocessed)


# --- What is wrong on purpose, to see that the campaign notices -----------------------------------

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
)


def plant(run: Run, folder: Folder) -> None:
    """Show what must not be shown, in the way that `defect` says."""
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
        run.journal(folder)["nothing of ours"]
    elif run.defect == "untyped exception in a thread":
        thread = threading.Thread(target=dict[str, str]().__getitem__, args=("nothing of ours",))
        thread.start()
        thread.join()

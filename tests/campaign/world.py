"""The service of a schedule, in its own process, with an S3, faults and a shared clock."""

from __future__ import annotations

import json
import mmap
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from attrs import evolve, frozen

from .plan import FILE_BYTES, NAME_CANARY, OPERATIONS, Plan

REGION = "us-east-1"
_EPOCH = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
_JOB_SECONDS = 300.0
_ENDS = ("COMPLETED", "PARTIAL_SUCCESS", "FAILED", "STOPPED")
EXPIRED_TOKEN = "expired"


class SharedClock:
    """A fake clock that several processes share. It only advances when one of them sleeps."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)  # zeros, which are the time 0.0; shared with all forks
        self._lock = threading.Lock()

    def begin_again(self) -> None:
        """Replace the lock in a fork, because a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        seconds: float = struct.unpack("d", self._memory[:8])[0]
        return seconds

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.monotonic())

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._memory[:8] = struct.pack("d", self.monotonic() + seconds)

    async def sleep_async(self, seconds: float) -> None:
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)


@frozen(kw_only=True)
class Ledger:
    """What the service has seen at the end of a schedule.

    Attributes:
        jobs: the name of each job.
        attempts: the number of requests by operation, and of reads from S3 by transport.
        faults: the number of faults that calls met, by kind.
    """

    jobs: tuple[str, ...]
    attempts: Counter[str]
    faults: Counter[str]


def serve(control: Connection, clock: SharedClock) -> None:
    """Serve one plan after another, until the other end of `control` is closed.

    A received plan begins a schedule. None ends the schedule and requests the ledger.
    """
    from comprehend_phi.testing import Limits, LocalServer, Rules, faults
    from comprehend_phi.testing.faults import Fault, Response
    from comprehend_phi.testing.http_server import ConnectionReset
    from comprehend_phi.testing.s3 import account_id
    from comprehend_phi.testing.service import LocalService

    quoting = f"1 validation error: Value '{NAME_CANARY}' at 'jobName' failed to satisfy constraint"
    page = f"<html><body>Cannot forward {NAME_CANARY}</body></html>".encode()
    made: dict[str, Callable[[], Fault]] = {
        "": faults.passes,
        "throttle": faults.throttle,
        "throttle, Retry-After": lambda: faults.throttle({"Retry-After": "7"}),
        "throttle, Retry-After of an hour": lambda: faults.throttle({"Retry-After": "3600"}),
        "too many requests": faults.too_many_requests,
        "job limit": faults.job_limit,
        "server error before the work": faults.server_error,
        "server error after the work": lambda: faults.server_error(works=True),
        "unavailable": faults.unavailable,
        "reset before the work": faults.reset_before,
        "reset after the work": faults.reset_after,
        "cut answer": faults.cut,
        "cut to nothing": lambda: faults.cut(0.0),
        "empty map": faults.empty_map,
        "HTML, 200": faults.html,
        "HTML, 503 before the work": lambda: faults.html(503, works=False),
        "HTML, 429": lambda: faults.html(429, works=False),
        "HTML that quotes the job name": lambda: faults.answer(502, page, works=True),
        "not UTF-8": faults.not_utf8,
        "slow answer": lambda: faults.slow(45.0),
        "refusal that quotes the job name": lambda: faults.error(
            "InvalidRequestException", quoting
        ),
        "expired credentials": lambda: faults.error("ExpiredTokenException", quoting, 403),
    }

    expired_answer = json.dumps({"__type": "ExpiredTokenException", "Message": quoting}).encode()

    class Server(LocalServer):
        """The local server with faults in S3 as well."""

        def begin(self, plan: Plan) -> None:
            self.storage.clear()
            self.storage.create_bucket(plan.bucket, REGION)
            for folder in plan.folders:
                for note in folder.notes:
                    self.write(plan.bucket, note.key, note.body)
            self.plan = plan
            self.unchanged = {folder.job_name: folder for folder in plan.folders}
            self.met: Counter[str] = Counter()
            self.reads = self.obstore_reads = 0
            self.s3_faults = deque(plan.s3_faults)
            self.counting = threading.Lock()
            self.service = LocalService(
                self.storage,
                clock=clock,
                job_seconds=_JOB_SECONDS,
                limits=Limits(active_jobs=plan.active_jobs, file_bytes=FILE_BYTES),
                rules=Rules(**dict[str, Any](plan.rules)),
            )
            for operation, kind in plan.faults:
                self.service.script(self.counted(kind, made[kind]()), operation=operation)

        def write(self, bucket: str, key: str, body: bytes) -> None:
            """Create or replace an object, dated by the shared clock."""
            self.storage.write(bucket, key, body)
            with self.backend() as backend:
                written = clock.now().replace(tzinfo=None)
                backend.get_object(bucket, key).last_modified = written

        @contextmanager
        def backend(self) -> Generator[Any, None, None]:
            with self.storage.backends() as backends:
                yield backends[account_id()]["aws"]

        def change_notes(self) -> None:
            """Change the notes of jobs that have ended, as planned."""
            with self.counting:
                if not self.unchanged:
                    return
                for job in self.jobs():
                    if job["JobStatus"] not in _ENDS or job["JobName"] not in self.unchanged:
                        continue
                    for note in self.unchanged.pop(job["JobName"]).notes:
                        if note.change == "note deleted":
                            with self.backend() as backend:
                                backend.delete_object(self.plan.bucket, note.key)
                        elif note.change:
                            self.write(self.plan.bucket, note.key, note.replacement)

        def jobs(self) -> list[dict[str, Any]]:
            answer = self.service.perform("ListPHIDetectionJobs", {"MaxResults": 500}, REGION)
            found: list[dict[str, Any]] = answer["ComprehendMedicalAsyncJobPropertiesList"]
            return found

        def counted(self, kind: str, fault: Fault) -> Fault:
            def alter(real: Response) -> Response:
                self.count(kind)
                return fault.alter(real)

            return evolve(fault, alter=alter)

        def count(self, kind: str) -> None:
            if kind:
                with self.counting:
                    self.met[kind] += 1

        def ledger(self) -> Ledger:
            attempts = {name: self.service.attempts(name) for name in OPERATIONS}
            return Ledger(
                jobs=tuple(job["JobName"] for job in self.jobs()),
                attempts=Counter(
                    {
                        **attempts,
                        "S3 reads": self.reads,
                        "S3 reads through obstore": self.obstore_reads,
                    }
                ),
                faults=self.met,
            )

        def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            is_expired = environ.get("HTTP_X_AMZ_SECURITY_TOKEN") == EXPIRED_TOKEN
            if "HTTP_X_AMZ_TARGET" in environ:
                if is_expired:
                    return refuse(start_response, expired_answer, "400 Bad Request")
                return super()._serve(environ, start_response)
            if is_expired:
                return refuse(start_response, s3_error("ExpiredToken"), "400 Bad Request")
            self.change_notes()
            with self.counting:
                if environ.get("HTTP_USER_AGENT", "").endswith(" obstore"):
                    self.obstore_reads += 1
                else:
                    self.reads += 1
                kind = self.s3_faults.popleft() if self.s3_faults else ""
            is_result = environ["PATH_INFO"].endswith((".out", "/Manifest"))
            if kind == "S3: HTML instead of results" and not is_result:
                kind = ""  # nobody can tell such a page from a note
            self.count(kind)
            if kind in REFUSALS:
                code, status = REFUSALS[kind]
                hour = [("Retry-After", "3600")] if kind.endswith("an hour") else []
                return refuse(start_response, s3_error(code), status, hour)
            if kind == "S3: HTML instead of results":
                start_response("200 OK", [("Content-Length", str(len(page)))])
                return [page]
            if kind == "S3: reset":
                raise ConnectionReset
            if kind == "S3: slow answer":
                clock.sleep(45.0)
            if kind != "S3: cut object":
                return super()._serve(environ, start_response)
            opened: list[Any] = []
            body = b"".join(super()._serve(environ, lambda *answer: opened.extend(answer[:2])))
            status, headers = opened
            start_response(status, [*headers, ("Connection", "close")])
            return [body[: len(body) // 2]]

    with Server(clock=clock) as server:
        control.send(server.endpoint_url)
        while True:
            try:
                plan: Plan | None = control.recv()
            except EOFError:
                return
            if plan is None:
                control.send(server.ledger())
            else:
                server.begin(plan)
                control.send("ready")


def s3_error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()


def refuse(
    start_response: Any, body: bytes, status: str, headers: Sequence[tuple[str, str]] = ()
) -> list[bytes]:
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]


REFUSALS = {
    "S3: slow down": ("SlowDown", "503 Slow Down"),
    "S3: slow down, Retry-After of an hour": ("SlowDown", "503 Slow Down"),
    "S3: server error": ("InternalError", "500 Internal Server Error"),
    "S3: no such key": ("NoSuchKey", "404 Not Found"),
    "S3: access denied": ("AccessDenied", "403 Forbidden"),
}

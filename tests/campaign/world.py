"""The service of a schedule, in its own process, with an S3, faults and a shared clock."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from .plan import (
    COPIES,
    FAILS_ITS_JOB,
    FILE_BYTES,
    NAME_CANARY,
    OPERATIONS,
    STAGED,
    Conditions,
    ObjectChange,
)

if TYPE_CHECKING:
    from comprehend_phi import Entity
    from comprehend_phi.testing import StartRecord

REGION = "us-east-1"
_EPOCH = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
_JOB_SECONDS = 300.0
_ENDS = ("COMPLETED", "PARTIAL_SUCCESS", "FAILED", "STOPPED")
EXPIRED_TOKEN = "expired"
OTHERS = "a job of another program"
KILLED = "killed while S3 writes a redacted copy"

# The user agent of each process contains this and the id of the process.
SENDER = "life/"
# The program may ask for these paths, which never fail: what there is now, and to repair notes.
STATE, REPAIR = "/-state", "/-repair"


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
        jobs: the jobs of the program, as the service describes them.
        tokens: the ids of the jobs that were started with each token.
        objects: the objects in the bucket by key.
        attempts: the number of requests by operation, and of requests of S3 by transport.
        faults: the number of faults that calls met, by kind.
    """

    jobs: tuple[Mapping[str, Any], ...]
    tokens: Mapping[str, set[str]]
    objects: Mapping[str, bytes]
    attempts: Counter[str]
    faults: Counter[str]


def serve(control: Connection, clock: SharedClock) -> None:
    """Serve one plan after another, until the other end of `control` is closed.

    A received plan begins a schedule. None ends the schedule and requests the ledger.
    """
    from comprehend_phi.testing import Limits, LocalServer, Rules, faults
    from comprehend_phi.testing.detector import detect
    from comprehend_phi.testing.faults import Fault, Response
    from comprehend_phi.testing.http_server import ConnectionReset
    from comprehend_phi.testing.processing import JobFailure
    from comprehend_phi.testing.s3 import account_id
    from comprehend_phi.testing.service import LocalService
    from comprehend_phi.testing.validation import RequestRefused

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

        def begin(self, plan: Conditions) -> None:
            self.storage.clear()
            self.storage.create_bucket(plan.bucket, REGION)
            for key, body in plan.objects.items():
                self.write(plan.bucket, key, body)
            self.plan = plan
            self.changes = list(plan.changes)
            self.failures = plan.failures
            self.tokens: defaultdict[str, set[str]] = defaultdict(set)
            self.met: Counter[str] = Counter()
            self.reads = self.obstore_reads = 0
            self.copy_puts = 0
            self.is_repaired = False
            self.s3_faults = deque(plan.s3_faults)
            self.counting = threading.Lock()
            self.service = LocalService(
                self.storage,
                clock=clock,
                detector=self.detect_or_fail,
                job_seconds=_JOB_SECONDS,
                on_start=self.record_start,
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

        def detect_or_fail(self, text: str) -> Sequence[Entity]:
            if FAILS_ITS_JOB in text and self.failures > 0:
                self.failures -= 1
                raise JobFailure("The model failed.")
            return detect(text)

        def record_start(self, start: StartRecord) -> None:
            if start.token is not None and start.job_id is not None:
                self.tokens[start.token].add(start.job_id)

        def change_notes(self) -> None:
            """Change notes as planned. The caller has the lock."""
            waits_for_jobs = any(change.job_name for change in self.changes)
            ended = {
                job["JobName"]
                for job in (self.jobs() if waits_for_jobs else ())
                if job["JobStatus"] in _ENDS
            }
            left: list[ObjectChange] = []
            for change in self.changes:
                if change.job_name not in ended and (
                    change.job_name or change.at_request > self.reads + self.obstore_reads
                ):
                    left.append(change)
                elif change.body is None:
                    with self.backend() as backend:
                        backend.delete_object(self.plan.bucket, change.key)
                else:
                    self.write(self.plan.bucket, change.key, change.body)
            self.changes = left

        def start_others(self) -> None:
            """Let another program start a job if the plan says so. It may find no free slot."""
            if self.reads + self.obstore_reads in self.plan.others:
                location = {"S3Bucket": self.plan.bucket, "S3Key": "others"}
                members = {
                    "InputDataConfig": location,
                    "OutputDataConfig": {**location, "S3Key": "others-results"},
                    "DataAccessRoleArn": "arn:aws:iam::123456789012:role/of-others",
                    "LanguageCode": "en",
                    "JobName": OTHERS,
                }
                with suppress(RequestRefused):
                    self.service.perform("StartPHIDetectionJob", members, REGION)
                    self.met[OTHERS] += 1

        def jobs(self) -> list[dict[str, Any]]:
            answer = self.service.perform("ListPHIDetectionJobs", {"MaxResults": 500}, REGION)
            found: list[dict[str, Any]] = answer["ComprehendMedicalAsyncJobPropertiesList"]
            return found

        def state(self) -> dict[str, int]:
            """Count the jobs of the program that run, calls that stop jobs, and staged copies."""
            running = [
                job
                for job in self.jobs()
                if job.get("JobName") != OTHERS and job["JobStatus"] not in _ENDS
            ]
            keys = self.storage.keys(self.plan.bucket)
            staged = [key for key in keys if key.startswith(f"{STAGED}/")]
            stops = self.service.attempts("StopPHIDetectionJob")
            return {"running": len(running), "stops": stops, "staged": len(staged)}

        def repair(self) -> dict[str, int]:
            """Repair notes as planned, once."""
            with self.counting:
                if not self.is_repaired:
                    for key, body in self.plan.repairs.items():
                        self.write(self.plan.bucket, key, body)
                self.is_repaired = True
            return self.state()

        def kill_of(self, environ: Mapping[str, Any]) -> int:
            """Return when the sender of a request dies: before (-1) or after (1) the work, or 0."""
            path = f"/{self.plan.bucket}/{COPIES}/"
            if environ["REQUEST_METHOD"] != "PUT" or not environ["PATH_INFO"].startswith(path):
                return 0
            self.copy_puts += 1
            kills = self.plan.copy_kills
            return (self.copy_puts in kills) - (-self.copy_puts in kills)

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
                jobs=tuple(job for job in self.jobs() if job.get("JobName") != OTHERS),
                tokens=dict(self.tokens),
                objects={
                    key: self.storage.read(self.plan.bucket, key)
                    for key in self.storage.keys(self.plan.bucket)
                },
                attempts=Counter(
                    {
                        **attempts,
                        "S3 requests": self.reads,
                        "S3 requests through obstore": self.obstore_reads,
                    }
                ),
                faults=self.met,
            )

        def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if (
                ask := {STATE: self.state, REPAIR: self.repair}.get(environ["PATH_INFO"])
            ) is not None:
                start_response("200 OK", [])
                return [json.dumps(ask()).encode()]
            is_expired = environ.get("HTTP_X_AMZ_SECURITY_TOKEN") == EXPIRED_TOKEN
            if "HTTP_X_AMZ_TARGET" in environ:
                if is_expired:
                    return refuse(start_response, expired_answer, "400 Bad Request")
                return super()._serve(environ, start_response)
            if is_expired:
                return refuse(start_response, s3_error("ExpiredToken"), "400 Bad Request")
            with self.counting:
                if environ.get("HTTP_USER_AGENT", "").endswith(" obstore"):
                    self.obstore_reads += 1
                else:
                    self.reads += 1
                self.change_notes()
                self.start_others()
                kind = self.s3_faults.popleft() if self.s3_faults else ""
                kill = self.kill_of(environ)
            if kill:
                self.count(KILLED)
                if kill > 0:
                    b"".join(super()._serve(environ, lambda *_: None))
                kill_sender(environ)
                raise ConnectionReset
            if not can_meet(environ, kind):
                kind = ""
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
            if kind not in AFTER_THE_WORK:
                return super()._serve(environ, start_response)
            opened: list[Any] = []
            body = b"".join(super()._serve(environ, lambda *answer: opened.extend(answer[:2])))
            status, headers = opened
            if kind == "S3: reset after the work":
                raise ConnectionReset
            if kind == "S3: server error after the work":
                return refuse(
                    start_response, s3_error("InternalError"), "500 Internal Server Error"
                )
            if kind == "S3: error in a successful answer":
                return refuse(start_response, s3_error("InternalError"), "200 OK")
            start_response(status, [*headers, ("Connection", "close")])
            return [body[: len(body) // 2]]

    with Server(clock=clock) as server:
        control.send(server.endpoint_url)
        while True:
            try:
                plan: Conditions | None = control.recv()
            except EOFError:
                return
            if plan is None:
                control.send(server.ledger())
            else:
                server.begin(plan)
                control.send("ready")


def kill_sender(environ: Mapping[str, Any]) -> None:
    """Kill the process that has sent a request and waits for the response."""
    found = re.search(rf"{SENDER}(\d+)", environ["HTTP_USER_AGENT"])
    assert found is not None
    with suppress(ProcessLookupError):
        os.kill(int(found[1]), signal.SIGKILL)


def can_meet(environ: Mapping[str, Any], kind: str) -> bool:
    """Return whether a request of S3 can meet a kind of fault."""
    method, path, query = (
        environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")
    )
    is_object_read = method == "GET" and "list-type" not in query
    if kind == "S3: HTML instead of results":  # nobody can tell such a page from a note
        return is_object_read and bool(path.endswith((".out", "/Manifest")))
    if kind == "S3: no such key":
        return is_object_read
    if kind == "S3: error in a successful answer":
        return "HTTP_X_AMZ_COPY_SOURCE" in environ
    return True


def s3_error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()


def refuse(
    start_response: Any, body: bytes, status: str, headers: Sequence[tuple[str, str]] = ()
) -> list[bytes]:
    start_response(status, [*headers, ("Content-Length", str(len(body)))])
    return [body]


AFTER_THE_WORK = (
    "S3: cut object",
    "S3: reset after the work",
    "S3: server error after the work",
    "S3: error in a successful answer",
)
REFUSALS = {
    "S3: slow down": ("SlowDown", "503 Slow Down"),
    "S3: slow down, Retry-After of an hour": ("SlowDown", "503 Slow Down"),
    "S3: server error": ("InternalError", "500 Internal Server Error"),
    "S3: no such key": ("NoSuchKey", "404 Not Found"),
    "S3: access denied": ("AccessDenied", "403 Forbidden"),
}

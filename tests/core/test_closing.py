"""A closed client refuses every call, and everything that waits for it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from comprehend_phi import (
    AsyncPHIClient,
    ClientClosedError,
    IncompleteResultsError,
    JobProperties,
    PHIClient,
    StartPHIDetectionJobRequest,
    SystemClock,
    TransportError,
    WaitPolicy,
)
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import DESCRIBE, JOB_ID, LIST, START, STOP

REASON = "this client is closed; build another one"

SOON = 30.0  # seconds

_T = TypeVar("_T")
MakeRequest = Callable[..., StartPHIDetectionJobRequest]


@pytest.fixture
def connect(server: LocalServer, clock: FakeClock, s3: Any) -> Callable[..., PHIClient]:
    def build(cls: Any = PHIClient, **options: Any) -> Any:
        usual = {"endpoint_url": server.endpoint_url, "s3_client": s3, "clock": clock}
        return cls(**{**usual, **options})

    return build


@pytest.fixture
def job_id(
    connect: Callable[..., PHIClient], s3: Any, bucket: str, make_request: MakeRequest
) -> str:
    """A job that has ended, with three documents and a file that was not processed."""
    for number in (1, 2):
        s3.put_object(Bucket=bucket, Key=f"notes/{number}.txt", Body=b"Seen by Dr. Ada Example")
    s3.put_object(Bucket=bucket, Key="notes/bad.txt", Body=b"\xff\xfe")
    with connect() as client:
        job = client.submit(make_request())
        job.wait()
    return job.job_id


def assert_refused(
    error: ClientClosedError, operation: str, token: str | None = None, attempts: int = 1
) -> None:
    assert (error.operation, error.reason) == (operation, REASON)
    assert (error.outcome_unknown, error.retryable, error.attempts) == (False, False, attempts)
    assert error.client_request_token == token
    assert error.__cause__ is error.__context__ is None


def assert_iteration_refused(error: ClientClosedError) -> None:
    """A thread may have been about to send a GetObject request, or to repeat one."""
    if error.operation == "GetObject":
        assert error.attempts in (1, 2)
        assert_refused(error, "GetObject", attempts=error.attempts)
    else:
        assert_refused(error, "results")


# --- Calls ----------------------------------------------------------------------------------------

# What is asked of a client, and the operation that its error names.
CALLS: dict[str, tuple[Callable[[Any, StartPHIDetectionJobRequest], Any], str]] = {
    "start": (lambda client, request: client.start_phi_detection_job(request), START),
    "submit": (lambda client, request: client.submit(request), START),
    "describe": (lambda client, _: client.describe_phi_detection_job(JOB_ID), DESCRIBE),
    "stop": (lambda client, _: client.stop_phi_detection_job(JOB_ID), STOP),
    "list": (lambda client, _: client.list_phi_detection_jobs(), LIST),
    "results": (lambda client, _: client.results(JOB_ID), DESCRIBE),
    "properties": (lambda client, _: client.job(JOB_ID).properties(), DESCRIBE),
    "wait": (lambda client, _: client.job(JOB_ID).wait(), DESCRIBE),
    "stop of a job": (lambda client, _: client.job(JOB_ID).stop(), STOP),
    "results of a job": (lambda client, _: client.job(JOB_ID).results(), DESCRIBE),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_refused_before_anything_is_sent(
    call: str,
    connect: Callable[..., PHIClient],
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    ask, operation = CALLS[call]
    client = connect()
    client.close()

    with pytest.raises(ClientClosedError) as caught:
        next(ask(client, request_))  # only the list is an iterator, and gets that far

    assert_refused(
        caught.value, operation, request_.client_request_token if operation == START else None
    )
    assert list(server.service.received) == []
    assert clock.sleeps == []


@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_the_asynchronous_client_is_refused_in_the_same_way(
    call: str,
    connect: Callable[..., Any],
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    ask, operation = CALLS[call]

    async def main() -> None:
        client = connect(AsyncPHIClient)
        await client.close()
        answer = ask(client, request_)
        await (answer.__anext__() if hasattr(answer, "__anext__") else answer)

    with pytest.raises(ClientClosedError) as caught:
        asyncio.run(main())

    assert_refused(
        caught.value, operation, request_.client_request_token if operation == START else None
    )
    assert list(server.service.received) == []
    assert clock.sleeps == []


def test_a_closed_client_cannot_be_entered_again(connect: Callable[..., Any]) -> None:
    client = connect()
    with client:
        pass
    with pytest.raises(ClientClosedError) as caught, client:
        pass
    assert_refused(caught.value, "PHIClient")

    async def main() -> None:
        client = connect(AsyncPHIClient)
        async with client:
            pass
        async with client:
            pass

    with pytest.raises(ClientClosedError) as caught:
        asyncio.run(main())
    assert_refused(caught.value, "AsyncPHIClient")


def test_closing_twice_is_harmless(connect: Callable[..., Any]) -> None:
    client = connect()
    client.close()
    client.close()

    async def main() -> None:
        client = connect(AsyncPHIClient)
        await client.close()
        await client.close()

    asyncio.run(main())


class ClosesInItsSleep(FakeClock):
    """Its first sleep closes the client."""

    client: PHIClient

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.client.close()


def test_a_start_that_backs_off_while_the_client_is_closed_says_what_is_known(
    connect: Callable[..., PHIClient], server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    server.service.script(faults.reset_after())
    clock = ClosesInItsSleep()
    clock.client = connect(clock=clock)

    with pytest.raises(ClientClosedError) as caught:
        clock.client.start_phi_detection_job(request_)

    assert caught.value.outcome_unknown
    assert caught.value.client_request_token == request_.client_request_token
    assert server.service.attempts(START) == 1


@pytest.mark.parametrize("polls", [1, 2])
def test_a_wait_ends_with_the_client(
    polls: int,
    connect: Callable[..., PHIClient],
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    client = connect()
    seen: list[JobProperties] = []

    def close(job: JobProperties) -> None:
        seen.append(job)
        if len(seen) == polls:
            client.close()

    job = client.submit(request_)
    with pytest.raises(ClientClosedError) as caught:
        job.wait(WaitPolicy(delay=10.0), on_poll=close)

    assert_refused(caught.value, DESCRIBE)
    # It does not sleep until the next poll, which would fail.
    assert len(clock.sleeps) == polls - 1


# --- Lists ----------------------------------------------------------------------------------------


def test_a_list_that_was_begun_is_refused(
    connect: Callable[..., Any], make_request: MakeRequest
) -> None:
    with connect() as client:
        for _ in range(3):
            client.submit(make_request())
        jobs = client.list_phi_detection_jobs()
        next(jobs)
        client.close()
        with pytest.raises(ClientClosedError) as caught:
            next(jobs)
    assert_refused(caught.value, LIST)

    async def main() -> None:
        client = connect(AsyncPHIClient)
        jobs = client.list_phi_detection_jobs()
        await anext(jobs)
        await client.close()
        with pytest.raises(ClientClosedError) as caught:
            await anext(jobs)
        assert_refused(caught.value, LIST)

    asyncio.run(main())


# --- Results --------------------------------------------------------------------------------------

READS: dict[str, Callable[[Any], Any]] = {
    "documents": lambda results: aiter(results) if hasattr(results, "__aiter__") else iter(results),
    "with text": lambda results: results.with_text(),
    "redacted": lambda results: results.redacted(),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("taken", [0, 1])
def test_results_that_were_opened_before_are_refused(
    read: str, taken: int, connect: Callable[..., PHIClient], job_id: str
) -> None:
    client = connect()
    documents = READS[read](client.results(job_id))
    for _ in range(taken):
        next(documents)
    client.close()

    with pytest.raises(ClientClosedError) as caught:
        next(documents)

    assert_refused(caught.value, "results")


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("taken", [0, 1])
def test_results_of_the_asynchronous_client_are_refused_in_the_same_way(
    read: str, taken: int, connect: Callable[..., Any], job_id: str
) -> None:
    async def main() -> None:
        client = connect(AsyncPHIClient)
        documents = READS[read](await client.results(job_id))
        for _ in range(taken):
            await anext(documents)
        await client.close()
        with pytest.raises(ClientClosedError) as caught:
            await anext(documents)
        assert_refused(caught.value, "results")

    asyncio.run(main())


@pytest.mark.parametrize("name", ["manifest", "unprocessed"])
def test_a_closed_client_loads_nothing(
    name: str, connect: Callable[..., PHIClient], job_id: str
) -> None:
    client = connect()
    results = client.results(job_id)
    client.close()

    with pytest.raises(ClientClosedError) as caught:
        getattr(results, name)

    assert_refused(caught.value, "GetObject")


def test_results_that_are_asked_for_while_the_client_is_closed_are_refused(
    connect: Callable[..., Any], job_id: str, s3: Any
) -> None:
    asked: list[str] = []

    def note(event_name: str, **_event: Any) -> None:
        asked.append(event_name)

    s3.meta.events.register("before-call.s3", note)

    async def main() -> None:
        clock = FakeClock()
        client = connect(AsyncPHIClient, clock=clock)
        described = client.describe_phi_detection_job

        async def describe(job_id: str) -> JobProperties:
            job: JobProperties = await described(job_id)
            await client.close()
            return job

        client.describe_phi_detection_job = describe
        with pytest.raises(ClientClosedError) as caught:
            await client.results(job_id)
        assert_refused(caught.value, "results")

    asyncio.run(main())
    assert asked == []


def test_an_error_of_loaded_results_is_a_new_object_each_time(
    connect: Callable[..., Any], job_id: str, s3: Any, bucket: str
) -> None:
    [lost] = [
        each["Key"]
        for each in s3.list_objects_v2(Bucket=bucket)["Contents"]
        if "/failed/" in each["Key"]
    ]
    s3.delete_object(Bucket=bucket, Key=lost)

    async def main() -> list[IncompleteResultsError]:
        raised: list[IncompleteResultsError] = []
        async with connect(AsyncPHIClient) as client:
            results = await client.results(job_id)
            for _ in range(3):
                with pytest.raises(IncompleteResultsError) as caught:
                    _ = results.unprocessed
                raised.append(caught.value)
        return raised

    raised = asyncio.run(main())
    assert len({id(error) for error in raised}) == 3
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in raised}) == 1
    assert {(str(error), error.missing) for error in raised} == {(str(raised[0]), (lost,))}


# --- What sleeps ----------------------------------------------------------------------------------

FOLDER = f"123456789012-PHIDetection-{JOB_ID}/"


class Busy(ThreadingHTTPServer):
    """A job's results on an S3 that has one of the documents, and asks to wait an hour for others.

    Attributes:
        documents: how many there are.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.documents = 40

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of programs that were interrupted."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        job = {
            "JobId": JOB_ID,
            "JobStatus": "COMPLETED",
            "InputDataConfig": {"S3Bucket": "notes"},
            "OutputDataConfig": {"S3Bucket": "results", "S3Key": FOLDER},
        }
        self.answer(200, {"ComprehendMedicalAsyncJobProperties": job})

    def do_GET(self) -> None:
        assert isinstance(self.server, Busy)
        name = self.path.split("?")[0].rpartition("/")[2]
        summary = {
            "Status": "COMPLETED",
            "SuccessfulFilesListLocation": "success",
            "UnprocessedFilesListLocation": "failed",
        }
        content: dict[str, Any] = {
            "Manifest": {"Summary": summary},
            "success": {"Files": [f"{number}.txt" for number in range(self.server.documents)]},
            "failed": {"Files": []},
            "0.txt.out": {"Entities": []},
        }
        if name in content:
            self.answer(200, content[name])
        else:
            self.answer(503, {}, {"Retry-After": "3600"})

    def answer(self, status: int, content: object, headers: Mapping[str, str] = {}) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def busy(
    serving: Callable[[Busy], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Busy]:
    server = Busy()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_COMPREHENDMEDICAL", server.url)
    with serving(server):
        yield server


def test_closing_the_iterator_does_not_wait_for_a_backoff_with_any_clock(
    busy: Busy, stubborn: Any
) -> None:
    with PHIClient(clock=stubborn) as client:
        documents = iter(client.results(JOB_ID))
        assert next(documents).output_key == f"{FOLDER}0.txt.out"
        assert stubborn.asleep.wait(SOON)
        # Would fail in the sleep of the clock if it waited for that.
        documents.close()


def test_closing_the_client_ends_the_iteration_in_another_thread_with_any_clock(
    busy: Busy, stubborn: Any
) -> None:
    client = PHIClient(clock=stubborn)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(lambda: list(client.results(JOB_ID)))
        assert stubborn.asleep.wait(SOON)
        client.close()
        error = cast("ClientClosedError", reading.exception(SOON))
        assert_iteration_refused(error)


def test_closing_the_asynchronous_client_ends_the_iteration_with_any_clock(
    busy: Busy, stubborn: Any
) -> None:
    async def main() -> None:
        client = AsyncPHIClient(clock=stubborn)
        results = await client.results(JOB_ID)
        reading = asyncio.create_task(to_list(results))
        await asyncio.to_thread(stubborn.asleep.wait, SOON)
        await client.close()
        with pytest.raises(ClientClosedError) as caught:
            await reading
        assert_iteration_refused(caught.value)

    asyncio.run(main())


async def to_list(items: AsyncIterable[_T]) -> list[_T]:
    return [item async for item in items]


def test_cancelling_an_iteration_does_not_wait_for_a_backoff_with_any_clock(
    busy: Busy, stubborn: Any
) -> None:
    async def main() -> None:
        async with AsyncPHIClient(clock=stubborn) as client:
            reading = asyncio.create_task(to_list(await client.results(JOB_ID)))
            await asyncio.to_thread(stubborn.asleep.wait, SOON)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(main())


def test_results_whose_step_was_cancelled_do_not_look_complete(busy: Busy, stubborn: Any) -> None:
    async def main() -> None:
        async with AsyncPHIClient(clock=stubborn) as client:
            documents = aiter(await client.results(JOB_ID))
            reading = asyncio.create_task(to_list(documents))
            await asyncio.to_thread(stubborn.asleep.wait, SOON)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            with pytest.raises(TransportError, match="interrupted in an earlier step"):
                await to_list(documents)

    asyncio.run(main())


# --- Cancelling and closing -----------------------------------------------------------------------


class Sleeper(SystemClock):
    """A clock that says when a task sleeps, and does not wake it."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()

    async def sleep_async(self, seconds: float) -> None:
        self.asleep.set()
        await asyncio.sleep(3600)


async def wait_for_job(client: Any, request: StartPHIDetectionJobRequest) -> None:
    await (await client.submit(request)).wait()


async def back_off(client: Any, request: StartPHIDetectionJobRequest) -> None:
    await client.start_phi_detection_job(request)


@pytest.mark.parametrize("call", [wait_for_job, back_off])
@pytest.mark.parametrize("order", ["cancel", "cancel, close", "close, cancel", "close"])
def test_a_sleeping_call_ends_by_cancellation_if_its_task_was_cancelled(
    order: str,
    call: Callable[..., Any],
    connect: Callable[..., Any],
    server: LocalServer,
    request_: StartPHIDetectionJobRequest,
) -> None:
    if call is back_off:
        server.service.script(faults.throttle())

    async def main() -> BaseException | None:
        clock = Sleeper()
        client = connect(AsyncPHIClient, clock=clock)
        task = asyncio.create_task(call(client, request_))
        await clock.asleep.wait()
        closings: list[asyncio.Task[None]] = []
        for step in order.split(", "):
            if step == "cancel":
                task.cancel()
            else:
                closings.append(asyncio.create_task(client.close()))
                await asyncio.sleep(0)  # until it waits for the threads
        [raised] = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), SOON)
        await asyncio.gather(*closings)
        assert task.cancelled() is ("cancel" in order)
        return raised

    raised = asyncio.run(main())

    if "cancel" in order:
        assert isinstance(raised, asyncio.CancelledError)
    else:
        assert isinstance(raised, ClientClosedError)


# --- What close() waits for -----------------------------------------------------------------------

OurThreads = Callable[[], list[threading.Thread]]


class SlowToOpen:
    """A boto3 client for S3 whose properties our threads can read only later."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.asked = threading.Event()
        self.answer = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if name == "meta" and threading.current_thread().name.startswith("comprehend_phi"):
            self.asked.set()
            assert self.answer.wait(SOON)
        return getattr(self._client, name)


def test_closing_while_the_storage_opens_leaves_no_threads(
    connect: Callable[..., Any], job_id: str, s3: Any, our_threads: OurThreads
) -> None:
    slow = SlowToOpen(s3)

    async def main() -> None:
        client = connect(AsyncPHIClient, s3_client=slow)
        results = asyncio.create_task(client.results(job_id))
        assert await asyncio.to_thread(slow.asked.wait, SOON)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)  # until it waits for the threads
        slow.answer.set()
        with pytest.raises(ClientClosedError) as caught:
            await results
        await closing
        assert_refused(caught.value, "results")
        assert our_threads() == []

    asyncio.run(main())


class SlowToRead(SlowToOpen):
    """A boto3 client for S3 that returns documents only later."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, **members: Any) -> Any:
        if members["Key"].endswith(".out"):
            self.asked.set()
            assert self.answer.wait(SOON)
        return self._client.get_object(**members)


def test_closing_waits_for_the_reads_that_are_in_flight(
    connect: Callable[..., Any], job_id: str, s3: Any, our_threads: OurThreads
) -> None:
    slow = SlowToRead(s3)

    async def main() -> None:
        client = connect(AsyncPHIClient, s3_client=slow)
        reading = asyncio.create_task(to_list(await client.results(job_id)))
        assert await asyncio.to_thread(slow.asked.wait, SOON)
        # Closing that waits for nothing would be over by then.
        asyncio.get_running_loop().call_later(0.1, slow.answer.set)
        await client.close()
        assert slow.answer.is_set()
        assert our_threads() == []
        with pytest.raises(ClientClosedError):
            await reading

    asyncio.run(main())


# --- Ctrl-C ---------------------------------------------------------------------------------------

PROGRAMS = {
    "PHIClient": """
with PHIClient(clock=clock) as client:
    list(client.results(job_id))
""",
    "PHIClient, not closed": """
for document in PHIClient(clock=clock).results(job_id):
    pass
""",
    "AsyncPHIClient": """
async def main():
    async with AsyncPHIClient(clock=clock) as client:
        async for document in await client.results(job_id):
            pass

asyncio.run(main())
""",
    "AsyncPHIClient, not closed": """
async def main():
    async for document in await AsyncPHIClient(clock=clock).results(job_id):
        pass

asyncio.run(main())
""",
}
CLOCKS = {
    "ours": "clock = SystemClock()",
    "the user's": """
class Clock:
    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)

    async def sleep_async(self, seconds):
        await asyncio.sleep(seconds)

clock = Clock()
""",
}
BEGIN = """
import asyncio, logging, sys, time
from comprehend_phi import AsyncPHIClient, PHIClient, SystemClock

logging.basicConfig(level=logging.INFO)
job_id = sys.argv[1]
"""


def interrupted(command: list[str]) -> tuple[int, str, float]:
    """Run a command, interrupt it in its backoff, and return its exit code, stderr and seconds."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            # The package announces a backoff just before it sleeps.
            assert any("trying again in" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            begin = time.monotonic()
            _, stderr = process.communicate(timeout=SOON)
            return process.returncode, stderr, time.monotonic() - begin
        finally:
            process.kill()


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.usefixtures("busy")
def test_ctrl_c_ends_a_program_in_its_backoff(program: str, clock: str) -> None:
    source = BEGIN + CLOCKS[clock] + PROGRAMS[program]

    code, stderr, seconds = interrupted([sys.executable, "-c", source, JOB_ID])

    assert code == -signal.SIGINT
    # Other threads may log their backoffs after it, even on the same line.
    assert "KeyboardInterrupt" in stderr
    # It takes milliseconds, and would take an hour; a slow machine is no failure.
    assert seconds < 10


@pytest.mark.parametrize("command", ["results", "redact", "review"])
@pytest.mark.usefixtures("busy")
def test_ctrl_c_ends_the_command_line_in_its_backoff(command: str, tmp_path: Path) -> None:
    pytest.importorskip("click", reason="the extra `cli` is not installed")
    arguments = {
        "results": [],
        "redact": [str(tmp_path / "copies")],
        "review": [str(tmp_path / "page.html")],
    }
    line = [sys.executable, "-m", "comprehend_phi", command, JOB_ID, *arguments[command]]

    code, _, seconds = interrupted(line)

    assert code == 130
    assert seconds < 10


# --- The end of the program -----------------------------------------------------------------------

# What a thread does when the main thread has ended, or the interpreter in its last moments.
LATE = {
    "a thread": "threading.Thread(target=late).start()",
    "atexit": "atexit.register(run)",
}
READ = {
    "PHIClient": "count = len(list(client.results(job_id)))",
    "AsyncPHIClient": """
async def main():
    return len([document async for document in await client.results(job_id)])

count = asyncio.run(main())
""",
}
LATE_PROGRAM = """
import asyncio, atexit, sys, threading
from comprehend_phi import AsyncPHIClient, ComprehendPHIError, PHIClient

job_id, cls, code, built = sys.argv[1:5]

def build():
    return {"PHIClient": PHIClient, "AsyncPHIClient": AsyncPHIClient}[cls]()

def run():
    try:
        scope = {"asyncio": asyncio, "job_id": job_id, "client": client or build()}
        exec(code, scope)
        print(scope["count"])
    except ComprehendPHIError as error:
        print(type(error).__name__, error.outcome_unknown, error)

def late():
    threading.main_thread().join()
    run()

client = build() if built == "early" else None
"""


def late(how: str, cls: str, built: str) -> str:
    """What a program says that reads results late."""
    source = LATE_PROGRAM + LATE[how]
    done = subprocess.run(
        [sys.executable, "-c", source, JOB_ID, cls, READ[cls], built],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("cls", READ)
@pytest.mark.parametrize("how", LATE)
def test_results_are_read_after_the_main_thread_has_ended(how: str, cls: str, busy: Busy) -> None:
    busy.documents = 1
    assert late(how, cls, "early") == "1"


@pytest.mark.parametrize("cls", READ)
@pytest.mark.parametrize("how", LATE)
def test_building_a_client_after_the_main_thread_has_ended_is_refused(
    how: str, cls: str, busy: Busy
) -> None:
    assert late(how, cls, "late") == (
        "TransportError False PHIClient: boto3 cannot build a client (RuntimeError) (1 attempt)."
        " Build the client before the main thread ends."
    )

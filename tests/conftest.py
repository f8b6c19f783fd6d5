"""Shared fixtures: the local service over HTTP, clients with a fake clock, and requests."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from socketserver import BaseServer
from typing import Any, Self, TypeVar
from urllib.parse import unquote
from uuid import uuid4

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader
from hypothesis import settings

from comprehend_phi import (
    AsyncJob,
    AsyncJobResults,
    AsyncPHIClient,
    DetectPHIResponse,
    InputDataConfig,
    JobProperties,
    OutputDataConfig,
    PHIClient,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    SystemClock,
    TransportError,
    WaitPolicy,
)
from comprehend_phi.testing import FakeClock, LocalServer, faults

# Airflow has an environment of its own: `make airflow`.
collect_ignore = [] if find_spec("airflow") else ["airflow"]

# A slow machine must not fail a test. CI tries the same examples in every run; elsewhere, each run
# tries new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "local")

# Programs that tests start must import the package that the tests import. Without this variable,
# `python -c` and `python -m` would import a package in the working directory, such as the checkout.
os.environ["PYTHONSAFEPATH"] = "1"

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"

START = "StartPHIDetectionJob"
DESCRIBE = "DescribePHIDetectionJob"
LIST = "ListPHIDetectionJobs"
STOP = "StopPHIDetectionJob"

JOB_ID = "0123456789abcdef0123456789abcdef"  # no job has this id

# A client repeats a call that meets one of these faults.
PASSING_FAULTS = {
    "throttle": faults.throttle(),
    "too_many_requests": faults.too_many_requests(),
    "server_error": faults.server_error(),
    "server_error after the work": faults.server_error(works=True),
    "unavailable": faults.unavailable(),
    "reset_before": faults.reset_before(),
    "reset_after": faults.reset_after(),
    "cut": faults.cut(),
    "cut to nothing": faults.cut(0.0),
    "empty_map": faults.empty_map(),
    "html": faults.html(),
    "html 500": faults.html(500),
    "not_utf8": faults.not_utf8(),
}

Serving = Callable[[BaseServer], AbstractContextManager[None]]

# Tests put this name into notes and requests, and search logs, reprs and errors for it.
CANARY = "Zinnia Quellwasser"


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fake credentials and a fixed region instead of this machine's AWS configuration."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MOTO_ACCOUNT_ID", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


def pytest_collection_finish() -> None:
    """Let Python search for garbage less often.

    The modules and tests that are loaded by now stay until the end. Python would search all of them
    for garbage again and again, which takes a tenth of the time of many tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Let SIGINT interrupt the programs that tests start.

    Programs that a shell runs in the background ignore SIGINT, and so would those of the tests.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once() -> Iterator[None]:
    """Let botocore read each file of its models once instead of once for each session.

    The files have megabytes of JSON. Without this, the tests would take a third longer. Each
    session still reads the model of Comprehend Medical, because tests change it. It is small.
    The list of all services, for which botocore opens hundreds of folders, is read once as well.
    """
    read_file: Callable[[str], Any] = JSONFileLoader().load_file
    read_once = cache(read_file)

    def load_file(_loader: JSONFileLoader, file_path: str) -> Any:
        read = read_file if "comprehendmedical" in Path(file_path).parts else read_once
        return read(file_path)

    list_services: Callable[..., list[str]] = Loader.list_available_services
    listed: dict[tuple[str, ...], list[str]] = {}

    def list_available_services(loader: Loader, type_name: str) -> list[str]:
        key = (type_name, *loader.search_paths)
        if key not in listed:
            listed[key] = list_services(loader, type_name)
        return listed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_file)
        patch.setattr(Loader, "list_available_services", list_available_services)
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class StubbornClock(SystemClock):
    """A clock whose `sleep` only returns when the test calls `wake`.

    Attributes:
        asleep: an event that is set when somebody sleeps.
    """

    def __init__(self) -> None:
        self.asleep = threading.Event()
        self._awake = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.asleep.set()
        assert self._awake.wait(60), "nothing should wait for this sleep"

    def wake(self) -> None:
        """End all sleeps, and wait for the threads that were abandoned while they slept."""
        self._awake.set()
        for thread in threading.enumerate():
            if thread.name.startswith("comprehend_phi"):
                thread.join()


@pytest.fixture
def our_threads() -> Callable[[], list[threading.Thread]]:
    """Return the package's threads that this test has started. Earlier ones may still be idle."""
    earlier = set(threading.enumerate())
    return lambda: [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("comprehend_phi") and thread not in earlier
    ]


@pytest.fixture
def stubborn() -> Iterator[StubbornClock]:
    """A clock that sleeps until the test ends or wakes it."""
    clock = StubbornClock()
    yield clock
    clock.wake()


@pytest.fixture
def server(clock: FakeClock) -> Iterator[LocalServer]:
    """The local service over HTTP, driven by `clock`."""
    with LocalServer(clock=clock, job_seconds=300) as server:
        yield server


@pytest.fixture(scope="session")
def real_s3() -> Iterator[str]:
    """The URL of a real S3 server, which the first test that needs it starts."""
    script = Path(__file__).with_name("real_s3.py")
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, "the server did not start; see its output above"
        yield url
        server.stdin.close()


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Run a server of the test in a thread inside the block, and close it afterwards."""

    @contextmanager
    def serving(server: BaseServer) -> Generator[None, None, None]:
        with server:
            thread = threading.Thread(target=server.serve_forever, args=(0.005,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    return serving


# --- Both clients with the same methods -----------------------------------------------------------

_T = TypeVar("_T")


class Awaited:
    """An AsyncPHIClient with the methods of PHIClient, so that tests cover both.

    Its event loop runs in a thread, so that several threads can call it.
    """

    def __init__(self, **options: Any) -> None:
        self._client = AsyncPHIClient(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def result_of(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def each_of(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        while True:
            try:
                item = self.result_of(anext_of(items))
            except StopAsyncIteration:
                return
            yield item

    def close(self) -> None:
        self.result_of(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start_phi_detection_job(self, request: StartPHIDetectionJobRequest) -> Any:
        return self.result_of(self._client.start_phi_detection_job(request))

    def describe_phi_detection_job(self, job_id: str) -> JobProperties:
        return self.result_of(self._client.describe_phi_detection_job(job_id))

    def list_phi_detection_jobs(self, *args: Any, **options: Any) -> Iterator[JobProperties]:
        return self.each_of(self._client.list_phi_detection_jobs(*args, **options))

    def stop_phi_detection_job(self, job_id: str) -> str:
        return self.result_of(self._client.stop_phi_detection_job(job_id))

    def submit(self, request: StartPHIDetectionJobRequest) -> AwaitedJob:
        return AwaitedJob(self, self.result_of(self._client.submit(request)))

    def find_or_submit(self, request: StartPHIDetectionJobRequest) -> AwaitedJob:
        return AwaitedJob(self, self.result_of(self._client.find_or_submit(request)))

    def detect_phi(self, text: str) -> DetectPHIResponse:
        return self.result_of(self._client.detect_phi(text))

    def detect_phi_in_document(self, text: str, **options: Any) -> DetectPHIResponse:
        return self.result_of(self._client.detect_phi_in_document(text, **options))

    def job(self, job_id: str) -> AwaitedJob:
        return AwaitedJob(self, self._client.job(job_id))


class AwaitedJob:
    """An AsyncJob with the methods of Job."""

    def __init__(self, client: Awaited, job: AsyncJob) -> None:
        self.job_id = job.job_id
        self._client = client
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job).removeprefix("Async")

    def properties(self) -> JobProperties:
        return self._client.result_of(self._job.properties())

    def stop(self) -> str:
        return self._client.result_of(self._job.stop())

    def results(self) -> AsyncJobResults:
        return self._client.result_of(self._job.results())

    def wait(
        self,
        policy: WaitPolicy | None = None,
        on_poll: Callable[[JobProperties], object] | None = None,
        on_poll_error: Callable[[ServiceError | TransportError], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> JobProperties:
        # In another thread, because the callbacks may call this client.
        async def polled(job: JobProperties) -> None:
            if on_poll is not None:
                await asyncio.to_thread(on_poll, job)

        async def failed(error: ServiceError | TransportError) -> None:
            if on_poll_error is not None:
                await asyncio.to_thread(on_poll_error, error)

        return self._client.result_of(
            self._job.wait(policy or WaitPolicy(), polled, failed, timeout=timeout)
        )


async def anext_of(items: AsyncIterator[_T]) -> _T:
    """Return the next item. This is a coroutine, which `asyncio` can run, unlike `anext`."""
    return await items.__anext__()


@pytest.fixture
def client_class() -> Callable[..., Any]:
    """The class of the client. Modules that test both clients override this fixture."""
    return PHIClient


@pytest.fixture(params=[PHIClient, Awaited], ids=["sync", "async"])
def each_client_class(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The classes of both clients, one after the other."""
    built: Callable[..., Any] = request.param
    return built


@pytest.fixture
def make_client(
    server: LocalServer, clock: FakeClock, client_class: Callable[..., Any]
) -> Iterator[Callable[..., PHIClient]]:
    """Build clients of `server` that use the fake clock, and close them after the test."""
    clients: list[PHIClient] = []

    def make(**options: Any) -> PHIClient:
        options = {"endpoint_url": server.endpoint_url, "clock": clock, **options}
        clients.append(client_class(**options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., PHIClient]) -> PHIClient:
    return make_client()


@pytest.fixture
def once(make_client: Callable[..., PHIClient]) -> PHIClient:
    """A client without retries."""
    return make_client(retry=RetryPolicy(max_attempts=1))


@pytest.fixture
def s3(server: LocalServer) -> Iterator[Any]:
    """A boto3 client for the S3 of the local service."""
    # botocore's retries would really sleep. Ours use the fake clock.
    config = Config(retries={"total_max_attempts": 1})
    client: Any = boto3.client("s3", endpoint_url=server.endpoint_url, config=config)
    yield client
    client.close()


@pytest.fixture
def refuse(s3: Any) -> Iterator[Callable[..., None]]:
    """Let S3 refuse GetObject for some keys for the rest of the test."""
    answers: dict[str, tuple[int, bytes]] = {}

    def refuse(*keys: str, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        answers.update(dict.fromkeys(keys, (status, body)))

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        # The path is /bucket/key.
        key = unquote(request.url.partition("?")[0].split("/", 4)[4])
        if key not in answers:
            return None
        status, body = answers[key]
        return AWSResponse(request.url, status, HTTPHeaders(), _Body(body))

    s3.meta.events.register("before-send.s3.GetObject", answer)
    yield refuse
    s3.meta.events.unregister("before-send.s3.GetObject", answer)


class _Body(BytesIO):
    """The body of a response, with the methods that botocore uses."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket for this test, with one note at `notes/note.txt`."""
    name = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    s3.put_object(
        Bucket=name, Key="notes/note.txt", Body=b"Patient: Ada Example, phone (555) 555-0142"
    )
    return name


@pytest.fixture
def make_request(bucket: str) -> Callable[..., StartPHIDetectionJobRequest]:
    """Build requests for the notes in `bucket`. Each starts another job."""

    def make(**fields: Any) -> StartPHIDetectionJobRequest:
        members: dict[str, Any] = {
            "input_data_config": InputDataConfig(s3_bucket=bucket, s3_key="notes"),
            "output_data_config": OutputDataConfig(s3_bucket=bucket, s3_key="results"),
            "data_access_role_arn": ROLE,
            "kms_key": KEY,
            **fields,
        }
        return StartPHIDetectionJobRequest(**members)

    return make


@pytest.fixture
def request_(
    make_request: Callable[..., StartPHIDetectionJobRequest],
) -> StartPHIDetectionJobRequest:
    """A request for the notes in `bucket`."""
    return make_request()

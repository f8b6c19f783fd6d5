"""The boto3 clients of a connection: how they are built, used, shared with forks and closed."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, RefreshableCredentials

from comprehend_phi import (
    ClientClosedError,
    DoubleRetryWarning,
    InputDataConfig,
    InternalServerException,
    InvalidRequestException,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TransportError,
)
from comprehend_phi._results.boto3_storage import Boto3Storage
from comprehend_phi._results.obstore_storage import ObstoreStorage
from comprehend_phi._results.transport import open_storage
from comprehend_phi._service.boto3_clients import build_with_boto3
from comprehend_phi._service.connection import Connection
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import JOB_ID, START

MakeClient = Callable[..., PHIClient]


@pytest.fixture
def request_() -> StartPHIDetectionJobRequest:
    """A request whose buckets do not exist, because a start does not look for them."""
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="clinic-notes"),
        output_data_config=OutputDataConfig(s3_bucket="clinic-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )


class Recorder(ThreadingHTTPServer):
    """Send the same job in every response, and record headers and connections."""

    daemon_threads = False  # so that closing the server waits for its connections

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.headers: list[dict[str, str]] = []
        self.connections: list[socket.socket] = []
        self.closed = threading.Semaphore(0)
        self.silent = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # which keeps connections open

    @property
    def recorder(self) -> Recorder:
        assert isinstance(self.server, Recorder)
        return self.server

    def handle(self) -> None:
        self.recorder.connections.append(self.connection)
        super().handle()
        self.recorder.closed.release()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.recorder.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.recorder.silent.is_set():
            self.rfile.read(
                1
            )  # which returns when the client has given up and closed the connection
            self.close_connection = True
            return
        body = json.dumps({"JobId": JOB_ID}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def recorder(serving: Callable[[Recorder], AbstractContextManager[None]]) -> Iterator[Recorder]:
    server = Recorder()
    with serving(server):
        yield server
        # Closing the server waits for all connections, and a client that was not closed keeps one.
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


# --- botocore's own retries and validation --------------------------------------------------------


@pytest.mark.parametrize(
    "retries",
    [
        None,
        {"max_attempts": 5},
        {"total_max_attempts": 5, "mode": "standard"},
        {"max_attempts": 5, "mode": "adaptive"},
    ],
)
def test_an_attempt_is_one_request_whatever_retries_the_config_sets(
    retries: Any,
    server: LocalServer,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(*[faults.server_error()] * 6)
    policy = RetryPolicy(max_attempts=2)
    client = make_client(config=retries and Config(retries=retries), retry=policy)

    with pytest.raises(InternalServerException):
        client.start_phi_detection_job(request_)

    assert server.service.attempts(START) == 2


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_an_attempt_is_one_request_whatever_retries_the_environment_sets(
    mode: str,
    server: LocalServer,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    server.service.script(*[faults.server_error()] * 6)
    client = make_client(session=boto3.Session(), retry=RetryPolicy(max_attempts=2))

    with pytest.raises(InternalServerException):
        client.start_phi_detection_job(request_)

    assert server.service.attempts(START) == 2


def test_adaptive_mode_in_the_environment_does_not_delay_attempts(
    server: LocalServer,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # After a throttling error, botocore's adaptive mode lets each request wait for a token. It uses
    # the real clock, so no timeout of RetryPolicy would include the wait.
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    server.service.script(*[faults.throttle()] * 4)
    client = make_client(session=boto3.Session())
    begin = time.monotonic()

    client.start_phi_detection_job(request_)

    assert len(clock.sleeps) == 4
    # Five requests take milliseconds. Four tokens, one every two seconds, would take eight seconds.
    assert time.monotonic() - begin < 4


def test_botocore_does_not_validate_parameters(
    server: LocalServer, client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    # If AWS has changed a limit, users can disable our validators, so that the service decides.
    # botocore's own validation would reject the empty name.
    with attrs.validators.disabled():
        nameless = attrs.evolve(request_, job_name="")

    with pytest.raises(InvalidRequestException):
        client.start_phi_detection_job(nameless)

    assert server.service.received[-1].members["JobName"] == ""


# --- The user's settings of the connection --------------------------------------------------------


def test_the_read_timeout_of_the_config_applies(
    recorder: Recorder, request_: StartPHIDetectionJobRequest
) -> None:
    recorder.silent.set()  # without the timeout, this would wait for botocore's own 60 seconds
    with (
        PHIClient(
            endpoint_url=recorder.url,
            config=Config(read_timeout=0.2),
            retry=RetryPolicy(max_attempts=1),
        ) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)
    recorder.silent.clear()

    assert "ReadTimeoutError" in str(caught.value)
    assert caught.value.outcome_unknown


def test_the_user_agent_of_the_config_is_sent(
    recorder: Recorder, request_: StartPHIDetectionJobRequest
) -> None:
    config = Config(user_agent_extra="ward-tool/7")
    with PHIClient(endpoint_url=recorder.url, config=config) as client:
        client.start_phi_detection_job(request_)

    assert "ward-tool/7" in recorder.headers[0]["user-agent"]


def test_the_config_of_the_user_is_not_changed(recorder: Recorder) -> None:
    config = Config(retries={"max_attempts": 5}, parameter_validation=True)

    PHIClient(endpoint_url=recorder.url, config=config).close()

    options: Any = config  # botocore sets its options as attributes
    assert options.retries == {"max_attempts": 5}
    assert options.parameter_validation is True


def test_credentials_and_region_of_the_session_are_used(
    recorder: Recorder, request_: StartPHIDetectionJobRequest, each_client_class: MakeClient
) -> None:
    session = boto3.Session(
        aws_access_key_id="AKIDOFSESSION", aws_secret_access_key="x", region_name="eu-west-2"
    )
    with each_client_class(session=session, endpoint_url=recorder.url) as client:
        client.start_phi_detection_job(request_)

    credential = recorder.headers[0]["authorization"]
    assert re.search("Credential=AKIDOFSESSION/[0-9]+/eu-west-2/comprehendmedical/", credential)


def test_region_name_takes_precedence_over_the_session(
    recorder: Recorder, request_: StartPHIDetectionJobRequest, each_client_class: MakeClient
) -> None:
    session = boto3.Session(region_name="eu-west-2")
    with each_client_class(
        session=session, region_name="ca-central-1", endpoint_url=recorder.url
    ) as client:
        client.start_phi_detection_job(request_)

    assert "/ca-central-1/comprehendmedical/" in recorder.headers[0]["authorization"]


def test_the_default_session_of_boto3_is_the_default(
    recorder: Recorder,
    request_: StartPHIDetectionJobRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # put back after the test
    boto3.setup_default_session(region_name="ap-southeast-2")
    with PHIClient(endpoint_url=recorder.url) as client:
        client.start_phi_detection_job(request_)

    assert "/ap-southeast-2/comprehendmedical/" in recorder.headers[0]["authorization"]


# --- Clients of the user --------------------------------------------------------------------------

QUIET = (
    Config(retries={"total_max_attempts": 1}),
    Config(retries={"max_attempts": 0}),
    Config(retries={"total_max_attempts": 1, "mode": "standard"}),
)
LOUD = (
    None,
    Config(retries={"mode": "standard"}),
    Config(retries={"max_attempts": 1}),
    Config(retries={"total_max_attempts": 2}),
)


@pytest.fixture
def make_boto3_client(recorder: Recorder) -> Iterator[Callable[..., Any]]:
    """Build boto3 clients, by default for the recorder. All are closed at the end."""
    clients: list[Any] = []

    def make(service: str = "comprehendmedical", **options: Any) -> Any:
        session: Any = boto3.Session()
        clients.append(session.client(service, **{"endpoint_url": recorder.url, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("config", LOUD)
def test_an_s3_client_that_retries_on_its_own_causes_one_warning_at_the_line_of_the_caller(
    config: Config | None, make_boto3_client: Callable[..., Any], recorder: Recorder
) -> None:
    loud = make_boto3_client("s3", config=config)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = PHIClient(endpoint_url=recorder.url, s3_client=loud)
        client.close()

    (warning,) = caught
    assert warning.category is DoubleRetryWarning
    assert "s3_client= retries on its own" in str(warning.message)
    assert Path(warning.filename) == Path(__file__)
    line = Path(__file__).read_text().splitlines()[warning.lineno - 1].strip()
    assert line == "client = PHIClient(endpoint_url=recorder.url, s3_client=loud)"


@pytest.mark.parametrize("config", LOUD)
def test_a_client_that_retries_on_its_own_causes_one_warning_at_the_line_of_the_caller(
    config: Config | None,
    make_boto3_client: Callable[..., Any],
    request_: StartPHIDetectionJobRequest,
) -> None:
    loud = make_boto3_client(config=config)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = PHIClient(client=loud)
        client.start_phi_detection_job(request_)

    (warning,) = caught
    assert warning.category is DoubleRetryWarning
    assert Path(warning.filename) == Path(__file__)
    line = Path(__file__).read_text().splitlines()[warning.lineno - 1].strip()
    assert line == "client = PHIClient(client=loud)"


@pytest.mark.parametrize("config", QUIET)
def test_a_client_that_does_not_retry_causes_no_warning(
    config: Config, make_boto3_client: Callable[..., Any], request_: StartPHIDetectionJobRequest
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PHIClient(client=make_boto3_client(config=config)).start_phi_detection_job(request_)

    assert caught == []


def test_a_client_of_the_user_keeps_its_own_retries(
    server: LocalServer,
    make_boto3_client: Callable[..., Any],
    request_: StartPHIDetectionJobRequest,
) -> None:
    # It is used unchanged, so two of its requests are one attempt.
    server.service.script(*[faults.reset_before()] * 2)
    loud = make_boto3_client(
        endpoint_url=server.endpoint_url, config=Config(retries={"total_max_attempts": 2})
    )
    with pytest.warns(DoubleRetryWarning):
        client = PHIClient(client=loud, retry=RetryPolicy(max_attempts=1), clock=FakeClock())

    with pytest.raises(TransportError) as caught:
        client.start_phi_detection_job(request_)

    assert caught.value.attempts == 1
    received = server.service.received
    assert [each.members["ClientRequestToken"] for each in received] == [
        request_.client_request_token
    ] * 2


def test_a_client_of_the_user_stays_open(
    recorder: Recorder,
    make_boto3_client: Callable[..., Any],
    request_: StartPHIDetectionJobRequest,
) -> None:
    theirs = make_boto3_client(config=QUIET[0])
    with PHIClient(client=theirs) as client:
        client.start_phi_detection_job(request_)

    with PHIClient(client=theirs) as client:
        client.start_phi_detection_job(request_)

    # The second call used the connection of the first.
    assert len(recorder.headers) == 2
    assert len(recorder.connections) == 1


def test_an_endpoint_together_with_a_client_is_refused(
    make_boto3_client: Callable[..., Any],
) -> None:
    with pytest.raises(TypeError) as caught:
        PHIClient(client=make_boto3_client(config=QUIET[0]), endpoint_url="http://127.0.0.1:9")

    assert str(caught.value) == (
        "endpoint_url= has no effect on client=; pass it to boto3 when you build that client"
    )


def test_a_client_of_another_service_is_refused(make_boto3_client: Callable[..., Any]) -> None:
    with pytest.raises(TypeError) as caught:
        PHIClient(client=make_boto3_client("s3", config=QUIET[0]))

    assert str(caught.value) == "client= must be a boto3 client for comprehendmedical"


@pytest.mark.parametrize(
    ("kind", "service"), [("resource", "s3"), ("client", "sqs"), ("client", "comprehendmedical")]
)
def test_an_object_that_is_not_an_s3_client_is_refused(
    kind: str, service: str, recorder: Recorder, each_client_class: MakeClient
) -> None:
    wrong: Any = getattr(boto3, kind)(service)

    with pytest.raises(TypeError) as caught:
        each_client_class(endpoint_url=recorder.url, s3_client=wrong)

    assert (
        str(caught.value) == "s3_client= must be a boto3 client for S3, such as boto3.client('s3')"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session": boto3.Session}, "session= must be a boto3 session, such as boto3.Session()"),
        ({"config": {}}, "config= must be a botocore config, such as botocore.config.Config()"),
    ],
)
def test_a_session_or_config_of_the_wrong_type_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        PHIClient(**options)

    assert str(caught.value) == message


# boto3 accepts these options, or blames something else. With a wrong number of connections, our
# pools of threads would wait forever.
BAD_OPTIONS: dict[str, tuple[Any, ...]] = {
    "max_pool_connections": (0, -1, 10_001, 10**9, "20", None, True, 2.0),
    "connect_timeout": (0, -1, "x", True, float("nan"), float("inf"), 1e10),
    "read_timeout": (0, -1, "x", True, float("nan"), float("inf"), 1e10),
    "proxies": ("http://quellwasser.example", {"https": 5}, {"http": b"http://quellwasser"}),
}
BAD_PROXIES = ("socks5://quellwasser:1", "htps://quellwasser:1", "HTTP://quellwasser:1")
BAD_CONFIGS = [
    *((name, value) for name, values in BAD_OPTIONS.items() for value in values),
    *(("proxies", {"https": url}) for url in BAD_PROXIES),
]


@pytest.mark.parametrize(("option", "value"), BAD_CONFIGS)
def test_an_option_that_boto3_does_not_check_is_refused(
    option: str, value: Any, each_client_class: MakeClient
) -> None:
    config = Config(**{option: value})

    with pytest.raises(RequestValidationError) as caught:
        each_client_class(config=config)

    assert (caught.value.owner, caught.value.field) == ("Config", option)
    assert "quellwasser" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "name"), [("comprehendmedical", "client"), ("s3", "s3_client")]
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_client_of_the_user_with_no_connections_is_refused(
    service: str,
    name: str,
    value: int,
    make_boto3_client: Callable[..., Any],
    each_client_class: MakeClient,
) -> None:
    theirs = make_boto3_client(service, config=Config(max_pool_connections=value))

    with pytest.raises(RequestValidationError, match="at least 1") as caught:
        each_client_class(**{name: theirs})

    assert caught.value.field == "max_pool_connections"


def test_a_bad_option_in_the_config_of_the_session_is_refused() -> None:
    core = botocore.session.Session()
    core.set_default_client_config(Config(max_pool_connections=0))

    with pytest.raises(RequestValidationError, match="at least 1"):
        PHIClient(session=boto3.Session(botocore_session=core))


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout": None, "read_timeout": None},  # no limits
        {"max_pool_connections": 10_000},
        {"proxies": {"https": None, "http": ""}},  # no proxies
        {"proxies": {"https": "proxy.example:3128", "http": "https://a:b@proxy.example"}},
        {"proxies": {"https": "http://proxy.example:3128"}},
    ],
)
def test_an_option_that_boto3_can_work_with_is_accepted(options: dict[str, Any]) -> None:
    PHIClient(config=Config(**options)).close()


# --- S3, which results are read from --------------------------------------------------------------


@pytest.fixture
def connect(recorder: Recorder) -> Iterator[Callable[..., Connection]]:
    """Build connections as the clients do. All are closed at the end."""
    connections: list[Connection] = []
    unset = ("region_name", "session", "config", "client", "s3_client")

    def connect(**options: Any) -> Connection:
        given: dict[str, Any] = {
            **dict.fromkeys(unset),
            "s3_transport": "auto",
            "endpoint_url": recorder.url,
            **options,
        }
        connections.append(Connection(**given))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


def test_s3_uses_the_region_of_the_client_but_not_its_endpoint(
    connect: Callable[..., Connection], recorder: Recorder
) -> None:
    session = boto3.Session(region_name="eu-west-2")

    for connection, region in (
        (connect(region_name="ca-central-1"), "ca-central-1"),
        (connect(session=session), "eu-west-2"),
        (connect(session=session, region_name="ca-central-1"), "ca-central-1"),
    ):
        assert connection.s3_client.meta.region_name == region
        assert connection.s3_client.meta.service_model.service_name == "s3"
        assert connection.client.meta.endpoint_url == recorder.url
        assert connection.s3_client.meta.endpoint_url != recorder.url


def test_s3_uses_the_region_of_a_client_of_the_user(
    connect: Callable[..., Connection], make_boto3_client: Callable[..., Any]
) -> None:
    theirs = make_boto3_client(config=QUIET[0], region_name="eu-west-1")

    assert connect(client=theirs, endpoint_url=None).s3_client.meta.region_name == "eu-west-1"


@pytest.mark.parametrize(
    "config", [None, Config(retries={"total_max_attempts": 7, "mode": "adaptive"}, read_timeout=11)]
)
def test_the_clients_that_we_build_do_not_retry(
    connect: Callable[..., Connection], config: Config | None
) -> None:
    connection = connect(config=config)

    for client in (connection.client, connection.s3_client):
        assert client.meta.config.retries == {"total_max_attempts": 1, "mode": "standard"}
        assert client.meta.config.read_timeout == (11 if config else 60)


def test_the_client_for_s3_is_built_once(connect: Callable[..., Connection]) -> None:
    connection = connect()

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(lambda: connection.s3_client) for _ in range(8)]

    assert len({id(client.result()) for client in clients}) == 1


def test_an_s3_client_of_the_user_is_used(
    connect: Callable[..., Connection], make_boto3_client: Callable[..., Any]
) -> None:
    theirs = make_boto3_client("s3", config=QUIET[0])

    assert connect(s3_client=theirs).s3_client is theirs


def test_a_client_keeps_the_number_of_connections_that_was_set(
    connect: Callable[..., Connection],
) -> None:
    fewer = Config(max_pool_connections=3, read_timeout=11)

    for connection, number in (
        (connect(), 10),  # botocore's own default
        (connect(max_pool_connections=7), 7),
        (connect(max_pool_connections=7, config=fewer), 3),
        (connect(max_pool_connections=7, config=Config(read_timeout=11)), 7),
    ):
        for client in (connection.client, connection.s3_client):
            assert client.meta.config.max_pool_connections == number

    assert connect(max_pool_connections=7, config=fewer).client.meta.config.read_timeout == 11


def test_an_unknown_transport_for_s3_is_refused() -> None:
    unknown: Any = "ftp"

    with pytest.raises(RequestValidationError, match="must be 'auto', 'boto3' or 'obstore'"):
        PHIClient(s3_transport=unknown)


def test_obstore_together_with_an_s3_client_is_refused(
    make_boto3_client: Callable[..., Any],
) -> None:
    with pytest.raises(TypeError, match="'obstore' cannot use s3_client=; leave one of them out"):
        PHIClient(s3_client=make_boto3_client("s3", config=QUIET[0]), s3_transport="obstore")


def test_obstore_without_its_extra_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)  # as if it were not installed

    with pytest.raises(TransportError) as caught:
        PHIClient(s3_transport="obstore")

    assert caught.value.reason == (
        "s3_transport='obstore' needs the module obstore, which the extra `fast` of comprehend_phi"
        " installs"
    )
    assert caught.value.advice == ""
    assert (caught.value.retryable, caught.value.outcome_unknown) == (False, False)


# --- The storage that results are read through ----------------------------------------------------

POLICY = RetryPolicy()


@pytest.mark.parametrize("session", [None, boto3.Session("AKIDOFSESSION", "x")])
@pytest.mark.parametrize("config", [None, Config(read_timeout=11)])
def test_the_storage_is_obstore_by_default(
    session: Any, config: Config | None, connect: Callable[..., Connection], clock: FakeClock
) -> None:
    storage = open_storage(connect(session=session, config=config), POLICY, clock)

    assert isinstance(storage, ObstoreStorage)


def test_the_storage_is_boto3_with_an_s3_client_of_the_user(
    connect: Callable[..., Connection], make_boto3_client: Callable[..., Any], clock: FakeClock
) -> None:
    connection = connect(s3_client=make_boto3_client("s3", config=QUIET[0]))

    assert type(open_storage(connection, POLICY, clock)) is Boto3Storage


def test_the_storage_is_boto3_if_it_was_chosen(
    connect: Callable[..., Connection], clock: FakeClock
) -> None:
    assert type(open_storage(connect(s3_transport="boto3"), POLICY, clock)) is Boto3Storage


def test_the_storage_is_obstore_if_it_was_chosen(
    connect: Callable[..., Connection], clock: FakeClock
) -> None:
    assert isinstance(open_storage(connect(s3_transport="obstore"), POLICY, clock), ObstoreStorage)


# --- Closing --------------------------------------------------------------------------------------


def test_leaving_the_block_closes_the_connections(
    recorder: Recorder, request_: StartPHIDetectionJobRequest
) -> None:
    with PHIClient(endpoint_url=recorder.url) as client:
        client.start_phi_detection_job(request_)
        client.start_phi_detection_job(request_)
        assert len(recorder.connections) == 1
        assert not recorder.closed.acquire(blocking=False)

    # The server notices that the connection was closed.
    assert recorder.closed.acquire(timeout=30)


def test_leaving_the_block_does_not_swallow_an_error(recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError), PHIClient(endpoint_url=recorder.url):
        raise ZeroDivisionError


def test_closing_twice_is_harmless(
    recorder: Recorder, request_: StartPHIDetectionJobRequest
) -> None:
    client = PHIClient(endpoint_url=recorder.url)
    client.start_phi_detection_job(request_)

    client.close()
    client.close()

    assert recorder.closed.acquire(timeout=30)


@pytest.mark.parametrize("close", [Connection.close, Connection.mark_closed])
def test_a_closed_connection_refuses_every_call(
    close: Callable[[Connection], None], connect: Callable[..., Connection]
) -> None:
    connection = connect()
    close(connection)

    with pytest.raises(ClientClosedError, match="this client is closed") as caught:
        connection.check(START, "token-1")

    assert (caught.value.operation, caught.value.client_request_token) == (START, "token-1")


# --- What cannot be built -------------------------------------------------------------------------


def test_without_a_region_the_error_says_where_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)

    with pytest.raises(TransportError) as caught:
        PHIClient(session=boto3.Session())

    assert caught.value.reason == (
        "boto3 cannot build the client for comprehendmedical (NoRegionError)"
    )
    assert "region_name, AWS_DEFAULT_REGION" in str(caught.value)
    assert caught.value.operation == "PHIClient"
    assert (caught.value.retryable, caught.value.outcome_unknown) == (False, False)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("url", ["zinnia quellwasser", "http://Zinnia Quellwasser/", "http://"])
def test_an_invalid_endpoint_is_not_quoted(url: str) -> None:
    with pytest.raises(TransportError, match="endpoint_url") as caught:
        PHIClient(endpoint_url=url)

    assert "quellwasser" not in f"{caught.value} {caught.value!r}".lower()
    assert not caught.value.retryable
    assert not caught.value.outcome_unknown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


BAD_URLS = (
    "htps://comprehendmedical.us-east-1.amazonaws.com",
    "ftp://quellwasser.example",
    "//quellwasser.example",
    "http://quellwasser.example:99999",
    "http://quellwasser.example:x",
)


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize(
    "setting", ["endpoint_url", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_COMPREHENDMEDICAL", "client"]
)
def test_an_endpoint_with_a_wrong_scheme_or_port_is_refused_wherever_it_was_set(
    setting: str,
    url: str,
    each_client_class: MakeClient,
    make_boto3_client: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {"session": boto3.Session()}
    if setting == "client":
        options["client"] = make_boto3_client(
            endpoint_url=url, config=Config(retries={"total_max_attempts": 1})
        )
    elif setting == "endpoint_url":
        options["endpoint_url"] = url
    else:
        monkeypatch.setenv(setting, url)

    with pytest.raises(TransportError) as caught:
        each_client_class(**options)

    error = caught.value
    assert re.fullmatch("the URL of the endpoint (must begin with|has an invalid) .*", error.reason)
    for name in ("endpoint_url", "AWS_ENDPOINT_URL_COMPREHENDMEDICAL", "AWS_ENDPOINT_URL)"):
        assert name in error.advice
    assert (error.retryable, error.outcome_unknown) == (False, False)
    assert "quellwasser" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_endpoint_of_s3_with_a_wrong_scheme_or_port_is_refused_when_s3_is_needed(
    url: str, connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    connection = connect()

    with pytest.raises(TransportError, match=r"the URL of the endpoint .* AWS_ENDPOINT_URL_S3"):
        _ = connection.s3_client


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_s3_client_of_the_user_with_a_wrong_scheme_or_port_is_refused(
    url: str, connect: Callable[..., Connection], make_boto3_client: Callable[..., Any]
) -> None:
    with pytest.raises(TransportError, match=r"the URL of the endpoint .* AWS_ENDPOINT_URL_S3"):
        connect(s3_client=make_boto3_client("s3", endpoint_url=url))


def test_an_endpoint_in_capitals_is_accepted(
    recorder: Recorder, request_: StartPHIDetectionJobRequest
) -> None:
    with PHIClient(endpoint_url=recorder.url.replace("http", "HTTP")) as client:
        assert client.start_phi_detection_job(request_).job_id == JOB_ID


@pytest.mark.parametrize(
    ("config", "variables", "expected"),
    [
        (Config(client_cert=("one.pem",)), {}, "config="),  # type: ignore[arg-type]
        pytest.param(
            *(None, {"AWS_CA_BUNDLE": " "}, "AWS_CA_BUNDLE"),
            marks=pytest.mark.skipif(
                botocore.__version__ < "1.44", reason="this botocore takes it for a path"
            ),
        ),
    ],
)
def test_a_setting_that_keeps_boto3_from_building_a_client_is_named(
    config: Any, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(TransportError) as caught:
        PHIClient(session=boto3.Session(), config=config)

    assert expected in caught.value.advice
    assert "endpoint" not in caught.value.advice


@pytest.mark.parametrize("region", ["Zinnia Quellwasser", "us_east_1!", "-"])
def test_an_invalid_region_is_not_quoted(region: str) -> None:
    with pytest.raises(TransportError, match="region_name") as caught:
        PHIClient(region_name=region)

    assert region not in f"{caught.value} {caught.value!r}" or region == "-"
    assert not caught.value.retryable
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Write the AWS config file and set variables before boto3 has a default session."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    def set_up(config: str = "", **variables: str | None) -> None:
        path = tmp_path / "config"
        path.write_bytes(config.encode("latin-1"))
        for name, value in {"AWS_CONFIG_FILE": str(path), **variables}.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)

    return set_up


def assert_not_built(error: TransportError, service: str, setting: str) -> None:
    assert type(error) is TransportError
    assert error.operation == "PHIClient"
    assert error.reason.startswith(f"boto3 cannot build the client for {service} (")
    assert setting in error.advice
    assert error.advice in str(error)
    assert (error.retryable, error.outcome_unknown) == (False, False)
    assert (error.__cause__, error.__context__) == (None, None)
    assert "quellwasser" not in f"{error} {error!r} {vars(error)}".lower()


@pytest.mark.parametrize(
    "config",
    [
        "[default]\ns3 =\n",
        "[default]\ns3 =\n  addressing_style = quellwasser\n",
        "[default]\napi_versions = quellwasser\n",
        "[default]\nregion = quellwasser\nregion = quellwasser\n",
        "[default]\n[default]\n",
        "[default\n",
        "[default]\nquellwasser\n",
        "region = quellwasser\n",
        "[profile 'quellwasser\n]\n",
        "\xff\xfe",
        "[default]\ndefaults_mode = quellwasser\n",
        "[default]\ndefaults_mode =\n  quellwasser = quellwasser\n",
        "[default]\nrequest_checksum_calculation = quellwasser\n",
    ],
)
def test_a_broken_config_file_is_an_error_that_names_the_file(
    config: str, settings: Callable[..., None], recorder: Recorder, each_client_class: MakeClient
) -> None:
    settings(config)

    with pytest.raises(TransportError) as caught:
        each_client_class(endpoint_url=recorder.url)

    assert_not_built(caught.value, "comprehendmedical", "AWS_CONFIG_FILE")


def test_a_config_file_that_breaks_only_s3_is_an_error_when_s3_is_needed(
    settings: Callable[..., None], connect: Callable[..., Connection]
) -> None:
    settings("[default]\ns3 = signature_version = s3v4\n")
    connection = connect()

    with pytest.raises(TransportError) as caught:
        connection.s3_client  # noqa: B018 - the property builds the client

    assert_not_built(caught.value, "s3", "AWS_CONFIG_FILE")


def test_a_profile_that_does_not_exist_is_an_error_that_names_the_setting(
    settings: Callable[..., None], recorder: Recorder
) -> None:
    settings(AWS_PROFILE="quellwasser")

    with pytest.raises(TransportError) as caught:
        PHIClient(endpoint_url=recorder.url)

    assert_not_built(caught.value, "comprehendmedical", "AWS_PROFILE")


NO_KEYS: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


@pytest.mark.parametrize(
    ("config", "variables", "setting"),
    [
        ("credential_process = /quellwasser/keys", {}, "credential_process"),
        ("credential_process = '/quellwasser", {}, "credential_process"),
        ("credential_process = /bin/cat /dev/null", {}, "credential_process"),
        ("role_arn = quellwasser\nsource_profile = quellwasser", {}, "role_arn"),
        ("sso_session = quellwasser\nsso_account_id = 1\nsso_role_name = a", {}, "AWS_PROFILE"),
        ("metadata_service_timeout = quellwasser", {}, "AWS_PROFILE"),
        ("", {"AWS_ACCESS_KEY_ID": "quellwasser"}, "AWS_SECRET_ACCESS_KEY"),
        (
            "",
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/quellwasser/token",
            },
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
    ],
)
def test_credentials_that_cannot_be_read_are_an_error_that_names_their_sources(
    config: str,
    variables: dict[str, str],
    setting: str,
    settings: Callable[..., None],
    recorder: Recorder,
) -> None:
    settings(f"[default]\n{config}\n", **{**NO_KEYS, **variables})

    with pytest.raises(TransportError) as caught:
        PHIClient(endpoint_url=recorder.url)

    assert_not_built(caught.value, "comprehendmedical", setting)


def test_building_a_client_after_the_main_thread_ended_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # boto3 imports a module that registers a function for the end of the main thread.
    monkeypatch.setattr(threading, "_SHUTTING_DOWN", True)
    register: Any = vars(threading)["_register_atexit"]

    with pytest.raises(TransportError) as caught:
        build_with_boto3(lambda: register(print), "the client for s3")

    assert_not_built(caught.value, "s3", "Build the client before the main thread ends.")


# --- In a forked process --------------------------------------------------------------------------


@pytest.fixture
def as_a_fork(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within the block, this process has another id, as a fork of it would."""
    process = os.getpid()

    @contextmanager
    def as_a_fork() -> Generator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: process + 1)
            yield

    return as_a_fork


AsAFork = Callable[[], AbstractContextManager[None]]


def test_a_fork_builds_its_own_clients(
    connect: Callable[..., Connection], as_a_fork: AsAFork
) -> None:
    connection = connect()
    before = (connection.client, connection.s3_client)

    with as_a_fork():
        in_the_fork = (connection.client, connection.s3_client)
        assert (connection.client, connection.s3_client) == in_the_fork

    assert set(in_the_fork).isdisjoint(before)
    assert (connection.client, connection.s3_client) == before


def test_closing_in_a_fork_leaves_the_connections_of_the_parent_open(
    recorder: Recorder, request_: StartPHIDetectionJobRequest, as_a_fork: AsAFork
) -> None:
    client = PHIClient(endpoint_url=recorder.url)
    client.start_phi_detection_job(request_)

    with as_a_fork():
        client.close()
    assert not recorder.closed.acquire(blocking=False)

    client.close()
    assert recorder.closed.acquire(timeout=30)


@pytest.mark.parametrize(
    ("name", "service"), [("client", "comprehendmedical"), ("s3_client", "s3")]
)
def test_a_client_of_the_user_is_refused_in_a_fork(
    name: str,
    service: str,
    connect: Callable[..., Connection],
    make_boto3_client: Callable[..., Any],
    as_a_fork: AsAFork,
) -> None:
    theirs = make_boto3_client(service, config=QUIET[0])
    connection = connect(endpoint_url=None, **{name: theirs})
    connection.check(START)

    with (
        as_a_fork(),
        pytest.raises(ClientClosedError, match="build the boto3 client and this client") as caught,
    ):
        connection.check(START, "token-1")

    assert (caught.value.operation, caught.value.client_request_token) == (START, "token-1")
    connection.check(START)


def test_the_session_for_s3_is_the_one_that_builds_its_client(
    connect: Callable[..., Connection], make_boto3_client: Callable[..., Any]
) -> None:
    session = boto3.Session()
    theirs = make_boto3_client("s3", config=QUIET[0])

    assert connect(session=session).s3_session is session
    assert connect().s3_session is boto3.DEFAULT_SESSION
    assert connect(session=session, s3_client=theirs).s3_session is None


def keys(expires: datetime) -> dict[str, Any]:
    """Credentials as a source of botocore's returns them."""
    return {
        "access_key": "AKIDOFSOURCE",
        "secret_key": "x",
        "token": "y",
        "expiry_time": expires.isoformat(),
    }


PAST = datetime(2026, 3, 1, tzinfo=UTC)
FUTURE = datetime(2126, 3, 1, tzinfo=UTC)


def test_a_fork_can_refresh_credentials_that_its_parent_was_refreshing(
    connect: Callable[..., Connection], as_a_fork: AsAFork
) -> None:
    # A thread of the parent refreshes the credentials of a role, and with them those that assume
    # the role. It holds both locks while it waits for a response.
    refreshing, answered = threading.Event(), threading.Event()

    def refresh_source() -> dict[str, Any]:
        if not refreshing.is_set():
            refreshing.set()
            assert answered.wait(60)
        return keys(FUTURE)

    def assume_role(**_: Any) -> dict[str, Any]:
        return {
            "Credentials": {
                "AccessKeyId": "AKIDOFROLE",
                "SecretAccessKey": "x",
                "SessionToken": "y",
                "Expiration": FUTURE,
            }
        }

    source = RefreshableCredentials.create_from_metadata(keys(PAST), refresh_source, "test")
    sts: Any = SimpleNamespace(assume_role=assume_role)
    fetcher = AssumeRoleCredentialFetcher(lambda *_, **__: sts, source, "role")
    role = RefreshableCredentials.create_from_metadata(
        keys(PAST), fetcher.fetch_credentials, "assume-role"
    )
    core: Any = botocore.session.Session()
    core.register_component("credential_provider", SimpleNamespace(load_credentials=lambda: role))
    connection = connect(session=boto3.Session(botocore_session=core, region_name="us-east-1"))

    def refresh_in_the_parent() -> None:
        # Both sides are one process here, so this thread does not find its own locks again.
        with suppress(RuntimeError):
            role.get_frozen_credentials()

    in_the_parent = threading.Thread(target=refresh_in_the_parent)
    in_the_parent.start()
    assert refreshing.wait(60)

    found: list[str | None] = []
    with as_a_fork():
        assert connection.client
        in_the_fork = threading.Thread(
            target=lambda: found.append(role.get_frozen_credentials().access_key), daemon=True
        )
        in_the_fork.start()
        in_the_fork.join(60)
    answered.set()
    in_the_parent.join()

    assert found == ["AKIDOFROLE"]


# --- Sessions -------------------------------------------------------------------------------------


def test_errors_of_two_sessions_have_the_same_class(
    server: LocalServer, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    # boto3 creates its exception classes for every session.
    server.service.script(*[faults.throttle(), faults.error("InvalidRequestException")] * 2)
    raised: list[list[type[BaseException]]] = []
    for _ in range(2):
        client = make_client(session=boto3.Session(), retry=RetryPolicy(max_attempts=1))
        classes: list[type[BaseException]] = []
        for expected in (ThrottlingException, InvalidRequestException):
            with pytest.raises(expected) as caught:
                client.start_phi_detection_job(request_)
            classes.append(type(caught.value))
        raised.append(classes)

    assert raised == [[ThrottlingException, InvalidRequestException]] * 2

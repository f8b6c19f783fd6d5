"""What a network does to a call: raw sockets that reset, cut, stall and answer like a stranger."""

from __future__ import annotations

import pickle
import re
import socket
import struct
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

import boto3
import botocore
import pytest
from botocore.config import Config

from comprehend_phi import (
    InputDataConfig,
    MalformedResponseError,
    OutputDataConfig,
    PHIClient,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TransportError,
)
from comprehend_phi.testing import FakeClock

CallError = ServiceError | TransportError
Behave = Callable[[socket.socket, threading.Event], None]

# In every body and header that a stranger sends here; it belongs into no error.
SECRET = "Zinnia Quellwasser"


class RawServer:
    """Accepts connections, reads one request from each, and leaves the rest to `behave`."""

    def __init__(self, behave: Behave, *, reads: bool = True) -> None:
        self.requests = 0
        self._behave = behave
        self._reads = reads
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was shut down
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that has given up resets what is still sent to it.
        with connection, suppress(OSError):
            self.requests += 1
            if self._reads:
                read_request(connection)
            self._behave(connection, self._stopping)

    def stop(self) -> None:
        self._stopping.set()
        # Unlike closing, this wakes the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()


def read_request(connection: socket.socket) -> None:
    """Read one HTTP request, headers and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(connection)
    headers, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", headers)
    while length and len(body) < int(length[1]):
        body += receive(connection)


def receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError
    return data


@contextmanager
def serving(behave: Behave, *, reads: bool = True) -> Generator[RawServer, None, None]:
    server = RawServer(behave, reads=reads)
    try:
        yield server
    finally:
        server.stop()


# --- Ways to behave -------------------------------------------------------------------------------


def sends(data: bytes) -> Behave:
    def behave(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        # Until the client closes: what is closed with unread bytes is reset, and may lose its end.
        with suppress(OSError):
            while connection.recv(65536):
                pass

    return behave


def resets_after(data: bytes) -> Behave:
    def behave(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def resets_within_the_request(connection: socket.socket, stopping: threading.Event) -> None:
    connection.recv(1)
    resets_after(b"")(connection, stopping)


def stalls_after(data: bytes) -> Behave:
    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        connection.sendall(data)
        stopping.wait(60)

    return behave


def http(
    status: str, body: bytes = b"", *, headers: bytes = b"", length: int | None = None
) -> bytes:
    length = len(body) if length is None else length
    return (
        b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n"
        % (status.encode(), length, headers)
    ) + body


def nothing(_connection: socket.socket, _stopping: threading.Event) -> None:
    """Closes the connection."""


HTML = f"<html><body><h1>{SECRET}</h1></body></html>".encode()
JSON = b"Content-Type: application/x-amz-json-1.1\r\n"
JOB = b'{"JobId": "0123456789abcdef0123456789abcdef", "Note": "%s"}' % SECRET.encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n"


class Case(NamedTuple):
    """A way to behave and what a call makes of it when it never ends."""

    id: str
    behave: Behave
    error: type[CallError]
    retried: bool = True
    unknown: bool = True
    reads: bool = True
    read_timeout: float = 60.0  # on a busy machine even an answer at once may take its time


# botocore before 1.44 lets urllib3 notice that a body is cut, and takes it for a closed connection.
CUT_BODY = MalformedResponseError if botocore.__version__ >= "1.44" else TransportError

CASES = (
    Case("closes after accept", nothing, TransportError, reads=False),
    # Not before the first byte: that would race with the end of the client's connect.
    Case("resets within the request", resets_within_the_request, TransportError, reads=False),
    Case("closes after the request", nothing, TransportError),
    Case("resets after the request", resets_after(b""), TransportError),
    Case("half a protocol", sends(b"HTTP/1."), TransportError),
    Case("half a status", sends(b"HTTP/1.1 2"), TransportError),
    Case("no HTTP", sends(b"SSH-2.0-%s\r\n" % SECRET.encode()), TransportError),
    Case("reset within the headers", resets_after(b"HTTP/1.1 200 OK\r\nX: "), TransportError),
    Case("cut within the headers", sends(b"HTTP/1.1 200 OK\r\nContent-"), MalformedResponseError),
    Case(
        "cut body",
        sends(http("200 OK", JOB[:-1], headers=JSON, length=len(JOB))),
        CUT_BODY,
    ),
    Case(
        "no body",
        sends(http("200 OK", b"", headers=JSON, length=len(JOB))),
        CUT_BODY,
    ),
    Case(
        "reset within the body",
        resets_after(http("200 OK", JOB[:20], headers=JSON, length=len(JOB))),
        TransportError,
    ),
    Case("chunked, cut between chunks", sends(CHUNKED + b'5\r\n{"Job\r\n'), TransportError),
    Case("chunked, cut within a chunk", sends(CHUNKED + b'40\r\n{"JobId'), TransportError),
    Case("chunked, no length", sends(CHUNKED + b"zz\r\n" + JOB), TransportError),
    Case("stalls at once", stalls_after(b""), TransportError, read_timeout=0.2),
    Case("stalls within the status", stalls_after(b"HTTP/1.1 2"), TransportError, read_timeout=0.2),
    Case(
        "stalls within the body",
        stalls_after(http("200 OK", JOB[:20], headers=JSON, length=len(JOB))),
        TransportError,
        read_timeout=0.2,
    ),
    Case(
        "redirects",
        sends(http("301 Moved", HTML, headers=b"Location: http://127.0.0.1:9/\r\n")),
        MalformedResponseError,
    ),
    Case(
        "redirects with the method kept",
        sends(http("307 Moved", b"", headers=b"Location: http://127.0.0.1:9/\r\n")),
        MalformedResponseError,
    ),
    Case(
        "no content",
        # Were it not said, the next attempt could be sent on a connection that is closing.
        sends(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        MalformedResponseError,
    ),
    Case("a page", sends(http("200 OK", HTML)), MalformedResponseError),
    Case("a bad gateway", sends(http("502 Bad Gateway", HTML)), MalformedResponseError),
    Case("a gateway timeout", sends(http("504 Gateway Timeout")), MalformedResponseError),
    Case(
        "a proxy's log-in",
        sends(http("407 Proxy Authentication Required", HTML)),
        ServiceError,
        retried=False,
        unknown=False,
    ),
    Case(
        "a proxy's throttle",
        sends(http("429 Too Many Requests", HTML)),
        ThrottlingException,
        unknown=False,
    ),
    Case(
        "a gigantic header",
        sends(http("200 OK", JOB, headers=b"X-Big: " + SECRET.encode() * 5000 + b"\r\n")),
        TransportError,
    ),
    Case(
        "hundreds of headers",
        sends(http("200 OK", JOB, headers=b"".join(b"X-%d: a\r\n" % n for n in range(500)))),
        TransportError,
    ),
    Case(
        "no Unicode",
        sends(http("200 OK", b'{"JobId": "\xff%s"}' % SECRET.encode(), headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "deeper than any parser reads",
        sends(http("200 OK", b"[" * 200_000, headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "an error's code that is no string",
        sends(http("400 Bad Request", b'{"__type": 7}', headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "an error that is no map",
        sends(http("400 Bad Request", b"[7]", headers=JSON)),
        MalformedResponseError,
    ),
)

# The wait that an answer asks for, in forms that RFC 9110 does not know; each is a throttle still.
ODD_WAITS = (
    "soon",
    "-5",
    "1e9",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2031 00:00:00 +99999999999999999999",
    "Mon, 99 Jan 2031 00:00:00 GMT",
    "\u00b2",
)


@pytest.fixture
def request_() -> StartPHIDetectionJobRequest:
    """A request that needs no bucket: nobody here looks for one."""
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="clinic-notes"),
        output_data_config=OutputDataConfig(s3_bucket="clinic-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )


def attempt_twice(
    url: str, request: StartPHIDetectionJobRequest, read_timeout: float = 60.0
) -> CallError:
    """The error after two attempts with no time between them."""
    with PHIClient(
        endpoint_url=url,
        config=Config(read_timeout=read_timeout),
        retry=RetryPolicy(max_attempts=2),
        clock=FakeClock(),
    ) as client:
        try:
            client.start_phi_detection_job(request)
        except (ServiceError, TransportError) as error:
            return error
    pytest.fail("the start succeeded")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_a_network_that_fails_is_a_typed_error_without_the_answer(
    case: Case, request_: StartPHIDetectionJobRequest
) -> None:
    with serving(case.behave, reads=case.reads) as server:
        error = attempt_twice(server.url, request_, case.read_timeout)

    assert type(error) is case.error
    assert error.retryable is case.retried
    assert error.outcome_unknown is case.unknown
    # One connection for each attempt: neither botocore nor urllib3 tries by itself.
    assert error.attempts == server.requests == (2 if case.retried else 1)
    assert error.client_request_token == request_.client_request_token
    assert (error.__cause__, error.__context__) == (None, None)
    assert SECRET not in f"{error} {error!r} {error.__dict__}"
    assert SECRET.encode() not in pickle.dumps(error)


def test_an_answer_after_a_failed_attempt_is_taken(request_: StartPHIDetectionJobRequest) -> None:
    answers = iter([b"HTTP/1.1 2", http("200 OK", JOB, headers=JSON)])

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        sends(next(answers))(connection, stopping)

    with serving(behave) as server, PHIClient(endpoint_url=server.url, clock=FakeClock()) as client:
        response = client.start_phi_detection_job(request_)

    assert response.job_id == "0123456789abcdef0123456789abcdef"
    assert server.requests == 2


def test_a_refused_connection_has_started_nothing(request_: StartPHIDetectionJobRequest) -> None:
    # Bound, so that nobody else gets the port, but not listening.
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        error = attempt_twice(f"http://127.0.0.1:{unheard.getsockname()[1]}", request_)

    assert type(error) is TransportError
    assert not error.outcome_unknown
    assert error.retryable
    assert error.attempts == 2
    assert (error.__cause__, error.__context__) == (None, None)


def test_a_redirect_is_not_followed(request_: StartPHIDetectionJobRequest) -> None:
    with serving(sends(http("200 OK", JOB, headers=JSON))) as elsewhere:
        location = f"Location: {elsewhere.url}/\r\n".encode()
        with serving(sends(http("307 Moved", headers=location))) as server:
            attempt_twice(server.url, request_)

    assert elsewhere.requests == 0


@pytest.mark.parametrize("wait", ODD_WAITS)
def test_a_wait_that_cannot_be_read_is_ignored(
    wait: str, request_: StartPHIDetectionJobRequest
) -> None:
    header = f"Retry-After: {wait}\r\nDate: Mon, 01 Jan 2031 00:00:00 GMT\r\n".encode("latin-1")
    with serving(sends(http("429 Too Many Requests", headers=header))) as server:
        error = attempt_twice(server.url, request_)

    assert type(error) is ThrottlingException
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"Retry-After: 7\r\n", 7.0),
        (b"Retry-After: 0\r\n", 0.0),
        (b"x-amz-retry-after: 1500\r\n", 1.5),
        # The date counts from the answer's own: this machine's clock may be wrong.
        (
            b"Retry-After: Mon, 06 Jan 2031 00:00:30 GMT\r\n"
            b"Date: Mon, 06 Jan 2031 00:00:00 GMT\r\n",
            30.0,
        ),
        (
            b"Retry-After: Mon, 06 Jan 2031 00:00:00 GMT\r\n"
            b"Date: Mon, 06 Jan 2031 00:00:30 GMT\r\n",
            0.0,
        ),
        (b"Retry-After: Mon, 06 Jan 2031 00:00:30 GMT\r\n", None),
        (b"", None),
    ],
)
def test_the_wait_that_an_answer_asks_for_is_read(
    headers: bytes, expected: float | None, request_: StartPHIDetectionJobRequest
) -> None:
    with serving(sends(http("429 Too Many Requests", headers=headers))) as server:
        error = attempt_twice(server.url, request_)

    assert error.retry_after == expected


# --- What is never sent ---------------------------------------------------------------------------


@pytest.fixture
def uncredentialed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials anywhere: the metadata service is off, the files are empty."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("uncredentialed")
@pytest.mark.parametrize("half", [{}, {"AWS_ACCESS_KEY_ID": "testing"}])
def test_without_whole_credentials_nothing_is_sent_nor_tried_again(
    half: dict[str, str],
    request_: StartPHIDetectionJobRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in half.items():
        monkeypatch.setenv(name, value)
    clock = FakeClock()
    with (
        serving(nothing) as server,
        pytest.raises(TransportError) as caught,
        # A session of its own: boto3's default one keeps the credentials that it has found.
        PHIClient(session=boto3.Session(), endpoint_url=server.url, clock=clock) as client,
    ):
        client.start_phi_detection_job(request_)

    assert server.requests == 0
    error = caught.value
    assert type(error) is TransportError
    assert not error.retryable
    assert not error.outcome_unknown
    assert error.attempts == 1
    assert clock.sleeps == []
    assert "credentials" in str(error).lower()
    assert (error.__cause__, error.__context__) == (None, None)

"""Network failures during a call: raw sockets that reset, truncate, stall and send garbage."""

from __future__ import annotations

import ipaddress
import json
import os
import pickle
import re
import socket
import ssl
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, cast

import attrs
import boto3
import botocore
import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from comprehend_phi import (
    DoubleRetryWarning,
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
from comprehend_phi._client_base import s3_of
from comprehend_phi._results.boto3_storage import Boto3Storage
from comprehend_phi.testing import FakeClock

CallError = ServiceError | TransportError
Behave = Callable[[socket.socket, threading.Event], None]

# In the bodies and headers that the servers send here. No error may contain it.
SECRET = "Zinnia Quellwasser"


class RawServer:
    """Accept connections, read one request from each, and let `behave` do the rest."""

    def __init__(
        self, behave: Behave, *, reads: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        self.requests = 0
        self._tls = tls
        self._behave = behave
        self._reads = reads
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

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
        # A client that has given up resets the connection.
        with suppress(OSError), self._secured(connection) as secured:
            if self._reads:
                read_request(secured)
            self.requests += 1
            self._behave(secured, self._stopping)

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            raise

    def refuse(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            # Unlike closing, this wakes the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._stopping.set()
        self.refuse()
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
def serving(
    behave: Behave, *, reads: bool = True, tls: ssl.SSLContext | None = None
) -> Generator[RawServer, None, None]:
    server = RawServer(behave, reads=reads, tls=tls)
    try:
        yield server
    finally:
        server.stop()


# --- Ways to behave -------------------------------------------------------------------------------


def sends(data: bytes) -> Behave:
    def behave(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        # Wait until the client closes. Closing with unread bytes would reset the connection, and
        # the client might lose the end of the response.
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
    """Close the connection."""


HTML = f"<html><body><h1>{SECRET}</h1></body></html>".encode()
JSON = b"Content-Type: application/x-amz-json-1.1\r\n"
JOB = b'{"JobId": "0123456789abcdef0123456789abcdef", "Note": "%s"}' % SECRET.encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + JSON + b"\r\n"


class Case(NamedTuple):
    """How a server behaves, and the error of a call if it behaves like that every time."""

    id: str
    behave: Behave
    error: type[CallError]
    retried: bool = True
    unknown: bool = True
    reads: bool = True
    read_timeout: float = 60.0  # even an immediate response may be slow on a busy machine


# With botocore before 1.44, urllib3 2 notices a truncated body and reports a closed connection.
CUT_BODY = (
    MalformedResponseError
    if botocore.__version__ >= "1.44" or version("urllib3") < "2"
    else TransportError
)

CASES = (
    Case("closes after accept", nothing, TransportError, reads=False),
    # Not before the first byte, because that would race with the client's connect.
    Case("resets within the request", resets_within_the_request, TransportError, reads=False),
    Case("closes after the request", nothing, TransportError),
    Case("resets after the request", resets_after(b""), TransportError),
    Case("cut within the protocol", sends(b"HTTP/1."), TransportError),
    Case("cut within the status", sends(b"HTTP/1.1 2"), TransportError),
    Case("not HTTP", sends(b"SSH-2.0-%s\r\n" % SECRET.encode()), TransportError),
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
    Case("chunked, without a length", sends(CHUNKED + b"zz\r\n" + JOB), TransportError),
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
        "redirects and keeps the method",
        sends(http("307 Moved", b"", headers=b"Location: http://127.0.0.1:9/\r\n")),
        MalformedResponseError,
    ),
    Case(
        "no content",
        # Without this header, the next attempt could use a connection that is closing.
        sends(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        MalformedResponseError,
    ),
    Case("an HTML page", sends(http("200 OK", HTML)), MalformedResponseError),
    Case("a bad gateway", sends(http("502 Bad Gateway", HTML)), MalformedResponseError),
    Case("a gateway timeout", sends(http("504 Gateway Timeout")), MalformedResponseError),
    Case(
        "a proxy that asks for a login",
        sends(http("407 Proxy Authentication Required", HTML)),
        ServiceError,
        retried=False,
        unknown=False,
    ),
    Case(
        "a proxy that throttles",
        sends(http("429 Too Many Requests", HTML)),
        ThrottlingException,
        unknown=False,
    ),
    Case(
        "a very long header",
        sends(http("200 OK", JOB, headers=b"X-Big: " + SECRET.encode() * 5000 + b"\r\n")),
        TransportError,
    ),
    Case(
        "hundreds of headers",
        sends(http("200 OK", JOB, headers=b"".join(b"X-%d: a\r\n" % n for n in range(500)))),
        TransportError,
    ),
    Case(
        "not UTF-8",
        sends(http("200 OK", b'{"JobId": "\xff%s"}' % SECRET.encode(), headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "nested too deeply",
        sends(http("200 OK", b"[" * 200_000, headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "an error code that is not a string",
        sends(http("400 Bad Request", b'{"__type": 7}', headers=JSON)),
        MalformedResponseError,
    ),
    Case(
        "an error that is not a map",
        sends(http("400 Bad Request", b"[7]", headers=JSON)),
        MalformedResponseError,
    ),
)

# Values of Retry-After that RFC 9110 does not define. The response still means throttling.
UNREADABLE_WAITS = (
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
    """A request whose buckets do not exist, because no server here looks for them."""
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="clinic-notes"),
        output_data_config=OutputDataConfig(s3_bucket="clinic-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )


def attempt_twice(
    url: str, request: StartPHIDetectionJobRequest, read_timeout: float = 60.0
) -> CallError:
    """Start a job with two attempts, without a pause between them, and return the error."""
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
def test_a_network_failure_is_a_typed_error_without_the_response(
    case: Case, request_: StartPHIDetectionJobRequest
) -> None:
    with serving(case.behave, reads=case.reads) as server:
        error = attempt_twice(server.url, request_, case.read_timeout)

    assert type(error) is case.error
    assert error.retryable is case.retried
    assert error.outcome_unknown is case.unknown
    # One connection per attempt: neither botocore nor urllib3 retries.
    assert error.attempts == server.requests == (2 if case.retried else 1)
    assert error.client_request_token == request_.client_request_token
    assert (error.__cause__, error.__context__) == (None, None)
    assert SECRET not in f"{error} {error!r} {error.__dict__}"
    assert SECRET.encode() not in pickle.dumps(error)


def test_a_response_after_a_failed_attempt_is_returned(
    request_: StartPHIDetectionJobRequest,
) -> None:
    answers = iter([b"HTTP/1.1 2", http("200 OK", JOB, headers=JSON)])

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        sends(next(answers))(connection, stopping)

    with serving(behave) as server, PHIClient(endpoint_url=server.url, clock=FakeClock()) as client:
        response = client.start_phi_detection_job(request_)

    assert response.job_id == "0123456789abcdef0123456789abcdef"
    assert server.requests == 2


def test_after_a_refused_connection_the_outcome_is_known(
    request_: StartPHIDetectionJobRequest,
) -> None:
    # Bound, so that no other program gets the port, but not listening.
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


@pytest.mark.parametrize("wait", UNREADABLE_WAITS)
def test_an_unreadable_retry_after_is_ignored(
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
        # The date is relative to the response's own date: this machine's clock may be wrong.
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
def test_retry_after_is_read(
    headers: bytes, expected: float | None, request_: StartPHIDetectionJobRequest
) -> None:
    with serving(sends(http("429 Too Many Requests", headers=headers))) as server:
        error = attempt_twice(server.url, request_)

    assert error.retry_after == expected


# --- What is never sent ---------------------------------------------------------------------------


@pytest.fixture
def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all credentials. The metadata service is off, and the files are empty."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("without_credentials")
@pytest.mark.parametrize("half", [{}, {"AWS_ACCESS_KEY_ID": "testing"}])
def test_without_complete_credentials_nothing_is_sent_or_retried(
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
        # A new session, because boto3's default session keeps the credentials that it has found.
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


# --- Phases: what has been sent when a call fails -------------------------------------------------

PASSWORD = "quellwasser"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrusted certificate for 127.0.0.1, in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clinic.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Site:
    """The servers that a call may reach, and the settings of this machine."""

    def __init__(
        self, patch: pytest.MonkeyPatch, folder: Path, certificate: Path, tls: ssl.SSLContext
    ) -> None:
        self.patch = patch
        self.folder = folder
        self.certificate = certificate
        self.requests: list[RawServer] = []
        self.tls = tls
        self._stack = ExitStack()

    def serve(
        self, behave: Behave = nothing, *, reads: bool = True, tls: ssl.SSLContext | None = None
    ) -> str:
        """Start a server that is not the service, and return its URL."""
        return self._stack.enter_context(serving(behave, reads=reads, tls=tls)).url

    def service(self, *, tls: ssl.SSLContext | None = None) -> str:
        """Start a server in place of the service, and return its URL. No request may reach it."""
        server = self._stack.enter_context(serving(nothing, tls=tls))
        self.requests.append(server)
        return server.url

    def refused(self) -> str:
        """Return the URL of a port that refuses connections."""
        unheard = self._stack.enter_context(closing(socket.socket()))
        unheard.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unheard.getsockname()[1]}"

    def env(self, **variables: str) -> None:
        for name, value in variables.items():
            self.patch.setenv(name, value)

    def no_keys(self) -> None:
        self.patch.delenv("AWS_ACCESS_KEY_ID")
        self.patch.delenv("AWS_SECRET_ACCESS_KEY")

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificate: Path, tls: ssl.SSLContext
) -> Iterator[Site]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # A boto3 client that retries on its own sleeps with this.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=float))
    site = Site(monkeypatch, tmp_path, certificate, tls)
    yield site
    site.close()


def untrusted(site: Site) -> str:
    return site.service(tls=site.tls)


def with_a_certificate_for_another_name(site: Site) -> str:
    site.env(AWS_CA_BUNDLE=str(site.certificate))
    return site.service(tls=site.tls).replace("127.0.0.1", "localhost")


def with_a_missing_bundle(site: Site) -> str:
    site.env(AWS_CA_BUNDLE=str(site.folder / f"{PASSWORD}.pem"))
    return site.service(tls=site.tls)


def with_an_invalid_bundle(site: Site) -> str:
    (site.folder / "bundle.pem").write_text("-----BEGIN NOTHING-----")
    site.env(AWS_CA_BUNDLE=str(site.folder / "bundle.pem"))
    return site.service(tls=site.tls)


def without_a_bundle_for_requests(site: Site) -> str:
    site.env(REQUESTS_CA_BUNDLE=str(site.folder / f"{PASSWORD}.pem"))
    return site.service(tls=site.tls)


def without_tls(site: Site) -> str:
    return site.serve(sends(http("400 Bad Request")), reads=False).replace("http:", "https:")


def with_a_cut_handshake(site: Site) -> str:
    def cuts(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.recv(65536)

    return site.serve(cuts, reads=False).replace("http:", "https:")


def unheard(site: Site) -> str:
    return site.refused()


def unknown_host(site: Site) -> str:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    site.patch.setattr(socket, "getaddrinfo", unknown)
    return "https://clinic.example/path?query#fragment"


def behind_a_proxy_that_is_not_there(site: Site) -> str:
    url = site.refused().replace("//", f"//zinnia:{PASSWORD}@")
    site.env(HTTPS_PROXY=url)
    return "https://clinic.example"


def with_an_invalid_proxy_url(site: Site) -> str:
    site.env(HTTPS_PROXY=f"zinnia {PASSWORD}")
    return "https://clinic.example"


def with_an_invalid_proxy_host_name(site: Site) -> str:
    site.env(HTTPS_PROXY=f"http://zinnia..{PASSWORD}:3128")
    return "https://clinic.example"


def behind_a_proxy_of_another_kind(site: Site) -> str:
    site.env(HTTPS_PROXY=f"socks5://zinnia:{PASSWORD}@proxy.example:1080")
    return "https://clinic.example"


def behind_a_proxy_with_a_mistyped_scheme(site: Site) -> str:
    site.env(HTTPS_PROXY="htps://proxy.example:3128")
    return "https://clinic.example"


def behind_a_proxy_that_wants_a_password(site: Site) -> str:
    site.env(HTTPS_PROXY=site.serve(sends(http("407 Proxy Authentication Required"))))
    return "https://clinic.example"


def behind_a_proxy_that_fails(site: Site) -> str:
    site.env(HTTPS_PROXY=site.serve(sends(http("500 Internal Server Error"))))
    return "https://clinic.example"


def behind_an_untrusted_proxy(site: Site) -> str:
    site.env(HTTPS_PROXY=site.serve(tls=site.tls))
    return "https://clinic.example"


def with_a_line_break_in_the_key_id(site: Site) -> str:
    site.env(AWS_ACCESS_KEY_ID=f"{PASSWORD}\n")
    return site.service()


def with_a_line_break_in_the_token(site: Site) -> str:
    site.env(AWS_SESSION_TOKEN=f"{PASSWORD}\nX-Header: a")
    return site.service()


def with_a_line_break_in_the_region(site: Site) -> str:
    site.env(AWS_DEFAULT_REGION="us-east-1\n")
    return site.service()


def with_a_secret_that_is_not_text(site: Site) -> str:
    site.env(AWS_SECRET_ACCESS_KEY=os.fsdecode(b"\xff" + PASSWORD.encode()))
    return site.service()


def without_keys(site: Site) -> str:
    site.no_keys()
    return site.service()


def with_a_missing_token_file(site: Site) -> str:
    site.no_keys()
    site.env(
        AWS_WEB_IDENTITY_TOKEN_FILE=str(site.folder / PASSWORD),
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/reads-notes",
    )
    return site.service()


def with_expired_keys(site: Site) -> str:
    old = {
        "Version": 1,
        "AccessKeyId": "a",
        "SecretAccessKey": PASSWORD,
        "SessionToken": "c",
        "Expiration": "2001-01-01T00:00:00Z",
    }
    (site.folder / "old.json").write_text(json.dumps(old))
    program = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"
    (site.folder / "config").write_text(
        "[default]\n"
        f"credential_process = '{sys.executable}' -c '{program}' '{site.folder / 'old.json'}'\n"
    )
    site.no_keys()
    site.env(AWS_CONFIG_FILE=str(site.folder / "config"))
    return site.service()


def sts(site: Site, url: str) -> str:
    """Let the service at `url` hand out the credentials."""
    (site.folder / "token").write_text(PASSWORD)
    with_a_missing_token_file(site)
    site.env(AWS_WEB_IDENTITY_TOKEN_FILE=str(site.folder / "token"), AWS_ENDPOINT_URL_STS=url)
    return site.service()


def sts_that_is_not_there(site: Site) -> str:
    return sts(site, site.refused())


def sts_with_a_mistyped_scheme(site: Site) -> str:
    return sts(site, f"htps://{PASSWORD}.example")


def sts_that_hangs_up(site: Site) -> str:
    return sts(site, site.serve())


def sts_with_an_unusable_response(site: Site) -> str:
    return sts(site, site.serve(sends(http("200 OK", b"<html>"))))


def sts_that_answers(site: Site, status: str, code: str) -> str:
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{PASSWORD}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
    headers = b"Content-Type: text/xml\r\nRetry-After: 7\r\n"
    return sts(site, site.serve(sends(http(status, body.encode(), headers=headers))))


def sts_that_refuses(site: Site) -> str:
    return sts_that_answers(site, "403 Forbidden", "AccessDenied")


def sts_that_is_busy(site: Site) -> str:
    return sts_that_answers(site, "400 Bad Request", "Throttling")


def sts_that_fails(site: Site) -> str:
    return sts_that_answers(site, "500 Internal Server Error", "NoCode")


class Unsent(NamedTuple):
    """A call that cannot be sent, words in its error, and whether a retry may help."""

    arrange: Callable[[Site], str]
    says: tuple[str, ...]
    retried: bool = False


UNSENT = (
    Unsent(untrusted, ("the certificate of https://127.0.0.1:", "AWS_CA_BUNDLE", "ca_bundle")),
    Unsent(
        with_a_certificate_for_another_name,
        ("the certificate of https://localhost:", "AWS_CA_BUNDLE"),
    ),
    Unsent(with_a_missing_bundle, ("the CA bundle", "AWS_CA_BUNDLE", "verify=")),
    Unsent(with_an_invalid_bundle, ("the CA bundle", "AWS_CA_BUNDLE", "verify=")),
    Unsent(
        without_a_bundle_for_requests, ("the CA bundle", "cannot be read", "REQUESTS_CA_BUNDLE")
    ),
    Unsent(without_tls, ("the TLS handshake with https://127.0.0.1:", "endpoint_url")),
    Unsent(with_a_cut_handshake, ("could not connect to https://127.0.0.1:",), retried=True),
    Unsent(
        unheard,
        (
            "could not connect to http://127.0.0.1:",
            "region_name",
            "AWS_ENDPOINT_URL_COMPREHENDMEDICAL",
            "AWS_ENDPOINT_URL_S3",
        ),
        retried=True,
    ),
    Unsent(
        unknown_host,
        ("could not resolve the host name of https://clinic.example (", "region_name"),
        True,
    ),
    Unsent(
        behind_a_proxy_that_is_not_there,
        ("could not connect to the proxy http://127.0.0.1:", "HTTPS_PROXY"),
        retried=True,
    ),
    Unsent(with_an_invalid_proxy_url, ("the proxy", "not ", "HTTPS_PROXY")),
    Unsent(with_an_invalid_proxy_host_name, ("the URL", "not valid", "HTTPS_PROXY")),
    Unsent(behind_a_proxy_of_another_kind, ("the proxy must begin with http:// or", "HTTPS_PROXY")),
    Unsent(
        behind_a_proxy_with_a_mistyped_scheme,
        ("the proxy must begin with http:// or https://", "HTTPS_PROXY"),
    ),
    Unsent(
        behind_a_proxy_that_wants_a_password,
        ("the proxy http://127.0.0.1:", "HTTP 407", "HTTPS_PROXY"),
    ),
    Unsent(behind_a_proxy_that_fails, ("the proxy http://127.0.0.1:", "HTTP 500"), retried=True),
    Unsent(
        behind_an_untrusted_proxy,
        ("the certificate of the proxy ", "AWS_CA_BUNDLE"),
    ),
    Unsent(
        with_a_line_break_in_the_key_id,
        ("a header of the request is not valid HTTP (", "line breaks", "AWS_ACCESS_KEY_ID"),
    ),
    Unsent(with_a_line_break_in_the_token, ("line breaks", "AWS_SESSION_TOKEN")),
    Unsent(with_a_line_break_in_the_region, ("line breaks", "AWS_DEFAULT_REGION")),
    Unsent(with_a_secret_that_is_not_text, ("cannot be signed", "AWS_SECRET_ACCESS_KEY")),
    Unsent(without_keys, ("cannot be signed (NoCredentialsError)", "AWS_ACCESS_KEY_ID")),
    Unsent(
        with_a_missing_token_file,
        ("cannot be signed (FileNotFoundError)", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ),
    Unsent(with_expired_keys, ("cannot be signed (", "credential_process")),
    Unsent(
        sts_that_is_not_there,
        ("no credentials", "could not connect to http://127.0.0.1:"),
        retried=True,
    ),
    Unsent(sts_with_a_mistyped_scheme, ("no credentials", "the URL of the endpoint", "not valid")),
    Unsent(sts_that_hangs_up, ("no credentials", "the network failed", "AWS_PROFILE"), True),
    Unsent(sts_with_an_unusable_response, ("no credentials", "cannot be decoded"), retried=True),
    Unsent(
        sts_that_refuses,
        ("no credentials", "AssumeRoleWithWebIdentity", "AccessDenied", "role_arn"),
    ),
    Unsent(sts_that_is_busy, ("no credentials", "Throttling"), retried=True),
    Unsent(sts_that_fails, ("no credentials", "error NoCode"), retried=True),
)


@cache
def loader() -> Any:
    """One loader for all sessions, because it keeps the models that it has read."""
    return botocore.loaders.create_loader()


def fresh_session() -> Any:
    """Return a session that reads the settings. boto3's default session keeps what it has found."""
    core = botocore.session.Session()
    core.register_component("data_loader", loader())
    return boto3.Session(botocore_session=core)


@contextmanager
def client_of_ours(url: str, **options: Any) -> Generator[PHIClient, None, None]:
    with PHIClient(session=fresh_session(), endpoint_url=url, **options) as client:
        yield client


@contextmanager
def client_of_the_user(
    url: str, tries: int, mode: Literal["legacy", "standard"], **options: Any
) -> Generator[PHIClient, None, None]:
    config = Config(retries={"total_max_attempts": tries, "mode": mode})
    theirs = fresh_session().client("comprehendmedical", endpoint_url=url, config=config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DoubleRetryWarning)
        client = PHIClient(client=theirs, **options)
    yield client
    theirs.close()


client_of_the_user_without_retries = partial(client_of_the_user, tries=1, mode="standard")
client_of_the_user_with_retries = partial(client_of_the_user, tries=3, mode="standard")
# botocore's default before 1.44. It raises the last error once more, while it runs event handlers.
client_of_the_user_with_legacy_retries = partial(client_of_the_user, tries=3, mode="legacy")


@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(client_of_ours, id="ours"),
        pytest.param(client_of_the_user_with_retries, id="standard"),
        pytest.param(client_of_the_user_with_legacy_retries, id="legacy"),
    ],
)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.arrange.__name__) for case in UNSENT])
def test_the_error_says_that_nothing_was_sent_and_what_to_check(
    case: Unsent, connect: Any, site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    url = case.arrange(site)
    clock = FakeClock()
    with (
        connect(url, retry=RetryPolicy(max_attempts=2), clock=clock) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    error = caught.value
    assert type(error) is TransportError
    assert [server.requests for server in site.requests] == [0] * len(site.requests)
    assert not error.outcome_unknown
    assert error.retryable is case.retried
    assert error.attempts == (2 if case.retried else 1)
    assert "may have started" not in str(error)
    assert error.client_request_token == request_.client_request_token
    for words in case.says:
        assert words in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    assert PASSWORD not in f"{error} {error!r} {error.__dict__}".lower()
    assert PASSWORD.encode() not in pickle.dumps(error).lower()


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"signature_version": "x"}, "Config(signature_version=...)"),
        ({"signature_version": 5}, "Config(signature_version=...)"),
        ({"user_agent": "x\ny"}, "Config(user_agent=..., user_agent_extra=...)"),
        ({"user_agent_extra": "x\ny"}, "Config(user_agent=..., user_agent_extra=...)"),
    ],
)
def test_the_error_names_the_option_of_the_config_that_keeps_a_request_from_being_sent(
    options: dict[str, Any], advice: str, site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    url = site.service()
    with (
        client_of_ours(url, config=Config(**options), clock=FakeClock()) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert [server.requests for server in site.requests] == [0]
    assert (caught.value.outcome_unknown, caught.value.attempts) == (False, 1)
    assert advice in caught.value.advice
    assert "AWS_SECRET_ACCESS_KEY" not in caught.value.advice


@pytest.mark.parametrize("url", ["htps://clinic.example", "ftp://clinic.example", "http://a..b"])
def test_a_request_that_fails_before_it_has_a_connection_was_never_sent(
    url: str, site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    def change(request: Any, **_: Any) -> None:
        request.url = url

    session = fresh_session()
    session.events.register("before-send.comprehendmedical", change)
    with (
        PHIClient(session=session, endpoint_url=site.service(), clock=FakeClock()) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert [server.requests for server in site.requests] == [0]
    assert (caught.value.outcome_unknown, caught.value.attempts) == (False, 1)
    assert "the URL of the endpoint" in str(caught.value)


def test_a_request_that_boto3_refuses_to_build_was_never_sent(
    site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    with attrs.validators.disabled():
        broken = attrs.evolve(request_, job_name=cast("str", [PASSWORD]))
    with (
        client_of_the_user_without_retries(site.service()) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(broken)

    error = caught.value
    assert "boto3 cannot build the request (ParamValidationError)" in str(error)
    assert "AWS_ENDPOINT_URL" in error.advice
    assert (error.retryable, error.outcome_unknown, error.attempts) == (False, False, 1)
    assert PASSWORD not in f"{error} {vars(error)}"


@pytest.mark.parametrize(
    ("read", "operation"),
    [(Boto3Storage.read, "GetObject"), (Boto3Storage.keys, "ListObjectsV2")],
)
def test_reading_s3_fails_in_the_same_phases(read: Any, operation: str, site: Site) -> None:
    config = Config(retries={"total_max_attempts": 1})
    client = fresh_session().client("s3", endpoint_url=untrusted(site), config=config)
    with closing(client), pytest.raises(TransportError) as caught:
        read(Boto3Storage(lambda _: client, RetryPolicy(), FakeClock()), "clinic-results", "a")

    error = caught.value
    assert error.operation == operation
    assert re.search(r"the certificate of https://127\.0\.0\.1:\d+ is not trusted", str(error))
    assert (error.retryable, error.outcome_unknown, error.attempts) == (False, False, 1)


def test_a_proxy_password_with_a_slash_is_not_shown(
    site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    url = unknown_host(site)
    site.env(HTTPS_PROXY="http://zinnia:40404/quellwasser@proxy.example:3128")
    with (
        client_of_ours(url, retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert not caught.value.outcome_unknown
    assert "ProxyConnectionError" in str(caught.value)
    assert not re.search("40404|zinnia|quellwasser", f"{caught.value} {vars(caught.value)}")


def test_retry_after_from_the_source_of_credentials_is_kept(
    site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    with (
        client_of_ours(sts_that_is_busy(site), retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert caught.value.retry_after == 7.0


# --- Phases: what may have been sent --------------------------------------------------------------


def through_a_tunnel(site: Site) -> str:
    def hangs_up(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with site.tls.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)

    site.env(HTTPS_PROXY=site.serve(hangs_up), AWS_CA_BUNDLE=str(site.certificate))
    return "https://127.0.0.1"


def through_a_proxy_that_forwards(site: Site) -> str:
    site.env(HTTP_PROXY=site.serve())
    return "http://clinic.example"


# botocore raises ProxyConnectionError here, as if it had never reached the proxy.
@pytest.mark.parametrize("arrange", [through_a_tunnel, through_a_proxy_that_forwards])
def test_behind_a_proxy_the_outcome_is_unknown_once_the_request_was_sent(
    arrange: Callable[[Site], str], site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    with (
        client_of_ours(
            arrange(site), retry=RetryPolicy(max_attempts=2), clock=FakeClock()
        ) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert caught.value.outcome_unknown
    assert (caught.value.retryable, caught.value.attempts) == (True, 2)
    assert "Send the same request again" in str(caught.value)


def test_after_a_handshake_that_times_out_the_outcome_is_known(
    site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    # botocore raises ReadTimeoutError here, as if it had waited for the response.
    url = site.serve(stalls_after(b""), reads=False).replace("http:", "https:")
    config = Config(connect_timeout=0.2, read_timeout=60)
    with (
        client_of_ours(url, config=config, retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert "ReadTimeoutError" in str(caught.value)
    assert (caught.value.retryable, caught.value.outcome_unknown) == (True, False)


THROTTLED = http("400 Bad Request", b'{"__type": "ThrottlingException"}', headers=JSON)
FAILED = http("500 Internal Server Error", b'{"__type": "InternalServerException"}', headers=JSON)
ACCEPTED = http("200 OK", JOB, headers=JSON)


@pytest.mark.parametrize(
    "connect", [client_of_the_user_with_retries, client_of_the_user_with_legacy_retries]
)
@pytest.mark.parametrize(
    ("answers", "unknown"),
    [
        ([b"", b"", None], True),
        ([b"", THROTTLED, THROTTLED], True),
        ([THROTTLED, b"", THROTTLED], True),
        ([FAILED, THROTTLED, None], True),
        ([THROTTLED, THROTTLED, FAILED], True),
        ([THROTTLED, THROTTLED, THROTTLED], False),
        ([THROTTLED, THROTTLED, None], False),
        ([None, None, None], False),
    ],
)
def test_every_try_of_a_client_that_retries_on_its_own_counts(
    answers: list[bytes | None],
    unknown: bool,
    connect: Any,
    request_: StartPHIDetectionJobRequest,
    site: Site,
) -> None:
    # None: from then on, connections are refused.
    coming = pairwise([*answers, None])

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        answer, following = next(coming)
        # Refuse before responding. Otherwise the client may connect again first.
        if following is None:
            server.refuse()
        sends(answer or b"")(connection, stopping)

    with serving(behave) as server:
        if answers[0] is None:
            server.refuse()
        with (
            connect(server.url, retry=RetryPolicy(max_attempts=1)) as client,
            pytest.raises((TransportError, ServiceError)) as caught,
        ):
            client.start_phi_detection_job(request_)

    assert caught.value.outcome_unknown is unknown
    assert caught.value.attempts == 1
    assert server.requests == len([answer for answer in answers if answer is not None])


def test_the_tries_of_an_earlier_call_do_not_count(
    request_: StartPHIDetectionJobRequest, site: Site
) -> None:
    coming = iter([b"", b"", b"", THROTTLED, THROTTLED, THROTTLED])

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        sends(next(coming))(connection, stopping)

    unknown: list[bool] = []
    with (
        serving(behave) as server,
        client_of_the_user_with_retries(server.url, retry=RetryPolicy(max_attempts=1)) as client,
    ):
        for _ in range(2):
            with pytest.raises((TransportError, ServiceError)) as caught:
                client.start_phi_detection_job(request_)
            unknown.append(caught.value.outcome_unknown)

    assert unknown == [True, False]


def test_nested_calls_count_their_own_tries(
    request_: StartPHIDetectionJobRequest, site: Site
) -> None:
    coming = iter([b"", THROTTLED, THROTTLED])

    def behave(connection: socket.socket, stopping: threading.Event) -> None:
        sends(next(coming))(connection, stopping)

    once = RetryPolicy(max_attempts=1)
    others: list[bool] = []
    with (
        serving(behave) as server,
        serving(sends(THROTTLED)) as elsewhere,
        client_of_the_user_without_retries(elsewhere.url, retry=once) as other,
        client_of_the_user_with_retries(server.url, retry=once) as client,
    ):

        def call_the_other(**_: Any) -> None:
            with pytest.raises(ThrottlingException) as caught:
                other.start_phi_detection_job(request_)
            others.append(caught.value.outcome_unknown)

        events = s3_of(client).connection.client.meta.events
        events.register("needs-retry", call_the_other)
        with pytest.raises(ThrottlingException) as caught:
            client.start_phi_detection_job(request_)

    assert others == [False, False, False]
    assert caught.value.outcome_unknown


# --- Phases: what else the traceback shows --------------------------------------------------------


# The error that is being handled becomes the context of the error of the call.
@pytest.mark.parametrize("heard", [True, False])
def test_an_error_that_was_being_handled_around_the_call_does_not_count(
    heard: bool, site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    url = site.serve() if heard else untrusted(site)
    config = Config(retries={"total_max_attempts": 1})
    other = fresh_session().client("sts", endpoint_url=site.refused(), config=config)

    def start_while_handling_an_error(client: PHIClient) -> None:
        try:
            other.get_caller_identity()
        except EndpointConnectionError:
            client.start_phi_detection_job(request_)

    with (
        closing(other),
        client_of_ours(url, retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(TransportError) as caught,
    ):
        start_while_handling_an_error(client)

    assert caught.value.outcome_unknown is heard
    assert ("certificate" in str(caught.value)) is not heard


@pytest.mark.parametrize(
    ("event", "sent", "unknown"),
    [
        # Before the request is signed, nothing has been sent.
        ("provide-client-params", False, False),
        ("request-created", False, False),
        # A handler may send the request itself, and some run after the response.
        ("before-call", False, True),
        ("before-send", False, True),
        ("before-parse", True, True),
        ("response-received", True, True),
        ("needs-retry", True, True),
        ("after-call", True, True),
    ],
)
def test_a_failed_call_of_an_event_handler_does_not_decide_the_phase(
    event: str, sent: bool, unknown: bool, site: Site, request_: StartPHIDetectionJobRequest
) -> None:
    config = Config(retries={"total_max_attempts": 1})
    session = fresh_session()
    other = session.client("sts", endpoint_url=site.refused(), config=config)
    events = session._session.get_component("event_emitter")

    def ask_another(**_: Any) -> None:
        other.get_caller_identity()

    events.register(f"{event}.comprehendmedical", ask_another)
    with (
        closing(other),
        serving(sends(ACCEPTED)) as server,
        PHIClient(
            session=session, endpoint_url=server.url, retry=RetryPolicy(max_attempts=1)
        ) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.start_phi_detection_job(request_)

    assert server.requests == sent
    assert caught.value.outcome_unknown is unknown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)

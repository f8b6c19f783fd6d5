"""HTTP/1.1 as the local server speaks it: connections, bodies and status lines."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from socketserver import BaseServer

import pytest

from comprehend_phi.testing import FakeClock, LocalServer, faults
from comprehend_phi.testing.http_server import HTTPServer

LIST = {"X-Amz-Target": "ComprehendMedical_20181030.ListPHIDetectionJobs"}
S3 = {"Authorization": "AWS4-HMAC-SHA256 Credential=AK/20310102/us-east-1/s3/aws4_request"}
NO_JOBS: dict[str, list[str]] = {"ComprehendMedicalAsyncJobPropertiesList": []}


@pytest.fixture
def connection(server: LocalServer) -> Generator[http.client.HTTPConnection, None, None]:
    with closing(http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))) as opened:
        yield opened


@contextmanager
def plain_socket(server: LocalServer) -> Generator[socket.socket, None, None]:
    port = int(server.endpoint_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as opened:
        yield opened


def test_one_connection_carries_many_requests(
    connection: http.client.HTTPConnection, server: LocalServer
) -> None:
    server.storage.create_bucket("bucket")
    connection.connect()
    opened = connection.sock
    for method, path, headers, status, body in [
        ("POST", "/", LIST, 200, json.dumps(NO_JOBS).encode()),
        ("PUT", "/bucket/key", S3, 200, b""),
        ("HEAD", "/bucket/key", S3, 200, b""),
        ("GET", "/bucket/key", S3, 200, b"{}"),
        ("DELETE", "/bucket/key", S3, 204, b""),
        ("POST", "/", LIST, 200, json.dumps(NO_JOBS).encode()),
    ]:
        connection.request(method, path, b"{}", headers)
        response = connection.getresponse()
        assert (response.status, response.read()) == (status, body)
    assert connection.sock is opened


def test_the_client_can_ask_for_the_end_of_the_connection(
    connection: http.client.HTTPConnection,
) -> None:
    connection.request("POST", "/", b"{}", {**LIST, "Connection": "close"})
    response = connection.getresponse()
    assert response.will_close
    assert json.loads(response.read()) == NO_JOBS


def test_a_cut_response_ends_the_connection(
    connection: http.client.HTTPConnection, server: LocalServer
) -> None:
    server.service.script(faults.cut())
    connection.request("POST", "/", b"{}", LIST)
    response = connection.getresponse()
    assert response.will_close
    with pytest.raises(http.client.IncompleteRead):
        response.read()


def test_leaving_the_block_ends_idle_connections(clock: FakeClock) -> None:
    with LocalServer(clock=clock) as server:
        connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
        connection.request("POST", "/", b"{}", LIST)
        connection.getresponse().read()
    with closing(connection):
        assert connection.sock.recv(1) == b""


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, "OK"), (429, "Too Many Requests"), (503, "Service Unavailable")]
)
def test_the_status_line_has_the_standard_reason_phrase(
    server: LocalServer, connection: http.client.HTTPConnection, status: int, phrase: str
) -> None:
    server.service.script(faults.answer(status))
    connection.request("POST", "/", b"{}", LIST)
    response = connection.getresponse()
    assert (response.status, response.reason) == (status, phrase)
    response.read()


def test_a_status_without_a_standard_phrase_is_sent_without_one(
    server: LocalServer, connection: http.client.HTTPConnection
) -> None:
    server.service.script(faults.answer(599))
    connection.request("POST", "/", b"{}", LIST)
    assert connection.getresponse().status == 599


def test_a_chunked_request_body_is_read(connection: http.client.HTTPConnection) -> None:
    chunks = iter([b'{"MaxRes', b'ults": 501}'])
    connection.request("POST", "/", chunks, LIST, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 400
    assert "'501' at 'maxResults'" in json.loads(response.read())["Message"]
    # The body was read to its end, so the connection is still in order.
    connection.request("POST", "/", b"{}", LIST)
    assert json.loads(connection.getresponse().read()) == NO_JOBS


def test_chunk_extensions_and_trailers_are_ignored(server: LocalServer) -> None:
    server.storage.create_bucket("bucket")
    with plain_socket(server) as connection:
        connection.sendall(
            b"PUT /bucket/key HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;name=value\r\nab\r\n1\r\nc\r\n0\r\nTrailer: value\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.storage.read("bucket", "key") == b"abc"


@pytest.mark.parametrize(
    "framing",
    [
        b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
    ],
    ids=["chunked", "length", "negative length"],
)
def test_a_request_without_a_readable_body_is_refused(server: LocalServer, framing: bytes) -> None:
    with plain_socket(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + framing)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("rest", [b"", b"{", b"{}"], ids=["nothing", "half", "all"])
def test_a_client_that_closes_the_connection_is_no_error(
    server: LocalServer, rest: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with plain_socket(server) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
            b"X-Amz-Target: ComprehendMedical_20181030.ListPHIDetectionJobs\r\n\r\n" + rest
        )
    server.service.settle()
    assert capfd.readouterr() == ("", "")


def test_the_client_may_wait_until_the_server_wants_the_body(server: LocalServer) -> None:
    server.storage.create_bucket("bucket")
    with plain_socket(server) as connection:
        connection.sendall(
            b"PUT /bucket/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_error_of_the_application_is_printed_and_answered_with_500(
    capfd: pytest.CaptureFixture[str], serving: Callable[[BaseServer], AbstractContextManager[None]]
) -> None:
    def broken(*_: object) -> list[bytes]:
        raise ZeroDivisionError

    server = HTTPServer(0, broken)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with serving(server), closing(connection):
        connection.request("GET", "/")
        assert connection.getresponse().status == 500
    assert "ZeroDivisionError" in capfd.readouterr().err

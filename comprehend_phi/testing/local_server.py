"""The local service over HTTP beside an S3 of its own, for boto3, the AWS CLI and other SDKs.

One endpoint serves both. It listens on the loopback interface, since it checks no signature.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from werkzeug.serving import WSGIRequestHandler, make_server

from .._entities import Entity
from .clock import ServiceClock, WallClock
from .detector import detect
from .faults import Answer
from .s3 import OwnS3, account_id
from .service import Limits, LocalService
from .wire import TARGET_PREFIX, respond

if TYPE_CHECKING:
    from types import TracebackType

_HOST = "127.0.0.1"

_StartResponse = Callable[..., Any]


class LocalServer:
    """A local service and an S3 over HTTP on 127.0.0.1, in threads of this process.

    A context manager: it serves inside the block. Its jobs and its S3 belong to this server alone:
    `local_service`, `mock_aws` and other servers neither see nor change them. A POST to
    `/moto-api/reset` has the effect of `reset`.

    Args:
        port: where to listen; 0 takes a free one.
        clock: the time of its jobs and of the objects in its S3; without it, this machine's.
        detector: finds the entities of one text.
        job_seconds: how long a job runs.
        limits: the quotas of the account.

    Raises:
        OSError: the port is taken.

    Attributes:
        service: the service behind it, to script and to question.
        storage: its S3 without HTTP: `create_bucket`, `has_bucket`, `keys`, `read` and `write`.
        endpoint_url: where it is, for Comprehend Medical and for S3.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        clock: ServiceClock | None = None,
        detector: Callable[[str], Sequence[Entity]] = detect,
        job_seconds: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        clock = clock or WallClock()
        self.storage: OwnS3 = OwnS3(clock)
        self.service: LocalService = LocalService(
            self.storage,
            clock=clock,
            detector=detector,
            job_seconds=job_seconds,
            limits=limits,
            account_id=account_id(),
        )
        # A socket that werkzeug binds is one whose name it looks up, which may take a while.
        with socket.create_server((_HOST, port), backlog=128) as listening:
            self._server = make_server(
                _HOST,
                port,
                self._serve,
                threaded=True,
                request_handler=_QuietHandler,
                fd=listening.fileno(),
            )
        # The server looks this often whether it is to stop, in seconds.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.005,), daemon=True
        )
        self.endpoint_url: str = f"http://{_HOST}:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        """Forget all jobs and everything else that the service knows, and delete all buckets."""
        self.service.reset()
        self.storage.clear()

    def wait(self) -> None:
        """Return when somebody stops the server."""
        self._thread.join()

    def _serve(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api"):
            return self._administer(environ, start_response)
        if not environ.get("HTTP_X_AMZ_TARGET", "").startswith(TARGET_PREFIX):
            # A job that ended meanwhile has written its results before anybody looks for them.
            self.service.settle()
            return self.storage(environ, start_response)
        headers = {
            "x-amz-target": environ["HTTP_X_AMZ_TARGET"],
            "authorization": environ.get("HTTP_AUTHORIZATION", ""),
        }
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answer = respond(self.service, headers, body)
        if answer.delay:
            self.service.clock.sleep(answer.delay)
        if answer.reset:
            _reset(environ["werkzeug.socket"])
        start_response(f"{answer.status} Answer", _headers(answer))
        return [answer.body[: answer.sent]]

    def _administer(
        self, environ: dict[str, Any], start_response: _StartResponse
    ) -> Iterable[bytes]:
        """Answer a request to moto's own API, which would otherwise act on the whole process."""
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/moto-api/reset"):
            self.reset()
            status, body = "200 OK", b'{"status": "ok"}'
        else:
            status = "404 Not Found"
            body = b'{"error": "Of moto\'s API, this server only has POST /moto-api/reset."}'
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(status, headers)
        return [body]


def _headers(answer: Answer) -> list[tuple[str, str]]:
    headers = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
    if answer.sent is not None:
        headers.append(("Connection", "close"))
    return headers


def _reset(connection: socket.socket) -> None:
    """Reset a connection instead of closing it, and have werkzeug forget it."""
    # With a linger time of 0 a closed socket sends RST in place of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    raise ConnectionResetError


class _QuietHandler(WSGIRequestHandler):
    # Head and body are written one after the other: with Nagle's algorithm, the second waits 40 ms
    # for the receipt of the first.
    disable_nagle_algorithm = True

    def connection_dropped(self, *_: object, **__: object) -> None:
        """Read no further request from a connection that was reset."""
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: keys in URLs may name people."""

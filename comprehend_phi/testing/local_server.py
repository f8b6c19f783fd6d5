"""The local service and an S3 of its own over HTTP, for boto3, the AWS CLI and other SDKs.

Both have the same endpoint. It is on the loopback interface, because it does not check signatures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http.client import responses
from typing import Any, Self

from .clock import ServiceClock, WallClock
from .detector import Detector, detect
from .endpoint import HTTPResponse, respond
from .http_server import HOST, ConnectionReset, HTTPServer, StartResponse
from .journal import StartRecord
from .limits import Limits
from .protocols import find_call
from .rules import Rules
from .s3 import OwnS3, account_id
from .service import LocalService

_POLL_SECONDS = 0.005  # how often the server looks whether it should stop


class LocalServer:
    """A local service and an S3 over HTTP on 127.0.0.1, in threads of this process.

    Use it as a context manager: it serves requests inside the block. Its jobs and its S3 belong to
    this server alone. `local_service`, `mock_aws` and other servers neither see nor change them.
    A POST to `/moto-api/reset` has the effect of `reset`.

    Args:
        port: the port to listen on; 0 chooses a free one.
        clock: drives the jobs and dates the objects in S3. The default is this machine's clock.
        detector: finds the entities of one text.
        job_seconds: how long a job runs, in seconds.
        limits: the quotas of the account.
        rules: the rules that nobody outside AWS knows.
        on_start: receives a record of each start that the service has processed.

    Raises:
        OSError: the port is taken.

    Attributes:
        service: the service, for scheduling faults and looking at requests.
        storage: the S3 without HTTP: `create_bucket`, `has_bucket`, `keys`, `read` and `write`.
        endpoint_url: the URL for Comprehend Medical and for S3.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        clock: ServiceClock | None = None,
        detector: Detector = detect,
        job_seconds: float = 1.0,
        limits: Limits | None = None,
        rules: Rules | None = None,
        on_start: Callable[[StartRecord], object] | None = None,
    ) -> None:
        clock = clock or WallClock()
        self.storage: OwnS3 = OwnS3(clock)
        self.service: LocalService = LocalService(
            self.storage,
            clock=clock,
            detector=detector,
            job_seconds=job_seconds,
            limits=limits,
            rules=rules,
            on_start=on_start,
            account_id=account_id(),
        )
        self._server = HTTPServer(port, self._serve)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True
        )
        self.endpoint_url: str = f"http://{HOST}:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        """Forget all jobs and everything else that the service knows, and delete all buckets."""
        self.service.reset()
        self.storage.clear()

    def wait(self) -> None:
        """Block until the server is stopped."""
        self._thread.join()

    def _serve(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/moto-api"):
            return self._administer(environ, start_response)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        call = find_call(environ["PATH_INFO"], headers)
        if call is None:
            # Jobs that have ended write their results before anybody looks for them.
            self.service.settle()
            return self.storage(environ, start_response)
        body = environ["wsgi.input"].read()
        return _send(respond(self.service, call, headers, body), start_response)

    def _administer(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request to moto's own API, which would otherwise act on the whole process."""
        status, body = (
            404,
            b'{"error": "Of moto\'s API, this server only has POST /moto-api/reset."}',
        )
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/moto-api/reset"):
            self.reset()
            status, body = 200, b'{"status": "ok"}'
        headers = {"Content-Type": "application/json"}
        return _send(HTTPResponse(status=status, headers=headers, body=body), start_response)


def _send(response: HTTPResponse, start_response: StartResponse) -> Iterable[bytes]:
    if response.reset:
        raise ConnectionReset
    headers = [*response.headers.items(), ("Content-Length", str(len(response.body)))]
    if response.sent is not None:
        headers.append(("Connection", "close"))
    start_response(f"{response.status} {responses.get(response.status, '')}", headers)
    return [response.body if response.sent is None else response.sent]

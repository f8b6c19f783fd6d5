"""An S3 server that fails when a test says so: a local service's S3 over HTTP of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

from attrs import field, frozen

from comprehend_phi.testing.http_server import ConnectionReset, HTTPServer, StartResponse
from comprehend_phi.testing.s3 import OwnS3

_OPERATIONS = {
    ("GET", "list-type"): "ListObjectsV2",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("POST", "delete"): "DeleteObjects",
    ("PUT", ""): "PutObject",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("DELETE", ""): "DeleteObject",
}


@frozen
class S3Request:
    """A request, as S3 sees it."""

    operation: str
    bucket: str
    key: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    prefix: str = ""  # of a listing


@frozen
class S3Fault:
    """What to do instead of answering a request."""

    works: bool = False  # whether S3 carries out the request first
    answer: tuple[int, bytes] | None = None  # without it, the connection is reset
    alter: Callable[[bytes], bytes] | None = None  # changes the body of S3's own answer


def refused(code: str, status: int, *, works: bool = False) -> S3Fault:
    body = f"<Error><Code>{code}</Code><Message>It says Zinnia</Message></Error>"
    return S3Fault(works, (status, body.encode()))


LOST = S3Fault(works=True)
RESET = S3Fault()
THROTTLED = refused("SlowDown", 503)

Rule = Callable[[S3Request], S3Fault | None]


class S3Server(HTTPServer):
    """Answers as `storage` does, unless a rule returns a fault.

    Attributes:
        requests: the requests so far.
        rules: each is called with each request, until one returns a fault.
    """

    def __init__(self, storage: OwnS3) -> None:
        super().__init__(0, self._serve)
        self.storage = storage
        self.requests: list[S3Request] = []
        self.rules: list[Rule] = []
        self.url = f"http://127.0.0.1:{self.port}"

    def script(self, operation: str, *faults: S3Fault | None, key: str | None = None) -> None:
        """Answer the next requests of one operation with these faults; None lets one pass."""
        left = list(faults)

        def rule(request: S3Request) -> S3Fault | None:
            if left and request.operation == operation and key in (None, request.key):
                return left.pop(0)
            return None

        self.rules.append(rule)

    def before(
        self,
        operation: str,
        act: Callable[[S3Request], object],
        *,
        number: int = 1,
        key: str | None = None,
    ) -> None:
        """Call `act` before request `number` of an operation is answered, counted from now."""
        left = [number]

        def rule(request: S3Request) -> None:
            if request.operation == operation and key in (None, request.key):
                left[0] -= 1
                if left[0] == 0:
                    act(request)

        self.rules.append(rule)

    def counts(self) -> Counter[str]:
        """Return the number of requests of each operation."""
        return Counter(request.operation for request in self.requests)

    def _serve(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = _request(environ)
        self.requests.append(request)
        environ["wsgi.input"] = BytesIO(request.body)
        fault = next(filter(None, (rule(request) for rule in self.rules)), None)
        if fault is None:
            return self.storage(environ, start_response)
        if fault.alter is not None:
            body = fault.alter(b"".join(self.storage(environ, lambda *_: None)))
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        if fault.works:
            b"".join(self.storage(environ, lambda *_: None))
        if fault.answer is None:
            raise ConnectionReset
        status, body = fault.answer
        start_response(f"{status} Status", [("Content-Length", str(len(body)))])
        return [body]


def _request(environ: Mapping[str, Any]) -> S3Request:
    path: str = environ["PATH_INFO"].encode("latin-1").decode()
    bucket, _, key = path.removeprefix("/").partition("/")
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    marks = {*query, ""}
    method: str = environ["REQUEST_METHOD"]
    operation = next(
        name for (verb, mark), name in _OPERATIONS.items() if verb == method and mark in marks
    )
    if operation == "PutObject" and "x-amz-copy-source" in headers:
        operation = "CopyObject"
    prefix = query.get("prefix", [""])[0]
    return S3Request(operation, bucket, key, headers, environ["wsgi.input"].read(), prefix)

"""Responses of a handler in this process, which takes the place of the network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders


class CannedResponse:
    """Respond to each request with the same JSON.

    Register the object for `before-send`: botocore uses what it returns as the service's response.
    """

    def __init__(self, members: object) -> None:
        self._body = _Body(json.dumps(members).encode())
        self._headers = HTTPHeaders()
        self._headers["Content-Type"] = "application/x-amz-json-1.1"
        self._headers["Content-Length"] = str(len(self._body.content))
        self._headers["x-amzn-RequestId"] = "01234567-89ab-cdef-0123-456789abcdef"

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, self._headers, self._body)


class _Body:
    """The body of a response, with the one method that botocore uses."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def stream(self) -> Iterator[bytes]:
        """Yield the whole body."""
        yield self.content

"""The endpoint of the local service: one HTTP request in, one HTTP response out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from attrs import field, frozen

from .faults import Response, error_response
from .protocols import Call, WireProtocol
from .service import LocalService
from .validation import RequestRefused


@frozen(kw_only=True)
class HTTPResponse:
    """One HTTP response.

    Attributes:
        body: the whole body, whose length is announced.
        sent: the part of the body that is sent before the connection is closed; None sends all of
            it and keeps the connection open.
        reset: whether the connection is reset instead of any response.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    sent: bytes | None = field(default=None, repr=False)
    reset: bool = False


def respond(
    service: LocalService, call: Call, headers: Mapping[str, str], body: bytes
) -> HTTPResponse:
    """Let the service process a request, unless a fault is scheduled, and return the response.

    Args:
        service: processes the request; its clock passes the time of slow responses.
        call: the operation and the protocol of the request.
        headers: the request's headers, with lower-case names.
        body: the request's body.
    """
    try:
        members: Any = call.protocol.decode(body)
    except ValueError:
        members = None
    if isinstance(members, dict):
        members = cast("dict[str, Any]", members)
        response = _respond(service, call.operation, members, _region(headers))
    else:
        response = error_response(
            "SerializationException", "The body is not a structure in the protocol's format.", 400
        )
    if response.delay:
        service.clock.sleep(response.delay)
    return _encode(response, call.protocol)


def _respond(
    service: LocalService, operation: str, members: dict[str, Any], region: str
) -> Response:
    fault = service.next_fault(operation, members)
    response = Response()
    if fault is None or fault.works:
        try:
            response = Response(content=service.perform(operation, members, region))
        except RequestRefused as error:
            response = error_response(error.code, error.message, error.status)
    return fault.alter(response) if fault else response


def _encode(response: Response, protocol: WireProtocol) -> HTTPResponse:
    if isinstance(response.content, bytes):
        body, headers = response.content, {}
    else:
        body = protocol.encode(response.content)
        headers = {"x-amzn-RequestId": str(uuid4()), **protocol.headers}
    share = response.sent_share
    return HTTPResponse(
        status=response.status,
        headers={**headers, **response.headers},
        body=body,
        sent=None if share is None else body[: int(len(body) * share)],
        reset=response.reset,
    )


def _region(headers: Mapping[str, str]) -> str:
    """Return the region that the request was signed for. Signatures are not checked."""
    credential = headers.get("authorization", "").partition("Credential=")[2]
    scope = credential.partition(",")[0].split("/")
    # access key / date / region / service / aws4_request
    return scope[2] if len(scope) > 4 else "us-east-1"

"""Faults for `LocalService.script`.

Each function returns one `Fault`. Some faults keep the service from processing the request. The
others replace or damage the response afterwards: then a job has started, but the caller may never
learn its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

from attrs import evolve, field, frozen

_JSON = {"Content-Type": "application/x-amz-json-1.1"}


@frozen(kw_only=True)
class Response:
    """One response of the service.

    Attributes:
        status: the HTTP status.
        content: members, which are encoded in the protocol of the request, or bytes, which are sent
            as they are. The response to members has a request id, like those of the service.
        headers: headers besides those that the protocol adds.
        sent_share: how much of the body is sent before the connection is closed, from 0 to 1; None
            sends all of it and keeps the connection open.
        reset: whether the connection is reset instead of any response.
        delay: how long the response takes, in seconds of the service's clock.
    """

    status: int = 200
    content: Mapping[str, Any] | bytes = field(factory=dict[str, Any], repr=False)
    headers: Mapping[str, str] = field(factory=dict[str, str])
    sent_share: float | None = None
    reset: bool = False
    delay: float = 0.0


@frozen(kw_only=True)
class Fault:
    """One scripted fault.

    Attributes:
        works: whether the service processes the request.
        alter: takes the real response, which is empty if the service did not process the request,
            and returns the response to send instead.
    """

    works: bool
    alter: Callable[[Response], Response]


def error_response(
    code: str, message: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error of the service."""
    return Response(
        status=status, content={"__type": code, "Message": message}, headers=headers or {}
    )


def answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, works: bool = False
) -> Fault:
    """Send any response. Like that of a proxy, it has a request id only if `headers` does."""
    response = Response(status=status, content=body, headers=headers or {})
    return Fault(works=works, alter=lambda _: response)


def error(
    code: str,
    message: str = "",
    status: int = 400,
    headers: Mapping[str, str] | None = None,
    *,
    works: bool = False,
) -> Fault:
    """Send any error of the service, in the protocol of the request."""
    response = error_response(code, message, status, headers)
    return Fault(works=works, alter=lambda _: response)


def passes() -> Fault:
    """Let one call pass unharmed, so that the next fault waits for the call after it."""
    return Fault(works=True, alter=lambda real: real)


def throttle(headers: Mapping[str, str] | None = None) -> Fault:
    """Send the error of the rate limit, as seen at Amazon Comprehend (boto/botocore issue 1946)."""
    return error("ThrottlingException", "Rate exceeded", 429, headers)


def too_many_requests() -> Fault:
    """Send the throttling error of the service model."""
    return error("TooManyRequestsException", "Too many requests, slow down")


def job_limit(limit: int = 10) -> Fault:
    """Send the error of the job limit, as seen at Amazon Comprehend (boto/botocore issue 1946)."""
    return error(
        "TooManyRequestsException",
        f"ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is {limit}.",
    )


def server_error(*, works: bool = False) -> Fault:
    """Send an InternalServerException, with `works` after processing the request."""
    return error("InternalServerException", "An internal error occurred", 500, works=works)


def unavailable() -> Fault:
    """Send a ServiceUnavailableException."""
    return error("ServiceUnavailableException", "Try again later", 503)


def reset_before() -> Fault:
    """Reset the connection after reading the request, without processing it."""
    return Fault(works=False, alter=lambda real: evolve(real, reset=True))


def reset_after() -> Fault:
    """Process the request, then reset the connection."""
    return Fault(works=True, alter=lambda real: evolve(real, reset=True))


def cut(keep: float = 0.5) -> Fault:
    """Process the request, but close the connection after a share of the response, from 0 to 1."""
    return Fault(works=True, alter=lambda real: evolve(real, sent_share=keep))


def empty_map() -> Fault:
    """Process the request, but send an empty map with status 200, without a JobId."""
    response = Response()
    return Fault(works=True, alter=lambda _: response)


def html(status: int = 200, *, works: bool = True) -> Fault:
    """Send the HTML page of a proxy."""
    body = b"<html><body><h1>It works!</h1></body></html>"
    return answer(status, body, {"Content-Type": "text/html"}, works=works)


def not_utf8(status: int = 200) -> Fault:
    """Process the request, but send a body that is not UTF-8."""
    return answer(status, b'{"JobId": "\xff\xfe"}', _JSON, works=True)


def slow(seconds: float) -> Fault:
    """Delay the response by `seconds` of the service's clock."""
    return Fault(works=True, alter=lambda real: evolve(real, delay=seconds))


def random_faults(seed: int, share: float) -> Iterator[Fault | None]:
    """Yield a fault or None for each call, without end.

    Args:
        seed: determines the sequence.
        share: the share of calls that meet a fault, from 0 to 1.
    """
    faults = (
        throttle(),
        too_many_requests(),
        server_error(),
        server_error(works=True),
        unavailable(),
        reset_before(),
        reset_after(),
        cut(),
        cut(0.0),
        empty_map(),
        html(),
        html(503, works=False),
        not_utf8(),
    )
    random = Random(seed)  # noqa: S311 - tests need a sequence that can be repeated
    while True:
        yield random.choice(faults) if random.random() < share else None

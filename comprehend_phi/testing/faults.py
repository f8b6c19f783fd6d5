"""What can go wrong on the way: the faults that `LocalService.script` takes.

Each function returns one `Fault`. A fault either keeps the service from doing the work or spoils
the answer after it; with the latter a job has been started although the caller does not hear of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

_JSON = {"Content-Type": "application/x-amz-json-1.1"}


@frozen(kw_only=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: the HTTP status.
        headers: without Content-Length.
        body: the whole body.
        sent: how many bytes of the body are sent before the connection is closed.
        reset: the connection is reset instead of any answer.
        delay: seconds that pass before the answer.
    """

    status: int
    headers: Mapping[str, str] = _JSON
    body: bytes = b""
    sent: int | None = None
    reset: bool = False
    delay: float = 0.0


@frozen(kw_only=True)
class Fault:
    """One scripted misfortune.

    Attributes:
        works: whether the service does the work before the answer is spoilt.
        spoil: the answer that is sent in place of the real one.
    """

    works: bool
    spoil: Callable[[Answer], Answer]


def error_answer(code: str, message: str, status: int) -> Answer:
    """An error as the service words it in AWS JSON 1.1."""
    body = json.dumps({"__type": code, "Message": message}).encode()
    return Answer(status=status, body=body)


def answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, works: bool = False
) -> Fault:
    """Any answer at all."""
    spoilt = Answer(status=status, body=body, headers=headers or {})
    return Fault(works=works, spoil=lambda _: spoilt)


def error(
    code: str,
    message: str = "",
    status: int = 400,
    headers: Mapping[str, str] | None = None,
    *,
    works: bool = False,
) -> Fault:
    """Any error of the service, in its own form."""
    spoilt = error_answer(code, message, status)
    return Fault(works=works, spoil=lambda _: evolve(spoilt, headers={**_JSON, **(headers or {})}))


def passes() -> Fault:
    """No fault: the call goes through, and the next fault waits for the call after it."""
    return Fault(works=True, spoil=lambda real: real)


def throttle(headers: Mapping[str, str] | None = None) -> Fault:
    """The rate limit, as seen on the sister service (boto/botocore issue 1946)."""
    return error("ThrottlingException", "Rate exceeded", 429, headers)


def too_many_requests() -> Fault:
    """The throttling that the service model knows."""
    return error("TooManyRequestsException", "Too many requests, slow down")


def job_limit(limit: int = 10) -> Fault:
    """All job slots taken, as seen on the sister service (boto/botocore issue 1946)."""
    return error(
        "TooManyRequestsException",
        f"ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is {limit}.",
    )


def server_error(*, works: bool = False) -> Fault:
    """An InternalServerException, before or after the work."""
    return error("InternalServerException", "An internal error occurred", 500, works=works)


def unavailable() -> Fault:
    """A ServiceUnavailableException."""
    return error("ServiceUnavailableException", "Try again later", 503)


def reset_before() -> Fault:
    """The connection is reset when the request has been read, before the work."""
    return Fault(works=False, spoil=lambda real: evolve(real, reset=True))


def reset_after() -> Fault:
    """The connection is reset after the work."""
    return Fault(works=True, spoil=lambda real: evolve(real, reset=True))


def cut(keep: float = 0.5) -> Fault:
    """The answer ends after this share of its body."""
    return Fault(works=True, spoil=lambda real: evolve(real, sent=int(len(real.body) * keep)))


def empty_map() -> Fault:
    """A 200 answer with an empty map in place of the real one: no JobId."""
    return answer(200, b"{}", _JSON, works=True)


def html(status: int = 200, *, works: bool = True) -> Fault:
    """A page of some proxy."""
    body = b"<html><body><h1>It works!</h1></body></html>"
    return answer(status, body, {"Content-Type": "text/html"}, works=works)


def not_utf8(status: int = 200) -> Fault:
    """A body that is no text."""
    return answer(status, b'{"JobId": "\xff\xfe"}', _JSON, works=True)


def slow(seconds: float) -> Fault:
    """The real answer, `seconds` of the service's clock later."""
    return Fault(works=True, spoil=lambda real: evolve(real, delay=seconds))

"""Write the log records of this package: one logger, and the same fields on every record.

A record contains operations, codes, our own reasons and advice, ids, counts and times. It never
contains a key, a job name, a message of the service or document text.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, TypedDict, Unpack

from .errors import ServiceError, TransportError

_logger = logging.getLogger("comprehend_phi")


class ErrorFields(TypedDict, total=False):
    """The fields that describe an error."""

    client_request_token: str | None
    request_id: str | None
    code: str | None
    reason: str | None
    advice: str | None


class LogFields(ErrorFields, total=False):
    """The fields of a record besides its operation."""

    job_id: str | None
    attempt: int
    poll: int
    delay: float | None
    job_status: str | None
    documents: int
    left_out: int


FIELDS = ("operation", *LogFields.__annotations__)
_IDS = ("job_id", "client_request_token", "request_id")

# The job that this thread or task is working on.
_job_id: ContextVar[str | None] = ContextVar("comprehend_phi_job_id", default=None)


class JobContext:
    """Add `job_id` to the records in the block that have no job id of their own."""

    def __init__(self, job_id: str | None) -> None:
        self._job_id = job_id

    def __enter__(self) -> None:
        self._before = _job_id.get()
        _job_id.set(self._job_id)

    def __exit__(self, *exc_info: object) -> None:
        # Not `reset`: it fails if an unfinished task is collected in another context.
        _job_id.set(self._before)


def code_or_reason(error: ServiceError | TransportError) -> str:
    """Return the service's error code or, without one, our reason."""
    return error.reason if isinstance(error, TransportError) else error.code


def error_fields(error: ServiceError | TransportError) -> ErrorFields:
    """Return the fields that describe an error."""
    return {
        "client_request_token": error.client_request_token,
        "request_id": getattr(error, "request_id", None),
        "code": getattr(error, "code", None),
        "reason": getattr(error, "reason", None),
        "advice": error.advice or None,
    }


def log(level: int, text: str, *args: object, operation: str, **fields: Unpack[LogFields]) -> None:
    """Log a record about `operation`.

    Args:
        level: the level, such as `logging.INFO`.
        text: the message, with `%` placeholders.
        args: the values for the placeholders.
        operation: the service's name of the operation, or our own name, such as `redacted`.
        fields: the values of other fields. The message ends with the ids among them.
    """
    if not _logger.isEnabledFor(level):
        return
    # Every record has all fields, so a format string may name any of them.
    record: dict[str, Any] = {**dict.fromkeys(FIELDS), **fields, "operation": operation}
    record["job_id"] = record["job_id"] or _job_id.get()
    ids = [f"{name}={record[name]}" for name in _IDS if record[name] is not None]
    template = f"%s: {text}%s"
    ending = f" ({', '.join(ids)})" if ids else ""
    _logger.log(level, template, operation, *args, ending, extra=record, stacklevel=2)

"""The log records of this package: one logger, one form, the same fields on each.

A record shows what names nobody: operations, codes, our own reasons and advice, ids, counts and
times. It never shows a key, a job name, a message of the service or a text.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import TransportError

if TYPE_CHECKING:
    from .errors import ServiceError

_logger = logging.getLogger("comprehend_phi")

_IDS = ("job_id", "client_request_token", "request_id")
_OTHERS = (
    "attempt",
    "poll",
    "delay",
    "code",
    "reason",
    "advice",
    "job_status",
    "documents",
    "left_out",
)
FIELDS = ("operation", *_IDS, *_OTHERS)

# The job that this thread or task is busy with.
_job_id: ContextVar[str | None] = ContextVar("comprehend_phi_job_id", default=None)


@contextmanager
def job_context(job_id: str | None) -> Generator[None, None, None]:
    """Put this job id on all records of the block that have none of their own."""
    before = _job_id.get()
    _job_id.set(job_id)
    try:
        yield
    finally:
        # Not `reset`, which fails if a task that never ended is cleared away in another context.
        _job_id.set(before)


def code_or_reason(error: ServiceError | TransportError) -> str:
    """Return what ended a call, in the words of a record: the service's code or our reason."""
    return error.reason if isinstance(error, TransportError) else error.code


def error_fields(error: ServiceError | TransportError) -> dict[str, Any]:
    """Return the fields that an error fills."""
    return {
        "client_request_token": error.client_request_token,
        "request_id": getattr(error, "request_id", None),
        "code": getattr(error, "code", None),
        "reason": getattr(error, "reason", None),
        "advice": error.advice or None,
    }


def log(level: int, text: str, *args: object, operation: str, **fields: Any) -> None:
    """Log a record about a call of `operation`.

    Args:
        level: one of logging's.
        text: the template of the text.
        args: what fills the template.
        operation: the service's name of the call, or what is done instead.
        fields: those of `FIELDS` that are known. The text ends with the ids among them.
    """
    if not _logger.isEnabledFor(level):
        return
    # The record has all fields, so that a format may name any of them.
    record = {**dict.fromkeys(FIELDS), **fields, "operation": operation}
    record["job_id"] = record["job_id"] or _job_id.get()
    ids = [f"{name}={record[name]}" for name in _IDS if record[name] is not None]
    template = f"%s: {text}%s"
    ending = f" ({', '.join(ids)})" if ids else ""
    _logger.log(level, template, operation, *args, ending, extra=record, stacklevel=2)

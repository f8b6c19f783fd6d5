"""Run one attempt at a call, so that only our errors leave it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from .error_responses import error_from_response
from .failures import error_from

if TYPE_CHECKING:
    from botocore.client import BaseClient

    from .codec import Params

_T = TypeVar("_T")


class _Tries(threading.local):
    """What happened to the requests of the attempt that this thread is making.

    A boto3 client that retries on its own sends several requests per attempt, but what it raises
    describes the last one only.

    Attributes:
        outcome_unknown: whether the service may have carried out one of them.
    """

    outcome_unknown = False


_tries = _Tries()


def run_attempt(send: Callable[[], _T], operation: str, params: Params) -> _T:
    """Return what `send` returns. Turn what it raises into our error, without cause and context.

    Args:
        send: sends the request once and decodes the response.
        operation: the service's name of the operation.
        params: what is sent. The error contains its token and masks its names and keys.

    Raises:
        ServiceError: the service returned an error.
        TransportError: there is no usable response.
    """
    # An event handler may make a call of its own in the middle of this one.
    outer, _tries.outcome_unknown = _tries.outcome_unknown, False
    try:
        return send()
    # boto3, an event handler of the user and our decoder may raise anything. Its message and the
    # locals in its traceback may contain the request or the response.
    except Exception as cause:  # noqa: BLE001 - any error may quote the request or the response
        error = error_from(cause, operation, params)
        error.outcome_unknown |= _tries.outcome_unknown
    finally:
        _tries.outcome_unknown = outer
    # Raised outside the block above, the error has neither a cause nor a context.
    raise error


def track_tries(client: BaseClient) -> None:
    """Report every request of a self-retrying boto3 client to `run_attempt`."""
    client.meta.events.register("response-received", _note_try, unique_id="comprehend_phi")


def _note_try(exception: Exception | None, parsed_response: Any, **_: Any) -> None:
    if exception is not None:
        error = error_from(exception, "", {})
    elif parsed_response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.MULTIPLE_CHOICES:
        error = error_from_response(parsed_response, {}, {"operation": ""})
    else:
        return
    _tries.outcome_unknown |= error.outcome_unknown

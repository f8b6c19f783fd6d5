"""Turn an error response of the service into one of our errors.

The error code alone decides the class. AWS's API reference and its service model give the same
code different HTTP statuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from .._masking import mask, mask_words
from ..errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ExpiredTokenException,
    InternalServerException,
    MalformedResponseError,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
)
from . import advice
from .codec import Params, private_values, text_of

ERRORS: dict[str, type[ServiceError]] = {
    # These classes have the names of the service's codes.
    **{cls.__name__: cls for cls in ServiceError.__subclasses__()},
    # Any AWS service can return these (AWS General Reference, common errors).
    "InternalFailure": InternalServerException,
    "InternalError": InternalServerException,
    "InternalServerError": InternalServerException,
    "ServiceUnavailable": ServiceUnavailableException,
    "AccessDenied": AccessDeniedException,
    "ExpiredToken": ExpiredTokenException,
    # The codes that botocore's standard retries treat as throttling.
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottledException",
            "RequestThrottledException",
            "RequestThrottled",
            "TooManyRequests",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "ProvisionedThroughputExceededException",
            "TransactionInProgressException",
            "PriorRequestNotComplete",
            "EC2ThrottledException",
            "SlowDown",
        ),
        ThrottlingException,
    ),
}
# Two writes of one S3 object met (S3's list of errors, which says to try again).
_CONFLICTS = frozenset({"ConditionalRequestConflict", "OperationAborted"})
# How AWS rejects credentials (AWS General Reference, common errors, and S3's list of errors).
_BAD_CREDENTIALS = frozenset(
    {
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# The server could not read the request in time. These mean the same as HTTP 408.
_TIMED_OUT = frozenset({"RequestTimeout", "RequestTimeoutException"})
_ACTIVE_JOB_LIMIT = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"

# What the status of a response to a HEAD request means, in place of its code.
_WITHOUT_BODY: dict[int | None, type[ServiceError]] = {
    HTTPStatus.INTERNAL_SERVER_ERROR: InternalServerException,
    HTTPStatus.SERVICE_UNAVAILABLE: ServiceUnavailableException,
}

# The form of an error code is our rule. Anything else in its place did not come from AWS.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_DIGITS = re.compile(r"[0-9]{1,9}")

# Our rule: ignore requests to wait longer than this. Seconds.
_LONGEST_WAIT = 3600.0


def error_from_response(
    response: Mapping[str, Any], params: Params, call: Mapping[str, Any]
) -> ServiceError | TransportError:
    """Return our error for an error response.

    Args:
        response: the response as botocore parsed it.
        params: what was sent. Names and keys in it are masked in the service's message.
        call: the arguments that every error of this call gets.
    """
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode")
    call = {
        **call,
        "status_code": status,
        "request_id": metadata.get("RequestId") or None,  # botocore puts "" if there is none
        "retry_after": _retry_after(metadata.get("HTTPHeaders", {})),
    }
    error = response.get("Error", {})
    # For a response without a code, botocore puts the HTTP status into Code, and into Message
    # whatever the body was.
    code = str(error.get("Code") or "")
    has_code = _CODE.fullmatch(code) is not None
    message = str(error.get("Message") or "") if has_code else ""

    cls = ERRORS.get(code)
    if cls is TooManyRequestsException and _ACTIVE_JOB_LIMIT in message:
        cls = ActiveJobLimitExceeded
    if cls is None and status == HTTPStatus.TOO_MANY_REQUESTS:
        cls = ThrottlingException
    timed_out = status == HTTPStatus.REQUEST_TIMEOUT or code in _TIMED_OUT
    # AWS's errors have a code, except for responses to HEAD requests, which have no body. So if any
    # other response with a request id has no code, its body was damaged on the way.
    has_no_body = call["operation"].startswith("Head")
    damaged = not has_code and call["request_id"] and not has_no_body
    if cls is None and has_no_body:
        cls = _WITHOUT_BODY.get(status)
    if cls is None and (timed_out or damaged or not _is_refusal(status, has_code)):
        reason = f"error {code}" if has_code else "an error without a code"
        return MalformedResponseError(reason=f"the service returned {reason}", **call)
    cls = cls or ServiceError
    service_error = cls(
        code=code if has_code else str(status),
        message=mask_words(mask(message, private_values(params)), text_of(params)),
        # A server can fail after it has done the work.
        outcome_unknown=cls in (InternalServerException, ServiceUnavailableException),
        **call,
    )
    if code in _CONFLICTS:
        service_error.retryable = True
    if code in _BAD_CREDENTIALS:
        service_error.advice = advice.CREDENTIALS
    return service_error


def is_retried(code: str) -> bool:
    """Return whether an error with this code is retried, whatever its HTTP status."""
    return code in _CONFLICTS or (code in ERRORS and ERRORS[code].retryable)


def _is_refusal(status: int | None, has_code: bool) -> bool:
    # S3 redirects with an error code. A redirect without one did not come from AWS.
    lowest = HTTPStatus.MULTIPLE_CHOICES if has_code else HTTPStatus.BAD_REQUEST
    return status is not None and lowest <= status < HTTPStatus.INTERNAL_SERVER_ERROR


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait, at most an hour.

    `x-amz-retry-after` is in milliseconds. `Retry-After` is in seconds or a date (RFC 9110,
    10.2.3). The date is compared with the response's own `Date`, so this machine's clock does not
    matter.
    """
    milliseconds = headers.get("x-amz-retry-after", "").strip()
    if _DIGITS.fullmatch(milliseconds):
        return min(_LONGEST_WAIT, int(milliseconds) / 1000)
    seconds = headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(seconds):
        return min(_LONGEST_WAIT, float(seconds))
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        wait = parsedate_to_datetime(seconds) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return min(_LONGEST_WAIT, max(0.0, wait.total_seconds()))

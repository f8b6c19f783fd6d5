"""Between the service's dicts and our models, botocore's errors and ours.

Only this module knows the service's spelling. Decoding checks types, never the rules for what we
send: whatever AWS answers in the right form is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar, cast

from .errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ExpiredTokenException,
    InternalServerException,
    InvalidRequestException,
    MalformedResponseError,
    ResourceNotFoundException,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
    mask,
)
from .models import (
    DescribePHIDetectionJobRequest,
    InputDataConfig,
    JobPage,
    JobProperties,
    JobStatus,
    ListPHIDetectionJobsRequest,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)

Members = Mapping[str, Any]
_T = TypeVar("_T")

# --- Requests to dicts ----------------------------------------------------------------------------


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def encode_start(request: StartPHIDetectionJobRequest) -> dict[str, Any]:
    """The members of a StartPHIDetectionJob request."""
    source, target = request.input_data_config, request.output_data_config
    return _present(
        InputDataConfig=_present(S3Bucket=source.s3_bucket, S3Key=source.s3_key),
        OutputDataConfig=_present(S3Bucket=target.s3_bucket, S3Key=target.s3_key),
        DataAccessRoleArn=request.data_access_role_arn,
        LanguageCode=request.language_code,
        JobName=request.job_name,
        KMSKey=request.kms_key,
        ClientRequestToken=request.client_request_token,
    )


def encode_job_id(
    request: DescribePHIDetectionJobRequest | StopPHIDetectionJobRequest,
) -> dict[str, Any]:
    """The members of a DescribePHIDetectionJob or StopPHIDetectionJob request."""
    return {"JobId": request.job_id}


def encode_list(request: ListPHIDetectionJobsRequest) -> dict[str, Any]:
    """The members of a ListPHIDetectionJobs request."""
    wanted = request.filter
    return _present(
        Filter=wanted
        and _present(
            JobName=wanted.job_name,
            JobStatus=wanted.job_status and str(wanted.job_status),
            SubmitTimeBefore=wanted.submit_time_before,
            SubmitTimeAfter=wanted.submit_time_after,
        ),
        MaxResults=request.max_results,
        NextToken=request.next_token,
    )


# --- Dicts to responses ---------------------------------------------------------------------------


class Malformed(Exception):
    """An answer lacks what it must contain; the one argument says what, without any value."""


def _member(members: Members, name: str, kind: type[_T]) -> _T | None:
    value = members.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise Malformed(f"its {name} is of type {type(value).__name__}, not {kind.__name__}")


def _required(members: Members, name: str, kind: type[_T]) -> _T:
    value = _member(members, name, kind)
    if not value:
        raise Malformed(f"it has no {name}")
    return value


def _map(members: Members, name: str) -> Members | None:
    return cast("Members | None", _member(members, name, dict))


def _time(members: Members, name: str) -> datetime | None:
    value = _member(members, name, datetime)
    return value and value.astimezone(timezone.utc)


def _unchecked(cls: type[_T], **members: Any) -> _T:
    """An instance of a model without its validators.

    attrs' own switch would turn them off for every thread of the process.
    """
    instance = object.__new__(cls)
    for name, value in members.items():
        object.__setattr__(instance, name, value)
    return instance


def _location(members: Members, name: str, cls: type[_T]) -> _T | None:
    location = _map(members, name)
    if location is None:
        return None
    return _unchecked(
        cls, s3_bucket=_member(location, "S3Bucket", str), s3_key=_member(location, "S3Key", str)
    )


def _job_properties(members: Members) -> JobProperties:
    return JobProperties(
        job_id=_required(members, "JobId", str),
        job_status=JobStatus(_required(members, "JobStatus", str)),
        job_name=_member(members, "JobName", str),
        message=_member(members, "Message", str),
        submit_time=_time(members, "SubmitTime"),
        end_time=_time(members, "EndTime"),
        expiration_time=_time(members, "ExpirationTime"),
        input_data_config=_location(members, "InputDataConfig", InputDataConfig),
        output_data_config=_location(members, "OutputDataConfig", OutputDataConfig),
        language_code=_member(members, "LanguageCode", str),
        data_access_role_arn=_member(members, "DataAccessRoleArn", str),
        manifest_file_path=_member(members, "ManifestFilePath", str),
        kms_key=_member(members, "KMSKey", str),
        model_version=_member(members, "ModelVersion", str),
    )


def decode_start(answer: Members) -> StartPHIDetectionJobResponse:
    """The answer to StartPHIDetectionJob. Raises Malformed without a JobId."""
    return StartPHIDetectionJobResponse(job_id=_required(answer, "JobId", str))


def decode_describe(answer: Members) -> JobProperties:
    """The answer to DescribePHIDetectionJob. Raises Malformed without JobId or JobStatus."""
    name = "ComprehendMedicalAsyncJobProperties"
    job = _map(answer, name)
    if job is None:
        raise Malformed(f"it has no {name}")
    return _job_properties(job)


def decode_list(answer: Members) -> JobPage:
    """The answer to ListPHIDetectionJobs. Raises Malformed without its list, be it an empty one.

    A cut answer comes out of botocore as an empty map: without this it would read as "no jobs".
    """
    name = "ComprehendMedicalAsyncJobPropertiesList"
    jobs = cast("list[Members] | None", _member(answer, name, list))
    if jobs is None:
        raise Malformed(f"it has no {name}")
    return JobPage(
        jobs=tuple(_job_properties(job) for job in jobs),
        next_token=_member(answer, "NextToken", str) or None,
    )


def decode_stop(answer: Members) -> str:
    """The answer to StopPHIDetectionJob, a job id. Raises Malformed without one."""
    return _required(answer, "JobId", str)


# --- Errors ---------------------------------------------------------------------------------------

# By code only: AWS's API reference and service model give the same code different HTTP statuses.
_ERRORS: dict[str, type[ServiceError]] = {
    "InternalServerException": InternalServerException,
    "InvalidRequestException": InvalidRequestException,
    "ResourceNotFoundException": ResourceNotFoundException,
    "TooManyRequestsException": TooManyRequestsException,
    "ValidationException": ValidationException,
    "ServiceUnavailableException": ServiceUnavailableException,
    "AccessDeniedException": AccessDeniedException,
    "ExpiredTokenException": ExpiredTokenException,
    # What AWS's front doors answer for any service (AWS General Reference, common errors).
    "InternalFailure": InternalServerException,
    "InternalError": InternalServerException,
    "InternalServerError": InternalServerException,
    "ServiceUnavailable": ServiceUnavailableException,
    "AccessDenied": AccessDeniedException,
    "ExpiredToken": ExpiredTokenException,
    # The codes that botocore's own standard retries know as throttling.
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
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
_ACTIVE_JOB_LIMIT = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"

# botocore raises these before a byte of the request has left.
_NEVER_CONNECTED = frozenset(
    {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError"}
)

# What comes out of botocore's parser when a body is not UTF-8, not a map, or has impossible times.
_PARSING = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)

# What counts as an error code is our rule: anything else in its place is a stranger's body.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_DIGITS = re.compile(r"[0-9]{1,9}")

# The same as HTTP 408 under any status: the server did not get to read the request in time.
_TIMED_OUT = frozenset({"RequestTimeout", "RequestTimeoutException"})

# Our rule: who asks for a longer wait is not meant to be waited for. Seconds.
_LONGEST_WAIT = 3600.0
_BAD_REQUEST, _REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 400, 408, 429, 500


def attempt(call: Callable[[], _T], operation: str, request: Members) -> _T:
    """What `call` returns; what it raises, as an error of ours without cause and context.

    Args:
        call: sends the members `request` once, and decodes the answer.
        operation: its name at the service.
        request: what is sent, for the token and for masking what the service quotes.
    """
    try:
        return call()
    # Whatever boto3, an event handler of the user's or our decoding raises: they may be in its
    # message, or among the locals of its traceback.
    except Exception as cause:  # noqa: BLE001 - none may carry a request or an answer out of here
        error = error_from(cause, operation, request)
    # Out here, the error has neither a cause nor a context that would carry the answer's body.
    raise error


def error_from(cause: Exception, operation: str, request: Members) -> ServiceError | TransportError:
    """The error of ours for `cause`, which a call with the members `request` ended in.

    To be raised outside the `except` block that caught `cause`: botocore's errors hold bodies.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as BotocoreConnectionError
    from botocore.parsers import ResponseParserError

    kind = type(cause).__name__
    call: dict[str, Any] = {
        "operation": operation,
        "client_request_token": request.get("ClientRequestToken"),
    }
    if isinstance(cause, ClientError):
        return _from_answer(cause.response, request, call)
    if isinstance(cause, Malformed):
        return MalformedResponseError(reason=f"the answer is not usable: {cause}", **call)
    if isinstance(cause, (HTTPClientError, BotocoreConnectionError)):
        return TransportError(
            reason=f"the network failed ({kind})",
            outcome_unknown=kind not in _NEVER_CONNECTED,
            **call,
        )
    if isinstance(cause, BotoCoreError) and not isinstance(cause, IncompleteReadError):
        return TransportError(
            reason=f"the request was not sent ({kind}); check credentials and configuration",
            outcome_unknown=False,
            retryable=False,
            **call,
        )
    if isinstance(cause, (ResponseParserError, IncompleteReadError, *_PARSING)):
        return MalformedResponseError(reason=f"the answer cannot be decoded ({kind})", **call)
    return TransportError(
        reason=f"something other than botocore failed during the call ({kind})",
        retryable=False,
        **call,
    )


def _from_answer(
    answer: Members, request: Members, call: dict[str, Any]
) -> ServiceError | TransportError:
    metadata = answer.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    status = metadata.get("HTTPStatusCode")
    call = {
        **call,
        "status_code": status,
        "request_id": metadata.get("RequestId"),
        "retry_after": _retry_after(headers),
    }
    error = answer.get("Error", {})
    # Without a code, botocore puts the HTTP status there and a stranger's body into Message.
    code = str(error.get("Code") or "")
    named = _CODE.fullmatch(code) is not None
    words = str(error.get("Message") or "") if named else ""

    cls = _ERRORS.get(code)
    if cls is TooManyRequestsException and _ACTIVE_JOB_LIMIT in words:
        cls = ActiveJobLimitExceeded
    if cls is None and status == _TOO_MANY_REQUESTS:
        cls = ThrottlingException
    timed_out = status == _REQUEST_TIMEOUT or code in _TIMED_OUT
    if cls is None and (timed_out or not _is_refusal(status)):
        reason = f"error {code}" if named else "an error without a code"
        return MalformedResponseError(reason=f"the service answered with {reason}", **call)
    cls = cls or ServiceError
    return cls(
        code=code if named else str(status),
        message=mask(words, _private_values(request)),
        # A server that failed may have failed after the work.
        outcome_unknown=cls in (InternalServerException, ServiceUnavailableException),
        **call,
    )


def _is_refusal(status: int | None) -> bool:
    return status is not None and _BAD_REQUEST <= status < _SERVER_ERROR


def _private_values(request: Members) -> tuple[str | None, ...]:
    """The values of a request that no message may show: they may name people."""
    locations = (request.get("InputDataConfig", {}), request.get("OutputDataConfig", {}))
    return (
        request.get("JobName"),
        request.get("Filter", {}).get("JobName"),
        *(location.get("S3Key") for location in locations),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, at most an hour.

    `x-amz-retry-after` counts milliseconds; `Retry-After` is seconds or a date (RFC 9110, 10.2.3),
    which is held against the answer's own `Date`, so that this machine's clock does not matter.
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

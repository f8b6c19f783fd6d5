"""The service's error responses become our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore import exceptions as boto
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ExpiredTokenException,
    InternalServerException,
    InvalidEncodingException,
    InvalidRequestException,
    MalformedResponseError,
    ResourceNotFoundException,
    ServiceError,
    ServiceUnavailableException,
    TextSizeLimitExceededException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
)
from comprehend_phi._service.error_responses import ERRORS
from comprehend_phi._service.failures import error_from

from ..conftest import CANARY

PARAMS = {"JobName": "monday", "ClientRequestToken": "token-1"}


CLASSES: dict[str, type[ServiceError]] = {
    "InternalServerException": InternalServerException,
    "InvalidRequestException": InvalidRequestException,
    "ResourceNotFoundException": ResourceNotFoundException,
    "TooManyRequestsException": TooManyRequestsException,
    "ValidationException": ValidationException,
    "ServiceUnavailableException": ServiceUnavailableException,
    "AccessDeniedException": AccessDeniedException,
    "ExpiredTokenException": ExpiredTokenException,
    "TextSizeLimitExceededException": TextSizeLimitExceededException,
    "InvalidEncodingException": InvalidEncodingException,
    "ThrottlingException": ThrottlingException,
    "InternalFailure": InternalServerException,
    "InternalError": InternalServerException,
    "InternalServerError": InternalServerException,
    "ServiceUnavailable": ServiceUnavailableException,
    "AccessDenied": AccessDeniedException,
    "ExpiredToken": ExpiredTokenException,
    "Throttling": ThrottlingException,
    "ThrottledException": ThrottlingException,
    "RequestThrottledException": ThrottlingException,
    "RequestThrottled": ThrottlingException,
    "TooManyRequests": ThrottlingException,
    "RequestLimitExceeded": ThrottlingException,
    "BandwidthLimitExceeded": ThrottlingException,
    "LimitExceededException": ThrottlingException,
    "ProvisionedThroughputExceededException": ThrottlingException,
    "TransactionInProgressException": ThrottlingException,
    "PriorRequestNotComplete": ThrottlingException,
    "EC2ThrottledException": ThrottlingException,
    "SlowDown": ThrottlingException,
}
SLOTS = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is 10."


def client_error(
    code: str,
    message: str = "no",
    status: int | None = 400,
    headers: Any = None,
    request_id: str = "request-1",
) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "HTTPHeaders": headers or {},
            "RequestId": request_id,
        },
    }
    return boto.ClientError(response, "StartPHIDetectionJob")


def start_error(
    cause: Exception, params: Mapping[str, Any] = PARAMS
) -> ServiceError | TransportError:
    return error_from(cause, "StartPHIDetectionJob", params)


def test_the_table_of_error_codes_is_complete() -> None:
    # A code that is added to the table must be added here too.
    assert CLASSES == ERRORS


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
@pytest.mark.parametrize("code", CLASSES)
def test_the_error_code_alone_decides_the_class(code: str, status: int) -> None:
    error = start_error(client_error(code, "no coffee", status))

    assert type(error) is CLASSES[code]
    assert isinstance(error, ServiceError)
    assert (error.code, error.message, error.status_code) == (code, "no coffee", status)
    assert (error.operation, error.request_id) == ("StartPHIDetectionJob", "request-1")
    assert (error.client_request_token, error.attempts) == ("token-1", 1)


@pytest.mark.parametrize("code", ["InvalidRequestException", "503"])
def test_an_empty_request_id_is_none(code: str) -> None:
    error = start_error(client_error(code, "no coffee", 503, request_id=""))

    assert isinstance(error, (ServiceError, MalformedResponseError))
    assert error.request_id is None


@pytest.mark.parametrize("status", [400, 429])
def test_taken_job_slots_are_distinguished_from_a_rate_limit(status: int) -> None:
    error = start_error(client_error("TooManyRequestsException", SLOTS, status))

    assert type(error) is ActiveJobLimitExceeded
    assert error.message == SLOTS


def test_the_message_of_the_job_limit_does_not_count_with_another_code() -> None:
    assert type(start_error(client_error("InvalidRequestException", SLOTS))) is (
        InvalidRequestException
    )


# The request's values are masked in the message. This must not hide the code of the job limit.
@pytest.mark.parametrize("name", ["ACTIVE", "LIMIT", "COUNT_LIMIT", "EXCEEDED"])
def test_the_job_limit_is_recognized_even_if_masking_would_hide_it(name: str) -> None:
    params = {**PARAMS, "JobName": name}
    error = start_error(client_error("TooManyRequestsException", SLOTS), params)

    assert type(error) is ActiveJobLimitExceeded


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        (code, cls in (InternalServerException, ServiceUnavailableException))
        for code, cls in CLASSES.items()
    ],
)
def test_the_outcome_is_unknown_only_if_the_server_failed(code: str, unknown: bool) -> None:
    assert start_error(client_error(code)).outcome_unknown is unknown


@pytest.mark.parametrize("status", [400, 403, 404, 499])
def test_a_client_error_with_an_unknown_code_is_a_service_error(status: int) -> None:
    error = start_error(client_error("TeapotException", "no coffee", status))

    assert type(error) is ServiceError
    assert (error.code, error.message, error.retryable) == ("TeapotException", "no coffee", False)
    assert not error.outcome_unknown


def test_status_429_with_an_unknown_code_is_throttling() -> None:
    error = start_error(client_error("SlowPlease", status=429))

    assert type(error) is ThrottlingException
    assert error.code == "SlowPlease"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_with_an_unknown_code_is_malformed(status: int) -> None:
    error = start_error(client_error("TeapotException", CANARY, status))

    assert type(error) is MalformedResponseError
    assert (error.status_code, error.request_id) == (status, "request-1")
    assert (error.retryable, error.outcome_unknown) == (True, True)
    assert "TeapotException" in error.reason
    assert CANARY not in f"{error!r} {vars(error)}"


# Without a code, botocore uses the status as code, and the body or its own text as message. A
# response without a request id did not come from AWS.
@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (300, MalformedResponseError),
        (302, MalformedResponseError),
        (400, ServiceError),
        (403, ServiceError),
        (404, ServiceError),
        (408, MalformedResponseError),
        (413, ServiceError),
        (429, ThrottlingException),
        (500, MalformedResponseError),
        (502, MalformedResponseError),
        (503, MalformedResponseError),
    ],
)
@pytest.mark.parametrize("code", ["status", ""])
def test_without_a_code_the_status_decides_the_class(
    status: int, cls: type[ServiceError | TransportError], code: str
) -> None:
    html = f"<html>{CANARY}</html>"
    error = start_error(client_error(code and str(status), html, status, request_id=""))

    assert type(error) is cls
    assert error.client_request_token == "token-1"
    assert error.outcome_unknown is (cls is MalformedResponseError)
    assert error.retryable is (cls is not ServiceError)
    assert CANARY not in f"{error} {error!r} {vars(error)}"
    if isinstance(error, ServiceError):
        assert (error.code, error.message) == (str(status), "")


@pytest.mark.parametrize("code", ["<html>", "a b", f"{CANARY}", "x" * 101, "7Exception", "Zé"])
def test_text_that_does_not_look_like_a_code_is_ignored(code: str) -> None:
    error = start_error(client_error(code, CANARY, request_id=""))

    assert isinstance(error, ServiceError)
    assert (error.code, error.message) == ("400", "")


@pytest.mark.parametrize("code", ["400", "", "<html>"])
@pytest.mark.parametrize("status", [300, 400, 403, 404, 413, 500])
def test_a_response_of_aws_without_a_code_was_damaged_on_the_way(status: int, code: str) -> None:
    error = start_error(client_error(code, f'{{"Message": "{CANARY}', status))

    assert type(error) is MalformedResponseError
    assert (error.retryable, error.outcome_unknown) == (True, True)
    assert (error.status_code, error.request_id) == (status, "request-1")
    assert (error.client_request_token, error.operation) == ("token-1", "StartPHIDetectionJob")
    assert error.reason == "the service returned an error without a code"
    assert CANARY not in f"{error} {error!r} {vars(error)}"


@pytest.mark.parametrize("operation", ["HeadObject", "HeadBucket"])
@pytest.mark.parametrize("status", [400, 403, 404])
def test_the_response_to_a_head_request_has_no_body_and_so_no_code(
    status: int, operation: str
) -> None:
    error = error_from(client_error(str(status), "Forbidden", status), operation, {})

    assert type(error) is ServiceError
    assert (error.code, error.message, error.retryable) == (str(status), "", False)


@pytest.mark.parametrize("operation", ["HeadObject", "HeadBucket"])
@pytest.mark.parametrize(
    ("status", "kind"), [(500, InternalServerException), (503, ServiceUnavailableException)]
)
def test_the_status_says_what_failed_if_a_head_request_fails_at_s3(
    status: int, kind: type[ServiceError], operation: str
) -> None:
    error = error_from(client_error(str(status), "Slow Down", status), operation, {})

    assert isinstance(error, kind)
    assert (error.code, error.message, error.retryable) == (str(status), "", True)


@pytest.mark.parametrize(
    "response",
    [{}, {"Error": {}}, {"Error": {"Code": None}}, {"ResponseMetadata": {"HTTPStatusCode": 300}}],
)
def test_an_error_without_its_usual_parts_is_malformed(response: Any) -> None:
    error = start_error(boto.ClientError(response, "StartPHIDetectionJob"))

    assert isinstance(error, MalformedResponseError)
    assert error.reason == "the service returned an error without a code"


@pytest.mark.parametrize("words", [{}, {"Message": None}, {"Message": ""}])
def test_an_error_without_a_message_has_an_empty_one(words: Any) -> None:
    response: Any = {
        "Error": {"Code": "ThrottlingException", **words},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    error = start_error(boto.ClientError(response, "StartPHIDetectionJob"))

    assert type(error) is ThrottlingException
    assert error.message == ""


@pytest.mark.parametrize(
    "code",
    [
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
    ],
)
def test_rejected_credentials_come_with_advice_on_their_settings(code: str) -> None:
    # For example after a line break in the secret key, which only the service can notice.
    error = start_error(client_error(code, status=403))

    assert type(error) is ServiceError
    assert (error.retryable, error.outcome_unknown) == (False, False)
    assert "AWS_SECRET_ACCESS_KEY" in error.advice
    assert error.advice in str(error)


# --- What the service quotes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        f"Value '{CANARY}' at 'jobName' failed to satisfy constraint",
        f"1 validation error detected: Value '{CANARY}' at 'inputDataConfig.s3Key' failed",
        f"cannot list s3://notes.example/{CANARY}",
        f"the job {CANARY} is there already; {CANARY}",
    ],
)
@pytest.mark.parametrize(
    "members",
    [
        {"JobName": CANARY},
        {"InputDataConfig": {"S3Bucket": "notes.example", "S3Key": CANARY}},
        {"OutputDataConfig": {"S3Bucket": "notes.example", "S3Key": CANARY}},
        {"Filter": {"JobName": CANARY}},
    ],
    ids=["job name", "input key", "output key", "filter"],
)
def test_names_and_keys_of_the_request_are_masked_in_the_message(
    message: str, members: dict[str, Any]
) -> None:
    cause = client_error("InvalidRequestException", message)
    error = error_from(cause, "StartPHIDetectionJob", members)

    assert isinstance(error, InvalidRequestException)
    assert "***" in error.message
    assert CANARY not in f"{error} {error!r} {vars(error)}"


# --- Retry-After ----------------------------------------------------------------------------------

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "999999999"}, 3600.0),  # our rule: no wait is longer
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "0"}, 0.0),
        # AWS's own header is more precise.
        ({"x-amz-retry-after": "1500", "retry-after": "7"}, 1.5),
        ({"x-amz-retry-after": "soon", "retry-after": "7"}, 7.0),
        # Dates are relative to the response's own date, not to this machine's clock.
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 13:00:30 +0100", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:30 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "today"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000", "date": DATE}, None),
        # Values without a meaning.
        ({"retry-after": ""}, None),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan", "date": DATE}, None),
        ({"retry-after": "\u0667"}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "1" * 400}, None),
        ({"retry-after": "1" * 10_000}, None),
        ({"x-amz-retry-after": "-1"}, None),
        ({"x-amz-retry-after": "1" * 10_000}, None),
        ({"retry-after": "Sun, 01 Mar 99999999999999999999 12:00:00 GMT", "date": DATE}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:00 +99999999999999999999", "date": DATE}, None),
        ({"retry-after": DATE, "date": "Sun, 01 Mar 99999999999999999999 12:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    error = start_error(client_error("ThrottlingException", status=429, headers=headers))

    assert type(error) is ThrottlingException
    assert error.retry_after == seconds


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.text(max_size=40),
                st.builds(
                    "Sun, {} Mar {} {}:00:00 {}".format,
                    st.integers(-9, 40),
                    st.integers(-9, 10**20),
                    st.integers(-9, 30),
                    st.one_of(st.just("GMT"), st.integers(-(10**20), 10**20)),
                ),
            )
            for name in ("retry-after", "x-amz-retry-after", "date")
        },
    )
)
def test_no_header_makes_parsing_fail(headers: dict[str, str]) -> None:
    error = start_error(client_error("ThrottlingException", headers=headers))

    assert type(error) is ThrottlingException
    assert error.retry_after is None or error.retry_after >= 0


@pytest.mark.parametrize("status", [503, 429])
def test_a_response_without_a_code_may_ask_for_a_wait(status: int) -> None:
    error = start_error(client_error(str(status), "", status, {"retry-after": "7"}))

    assert error.retry_after == 7.0

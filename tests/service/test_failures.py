"""What boto3 raises without an error response becomes our errors."""

from __future__ import annotations

import json

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from comprehend_phi import (
    MalformedResponseError,
    ServiceError,
    TransportError,
)
from comprehend_phi._service.failures import error_from
from comprehend_phi._service.invalid_response import InvalidResponse

from ..conftest import CANARY

PARAMS = {"ClientRequestToken": "token-1"}


def start_error(cause: Exception) -> ServiceError | TransportError:
    return error_from(cause, "StartPHIDetectionJob", PARAMS)


URL = f"https://comprehendmedical.example/{CANARY}"
CAUSE = OSError(f"cannot send {CANARY}")
THROTTLED = boto.ClientError({"Error": {"Code": "ThrottlingException"}}, "StopPHIDetectionJob")


def _not_utf_8() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", CANARY.encode() + b"\xff", 18, 19, "invalid start byte")


# What boto3 raises, the class of our error, and whether it is retried.
CAUSES: list[tuple[Exception, type[TransportError], bool]] = [
    # The network.
    (boto.EndpointConnectionError(endpoint_url=URL), TransportError, True),
    (boto.ConnectTimeoutError(endpoint_url=URL), TransportError, True),
    (boto.ProxyConnectionError(proxy_url=URL), TransportError, True),
    (boto.ReadTimeoutError(endpoint_url=URL), TransportError, True),
    (boto.ConnectionClosedError(endpoint_url=URL), TransportError, True),
    (boto.SSLError(endpoint_url=URL, error=CAUSE), TransportError, True),
    (boto.HTTPClientError(error=CAUSE), TransportError, True),
    (boto.ResponseStreamingError(error=CAUSE), TransportError, True),
    # Credentials and settings.
    (boto.NoCredentialsError(), TransportError, False),
    (
        boto.PartialCredentialsError(provider=CANARY, cred_var=CANARY),
        TransportError,
        False,
    ),
    (
        boto.CredentialRetrievalError(provider="assume-role", error_msg=CANARY),
        TransportError,
        False,
    ),
    (boto.NoAuthTokenError(), TransportError, False),
    (boto.TokenRetrievalError(provider="sso", error_msg=CANARY), TransportError, False),
    (boto.SSOTokenLoadError(error_msg=CANARY), TransportError, False),
    (boto.UnauthorizedSSOTokenError(), TransportError, False),
    (boto.ProfileNotFound(profile=CANARY), TransportError, False),
    (boto.NoRegionError(), TransportError, False),
    (boto.InvalidRegionError(region_name=CANARY), TransportError, False),
    (
        boto.UnknownEndpointError(service_name=CANARY, region_name=CANARY),
        TransportError,
        False,
    ),
    (boto.ParamValidationError(report=f"Invalid value: {CANARY}"), TransportError, False),
    (boto.InvalidProxiesConfigError(), TransportError, False),
    # A response that cannot be read.
    (ResponseParserError(f"invalid XML: {CANARY}"), MalformedResponseError, True),
    (
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        MalformedResponseError,
        True,
    ),
    (_not_utf_8(), MalformedResponseError, True),
    (json.JSONDecodeError("expecting", CANARY, 0), MalformedResponseError, True),
    (ValueError(f"invalid timestamp {CANARY}"), MalformedResponseError, True),
    (TypeError(f"not a map: {CANARY}"), MalformedResponseError, True),
    (AttributeError(f"{CANARY} has no get"), MalformedResponseError, True),
    (KeyError(CANARY), MalformedResponseError, True),
    (InvalidResponse("it has no JobId"), MalformedResponseError, True),
    # Unknown: a bug somewhere, or an event handler of the user.
    (RuntimeError(CANARY), TransportError, False),
    (OSError(CANARY), TransportError, False),
]


@pytest.mark.parametrize(
    ("cause", "cls", "retryable"),
    CAUSES,
    ids=[type(case[0]).__name__ for case in CAUSES],
)
def test_the_class_of_the_cause_decides_without_a_traceback(
    cause: Exception, cls: type[TransportError], retryable: bool
) -> None:
    error = start_error(cause)

    assert type(error) is cls
    # These errors have no traceback that shows how far the call got.
    assert (error.retryable, error.outcome_unknown) == (retryable, True)
    assert (error.operation, error.client_request_token) == ("StartPHIDetectionJob", "token-1")
    assert error.attempts == 1
    # The name of the class helps to find the cause. Its message could quote anything.
    assert type(cause).__name__ in str(error) or isinstance(cause, InvalidResponse)
    assert CANARY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert (error.__cause__, error.__context__) == (None, None)


def test_the_reason_says_what_is_wrong_with_an_invalid_response() -> None:
    error = start_error(InvalidResponse("it has no JobId"))

    assert isinstance(error, MalformedResponseError)
    assert error.reason == "the response is not usable: it has no JobId"


def test_only_the_error_of_a_start_has_a_token() -> None:
    for cause in (THROTTLED, boto.NoCredentialsError(), CAUSE):
        error = error_from(cause, "StopPHIDetectionJob", {"JobId": "0"})
        assert error.operation == "StopPHIDetectionJob"
        assert error.client_request_token is None

"""What is sent, what is taken from answers, and what botocore's errors become."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import attrs
import botocore.model
import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.parsers import ResponseParserError
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ComprehendPHIError,
    ExpiredTokenException,
    InputDataConfig,
    InternalServerException,
    InvalidRequestException,
    JobFilter,
    JobProperties,
    JobStatus,
    MalformedResponseError,
    OutputDataConfig,
    RequestValidationError,
    ResourceNotFoundException,
    ServiceError,
    ServiceUnavailableException,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
)
from comprehend_phi._members import encode
from comprehend_phi._service import codec, operations
from comprehend_phi._service.attempts import track_tries
from comprehend_phi._service.codec import InvalidResponse
from comprehend_phi._service.error_responses import ERRORS
from comprehend_phi._service.failures import error_from
from comprehend_phi._service.operations import Operation
from comprehend_phi.models import (
    DescribePHIDetectionJobRequest,
    JobPage,
    ListPHIDetectionJobsRequest,
    StopPHIDetectionJobRequest,
)

CANARY = "Zinnia Quellwasser"
ROLE = "arn:aws:iam::123456789012:role/reads-notes"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ELSEWHERE = timezone(timedelta(hours=5, minutes=45))

FULL_REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key="in"),
    output_data_config=OutputDataConfig(s3_bucket="results.example", s3_key="out"),
    data_access_role_arn=ROLE,
    job_name="monday",
    kms_key="alias/notes",
    client_request_token="token-1",
)


# --- Requests to dicts ----------------------------------------------------------------------------


def test_a_start_sends_every_member() -> None:
    assert encode(FULL_REQUEST) == {
        "InputDataConfig": {"S3Bucket": "notes.example", "S3Key": "in"},
        "OutputDataConfig": {"S3Bucket": "results.example", "S3Key": "out"},
        "DataAccessRoleArn": ROLE,
        "LanguageCode": "en",
        "JobName": "monday",
        "KMSKey": "alias/notes",
        "ClientRequestToken": "token-1",
    }


def test_a_start_leaves_out_what_is_none() -> None:
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="notes.example"),
        output_data_config=OutputDataConfig(s3_bucket="results.example"),
        data_access_role_arn=ROLE,
    )

    assert encode(request) == {
        "InputDataConfig": {"S3Bucket": "notes.example"},
        "OutputDataConfig": {"S3Bucket": "results.example"},
        "DataAccessRoleArn": ROLE,
        "LanguageCode": "en",
        "ClientRequestToken": request.client_request_token,
    }


def test_an_empty_key_is_sent() -> None:
    request = attrs.evolve(
        FULL_REQUEST, input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key="")
    )

    assert encode(request)["InputDataConfig"]["S3Key"] == ""


@pytest.mark.parametrize("cls", [DescribePHIDetectionJobRequest, StopPHIDetectionJobRequest])
def test_a_job_id_is_sent(
    cls: type[DescribePHIDetectionJobRequest | StopPHIDetectionJobRequest],
) -> None:
    assert encode(cls(job_id="0" * 32)) == {"JobId": "0" * 32}


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (JobFilter(job_name="monday"), {"JobName": "monday"}),
        (JobFilter(job_status=JobStatus.FAILED), {"JobStatus": "FAILED"}),
        (JobFilter(submit_time_before=NOON), {"SubmitTimeBefore": NOON}),
        (JobFilter(submit_time_after=NOON), {"SubmitTimeAfter": NOON}),
        (attrs.evolve(JobFilter(submit_time_after=NOON)), {"SubmitTimeAfter": NOON}),
        (
            attrs.evolve(
                JobFilter(submit_time_before=NOON),
                submit_time_before=NOON.max.replace(tzinfo=UTC),
            ),
            {"SubmitTimeBefore": datetime.max.replace(tzinfo=UTC)},
        ),
    ],
)
def test_a_list_sends_its_filter(wanted: JobFilter, sent: dict[str, Any]) -> None:
    encoded = encode(ListPHIDetectionJobsRequest(filter=wanted))

    assert encoded == {"Filter": sent, "MaxResults": 100}


def test_a_list_sends_its_page() -> None:
    request = ListPHIDetectionJobsRequest(max_results=7, next_token="next")

    assert encode(request) == {"MaxResults": 7, "NextToken": "next"}


def test_a_state_is_sent_as_a_plain_string() -> None:
    request = ListPHIDetectionJobsRequest(filter=JobFilter(job_status=JobStatus.FAILED))

    assert type(encode(request)["Filter"]["JobStatus"]) is str


# --- Dicts to responses ---------------------------------------------------------------------------

FULL_JOB: dict[str, Any] = {
    "JobId": "0" * 32,
    "JobName": "monday",
    "JobStatus": "PARTIAL_SUCCESS",
    "Message": "some files were not processed",
    "SubmitTime": NOON,
    "EndTime": NOON + timedelta(minutes=7),
    "ExpirationTime": NOON + timedelta(days=120),
    "InputDataConfig": {"S3Bucket": "notes.example", "S3Key": ""},
    "OutputDataConfig": {"S3Bucket": "results.example", "S3Key": "out/"},
    "LanguageCode": "en",
    "DataAccessRoleArn": ROLE,
    "ManifestFilePath": "out/Manifest",
    "KMSKey": "alias/notes",
    "ModelVersion": "2.4.0",
}
FULL_PROPERTIES = JobProperties(
    job_id="0" * 32,
    job_name="monday",
    job_status=JobStatus.PARTIAL_SUCCESS,
    message="some files were not processed",
    submit_time=NOON,
    end_time=NOON + timedelta(minutes=7),
    expiration_time=NOON + timedelta(days=120),
    input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key=""),
    output_data_config=OutputDataConfig(s3_bucket="results.example", s3_key="out/"),
    language_code="en",
    data_access_role_arn=ROLE,
    manifest_file_path="out/Manifest",
    kms_key="alias/notes",
    model_version="2.4.0",
)
LEAST_JOB: dict[str, Any] = {"JobId": "0", "JobStatus": "SUBMITTED"}

JOB = "ComprehendMedicalAsyncJobProperties"
JOBS = "ComprehendMedicalAsyncJobPropertiesList"


def described(**members: Any) -> JobProperties:
    return codec.decode_describe({JOB: {**LEAST_JOB, **members}})


def test_a_start_is_answered_with_a_job_id() -> None:
    answer = {"JobId": "0" * 32, "ResponseMetadata": {"HTTPStatusCode": 200}}

    assert codec.decode_start(answer) == StartPHIDetectionJobResponse(job_id="0" * 32)


def test_a_stop_is_answered_with_a_job_id() -> None:
    assert codec.decode_stop({"JobId": "0" * 32}) == "0" * 32


def test_every_member_of_a_job_is_taken() -> None:
    assert codec.decode_describe({JOB: FULL_JOB}) == FULL_PROPERTIES


def test_members_that_are_not_there_are_none() -> None:
    job = codec.decode_describe({JOB: LEAST_JOB})

    assert job == JobProperties(job_id="0", job_status=JobStatus.SUBMITTED)
    given = attrs.asdict(job, filter=lambda _, value: value is not None)
    assert given.keys() == {"job_id", "job_status"}


@pytest.mark.parametrize("name", sorted(FULL_JOB.keys() - LEAST_JOB.keys()))
def test_a_member_that_is_null_is_none(name: str) -> None:
    assert described(**{name: None}) == described()


def test_members_that_we_do_not_know_are_ignored() -> None:
    job = described(Progress=0.5, InputDataConfig={"S3Bucket": "notes.example", "Format": "txt"})

    assert job.input_data_config == InputDataConfig(s3_bucket="notes.example")
    assert codec.decode_start({"JobId": "0", "Queue": ["later"]}).job_id == "0"


def test_a_state_that_we_do_not_know_survives() -> None:
    job = described(JobStatus="PAUSED_FOR_REVIEW")

    assert job.job_status == "PAUSED_FOR_REVIEW"
    assert isinstance(job.job_status, JobStatus)
    assert not job.job_status.is_terminal


@pytest.mark.parametrize(
    ("member", "field"),
    [
        ("SubmitTime", "submit_time"),
        ("EndTime", "end_time"),
        ("ExpirationTime", "expiration_time"),
    ],
)
def test_times_become_aware_and_utc(member: str, field: str) -> None:
    time = getattr(described(**{member: NOON.astimezone(ELSEWHERE)}), field)

    assert time == NOON
    assert time.tzinfo is UTC


def test_a_page_of_jobs_is_taken_in_its_order() -> None:
    page = codec.decode_list({JOBS: [LEAST_JOB, FULL_JOB], "NextToken": "next"})

    assert page == JobPage(
        jobs=(JobProperties(job_id="0", job_status=JobStatus.SUBMITTED), FULL_PROPERTIES),
        next_token="next",
    )


@pytest.mark.parametrize("token", [{}, {"NextToken": None}, {"NextToken": ""}])
def test_the_last_page_has_no_next_token(token: dict[str, Any]) -> None:
    assert codec.decode_list({JOBS: [], **token}) == JobPage(jobs=(), next_token=None)


def _location(bucket: str | None, key: str | None) -> dict[str, str | None]:
    return {"s3_bucket": bucket, "s3_key": key}


# What none of ours could send: member, value, field, what becomes of it.
BEYOND_OUR_RULES: list[tuple[str, Any, str, Any]] = [
    ("JobId", "j" * 100, "job_id", "j" * 100),
    ("JobName", "\U0001f600\n" * 300, "job_name", "\U0001f600\n" * 300),
    (
        "InputDataConfig",
        {"S3Bucket": "UPPERCASE Bucket", "S3Key": "a//b\n"},
        "input_data_config",
        _location("UPPERCASE Bucket", "a//b\n"),
    ),
    ("OutputDataConfig", {"S3Key": "k" * 2000}, "output_data_config", _location(None, "k" * 2000)),
    ("OutputDataConfig", {}, "output_data_config", _location(None, None)),
    ("LanguageCode", "de", "language_code", "de"),
    ("DataAccessRoleArn", "role", "data_access_role_arn", "role"),
    ("ManifestFilePath", "m" * 5000, "manifest_file_path", "m" * 5000),
    ("KMSKey", "", "kms_key", ""),
]


@pytest.mark.parametrize(("member", "value", "field", "expected"), BEYOND_OUR_RULES)
def test_an_answer_is_not_held_to_the_rules_for_what_we_send(
    member: str, value: Any, field: str, expected: Any
) -> None:
    job = described(**{member: value})

    assert attrs.asdict(job)[field] == expected
    # It is a value like any other.
    assert pickle.loads(pickle.dumps(job)) == job
    assert hash(job) == hash(described(**{member: value}))
    assert repr(job).startswith("JobProperties(")


def test_decoding_does_not_switch_the_rules_off_for_other_threads() -> None:
    switched_off: list[bool] = []

    def watch(*_: Any) -> None:
        switched_off.append(attrs.validators.get_disabled())

    # At every call and return below, which is as often as another thread could look.
    sys.setprofile(watch)
    try:
        described(InputDataConfig={"S3Bucket": "UPPERCASE Bucket"})
    finally:
        sys.setprofile(None)

    assert len(switched_off) > 10
    assert not any(switched_off)
    with pytest.raises(RequestValidationError):
        InputDataConfig(s3_bucket="UPPERCASE Bucket")


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ({}, "JobId"),
        ({"JobId": None}, "JobId"),
        ({"JobId": ""}, "JobId"),
        ({"jobId": "0"}, "JobId"),
    ],
)
def test_a_start_or_a_stop_without_a_job_id_is_malformed(
    answer: dict[str, Any], missing: str
) -> None:
    for decode in (codec.decode_start, codec.decode_stop):
        with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
            decode(answer)


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ({}, JOB),
        ({JOB: None}, JOB),
        ({JOB: {}}, "JobId"),
        ({JOB: {"JobStatus": "FAILED"}}, "JobId"),
        ({JOB: {"JobId": "0"}}, "JobStatus"),
        ({JOB: {"JobId": "0", "JobStatus": ""}}, "JobStatus"),
        ({JOB: {"JobId": "", "JobStatus": "FAILED"}}, "JobId"),
    ],
)
def test_a_job_without_id_or_state_is_malformed(answer: dict[str, Any], missing: str) -> None:
    with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
        codec.decode_describe(answer)


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ({}, JOBS),
        ({JOBS: None}, JOBS),
        ({"NextToken": "next"}, JOBS),
        ({JOBS: [LEAST_JOB, {"JobStatus": "FAILED"}]}, "JobId"),
    ],
)
def test_a_page_without_its_list_or_with_a_broken_job_is_malformed(
    answer: dict[str, Any], missing: str
) -> None:
    with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
        codec.decode_list(answer)


@pytest.mark.parametrize("name", FULL_JOB)
@pytest.mark.parametrize("value", [[CANARY], {CANARY}, CANARY.encode(), 1.5, True])
def test_a_member_of_a_wrong_type_is_malformed_and_the_value_is_not_shown(
    name: str, value: Any
) -> None:
    with pytest.raises(
        InvalidResponse, match=f"its {name} is of type {type(value).__name__}"
    ) as caught:
        described(**{name: value})

    assert CANARY not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize("member", ["S3Bucket", "S3Key"])
@pytest.mark.parametrize("location", ["InputDataConfig", "OutputDataConfig"])
def test_a_location_with_a_wrong_type_is_malformed(location: str, member: str) -> None:
    with pytest.raises(InvalidResponse, match=f"its {member} is of type list, not str"):
        described(**{location: {member: [CANARY]}})


@pytest.mark.parametrize(
    ("answer", "name"),
    [({JOBS: {CANARY: 1}}, JOBS), ({JOBS: [], "NextToken": 7}, "NextToken")],
)
def test_a_page_with_a_wrong_type_is_malformed(answer: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidResponse, match=f"its {name} is of type"):
        codec.decode_list(answer)


# --- Answers with errors --------------------------------------------------------------------------

CLASSES: dict[str, type[ServiceError]] = {
    "InternalServerException": InternalServerException,
    "InvalidRequestException": InvalidRequestException,
    "ResourceNotFoundException": ResourceNotFoundException,
    "TooManyRequestsException": TooManyRequestsException,
    "ValidationException": ValidationException,
    "ServiceUnavailableException": ServiceUnavailableException,
    "AccessDeniedException": AccessDeniedException,
    "ExpiredTokenException": ExpiredTokenException,
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
    code: str, message: str = "no", status: int | None = 400, headers: Any = None
) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "HTTPHeaders": headers or {},
            "RequestId": "request-1",
        },
    }
    return boto.ClientError(response, "StartPHIDetectionJob")


def start_error(
    cause: Exception, request: StartPHIDetectionJobRequest = FULL_REQUEST
) -> ServiceError | TransportError:
    return error_from(cause, "StartPHIDetectionJob", encode(request))


def test_every_code_of_the_table_is_tried_here() -> None:
    # The table itself: a code that is added to it has to be added here.
    assert CLASSES == ERRORS


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
@pytest.mark.parametrize("code", CLASSES)
def test_the_code_decides_and_never_the_status(code: str, status: int) -> None:
    error = start_error(client_error(code, "no coffee", status))

    assert type(error) is CLASSES[code]
    assert isinstance(error, ServiceError)
    assert (error.code, error.message, error.status_code) == (code, "no coffee", status)
    assert (error.operation, error.request_id) == ("StartPHIDetectionJob", "request-1")
    assert (error.client_request_token, error.attempts) == ("token-1", 1)


@pytest.mark.parametrize("status", [400, 429])
def test_taken_job_slots_are_told_from_a_rate_limit(status: int) -> None:
    error = start_error(client_error("TooManyRequestsException", SLOTS, status))

    assert type(error) is ActiveJobLimitExceeded
    assert error.message == SLOTS


def test_another_code_with_the_words_of_the_job_limit_is_not_the_job_limit() -> None:
    assert type(start_error(client_error("InvalidRequestException", SLOTS))) is (
        InvalidRequestException
    )


# The values of a request are masked in the message; that must not hide what the message is about.
@pytest.mark.parametrize("name", ["ACTIVE", "LIMIT", "COUNT_LIMIT", "EXCEEDED"])
def test_a_job_named_like_the_job_limit_is_told_that_its_slots_are_taken(name: str) -> None:
    request = attrs.evolve(FULL_REQUEST, job_name=name)
    error = start_error(client_error("TooManyRequestsException", SLOTS), request)

    assert type(error) is ActiveJobLimitExceeded


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        (code, cls in (InternalServerException, ServiceUnavailableException))
        for code, cls in CLASSES.items()
    ],
)
def test_only_a_server_that_failed_may_have_done_the_work(code: str, unknown: bool) -> None:
    assert start_error(client_error(code)).outcome_unknown is unknown


@pytest.mark.parametrize("status", [400, 403, 404, 499])
def test_a_refusal_with_a_code_that_we_do_not_know_is_a_service_error(status: int) -> None:
    error = start_error(client_error("TeapotException", "no coffee", status))

    assert type(error) is ServiceError
    assert (error.code, error.message, error.retryable) == ("TeapotException", "no coffee", False)
    assert not error.outcome_unknown


def test_a_rate_limit_by_status_with_a_code_that_we_do_not_know_is_throttling() -> None:
    error = start_error(client_error("SlowPlease", status=429))

    assert type(error) is ThrottlingException
    assert error.code == "SlowPlease"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failed_server_with_a_code_that_we_do_not_know_is_malformed(status: int) -> None:
    error = start_error(client_error("TeapotException", CANARY, status))

    assert type(error) is MalformedResponseError
    assert (error.status_code, error.request_id) == (status, "request-1")
    assert (error.retryable, error.outcome_unknown) == (True, True)
    assert "TeapotException" in error.reason
    assert CANARY not in f"{error!r} {vars(error)}"


# Without a code, botocore puts the status there, and a stranger's body or its own words as message.
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
def test_an_answer_without_a_code_goes_by_its_status(
    status: int, cls: type[ServiceError | TransportError], code: str
) -> None:
    error = start_error(client_error(code and str(status), f"<html>{CANARY}</html>", status))

    assert type(error) is cls
    assert error.client_request_token == "token-1"
    assert error.outcome_unknown is (cls is MalformedResponseError)
    assert error.retryable is (cls is not ServiceError)
    assert CANARY not in f"{error} {error!r} {vars(error)}"
    if isinstance(error, ServiceError):
        assert (error.code, error.message) == (str(status), "")


@pytest.mark.parametrize("code", ["<html>", "a b", f"{CANARY}", "x" * 101, "7Exception", "Zé"])
def test_what_does_not_look_like_a_code_is_none(code: str) -> None:
    error = start_error(client_error(code, CANARY))

    assert isinstance(error, ServiceError)
    assert (error.code, error.message) == ("400", "")


@pytest.mark.parametrize(
    "response",
    [{}, {"Error": {}}, {"Error": {"Code": None}}, {"ResponseMetadata": {"HTTPStatusCode": 300}}],
)
def test_an_error_without_its_usual_parts_is_malformed(response: Any) -> None:
    error = start_error(boto.ClientError(response, "StartPHIDetectionJob"))

    assert isinstance(error, MalformedResponseError)
    assert error.reason == "the service returned an error without a code"


@pytest.mark.parametrize("words", [{}, {"Message": None}, {"Message": ""}])
def test_an_error_without_words_has_none(words: Any) -> None:
    response: Any = {
        "Error": {"Code": "ThrottlingException", **words},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    error = start_error(boto.ClientError(response, "StartPHIDetectionJob"))

    assert type(error) is ThrottlingException
    assert error.message == ""


# --- Retry-After ----------------------------------------------------------------------------------

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "999999999"}, 3600.0),  # our rule: nobody is waited for longer
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "0"}, 0.0),
        # AWS's own is the finer one.
        ({"x-amz-retry-after": "1500", "retry-after": "7"}, 1.5),
        ({"x-amz-retry-after": "soon", "retry-after": "7"}, 7.0),
        # Dates count from the answer's own, whatever this machine's clock says.
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 13:00:30 +0100", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:30 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT", "date": "today"}, None),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 -0000", "date": DATE}, None),
        # Nothing that a server would mean.
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
def test_no_header_is_worse_than_none(headers: dict[str, str]) -> None:
    error = start_error(client_error("ThrottlingException", headers=headers))

    assert type(error) is ThrottlingException
    assert error.retry_after is None or error.retry_after >= 0


@pytest.mark.parametrize("status", [503, 429])
def test_an_answer_without_a_code_may_ask_for_a_wait_too(status: int) -> None:
    error = start_error(client_error(str(status), "", status, {"retry-after": "7"}))

    assert error.retry_after == 7.0


# --- No answer ------------------------------------------------------------------------------------

URL = f"https://comprehendmedical.example/{CANARY}"
CAUSE = OSError(f"cannot send {CANARY}")


def _not_utf_8() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", CANARY.encode() + b"\xff", 18, 19, "invalid start byte")


# A cause, the class that it becomes, and whether it is retried.
NO_ANSWER: list[tuple[Exception, type[TransportError], bool]] = [
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
    # An answer, but none that can be read.
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
    # Nobody knows: a defect somewhere, or an event handler of the user's.
    (RuntimeError(CANARY), TransportError, False),
    (OSError(CANARY), TransportError, False),
]


@pytest.mark.parametrize(
    ("cause", "cls", "retryable"),
    NO_ANSWER,
    ids=[type(case[0]).__name__ for case in NO_ANSWER],
)
def test_no_usable_answer(cause: Exception, cls: type[TransportError], retryable: bool) -> None:
    error = start_error(cause)

    assert type(error) is cls
    # These errors have no traceback to tell how far the call got.
    assert (error.retryable, error.outcome_unknown) == (retryable, True)
    assert (error.operation, error.client_request_token) == ("StartPHIDetectionJob", "token-1")
    assert error.attempts == 1
    # What kind it was helps to find the cause; its words could quote anything.
    assert type(cause).__name__ in str(error) or isinstance(cause, InvalidResponse)
    assert CANARY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert (error.__cause__, error.__context__) == (None, None)


def test_what_is_wrong_with_an_answer_is_said() -> None:
    error = start_error(InvalidResponse("it has no JobId"))

    assert isinstance(error, MalformedResponseError)
    assert error.reason == "the response is not usable: it has no JobId"


def test_a_call_that_is_no_start_has_no_token() -> None:
    for cause in (client_error("ThrottlingException"), boto.NoCredentialsError(), CAUSE):
        error = error_from(cause, "StopPHIDetectionJob", {"JobId": "0"})
        assert error.operation == "StopPHIDetectionJob"
        assert error.client_request_token is None


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
def test_credentials_that_are_refused_are_named_with_their_settings(code: str) -> None:
    # As after a line break in the secret key, of which only the service can tell.
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
def test_names_and_keys_of_the_request_are_masked_in_the_services_words(
    message: str, members: dict[str, Any]
) -> None:
    cause = client_error("InvalidRequestException", message)
    error = error_from(cause, "StartPHIDetectionJob", members)

    assert isinstance(error, InvalidRequestException)
    assert "***" in error.message
    assert CANARY not in f"{error} {error!r} {vars(error)}"


# --- One attempt, through the real botocore -------------------------------------------------------


class _Body:
    """As much of urllib3's response as botocore reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


@cache
def _session() -> Any:
    """One for all: it keeps the models that it has loaded."""
    return botocore.session.get_session()


@cache
def _cbor_session() -> Any:
    """A session whose clients choose CBOR."""
    cbor = "smithy-rpc-v2-cbor"
    if cbor not in getattr(botocore.model, "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", ()):
        pytest.skip("this botocore does not speak CBOR")
    session: Any = botocore.session.Session()
    loader = session.get_component("data_loader")
    loader.load_service_model("comprehendmedical", "service-2")["metadata"]["protocols"] = [cbor]
    return session


def answering(
    status: int, body: bytes, headers: dict[str, str] | None = None, *, session: Any = None
) -> Any:
    """A boto3-like client that answers without a network; all that is above HTTP is botocore's."""
    client = (session or _session()).create_client(
        "comprehendmedical",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
    )
    raw: Any = _Body(body)
    given: Any = headers or {}

    def answer(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, status, given, raw)

    client.meta.events.register("before-send.comprehendmedical", answer)
    track_tries(client)  # as clients that were handed in are
    return client


DESCRIBE = DescribePHIDetectionJobRequest(job_id="0")
BROKEN_TIME = '{"%s": {"JobId": "0", "JobStatus": "FAILED", "SubmitTime": %s}}'

STRANGE_ANSWERS: dict[str, tuple[int, bytes]] = {
    "an empty body": (200, b""),
    "an empty map": (200, b"{}"),
    "null": (200, b"null"),
    "a list": (200, b"[]"),
    "a string": (200, b'"words"'),
    "a number": (200, b"7"),
    "HTML": (200, b"<html><body>Sign in</body></html>"),
    "a cut map": (200, b'{"ComprehendMedicalAsyncJobProperties": {"JobId": "0", "Job'),
    "not UTF-8": (200, b'{"ComprehendMedicalAsyncJobProperties": "\xff"}'),
    "a list for the job": (200, b'{"ComprehendMedicalAsyncJobProperties": ["x"]}'),
    "a string for the job": (200, b'{"ComprehendMedicalAsyncJobProperties": "x"}'),
    "a number for an id": (200, b'{"%s": {"JobId": 7, "JobStatus": "FAILED"}}' % JOB.encode()),
    "a map for a state": (200, b'{"%s": {"JobId": "0", "JobStatus": {}}}' % JOB.encode()),
    "words for a time": (200, (BROKEN_TIME % (JOB, '"Zinnia"')).encode()),
    "a time that overflows in UTC": (
        200,
        (BROKEN_TIME % (JOB, '"9999-12-31T23:59:59-05:00"')).encode(),
    ),
    "not a time at all": (200, (BROKEN_TIME % (JOB, "NaN")).encode()),
    "multiple choices": (300, b"{}"),
    "moved": (301, b"<html>"),
    "a list with an error status": (400, b"[]"),
    "HTML from a failed proxy": (502, b"<html>"),
    "nothing from a failed server": (500, b""),
    "not UTF-8 from a failed server": (500, b"\xff"),
}


@pytest.mark.parametrize(("status", "body"), STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS.keys())
def test_a_strange_answer_is_malformed_and_worth_another_try(status: int, body: bytes) -> None:
    with pytest.raises(ComprehendPHIError) as caught:
        operations.DESCRIBE.attempt(answering(status, body), DESCRIBE)

    error = caught.value
    assert type(error) is MalformedResponseError
    assert error.retryable
    assert (error.__cause__, error.__context__) == (None, None)
    assert "Zinnia" not in f"{error!r} {vars(error)}"


# botocore raises a bare RuntimeError and a RecursionError here. Where they were raised tells.
@pytest.mark.parametrize(
    "body",
    [(BROKEN_TIME % (JOB, "1e300")).encode(), b'{"%s": ' % JOB.encode() + b"[" * 100_000],
    ids=["a time beyond all calendars", "nested without an end"],
)
def test_an_answer_that_breaks_botocore_itself_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        operations.DESCRIBE.attempt(answering(200, body), DESCRIBE)

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "1e+300" not in f"{caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"%s": {"JobId": "0", "JobStatus": "FAILED"}}' % JOB.encode(),
        b'{"__type": "ThrottlingException"}',
        b"[]",
        b"\x7b" + b"\xff" * 8,
        b"\x9b" + b"\xff" * 8,
        b"\xbf",
    ],
    ids=["a job", "an error", "a list", "an endless string", "an endless list", "a cut map"],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_is_no_cbor_is_malformed_to_a_client_that_speaks_cbor(
    status: int, body: bytes
) -> None:
    # botocore reads JSON's opening brace as a string of 10 to the 18 bytes, which no memory holds.
    with pytest.raises(MalformedResponseError) as caught:
        operations.DESCRIBE.attempt(answering(status, body, session=_cbor_session()), DESCRIBE)

    assert caught.value.retryable
    assert caught.value.outcome_unknown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("body", [b"[7]", b"[null]", b'["x"]', b'[["x"]]'])
def test_a_page_whose_jobs_are_no_maps_is_malformed(body: bytes) -> None:
    client = answering(200, b'{"%s": %s}' % (JOBS.encode(), body))

    with pytest.raises(MalformedResponseError):
        operations.LIST.attempt(client, ListPHIDetectionJobsRequest())


@pytest.mark.parametrize(
    ("operation", "request_", "body"),
    [
        (operations.DESCRIBE, DESCRIBE, {JOB: {"JobId": "1", "JobStatus": "FAILED"}}),
        (operations.STOP, StopPHIDetectionJobRequest(job_id="0"), {"JobId": "1"}),
    ],
)
def test_a_response_about_another_job_is_malformed(
    operation: Operation[Any, Any], request_: Any, body: dict[str, Any]
) -> None:
    with pytest.raises(MalformedResponseError, match="it is about another job") as caught:
        operation.attempt(answering(200, json.dumps(body).encode()), request_)

    assert (caught.value.retryable, caught.value.outcome_unknown) == (True, True)


@pytest.mark.parametrize(
    ("status", "headers", "cls"),
    [
        (429, {}, ThrottlingException),
        (
            429,
            {"retry-after": "Sun, 01 Mar 99999999999999999999 12:00:00 GMT", "date": DATE},
            ThrottlingException,
        ),
        (400, {}, ServiceError),
        (403, {}, ServiceError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>Zinnia</html>", b"{}", b'{"Message": "Zinnia"}'])
def test_a_refusal_by_a_stranger_goes_by_its_status(
    status: int, headers: dict[str, str], cls: type[ServiceError], body: bytes
) -> None:
    with pytest.raises(ComprehendPHIError) as caught:
        operations.DESCRIBE.attempt(answering(status, body, headers), DESCRIBE)

    error = caught.value
    assert type(error) is cls
    assert (error.__cause__, error.__context__) == (None, None)
    assert "Zinnia" not in f"{error!r} {vars(error)}"


def test_an_error_of_the_service_is_read_whole() -> None:
    body = json.dumps({"__type": "com.amazonaws#TooManyRequestsException", "Message": SLOTS})
    headers = {"x-amzn-RequestId": "request-7", "x-amz-retry-after": "250"}

    with pytest.raises(ActiveJobLimitExceeded) as caught:
        operations.START.attempt(answering(400, body.encode(), headers), FULL_REQUEST)

    error = caught.value
    assert (error.operation, error.code) == ("StartPHIDetectionJob", "TooManyRequestsException")
    assert (error.status_code, error.request_id) == (400, "request-7")
    assert (error.retry_after, error.client_request_token) == (0.25, "token-1")
    assert error.__context__ is None


def test_a_job_is_read_from_the_services_own_bytes() -> None:
    body = {
        JOB: {**FULL_JOB, "SubmitTime": 1772366400.0, "EndTime": 1772366820, "ExpirationTime": 0}
    }
    asked = DescribePHIDetectionJobRequest(job_id=FULL_PROPERTIES.job_id)
    job = operations.DESCRIBE.attempt(answering(200, json.dumps(body).encode()), asked)

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert job == attrs.evolve(FULL_PROPERTIES, expiration_time=epoch)
    assert {job.submit_time and job.submit_time.tzinfo, UTC} == {UTC}


@pytest.mark.parametrize("zone", [UTC, ELSEWHERE, timezone(-timedelta(hours=11))])
def test_a_filters_moment_is_the_same_in_every_time_zone(zone: timezone) -> None:
    client = answering(200, json.dumps({JOBS: []}).encode())
    sent: list[bytes] = []

    def note(request: Any, **_: Any) -> None:
        sent.append(request.body)

    client.meta.events.register_first("before-send.comprehendmedical", note)
    wanted = JobFilter(submit_time_after=NOON.astimezone(zone))
    operations.LIST.attempt(client, ListPHIDetectionJobsRequest(filter=wanted))

    assert [json.loads(body)["Filter"]["SubmitTimeAfter"] for body in sent] == [NOON.timestamp()]

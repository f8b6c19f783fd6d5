"""Decoding of the service's responses."""

from __future__ import annotations

import pickle
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from comprehend_phi import (
    InputDataConfig,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    RequestValidationError,
    StartPHIDetectionJobResponse,
)
from comprehend_phi._service import codec
from comprehend_phi._service.invalid_response import InvalidResponse
from comprehend_phi.models import (
    JobPage,
)

from ..conftest import CANARY, ROLE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ELSEWHERE = timezone(timedelta(hours=5, minutes=45))

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


def test_decode_start_returns_the_job_id() -> None:
    response = {"JobId": "0" * 32, "ResponseMetadata": {"HTTPStatusCode": 200}}

    assert codec.decode_start(response) == StartPHIDetectionJobResponse(job_id="0" * 32)


def test_decode_stop_returns_the_job_id() -> None:
    assert codec.decode_stop({"JobId": "0" * 32}) == "0" * 32


def test_every_member_of_a_job_is_decoded() -> None:
    assert codec.decode_describe({JOB: FULL_JOB}) == FULL_PROPERTIES


def test_a_missing_member_is_none() -> None:
    job = codec.decode_describe({JOB: LEAST_JOB})

    assert job == JobProperties(job_id="0", job_status=JobStatus.SUBMITTED)
    given = attrs.asdict(job, filter=lambda _, value: value is not None)
    assert given.keys() == {"job_id", "job_status"}


@pytest.mark.parametrize("name", sorted(FULL_JOB.keys() - LEAST_JOB.keys()))
def test_a_null_member_is_none(name: str) -> None:
    assert described(**{name: None}) == described()


def test_unknown_members_are_ignored() -> None:
    job = described(Progress=0.5, InputDataConfig={"S3Bucket": "notes.example", "Format": "txt"})

    assert job.input_data_config == InputDataConfig(s3_bucket="notes.example")
    assert codec.decode_start({"JobId": "0", "Queue": ["later"]}).job_id == "0"


def test_an_unknown_status_is_kept() -> None:
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
def test_times_are_converted_to_utc(member: str, field: str) -> None:
    time = getattr(described(**{member: NOON.astimezone(ELSEWHERE)}), field)

    assert time == NOON
    assert time.tzinfo is UTC


def test_a_page_keeps_the_order_of_its_jobs() -> None:
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


# Values that our requests must not contain: member, value, field, decoded value.
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
def test_the_rules_for_requests_do_not_apply_to_responses(
    member: str, value: Any, field: str, expected: Any
) -> None:
    job = described(**{member: value})

    assert attrs.asdict(job)[field] == expected
    # It behaves like any other value.
    assert pickle.loads(pickle.dumps(job)) == job
    assert hash(job) == hash(described(**{member: value}))
    assert repr(job).startswith("JobProperties(")


def test_decoding_does_not_disable_validators_for_other_threads() -> None:
    switched_off: list[bool] = []

    def watch(*_: Any) -> None:
        switched_off.append(attrs.validators.get_disabled())

    # Look at every call and return, as often as another thread could.
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
    ("response", "missing"),
    [
        ({}, "JobId"),
        ({"JobId": None}, "JobId"),
        ({"JobId": ""}, "JobId"),
        ({"jobId": "0"}, "JobId"),
    ],
)
def test_a_start_or_stop_response_without_a_job_id_is_invalid(
    response: dict[str, Any], missing: str
) -> None:
    for decode in (codec.decode_start, codec.decode_stop):
        with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
            decode(response)


@pytest.mark.parametrize(
    ("response", "missing"),
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
def test_a_job_without_id_or_status_is_invalid(response: dict[str, Any], missing: str) -> None:
    with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
        codec.decode_describe(response)


@pytest.mark.parametrize(
    ("response", "missing"),
    [
        ({}, JOBS),
        ({JOBS: None}, JOBS),
        ({"NextToken": "next"}, JOBS),
        ({JOBS: [LEAST_JOB, {"JobStatus": "FAILED"}]}, "JobId"),
    ],
)
def test_a_page_without_its_list_or_with_an_invalid_job_is_invalid(
    response: dict[str, Any], missing: str
) -> None:
    with pytest.raises(InvalidResponse, match=f"^it has no {missing}$"):
        codec.decode_list(response)


@pytest.mark.parametrize("name", FULL_JOB)
@pytest.mark.parametrize("value", [[CANARY], {CANARY}, CANARY.encode(), 1.5, True])
def test_a_member_of_the_wrong_type_is_invalid_and_its_value_is_not_shown(
    name: str, value: Any
) -> None:
    with pytest.raises(
        InvalidResponse, match=f"its {name} is of type {type(value).__name__}"
    ) as caught:
        described(**{name: value})

    assert CANARY not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


@pytest.mark.parametrize("member", ["S3Bucket", "S3Key"])
@pytest.mark.parametrize("location", ["InputDataConfig", "OutputDataConfig"])
def test_a_location_with_a_member_of_the_wrong_type_is_invalid(location: str, member: str) -> None:
    with pytest.raises(InvalidResponse, match=f"its {member} is of type list, not str"):
        described(**{location: {member: [CANARY]}})


@pytest.mark.parametrize(
    ("response", "name"),
    [({JOBS: {CANARY: 1}}, JOBS), ({JOBS: [], "NextToken": 7}, "NextToken")],
)
def test_a_page_with_a_member_of_the_wrong_type_is_invalid(
    response: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidResponse, match=f"its {name} is of type"):
        codec.decode_list(response)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({}, "it has no Entities"),
        ({"Entities": None}, "it has no Entities"),
        ({"Entities": CANARY}, "Expected `array`, got `str` - at `$.Entities`"),
        ({"Entities": [{"Id": CANARY}]}, "Expected `int`, got `str` - at `$.Entities[0].Id`"),
    ],
)
def test_the_reason_why_entities_are_invalid_names_the_member_but_not_its_value(
    response: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidResponse) as caught:
        codec.decode_detect(response)

    assert str(caught.value) == reason

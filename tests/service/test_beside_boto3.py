"""What plain boto3 does with the same calls: each row of the comparison in the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError

from comprehend_phi import (
    ActiveJobLimitExceeded,
    InputDataConfig,
    InvalidRequestException,
    MalformedResponseError,
    PHIClient,
    RequestValidationError,
    StartPHIDetectionJobRequest,
    TransportError,
)
from comprehend_phi.testing import LocalServer, faults

from ..conftest import CANARY

MakeRequest = Callable[..., StartPHIDetectionJobRequest]
PARTY = "party \N{PARTY POPPER}"
USER = "arn:aws:iam::123456789012:user/somebody"


@pytest.fixture
def raw(server: LocalServer) -> Iterator[Any]:
    """boto3 with its defaults, but without retries, to show what happens around a single call."""
    config = Config(retries={"total_max_attempts": 1})
    client: Any = boto3.client("comprehendmedical", endpoint_url=server.endpoint_url, config=config)
    yield client
    client.close()


@pytest.fixture
def members(bucket: str) -> dict[str, Any]:
    return {
        "InputDataConfig": {"S3Bucket": bucket, "S3Key": "notes"},
        "OutputDataConfig": {"S3Bucket": bucket},
        "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reads-notes",
        "LanguageCode": "en",
    }


@pytest.mark.parametrize(
    ("member", "value", "field", "ours"),
    [
        ("JobName", PARTY, "job_name", lambda: PARTY),
        ("DataAccessRoleArn", USER, "data_access_role_arn", lambda: USER),
        (
            "InputDataConfig",
            {"S3Bucket": "Hospital-Notes"},
            "input_data_config",
            lambda: InputDataConfig(s3_bucket="Hospital-Notes"),
        ),
    ],
    ids=["a name with an emoji", "an ARN of a user", "a bucket in capitals"],
)
def test_boto3_sends_a_bad_value_that_we_refuse(
    raw: Any,
    members: dict[str, Any],
    server: LocalServer,
    make_request: MakeRequest,
    member: str,
    value: Any,
    field: str,
    ours: Callable[[], object],
) -> None:
    with pytest.raises(ClientError):
        raw.start_phi_detection_job(**{**members, member: value})
    assert len(server.service.received) == 1

    with pytest.raises(RequestValidationError):
        make_request(**{field: ours()})


def test_boto3_quotes_a_rejected_value_and_we_do_not(
    raw: Any, members: dict[str, Any], make_request: MakeRequest
) -> None:
    with pytest.raises(ParamValidationError) as theirs:
        raw.start_phi_detection_job(**{**members, "JobName": [CANARY]})
    assert CANARY in str(theirs.value)

    with pytest.raises(RequestValidationError) as ours:
        make_request(job_name=[CANARY])
    assert CANARY not in str(ours.value)


def test_a_retry_loop_around_boto3_starts_five_jobs_and_ours_starts_one(
    raw: Any,
    members: dict[str, Any],
    server: LocalServer,
    once: PHIClient,
    make_request: MakeRequest,
) -> None:
    server.service.script(*[faults.reset_after()] * 5)
    for _ in range(5):
        with pytest.raises(ConnectionClosedError):
            raw.start_phi_detection_job(**members)
    assert len(server.service.job_ids) == 5

    request = make_request()
    server.service.script(*[faults.reset_after()] * 4)
    for _ in range(4):
        with pytest.raises(TransportError):
            once.start_phi_detection_job(request)
    once.start_phi_detection_job(request)
    assert len(server.service.job_ids) == 6


@pytest.mark.parametrize("fault", [faults.empty_map(), faults.html(), faults.cut()])
def test_boto3_treats_a_response_without_a_job_id_as_success_and_we_do_not(
    raw: Any,
    members: dict[str, Any],
    server: LocalServer,
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
    fault: faults.Fault,
) -> None:
    server.service.script(fault)
    assert "JobId" not in raw.start_phi_detection_job(**members)

    server.service.script(fault)
    with pytest.raises(MalformedResponseError):
        once.start_phi_detection_job(request_)


def test_boto3_reads_a_cut_list_as_no_jobs_and_we_do_not(
    raw: Any, server: LocalServer, once: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    once.start_phi_detection_job(request_)

    server.service.script(faults.cut())
    assert raw.list_phi_detection_jobs().get("ComprehendMedicalAsyncJobPropertiesList", []) == []

    server.service.script(faults.cut())
    with pytest.raises(MalformedResponseError):
        list(once.list_phi_detection_jobs())


def test_boto3_has_no_waiter_and_no_paginator_for_this_service(raw: Any) -> None:
    assert raw.waiter_names == []
    assert not raw.can_paginate("list_phi_detection_jobs")


def test_boto3_does_not_distinguish_taken_job_slots_from_throttling_and_we_do(
    raw: Any,
    members: dict[str, Any],
    server: LocalServer,
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    codes: set[str] = set()
    for fault in (faults.too_many_requests(), faults.job_limit()):
        server.service.script(fault)
        with pytest.raises(ClientError) as theirs:
            raw.start_phi_detection_job(**members)
        answer: Any = theirs.value.response
        codes.add(answer["Error"]["Code"])
    assert codes == {"TooManyRequestsException"}

    server.service.script(faults.job_limit())
    with pytest.raises(ActiveJobLimitExceeded):
        once.start_phi_detection_job(request_)


def test_boto3_has_error_classes_per_client_and_we_do_not(
    raw: Any,
    members: dict[str, Any],
    server: LocalServer,
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    other: Any = boto3.session.Session().client(
        "comprehendmedical", endpoint_url=server.endpoint_url
    )
    theirs = raw.exceptions.InvalidRequestException
    assert theirs is not other.exceptions.InvalidRequestException
    other.close()

    server.service.script(faults.error("InvalidRequestException"))
    with pytest.raises(InvalidRequestException):
        once.start_phi_detection_job(request_)

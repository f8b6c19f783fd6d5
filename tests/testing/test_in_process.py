"""`local_service`: the local service within the process, as a backend of moto."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.backend_index import backend_url_patterns

from comprehend_phi import (
    ActiveJobLimitExceeded,
    Entity,
    InputDataConfig,
    JobStatus,
    MalformedResponseError,
    OutputDataConfig,
    PHIClient,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TransportError,
    WaitPolicy,
)
from comprehend_phi.testing import (
    FakeClock,
    Fault,
    Limits,
    LocalServer,
    LocalService,
    WallClock,
    faults,
    local_service,
)

from ..conftest import PASSING_FAULTS, START
from ..entities import entity

untyped_boto3: Any = boto3  # its stubs only know some services


@pytest.fixture
def service(clock: FakeClock) -> Generator[LocalService, None, None]:
    with local_service(clock=clock, job_seconds=300) as service:
        yield service


@pytest.fixture
def in_process(service: LocalService, clock: FakeClock) -> Generator[PHIClient, None, None]:
    with PHIClient(region_name="us-east-1", clock=clock) as client:
        yield client


def put_note(region: str = "us-east-1") -> None:
    """Create a bucket with a note in the S3 of the block."""
    s3 = untyped_boto3.client("s3", region_name=region)
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket="bucket", **({} if region == "us-east-1" else place))
    s3.put_object(Bucket="bucket", Key="notes/note.txt", Body=b"Patient: Ada Example")


def get(key: str) -> bytes:
    s3 = untyped_boto3.client("s3", region_name="us-east-1")
    body: bytes = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    return body


def new_request() -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="bucket", s3_key="notes"),
        output_data_config=OutputDataConfig(s3_bucket="bucket", s3_key="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )


# --- In this process ------------------------------------------------------------------------------


def test_a_job_runs_within_the_process(in_process: PHIClient, clock: FakeClock) -> None:
    put_note()
    done = in_process.submit(new_request()).wait()
    assert done.job_status is JobStatus.COMPLETED
    assert clock.monotonic() >= 300
    assert done.output_data_config is not None
    assert b"Ada Example" in get(f"{done.output_data_config.s3_key}note.txt.out")


def test_plain_boto3_reaches_the_service(service: LocalService) -> None:
    client = untyped_boto3.client("comprehendmedical", region_name="us-east-1")
    job_id = client.start_phi_detection_job(
        InputDataConfig={"S3Bucket": "bucket"},
        OutputDataConfig={"S3Bucket": "bucket"},
        DataAccessRoleArn="arn:aws:iam::123456789012:role/reads-notes",
        LanguageCode="en",
    )["JobId"]
    assert service.job_ids == (job_id,)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_phi_detection_job(JobId="0" * 32)


def test_each_region_has_its_own_jobs(in_process: PHIClient, clock: FakeClock) -> None:
    job = in_process.submit(new_request())
    with PHIClient(region_name="eu-west-1", clock=clock) as elsewhere:
        assert list(elsewhere.list_phi_detection_jobs()) == []
    assert [one.job_id for one in in_process.list_phi_detection_jobs()] == [job.job_id]


@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=list(PASSING_FAULTS))
def test_a_start_survives_faults_within_the_process(
    in_process: PHIClient, service: LocalService, clock: FakeClock, fault: Fault
) -> None:
    service.script(fault, fault)
    response = in_process.start_phi_detection_job(new_request())
    assert service.job_ids == (response.job_id,)
    assert service.attempts(START) == 3
    assert len(clock.sleeps) == 2
    assert len({request.members["ClientRequestToken"] for request in service.received}) == 1


@pytest.mark.parametrize(
    ("fault", "error", "jobs"),
    [
        (faults.throttle(), ThrottlingException, 0),
        (faults.job_limit(), ActiveJobLimitExceeded, 0),
        (faults.reset_before(), TransportError, 0),
        (faults.reset_after(), TransportError, 1),
        (faults.cut(), MalformedResponseError, 1),
        (faults.html(), MalformedResponseError, 1),
        (faults.html(works=False), MalformedResponseError, 0),
        (faults.not_utf8(), MalformedResponseError, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_raises_the_same_error_as_over_http(
    service: LocalService, clock: FakeClock, fault: Fault, error: type[Exception], jobs: int
) -> None:
    service.script(fault)
    retry = RetryPolicy(max_attempts=1)
    with (
        PHIClient(region_name="us-east-1", clock=clock, retry=retry) as client,
        pytest.raises(error) as raised,
    ):
        client.start_phi_detection_job(new_request())
    assert type(raised.value) is error
    assert len(service.job_ids) == jobs


def test_a_slow_response_advances_the_clock_of_the_service(
    in_process: PHIClient, service: LocalService, clock: FakeClock
) -> None:
    service.script(faults.slow(12.5))
    in_process.submit(new_request())
    assert clock.sleeps == [12.5]


# --- Endpoints ------------------------------------------------------------------------------------

PLAIN = Config()
FIPS = Config(use_fips_endpoint=True)
DUAL_STACK = Config(use_dualstack_endpoint=True)
BOTH = Config(use_fips_endpoint=True, use_dualstack_endpoint=True)
ENDPOINTS = [
    ("us-east-1", PLAIN, "comprehendmedical.us-east-1.amazonaws.com"),
    ("us-east-1", FIPS, "comprehendmedical-fips.us-east-1.amazonaws.com"),
    ("us-east-1", DUAL_STACK, "comprehendmedical.us-east-1.api.aws"),
    ("us-east-1", BOTH, "comprehendmedical-fips.us-east-1.api.aws"),
    ("ca-central-1", BOTH, "comprehendmedical-fips.ca-central-1.api.aws"),
    ("us-gov-west-1", PLAIN, "comprehendmedical.us-gov-west-1.amazonaws.com"),
    ("us-gov-west-1", BOTH, "comprehendmedical-fips.us-gov-west-1.api.aws"),
    ("cn-north-1", PLAIN, "comprehendmedical.cn-north-1.amazonaws.com.cn"),
    ("cn-north-1", DUAL_STACK, "comprehendmedical.cn-north-1.api.amazonwebservices.com.cn"),
    ("eusc-de-east-1", PLAIN, "comprehendmedical.eusc-de-east-1.amazonaws.eu"),
    ("eusc-de-east-1", DUAL_STACK, "comprehendmedical.eusc-de-east-1.api.amazonwebservices.eu"),
    ("us-iso-east-1", PLAIN, "comprehendmedical.us-iso-east-1.c2s.ic.gov"),
    ("us-isob-east-1", FIPS, "comprehendmedical-fips.us-isob-east-1.sc2s.sgov.gov"),
    ("eu-isoe-west-1", PLAIN, "comprehendmedical.eu-isoe-west-1.cloud.adc-e.uk"),
    ("us-isof-south-1", PLAIN, "comprehendmedical.us-isof-south-1.csp.hci.ic.gov"),
]


@pytest.mark.parametrize(("region", "config", "host"), ENDPOINTS, ids=[row[2] for row in ENDPOINTS])
def test_every_endpoint_of_aws_is_served(
    region: str, config: Config, host: str, service: LocalService
) -> None:
    if (
        host.endswith(".eu")
        and "aws-eusc" not in untyped_boto3.Session().get_available_partitions()
    ):
        pytest.skip("this botocore does not know the partition")
    client = untyped_boto3.client("comprehendmedical", region_name=region, config=config)
    assert client.meta.endpoint_url == f"https://{host}"
    assert client.list_phi_detection_jobs()["ComprehendMedicalAsyncJobPropertiesList"] == []
    assert service.attempts("ListPHIDetectionJobs") == 1


@pytest.mark.parametrize(
    ("region", "config"),
    [("eu-west-1", DUAL_STACK), ("us-gov-west-1", BOTH), ("cn-north-1", PLAIN)],
    ids=["aws", "aws-us-gov", "aws-cn"],
)
def test_a_job_runs_in_every_partition(region: str, config: Config, clock: FakeClock) -> None:
    with (
        local_service(clock=clock, job_seconds=300),
        PHIClient(region_name=region, config=config, clock=clock) as client,
    ):
        put_note(region)
        job = client.submit(new_request())
        assert job.wait().job_status is JobStatus.COMPLETED
        with closing(job.results().redacted()) as redacted:
            assert [text for _, text in redacted] == ["Patient: [NAME]"]


@pytest.mark.parametrize(
    "url",
    [
        "https://vpce-0123-abcd.comprehendmedical.us-east-1.vpce.amazonaws.com",
        "https://comprehendmedical.us-east-1.amazonaws.com:443",
        "http://comprehendmedical.us-east-1.amazonaws.com",
    ],
)
def test_an_explicit_endpoint_is_served_if_it_belongs_to_aws(
    url: str, service: LocalService, clock: FakeClock
) -> None:
    with PHIClient(region_name="us-east-1", endpoint_url=url, clock=clock) as client:
        assert list(client.list_phi_detection_jobs()) == []
    assert service.attempts("ListPHIDetectionJobs") == 1


def test_a_server_still_gets_its_requests_inside_the_block(
    service: LocalService, clock: FakeClock
) -> None:
    with (
        LocalServer(clock=clock) as server,
        PHIClient(region_name="us-east-1", endpoint_url=server.endpoint_url) as client,
    ):
        assert list(client.list_phi_detection_jobs()) == []
        assert server.service.attempts("ListPHIDetectionJobs") == 1
    assert service.attempts("ListPHIDetectionJobs") == 0


# --- One at a time, and nothing left behind -------------------------------------------------------


def test_a_second_service_at_the_same_time_is_refused(service: LocalService) -> None:
    with pytest.raises(RuntimeError, match="already runs in this process"), local_service():
        pass
    # The first service still works.
    with PHIClient(region_name="us-east-1") as client:
        assert list(client.list_phi_detection_jobs()) == []
    assert service.attempts("ListPHIDetectionJobs") == 1


def test_each_block_has_a_new_service() -> None:
    with local_service() as first, PHIClient(region_name="us-east-1") as client:
        put_note()
        client.submit(new_request())
    with local_service() as second, PHIClient(region_name="us-east-1") as client:
        assert list(client.list_phi_detection_jobs()) == []
        # S3 is new, too.
        s3 = untyped_boto3.client("s3", region_name="us-east-1")
        assert s3.list_buckets()["Buckets"] == []
    assert len(first.job_ids) == 1
    assert second.job_ids == ()


def reset_moto() -> None:
    """Reset moto like `POST http://motoapi.amazonaws.com/moto-api/reset` inside the block."""
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()


def test_resetting_moto_resets_the_service(clock: FakeClock) -> None:
    with (
        local_service(clock=clock, limits=Limits(active_jobs=1)) as service,
        PHIClient(region_name="us-east-1", clock=clock) as client,
    ):
        for _ in range(2):
            put_note()  # the name of the bucket is free again
            client.submit(new_request())  # and so is the job slot
            assert len(list(service.job_ids)) == 1
            reset_moto()
            assert list(service.job_ids) == []
            assert list(client.list_phi_detection_jobs()) == []


def test_mock_aws_inside_the_block_changes_nothing(
    in_process: PHIClient, service: LocalService
) -> None:
    put_note()
    with mock_aws():
        job = in_process.submit(new_request())
    assert service.job_ids == (job.job_id,)
    assert job.wait().job_status is JobStatus.COMPLETED


def test_a_block_inside_mock_aws_sees_its_buckets(clock: FakeClock) -> None:
    with mock_aws():
        put_note()
        with (
            local_service(clock=clock),
            PHIClient(region_name="us-east-1", clock=clock) as client,
        ):
            assert client.submit(new_request()).wait().job_status is JobStatus.COMPLETED
        assert get("notes/note.txt") == b"Patient: Ada Example"


def test_leaving_the_block_restores_moto() -> None:
    patterns = list(backend_url_patterns)
    modules = {name for name in sys.modules if "comprehendmedical" in name}
    with local_service():
        assert len(backend_url_patterns) == len(patterns) + 1
    assert backend_url_patterns == patterns
    assert {name for name in sys.modules if "comprehendmedical" in name} == modules


def test_the_clock_of_the_block_dates_its_objects() -> None:
    s3 = untyped_boto3.client("s3", region_name="us-east-1")

    def dated() -> datetime:
        when: datetime = s3.head_object(Bucket="bucket", Key="notes/note.txt")["LastModified"]
        return when

    clock = FakeClock(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC))
    with local_service(clock=clock):
        put_note()
        assert dated() == clock.now()
    with mock_aws():
        put_note()
        assert dated() > datetime(2020, 1, 1, tzinfo=UTC)


def test_leaving_the_block_with_an_error_restores_moto() -> None:
    patterns = list(backend_url_patterns)
    with pytest.raises(ZeroDivisionError), local_service():
        raise ZeroDivisionError
    assert backend_url_patterns == patterns
    with local_service() as service:
        assert service.job_ids == ()


def test_outside_the_block_the_service_gets_no_requests() -> None:
    with local_service() as service:
        pass
    # Requests to AWS go to a proxy that does not exist. A leftover mock would answer them instead.
    options: dict[str, Any] = {
        "region_name": "us-east-1",
        "config": Config(proxies={"https": "http://127.0.0.1:9"}),
        "retry": RetryPolicy(max_attempts=1),
    }
    with PHIClient(**options) as client, pytest.raises(TransportError) as raised:
        client.submit(new_request())
    assert "ProxyConnectionError" in str(raised.value)
    assert service.attempts(START) == 0


# --- What can be chosen ---------------------------------------------------------------------------


def test_the_detector_of_the_block_finds_the_entities(clock: FakeClock) -> None:
    def detector(text: str) -> list[Entity]:
        return [entity(text, 0, 7, "ID")]

    with (
        local_service(clock=clock, detector=detector),
        PHIClient(region_name="us-east-1", clock=clock) as client,
    ):
        put_note()
        done = client.submit(new_request()).wait()
        assert done.output_data_config is not None
        out = get(f"{done.output_data_config.s3_key}note.txt.out")
    assert b'"Text":"Patient"' in out
    assert b"Ada Example" not in out


def test_the_limits_of_the_block_are_enforced(clock: FakeClock) -> None:
    with (
        local_service(clock=clock, limits=Limits(active_jobs=1)),
        PHIClient(region_name="us-east-1", clock=clock) as client,
    ):
        client.submit(new_request())
        with pytest.raises(ActiveJobLimitExceeded, match="limit for this account is 1"):
            client.submit(new_request())


def test_the_names_of_folders_contain_the_account_of_moto(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "210987654321")
    with (
        local_service(clock=clock),
        PHIClient(region_name="us-east-1", clock=clock) as client,
    ):
        put_note()
        done = client.submit(new_request()).wait()
        assert done.job_status is JobStatus.COMPLETED
        assert done.output_data_config is not None
        folder = f"results/210987654321-PHIDetection-{done.job_id}/"
        assert done.output_data_config.s3_key == folder
        assert b"Ada Example" in get(f"{folder}note.txt.out")


@pytest.mark.parametrize("seconds", [1.0, 86_400.0])
def test_a_job_runs_as_long_as_the_block_says(clock: FakeClock, seconds: float) -> None:
    with (
        local_service(clock=clock, job_seconds=seconds),
        PHIClient(region_name="us-east-1", clock=clock) as client,
    ):
        put_note()
        policy = WaitPolicy(delay=seconds / 4, max_delay=seconds, multiplier=1.0)
        done = client.submit(new_request()).wait(policy)
    assert done.submit_time is not None
    assert done.end_time == done.submit_time + timedelta(seconds=seconds)
    assert clock.sleeps == [seconds / 4] * 4


def test_the_default_clock_is_that_of_the_machine() -> None:
    before = datetime.now(UTC)
    with local_service() as service, PHIClient(region_name="us-east-1") as client:
        submitted = client.submit(new_request()).properties().submit_time
    assert isinstance(service.clock, WallClock)
    assert submitted is not None
    assert before - timedelta(seconds=1) <= submitted <= datetime.now(UTC)

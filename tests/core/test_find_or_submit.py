"""Finding a job by its name, or starting it: for programs that keep no state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from comprehend_phi import (
    InputDataConfig,
    JobMismatchError,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    PHIClient,
    PlaintextOutputWarning,
    RequestValidationError,
    StartPHIDetectionJobRequest,
    TransportError,
    request_token,
)
from comprehend_phi._adoption import find_job
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import CANARY, KEY, ROLE

NOON = datetime(2031, 2, 1, 12, tzinfo=UTC)


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    return each_client_class


@pytest.fixture
def request_(make_request: Callable[..., StartPHIDetectionJobRequest]) -> Any:
    return make_request(job_name="monday", client_request_token=request_token("monday"))


def started(client: PHIClient) -> int:
    """Return how many jobs the service has started."""
    return len(list(client.list_phi_detection_jobs()))


# --- Through the service --------------------------------------------------------------------------


def test_a_request_without_a_job_is_started(
    client: PHIClient, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.find_or_submit(request_)
    assert job.properties().job_name == "monday"
    assert started(client) == 1


def test_the_first_start_has_the_token_of_the_request(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job_id = client.submit(request_).job_id
    assert client.find_or_submit(request_).job_id == job_id


@pytest.mark.parametrize("seconds", [0, 400], ids=["running", "completed"])
def test_another_program_finds_the_job_whatever_its_token_is(
    client: PHIClient,
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
    seconds: float,
) -> None:
    job_id = client.find_or_submit(request_).job_id
    clock.sleep(seconds)
    again = attrs.evolve(request_, client_request_token="another-token")
    assert client.find_or_submit(again).job_id == job_id
    assert started(client) == 1


def test_a_job_that_was_started_or_found_can_be_waited_for(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    for job in (client.find_or_submit(request_), client.find_or_submit(request_)):
        assert job.wait().job_status is JobStatus.COMPLETED


def test_the_jobs_of_a_name_are_listed_in_pages_of_500(
    client: PHIClient, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    client.find_or_submit(request_)
    listed = server.service.received[0]
    assert listed.operation == "ListPHIDetectionJobs"
    assert listed.members["MaxResults"] == 500


def test_newer_jobs_of_other_names_do_not_matter(
    client: PHIClient, clock: FakeClock, request_: StartPHIDetectionJobRequest
) -> None:
    job_id = client.find_or_submit(request_).job_id
    clock.sleep(10)
    client.find_or_submit(
        attrs.evolve(request_, job_name="tuesday", client_request_token="another-token")
    )
    assert client.find_or_submit(request_).job_id == job_id


def test_a_stopped_job_is_started_again_once(
    client: PHIClient,
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    stopped = client.find_or_submit(request_)
    stopped.stop()
    assert client.find_or_submit(request_).job_id == stopped.job_id  # it may still complete
    clock.sleep(400)
    assert stopped.properties().job_status is JobStatus.STOPPED
    second = client.find_or_submit(request_).job_id
    assert second != stopped.job_id
    assert client.find_or_submit(request_).job_id == second
    assert started(client) == 2


def test_a_start_without_a_response_is_found_by_its_name(
    client: PHIClient,
    once: PHIClient,
    server: LocalServer,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(faults.reset_after(), operation="StartPHIDetectionJob")
    with pytest.raises(TransportError):
        once.find_or_submit(request_)
    job = client.find_or_submit(attrs.evolve(request_, client_request_token="another-token"))
    assert job.properties().job_name == "monday"
    assert started(client) == 1


def test_a_job_with_other_parameters_is_an_error_and_nothing_is_started(
    client: PHIClient, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    job_id = client.find_or_submit(request_).job_id
    other = attrs.evolve(
        request_, input_data_config=InputDataConfig(s3_bucket="other-notes", s3_key=CANARY)
    )
    with pytest.raises(JobMismatchError) as caught:
        client.find_or_submit(other)
    assert caught.value.job.job_id == job_id
    assert caught.value.differences == ("input_data_config",)
    assert CANARY not in str(caught.value)
    assert started(client) == 1


def test_a_request_without_a_name_is_refused_before_anything_is_sent(
    client: PHIClient,
    server: LocalServer,
    make_request: Callable[..., StartPHIDetectionJobRequest],
) -> None:
    with pytest.raises(RequestValidationError, match=r"find_or_submit\.request\.job_name"):
        client.find_or_submit(make_request())
    assert not server.service.received


def test_the_warnings_of_a_start_are_issued(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    with pytest.warns(PlaintextOutputWarning):
        client.find_or_submit(attrs.evolve(request_, kms_key=None))


# --- Which job ------------------------------------------------------------------------------------

REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key="2031/02"),
    output_data_config=OutputDataConfig(s3_bucket="results.example", s3_key="phi"),
    data_access_role_arn=ROLE,
    job_name="monday",
    kms_key=KEY,
    client_request_token="token-1",
)


def a_job(number: int, status: str = "COMPLETED", **fields: Any) -> JobProperties:
    """Return a job of REQUEST that was submitted in the minute `number`."""
    job_id = f"{number:032x}"
    members: dict[str, Any] = {
        "job_id": job_id,
        "job_status": JobStatus(status),
        "job_name": "monday",
        "submit_time": NOON + timedelta(minutes=number),
        "input_data_config": InputDataConfig(s3_bucket="notes.example", s3_key="2031/02"),
        "output_data_config": OutputDataConfig(
            s3_bucket="results.example", s3_key=f"phi/123456789012-PHIDetection-{job_id}/"
        ),
        "language_code": "en",
        "data_access_role_arn": ROLE,
        "kms_key": KEY,
        **fields,
    }
    return JobProperties(**members)


@pytest.mark.parametrize(
    ("jobs", "number"),
    [
        ([a_job(1)], 1),
        ([a_job(1, "SUBMITTED"), a_job(2, "IN_PROGRESS")], 2),
        ([a_job(2, "PARTIAL_SUCCESS"), a_job(1)], 2),
        ([a_job(1, "STOP_REQUESTED")], 1),
        ([a_job(3, "FAILED"), a_job(1), a_job(2, "STOPPED")], 1),
        ([a_job(1, submit_time=NOON), a_job(2, submit_time=NOON)], 2),
        ([a_job(2, submit_time=None), a_job(1)], 1),
    ],
)
def test_the_newest_job_that_did_not_end_badly_is_found(
    jobs: list[JobProperties], number: int
) -> None:
    found = find_job(REQUEST, jobs)
    assert isinstance(found, JobProperties)
    assert found.job_id == f"{number:032x}"


def token_after(*jobs: JobProperties) -> str:
    found = find_job(REQUEST, jobs)
    assert isinstance(found, StartPHIDetectionJobRequest)
    assert attrs.evolve(found, client_request_token="token-1") == REQUEST
    return found.client_request_token


def test_every_new_start_has_a_token_of_its_own() -> None:
    one, two = a_job(1, "FAILED"), a_job(2, "STOPPED")
    assert len({token_after(), token_after(one), token_after(two), token_after(one, two)}) == 4


def test_the_token_of_a_new_start_depends_on_the_request_and_on_the_failed_jobs() -> None:
    one, two = a_job(1, "FAILED"), a_job(2, "STOPPED")
    assert token_after(one, two) == request_token("token-1", one.job_id, two.job_id)


def test_the_token_does_not_depend_on_the_order_of_the_list() -> None:
    one, two = a_job(1, "FAILED"), a_job(2, "FAILED")
    assert token_after(one, two) == token_after(two, one)


def test_failed_jobs_may_have_other_parameters() -> None:
    assert token_after(a_job(1, "FAILED", kms_key=None))


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("job_name", "monday-2"),
        ("input_data_config", InputDataConfig(s3_bucket="notes.example", s3_key="2031/02-old")),
        ("input_data_config", InputDataConfig(s3_bucket="others.example", s3_key="2031/02")),
        ("input_data_config", InputDataConfig(s3_bucket="notes.example")),
        ("input_data_config", None),
        ("output_data_config", OutputDataConfig(s3_bucket="results.example", s3_key="phi/2/")),
        ("output_data_config", OutputDataConfig(s3_bucket="others.example", s3_key="phi")),
        ("output_data_config", None),
        ("data_access_role_arn", "arn:aws:iam::123456789012:role/another"),
        ("language_code", None),
        ("kms_key", None),
        ("kms_key", KEY.replace("0", "1")),
        ("kms_key", "11111111-1111-1111-1111-111111111111"),
    ],
)
def test_every_parameter_is_compared(field: str, shown: Any) -> None:
    with pytest.raises(JobMismatchError) as caught:
        find_job(REQUEST, [a_job(1, **{field: shown})])
    assert caught.value.differences == (field,)


@pytest.mark.parametrize(
    ("field", "asked", "shown"),
    [
        (
            "input_data_config",
            InputDataConfig(s3_bucket="notes.example", s3_key="2031/02/"),
            InputDataConfig(s3_bucket="notes.example", s3_key="2031/02"),
        ),
        (
            "input_data_config",
            InputDataConfig(s3_bucket="notes.example"),
            InputDataConfig(s3_bucket="notes.example"),
        ),
        (
            "output_data_config",
            OutputDataConfig(s3_bucket="results.example"),
            OutputDataConfig(
                s3_bucket="results.example", s3_key=f"123456789012-PHIDetection-{1:032x}/"
            ),
        ),
        (
            "output_data_config",
            OutputDataConfig(s3_bucket="results.example"),
            OutputDataConfig(s3_bucket="results.example"),
        ),
        (
            "output_data_config",
            OutputDataConfig(s3_bucket="results.example", s3_key="phi/"),
            OutputDataConfig(s3_bucket="results.example", s3_key="phi"),
        ),
        (
            "output_data_config",
            OutputDataConfig(s3_bucket="results.example", s3_key="phi-2031"),
            OutputDataConfig(
                s3_bucket="results.example", s3_key=f"phi-2031123456789012-PHIDetection-{1:032x}/"
            ),
        ),
        ("kms_key", None, None),
        ("kms_key", KEY.rpartition("/")[2], KEY),
        ("kms_key", "alias/notes", "arn:aws:kms:us-east-1:123456789012:alias/notes"),
        # Only KMS knows to which key an alias belongs.
        ("kms_key", "alias/notes", KEY),
        ("kms_key", "arn:aws:kms:us-east-1:123456789012:alias/notes", KEY),
        ("kms_key", KEY, "arn:aws:kms:us-east-1:123456789012:alias/notes"),
        ("kms_key", KEY.rpartition("/")[2], "alias/notes"),
    ],
)
def test_the_service_may_spell_a_parameter_in_another_way(
    field: str, asked: Any, shown: Any
) -> None:
    request = attrs.evolve(REQUEST, **{field: asked})
    assert isinstance(find_job(request, [a_job(1, **{field: shown})]), JobProperties)

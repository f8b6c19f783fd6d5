"""What a run asks the service: the job of a plan by its name, and the states of many jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import attrs
import pytest

from comprehend_phi import (
    ActiveJobLimitExceeded,
    JobMismatchError,
    JobStatus,
    OutputDataConfig,
    PHIClient,
    ResourceNotFoundException,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    request_token,
)
from comprehend_phi._client import start_at_once
from comprehend_phi.corpus.service import Poller, find_or_request
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import KEY


@pytest.fixture
def request_(make_request: Callable[..., StartPHIDetectionJobRequest]) -> object:
    return make_request(job_name="monday-1", client_request_token="token-1")


@pytest.fixture
def failed(client: PHIClient, clock: FakeClock) -> Callable[[StartPHIDetectionJobRequest], str]:
    """Start a job, stop it, and return its id."""

    def failed(request: StartPHIDetectionJobRequest) -> str:
        job_id = client.submit(request).job_id
        client.stop_phi_detection_job(job_id)
        clock.sleep(100)
        return job_id

    return failed


# --- Finding the job of a plan --------------------------------------------------------------------


def test_a_job_that_was_never_started_has_its_own_request(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    found = find_or_request(client, request_, start_token=None, retry_failed=False)
    assert found == request_


def test_a_job_is_found_by_its_name(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job_id = client.submit(request_).job_id
    found = find_or_request(client, request_, start_token=None, retry_failed=False)
    assert not isinstance(found, StartPHIDetectionJobRequest)
    assert found.job_id == job_id


@pytest.mark.parametrize("start_token", [None, "token-1"])
def test_a_failed_job_is_found_if_it_is_not_to_be_started_again(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    failed: Callable[[StartPHIDetectionJobRequest], str],
    start_token: str | None,
) -> None:
    failed(request_)
    newest = failed(attrs.evolve(request_, client_request_token="token-2"))
    found = find_or_request(client, request_, start_token=start_token, retry_failed=False)
    assert not isinstance(found, StartPHIDetectionJobRequest)
    assert (found.job_id, found.job_status) == (newest, JobStatus.STOPPED)


def test_a_failed_job_that_is_to_be_started_again_has_a_new_token(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    failed: Callable[[StartPHIDetectionJobRequest], str],
) -> None:
    job_id = failed(request_)
    found = find_or_request(client, request_, start_token="token-1", retry_failed=True)
    again = request_token("token-1", job_id)
    assert found == attrs.evolve(request_, client_request_token=again)


def test_a_second_start_that_was_under_way_is_sent_again(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    failed: Callable[[StartPHIDetectionJobRequest], str],
) -> None:
    again = request_token("token-1", failed(request_))
    found = find_or_request(client, request_, start_token=again, retry_failed=False)
    assert isinstance(found, StartPHIDetectionJobRequest)
    assert found.client_request_token == again


def test_a_second_start_that_was_under_way_is_sent_again_if_the_first_job_is_forgotten(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    again = request_token("token-1", "0" * 32)
    found = find_or_request(client, request_, start_token=again, retry_failed=False)
    assert found == attrs.evolve(request_, client_request_token=again)


def test_a_failed_job_that_the_service_has_forgotten_is_started_again_with_a_new_token(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    forgotten = "0" * 32
    found = find_or_request(
        client, request_, start_token="token-1", retry_failed=True, ended_badly=forgotten
    )
    again = request_token("token-1", forgotten)
    assert found == attrs.evolve(request_, client_request_token=again)


def test_a_job_with_other_parameters_is_an_error(
    client: PHIClient, request_: StartPHIDetectionJobRequest, bucket: str
) -> None:
    client.submit(request_)
    other = attrs.evolve(request_, output_data_config=OutputDataConfig(s3_bucket=bucket))
    with pytest.raises(JobMismatchError):
        find_or_request(client, other, start_token=None, retry_failed=False)


@pytest.mark.parametrize("kms_key", ["alias/phi-results", KEY.replace("us-east-1", "us-west-2")])
def test_a_job_whose_key_is_shown_in_another_way_is_the_same_job(
    client: PHIClient, request_: StartPHIDetectionJobRequest, kms_key: str
) -> None:
    assert kms_key != KEY
    job_id = client.submit(request_).job_id
    planned = attrs.evolve(request_, kms_key=kms_key)
    found = find_or_request(client, planned, start_token=None, retry_failed=False)
    assert not isinstance(found, StartPHIDetectionJobRequest)
    assert found.job_id == job_id


# --- Starting -------------------------------------------------------------------------------------


def test_a_start_does_not_wait_for_a_slot_even_if_the_client_does(
    make_client: Callable[..., PHIClient],
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    patient = make_client(retry=RetryPolicy(slot_timeout=3_600))
    server.service.script(faults.job_limit())
    with pytest.raises(ActiveJobLimitExceeded):
        start_at_once(patient, request_)
    assert clock.sleeps == []


def test_a_start_retries_other_errors_as_the_client_does(
    client: PHIClient,
    server: LocalServer,
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(faults.throttle(), faults.reset_after())
    assert start_at_once(client, request_) == server.service.job_ids[0]
    assert len(clock.sleeps) == 2
    assert len(server.service.job_ids) == 1


# --- Polling --------------------------------------------------------------------------------------


@pytest.fixture
def jobs(client: PHIClient, make_request: Callable[..., StartPHIDetectionJobRequest]) -> list[str]:
    return [client.submit(make_request()).job_id for _ in range(4)]


def requests_of(server: LocalServer, poll: Callable[[], object]) -> list[str]:
    before = len(server.service.received)
    poll()
    return [request.operation for request in list(server.service.received)[before:]]


DESCRIBE, LIST = "DescribePHIDetectionJob", "ListPHIDetectionJobs"


def test_one_list_is_enough_for_many_jobs(
    client: PHIClient, server: LocalServer, clock: FakeClock, jobs: list[str]
) -> None:
    poller = Poller(client)
    assert requests_of(server, lambda: poller.poll(jobs)) == [DESCRIBE] * 4
    clock.sleep(400)
    seen = poller.poll(jobs)
    assert {job.job_id: job.job_status for job in seen.jobs} == dict.fromkeys(
        jobs, JobStatus.COMPLETED
    )
    assert requests_of(server, lambda: poller.poll(jobs)) == [LIST]


def test_jobs_of_others_are_left_out(
    client: PHIClient, jobs: list[str], make_request: Callable[..., StartPHIDetectionJobRequest]
) -> None:
    poller = Poller(client)
    poller.poll(jobs[:3])
    client.submit(make_request())
    assert {job.job_id for job in poller.poll(jobs[:3]).jobs} == {*jobs[:3]}


def test_one_job_is_described(client: PHIClient, server: LocalServer, jobs: list[str]) -> None:
    poller = Poller(client)
    poller.poll(jobs)
    assert requests_of(server, lambda: poller.poll(jobs[:1])) == [DESCRIBE]


def test_jobs_that_were_submitted_later_are_in_the_list(
    client: PHIClient,
    server: LocalServer,
    clock: FakeClock,
    jobs: list[str],
    make_request: Callable[..., StartPHIDetectionJobRequest],
) -> None:
    poller = Poller(client)
    poller.poll(jobs)
    clock.sleep(10)
    later = [*jobs, client.submit(make_request()).job_id]
    clock.sleep(timedelta(days=1).total_seconds())
    assert requests_of(server, lambda: poller.poll(later)) == [LIST]


def test_a_job_that_is_not_in_the_list_is_described(
    client: PHIClient,
    server: LocalServer,
    clock: FakeClock,
    make_request: Callable[..., StartPHIDetectionJobRequest],
) -> None:
    early = client.submit(make_request()).job_id
    clock.sleep(3_600)
    late = client.submit(make_request()).job_id
    poller = Poller(client)
    poller.poll([late])
    assert requests_of(server, lambda: poller.poll([early, late])) == [LIST, DESCRIBE]


def test_a_job_that_the_service_does_not_know_is_named_beside_the_others(
    client: PHIClient, jobs: list[str]
) -> None:
    poller = Poller(client)
    poller.poll(jobs)
    polled = poller.poll(["0" * 32, *jobs])
    assert {job.job_id for job in polled.jobs} == {*jobs}
    assert [*polled.unknown] == ["0" * 32]
    assert isinstance(polled.unknown["0" * 32], ResourceNotFoundException)

"""Waiting for jobs: when the next poll is due, how waits end, and jobs of other processes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from attrs import evolve
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from hypothesis import given
from hypothesis import strategies as st

from comprehend_phi import (
    AccessDeniedException,
    ExpiredTokenException,
    InputDataConfig,
    JobFailed,
    JobProperties,
    JobStatus,
    JobStopped,
    MalformedResponseError,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    ResourceNotFoundException,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    TransportError,
    WaitPolicy,
    WaitTimeout,
)
from comprehend_phi._jobs import Wait, next_poll
from comprehend_phi.testing import FakeClock, Fault, LocalServer, faults

from ..conftest import DESCRIBE, JOB_ID, PASSING_FAULTS, START, STOP

MakeClient = Callable[..., PHIClient]
MakeRequest = Callable[..., StartPHIDetectionJobRequest]


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    """Both clients: the same attempts, tokens, errors and endings."""
    return each_client_class


# --- The next step --------------------------------------------------------------------------------

ENDS = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS, JobStatus.FAILED, JobStatus.STOPPED)
ON_THE_WAY = (
    None,  # no poll has succeeded
    JobStatus.SUBMITTED,
    JobStatus.IN_PROGRESS,
    JobStatus.STOP_REQUESTED,
    JobStatus("PAUSED"),
)


@pytest.mark.parametrize(
    ("polls", "delay"),
    [(1, 10.0), (2, 15.0), (3, 22.5), (4, 33.75), (5, 50.625), (6, 60.0), (7, 60.0)],
)
def test_the_default_delay_grows_by_half_up_to_a_minute(polls: int, delay: float) -> None:
    assert next_poll(WaitPolicy(), status=None, polls=polls, elapsed=0.0) == delay


@pytest.mark.parametrize("status", ENDS)
@pytest.mark.parametrize("timeout", [None, 0.0, 1000.0])
def test_no_poll_follows_the_end_of_a_job(status: JobStatus, timeout: float | None) -> None:
    policy = WaitPolicy(timeout=timeout)
    assert next_poll(policy, status=status, polls=1, elapsed=0.0) is None


@pytest.mark.parametrize("status", ON_THE_WAY)
def test_a_poll_follows_every_other_state(status: JobStatus | None) -> None:
    assert next_poll(WaitPolicy(), status=status, polls=1, elapsed=10.0**9) == 10.0


@pytest.mark.parametrize(
    ("timeout", "elapsed", "delay"),
    [
        (100.0, 0.0, 10.0),
        (100.0, 90.0, 10.0),
        (100.0, 90.5, 9.5),
        (100.0, 99.75, 0.25),
        (100.0, 100.0, None),
        (100.0, 250.0, None),
        (5.0, 0.0, 5.0),
        (0.0, 0.0, None),
        (float("inf"), 10.0**9, 10.0),
    ],
)
def test_the_last_poll_happens_at_the_timeout(
    timeout: float, elapsed: float, delay: float | None
) -> None:
    policy = WaitPolicy(timeout=timeout)
    assert next_poll(policy, status=JobStatus.SUBMITTED, polls=1, elapsed=elapsed) == delay


@pytest.mark.parametrize(
    ("policy", "delay"),
    [
        (WaitPolicy(delay=90.0, max_delay=60.0), 60.0),
        (WaitPolicy(multiplier=1.0), 10.0),
        (WaitPolicy(multiplier=1e308), 60.0),
        (WaitPolicy(delay=1, max_delay=7, multiplier=2), 7.0),  # numbers that are not floats
    ],
)
def test_no_delay_is_longer_than_the_longest(policy: WaitPolicy, delay: float) -> None:
    assert next_poll(policy, status=None, polls=5000, elapsed=0.0) == delay


positive = st.floats(0.001, 1e6)
policies = st.builds(
    WaitPolicy,
    delay=positive | st.integers(1, 1000),
    max_delay=positive | st.integers(1, 1000),
    multiplier=st.floats(1.0, 1e300) | st.integers(1, 100),
    timeout=st.none() | st.floats(0.0) | st.integers(0, 1000),
)


@given(
    policies,
    st.sampled_from((*ENDS, *ON_THE_WAY)),
    st.integers(1, 50_000),
    st.floats(0.0, 1e12),
)
def test_a_next_poll_is_within_every_bound_and_missing_only_for_a_reason(
    policy: WaitPolicy, status: JobStatus | None, polls: int, elapsed: float
) -> None:
    delay = next_poll(policy, status=status, polls=polls, elapsed=elapsed)
    over = status in ENDS or (policy.timeout is not None and elapsed >= policy.timeout)
    assert (delay is None) == over
    if delay is not None:
        assert 0 < delay <= policy.max_delay
        assert policy.timeout is None or delay <= policy.timeout - elapsed


@given(st.floats(0.0, 1e7), st.floats(0.0, 1000.0))
def test_a_wait_reaches_its_timeout_for_any_reading_of_the_clock(
    start: float, timeout: float
) -> None:
    # A clock's reading is rounded, so that the rest to the timeout may be too small to move it.
    clock = FakeClock()
    clock.sleep(start)
    wait = Wait("0", WaitPolicy(timeout=timeout), clock)
    running = JobProperties(job_id="0", job_status=JobStatus.IN_PROGRESS)
    polls = 1
    while (delay := wait.next_delay(running)) is not None:
        clock.sleep(delay)
        polls += 1
        # 22 polls by the policy, and one for the rounding.
        assert polls <= 23, "the wait does not end"


# --- Endings --------------------------------------------------------------------------------------


def test_a_wait_returns_the_properties_of_the_completed_job(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.submit(request_)
    done = job.wait()
    assert (done.job_id, done.job_status) == (job.job_id, JobStatus.COMPLETED)
    assert done == job.properties()


def test_a_wait_returns_the_properties_of_a_job_with_partial_success(
    client: PHIClient, request_: StartPHIDetectionJobRequest, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/not-utf8.txt", Body=b"\xff\xfe")
    assert client.submit(request_).wait().job_status is JobStatus.PARTIAL_SUCCESS


def test_a_job_without_its_input_bucket_ends_the_wait_with_the_reason(
    client: PHIClient, make_request: MakeRequest
) -> None:
    missing = InputDataConfig(s3_bucket="no-such-bucket")
    job = client.submit(make_request(input_data_config=missing))
    with pytest.raises(JobFailed) as failed:
        job.wait()
    assert failed.value.job.job_status is JobStatus.FAILED
    assert "The input bucket does not exist or cannot be accessed" in str(failed.value)
    assert job.job_id in str(failed.value)


def test_a_job_without_its_output_bucket_ends_the_wait_with_the_reason(
    client: PHIClient, make_request: MakeRequest
) -> None:
    missing = OutputDataConfig(s3_bucket="no-such-bucket")
    job = client.submit(make_request(output_data_config=missing))
    with pytest.raises(JobFailed, match="The output bucket does not exist"):
        job.wait()


def test_a_job_without_files_ends_the_wait_with_the_reason(
    client: PHIClient, make_request: MakeRequest, bucket: str
) -> None:
    empty = InputDataConfig(s3_bucket=bucket, s3_key="no-such-folder")
    with pytest.raises(JobFailed, match="The input location contains no files"):
        client.submit(make_request(input_data_config=empty)).wait()


def test_a_job_stopped_from_on_poll_ends_the_wait(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.submit(request_)
    seen: list[str] = []

    def stop(properties: JobProperties) -> None:
        seen.append(properties.job_status)
        if properties.job_status is JobStatus.IN_PROGRESS:
            assert job.stop() == job.job_id

    with pytest.raises(JobStopped) as stopped:
        job.wait(WaitPolicy(delay=30, multiplier=1.0), on_poll=stop)
    assert stopped.value.job.job_status is JobStatus.STOPPED
    assert job.job_id in str(stopped.value)
    # A stop takes a fifth of the job's 300 seconds.
    assert seen == ["SUBMITTED", "SUBMITTED", "IN_PROGRESS", "STOP_REQUESTED", "STOPPED"]


def test_a_job_stopped_by_another_client_ends_the_wait(
    client: PHIClient, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    other = make_client()
    job = client.submit(request_)
    with pytest.raises(JobStopped):
        job.wait(on_poll=lambda seen: other.stop_phi_detection_job(seen.job_id))


def test_a_wait_for_a_job_that_has_ended_polls_once(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
) -> None:
    job = client.submit(request_)
    clock.sleep(300)
    before = len(clock.sleeps)
    assert job.wait(WaitPolicy(timeout=0)).job_status is JobStatus.COMPLETED
    assert server.service.attempts(DESCRIBE) == 1
    assert len(clock.sleeps) == before


def test_a_wait_continues_through_an_unknown_status(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = client.submit(request_)
    paused = {"ComprehendMedicalAsyncJobProperties": {"JobId": job.job_id, "JobStatus": "PAUSED"}}
    server.service.script(faults.answer(200, json.dumps(paused).encode()), operation=DESCRIBE)
    seen: list[str] = []
    assert job.wait(on_poll=lambda job: seen.append(job.job_status)).job_status == "COMPLETED"
    assert seen[:2] == ["PAUSED", "SUBMITTED"]


# --- The timeout ----------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.5, 10.0, 11.0, 100.0, 299.75])
def test_a_wait_times_out_exactly_at_its_timeout(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
    timeout: float,
) -> None:
    job = client.submit(request_)
    polled: list[float] = []
    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(WaitPolicy(timeout=timeout), on_poll=lambda _: polled.append(clock.monotonic()))
    assert polled[0] == 0.0
    assert polled[-1] == timeout
    assert clock.monotonic() == timeout
    assert timed_out.value.timeout == timeout
    assert len(polled) == server.service.attempts(DESCRIBE)


def test_a_wait_timeout_names_the_last_status_and_how_to_continue(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.submit(request_)
    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(WaitPolicy(timeout=100))
    error = timed_out.value
    assert isinstance(error, TimeoutError)
    assert (error.job.job_id, error.job.job_status) == (job.job_id, JobStatus.IN_PROGRESS)
    assert error.last_poll_error is None
    assert str(error) == (
        f"Job {job.job_id} was still IN_PROGRESS after 100 seconds. The job is still running; call"
        f" client.job('{job.job_id}').wait() to keep waiting."
    )


def test_a_job_goes_on_after_a_wait_timed_out(
    client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    job = client.submit(request_)
    with pytest.raises(WaitTimeout):
        job.wait(WaitPolicy(timeout=100))
    # The second timeout is counted from the second wait's begin.
    done = job.wait(WaitPolicy(timeout=200))
    assert done.job_status is JobStatus.COMPLETED
    assert clock.monotonic() == 300


def test_a_timeout_of_zero_polls_exactly_once(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
) -> None:
    job = client.submit(request_)
    with pytest.raises(WaitTimeout, match="after 0 seconds"):
        job.wait(WaitPolicy(timeout=0))
    assert server.service.attempts(DESCRIBE) == 1
    assert clock.sleeps == []


def test_a_wait_ends_even_if_the_clock_rounds_to_just_under_its_timeout(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
) -> None:
    # Half a day on, 0.7 seconds more read as 0.7 less 3e-12, and 43200.7 plus 3e-12 is 43200.7:
    # whoever sleeps for the rest again and again never gets there.
    clock.sleep(43_200)
    job = client.submit(request_)

    def enough(_: JobProperties) -> None:
        assert server.service.attempts(DESCRIBE) <= 3, "the wait does not end"

    with pytest.raises(WaitTimeout):
        job.wait(WaitPolicy(timeout=0.7), on_poll=enough)


@pytest.mark.parametrize("policy", [WaitPolicy(), WaitPolicy(timeout=5), WaitPolicy(timeout=1000)])
def test_the_argument_timeout_takes_the_place_of_the_timeout_of_the_policy(
    client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock, policy: WaitPolicy
) -> None:
    job = client.submit(request_)
    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(policy, timeout=60)
    assert timed_out.value.timeout == 60
    assert clock.monotonic() == 60


def test_the_argument_timeout_changes_nothing_else_of_the_policy(
    client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    policy = WaitPolicy(delay=20, multiplier=1, timeout=1)
    with pytest.raises(WaitTimeout):
        client.submit(request_).wait(policy, timeout=50)
    assert clock.sleeps == [20, 20, 10]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "60", True])
def test_an_invalid_timeout_is_refused_before_the_first_poll(
    client: PHIClient, server: LocalServer, timeout: Any
) -> None:
    with pytest.raises(RequestValidationError) as refused:
        client.job(JOB_ID).wait(timeout=timeout)
    assert (refused.value.owner, refused.value.field) == ("wait", "timeout")
    assert list(server.service.received) == []


@pytest.mark.parametrize("ending", [JobFailed, JobStopped, WaitTimeout])
def test_the_errors_of_a_wait_survive_pickling(
    client: PHIClient, make_request: MakeRequest, ending: type[Exception]
) -> None:
    missing = InputDataConfig(s3_bucket="no-such-bucket")
    job = client.submit(make_request(input_data_config=missing))
    if ending is JobStopped:
        job.stop()
    policy = WaitPolicy(timeout=0 if ending is WaitTimeout else None)
    with pytest.raises(ending) as raised:
        job.wait(policy)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert type(copy) is ending
    assert (str(copy), copy.__dict__) == (str(raised.value), raised.value.__dict__)


# --- How often, and when --------------------------------------------------------------------------


def test_the_polls_follow_the_policy(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
) -> None:
    client.submit(request_).wait()
    assert clock.sleeps == [10.0, 15.0, 22.5, 33.75, 50.625, 60.0, 60.0, 60.0]
    assert server.service.attempts(DESCRIBE) == 9


def test_the_first_poll_happens_at_once(
    client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    polled: list[float] = []
    client.submit(request_).wait(on_poll=lambda _: polled.append(clock.monotonic()))
    assert polled == [0.0, *accumulate(clock.sleeps)]


def test_a_wait_of_a_day_takes_no_time_and_as_many_polls_as_the_policy_says(
    make_client: MakeClient, clock: FakeClock
) -> None:
    with LocalServer(clock=clock, job_seconds=86_400) as server:
        client = make_client(endpoint_url=server.endpoint_url)
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket="no-such-bucket"),
            output_data_config=OutputDataConfig(s3_bucket="no-such-bucket-either"),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key="alias/notes",
        )
        with pytest.raises(JobFailed):
            client.submit(request).wait(WaitPolicy(max_delay=600.0))
        # The first, 11 while the delay grows to 600 seconds in the first 1,710, then 84,690 / 600.
        assert server.service.attempts(DESCRIBE) == 1 + 11 + 142
    assert 86_400 <= clock.monotonic() < 86_400 + 600


def test_on_poll_sees_the_properties_of_every_poll(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = client.submit(request_)
    seen: list[JobProperties] = []
    done = job.wait(on_poll=seen.append)
    assert len(seen) == server.service.attempts(DESCRIBE)
    assert {properties.job_id for properties in seen} == {job.job_id}
    # 0, 10, 25 and 47.5 seconds are in the first fifth of the job's 300.
    assert [properties.job_status.value for properties in seen] == (
        ["SUBMITTED"] * 4 + ["IN_PROGRESS"] * 4 + ["COMPLETED"]
    )
    assert seen[-1] is done


def test_the_exception_of_on_poll_ends_the_wait(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    class Enough(Exception):
        pass

    def raise_(_: JobProperties) -> None:
        raise Enough

    with pytest.raises(Enough):
        client.submit(request_).wait(on_poll=raise_)
    assert server.service.attempts(DESCRIBE) == 1


# --- Polls that fail ------------------------------------------------------------------------------

POLL_FAULTS = {
    **PASSING_FAULTS,
    "html 502": faults.html(502),
    "html 429": faults.html(429, works=False),
    "no status": faults.answer(200, b'{"ComprehendMedicalAsyncJobProperties": {"JobId": "1"}}'),
    "no job id": faults.answer(
        200, b'{"ComprehendMedicalAsyncJobProperties": {"JobStatus": "COMPLETED"}}'
    ),
}


@pytest.mark.parametrize("fault", POLL_FAULTS.values(), ids=list(POLL_FAULTS))
def test_a_poll_is_retried_by_the_retry_policy(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, fault: Fault
) -> None:
    job = client.submit(request_)
    server.service.script(*[fault] * 7, operation=DESCRIBE)  # the default policy's eight attempts
    seen: list[JobProperties] = []
    with pytest.raises(WaitTimeout):
        job.wait(WaitPolicy(timeout=0), on_poll=seen.append)
    assert server.service.attempts(DESCRIBE) == 8
    assert [properties.job_status for properties in seen] == ["SUBMITTED"]


@pytest.mark.parametrize("fault", POLL_FAULTS.values(), ids=list(POLL_FAULTS))
def test_a_poll_whose_retries_fail_does_not_end_the_wait(
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
    fault: Fault,
) -> None:
    job = once.submit(request_)
    server.service.script(faults.passes(), *[fault] * 3, operation=DESCRIBE)
    seen: list[JobProperties] = []
    assert job.wait(on_poll=seen.append).job_status is JobStatus.COMPLETED
    # Each of the three was a poll of its own, in the policy's rhythm, without news of the job.
    assert server.service.attempts(DESCRIBE) == len(seen) + 3
    assert clock.sleeps[:4] == [10.0, 15.0, 22.5, 33.75]


@pytest.mark.parametrize("timeout", [None, 0.0, 1000.0])
@pytest.mark.parametrize("fault", POLL_FAULTS.values(), ids=list(POLL_FAULTS))
def test_a_first_poll_whose_retries_fail_ends_the_wait_with_its_error(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    fault: Fault,
    timeout: float | None,
) -> None:
    job = client.submit(request_)
    server.service.script(*[fault] * 8, operation=DESCRIBE)  # the default policy's eight attempts
    told: list[Any] = []
    with pytest.raises((ServiceError, TransportError)) as ended:
        job.wait(WaitPolicy(timeout=timeout), on_poll=told.append, on_poll_error=told.append)
    assert ended.value.operation == DESCRIBE
    assert ended.value.attempts == server.service.attempts(DESCRIBE) == 8
    assert ended.value.__cause__ is ended.value.__context__ is None
    assert told == []


def test_a_wait_for_an_endpoint_that_is_not_there_ends_with_the_first_poll(
    make_client: MakeClient, clock: FakeClock
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = make_client(endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(TransportError) as ended:
        client.job(JOB_ID).wait()
    assert ended.value.attempts == 8
    assert len(clock.sleeps) == 7  # the waits between the attempts


def test_a_poll_that_no_retry_fixes_ends_the_wait_at_once(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, clock: FakeClock
) -> None:
    job = client.submit(request_)
    server.service.script(
        faults.passes(), faults.error("AccessDeniedException", "No."), operation=DESCRIBE
    )
    with pytest.raises(AccessDeniedException) as denied:
        job.wait()
    assert denied.value.attempts == 1
    assert server.service.attempts(DESCRIBE) == 2
    assert clock.sleeps == [10.0]


def test_a_wait_for_a_job_that_does_not_exist_says_so(client: PHIClient) -> None:
    with pytest.raises(ResourceNotFoundException):
        client.job(JOB_ID).wait()


def test_a_timeout_after_a_failed_last_poll_says_so(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = once.submit(request_)
    server.service.script(faults.passes(), faults.throttle(), operation=DESCRIBE)
    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(WaitPolicy(timeout=10))
    # The properties are those of the poll that succeeded.
    assert timed_out.value.job.job_status is JobStatus.SUBMITTED
    assert "ThrottlingException" in (timed_out.value.last_poll_error or "")
    assert f"The last poll failed: {timed_out.value.last_poll_error}" in str(timed_out.value)


def test_a_failed_poll_that_was_followed_by_a_good_one_is_not_mentioned(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    server.service.script(faults.passes(), faults.throttle(), operation=DESCRIBE)
    with pytest.raises(WaitTimeout) as timed_out:
        once.submit(request_).wait(WaitPolicy(timeout=25))  # polls at 0, 10 and 25 seconds
    assert server.service.attempts(DESCRIBE) == 3
    assert timed_out.value.last_poll_error is None
    assert "last poll" not in str(timed_out.value)


def test_a_poll_in_progress_at_the_timeout_is_not_interrupted(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, clock: FakeClock
) -> None:
    job = client.submit(request_)
    server.service.script(faults.throttle({"Retry-After": "400"}), operation=DESCRIBE)
    assert job.wait(WaitPolicy(timeout=100)).job_status is JobStatus.COMPLETED
    assert clock.sleeps == [400.0]


def test_the_time_of_retries_counts_towards_the_timeout(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, clock: FakeClock
) -> None:
    job = client.submit(request_)
    server.service.script(faults.throttle({"Retry-After": "95"}), operation=DESCRIBE)
    with pytest.raises(WaitTimeout):
        job.wait(WaitPolicy(timeout=100))
    assert clock.sleeps == [95.0, 5.0]


def test_the_timeout_of_retries_is_each_polls_own(
    make_client: MakeClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    # No poll may take longer than 5 seconds of retries; the wait takes 300 all the same.
    client = make_client(retry=RetryPolicy(timeout=5.0))
    job = client.submit(request_)
    late = faults.throttle({"Retry-After": "3"})
    server.service.script(*[late, faults.passes()] * 5, operation=DESCRIBE)
    assert job.wait().job_status is JobStatus.COMPLETED


# --- Polls that could not be sent -----------------------------------------------------------------


class Credentials:
    """Credentials that botocore refreshes before every request.

    Attributes:
        broken: how many of the next refreshes fail.
    """

    def __init__(self) -> None:
        self.broken = 0.0
        self.session = boto3.Session(botocore_session=botocore.session.Session())
        metadata = self.refresh()
        # boto3 has no public way to hand credentials in that refresh themselves.
        inner: Any = self.session._session
        inner._credentials = RefreshableCredentials.create_from_metadata(
            metadata, self.refresh, "test"
        )

    def refresh(self) -> dict[str, str]:
        if self.broken > 0:
            self.broken -= 1
            raise CredentialRetrievalError(provider="test", error_msg="no answer")
        # Credentials that expire within ten minutes are refreshed at once.
        expiry = datetime.now(UTC) + timedelta(minutes=5)
        return {
            "access_key": "testing",
            "secret_key": "testing",
            "token": "testing",
            "expiry_time": expiry.isoformat(),
        }


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


def test_a_failed_refresh_of_credentials_does_not_end_the_wait(
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    credentials: Credentials,
) -> None:
    job = make_client(session=credentials.session).submit(request_)
    seen: list[JobProperties] = []
    failed: list[ServiceError | TransportError] = []

    def polled(properties: JobProperties) -> None:
        seen.append(properties)
        credentials.broken = 1 if len(seen) == 2 else 0

    done = job.wait(on_poll=polled, on_poll_error=failed.append)
    assert done.job_status is JobStatus.COMPLETED
    assert [(type(error), error.attempts, error.retryable) for error in failed] == [
        (TransportError, 1, False)
    ]
    assert len(seen) == server.service.attempts(DESCRIBE)


def test_credentials_that_are_broken_from_the_beginning_end_the_wait_at_once(
    make_client: MakeClient, credentials: Credentials, clock: FakeClock
) -> None:
    client = make_client(session=credentials.session)
    credentials.broken = 1
    with pytest.raises(TransportError) as ended:
        client.job(JOB_ID).wait()
    assert not ended.value.retryable
    assert clock.sleeps == []


@pytest.mark.parametrize("timeout", [None, 1_000_000.0])
def test_credentials_that_stay_broken_end_the_wait_after_an_hour(
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
    clock: FakeClock,
    credentials: Credentials,
    timeout: float | None,
) -> None:
    job = make_client(session=credentials.session).submit(request_)

    def polled(_: JobProperties) -> None:
        credentials.broken = float("inf")

    failed: list[float] = []
    with pytest.raises(TransportError, match="credentials") as ended:
        job.wait(
            WaitPolicy(delay=100, max_delay=100, timeout=timeout),
            on_poll=polled,
            on_poll_error=lambda _: failed.append(clock.monotonic()),
        )
    # Broken from the second poll on, which is at 100 seconds.
    assert failed == [100.0 * number for number in range(1, 37)]
    assert clock.monotonic() == 100 + 3600
    assert ended.value.__cause__ is ended.value.__context__ is None


def test_a_timeout_before_the_hour_is_over_is_a_timeout(
    make_client: MakeClient, request_: StartPHIDetectionJobRequest, credentials: Credentials
) -> None:
    job = make_client(session=credentials.session).submit(request_)

    def polled(_: JobProperties) -> None:
        credentials.broken = float("inf")

    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(WaitPolicy(timeout=60), on_poll=polled)
    assert "credentials" in (timed_out.value.last_poll_error or "")


def test_each_run_of_polls_that_could_not_be_sent_has_an_hour_of_its_own(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, clock: FakeClock
) -> None:
    job = once.submit(request_)
    expired = faults.error("ExpiredTokenException", "Expired.")
    paused = {"ComprehendMedicalAsyncJobProperties": {"JobId": job.job_id, "JobStatus": "PAUSED"}}
    news = faults.answer(200, json.dumps(paused).encode())
    # The policy's pause is half an hour: two of these in a row are allowed, a third is not.
    server.service.script(
        news,
        *(expired, expired, news),
        *(expired, expired, faults.throttle()),
        *(expired, expired, expired),
        operation=DESCRIBE,
    )
    with pytest.raises(ExpiredTokenException):
        job.wait(WaitPolicy(delay=1800, max_delay=1800))
    assert server.service.attempts(DESCRIBE) == 10
    assert clock.monotonic() == 9 * 1800


def test_a_single_poll_that_cannot_be_sent_does_not_end_the_wait_after_any_pause(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = once.submit(request_)
    expired = faults.error("ExpiredTokenException", "Expired.")
    paused = {"ComprehendMedicalAsyncJobProperties": {"JobId": job.job_id, "JobStatus": "PAUSED"}}
    news = faults.answer(200, json.dumps(paused).encode())
    server.service.script(news, expired, operation=DESCRIBE)
    done = job.wait(WaitPolicy(delay=86_400, max_delay=86_400))
    assert done.job_status is JobStatus.COMPLETED


REFUSALS = [
    "AccessDeniedException",
    "InvalidRequestException",
    "ResourceNotFoundException",
    "UnrecognizedClientException",
]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_poll_ends_the_wait_at_once(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, code: str
) -> None:
    job = client.submit(request_)
    server.service.script(faults.passes(), faults.error(code, "No."), operation=DESCRIBE)
    failed: list[Any] = []
    with pytest.raises(ServiceError) as refused:
        job.wait(on_poll_error=failed.append)
    assert refused.value.code == code
    assert server.service.attempts(DESCRIBE) == 2
    assert failed == []


def test_on_poll_error_sees_the_error_of_every_failed_poll_that_does_not_end_the_wait(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = once.submit(request_)
    server.service.script(
        faults.passes(),
        faults.throttle(),
        faults.passes(),
        faults.unavailable(),
        operation=DESCRIBE,
    )
    told: list[str] = []
    job.wait(
        on_poll=lambda seen: told.append(seen.job_status.value),
        on_poll_error=lambda error: told.append(type(error).__name__),
    )
    assert told[:5] == [
        *("SUBMITTED", "ThrottlingException"),
        *("SUBMITTED", "ServiceUnavailableException"),
        "IN_PROGRESS",
    ]


def test_the_exception_of_on_poll_error_ends_the_wait(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = once.submit(request_)
    server.service.script(faults.passes(), faults.throttle(), operation=DESCRIBE)

    def raise_(_: object) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        job.wait(on_poll_error=raise_)
    assert server.service.attempts(DESCRIBE) == 2


# --- Job ------------------------------------------------------------------------------------------


def test_submit_starts_the_job_of_the_request(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = client.submit(request_)
    assert server.service.job_ids == (job.job_id,)
    # The same start, by the other name.
    assert client.start_phi_detection_job(request_).job_id == job.job_id


def test_the_repr_of_a_job_shows_its_id() -> None:
    with PHIClient() as client:
        assert repr(client.job(JOB_ID)) == f"Job('{JOB_ID}')"


def test_properties_asks_the_service_each_time(
    client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    job = client.submit(request_)
    assert job.properties().job_status is JobStatus.SUBMITTED
    clock.sleep(100)
    assert job.properties().job_status is JobStatus.IN_PROGRESS
    assert job.properties() == client.describe_phi_detection_job(job.job_id)


def test_stop_asks_for_the_job_to_be_stopped(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.submit(request_)
    assert job.stop() == job.job_id
    assert job.properties().job_status is JobStatus.STOP_REQUESTED


def test_results_are_those_of_the_job(
    make_client: MakeClient, request_: StartPHIDetectionJobRequest, s3: Any
) -> None:
    job = make_client(s3_client=s3).submit(request_)
    done = job.wait()
    assert job.results().job == done


def test_a_stop_whose_answer_was_lost_is_sent_again(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = client.submit(request_)
    server.service.script(faults.reset_after(), faults.cut(), operation=STOP)
    assert job.stop() == job.job_id
    assert server.service.attempts(STOP) == 3


OTHER_ID = "f" * 32
ABOUT_ANOTHER_JOB = {
    "describe_phi_detection_job": {
        "ComprehendMedicalAsyncJobProperties": {"JobId": OTHER_ID, "JobStatus": "COMPLETED"}
    },
    "stop_phi_detection_job": {"JobId": OTHER_ID},
}


@pytest.mark.parametrize("method", list(ABOUT_ANOTHER_JOB))
def test_a_response_about_another_job_is_retried(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, method: str
) -> None:
    job = client.submit(request_)
    crossed = faults.answer(200, json.dumps(ABOUT_ANOTHER_JOB[method]).encode())
    server.service.script(crossed, crossed)

    answer = getattr(client, method)(job.job_id)

    assert getattr(answer, "job_id", answer) == job.job_id
    assert server.service.attempts(DESCRIBE) + server.service.attempts(STOP) == 3


@pytest.mark.parametrize("method", list(ABOUT_ANOTHER_JOB))
def test_a_response_about_another_job_is_malformed(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, method: str
) -> None:
    job = once.submit(request_)
    server.service.script(faults.answer(200, json.dumps(ABOUT_ANOTHER_JOB[method]).encode()))

    with pytest.raises(MalformedResponseError) as malformed:
        getattr(once, method)(job.job_id)

    assert malformed.value.reason == "the response is not usable: it is about another job"
    assert malformed.value.retryable
    assert malformed.value.__cause__ is malformed.value.__context__ is None


def test_a_wait_does_not_end_with_the_end_of_another_job(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer
) -> None:
    job = client.submit(request_)
    about_another = json.dumps(ABOUT_ANOTHER_JOB["describe_phi_detection_job"]).encode()
    server.service.script(*[faults.answer(200, about_another)] * 3, operation=DESCRIBE)

    with pytest.raises(WaitTimeout) as timed_out:
        job.wait(WaitPolicy(timeout=0))

    assert timed_out.value.job.job_id == job.job_id


def test_a_job_is_found_by_its_id_without_asking_the_service(
    client: PHIClient, server: LocalServer
) -> None:
    assert client.job(JOB_ID).job_id == JOB_ID
    assert list(server.service.received) == []


BAD_JOB_IDS: dict[str, Any] = {
    "empty": "",
    "too long": "a" * 33,
    "newline": f"{JOB_ID[:-1]}\n",
    "emoji": "\N{SNOWMAN}",
    "nothing": None,
    "number": 5,
    "bytes": b"abc",
}


@pytest.mark.parametrize("job_id", BAD_JOB_IDS.values(), ids=list(BAD_JOB_IDS))
@pytest.mark.parametrize("method", ["job", "describe_phi_detection_job", "stop_phi_detection_job"])
def test_a_bad_job_id_is_refused_before_anything_is_sent(
    client: PHIClient, server: LocalServer, method: str, job_id: Any
) -> None:
    with pytest.raises(RequestValidationError) as refused:
        getattr(client, method)(job_id)
    assert (refused.value.field, refused.value.shape) == ("job_id", "JobId")
    assert list(server.service.received) == []


# --- Other processes ------------------------------------------------------------------------------


@contextmanager
def process(
    program: str, *arguments: str, cwd: Path
) -> Generator[subprocess.Popen[str], None, None]:
    """A Python process that runs `program`, with pipes to it; from elsewhere than the checkout."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def say(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def hear(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    assert child.stderr is not None
    # A line that never comes was an exception of the child's.
    return child.stdout.readline().rstrip("\n") or child.stderr.read()


STARTS_AND_WAITS = """
import pickle, sys
from comprehend_phi import PHIClient

url, path = sys.argv[1:]
with open(path, "rb") as file:
    request = pickle.load(file)
job = PHIClient(endpoint_url=url).submit(request)
print(job.job_id, flush=True)
sys.stdin.readline()
job.wait()
"""


def test_a_job_whose_program_was_killed_is_picked_up_by_its_id(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    tmp_path: Path,
) -> None:
    saved = tmp_path / "request.pickle"
    saved.write_bytes(pickle.dumps(request_))
    with process(STARTS_AND_WAITS, server.endpoint_url, str(saved), cwd=tmp_path) as child:
        job_id = hear(child)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert client.job(job_id).wait().job_status is JobStatus.COMPLETED
    assert server.service.job_ids == (job_id,)


def test_a_request_whose_program_crashed_before_it_learned_the_id_is_sent_again(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    tmp_path: Path,
) -> None:
    saved = tmp_path / "request.pickle"
    saved.write_bytes(pickle.dumps(request_))
    children: list[subprocess.Popen[str]] = []

    def kill(real: faults.Response) -> faults.Response:
        # The service has done the work, and its answer is not sent yet.
        os.kill(children[0].pid, signal.SIGKILL)
        return evolve(real, reset=True)

    server.service.script(Fault(works=True, alter=kill), operation=START)
    with process(STARTS_AND_WAITS, server.endpoint_url, str(saved), cwd=tmp_path) as child:
        children.append(child)
        out, _ = child.communicate()
    assert (child.returncode, out) == (-signal.SIGKILL, "")
    (job_id,) = server.service.job_ids
    job = client.submit(pickle.loads(saved.read_bytes()))
    assert job.wait().job_status is JobStatus.COMPLETED
    assert server.service.job_ids == (job.job_id,) == (job_id,)


WAITS = """
import sys
from comprehend_phi import JobStopped, PHIClient
from comprehend_phi.testing import FakeClock

url, job_id = sys.argv[1:]

def tell(job):
    print(job.job_status, flush=True)
    sys.stdin.readline()

try:
    PHIClient(endpoint_url=url, clock=FakeClock()).job(job_id).wait(on_poll=tell)
except JobStopped as error:
    print("JobStopped", error.job.job_id, flush=True)
"""


def test_a_stop_in_one_process_ends_the_wait_in_another(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    server: LocalServer,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    job = client.submit(request_)
    with process(WAITS, server.endpoint_url, job.job_id, cwd=tmp_path) as other:
        assert hear(other) == "SUBMITTED"
        job.stop()
        say(other, "go on")
        assert hear(other) == "STOP_REQUESTED"
        clock.sleep(60)
        say(other, "go on")
        assert hear(other) == "STOPPED"
        say(other, "go on")
        assert hear(other) == f"JobStopped {job.job_id}"

"""Jobs from start to end while everything goes wrong: a hypothesis state machine."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from uuid import uuid4

import attrs
import boto3
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from comprehend_phi import (
    InputDataConfig,
    JobError,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    TransportError,
    WaitPolicy,
)
from comprehend_phi.testing import FakeClock, Fault, Limits, LocalServer, faults

REGION = "us-east-1"

untyped_boto3: Any = boto3  # its stubs know some services only

# --- What goes wrong ------------------------------------------------------------------------------

codes = st.sampled_from(
    [
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidRequestException",
        "ResourceNotFoundException",
        "ThrottlingException",
        "TooManyRequestsException",
        "ValidationException",
        "SomethingNobodyKnows",
        "Client.Odd-Code_1",
        "no code at all: Zinnia Quellwasser",
    ]
)
refusals = st.builds(
    faults.error,
    codes,
    st.sampled_from(["", "No.", "Value 'Zinnia' at 'jobName' failed to satisfy constraint"]),
    st.sampled_from([400, 403, 404, 409, 413, 418, 429]),
)
# A server that fails may have done the work already. A rejection says that it has not.
failures = st.builds(
    faults.error,
    st.sampled_from(
        [
            "InternalServerException",
            "ServiceUnavailableException",
            "InternalFailure",
            "SomethingNobodyKnows",
            "no code at all: Zinnia Quellwasser",
        ]
    ),
    st.just("Sorry"),
    st.sampled_from([500, 502, 503, 504, 599]),
    works=st.booleans(),
)
# None of these bodies is a valid response.
bodies = st.sampled_from(
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"JobId"',
        b"{",
        b'{"JobId": null}',
        b'{"JobId": ""}',
        b'{"JobId": 5}',
        b'{"JobId": ["1"]}',
        b'{"__type": "Odd"}',
        b'{"ComprehendMedicalAsyncJobProperties": []}',
        b'{"ComprehendMedicalAsyncJobProperties": {"JobStatus": "COMPLETED"}}',
        b'{"ComprehendMedicalAsyncJobProperties": {"JobId": "1", "SubmitTime": "soon"}}',
        b'{"ComprehendMedicalAsyncJobPropertiesList": 5}',
        b'{"ComprehendMedicalAsyncJobPropertiesList": [{}]}',
        b"\xff\xfe\x00",
        json.dumps({"JobId": "1"}).encode("utf-16"),
    ]
)
retry_headers = st.sampled_from(
    [
        None,
        {"Retry-After": "7"},
        {"x-amz-retry-after": "1500"},
        {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"},
        {"Retry-After": "tomorrow"},
    ]
)
misfortunes: st.SearchStrategy[Fault] = st.one_of(
    st.just(faults.passes()),
    st.builds(faults.throttle, retry_headers),
    st.just(faults.too_many_requests()),
    st.builds(faults.job_limit, st.integers(1, 10)),
    st.builds(faults.server_error, works=st.booleans()),
    st.just(faults.unavailable()),
    st.just(faults.reset_before()),
    st.just(faults.reset_after()),
    st.builds(faults.cut, st.sampled_from([0.0, 0.1, 0.5, 0.99])),
    st.just(faults.empty_map()),
    st.builds(faults.html, st.sampled_from([200, 500, 503]), works=st.booleans()),
    st.builds(faults.html, st.sampled_from([403, 404, 429]), works=st.just(False)),
    st.builds(faults.not_utf8, st.sampled_from([200, 500])),
    st.builds(faults.slow, st.floats(0.0, 100.0)),
    st.builds(faults.answer, st.just(200), bodies, works=st.booleans()),
    refusals,
    failures,
)


def test_the_state_machine_uses_every_kind_of_fault() -> None:
    kinds = {
        name
        for name, value in vars(faults).items()
        if getattr(value, "__annotations__", {}).get("return") == "Fault"
    }
    assert kinds == {
        "answer",
        "cut",
        "empty_map",
        "error",
        "html",
        "job_limit",
        "not_utf8",
        "passes",
        "reset_after",
        "reset_before",
        "server_error",
        "slow",
        "throttle",
        "too_many_requests",
        "unavailable",
    }


# --- What must hold -------------------------------------------------------------------------------

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 4),
    timeout=st.none() | st.floats(0.0, 60.0),
    slot_timeout=st.sampled_from([0.0, 60.0, 1000.0]),
)


class Lifecycle(RuleBasedStateMachine):
    """Jobs of several requests at one service. Every request has its own name.

    The name tells which request a job belongs to, as the service never shows the token.
    """

    bucket: ClassVar[str]

    requests: Bundle[StartPHIDetectionJobRequest] = Bundle("requests")
    started: Bundle[StartPHIDetectionJobRequest] = Bundle("started")  # their job id is known

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.server = LocalServer(
            clock=self.clock, job_seconds=300, limits=Limits(active_jobs=3)
        ).__enter__()
        self.client = self.build(RetryPolicy())
        self.known: dict[str, str] = {}  # the job ids that starts answered, by job name
        self.uncertain: set[str] = set()  # the names of jobs that may have been started
        self.names: set[str] = set()

    def build(self, retry: RetryPolicy) -> PHIClient:
        return PHIClient(endpoint_url=self.server.endpoint_url, clock=self.clock, retry=retry)

    def teardown(self) -> None:
        self.client.close()
        self.server.__exit__(None, None, None)

    def jobs_at_the_service(self) -> dict[str, str]:
        """Return the ids of the service's jobs by name, without HTTP and its faults."""
        answer = self.server.service.perform("ListPHIDetectionJobs", {"MaxResults": 500}, REGION)
        jobs = answer["ComprehendMedicalAsyncJobPropertiesList"]
        by_name = {job["JobName"]: job["JobId"] for job in jobs}
        assert len(by_name) == len(jobs), "a request has two jobs"
        return by_name

    # --- What happens ---

    @rule(script=st.lists(misfortunes, min_size=1, max_size=6))
    def things_go_wrong(self, script: list[Fault]) -> None:
        self.server.service.script(*script)

    @rule(seconds=st.floats(0.0, 600.0) | st.floats(0.0, 86_400.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(retry=policies)
    def the_program_starts_anew(self, retry: RetryPolicy) -> None:
        self.client.close()
        self.client = self.build(retry)

    @rule(target=requests, number=st.integers(1, 3), exists=st.booleans())
    def requests_are_written(self, number: int, exists: bool) -> Any:
        bucket = self.bucket if exists else "no-such-bucket"
        return multiple(
            *(
                StartPHIDetectionJobRequest(
                    input_data_config=InputDataConfig(s3_bucket=bucket, s3_key="notes"),
                    output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key=f"out-{name}"),
                    data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
                    kms_key="alias/notes",
                    job_name=f"job {name}",
                )
                for name in (uuid4().hex for _ in range(number))
            )
        )

    @rule(target=started, request=requests)
    def a_job_is_started(self, request: StartPHIDetectionJobRequest) -> Any:
        name = str(request.job_name)
        self.names.add(name)
        job_id: str | None = None
        error: ServiceError | TransportError | None = None
        try:
            job_id = self.client.submit(request).job_id
        except (ServiceError, TransportError) as caught:
            error = caught
        if job_id is None:
            assert error is not None
            assert error.client_request_token == request.client_request_token
            if error.outcome_unknown:
                self.uncertain.add(name)
            # hypothesis types "nothing was made" as MultipleResults of an unknown type.
            return multiple()  # pyright: ignore[reportUnknownVariableType]
        # Sending the request again returns the same job.
        assert self.known.setdefault(name, job_id) == job_id
        return request

    @rule(request=started)
    def a_changed_request_with_the_same_token_is_no_start(
        self, request: StartPHIDetectionJobRequest
    ) -> None:
        changed = attrs.evolve(request, kms_key="alias/other")
        with pytest.raises((ServiceError, TransportError)):
            self.client.start_phi_detection_job(changed)

    @rule(request=started)
    def a_job_is_described(self, request: StartPHIDetectionJobRequest) -> None:
        job_id = self.known[str(request.job_name)]
        try:
            job = self.client.describe_phi_detection_job(job_id)
        except (ServiceError, TransportError):
            return
        assert (job.job_id, job.job_name) == (job_id, request.job_name)

    @rule(request=started)
    def a_job_is_stopped(self, request: StartPHIDetectionJobRequest) -> None:
        job_id = self.known[str(request.job_name)]
        try:
            answered = self.client.stop_phi_detection_job(job_id)
        except (ServiceError, TransportError):
            return
        assert answered == job_id

    @rule(request=started, timeout=st.sampled_from([None, 0.0, 1.0, 100.0, 1000.0]))
    def a_job_is_waited_for(
        self, request: StartPHIDetectionJobRequest, timeout: float | None
    ) -> None:
        job_id = self.known[str(request.job_name)]
        try:
            job = self.client.job(job_id).wait(WaitPolicy(timeout=timeout))
        except JobError as caught:
            job = caught.job
        except (ServiceError, TransportError):
            return
        assert (job.job_id, job.job_name) == (job_id, request.job_name)
        assert timeout is not None or job.job_status.is_terminal

    @rule(page_size=st.integers(1, 3))
    def jobs_are_listed(self, page_size: int) -> None:
        try:
            listed = [
                job.job_id for job in self.client.list_phi_detection_jobs(page_size=page_size)
            ]
        except (ServiceError, TransportError):
            return
        # Every job is listed once, newest first.
        assert listed == list(self.server.service.job_ids)[::-1]

    @rule()
    def a_bad_call_is_refused(self) -> None:
        with pytest.raises(RequestValidationError):
            self.client.job("")

    # --- What holds all the time ---

    @invariant()
    def each_request_has_at_most_one_job_and_every_answer_named_it(self) -> None:
        at_the_service = self.jobs_at_the_service()
        assert at_the_service.keys() <= self.names
        for name, job_id in self.known.items():
            assert at_the_service[name] == job_id

    @invariant()
    def no_job_is_there_that_nobody_was_told_of(self) -> None:
        told_of = self.known.keys() | self.uncertain
        assert self.jobs_at_the_service().keys() <= told_of


def test_every_request_starts_one_job_and_only_our_errors_are_raised() -> None:
    with LocalServer() as server:
        s3 = untyped_boto3.client("s3", endpoint_url=server.endpoint_url)
        bucket = f"bucket-{uuid4().hex}"
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"Patient: Ada Example")
        s3.close()

    class OfBucket(Lifecycle):
        pass

    OfBucket.bucket = bucket
    run_state_machine_as_test(
        OfBucket,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            # A step sends several HTTP requests, and their duration does not matter.
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )

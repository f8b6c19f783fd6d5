"""Starting a job: nothing is started twice, whatever goes wrong.

Every fault of the local service is met twice: once before a success, and on every attempt.
"""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import botocore
import pytest
from attrs import evolve
from botocore.config import Config

from comprehend_phi import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ExpiredTokenException,
    InputDataConfig,
    InternalServerException,
    InvalidRequestException,
    MalformedResponseError,
    OutputDataConfig,
    OverlappingLocationsWarning,
    PHIClient,
    PlaintextOutputWarning,
    RequestValidationError,
    ResourceNotFoundException,
    RetryPolicy,
    ServiceError,
    ServiceUnavailableException,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
)
from comprehend_phi.testing import FakeClock, Fault, Limits, LocalServer, Rules, WallClock, faults

from ..conftest import START

MakeClient = Callable[..., PHIClient]
MakeRequest = Callable[..., StartPHIDetectionJobRequest]
CallError = ServiceError | TransportError

JSON = {"Content-Type": "application/x-amz-json-1.1"}


def tokens(server: LocalServer) -> list[str]:
    """Return the token of every start that arrived, in order."""
    return [each.members["ClientRequestToken"] for each in server.service.received]


def start_error(
    client: PHIClient, request: StartPHIDetectionJobRequest, expected: type[CallError]
) -> CallError:
    """Return the error of a start, and check that it has exactly this class."""
    with pytest.raises(expected) as caught:
        client.start_phi_detection_job(request)
    assert type(caught.value) is expected
    return caught.value


@pytest.fixture
def make_request() -> MakeRequest:
    """Builds requests for buckets that do not exist. A start does not read them."""

    def make(**fields: Any) -> StartPHIDetectionJobRequest:
        usual: dict[str, Any] = {
            "input_data_config": InputDataConfig(s3_bucket="clinic-notes"),
            "output_data_config": OutputDataConfig(s3_bucket="clinic-results"),
            "data_access_role_arn": "arn:aws:iam::123456789012:role/reads-notes",
            "kms_key": "alias/notes",
        }
        return StartPHIDetectionJobRequest(**{**usual, **fields})

    return make


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    """Both clients, which must make the same attempts and raise the same errors."""
    return each_client_class


# --- The faults that are retried ------------------------------------------------------------------


class Case(NamedTuple):
    """A fault, and the error that a client raises if the fault never ends."""

    id: str
    fault: Fault
    error: type[CallError]
    unknown: bool  # whether the job may have been started


# botocore before 1.44 lets urllib3 notice a truncated body as a closed connection.
CUT_BODY = MalformedResponseError if botocore.__version__ >= "1.44" else TransportError


def cut_refusal(share: float) -> Fault:
    refusal = faults.error("InvalidRequestException", "No.")
    return Fault(works=False, alter=lambda real: evolve(refusal.alter(real), sent_share=share))


RETRIED = (
    Case("throttle", faults.throttle(), ThrottlingException, False),
    Case("too many requests", faults.too_many_requests(), TooManyRequestsException, False),
    Case("error before work", faults.server_error(), InternalServerException, True),
    Case("error after work", faults.server_error(works=True), InternalServerException, True),
    Case("unavailable", faults.unavailable(), ServiceUnavailableException, True),
    Case("reset before work", faults.reset_before(), TransportError, True),
    Case("reset after work", faults.reset_after(), TransportError, True),
    Case("all cut", faults.cut(0.0), CUT_BODY, True),
    Case("cut after a byte", faults.cut(0.03), CUT_BODY, True),
    Case("cut within the id", faults.cut(0.5), CUT_BODY, True),
    # The response has 45 bytes, and the last one is the closing brace.
    Case("last byte cut", faults.cut(0.99), CUT_BODY, True),
    Case("empty map", faults.empty_map(), MalformedResponseError, True),
    Case("html 200", faults.html(200), MalformedResponseError, True),
    Case("html 500", faults.html(500), MalformedResponseError, True),
    Case("html 502 before work", faults.html(502, works=False), MalformedResponseError, True),
    Case("html 502 after work", faults.html(502), MalformedResponseError, True),
    Case("html 408", faults.html(408), MalformedResponseError, True),
    Case("empty 429", faults.answer(429), ThrottlingException, False),
    Case("html 429", faults.html(429, works=False), ThrottlingException, False),
    Case("empty 503", faults.answer(503), MalformedResponseError, True),
    Case("not UTF-8 200", faults.not_utf8(200), MalformedResponseError, True),
    Case("not UTF-8 500", faults.not_utf8(500), MalformedResponseError, True),
    *(
        Case(f"refusal cut after {share:.0%}", cut_refusal(share), CUT_BODY, True)
        for share in (0.0, 0.5, 0.99)
    ),
    Case(
        "refusal without a code",
        faults.answer(400, b'{"Message": "No."}', {**JSON, "x-amzn-RequestId": "request-1"}),
        MalformedResponseError,
        True,
    ),
    Case("unknown code 500", faults.error("Zonk", "?", 500), MalformedResponseError, True),
    Case("unknown code 429", faults.error("Zonk", "?", 429), ThrottlingException, False),
    *(
        Case(f"body {body!r}", faults.answer(200, body, JSON, works=True), error, True)
        for error in (MalformedResponseError,)
        for body in (
            b"",
            b"null",
            b"[]",
            b"7",
            b'"no map"',
            b'{"JobId": null}',
            b'{"JobId": ""}',
            b'{"JobId": 7}',
            b'{"JobId": ["a"]}',
            b'{"jobid": "00000000000000000000000000000000"}',
        )
    ),
    *(
        Case(
            f"{code} {status}", faults.error(code, "Slow down", status), ThrottlingException, False
        )
        for code, status in (
            ("ThrottlingException", 400),
            ("Throttling", 400),
            ("ThrottledException", 400),
            ("RequestThrottled", 400),
            ("RequestLimitExceeded", 503),
            ("ProvisionedThroughputExceededException", 400),
            ("SlowDown", 503),
        )
    ),
    # The same error comes with different statuses, so only the code matters.
    *(
        Case(
            f"{error.__name__} {status}",
            faults.error(error.__name__, "Later", status),
            error,
            error in (InternalServerException, ServiceUnavailableException),
        )
        for error in (
            InternalServerException,
            ServiceUnavailableException,
            TooManyRequestsException,
        )
        for status in (400, 404, 429, 500)
    ),
    *(
        Case(code, faults.error(code, "Sorry", 500), error, True)
        for code, error in (
            ("InternalFailure", InternalServerException),
            ("ServiceUnavailable", ServiceUnavailableException),
        )
    ),
)

each_retried_fault = pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id) for case in RETRIED]
)


@each_retried_fault
def test_a_fault_is_followed_by_a_second_attempt_with_the_same_token_and_one_job(
    case: Case,
    server: LocalServer,
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(case.fault)

    response = client.start_phi_detection_job(request_)

    assert tokens(server) == [request_.client_request_token] * 2
    assert server.service.job_ids == (response.job_id,)


@each_retried_fault
def test_a_fault_on_every_attempt_is_raised(
    case: Case,
    server: LocalServer,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(*[case.fault] * 3)
    client = make_client(retry=RetryPolicy(max_attempts=3))

    error = start_error(client, request_, case.error)

    assert tokens(server) == [request_.client_request_token] * 3
    assert error.attempts == 3
    assert error.operation == START
    assert error.retryable
    assert error.client_request_token == request_.client_request_token
    assert error.outcome_unknown is case.unknown
    assert (error.__cause__, error.__context__) == (None, None)


@each_retried_fault
def test_sending_the_request_again_by_any_client_leaves_one_job(
    case: Case,
    server: LocalServer,
    make_client: MakeClient,
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(case.fault)
    error = start_error(once, request_, case.error)
    # Without a retry, another code path raises the error.
    assert (error.__cause__, error.__context__) == (None, None)

    again = once.start_phi_detection_job(request_)
    elsewhere = make_client().start_phi_detection_job(pickle.loads(pickle.dumps(request_)))

    assert again == elsewhere
    assert server.service.job_ids == (again.job_id,)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.throttle(), id="throttle"),
        pytest.param(faults.reset_before(), id="reset before work"),
        pytest.param(faults.reset_after(), id="reset after work"),
        pytest.param(faults.cut(), id="cut"),
    ],
)
def test_sending_the_request_again_from_a_new_process_leaves_one_job(
    fault: Fault,
    server: LocalServer,
    once: PHIClient,
    request_: StartPHIDetectionJobRequest,
    tmp_path: Path,
) -> None:
    server.service.script(fault)
    with pytest.raises((ServiceError, TransportError)):
        once.start_phi_detection_job(request_)

    script = (
        "import pickle, sys\n"
        "from comprehend_phi import PHIClient\n"
        "request = pickle.load(sys.stdin.buffer)\n"
        "with PHIClient(endpoint_url=sys.argv[1]) as client:\n"
        "    print(client.start_phi_detection_job(request).job_id)\n"
    )
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, server.endpoint_url],
        input=pickle.dumps(request_),
        capture_output=True,
        check=True,
        # In this directory, `import comprehend_phi` finds the installed package.
        cwd=tmp_path,
        timeout=60,
    )

    assert child.stderr == b""
    assert server.service.job_ids == (child.stdout.decode().strip(),)
    assert tokens(server) == [request_.client_request_token] * 2


# --- A slow answer --------------------------------------------------------------------------------


class TooLate(WallClock):
    """The clock of a service whose slow responses wait until the test releases them."""

    def __init__(self) -> None:
        self.come = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.come.wait(60)


@pytest.fixture
def too_late() -> TooLate:
    return TooLate()


@pytest.fixture
def slow_server(too_late: TooLate) -> Iterator[LocalServer]:
    """A server whose slow responses come too late for any read timeout of botocore."""
    with LocalServer(clock=too_late, job_seconds=300) as server:
        yield server
        too_late.come.set()


@pytest.fixture
def impatient(slow_server: LocalServer, make_client: MakeClient) -> MakeClient:
    def make(max_attempts: int, read_timeout: float) -> PHIClient:
        return make_client(
            endpoint_url=slow_server.endpoint_url,
            config=Config(read_timeout=read_timeout),
            retry=RetryPolicy(max_attempts=max_attempts),
        )

    return make


def test_a_late_response_is_followed_by_an_attempt_with_the_same_token(
    slow_server: LocalServer, impatient: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    slow_server.service.script(faults.slow(3.0))

    # Long enough for the second response on a busy machine.
    response = impatient(2, 2.0).start_phi_detection_job(request_)

    assert tokens(slow_server) == [request_.client_request_token] * 2
    assert slow_server.service.job_ids == (response.job_id,)


def test_late_responses_are_a_transport_error(
    slow_server: LocalServer,
    too_late: TooLate,
    impatient: MakeClient,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    slow_server.service.script(*[faults.slow(0.5)] * 3)

    error = start_error(impatient(3, 0.2), request_, TransportError)
    too_late.come.set()

    assert error.attempts == 3
    assert error.outcome_unknown
    assert error.retryable
    assert error.client_request_token == request_.client_request_token
    assert (error.__cause__, error.__context__) == (None, None)
    patient = make_client(endpoint_url=slow_server.endpoint_url)
    again = patient.start_phi_detection_job(request_)
    assert slow_server.service.job_ids == (again.job_id,)
    assert tokens(slow_server) == [request_.client_request_token] * 4


# --- What is not retried --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize(
    "expected",
    [
        AccessDeniedException,
        InvalidRequestException,
        ResourceNotFoundException,
        ExpiredTokenException,
        ValidationException,
    ],
)
def test_a_rejected_request_is_attempted_once_whatever_the_http_status(
    expected: type[ServiceError],
    status: int,
    server: LocalServer,
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(faults.error(expected.__name__, "No", status))

    error = start_error(client, request_, expected)

    assert server.service.attempts(START) == 1
    assert isinstance(error, ServiceError)
    assert (error.code, error.message, error.status_code) == (expected.__name__, "No", status)
    assert error.attempts == 1
    assert not error.retryable
    assert not error.outcome_unknown
    assert error.client_request_token == request_.client_request_token
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        pytest.param(faults.error("Zonk", "Why?", 400), "Zonk", "Why?", id="unknown code"),
        pytest.param(faults.error("aws.x#Zonk", "Why?", 403), "Zonk", "Why?", id="with namespace"),
        pytest.param(faults.html(403, works=False), "403", "", id="html"),
        pytest.param(faults.answer(404), "404", "", id="empty"),
        pytest.param(
            faults.answer(400, b'{"__type": "Zonk", "Message": null}', JSON),
            "Zonk",
            "",
            id="null message",
        ),
        pytest.param(faults.answer(400, b'{"__type": "Zonk"}', JSON), "Zonk", "", id="no message"),
    ],
)
def test_an_unknown_error_code_is_a_plain_service_error_and_attempted_once(
    fault: Fault,
    code: str,
    message: str,
    server: LocalServer,
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(fault)

    error = start_error(client, request_, ServiceError)

    assert server.service.attempts(START) == 1
    assert isinstance(error, ServiceError)
    assert (error.code, error.message) == (code, message)
    assert not error.retryable
    assert not error.outcome_unknown


def test_a_service_error_shows_operation_code_request_id_and_attempts(
    server: LocalServer, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    fault = faults.throttle({"x-amzn-RequestId": "11111111-2222-3333-4444-555555555555"})
    server.service.script(fault, fault)

    error = start_error(
        make_client(retry=RetryPolicy(max_attempts=2)), request_, ThrottlingException
    )

    assert isinstance(error, ServiceError)
    assert error.request_id == "11111111-2222-3333-4444-555555555555"
    assert str(error) == (
        "StartPHIDetectionJob: ThrottlingException: Rate exceeded (HTTP 429, request id"
        " 11111111-2222-3333-4444-555555555555, 2 attempts)."
    )


# --- Whether the job may have been started --------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected", "unknown"),
    [
        pytest.param(script, expected, unknown, id=id_)
        for id_, script, expected, unknown in (
            (
                "reset, then throttle",
                (faults.reset_after(), faults.throttle()),
                ThrottlingException,
                True,
            ),
            (
                "reset, then denied",
                (faults.reset_before(), faults.error("AccessDeniedException")),
                AccessDeniedException,
                True,
            ),
            (
                "no id, then expired",
                (faults.empty_map(), faults.error("ExpiredTokenException")),
                ExpiredTokenException,
                True,
            ),
            (
                "server error, throttle, throttle",
                (faults.server_error(), faults.throttle(), faults.throttle()),
                ThrottlingException,
                True,
            ),
            (
                "cut, then no slot",
                (faults.cut(), faults.job_limit()),
                ActiveJobLimitExceeded,
                True,
            ),
            (
                "throttle, then denied",
                (faults.throttle(), faults.error("AccessDeniedException")),
                AccessDeniedException,
                False,
            ),
            (
                "throttle, then reset",
                (faults.throttle(), faults.reset_before()),
                TransportError,
                True,
            ),
        )
    ],
)
def test_the_last_error_says_whether_any_attempt_may_have_started_the_job(
    script: tuple[Fault, ...],
    expected: type[CallError],
    unknown: bool,
    server: LocalServer,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
) -> None:
    server.service.script(*script)
    client = make_client(retry=RetryPolicy(max_attempts=len(script)))

    error = start_error(client, request_, expected)

    assert error.outcome_unknown is unknown
    # The advice to send the request again appears if it helps.
    assert (request_.client_request_token in str(error)) is unknown
    assert server.service.attempts(START) == len(script)


def test_faults_of_one_call_do_not_affect_the_next_call(
    server: LocalServer, once: PHIClient, make_request: MakeRequest
) -> None:
    server.service.script(faults.reset_after(), faults.throttle())
    start_error(once, make_request(), TransportError)

    assert not start_error(once, make_request(), ThrottlingException).outcome_unknown


# --- Job slots ------------------------------------------------------------------------------------


@pytest.fixture
def full_server(clock: FakeClock) -> Iterator[LocalServer]:
    """A server with one job slot. Each job takes it for 300 seconds of `clock`."""
    limits = Limits(active_jobs=1)
    with LocalServer(clock=clock, job_seconds=300, limits=limits) as server:
        yield server


def test_without_slot_timeout_a_full_account_is_an_error_at_once(
    full_server: LocalServer, make_client: MakeClient, make_request: MakeRequest, clock: FakeClock
) -> None:
    client = make_client(endpoint_url=full_server.endpoint_url)
    first = client.start_phi_detection_job(make_request())
    second = make_request()

    error = start_error(client, second, ActiveJobLimitExceeded)

    assert clock.sleeps == []
    assert full_server.service.attempts(START) == 2
    assert error.attempts == 1
    assert error.retryable
    assert not error.outcome_unknown
    assert error.client_request_token == second.client_request_token
    assert "slot_timeout" in str(error)
    assert full_server.service.job_ids == (first.job_id,)


@pytest.mark.parametrize("status", [400, 429])
def test_the_job_limit_is_recognized_by_its_message(
    status: int, server: LocalServer, client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    message = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is 10."
    server.service.script(faults.error("TooManyRequestsException", message, status))

    error = start_error(client, request_, ActiveJobLimitExceeded)

    assert isinstance(error, TooManyRequestsException)
    assert server.service.attempts(START) == 1


@pytest.mark.parametrize("key", ["ACTIVE", "LIMIT", "JOB_COUNT"])
def test_the_job_limit_is_recognized_even_if_a_key_occurs_in_its_message(
    key: str, server: LocalServer, once: PHIClient, make_request: MakeRequest
) -> None:
    # Masked words still determine the class of the error.
    server.service.script(faults.job_limit())
    start_error(
        once,
        make_request(output_data_config=OutputDataConfig(s3_bucket="results", s3_key=key)),
        ActiveJobLimitExceeded,
    )


def test_with_slot_timeout_a_start_waits_until_a_slot_is_free(
    full_server: LocalServer, make_client: MakeClient, make_request: MakeRequest, clock: FakeClock
) -> None:
    policy = RetryPolicy(max_attempts=1, slot_timeout=3600, slot_delay=20)
    client = make_client(endpoint_url=full_server.endpoint_url, retry=policy)
    first, second = make_request(), make_request()

    jobs = [client.start_phi_detection_job(request).job_id for request in (first, second)]

    assert list(full_server.service.job_ids) == jobs
    # The first job ends after 300 seconds. Attempts are 20 seconds apart, plus or minus half.
    assert 300 <= sum(clock.sleeps) < 330
    assert all(10 <= pause <= 30 for pause in clock.sleeps)
    assert set(tokens(full_server)[1:]) == {second.client_request_token}


def test_the_wait_for_a_slot_ends_with_an_attempt_at_the_timeout(
    server: LocalServer, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    clock = FakeClock()
    server.service.script(*[faults.job_limit()] * 1000)
    policy = RetryPolicy(max_attempts=1, slot_timeout=100, slot_delay=15)

    error = start_error(make_client(retry=policy, clock=clock), request_, ActiveJobLimitExceeded)

    assert sum(clock.sleeps) == pytest.approx(100)
    # One attempt before each wait, and one after the last wait.
    assert server.service.attempts(START) == len(clock.sleeps) + 1
    assert error.attempts == 1
    assert set(tokens(server)) == {request_.client_request_token}


def test_a_slot_that_becomes_free_at_the_timeout_is_used(
    full_server: LocalServer, make_client: MakeClient, make_request: MakeRequest, clock: FakeClock
) -> None:
    policy = RetryPolicy(max_attempts=1, slot_timeout=300, slot_delay=200)
    client = make_client(endpoint_url=full_server.endpoint_url, retry=policy)
    client.start_phi_detection_job(make_request())

    client.start_phi_detection_job(make_request())

    assert sum(clock.sleeps) == pytest.approx(300)
    assert len(full_server.service.job_ids) == 2


def test_attempts_for_a_slot_do_not_count_but_throttled_ones_do(
    server: LocalServer, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    limit, throttle = faults.job_limit(), faults.throttle()
    server.service.script(limit, throttle, limit, limit, throttle, limit, throttle)
    client = make_client(retry=RetryPolicy(max_attempts=3, slot_timeout=3600))

    error = start_error(client, request_, ThrottlingException)

    assert error.attempts == 3
    assert server.service.attempts(START) == 7


def test_throttled_attempts_for_a_slot_are_retried(
    server: LocalServer, make_client: MakeClient, request_: StartPHIDetectionJobRequest
) -> None:
    limit, throttle = faults.job_limit(), faults.throttle()
    server.service.script(limit, throttle, limit, throttle, limit)
    client = make_client(retry=RetryPolicy(max_attempts=3, slot_timeout=3600))

    response = client.start_phi_detection_job(request_)

    assert server.service.job_ids == (response.job_id,)
    assert tokens(server) == [request_.client_request_token] * 6


@pytest.mark.parametrize("fault", [faults.reset_after(), faults.server_error(works=True)])
def test_no_start_waits_for_a_slot_that_its_own_job_may_have_taken(
    clock: FakeClock,
    make_client: MakeClient,
    request_: StartPHIDetectionJobRequest,
    fault: Fault,
) -> None:
    # After the wait, the job would have ended, and its token would have been forgotten.
    rules = Rules(remember_tokens="until-job-ends")
    with LocalServer(clock=clock, job_seconds=300, rules=rules) as server:
        limit = faults.job_limit()
        server.service.script(limit, fault, *[limit] * 30, operation=START)
        client = make_client(endpoint_url=server.endpoint_url, retry=RetryPolicy(slot_timeout=3600))

        error = start_error(client, request_, ActiveJobLimitExceeded)

        assert error.outcome_unknown
        assert error.attempts == 1
        assert "Look for it with list_phi_detection_jobs before you send" in str(error)
        assert sum(clock.sleeps) < 60
        assert len(server.service.job_ids) == 1


# --- Many at once ---------------------------------------------------------------------------------


def test_a_hundred_threads_on_one_client_start_as_many_jobs_as_requests(
    clock: FakeClock, make_client: MakeClient, make_request: MakeRequest
) -> None:
    count = 100
    script = [faults.throttle()] * 80 + [faults.reset_before()] * 40 + [faults.reset_after()] * 40
    random.Random(7).shuffle(script)
    requests = [make_request() for _ in range(count)]
    together = threading.Barrier(count)
    limits = Limits(active_jobs=count)
    with LocalServer(clock=clock, job_seconds=10**6, limits=limits) as server:
        server.service.script(*script)
        # No thread may run out of attempts if it meets all the faults.
        policy = RetryPolicy(max_attempts=len(script) + 1)
        client = make_client(endpoint_url=server.endpoint_url, retry=policy)

        def start(request: StartPHIDetectionJobRequest) -> str:
            together.wait(timeout=60)
            return client.start_phi_detection_job(request).job_id

        with ThreadPoolExecutor(count) as pool:
            started = list(pool.map(start, requests))

        assert len(set(started)) == count
        assert set(server.service.job_ids) == set(started)
        assert server.service.attempts(START) == count + len(script)
        # Each caller got the job of its own request.
        for request, job_id in zip(requests, started, strict=True):
            assert client.start_phi_detection_job(request).job_id == job_id


def test_a_request_sent_by_many_threads_at_once_starts_one_job(
    server: LocalServer, client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    server.service.script(*[faults.reset_after(), faults.throttle()] * 5)
    together = threading.Barrier(10)

    def start(_: int) -> str:
        together.wait(timeout=60)
        return client.start_phi_detection_job(request_).job_id

    with ThreadPoolExecutor(10) as pool:
        started = set(pool.map(start, range(10)))

    assert tuple(started) == server.service.job_ids


# --- What is sent ---------------------------------------------------------------------------------


def test_all_members_arrive_under_the_names_of_the_service(
    server: LocalServer, client: PHIClient
) -> None:
    client.start_phi_detection_job(
        StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket="clinic-notes", s3_key="in/märz"),
            output_data_config=OutputDataConfig(s3_bucket="clinic-results", s3_key="out"),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            language_code="en",
            job_name="Été Łódź 病歴 2",
            kms_key="alias/notes",
            client_request_token="token-of-this-start",
        )
    )

    (received,) = server.service.received
    assert received.operation == START
    assert received.members == {
        "InputDataConfig": {"S3Bucket": "clinic-notes", "S3Key": "in/märz"},
        "OutputDataConfig": {"S3Bucket": "clinic-results", "S3Key": "out"},
        "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reads-notes",
        "LanguageCode": "en",
        "JobName": "Été Łódź 病歴 2",
        "KMSKey": "alias/notes",
        "ClientRequestToken": "token-of-this-start",
    }


def test_members_without_a_value_are_not_sent(server: LocalServer, client: PHIClient) -> None:
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="clinic-notes"),
        output_data_config=OutputDataConfig(s3_bucket="clinic-results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
    )

    with pytest.warns(PlaintextOutputWarning):
        client.start_phi_detection_job(request)

    (received,) = server.service.received
    assert received.members == {
        "InputDataConfig": {"S3Bucket": "clinic-notes"},
        "OutputDataConfig": {"S3Bucket": "clinic-results"},
        "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reads-notes",
        "LanguageCode": "en",
        "ClientRequestToken": request.client_request_token,
    }


def test_an_empty_key_is_sent(server: LocalServer, client: PHIClient) -> None:
    # The service model has no minimum length for keys.
    client.start_phi_detection_job(
        StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket="clinic-notes", s3_key=""),
            output_data_config=OutputDataConfig(s3_bucket="clinic-results", s3_key=""),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key="alias/notes",
        )
    )

    (received,) = server.service.received
    assert received.members["InputDataConfig"]["S3Key"] == ""
    assert received.members["OutputDataConfig"]["S3Key"] == ""


def test_a_bad_value_is_rejected_before_anything_is_sent(
    server: LocalServer, client: PHIClient, make_request: MakeRequest
) -> None:
    with pytest.raises(RequestValidationError):
        client.start_phi_detection_job(make_request(job_name="ward 3\n"))

    assert not server.service.received


def test_each_request_object_starts_its_own_job(
    server: LocalServer, client: PHIClient, make_request: MakeRequest
) -> None:
    for _ in range(2):
        client.start_phi_detection_job(make_request(job_name="the same"))

    assert len(set(tokens(server))) == 2
    assert len(set(server.service.job_ids)) == 2


def test_a_known_token_with_other_parameters_is_rejected(
    server: LocalServer, client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    response = client.start_phi_detection_job(request_)
    changed = evolve(request_, job_name="another name")

    error = start_error(client, changed, InvalidRequestException)

    assert error.client_request_token == request_.client_request_token
    assert tokens(server) == [request_.client_request_token] * 2
    assert server.service.job_ids == (response.job_id,)


# --- The warning ----------------------------------------------------------------------------------


def line_of(warning: warnings.WarningMessage) -> str:
    """Return the source line that a warning points at."""
    assert Path(warning.filename) == Path(__file__)
    return Path(__file__).read_text().splitlines()[warning.lineno - 1].strip()


def test_a_start_without_kms_key_warns_once_at_the_callers_line(
    server: LocalServer, clock: FakeClock, make_request: MakeRequest
) -> None:
    plain = make_request(kms_key=None)
    server.service.script(faults.throttle(), faults.reset_after())

    with (
        PHIClient(endpoint_url=server.endpoint_url, clock=clock) as client,
        pytest.warns(PlaintextOutputWarning) as caught,
    ):
        client.start_phi_detection_job(plain)

    assert [line_of(each) for each in caught] == ["client.start_phi_detection_job(plain)"]


def test_submit_warns_once_at_the_callers_line(
    server: LocalServer, make_request: MakeRequest
) -> None:
    plain = make_request(kms_key=None)

    with (
        PHIClient(endpoint_url=server.endpoint_url) as client,
        pytest.warns(PlaintextOutputWarning) as caught,
    ):
        client.submit(plain)

    assert [line_of(each) for each in caught] == ["client.submit(plain)"]


def test_every_start_without_kms_key_warns(client: PHIClient, make_request: MakeRequest) -> None:
    for _ in range(3):
        with pytest.warns(PlaintextOutputWarning) as caught:
            client.start_phi_detection_job(make_request(kms_key=None))
        assert len(caught) == 1


def test_nothing_is_sent_if_the_warning_is_an_error(
    server: LocalServer, client: PHIClient, make_request: MakeRequest
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PlaintextOutputWarning)
        for start, _ in itertools.product((client.start_phi_detection_job, client.submit), "ab"):
            with pytest.raises(PlaintextOutputWarning):
                start(make_request(kms_key=None))

    assert not server.service.received


@pytest.fixture
def overlapping(make_request: MakeRequest) -> StartPHIDetectionJobRequest:
    """A request whose output location lies inside its input location."""
    return make_request(
        output_data_config=OutputDataConfig(s3_bucket="clinic-notes", s3_key="notes/results")
    )


@pytest.mark.parametrize("method", ["start_phi_detection_job", "submit"])
def test_a_start_with_overlapping_locations_warns_once_at_the_callers_line(
    server: LocalServer, overlapping: StartPHIDetectionJobRequest, method: str
) -> None:
    with (
        PHIClient(endpoint_url=server.endpoint_url) as client,
        pytest.warns(OverlappingLocationsWarning) as caught,
    ):
        getattr(client, method)(overlapping)

    assert [line_of(each) for each in caught] == ["getattr(client, method)(overlapping)"]
    shown = str(caught[0].message)
    assert "notes/results" not in shown
    assert "clinic-notes" not in shown
    assert len(server.service.job_ids) == 1


def test_nothing_is_sent_if_the_warning_about_overlapping_locations_is_an_error(
    server: LocalServer, client: PHIClient, overlapping: StartPHIDetectionJobRequest
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OverlappingLocationsWarning)
        for start in (client.start_phi_detection_job, client.submit):
            with pytest.raises(OverlappingLocationsWarning):
                start(overlapping)

    assert not server.service.received


def test_a_start_can_issue_both_warnings(
    client: PHIClient, overlapping: StartPHIDetectionJobRequest
) -> None:
    with pytest.warns() as caught:
        client.submit(evolve(overlapping, kms_key=None))

    assert [each.category for each in caught] == [
        PlaintextOutputWarning,
        OverlappingLocationsWarning,
    ]


def test_a_start_with_kms_key_does_not_warn(
    client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.start_phi_detection_job(request_)

    assert caught == []

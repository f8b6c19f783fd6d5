"""Requests as they are sent, and single attempts through the real botocore without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import attrs
import botocore.model
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from comprehend_phi import (
    ActiveJobLimitExceeded,
    ComprehendPHIError,
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    MalformedResponseError,
    OutputDataConfig,
    OverlappingLocationsWarning,
    PlaintextOutputWarning,
    RequestValidationError,
    ServiceError,
    StartPHIDetectionJobRequest,
    ThrottlingException,
)
from comprehend_phi._members import encode
from comprehend_phi._service import operations
from comprehend_phi._service.attempts import track_tries
from comprehend_phi._service.operations import Operation, next_page_request
from comprehend_phi._service.start_check import check_start
from comprehend_phi.models import (
    DescribePHIDetectionJobRequest,
    JobPage,
    ListPHIDetectionJobsRequest,
    StopPHIDetectionJobRequest,
)

from ..conftest import ROLE

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


JOB = "ComprehendMedicalAsyncJobProperties"
JOBS = "ComprehendMedicalAsyncJobPropertiesList"


SLOTS = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is 10."
DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


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


def test_a_start_omits_none() -> None:
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


def test_a_status_is_sent_as_a_plain_string() -> None:
    request = ListPHIDetectionJobsRequest(filter=JobFilter(job_status=JobStatus.FAILED))

    assert type(encode(request)["Filter"]["JobStatus"]) is str


# --- One attempt, through the real botocore -------------------------------------------------------


class _Body:
    """The part of urllib3's response that botocore reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


@cache
def _session() -> Any:
    """One session for all tests, because it keeps the models that it has loaded."""
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
    """Return a botocore client that gets this response to every request, without a network."""
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
    track_tries(client)  # as for the clients of users
    return client


DESCRIBE = DescribePHIDetectionJobRequest(job_id="0")
BROKEN_TIME = '{"%s": {"JobId": "0", "JobStatus": "FAILED", "SubmitTime": %s}}'

UNUSABLE_RESPONSES: dict[str, tuple[int, bytes]] = {
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
    "not a number for a time": (200, (BROKEN_TIME % (JOB, "NaN")).encode()),
    "multiple choices": (300, b"{}"),
    "moved": (301, b"<html>"),
    "a list with an error status": (400, b"[]"),
    "HTML from a failed proxy": (502, b"<html>"),
    "an empty body from a failed server": (500, b""),
    "not UTF-8 from a failed server": (500, b"\xff"),
}


@pytest.mark.parametrize(
    ("status", "body"), UNUSABLE_RESPONSES.values(), ids=UNUSABLE_RESPONSES.keys()
)
def test_an_unusable_response_is_malformed_and_retryable(status: int, body: bytes) -> None:
    with pytest.raises(ComprehendPHIError) as caught:
        operations.DESCRIBE.attempt(answering(status, body), DESCRIBE)

    error = caught.value
    assert type(error) is MalformedResponseError
    assert error.retryable
    assert (error.__cause__, error.__context__) == (None, None)
    assert "Zinnia" not in f"{error!r} {vars(error)}"


# botocore raises a bare RuntimeError and a RecursionError here. The traceback shows that the
# response had arrived.
@pytest.mark.parametrize(
    "body",
    [(BROKEN_TIME % (JOB, "1e300")).encode(), b'{"%s": ' % JOB.encode() + b"[" * 100_000],
    ids=["a time beyond all calendars", "nested too deeply"],
)
def test_a_response_that_crashes_botocore_is_malformed(body: bytes) -> None:
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
def test_a_response_that_is_not_cbor_is_malformed_for_a_cbor_client(
    status: int, body: bytes
) -> None:
    # botocore reads JSON's opening brace as the length of a string of 10 to the 18 bytes.
    with pytest.raises(MalformedResponseError) as caught:
        operations.DESCRIBE.attempt(answering(status, body, session=_cbor_session()), DESCRIBE)

    assert caught.value.retryable
    assert caught.value.outcome_unknown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("body", [b"[7]", b"[null]", b'["x"]', b'[["x"]]'])
def test_a_page_of_jobs_that_are_not_maps_is_malformed(body: bytes) -> None:
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
def test_the_status_decides_for_a_response_that_is_not_from_aws(
    status: int, headers: dict[str, str], cls: type[ServiceError], body: bytes
) -> None:
    with pytest.raises(ComprehendPHIError) as caught:
        operations.DESCRIBE.attempt(answering(status, body, headers), DESCRIBE)

    error = caught.value
    assert type(error) is cls
    assert (error.__cause__, error.__context__) == (None, None)
    assert "Zinnia" not in f"{error!r} {vars(error)}"


def test_an_error_response_is_read_completely() -> None:
    body = json.dumps({"__type": "com.amazonaws#TooManyRequestsException", "Message": SLOTS})
    headers = {"x-amzn-RequestId": "request-7", "x-amz-retry-after": "250"}

    with pytest.raises(ActiveJobLimitExceeded) as caught:
        operations.START.attempt(answering(400, body.encode(), headers), FULL_REQUEST)

    error = caught.value
    assert (error.operation, error.code) == ("StartPHIDetectionJob", "TooManyRequestsException")
    assert (error.status_code, error.request_id) == (400, "request-7")
    assert (error.retry_after, error.client_request_token) == (0.25, "token-1")
    assert error.__context__ is None


def test_a_job_is_read_from_the_bytes_of_a_response() -> None:
    job_dict = {
        "JobId": "0",
        "JobStatus": "PARTIAL_SUCCESS",
        "SubmitTime": 1772366400.0,
        "EndTime": 1772366820,
        "ExpirationTime": 0,
        "InputDataConfig": {"S3Bucket": "notes.example", "S3Key": ""},
        "OutputDataConfig": {"S3Bucket": "results.example", "S3Key": "out/"},
    }
    job = operations.DESCRIBE.attempt(
        answering(200, json.dumps({JOB: job_dict}).encode()), DESCRIBE
    )

    assert job == JobProperties(
        job_id="0",
        job_status=JobStatus.PARTIAL_SUCCESS,
        submit_time=NOON,
        end_time=NOON + timedelta(minutes=7),
        expiration_time=datetime(1970, 1, 1, tzinfo=UTC),
        input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key=""),
        output_data_config=OutputDataConfig(s3_bucket="results.example", s3_key="out/"),
    )
    assert job.submit_time is not None
    assert job.submit_time.tzinfo is UTC


@pytest.mark.parametrize("zone", [UTC, ELSEWHERE, timezone(-timedelta(hours=11))])
def test_a_filter_sends_the_same_timestamp_from_every_time_zone(zone: timezone) -> None:
    client = answering(200, json.dumps({JOBS: []}).encode())
    sent: list[bytes] = []

    def note(request: Any, **_: Any) -> None:
        sent.append(request.body)

    client.meta.events.register_first("before-send.comprehendmedical", note)
    wanted = JobFilter(submit_time_after=NOON.astimezone(zone))
    operations.LIST.attempt(client, ListPHIDetectionJobsRequest(filter=wanted))

    assert [json.loads(body)["Filter"]["SubmitTimeAfter"] for body in sent] == [NOON.timestamp()]


# --- Before a start -------------------------------------------------------------------------------

OVERLAPPING = attrs.evolve(
    FULL_REQUEST, output_data_config=OutputDataConfig(s3_bucket="notes.example", s3_key="in/out")
)


def start(request: Any) -> None:
    """Check a request as the method of a client does."""
    check_start("start", request)


@pytest.mark.parametrize(
    ("request_", "category", "message"),
    [
        (attrs.evolve(FULL_REQUEST, kms_key=None), PlaintextOutputWarning, "Set kms_key"),
        (OVERLAPPING, OverlappingLocationsWarning, "Use two buckets"),
    ],
)
def test_a_start_warns_the_line_of_the_caller(
    request_: StartPHIDetectionJobRequest, category: type[Warning], message: str
) -> None:
    with pytest.warns(category, match=message) as caught:
        start(request_)

    assert [warning.filename for warning in caught] == [__file__]


def test_a_start_with_a_key_and_separate_locations_does_not_warn() -> None:
    start(FULL_REQUEST)  # a warning would be an error


def test_a_start_without_a_request_is_refused() -> None:
    with pytest.raises(RequestValidationError, match=r"^start\.request "):
        start({})


# --- The pages of a list --------------------------------------------------------------------------


def test_the_next_request_asks_for_the_next_page() -> None:
    first = ListPHIDetectionJobsRequest(max_results=7)

    second = next_page_request(first, JobPage(jobs=(), next_token="2"), set())

    assert second == attrs.evolve(first, next_token="2")


def test_there_is_no_request_after_the_last_page() -> None:
    assert next_page_request(ListPHIDetectionJobsRequest(), JobPage(jobs=()), set()) is None


def test_a_repeated_next_token_is_an_error() -> None:
    request = ListPHIDetectionJobsRequest()
    page = JobPage(jobs=(), next_token="2")
    seen: set[str] = set()
    next_page_request(request, page, seen)

    with pytest.raises(MalformedResponseError, match="repeated a NextToken") as caught:
        next_page_request(request, page, seen)

    assert (caught.value.retryable, caught.value.outcome_unknown) == (False, False)

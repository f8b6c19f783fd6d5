"""Listing jobs: lazily, page by page, each job once, and never a wrong empty list."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, cast

import pytest

from comprehend_phi import (
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    MalformedResponseError,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TransportError,
    ValidationException,
)
from comprehend_phi.testing import FakeClock, Fault, Limits, LocalServer, LocalService, faults

from ..conftest import LIST

MakeClient = Callable[..., PHIClient]

MEMBER = "ComprehendMedicalAsyncJobPropertiesList"


@pytest.fixture
def server(clock: FakeClock) -> Generator[LocalServer, None, None]:
    """A local service without a job limit, whose jobs do not end by themselves."""
    with LocalServer(clock=clock, job_seconds=1e6, limits=Limits(active_jobs=10**6)) as server:
        yield server


def start(service: LocalService, number: int, **members: Any) -> list[str]:
    """Start jobs without HTTP and return their ids, oldest first."""
    request = {
        "InputDataConfig": {"S3Bucket": "no-such-bucket"},
        "OutputDataConfig": {"S3Bucket": "no-such-bucket"},
        "DataAccessRoleArn": "arn:aws:iam::123456789012:role/reads-notes",
        "LanguageCode": "en",
        **members,
    }
    answers = [service.perform("StartPHIDetectionJob", request, "us-east-1") for _ in range(number)]
    return [answer["JobId"] for answer in answers]


def pages(service: LocalService) -> list[dict[str, Any]]:
    """Return the members of the list requests that arrived."""
    return [dict(request.members) for request in service.received if request.operation == LIST]


def page(next_token: str | None = None, *job_ids: str) -> Fault:
    """Script a response with one page of jobs."""
    body: dict[str, Any] = {
        MEMBER: [{"JobId": job_id, "JobStatus": "COMPLETED"} for job_id in job_ids]
    }
    if next_token is not None:
        body["NextToken"] = next_token
    return faults.answer(200, json.dumps(body).encode())


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    """Both clients, which must make the same attempts and raise the same errors."""
    return each_client_class


class Interrupted(FakeClock):
    """A clock whose sleep Ctrl-C interrupts."""

    def sleep(self, seconds: float) -> None:
        raise KeyboardInterrupt


# --- Lazily ---------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_first_job_is_requested(
    client: PHIClient, server: LocalServer
) -> None:
    start(server.service, 3)
    jobs = client.list_phi_detection_jobs()
    assert pages(server.service) == []
    next(jobs)
    assert len(pages(server.service)) == 1


def test_a_page_is_fetched_when_its_first_job_is_requested(
    client: PHIClient, server: LocalServer
) -> None:
    start(server.service, 6)
    jobs = client.list_phi_detection_jobs(page_size=2)
    fetched: list[int] = []
    for _ in jobs:
        fetched.append(len(pages(server.service)))
    assert fetched == [1, 1, 2, 2, 3, 3]


def test_no_page_is_fetched_after_the_iteration_stops(
    client: PHIClient, server: LocalServer
) -> None:
    start(server.service, 6)
    jobs = client.list_phi_detection_jobs(page_size=2)
    assert len(list(islice(jobs, 3))) == 3
    cast("Generator[JobProperties, None, None]", jobs).close()
    assert list(jobs) == []
    assert len(pages(server.service)) == 2


def test_two_lists_are_independent(client: PHIClient, server: LocalServer) -> None:
    ids = start(server.service, 4)[::-1]
    one = client.list_phi_detection_jobs(page_size=1)
    other = client.list_phi_detection_jobs(page_size=1)
    assert [(a.job_id, b.job_id) for a, b in zip(one, other, strict=True)] == [
        (job_id, job_id) for job_id in ids
    ]


def test_a_list_that_was_interrupted_does_not_look_complete(server: LocalServer) -> None:
    start(server.service, 3)
    with PHIClient(endpoint_url=server.endpoint_url, clock=Interrupted()) as client:
        jobs = client.list_phi_detection_jobs(page_size=2)
        next(jobs)
        server.service.script(faults.throttle(), operation=LIST)
        with pytest.raises(KeyboardInterrupt):
            list(jobs)
        with pytest.raises(TransportError, match=f"^{LIST}: .*interrupted in an earlier step"):
            list(jobs)


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [0, -1, 501, True, 1.5, "100", None])
def test_a_bad_page_size_is_rejected_at_the_call(
    client: PHIClient, server: LocalServer, page_size: Any
) -> None:
    with pytest.raises(RequestValidationError) as refused:
        client.list_phi_detection_jobs(page_size=page_size)
    assert refused.value.shape == "MaxResultsInteger"
    assert pages(server.service) == []


@pytest.mark.parametrize("wrong", [{"job_name": "nightly"}, "COMPLETED", JobStatus.COMPLETED])
def test_a_filter_of_another_class_is_rejected_at_the_call(
    client: PHIClient, server: LocalServer, wrong: Any
) -> None:
    with pytest.raises(RequestValidationError) as refused:
        client.list_phi_detection_jobs(wrong)
    assert refused.value.field == "filter"
    assert pages(server.service) == []


@pytest.mark.parametrize("page_size", [1, 2, 500])
def test_the_page_size_is_sent(client: PHIClient, server: LocalServer, page_size: int) -> None:
    start(server.service, 3)
    assert len(list(client.list_phi_detection_jobs(page_size=page_size))) == 3
    sent = pages(server.service)
    assert {members["MaxResults"] for members in sent} == {page_size}
    assert len(sent) == -(-3 // page_size)


def test_a_page_has_a_hundred_jobs_by_default(client: PHIClient, server: LocalServer) -> None:
    start(server.service, 101)
    assert len(list(client.list_phi_detection_jobs())) == 101
    assert [members["MaxResults"] for members in pages(server.service)] == [100, 100]


# --- Which jobs, in which order -------------------------------------------------------------------


def test_without_a_filter_all_jobs_come_newest_first(
    client: PHIClient, server: LocalServer
) -> None:
    ids = start(server.service, 5)
    assert [job.job_id for job in client.list_phi_detection_jobs(page_size=2)] == ids[::-1]
    assert all("Filter" not in members for members in pages(server.service))


def test_a_listed_job_equals_the_described_job(client: PHIClient, server: LocalServer) -> None:
    (job_id,) = start(server.service, 1, JobName="nightly", KMSKey="alias/notes")
    (job,) = client.list_phi_detection_jobs()
    assert job == client.describe_phi_detection_job(job_id)
    assert job.job_name == "nightly"


def test_the_list_is_empty_if_there_are_no_jobs(client: PHIClient, server: LocalServer) -> None:
    assert list(client.list_phi_detection_jobs()) == []
    assert len(pages(server.service)) == 1


def test_a_name_filter_selects_only_jobs_with_that_name(
    client: PHIClient, server: LocalServer
) -> None:
    start(server.service, 2, JobName="weekly")
    ids = start(server.service, 3, JobName="Łódź 2")
    found = client.list_phi_detection_jobs(JobFilter(job_name="Łódź 2"), page_size=2)
    assert [job.job_id for job in found] == ids[::-1]
    # The request for each page has the filter.
    assert [members["Filter"] for members in pages(server.service)] == [{"JobName": "Łódź 2"}] * 2


def test_a_status_filter_selects_only_jobs_with_that_status(
    client: PHIClient, server: LocalServer
) -> None:
    submitted, stopped, _ = start(server.service, 3)
    client.stop_phi_detection_job(stopped)
    wanted = JobFilter(job_status=JobStatus.STOP_REQUESTED)
    assert [job.job_id for job in client.list_phi_detection_jobs(wanted)] == [stopped]
    assert pages(server.service)[-1]["Filter"] == {"JobStatus": "STOP_REQUESTED"}
    wanted = JobFilter(job_status=JobStatus.SUBMITTED)
    assert [job.job_id for job in client.list_phi_detection_jobs(wanted)][1] == submitted


@pytest.fixture
def apart(server: LocalServer, clock: FakeClock) -> list[str]:
    """The ids of five jobs, one hour apart, oldest first."""
    ids: list[str] = []
    for _ in range(5):
        ids += start(server.service, 1)
        clock.sleep(3600)
    return ids


def submitted(number: int) -> datetime:
    """Return the submit time of a job in `apart`, in another time zone than the clock's."""
    zone = timezone(timedelta(hours=5, minutes=30))
    return (FakeClock().now() + timedelta(hours=number)).astimezone(zone)


def test_jobs_before_a_time_come_oldest_first(
    client: PHIClient, server: LocalServer, apart: list[str]
) -> None:
    wanted = JobFilter(submit_time_before=submitted(3))
    assert [job.job_id for job in client.list_phi_detection_jobs(wanted, page_size=2)] == apart[:3]
    sent = pages(server.service)
    assert [members["Filter"] for members in sent] == [
        {"SubmitTimeBefore": submitted(3).timestamp()}
    ] * 2


def test_jobs_after_a_time_come_newest_first(
    client: PHIClient, server: LocalServer, apart: list[str]
) -> None:
    wanted = JobFilter(submit_time_after=submitted(1))
    found = [job.job_id for job in client.list_phi_detection_jobs(wanted, page_size=2)]
    assert found == apart[:1:-1]
    assert pages(server.service)[-1]["Filter"] == {"SubmitTimeAfter": submitted(1).timestamp()}


def test_a_filter_that_the_service_rejects_is_a_validation_exception(
    client: PHIClient, server: LocalServer
) -> None:
    server.service.script(faults.error("ValidationException", "Only one filter can be set."))
    with pytest.raises(ValidationException) as refused:
        list(client.list_phi_detection_jobs())
    assert (refused.value.operation, refused.value.attempts) == (LIST, 1)


# --- Under faults ---------------------------------------------------------------------------------


def test_a_thousand_jobs_come_once_each_while_pages_fail(
    client: PHIClient, server: LocalServer
) -> None:
    ids = start(server.service, 1000)
    failing = [
        faults.throttle(),
        faults.cut(),
        faults.reset_after(),
        faults.too_many_requests(),
        faults.not_utf8(),
        faults.reset_before(),
        faults.server_error(),
        faults.html(),
        faults.empty_map(),
        faults.cut(0.99),
        faults.unavailable(),
    ]
    for number in range(10):
        # Each page fails five times, each time in another way.
        server.service.script(*(failing * 2)[number : number + 5], faults.passes())
    found = [job.job_id for job in client.list_phi_detection_jobs()]
    assert found == ids[::-1]
    assert len(pages(server.service)) == 10 * 6


def test_each_page_has_its_own_retries(client: PHIClient, server: LocalServer) -> None:
    start(server.service, 3)
    # Three times: seven failures, then the page. That is all eight attempts of the default policy.
    for _ in range(3):
        server.service.script(*[faults.throttle()] * 7, faults.passes())
    assert len(list(client.list_phi_detection_jobs(page_size=1))) == 3
    assert len(pages(server.service)) == 24


def test_a_page_that_fails_for_good_raises_after_the_earlier_jobs(
    once: PHIClient, server: LocalServer
) -> None:
    ids = start(server.service, 4)
    server.service.script(faults.passes(), faults.throttle())
    jobs = once.list_phi_detection_jobs(page_size=2)
    assert [next(jobs).job_id, next(jobs).job_id] == [ids[3], ids[2]]
    with pytest.raises(ThrottlingException) as throttled:
        next(jobs)
    assert throttled.value.operation == LIST


NOT_LISTS = {
    "empty map": faults.empty_map(),
    "nothing": faults.answer(200),
    "null": faults.answer(200, b"null"),
    "an array": faults.answer(200, b"[]"),
    "null for the list": faults.answer(200, json.dumps({MEMBER: None}).encode()),
    # From some of these, botocore makes a response that looks like an empty list.
    "a map for the list": faults.answer(200, json.dumps({MEMBER: {"JobId": "1"}}).encode()),
    "a string for the list": faults.answer(200, json.dumps({MEMBER: "1"}).encode()),
    "a number for the list": faults.answer(200, json.dumps({MEMBER: 1}).encode()),
    "only a token": faults.answer(200, b'{"NextToken": "1"}'),
    "a job without id": faults.answer(200, json.dumps({MEMBER: [{}]}).encode()),
    "a job without status": faults.answer(200, json.dumps({MEMBER: [{"JobId": "1"}]}).encode()),
    "null for a job": faults.answer(200, json.dumps({MEMBER: [None]}).encode()),
    "a string for a job": faults.answer(200, json.dumps({MEMBER: ["1"]}).encode()),
    "html": faults.html(),
    "not UTF-8": faults.not_utf8(),
}


@pytest.mark.parametrize("fault", NOT_LISTS.values(), ids=list(NOT_LISTS))
def test_a_response_without_its_list_is_an_error_not_an_empty_list(
    once: PHIClient, server: LocalServer, fault: Fault
) -> None:
    start(server.service, 3)
    server.service.script(fault)
    with pytest.raises(MalformedResponseError) as malformed:
        list(once.list_phi_detection_jobs())
    assert malformed.value.operation == LIST
    assert malformed.value.__cause__ is malformed.value.__context__ is None


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_cut_response_is_an_error_not_an_empty_list(
    once: PHIClient, server: LocalServer, kept: float
) -> None:
    start(server.service, 3)
    server.service.script(faults.cut(kept))
    # botocore before 1.44 lets urllib3 notice it, and takes it for a closed connection.
    with pytest.raises(TransportError) as cut:
        list(once.list_phi_detection_jobs())
    assert cut.value.operation == LIST
    assert cut.value.__cause__ is cut.value.__context__ is None


@pytest.mark.parametrize(
    "tokens", [["A", "A"], ["A", "B", "A"], ["A", "B", "B"], ["A", "B", "C", "A"]], ids="".join
)
def test_a_repeated_next_token_does_not_cause_an_endless_loop(
    client: PHIClient, server: LocalServer, tokens: list[str]
) -> None:
    scripted = [page(token, f"job-{number}") for number, token in enumerate(tokens)]
    # A client that follows the repeated token would request these pages.
    server.service.script(*scripted, *scripted, page(None))
    jobs = client.list_phi_detection_jobs()
    # The jobs on the page with the repeated token are still valid.
    for number in range(len(tokens)):
        assert next(jobs).job_id == f"job-{number}"
    with pytest.raises(MalformedResponseError) as repeated:
        next(jobs)
    error = repeated.value
    assert error.reason == "the service repeated a NextToken, so the list would never end"
    assert (error.operation, error.outcome_unknown, error.retryable) == (LIST, False, False)
    assert len(pages(server.service)) == len(tokens)


def test_an_empty_page_with_a_next_token_is_not_the_end(
    client: PHIClient, server: LocalServer
) -> None:
    server.service.script(page("A"), page("B"), page(None, "job-1"))
    assert [job.job_id for job in client.list_phi_detection_jobs()] == ["job-1"]
    assert [members.get("NextToken") for members in pages(server.service)] == [None, "A", "B"]


def test_jobs_that_start_between_two_pages_do_not_repeat_or_hide_others(
    client: PHIClient, server: LocalServer
) -> None:
    ids = start(server.service, 4)
    jobs = client.list_phi_detection_jobs(page_size=2)
    found = [next(jobs).job_id, next(jobs).job_id]
    start(server.service, 3)
    found += [job.job_id for job in jobs]
    assert found == ids[::-1]


def test_a_job_that_was_started_is_listed(client: PHIClient) -> None:
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="no-such-bucket"),
        output_data_config=OutputDataConfig(s3_bucket="no-such-bucket-either"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )
    job = client.submit(request)
    assert [listed.job_id for listed in client.list_phi_detection_jobs()] == [job.job_id]

"""The log records of this package: their text, their fields, and what they never contain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from comprehend_phi import (
    AsyncPHIClient,
    IncompleteResultsError,
    JobStopped,
    PHIClient,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    TransportError,
    WaitPolicy,
    WaitTimeout,
)
from comprehend_phi._logs import FIELDS
from comprehend_phi._service import operations
from comprehend_phi.models import StopPHIDetectionJobRequest
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import DESCRIBE, JOB_ID, LIST, START, STOP

MakeClient = Callable[..., PHIClient]


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    """Both clients, which log the same records."""
    return each_client_class


class Log:
    """Return the records of this package since the last call."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.DEBUG, "comprehend_phi")

    def take(self) -> list[logging.LogRecord]:
        records = [each for each in self._caplog.records if each.name == "comprehend_phi"]
        self._caplog.clear()
        return records


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


def known(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record that are not None."""
    fields = {name: getattr(record, name) for name in FIELDS}
    return {name: value for name, value in fields.items() if value is not None}


def test_no_field_overwrites_an_attribute_of_logging() -> None:
    usual = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}

    assert usual.isdisjoint(FIELDS)


def test_a_start_is_logged_with_job_id_token_and_request_id(
    client: PHIClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    job = client.submit(request_)

    (record,) = log.take()
    ids = known(record)
    assert record.levelno == logging.INFO
    assert ids == {
        "operation": START,
        "job_id": job.job_id,
        "client_request_token": request_.client_request_token,
        "request_id": ids["request_id"],
    }
    assert record.getMessage() == (
        f"{START}: job started (job_id={job.job_id},"
        f" client_request_token={request_.client_request_token},"
        f" request_id={ids['request_id']})"
    )


def test_a_stop_is_logged_with_job_id_and_request_id(
    client: PHIClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    job = client.submit(request_)
    log.take()
    job.stop()

    (record,) = log.take()
    ids = known(record)
    assert record.levelno == logging.INFO
    assert ids == {"operation": STOP, "job_id": job.job_id, "request_id": ids["request_id"]}
    assert record.getMessage() == (
        f"{STOP}: stop requested (job_id={job.job_id}, request_id={ids['request_id']})"
    )


def test_describe_and_list_are_logged_at_debug(
    client: PHIClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    job = client.submit(request_)
    log.take()
    job.properties()
    list(client.list_phi_detection_jobs())

    described, listed = log.take()
    assert {described.levelno, listed.levelno} == {logging.DEBUG}
    assert described.getMessage().startswith(f"{DESCRIBE}: succeeded (job_id={job.job_id}, request")
    assert listed.getMessage().startswith(f"{LIST}: succeeded (request_id=")


@pytest.mark.parametrize("metadata", [{}, {"ResponseMetadata": {"RequestId": ""}}])
def test_a_response_without_a_request_id_is_logged_without_one(
    metadata: dict[str, Any], log: Log
) -> None:
    def stop(**_members: Any) -> dict[str, Any]:
        return {"JobId": JOB_ID, **metadata}

    client = SimpleNamespace(stop_phi_detection_job=stop)
    operations.STOP.attempt(client, StopPHIDetectionJobRequest(job_id=JOB_ID))

    (record,) = log.take()
    assert record.getMessage() == f"{STOP}: stop requested"


def test_a_retried_start_is_logged_with_its_token_and_the_request_id_of_the_failed_attempt(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, log: Log
) -> None:
    server.service.script(faults.throttle({"x-amzn-RequestId": "request-7", "Retry-After": "60"}))
    client.submit(request_)

    retried, started = log.take()
    assert started.getMessage().startswith(f"{START}: job started")
    assert retried.levelno == logging.INFO
    assert known(retried) == {
        "operation": START,
        "client_request_token": request_.client_request_token,
        "request_id": "request-7",
        "attempt": 1,
        "code": "ThrottlingException",
        "delay": 60.0,
    }
    assert retried.getMessage() == (
        f"{START}: ThrottlingException on attempt 1, trying again in 60.00 s"
        f" (client_request_token={request_.client_request_token}, request_id=request-7)"
    )


def test_a_retried_describe_is_logged_with_its_job_id(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, log: Log
) -> None:
    job = client.submit(request_)
    log.take()
    server.service.script(faults.reset_before(), operation=DESCRIBE)
    job.properties()

    retried, _ = log.take()
    assert (retried.operation, retried.job_id) == (DESCRIBE, job.job_id)  # type: ignore[attr-defined]
    assert retried.getMessage().endswith(f" s (job_id={job.job_id})")


# --- Waits ----------------------------------------------------------------------------------------


def polls(log: Log) -> list[tuple[str, str]]:
    """Return the levels and texts of the records about polls, without their ids."""
    return [
        (record.levelname, record.getMessage().partition(" (job_id=")[0])
        for record in log.take()
        if record.poll is not None  # type: ignore[attr-defined]
    ]


def test_each_poll_is_logged(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, log: Log
) -> None:
    job = once.submit(request_)
    server.service.script(faults.passes(), faults.throttle(), operation=DESCRIBE)
    job.wait(WaitPolicy(delay=150, max_delay=150))

    assert polls(log) == [
        ("INFO", f"{DESCRIBE}: SUBMITTED on poll 1, the next in 150.00 s"),
        ("WARNING", f"{DESCRIBE}: ThrottlingException on poll 2, the next in 150.00 s"),
        ("INFO", f"{DESCRIBE}: COMPLETED on poll 3, the job has ended"),
    ]


def test_a_failed_poll_is_logged_with_job_id_and_request_id(
    once: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, log: Log
) -> None:
    job = once.submit(request_)
    throttle = faults.throttle({"x-amzn-RequestId": "request-7"})
    server.service.script(faults.passes(), throttle, operation=DESCRIBE)
    job.wait(WaitPolicy(delay=300, max_delay=300))

    records = [known(each) for each in log.take() if each.poll is not None]  # type: ignore[attr-defined]
    about = {"operation": DESCRIBE, "job_id": job.job_id}
    assert records == [
        {**about, "poll": 1, "delay": 300.0, "job_status": "SUBMITTED"},
        {
            **about,
            "poll": 2,
            "delay": 300.0,
            "code": "ThrottlingException",
            "request_id": "request-7",
        },
        {**about, "poll": 3, "job_status": "COMPLETED"},
    ]


def test_the_end_of_a_wait_that_times_out_is_logged(
    client: PHIClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    job = client.submit(request_)
    with pytest.raises(WaitTimeout):
        job.wait(WaitPolicy(timeout=0))

    assert polls(log) == [("INFO", f"{DESCRIBE}: SUBMITTED on poll 1, the wait ends")]


def test_the_end_of_a_wait_whose_first_poll_fails_is_logged(
    once: PHIClient, server: LocalServer, log: Log
) -> None:
    server.service.script(faults.reset_before())
    with pytest.raises(TransportError) as ended:
        once.job(JOB_ID).wait()

    assert polls(log) == [("WARNING", f"{DESCRIBE}: {ended.value.reason} on poll 1, the wait ends")]


def test_the_record_of_an_error_without_a_response_has_its_reason(
    once: PHIClient, server: LocalServer, log: Log
) -> None:
    server.service.script(faults.reset_before())
    with pytest.raises(TransportError) as ended:
        once.job(JOB_ID).wait()

    reasons = {record.reason for record in log.take()}  # type: ignore[attr-defined]
    assert reasons - {None} == {ended.value.reason}


def test_the_end_of_a_stopped_job_is_logged(
    client: PHIClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    job = client.submit(request_)
    job.stop()
    with pytest.raises(JobStopped):
        job.wait()

    assert polls(log)[-1][1].startswith(f"{DESCRIBE}: STOPPED on poll ")


# --- Reading --------------------------------------------------------------------------------------

Deliver = Callable[[str], int]


@pytest.fixture(params=["sync", "async"])
def deliver(
    request: pytest.FixtureRequest,
    server: LocalServer,
    clock: FakeClock,
    s3: Any,
    request_: StartPHIDetectionJobRequest,
    log: Log,
) -> Deliver:
    """Run a job, then read everything that a method of its results returns."""
    options: dict[str, Any] = {"endpoint_url": server.endpoint_url, "clock": clock, "s3_client": s3}

    def read(method: str) -> int:
        with PHIClient(**options) as client:
            job = client.submit(request_)
            job.wait()
            results = job.results()
            log.take()
            with suppress(IncompleteResultsError):
                return sum(1 for _ in getattr(results, method)())
        return -1

    async def read_async(method: str) -> int:
        async with AsyncPHIClient(**options) as client:
            job = await client.submit(request_)
            await job.wait()
            results = await job.results()
            log.take()
            with suppress(IncompleteResultsError):
                return len([each async for each in getattr(results, method)()])
        return -1

    return read if request.param == "sync" else lambda method: asyncio.run(read_async(method))


METHODS = {"__iter__": "results", "with_text": "results", "redacted": "redacted"}


def method_of(name: str, request: pytest.FixtureRequest) -> str:
    return name.replace("__i", "__ai") if "async" in request.node.name else name


@pytest.mark.parametrize("method", METHODS)
def test_the_end_of_reading_is_logged_with_counts(
    deliver: Deliver,
    method: str,
    s3: Any,
    bucket: str,
    server: LocalServer,
    log: Log,
    request: pytest.FixtureRequest,
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/second.txt", Body=b"Seen by Dr. Ada Example")
    assert deliver(method_of(method, request)) == 2

    (record,) = log.take()
    (job_id,) = server.service.job_ids
    assert record.levelno == logging.INFO
    assert known(record) == {
        "operation": METHODS[method],
        "job_id": job_id,
        "documents": 2,
        "left_out": 0,
    }
    assert record.getMessage() == (
        f"{METHODS[method]}: 2 documents were delivered, 0 left out (job_id={job_id})"
    )


def test_reading_that_leaves_notes_out_ends_with_a_warning(
    deliver: Deliver, s3: Any, bucket: str, refuse: Callable[..., None], log: Log
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/second.txt", Body=b"Seen by Dr. Ada Example")
    refuse("notes/second.txt", status=403, code="InvalidObjectState")
    assert deliver("redacted") == -1

    record = log.take()[-1]
    assert record.levelname == "WARNING"
    assert {**known(record), "job_id": ""} == {
        "operation": "redacted",
        "job_id": "",
        "documents": 1,
        "left_out": 1,
    }
    assert record.getMessage().startswith("redacted: 1 document was delivered, 1 left out (job_id=")
    assert "second" not in record.getMessage()


def test_a_retry_of_reading_is_logged_with_the_job_id_and_without_the_key(
    deliver: Deliver, refuse: Callable[..., None], server: LocalServer, log: Log
) -> None:
    refuse("notes/note.txt", status=503, code="SlowDown")
    assert deliver("redacted") == -1

    (job_id,) = server.service.job_ids
    retried = [record for record in log.take() if known(record)["operation"] == "GetObject"]
    assert [known(record)["attempt"] for record in retried] == [1, 2, 3, 4, 5, 6, 7]
    assert {known(record)["job_id"] for record in retried} == {job_id}
    assert not [record for record in retried if "note.txt" in repr(vars(record))]
    assert all(f"(job_id={job_id}" in record.getMessage() for record in retried)


# --- The logger -----------------------------------------------------------------------------------


def test_a_format_string_can_name_any_field(
    client: PHIClient, request_: StartPHIDetectionJobRequest, server: LocalServer, log: Log
) -> None:
    server.service.script(faults.throttle(), operation=START)
    client.submit(request_).wait()

    records = log.take()
    form = logging.Formatter(" ".join(f"%({name})s" for name in FIELDS))
    assert all(form.format(record) for record in records)
    assert len({record.operation for record in records}) == 2  # type: ignore[attr-defined]


def test_a_record_names_the_module_that_logs(
    make_client: MakeClient, request_: StartPHIDetectionJobRequest, log: Log
) -> None:
    make_client(retry=RetryPolicy()).submit(request_)

    assert {record.filename for record in log.take()} == {"operations.py"}


def test_records_below_the_level_of_the_logger_are_not_created(
    client: PHIClient, request_: StartPHIDetectionJobRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "comprehend_phi")
    client.submit(request_).wait()

    assert caplog.records == []

"""Events: they quote nothing, and they say whether a retry can help."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from comprehend_phi import (
    JobFailed,
    JobProperties,
    JobStatus,
    MissingBucketError,
    RequestValidationError,
    TransportError,
    UnreadableObjectError,
    WaitTimeout,
)
from comprehend_phi.airflow.outcome import ended, failed, raise_for, started

from .conftest import CANARY
from .test_request import a_request

REQUEST = a_request(input_uri=f"s3://hospital-notes/{CANARY}/", output_uri=f"s3://out/{CANARY}")
FAILED = JobProperties(
    job_id="1",
    job_status=JobStatus.FAILED,
    input_data_config=REQUEST.input_data_config,
    message=f"Cannot read s3://hospital-notes/{CANARY}/note.txt",
)
RUNNING = JobProperties(job_id="1", job_status=JobStatus.IN_PROGRESS, job_name=CANARY)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnreadableObjectError("unreadable", bucket="b", key=f"{CANARY}/"), AirflowException),
        (TransportError(operation="Start", reason=f"{CANARY}/ is odd"), AirflowException),
        (WaitTimeout(RUNNING, timeout=5.0), AirflowException),
        (KeyError(CANARY), AirflowException),
        (MissingBucketError("missing", bucket="b"), AirflowFailException),
        (
            RequestValidationError(owner="o", field="f", shape="s", reason="is wrong"),
            AirflowFailException,
        ),
    ],
)
def test_an_error_becomes_an_event_without_keys_that_says_whether_a_retry_can_help(
    error: Exception, expected: type[Exception]
) -> None:
    event = failed(error, job_id="1", request=REQUEST)

    assert CANARY not in json.dumps(event)
    with pytest.raises(AirflowException) as caught:
        raise_for(event)
    assert type(caught.value) is expected
    assert str(caught.value) == event["message"] != ""


@pytest.mark.parametrize("error", [KeyError(CANARY), JobFailed(FAILED)])
def test_an_event_quotes_neither_unknown_errors_nor_the_service(error: Exception) -> None:
    event = failed(error, job_id="1")

    assert event["message"]
    assert CANARY not in json.dumps(event)


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS])
def test_an_event_for_a_job_that_ended_well_raises_nothing(status: JobStatus) -> None:
    event = ended(JobProperties(job_id="1", job_status=status))

    raise_for(event)
    raise_for(started("1"))
    assert json.loads(json.dumps(event)) == {"status": status.value, "job_id": "1", "message": ""}

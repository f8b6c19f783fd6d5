"""What became of a step of a task, as an event that Airflow may log and store."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from .._masking import mask
from ..errors import (
    AccessDeniedException,
    ComprehendPHIError,
    InvalidRequestException,
    JobFailed,
    JobMismatchError,
    MissingBucketError,
    RequestValidationError,
    ValidationException,
    WaitTimeout,
)
from ._sdk import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from logging import Logger

    from ..models import JobProperties, StartPHIDetectionJobRequest

# Another try would send the same request and fail in the same way.
_FINAL = (
    AccessDeniedException,
    InvalidRequestException,
    JobMismatchError,
    MissingBucketError,
    RequestValidationError,
    ValidationException,
)


class Status(StrEnum):
    """What a step of a task led to."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    RETRY = "RETRY"
    FAIL = "FAIL"


class Event(TypedDict):
    """The payload of a trigger's event. Airflow logs all of it.

    Attributes:
        status: a `Status`.
        job_id: the job's id, or None if it is unknown.
        message: what went wrong, without keys, names and text. Empty if nothing did.
    """

    status: str
    job_id: str | None
    message: str


def started(job_id: str) -> Event:
    """Return the event for a job that was found or started."""
    return Event(status=Status.STARTED.value, job_id=job_id, message="")


def ended(job: JobProperties) -> Event:
    """Return the event for a job that ended well."""
    return Event(status=Status(job.job_status).value, job_id=job.job_id, message="")


def failed(
    error: Exception,
    *,
    job_id: str | None = None,
    request: StartPHIDetectionJobRequest | None = None,
) -> Event:
    """Return the event for an error.

    Args:
        error: any exception. Only our own errors are quoted, because others may contain anything.
        job_id: the job's id, if it is known.
        request: the request whose keys and job name are masked.
    """
    if isinstance(error, ComprehendPHIError):
        status = Status.FAIL if isinstance(error, _FINAL) else Status.RETRY
        message = _message(error)
    else:
        status, message = Status.RETRY, f"The task failed with {type(error).__name__}."
    if request is not None:
        source, target = request.input_data_config, request.output_data_config
        message = mask(message, (request.job_name, source.s3_key, target.s3_key))
    return Event(status=status.value, job_id=job_id, message=message)


def refused(message: str) -> Event:
    """Return the event for a task that must not start its job."""
    return Event(status=Status.FAIL.value, job_id=None, message=message)


def _message(error: ComprehendPHIError) -> str:
    """Return the message of an error. The advice in some messages does not fit a task."""
    if isinstance(error, JobFailed):
        return f"Job {error.job.job_id} failed: {error.reason}."
    if isinstance(error, WaitTimeout):
        status = error.job.job_status
        return f"Job {error.job.job_id} was still {status} at the timeout. It is still running."
    return str(error)


def raise_for(event: Event) -> None:
    """Raise the exception that ends the task, if the event says that something went wrong.

    Raises:
        AirflowException: another try can succeed.
        AirflowFailException: another try would fail, too.
    """
    if event["status"] == Status.RETRY:
        raise AirflowException(event["message"])
    if event["status"] == Status.FAIL:
        raise AirflowFailException(event["message"])


def check_completeness(event: Event, *, must_be_complete: bool, log: Logger) -> None:
    """Warn if the job did not process every file, or raise if it must have.

    Raises:
        AirflowFailException: the job is not complete but must be.
    """
    if event["status"] == Status.PARTIAL_SUCCESS:
        message = f"Job {event['job_id']} did not process every file; see JobResults.unprocessed."
        if must_be_complete:
            raise AirflowFailException(message)
        log.warning(message)

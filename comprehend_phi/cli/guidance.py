"""Starting, waiting for and reading a job, with advice on how to continue if that ends early."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .._client import PHIClient
from .._jobs import Job, WaitPolicy
from .._wording import plural
from ..errors import (
    ActiveJobLimitExceeded,
    JobError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    TransportError,
    WaitTimeout,
)
from ..models import JobProperties, StartPHIDetectionJobRequest
from .exits import Exit, ExitCode, interrupted, os_problem
from .output import emit_json, inform, job_members
from .progress import Progress, WatchedClock

SAME_COMMAND = "To read them again, repeat the command."


def submit(client: PHIClient, request: StartPHIDetectionJobRequest) -> Job:
    """Start a job.

    Its token is on stderr before anything is sent, and its id as soon as it is known.
    """
    token = request.client_request_token
    again = f"To send the request again without starting a second job, add --token {token}"
    try:
        inform(f"Request token: {token}")
        job = client.submit(request)
        # stderr gets the id too, because stdout may turn out to be full or closed.
        inform(f"Job {job.job_id} started")
    except KeyboardInterrupt:
        end = interrupted("Interrupted. The job may have been started.", again)
    except ActiveJobLimitExceeded as error:
        if error.outcome_unknown:
            look = "List the jobs with `comprehend-phi list` before you start this one again."
            end = Exit(ExitCode.FAILED, str(error), look)
        else:
            slot = "To wait for a free slot, add --slot-timeout SECONDS."
            end = Exit(ExitCode.FAILED, str(error), slot, again)
    except (ServiceError, TransportError) as error:
        if not error.outcome_unknown:
            raise
        end = Exit(ExitCode.FAILED, str(error), again)
    else:
        return job
    raise end


def wait(
    job: Job, policy: WaitPolicy, clock: WatchedClock, how_to_wait: str, *, as_json: bool
) -> JobProperties:
    """Wait until a job has ended. If the wait ends earlier, print how to continue.

    With `as_json`, print the job to stdout even if it failed or the wait ended early.
    """
    try:
        with Progress(clock) as progress:
            return job.wait(policy, on_poll=progress.on_poll, on_poll_error=progress.on_poll_error)
    except KeyboardInterrupt:
        end = interrupted(f"Interrupted while waiting for job {job.job_id}", how_to_wait)
    except WaitTimeout as error:
        failed_poll = error.last_poll_error
        end = Exit(
            ExitCode.TIMED_OUT,
            f"Job {job.job_id} was still {error.job.job_status} after {error.timeout:g}"
            f" {plural(error.timeout, 'second')}."
            + (f" The last poll failed: {failed_poll}" if failed_poll else ""),
            how_to_wait,
        )
        if as_json:
            emit_json(job_members(error.job))
    except JobError as error:
        if as_json:
            emit_json(job_members(error.job))
        raise
    except (ServiceError, TransportError) as error:
        # The job's state is unknown, unless the service does not know the job.
        advice = () if isinstance(error, ResourceNotFoundException) else (how_to_wait,)
        end = Exit(ExitCode.FAILED, str(error), *advice)
        if as_json:
            emit_json({"job_id": job.job_id, "job_status": None})
    raise end


@contextmanager
def reading(job_id: str, how_to_read: str) -> Generator[None, None, None]:
    """Print how to read a job's results again if reading or writing them ends early."""
    with advising(f"reading the results of job {job_id}", how_to_read):
        yield


@contextmanager
def advising(activity: str, advice: str) -> Generator[None, None, None]:
    """Print how to continue if an activity ends early."""
    try:
        yield
    except KeyboardInterrupt:
        end = interrupted(f"Interrupted while {activity}", advice)
    except ResourceNotFoundException:
        raise
    except (ServiceError, TransportError) as error:
        end = Exit(ExitCode.FAILED, str(error), advice)
    except ResultsError as error:
        if error.undelivered is None:
            raise
        end = Exit(ExitCode.FAILED, str(error), advice)
    except OSError as error:
        end = Exit(ExitCode.FAILED, os_problem(error), advice)
    else:
        return
    raise end

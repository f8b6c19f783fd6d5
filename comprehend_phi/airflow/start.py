"""One attempt to find or start the job of a request, without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._adoption import find_job, name_filter
from ..errors import ActiveJobLimitExceeded, JobStopped
from ..models import JobProperties, JobStatus

if TYPE_CHECKING:
    from .._async_client import AsyncPHIClient
    from .._client import PHIClient
    from ..models import StartPHIDetectionJobRequest

# Why there is no job yet: all slots are taken, or the job before is still being stopped. The token
# of the next job depends on that job's end, so it has to end first.
Obstacle = ActiveJobLimitExceeded | JobStopped

# The job can end between the list, in which it was being stopped, and the look at it.
_STOPPED = (JobStatus.STOP_REQUESTED, JobStatus.STOPPED)


def is_started(client: PHIClient, request: StartPHIDetectionJobRequest) -> bool:
    """Return whether `start` would find a job instead of starting one.

    Raises what `PHIClient.find_or_submit` raises, except the errors of a start.
    """
    jobs = client.list_phi_detection_jobs(name_filter("find_or_submit", request), page_size=500)
    return isinstance(find_job(request, list(jobs)), JobProperties)


def start(client: PHIClient, request: StartPHIDetectionJobRequest) -> str | Obstacle:
    """Return the id of the request's job, or why it cannot be started yet.

    Raises what `PHIClient.find_or_submit` raises, except `ActiveJobLimitExceeded`.
    """
    try:
        job = client.find_or_submit(request)
    except ActiveJobLimitExceeded as error:
        return error
    return _usable(job.properties())


async def start_async(
    client: AsyncPHIClient, request: StartPHIDetectionJobRequest
) -> str | Obstacle:
    """Do what `start` does."""
    try:
        job = await client.find_or_submit(request)
    except ActiveJobLimitExceeded as error:
        return error
    return _usable(await job.properties())


def _usable(job: JobProperties) -> str | JobStopped:
    return JobStopped(job) if job.job_status in _STOPPED else job.job_id

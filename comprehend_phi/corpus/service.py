"""What a run asks the service: a job with a given name, and the states of many jobs at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .._adoption import find_job, name_filter, newest
from ..errors import JobMismatchError, ResourceNotFoundException
from ..models import JobFilter, JobProperties, StartPHIDetectionJobRequest

if TYPE_CHECKING:
    from .._client import PHIClient

_PAGE = 500  # the most that the service returns at once

# The clocks of the service's machines may differ a little. Our rule.
_CLOCK_DIFFERENCE = timedelta(minutes=1)


def find_or_request(
    client: PHIClient,
    request: StartPHIDetectionJobRequest,
    *,
    start_token: str | None,
    retry_failed: bool,
    ended_badly: str | None = None,
) -> JobProperties | StartPHIDetectionJobRequest:
    """Return the job of a planned request, or the request that starts it.

    If all jobs with the request's name have failed or were stopped, the newest of them is returned.
    With `retry_failed`, or if the start of another one was under way, it is the request that starts
    the job again.

    Args:
        client: lists the jobs.
        request: a request of a plan, so its name depends on all its parameters.
        start_token: the token of the last start that was sent, or None.
        retry_failed: whether a job that has failed is started again.
        ended_badly: the id of the last job if it failed, was stopped or is lost. The service may
            have forgotten it.

    Raises:
        JobMismatchError: the job of this name has other parameters.
        ServiceError, TransportError: the jobs could not be listed.
    """
    filter = name_filter("run_jobs", request)
    jobs = list(client.list_phi_detection_jobs(filter, page_size=_PAGE))
    mismatch: JobMismatchError
    try:
        found = find_job(request, jobs, ended_badly=() if ended_badly is None else (ended_badly,))
    except JobMismatchError as error:
        mismatch = error
    else:
        if isinstance(found, JobProperties):
            return found
        if not jobs and ended_badly is None and start_token is not None:
            # The service may have forgotten the failed jobs on which the token depends.
            return evolve(request, client_request_token=start_token)
        if retry_failed or not jobs:
            return found
        tokens = (request.client_request_token, start_token)
        return found if found.client_request_token in tokens else newest(jobs)
    # The service may show a key in another way. As the name depends on the key, it is the same.
    if mismatch.differences == ("kms_key",):
        return mismatch.job
    raise mismatch


@frozen
class Polled:
    """What the service says about jobs.

    Attributes:
        jobs: the jobs that it knows, in any order.
        unknown: the error for each job that it does not know, by the id of the job.
    """

    jobs: tuple[JobProperties, ...]
    unknown: Mapping[str, ResourceNotFoundException]


class Poller:
    """Asks for the states of jobs in as few requests as possible."""

    def __init__(self, client: PHIClient) -> None:
        self._client = client
        self._submitted: dict[str, datetime | None] = {}

    def poll(self, job_ids: Sequence[str]) -> Polled:
        """Return what the service says about the jobs.

        One list of all jobs since the oldest of these is enough. Only jobs that are not in the list
        are described one by one: those that were started just now, or of which it is unknown when
        they were submitted.

        Raises:
            ServiceError, TransportError: a request failed.
        """
        found = self._list(job_ids) if len(job_ids) > 1 else {}
        unknown: dict[str, ResourceNotFoundException] = {}
        for job_id in job_ids:
            if job_id not in found:
                try:
                    found[job_id] = self._client.describe_phi_detection_job(job_id)
                except ResourceNotFoundException as error:
                    unknown[job_id] = error
        self._submitted.update((job_id, job.submit_time) for job_id, job in found.items())
        return Polled(tuple(found.values()), unknown)

    def _list(self, job_ids: Collection[str]) -> dict[str, JobProperties]:
        times = [time for job_id in job_ids if (time := self._submitted.get(job_id))]
        found: dict[str, JobProperties] = {}
        if times:
            after = JobFilter(submit_time_after=min(times) - _CLOCK_DIFFERENCE)
            for job in self._client.list_phi_detection_jobs(after, page_size=_PAGE):
                if job.job_id in job_ids:
                    found[job.job_id] = job
                if len(found) == len(job_ids):
                    break
        return found

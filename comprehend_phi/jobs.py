"""A job as one object, and waiting for it.

Retrying a call and waiting for a job are two things: `RetryPolicy` brings a single poll through
throttling and resets, `WaitPolicy` says how often to poll and for how long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from . import _shapes
from ._clock import Clock
from ._shapes import Obeys
from .errors import JobFailed, JobStopped, ServiceError, TransportError, WaitTimeout
from .models import JobProperties, JobStatus

if TYPE_CHECKING:
    from .results import AsyncJobResults, JobResults

_log = logging.getLogger("comprehend_phi")


@frozen(kw_only=True)
class WaitPolicy:
    """How a job is waited for. All times are seconds.

    Attributes:
        delay: the time between the first two polls.
        max_delay: the longest time between two polls.
        multiplier: how much longer each wait is than the one before; at least 1.
        timeout: how long to wait in all; None means until the job ends. A poll that is being
            retried when the time is up is not cut off: `RetryPolicy` bounds it.

    Raises:
        RequestValidationError: a number is out of its range.
    """

    delay: float = field(default=10.0, validator=Obeys(_shapes.PAUSE))
    max_delay: float = field(default=60.0, validator=Obeys(_shapes.PAUSE))
    multiplier: float = field(default=1.5, validator=Obeys(_shapes.FACTOR))
    timeout: float | None = field(default=None, validator=Obeys(_shapes.TIMEOUT, optional=True))


def next_poll(
    policy: WaitPolicy, *, status: JobStatus | None, polls: int, elapsed: float
) -> float | None:
    """Seconds to the next poll; None when there is no reason for another one.

    Args:
        policy: how the job is waited for.
        status: the job's state as the last poll saw it; None while no poll has.
        polls: how many polls there have been.
        elapsed: seconds since the first one began.
    """
    if status is not None and status.is_terminal:
        return None
    try:
        delay = policy.delay * policy.multiplier ** (polls - 1)
    except OverflowError:
        delay = policy.max_delay
    delay = min(delay, policy.max_delay)
    if policy.timeout is None:
        return delay
    # The last poll falls on the timeout, however small the rest.
    return min(delay, policy.timeout - elapsed) if elapsed < policy.timeout else None


class Wait:
    """One wait for one job, without its I/O: the synchronous and the asynchronous one share it."""

    def __init__(self, policy: WaitPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._start = clock.monotonic()
        self._polls = 0
        self._aims_at_timeout = False
        self._job: JobProperties | None = None

    def next_delay(self, news: JobProperties | ServiceError | TransportError) -> float | None:
        """Seconds to the next poll after one that brought `news`; None when the wait is over.

        A poll that failed although it was retried is no news of the job, so it ends no wait.
        """
        self._polls += 1
        if isinstance(news, JobProperties):
            self._job = news
        timeout = self._policy.timeout
        elapsed = self._clock.monotonic() - self._start
        if self._aims_at_timeout and timeout is not None:
            # Where the clock's floats are coarse, it may stand a hair before the timeout for ever.
            elapsed = max(elapsed, timeout)
        delay = next_poll(
            self._policy,
            status=news.job_status if isinstance(news, JobProperties) else None,
            polls=self._polls,
            elapsed=elapsed,
        )
        self._aims_at_timeout = (
            delay is not None and timeout is not None and delay >= timeout - elapsed
        )
        _log.info(
            "DescribePHIDetectionJob: %s on poll %d, %s",
            news.job_status if isinstance(news, JobProperties) else type(news).__name__,
            self._polls,
            "the last" if delay is None else f"the next in {delay:.2f} s",
        )
        return delay

    def ending(self, news: JobProperties | ServiceError | TransportError) -> JobProperties:
        """The job when it came to a good end; `news` is what the last poll brought.

        Raises:
            JobFailed: it ended as FAILED.
            JobStopped: it ended as STOPPED.
            WaitTimeout: it has not ended.
            ServiceError, TransportError: no poll ever succeeded; this is how the last one failed.
        """
        if isinstance(news, JobProperties):
            job, error = news, None
        elif self._job is None:
            raise news
        else:
            job, error = self._job, news
        if job.job_status is JobStatus.FAILED:
            raise JobFailed(job)
        if job.job_status is JobStatus.STOPPED:
            raise JobStopped(job)
        if not job.job_status.is_terminal:
            timeout = self._policy.timeout or 0.0
            raise WaitTimeout(job, timeout=timeout, last_poll_error=str(error) if error else None)
        return job


class _Client(Protocol):
    """What a job asks of a client."""

    def describe_phi_detection_job(self, job_id: str) -> JobProperties: ...

    def stop_phi_detection_job(self, job_id: str) -> str: ...

    def results(self, job_id: str) -> JobResults: ...


class Job:
    """A job at the service. `PHIClient.submit` and `PHIClient.job` make these.

    Attributes:
        job_id: all that any process needs to find the job again.
    """

    def __init__(self, job_id: str, client: _Client, clock: Clock) -> None:
        self.job_id = job_id
        self._client = client
        self._clock = clock

    def __repr__(self) -> str:
        return f"Job({self.job_id!r})"

    def properties(self) -> JobProperties:
        """What the service knows of the job now. Raises what `describe_phi_detection_job` does."""
        return self._client.describe_phi_detection_job(self.job_id)

    def stop(self) -> str:
        """Ask for the job to be stopped; returns its id. `wait` then ends with `JobStopped`."""
        return self._client.stop_phi_detection_job(self.job_id)

    def results(self) -> JobResults:
        """What the job found, read from S3 as it is asked for.

        Raises:
            ResultsError: the job has not ended.
            ServiceError, TransportError: the job could not be described.
        """
        return self._client.results(self.job_id)

    def wait(
        self,
        policy: WaitPolicy = WaitPolicy(),
        on_poll: Callable[[JobProperties], object] | None = None,
    ) -> JobProperties:
        """Poll until the job ends, the first time at once.

        A poll that is throttled or reset is retried by the client's `RetryPolicy`; where even that
        gives up, the wait goes on until its own timeout.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the properties after every poll that brought some.

        Returns:
            The properties of the job, whose status is COMPLETED or PARTIAL_SUCCESS. After the
            latter some files were not processed: look at the results' unprocessed files.

        Raises:
            JobFailed: the job ended as FAILED; the message has the service's reason.
            JobStopped: the job ended as STOPPED.
            WaitTimeout: the policy's timeout was up first; the job goes on.
            ServiceError, TransportError: a poll failed in a way that no retry mends, such as
                missing permissions, or no poll succeeded before the timeout.
        """
        wait = Wait(policy, self._clock)
        while True:
            news = self._poll()
            if on_poll is not None and isinstance(news, JobProperties):
                on_poll(news)
            delay = wait.next_delay(news)
            if delay is None:
                return wait.ending(news)
            self._clock.sleep(delay)

    def _poll(self) -> JobProperties | ServiceError | TransportError:
        try:
            return self.properties()
        except (ServiceError, TransportError) as error:
            if not error.retryable:
                raise
            return error


class _AsyncClient(Protocol):
    """What an asynchronous job asks of a client."""

    async def describe_phi_detection_job(self, job_id: str) -> JobProperties: ...

    async def stop_phi_detection_job(self, job_id: str) -> str: ...

    async def results(self, job_id: str) -> AsyncJobResults: ...


class AsyncJob:
    """A job at the service. `AsyncPHIClient.submit` and `AsyncPHIClient.job` make these.

    Its methods raise what those of `Job` do.

    Attributes:
        job_id: all that any process needs to find the job again.
    """

    def __init__(self, job_id: str, client: _AsyncClient, clock: Clock) -> None:
        self.job_id = job_id
        self._client = client
        self._clock = clock

    def __repr__(self) -> str:
        return f"AsyncJob({self.job_id!r})"

    async def properties(self) -> JobProperties:
        """What the service knows of the job now."""
        return await self._client.describe_phi_detection_job(self.job_id)

    async def stop(self) -> str:
        """Ask for the job to be stopped; returns its id. `wait` then ends with `JobStopped`."""
        return await self._client.stop_phi_detection_job(self.job_id)

    async def results(self) -> AsyncJobResults:
        """What the job found, its manifest loaded; the documents are read as they are asked for."""
        return await self._client.results(self.job_id)

    async def wait(
        self,
        policy: WaitPolicy = WaitPolicy(),
        on_poll: Callable[[JobProperties], object] | None = None,
    ) -> JobProperties:
        """Poll until the job ends, as `Job.wait` does; cancelling it leaves the job as it is.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the properties after every poll that brought some; what it returns
                is awaited if it can be.
        """
        wait = Wait(policy, self._clock)
        while True:
            news = await self._poll()
            if on_poll is not None and isinstance(news, JobProperties):
                told = on_poll(news)
                if isawaitable(told):
                    await told
            delay = wait.next_delay(news)
            if delay is None:
                return wait.ending(news)
            await self._clock.sleep_async(delay)

    async def _poll(self) -> JobProperties | ServiceError | TransportError:
        try:
            return await self.properties()
        except (ServiceError, TransportError) as error:
            if not error.retryable:
                raise
            return error

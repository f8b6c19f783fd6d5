"""A job as one object, and waiting for it.

Retrying a call and waiting for a job are two things: `RetryPolicy` brings a single poll through
throttling and resets, `WaitPolicy` says how often to poll and for how long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from . import _shapes
from ._clock import Clock
from ._logs import code_or_reason, error_fields, log
from ._service.operations import DESCRIBE
from ._shapes import InstanceShape, Obeys, require
from .errors import (
    ClientClosedError,
    ExpiredTokenException,
    JobFailed,
    JobStopped,
    ServiceError,
    TransportError,
    WaitTimeout,
)
from .models import JobProperties, JobStatus

if TYPE_CHECKING:
    from ._results.streams import AsyncJobResults, JobResults

_Failure = ServiceError | TransportError

# Our rule. A refresh of credentials that fails once comes back within minutes; credentials that
# are broken for good do not.
_LONGEST_BLIND = 3600.0  # seconds


@frozen(kw_only=True)
class WaitPolicy:
    """How a job is waited for. All times are seconds.

    Attributes:
        delay: the time between the first two polls.
        max_delay: the longest time between two polls.
        multiplier: how much longer each wait is than the one before; at least 1.
        timeout: how long to wait in all; None means until the job ends. A poll that is being
            retried when the time is up is not cut off: `RetryPolicy` bounds it. See `Job.wait` for
            what polls that fail mean for a wait.

    Raises:
        RequestValidationError: a number is out of its range.
    """

    delay: float = field(default=10.0, validator=Obeys(_shapes.PAUSE))
    max_delay: float = field(default=60.0, validator=Obeys(_shapes.PAUSE))
    multiplier: float = field(default=1.5, validator=Obeys(_shapes.FACTOR))
    timeout: float | None = field(default=None, validator=Obeys(_shapes.TIMEOUT, optional=True))


_WAIT_POLICY = InstanceShape(WaitPolicy, "to wait for so many seconds: WaitPolicy(timeout=...)")


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

    def __init__(self, job_id: str, policy: WaitPolicy, clock: Clock) -> None:
        self._job_id = job_id
        self._policy = policy
        self._clock = clock
        self._start = clock.monotonic()
        self._polls = 0
        self._aims_at_timeout = False
        self._job: JobProperties | None = None
        self._blind_since: float | None = None
        self._gave_up = False

    def next_delay(self, news: JobProperties | _Failure) -> float | None:
        """Return the seconds to the next poll after one that brought `news`; None ends the wait."""
        self._polls += 1
        now = self._clock.monotonic()
        if isinstance(news, JobProperties):
            self._job = news
            self._blind_since = None
        else:
            self._gave_up = self._gives_up(news, now)
        delay = None if self._gave_up else self._delay(news, now - self._start)
        self._log(news, delay)
        return delay

    def _log(self, news: JobProperties | _Failure, delay: float | None) -> None:
        fields: dict[str, Any] = {"poll": self._polls, "delay": delay, "job_id": self._job_id}
        if isinstance(news, JobProperties):
            level, what = logging.INFO, str(news.job_status)
            fields["job_status"] = what
        else:
            level, what = logging.WARNING, code_or_reason(news)
            fields |= error_fields(news)
        if delay is not None:
            ending = f"the next in {delay:.2f} s"
        elif isinstance(news, JobProperties) and news.job_status.is_terminal:
            ending = "the job has ended"
        else:
            ending = "the wait ends"
        log(
            *(level, "%s on poll %d, %s", what, self._polls, ending),
            operation=DESCRIBE.name,
            **fields,
        )

    def _gives_up(self, error: _Failure, now: float) -> bool:
        """Whether a failed poll ends the wait. `Job.wait` documents the rules."""
        if self._job is None:
            return True
        if error.retryable:
            self._blind_since = None
            return False
        if isinstance(error, ClientClosedError) or not isinstance(
            error, (TransportError, ExpiredTokenException)
        ):
            return True
        if self._blind_since is None:
            self._blind_since = now
        return now - self._blind_since >= _LONGEST_BLIND

    def _delay(self, news: JobProperties | _Failure, elapsed: float) -> float | None:
        timeout = self._policy.timeout
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
        return delay

    def ending(self, news: JobProperties | _Failure) -> JobProperties:
        """Return the job if it came to a good end; `news` is what the last poll brought.

        Raises:
            JobFailed: it ended as FAILED.
            JobStopped: it ended as STOPPED.
            WaitTimeout: it has not ended.
            ServiceError, TransportError: the last poll failed in a way that ends the wait.
        """
        if isinstance(news, JobProperties):
            job, error = news, None
        elif self._job is None or self._gave_up:
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


def _check(policy: object, on_poll: object, on_poll_error: object) -> None:
    """Raise RequestValidationError for an argument of `wait` that is of the wrong type."""
    require("wait", "policy", _WAIT_POLICY, policy)
    require("wait", "on_poll", _shapes.CALLABLE, on_poll, optional=True)
    require("wait", "on_poll_error", _shapes.CALLABLE, on_poll_error, optional=True)


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
            JobNotEndedError: the job has not ended.
            ServiceError, TransportError: the job could not be described.
        """
        return self._client.results(self.job_id)

    def wait(
        self,
        policy: WaitPolicy = WaitPolicy(),
        on_poll: Callable[[JobProperties], object] | None = None,
        on_poll_error: Callable[[ServiceError | TransportError], object] | None = None,
    ) -> JobProperties:
        """Poll until the job ends, the first time at once.

        The client's `RetryPolicy` retries each poll. If a poll fails all the same:

        - No poll has succeeded yet: the wait ends with the error. A wrong region, endpoint or
          certificate does not pass.
        - The error is `retryable`: the wait goes on until its own timeout. Such an error says
          nothing about the job.
        - The request could not be sent, or the credentials have expired: the wait goes on, because
          the next refresh of the credentials may succeed. It ends with the error once every poll
          has failed like that for an hour (our rule).
        - The service refused the poll, or the client is closed: the wait ends with the error.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the properties after every poll that brought some.
            on_poll_error: called with the error of every failed poll after which the wait goes on.

        Returns:
            The properties of the job, whose status is COMPLETED or PARTIAL_SUCCESS. After the
            latter some files were not processed: look at the results' unprocessed files.

        Raises:
            RequestValidationError: an argument is of the wrong type; raised at once.
            JobFailed: the job ended as FAILED; the message has the service's reason.
            JobStopped: the job ended as STOPPED.
            WaitTimeout: the policy's timeout was up first; the job goes on.
            ServiceError, TransportError: a poll failed in a way that ends the wait, see above. The
                job goes on.
        """
        _check(policy, on_poll, on_poll_error)
        wait = Wait(self.job_id, policy, self._clock)
        while True:
            news = self._poll()
            if on_poll is not None and isinstance(news, JobProperties):
                on_poll(news)
            delay = wait.next_delay(news)
            if delay is None:
                return wait.ending(news)
            if on_poll_error is not None and not isinstance(news, JobProperties):
                on_poll_error(news)
            self._clock.sleep(delay)

    def _poll(self) -> JobProperties | _Failure:
        try:
            return self.properties()
        except (ServiceError, TransportError) as error:
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
        on_poll_error: Callable[[ServiceError | TransportError], object] | None = None,
    ) -> JobProperties:
        """Poll until the job ends, as `Job.wait` does; cancelling it leaves the job as it is.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the properties after every poll that brought some; what it returns
                is awaited if it can be.
            on_poll_error: called with the error of every failed poll after which the wait goes on;
                what it returns is awaited if it can be.
        """
        _check(policy, on_poll, on_poll_error)
        wait = Wait(self.job_id, policy, self._clock)
        while True:
            news = await self._poll()
            if on_poll is not None and isinstance(news, JobProperties):
                await _awaited(on_poll(news))
            delay = wait.next_delay(news)
            if delay is None:
                return wait.ending(news)
            if on_poll_error is not None and not isinstance(news, JobProperties):
                await _awaited(on_poll_error(news))
            await self._clock.sleep_async(delay)

    async def _poll(self) -> JobProperties | _Failure:
        try:
            return await self.properties()
        except (ServiceError, TransportError) as error:
            return error


async def _awaited(told: object) -> None:
    """Wait for what a callback returned, if it can be awaited."""
    if isawaitable(told):
        await told

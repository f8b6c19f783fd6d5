"""A job as an object, and waiting for its end.

`RetryPolicy` retries a single poll that fails. `WaitPolicy` says how often to poll, and for how
long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from attrs import evolve, field, frozen
from attrs.validators import optional

from . import _shapes
from ._clock import Clock
from ._logs import ErrorFields, code_or_reason, error_fields, log
from ._service.operations import DESCRIBE
from ._shapes import InstanceShape, check_argument
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

# What a poll returned.
_Poll = JobProperties | ServiceError | TransportError

# Our rule. If one refresh of the credentials fails, the next usually succeeds within minutes.
_MAX_UNSENT_SECONDS = 3600.0


@frozen(kw_only=True)
class WaitPolicy:
    """How to wait for a job. All times are in seconds.

    `Job.wait` documents what happens if a poll fails.

    Attributes:
        delay: the time between the first two polls.
        max_delay: the longest time between two polls.
        multiplier: how much longer each delay is than the one before; at least 1.
        timeout: how long to wait; None means until the job ends. A poll that is being retried at
            the timeout is not interrupted: `RetryPolicy` limits it.

    Raises:
        RequestValidationError: a number is out of range.
    """

    delay: float = field(default=10.0, validator=_shapes.PAUSE)
    max_delay: float = field(default=60.0, validator=_shapes.PAUSE)
    multiplier: float = field(default=1.5, validator=_shapes.FACTOR)
    timeout: float | None = field(default=None, validator=optional(_shapes.TIMEOUT))


_WAIT_POLICY = InstanceShape(WaitPolicy, "to wait for at most 60 seconds, pass timeout=60")


def next_poll(
    policy: WaitPolicy, *, status: JobStatus | None, polls: int, elapsed: float
) -> float | None:
    """Return the seconds until the next poll, or None if there is no reason for another one.

    Args:
        policy: how to wait.
        status: the job's status according to the last poll; None if that poll failed.
        polls: how many polls there have been.
        elapsed: the seconds since the first poll began.
    """
    if status is not None and status.is_terminal:
        return None
    try:
        delay = policy.delay * policy.multiplier ** (polls - 1)
    except OverflowError:
        delay = policy.max_delay
    delay = min(delay, policy.max_delay)
    timeout = math.inf if policy.timeout is None else policy.timeout
    # The last poll happens exactly at the timeout.
    return min(delay, timeout - elapsed) if elapsed < timeout else None


class Wait:
    """The decisions of one wait for one job, without any I/O. Both kinds of jobs use it."""

    def __init__(self, job_id: str, policy: WaitPolicy, clock: Clock) -> None:
        self._job_id = job_id
        self._policy = policy
        self._clock = clock
        self._start = clock.monotonic()
        self._polls = 0
        self._next_is_last = False
        self._job: JobProperties | None = None
        self._error: ServiceError | TransportError | None = None
        self._unsent_since: float | None = None

    def next_delay(self, poll: _Poll) -> float | None:
        """Return the seconds until the next poll, or None if the wait ends.

        Args:
            poll: what the last poll returned: the job's properties, or its error.

        Raises:
            ServiceError, TransportError: the poll failed in a way that ends the wait.
        """
        self._polls += 1
        now = self._clock.monotonic()
        if isinstance(poll, JobProperties):
            self._job, self._error, self._unsent_since = poll, None, None
        else:
            self._error = poll
            if self._ends_wait(poll, now):
                self._log(poll, None)
                raise poll
        delay = self._delay(poll, now - self._start)
        self._log(poll, delay)
        return delay

    def result(self) -> JobProperties:
        """Return the properties of a job that ended well.

        Raises:
            JobFailed: the job ended as FAILED.
            JobStopped: the job ended as STOPPED.
            WaitTimeout: the job has not ended.
        """
        # If the first poll returned no job, `next_delay` has raised its error.
        job = cast("JobProperties", self._job)
        status = job.job_status
        if status is JobStatus.FAILED:
            raise JobFailed(job)
        if status is JobStatus.STOPPED:
            raise JobStopped(job)
        if not status.is_terminal:
            raise WaitTimeout(
                job,
                timeout=self._policy.timeout or 0.0,
                last_poll_error=None if self._error is None else str(self._error),
            )
        return job

    def _ends_wait(self, error: ServiceError | TransportError, now: float) -> bool:
        """Return whether the error of a poll ends the wait. `Job.wait` documents the rules."""
        if self._job is None:
            return True
        if error.retryable:
            self._unsent_since = None
            return False
        if isinstance(error, ClientClosedError) or not isinstance(
            error, (TransportError, ExpiredTokenException)
        ):
            return True
        if self._unsent_since is None:
            self._unsent_since = now
        return now - self._unsent_since >= _MAX_UNSENT_SECONDS

    def _delay(self, poll: _Poll, elapsed: float) -> float | None:
        timeout = math.inf if self._policy.timeout is None else self._policy.timeout
        if self._next_is_last:
            # With a coarse clock, elapsed time can round to just under the timeout and never reach
            # it.
            elapsed = max(elapsed, timeout)
        delay = next_poll(
            self._policy,
            status=poll.job_status if isinstance(poll, JobProperties) else None,
            polls=self._polls,
            elapsed=elapsed,
        )
        self._next_is_last = delay is not None and delay >= timeout - elapsed
        return delay

    def _log(self, poll: _Poll, delay: float | None) -> None:
        if isinstance(poll, JobProperties):
            level, seen, error = logging.INFO, str(poll.job_status), ErrorFields()
        else:
            level, seen, error = logging.WARNING, code_or_reason(poll), error_fields(poll)
        if delay is not None:
            then = f"the next in {delay:.2f} s"
        elif isinstance(poll, JobProperties) and poll.job_status.is_terminal:
            then = "the job has ended"
        else:
            then = "the wait ends"
        log(
            *(level, "%s on poll %d, %s", seen, self._polls, then),
            operation=DESCRIBE.name,
            job_id=self._job_id,
            job_status=seen if isinstance(poll, JobProperties) else None,
            poll=self._polls,
            delay=delay,
            **error,
        )


def _checked(
    policy: WaitPolicy, timeout: float | None, on_poll: object, on_poll_error: object
) -> WaitPolicy:
    """Return the policy of a wait. Raise RequestValidationError if an argument is wrong."""
    check_argument("wait", "policy", _WAIT_POLICY, policy)
    check_argument("wait", "timeout", _shapes.TIMEOUT, timeout, optional=True)
    check_argument("wait", "on_poll", _shapes.CALLABLE, on_poll, optional=True)
    check_argument("wait", "on_poll_error", _shapes.CALLABLE, on_poll_error, optional=True)
    return policy if timeout is None else evolve(policy, timeout=timeout)


_AnyClient = TypeVar("_AnyClient")


class _JobBase(Generic[_AnyClient]):
    """What both kinds of jobs have."""

    def __init__(self, job_id: str, client: _AnyClient, clock: Clock) -> None:
        self.job_id = job_id
        self._client = client
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job_id!r})"


class _Client(Protocol):
    """What a job needs from its client."""

    def describe_phi_detection_job(self, job_id: str) -> JobProperties: ...

    def stop_phi_detection_job(self, job_id: str) -> str: ...

    def results(self, job_id: str) -> JobResults: ...


class Job(_JobBase[_Client]):
    """A job at the service. `PHIClient.submit` and `PHIClient.job` return one.

    Attributes:
        job_id: the job's id. Any process can use it to find the job again.
    """

    def properties(self) -> JobProperties:
        """Ask the service for the job's properties.

        Raises what `PHIClient.describe_phi_detection_job` raises.
        """
        return self._client.describe_phi_detection_job(self.job_id)

    def stop(self) -> str:
        """Ask the service to stop the job, and return the job's id.

        Once the job has stopped, `wait` raises `JobStopped`. Raises what
        `PHIClient.stop_phi_detection_job` raises.
        """
        return self._client.stop_phi_detection_job(self.job_id)

    def results(self) -> JobResults:
        """Return the job's results, which are read from S3 when you use them.

        Raises:
            JobNotEndedError: the job has not ended.
            ServiceError, TransportError: the job's properties could not be fetched.
        """
        return self._client.results(self.job_id)

    def wait(
        self,
        policy: WaitPolicy = WaitPolicy(),
        on_poll: Callable[[JobProperties], object] | None = None,
        on_poll_error: Callable[[ServiceError | TransportError], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> JobProperties:
        """Poll until the job ends. The first poll happens at once.

        The client's `RetryPolicy` retries each poll. If a poll still fails:

        - If no poll has succeeded yet, the wait ends with the error. A wrong region, endpoint or
          certificate does not fix itself.
        - If the error is `retryable`, the wait continues, because such an error says nothing about
          the job. Only a timeout limits how long this can last; without one, nothing does.
        - If the request could not be sent, or the credentials have expired, the wait continues,
          because the next refresh of the credentials may succeed. It ends with the error once every
          poll has failed like that for an hour (our rule).
        - If the service refused the poll, or the client is closed, the wait ends with the error.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the job's properties after each successful poll.
            on_poll_error: called with the error of each failed poll after which the wait continues.
            timeout: how long to wait, in seconds, instead of the policy's `timeout`. None means
                that the policy decides.

        Returns:
            The properties of a job whose status is COMPLETED or PARTIAL_SUCCESS. After
            PARTIAL_SUCCESS, `JobResults.unprocessed` lists the files that were not processed.

        Raises:
            RequestValidationError: an argument is invalid; raised before the first poll.
            JobFailed: the job ended as FAILED. The message contains the service's reason.
            JobStopped: the job ended as STOPPED.
            WaitTimeout: the timeout passed first. The job continues.
            ServiceError, TransportError: a poll failed in a way that ends the wait, see above. The
                job continues.
        """
        policy = _checked(policy, timeout, on_poll, on_poll_error)
        wait = Wait(self.job_id, policy, self._clock)
        while True:
            poll = self._poll()
            if isinstance(poll, JobProperties) and on_poll is not None:
                on_poll(poll)
            delay = wait.next_delay(poll)
            if delay is None:
                return wait.result()
            if not isinstance(poll, JobProperties) and on_poll_error is not None:
                on_poll_error(poll)
            self._clock.sleep(delay)

    def _poll(self) -> _Poll:
        try:
            return self.properties()
        except (ServiceError, TransportError) as error:
            return error


class _AsyncClient(Protocol):
    """What an asynchronous job needs from its client."""

    async def describe_phi_detection_job(self, job_id: str) -> JobProperties: ...

    async def stop_phi_detection_job(self, job_id: str) -> str: ...

    async def results(self, job_id: str) -> AsyncJobResults: ...


class AsyncJob(_JobBase[_AsyncClient]):
    """A job at the service. `AsyncPHIClient.submit` and `AsyncPHIClient.job` return one.

    Its methods raise what the methods of `Job` raise.

    Attributes:
        job_id: the job's id. Any process can use it to find the job again.
    """

    async def properties(self) -> JobProperties:
        """Ask the service for the job's properties."""
        return await self._client.describe_phi_detection_job(self.job_id)

    async def stop(self) -> str:
        """Ask the service to stop the job, and return the job's id.

        Once the job has stopped, `wait` raises `JobStopped`.
        """
        return await self._client.stop_phi_detection_job(self.job_id)

    async def results(self) -> AsyncJobResults:
        """Return the job's results with the manifest loaded. Documents are read when you use them.

        Also raises what loading the manifest raises, see `AsyncPHIClient.results`.
        """
        return await self._client.results(self.job_id)

    async def wait(
        self,
        policy: WaitPolicy = WaitPolicy(),
        on_poll: Callable[[JobProperties], object] | None = None,
        on_poll_error: Callable[[ServiceError | TransportError], object] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - asyncio.timeout would leave out the last poll
    ) -> JobProperties:
        """Poll until the job ends, as `Job.wait` does. Cancelling the wait does not affect the job.

        Args:
            policy: how often to poll, and for how long.
            on_poll: called with the job's properties after each successful poll. If it returns an
                awaitable, `wait` awaits it.
            on_poll_error: called with the error of each failed poll after which the wait continues.
                If it returns an awaitable, `wait` awaits it.
            timeout: how long to wait, in seconds, instead of the policy's `timeout`. None means
                that the policy decides.
        """
        policy = _checked(policy, timeout, on_poll, on_poll_error)
        wait = Wait(self.job_id, policy, self._clock)
        while True:
            poll = await self._poll()
            await _notify(on_poll, poll if isinstance(poll, JobProperties) else None)
            delay = wait.next_delay(poll)
            if delay is None:
                return wait.result()
            await _notify(on_poll_error, None if isinstance(poll, JobProperties) else poll)
            await self._clock.sleep_async(delay)

    async def _poll(self) -> _Poll:
        try:
            return await self.properties()
        except (ServiceError, TransportError) as error:
            return error


async def _notify(callback: Callable[[Any], object] | None, value: object) -> None:
    """Call the callback if there are one and a value. If it returns an awaitable, await that."""
    if callback is None or value is None:
        return
    returned = callback(value)
    if isawaitable(returned):
        await returned

"""Retry policy for individual calls.

The error of a failed attempt says whether a retry can help. This module counts, waits and gives up.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, field, frozen
from attrs.validators import optional

from . import _shapes
from ._clock import Clock
from ._logs import code_or_reason, error_fields, log
from ._shapes import InstanceShape, check_argument
from .errors import ActiveJobLimitExceeded, ServiceError, TransportError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_T = TypeVar("_T")


@frozen(kw_only=True)
class RetryPolicy:
    """When and how often a single call is retried. All times are in seconds.

    The wait before attempt n + 1 is random: between 0 and `base_delay` * 2 ** (n - 1), but at most
    `max_delay`. If a response asks for a longer wait (Retry-After), the client waits that long.

    `ActiveJobLimitExceeded` has rules of its own, because a job slot takes minutes to become free.
    The client tries to start the job every `slot_delay`, plus or minus up to half of it, until
    `slot_timeout` has passed. These tries do not count as attempts. Time spent waiting for a slot
    does not count toward `timeout`, and all other time does not count toward `slot_timeout`. The
    client does not wait for a slot if an earlier attempt may have started the job: that job may
    have taken the slot, and after its end, the same request might start another one.

    Attributes:
        max_attempts: how many attempts a call has, including the first; 1 means no retry.
        base_delay: the longest possible wait before the second attempt.
        max_delay: the longest wait between two attempts.
        timeout: the longest total time of the attempts and the waits between them; None means no
            limit. An attempt in progress is not interrupted: the boto3 client's own timeouts limit
            it.
        slot_timeout: how long to wait for a free job slot; 0 means no wait.
        slot_delay: the average time between two tries for a job slot.

    Raises:
        RequestValidationError: a number is out of range.
    """

    max_attempts: int = field(default=8, validator=_shapes.ATTEMPTS)
    base_delay: float = field(default=0.5, validator=_shapes.SECONDS)
    max_delay: float = field(default=20.0, validator=_shapes.SECONDS)
    timeout: float | None = field(default=None, validator=optional(_shapes.TIMEOUT))
    slot_timeout: float = field(default=0.0, validator=_shapes.TIMEOUT)
    slot_delay: float = field(default=15.0, validator=_shapes.PAUSE)


_POLICY = InstanceShape(RetryPolicy, "such as RetryPolicy(max_attempts=3)")
_CLOCK = InstanceShape(Clock, "such as SystemClock() or comprehend_phi.testing.FakeClock()")


def check_options(owner: str, policy: object, clock: object) -> None:
    """Raise RequestValidationError if an argument of the class `owner` has the wrong type."""
    check_argument(owner, "retry", _POLICY, policy)
    check_argument(owner, "clock", _CLOCK, clock)


class Retrier:
    """Retries calls. Threads and tasks may share one.

    Building one imports tenacity, so that no thread of a client imports it later.

    Args:
        policy: when and how often to retry.
        clock: measures the attempts and sleeps between them.
        uniform: draws a random number between two limits.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        from tenacity import Retrying, retry_if_exception

        self._policy = policy
        self._clock = clock
        self._uniform = uniform
        # tenacity's own limits cannot tell attempts from tries for a job slot, and read the real
        # clock. So the hooks count by themselves, in the `_Usage` that `state.args` carries.
        self._hooks: dict[str, Any] = {
            "retry": retry_if_exception(attrgetter("retryable")),
            "wait": self._next_wait,
            "stop": self._is_used_up,
            "before_sleep": self._begin_wait,
            "reraise": True,
        }
        self._retrying = Retrying(sleep=clock.sleep, **self._hooks)

    def without_slot_waits(self) -> Retrier:
        """Return a retrier that retries all errors in the same way, but waits for no job slot."""
        return Retrier(evolve(self._policy, slot_timeout=0.0), self._clock, self._uniform)

    def call(self, attempt: Callable[[], _T], *, attempts_before: int = 0) -> _T:
        """Return what `attempt` returns, calling it as often as the policy allows.

        `attempts_before` attempts were made already, in another way.

        If no attempt succeeds, raise the last error itself. It then says how many attempts there
        were, and whether any of them may have been carried out. Any error that is neither a
        `ServiceError` nor a `TransportError` ends the call at once.
        """
        usage = _Usage(self._clock.monotonic(), attempts_before)
        attempts = iter(self._retrying)
        while True:
            state = next(attempts).retry_state  # waits first, or raises the last error
            try:
                return attempt()
            except (ServiceError, TransportError) as error:
                self._record(error, usage, state)

    async def call_async(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Do what `call` does with an `attempt` that is awaited, and sleep asynchronously."""
        from tenacity import AsyncRetrying  # one for each call, because it has the call's state

        usage = _Usage(self._clock.monotonic())
        attempts = aiter(AsyncRetrying(sleep=self._clock.sleep_async, **self._hooks))
        while True:
            state = (await anext(attempts)).retry_state
            try:
                return await attempt()
            except (ServiceError, TransportError) as error:
                self._record(error, usage, state)

    def _record(
        self, error: ServiceError | TransportError, usage: _Usage, state: RetryCallState
    ) -> None:
        """Count a failed attempt, and hand its error to tenacity.

        tenacity's `with attempt:` would do that too, but it also records each success, which costs
        a twentieth of a call.
        """
        usage.count(error, self._clock.monotonic())
        state.args = (usage,)
        state.set_exception((type(error), error, error.__traceback__))

    def _next_wait(self, state: RetryCallState) -> float:
        policy, usage = self._policy, _usage(state)
        asked = usage.error.retry_after or 0.0
        if usage.waits_for_slot:
            delay = max(asked, policy.slot_delay * self._uniform(0.5, 1.5))
            # The last try for a slot happens exactly at the timeout.
            return min(delay, max(0.0, policy.slot_timeout - usage.slot_seconds))
        # A larger exponent would overflow; `max_delay` has long been the smaller one by then.
        ceiling = policy.base_delay * 2.0 ** min(usage.attempts - 1, 64)
        return max(asked, self._uniform(0.0, min(policy.max_delay, ceiling)))

    def _is_used_up(self, state: RetryCallState) -> bool:
        policy, usage = self._policy, _usage(state)
        if usage.waits_for_slot:
            # The job that holds the slot may be the one that an earlier attempt has started. Nobody
            # outside AWS knows whether the service still knows its token when it has ended.
            return usage.outcome_unknown or usage.slot_seconds >= policy.slot_timeout
        return usage.attempts >= policy.max_attempts or (
            policy.timeout is not None
            and usage.attempt_seconds + state.upcoming_sleep > policy.timeout
        )

    def _begin_wait(self, state: RetryCallState) -> None:
        usage = _usage(state)
        usage.begin_wait(state.upcoming_sleep)
        error = usage.error
        log(
            logging.INFO,
            "%s on attempt %d, trying again in %.2f s",
            *(code_or_reason(error), error.attempts, usage.wait),
            operation=error.operation,
            attempt=error.attempts,
            delay=usage.wait,
            **error_fields(error),
        )


class _Usage:
    """What one call has used of its two budgets.

    Attributes:
        error: the error of the last attempt.
        attempts: how many attempts there were, without the tries for a job slot.
        attempt_seconds: what the attempts and the waits after them have taken.
        slot_seconds: the same for the tries for a job slot.
        wait: the last wait, in seconds.
        outcome_unknown: whether one of the attempts may have succeeded.
    """

    def __init__(self, now: float, attempts: int = 0) -> None:
        self.error: ServiceError | TransportError
        self.attempts = attempts
        self.attempt_seconds = self.slot_seconds = 0.0
        self.wait = 0.0
        self._counted_at = now
        self.outcome_unknown = False

    @property
    def waits_for_slot(self) -> bool:
        """Whether the last attempt failed because all job slots are taken."""
        return isinstance(self.error, ActiveJobLimitExceeded)

    def count(self, error: ServiceError | TransportError, now: float) -> None:
        """Count a failed attempt, and write on its error what is known about the whole call."""
        self.error = error
        self._charge(max(0.0, now - self._counted_at - self.wait))
        self._counted_at = now
        if not self.waits_for_slot:
            self.attempts += 1
        self.outcome_unknown |= error.outcome_unknown
        error.attempts = max(1, self.attempts)
        error.outcome_unknown = self.outcome_unknown

    def begin_wait(self, seconds: float) -> None:
        """Charge the wait that begins now to the budget of the attempt before it."""
        self.wait = seconds
        self._charge(seconds)

    def _charge(self, seconds: float) -> None:
        if self.waits_for_slot:
            self.slot_seconds += seconds
        else:
            self.attempt_seconds += seconds


def _usage(state: RetryCallState) -> _Usage:
    usage: _Usage = state.args[0]
    return usage

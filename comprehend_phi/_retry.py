"""Trying a call again: which errors, how often, how long apart.

The error says whether it may be retried; this module only counts, waits and gives up. tenacity
runs the loop, with its hooks bound to `_Tries`, since its own delay stops and statistics read the
real clock.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field, frozen

from . import _shapes
from ._clock import Clock
from ._logs import code_or_reason, error_fields, log
from ._shapes import InstanceShape, Obeys, require
from .errors import ActiveJobLimitExceeded, ServiceError, TransportError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_T = TypeVar("_T")


@frozen(kw_only=True)
class RetryPolicy:
    """How a single call is tried again. All times are seconds.

    The wait before attempt n + 1 is drawn evenly between 0 and `base_delay` times 2 to the n - 1,
    at most `max_delay`; an answer that asks for a longer wait (Retry-After) gets it.

    `ActiveJobLimitExceeded` is another matter: a job slot becomes free after minutes. Starts are
    tried again every `slot_delay`, give or take half of it, until `slot_timeout` has gone by; these
    tries do not count as attempts, and neither timeout counts the other's time.

    Attributes:
        max_attempts: attempts at a call, the first included; 1 means no retry.
        base_delay: the longest first wait.
        max_delay: the longest wait.
        timeout: bounds the attempts and the waits between them; None means no bound. An attempt
            under way is not cut off: the boto3 client's own timeouts bound that.
        slot_timeout: how long to wait for a free job slot; 0 means not at all.
        slot_delay: how often to look for a free slot.

    Raises:
        RequestValidationError: a number is out of its range.
    """

    max_attempts: int = field(default=8, validator=Obeys(_shapes.ATTEMPTS))
    base_delay: float = field(default=0.5, validator=Obeys(_shapes.SECONDS))
    max_delay: float = field(default=20.0, validator=Obeys(_shapes.SECONDS))
    timeout: float | None = field(default=None, validator=Obeys(_shapes.TIMEOUT, optional=True))
    slot_timeout: float = field(default=0.0, validator=Obeys(_shapes.TIMEOUT))
    slot_delay: float = field(default=15.0, validator=Obeys(_shapes.PAUSE))


_POLICY = InstanceShape(RetryPolicy, "such as RetryPolicy(max_attempts=3)")
_CLOCK = InstanceShape(Clock, "such as SystemClock() or comprehend_phi.testing.FakeClock()")


def check_options(owner: str, policy: object, clock: object) -> None:
    """Raise RequestValidationError if the class `owner` was given no policy or no clock."""
    require(owner, "retry", _POLICY, policy)
    require(owner, "clock", _CLOCK, clock)


def call_with_retries(
    attempt: Callable[[], _T],
    policy: RetryPolicy,
    clock: Clock,
    uniform: Callable[[float, float], float] = random.uniform,
) -> _T:
    """Attempt until it succeeds or `policy` gives up; then the last error is raised as itself."""
    tries = _Tries(policy, clock, uniform)
    try:
        return attempt()
    except (ServiceError, TransportError) as error:
        tries.note(error)

    # Only now, since a call that succeeds at once should not pay for tenacity. It is handed the
    # first failure as if it had seen it.
    from tenacity import Retrying

    def next_attempt() -> _T:
        if tries.first_failure_is_pending():
            raise tries.error
        try:
            return attempt()
        except (ServiceError, TransportError) as error:
            tries.note(error)
            raise

    return Retrying(sleep=clock.sleep, reraise=True, **tries.hooks())(next_attempt)


async def call_with_retries_async(
    attempt: Callable[[], Awaitable[_T]],
    policy: RetryPolicy,
    clock: Clock,
    uniform: Callable[[float, float], float] = random.uniform,
) -> _T:
    """Do as `call_with_retries` for awaited attempts. Cancelling ends a wait at once."""
    tries = _Tries(policy, clock, uniform)
    try:
        return await attempt()
    except (ServiceError, TransportError) as error:
        tries.note(error)

    from tenacity import AsyncRetrying

    async def next_attempt() -> _T:
        if tries.first_failure_is_pending():
            raise tries.error
        try:
            return await attempt()
        except (ServiceError, TransportError) as error:
            tries.note(error)
            raise

    retrying = AsyncRetrying(sleep=clock.sleep_async, reraise=True, **tries.hooks())
    return await retrying(next_attempt)


class _Tries:
    """What has been tried for one call so far; some of its methods are tenacity's hooks."""

    def __init__(
        self, policy: RetryPolicy, clock: Clock, uniform: Callable[[float, float], float]
    ) -> None:
        self.error: ServiceError | TransportError
        self._policy = policy
        self._clock = clock
        self._uniform = uniform
        self._pending = True
        self._attempts = 0
        self._outcome_unknown = False
        # Two budgets, each charged with its own tries and with the waits that follow them.
        self._attempt_seconds = self._slot_seconds = 0.0
        self._wait = 0.0
        self._mark = clock.monotonic()

    def note(self, error: ServiceError | TransportError) -> None:
        """Count a failed try and write on its error what is known of the call as a whole."""
        now = self._clock.monotonic()
        tried = max(0.0, now - self._mark - self._wait)
        if isinstance(error, ActiveJobLimitExceeded):
            self._slot_seconds += tried
        else:
            self._attempt_seconds += tried
            self._attempts += 1
        self._mark = now

        self._outcome_unknown |= error.outcome_unknown
        error.attempts = max(1, self._attempts)
        error.outcome_unknown = self._outcome_unknown
        self.error = error

    def first_failure_is_pending(self) -> bool:
        """Whether tenacity has yet to be told of the first failure; true once."""
        pending, self._pending = self._pending, False
        return pending

    def hooks(self) -> dict[str, Any]:
        """What tenacity asks after each try, in its order."""
        return {
            "retry": self._may_pass,
            "wait": self._next_wait,
            "stop": self._gives_up,
            "before_sleep": self._begin_wait,
        }

    def _may_pass(self, state: RetryCallState) -> bool:
        # tenacity hands in everything, successes and KeyboardInterrupt included.
        failed_with = state.outcome.exception() if state.outcome else None
        return failed_with is self.error and self.error.retryable

    def _next_wait(self, _state: RetryCallState) -> float:
        policy = self._policy
        asked = self.error.retry_after or 0.0
        if isinstance(self.error, ActiveJobLimitExceeded):
            delay = max(asked, policy.slot_delay * self._uniform(0.5, 1.5))
            # The last look for a free slot falls on the timeout.
            return min(delay, max(0.0, policy.slot_timeout - self._slot_seconds))
        # The exponent is bounded because a float's is; by then max_delay has long won.
        ceiling = policy.base_delay * 2.0 ** min(self._attempts - 1, 64)
        return max(asked, self._uniform(0.0, min(policy.max_delay, ceiling)))

    def _gives_up(self, state: RetryCallState) -> bool:
        policy = self._policy
        if isinstance(self.error, ActiveJobLimitExceeded):
            return self._slot_seconds >= policy.slot_timeout
        return self._attempts >= policy.max_attempts or (
            policy.timeout is not None
            and self._attempt_seconds + state.upcoming_sleep > policy.timeout
        )

    def _begin_wait(self, state: RetryCallState) -> None:
        self._wait = state.upcoming_sleep
        if isinstance(self.error, ActiveJobLimitExceeded):
            self._slot_seconds += self._wait
        else:
            self._attempt_seconds += self._wait
        error = self.error
        log(
            logging.INFO,
            "%s on attempt %d, trying again in %.2f s",
            *(code_or_reason(error), error.attempts, self._wait),
            operation=error.operation,
            attempt=error.attempts,
            delay=self._wait,
            **error_fields(error),
        )

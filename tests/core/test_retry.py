"""Retries: when, how often and how long apart, on a clock that only the tests move."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    InternalServerException,
    InvalidRequestException,
    MalformedResponseError,
    RequestValidationError,
    RetryPolicy,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
)
from comprehend_phi._logs import FIELDS
from comprehend_phi._retry import Retrier

CallError = ServiceError | TransportError
Uniform = Callable[[float, float], float]


class Time:
    """A clock that attempts and sleeps move."""

    def __init__(self) -> None:
        self.now = 1000.0  # a monotonic clock starts anywhere
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Attempts:
    """Attempts that take some seconds each and fail as scripted, then succeed."""

    def __init__(self, time: Time, script: Iterable[tuple[float, BaseException]]) -> None:
        self.made = 0
        self.starts: list[float] = []
        self._time = time
        self._script = iter(script)

    def __call__(self) -> str:
        self.made += 1
        self.starts.append(self._time.now)
        seconds, error = next(self._script, (0.0, None))
        self._time.now += seconds
        if error is not None:
            raise error
        return "done"


def service_error(cls: type[ServiceError], **more: Any) -> ServiceError:
    members: dict[str, Any] = {"code": cls.__name__, "message": "No", **more}
    return cls(operation="StartPHIDetectionJob", **members)


def throttle(retry_after: float | None = None) -> ServiceError:
    return service_error(ThrottlingException, retry_after=retry_after)


def no_slot(retry_after: float | None = None) -> ServiceError:
    return service_error(ActiveJobLimitExceeded, retry_after=retry_after)


def lost(*, retryable: bool = True) -> TransportError:
    return TransportError(operation="StartPHIDetectionJob", reason="gone", retryable=retryable)


def lowest(low: float, _high: float) -> float:
    return low


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def highest(_low: float, high: float) -> float:
    return high


def run(
    policy: RetryPolicy, *errors: BaseException, uniform: Uniform = highest, lasting: float = 0.0
) -> tuple[BaseException | None, list[float]]:
    """Return the error that a call ends with (None for success) and its waits."""
    time = Time()
    attempts = Attempts(time, ((lasting, error) for error in errors))
    try:
        assert Retrier(policy, time, uniform).call(attempts) == "done"
    except (ServiceError, TransportError) as error:
        return error, time.sleeps
    return None, time.sleeps


# --- How long apart -------------------------------------------------------------------------------


def test_a_call_that_succeeds_at_once_does_not_wait() -> None:
    assert run(RetryPolicy()) == (None, [])


def test_the_longest_waits_double_up_to_max_delay() -> None:
    policy = RetryPolicy(max_attempts=8, base_delay=0.5, max_delay=10.0)

    assert run(policy, *[throttle()] * 7) == (None, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0])


def test_the_shortest_waits_are_zero() -> None:
    assert run(RetryPolicy(), *[throttle()] * 7, uniform=lowest) == (None, [0.0] * 7)


def test_waits_are_drawn_evenly_between_zero_and_the_longest() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.3 * high

    policy = RetryPolicy(max_attempts=5, base_delay=2.0, max_delay=5.0)
    _, sleeps = run(policy, *[throttle()] * 4, uniform=uniform)

    assert drawn == [(0.0, 2.0), (0.0, 4.0), (0.0, 5.0), (0.0, 5.0)]
    assert sleeps == pytest.approx([0.6, 1.2, 1.5, 1.5])


def test_a_base_delay_above_max_delay_is_capped_as_well() -> None:
    assert run(RetryPolicy(base_delay=9.0, max_delay=3.0), throttle()) == (None, [3.0])


def test_thousands_of_attempts_do_not_overflow_the_growth() -> None:
    policy = RetryPolicy(max_attempts=2000, base_delay=1.0, max_delay=20.0)

    error, sleeps = run(policy, *[throttle()] * 1999)

    assert error is None
    assert set(sleeps[5:]) == {20.0}


@pytest.mark.parametrize(
    ("asked", "uniform", "waited"),
    [
        (7.0, lowest, 7.0),
        (7.0, highest, 7.0),
        (0.1, highest, 0.5),
        (0.0, lowest, 0.0),
        # What the service asks for is not capped by our own limit.
        (60.0, highest, 60.0),
    ],
)
def test_the_wait_is_at_least_what_the_response_asks_for(
    asked: float, uniform: Uniform, waited: float
) -> None:
    policy = RetryPolicy(base_delay=0.5, max_delay=20.0)

    assert run(policy, throttle(asked), uniform=uniform) == (None, [waited])


def test_the_wait_that_one_response_asks_for_does_not_apply_to_the_next() -> None:
    policy = RetryPolicy(base_delay=0.5)

    assert run(policy, throttle(7.0), throttle()) == (None, [7.0, 1.0])


# --- How often ------------------------------------------------------------------------------------


def test_one_attempt_means_no_retry_and_no_wait() -> None:
    error = throttle()

    raised, sleeps = run(RetryPolicy(max_attempts=1), error)

    assert raised is error
    assert sleeps == []


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_last_error_is_raised_as_itself_after_max_attempts(count: int) -> None:
    errors = [throttle() for _ in range(count + 1)]
    time = Time()
    attempts = Attempts(time, ((0.0, error) for error in errors))

    with pytest.raises(ThrottlingException) as caught:
        Retrier(RetryPolicy(max_attempts=count), time, highest).call(attempts)

    assert caught.value is errors[count - 1]
    assert attempts.made == caught.value.attempts == count
    assert len(time.sleeps) == count - 1
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


RETRIED = (
    InternalServerException,
    TooManyRequestsException,
    ServiceUnavailableException,
    ThrottlingException,
)
REFUSED = (InvalidRequestException, AccessDeniedException, ServiceError)


@pytest.mark.parametrize("cls", RETRIED)
def test_an_error_whose_class_is_retryable_is_retried(cls: type[ServiceError]) -> None:
    assert run(RetryPolicy(), service_error(cls))[0] is None


@pytest.mark.parametrize("cls", REFUSED)
def test_any_other_service_error_is_raised_at_once(cls: type[ServiceError]) -> None:
    error = service_error(cls)

    assert run(RetryPolicy(), error) == (error, [])


def test_a_transport_error_is_retried_if_it_says_so() -> None:
    final = lost(retryable=False)

    assert run(RetryPolicy(), lost())[0] is None
    assert run(RetryPolicy(), final) == (final, [])


@pytest.mark.parametrize("position", [1, 2, 5])
def test_a_refusal_midway_ends_the_call(position: int) -> None:
    refusal = service_error(InvalidRequestException)

    raised, sleeps = run(RetryPolicy(), *[throttle()] * position, refusal, throttle())

    assert raised is refusal
    assert refusal.attempts == position + 1
    assert len(sleeps) == position


# --- The timeout of the attempts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "lasting", "made", "slept"),
    [
        # Waits of 1, 2, 4, 8 seconds: after 1 + 2 the next would end at 7.
        (0.0, 0.0, 1, 0.0),
        (0.999, 0.0, 1, 0.0),
        (1.0, 0.0, 2, 1.0),
        (6.9, 0.0, 3, 3.0),
        (7.0, 0.0, 4, 7.0),
        # The time that attempts take counts: 1 + 1, 1 + 2, 1 + 4.
        (7.0, 1.0, 3, 3.0),
        (8.0, 1.0, 3, 3.0),
        (10.0, 1.0, 4, 7.0),
        # An attempt that takes longer than all the time there is is the only one.
        (5.0, 6.0, 1, 0.0),
        (math.inf, 100.0, 8, 127.0),
        (None, 100.0, 8, 127.0),
    ],
)
def test_no_wait_begins_that_would_end_after_the_timeout(
    timeout: float | None, lasting: float, made: int, slept: float
) -> None:
    policy = RetryPolicy(base_delay=1.0, max_delay=1000.0, timeout=timeout)

    error, sleeps = run(policy, *[throttle() for _ in range(8)], lasting=lasting)

    assert isinstance(error, ThrottlingException)
    assert error.attempts == made
    assert sum(sleeps) == slept


def test_a_response_that_asks_for_more_than_the_timeout_ends_the_call_at_once() -> None:
    error = throttle(retry_after=31.0)

    assert run(RetryPolicy(timeout=30.0), error) == (error, [])


# --- The wait for a job slot ----------------------------------------------------------------------


def test_without_slot_timeout_a_missing_slot_is_raised_at_once() -> None:
    error = no_slot()

    assert run(RetryPolicy(), error) == (error, [])
    assert error.attempts == 1


def test_without_slot_waits_only_a_missing_slot_is_raised_at_once() -> None:
    time = Time()
    policy = RetryPolicy(base_delay=1.0, slot_timeout=1000.0)
    attempts = Attempts(time, [(0.0, throttle()), (0.0, throttle()), (0.0, no_slot())])
    retrier = Retrier(policy, time, highest).without_slot_waits()

    with pytest.raises(ActiveJobLimitExceeded):
        retrier.call(attempts)

    assert time.sleeps == [1.0, 2.0]


@pytest.mark.parametrize(("uniform", "expected"), [(lowest, 5.0), (middle, 10.0), (highest, 15.0)])
def test_a_slot_is_tried_for_every_slot_delay_plus_or_minus_half(
    uniform: Uniform, expected: float
) -> None:
    policy = RetryPolicy(slot_timeout=1000.0, slot_delay=10.0)

    assert run(policy, *[no_slot()] * 20, uniform=uniform) == (None, [expected] * 20)


@pytest.mark.parametrize(
    ("slot_timeout", "lasting", "expected"),
    [
        (25.0, 0.0, [10.0, 10.0, 5.0]),
        (30.0, 0.0, [10.0, 10.0, 10.0]),
        (4.0, 0.0, [4.0]),
        # Each try takes time as well: 1 + 10, 1 + 10, 1 + 2.
        (25.0, 1.0, [10.0, 10.0, 2.0]),
        # Nothing is left after a try that took all the time.
        (5.0, 5.0, []),
        (5.0, 6.0, []),
    ],
)
def test_the_last_try_for_a_slot_happens_at_the_slot_timeout(
    slot_timeout: float, lasting: float, expected: list[float]
) -> None:
    policy = RetryPolicy(max_attempts=1, slot_timeout=slot_timeout, slot_delay=10.0)
    errors = [no_slot() for _ in range(10)]

    raised, sleeps = run(policy, *errors, uniform=middle, lasting=lasting)

    assert sleeps == expected
    assert raised is errors[len(expected)]


def test_an_endless_slot_timeout_is_waited_for() -> None:
    policy = RetryPolicy(slot_timeout=math.inf, slot_delay=10.0)

    assert run(policy, *[no_slot()] * 500, uniform=middle)[0] is None


def test_a_try_for_a_slot_waits_as_long_as_the_response_asks() -> None:
    policy = RetryPolicy(slot_timeout=1000.0, slot_delay=10.0)

    assert run(policy, no_slot(90.0)) == (None, [90.0])


def test_tries_for_a_slot_are_not_attempts() -> None:
    policy = RetryPolicy(max_attempts=2, slot_timeout=1000.0, slot_delay=10.0)
    last = throttle()

    raised, _ = run(policy, no_slot(), no_slot(), throttle(), no_slot(), last)

    assert raised is last
    assert last.attempts == 2


def test_tries_for_a_slot_do_not_lengthen_the_waits_between_attempts() -> None:
    policy = RetryPolicy(base_delay=1.0, slot_timeout=1000.0, slot_delay=10.0)

    _, sleeps = run(policy, no_slot(), no_slot(), throttle(), no_slot(), throttle())

    assert sleeps == [15.0, 15.0, 1.0, 15.0, 2.0]


@pytest.mark.parametrize(
    ("script", "raised", "expected"),
    [
        # timeout 10, base delay 1 (waits 1, 2, 4); slot timeout 50, slot delay 20.
        # Waiting for a slot does not use up the timeout of the attempts.
        ([(40.0, no_slot), (1.0, throttle)], None, [10.0, 1.0]),
        # Nor does an attempt's time use up that of the slots: 20, then 20 more, then the rest.
        (
            [(0.0, no_slot), (9.0, throttle), (0.0, no_slot), (0.0, no_slot)],
            None,
            [20.0, 1.0, 20.0, 10.0],
        ),
        (
            [(0.0, no_slot), (9.0, throttle), (0.0, no_slot), (0.0, no_slot), (0.0, no_slot)],
            4,
            [20.0, 1.0, 20.0, 10.0],
        ),
        # The attempts before the tries for a slot have used some of the timeout.
        ([(5.0, throttle), (30.0, no_slot), (2.0, throttle)], None, [1.0, 20.0, 2.0]),
        ([(5.0, throttle), (30.0, no_slot), (3.0, throttle)], 2, [1.0, 20.0]),
    ],
)
def test_neither_timeout_counts_the_time_of_the_other(
    script: list[tuple[float, Callable[[], ServiceError]]],
    raised: int | None,
    expected: list[float],
) -> None:
    def uniform(low: float, high: float) -> float:
        return high if low == 0.0 else middle(low, high)

    policy = RetryPolicy(base_delay=1.0, timeout=10.0, slot_timeout=50.0, slot_delay=20.0)
    time = Time()
    errors = [error() for _, error in script]
    attempts = Attempts(time, zip((seconds for seconds, _ in script), errors, strict=True))

    if raised is None:
        assert Retrier(policy, time, uniform).call(attempts) == "done"
    else:
        with pytest.raises(ServiceError) as caught:
            Retrier(policy, time, uniform).call(attempts)
        assert caught.value is errors[raised]
    assert time.sleeps == expected


# --- What is known about the whole call -----------------------------------------------------------


def test_an_outcome_that_became_unknown_stays_so() -> None:
    last = throttle()

    raised, _ = run(RetryPolicy(max_attempts=3), throttle(), lost(), last)

    assert raised is last
    assert last.outcome_unknown


def test_an_outcome_stays_known_while_no_attempt_may_have_been_carried_out() -> None:
    last = throttle()

    run(RetryPolicy(max_attempts=2), throttle(), last)

    assert not last.outcome_unknown


# --- Interruptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_of_an_attempt_passes_through_at_once(
    interruption: type[BaseException], before: int
) -> None:
    time = Time()
    script = [*[(0.0, throttle())] * before, (0.0, interruption())]
    attempts = Attempts(time, script)

    with pytest.raises(interruption):
        Retrier(RetryPolicy(), time, lowest).call(attempts)

    assert attempts.made == before + 1
    assert len(time.sleeps) == before


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("error", [throttle, no_slot])
def test_an_interruption_of_a_wait_passes_through_at_once(
    error: Callable[[], ServiceError], nth: int
) -> None:
    class Interrupted(Time):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.sleeps) == nth:
                raise KeyboardInterrupt

    time = Interrupted()
    attempts = Attempts(time, ((0.0, error()) for _ in itertools.count()))

    with pytest.raises(KeyboardInterrupt):
        Retrier(RetryPolicy(slot_timeout=1000.0), time, lowest).call(attempts)

    assert attempts.made == len(time.sleeps) == nth


@pytest.mark.parametrize("before", [0, 1])
def test_any_other_error_passes_through_at_once(before: int) -> None:
    time = Time()
    bug = ZeroDivisionError("a bug of somebody")
    attempts = Attempts(time, [*[(0.0, throttle())] * before, (0.0, bug)])

    with pytest.raises(ZeroDivisionError) as caught:
        Retrier(RetryPolicy(), time, lowest).call(attempts)

    assert caught.value is bug
    assert attempts.made == before + 1


# --- Any policy, any errors -----------------------------------------------------------------------

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    base_delay=st.floats(0, 100),
    max_delay=st.floats(0, 100),
    timeout=st.none() | st.floats(0, 500),
    slot_timeout=st.floats(0, 500),
    slot_delay=st.floats(1, 100),
)
kinds: st.SearchStrategy[Callable[[], CallError]] = st.sampled_from(
    (
        throttle,
        no_slot,
        lost,
        lambda: service_error(InternalServerException, outcome_unknown=True),
        lambda: MalformedResponseError(operation="StartPHIDetectionJob", reason="cut"),
        lambda: service_error(InvalidRequestException),
    )
)
shares = st.floats(0, 1)


@settings(deadline=None)  # a busy machine is no failure
@given(
    policy=policies,
    script=st.lists(st.tuples(st.floats(0, 50), kinds), max_size=30),
    data=st.data(),
)
def test_for_any_policy_and_errors_every_bound_holds(
    policy: RetryPolicy,
    script: list[tuple[float, Callable[[], CallError]]],
    data: st.DataObject,
) -> None:
    time = Time()
    errors = [make() for _, make in script]
    attempts = Attempts(time, zip((seconds for seconds, _ in script), errors, strict=True))

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * data.draw(shares)

    raised: CallError | None = None
    try:
        Retrier(policy, time, uniform).call(attempts)
    except (ServiceError, TransportError) as error:
        raised = error

    failed = errors[: attempts.made]
    looks = [isinstance(error, ActiveJobLimitExceeded) for error in failed]
    # Success comes after the whole script, an error is the last one that happened.
    assert raised is (None if attempts.made > len(errors) else failed[-1])
    assert (attempts.made - sum(looks)) <= policy.max_attempts + (raised is None)
    if raised is not None:
        assert raised.attempts == max(1, attempts.made - sum(looks))
        assert (raised.__cause__, raised.__context__) == (None, None)
    # One wait between two tries, and none after the last.
    assert len(time.sleeps) == attempts.made - 1
    attempt_waits = [wait for wait, look in zip(time.sleeps, looks, strict=False) if not look]
    slot_waits = [wait for wait, look in zip(time.sleeps, looks, strict=False) if look]
    for nth, wait in enumerate(attempt_waits):
        assert 0 <= wait <= min(policy.max_delay, policy.base_delay * 2**nth)
    if policy.timeout is not None:
        assert sum(attempt_waits) <= policy.timeout * (1 + 1e-9)
    assert all(0 <= wait <= 1.5 * policy.slot_delay for wait in slot_waits)
    assert sum(slot_waits) <= policy.slot_timeout * (1 + 1e-9)


@settings(deadline=None)
@given(policy=policies, lasting=st.floats(0, 10), data=st.data())
def test_for_any_policy_the_last_try_for_a_slot_happens_at_the_slot_timeout(
    policy: RetryPolicy, lasting: float, data: st.DataObject
) -> None:
    time = Time()
    attempts = Attempts(time, ((lasting, no_slot()) for _ in itertools.count()))

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * data.draw(shares)

    with pytest.raises(ActiveJobLimitExceeded):
        Retrier(policy, time, uniform).call(attempts)

    last_look = attempts.starts[-1] - attempts.starts[0]
    if time.sleeps:
        # A try that is in progress at the timeout is the last one.
        assert last_look == pytest.approx(policy.slot_timeout, abs=lasting + 1e-6)
        assert last_look <= policy.slot_timeout + 1e-6
    else:
        assert lasting >= policy.slot_timeout


@settings(deadline=None)
@given(slot_timeout=st.floats(1, 500), slot_delay=st.floats(1, 500), lasting=st.floats(0, 1))
def test_no_two_tries_for_a_slot_happen_at_the_same_moment(
    slot_timeout: float, slot_delay: float, lasting: float
) -> None:
    # A rest that is only left by rounding must not cause another try.
    time = Time()
    policy = RetryPolicy(slot_timeout=slot_timeout, slot_delay=slot_delay)
    attempts = Attempts(time, ((lasting, no_slot()) for _ in itertools.count()))

    with pytest.raises(ActiveJobLimitExceeded):
        Retrier(policy, time, middle).call(attempts)

    looks_apart = slot_delay + lasting
    assert attempts.made <= math.ceil(slot_timeout / looks_apart * (1 + 1e-9)) + 1


# --- The policy itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["base_delay", "max_delay", "timeout", "slot_timeout", "slot_delay", "max_attempts"]
)
@pytest.mark.parametrize("value", [-1, math.nan, "1", True, b"1"])
def test_a_number_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        RetryPolicy(**{field: value})

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 1.5),
        ("max_attempts", None),
        ("base_delay", math.inf),
        ("max_delay", math.inf),
        ("slot_delay", math.inf),
        ("slot_delay", 0),
        ("slot_timeout", None),
    ],
)
def test_a_number_that_would_never_end_or_never_pause_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestValidationError):
        RetryPolicy(**{field: value})


# --- The log --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "name", "delay"),
    [
        (throttle(), "ThrottlingException", 0.5),
        (service_error(ThrottlingException, code="SlowDown"), "SlowDown", 0.5),
        (lost(), "gone", 0.5),
        (no_slot(), "ActiveJobLimitExceeded", 22.5),
    ],
)
def test_a_retry_is_logged_with_operation_cause_attempt_delay_and_advice_and_nothing_else(
    error: CallError, name: str, delay: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "comprehend_phi")

    run(RetryPolicy(slot_timeout=1000.0), error)

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("comprehend_phi", logging.INFO)
    assert record.args == ("StartPHIDetectionJob", name, 1, delay, "")
    assert record.getMessage() == (
        f"StartPHIDetectionJob: {name} on attempt 1, trying again in {delay:.2f} s"
    )
    assert (record.exc_info, record.exc_text, record.stack_info) == (None, None, None)
    # What every record has, what caplog's own formatter adds, and what to do about the error.
    usual = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}
    assert set(record.__dict__) - usual == set(FIELDS)
    assert vars(record)["advice"] == (error.advice or None)


def test_neither_success_nor_giving_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "comprehend_phi")

    run(RetryPolicy())
    run(RetryPolicy(), service_error(InvalidRequestException))
    run(RetryPolicy(max_attempts=1), throttle())

    assert caplog.records == []


# --- Sharing --------------------------------------------------------------------------------------


def test_a_call_within_an_attempt_has_retries_of_its_own() -> None:
    time = Time()
    retrier = Retrier(RetryPolicy(max_attempts=3, base_delay=1.0), time, highest)
    inner = [Attempts(time, [(0.0, throttle())] * 2) for _ in range(2)]
    outer = Attempts(time, [(0.0, throttle())])

    def attempt() -> str:
        assert retrier.call(inner[outer.made]) == "done"
        return outer()

    assert retrier.call(attempt) == "done"
    assert (outer.made, [each.made for each in inner]) == (2, [3, 3])
    assert time.sleeps == [1.0, 2.0, 1.0, 1.0, 2.0]


def test_tasks_that_share_a_retrier_have_retries_of_their_own() -> None:
    time = Time()
    retrier = Retrier(RetryPolicy(max_attempts=3), time, highest)
    scripts = [Attempts(time, [(0.0, throttle())] * failures) for failures in (0, 1, 2, 2)]

    async def call(attempts: Attempts) -> str:
        async def attempt() -> str:
            await asyncio.sleep(0)
            return attempts()

        return await retrier.call_async(attempt)

    async def main() -> list[str]:
        return await asyncio.gather(*[call(attempts) for attempts in scripts])

    assert asyncio.run(main()) == ["done"] * 4
    assert [attempts.made for attempts in scripts] == [1, 2, 3, 3]


# --- Imports --------------------------------------------------------------------------------------


def test_building_a_client_imports_tenacity_so_that_no_call_does(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "import comprehend_phi\n"
        "before = 'tenacity' in sys.modules\n"
        "comprehend_phi.PHIClient(region_name='us-east-1')\n"
        "print(before, 'tenacity' in sys.modules)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        text=True,
        timeout=60,
    )

    assert child.stdout == "False True\n"

"""Threads that can be told to end, and the clock that they sleep by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar

import pytest

from comprehend_phi import SystemClock, TransportError
from comprehend_phi._threads import Pool, PoolClock, in_thread, shut_down
from comprehend_phi.testing import FakeClock

SOON = 30.0  # in seconds: for what happens at once, on a slow machine too
FOR_EVER = 3600.0


def our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("comprehend_phi")]


def assert_says_that_it_was_closed(error: BaseException | None) -> None:
    assert isinstance(error, TransportError)
    assert error.operation == "results"
    assert error.reason == "the client or the iterator was closed before the next attempt"
    assert error.outcome_unknown is False
    assert error.retryable is False


def test_the_threads_bear_our_name() -> None:
    with Pool(1) as pool:
        name = pool.submit(lambda: threading.current_thread().name).result(SOON)
    assert name.startswith("comprehend_phi")


def test_a_pool_has_as_many_threads_as_it_was_told() -> None:
    together = threading.Barrier(3)
    with Pool(3) as pool:
        calls = [pool.submit(together.wait, SOON) for _ in range(9)]
        assert sorted(call.result(SOON) for call in calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert len(our_threads()) == 3


# --- Sleeping -------------------------------------------------------------------------------------


def test_the_time_is_that_of_the_clock_behind(clock: FakeClock) -> None:
    clock.sleep(7.0)
    assert PoolClock(clock).monotonic() == clock.monotonic()


def test_outside_of_a_pool_sleep_is_that_of_the_clock_behind(clock: FakeClock) -> None:
    PoolClock(clock).sleep(7.0)
    PoolClock(SystemClock()).sleep(0.0)
    assert clock.sleeps == [7.0]


def test_a_task_sleeps_by_the_clock_behind(clock: FakeClock) -> None:
    asyncio.run(PoolClock(clock).sleep_async(7.0))
    assert clock.sleeps == [7.0]


@pytest.mark.parametrize("behind", [FakeClock, SystemClock])
def test_in_a_pool_a_sleep_comes_to_its_end(behind: Callable[[], FakeClock | SystemClock]) -> None:
    with Pool(1) as pool:
        assert pool.submit(PoolClock(behind()).sleep, 0.001).result(SOON) is None


def test_in_a_pool_a_clock_with_a_sleep_of_its_own_is_asked(clock: FakeClock) -> None:
    with Pool(1) as pool:
        pool.submit(PoolClock(clock).sleep, 7.0).result(SOON)
    assert clock.sleeps == [7.0]


@pytest.mark.parametrize("wait", [False, True])
def test_closing_ends_a_sleep(wait: bool) -> None:
    asleep = threading.Event()

    def sleep() -> None:
        asleep.set()
        PoolClock(SystemClock()).sleep(FOR_EVER)

    pool = Pool(1)
    call = pool.submit(sleep)
    assert asleep.wait(SOON)
    pool.shutdown(wait)
    assert_says_that_it_was_closed(call.exception(SOON))


def test_after_closing_there_is_no_sleep() -> None:
    closed = threading.Event()

    def sleep() -> None:
        assert closed.wait(SOON)
        PoolClock(SystemClock()).sleep(FOR_EVER)

    pool = Pool(1)
    call = pool.submit(sleep)
    pool.shutdown(wait=False)
    closed.set()
    assert_says_that_it_was_closed(call.exception(SOON))


def test_closing_one_pool_leaves_the_sleeps_of_another() -> None:
    with Pool(1) as pool:
        Pool(1).shutdown()
        assert pool.submit(PoolClock(SystemClock()).sleep, 0.001).exception(SOON) is None


# --- From the event loop --------------------------------------------------------------------------


def test_what_a_thread_returns_or_raises_is_awaited() -> None:
    with Pool(1) as pool:
        assert asyncio.run(in_thread(pool, threading.current_thread)).name.startswith(
            "comprehend_phi"
        )
        with pytest.raises(ZeroDivisionError):
            asyncio.run(in_thread(pool, lambda: 1 / 0))


def test_what_a_task_keeps_holds_in_the_thread() -> None:
    kept: ContextVar[str] = ContextVar("kept")

    async def main(pool: Pool) -> str:
        kept.set("ours")
        return await in_thread(pool, kept.get)

    with Pool(1) as pool:
        assert asyncio.run(main(pool)) == "ours"


# --- Closing --------------------------------------------------------------------------------------


class Held:
    """A pool of one thread with a call that is under way and one that waits for its turn."""

    def __init__(self) -> None:
        self.pool = Pool(1)
        self.free = threading.Event()
        begun = threading.Event()

        def call() -> bool:
            begun.set()
            return self.free.wait(SOON)

        self.first: Future[bool] = self.pool.submit(call)
        self.second: Future[bool] = self.pool.submit(call)
        assert begun.wait(SOON)


def test_closing_without_waiting_returns_while_a_call_is_under_way() -> None:
    held = Held()
    held.pool.shutdown(wait=False)
    assert not held.first.done()
    held.free.set()
    assert held.first.result(SOON)
    assert held.second.result(SOON)


def test_closing_cancels_the_calls_that_wait_if_asked_to() -> None:
    held = Held()
    held.pool.shutdown(wait=False, cancel_futures=True)
    assert held.second.cancelled()
    held.free.set()
    assert held.first.result(SOON)


def test_closing_waits_for_the_calls_under_way() -> None:
    held = Held()
    closer = threading.Thread(target=held.pool.shutdown)
    closer.start()
    held.free.set()
    closer.join(SOON)
    assert held.first.done()
    assert held.second.done()
    assert our_threads() == []


def test_all_pools_are_shut_down_and_then_the_last_thing_is_done() -> None:
    held = [Held(), Held()]
    done_before: list[bool] = []

    def then() -> None:
        done_before.extend(one.second.done() for one in held)

    async def main() -> None:
        closing = asyncio.create_task(shut_down([one.pool for one in held], then))
        await asyncio.sleep(0)  # it has begun, and lets the event loop run on
        for one in held:
            one.free.set()
        await closing
        assert our_threads() == []

    asyncio.run(main())
    assert done_before == [True, True]


def test_what_the_last_thing_raises_is_raised() -> None:
    def then() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(shut_down([Pool(1)], then))

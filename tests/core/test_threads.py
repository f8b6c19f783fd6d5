"""Pools of threads, calls whose results come in order, and sleeps that closing ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from comprehend_phi import ClientClosedError, SystemClock
from comprehend_phi._client_clock import ClientClock
from comprehend_phi._threads import Pool, PoolCall, join_pools, map_in_order, run_in_thread
from comprehend_phi.testing import FakeClock

SOON = 30.0  # seconds; far more than a slow machine needs
HOUR = 3600.0  # seconds

OurThreads = Callable[[], list[threading.Thread]]


def assert_says_that_it_was_closed(error: BaseException | None) -> None:
    assert isinstance(error, ClientClosedError)
    assert error.operation == "results"
    assert error.reason == "this client is closed; build another one"
    assert error.outcome_unknown is False
    assert error.retryable is False


# --- Pools ----------------------------------------------------------------------------------------


def test_threads_have_our_name() -> None:
    with Pool(1) as pool:
        name = pool.submit(lambda: threading.current_thread().name).result(SOON)
    assert name.startswith("comprehend_phi")


def test_a_pool_has_at_most_the_given_number_of_threads() -> None:
    together = threading.Barrier(3)
    with Pool(3) as pool:
        calls = [pool.submit(lambda: together.wait(SOON)) for _ in range(9)]
        assert sorted(call.result(SOON) for call in calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("threads", [0, -1])
def test_a_pool_without_threads_cannot_be_built(threads: int) -> None:
    with pytest.raises(ValueError, match="at least 1 thread"):
        Pool(threads)


def test_idle_threads_end(our_threads: OurThreads) -> None:
    pool = Pool(3, idle_seconds=0.01)
    for call in [pool.submit(threading.current_thread) for _ in range(9)]:
        call.result(SOON)
    for thread in our_threads():
        thread.join(SOON)
    assert our_threads() == []


def test_a_pool_whose_threads_have_ended_works_again() -> None:
    pool = Pool(2, idle_seconds=0.01)
    for _ in range(5):
        pool.submit(threading.current_thread).result(SOON).join(SOON)
    assert pool.submit(lambda: 7).result(SOON) == 7


def test_an_idle_thread_makes_the_next_call() -> None:
    with Pool(2, idle_seconds=HOUR) as pool:
        threads = {pool.submit(threading.current_thread).result(SOON) for _ in range(9)}
        # The second thread starts if the first has a result but is not idle yet.
        assert len(threads) <= 2


def test_joining_ends_idle_threads(our_threads: OurThreads) -> None:
    pool = Pool(3, idle_seconds=HOUR)
    together = threading.Barrier(3)
    for call in [pool.submit(lambda: together.wait(SOON)) for _ in range(3)]:
        call.result(SOON)
    pool.join()
    assert our_threads() == []
    assert pool.submit(lambda: 7).result(SOON) == 7
    pool.join()


def test_threads_do_not_keep_the_program_from_ending() -> None:
    with Pool(1) as pool:
        assert pool.submit(threading.current_thread).result(SOON).daemon


class Held:
    """A pool of one thread with a running call and one that waits for the thread."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.pool = pool or Pool(1)
        self.free = threading.Event()
        begun = threading.Event()

        def call() -> bool:
            begun.set()
            return self.free.wait(SOON)

        self.first = self.pool.submit(call)
        self.second = self.pool.submit(call)
        assert begun.wait(SOON)


def test_idle_threads_make_the_next_calls(our_threads: OurThreads) -> None:
    together = threading.Barrier(2)
    with Pool(3, idle_seconds=HOUR) as pool:
        for _ in range(2):
            for call in [pool.submit(lambda: together.wait(SOON)) for _ in range(2)]:
                call.result(SOON)
            for thread in our_threads():
                while not is_in(thread, threading.Condition.wait_for):
                    thread.join(0.01)
        assert len(our_threads()) == 2


def test_a_thread_that_has_ended_makes_room_for_one_other(our_threads: OurThreads) -> None:
    pool = Pool(1)
    pool.submit(lambda: None).result(SOON)
    pool.join()
    held = Held(pool)
    assert len(our_threads()) == 1
    held.free.set()
    pool.join()


def test_joining_waits_for_all_calls(our_threads: OurThreads) -> None:
    held = Held()
    joiner = threading.Thread(target=held.pool.join)
    joiner.start()
    held.free.set()
    joiner.join(SOON)
    assert held.first.done()
    assert held.second.done()
    assert our_threads() == []


def test_a_timeout_error_of_a_call_is_its_result() -> None:
    error = TimeoutError()

    def call() -> None:
        raise error

    with pytest.raises(TimeoutError) as caught:
        Pool(1).submit(call).result()
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError, GeneratorExit])
def test_leaving_the_block_waits_for_the_calls(error: type[BaseException]) -> None:
    held = Held()

    def leave() -> None:
        with pytest.raises(error), held.pool:
            raise error

    leaver = threading.Thread(target=leave)
    leaver.start()
    leaver.join(0.02)
    assert leaver.is_alive()
    held.free.set()
    leaver.join(SOON)
    assert held.second.done()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupting_the_block_does_not_wait_for_the_calls(interrupt: type[BaseException]) -> None:
    held = Held()
    with pytest.raises(interrupt), held.pool:
        raise interrupt
    assert not held.first.done()
    held.free.set()
    held.pool.join()


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread start, as at the end of the interpreter or without free threads."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_without_threads_the_caller_makes_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    no_threads(monkeypatch)
    with Pool(3) as pool:
        calls = [pool.submit(threading.current_thread) for _ in range(5)]
        assert [call.result(0) for call in calls] == [threading.current_thread()] * 5


def test_without_threads_errors_are_results_of_their_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    no_threads(monkeypatch)
    pool = Pool(1)
    assert isinstance(pool.submit(lambda: 1 / 0).exception(0), ZeroDivisionError)
    assert pool.submit(lambda: 7).result(0) == 7


def test_without_threads_an_interrupt_reaches_the_caller_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_threads(monkeypatch)
    pool = Pool(1)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.submit(interrupted)
    assert pool.submit(lambda: 7).result(0) == 7


def test_an_interrupted_caller_makes_room_for_one_thread(
    monkeypatch: pytest.MonkeyPatch, our_threads: OurThreads
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    pool = Pool(1)
    with monkeypatch.context() as threadless, suppress(KeyboardInterrupt):
        no_threads(threadless)
        pool.submit(interrupted)
    held = Held(pool)
    assert len(our_threads()) == 1
    held.free.set()
    pool.join()


def test_an_interrupt_that_a_function_raises_in_a_thread_is_its_result() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with Pool(1) as pool:
        assert isinstance(pool.submit(interrupted).exception(SOON), KeyboardInterrupt)
        assert pool.submit(lambda: 7).result(SOON) == 7


def test_a_call_that_made_another_call_still_sleeps_as_itself(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    no_threads(monkeypatch)
    sleeping = ClientClock(clock)

    def call() -> None:
        Pool(1).submit(lambda: None)
        sleeping.close()
        sleeping.sleep(HOUR)

    assert_says_that_it_was_closed(Pool(1).submit(call).exception(0))


# --- Calls in order -------------------------------------------------------------------------------


def ordered_map(
    function: Callable[[int], int], items: Iterable[int], *, threads: int
) -> Generator[Future[int], None, None]:
    """Map in a pool that is joined at the end, as reading results does."""
    with Pool(threads) as pool, closing(map_in_order(pool, function, items)) as calls:
        for _, call in calls:
            yield call


class Counted:
    """Endless numbers, with counts of how many were drawn and how many calls started."""

    def __init__(self) -> None:
        self.drawn = 0
        self.begun = 0
        self._lock = threading.Lock()

    def items(self) -> Iterator[int]:
        while True:
            self.drawn += 1
            yield self.drawn

    def call(self, item: int) -> int:
        with self._lock:
            self.begun += 1
        return item


def results_from(calls: Iterable[Future[int]]) -> list[int]:
    return [call.result() for call in calls]


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 100])
def test_results_come_in_the_order_of_the_items(threads: int, count: int) -> None:
    assert results_from(ordered_map(abs, range(count), threads=threads)) == list(range(count))


def test_each_item_comes_with_its_call() -> None:
    with Pool(2) as pool, closing(map_in_order(pool, lambda item: -item, range(9))) as calls:
        assert [(item, call.result()) for item, call in calls] == [(n, -n) for n in range(9)]


def test_a_slow_call_does_not_change_the_order() -> None:
    others_done = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            assert others_done.wait(timeout=30)
        elif item == 3:
            others_done.set()
        return item

    assert results_from(ordered_map(call, range(6), threads=2)) == list(range(6))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("taken", [1, 2, 20])
def test_a_bounded_number_of_calls_runs_ahead(threads: int, taken: int) -> None:
    counted = Counted()
    calls = ordered_map(counted.call, counted.items(), threads=threads)
    assert results_from(next(calls) for _ in range(taken)) == list(range(1, taken + 1))
    assert counted.drawn == taken + 2 * threads
    calls.close()
    assert counted.begun <= taken + 2 * threads


def test_no_more_calls_run_at_a_time_than_there_are_threads() -> None:
    gate = threading.Barrier(4)
    lock = threading.Lock()
    running = most = 0

    def call(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(timeout=30)  # for all four to be under way
        with lock:
            running -= 1
        return item

    assert results_from(ordered_map(call, range(40), threads=4)) == list(range(40))
    assert most == 4


def test_an_exception_is_the_result_of_its_call() -> None:
    def call(item: int) -> int:
        return 12 // item

    calls = list(ordered_map(call, [3, 0, 2], threads=2))
    assert calls[0].result() == 4
    with pytest.raises(ZeroDivisionError):
        calls[1].result()
    assert calls[2].result() == 6


def test_closing_starts_no_more_calls(our_threads: OurThreads) -> None:
    counted = Counted()
    calls = ordered_map(counted.call, counted.items(), threads=2)
    next(calls)
    calls.close()
    drawn, begun = counted.drawn, counted.begun
    assert list(calls) == []
    assert (counted.drawn, counted.begun) == (drawn, begun)
    assert our_threads() == []


def test_closing_cancels_calls_that_have_not_started_and_waits_for_the_others(
    our_threads: OurThreads,
) -> None:
    begun: list[int] = []
    ended: list[int] = []
    second_begun, closing_begun = threading.Event(), threading.Event()

    def call(item: int) -> int:
        begun.append(item)
        if item == 1:
            second_begun.set()
            assert closing_begun.wait(timeout=30)
        ended.append(item)
        return item

    calls = ordered_map(call, range(100), threads=1)
    next(calls)
    assert second_begun.wait(timeout=30)
    # `close` cancels before it waits; only then may the call under way go on.
    closer = threading.Thread(target=calls.close)
    closer.start()
    while not is_in(closer, Pool.join):
        closer.join(0.01)
    closing_begun.set()
    closer.join()
    assert ended == [0, 1]
    assert begun == [0, 1]
    assert our_threads() == []


def is_in(thread: threading.Thread, function: Callable[..., object]) -> bool:
    """Return whether a thread is inside of `function`."""
    assert thread.ident is not None
    # Python documents this function for debuggers, in spite of its underscore.
    frame = sys._current_frames().get(thread.ident)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None or not thread.is_alive()


def test_joining_does_not_wait_while_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    pool = Pool(1)
    call = pool.submit(lambda: ended.wait(SOON))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        pool.join()
    assert not call.done()
    ended.set()
    pool.join()
    assert call.result()


OPEN_ITERATOR = """
import threading
from contextlib import closing
from comprehend_phi._threads import Pool, map_in_order

def results():
    # The calls do not lead to this module, or Python would leave the iterator alone at the end.
    waits = map_in_order(pool, threading.Event().wait, [0, 3600, 3600])
    with pool, closing(waits):
        for _, call in waits:
            yield call.result()

pool = Pool(2)
open_results = results()
next(open_results)
"""


@pytest.mark.parametrize("threads", ["make calls", "are in the lock of the pool"])
def test_a_program_ends_with_an_open_iterator_whose_threads(threads: str) -> None:
    """The end of a program stops its threads wherever they are."""
    locks = "pool._work.get().lock.acquire()" if threads != "make calls" else ""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ITERATOR + locks],
        capture_output=True,
        text=True,
        check=False,
        timeout=SOON,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_items_that_fail_end_the_calls(our_threads: OurThreads) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        list(ordered_map(abs, items(), threads=2))
    assert our_threads() == []


def test_closing_ends_the_call_that_is_being_taken(stubborn: Any) -> None:
    pool = Pool(1)
    clock = ClientClock(stubborn)
    calls = map_in_order(pool, lambda _: clock.sleep(HOUR), range(9))
    _, first = next(calls)
    assert stubborn.asleep.wait(SOON)
    calls.close()
    assert_says_that_it_was_closed(first.exception(0))


def test_a_fork_repeats_the_calls_that_ran_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    parent, child = os.getpid(), -1
    with Pool(1) as pool, closing(map_in_order(pool, made.append, range(3))) as calls:
        _, first = next(calls)
        first.result(SOON)
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: child)
            for _, call in calls:
                assert call.result(SOON) is None
            pool.join()
    assert os.getpid() == parent
    # The parent's thread made them too.
    assert sorted(made) == [0, 1, 1, 2, 2]


# --- Sleeping -------------------------------------------------------------------------------------


def test_a_client_clock_shows_the_time_of_the_users_clock(clock: FakeClock) -> None:
    clock.sleep(7.0)
    assert ClientClock(clock).monotonic() == clock.monotonic()


def test_outside_of_pools_the_users_clock_sleeps(clock: FakeClock) -> None:
    ClientClock(clock).sleep(7.0)
    assert clock.sleeps == [7.0]


def test_in_a_task_the_users_clock_sleeps(clock: FakeClock) -> None:
    asyncio.run(ClientClock(clock).sleep_async(7.0))
    assert clock.sleeps == [7.0]


@pytest.mark.parametrize("behind", [FakeClock, SystemClock])
def test_in_a_pool_a_sleep_ends(behind: Callable[[], FakeClock | SystemClock]) -> None:
    clock = ClientClock(behind())
    with Pool(1) as pool:
        assert pool.submit(lambda: clock.sleep(0.001)).result(SOON) is None


def test_in_a_pool_the_users_clock_sleeps(clock: FakeClock) -> None:
    with Pool(1) as pool:
        pool.submit(lambda: ClientClock(clock).sleep(7.0)).result(SOON)
    assert clock.sleeps == [7.0]


class BrokenClock(FakeClock):
    """Its sleeps fail."""

    def sleep(self, seconds: float) -> None:
        raise LookupError

    async def sleep_async(self, seconds: float) -> None:
        raise LookupError


def test_what_a_sleep_raises_is_raised() -> None:
    clock = ClientClock(BrokenClock())
    with Pool(1) as pool:
        assert isinstance(pool.submit(lambda: clock.sleep(1.0)).exception(SOON), LookupError)
    with pytest.raises(LookupError):
        clock.sleep(1.0)
    with pytest.raises(LookupError):
        asyncio.run(clock.sleep_async(1.0))


# What ends a call that sleeps: ending the call, or closing the client.
ENDS: dict[str, Callable[[PoolCall[Any], ClientClock], None]] = {
    "call": lambda call, _: call.end(),
    "client": lambda _, clock: clock.close(),
}


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> Callable[[PoolCall[Any], ClientClock], None]:
    return ENDS[request.param]


def test_ending_a_sleep_takes_effect_at_once_with_any_clock(
    end: Callable[[PoolCall[Any], ClientClock], None], stubborn: Any, our_threads: OurThreads
) -> None:
    clock = ClientClock(stubborn)
    with Pool(1) as pool:
        call = pool.submit(lambda: clock.sleep(HOUR))
        assert stubborn.asleep.wait(SOON)
        end(call, clock)
        assert_says_that_it_was_closed(call.exception(0))
    # Joining the pool did not wait for the sleep.
    assert len(our_threads()) == 1


def test_after_the_end_there_is_no_sleep(
    end: Callable[[PoolCall[Any], ClientClock], None], clock: FakeClock
) -> None:
    ended = threading.Event()
    sleeping = ClientClock(clock)

    def sleep() -> None:
        assert ended.wait(SOON)
        sleeping.sleep(HOUR)

    with Pool(1) as pool:
        call = pool.submit(sleep)
        while not call.running():
            pass
        end(call, sleeping)
        ended.set()
        assert_says_that_it_was_closed(call.exception(SOON))
    assert clock.sleeps == []


def test_a_call_that_was_ended_before_it_started_is_not_made() -> None:
    held = Held()
    held.second.end()
    held.free.set()
    with pytest.raises(CancelledError):
        held.second.result(SOON)
    held.pool.join()


def test_the_call_after_one_that_was_ended_before_it_started_is_made() -> None:
    held = Held()
    held.second.end()
    third = held.pool.submit(lambda: 7)
    held.free.set()
    assert third.result(SOON) == 7
    held.pool.join()


def test_a_call_that_has_slept_is_not_interrupted(clock: FakeClock) -> None:
    slept, free = threading.Event(), threading.Event()

    def call() -> int:
        ClientClock(clock).sleep(HOUR)
        slept.set()
        assert free.wait(SOON)
        return 7

    with Pool(1) as pool:
        made = pool.submit(call)
        assert slept.wait(SOON)
        made.end()
        free.set()
        assert made.result(SOON) == 7


def test_a_call_that_was_ended_submits_no_other_calls() -> None:
    running, may_go_on, made = threading.Event(), threading.Event(), list[int]()
    inner = Pool(1)

    def work() -> None:
        running.set()
        assert may_go_on.wait(SOON)
        with closing(map_in_order(inner, made.append, range(3))) as calls:
            for _, call in calls:
                call.result()

    with Pool(1) as pool:
        call = pool.submit(work)
        assert running.wait(SOON)
        call.end()
        may_go_on.set()
        assert_says_that_it_was_closed(call.exception(SOON))
    inner.join()
    assert made == []


def test_ending_a_call_that_has_ended_changes_nothing() -> None:
    with Pool(1) as pool:
        call = pool.submit(lambda: 7)
        assert call.result(SOON) == 7
        call.end()
        assert call.result(SOON) == 7


def test_a_call_that_is_ended_in_its_sleep_makes_room_for_another(stubborn: Any) -> None:
    clock = ClientClock(stubborn)
    pool = Pool(1)
    asleep = pool.submit(lambda: clock.sleep(HOUR))
    assert stubborn.asleep.wait(SOON)
    waiting = pool.submit(lambda: 7)
    assert not waiting.done()
    asleep.end()
    assert waiting.result(SOON) == 7
    stubborn.wake()
    assert pool.submit(lambda: 8).result(SOON) == 8
    assert_says_that_it_was_closed(asleep.exception(0))


def test_a_call_that_is_ended_in_its_sleep_makes_room_for_one_thread(
    stubborn: Any, our_threads: OurThreads
) -> None:
    clock = ClientClock(stubborn)
    pool = Pool(1)
    asleep = pool.submit(lambda: clock.sleep(HOUR))
    assert stubborn.asleep.wait(SOON)
    asleep.end()
    held = Held(pool)
    assert len(our_threads()) == 2  # one of them sleeps
    held.free.set()
    pool.join()


def test_a_call_that_sleeps_can_be_ended_twice(stubborn: Any) -> None:
    clock = ClientClock(stubborn)
    call = Pool(1).submit(lambda: clock.sleep(HOUR))
    assert stubborn.asleep.wait(SOON)
    call.end()
    call.end()
    stubborn.wake()
    assert_says_that_it_was_closed(call.exception(0))


def test_a_call_that_was_ended_in_its_sleep_keeps_its_error(
    stubborn: Any, our_threads: OurThreads
) -> None:
    clock = ClientClock(stubborn)

    def sleep_and_ignore_the_error() -> int:
        with suppress(ClientClosedError):
            clock.sleep(HOUR)
        return 7

    call = Pool(1).submit(sleep_and_ignore_the_error)
    assert stubborn.asleep.wait(SOON)
    call.end()
    stubborn.wake()
    for thread in our_threads():
        thread.join(SOON)
    assert_says_that_it_was_closed(call.exception(0))


def test_closing_one_client_leaves_the_sleeps_of_another(clock: FakeClock) -> None:
    ClientClock(clock).close()
    with Pool(1) as pool:
        pool.submit(lambda: ClientClock(clock).sleep(7.0)).result(SOON)
    assert clock.sleeps == [7.0]


def test_a_thread_of_the_users_own_does_not_sleep_after_the_client_was_closed(
    clock: FakeClock,
) -> None:
    sleeping = ClientClock(clock)
    sleeping.close()
    sleeping.sleep(HOUR)
    assert clock.sleeps == []


class Alarm(Exception):
    """Raised in the main thread by a signal."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seconds", [HOUR, 1e10, 1e300])
def test_a_sleep_may_be_longer_than_the_system_can_sleep(alarm: None, seconds: float) -> None:
    def sleep() -> None:
        # On a slow machine, the alarm may come before the sleep.
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        SystemClock().sleep(seconds)

    with pytest.raises(Alarm):
        sleep()


def test_the_parts_of_a_long_sleep_last_as_long_as_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    SystemClock().sleep(2.5)
    assert slept == [1.0, 1.0, 0.5]


def sleep_for_an_hour() -> None:
    SystemClock().sleep(HOUR)


def wait_for_a_call() -> None:
    ended = threading.Event()
    try:
        Pool(1).submit(ended.wait).result()
    finally:
        ended.set()


def test_a_wait_for_a_call_may_have_a_timeout() -> None:
    ended = threading.Event()
    with Pool(1) as pool:
        call = pool.submit(ended.wait)
        with pytest.raises(TimeoutError):
            call.result(0)
        ended.set()


def join_a_pool() -> None:
    ended = threading.Event()
    pool = Pool(1)
    pool.submit(ended.wait)
    try:
        pool.join()
    finally:
        ended.set()


@pytest.mark.parametrize(
    ("block", "function"),
    [
        (sleep_for_an_hour, SystemClock.sleep),
        (wait_for_a_call, PoolCall[bool].result),
        (join_a_pool, Pool.join),
    ],
    ids=["sleep", "call", "pool"],
)
def test_a_signal_interrupts_what_blocks_even_if_another_thread_receives_it(
    alarm: None, block: Callable[[], None], function: Callable[..., object]
) -> None:
    main, interrupted = threading.main_thread(), threading.Event()
    assert main.ident == threading.get_ident()

    def receive() -> bool:
        while not is_in(main, function):
            pass
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
        in_time = interrupted.wait(SOON)
        if not in_time:
            os.kill(os.getpid(), signal.SIGALRM)
        return in_time

    receiver = Pool(1).submit(receive)
    with pytest.raises(Alarm):
        block()
    interrupted.set()
    assert receiver.result()


def test_closing_the_client_ends_the_sleep_of_a_task() -> None:
    clock = ClientClock(SystemClock())

    async def main() -> None:
        sleep = asyncio.create_task(clock.sleep_async(HOUR))
        await asyncio.sleep(0)
        await asyncio.to_thread(clock.close)
        await asyncio.wait_for(sleep, SOON)
        await asyncio.wait_for(clock.sleep_async(HOUR), SOON)

    asyncio.run(main())


def test_cancelling_the_sleep_of_a_task_cancels_it() -> None:
    async def main() -> None:
        sleep = asyncio.create_task(ClientClock(SystemClock()).sleep_async(HOUR))
        await asyncio.sleep(0)
        sleep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleep

    asyncio.run(main())


def test_closing_the_client_does_not_touch_a_closed_event_loop() -> None:
    clock = ClientClock(SystemClock())
    loop = asyncio.new_event_loop()
    sleep = loop.create_task(clock.sleep_async(HOUR))
    loop.run_until_complete(asyncio.sleep(0))
    for task in asyncio.all_tasks(loop):
        # Or asyncio would warn: no program should end its loop like this.
        setattr(task, "_log_destroy_pending", False)  # noqa: B010 - unknown to its type
    loop.close()
    clock.close()
    assert not sleep.done()


# --- In a fork ------------------------------------------------------------------------------------


def test_a_fork_leaves_the_calls_of_its_parent_alone(
    stubborn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClientClock(stubborn)
    with Pool(1) as pool:
        call = pool.submit(lambda: clock.sleep(HOUR))
        assert stubborn.asleep.wait(SOON)
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: -1)
            call.end()
            clock.close()
            pool.join()
        assert not call.done()
        call.end()
        assert call.done()


def test_in_a_fork_of_a_thread_that_makes_a_call_the_users_clock_sleeps(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork_and_sleep() -> None:
        call.end()  # or it would sleep in any case
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: -1)
            ClientClock(clock).sleep(7.0)

    begin = threading.Event()

    def make() -> None:
        assert begin.wait(SOON)
        fork_and_sleep()

    with Pool(1) as pool:
        call = pool.submit(make)
        begin.set()
        assert call.exception(SOON) is None
    assert clock.sleeps == [7.0]


# --- From the event loop --------------------------------------------------------------------------


def test_awaiting_a_call_returns_or_raises_what_its_thread_does() -> None:
    with Pool(1) as pool:
        assert asyncio.run(run_in_thread(pool, threading.current_thread)).name.startswith(
            "comprehend_phi"
        )
        with pytest.raises(ZeroDivisionError):
            asyncio.run(run_in_thread(pool, lambda: 1 / 0))


def test_the_thread_sees_the_context_variables_of_the_task() -> None:
    kept: ContextVar[str] = ContextVar("kept")

    async def main(pool: Pool) -> str:
        kept.set("ours")
        return await run_in_thread(pool, kept.get)

    with Pool(1) as pool:
        assert asyncio.run(main(pool)) == "ours"


def test_cancelling_ends_the_sleep_in_the_thread(stubborn: Any) -> None:
    clock = ClientClock(stubborn)

    async def main(pool: Pool) -> None:
        sleep = asyncio.create_task(run_in_thread(pool, lambda: clock.sleep(HOUR)))
        await asyncio.to_thread(stubborn.asleep.wait, SOON)
        sleep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleep
        # The one thread that the pool may have is free for others.
        assert await run_in_thread(pool, lambda: 7) == 7

    with Pool(1) as pool:
        asyncio.run(main(pool))


def test_join_pools_calls_then_after_all_calls_have_ended(our_threads: OurThreads) -> None:
    held = [Held(), Held()]
    done_before: list[bool] = []

    def then() -> None:
        done_before.extend(one.second.done() for one in held)

    async def main() -> None:
        joining = asyncio.create_task(join_pools([one.pool for one in held], then))
        await asyncio.sleep(0)  # it has begun, and lets the event loop run on
        for one in held:
            one.free.set()
        await joining
        assert our_threads() == []

    asyncio.run(main())
    assert done_before == [True, True]


def test_join_pools_raises_what_then_raises() -> None:
    def then() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(join_pools([Pool(1)], then))

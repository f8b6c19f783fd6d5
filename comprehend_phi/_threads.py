"""Threads that do blocking work for an event loop, or read results in advance."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

from ._client_clock import check_call, this_thread
from ._clock import Clock
from ._process import PerProcess
from .errors import ClientClosedError

_T = TypeVar("_T")
_Item = TypeVar("_Item")


# Starting a thread for each call would more than double the CPU time of an asynchronous call.
_IDLE_SECONDS = 1.0

# A signal such as Ctrl-C does not end a wait for a thread if it comes just before the wait or if
# another thread receives it. So a thread that waits looks this often whether a signal came.
_SIGNAL_SECONDS = 1.0


class _Work:
    """The calls and threads that a pool has in one process."""

    def __init__(self) -> None:
        self.lock: threading.Condition = threading.Condition(threading.Lock())
        self.waiting: deque[PoolCall[Any]] = deque()
        self.alive: int = 0  # threads that make calls or wait for one, without abandoned threads
        self.idle: int = 0  # threads that wait for a call
        self.joined: bool = False  # if true, threads do not wait for calls
        self.threads: set[threading.Thread] = set()

    def do(self, idle_seconds: float) -> None:
        """Make calls in this thread until no call has come for `idle_seconds`."""
        while True:
            with self.lock:
                if not self.waiting:
                    self.idle += 1
                    self.lock.wait_for(lambda: self.waiting or self.joined, idle_seconds)
                    self.idle -= 1
                if not self.waiting:
                    self.alive -= 1
                    return
                call = self.waiting.popleft()
            try:
                abandoned = not call.make()
            except KeyboardInterrupt:
                with self.lock:
                    self.alive -= 1
                raise
            if abandoned:
                return


class Pool:
    """Makes calls in its own threads.

    Threads are daemons, so a thread that was abandoned in its sleep does not keep the program from
    ending. Unlike the executors of the standard library, a pool also works after the main thread
    has ended. Each process has its own threads.

    As a context manager, a pool joins its threads at the end, unless the block was interrupted.

    Args:
        threads: how many threads the pool may have.
        idle_seconds: how long a thread waits for the next call before it ends.

    Raises:
        ValueError: `threads` is less than 1, so no call would ever be made.
    """

    def __init__(self, threads: int, idle_seconds: float = _IDLE_SECONDS) -> None:
        if threads < 1:
            raise ValueError(f"a pool needs at least 1 thread, not {threads}")
        self.threads = threads
        self._idle_seconds = idle_seconds
        self._work = PerProcess(_Work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        # KeyboardInterrupt and SystemExit do not wait for the network.
        if exc_type is None or issubclass(exc_type, (Exception, GeneratorExit)):
            self.join()

    def submit(self, function: Callable[[], _T]) -> PoolCall[_T]:
        """Return a future for `function`, which a thread calls as soon as one is free.

        Raises:
            ClientClosedError: this thread makes a call for a pool, and the call was ended.
        """
        check_call()
        work = self._work.get()
        call = PoolCall(function, self, work)
        with work.lock:
            work.waiting.append(call)
        self.start_thread()
        return call

    def start_thread(self) -> None:
        """Wake an idle thread for a waiting call, or start a thread if the pool may have more."""
        work = self._work.get()
        with work.lock:
            # Threads that were woken but have not run yet still count as idle.
            if len(work.waiting) <= work.idle:
                work.lock.notify()
                return
            if work.alive >= self.threads:
                return
            work.alive += 1
        thread = threading.Thread(
            target=work.do, args=(self._idle_seconds,), name="comprehend_phi", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is ending, or the system has no more threads: this thread makes the
            # calls.
            work.do(idle_seconds=0)
            return
        with work.lock:
            work.threads = {each for each in work.threads if each.is_alive()} | {thread}

    def join(self) -> None:
        """Wait until all calls have been made. Do not wait for abandoned threads.

        The pool can make calls afterwards, but its threads end as soon as there is no work.
        """
        if sys.is_finalizing():
            return  # the interpreter has stopped the threads for good, perhaps in their locks
        work = self._work.get()
        with work.lock:
            threads = tuple(work.threads)
            work.joined = True
            work.lock.notify_all()
        for thread in threads:
            while thread.is_alive():
                thread.join(_SIGNAL_SECONDS)


class PoolCall(Future[_T]):
    """A future for a call that a thread of a pool makes.

    Attributes:
        function: what the thread calls.
        process: the id of the process whose threads make the call.
    """

    def __init__(self, function: Callable[[], _T], pool: Pool, work: _Work) -> None:
        super().__init__()
        self.function = function
        self.process: int = os.getpid()
        self._pool = pool
        self._work = work
        self._thread: threading.Thread
        self._asleep = self._ended = self._abandoned = False

    def make(self) -> bool:
        """Call the function in this thread. Return False if this thread was abandoned meanwhile."""
        if not self.set_running_or_notify_cancel():
            return True
        self._thread = threading.current_thread()
        outer, this_thread.call = this_thread.call, self
        try:
            result = self.function()
        except BaseException as error:
            if not self._abandoned:
                self.set_exception(error)
            # The main thread makes calls if no thread can be started. Ctrl-C must interrupt it.
            if isinstance(error, KeyboardInterrupt) and self._thread is threading.main_thread():
                raise
        else:
            if not self._abandoned:
                self.set_result(result)
        finally:
            this_thread.call = outer
        return not self._abandoned

    def result(self, timeout: float | None = None) -> _T:
        """Return the result of the call. Without `timeout`, a signal ends the wait within a second.

        Raises:
            TimeoutError: the call did not end within `timeout` seconds.
        """
        while timeout is None and not self.done():
            # If the call itself raises a TimeoutError, it is raised below.
            with suppress(TimeoutError):
                return super().result(_SIGNAL_SECONDS)
        return super().result(timeout)

    def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep in the thread that makes this call.

        Raises:
            ClientClosedError: the call was ended before or during the sleep.
        """
        with self._work.lock:
            self._asleep = not self._ended
        try:
            if self._asleep:
                clock.sleep(seconds)
        finally:
            with self._work.lock:
                self._asleep = False
        self.check()

    def check(self) -> None:
        """Raise `ClientClosedError` if the call was ended."""
        if self._ended:
            raise ClientClosedError(operation="results")

    def end(self) -> None:
        """Keep the call from starting. If it has started, let it fail at its next step.

        It fails before its next sleep, its next request to S3 and its next call in a
        pool. A request that is being sent is not interrupted. If the call sleeps, it fails at once,
        and its thread is abandoned: the thread ends when the clock returns. In a fork of the
        process that makes the call, and while the interpreter ends, this does nothing.
        """
        if self.process != os.getpid() or sys.is_finalizing():
            return
        work = self._work
        with work.lock:
            self._ended = True
            self._abandoned |= self._asleep
            asleep, self._asleep = self._asleep, False
            if asleep:
                work.threads.discard(self._thread)
                work.alive -= 1
        self.cancel()
        if asleep:
            self.set_exception(ClientClosedError(operation="results"))
            self._pool.start_thread()


def map_in_order(
    pool: Pool, function: Callable[[_Item], _T], items: Iterable[_Item]
) -> Generator[tuple[_Item, Future[_T]], None, None]:
    """Submit `function(item)` for each item, and yield each item with its future, in their order.

    At most two calls per thread of the pool run ahead of the consumer. So memory is bounded,
    however slow the consumer is. Closing the iterator ends these calls, see `PoolCall.end`.

    If the process forks, the child makes the calls that ran ahead again.
    """
    window: deque[tuple[_Item, PoolCall[_T]]] = deque()

    def take() -> Iterator[tuple[_Item, PoolCall[_T]]]:
        yield window[0]  # and keep it, to end it if the consumer is interrupted
        window.popleft()
        if window and window[0][1].process != os.getpid():
            again = [(item, pool.submit(call.function)) for item, call in window]
            window.clear()
            window.extend(again)

    try:
        for item in items:
            window.append((item, pool.submit(partial(function, item))))
            if len(window) > 2 * pool.threads:
                yield from take()
        while window:
            yield from take()
    finally:
        for _, call in window:
            call.end()


async def run_in_thread(pool: Pool, function: Callable[[], _T]) -> _T:
    """Call `function` in a thread of `pool`, and return its result.

    Cancelling the await ends the call, see `PoolCall.end`.
    """
    # Like asyncio.to_thread: logging and tracing find the task's context in the thread.
    context = contextvars.copy_context()
    call = pool.submit(partial(context.run, function))
    try:
        return await asyncio.wrap_future(call)
    finally:
        call.end()


async def join_pools(pools: Iterable[Pool], then: Callable[[], object]) -> None:
    """Join the pools, call `then`, and wait until all threads have ended.

    Cancelling the await does not cancel the joining.
    """

    def join() -> None:
        for pool in pools:
            pool.join()
        then()

    # Joining blocks, so it happens in a thread: the last one that ends.
    last = Pool(1)
    await asyncio.shield(asyncio.wrap_future(last.submit(join)))
    last.join()

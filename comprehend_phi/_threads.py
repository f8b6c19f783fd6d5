"""Threads that do blocking work for an event loop or for a reader."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ._clock import here
from ._process import PerProcess
from .errors import ClientClosedError

if TYPE_CHECKING:
    from types import TracebackType

    from ._clock import Clock

_T = TypeVar("_T")
_Item = TypeVar("_Item")


# Starting a thread for each call would more than double the CPU time of an asynchronous call.
_IDLE_SECONDS = 1.0


class _Work:
    """What a pool has to do in one process, and the threads that do it."""

    def __init__(self) -> None:
        self.lock: threading.Condition = threading.Condition(threading.Lock())
        self.waiting: deque[Call[Any]] = deque()
        self.asleep: set[Call[Any]] = set()
        self.alive: int = 0  # threads that make or await calls, without those that were given up
        self.idle: int = 0  # those of them that await calls
        self.joined: bool = False  # then no thread stays idle
        self.threads: set[threading.Thread] = set()

    def do(self, idle_seconds: float) -> None:
        """Make calls in this thread until none has been waiting for `idle_seconds`."""
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
                given_up = not call.make()
            except KeyboardInterrupt:
                with self.lock:
                    self.alive -= 1
                raise
            if given_up:
                return


class Pool:
    """Makes calls in at most so many threads.

    A thread ends after `idle_seconds` without work. Threads are daemons, so a thread that was given
    up in its sleep does not keep the program from ending. Unlike the executors of the standard
    library, a pool also works in threads that outlive the main thread. Each process has threads of
    its own.

    As a context manager, a pool joins its threads at the end, unless the block is interrupted.
    """

    def __init__(self, threads: int, idle_seconds: float = _IDLE_SECONDS) -> None:
        self.threads = threads
        self._idle_seconds = idle_seconds
        self._work = PerProcess(_Work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # KeyboardInterrupt and SystemExit do not wait for the network.
        if exc_type is None or issubclass(exc_type, (Exception, GeneratorExit)):
            self.join()

    def submit(self, function: Callable[[], _T]) -> Call[_T]:
        """Call `function` as soon as there is a thread for it."""
        work = self._work.get()
        call = Call(function, self, work)
        with work.lock:
            work.waiting.append(call)
        self.start_thread()
        return call

    def start_thread(self) -> None:
        """Wake an idle thread for a waiting call, or start one if the pool may have more."""
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
            # The interpreter is ending, or the system has no more threads: this thread does it.
            work.do(idle_seconds=0)
            return
        with work.lock:
            work.threads = {each for each in work.threads if each.is_alive()} | {thread}

    def join(self) -> None:
        """Return when all calls have been made, apart from those that were given up.

        The pool can make calls afterwards, but its threads are no longer kept idle.
        """
        work = self._work.get()
        with work.lock:
            threads = tuple(work.threads)
            work.joined = True
            work.lock.notify_all()
        for thread in threads:
            thread.join()


class Call(Future[_T]):
    """A call that a pool makes, as a future.

    Attributes:
        function: what is called.
        process: the id of the process whose threads make the call.
    """

    def __init__(self, function: Callable[[], _T], pool: Pool, work: _Work) -> None:
        super().__init__()
        self.function = function
        self.process: int = os.getpid()
        self._pool = pool
        self._work = work
        self._thread: threading.Thread
        self._ended = self._given_up = False

    def make(self) -> bool:
        """Call the function in this thread. Return False if the call was given up meanwhile."""
        if not self.set_running_or_notify_cancel():
            return True
        self._thread = threading.current_thread()
        outer, here.call = here.call, self
        try:
            result = self.function()
        except BaseException as error:
            if not self._given_up:
                self.set_exception(error)
            # The main thread, which Ctrl-C interrupts, makes calls if no thread can be started.
            if isinstance(error, KeyboardInterrupt) and self._thread is threading.main_thread():
                raise
        else:
            if not self._given_up:
                self.set_result(result)
        finally:
            here.call = outer
        return not self._given_up

    def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep by `clock` in the thread that makes this call.

        Raises:
            ClientClosedError: the call was ended before its sleep was over.
        """
        with self._work.lock:
            if not self._ended:
                self._work.asleep.add(self)
        try:
            if not self._ended:
                clock.sleep(seconds)
        finally:
            with self._work.lock:
                self._work.asleep.discard(self)
        if self._ended:
            raise ClientClosedError(operation="results")

    def end(self) -> None:
        """Keep the call from beginning and from sleeping. If it sleeps, it fails at once.

        Nothing that is being sent is interrupted. The thread of a call that sleeps is given up: it
        ends when the clock lets it. A fork of the process that makes the call does nothing.
        """
        if self.process != os.getpid():
            return
        work = self._work
        with work.lock:
            self._ended = True
            asleep = self in work.asleep
            if asleep:
                self._given_up = True
                work.asleep.discard(self)
                work.threads.discard(self._thread)
                work.alive -= 1
        self.cancel()
        if asleep:
            self.set_exception(ClientClosedError(operation="results"))
            self._pool.start_thread()


def submitted(
    pool: Pool, function: Callable[[_Item], _T], items: Iterable[_Item]
) -> Generator[Future[_T], None, None]:
    """Submit `function(item)` for each item and yield the futures in the order of the items.

    At most twice as many calls as the pool has threads have begun and not yet been taken. So memory
    stays bounded, however slow the taker is. Closing the iterator ends the calls, see `Call.end`.

    A fork inherits the calls that were not taken, and makes them again.
    """
    window: deque[Call[_T]] = deque()

    def take() -> Iterator[Call[_T]]:
        yield window[0]  # and keeps it, to end it if the taker is interrupted
        window.popleft()
        if window and window[0].process != os.getpid():
            again = [pool.submit(call.function) for call in window]
            window.clear()
            window.extend(again)

    try:
        for item in items:
            window.append(pool.submit(partial(function, item)))
            if len(window) > 2 * pool.threads:
                yield from take()
        while window:
            yield from take()
    finally:
        for call in window:
            call.end()


async def in_thread(pool: Pool, function: Callable[[], _T]) -> _T:
    """Return what `function` returns in a thread of `pool`, or raise what it raises.

    Cancelling this keeps a function that has not begun from running, and ends its sleeps. Otherwise
    a function that has begun runs on.
    """
    # As in asyncio.to_thread: the thread sees what logging and tracing keep per task.
    context = contextvars.copy_context()
    call = pool.submit(partial(context.run, function))
    try:
        return await asyncio.wrap_future(call)
    finally:
        call.end()


async def join_all(pools: Iterable[Pool], then: Callable[[], object]) -> None:
    """Join the pools, call `then`, and return when all threads have ended.

    Cancelling this ends the waiting, not what is waited for.
    """

    def join() -> None:
        for pool in pools:
            pool.join()
        then()

    # Joining blocks, so it happens in a thread, which is the last one.
    last = Pool(1)
    await asyncio.shield(asyncio.wrap_future(last.submit(join)))
    last.join()

"""Threads that do blocking work for an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ._clock import Clock

_T = TypeVar("_T")


async def in_thread(pool: Executor, function: Callable[[], _T]) -> _T:
    """What `function` returns or raises in a thread of `pool`.

    Cancelling it keeps a function that has not begun from running; one that has begun runs on.
    """
    # As in asyncio.to_thread: what logging and tracing keep per task holds in the thread too.
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(pool, partial(context.run, function))


class Threads:
    """The threads of one client, and the sleeps in them."""

    def __init__(self) -> None:
        self._pools: list[ThreadPoolExecutor] = []
        self._sleeps: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def require_open(self) -> None:
        """Raise RuntimeError when the threads have been ended."""
        if self._ended:
            raise RuntimeError("this client is closed: build another one")

    def pool(self, threads: int) -> ThreadPoolExecutor:
        """So many threads, which `end` ends."""
        self.require_open()
        self._pools.append(ThreadPoolExecutor(threads, thread_name_prefix="comprehend_phi"))
        return self._pools[-1]

    async def end(self) -> None:
        """Return when the calls under way have ended, and their threads. Sleeps end at once."""
        with self._lock:
            self._ended = True
            sleeps = list(self._sleeps)
        for sleep in sleeps:
            sleep.cancel()
        # Joining blocks, so it happens in a thread, which then is the last one.
        last = ThreadPoolExecutor(1, thread_name_prefix="comprehend_phi")
        try:
            await in_thread(last, self._join)
        except BaseException:  # cancelled; the joining goes on
            last.shutdown(wait=False)
            raise
        last.shutdown()

    def _join(self) -> None:
        for pool in self._pools:
            pool.shutdown()

    def sleep(self, clock: Clock, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Block this thread while `clock` sleeps in the event loop.

        Raises:
            CancelledError: the client is being closed, or the loop has ended.
        """
        with self._lock:
            if self._ended:
                raise CancelledError
            sleeping = clock.sleep_async(seconds)
            try:
                sleep = asyncio.run_coroutine_threadsafe(sleeping, loop)
            except RuntimeError:  # the loop is closed
                sleeping.close()
                raise CancelledError from None
            self._sleeps.add(sleep)
        try:
            sleep.result()
        finally:
            self._sleeps.discard(sleep)


class ThreadClock:
    """A clock for threads, whose sleeps are asynchronous ones that closing the client ends."""

    def __init__(self, clock: Clock, threads: Threads) -> None:
        self._clock = clock
        self._threads = threads
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        """The seconds of the clock behind it."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`. Raises what `Threads.sleep` does."""
        self._threads.sleep(self._clock, seconds, self._loop)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`."""
        await self._clock.sleep_async(seconds)

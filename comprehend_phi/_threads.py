"""Threads that do blocking work for an event loop or for a reader, and can be told to end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ._clock import SystemClock
from .errors import ClientClosedError

if TYPE_CHECKING:
    from ._clock import Clock

_T = TypeVar("_T")

_here = threading.local()  # `ending`: the event of the pool that a thread belongs to


class Pool(ThreadPoolExecutor):
    """Threads whose sleeps, by a `PoolClock`, end when the pool is shut down."""

    def __init__(self, threads: int) -> None:
        self._ending = threading.Event()
        super().__init__(threads, thread_name_prefix="comprehend_phi", initializer=self._enter)

    def _enter(self) -> None:
        _here.ending = self._ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Start no more calls, end the sleeps, and wait for the calls under way if asked to."""
        self._ending.set()
        super().shutdown(wait, cancel_futures=cancel_futures)


class PoolClock:
    """A clock for code that may run in threads of a `Pool`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """The seconds of the clock behind it."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep by the clock behind it.

        Raises:
            ClientClosedError: this is a thread of a pool, and the pool is being shut down.
        """
        ending: threading.Event | None = getattr(_here, "ending", None)
        # A clock with a sleep of its own, as in tests, has to be asked.
        if ending is not None and type(self._clock).sleep is SystemClock.sleep:
            ending.wait(seconds)
        else:
            self._clock.sleep(seconds)
        if ending is not None and ending.is_set():
            raise ClientClosedError(
                operation="results",
                reason="the client or the iterator was closed before the next attempt",
            )

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`."""
        await self._clock.sleep_async(seconds)


async def in_thread(pool: Executor, function: Callable[[], _T]) -> _T:
    """What `function` returns or raises in a thread of `pool`.

    Cancelling it keeps a function that has not begun from running; one that has begun runs on.
    """
    # As in asyncio.to_thread: what logging and tracing keep per task holds in the thread too.
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(pool, partial(context.run, function))


async def shut_down(pools: list[Pool], then: Callable[[], object]) -> None:
    """Shut the pools down, call `then`, and return when all threads have ended.

    Cancelling it ends the waiting, not what is waited for.
    """

    def join() -> None:
        for pool in pools:
            pool.shutdown()
        then()

    # Joining blocks, so it happens in a thread, which then is the last one.
    last = Pool(1)
    try:
        await in_thread(last, join)
    except BaseException:
        last.shutdown(wait=False)
        raise
    last.shutdown()

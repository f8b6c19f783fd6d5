"""The time that retrying and waiting go by, injected so that tests need none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

from ._process import PerProcess


@runtime_checkable
class Clock(Protocol):
    """What the clients ask of a clock."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never runs backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Return when `seconds` have passed, and let other tasks run meanwhile."""
        ...


# About 32 years. Python cannot sleep for more than 292 (`time.sleep` raises OverflowError).
_LONGEST_SLEEP = 1e9


class SystemClock:
    """The time of this machine."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(min(seconds, _LONGEST_SLEEP))

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`."""
        import asyncio

        await asyncio.sleep(seconds)


class _Call(Protocol):
    """A call that a thread makes for a pool, see `_threads.Call`."""

    process: int

    def sleep(self, clock: Clock, seconds: float) -> None: ...

    def end(self) -> None: ...


class _Here(threading.local):
    """What a thread is doing.

    Attributes:
        call: the call that it makes for a pool, or None.
    """

    call: _Call | None = None


here = _Here()


class ClientClock:
    """The clock of a client, by which all its retries and waits sleep.

    Closing the client ends the sleeps of tasks and of threads in pools at once. A sleep in a thread
    of the user's own is left to the clock of the user: whatever interrupts that thread ends it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed = False
        self._asleep: PerProcess[set[Callable[[], object]]] = PerProcess(set)

    def close(self) -> None:
        """End all sleeps, now and from now on."""
        self._closed = True
        for end in self._asleep.get().copy():
            end()

    def monotonic(self) -> float:
        """Return the seconds of the user's clock."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep by the user's clock.

        Raises:
            ClientClosedError: this thread makes a call for a pool, and the client or the iterator
                that needs the call was closed.
        """
        call = here.call
        if call is not None and call.process == os.getpid():
            with self._ended_by(call.end):
                call.sleep(self._clock, seconds)
        elif not self._closed:
            self._clock.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`, or until the client is closed."""
        import asyncio

        loop = asyncio.get_running_loop()
        sleep = asyncio.ensure_future(self._clock.sleep_async(seconds))
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(sleep.cancel)

        with self._ended_by(end):
            try:
                await sleep
            except asyncio.CancelledError:
                if not ended:
                    raise

    @contextmanager
    def _ended_by(self, end: Callable[[], object]) -> Generator[None, None, None]:
        asleep = self._asleep.get()
        asleep.add(end)
        try:
            if self._closed:
                end()
            yield
        finally:
            asleep.discard(end)

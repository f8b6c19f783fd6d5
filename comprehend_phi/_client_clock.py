"""The clock of a client: the user's clock, with sleeps that end when the client is closed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Protocol

from ._clock import Clock
from ._process import PerProcess


class _Call(Protocol):
    """A call that a thread of a pool makes: a `_threads.Call`.

    This module does not import `_threads`, which imports asyncio.
    """

    process: int

    def check(self) -> None: ...

    def sleep(self, clock: Clock, seconds: float) -> None: ...

    def end(self) -> None: ...


class _ThisThread(threading.local):
    """What this thread is doing.

    Attributes:
        call: the call that this thread makes for a pool; None outside of pools.
    """

    call: _Call | None = None


this_thread = _ThisThread()


def check_call() -> None:
    """Raise `ClientClosedError` if this thread makes a call for a pool and the call was ended."""
    call = this_thread.call
    if call is not None and call.process == os.getpid():
        call.check()


class ClientClock:
    """The user's clock, with sleeps that end when the client is closed.

    Closing the client ends the sleeps of tasks and of threads in pools at once. It does not end the
    sleep of a user's own thread, because no clock offers a way to do so.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed = False
        self._wakers: PerProcess[set[Callable[[], object]]] = PerProcess(set)

    def close(self) -> None:
        """End all sleeps, and keep new ones from starting."""
        self._closed = True
        for end in self._wakers.get().copy():
            end()

    def monotonic(self) -> float:
        """Return the seconds of the user's clock."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`.

        Raises:
            ClientClosedError: this is a thread of a pool, and the client or the iterator that it
                works for was closed.
        """
        call = this_thread.call
        if call is not None and call.process == os.getpid():
            with self._ended_by(call.end):
                call.sleep(self._clock, seconds)
        elif not self._closed:
            self._clock.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`, or until the client is closed."""
        import asyncio

        loop = asyncio.get_running_loop()
        closed: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            with suppress(RuntimeError):  # the loop is closed, so nothing waits for this sleep
                loop.call_soon_threadsafe(closed.cancel)

        # Closing ends a future beside the sleep. If it cancelled the sleep, nobody could tell
        # whether a `CancelledError` is the user's, which must be raised.
        sleep = asyncio.ensure_future(self._clock.sleep_async(seconds))
        with self._ended_by(end):
            try:
                await asyncio.wait({sleep, closed}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                sleep.cancel()
                raise
        if not sleep.cancel():
            sleep.result()  # raises what the user's clock raised

    @contextmanager
    def _ended_by(self, end: Callable[[], object]) -> Generator[None, None, None]:
        wakers = self._wakers.get()
        wakers.add(end)
        try:
            if self._closed:
                end()
            yield
        finally:
            wakers.discard(end)

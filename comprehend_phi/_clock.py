"""Clocks, which retries and waits use to measure time and to sleep. Tests inject a fake one."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What the clients need from a clock."""

    def monotonic(self) -> float:
        """Return the seconds since some fixed moment. The value never decreases."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`, and let other tasks run meanwhile."""
        ...


# A signal such as Ctrl-C does not interrupt `time.sleep` if it comes just before the sleep or if
# another thread receives it. So one sleep of the system is at most this long, in seconds.
_LONGEST_SLEEP = 1.0


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`. A signal interrupts the sleep within a second."""
        while seconds > _LONGEST_SLEEP:
            time.sleep(_LONGEST_SLEEP)
            seconds -= _LONGEST_SLEEP
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`."""
        import asyncio

        await asyncio.sleep(seconds)

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


# About 32 years. `time.sleep` raises OverflowError for more than 292 years.
_LONGEST_SLEEP = 1e9


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(min(seconds, _LONGEST_SLEEP))

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`."""
        import asyncio

        await asyncio.sleep(seconds)

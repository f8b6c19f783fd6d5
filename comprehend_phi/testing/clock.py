"""Clocks for tests and for the local service."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol

from .._clock import SystemClock


class ServiceClock(Protocol):
    """The clock that the local service needs."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""
        ...


class WallClock(SystemClock):
    """The clock of this machine, for clients and for the local service."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


class FakeClock:
    """A clock that only advances when somebody sleeps, so that waiting for a day takes no time.

    Give the same clock to a client and to the local service. Then jobs make progress while the
    client waits for them. Threads can share a clock: every sleep advances the time for all of them.

    Args:
        now: the time at which the clock starts.

    Attributes:
        sleeps: the length of each sleep so far, in seconds.
    """

    def __init__(self, now: datetime = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self.sleeps: list[float] = []
        self._start = now
        self._seconds = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the start time plus all sleeps."""
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        """Return the sum of all sleeps, in seconds."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Advance the time by `seconds` and return at once."""
        with self._lock:
            self.sleeps.append(seconds)
            self._seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Advance the time by `seconds` and let other tasks run."""
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)

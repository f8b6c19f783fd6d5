"""Clocks for tests and for the local service."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol

from .._clock import SystemClock


class ServiceClock(Protocol):
    """What the local service asks of a clock."""

    def now(self) -> datetime:
        """The wall time, aware."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""
        ...


class WallClock(SystemClock):
    """The time of this machine, with the wall time that the local service needs."""

    def now(self) -> datetime:
        """The wall time, in UTC."""
        return datetime.now(UTC)


class FakeClock:
    """A clock that stands still until somebody sleeps by it: a day of waiting takes no time.

    Hand one to a client and to the local service, and jobs move on as the client waits for them.
    Safe to share among threads: every sleep moves the time on for all.

    Attributes:
        sleeps: the seconds of every sleep so far.
    """

    def __init__(self, now: datetime = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self.sleeps: list[float] = []
        self._start = now
        self._seconds = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The wall time: the start plus all sleeps."""
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        """Seconds slept so far."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Move the time on by `seconds` and return at once."""
        with self._lock:
            self.sleeps.append(seconds)
            self._seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        """Move the time on by `seconds`; other tasks get their turn."""
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)

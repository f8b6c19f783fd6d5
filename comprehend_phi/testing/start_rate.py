"""The rate limit of starts, as a token bucket."""

from __future__ import annotations

from datetime import datetime


class StartRate:
    """Allows `per_second` starts per second, and as many at once after a second without starts.

    That AWS counts like this is our rule. A rate below one start per second allows one start at
    once. Rejected starts do not count.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._capacity = self._available = max(1.0, per_second)
        self._updated: datetime | None = None

    def allows(self, now: datetime) -> bool:
        """Count a start at `now` and return whether the rate allows it."""
        if self._updated is not None:
            passed = (now - self._updated).total_seconds()
            self._available = min(self._capacity, self._available + passed * self._per_second)
        self._updated = now
        # A sum of small floats may be just below 1.
        if self._available < 1 - 1e-6:
            return False
        self._available -= 1
        return True

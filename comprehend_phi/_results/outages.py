"""When reading or copying must stop early, because S3 would probably fail for the rest, too."""

from __future__ import annotations

from ..errors import (
    ComprehendPHIError,
    ResultsError,
    ServiceError,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
)

# If S3 fails for this many notes in a row, although each request was retried, or refuses to read
# or to write this many objects in a row, reading or copying stops. Our rule.
_MAX_FAILURES_IN_A_ROW = 100

# With these codes, S3 refuses an object because of the object itself: it is archived or deleted.
_ABOUT_ONE_OBJECT = ("InvalidObjectState", "MethodNotAllowed")


class Streak:
    """Counts how many files S3 has failed for since it last did not. Several readings may share it.

    A file that is broken or missing ends the streak, because S3 did answer.

    Args:
        counts_refusals: whether S3 also fails for a file if it refuses to return it.
    """

    def __init__(self, *, counts_refusals: bool = False) -> None:
        self._counts_refusals = counts_refusals
        self._length = 0

    def add(self, error: ComprehendPHIError) -> bool:
        """Add a file that failed. Return whether other files would probably fail, too."""
        self._length = self._length + 1 if self._is_outage(error) else 0
        return self._length >= _MAX_FAILURES_IN_A_ROW

    def end(self) -> None:
        """Record that S3 did not fail."""
        self._length = 0

    def _is_outage(self, error: ComprehendPHIError) -> bool:
        if isinstance(error, UnreadableObjectError):
            # Without a code, S3 has returned the object, but it is broken.
            is_refused = error.code is not None and error.code not in _ABOUT_ONE_OBJECT
            return is_refused and self._counts_refusals
        return isinstance(error, (ServiceError, TransportError, UnwritableObjectError))


class FailedFiles:
    """The files that failed.

    Args:
        most_named: how many reasons are kept; None means all.
        streak: failures in a row, also of earlier readings; None without any.

    Attributes:
        count: how many there are.
        reasons: the reasons for the first of them, by key.
        streak: the argument, or a streak of these failures alone.
    """

    def __init__(self, most_named: int | None = 1_000, streak: Streak | None = None) -> None:
        self.count: int = 0
        self.reasons: dict[str, str] = {}
        self._most_named = most_named
        self.streak: Streak = streak or Streak()

    def add(self, key: str, error: ComprehendPHIError) -> bool:
        """Add a file. Return False if other files would probably fail, too."""
        # Without a key, the error is about the bucket, the credentials or the client.
        if isinstance(error, (ResultsError, ServiceError, TransportError)) and error.key is None:
            return False
        if self.streak.add(error):
            return False
        self.count += 1
        if self._most_named is None or self.count <= self._most_named:
            self.reasons[key] = f"{type(error).__name__}: {error}"
        return True

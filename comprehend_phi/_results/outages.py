"""When reading or copying must stop early, because S3 would probably fail for the rest, too."""

from __future__ import annotations

from ..errors import (
    ComprehendPHIError,
    ResultsError,
    ServiceError,
    TransportError,
    UnwritableObjectError,
)

# If S3 fails for this many notes in a row, although each request was retried, or refuses to write
# this many copies in a row, reading or copying stops. Our rule.
_MAX_FAILURES_IN_A_ROW = 100


class FailedFiles:
    """The files that failed.

    Args:
        most_named: how many reasons are kept; None means all.

    Attributes:
        count: how many there are.
        reasons: the reasons for the first of them, by key.
    """

    def __init__(self, most_named: int | None = 1_000) -> None:
        self.count: int = 0
        self.reasons: dict[str, str] = {}
        self._most_named = most_named
        self._in_a_row = 0  # failures of S3

    def add(self, key: str, error: ComprehendPHIError) -> bool:
        """Add a file. Return False if other files would probably fail, too."""
        # Without a key, the error is about the bucket, the credentials or the client.
        if isinstance(error, (ResultsError, ServiceError, TransportError)) and error.key is None:
            return False
        is_outage = isinstance(error, (ServiceError, TransportError, UnwritableObjectError))
        self._in_a_row = self._in_a_row + 1 if is_outage else 0
        if self._in_a_row >= _MAX_FAILURES_IN_A_ROW:
            return False
        self.count += 1
        if self._most_named is None or self.count <= self._most_named:
            self.reasons[key] = f"{type(error).__name__}: {error}"
        return True

    def record_success(self) -> None:
        """Record that a file was read or written."""
        self._in_a_row = 0

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

_MOST_NAMED = 1_000  # failed files


class OutageDetector:
    """Counts how many notes S3 has failed for since a note was last read."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def must_stop(self, error: ComprehendPHIError) -> bool:
        """Return whether reading must stop because of this error."""
        # Without a key, the error is about the bucket, the credentials or the client.
        if isinstance(error, (ResultsError, ServiceError, TransportError)) and error.key is None:
            return True
        return _is_outage(error) and self._in_a_row + 1 == _MAX_FAILURES_IN_A_ROW

    def record(self, error: ComprehendPHIError) -> None:
        """Record that a note failed."""
        self._in_a_row = self._in_a_row + 1 if _is_outage(error) else 0

    def record_success(self) -> None:
        """Record that a note was read."""
        self._in_a_row = 0


class FailedFiles:
    """The files that failed, in bounded memory.

    Attributes:
        count: how many there are.
        reasons: the reasons for the first 1,000 of them, by key.
        outages: decides whether other files would probably fail, too.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.reasons: dict[str, str] = {}
        self.outages: OutageDetector = OutageDetector()

    def add(self, key: str, error: ComprehendPHIError) -> bool:
        """Add a file. Return False if other files would probably fail, too."""
        if self.outages.must_stop(error):
            return False
        self.outages.record(error)
        self.count += 1
        if self.count <= _MOST_NAMED:
            self.reasons[key] = f"{type(error).__name__}: {error}"
        return True


def _is_outage(error: ComprehendPHIError) -> bool:
    return isinstance(error, (ServiceError, TransportError, UnwritableObjectError))

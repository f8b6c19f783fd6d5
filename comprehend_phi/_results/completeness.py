"""Whether all notes of a job were delivered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from .._logs import log
from ..errors import (
    MissingObjectError,
    RedactionError,
    ResultsError,
    ServiceError,
    TransportError,
)
from .file_list import File
from .listing import Listing
from .outages import OutageDetector

# The errors in which reading one note can end.
ReadError = RedactionError | ResultsError | ServiceError | TransportError
READ_ERRORS = (RedactionError, ResultsError, ServiceError, TransportError)


class FailedNotes:
    """The notes that could not be delivered. Reading continues without them.

    Args:
        on_failure: takes the input key of each failed note, and why it failed. Notes that failed
            are then no reason to call the results incomplete, but missing documents are.

    Attributes:
        delivered: the number of notes that were delivered.
        count: the number of failed notes.
        missing: the keys of their documents that do not exist.
        reasons: why each note failed, by its input key.
    """

    def __init__(self, on_failure: Callable[[str, ReadError], object] | None = None) -> None:
        self.on_failure = on_failure
        self.delivered: int = 0
        self.count: int = 0
        self.missing: list[str] = []
        self.reasons: dict[str, str] = {}
        self._outages = OutageDetector()

    def must_stop(self, error: ReadError) -> bool:
        """Return whether reading must stop because other notes would probably fail, too."""
        return self._outages.must_stop(error)

    def record(self, file: File, error: ReadError) -> None:
        """Record that a note failed."""
        self._outages.record(error)
        self.count += 1
        if isinstance(error, MissingObjectError):
            self.missing.append(file.output_key)
        self.reasons[file.input_key] = f"{type(error).__name__}: {error}"
        if self.on_failure is not None:
            self.on_failure(file.input_key, error)

    def record_success(self) -> None:
        """Record that a note was delivered."""
        self.delivered += 1
        self._outages.record_success()


@contextmanager
def count_undelivered(listed: int, failed: FailedNotes) -> Generator[None, None, None]:
    """Write on an error that ends reading what was not delivered of `listed` documents."""
    try:
        yield
    except (ResultsError, ServiceError, TransportError) as error:
        error.undelivered = listed - failed.delivered
        error.failed = dict(failed.reasons)
        raise


def check_completeness(
    listing: Listing, listed: int, failed: FailedNotes, *, operation: str
) -> None:
    """Log that reading has ended, and raise an error unless the results are complete.

    Args:
        listing: what the job's manifest and lists promise.
        listed: the number of processed files that were to be read.
        failed: the notes that were not delivered.
        operation: the name of the reading in the log.

    Raises:
        IncompleteResultsError: notes failed, or the manifest's counts do not match the lists.
    """
    delivered = listed - failed.count
    log(
        logging.WARNING if failed.count else logging.INFO,
        "%d documents were delivered, %d left out",
        delivered,
        failed.count,
        operation=operation,
        job_id=listing.job.job_id,
        documents=delivered,
        left_out=failed.count,
    )
    if failed.missing or (failed.count and failed.on_failure is None):
        raise listing.incomplete(
            f"{failed.count} of {listed} documents could not be delivered",
            failed.missing,
            failed.reasons,
        )
    if differences := listing.count_differences():
        raise listing.incomplete("; ".join(differences))

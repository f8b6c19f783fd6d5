"""Whether all notes of a job were delivered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from .._logs import log
from .._wording import amount
from ..errors import (
    MissingObjectError,
    RedactionError,
    ResultsError,
    ServiceError,
    TransportError,
)
from .file_list import File
from .listing import Listing
from .outages import FailedFiles, Streak

# The errors in which reading one note can end.
ReadError = RedactionError | ResultsError | ServiceError | TransportError
READ_ERRORS = (RedactionError, ResultsError, ServiceError, TransportError)


class Delivery:
    """Counts the notes that were delivered, and those that failed.

    Args:
        listing: what the job's manifest and lists promise.
        listed: the number of processed files that are to be read.
        operation: the name of the reading in the log.
        on_failure: takes the input key of each failed note, and why it failed. Notes that failed
            are then no reason to call the results incomplete, but missing documents are.
        streak: failures of S3 in a row, also of earlier readings.
    """

    def __init__(
        self,
        listing: Listing,
        listed: int,
        operation: str,
        on_failure: Callable[[str, ReadError], object] | None = None,
        streak: Streak | None = None,
    ) -> None:
        self._listing = listing
        self._listed = listed
        self._operation = operation
        self._on_failure = on_failure
        self._delivered = 0
        self._failed = FailedFiles(most_named=None, streak=streak or Streak(counts_refusals=True))
        self._missing: list[str] = []  # documents

    def record_failure(self, file: File, error: ReadError) -> bool:
        """Record that a note failed. Return False if other notes would probably fail, too."""
        if not self._failed.add(file.input_key, error):
            return False
        if isinstance(error, MissingObjectError):
            self._missing.append(file.output_key)
        if self._on_failure is not None:
            self._on_failure(file.input_key, error)
        return True

    def record_success(self) -> None:
        """Record that a note was delivered."""
        self._delivered += 1
        self._failed.streak.end()

    @contextmanager
    def count_undelivered(self) -> Generator[None, None, None]:
        """Write on an error that ends reading what was not delivered."""
        try:
            yield
        except (ResultsError, ServiceError, TransportError) as error:
            error.undelivered = self._listed - self._delivered
            error.failed = dict(self._failed.reasons)
            raise

    def end(self) -> None:
        """Log that reading has ended, and raise an error unless the results are complete.

        Raises:
            IncompleteResultsError: notes failed, or the manifest's counts do not match the lists.
        """
        left_out = self._failed.count
        log(
            logging.WARNING if left_out else logging.INFO,
            "%s delivered, %d left out",
            amount(self._delivered, "document was", "documents were"),
            left_out,
            operation=self._operation,
            job_id=self._listing.job.job_id,
            documents=self._delivered,
            left_out=left_out,
        )
        if self._missing or (left_out and self._on_failure is None):
            raise self._listing.incomplete(
                f"{left_out:,} of {amount(self._listed, 'document')} could not be delivered",
                self._missing,
            )
        if differences := self._listing.count_differences():
            raise self._listing.incomplete("; ".join(differences))

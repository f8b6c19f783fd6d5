"""What `corpus/` needs from results to write copies of their notes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeVar, runtime_checkable

from attrs import frozen

from .completeness import ReadError
from .documents import Document
from .s3_calls import S3Calls

_T = TypeVar("_T")


class EachNote(Protocol):
    """Fetches notes and their documents, many at a time."""

    def __call__(
        self, use: Callable[[Document, str], _T], on_failure: Callable[[str, ReadError], object]
    ) -> Generator[_T, None, None]:
        """Yield what `use` returns for each document and its note, in the order of the results.

        Args:
            use: called in the threads that fetch. If it raises an error of S3 or of redaction, its
                note has failed.
            on_failure: called with the input key of each note that failed, and with the error.

        Raises:
            IncompleteResultsError: documents are missing. Raised at the end.
            ResultsError, ServiceError, TransportError: nothing more can be read. Raised at once.
        """
        ...


@frozen
class Notes:
    """The notes that results are about.

    Attributes:
        each: fetches them.
        unprocessed: returns the number of files that the service did not process, or raises an
            error if it cannot be read.
        input_key: the key below which the notes are.
        locations: where the notes and the results are: buckets and keys of folders.
        jobs: the id of each job, and its request token if that is known.
        calls: the way to S3 of the client that reads them.
    """

    each: EachNote
    unprocessed: Callable[[], int]
    input_key: str
    locations: tuple[tuple[str, str], ...]
    jobs: tuple[tuple[str, str | None], ...]
    calls: S3Calls


@runtime_checkable
class Results(Protocol):
    """The results of one or more jobs, for programs that are not asynchronous."""

    def __comprehend_phi_notes__(self) -> Notes:
        """Return the notes. Only `notes_of` calls this."""
        ...


def notes_of(results: Results) -> Notes:
    """Return the notes that `results` are about."""
    return results.__comprehend_phi_notes__()

"""What a job found: its documents as a stream, its manifest, and the files it did not process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from copy import copy
from functools import partial
from typing import TypeVar

from .._redaction import redact
from .._threads import Pool, in_thread, submitted
from ..errors import ResultsError
from ..models import JobProperties
from .documents import Document, Manifest, UnprocessedFile
from .reader import NOTE_ERRORS, File, Reader, Shortfall
from .storage import Storage

_T = TypeVar("_T")


class JobResults:
    """The results of one job, read from S3 as they are asked for. `Job.results` makes these.

    Iterating yields every `Document` once, fetched in parallel with a bounded number in memory.
    A document that cannot be read stops no other: it is left out, and `IncompleteResultsError`
    names it in the end. At the end, what was read is also compared with the manifest. Closing the
    iterator early ends the fetching. Iterating again reads again.

    Attributes:
        job: the job's properties when these results were opened.

    Raises, while iterating and from `manifest` and `unprocessed`:
        IncompleteResultsError: some documents could not be read (`failed` has their input keys and
            the reasons, `missing` the keys that the bucket lacks), or the manifest's numbers do not
            add up. Raised after every other document was yielded. A missing list raises it at once.
        MissingManifestError: the job left no manifest; raised at once.
        UnreadableObjectError: the manifest or a list is broken, or S3 refuses to hand it out;
            raised at once.
        ResultsError: there is no such bucket; raised at once.
        ServiceError, TransportError: nothing can be read any more: the credentials have expired,
            the client is closed, or S3 failed for 100 documents in a row although each request was
            retried. Raised at once.
    """

    def __init__(self, job: JobProperties, storage: Storage) -> None:
        self.job = job
        self._reader = Reader(job, storage)

    def __repr__(self) -> str:
        return f"JobResults({self.job.job_id!r})"

    @property
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        return self._reader.manifest

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, and why."""
        return self._reader.unprocessed

    def __iter__(self) -> Generator[Document, None, None]:  # noqa: PYI058 - users may close() it
        return self._read(self._reader.document)

    def with_text(self) -> Generator[tuple[Document, str], None, None]:
        """Yield every document and the text that it is about, for showing them to a person.

        The text is read from the input bucket and decoded strictly as UTF-8, its line ends
        untouched. A note is left out if it is not the one that the job read: if it is gone, is not
        UTF-8, or an entity does not fit.

        Raises:
            IncompleteResultsError: as iterating does, for notes as for documents.
            ResultsError, ServiceError, TransportError: as iterating does.
        """
        return self._read(self._reader.with_text)

    def redacted(
        self, *, min_score: float = 0.0, replacement: str = "[{type}]"
    ) -> Generator[tuple[str, str], None, None]:
        """Yield the input key and the redacted text of every document, as `redact` makes it.

        Notes are left out as in `with_text`. No text is ever yielded that was not redacted.

        Raises:
            RequestValidationError: an argument is not what `redact` takes; raised at once.
            IncompleteResultsError: as iterating does, for notes as for documents.
            ResultsError, ServiceError, TransportError: as iterating does.
        """
        return self._read(_redacted(self._reader, min_score, replacement), "redacted")

    def _read(
        self, read: Callable[[File], _T], operation: str = "results"
    ) -> Generator[_T, None, None]:
        reader = self._reader
        shortfall = Shortfall()
        reader.check_open()
        with (
            Pool(reader.connections) as pool,
            closing(submitted(pool, read, reader.files)) as calls,
        ):
            for file, call in zip(reader.files, calls, strict=True):
                try:
                    result = call.result()
                except NOTE_ERRORS as error:
                    if not shortfall.leaves_out(file, error):
                        raise
                else:
                    shortfall.delivered()
                    yield result
                    reader.check_open()
        reader.hold_against_manifest(shortfall, operation=operation)


class AsyncJobResults:
    """The results of one job for asynchronous programs. `AsyncJob.results` makes these.

    The manifest and the list of unprocessed files are loaded. `async for` yields every `Document`
    once, as iterating over `JobResults` does, and raises the same. Who leaves the loop early should
    close the iterator, as `contextlib.aclosing` does: that ends the fetching.

    Attributes:
        job: the job's properties when these results were opened.
    """

    def __init__(
        self, job: JobProperties, reader: Reader, pool: Pool, listing_error: ResultsError | None
    ) -> None:
        self.job = job
        self._reader = reader
        self._pool = pool
        self._listing_error = listing_error

    def __repr__(self) -> str:
        return f"AsyncJobResults({self.job.job_id!r})"

    @property
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        return self._reader.manifest

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, and why.

        Raises:
            ResultsError: their list is missing or broken, or is not as long as the manifest says.
        """
        if self._listing_error is not None:
            raise copy(self._listing_error)  # each with a traceback of its own
        return self._reader.unprocessed

    def __aiter__(self) -> AsyncGenerator[Document, None]:  # noqa: PYI058 - for aclosing()
        return self._read(self._reader.document)

    def with_text(self) -> AsyncGenerator[tuple[Document, str], None]:
        """Every document and the text that it is about, as `JobResults.with_text`."""
        return self._read(self._reader.with_text)

    def redacted(
        self, *, min_score: float = 0.0, replacement: str = "[{type}]"
    ) -> AsyncGenerator[tuple[str, str], None]:
        """The input key and the redacted text of every document, as `JobResults.redacted`."""
        return self._read(_redacted(self._reader, min_score, replacement), "redacted")

    async def _read(
        self, read: Callable[[File], _T], operation: str = "results"
    ) -> AsyncGenerator[_T, None]:
        reader = self._reader
        reader.check_open()
        files = await in_thread(self._pool, lambda: reader.files)
        shortfall = Shortfall()
        with closing(submitted(self._pool, read, files)) as calls:
            for file, call in zip(files, calls, strict=True):
                try:
                    result = await asyncio.wrap_future(call)
                except NOTE_ERRORS as error:
                    if not shortfall.leaves_out(file, error):
                        raise
                else:
                    shortfall.delivered()
                    yield result
                    reader.check_open()
        end = partial(reader.hold_against_manifest, shortfall, operation=operation)
        await in_thread(self._pool, end)


async def load(job: JobProperties, storage: Storage, pool: Pool) -> AsyncJobResults:
    """The results of a job with their manifest loaded. Raises what `JobResults.manifest` does."""
    reader = Reader(job, storage)

    def read() -> ResultsError | None:
        _ = reader.manifest
        try:
            _ = reader.unprocessed
        except ResultsError as error:
            return error  # the documents can be read all the same; `unprocessed` tells of it
        return None

    return AsyncJobResults(job, reader, pool, await in_thread(pool, read))


def _redacted(
    reader: Reader, min_score: float, replacement: str
) -> Callable[[File], tuple[str, str]]:
    # A bad argument is refused here, not after the first file was read.
    redact("", (), min_score=min_score, replacement=replacement)
    return partial(reader.redacted, min_score=min_score, replacement=replacement)

"""The results of a job as an iterator and as an asynchronous iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from copy import copy
from functools import partial
from typing import Self, TypeVar

from .._entities import Entity
from .._keys import folder_key
from .._shapes import IntegerShape, check_argument
from .._stream import AsyncStream, Stream
from .._threads import Pool, map_in_order, run_in_thread
from ..errors import ResultsError
from ..models import JobProperties
from .completeness import READ_ERRORS, Delivery, ReadError
from .decisions import Decisions, decide_with
from .documents import Document, Manifest, UnprocessedFile
from .file_list import ALL, File
from .layout import folder_of_outputs
from .listing import Listing
from .notes import Notes
from .outages import Streak
from .reader import Reader

_T = TypeVar("_T")

_COUNT = IntegerShape("count", 1)


class _Results:
    """What both kinds of results have."""

    def __init__(self, listing: Listing, part: slice = ALL, streak: Streak | None = None) -> None:
        self.job: JobProperties = listing.job
        self._listing = listing
        self._reader = Reader(listing)
        self._part = part
        self._streak = streak  # of failures, if readings of several jobs share it

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job.job_id!r}){shown_part(self._part)}"

    @property
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        return self._listing.manifest

    def part(self, index: int, count: int) -> Self:
        """Return one of `count` parts of these results, for example for one of many machines.

        The part has every `count`-th file, beginning with the file at `index`, and every `count`-th
        unprocessed file. It checks its own files and the counts of the whole job. So if every part
        is complete, the job is.

        Every machine opens the results itself: send it `(job_id, index, count)`, and let it call
        `client.results(job_id).part(index, count)`.

        Args:
            index: which part, from 0 to `count` - 1.
            count: how many parts there are.

        Raises:
            RequestValidationError: `index` or `count` is not such an integer.
        """
        part = copy(self)
        owner = f"{type(self).__name__}.part"
        part._part = part_of(self._part, owner, index, count)  # noqa: SLF001 - completes a copy of this object
        return part


class JobResults(_Results):
    """The results of one job, read from S3 when they are needed. `Job.results` returns them.

    Iterating yields every `Document` once. Documents are fetched in parallel, and a bounded number
    of them is in memory. A document that cannot be read does not stop the others: it is left out,
    and an `IncompleteResultsError` names it at the end. At the end, what was read is also compared
    with the manifest. If you close the iterator early, fetching stops. Each iteration reads
    everything again.

    Attributes:
        job: the job's properties when these results were opened.

    Raises, while iterating and from `manifest` and `unprocessed`:
        IncompleteResultsError: some documents could not be read, or the manifest's counts do not
            match the lists. `failed` contains the reason for each input key, and `missing` the keys
            that the bucket lacks. Raised after all other documents were yielded. If a list is
            missing, it is raised at once.
        MissingManifestError: the job left no manifest. Raised at once.
        UnreadableObjectError: the manifest or a list is broken, or S3 refuses to return it, or it
            has refused to return 100 documents or notes in a row. Raised at once.
        MissingBucketError: the bucket does not exist. Raised at once.
        ServiceError, TransportError: nothing more can be read: the credentials have expired, the
            client was closed, or S3 failed for 100 documents in a row although each request was
            retried. Raised at once. `undelivered` is the number of documents that were not
            delivered, and `failed` says which of them had failed before, and why.
    """

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, each with the reason."""
        return self._listing.unprocessed[self._part]

    def __iter__(self) -> Generator[Document, None, None]:  # noqa: PYI058 - callers may close() it to stop fetching
        return self._read(self._reader.document)

    def with_text(
        self, *, decisions: Decisions | None = None, require_reviewed: bool = False
    ) -> Generator[tuple[Document, str], None, None]:
        """Yield every document and its note, for example to show both to a person.

        Each note is read from the input bucket and decoded strictly as UTF-8. Its line endings are
        unchanged. A note is left out if it is not the one that the job read: if it was deleted or
        replaced, is not UTF-8, or does not match an entity. It is also left out if decisions about
        it do not fit.

        Args:
            decisions: a reviewer's decisions. The documents lack the rejected entities and have the
                added ones. A note without decisions is delivered with the entities that the service
                detected.
            require_reviewed: whether to leave out notes that are not marked as reviewed in
                `decisions`, including notes without decisions.

        Raises:
            RequestValidationError: an argument has the wrong type, or `require_reviewed` is true
                without decisions. Raised at once.
            IncompleteResultsError: raised as when iterating, for notes as for documents.
            ResultsError, ServiceError, TransportError: raised as when iterating.
        """
        decide = decide_with("with_text", decisions, require_reviewed=require_reviewed)
        return self._read(partial(self._reader.with_text, decide=decide))

    def redacted(
        self,
        *,
        min_score: float = 0.0,
        replacement: str | Callable[[Entity], str] = "[{type}]",
        decisions: Decisions | None = None,
        require_reviewed: bool = False,
    ) -> Generator[tuple[str, str], None, None]:
        """Yield the input key and the redacted text of every note.

        Notes are left out as in `with_text`, and if a function that you pass as `replacement`
        fails. A text that was not redacted is never yielded.

        Args:
            min_score: as in `redact`. Marks that a reviewer added are redacted whatever it is.
            replacement: as in `redact`. Several threads call a function at the same time.
            decisions: as in `with_text`.
            require_reviewed: as in `with_text`.

        Raises:
            RequestValidationError: an argument is refused by `redact` or `with_text`. Raised at
                once.
            IncompleteResultsError: raised as when iterating, for notes as for documents.
            ResultsError, ServiceError, TransportError: raised as when iterating.
        """
        read = self._reader.redacting(min_score, replacement, decisions, require_reviewed)
        return self._read(read, "redacted")

    def __comprehend_phi_notes__(self) -> Notes:
        """Return the notes for `corpus/`. Only `notes_of` calls this."""
        source, target = self._listing.source, self._listing.target
        return Notes(
            each=self._each_note,
            unprocessed=lambda: len(self._listing.listed_unprocessed[self._part]),
            input_key=source.s3_key or "",
            locations=(
                (source.s3_bucket, folder_key(source.s3_key)),
                (target.s3_bucket, folder_of_outputs(target.s3_key or "")),
            ),
            jobs=((self.job.job_id, None),),
            calls=self._listing.storage.calls,
        )

    def _each_note(
        self, use: Callable[[Document, str], _T], on_failure: Callable[[str, ReadError], object]
    ) -> Generator[_T, None, None]:
        return self._read(
            lambda file: use(*self._reader.with_text(file)), "write_copies", on_failure
        )

    def _read(
        self,
        read: Callable[[File], _T],
        operation: str = "results",
        on_failure: Callable[[str, ReadError], object] | None = None,
    ) -> Generator[_T, None, None]:
        return Stream("results", self._items(read, operation, on_failure))

    def _items(
        self,
        read: Callable[[File], _T],
        operation: str,
        on_failure: Callable[[str, ReadError], object] | None,
    ) -> Generator[_T, None, None]:
        listing, storage = self._listing, self._listing.storage
        storage.check_open()
        files = listing.files.part(self._part)
        delivery = Delivery(listing, len(files), operation, on_failure, self._streak)
        with delivery.count_undelivered():
            with (
                Pool(storage.connections) as pool,
                closing(map_in_order(pool, read, files)) as calls,
            ):
                for file, call in calls:
                    try:
                        result = call.result()
                    except READ_ERRORS as error:
                        if not delivery.record_failure(file, error):
                            raise
                    else:
                        delivery.record_success()
                        yield result
                        storage.check_open()
            delivery.end()


class AsyncJobResults(_Results):
    """The results of one job for asynchronous programs. `AsyncJob.results` returns them.

    The manifest and the list of unprocessed files are already loaded. `async for` yields every
    `Document` once and raises the same errors as iterating over `JobResults`. If you stop iterating
    early, close the iterator (`contextlib.aclosing`) to stop the background fetches.

    Attributes:
        job: the job's properties when these results were opened.
    """

    def __init__(self, listing: Listing, pool: Pool, listing_error: ResultsError | None) -> None:
        super().__init__(listing)
        self._pool = pool
        self._listing_error = listing_error

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, each with the reason.

        Raises:
            ResultsError: the list is missing or broken, or the manifest counts another number.
        """
        if self._listing_error is not None:
            raise copy(self._listing_error)  # a copy, so that each has its own traceback
        return self._listing.unprocessed[self._part]

    def __aiter__(self) -> AsyncGenerator[Document, None]:  # noqa: PYI058 - callers may aclose() it to stop fetching
        return self._read(self._reader.document)

    def with_text(
        self, *, decisions: Decisions | None = None, require_reviewed: bool = False
    ) -> AsyncGenerator[tuple[Document, str], None]:
        """Yield every document and its note, as `JobResults.with_text` does."""
        decide = decide_with("with_text", decisions, require_reviewed=require_reviewed)
        return self._read(partial(self._reader.with_text, decide=decide))

    def redacted(
        self,
        *,
        min_score: float = 0.0,
        replacement: str | Callable[[Entity], str] = "[{type}]",
        decisions: Decisions | None = None,
        require_reviewed: bool = False,
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Yield the input key and the redacted text of every note; see `JobResults.redacted`."""
        read = self._reader.redacting(min_score, replacement, decisions, require_reviewed)
        return self._read(read, "redacted")

    def _read(
        self, read: Callable[[File], _T], operation: str = "results"
    ) -> AsyncGenerator[_T, None]:
        return AsyncStream("results", self._items(read, operation))

    async def _items(self, read: Callable[[File], _T], operation: str) -> AsyncGenerator[_T, None]:
        listing, storage = self._listing, self._listing.storage
        storage.check_open()
        files = await run_in_thread(self._pool, lambda: listing.files.part(self._part))
        delivery = Delivery(listing, len(files), operation)
        with delivery.count_undelivered():
            with closing(map_in_order(self._pool, read, files)) as calls:
                for file, call in calls:
                    try:
                        result = await asyncio.wrap_future(call)
                    except READ_ERRORS as error:
                        if not delivery.record_failure(file, error):
                            raise
                    else:
                        delivery.record_success()
                        yield result
                        storage.check_open()
            await run_in_thread(self._pool, delivery.end)


async def load(listing: Listing, pool: Pool) -> AsyncJobResults:
    """Return the results of a job, with manifest and list of unprocessed files loaded.

    Raise what `JobResults.manifest` raises.
    """

    def read() -> ResultsError | None:
        _ = listing.manifest
        try:
            _ = listing.unprocessed
        except ResultsError as error:
            return error  # the documents may be readable; `unprocessed` raises this error
        return None

    return AsyncJobResults(listing, pool, await run_in_thread(pool, read))


def part_of(whole: slice, owner: str, index: int, count: int) -> slice:
    """Return the files of one of `count` parts of `whole`."""
    check_argument(owner, "count", _COUNT, count)
    check_argument(owner, "index", IntegerShape("index", 0, count - 1), index)
    return slice(whole.start + index * whole.step, None, whole.step * count)


def shown_part(part: slice) -> str:
    """Return how a repr shows a part."""
    return "" if part.step == 1 else f".part({part.start}, {part.step})"

"""The steps of a check, and two ways to run them: blocking, and in an event loop.

The steps are a generator, which submits calls to a pool of threads and yields their futures.
The caller waits for each future and sends back the result, or throws what the call
raised.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._keys import folder_key
from .._results.outages import FailedFiles
from .._results.storage import ListedObject, ListingPage
from .._threads import Pool, map_in_order
from ..errors import (
    MissingBucketError,
    ResultsError,
    ServiceError,
    TransportError,
    UnreadableObjectError,
)
from .report import IncompleteCheckError, InputReport, ProblemCode
from .tally import NoteContent, Tally

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage
    from ..models import StartPHIDetectionJobRequest

Steps = Generator[Future[Any], Any, InputReport]
_Result = TypeVar("_Result")

_ARCHIVED = "InvalidObjectState"  # S3's code for archived objects
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def run(steps: Generator[Future[Any], Any, _Result]) -> _Result:
    """Run the steps, block until they have ended, and return their result."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            call = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            return cast("_Result", end.value)
        result = error = None
        # Thrown later, outside this block: otherwise it would be the context of other errors.
        try:
            result = call.result()
        except Exception as cause:  # noqa: BLE001 - the check decides
            error = cause


async def run_async(steps: Steps) -> InputReport:
    """Run the steps in an event loop."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            call = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as end:
            return cast("InputReport", end.value)
        result = error = None
        try:
            result = await asyncio.wrap_future(call)
        except Exception as cause:  # noqa: BLE001 - the check decides
            error = cause


class InputCheck:
    """The check of one job's input.

    Args:
        storage: S3.
        request: the job.
        region: where the job would run.
        tally: takes files and problems.
        read_notes: whether to read the notes.
        on_progress: called with the number of files so far, after each page.
        on_file: called with each file of the listing, and with whether AWS would process it. Not
            called for folder markers.
    """

    def __init__(
        self,
        storage: Boto3Storage,
        request: StartPHIDetectionJobRequest,
        region: str,
        tally: Tally,
        *,
        read_notes: bool,
        on_progress: Callable[[int], object] | None,
        on_file: Callable[[ListedObject, bool], object] | None = None,
    ) -> None:
        self._storage = storage
        self._region = region
        self._tally = tally
        self._reads = read_notes
        self._on_progress = on_progress
        self._on_file = on_file
        self._bucket = request.input_data_config.s3_bucket
        self._input_key = request.input_data_config.s3_key or ""
        self._output_bucket = request.output_data_config.s3_bucket
        self._unread = FailedFiles()

    def steps(self, pool: Pool) -> Steps:
        """Check the buckets and the files, and return the report. `pool` makes the calls."""
        has_files = yield from self.check_buckets(pool)
        if has_files:
            try:
                yield from self._check_files(pool)
            except MissingBucketError:
                # S3 did not say so at first, or somebody has deleted the bucket.
                self._add_missing_bucket("input bucket")
                has_files = False
        if self._unread.count:
            raise IncompleteCheckError(
                self._tally.report(was_listed=has_files),
                bucket=self._bucket,
                failed=self._unread.reasons,
                failed_count=self._unread.count,
            )
        return self._tally.report(was_listed=has_files, has_characters=self._reads and has_files)

    def check_buckets(self, pool: Pool) -> Generator[Future[str | None], str | None, bool]:
        """Add the problems of the buckets. Return whether the input bucket exists."""
        roles = {self._bucket: "input bucket", self._output_bucket: "output bucket"}
        if len(roles) == 1:
            roles = {self._bucket: "bucket"}
        has_input = True
        for bucket, role in roles.items():
            try:
                region = yield pool.submit(partial(self._storage.region, bucket))
            except MissingBucketError:
                self._add_missing_bucket(role)
                has_input = has_input and bucket != self._bucket
            else:
                if region not in (None, self._region):
                    detail = f"the {role} is in {region}, but the client uses {self._region}"
                    self._tally.add_problem(ProblemCode.WRONG_REGION, None, detail)
        return has_input

    def _add_missing_bucket(self, role: str) -> None:
        self._tally.add_problem(ProblemCode.NO_SUCH_BUCKET, None, f"the {role} does not exist")

    def _check_files(self, pool: Pool) -> Generator[Future[Any], Any, None]:
        """List the input location and what is beside it, page by page."""
        folder = folder_key(self._input_key)
        yield from self._check_listing(pool, folder)
        if folder != self._input_key:
            # The object that has the input key itself, and names that only begin with the key.
            yield from self._check_listing(pool, self._input_key, folders=True)

    def _check_listing(
        self, pool: Pool, prefix: str, *, folders: bool = False
    ) -> Generator[Future[Any], Any, None]:
        tally, token = self._tally, None
        while True:
            page: ListingPage = yield pool.submit(
                partial(self._storage.page, self._bucket, prefix, folders=folders, token=token)
            )
            to_read: list[ListedObject] = []
            for listed in page.objects:
                key, size, storage_class, _ = listed
                if not tally.is_input(key):
                    tally.add_sibling(key)
                    continue
                # Reading shows whether an archived file was restored.
                is_usable = tally.add_file(key, size, None if self._reads else storage_class)
                if is_usable and self._reads and size:
                    to_read.append(listed)
                elif is_usable:
                    tally.add_price(size)
                if self._on_file is not None and not key.endswith("/"):
                    self._on_file(listed, is_usable)
            for name in page.folders:
                if not tally.is_input(name):
                    tally.add_sibling(name)
            yield from self._read(pool, to_read)
            if self._on_progress is not None:
                self._on_progress(tally.file_count)
            token = page.next_token
            if token is None:
                return

    def _read(
        self, pool: Pool, files: Sequence[ListedObject]
    ) -> Generator[Future[NoteContent], NoteContent, None]:
        """Read notes, many at a time, and add what is in them."""
        tally, unread = self._tally, self._unread
        read = partial(_content, self._storage, self._bucket)
        with closing(map_in_order(pool, read, files)) as calls:
            for file, call in calls:
                try:
                    content = yield call
                except (ResultsError, ServiceError, TransportError) as error:
                    if isinstance(error, UnreadableObjectError) and error.code == _ARCHIVED:
                        detail = "S3 does not return the file until it is restored"
                        tally.add_problem(ProblemCode.ARCHIVED, file.key, detail)
                        continue
                    if not unread.add(file.key, error):
                        raise
                    tally.add_price(file.size)
                else:
                    unread.streak.end()
                    for code, detail in content.problems:
                        tally.add_problem(code, file.key, detail)
                    if content.characters is not None:
                        tally.add_price(file.size, content.characters)


def _content(storage: Boto3Storage, bucket: str, file: ListedObject) -> NoteContent:
    """Return what is in one note."""
    body = storage.read(bucket, file.key).body
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        is_utf_16 = body.startswith(_UTF_16)
        detail = "it looks like UTF-16" if is_utf_16 else f"byte {error.start} is not UTF-8"
        return NoteContent(None, ((ProblemCode.NOT_UTF8, detail),))
    problems: list[tuple[ProblemCode, str]] = []
    if text.startswith("\ufeff"):
        problems.append((ProblemCode.BYTE_ORDER_MARK, "the text begins with U+FEFF"))
    if nuls := text.count("\0"):
        problems.append(
            (
                ProblemCode.NUL_CHARACTER,
                f"U+0000 occurs {nuls} times" if nuls > 1 else "U+0000 occurs once",
            )
        )
    return NoteContent(len(text), tuple(problems))

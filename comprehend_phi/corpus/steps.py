"""The steps of a check, and two ways to wait for them: blocking, and in an event loop.

A check is a generator. It submits calls to a pool of threads and yields their futures. Whoever runs
it waits for each future and sends back the result, or throws what the call raised.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .._results.layout import folder_key
from .._results.storage import MissingBucket
from .._threads import Pool, submitted
from ..errors import ResultsError, ServiceError, TransportError, UnreadableObjectError
from .report import IncompleteCheckError, InputReport, ProblemCode
from .tally import NoteContent, Tally

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage
    from ..models import StartPHIDetectionJobRequest

Steps = Generator[Future[Any], Any, InputReport]

_MOST_FAILED = 1_000  # unread notes that the error names
_OUTAGE = 100  # our rule: S3 failed for so many notes in a row, although each request was retried

_ARCHIVED = "InvalidObjectState"  # S3's code for archived objects
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def run(check: Steps) -> InputReport:
    """Run a check and block until it has ended."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            call = check.send(result) if error is None else check.throw(error)
        except StopIteration as end:
            return cast("InputReport", end.value)
        result = error = None
        # Thrown later, outside this block: otherwise it would be the context of other errors.
        try:
            result = call.result()
        except Exception as cause:  # noqa: BLE001 - the check decides
            error = cause


async def run_async(check: Steps) -> InputReport:
    """Run a check in an event loop."""
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            call = check.send(result) if error is None else check.throw(error)
        except StopIteration as end:
            return cast("InputReport", end.value)
        result = error = None
        try:
            result = await asyncio.wrap_future(call)
        except Exception as cause:  # noqa: BLE001 - the check decides
            error = cause


def steps(
    storage: Boto3Storage,
    pool: Pool,
    request: StartPHIDetectionJobRequest,
    region: str,
    tally: Tally,
    *,
    read_notes: bool,
    on_progress: Callable[[int], object] | None,
) -> Steps:
    """Check the buckets, list the files, read them if asked to, and return the report."""
    bucket, input_key = request.input_data_config.s3_bucket, request.input_data_config.s3_key or ""
    if not (yield from _check_buckets(storage, pool, request, region, tally)):
        return tally.report(was_listed=False)
    unread = _Unread()
    folder = folder_key(input_key)
    listings = [(folder, False)]
    if folder != input_key:
        # The object that has the input key itself, and the names that only begin with it.
        listings.append((input_key, True))
    for prefix, folders in listings:
        token: str | None = None
        while True:
            list_page = partial(storage.page, bucket, prefix, folders=folders, token=token)
            page = yield pool.submit(list_page)
            to_read: list[tuple[str, int]] = []
            for key, size, storage_class in page.objects:
                if not tally.is_input(key):
                    tally.add_sibling(key)
                # Reading shows whether an archived file was restored.
                elif tally.add_file(key, size, None if read_notes else storage_class):
                    if read_notes and size:
                        to_read.append((key, size))
                    else:
                        tally.add_price(size)
            for name in page.folders:
                if not tally.is_input(name):
                    tally.add_sibling(name)
            yield from _read_notes(storage, pool, bucket, to_read, tally, unread)
            if on_progress is not None:
                on_progress(tally.file_count)
            token = page.next_token
            if token is None:
                break
    if unread.count:
        report = tally.report()
        raise IncompleteCheckError(
            report, bucket=bucket, failed=unread.reasons, failed_count=unread.count
        )
    return tally.report(has_characters=read_notes)


def _check_buckets(
    storage: Boto3Storage,
    pool: Pool,
    request: StartPHIDetectionJobRequest,
    region: str,
    tally: Tally,
) -> Generator[Future[str | None], str | None, bool]:
    """Add the problems of the buckets. Return whether the input bucket exists."""
    source, target = request.input_data_config.s3_bucket, request.output_data_config.s3_bucket
    roles = {source: "bucket"} if source == target else {source: "input", target: "output"}
    has_input = True
    for bucket, role in roles.items():
        what = role if role == "bucket" else f"{role} bucket"
        try:
            actual = yield pool.submit(partial(storage.region, bucket))
        except MissingBucket:
            tally.add_problem(ProblemCode.NO_SUCH_BUCKET, None, f"there is no such {what}")
            has_input = has_input and bucket != source
        else:
            if actual not in (None, region):
                detail = f"the {what} is in {actual}, and the client uses {region}"
                tally.add_problem(ProblemCode.WRONG_REGION, None, detail)
    return has_input


def _read_notes(
    storage: Boto3Storage,
    pool: Pool,
    bucket: str,
    files: Sequence[tuple[str, int]],
    tally: Tally,
    unread: _Unread,
) -> Generator[Future[NoteContent], NoteContent, None]:
    """Read notes, many at a time, and add what is in them."""
    read = partial(_read, storage, bucket)
    with closing(submitted(pool, read, [key for key, _ in files])) as calls:
        for (key, size), call in zip(files, calls, strict=True):
            try:
                content = yield call
            except UnreadableObjectError as error:
                if error.code == _ARCHIVED:
                    detail = "S3 does not return the file until it is restored"
                    tally.add_problem(ProblemCode.ARCHIVED, key, detail)
                else:
                    unread.add(key, error)
                    tally.add_price(size)
            except (ResultsError, ServiceError, TransportError) as error:
                if not unread.add(key, error):
                    raise
                tally.add_price(size)
            else:
                unread.in_a_row = 0
                for code, detail in content.problems:
                    tally.add_problem(code, key, detail)
                if content.characters is not None:
                    tally.add_price(size, content.characters)


class _Unread:
    """The notes that could not be read.

    Attributes:
        count: how many there are.
        reasons: the reasons for the first of them, by key.
        in_a_row: how many notes S3 has failed for since it last returned one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.reasons: dict[str, str] = {}
        self.in_a_row = 0

    def add(self, key: str, error: ResultsError | ServiceError | TransportError) -> bool:
        """Add a note. Return False if no other note can be expected to be readable."""
        # Without a key, the error concerns the bucket, the credentials or the client.
        if error.key is None:
            return False
        is_outage = isinstance(error, (ServiceError, TransportError))
        self.in_a_row = self.in_a_row + 1 if is_outage else 0
        if self.in_a_row == _OUTAGE:
            return False
        self.count += 1
        if self.count <= _MOST_FAILED:
            self.reasons[key] = f"{type(error).__name__}: {error}"
        return True


def _read(storage: Boto3Storage, bucket: str, key: str) -> NoteContent:
    """Return what is in one note."""
    body = storage.read(bucket, key).body
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
        problems.append((ProblemCode.NUL_CHARACTER, f"{nuls} times U+0000"))
    return NoteContent(len(text), tuple(problems))

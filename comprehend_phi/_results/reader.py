"""The files of one job's results: which there are, what is in each, and whether all are there.

The lists that the manifest names say which files there are; where they are missing, the output
folder is listed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from .._logs import log
from .._redaction import redact, require_fit
from ..errors import (
    IncompleteResultsError,
    JobNotEndedError,
    LostManifestError,
    MissingManifestError,
    RedactionError,
    ResultsError,
    ServiceError,
    SourceChangedError,
    TransportError,
    UnreadableObjectError,
)
from ..models import JobProperties, JobStatus
from .decoding import ListEntry, decode_list, decode_manifest, decode_output
from .documents import Document, Manifest, UnprocessedFile
from .layout import Layout, find_folder, folder_key
from .storage import JobStorage, MissingObject, Storage, StoredObject

_T = TypeVar("_T")

# What reading one note can end in, if the note or its document is to blame, or S3.
NOTE_ERRORS = (RedactionError, ResultsError, ServiceError, TransportError)

_LEFT_OUT = (
    "The note is left out: it is not the text that the job read. Start a job for the note as it is"
    " now."
)

_PROMISED = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


class File(NamedTuple):
    """A processed file: its key in the input bucket, and that of its document.

    `size` is how many bytes the job read, or None if the list does not say. `is_shared` says
    whether the list gives one of the two keys to another file as well.
    """

    input_key: str
    output_key: str
    size: int | None = None
    is_shared: bool = False


class _Kept(Generic[_T]):
    """A property that is computed once.

    functools.cached_property has one lock for the readers of all jobs before Python 3.12: while one
    waits for S3, all wait. Here two threads may compute the same, which does no harm.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self._name = compute.__name__

    def __get__(self, reader: object, owner: type) -> _T:
        value = self._compute(reader)
        # An attribute of the object itself comes before this descriptor.
        reader.__dict__[self._name] = value
        return value


class Shortfall:
    """What a reading of many notes could not deliver, and whether it should go on.

    A note that fails is left out, and the reading goes on. It ends if no other note can be expected
    to do better: that rule is ours.

    Attributes:
        count: how many notes were left out.
        missing: the keys of their documents that are not there.
        failed: the reason for each, by its input key.
    """

    # S3 fails for each of so many notes in a row, although each request was retried.
    _OUTAGE = 100

    def __init__(self) -> None:
        self.count: int = 0
        self.missing: list[str] = []
        self.failed: dict[str, str] = {}
        self._in_a_row = 0

    def delivered(self) -> None:
        """Take in that a note was read."""
        self._in_a_row = 0

    def leaves_out(
        self, file: File, error: RedactionError | ResultsError | ServiceError | TransportError
    ) -> bool:
        """Take in that a note could not be read; return False if the error concerns all notes."""
        # Without a key, it is about the bucket, the credentials or the client.
        if not isinstance(error, RedactionError) and error.key is None:
            return False
        is_outage = isinstance(error, (ServiceError, TransportError))
        self._in_a_row = self._in_a_row + 1 if is_outage else 0
        if self._in_a_row == self._OUTAGE:
            return False
        self.count += 1
        if isinstance(error, MissingObject):
            self.missing.append(file.output_key)
        self.failed[file.input_key] = f"{type(error).__name__}: {error}"
        return True


class Reader:
    """Reads the files of one job, each on demand; the two kinds of results say in which order.

    Its methods block, and may be called from several threads.

    Attributes:
        connections: how many files can be fetched at the same time.
    """

    def __init__(self, job: JobProperties, storage: Storage) -> None:
        if not job.job_status.is_terminal:
            raise JobNotEndedError(
                f"job {job.job_id} is {job.job_status}: it has results when it has ended, so wait"
                " for it first",
                job_id=job.job_id,
            )
        if job.input_data_config is None or job.output_data_config is None:
            raise ResultsError(
                f"the service does not say where job {job.job_id} reads and writes",
                job_id=job.job_id,
            )
        self._job = job
        self._storage = JobStorage(storage, job.job_id)
        self.connections: int = storage.connections
        self._input = job.input_data_config
        self._bucket = job.output_data_config.s3_bucket
        self._output_key = job.output_data_config.s3_key or ""

    def check_open(self) -> None:
        """Raise ClientClosedError if the client that reads was closed."""
        self._storage.check_open()

    @_Kept
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        layout, path = self._layout, self._job.manifest_file_path
        named = layout.keys_of(path) if path else []
        candidates = list(dict.fromkeys([f"{layout.folder}Manifest", *named]))
        if (found := self._first(candidates)) is not None:
            key, body = found
            return decode_manifest(body, bucket=self._bucket, key=key)
        if self._job.job_status in _PROMISED:
            raise LostManifestError(
                f"job {self._job.job_id} is {self._job.job_status}, but its manifest is missing",
                bucket=self._bucket,
                missing=candidates,
                job_id=self._job.job_id,
            )
        raise MissingManifestError(
            f"job {self._job.job_id} {self._job.job_status} and left no manifest",
            job_id=self._job.job_id,
        )

    @_Kept
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, and why."""
        promised, found = self.manifest.unprocessed_files_count, len(self._unprocessed)
        if promised not in (None, found):
            raise self._incomplete(
                f"the manifest counts {promised} unprocessed files, there are {found}"
            )
        return self._unprocessed

    @_Kept
    def _unprocessed(self) -> tuple[UnprocessedFile, ...]:
        listed = self._listed("failed", self.manifest.unprocessed_files_list_location) or []
        return tuple(
            UnprocessedFile(
                input_key=self._layout.input_keys_of(file.input, only=self._has_one_input)[0],
                error_code=file.error_code,
                error_message=file.error_message,
            )
            for file in listed
        )

    @_Kept
    def files(self) -> tuple[File, ...]:
        """The processed files, each once, in the order of the list."""
        layout = self._layout
        listed = self._listed("success", self.manifest.successful_files_list_location)
        if listed is None:
            return tuple(
                File(layout.input_key_of(key, only=self._has_one_input), key)
                for key in self._all_keys
                if layout.is_output(key)
            )
        # An entry that is there twice is one file; two entries of different files never are.
        entries = dict.fromkeys((entry.input, entry.output, entry.input_size) for entry in listed)
        return _told_apart([self._file(*entry) for entry in entries])

    def _file(self, input_name: str, output_name: str | None, size: int | None) -> File:
        pairs = self._layout.pairs_of(input_name, output_name, only=self._has_one_input)
        if len({output_key for _, output_key in pairs}) > 1:
            # The list leaves it open; what the job wrote does not.
            pairs = [pair for pair in pairs if pair[1] in self._all_keys] or pairs
        return File(*pairs[0], size)

    def document(self, file: File) -> Document:
        """What was found in one file. Raises MissingObject where its document is not there."""
        if file.is_shared:
            raise UnreadableObjectError(
                "the list of processed files has several entries for this document or its source,"
                " so nobody can tell which belong together",
                bucket=self._bucket,
                key=file.output_key,
            )
        body = self._storage.read(self._bucket, file.output_key).body
        content = decode_output(body, bucket=self._bucket, key=file.output_key)
        return Document(
            input_key=file.input_key,
            output_key=file.output_key,
            entities=content.entities,
            model_version=content.model_version,
        )

    def with_text(self, file: File) -> tuple[Document, str]:
        """Return what was found in one file, and the file itself, which fit each other."""
        document, text = self.document(file), self._text(file)
        try:
            require_fit(text, document.entities, consequence=_LEFT_OUT)
        except RedactionError as error:
            reason = str(error)
        else:
            return document, text
        raise RedactionError(f"s3://{self._input.s3_bucket}/{file.input_key}: {reason}")

    def redacted(self, file: File, *, min_score: float, replacement: str) -> tuple[str, str]:
        """Return the key of one file, and its text without what was found in it."""
        document, text = self.with_text(file)
        redacted = redact(text, document.entities, min_score=min_score, replacement=replacement)
        return file.input_key, redacted

    def _text(self, file: File) -> str:
        bucket, key = self._input.s3_bucket, file.input_key
        try:
            source = self._storage.read(bucket, key)
            text = source.body.decode("utf-8")
        except MissingObject:
            reason = "the source of the document is gone"
        except UnicodeDecodeError as error:
            reason = f"the source is not UTF-8 (byte {error.start})"
        else:
            change = self._change_of(source, file.size)
            if change is None:
                return text
            reason = f"{change}. {_LEFT_OUT}"
        raise SourceChangedError(reason, bucket=bucket, key=key, job_id=self._job.job_id)

    def _change_of(self, source: StoredObject, size: int | None) -> str | None:
        """Return what shows that a source was replaced since the job read it, or None.

        A document without entities fits every text, so size and time have to tell.
        """
        if size is not None and len(source.body) != size:
            return f"the source has {len(source.body)} bytes, and the job read {size}"
        written, submitted = source.last_modified, self._job.submit_time
        # S3 rounds down to whole seconds, so a source written in the second of the submission
        # passes. Nobody can tell whether the job read one that was written later: the rule, which
        # is ours, refuses it.
        if written is not None and submitted is not None and written > submitted:
            return (
                f"the source was written at {written.isoformat()}, after the job was submitted at"
                f" {submitted.isoformat()}"
            )
        return None

    def hold_against_manifest(self, shortfall: Shortfall, *, operation: str) -> None:
        """Log the end of a reading, and raise unless all that the manifest promises was delivered.

        Args:
            shortfall: what was not delivered.
            operation: what the log calls the reading.

        Raises:
            IncompleteResultsError: something is missing, or the manifest's numbers do not add up.
        """
        manifest, listed = self.manifest, len(self.files)
        delivered = listed - shortfall.count
        log(
            logging.WARNING if shortfall.count else logging.INFO,
            "%d documents were delivered, %d left out",
            *(delivered, shortfall.count),
            operation=operation,
            job_id=self._job.job_id,
            documents=delivered,
            left_out=shortfall.count,
        )
        if shortfall.count:
            raise self._incomplete(
                f"{shortfall.count} of {listed} documents could not be delivered",
                shortfall.missing,
                shortfall.failed,
            )
        unprocessed = len(self._unprocessed)
        differences = [
            f"the manifest counts {promised} {what}, there are {found}"
            for what, promised, found in (
                ("processed files", manifest.success_files_count, listed),
                ("unprocessed files", manifest.unprocessed_files_count, unprocessed),
                (
                    "input files",
                    # A stopped or failed job need not have come to every file.
                    manifest.input_file_count if self._job.job_status in _PROMISED else None,
                    listed + unprocessed,
                ),
            )
            if promised is not None and promised != found
        ]
        if differences:
            raise self._incomplete("; ".join(differences))

    def _listed(self, kind: str, location: str | None) -> list[ListEntry] | None:
        """What the manifest's list of this kind names; None where there is no list."""
        if location:
            places = [self._layout.keys_of(location)]
        else:
            folder = f"{self._layout.lists_folder}{kind}/"
            places = [[key] for key in self._all_keys if key.startswith(folder)]
            if not places:
                return None
        files: list[ListEntry] = []
        for candidates in places:
            if (found := self._first(candidates)) is None:
                raise self._incomplete(
                    f"the manifest's list of {kind} files is missing", candidates
                )
            key, body = found
            files += decode_list(body, bucket=self._bucket, key=key)
        return files

    def _incomplete(
        self, reason: str, missing: Sequence[str] = (), failed: Mapping[str, str] | None = None
    ) -> IncompleteResultsError:
        return IncompleteResultsError(
            reason, bucket=self._bucket, missing=missing, failed=failed, job_id=self._job.job_id
        )

    def _first(self, keys: Sequence[str]) -> tuple[str, bytes] | None:
        """Return the first of these objects that is there, as its key and its bytes."""
        for key in keys:
            with suppress(MissingObject):
                return key, self._storage.read(self._bucket, key).body
        return None

    @_Kept
    def _all_keys(self) -> dict[str, None]:
        """The keys in the output folder, in S3's order."""
        return dict.fromkeys(self._storage.keys(self._bucket, self._layout.folder))

    @_Kept
    def _has_one_input(self) -> bool:
        return self.manifest.input_file_count == 1

    @_Kept
    def _layout(self) -> Layout:
        job_id, output_key = self._job.job_id, self._output_key
        folder = find_folder(
            job_id, output_key, lambda key: self._storage.folders(self._bucket, key)
        )
        if folder is None:
            raise MissingManifestError(
                f"job {job_id} is {self._job.job_status} and has no folder here",
                bucket=self._bucket,
                key=folder_key(output_key),
                job_id=job_id,
            )
        return Layout(
            folder, input_bucket=self._input.s3_bucket, input_key=self._input.s3_key or ""
        )


def _told_apart(files: Sequence[File]) -> tuple[File, ...]:
    """Return the files, with a mark on each whose source or document another one has too."""
    # Sets first, which are smaller than Counters: hardly any list has such files.
    different_sources = len({file.input_key for file in files})
    different_documents = len({file.output_key for file in files})
    if different_sources == different_documents == len(files):
        return tuple(files)
    sources = Counter(file.input_key for file in files)
    documents = Counter(file.output_key for file in files)
    return tuple(
        file._replace(is_shared=sources[file.input_key] > 1 or documents[file.output_key] > 1)
        for file in files
    )

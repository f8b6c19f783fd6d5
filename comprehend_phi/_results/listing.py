"""Which files a job processed and which it did not, according to its manifest and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TypeVar

from attrs import define

from .._keys import folder_key
from .._wording import amount
from ..errors import (
    IncompleteResultsError,
    JobNotEndedError,
    LostManifestError,
    MissingManifestError,
    MissingObjectError,
    ResultsError,
)
from ..models import InputDataConfig, JobProperties, JobStatus, OutputDataConfig
from .decoding import ListEntry, decode_file_list, decode_manifest
from .documents import Manifest, UnprocessedFile
from .file_list import Entry, File, FileList, PackedList, entries_of, pack
from .layout import Layout, find_folder
from .storage import JobStorage, Storage

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")

# A job in one of these states has a manifest, and it processed or skipped every input file.
_SUCCESSFUL = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


class NoteSource:
    """Where the notes of a job are: at the keys that the job read. Threads may share it.

    Attributes:
        bucket: the bucket of the notes.
        missing: why a note cannot be read if its object does not exist.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket: str = bucket
        self.missing: str = "the note no longer exists"

    def key_of(self, input_key: str) -> str:
        """Return the key of the note, for a key that the job read."""
        return input_key

    def location_of(self, key: str) -> tuple[str, str]:
        """Return the bucket and the key from which to read a note."""
        return self.bucket, key


# attrs turns each `cached_property` of a class with slots into a slot that the first use fills. The
# one of functools has a lock, which the listings of all jobs share before Python 3.12: while one of
# them waits for S3, all others would wait.
@define(init=False, eq=False, repr=False)
class Listing:
    """The manifest of one job and the lists that it names. Each is read when it is first needed.

    If the job has no list of processed files, the output folder is listed instead.

    Methods block, and threads may share a listing. Two threads may read the same file twice, which
    does no harm.

    Attributes:
        job: the job's properties.
        is_described: whether the properties come from the service. If not, the time of the
            submission is unknown.
        storage: reads the files. Its log records contain the job's id.
        source: the location that the job read.
        target: the location of the results.
        notes: where the notes are. The keys of files are the keys of these notes.
    """

    job: JobProperties
    is_described: bool
    storage: JobStorage
    source: InputDataConfig
    target: OutputDataConfig
    notes: NoteSource

    def __init__(
        self,
        job: JobProperties,
        storage: Storage,
        *,
        is_described: bool = True,
        notes: NoteSource | None = None,
    ) -> None:
        if not job.job_status.is_terminal:
            raise JobNotEndedError(
                f"job {job.job_id} is {job.job_status} and has no results yet; wait until it"
                " has ended",
                job_id=job.job_id,
            )
        if job.input_data_config is None or job.output_data_config is None:
            raise ResultsError(
                f"the service did not say where job {job.job_id} reads and writes",
                job_id=job.job_id,
            )
        self.job = job
        self.is_described = is_described
        self.storage = JobStorage(storage, job.job_id)
        self.source = job.input_data_config
        self.target = job.output_data_config
        self.notes = notes or NoteSource(self.source.s3_bucket)

    @cached_property
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        layout, path = self._layout, self.job.manifest_file_path
        named = layout.keys_of(path) if path else []
        candidates = list(dict.fromkeys([f"{layout.folder}Manifest", *named]))
        if (manifest := self._read_first(candidates, self._decode_manifest)) is not None:
            return manifest
        if self.job.job_status in _SUCCESSFUL:
            raise LostManifestError(
                f"job {self.job.job_id} is {self.job.job_status}, but its manifest is missing",
                bucket=self.target.s3_bucket,
                missing=candidates,
                job_id=self.job.job_id,
            )
        raise MissingManifestError(
            f"job {self.job.job_id} is {self.job.job_status} and left no manifest",
            job_id=self.job.job_id,
        )

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process.

        Raises:
            IncompleteResultsError: the manifest counts another number of them.
        """
        found = self.listed_unprocessed
        expected = self.manifest.unprocessed_files_count
        if difference := _difference("unprocessed file", expected, len(found)):
            raise self.incomplete(difference)
        return found

    @cached_property
    def listed_unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files in the list of unprocessed files, whatever the manifest counts."""
        return tuple(
            UnprocessedFile(
                input_key=self.notes.key_of(
                    self._layout.input_keys_of(entry.input, only=self._has_one_input)[0]
                ),
                error_code=entry.error_code,
                error_message=entry.error_message,
            )
            for entry in self._unprocessed_entries
        )

    @cached_property
    def _unprocessed_entries(self) -> list[ListEntry]:
        location = self.manifest.unprocessed_files_list_location
        return self._read_lists("unprocessed", "failed", location, self._decode) or []

    @cached_property
    def files(self) -> FileList:
        """The processed files, each once, in the order of the list."""
        location = self.manifest.successful_files_list_location
        blocks = self._read_lists("processed", "success", location, self._pack)
        if blocks is None:
            blocks = pack((None, key, None) for key in self._keys if self._layout.is_output(key))
        return FileList(blocks, self._file)

    def count_differences(self) -> list[str]:
        """Return each difference between a count in the manifest and what the lists contain."""
        manifest, processed, unprocessed = self.manifest, self.files, self.listed_unprocessed
        # A stopped or failed job may have ended before it came to every input file.
        input_count = manifest.input_file_count if self.job.job_status in _SUCCESSFUL else None
        counts = (
            ("processed file", manifest.success_files_count, len(processed)),
            ("unprocessed file", manifest.unprocessed_files_count, len(unprocessed)),
            ("input file", input_count, len(processed) + len(unprocessed)),
        )
        differences = [difference for count in counts if (difference := _difference(*count))]
        # A file that is listed twice would make up for one that is not listed.
        if input_count is not None and (repeated := self._count_listed_twice()):
            differences.append(f"the lists name {amount(repeated, 'file')} more than once")
        return differences

    def _count_listed_twice(self) -> int:
        """Return how many unprocessed files are listed again, as unprocessed or as processed."""
        # Names, not keys: a name may have several readings, but all lists use the same form.
        counts = Counter(entry.input for entry in self._unprocessed_entries)
        if counts:
            counts.update([name for name in self.files.input_names() if name in counts])
        return sum(count > 1 for count in counts.values())

    def incomplete(self, reason: str, missing: Sequence[str] = ()) -> IncompleteResultsError:
        """Return an error about this job's results, for the caller to raise."""
        return IncompleteResultsError(
            reason, bucket=self.target.s3_bucket, missing=missing, job_id=self.job.job_id
        )

    def _decode_manifest(self, key: str) -> Manifest:
        body = self.storage.read(self.target.s3_bucket, key).body
        return decode_manifest(body, bucket=self.target.s3_bucket, key=key)

    def _file(self, entry: Entry) -> File:
        input_name, output_name, size = entry
        only = self._has_one_input
        if input_name is None:  # there is no list, only the document
            key = output_name or ""
            return File(self.notes.key_of(self._layout.input_key_of(key, only=only)), key)
        pairs = self._layout.pairs_of(input_name, output_name, only=only)
        if len({output_key for _, output_key in pairs}) > 1:
            # The list allows several readings. The documents that exist decide.
            pairs = [pair for pair in pairs if pair[1] in self._keys] or pairs
        input_key, output_key = pairs[0]
        return File(self.notes.key_of(input_key), output_key, size)

    def _pack(self, key: str) -> list[bytes]:
        """Read a list of processed files, and return its packed entries."""
        packed = self.storage.feed(self.target.s3_bucket, key, PackedList)
        packed.end()
        return pack(entries_of(self._decode(key))) if packed.is_unusual else packed.blocks

    def _decode(self, key: str) -> list[ListEntry]:
        """Read a list as a whole, and return its entries."""
        body = self.storage.read(self.target.s3_bucket, key).body
        return decode_file_list(body, bucket=self.target.s3_bucket, key=key)

    def _read_lists(
        self, kind: str, folder: str, location: str | None, read: Callable[[str], list[_Item]]
    ) -> list[_Item] | None:
        """Return what is in the lists of one kind, or None if there is no list.

        Args:
            kind: which files are listed.
            folder: the name of the lists' folder.
            location: where the list is, according to the manifest.
            read: returns what is in the list with a given key.
        """
        if location:
            lists = [self._layout.keys_of(location)]
        else:
            prefix = f"{self._layout.lists_folder}{folder}/"
            lists = [[key] for key in self._keys if key.startswith(prefix)]
        items: list[_Item] = []
        for candidates in lists:
            if (found := self._read_first(candidates, read)) is None:
                raise self.incomplete(f"the list of {kind} files is missing", candidates)
            items += found
        return items if lists else None

    def _read_first(self, keys: Sequence[str], read: Callable[[str], _Read]) -> _Read | None:
        """Return what `read` returns for the first of these keys that exists."""
        for key in keys:
            with suppress(MissingObjectError):
                return read(key)
        return None

    @property
    def _has_one_input(self) -> bool:
        return self.manifest.input_file_count == 1

    @cached_property
    def _keys(self) -> dict[str, None]:
        """The keys in the output folder, in S3's order."""
        return dict.fromkeys(self.storage.keys(self.target.s3_bucket, self._layout.folder))

    @cached_property
    def _layout(self) -> Layout:
        bucket, output_key = self.target.s3_bucket, self.target.s3_key or ""
        folder = find_folder(
            self.job.job_id, output_key, lambda key: self.storage.folders(bucket, key)
        )
        if folder is None:
            raise MissingManifestError(
                f"job {self.job.job_id} is {self.job.job_status}: there is no output folder for it"
                " here",
                bucket=bucket,
                key=folder_key(output_key),
                job_id=self.job.job_id,
            )
        source = self.source
        return Layout(folder, input_bucket=source.s3_bucket, input_key=source.s3_key or "")


def _difference(what: str, expected: int | None, found: int) -> str:
    """Return how a count in the manifest differs from what the lists contain; "" if not at all."""
    if expected in (None, found):
        return ""
    return f"the manifest counts {amount(expected, what)}, but there are {found:,}"

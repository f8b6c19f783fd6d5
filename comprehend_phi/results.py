"""What a job found: its manifest, its documents, and the files that it did not process.

The lists that the manifest names say which files there are; where they are missing, the output
folder is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import cached_property
from typing import NamedTuple, TypeVar

from ._documents import (
    Document,
    Entity,
    Listed,
    Manifest,
    Trait,
    UnprocessedFile,
    decode_list,
    decode_manifest,
    decode_output,
    entity_counts,
)
from ._layout import Layout, find_folder, folder_key
from ._storage import MissingObject, Storage, ordered_map
from .errors import IncompleteResultsError, RedactionError, ResultsError
from .models import JobProperties, JobStatus
from .redaction import redact

__all__ = [
    "Document",
    "Entity",
    "JobResults",
    "Manifest",
    "Trait",
    "UnprocessedFile",
    "entity_counts",
]

_T = TypeVar("_T")
_PROMISED = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


class _File(NamedTuple):
    input_key: str
    output_key: str


class JobResults:
    """The results of one job, read from S3 as they are asked for. `Job.results` makes these.

    Iterating yields every `Document` once, fetched in parallel with a bounded number in memory.
    At the end, what was read is held against the manifest. Closing the iterator early ends the
    fetching. Iterating again reads again.

    Raises, while iterating and from `manifest` and `unprocessed`:
        IncompleteResultsError: the bucket lacks keys that the manifest names, or its numbers do not
            add up; raised after every document that could be read was yielded.
        ResultsError: the job left no manifest, or a file is not what it should be; raised at once.
        ServiceError, TransportError: S3 could not be reached or refused.
    """

    def __init__(self, job: JobProperties, storage: Storage) -> None:
        if not job.job_status.is_terminal:
            raise ResultsError(
                f"job {job.job_id} is {job.job_status}: it has results when it has ended, so wait"
                " for it first"
            )
        if job.input_data_config is None or job.output_data_config is None:
            raise ResultsError(f"the service does not say where job {job.job_id} reads and writes")
        self._job = job
        self._storage = storage
        self._input = job.input_data_config
        self._bucket = job.output_data_config.s3_bucket
        self._output_key = job.output_data_config.s3_key or ""

    def __repr__(self) -> str:
        return f"JobResults({self._job.job_id!r})"

    @cached_property
    def manifest(self) -> Manifest:
        """The service's summary of the job."""
        path = self._job.manifest_file_path
        candidates = [f"{self._layout.folder}Manifest"]
        if path and self._layout.key_of(path) not in candidates:
            candidates.append(self._layout.key_of(path))
        for key in candidates:
            try:
                body = self._storage.read(self._bucket, key)
            except MissingObject:
                continue
            return decode_manifest(body, bucket=self._bucket, key=key)
        if self._job.job_status in _PROMISED:
            raise IncompleteResultsError(
                f"job {self._job.job_id} is {self._job.job_status}, but its manifest is missing",
                bucket=self._bucket,
                missing=candidates,
            )
        raise ResultsError(f"job {self._job.job_id} {self._job.job_status} and left no manifest")

    @cached_property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, and why."""
        promised, found = self.manifest.unprocessed_files_count, len(self._unprocessed)
        if promised not in (None, found):
            raise IncompleteResultsError(
                f"the manifest counts {promised} unprocessed files, there are {found}",
                bucket=self._bucket,
            )
        return self._unprocessed

    @cached_property
    def _unprocessed(self) -> tuple[UnprocessedFile, ...]:
        listed = self._listed("failed", self.manifest.unprocessed_files_list_location) or []
        return tuple(
            UnprocessedFile(
                input_key=self._layout.input_key_of(file.input, only=self._has_one_input),
                error_code=file.error_code,
                error_message=file.error_message,
            )
            for file in listed
        )

    def __iter__(self) -> Generator[Document, None, None]:  # noqa: PYI058 - it can be closed
        return self._read(self._document)

    def redacted(
        self, *, min_score: float = 0.0, replacement: str = "[{type}]"
    ) -> Generator[tuple[str, str], None, None]:
        """The input key and the redacted text of every document, as `redact` makes it.

        The source is read from the input bucket and decoded strictly as UTF-8, its line ends
        untouched.

        Raises:
            RedactionError: entities do not fit the source, which may have changed since the job.
            ResultsError: a source is gone or not UTF-8; and whatever iterating raises.
        """

        def redacted(file: _File) -> tuple[str, str]:
            entities = self._document(file).entities
            text = self._source(file.input_key)
            try:
                return file.input_key, redact(
                    text, entities, min_score=min_score, replacement=replacement
                )
            except RedactionError as error:
                reason = str(error)
            raise RedactionError(f"s3://{self._input.s3_bucket}/{file.input_key}: {reason}")

        # A bad argument is refused here, not after the first file was read.
        redact("", (), min_score=min_score, replacement=replacement)
        return self._read(redacted)

    # --- One file ---

    def _document(self, file: _File) -> Document:
        body = self._storage.read(self._bucket, file.output_key)
        content = decode_output(body, bucket=self._bucket, key=file.output_key)
        return Document(
            input_key=file.input_key,
            output_key=file.output_key,
            entities=content.entities,
            model_version=content.model_version,
        )

    def _source(self, key: str) -> str:
        bucket = self._input.s3_bucket
        try:
            body = self._storage.read(bucket, key)
            return body.decode("utf-8")
        except MissingObject:
            reason = "the source of the document is gone"
        except UnicodeDecodeError as error:
            reason = f"the source is not UTF-8 (byte {error.start})"
        raise ResultsError(reason, bucket=bucket, key=key)

    # --- All files ---

    def _read(self, read: Callable[[_File], _T]) -> Generator[_T, None, None]:
        files = self._files
        missing: list[str] = []
        with closing(ordered_map(read, files, threads=self._storage.connections)) as calls:
            for file, call in zip(files, calls, strict=True):
                try:
                    result = call.result()
                except MissingObject:
                    missing.append(file.output_key)
                else:
                    yield result
        self._hold_against_manifest(missing)

    def _hold_against_manifest(self, missing: Sequence[str]) -> None:
        manifest, listed = self.manifest, len(self._files)
        if missing:
            raise IncompleteResultsError(
                f"{len(missing)} of {listed} documents are missing",
                bucket=self._bucket,
                missing=missing,
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
            raise IncompleteResultsError("; ".join(differences), bucket=self._bucket)

    @cached_property
    def _files(self) -> tuple[_File, ...]:
        """The processed files, each once, in the order of the list."""
        layout = self._layout
        listed = self._listed("success", self.manifest.successful_files_list_location)
        if listed is None:
            names = {key: layout.path_of(key) for key in self._all_keys if layout.is_output(key)}
        else:
            names = {
                layout.key_of(file.output)
                if file.output
                else layout.output_key_of(file.input): file.input
                for file in listed
            }
        return tuple(
            _File(layout.input_key_of(name, output_key=key, only=self._has_one_input), key)
            for key, name in names.items()
        )

    def _listed(self, kind: str, location: str | None) -> list[Listed] | None:
        """What the manifest's list of this kind names; None where there is no list."""
        if location:
            keys = [self._layout.key_of(location)]
        else:
            folder = f"{self._layout.lists_folder}{kind}/"
            keys = [key for key in self._all_keys if key.startswith(folder)]
            if not keys:
                return None
        files: list[Listed] = []
        for key in keys:
            try:
                body = self._storage.read(self._bucket, key)
            except MissingObject:
                missing = key
            else:
                files += decode_list(body, bucket=self._bucket, key=key)
                continue
            raise IncompleteResultsError(
                f"the manifest's list of {kind} files is missing",
                bucket=self._bucket,
                missing=[missing],
            )
        return files

    @cached_property
    def _all_keys(self) -> list[str]:
        return self._storage.keys(self._bucket, self._layout.folder)

    @cached_property
    def _has_one_input(self) -> bool:
        return self.manifest.input_file_count == 1

    @cached_property
    def _layout(self) -> Layout:
        job_id, output_key = self._job.job_id, self._output_key
        folder = find_folder(
            job_id, output_key, lambda key: self._storage.folders(self._bucket, key)
        )
        if folder is None:
            raise ResultsError(
                f"job {job_id} is {self._job.job_status} and has no folder here",
                bucket=self._bucket,
                key=folder_key(output_key),
            )
        return Layout(folder, self._input.s3_key or "")

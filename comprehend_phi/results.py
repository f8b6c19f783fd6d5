"""What a job found: its manifest, its documents, and the files that it did not process.

The layout of the output folder is AWS's (Developer Guide, batch APIs). Where AWS leaves a name
open, the manifest tells it; where that is silent, the folder is listed.

Entities describe places in a document: offsets count code points (not bytes, not UTF-16 units),
start at 0, and the end is exclusive. The text of an entity is protected health information and
stands in no repr; nor do keys, which may name people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import msgspec

from ._storage import MissingObject, Storage, ordered_map
from .errors import IncompleteResultsError, RedactionError, ResultsError
from .models import JobProperties, JobStatus
from .redaction import redact

_T = TypeVar("_T")


class Trait(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """What the service noticed about an entity, such as a negation."""

    name: str
    score: float


class Entity(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """One piece of protected health information in a document.

    `begin_offset` and `end_offset` are code points, 0-based, the end exclusive; `score` is the
    service's confidence between 0 and 1. `type` is one of NAME, AGE, DATE, PHONE_OR_FAX, EMAIL, ID,
    URL, ADDRESS and PROFESSION today; a type that the service adds later arrives as its string.
    """

    id: int
    begin_offset: int
    end_offset: int
    score: float
    text: str
    category: str
    type: str
    traits: tuple[Trait, ...] = ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Every field but `text`; `repr()` and the rich library both show this."""
        return _shown(self, "text")

    def __repr__(self) -> str:
        return _repr(self)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one input file.

    Attributes:
        input_key: the file's key in the input bucket. Not in the repr.
        output_key: the key that this was read from, in the output bucket. Not in the repr.
        entities: in the order in which the service wrote them.
        model_version: the version of the model that found them; None where the file has none.
    """

    input_key: str
    output_key: str
    entities: tuple[Entity, ...]
    model_version: str | None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Every field but the keys; `repr()` and the rich library both show this."""
        return _shown(self, "input_key", "output_key")

    def __repr__(self) -> str:
        return _repr(self)


class UnprocessedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An input file that the service did not process.

    Attributes:
        input_key: the file's key in the input bucket. Not in the repr.
        error_code: the service's code; None in older jobs, whose lists are of names alone.
        error_message: the service's words, or None. Not in the repr.
    """

    input_key: str
    error_code: str | None
    error_message: str | None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The code alone; `repr()` and the rich library both show this."""
        return _shown(self, "input_key", "error_message")

    def __repr__(self) -> str:
        return _repr(self)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The service's summary of a job. Numbers that it left out are None.

    Attributes:
        status: the state in which the job ended, as the manifest says.
        job_type: `PHIDetection`.
        input_file_count: files in the input location.
        success_files_count: files processed.
        unprocessed_files_count: files not processed.
        total_metered_characters: what is billed, in characters.
        total_duration_seconds: how long the job ran.
        successful_files_list_location: where the list of the processed files is.
        unprocessed_files_list_location: where the list of the others is.
        failed_job_error_message: why the job failed. Not in the repr.
    """

    status: str
    job_type: str | None = None
    input_file_count: int | None = None
    success_files_count: int | None = None
    unprocessed_files_count: int | None = None
    total_metered_characters: int | None = None
    total_duration_seconds: float | None = None
    successful_files_list_location: str | None = None
    unprocessed_files_list_location: str | None = None
    failed_job_error_message: str | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Every field but locations and message; `repr()` and the rich library both show this."""
        return _shown(
            self,
            "successful_files_list_location",
            "unprocessed_files_list_location",
            "failed_job_error_message",
        )

    def __repr__(self) -> str:
        return _repr(self)


def _shown(struct: msgspec.Struct, *hidden: str) -> list[tuple[str, Any]]:
    return [
        (name, getattr(struct, name)) for name in struct.__struct_fields__ if name not in hidden
    ]


def _repr(struct: Entity | Document | UnprocessedFile | Manifest) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in struct.__rich_repr__())
    return f"{type(struct).__name__}({shown})"


def entity_counts(documents: Iterable[Document]) -> Counter[str]:
    """How many entities of each type there are in all the documents together."""
    return Counter(entity.type for document in documents for entity in document.entities)


# --- The files as the service writes them ---------------------------------------------------------


class _Summary(Manifest, frozen=True, kw_only=True, rename="pascal"):
    successful_files_count: int | None = None  # the other spelling, seen in real manifests


class _ManifestFile(msgspec.Struct, rename="pascal"):
    summary: _Summary


class _Listed(msgspec.Struct, rename="pascal"):
    input: str
    output: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class _ListFile(msgspec.Struct, rename="pascal"):
    files: list[_Listed | str]  # older jobs list names alone


class _OutputFile(msgspec.Struct, rename="pascal"):
    entities: tuple[Entity, ...]
    model_version: str | None = None


def _decode(body: bytes, kind: type[_T], *, bucket: str, key: str) -> _T:
    """The content of a file. Raises ResultsError, which neither shows nor chains a byte of it."""
    decode: Callable[[bytes], _T] = _decoders[kind]
    try:
        # msgspec does not look into members that it does not know.
        if not body.isascii():
            body.decode("utf-8")
        return decode(body)
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {error.start})"
    except msgspec.ValidationError as error:
        # msgspec names the place and the types, not the value.
        reason = f"the file is not of the documented form: {error}"
    except msgspec.DecodeError:
        reason = "the file is not JSON"
    except RecursionError:
        reason = "the file is nested too deeply"
    raise ResultsError(reason, bucket=bucket, key=key)


_decoders: dict[type, Callable[[bytes], Any]] = {
    kind: msgspec.json.Decoder(kind).decode for kind in (_ManifestFile, _ListFile, _OutputFile)
}


# --- Reading them ---------------------------------------------------------------------------------

_PHI = "PROTECTED_HEALTH_INFORMATION"
_PROMISED = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)


class _File(NamedTuple):
    input_key: str
    output_key: str


class JobResults:
    """The results of one job, read from S3 as they are asked for. `Job.results` makes these.

    Iterating yields every `Document` once, fetched in parallel with a bounded number in memory.
    At the end, what was read is held against the manifest. Iterating again reads again.

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
        candidates = [f"{self._folder}Manifest"]
        if path and self._key_of(path) not in candidates:
            candidates.append(self._key_of(path))
        for key in candidates:
            try:
                body = self._storage.read(self._bucket, key)
            except MissingObject:
                continue
            summary = _decode(body, _ManifestFile, bucket=self._bucket, key=key).summary
            members = {name: getattr(summary, name) for name in Manifest.__struct_fields__}
            if summary.success_files_count is None:
                members["success_files_count"] = summary.successful_files_count
            return Manifest(**members)
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
                input_key=self._full_input_key(_without_bucket(file.input)),
                error_code=file.error_code,
                error_message=file.error_message,
            )
            for file in listed
        )

    def __iter__(self) -> Iterator[Document]:
        return self._read(self._document)

    def redacted(
        self, *, min_score: float = 0.0, replacement: str = "[{type}]"
    ) -> Iterator[tuple[str, str]]:
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
        content = _decode(body, _OutputFile, bucket=self._bucket, key=file.output_key)
        for entity in content.entities:
            # Nearly all say the same here: one string for all spares 77 bytes each.
            if entity.category == _PHI:
                msgspec.structs.force_setattr(entity, "category", _PHI)
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

    def _read(self, read: Callable[[_File], _T]) -> Iterator[_T]:
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
        listed = self._listed("success", self.manifest.successful_files_list_location)
        if listed is None:
            return tuple(
                _File(self._full_input_key(self._path_of(key), key), key)
                for key in self._all_keys
                if key.endswith(".out") and not key.startswith(self._lists_folder)
            )
        files: dict[str, _File] = {}
        for file in listed:
            name = _without_bucket(file.input)
            output_key = self._key_of(file.output or f"{self._path_below_input(name)}.out")
            files[output_key] = _File(self._full_input_key(name, output_key), output_key)
        return tuple(files.values())

    def _listed(self, kind: str, location: str | None) -> list[_Listed] | None:
        """What the manifest's list of this kind names; None where there is no list."""
        if location:
            keys = [self._key_of(location)]
        else:
            keys = [k for k in self._all_keys if k.startswith(f"{self._lists_folder}{kind}/")]
            if not keys:
                return None
        files: list[_Listed] = []
        for key in keys:
            try:
                body = self._storage.read(self._bucket, key)
            except MissingObject:
                missing = key
            else:
                content = _decode(body, _ListFile, bucket=self._bucket, key=key)
                files.extend(
                    file if isinstance(file, _Listed) else _Listed(input=file)
                    for file in content.files
                )
                continue
            raise IncompleteResultsError(
                f"the manifest's list of {kind} files is missing",
                bucket=self._bucket,
                missing=[missing],
            )
        return files

    @cached_property
    def _all_keys(self) -> list[str]:
        return self._storage.keys(self._bucket, self._folder)

    # --- Names ---

    @cached_property
    def _folder(self) -> str:
        """The key of the job folder, with a slash at its end.

        AWS documents that the service names it `<account>-PHIDetection-<jobid>`, and shows it in
        OutputDataConfig where the request had no output key. Where it is not, it is looked for.
        """
        ending = f"-PHIDetection-{self._job.job_id}/"
        shown = _folder_key(self._output_key)
        if shown.endswith(ending):
            return shown
        for folder in self._storage.folders(self._bucket, shown):
            if folder.endswith(ending):
                return folder
        raise ResultsError(
            f"job {self._job.job_id} is {self._job.job_status} and has no folder here",
            bucket=self._bucket,
            key=shown,
        )

    @cached_property
    def _lists_folder(self) -> str:
        """Below which the lists of processed and unprocessed files lie."""
        return f"{self._folder}Manifest_{self._folder[:-1].rpartition('/')[2]}/"

    @cached_property
    def _input_folder(self) -> str:
        return _folder_key(self._input.s3_key or "")

    def _key_of(self, name: str) -> str:
        """The key of something that the manifest names: by its key, or below one of the folders."""
        name = _without_bucket(name)
        parent, folder = self._folder[:-1].rpartition("/")[::2]
        if name.startswith(self._folder):
            return name
        if name.startswith(f"{folder}/"):
            return f"{parent}/{name}" if parent else name
        return self._folder + name

    def _path_of(self, output_key: str) -> str:
        """The path of the input file below the input key, which the output's key repeats."""
        return output_key.removeprefix(self._folder).removesuffix(".out")

    def _path_below_input(self, name: str) -> str:
        if name == self._input.s3_key:  # which then names the one file
            return name.rpartition("/")[2]
        return name.removeprefix(self._input_folder)

    def _full_input_key(self, name: str, output_key: str | None = None) -> str:
        """The key of an input file, which lists may name by its key or by its path below.

        A relative path that happens to begin like the input key is told apart by the output's key.
        """
        input_key = self._input.s3_key or ""
        only = self.manifest.input_file_count == 1 and name == input_key.rpartition("/")[2]
        if name == input_key or only:  # the input key names the one file
            return input_key
        relative = output_key is not None and name == self._path_of(output_key)
        if name.startswith(self._input_folder) and not relative:
            return name
        return self._input_folder + name


def _without_bucket(name: str) -> str:
    """A key from a key, a path or an `s3://` URI."""
    if name.startswith("s3://"):
        name = name.removeprefix("s3://").partition("/")[2]
    return name.removeprefix("/")


def _folder_key(key: str) -> str:
    return key if not key or key.endswith("/") else f"{key}/"

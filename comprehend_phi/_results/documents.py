"""The files that a job leaves, as typed documents.

Entities describe places in a document: offsets count code points (not bytes, not UTF-16 units),
start at 0, and the end is exclusive. The text of an entity is protected health information and
stands in no repr; nor do keys, which may name people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from .._entities import Entity, repr_of, shown_fields
from .._shapes import InstanceShape, require
from ..errors import UnreadableObjectError

_T = TypeVar("_T")


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
        return shown_fields(self, "input_key", "output_key")

    def __repr__(self) -> str:
        return repr_of(self)


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
        return shown_fields(self, "input_key", "error_message")

    def __repr__(self) -> str:
        return repr_of(self)


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
        return shown_fields(
            self,
            "successful_files_list_location",
            "unprocessed_files_list_location",
            "failed_job_error_message",
        )

    def __repr__(self) -> str:
        return repr_of(self)


def entity_counts(documents: Iterable[Document]) -> Counter[str]:
    """Count the entities of each type in all the documents together.

    Raises:
        RequestValidationError: `documents` is not what its type says.
    """
    require("entity_counts", "documents", _DOCUMENTS, documents)
    counts: Counter[str] = Counter()
    for document in documents:
        require("entity_counts", "documents", _DOCUMENT, document)
        counts.update(entity.type for entity in document.entities)
    return counts


_DOCUMENTS = InstanceShape(Iterable, "such as the results of a job")
_DOCUMENT = InstanceShape(Document)


# --- The files as the service writes them ---------------------------------------------------------

_PHI = "PROTECTED_HEALTH_INFORMATION"


class _Summary(Manifest, frozen=True, kw_only=True, rename="pascal"):
    successful_files_count: int | None = None  # the other spelling, seen in real manifests


class _ManifestFile(msgspec.Struct, rename="pascal"):
    summary: _Summary


class Listed(msgspec.Struct, rename="pascal"):
    """An entry of a list of processed or unprocessed files."""

    input: str
    output: str | None = None
    input_size: int | None = None
    error_code: str | None = None
    error_message: str | None = None


class _ListFile(msgspec.Struct, rename="pascal"):
    files: list[Listed | str]  # older jobs list names alone


class OutputFile(msgspec.Struct, rename="pascal"):
    """What was found in one input file, as the `.out` file says."""

    entities: tuple[Entity, ...]
    model_version: str | None = None


def decode_manifest(body: bytes, *, bucket: str, key: str) -> Manifest:
    """The manifest in `body`. Raises UnreadableObjectError, as the other two do."""
    summary = _decode(_manifest_file, body, bucket, key).summary
    members = {name: getattr(summary, name) for name in Manifest.__struct_fields__}
    if summary.success_files_count is None:
        members["success_files_count"] = summary.successful_files_count
    return Manifest(**members)


def decode_list(body: bytes, *, bucket: str, key: str) -> list[Listed]:
    """The entries of the list in `body`."""
    files = _decode(_list_file, body, bucket, key).files
    return [file if isinstance(file, Listed) else Listed(input=file) for file in files]


def decode_output(body: bytes, *, bucket: str, key: str) -> OutputFile:
    """The content of the `.out` file in `body`."""
    content = _decode(_output_file, body, bucket, key)
    for entity in content.entities:
        # Nearly all say the same here: one string for all spares 77 bytes each.
        if entity.category == _PHI:
            msgspec.structs.force_setattr(entity, "category", _PHI)
    return content


_manifest_file = msgspec.json.Decoder(_ManifestFile)
_list_file = msgspec.json.Decoder(_ListFile)
_output_file = msgspec.json.Decoder(OutputFile)


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes, bucket: str, key: str) -> _T:
    """Return the content of a file.

    Raises:
        UnreadableObjectError: it is broken. The error neither shows nor chains a byte of it.
    """
    try:
        # msgspec does not look into members that it does not know.
        if not body.isascii():
            body.decode("utf-8")
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {error.start})"
    except msgspec.ValidationError as error:
        # msgspec names the place and the types, not the value.
        reason = f"the file is not of the documented form: {error}"
    except msgspec.DecodeError:
        reason = "the file is not JSON"
    except RecursionError:
        reason = "the file is nested too deeply"
    raise UnreadableObjectError(reason, bucket=bucket, key=key)

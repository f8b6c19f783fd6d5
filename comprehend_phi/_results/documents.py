"""What a job found, as typed objects: documents, unprocessed files and the manifest.

The text of an entity is protected health information and appears in no repr. Neither do keys, which
may name people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

from .._entities import Entity
from .._shapes import InstanceShape, check_argument
from .._structs import PrivateStruct


class Document(PrivateStruct, frozen=True, kw_only=True):
    """The entities that the service detected in one input file.

    Attributes:
        input_key: the file's key in the input bucket. Not in the repr.
        output_key: the key of the result file in the output bucket. Not in the repr.
        entities: the entities, in the service's order. Their offsets count code points (not bytes,
            not UTF-16 code units) from 0, and the end is exclusive.
        model_version: the version of the model that detected them; None if the file does not say.
    """

    _private: ClassVar[tuple[str, ...]] = ("input_key", "output_key")

    input_key: str
    output_key: str
    entities: tuple[Entity, ...]
    model_version: str | None


class UnprocessedFile(PrivateStruct, frozen=True, kw_only=True):
    """An input file that the service did not process.

    Attributes:
        input_key: the file's key in the input bucket. Not in the repr.
        error_code: the service's error code; None in the results of older jobs, which list only
            names.
        error_message: the service's message, or None. Not in the repr.
    """

    _private: ClassVar[tuple[str, ...]] = ("input_key", "error_message")

    input_key: str
    error_code: str | None
    error_message: str | None


class Manifest(PrivateStruct, frozen=True, kw_only=True, rename="pascal"):
    """The service's summary of a job. A value that the service did not write is None.

    Attributes:
        status: the state in which the job ended, according to the manifest.
        job_type: `PHIDetection`.
        input_file_count: the number of files in the input location.
        success_files_count: the number of processed files.
        unprocessed_files_count: the number of unprocessed files.
        total_metered_characters: the number of billed characters.
        total_duration_seconds: how long the job ran, in seconds.
        successful_files_list_location: where the list of processed files is. Not in the repr.
        unprocessed_files_list_location: where the list of unprocessed files is. Not in the repr.
        failed_job_error_message: why the job failed. Not in the repr.
    """

    _private: ClassVar[tuple[str, ...]] = (
        "successful_files_list_location",
        "unprocessed_files_list_location",
        "failed_job_error_message",
    )

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


def entity_counts(documents: Iterable[Document]) -> Counter[str]:
    """Count the entities of each type in all `documents` together.

    Raises:
        RequestValidationError: `documents` is not an iterable of `Document` objects.
    """
    check_argument("entity_counts", "documents", _DOCUMENTS, documents)
    counts: Counter[str] = Counter()
    for document in documents:
        check_argument("entity_counts", "documents", DOCUMENT, document)
        counts.update(entity.type for entity in document.entities)
    return counts


_DOCUMENTS = InstanceShape(Iterable, "pass the results of a job, for example")
DOCUMENT = InstanceShape(Document)

"""The work of a job: read the notes, detect PHI, write the results.

The results are laid out in the output bucket as the service does it:

    <key>/<account>-PHIDetection-<jobid>/                         the job folder
        <path of the input below the input key>.out               one per processed file
        Manifest                                                  the summary
        Manifest_<account>-PHIDetection-<jobid>/success/<name>    the processed files
        Manifest_<account>-PHIDetection-<jobid>/failed/<name>     the unprocessed files

The layout and the members of the manifest are AWS's (Developer Guide, batch APIs). AWS does not
document the names below success/ and failed/, the codes of unprocessed files, the messages, and
which state a job ends in; these are our rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from attrs import frozen

from .._entities import Entity
from .._results.layout import folder_key
from ..models import JobStatus
from .detector import Detector
from .jobs import MODEL_VERSION, Job, Outcome
from .limits import Limits
from .object_store import ObjectStore


@frozen(kw_only=True)
class Processed:
    """A file that was processed.

    Attributes:
        path: the key below the input key.
        size: in bytes.
        characters: in code points.
    """

    key: str
    path: str
    size: int
    characters: int
    entities: Sequence[Entity]


@frozen(kw_only=True)
class Unprocessed:
    """A file that was not processed, and why."""

    key: str
    code: str
    message: str


class JobFailure(Exception):
    """The job fails as a whole."""


def process(job: Job, store: ObjectStore, detector: Detector, limits: Limits) -> Outcome:
    """Do the work of a job that has run for its whole duration."""
    source, target = job.request["InputDataConfig"], job.request["OutputDataConfig"]
    for bucket, role in ((source["S3Bucket"], "input"), (target["S3Bucket"], "output")):
        if not store.has_bucket(bucket):
            return Outcome(
                status=JobStatus.FAILED,
                message=f"The {role} bucket does not exist or cannot be accessed.",
            )
    processed: list[Processed] = []
    unprocessed: list[Unprocessed] = []
    message: str | None = None
    try:
        for key, path, body in _read(store, source["S3Bucket"], source.get("S3Key", ""), limits):
            file = _process_file(key, path, body, detector, limits)
            if isinstance(file, Processed):
                processed.append(file)
            else:
                unprocessed.append(file)
    except JobFailure as failure:
        message = str(failure)
    else:
        if not processed:
            message = "None of the input files could be processed."
    if message is not None:
        status = JobStatus.FAILED
    elif unprocessed:
        status = JobStatus.PARTIAL_SUCCESS
        message = f"{len(unprocessed)} files were not processed."
    else:
        status = JobStatus.COMPLETED
    manifest = _write(store, job, status, message, processed, unprocessed)
    return Outcome(status=status, message=message, manifest=manifest)


def _read(
    store: ObjectStore, bucket: str, key: str, limits: Limits
) -> Iterator[tuple[str, str, bytes]]:
    """Yield the key, the path below the input key and the bytes of each input file."""
    # Our rule: the input key names a folder or one object, never just the beginning of a name.
    folder = folder_key(key)
    names = [
        name
        for name in store.keys(bucket)
        if (name.startswith(folder) and not name.endswith("/")) or name == key
    ]
    if not names:
        raise JobFailure("The input location contains no files.")
    if len(names) > limits.files:
        raise JobFailure(f"The job has {len(names)} files; the limit is {limits.files}.")
    total = 0
    for name in names:
        body = store.read(bucket, name)
        total += len(body)
        if total > limits.total_bytes:
            raise JobFailure(
                f"The job's files are larger than {limits.total_bytes} bytes together."
            )
        yield name, name.rpartition("/")[2] if name == key else name.removeprefix(folder), body


def _process_file(
    key: str, path: str, body: bytes, detector: Detector, limits: Limits
) -> Processed | Unprocessed:
    if len(body) > limits.file_bytes:
        return Unprocessed(
            key=key,
            code="DOCUMENT_SIZE_EXCEEDED",
            message=f"The file has {len(body)} bytes; the limit is {limits.file_bytes}.",
        )
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return Unprocessed(
            key=key,
            code="INVALID_ENCODING",
            message=f"The file is not UTF-8: the byte at {error.start} cannot be decoded.",
        )
    return Processed(
        key=key, path=path, size=len(body), characters=len(text), entities=detector(text)
    )


def _write(
    store: ObjectStore,
    job: Job,
    status: JobStatus,
    message: str | None,
    processed: Sequence[Processed],
    unprocessed: Sequence[Unprocessed],
) -> str:
    """Write the results of a job and return the key of its manifest."""
    source, target = job.request["InputDataConfig"], job.request["OutputDataConfig"]
    bucket, folder = target["S3Bucket"], job.folder

    def put(key: str, content: Any) -> str:
        store.write(bucket, key, msgspec.json.encode(content))
        return key

    def output_key(file: Processed) -> str:
        return f"{folder}{file.path}.out"

    for file in processed:
        put(
            output_key(file),
            {
                "Entities": file.entities,
                "UnmappedAttributes": [],
                "ModelVersion": MODEL_VERSION,
            },
        )
    lists = f"{folder}Manifest_{job.name}/"
    success = put(
        f"{lists}success/files",
        {
            "Files": [
                {"Input": file.key, "Output": output_key(file), "InputSize": file.size}
                for file in processed
            ]
        },
    )
    failed = put(
        f"{lists}failed/files",
        {
            "Files": [
                {"Input": file.key, "ErrorCode": file.code, "ErrorMessage": file.message}
                for file in unprocessed
            ]
        },
    )
    summary = {
        "Status": status.value,
        "JobType": "PHIDetection",
        "InputDataConfiguration": {"Bucket": source["S3Bucket"], "Path": source.get("S3Key", "")},
        "OutputDataConfiguration": {"Bucket": bucket, "Path": folder},
        "InputFileCount": len(processed) + len(unprocessed),
        "TotalMeteredCharacters": sum(file.characters for file in processed),
        "UnprocessedFilesCount": len(unprocessed),
        "SuccessFilesCount": len(processed),
        "TotalDurationSeconds": round(job.duration.total_seconds()),
        "SuccessfulFilesListLocation": success,
        "UnprocessedFilesListLocation": failed,
        "FailedJobErrorMessage": (message or "") if status is JobStatus.FAILED else "",
    }
    return put(f"{folder}Manifest", {"Summary": summary})

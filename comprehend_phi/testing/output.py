"""The output of a job, as the service lays it out in the output bucket.

    <key>/<account>-PHIDetection-<jobid>/                         the job folder
        <path of the input below the input key>.out               one per processed file
        Manifest                                                  the summary
        Manifest_<account>-PHIDetection-<jobid>/success/<name>    the files processed
        Manifest_<account>-PHIDetection-<jobid>/failed/<name>     the files not processed

The layout and the manifest's members are AWS's (Developer Guide, batch APIs). The names below
success/ and failed/, and the codes of unprocessed files, are ours: AWS does not document them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from attrs import define, field, frozen

from .._entities import Entity

MODEL_VERSION = "0.1.0"


class Storage(Protocol):
    """The S3 that the local service reads from and writes to."""

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is such a bucket."""
        ...

    def keys(self, bucket: str) -> Sequence[str]:
        """All keys of a bucket, in order."""
        ...

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        ...

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Create or replace an object."""
        ...


@frozen(kw_only=True)
class Processed:
    """A file that was read, and what was found in it."""

    key: str
    path: str  # the key below the input key
    size: int  # bytes
    characters: int  # code points
    entities: tuple[Entity, ...]


@frozen(kw_only=True)
class Unprocessed:
    """A file that was not processed, and why."""

    key: str
    code: str
    message: str


@define
class Output:
    """Everything that a job found, before it is written."""

    processed: list[Processed] = field(factory=list[Processed])
    unprocessed: list[Unprocessed] = field(factory=list[Unprocessed])


def read_file(
    body: bytes, key: str, path: str, max_bytes: int, detector: Callable[[str], Sequence[Entity]]
) -> Processed | Unprocessed:
    """One input file through the detector, or the reason why not."""
    if len(body) > max_bytes:
        return Unprocessed(
            key=key,
            code="DOCUMENT_SIZE_EXCEEDED",
            message=f"The file has {len(body)} bytes; the limit is {max_bytes}.",
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return Unprocessed(
            key=key,
            code="INVALID_ENCODING",
            message=f"The file is not UTF-8: the byte at {error.start} cannot be decoded.",
        )
    return Processed(
        key=key, path=path, size=len(body), characters=len(text), entities=tuple(detector(text))
    )


def write(
    storage: Storage,
    output: Output,
    *,
    job: Mapping[str, Any],
    folder: str,
    name: str,
    status: str,
    seconds: int,
    message: str | None,
) -> str:
    """Write what a job found below `folder`; returns the key of the manifest.

    Args:
        storage: where to.
        output: what was found.
        job: the members of the request that started the job.
        folder: the key of the job folder, with a slash at its end.
        name: `<account>-PHIDetection-<jobid>`.
        status: the state in which the job ends.
        seconds: how long the job ran.
        message: why it failed, or None.
    """
    source, target = job["InputDataConfig"], job["OutputDataConfig"]
    bucket = target["S3Bucket"]

    def put(key: str, content: Any) -> str:
        storage.write(bucket, key, msgspec.json.encode(content))
        return key

    for file in output.processed:
        put(
            f"{folder}{file.path}.out",
            {
                "Entities": file.entities,
                "UnmappedAttributes": [],
                "ModelVersion": MODEL_VERSION,
            },
        )
    lists = f"{folder}Manifest_{name}/"
    success = put(
        f"{lists}success/files",
        {
            "Files": [
                {"Input": file.key, "Output": f"{folder}{file.path}.out", "InputSize": file.size}
                for file in output.processed
            ]
        },
    )
    failed = put(
        f"{lists}failed/files",
        {
            "Files": [
                {"Input": file.key, "ErrorCode": file.code, "ErrorMessage": file.message}
                for file in output.unprocessed
            ]
        },
    )
    summary = {
        "Status": status,
        "JobType": "PHIDetection",
        "InputDataConfiguration": {"Bucket": source["S3Bucket"], "Path": source.get("S3Key", "")},
        "OutputDataConfiguration": {"Bucket": bucket, "Path": folder},
        "InputFileCount": len(output.processed) + len(output.unprocessed),
        "TotalMeteredCharacters": sum(file.characters for file in output.processed),
        "UnprocessedFilesCount": len(output.unprocessed),
        "SuccessFilesCount": len(output.processed),
        "TotalDurationSeconds": seconds,
        "SuccessfulFilesListLocation": success,
        "UnprocessedFilesListLocation": failed,
        "FailedJobErrorMessage": message or "",
    }
    return put(f"{folder}Manifest", {"Summary": summary})

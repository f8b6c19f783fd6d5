"""Writing the results of a job, in the layout of the service.

    <key>/<account>-PHIDetection-<jobid>/                         the job folder
        <path of the input below the input key>.out               one per processed file
        Manifest                                                  the summary
        Manifest_<account>-PHIDetection-<jobid>/success/<name>    the processed files
        Manifest_<account>-PHIDetection-<jobid>/failed/<name>     the unprocessed files

The layout and the members of the manifest are AWS's (Developer Guide, batch APIs). `Rules` has the
details that AWS does not document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import frozen

from .._entities import Entity
from ..corpus.tally import CHARACTERS_PER_UNIT, units
from ..models import JobStatus
from .jobs import MODEL_VERSION, LocalJob
from .object_store import ObjectStore
from .rules import Rules


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
    path: str
    code: str
    message: str


def write_results(
    store: ObjectStore,
    job: LocalJob,
    status: JobStatus,
    message: str | None,
    processed: Sequence[Processed],
    unprocessed: Sequence[Unprocessed],
) -> str:
    """Write the results of a job and return the key of its manifest."""
    source, target = job.request["InputDataConfig"], job.request["OutputDataConfig"]
    rules, bucket, folder = job.rules, target["S3Bucket"], job.folder

    def put(path: str, content: Any) -> str:
        store.write(bucket, folder + path, msgspec.json.encode(content))
        return folder + path

    def named(bucket: str, key: str, path: str) -> str:
        """Return the name of a file in a list."""
        return {"key": key, "uri": f"s3://{bucket}/{key}", "path": path}[rules.file_names]

    def input_name(file: Processed | Unprocessed) -> str:
        return named(source["S3Bucket"], file.key, file.path)

    def list_location(key: str) -> str | None:
        return {"key": key, "uri": f"s3://{bucket}/{key}", "absent": None}[rules.list_locations]

    for file in processed:
        put(
            f"{file.path}.out",
            {
                "Entities": file.entities,
                "UnmappedAttributes": [],
                "ModelVersion": MODEL_VERSION,
            },
        )
    success = put(
        f"Manifest_{job.name}/success/{rules.list_name}",
        {
            "Files": [
                {
                    "Input": input_name(file),
                    "Output": named(bucket, f"{folder}{file.path}.out", f"{file.path}.out"),
                    "InputSize": file.size,
                }
                for file in processed
            ]
        },
    )
    failed = put(
        f"Manifest_{job.name}/failed/{rules.list_name}",
        {
            "Files": [
                input_name(file)
                if rules.unprocessed_files == "names"
                else {
                    "Input": input_name(file),
                    "ErrorCode": file.code,
                    "ErrorMessage": file.message,
                }
                for file in unprocessed
            ]
        },
    )
    if rules.write_test_file == "present":
        store.write(bucket, f"{folder}ComprehendMedicalS3WriteTestFile", b"")
    summary = {
        "Status": status.value,
        "JobType": "PHIDetection",
        "InputDataConfiguration": {"Bucket": source["S3Bucket"], "Path": source.get("S3Key", "")},
        "OutputDataConfiguration": {"Bucket": bucket, "Path": folder},
        "InputFileCount": len(processed) + len(unprocessed),
        "TotalMeteredCharacters": _metered([file.characters for file in processed], rules),
        "UnprocessedFilesCount": len(unprocessed),
        rules.success_count: len(processed),
        "TotalDurationSeconds": round(job.duration.total_seconds()),
        "SuccessfulFilesListLocation": list_location(success),
        "UnprocessedFilesListLocation": list_location(failed),
        "FailedJobErrorMessage": (message or "") if status is JobStatus.FAILED else "",
    }
    present = {name: value for name, value in summary.items() if value is not None}
    return put("Manifest", {"Summary": present})


def _metered(characters: Sequence[int], rules: Rules) -> int:
    """Return the metered characters of files with so many characters each."""
    match rules.metered_characters:
        case "exact":
            return sum(characters)
        case "units-per-file":
            return sum(map(units, characters)) * CHARACTERS_PER_UNIT
        case "units":
            return units(sum(characters)) * CHARACTERS_PER_UNIT

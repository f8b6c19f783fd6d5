"""The properties of a job, read from its output folder instead of the service."""

from __future__ import annotations

from contextlib import suppress

from .._keys import folder_key
from .._shapes import InstanceShape, check_argument
from ..errors import MissingManifestError, MissingObjectError, RequestValidationError
from ..models import (
    InputDataConfig,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    S3Location,
    unchecked_location,
)
from .decoding import decode_input_location, decode_manifest
from .layout import job_id_of
from .storage import JobStorage, Storage

_LOCATION = InstanceShape(S3Location, "such as S3Location.from_uri('s3://bucket/folder')")


def job_id_at(location: S3Location) -> str:
    """Return the id of the job that wrote the folder at `location`.

    Raises:
        RequestValidationError: `location` is not a location, or no output folder has its name.
    """
    check_argument("results_at", "location", _LOCATION, location)
    job_id = job_id_of(location.key or "")
    if job_id is None:
        raise RequestValidationError(
            owner="results_at",
            field="location",
            shape="S3Location",
            reason=(
                "must be the output folder of one job, whose name is"
                " <account>-PHIDetection-<job id>"
            ),
        )
    return job_id


def properties_at(location: S3Location, storage: Storage) -> JobProperties:
    """Return what the manifest at `location` says about its job. Everything else is None.

    Raises:
        MissingManifestError: there is no manifest.
        UnreadableObjectError: the manifest is broken or does not name the input location.
        ResultsError, ServiceError, TransportError: the manifest cannot be read.
    """
    job_id, folder = job_id_at(location), folder_key(location.key)
    bucket, key = location.bucket, f"{folder}Manifest"
    with suppress(MissingObjectError):
        body = JobStorage(storage, job_id).read(bucket, key).body
        manifest = decode_manifest(body, bucket=bucket, key=key)
        source = decode_input_location(body, bucket=bucket, key=key)
        return JobProperties(
            job_id=job_id,
            job_status=JobStatus(manifest.status),
            input_data_config=unchecked_location(InputDataConfig, source.bucket, source.path),
            output_data_config=unchecked_location(OutputDataConfig, bucket, folder),
        )
    raise MissingManifestError(
        "the folder has no manifest; pass the output folder of a job that has ended",
        bucket=bucket,
        key=key,
        job_id=job_id,
    )

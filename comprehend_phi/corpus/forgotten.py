"""Jobs that the service does not know: what is known about them anyway.

The service forgets a job 120 days after its submission (AWS, `ExpirationTime`). It may not know a
job yet that was started just now, and it never knows the jobs of other accounts and regions. The
results of a job stay, so its manifest says how it ended. Everything else here is our rule.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from attrs import evolve

from .._client_base import s3_of
from .._results.listing import Listing
from ..errors import MissingManifestError, ResourceNotFoundException, ResultsError
from ..models import JobProperties, JobStatus
from .limits import KEPT_FOR
from .plan import PlannedJob

if TYPE_CHECKING:
    from .._client import PHIClient

# The service may need this long until it knows a job that it has just started. Our rule.
_SETTLES_IN = timedelta(minutes=15)


class Age(Enum):
    """What the time since its start says about a job that the service does not know."""

    NEW = auto()  # the service may still learn about it
    KNOWN = auto()  # it should know the job, so the account or the region may be wrong
    FORGOTTEN = auto()


def age_of(sent: datetime | None, now: datetime) -> Age:
    """Return what the time of a start says.

    Args:
        sent: when the start was sent; None if that is unknown.
        now: the current time.
    """
    if sent is None:
        return Age.KNOWN
    if now - sent >= KEPT_FOR:
        return Age.FORGOTTEN
    # The clock may have been set back since. If it was far ahead, the job would be new for long.
    return Age.NEW if abs(now - sent) < _SETTLES_IN else Age.KNOWN


def properties_of(
    client: PHIClient, job: PlannedJob, job_id: str, status: JobStatus
) -> tuple[JobProperties, bool]:
    """Return the properties of a job that has ended, and whether they come from the service.

    Args:
        client: asks the service.
        job: the planned job.
        job_id: the id of its job.
        status: how the job ended.

    Raises:
        ServiceError, TransportError: the service cannot be asked.
    """
    request = job.request
    try:
        properties = client.describe_phi_detection_job(job_id)
    except ResourceNotFoundException:
        properties = JobProperties(
            job_id=job_id, job_status=status, output_data_config=request.output_data_config
        )
        is_described = False
    else:
        is_described = True
    return evolve(properties, input_data_config=request.input_data_config), is_described


def read_end(client: PHIClient, job: PlannedJob, job_id: str) -> JobProperties | None:
    """Return how a job ended according to its manifest, or None if it left no manifest.

    The service writes the manifest when a job ends. Its folder has the id of the job in its name,
    so nothing else can be taken for it.

    Raises:
        ResultsError: the bucket of the results is in another region, or S3 refuses to list or read
            it.
        ServiceError, TransportError: S3 failed.
    """
    s3, output = s3_of(client), job.request.output_data_config
    storage = s3.storage()
    ended = JobProperties(
        job_id=job_id,
        job_status=JobStatus.FAILED,  # or any other end
        input_data_config=job.request.input_data_config,
        output_data_config=output,
    )
    with suppress(MissingManifestError):
        manifest = Listing(ended, storage, is_described=False).manifest
        status = JobStatus(manifest.status)
        if status.is_terminal:
            return evolve(ended, job_status=status, message=manifest.failed_job_error_message)
    region = storage.region(output.s3_bucket)
    if region not in (None, s3.region):
        raise ResultsError(
            f"the bucket is in {region}, but the client uses {s3.region}", bucket=output.s3_bucket
        )
    return None

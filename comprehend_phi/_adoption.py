"""Which job of a given name belongs to a request, or how to start it again. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from attrs import evolve

from ._keys import folder_key
from ._shapes import JOB_NAME, check_argument
from .errors import JobMismatchError
from .models import JobFilter, JobProperties, JobStatus, StartPHIDetectionJobRequest, request_token

_ENDED_BADLY = frozenset({JobStatus.FAILED, JobStatus.STOPPED})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def name_filter(method: str, request: StartPHIDetectionJobRequest) -> JobFilter:
    """Return the filter that lists the jobs with the request's name.

    Args:
        method: the name of the client's method, for the error.
        request: the argument of the method.

    Raises:
        RequestValidationError: the request has no job name.
    """
    check_argument(method, "request.job_name", JOB_NAME, request.job_name)
    return JobFilter(job_name=request.job_name)


def find_job(
    request: StartPHIDetectionJobRequest,
    jobs: Sequence[JobProperties],
    *,
    ended_badly: Collection[str] = (),
) -> JobProperties | StartPHIDetectionJobRequest:
    """Return the job that `request` describes, or the request that starts it.

    The returned request has its own token if no job has ended badly. Otherwise, its token depends
    on the ids of all jobs that did, so two processes that see the same jobs start only one.

    Args:
        request: a request with a job name.
        jobs: all jobs with this name, in any order.
        ended_badly: the ids of other jobs that ended badly, which the service may have forgotten.

    Raises:
        JobMismatchError: the job has other parameters than `request`.
    """
    listed = (job.job_id for job in jobs if job.job_status in _ENDED_BADLY)
    failed = sorted({*listed, *ended_badly})
    usable = [job for job in jobs if job.job_status not in _ENDED_BADLY]
    if not usable:
        if not failed:
            return request
        token = request_token(request.client_request_token, *failed)
        return evolve(request, client_request_token=token)
    job = newest(usable)
    if differences := _differences(request, job):
        raise JobMismatchError(job, differences=differences)
    return job


def newest(jobs: Sequence[JobProperties]) -> JobProperties:
    """Return the job that was submitted last."""
    # Submission times have whole seconds, so the id decides between jobs of one second.
    return max(jobs, key=lambda job: (job.submit_time or _LONG_AGO, job.job_id))


def _differences(request: StartPHIDetectionJobRequest, job: JobProperties) -> tuple[str, ...]:
    """Return the names of the parameters in which the job differs from the request."""
    source, target = request.input_data_config, request.output_data_config
    shown_source, shown_target = job.input_data_config, job.output_data_config
    same = {
        "job_name": job.job_name == request.job_name,
        "input_data_config": shown_source is not None
        and shown_source.s3_bucket == source.s3_bucket
        and folder_key(shown_source.s3_key) == folder_key(source.s3_key),
        "output_data_config": shown_target is not None
        and shown_target.s3_bucket == target.s3_bucket
        and _output_folder(shown_target.s3_key or "", job.job_id) == folder_key(target.s3_key),
        "data_access_role_arn": job.data_access_role_arn == request.data_access_role_arn,
        "language_code": job.language_code == request.language_code,
        "kms_key": _is_same_kms_key(request.kms_key, job.kms_key),
    }
    return tuple(name for name, is_same in same.items() if not is_same)


def _output_folder(key: str, job_id: str) -> str:
    """Return the output folder of a request from the key that the service shows.

    The service adds the name of the job's own folder to the key. Nobody outside AWS knows whether
    it always puts a slash before this name.
    """
    requested = re.sub(rf"[0-9]{{12}}-PHIDetection-{re.escape(job_id)}/?$", "", key)
    return folder_key(requested)


def _is_same_kms_key(given: str | None, shown: str | None) -> bool:
    """Return whether both may be the same key.

    AWS may show the ARN of a key that was given by id or alias. Only KMS knows to which key an
    alias belongs, so an alias matches every key.
    """
    if given is None or shown is None:
        return given == shown
    if _is_alias(given) != _is_alias(shown):
        return True
    return shown == given or shown.endswith(("/" + given, ":" + given))


def _is_alias(kms_key: str) -> bool:
    # An id, an alias, or the ARN of one of them (AWS KMS Developer Guide, "Key identifiers").
    return kms_key.rpartition(":")[2].startswith("alias/")

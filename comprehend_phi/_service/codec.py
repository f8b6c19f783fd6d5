"""Between the service's dicts and our models.

Only this module knows the service's spelling. Decoding checks types, never the rules for what we
send: whatever AWS answers in the right form is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from ..models import (
    DescribePHIDetectionJobRequest,
    InputDataConfig,
    JobPage,
    JobProperties,
    JobStatus,
    ListPHIDetectionJobsRequest,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)

Members = Mapping[str, Any]
_T = TypeVar("_T")

# --- Requests to dicts ----------------------------------------------------------------------------


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def encode_start(request: StartPHIDetectionJobRequest) -> dict[str, Any]:
    """The members of a StartPHIDetectionJob request."""
    source, target = request.input_data_config, request.output_data_config
    return _present(
        InputDataConfig=_present(S3Bucket=source.s3_bucket, S3Key=source.s3_key),
        OutputDataConfig=_present(S3Bucket=target.s3_bucket, S3Key=target.s3_key),
        DataAccessRoleArn=request.data_access_role_arn,
        LanguageCode=request.language_code,
        JobName=request.job_name,
        KMSKey=request.kms_key,
        ClientRequestToken=request.client_request_token,
    )


def encode_job_id(
    request: DescribePHIDetectionJobRequest | StopPHIDetectionJobRequest,
) -> dict[str, Any]:
    """The members of a DescribePHIDetectionJob or StopPHIDetectionJob request."""
    return {"JobId": request.job_id}


def encode_list(request: ListPHIDetectionJobsRequest) -> dict[str, Any]:
    """The members of a ListPHIDetectionJobs request."""
    wanted = request.filter
    return _present(
        Filter=wanted
        and _present(
            JobName=wanted.job_name,
            JobStatus=wanted.job_status and str(wanted.job_status),
            SubmitTimeBefore=wanted.submit_time_before,
            SubmitTimeAfter=wanted.submit_time_after,
        ),
        MaxResults=request.max_results,
        NextToken=request.next_token,
    )


def token_of(members: Members) -> str | None:
    """Return the client request token of a request, if it has one."""
    return cast("str | None", members.get("ClientRequestToken"))


def private_values(members: Members) -> tuple[str | None, ...]:
    """Return the values of a request that no message may show, because they may name people."""
    locations = (members.get("InputDataConfig", {}), members.get("OutputDataConfig", {}))
    return (
        members.get("JobName"),
        members.get("Filter", {}).get("JobName"),
        *(location.get("S3Key") for location in locations),
    )


# --- Dicts to responses ---------------------------------------------------------------------------


class InvalidResponse(Exception):
    """An answer lacks what it must contain; the one argument says what, without any value."""


def _member(members: Members, name: str, kind: type[_T]) -> _T | None:
    value = members.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise InvalidResponse(f"its {name} is of type {type(value).__name__}, not {kind.__name__}")


def _required(members: Members, name: str, kind: type[_T]) -> _T:
    value = _member(members, name, kind)
    if not value:
        raise InvalidResponse(f"it has no {name}")
    return value


def _map(members: Members, name: str) -> Members | None:
    return cast("Members | None", _member(members, name, dict))


def _time(members: Members, name: str) -> datetime | None:
    value = _member(members, name, datetime)
    return value and value.astimezone(UTC)


def _unchecked(cls: type[_T], **members: Any) -> _T:
    """An instance of a model without its validators.

    attrs' own switch would turn them off for every thread of the process.
    """
    instance = object.__new__(cls)
    for name, value in members.items():
        object.__setattr__(instance, name, value)
    return instance


def _location(members: Members, name: str, cls: type[_T]) -> _T | None:
    location = _map(members, name)
    if location is None:
        return None
    return _unchecked(
        cls, s3_bucket=_member(location, "S3Bucket", str), s3_key=_member(location, "S3Key", str)
    )


def _job_properties(members: Members) -> JobProperties:
    return JobProperties(
        job_id=_required(members, "JobId", str),
        job_status=JobStatus(_required(members, "JobStatus", str)),
        job_name=_member(members, "JobName", str),
        message=_member(members, "Message", str),
        submit_time=_time(members, "SubmitTime"),
        end_time=_time(members, "EndTime"),
        expiration_time=_time(members, "ExpirationTime"),
        input_data_config=_location(members, "InputDataConfig", InputDataConfig),
        output_data_config=_location(members, "OutputDataConfig", OutputDataConfig),
        language_code=_member(members, "LanguageCode", str),
        data_access_role_arn=_member(members, "DataAccessRoleArn", str),
        manifest_file_path=_member(members, "ManifestFilePath", str),
        kms_key=_member(members, "KMSKey", str),
        model_version=_member(members, "ModelVersion", str),
    )


def decode_start(answer: Members) -> StartPHIDetectionJobResponse:
    """The answer to StartPHIDetectionJob. Raises InvalidResponse without a JobId."""
    return StartPHIDetectionJobResponse(job_id=_required(answer, "JobId", str))


def decode_describe(answer: Members) -> JobProperties:
    """The answer to DescribePHIDetectionJob. Raises InvalidResponse without JobId or JobStatus."""
    name = "ComprehendMedicalAsyncJobProperties"
    job = _map(answer, name)
    if job is None:
        raise InvalidResponse(f"it has no {name}")
    return _job_properties(job)


def decode_list(answer: Members) -> JobPage:
    """The answer to ListPHIDetectionJobs. Raise InvalidResponse if it has no list; an empty one is fine.

    A cut answer comes out of botocore as an empty map: without this it would read as "no jobs".
    """
    name = "ComprehendMedicalAsyncJobPropertiesList"
    jobs = cast("list[Members] | None", _member(answer, name, list))
    if jobs is None:
        raise InvalidResponse(f"it has no {name}")
    return JobPage(
        jobs=tuple(_job_properties(job) for job in jobs),
        next_token=_member(answer, "NextToken", str) or None,
    )


def decode_stop(answer: Members) -> str:
    """The answer to StopPHIDetectionJob, a job id. Raises InvalidResponse without one."""
    return _required(answer, "JobId", str)

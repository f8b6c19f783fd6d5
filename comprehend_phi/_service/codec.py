"""Translate the service's dicts into our responses. `_members` translates our requests.

Decoding checks types only. The rules for what we send do not apply, so no response is rejected for
breaking one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..models import (
    InputDataConfig,
    JobPage,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    StartPHIDetectionJobResponse,
    unchecked_location,
)
from .invalid_response import InvalidResponse

if TYPE_CHECKING:
    from .._entities import DetectPHIResponse

Params = Mapping[str, Any]  # of a request
_Structure = Mapping[str, Any]  # a response, or a structure in it
_T = TypeVar("_T")
_Location = TypeVar("_Location", InputDataConfig, OutputDataConfig)

# --- Requests -------------------------------------------------------------------------------------


def token_of(params: Params) -> str | None:
    """Return the client request token of a request, if it has one."""
    return cast("str | None", params.get("ClientRequestToken"))


def text_of(params: Params) -> str:
    """Return the text of a request, if it has one. No message may show any word of it."""
    return cast("str", params.get("Text", ""))


def private_values(params: Params) -> tuple[str | None, ...]:
    """Return the values in a request that no message may show, because they may name people."""
    locations = (params.get("InputDataConfig", {}), params.get("OutputDataConfig", {}))
    return (
        params.get("JobName"),
        params.get("Filter", {}).get("JobName"),
        *(location.get("S3Key") for location in locations),
    )


# --- Responses ------------------------------------------------------------------------------------


def _member(structure: _Structure, name: str, kind: type[_T]) -> _T | None:
    value = structure.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise InvalidResponse(f"its {name} is of type {type(value).__name__}, not {kind.__name__}")


def _required(structure: _Structure, name: str, kind: type[_T]) -> _T:
    value = _member(structure, name, kind)
    if not value:
        raise InvalidResponse(f"it has no {name}")
    return value


def _structure(structure: _Structure, name: str) -> _Structure | None:
    return cast("_Structure | None", _member(structure, name, dict))


def _time(structure: _Structure, name: str) -> datetime | None:
    value = _member(structure, name, datetime)
    return value and value.astimezone(UTC)


def _location(structure: _Structure, name: str, cls: type[_Location]) -> _Location | None:
    members = _structure(structure, name)
    if members is None:
        return None
    return unchecked_location(
        cls, _member(members, "S3Bucket", str), _member(members, "S3Key", str)
    )


def _job_properties(structure: _Structure) -> JobProperties:
    return JobProperties(
        job_id=_required(structure, "JobId", str),
        job_status=JobStatus(_required(structure, "JobStatus", str)),
        job_name=_member(structure, "JobName", str),
        message=_member(structure, "Message", str),
        submit_time=_time(structure, "SubmitTime"),
        end_time=_time(structure, "EndTime"),
        expiration_time=_time(structure, "ExpirationTime"),
        input_data_config=_location(structure, "InputDataConfig", InputDataConfig),
        output_data_config=_location(structure, "OutputDataConfig", OutputDataConfig),
        language_code=_member(structure, "LanguageCode", str),
        data_access_role_arn=_member(structure, "DataAccessRoleArn", str),
        manifest_file_path=_member(structure, "ManifestFilePath", str),
        kms_key=_member(structure, "KMSKey", str),
        model_version=_member(structure, "ModelVersion", str),
    )


def decode_start(response: _Structure) -> StartPHIDetectionJobResponse:
    """Decode a StartPHIDetectionJob response. Raise `InvalidResponse` if it has no JobId."""
    return StartPHIDetectionJobResponse(job_id=_required(response, "JobId", str))


def decode_describe(response: _Structure) -> JobProperties:
    """Decode a DescribePHIDetectionJob response.

    Raise `InvalidResponse` if the job, its JobId or its JobStatus is missing.
    """
    name = "ComprehendMedicalAsyncJobProperties"
    job = _structure(response, name)
    if job is None:
        raise InvalidResponse(f"it has no {name}")
    return _job_properties(job)


def decode_list(response: _Structure) -> JobPage:
    """Decode a ListPHIDetectionJobs response.

    Raise `InvalidResponse` if the list is missing. An empty list is valid. From a truncated
    response, botocore makes an empty map, which would otherwise read as "no jobs".
    """
    name = "ComprehendMedicalAsyncJobPropertiesList"
    jobs = cast("list[_Structure] | None", _member(response, name, list))
    if jobs is None:
        raise InvalidResponse(f"it has no {name}")
    return JobPage(
        jobs=tuple(_job_properties(job) for job in jobs),
        next_token=_member(response, "NextToken", str) or None,
    )


def decode_stop(response: _Structure) -> str:
    """Decode a StopPHIDetectionJob response, a job id. Raise `InvalidResponse` if it has none."""
    return _required(response, "JobId", str)


def decode_detect(response: _Structure) -> DetectPHIResponse:
    """Decode a DetectPHI response.

    Raise `InvalidResponse` if it cannot be used. The call is only retried if the list of entities
    is missing, as in a truncated response. Otherwise the service would bill the same text again
    and send the same response.
    """
    import msgspec  # lazily, like everything that programs that only start jobs do not need

    from .._entities import DetectPHIResponse

    if response.get("Entities") is None:
        raise InvalidResponse("it has no Entities")
    if response.get("PaginationToken"):
        raise InvalidResponse(
            "it has a PaginationToken, so entities are missing; send shorter texts, such as with"
            " detect_phi_in_document(max_bytes=10_000)",
            retryable=False,
        )
    try:
        return msgspec.convert(response, DetectPHIResponse)
    except msgspec.ValidationError as error:
        reason = str(error)  # names members and types, never a value
    raise InvalidResponse(reason, retryable=False)

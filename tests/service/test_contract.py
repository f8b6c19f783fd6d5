"""Our rules match the service model that the installed botocore ships.

A difference is not always our bug. It may be a recent change by AWS. Someone has to look at it in
either case, so the test fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import attrs
import boto3
import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from comprehend_phi import (
    DetectPHIResponse,
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    ServiceError,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    errors,
    models,
)
from comprehend_phi._members import encode
from comprehend_phi._service import operations
from comprehend_phi._service.failures import error_from
from comprehend_phi._service.operations import Operation
from comprehend_phi._shapes import IntegerShape, StringShape

from ..conftest import ROLE

Model = dict[str, Any]

# The model's structures and our attrs classes. Three responses have no class: `decode_describe`,
# `decode_list` and `decode_stop` return their members. The one of DetectPHI is a msgspec struct.
CLASSES: dict[str, type] = {
    "InputDataConfig": InputDataConfig,
    "OutputDataConfig": OutputDataConfig,
    "StartPHIDetectionJobRequest": StartPHIDetectionJobRequest,
    "StartPHIDetectionJobResponse": StartPHIDetectionJobResponse,
    "DescribePHIDetectionJobRequest": models.DescribePHIDetectionJobRequest,
    "ListPHIDetectionJobsRequest": models.ListPHIDetectionJobsRequest,
    "StopPHIDetectionJobRequest": models.StopPHIDetectionJobRequest,
    "DetectPHIRequest": models.DetectPHIRequest,
    "ComprehendMedicalAsyncJobFilter": JobFilter,
    "ComprehendMedicalAsyncJobProperties": JobProperties,
}
RESPONSES_WITHOUT_CLASS = {
    "DescribePHIDetectionJobResponse": {"ComprehendMedicalAsyncJobProperties"},
    "ListPHIDetectionJobsResponse": {"ComprehendMedicalAsyncJobPropertiesList", "NextToken"},
    "StopPHIDetectionJobResponse": {"JobId"},
    "DetectPHIResponse": {
        *DetectPHIResponse.__struct_encode_fields__,
        "PaginationToken",  # an error
    },
}
REQUESTS = (
    "InputDataConfig",
    "OutputDataConfig",
    "StartPHIDetectionJobRequest",
    "DescribePHIDetectionJobRequest",
    "ListPHIDetectionJobsRequest",
    "StopPHIDetectionJobRequest",
    "DetectPHIRequest",
    "ComprehendMedicalAsyncJobFilter",
)
# The service's own string, which we return unchanged. Our rules must accept it.
UNCHECKED = {("ListPHIDetectionJobsRequest", "NextToken")}

OPERATIONS: dict[str, Operation[Any, Any]] = {
    value.name: value for value in vars(operations).values() if isinstance(value, Operation)
}


def service_model() -> Model:
    session: Any = botocore.session.get_session()
    loader = session.get_component("data_loader")
    model: Model = loader.load_service_model("comprehendmedical", "service-2")
    return model


def _limits(shape: Model) -> Model:
    """Return the limits of a scalar in the model."""
    return {key: shape[key] for key in ("min", "max", "pattern", "enum") if key in shape}


def _our_limits(shape: StringShape | IntegerShape) -> Model:
    if isinstance(shape, IntegerShape):
        limits: Model = {"min": shape.minimum, "max": shape.maximum}
    else:
        limits = {
            "min": shape.min_length or None,
            "max": shape.max_length,
            "pattern": shape.pattern,
            "enum": list(shape.enum) or None,
        }
    return {key: value for key, value in limits.items() if value is not None}


def _shape_of(attribute: attrs.Attribute[Any]) -> tuple[object, bool]:
    """Return the shape that a field is checked against, and whether None is allowed too."""
    inner = getattr(attribute.validator, "validator", None)  # of attrs' `optional`
    return (attribute.validator, False) if inner is None else (inner, True)


def _member_differences(model: Model, name: str, cls: type) -> list[str]:
    """Describe how the members of a structure differ from the fields of our class."""
    structure = model["shapes"][name]
    theirs = {xform_name(member): member for member in structure["members"]}
    ours = attrs.fields_dict(cls)
    found = [f"{name}: we do not know {theirs[field]}" for field in theirs.keys() - ours.keys()]
    found += [f"{name}: the model has no {field}" for field in ours.keys() - theirs.keys()]
    for field in theirs.keys() & ours.keys():
        member, attribute = theirs[field], ours[field]
        needed = member in structure.get("required", ())
        if name in REQUESTS and not needed and attribute.default is attrs.NOTHING:
            found.append(f"{name}: {member} is required by us alone")
        if needed and attribute.default is None:
            found.append(f"{name}: {member} is required by the model alone")
        our_shape, optional = _shape_of(attribute)
        if needed and optional:
            found.append(f"{name}: {member} may be None only for us")
        shape_name = structure["members"][member]["shape"]
        shape = model["shapes"][shape_name]
        bound = shape["type"] in ("string", "integer") and (name, member) not in UNCHECKED
        if name not in REQUESTS or not bound:
            continue
        if not isinstance(our_shape, (StringShape, IntegerShape)):
            found.append(f"{name}: {member} is not checked")
        elif our_shape.name != shape_name:
            found.append(f"{name}: {member} is checked as {our_shape.name}, not {shape_name}")
        elif _our_limits(our_shape) != _limits(shape):
            found.append(f"{shape_name}: {_our_limits(our_shape)}, not {_limits(shape)}")
    return found


def _error_differences(model: Model) -> list[str]:
    """Describe the error codes of our operations that have no class of the same name."""
    codes = {
        error["shape"]
        for name, operation in model["operations"].items()
        if name in OPERATIONS
        for error in operation["errors"]
    }
    found = [
        f"{code}: members {sorted(model['shapes'][code]['members'])}"
        for code in codes
        if set(model["shapes"][code]["members"]) != {"Message"}
    ]
    for code in codes:
        response: Any = {"Error": {"Code": code, "Message": "no"}}
        error = error_from(ClientError(response, "Any"), "Any", {})
        if type(error).__name__ != code or getattr(errors, code, None) is not type(error):
            found.append(f"{code}: becomes {type(error).__name__}")
    return found


def differences(model: Model) -> list[str]:
    """Describe all differences between `model` and this package."""
    found: list[str] = []
    for_phi = {name for name in model["operations"] if "PHI" in name}
    if for_phi != OPERATIONS.keys():
        found.append(f"operations: {sorted(for_phi)}, not {sorted(OPERATIONS)}")
    for name in for_phi & OPERATIONS.keys():
        for direction in ("input", "output"):
            structure = model["operations"][name][direction]["shape"]
            if structure not in CLASSES and structure not in RESPONSES_WITHOUT_CLASS:
                found.append(f"{name}: its {direction} is a {structure}")
    for structure, members in RESPONSES_WITHOUT_CLASS.items():
        if set(model["shapes"][structure]["members"]) != members:
            found.append(f"{structure}: {sorted(model['shapes'][structure]['members'])}")
    for structure, cls in CLASSES.items():
        found += _member_differences(model, structure, cls)
    statuses = model["shapes"]["JobStatus"]["enum"]
    if [str(status) for status in JobStatus] != statuses:
        found.append(f"JobStatus: {list(JobStatus)}, not {statuses}")
    return found + _error_differences(model)


def test_our_rules_match_the_installed_service_model() -> None:
    assert differences(service_model()) == []


# --- The comparison itself ------------------------------------------------------------------------


def _shape(name: str, **changes: Any) -> Callable[[Model], None]:
    return lambda model: model["shapes"][name].update(changes)


def _without(name: str, key: str) -> Callable[[Model], None]:
    def drop(model: Model) -> None:
        del model["shapes"][name][key]

    return drop


def _member(name: str, member: str, shape: str = "JobName") -> Callable[[Model], None]:
    return lambda model: model["shapes"][name]["members"].update({member: {"shape": shape}})


def _no_member(name: str, member: str) -> Callable[[Model], None]:
    def drop(model: Model) -> None:
        del model["shapes"][name]["members"][member]

    return drop


def _required(name: str, *members: str) -> Callable[[Model], None]:
    return _shape(name, required=list(members))


def _new_error(model: Model) -> None:
    model["shapes"]["ConflictException"] = copy.deepcopy(model["shapes"]["ValidationException"])
    model["operations"]["StopPHIDetectionJob"]["errors"].append({"shape": "ConflictException"})


def _renamed_operation(model: Model) -> None:
    model["operations"]["DeletePHIDetectionJob"] = model["operations"].pop("StopPHIDetectionJob")


def _other_output(model: Model) -> None:
    model["operations"]["StopPHIDetectionJob"]["output"] = {"shape": "JobSummary"}


START_MEMBERS = ("InputDataConfig", "OutputDataConfig", "DataAccessRoleArn", "LanguageCode")

CHANGES: dict[str, tuple[Callable[[Model], None], str]] = {
    "a longer maximum": (_shape("JobName", max=257), "JobName:"),
    "a longer text": (_shape("BoundedLengthString", max=40_000), "BoundedLengthString:"),
    "a shorter minimum": (_shape("IamRoleArn", min=19), "IamRoleArn:"),
    "a new minimum": (_shape("S3Key", min=1), "S3Key:"),
    "no maximum": (_without("KMSKey", "max"), "KMSKey:"),
    "another pattern": (_shape("JobId", pattern="^[0-9a-f]+$"), "JobId:"),
    "another bucket pattern": (_shape("S3Bucket", pattern="^[0-9a-z]*$"), "S3Bucket:"),
    "no pattern": (_without("S3Key", "pattern"), "S3Key:"),
    "a new pattern": (_shape("LanguageCode", pattern="[a-z]+"), "LanguageCode:"),
    "another language": (_shape("LanguageCode", enum=["en", "de"]), "LanguageCode:"),
    "a larger page": (_shape("MaxResultsInteger", max=1000), "MaxResultsInteger:"),
    "a longer token": (_shape("ClientRequestTokenString", max=65), "ClientRequestTokenString:"),
    "another state": (
        _shape("JobStatus", enum=[*(str(status) for status in JobStatus), "PAUSED"]),
        "JobStatus:",
    ),
    "one state fewer": (_shape("JobStatus", enum=["COMPLETED"]), "JobStatus:"),
    "a new member of the start": (
        _member("StartPHIDetectionJobRequest", "Tags"),
        "StartPHIDetectionJobRequest: we do not know Tags",
    ),
    "a new member of a location": (
        _member("InputDataConfig", "Format"),
        "InputDataConfig: we do not know Format",
    ),
    "a new member of the filter": (
        _member("ComprehendMedicalAsyncJobFilter", "EndTimeBefore", "Timestamp"),
        "ComprehendMedicalAsyncJobFilter: we do not know EndTimeBefore",
    ),
    "a new member of a job": (
        _member("ComprehendMedicalAsyncJobProperties", "Progress"),
        "ComprehendMedicalAsyncJobProperties: we do not know Progress",
    ),
    "a new member of a response": (
        _member("ListPHIDetectionJobsResponse", "Total"),
        "ListPHIDetectionJobsResponse:",
    ),
    "one member fewer": (
        _no_member("ComprehendMedicalAsyncJobProperties", "Message"),
        "ComprehendMedicalAsyncJobProperties: the model has no message",
    ),
    "a member of another shape": (
        _member("StopPHIDetectionJobRequest", "JobId", "AnyLengthString"),
        "StopPHIDetectionJobRequest: JobId is checked as JobId",
    ),
    "a bound on what we do not check": (
        _member("ListPHIDetectionJobsRequest", "MaxResults", "String"),
        "ListPHIDetectionJobsRequest: MaxResults is checked as",
    ),
    "a required name": (
        _required("StartPHIDetectionJobRequest", *START_MEMBERS, "JobName"),
        "StartPHIDetectionJobRequest: JobName is required by the model alone",
    ),
    "a required key": (
        _required("OutputDataConfig", "S3Bucket", "S3Key"),
        "OutputDataConfig: S3Key may be None only for us",
    ),
    "a role that is not required": (
        _required("StartPHIDetectionJobRequest", "InputDataConfig", "OutputDataConfig"),
        "StartPHIDetectionJobRequest: DataAccessRoleArn is required by us alone",
    ),
    "a new error": (_new_error, "ConflictException: becomes"),
    "an error with more to say": (
        _member("TooManyRequestsException", "RetryAfterSeconds", "MaxResultsInteger"),
        "TooManyRequestsException: members",
    ),
    "a renamed operation": (_renamed_operation, "operations:"),
    "another response": (_other_output, "StopPHIDetectionJob: its output is a JobSummary"),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_service_model_is_noticed(change: Callable[[Model], None], expected: str) -> None:
    model = copy.deepcopy(service_model())
    change(model)

    assert any(found.startswith(expected) for found in differences(model))


# --- What is sent, by botocore's own reading of the model -----------------------------------------

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

SENT: dict[str, list[Any]] = {
    "StartPHIDetectionJob": [
        StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key="in"),
            output_data_config=OutputDataConfig(s3_bucket="notes.example", s3_key="out"),
            data_access_role_arn=ROLE,
            job_name="monday",
            kms_key="alias/notes",
        )
    ],
    "DescribePHIDetectionJob": [models.DescribePHIDetectionJobRequest(job_id="0")],
    # The service takes one filter at a time, so that it takes several to show every member.
    "ListPHIDetectionJobs": [
        models.ListPHIDetectionJobsRequest(filter=wanted, next_token="next")
        for wanted in (
            JobFilter(job_name="monday"),
            JobFilter(job_status=JobStatus.FAILED),
            JobFilter(submit_time_before=NOON),
            JobFilter(submit_time_after=NOON),
        )
    ],
    "StopPHIDetectionJob": [models.StopPHIDetectionJobRequest(job_id="0")],
    "DetectPHI": [models.DetectPHIRequest("Seen by Dr. Ada Example")],
}


def _paths(members: Any, prefix: str = "") -> set[str]:
    if not isinstance(members, dict):
        return {prefix.rstrip(".")}
    sent = cast("dict[str, Any]", members)
    return {path for name in sent for path in _paths(sent[name], f"{prefix}{name}.")}


def _model_paths(model: Model, structure: str, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, member in model["shapes"][structure]["members"].items():
        nested = model["shapes"][member["shape"]]["type"] == "structure"
        path = prefix + name
        found |= _model_paths(model, member["shape"], f"{path}.") if nested else {path}
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_member_of_the_model_is_sent_under_its_name(name: str) -> None:
    model = service_model()
    sent: set[str] = set()
    for request in SENT[name]:
        sent |= _paths(encode(request))

    assert sent == _model_paths(model, model["operations"][name]["input"]["shape"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_requests_pass_botocores_own_validation(name: str) -> None:
    model: Any = ServiceModel(service_model(), "comprehendmedical")
    validator: Any = ParamValidator()
    shape = model.operation_model(name).input_shape

    for request in SENT[name]:
        report = validator.validate(encode(request), shape)
        assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_names_its_boto3_method(name: str) -> None:
    # Built only, never called: no network.
    session: Any = boto3.Session(region_name="us-east-1")
    client = session.client("comprehendmedical")

    assert client.meta.method_to_api_mapping[OPERATIONS[name].method] == name
    assert callable(getattr(client, OPERATIONS[name].method))
    client.close()


@pytest.mark.parametrize(
    "code",
    [
        "InternalServerException",
        "InvalidRequestException",
        "ResourceNotFoundException",
        "ServiceUnavailableException",
        "TooManyRequestsException",
        "ValidationException",
    ],
)
def test_an_error_code_of_the_model_becomes_the_class_of_its_name(code: str) -> None:
    response: Any = {"Error": {"Code": code, "Message": "no"}}
    error = error_from(ClientError(response, "Any"), "Any", {})

    assert service_model()["shapes"][code]["exception"]
    assert isinstance(error, ServiceError)
    assert type(error) is getattr(errors, code)
    assert error.code == code

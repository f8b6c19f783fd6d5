"""Validation of requests, with AWS's error codes and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from .. import _shapes
from .._shapes import IntegerShape, StringShape
from ..models import JOB_STATUS


class RequestRefused(Exception):
    """The service answers the request with an error.

    Attributes:
        code: the name of the error, such as `ValidationException`.
        message: the text of the error. Like AWS's own messages, it may quote rejected values.
        status: the HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


# The path of a member, its shape, and whether it is required.
_Rule = tuple[str, StringShape | IntegerShape, bool]

START_RULES: tuple[_Rule, ...] = (
    ("InputDataConfig.S3Bucket", _shapes.S3_BUCKET, True),
    ("InputDataConfig.S3Key", _shapes.S3_KEY, False),
    ("OutputDataConfig.S3Bucket", _shapes.S3_BUCKET, True),
    ("OutputDataConfig.S3Key", _shapes.S3_KEY, False),
    ("DataAccessRoleArn", _shapes.IAM_ROLE_ARN, True),
    ("LanguageCode", _shapes.LANGUAGE_CODE, True),
    ("JobName", _shapes.JOB_NAME, False),
    ("KMSKey", _shapes.KMS_KEY, False),
    ("ClientRequestToken", _shapes.CLIENT_REQUEST_TOKEN, False),
)
JOB_ID_RULES: tuple[_Rule, ...] = (("JobId", _shapes.JOB_ID, True),)
LIST_RULES: tuple[_Rule, ...] = (
    ("MaxResults", _shapes.MAX_RESULTS, False),
    ("Filter.JobName", _shapes.JOB_NAME, False),
    ("Filter.JobStatus", JOB_STATUS, False),
)


def validate(rules: Sequence[_Rule], members: Mapping[str, Any], code: str) -> None:
    """Raise `RequestRefused` with `code` if a member breaks its rule."""
    for path, shape, required in rules:
        parent, _, name = path.rpartition(".")
        structure: Any = (members.get(parent) or {}) if parent else members
        if not isinstance(structure, Mapping):
            raise RequestRefused("SerializationException", f"{parent} is not a structure.")
        value = cast("Mapping[str, Any]", structure).get(name)
        if value is None:
            problem = "must not be null" if required else None
        else:
            problem = shape.problem(value)
        if problem:
            at = ".".join(part[0].lower() + part[1:] for part in path.split("."))
            shown = "null" if value is None else f"'{value}'"
            raise RequestRefused(
                code,
                f"1 validation error detected: Value {shown} at '{at}' failed to satisfy"
                f" constraint: Member {problem}",
            )


def without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that are not null. The service treats a null like a missing member."""
    return {
        name: without_nulls(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in members.items()
        if value is not None
    }

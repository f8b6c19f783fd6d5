"""Validation of requests, with AWS's error codes and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
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


class Timestamp:
    """A moment: a number of seconds since 1970, or a datetime."""

    def problem(self, _value: Any) -> str | None:
        """Return None: every timestamp is valid."""
        return None


_Shape = StringShape | IntegerShape | Timestamp
_Constraint = tuple[str, _Shape, bool]  # the path of a member, its shape, whether it is required

START_CONSTRAINTS: tuple[_Constraint, ...] = (
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
JOB_ID_CONSTRAINTS: tuple[_Constraint, ...] = (("JobId", _shapes.JOB_ID, True),)
LIST_CONSTRAINTS: tuple[_Constraint, ...] = (
    ("MaxResults", _shapes.MAX_RESULTS, False),
    ("NextToken", StringShape("String", min_length=1), False),
    ("Filter.JobName", _shapes.JOB_NAME, False),
    ("Filter.JobStatus", JOB_STATUS, False),
    ("Filter.SubmitTimeBefore", Timestamp(), False),
    ("Filter.SubmitTimeAfter", Timestamp(), False),
)

# Without the maximum, which has an error of its own.
_TEXT_CONSTRAINTS: tuple[_Constraint, ...] = (
    ("Text", StringShape(_shapes.PHI_TEXT.name, _shapes.PHI_TEXT.min_length), True),
)

_TYPES: dict[type, tuple[tuple[type, ...], str]] = {
    StringShape: ((str,), "a String"),
    IntegerShape: ((int,), "an Integer"),
    Timestamp: ((int, float, datetime), "a Timestamp"),
}


def validate(constraints: Sequence[_Constraint], members: Mapping[str, Any], code: str) -> None:
    """Check the members of a request.

    Raises:
        RequestRefused: `SerializationException` if a member has the wrong type, or `code` if a
            member breaks another constraint.
    """
    for path, shape, _ in constraints:
        if (value := _member(members, path)) is not None:
            _check_type(value, shape)
    for path, shape, required in constraints:
        value = _member(members, path)
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


def check_text(members: Mapping[str, Any], max_bytes: int) -> None:
    """Check the members of a DetectPHI request.

    AWS documents the error codes. Their messages are our rule.

    Raises:
        RequestRefused: the text is missing or empty, is not text, or is too large.
    """
    text = members.get("Text")
    # JSON can escape half of a surrogate pair, which UTF-8 cannot encode.
    if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
        raise RequestRefused("InvalidEncodingException", "The text is not valid UTF-8.")
    validate(_TEXT_CONSTRAINTS, members, "InvalidRequestException")
    if (size := len(members["Text"].encode())) > max_bytes:
        raise RequestRefused(
            "TextSizeLimitExceededException",
            f"The text has {size} bytes in UTF-8; the limit is {max_bytes}.",
        )


def _member(members: Mapping[str, Any], path: str) -> Any:
    value: Any = members
    for name in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise RequestRefused("SerializationException", "Unexpected field type")
        value = cast("Mapping[str, Any]", value).get(name)
    return value


def _check_type(value: Any, shape: _Shape) -> None:
    types, name = _TYPES[type(shape)]
    if isinstance(value, types) and not isinstance(value, bool):
        return
    match value:
        case list():
            problem = "Start of list found where not expected"
        case dict():
            problem = "Start of structure or map found where not expected."
        case bool():
            problem = f"{str(value).upper()}_VALUE can not be converted to {name}"
        case str():
            problem = f"STRING_VALUE can not be converted to {name}"
        case _:
            problem = f"NUMBER_VALUE can not be converted to {name}"
    raise RequestRefused("SerializationException", problem)


def seconds(timestamp: float | datetime | None) -> float | None:
    """Return a timestamp as seconds since 1970."""
    return timestamp.timestamp() if isinstance(timestamp, datetime) else timestamp


def without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members that are not null. The service treats a null like a missing member."""
    return {
        name: without_nulls(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in members.items()
        if value is not None
    }

"""Requests as dicts of the members that AWS knows, and back.

Our fields have AWS's names in Python's spelling, so one rule translates all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from attrs import NOTHING, AttrsInstance, fields, has

from ._shapes import InstanceShape, check_argument
from .errors import RequestValidationError

_MEMBERS = InstanceShape(Mapping, "use AWS's own names")


@cache
def _fields_by_member(cls: type[AttrsInstance]) -> dict[str, str]:
    return {_member_name(field.name): field.name for field in fields(cls)}


def _member_name(field: str) -> str:
    # The only name in which AWS spells an abbreviation in capitals.
    if field == "kms_key":
        return "KMSKey"
    return "".join(word.capitalize() for word in field.split("_"))


def encode(request: object) -> dict[str, Any]:
    """Return the members of a request, an attrs object. Fields that are None have no member."""
    cls = cast("type[AttrsInstance]", type(request))
    members: dict[str, Any] = {}
    for member, field in _fields_by_member(cls).items():
        value = getattr(request, field)
        if type(value) is str:
            members[member] = value
        elif value is not None:
            members[member] = _encode_value(value)
    return members


def _encode_value(value: object) -> object:
    if isinstance(value, str):
        return str(value)  # a `JobStatus` becomes a plain string
    return encode(value) if has(type(value)) else value


def decode(cls: type[AttrsInstance], members: Any, *, owner: str, field: str) -> dict[str, Any]:
    """Return the arguments with which `cls` builds the request that has these members.

    Nested members stay dicts. The values are not checked; the class does that.

    Args:
        cls: the class of the request.
        members: the members as AWS spells them.
        owner: the function that was called.
        field: its argument, or the member, that contains the members.

    Raises:
        RequestValidationError: `members` is not a mapping, contains a member that AWS does not
            know, or lacks a required one.
    """
    check_argument(owner, field, _MEMBERS, members)
    names = _fields_by_member(cls)
    required = {
        member for member, name in names.items() if getattr(fields(cls), name).default is NOTHING
    }
    if missing := sorted(required - members.keys()):
        reason = f"must contain {', '.join(missing)}"
    elif unknown := len(members.keys() - names.keys()):
        # The names of unknown members may be values in the wrong place, so nothing shows them.
        members_are = "members" if unknown > 1 else "member"
        reason = f"contains {unknown} unknown {members_are}; the known ones are {', '.join(names)}"
    else:
        return {names[member]: value for member, value in members.items()}
    raise RequestValidationError(owner=owner, field=field, shape=_MEMBERS.name, reason=reason)

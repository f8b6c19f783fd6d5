"""The entities that the service detects, and their traits."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

import msgspec

from ._shapes import InstanceShape, check_argument
from ._structs import PrivateStruct
from ._wording import amount
from .errors import RequestValidationError


class EntityType(StrEnum):
    """The types of entities that the service is known to detect.

    Each member equals its string: `entity.type == EntityType.NAME` if `entity.type` is `"NAME"`.
    `Entity.type` is a plain string, because the service may add types.

    AWS documents all of these types but the last two, which only its service model lists.
    """

    NAME = "NAME"
    AGE = "AGE"
    DATE = "DATE"
    PHONE_OR_FAX = "PHONE_OR_FAX"
    EMAIL = "EMAIL"
    ID = "ID"
    URL = "URL"
    ADDRESS = "ADDRESS"
    PROFESSION = "PROFESSION"
    CONTACT_POINT = "CONTACT_POINT"
    IDENTIFIER = "IDENTIFIER"


class Trait(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """An attribute that the service detected for an entity, such as a negation.

    Attributes:
        name: the service's name of the trait.
        score: the service's confidence, from 0 to 1.
    """

    name: str
    score: float


class Entity(PrivateStruct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """One piece of protected health information in a document.

    Offsets count code points (not bytes, not UTF-16 code units) from 0.

    Attributes:
        id: the number of the entity within its document.
        begin_offset: where the entity begins.
        end_offset: where the entity ends, exclusive.
        score: the service's confidence, from 0 to 1.
        text: the text of the entity, which is protected health information. Not in the repr.
        category: `PROTECTED_HEALTH_INFORMATION`.
        type: one of `EntityType`, or a type that the service has added since.
        traits: the traits that the service detected; usually none.
    """

    _private: ClassVar[tuple[str, ...]] = ("text",)

    id: int
    begin_offset: int
    end_offset: int
    score: float
    text: str
    category: str
    type: str
    traits: tuple[Trait, ...] = ()

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Build an entity from AWS's own dict, such as one that boto3's `detect_phi` returns.

            response = boto3.client("comprehendmedical").detect_phi(Text=text)
            entities = [Entity.from_dict(members) for members in response["Entities"]]
            redacted = redact(text, entities)

        Args:
            members: the entity under AWS's own names. Members that this package does not know are
                ignored.

        Raises:
            RequestValidationError: a required member is missing, or one has a wrong type. The error
                quotes no value.
        """
        owner = f"{cls.__name__}.from_dict"
        check_argument(owner, "members", _MEMBERS, members)
        try:
            return msgspec.convert(members, cls)
        except msgspec.ValidationError as error:
            problem = str(error)  # names members and types, never a value
        raise RequestValidationError(
            owner=owner, field="members", shape=cls.__name__, reason=f"must be an entity: {problem}"
        )


class DetectPHIResponse(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What the service detected in one text.

    The repr shows the entities without their text.

    Attributes:
        entities: the entities. Each one matches the text at its offsets.
        model_version: the version of the model that detected them; None if there is none.
    """

    entities: tuple[Entity, ...]
    model_version: str | None = None


def mismatch(text: str, entity: Entity) -> str | None:
    """Return why the entity does not match the text, without any part of the text, or None."""
    begin, end = entity.begin_offset, entity.end_offset
    if begin < 0:
        return "begins before the text"
    if end < begin:
        return "ends before it begins"
    if end == begin:
        return "is empty"
    if end > len(text):
        return f"ends after the end of the text, which has {amount(len(text), 'code point')}"
    if text[begin:end] != entity.text:
        return "does not match the text at these offsets"
    return None


def usable_score(entity: Entity) -> float:
    """Return the entity's score, or 1 if it is not a number from 0 to 1."""
    # A name must not stay readable because of a meaningless score.
    return entity.score if 0 <= entity.score <= 1 else 1.0


_MEMBERS = InstanceShape(Mapping, "for example, pass an item of `Entities` from a boto3 response")

"""What a finished job found, decoded straight into frozen structs.

Entities describe places in a document: offsets count code points (not bytes, not UTF-16 units),
start at 0, and the end is exclusive. The text of an entity is protected health information and
stands in no repr.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Trait(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What the service noticed about an entity, such as a negation."""

    name: str
    score: float


class Entity(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One piece of protected health information in a document.

    `begin_offset` and `end_offset` are code points, 0-based, the end exclusive; `score` is the
    service's confidence between 0 and 1. `type` is one of NAME, AGE, DATE, PHONE_OR_FAX, EMAIL, ID,
    URL, ADDRESS and PROFESSION today; a type that the service adds later arrives as its string.
    """

    id: int
    begin_offset: int
    end_offset: int
    score: float
    text: str
    category: str
    type: str
    traits: tuple[Trait, ...] = ()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Every field but `text`; `repr()` and the rich library both show this."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "text"]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Entity({shown})"

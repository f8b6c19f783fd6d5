"""What the service detects: entities and their traits.

Offsets count code points (not bytes, not UTF-16 code units). They start at 0, and the end is
exclusive. The text of an entity is protected health information and appears in no repr.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Shown(Protocol):
    """A struct with a repr of its own."""

    def __rich_repr__(self) -> list[tuple[str, Any]]: ...


class Trait(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """What the service noticed about an entity, such as a negation.

    Attributes:
        name: the service's name of it.
        score: the service's confidence, between 0 and 1.
    """

    name: str
    score: float


class Entity(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="pascal"):
    """One piece of protected health information in a document.

    Attributes:
        id: a number that is the entity's own within its document.
        begin_offset: where it begins in the text, in code points, 0-based.
        end_offset: where it ends, in code points, exclusive.
        score: the service's confidence, between 0 and 1.
        text: what stands there. Not in the repr.
        category: `PROTECTED_HEALTH_INFORMATION`.
        type: NAME, AGE, DATE, PHONE_OR_FAX, EMAIL, ID, URL, ADDRESS or PROFESSION today; a type
            that the service adds later arrives as its string.
        traits: what else the service noticed; usually nothing.
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
        return shown_fields(self, "text")

    def __repr__(self) -> str:
        return repr_of(self)


def shown_fields(struct: msgspec.Struct, *hidden: str) -> list[tuple[str, Any]]:
    return [
        (name, getattr(struct, name)) for name in struct.__struct_fields__ if name not in hidden
    ]


def repr_of(struct: Shown) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in struct.__rich_repr__())
    return f"{type(struct).__name__}({shown})"

"""Entities of notes, for tests that need no detector."""

from __future__ import annotations

from comprehend_phi import Entity


def entity(
    text: str, begin: int, end: int, type_: str = "NAME", *, id_: int = 0, score: float = 0.9
) -> Entity:
    """Build an entity at these offsets with this text."""
    return Entity(
        id=id_,
        begin_offset=begin,
        end_offset=end,
        score=score,
        text=text[begin:end],
        category="PROTECTED_HEALTH_INFORMATION",
        type=type_,
    )

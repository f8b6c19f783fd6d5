"""From a text and the entities found in it to the text with marks in their places.

Offsets are believed only when every entity's own text stands at them. A single one that does not
puts all in doubt, because the text is then another one or was decoded in another way; so nothing
is redacted, and nothing is returned either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import cast

from ._entities import Entity
from ._shapes import InstanceShape, NumberShape, StringShape, check_argument
from .errors import RedactionError, RequestValidationError

# Fields with attributes, conversions or format specs are left out on purpose: they reach into
# objects or pad without limit.
_ONLY_TYPE = re.compile(r"(?:[^{}]|\{\{|\}\}|\{type\})*")


_ADVICE = "Take the entities of this very file, decode it as UTF-8 and keep its line ends."


def redact(
    text: str,
    entities: Iterable[Entity],
    *,
    min_score: float = 0.0,
    replacement: str = "[{type}]",
) -> str:
    """The text with a mark in the place of each entity.

    Entities that overlap share one mark. It shows the type of the longest of them; among equally
    long ones, of the one with the higher score, then of the one that begins earlier, then of the
    lower id. Entities that only touch, the next beginning where the last one ends, get a mark each.
    The order in which the entities come does not matter.

    Args:
        text: the document, decoded as UTF-8, its line ends as they are in the file.
        entities: what was found in it; read once.
        min_score: entities with a lower score stay readable, though their offsets are checked like
            all others. A score outside 0 to 1, or not a number, says nothing and counts as 1.
        replacement: the mark. `{type}` stands for the entity's type, `{{` and `}}` for braces; a
            format string's other abilities are refused.

    Returns:
        The redacted text; what no redacted entity covers is unchanged.

    Raises:
        RedactionError: an entity does not fit the text.
        RequestValidationError: an argument is not what it should be.
    """
    check_argument("redact", "text", _TEXT, text)
    check_argument("redact", "min_score", _SCORE, min_score)
    check_argument("redact", "replacement", _REPLACEMENT, replacement)
    check_argument("redact", "entities", _ENTITIES, entities)
    found = list(entities)
    if not all(isinstance(entity, Entity) for entity in cast("list[object]", found)):
        raise RequestValidationError(
            owner="redact",
            field="entities",
            shape="Entity",
            reason="must consist of Entity objects only, such as those of a Document",
        )
    require_fit(text, found, consequence=f"Nothing was redacted. {_ADVICE}")

    pieces: list[str] = []
    position = 0
    for group in overlapping(entity for entity in found if usable_score(entity) >= min_score):
        pieces.append(text[position : group[0].begin_offset])
        pieces.append(replacement.format(type=min(group, key=rank).type))
        position = max(entity.end_offset for entity in group)
    pieces.append(text[position:])
    return "".join(pieces)


def _replacement_problem(value: str) -> str | None:
    if _ONLY_TYPE.fullmatch(value):
        return None
    return "must have no other field than {type}; a brace of its own is written twice"


_REPLACEMENT = StringShape("format string", rule=_replacement_problem)
_SCORE = NumberShape("score", 0.0, maximum=1.0)
_TEXT = InstanceShape(str, "decode bytes as UTF-8")
_ENTITIES = InstanceShape(Iterable, "such as the entities of a Document")


def require_fit(text: str, entities: Iterable[Entity], *, consequence: str) -> None:
    """Raise RedactionError, with `consequence` in it, for an entity that does not fit the text."""
    for entity in entities:
        if problem := _misfit(text, entity):
            raise RedactionError(
                f"Entity {entity.id} at offsets {entity.begin_offset} to {entity.end_offset}"
                f" {problem}. {consequence}"
            )


def _misfit(text: str, entity: Entity) -> str | None:
    """Why the entity cannot be one of this text, in words that contain neither's characters."""
    begin, end = entity.begin_offset, entity.end_offset
    if begin < 0:
        return "begins before the text"
    if end < begin:
        return "ends before it begins"
    if end == begin:
        return "covers nothing"
    if end > len(text):
        return f"ends beyond the text, which has {len(text)} code points"
    if text[begin:end] != entity.text:
        return "has another text than the one that stands there"
    return None


def usable_score(entity: Entity) -> float:
    """The entity's score, or 1 where it is none."""
    # A score that makes no sense must not be the reason why a name stays readable.
    return entity.score if 0 <= entity.score <= 1 else 1.0


def overlapping(entities: Iterable[Entity]) -> Iterator[list[Entity]]:
    """The entities in groups whose spans hang together, both in the order of the text."""
    group: list[Entity] = []
    end = 0
    for entity in sorted(entities, key=lambda entity: entity.begin_offset):
        if group and entity.begin_offset >= end:
            yield group
            group = []
        group.append(entity)
        end = max(end, entity.end_offset)
    if group:
        yield group


def rank(entity: Entity) -> tuple[int, float, int, int, str]:
    """Sorts the entity that names the mark first."""
    length = entity.end_offset - entity.begin_offset
    # The type is there for entities that share even their id, so that their order cannot matter.
    return -length, -usable_score(entity), entity.begin_offset, entity.id, entity.type

"""Redact a text: replace its entities with marks.

Every entity contains its own text, so its offsets can be checked. If one entity does not match, the
text is another one or was decoded differently, and no offset can be trusted. Then `redact` raises
an error instead of returning a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from ._entities import Entity, mismatch, usable_score
from ._replacements import call_replacement, check_replacement
from ._shapes import NOTE_TEXT, InstanceShape, NumberShape, RuleShape, check_argument
from .errors import RedactionError

_ADVICE = "Use the entities of exactly this file, decode it as UTF-8 and keep its line ends."


def redact(
    text: str,
    entities: Iterable[Entity],
    *,
    min_score: float = 0.0,
    replacement: str | Callable[[Entity], str] = "[{type}]",
) -> str:
    """Return the text with a mark in place of each entity.

    Entities that overlap share one mark. The mark shows the type of the longest entity. If several
    are equally long, it shows the one with the highest score, then the earliest, then the one with
    the lowest id. An entity that begins where another one ends gets its own mark. The order of
    `entities` does not matter.

    Args:
        text: the document, decoded as UTF-8, with the line ends of the file.
        entities: the entities of this document. They are iterated over once.
        min_score: entities with a lower score stay readable, but their offsets are checked too. A
            score that is not a number from 0 to 1 counts as 1.
        replacement: the mark, or a function that returns it. In a mark, `{type}` becomes the
            entity's type, and `{{` and `}}` become braces. No other format field is allowed. A
            function gets the entity, and for entities that overlap one that combines them: the
            entity that the mark shows, with the offsets and the text of the whole span. What the
            function returns must not contain the text of an entity that it replaces. See also
            `same_length` and `pseudonyms`.

    Returns:
        The redacted text. Everything outside the redacted entities is unchanged.

    Raises:
        RedactionError: an entity does not match the text. Or the function raised an exception, or
            returned something else than a str, or the text that it should replace. The error has
            no cause or context, and contains neither the exception nor the returned text. Only
            `KeyboardInterrupt` and `SystemExit` pass through unchanged.
        RequestValidationError: an argument has a wrong value or type.
    """
    check_argument("redact", "text", NOTE_TEXT, text)
    check_argument("redact", "min_score", _SCORE, min_score)
    check_replacement("redact", replacement)
    check_argument("redact", "entities", _ENTITIES, entities)
    found = list(entities)
    check_argument("redact", "entities", _ONLY_ENTITIES, found)
    check_entities(text, found, consequence=f"Nothing was redacted. {_ADVICE}")

    pieces: list[str] = []
    position = 0
    for group in overlapping(entity for entity in found if usable_score(entity) >= min_score):
        named, begin, end = group[0], group[0].begin_offset, group[0].end_offset
        if len(group) > 1:
            named, end = min(group, key=rank), max(entity.end_offset for entity in group)
        pieces.append(text[position:begin])
        if isinstance(replacement, str):
            pieces.append(replacement.format(type=named.type))
        else:
            whole = replace(named, begin_offset=begin, end_offset=end, text=text[begin:end])
            pieces.append(call_replacement(replacement, whole, (entity.text for entity in group)))
        position = end
    pieces.append(text[position:])
    return "".join(pieces)


_SCORE = NumberShape("score", 0.0, maximum=1.0)
_ENTITIES = InstanceShape(Iterable, "pass the entities of a Document, for example")


def _items_problem(items: Iterable[object]) -> str | None:
    if all(isinstance(item, Entity) for item in items):
        return None
    return "must contain only Entity objects; Entity.from_dict converts AWS's own dicts"


_ONLY_ENTITIES = RuleShape("Entity", _items_problem)


def check_entities(text: str, entities: Iterable[Entity], *, consequence: str) -> None:
    """Raise `RedactionError` if an entity does not match the text. `consequence` ends it."""
    for entity in entities:
        if problem := mismatch(text, entity):
            raise RedactionError(
                f"Entity {entity.id} at offsets {entity.begin_offset} to {entity.end_offset}"
                f" {problem}. {consequence}"
            )


def overlapping(entities: Iterable[Entity]) -> Iterator[list[Entity]]:
    """Yield groups of overlapping entities, in the order of the text."""
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
    """Return a sort key. The entity with the lowest key names the mark."""
    length = entity.end_offset - entity.begin_offset
    # The type decides between entities that share even their id, so that their order cannot matter.
    return -length, -usable_score(entity), entity.begin_offset, entity.id, entity.type

"""Split a text that is too long for one DetectPHI call, and merge what the calls found. No I/O.

Neighboring pieces overlap, because an entity is only found together with its context. The middle of
each overlap divides the text into parts, one for each piece: its own part. A piece decides about
the entities that touch its own part.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from attrs import define
from msgspec.structs import replace

from ._entities import DetectPHIResponse, Entity, usable_score
from ._shapes import MAX_TEXT_BYTES, TEXT, IntegerShape, check_argument

_OWNER = "detect_phi_in_document"

# Pieces end at the end of a match: of a paragraph, else of a line, a sentence or a word.
_ENDS = (
    re.compile(r"(?>\r\n|[\n\r])(?:[ \t]*(?>\r\n|[\n\r]))+"),
    re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]"),
    re.compile(r"[.!?][\"')\]\u201d\u2019]*\s+"),
    re.compile(r"\s+"),
)

_JOINERS = "\u200c\u200d"


class Piece(NamedTuple):
    """A piece of a text. All offsets count code points of the whole text.

    Attributes:
        begin, end: where the piece begins and ends.
        own_begin, own_end: where its own part begins and ends.
    """

    begin: int
    end: int
    own_begin: int
    own_end: int


def split(text: str, max_bytes: int, overlap: int) -> list[Piece]:
    """Return the pieces of a text, in order. An empty text has none.

    Every piece but the last has at least three quarters of `max_bytes`. No piece begins or ends
    within a CRLF. A piece only begins or ends before a combining mark or a joiner if a run of them
    has more than `max_bytes` / 16 bytes.

    Args:
        text: the text.
        max_bytes: the largest size of a piece, in bytes of UTF-8.
        overlap: how much neighboring pieces share at least, in bytes of UTF-8.

    Raises:
        RequestValidationError: an argument has a wrong value or type.
    """
    check_argument(_OWNER, "text", TEXT, text)
    check_argument(_OWNER, "max_bytes", _MAX_BYTES, max_bytes)
    check_argument(_OWNER, "overlap", IntegerShape("bytes", 0, max_bytes // 2), overlap)
    half = (overlap + 1) // 2
    pieces: list[Piece] = []
    begin = own_begin = 0
    while begin < len(text):
        end = begin + _fitting(text, begin, max_bytes)
        if end == len(text):
            pieces.append(Piece(begin, end, own_begin, end))
            break
        earliest = begin + _fitting(text, begin, max_bytes - max_bytes // 4 - 1) + 1
        end = _best_cut(text, earliest, end)
        middle = _before(text, end, half)
        pieces.append(Piece(begin, end, own_begin, middle))
        begin = _before(text, middle, half)
        begin = _last_cut(text, _before(text, begin, max_bytes // 16), begin)
        own_begin = middle
    return pieces


_MAX_BYTES = IntegerShape("bytes", 64, MAX_TEXT_BYTES)


def _fitting(text: str, begin: int, size: int) -> int:
    """Return how many code points from `begin` on fit into `size` bytes."""
    # A code point that is cut at the end is ignored.
    return len(text[begin : begin + size].encode()[:size].decode(errors="ignore"))


def _before(text: str, position: int, size: int) -> int:
    """Return the last position that is at least `size` bytes before `position`."""
    encoded = text[max(0, position - size) : position].encode()
    # The code points whose first byte is within the last `size` bytes, and one that is cut there.
    kept = encoded[-size:].decode(errors="ignore") if size else ""
    return position - len(kept) - (len(kept.encode()) < size)


def _best_cut(text: str, first: int, last: int) -> int:
    """Return the best position from `first` to `last` at which to end a piece."""
    for ends in _ENDS:
        # From one character earlier, because its end counts too.
        found = [match.end() for match in ends.finditer(text, first - 1, last)]
        for position in reversed(found):
            if _is_cut(text, position):
                return position
    return _last_cut(text, first, last)


def _last_cut(text: str, first: int, last: int) -> int:
    """Return the last position from `first` to `last` where the text may be cut.

    If there is none, return one where at least no CRLF is cut.
    """
    for position in range(last, first - 1, -1):
        if _is_cut(text, position):
            return position
    return last - _is_within_crlf(text, last)


def _is_cut(text: str, position: int) -> bool:
    return not _is_within_crlf(text, position) and not _extends(text[position])


def _is_within_crlf(text: str, position: int) -> bool:
    return text[position - 1 : position + 1] == "\r\n"


def _extends(character: str) -> bool:
    """Return whether a character belongs to the one before it."""
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def merge(pieces: Sequence[Piece], responses: Iterable[DetectPHIResponse]) -> DetectPHIResponse:
    """Return what was found in the whole text, with ids in the order of the text.

    An entity counts if it touches the own part of its piece. Several entities with the same offsets
    and type count once, with the highest score. An entity does not count if another piece found a
    longer one of the same type around it, with at least the same score. Otherwise, if pieces
    disagree, all of their entities count.

    Args:
        pieces: the pieces of the text.
        responses: the responses to them, in the same order.
    """
    versions: dict[str, None] = {}
    found: dict[tuple[int, int, str], _Found] = {}
    for index, (piece, response) in enumerate(zip(pieces, responses, strict=True)):
        if response.model_version is not None:
            versions[response.model_version] = None
        for entity in response.entities:
            begin, end = piece.begin + entity.begin_offset, piece.begin + entity.end_offset
            if begin >= piece.own_end or end <= piece.own_begin:
                continue
            shifted = replace(entity, begin_offset=begin, end_offset=end)
            same = found.setdefault((begin, -end, entity.type), _Found(shifted, set()))
            same.pieces.add(index)
            if usable_score(entity) > usable_score(same.entity):
                same.entity = shifted
    # The order of the text, and longer entities before those that lie within them.
    kept = _without_parts(found[key] for key in sorted(found))
    return DetectPHIResponse(
        entities=tuple(replace(entity, id=number) for number, entity in enumerate(kept)),
        model_version=",".join(versions) or None,
    )


@define
class _Found:
    """An entity of the whole text, and the indices of the pieces that found it."""

    entity: Entity
    pieces: set[int]


def _without_parts(found: Iterable[_Found]) -> Iterator[Entity]:
    """Yield the entities that do not lie within one of the same type in another piece.

    One with a higher score is yielded: `min_score` may leave out the other one.
    """
    earlier: list[_Found] = []  # those that may contain the next one
    for one in found:
        entity = one.entity
        earlier = [other for other in earlier if other.entity.end_offset > entity.begin_offset]
        # If one piece found both, they are no disagreement between pieces.
        if not any(
            other.entity.end_offset >= entity.end_offset
            and other.entity.type == entity.type
            and usable_score(other.entity) >= usable_score(entity)
            and other.pieces.isdisjoint(one.pieces)
            for other in earlier
        ):
            earlier.append(one)
            yield entity

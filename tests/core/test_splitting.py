"""Splitting a text into pieces, and merging what was found in them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from comprehend_phi import DetectPHIResponse, Entity, RequestValidationError, redact
from comprehend_phi._splitting import Piece, merge, split

Detector = Callable[[str], Iterable[Entity]]

LIMIT = 20_000

# Letters of one to four bytes, white space, line ends, combining marks and joiners, in any order.
_WORDS = st.sampled_from(
    ("a", "é", "語", "🙂", " ", "  ", "\t", "\r\n", "\n", "\r", "\n\n", "\r\n\r\n", "\u2028", ". ")
) | st.sampled_from(
    ("e\u0301", "\u0301" * 7, "\u200d", "👩\u200d👧", "\ufe0f", "word ", 'He said "no." ', "x" * 40)
)
_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Lists without a minimum would usually be so short that nothing is split.
TEXTS = st.lists(_WORDS | _ANY_TEXT, min_size=40, max_size=80).map("".join)
SIZES = st.integers(64, 300).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size // 2))
)


def size_of(text: str) -> int:
    return len(text.encode())


def is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or character in "\u200c\u200d"


def entity(begin: int, end: int, kind: str = "NAME", score: float = 0.9, **fields: Any) -> Entity:
    members: dict[str, Any] = {"id": 0, "text": "x" * (end - begin), "category": "PHI", **fields}
    return Entity(begin_offset=begin, end_offset=end, type=kind, score=score, **members)


def found_in_pieces(text: str, detector: Detector, max_bytes: int, overlap: int) -> list[Entity]:
    pieces = split(text, max_bytes, overlap)
    found = [
        DetectPHIResponse(entities=tuple(detector(text[each.begin : each.end]))) for each in pieces
    ]
    return list(merge(pieces, found).entities)


# --- Pieces ---------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(TEXTS, SIZES)
@example("", (64, 0))
@example("\u0301" * 500, (64, 32))
@example("🙂" * 500, (64, 32))
@example("\r\n" * 500, (65, 31))
@example(("a" + "\U000e0100" * 32) * 20, (64, 32))
def test_pieces_cover_the_text_within_the_limit(text: str, sizes: tuple[int, int]) -> None:
    max_bytes, overlap = sizes
    pieces = split(text, max_bytes, overlap)

    assert (pieces == []) == (text == "")
    parts = [text[each.own_begin : each.own_end] for each in pieces]
    assert "".join(parts) == text
    assert all(parts)
    for each in pieces:
        assert each.begin <= each.own_begin < each.own_end <= each.end
        assert size_of(text[each.begin : each.end]) <= max_bytes
    for each in pieces[:-1]:
        assert size_of(text[each.begin : each.end]) * 4 >= max_bytes * 3
    for one, following in pairwise(pieces):
        assert one.own_end == following.own_begin
        # Both sides of the middle have at least half of the overlap.
        assert size_of(text[following.begin : following.own_begin]) * 2 >= overlap
        assert size_of(text[one.own_end : one.end]) * 2 >= overlap


@settings(max_examples=300)
@given(TEXTS, SIZES)
def test_no_piece_begins_or_ends_within_a_line_end(text: str, sizes: tuple[int, int]) -> None:
    for each in split(text, *sizes):
        for position in (each.begin, each.end):
            assert text[max(0, position - 1) : position + 1] != "\r\n"


@pytest.mark.parametrize("mark", ["\u0301", "\u200d", "\u200c", "\ufe0f", "\U000e0100"])
@pytest.mark.parametrize("overlap", [0, 1_000])
def test_no_piece_begins_or_ends_before_a_mark(mark: str, overlap: int) -> None:
    text = ("e" + mark * 300) * 500

    pieces = split(text, LIMIT, overlap)

    assert len(pieces) > 2
    assert all(text[each.begin] == "e" for each in pieces)
    assert all(text[each.end] == "e" for each in pieces[:-1])


def test_a_run_of_marks_may_be_cut_if_it_fills_a_quarter_of_a_piece() -> None:
    text = "e" + "\u0301" * 60

    [first, *_] = split(text, 96, 0)

    assert first.end == 48  # as many as fit


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("\n\n", "\n"),
        ("\r\n\r\n", "\r\n"),
        ("\n \t\n", "\n"),
        ("\n", ". "),
        ("\r\n", "? "),
        ('." ', " "),
        (" ", "x"),
    ],
)
def test_a_piece_ends_at_the_best_boundary_of_its_last_quarter(early: str, late: str) -> None:
    text = "x" * 80 + early + "x" * 5 + late + "x" * 200

    assert split(text, 100, 0)[0].end == 80 + len(early)


def test_a_single_line_end_is_no_paragraph() -> None:
    text = "x" * 80 + "\r\n" + "x" * 5 + "\r\n" + "x" * 200

    assert split(text, 100, 0)[0].end == 89


@pytest.mark.parametrize("text", ["x", "x" * LIMIT, "é" * (LIMIT // 2)])
def test_a_text_that_fits_is_one_piece(text: str) -> None:
    assert split(text, LIMIT, 1_000) == [Piece(0, len(text), 0, len(text))]


@pytest.mark.parametrize(
    "arguments",
    [
        (b"text", LIMIT, 0),
        ("\ud800", LIMIT, 0),
        ("text", 63, 0),
        ("text", LIMIT + 1, 0),
        ("text", 64.0, 0),
        ("text", 64, -1),
        ("text", 64, 33),
        ("text", 64, None),
    ],
)
def test_an_invalid_argument_is_refused(arguments: tuple[Any, Any, Any]) -> None:
    with pytest.raises(RequestValidationError, match=r"^detect_phi_in_document\."):
        split(*arguments)


# --- The whole text from its pieces ---------------------------------------------------------------


def detector_of(pattern: str, kind: str) -> Detector:
    """Return a detector for which an entity needs the context that a pattern looks at."""
    compiled = re.compile(pattern)

    def detect(text: str) -> Iterable[Entity]:
        for match in compiled.finditer(text):
            begin, end = match.span("span")
            yield entity(begin, end, kind, text=match["span"])

    return detect


DETECTORS = (
    detector_of(r"(?<![ab])(?P<span>[ab]{1,5})(?![ab])", "NAME"),  # one more letter on either side
    detector_of(r"(?<=x:)(?P<span>[^\s]{1,3})", "ID"),
    detector_of(r"(?P<span>é\U0001f642|\U0001f642)", "DATE"),
    detector_of(r"(?P<span>a)", "NAME"),  # lies within entities of the first detector
    detector_of(r"(?P<span>b)", "AGE"),
)


def detect_all(text: str) -> list[Entity]:
    return [each for detector in DETECTORS for each in detector(text)]


def spans(entities: Iterable[Entity]) -> list[tuple[int, int, str, str]]:
    return sorted({(e.begin_offset, e.end_offset, e.type, e.text) for e in entities})


def test_a_split_text_has_the_same_entities_as_the_whole_text() -> None:
    random = Random(0)  # Hypothesis would take most of the time to generate the texts.
    for _ in range(10_000):
        text = "".join(random.choices("aabbx:é🙂 .\n\r\u0301語", k=random.randrange(200)))
        # The longest entity with its context has 7 code points of at most 4 bytes: 28 bytes.
        max_bytes = random.randint(112, 160)
        overlap = random.randint(56, max_bytes // 2)

        found = found_in_pieces(text, detect_all, max_bytes, overlap)

        assert spans(found) == spans(detect_all(text))
        assert [each.id for each in found] == list(range(len(found)))
        assert all(text[each.begin_offset : each.end_offset] == each.text for each in found)
        assert [each.begin_offset for each in found] == sorted(each.begin_offset for each in found)


@settings(max_examples=100)
@given(TEXTS, SIZES, st.data())
def test_no_text_that_a_piece_found_in_its_own_part_stays_unredacted(
    text: str, sizes: tuple[int, int], data: st.DataObject
) -> None:
    # Each piece finds something else, as a model may that sees another context.
    pieces = split(text, *sizes)
    responses: list[DetectPHIResponse] = []
    hidden: set[int] = set()
    allowed: set[int] = set()
    for each in pieces:
        entities: list[Entity] = []
        for _ in range(data.draw(st.integers(0, 3))):
            begin = data.draw(st.integers(each.begin, each.end - 1))
            end = data.draw(st.integers(begin + 1, each.end))
            kind = data.draw(st.sampled_from(["NAME", "ID"]))
            entities.append(
                entity(begin - each.begin, end - each.begin, kind, text=text[begin:end])
            )
            allowed.update(range(begin, end))
            if begin < each.own_end and end > each.own_begin:
                hidden.update(range(begin, end))
        responses.append(DetectPHIResponse(entities=tuple(entities)))

    merged = merge(pieces, responses).entities

    covered = {
        position for each in merged for position in range(each.begin_offset, each.end_offset)
    }
    assert hidden == covered <= allowed
    assert [each.id for each in merged] == list(range(len(merged)))
    redact(text, merged)  # raises if an offset or a text is wrong


# Two pieces that share the code points 8 to 12. The middle is 10.
LEFT, RIGHT = Piece(0, 12, 0, 10), Piece(8, 20, 10, 20)


def merged(left: Iterable[Entity], right: Iterable[Entity]) -> list[tuple[int, int, str, float]]:
    """Return what remains of entities whose offsets count from the begin of the whole text."""
    moved = [
        entity(each.begin_offset - 8, each.end_offset - 8, each.type, each.score) for each in right
    ]
    responses = [DetectPHIResponse(entities=tuple(each)) for each in (left, moved)]
    result = merge([LEFT, RIGHT], responses).entities
    return [(each.begin_offset, each.end_offset, each.type, each.score) for each in result]


def test_an_entity_that_both_pieces_find_counts_once_with_the_higher_score() -> None:
    assert merged([entity(9, 11, score=0.5)], [entity(9, 11, score=0.7)]) == [(9, 11, "NAME", 0.7)]
    assert merged([entity(9, 11, score=0.7)], [entity(9, 11, score=0.5)]) == [(9, 11, "NAME", 0.7)]


@pytest.mark.parametrize("within", [(9, 11), (8, 11), (9, 12)])
@pytest.mark.parametrize("swap", [False, True])
def test_an_entity_within_one_of_the_same_type_in_the_other_piece_does_not_count(
    swap: bool, within: tuple[int, int]
) -> None:
    one, other = [entity(*within)], [entity(8, 12)]

    assert merged(*((other, one) if swap else (one, other))) == [(8, 12, "NAME", 0.9)]


# A score that is not a number from 0 to 1 counts as 1.
@pytest.mark.parametrize(("high", "low"), [(0.9, 0.2), (2.0, 0.9), (math.nan, 0.9)])
@pytest.mark.parametrize("swap", [False, True])
def test_a_higher_score_counts_whatever_the_other_piece_found(
    swap: bool, high: float, low: float
) -> None:
    text = "Seen by Ada Example."

    def redacted(one: Entity, other: Entity) -> str:
        pieces = [Piece(0, 20, 0, 12), Piece(0, 20, 12, 20)]
        each = [DetectPHIResponse(entities=(found,)) for found in (one, other)]
        found = merge(pieces, each[::-1] if swap else each)
        return redact(text, found.entities, min_score=0.95 if high > 1 or math.isnan(high) else 0.5)

    within = entity(8, 19, score=high, text="Ada Example")
    assert redacted(within, entity(5, 19, score=low, text="by Ada Example")) == "Seen by [NAME]."
    assert redacted(within, entity(8, 19, score=low, text="Ada Example")) == "Seen by [NAME]."


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(entity(9, 11), entity(8, 12, "ID"), id="another type"),
        pytest.param(entity(9, 11), entity(9, 11, "ID"), id="another type, same extent"),
        pytest.param(entity(8, 11), entity(9, 12), id="overlapping"),
    ],
)
def test_all_other_disagreements_are_kept(swap: bool, one: Entity, other: Entity) -> None:
    both = ([other], [one]) if swap else ([one], [other])

    assert {each[:3] for each in merged(*both)} == {
        (each.begin_offset, each.end_offset, each.type) for each in (one, other)
    }


def test_an_entity_within_another_of_its_own_piece_is_kept() -> None:
    both = [entity(8, 12), entity(9, 11)]

    assert [each[:2] for each in merged(both, both)] == [(8, 12), (9, 11)]
    assert [each[:2] for each in merged(both, both[:1])] == [(8, 12), (9, 11)]


def test_a_piece_does_not_decide_about_the_own_part_of_another() -> None:
    # At its edge, a piece may find half of an entity, or something that is none.
    assert merged([entity(10, 12)], [entity(8, 10)]) == []


def test_a_missing_response_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        merge([LEFT, RIGHT], [DetectPHIResponse(entities=())])


def test_entities_are_numbered_in_the_order_of_the_text() -> None:
    pieces = [LEFT, RIGHT]
    responses = [
        DetectPHIResponse(entities=(entity(6, 7, id=0), entity(1, 2, id=1)), model_version="1"),
        DetectPHIResponse(entities=(entity(5, 6, id=0),), model_version="1"),
    ]

    result = merge(pieces, responses)

    assert [(each.id, each.begin_offset) for each in result.entities] == [(0, 1), (1, 6), (2, 13)]
    assert result.model_version == "1"


@pytest.mark.parametrize(
    ("versions", "expected"),
    [(("1", "2"), "1,2"), (("2", "2"), "2"), ((None, "1"), "1"), ((None, None), None)],
)
def test_different_versions_of_the_model_are_all_listed(
    versions: tuple[str | None, str | None], expected: str | None
) -> None:
    responses = [DetectPHIResponse(entities=(), model_version=each) for each in versions]

    assert merge([LEFT, RIGHT], responses).model_version == expected

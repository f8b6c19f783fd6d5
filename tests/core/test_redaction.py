from __future__ import annotations

import math
import pickle
import string
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from comprehend_phi import Entity, redact
from comprehend_phi.errors import ComprehendPHIError, RedactionError, RequestValidationError

from ..entities import entity

NAN = math.nan


def moved(fitting: Entity, *, begin: int = 0, end: int = 0) -> Entity:
    return msgspec.structs.replace(
        fitting,
        begin_offset=fitting.begin_offset + begin,
        end_offset=fitting.end_offset + end,
    )


# --- What is redacted: examples -------------------------------------------------------------------

NOTE = "Pt: Ottoline Marsh, 555-0142, seen."
NAME = entity(NOTE, 4, 18, "NAME")
PHONE = entity(NOTE, 20, 28, "PHONE_OR_FAX", id_=1)


def test_a_mark_shows_the_type_of_the_entity() -> None:
    assert redact(NOTE, [NAME, PHONE]) == "Pt: [NAME], [PHONE_OR_FAX], seen."


def test_a_text_without_entities_is_unchanged() -> None:
    assert redact(NOTE, []) == NOTE


def test_an_empty_text_has_nothing_to_redact() -> None:
    assert redact("", []) == ""


def test_a_text_may_be_covered_to_its_last_code_point() -> None:
    assert redact("Ottoline", [entity("Ottoline", 0, 8)]) == "[NAME]"


def test_entities_may_come_from_a_generator() -> None:
    assert redact(NOTE, (found for found in (NAME, PHONE))) == redact(NOTE, [NAME, PHONE])


@pytest.mark.parametrize(
    ("text", "begin", "end", "expected"),
    [
        pytest.param("\U0001d4dew, Marsh", 4, 9, "\U0001d4dew, [NAME]", id="astral before"),
        pytest.param(
            "\U0001f469\u200d\u2695 Marsh", 4, 9, "\U0001f469\u200d\u2695 [NAME]", id="ZWJ"
        ),
        pytest.param("Jose\u0301 Marsh", 0, 5, "[NAME] Marsh", id="combining mark inside"),
        pytest.param("Jose\u0301 Marsh", 0, 4, "[NAME]\u0301 Marsh", id="combining mark left over"),
        pytest.param("Pt\r\nMarsh\r\n", 4, 9, "Pt\r\n[NAME]\r\n", id="CRLF"),
        pytest.param("Otto\r\nMarsh", 0, 11, "[NAME]", id="across a line end"),
        pytest.param("\x00Marsh\x00", 1, 6, "\x00[NAME]\x00", id="NUL"),
        pytest.param("\ufeffMarsh", 1, 6, "\ufeff[NAME]", id="byte order mark"),
    ],
)
def test_offsets_count_code_points(text: str, begin: int, end: int, expected: str) -> None:
    assert redact(text, [entity(text, begin, end)]) == expected


LETTERS = "abcdefgh"


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([(0, 1, "X"), (3, 4, "Y"), (6, 7, "Z")], "[X]bc[Y]ef[Z]h", id="apart"),
        pytest.param([(6, 7, "Z"), (3, 4, "Y"), (0, 1, "X")], "[X]bc[Y]ef[Z]h", id="backwards"),
        pytest.param([(1, 4, "X"), (3, 5, "Y")], "a[X]fgh", id="overlapping"),
        pytest.param([(1, 6, "X"), (2, 4, "Y")], "a[X]gh", id="nested"),
        pytest.param([(1, 6, "X"), (2, 3, "Y"), (4, 6, "Z")], "a[X]gh", id="two in one"),
        pytest.param([(1, 4, "X"), (3, 6, "Y"), (5, 7, "Z")], "a[X]h", id="chain"),
        pytest.param([(1, 4, "X"), (1, 4, "X")], "a[X]efgh", id="the same twice"),
        pytest.param([(1, 3, "X"), (1, 5, "Y")], "a[Y]fgh", id="one begin, two ends"),
        pytest.param([(1, 5, "X"), (3, 5, "Y")], "a[X]fgh", id="one end, two begins"),
        pytest.param([(1, 3, "X"), (3, 5, "Y")], "a[X][Y]fgh", id="touching"),
        pytest.param([(1, 3, "X"), (3, 5, "X")], "a[X][X]fgh", id="touching, of one type"),
        pytest.param(
            [(1, 3, "X"), (3, 5, "Y"), (2, 4, "Z")], "a[X]fgh", id="touching, with a bridge"
        ),
    ],
)
def test_overlapping_entities_share_a_mark_and_adjacent_ones_do_not(
    spans: list[tuple[int, int, str]], expected: str
) -> None:
    assert redact(LETTERS, [entity(LETTERS, *span) for span in spans]) == expected


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        pytest.param(
            entity(LETTERS, 2, 6, "WINS", id_=1, score=0.1),
            entity(LETTERS, 1, 4, "LOSES", id_=0, score=0.9),
            id="the longer, whatever its score",
        ),
        pytest.param(
            entity(LETTERS, 2, 5, "WINS", id_=1, score=0.9),
            entity(LETTERS, 1, 4, "LOSES", id_=0, score=0.1),
            id="the higher score, wherever it begins",
        ),
        pytest.param(
            entity(LETTERS, 1, 4, "WINS", id_=1),
            entity(LETTERS, 2, 5, "LOSES", id_=0),
            id="the earlier, whatever its id",
        ),
        pytest.param(
            entity(LETTERS, 1, 4, "WINS", id_=0),
            entity(LETTERS, 1, 4, "LOSES", id_=1),
            id="the lower id, whatever its type",
        ),
        pytest.param(
            entity(LETTERS, 2, 5, "WINS", score=NAN),
            entity(LETTERS, 1, 4, "LOSES", score=0.99),
            id="a score that is not a number counts as 1",
        ),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_type_of_a_shared_mark_follows_the_documented_order(
    winner: Entity, loser: Entity, reverse: bool
) -> None:
    found = [loser, winner] if reverse else [winner, loser]
    assert redact(LETTERS, found, replacement="{type}").strip(LETTERS) == "WINS"


# --- What is redacted: properties -----------------------------------------------------------------

# A slow machine must not fail these tests.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Few letters, so that texts repeat and shifted offsets sometimes match by chance.
texts = st.text("ab\r\n\x00\u0301\U0001f9ec{}", max_size=14) | st.text(max_size=14)

# Few scores, ids and types, so that ties of all kinds are common.
scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@st.composite
def fitting_entities(draw: st.DrawFn, text: str) -> Entity:
    begin = draw(st.integers(0, len(text) - 1))
    rest = len(text) - begin
    # Mostly short spans, so that one text has several separate groups.
    length = draw(st.integers(1, min(rest, 3)) | st.integers(1, rest))
    return entity(
        text,
        begin,
        begin + length,
        draw(st.sampled_from(["X", "Y", "Z"])),
        id_=draw(st.integers(0, 2)),
        score=draw(scores),
    )


def some_entities(text: str) -> st.SearchStrategy[list[Entity]]:
    return st.lists(fitting_entities(text), max_size=6) if text else st.just([])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    text = draw(texts)
    return text, draw(some_entities(text))


@st.composite
def documents_with_one(draw: st.DrawFn) -> tuple[str, Entity, list[Entity]]:
    """Generate a text, one of its entities to change, and other entities that stay unchanged."""
    text = draw(texts.filter(bool))
    return text, draw(fitting_entities(text)), draw(some_entities(text))


def covers(found: Entity, index: int) -> bool:
    return found.begin_offset <= index < found.end_offset


def winner_by_the_rules(group: list[Entity]) -> str:
    """Return the type of a mark by the rules in the docstring of `redact`, one after the other."""

    def length(found: Entity) -> int:
        return len(found.text)

    group = [found for found in group if length(found) == max(map(length, group))]
    group = [found for found in group if found.score == max(other.score for other in group)]
    first = min(found.begin_offset for found in group)
    group = [found for found in group if found.begin_offset == first]
    lowest = min(found.id for found in group)
    return min(found.type for found in group if found.id == lowest)


def redact_naively(text: str, entities: list[Entity]) -> str:
    """Redact one code point after the other, without span arithmetic and without sorting."""
    result = ""
    group: list[Entity] = []
    for index, character in enumerate(text):
        here = [found for found in entities if covers(found, index)]
        # A mark continues if one entity covers this code point and the one before it.
        if group and not any(covers(found, index - 1) for found in here):
            result += f"<{winner_by_the_rules(group)}>"
            group = []
        group += here
        result += "" if here else character
    return result + (f"<{winner_by_the_rules(group)}>" if group else "")


@untimed
@given(documents())
def test_only_the_covered_code_points_are_removed(document: tuple[str, list[Entity]]) -> None:
    text, entities = document
    left = [c for i, c in enumerate(text) if not any(covers(found, i) for found in entities)]
    assert redact(text, entities, replacement="") == "".join(left)


@untimed
@given(documents())
def test_marks_are_where_a_naive_redaction_puts_them(document: tuple[str, list[Entity]]) -> None:
    text, entities = document
    assert redact(text, entities, replacement="<{type}>") == redact_naively(text, entities)


@untimed
@given(st.data(), documents())
def test_the_order_of_the_entities_does_not_matter(
    data: st.DataObject, document: tuple[str, list[Entity]]
) -> None:
    text, entities = document
    assert redact(text, data.draw(st.permutations(entities))) == redact(text, entities)


@untimed
@given(documents(), scores)
def test_entities_below_min_score_change_nothing(
    document: tuple[str, list[Entity]], min_score: float
) -> None:
    text, entities = document
    sure = [found for found in entities if found.score >= min_score]
    assert redact(text, entities, min_score=min_score) == redact(text, sure)


# --- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "min_score", "expected"),
    [
        (0.49, 0.5, "Marsh"),
        (0.5, 0.5, "[NAME]"),
        (0.51, 0.5, "[NAME]"),
        (0.0, 0.0, "[NAME]"),
        (0.999, 1.0, "Marsh"),
        (1.0, 1.0, "[NAME]"),
        (0.999, 1, "Marsh"),
        (0.0, 5e-324, "Marsh"),
    ],
)
def test_an_entity_with_exactly_min_score_is_redacted(
    score: float, min_score: float, expected: str
) -> None:
    assert redact("Marsh", [entity("Marsh", 0, 5, score=score)], min_score=min_score) == expected


@pytest.mark.parametrize("score", [NAN, math.inf, -math.inf, -0.1, 1.1])
def test_an_entity_with_a_meaningless_score_is_redacted(score: float) -> None:
    assert redact("Marsh", [entity("Marsh", 0, 5, score=score)], min_score=1.0) == "[NAME]"


@pytest.mark.parametrize("score", [NAN, math.inf, -math.inf, -0.1, 1.1, 2.0])
def test_a_meaningless_score_ranks_as_one(score: float) -> None:
    # Both have the same length and score, so the one that begins earlier names the mark.
    found = [entity(LETTERS, 1, 4, "FIRST", score=1.0), entity(LETTERS, 2, 5, "ODD", score=score)]
    assert redact(LETTERS, found) == "a[FIRST]fgh"
    assert redact(LETTERS, [entity(LETTERS, 0, 3, "ODD", score=score), found[0]]) == "[ODD]efgh"


def test_an_entity_below_min_score_neither_widens_nor_names_a_mark() -> None:
    found = [entity(LETTERS, 1, 7, "LOW", score=0.2), entity(LETTERS, 3, 5, "HIGH", score=0.8)]
    assert redact(LETTERS, found, min_score=0.5) == "abc[HIGH]fgh"


def test_an_entity_below_min_score_is_checked_too() -> None:
    misplaced = moved(entity(NOTE, 4, 18, score=0.1), begin=1, end=1)
    with pytest.raises(RedactionError):
        redact(NOTE, [PHONE, misplaced], min_score=0.5)


@pytest.mark.parametrize(
    ("min_score", "reason"),
    [
        (NAN, "must be between 0 and 1"),
        (-0.001, "must be between 0 and 1"),
        (1.001, "must be between 0 and 1"),
        (math.inf, "must be between 0 and 1"),
        (-math.inf, "must be between 0 and 1"),
        (10**400, "must be between 0 and 1"),
        (True, "must be a number, not bool"),
        ("0.5", "must be a number, not str"),
        (None, "must be a number, not NoneType"),
        (0.5j, "must be a number, not complex"),
    ],
)
def test_a_min_score_outside_0_to_1_is_rejected(min_score: Any, reason: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        redact("", [], min_score=min_score)
    assert str(caught.value) == f"redact.min_score (score) {reason}"


# --- Entities that do not fit ---------------------------------------------------------------------

# No message contains any of these characters by chance.
CANARY = "\u0134\u00e5\u00f1\u00e9\u00d0\u00f8\u00e9\u260e\U0001d7dd"
SECRET = f"\u00b6{CANARY}\u00b6"

MISFITS = [
    ("begins before the text", -1, 4, "begins before the text"),
    ("negative on both sides", -9, -1, "begins before the text"),
    ("ends at the start of the text", -11, 0, "begins before the text"),
    ("inverted", 7, 3, "ends before it begins"),
    ("ends before the text", 3, -2, "ends before it begins"),
    ("inverted beyond the text", 99, 98, "ends before it begins"),
    ("empty", 3, 3, "is empty"),
    ("empty at the start", 0, 0, "is empty"),
    ("empty at the end", 11, 11, "is empty"),
    ("one too far", 1, 12, "ends after the end of the text, which has 11 code points"),
    ("begins at the end", 11, 12, "ends after the end of the text, which has 11 code points"),
    ("wholly beyond", 98, 99, "ends after the end of the text, which has 11 code points"),
    ("one to the left", 0, 9, "does not match the text at these offsets"),
    ("one to the right", 2, 11, "does not match the text at these offsets"),
    ("one short", 1, 9, "does not match the text at these offsets"),
    ("one long", 1, 11, "does not match the text at these offsets"),
]


def misfit(begin: int, end: int, text: str = CANARY) -> Entity:
    return msgspec.structs.replace(
        entity(SECRET, 1, 10, id_=4711), begin_offset=begin, end_offset=end, text=text
    )


def refusal(text: str, *entities: Entity, **options: Any) -> ComprehendPHIError:
    with pytest.raises(ComprehendPHIError) as caught:
        redact(text, entities, **options)
    return caught.value


@pytest.mark.parametrize(
    ("begin", "end", "rule"), [pytest.param(*case, id=name) for name, *case in MISFITS]
)
def test_the_error_has_the_id_the_offsets_and_the_broken_rule(
    begin: int, end: int, rule: str
) -> None:
    error = refusal(SECRET, misfit(begin, end))
    assert isinstance(error, RedactionError)
    assert str(error).startswith(f"Entity 4711 at offsets {begin} to {end} {rule}. ")


# A slice with negative offsets may yield the text, but the offsets are wrong anyway.
@pytest.mark.parametrize(("begin", "end"), [(-10, -1), (-1, 11), (3, 3), (7, 3), (5, 99), (11, 12)])
def test_a_bad_span_raises_even_if_a_slice_there_yields_the_text_of_the_entity(
    begin: int, end: int
) -> None:
    error = refusal(SECRET, misfit(begin, end, SECRET[begin:end]))
    assert f"{begin} to {end}" in str(error)


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        pytest.param("Marsh", "marsh", id="case"),
        pytest.param("Jos\u00e9", "Jose\u0301", id="normal form"),
        pytest.param("a\nb", "a\rb", id="line end"),
        pytest.param("Marsh", "", id="none"),
    ],
)
def test_the_text_of_an_entity_is_compared_exactly(text: str, claimed: str) -> None:
    tampered = msgspec.structs.replace(entity(text, 0, len(text)), text=claimed)
    assert isinstance(refusal(text, tampered), RedactionError)


def test_the_error_shows_the_entity_its_offsets_and_what_to_do() -> None:
    assert str(refusal("Marsh", entity("Marshes", 0, 7, id_=3))) == (
        "Entity 3 at offsets 0 to 7 ends after the end of the text, which has 5 code points."
        " Nothing was redacted. Use the entities of exactly this file, decode it as UTF-8 and keep"
        " its line ends."
    )


def test_no_entity_matches_an_empty_text() -> None:
    assert isinstance(refusal("", NAME), RedactionError)


def test_one_mismatch_among_many_entities_raises() -> None:
    fits = [entity(SECRET, index, index + 1, id_=index) for index in range(11)]
    assert "Entity 4711 " in str(refusal(SECRET, *fits[:5], misfit(0, 9), *fits[5:]))


def test_offsets_counted_in_utf16_units_raise() -> None:
    text = "\U0001f9ec Marsh"
    assert isinstance(refusal(text, moved(entity(text, 2, 7), begin=1, end=1)), RedactionError)


def test_offsets_counted_in_bytes_raise() -> None:
    text = "\u00c9t\u00e9 Marsh"
    assert isinstance(refusal(text, moved(entity(text, 4, 9), begin=2, end=2)), RedactionError)


def test_line_ends_that_changed_after_the_job_raise() -> None:
    sent = "Pt:\r\nMarsh"
    assert isinstance(refusal(sent.replace("\r\n", "\n"), entity(sent, 5, 10)), RedactionError)


shifts = st.integers(-16, 16).filter(bool)


@untimed
@given(documents_with_one(), shifts, st.sampled_from(["begin", "end"]))
def test_a_shift_of_one_offset_always_raises(
    document: tuple[str, Entity, list[Entity]], shift: int, side: str
) -> None:
    text, fitting, others = document
    with pytest.raises(RedactionError):
        redact(text, [*others, moved(fitting, **{side: shift})])


@untimed
@given(documents_with_one(), shifts)
def test_a_shift_of_both_offsets_raises_unless_the_text_there_is_the_same(
    document: tuple[str, Entity, list[Entity]], shift: int
) -> None:
    text, fitting, others = document
    # An independent check: find() searches from the offset and uses no slices.
    place = fitting.begin_offset + shift
    assume(place < 0 or text.find(fitting.text, place) != place)
    with pytest.raises(RedactionError):
        redact(text, [*others, moved(fitting, begin=shift, end=shift)])


@untimed
@given(documents_with_one())
def test_a_shift_that_does_not_raise_covers_the_same_characters(
    document: tuple[str, Entity, list[Entity]],
) -> None:
    half, fitting, _ = document
    # If a text repeats, a shift by its period matches.
    text = half * 2
    shifted = moved(fitting, begin=len(half), end=len(half))
    first = redact(text, [fitting], replacement="")
    second = redact(text, [shifted], replacement="")
    assert sorted(first) == sorted(second)


# --- What the errors hold -------------------------------------------------------------------------

REFUSALS = [
    *(pytest.param(misfit(begin, end), {}, id=name) for name, begin, end, _ in MISFITS),
    pytest.param(misfit(1, 10), {"replacement": f"{{{CANARY}}}"}, id="replacement: unknown field"),
    pytest.param(misfit(1, 10), {"replacement": f"{CANARY}{{"}, id="replacement: open brace"),
    pytest.param(misfit(1, 10), {"replacement": CANARY.encode()}, id="replacement: bytes"),
    pytest.param(misfit(1, 10), {"min_score": CANARY}, id="min_score: str"),
]


@pytest.mark.parametrize(("found", "options"), REFUSALS)
def test_an_error_shows_no_part_of_the_text_or_replacement(
    found: Entity, options: dict[str, Any]
) -> None:
    error = refusal(SECRET, found, **options)
    shown = f"{error!s} {error!r} {error.args} {vars(error)}"
    escapes = {ascii(character)[1:-1] for character in SECRET}
    assert not {leak for leak in {*SECRET, *escapes} if leak in shown}


@pytest.mark.parametrize(("found", "options"), REFUSALS)
def test_an_error_has_no_cause_and_no_context(found: Entity, options: dict[str, Any]) -> None:
    error = refusal(SECRET, found, **options)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(("found", "options"), REFUSALS)
def test_an_error_survives_pickling(found: Entity, options: dict[str, Any]) -> None:
    error = refusal(SECRET, found, **options)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, vars(copy)) == (type(error), error.args, vars(error))


def test_the_advice_of_an_error_names_the_usual_cause() -> None:
    assert "decode it as UTF-8 and keep its line ends" in str(refusal(SECRET, misfit(0, 9)))


# --- The replacement ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        ("[{type}]", "[NAME]"),
        ("", ""),
        ("***", "***"),
        ("{type}-{type}", "NAME-NAME"),
        ("{{{type}}}", "{NAME}"),
        ("{{type}}", "{type}"),
        ("}}{{", "}{"),
        ("%s \\1 \\g<0> $type", "%s \\1 \\g<0> $type"),
        ("\u2588\r\n\x00", "\u2588\r\n\x00"),
    ],
)
def test_a_replacement_may_use_the_field_type(replacement: str, expected: str) -> None:
    assert redact("Marsh", [entity("Marsh", 0, 5)], replacement=replacement) == expected


ONLY_TYPE = "may only use the field {type}; write literal braces as {{ and }}"


@pytest.mark.parametrize(
    ("replacement", "reason"),
    [
        *(
            (replacement, ONLY_TYPE)
            for replacement in (
                "{}",
                "{0}",
                "{name}",
                "{text}",
                "{TYPE}",
                "{ type }",
                "{type}{name}",
                "{type.__class__}",
                "{type.__init__.__globals__}",
                "{type[0]}",
                "{type!r}",
                "{type:>9999999999}",
                "{type:{type}}",
                "{",
                "}",
                "{type",
                "type}",
                "{{type}",
                "{type}}",
                "{type}\n{",
            )
        ),
    ],
)
def test_any_other_replacement_is_rejected_even_without_entities(
    replacement: Any, reason: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        redact("", [], replacement=replacement)
    assert str(caught.value) == f"redact.replacement (format string) {reason}"


def knows_only_type(replacement: str) -> bool:
    """Say whether Python's own parser of format strings accepts the replacement."""
    try:
        parsed = list(string.Formatter().parse(replacement))
    except ValueError:
        return False
    return all(field in (None, "type") and not conversion for _, field, _, conversion in parsed)


pieces_of_replacements = st.lists(
    st.sampled_from(["{", "}", "{{", "}}", "type", "{type}", "!r", ".x", "[0]", "0", "\n"]),
    max_size=6,
).map("".join)


@untimed
@given(pieces_of_replacements)
def test_a_replacement_is_parsed_as_python_parses_it(replacement: str) -> None:
    found = [entity("Marsh", 0, 5, "ID")]
    if knows_only_type(replacement):
        assert redact("Marsh", found, replacement=replacement) == replacement.format(type="ID")
    else:
        with pytest.raises(RequestValidationError):
            redact("Marsh", found, replacement=replacement)


@pytest.mark.parametrize(
    "type_", ["{x}", "{type}", "{0}", "{", "}}", "{type.__class__}", "%s", "\\1", "$type", ""]
)
def test_a_type_appears_literally(type_: str) -> None:
    assert redact("Marsh", [entity("Marsh", 0, 5, type_)]) == f"[{type_}]"


@pytest.mark.parametrize("bad", [{"replacement": "{x}"}, {"min_score": 2}])
def test_the_options_are_checked_before_the_entities_are_read(bad: dict[str, Any]) -> None:
    entities = iter([NAME])
    with pytest.raises(RequestValidationError):
        redact(NOTE, entities, **bad)
    assert next(entities) is NAME


# --- Time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", [pytest.param(10, id="apart"), pytest.param(30, id="one long chain")]
)
def test_redacting_a_large_text_takes_no_quadratic_time(length: int) -> None:
    text = "\U0001f9ec" * 1_000_000
    entities = [entity(text, begin, begin + length) for begin in range(0, 999_900, 20)]
    start = time.process_time()
    redact(text, entities)
    # It takes about 50 milliseconds. Copying the text for each entity would take a minute.
    assert time.process_time() - start < 2

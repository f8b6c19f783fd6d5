"""What replaces an entity: functions, masks of the same length, and pseudonyms."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comprehend_phi import Entity, pseudonyms, redact, same_length
from comprehend_phi.errors import RedactionError, RequestValidationError

from ..conftest import CANARY
from ..entities import entity

KEY = bytes(range(32))
NOTE = f"Pt: {CANARY}, 555-0142, seen."


NAME = entity(NOTE, 4, 22, id_=4711)
PHONE = entity(NOTE, 24, 32, "PHONE_OR_FAX", id_=1)


def whole(text: str, type_: str = "NAME") -> Entity:
    """Build an entity that is the whole text."""
    return entity(text, 0, len(text), type_)


def refusal(text: str, *entities: Entity, returned: object) -> RedactionError:
    def replacement(_entity: Entity) -> Any:
        return returned

    with pytest.raises(RedactionError) as caught:
        redact(text, entities, replacement=replacement)
    return caught.value


# --- Functions ------------------------------------------------------------------------------------


def test_a_function_returns_the_mark_of_each_entity() -> None:
    redacted = redact(NOTE, [NAME, PHONE], replacement=lambda found: f"<{found.id} {found.type}>")

    assert redacted == "Pt: <4711 NAME>, <1 PHONE_OR_FAX>, seen."


def test_a_function_may_return_the_empty_text() -> None:
    assert redact(NOTE, [NAME, PHONE], replacement=lambda _: "") == "Pt: , , seen."


def test_a_function_is_not_called_for_entities_below_min_score() -> None:
    seen: list[Entity] = []

    def replacement(found: Entity) -> str:
        seen.append(found)
        return ""

    low = entity(NOTE, 24, 32, score=0.2)
    redact(NOTE, [NAME, low], min_score=0.5, replacement=replacement)

    assert seen == [NAME]


@pytest.mark.parametrize(("longest", "other"), [((2, 6), (1, 4)), ((1, 5), (4, 6))])
def test_a_function_gets_one_entity_for_entities_that_overlap(
    longest: tuple[int, int], other: tuple[int, int]
) -> None:
    text = "abcdefgh"
    entities = [
        entity(text, *other, "AGE", id_=7, score=0.9),
        entity(text, *longest, "DATE", id_=8, score=0.5),
    ]
    seen: list[Entity] = []

    def replacement(found: Entity) -> str:
        seen.append(found)
        return "-"

    assert redact(text, entities, replacement=replacement) == "a-gh"
    assert seen == [entity(text, 1, 6, "DATE", id_=8, score=0.5)]


# Letters that are also types, so that texts and types are sometimes equal.
texts = st.text("abXY\r\n\u0301\U0001f9ec\u05d0", max_size=14)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    text = draw(texts)
    if not text:
        return text, []
    spans = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 4), st.sampled_from("XY"))
    found = draw(st.lists(spans, max_size=6))
    return text, [
        entity(text, begin, min(begin + size, len(text)), type_) for begin, size, type_ in found
    ]


@given(documents())
def test_a_function_puts_its_marks_where_a_template_does(
    document: tuple[str, list[Entity]],
) -> None:
    text, entities = document

    by_function = redact(text, entities, replacement=lambda found: f"[{found.type}]")

    assert by_function == redact(text, entities, replacement="[{type}]")


@pytest.mark.parametrize("bad", [None, b"[{type}]", 3])
def test_what_is_neither_a_template_nor_a_function_is_refused(bad: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        redact("", [], replacement=bad)

    assert str(caught.value) == (
        "redact.replacement (format string or function) must be a str or a function, not"
        f" {type(bad).__name__}"
    )


# --- Functions that fail --------------------------------------------------------------------------


class _Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "cls", [ValueError, KeyError, StopIteration, RecursionError, GeneratorExit, _Stop]
)
def test_what_a_function_raises_becomes_an_error_without_text(cls: type[BaseException]) -> None:
    def replacement(found: Entity) -> NoReturn:
        raise cls(found.text) from OSError(found.text)

    with pytest.raises(RedactionError) as caught:
        redact(NOTE, [PHONE, NAME], replacement=replacement)

    error = caught.value
    assert str(error) == (
        f"The replacement for entity 4711 at offsets 4 to 22 raised {cls.__name__}. Nothing was"
        " redacted. Correct the function."
    )
    assert (error.__cause__, error.__context__) == (None, None)
    assert (error.args, vars(error)) == ((str(error),), {})
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("cls", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_through(cls: type[BaseException]) -> None:
    interrupt = cls()

    def replacement(_: Entity) -> NoReturn:
        raise interrupt

    with pytest.raises(cls) as caught:
        redact(NOTE, [NAME], replacement=replacement)
    assert caught.value is interrupt


@pytest.mark.parametrize("returned", [None, CANARY.encode(), 4, [CANARY], NAME, ValueError(CANARY)])
def test_a_function_must_return_a_str(returned: object) -> None:
    error = refusal(NOTE, NAME, returned=returned)

    assert f" is not a str but {type(returned).__name__}. " in str(error)
    assert CANARY not in f"{error!r} {error.args} {vars(error)}"
    assert (error.__cause__, error.__context__) == (None, None)


def test_a_coroutine_function_is_refused() -> None:
    async def replacement(_: Entity) -> str:
        await asyncio.sleep(0)
        return "mark"

    pending = replacement(NAME)
    error = refusal(NOTE, NAME, returned=pending)
    pending.close()

    assert " is not a str but coroutine. " in str(error)


def test_a_function_must_return_what_utf8_can_encode() -> None:
    assert " is not text that UTF-8 can encode. " in str(refusal(NOTE, NAME, returned="\ud83e"))


# --- The own text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "returned"),
    [
        pytest.param("Otto Marsh", "Otto Marsh", id="the text"),
        pytest.param("Otto Marsh", "[Otto Marsh]", id="with something around it"),
        pytest.param("Otto", "Ottoline", id="within a word"),
        pytest.param("Otto Marsh", "[OTTO marsh]", id="in another case"),
        pytest.param("Otto Marsh", "Otto\r\n \u00a0Marsh", id="with other spacing"),
        pytest.param(" Otto Marsh\n", "Otto Marsh", id="without its spaces"),
        pytest.param("Jos\u00e9 Marsh", "Jose\u0301 Marsh", id="in another normal form"),
        pytest.param("Otto Marsh", "O\u200btto Ma\u00adrsh", id="with invisible characters"),
        pytest.param("Stra\u00dfe", "STRASSE", id="folded"),
        pytest.param("Otto", "\uff2f\uff54\uff54\uff4f", id="in full width"),
        pytest.param("Bo", "Bo", id="short"),
        pytest.param("Bo", "[NAME Bo]", id="short, as a word"),
        pytest.param("Bo", "NAME_Bo", id="short, after an underscore"),
        pytest.param("Bo", "bo's", id="short, before an apostrophe"),
        pytest.param("42", "AGE-42", id="digits, as a word"),
        pytest.param("C++", "<C++>", id="with characters of a pattern"),
        pytest.param("\u05d0\u05d1", "[\u05d0\u05d1]", id="right to left"),
    ],
)
def test_a_function_must_not_return_the_text_that_it_replaces(text: str, returned: str) -> None:
    error = refusal(text, whole(text), returned=returned)

    assert str(error) == (
        f"The replacement for entity 0 at offsets 0 to {len(text)} contains the text that it"
        " replaces. Nothing was redacted. Correct the function."
    )
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(
    ("text", "type_", "returned"),
    [
        pytest.param("Bo", "NAME", "Bob", id="short, within a word"),
        pytest.param("42", "AGE", "142", id="digits, within a number"),
        pytest.param("Name", "NAME", "[NAME]", id="the type itself"),
        pytest.param("Phone", "PHONE_OR_FAX", "[PHONE_OR_FAX]", id="a part of the type"),
        pytest.param("Fax", "PHONE_OR_FAX", "[PHONE_OR_FAX]", id="a word of the type"),
        pytest.param("---", "ID", "---", id="no letter or digit"),
        pytest.param(" ", "ID", "a b", id="white space"),
        pytest.param("\u200b", "ID", "mark", id="invisible"),
        pytest.param("Otto Marsh", "NAME", "Marsh", id="a part of the text"),
    ],
)
def test_other_results_of_a_function_are_used(text: str, type_: str, returned: str) -> None:
    assert redact(text, [whole(text, type_)], replacement=lambda _: returned) == returned


def test_a_short_text_counts_although_the_type_has_it_within_a_word() -> None:
    assert "contains" in str(refusal("AM", whole("AM", "NAME"), returned="[NAME AM]"))


def test_the_text_of_every_entity_that_overlaps_counts() -> None:
    text = "Dr. Otto Marsh"
    found = [entity(text, 0, 8), entity(text, 4, 14, id_=1)]

    for returned in ("dr. otto", "otto marsh"):
        assert "contains" in str(refusal(text, *found, returned=returned))


def test_the_text_of_other_entities_does_not_count() -> None:
    def replacement(found: Entity) -> str:
        return "555-0142" if found == NAME else "-"

    assert redact(NOTE, [NAME, PHONE], replacement=replacement) == "Pt: 555-0142, -, seen."


# --- Masks of the same length ---------------------------------------------------------------------


def test_a_mask_has_as_many_code_points_as_the_text() -> None:
    redacted = redact(NOTE, [NAME, PHONE], replacement=same_length())

    assert redacted == "Pt: ******************, ********, seen."


def test_a_mask_covers_all_entities_that_overlap() -> None:
    found = [entity("abcdefgh", 1, 4), entity("abcdefgh", 2, 6)]

    assert redact("abcdefgh", found, replacement=same_length()) == "a*****gh"


@given(documents(), st.sampled_from("*#x\u2588\U0001f512"))
def test_a_mask_changes_exactly_the_covered_code_points_but_line_breaks(
    document: tuple[str, list[Entity]], character: str
) -> None:
    text, entities = document
    covered = {i for found in entities for i in range(found.begin_offset, found.end_offset)}

    redacted = redact(text, entities, replacement=same_length(character))

    assert redacted == "".join(
        character if i in covered and c not in "\r\n" else c for i, c in enumerate(text)
    )


def test_a_mask_keeps_every_line_break() -> None:
    text = "a\nb\rc\r\nd\ve\ff\x1cg\x1dh\x1ei\x85j\u2028k\u2029l"

    redacted = redact(text, [whole(text)], replacement=same_length())

    assert redacted == "*".join(["", *re.findall(r"\W+", text), ""])
    assert len(redacted.splitlines()) == len(text.splitlines())


def test_a_mask_may_look_like_the_text() -> None:
    assert redact("xxxx", [whole("xxxx")], replacement=same_length("x")) == "xxxx"


@pytest.mark.parametrize("character", ["*", "x", "0", "\\", "{", "\u2588", "\u4e00", "\U0001f512"])
def test_a_mask_may_consist_of_any_printable_character(character: str) -> None:
    assert redact("Bo", [whole("Bo")], replacement=same_length(character)) == character * 2


@pytest.mark.parametrize(
    ("character", "reason"),
    [
        ("", "must have at least 1 character, not 0"),
        ("**", "must have at most 1 character, not 2"),
        *(
            (character, "must be printable, and neither white space nor a combining mark")
            for character in " \t\n\x00\u00a0\u200b\u2028\u0301\u0903\ufe0f\u20dd\ud800\ue000\uffff"
        ),
        (b"*", "must be a str, not bytes"),
        (None, "must be a str, not NoneType"),
    ],
)
def test_a_mask_of_another_character_is_refused(character: Any, reason: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        same_length(character)
    assert str(caught.value) == f"same_length.character (character) {reason}"


def test_a_mask_can_be_pickled() -> None:
    mask = pickle.loads(pickle.dumps(same_length("#")))

    assert redact("Bo", [whole("Bo")], replacement=mask) == "##"


# --- Pseudonyms -----------------------------------------------------------------------------------


def token(text: str, type_: str = "NAME", *, key: bytes = KEY, digits: int = 64) -> str:
    return pseudonyms(key, digits=digits)(whole(text, type_))


# Such a token can be computed with other tools, for example with:
# printf 'NAME\0ottoline marsh' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f
@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("Ottoline Marsh", "NAME", "[NAME-22373193f3bd9752]"),
        ("555-0142", "PHONE_OR_FAX", "[PHONE_OR_FAX-c568ea0b6f77f5f9]"),
        ("Jos\u00e9 M\u00fcller", "NAME", "[NAME-f062261c35d6464e]"),
        ("Stra\u00dfe 7", "ADDRESS", "[ADDRESS-7e2f826b71b840cd]"),
        ("\u200b", "NAME", "[NAME-4075010a89941b2b]"),
    ],
)
def test_tokens_never_change(text: str, type_: str, expected: str) -> None:
    assert redact(f"<{text}>", [entity(f"<{text}>", 1, len(text) + 1, type_)]) == f"<[{type_}]>"
    assert pseudonyms(KEY)(whole(text, type_)) == expected


# Python cannot undo a change of the case of four letters: dotless i becomes I, and three Greek
# letters with two marks get them in another order.
spellable = st.text(
    st.characters(categories=["L", "N", "P", "Zs"], exclude_characters="\u0131\u1fb7\u1fc7\u1ff7"),
    max_size=12,
).map(lambda text: unicodedata.normalize("NFC", text))
normal_forms = st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"])
cases = st.sampled_from([str.upper, str.lower, str.title, str.swapcase, str.casefold])


@given(spellable, normal_forms)
def test_a_token_does_not_depend_on_the_normal_form(text: str, form: Any) -> None:
    assert token(unicodedata.normalize(form, text)) == token(text)


@given(spellable, cases)
@example("Stra\u00dfe \u1f84\u03c2", str.upper)
def test_a_token_does_not_depend_on_the_case(text: str, change: Callable[[str], str]) -> None:
    assert token(change(text)) == token(text)


@given(spellable, normal_forms, st.sampled_from("\u200b\u200d\u00ad\u200f\ufeff"), st.integers(0))
def test_a_token_does_not_depend_on_format_characters(
    text: str, form: Any, character: str, place: int
) -> None:
    spelled = unicodedata.normalize(form, text)
    place %= len(spelled) + 1

    assert token(f"{spelled[:place]}{character}{spelled[place:]}") == token(text)


@given(st.lists(st.sampled_from(["Otto", "M.", "\u05d0"]), min_size=1), st.data())
def test_a_token_does_not_depend_on_the_spacing(words: list[str], data: st.DataObject) -> None:
    spaces = st.text(" \t\r\n\u00a0\u3000", min_size=1, max_size=3)
    spelled = "".join(data.draw(spaces) + word for word in words) + data.draw(spaces)

    assert token(spelled) == token(" ".join(words))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(token("Otto Marsh"), token("Otto Marsch"), id="text"),
        pytest.param(token("OttoMarsh"), token("Otto Marsh"), id="words"),
        pytest.param(token("Jose"), token("Jos\u00e9"), id="accent"),
        pytest.param(token("Otto", key=KEY), token("Otto", key=KEY[::-1]), id="key"),
        pytest.param(token("Otto", "ID")[4:], token("Otto", "URL")[5:], id="type"),
        pytest.param(token("b", "ab")[4:], token("bb", "a")[3:], id="border of type and text"),
    ],
)
def test_different_things_have_different_tokens(one: str, other: str) -> None:
    assert one != other


@given(st.text(max_size=200), st.integers(8, 64))
def test_a_token_reveals_nothing_but_the_type(text: str, digits: int) -> None:
    assert re.fullmatch(rf"\[NAME-[0-9a-f]{{{digits}}}\]", token(text, digits=digits))


def test_fewer_digits_are_the_beginning_of_the_token() -> None:
    assert token("Otto", digits=8)[:-1] == token("Otto", digits=64)[: len("[NAME-") + 8]


def test_a_token_may_contain_the_text_by_chance() -> None:
    redacted = redact("0a2d", [whole("0a2d", "ID")], replacement=pseudonyms(KEY))

    assert redacted == "[ID-11c0340a2d441070]"


def test_a_token_exists_for_text_that_utf8_cannot_encode() -> None:
    assert token("\ud83e") != token("\ud83d")


def test_tokens_are_the_same_in_a_hundred_thousand_documents_and_several_threads() -> None:
    replacement = pseudonyms(KEY)
    names = [f"Ottoline Marsh {number}" for number in range(1_000)]

    def tokens(name: str) -> set[str]:
        upper = name.upper()
        documents = ((name, [whole(name)]), (upper, [whole(upper)]))
        return {redact(*document, replacement=replacement) for document in documents * 50}

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tokens, names))

    assert [len(each) for each in found] == [1] * 1_000
    assert len({each for tokens_of_a_name in found for each in tokens_of_a_name}) == 1_000


def test_tokens_are_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "from comprehend_phi import Entity, pseudonyms;"
        "entity = Entity(id=0, begin_offset=0, end_offset=4, score=1.0, text='OTTO',"
        " category='', type='NAME');"
        "print(pseudonyms(bytes(range(32)), digits=64)(entity))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert done.stdout == f"{token('Otto')}\n"


# --- The key --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"key": b"fifteen bytes.."},
            "pseudonyms.key (bytes) must have at least 16 bytes; create it with"
            " secrets.token_bytes(32)",
        ),
        (
            {"key": "sixteen bytes..."},
            "pseudonyms.key (bytes) must be a bytes, not str; create it with"
            " secrets.token_bytes(32)",
        ),
        ({"key": KEY, "digits": 7}, "pseudonyms.digits (digits) must be at least 8"),
        ({"key": KEY, "digits": 65}, "pseudonyms.digits (digits) must be at most 64"),
        ({"key": KEY, "digits": True}, "pseudonyms.digits (digits) must be an int, not bool"),
    ],
)
def test_wrong_arguments_are_refused_without_the_key(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        pseudonyms(**arguments)
    assert str(caught.value) == message


def test_a_key_of_sixteen_bytes_is_enough() -> None:
    assert pseudonyms(KEY[:16])(whole("Otto")).startswith("[NAME-")


def test_the_key_is_in_no_repr_and_in_no_attribute() -> None:
    replacement = pseudonyms(KEY, digits=20)

    assert repr(replacement) == f"{replacement}" == "pseudonyms(digits=20)"
    attributes = [getattr(replacement, name) for name in dir(replacement)]
    assert KEY not in attributes
    assert repr(KEY)[2:-1] not in repr(attributes)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pseudonyms_refuse_to_be_pickled_and_copied(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        duplicate(pseudonyms(KEY))
    assert "call pseudonyms(key) in each process" in str(caught.value)

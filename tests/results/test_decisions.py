"""A reviewer's decisions: their file, and what they change."""

from __future__ import annotations

import json
import os
import pickle
import stat
import traceback
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from comprehend_phi import Document, Entity, RedactionError, RequestValidationError, redact
from comprehend_phi._redaction import overlapping
from comprehend_phi.review import AddedMark, Decisions, DecisionsError, DocumentDecisions

from ..conftest import CANARY
from ..entities import entity

NOTE = f"Pt: {CANARY}, 555-0142, seen by Iris."


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def document_of(*entities: Entity) -> Document:
    return Document(
        input_key="notes/a.txt",
        output_key="results/a.txt.out",
        entities=entities,
        model_version="1.0",
    )


DOCUMENT = document_of(entity(NOTE, 4, 22, id_=3), entity(NOTE, 24, 32, id_=7))
IRIS = AddedMark(begin_offset=42, end_offset=46, type="NAME")


def decided(text: str = NOTE, **members: Any) -> Decisions:
    """Decisions about the note of `DOCUMENT`. Without arguments, they change nothing."""
    empty = {"reviewed": False, "rejected": (), "added": ()}
    members = {"input_key": "notes/a.txt", "sha256": hash_of(text), **empty, **members}
    return Decisions((DocumentDecisions(**members),))


# --- Applying decisions ---------------------------------------------------------------------------


def test_a_rejected_entity_is_not_redacted() -> None:
    document = decided(rejected=(3,)).apply(DOCUMENT, NOTE)

    assert redact(NOTE, document.entities) == f"Pt: {CANARY}, [NAME], seen by Iris."


def test_all_entities_of_a_mark_are_rejected_together() -> None:
    found = (entity(NOTE, 4, 10, id_=3), entity(NOTE, 8, 22, id_=5), entity(NOTE, 24, 32, id_=7))
    document = decided(rejected=(3, 5)).apply(document_of(*found), NOTE)

    assert document.entities == found[2:]


def test_an_added_mark_is_redacted() -> None:
    document = decided(added=(IRIS,)).apply(DOCUMENT, NOTE)

    assert redact(NOTE, document.entities) == "Pt: [NAME], [NAME], seen by [NAME]."


def test_one_rejected_and_one_added_mark_change_exactly_their_spans() -> None:
    document = decided(rejected=(7,), added=(IRIS,)).apply(DOCUMENT, NOTE)

    assert redact(NOTE, document.entities) == "Pt: [NAME], 555-0142, seen by [NAME]."


def test_an_added_mark_becomes_an_entity_that_min_score_never_leaves_out() -> None:
    marks = (IRIS, AddedMark(begin_offset=0, end_offset=2, type="ID"))
    document = decided(added=marks).apply(DOCUMENT, NOTE)

    assert document.entities[:2] == DOCUMENT.entities
    assert document.entities[2:] == (
        entity(NOTE, 42, 46, id_=8, score=1.0),
        entity(NOTE, 0, 2, "ID", id_=9, score=1.0),
    )


def test_a_mark_can_be_added_to_a_document_without_entities() -> None:
    document = decided(added=(IRIS,)).apply(document_of(), NOTE)

    assert document.entities == (entity(NOTE, 42, 46, id_=0, score=1.0),)


def test_an_added_mark_is_redacted_where_an_entity_was_rejected() -> None:
    mark = AddedMark(begin_offset=11, end_offset=22, type="NAME")
    document = decided(rejected=(3,), added=(mark,)).apply(DOCUMENT, NOTE)

    assert redact(NOTE, document.entities) == "Pt: Zinnia [NAME], [NAME], seen by Iris."


def test_an_added_mark_may_end_with_the_text() -> None:
    mark = AddedMark(begin_offset=42, end_offset=len(NOTE), type="NAME")
    document = decided(added=(mark,)).apply(document_of(), NOTE)

    assert redact(NOTE, document.entities).endswith("seen by [NAME]")


def test_decisions_keep_everything_else_of_a_document() -> None:
    document = decided(rejected=(3, 7)).apply(DOCUMENT, NOTE)

    assert document == msgspec.structs.replace(DOCUMENT, entities=())


def test_a_document_without_decisions_stays_as_it_is() -> None:
    other = msgspec.structs.replace(DOCUMENT, input_key="notes/b.txt")

    assert decided(rejected=(3,)).apply(other, NOTE) is other
    assert Decisions().apply(DOCUMENT, NOTE) is DOCUMENT


# Emoji, combining marks, line ends of all kinds, and right-to-left text.
texts = st.text("aZ\r\n\u0301\u200d\U0001f469\U0001f9ec\u05d0\u202e", min_size=1, max_size=14)


@st.composite
def spans(draw: st.DrawFn, text: str) -> tuple[int, int]:
    begin = draw(st.integers(0, len(text) - 1))
    return begin, draw(st.integers(begin + 1, len(text)))


@given(st.data(), texts, st.sampled_from([0.0, 0.5, 1.0]))
def test_exactly_the_accepted_code_points_are_replaced(
    data: st.DataObject, text: str, min_score: float
) -> None:
    scores = st.sampled_from([0.25, 0.75])
    found = [
        entity(text, *span, id_=id_, score=data.draw(scores))
        for id_, span in enumerate(data.draw(st.lists(spans(text), max_size=5)))
    ]
    marks_found = [[each.id for each in mark] for mark in overlapping(found)]
    rejected_marks = (
        st.lists(st.sampled_from(marks_found), unique_by=tuple) if found else st.just([])
    )
    rejected = [id_ for mark in data.draw(rejected_marks) for id_ in mark]
    added = data.draw(st.lists(spans(text), unique=True, max_size=3))
    marks = (AddedMark(begin_offset=begin, end_offset=end, type="ID") for begin, end in added)
    decisions = decided(text, rejected=tuple(rejected), added=tuple(marks))
    accepted = added + [
        (each.begin_offset, each.end_offset)
        for each in found
        if each.id not in rejected and each.score >= min_score
    ]

    document = decisions.apply(document_of(*found), text)
    redacted = redact(text, document.entities, min_score=min_score, replacement="")

    assert redacted == "".join(
        character
        for index, character in enumerate(text)
        if not any(begin <= index < end for begin, end in accepted)
    )


# --- Decisions that do not fit --------------------------------------------------------------------


def refusal(decisions: Decisions, document: Document = DOCUMENT, **options: Any) -> DecisionsError:
    with pytest.raises(DecisionsError) as caught:
        decisions.apply(document, NOTE, **options)
    return caught.value


@pytest.mark.parametrize(
    ("decisions", "document", "message"),
    [
        pytest.param(
            decided(f"{NOTE} "),
            DOCUMENT,
            "The note is not the one that was reviewed. Review it again.",
            id="another text",
        ),
        pytest.param(
            decided(rejected=(3, 8)),
            DOCUMENT,
            "The decisions reject entity 8, but the document has 0 entities with this id. Use the"
            " decisions for the results that were reviewed.",
            id="an id that does not exist",
        ),
        pytest.param(
            decided(rejected=(3,)),
            document_of(entity(NOTE, 4, 22, id_=3), entity(NOTE, 42, 46, id_=3)),
            "The decisions reject entity 3, but the document has 2 entities with this id. Use the"
            " decisions for the results that were reviewed.",
            id="an id that exists twice",
        ),
        pytest.param(
            decided(rejected=(3, 5)),
            document_of(
                entity(NOTE, 4, 10, id_=3), entity(NOTE, 8, 22, id_=5), entity(NOTE, 4, 22, id_=4)
            ),
            "The decisions reject only some of the entities [3, 4, 5], which overlap and share one"
            " mark. Reject all of them or none.",
            id="a part of a mark",
        ),
        pytest.param(
            decided(rejected=(3,)),
            document_of(entity(NOTE, 4, 10, id_=3), entity(NOTE, 8, 22, id_=5)),
            "The decisions reject only some of the entities [3, 5], which overlap and share one"
            " mark. Reject all of them or none.",
            id="one of two entities",
        ),
        pytest.param(
            decided(added=(AddedMark(begin_offset=42, end_offset=48, type="NAME"),)),
            DOCUMENT,
            "The added mark at offsets 42 to 48 ends after the end of the text, which has 47 code"
            " points. Review the note again.",
            id="a mark beyond the text",
        ),
    ],
)
def test_decisions_that_do_not_fit_are_refused_without_text(
    decisions: Decisions, document: Document, message: str
) -> None:
    error = refusal(decisions, document)

    assert str(error) == message
    assert isinstance(error, RedactionError)
    assert (error.__cause__, error.__context__) == (None, None)
    assert str(pickle.loads(pickle.dumps(error))) == message


@pytest.mark.parametrize(
    "decisions",
    [Decisions(), decided(), decided(f"{NOTE} "), decided(rejected=(3,), added=(IRIS,))],
)
def test_a_note_that_is_not_marked_as_reviewed_can_be_refused(decisions: Decisions) -> None:
    error = refusal(decisions, require_reviewed=True)

    assert str(error) == "The note is not marked as reviewed. Review it and save again."


def test_a_note_that_is_marked_as_reviewed_is_not_refused() -> None:
    decisions = decided(reviewed=True, rejected=(3, 7))

    assert decisions.apply(DOCUMENT, NOTE, require_reviewed=True).entities == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NOTE, NOTE), "Decisions.apply.document (Document) must be a Document, not str"),
        (
            (DOCUMENT, NOTE.encode()),
            "Decisions.apply.text (str) must be a str, not bytes; decode bytes as UTF-8",
        ),
    ],
)
def test_wrong_arguments_of_apply_are_refused(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Decisions().apply(*arguments)
    assert str(caught.value) == message


def test_require_reviewed_must_be_a_bool() -> None:
    truthy: Any = "no"
    with pytest.raises(RequestValidationError) as caught:
        Decisions().apply(DOCUMENT, NOTE, require_reviewed=truthy)
    assert str(caught.value) == ("Decisions.apply.require_reviewed (bool) must be a bool, not str")


def test_a_text_that_utf_8_cannot_encode_is_not_the_one_that_was_reviewed() -> None:
    with pytest.raises(DecisionsError, match="not the one that was reviewed"):
        decided().apply(DOCUMENT, "\ud800")


# --- The file -------------------------------------------------------------------------------------

EXAMPLE: dict[str, Any] = {
    "version": 1,
    "documents": [
        {
            "input_key": "notes/a.txt",
            "sha256": hash_of(NOTE),
            "reviewed": True,
            "rejected": [3, 7],
            "added": [{"begin_offset": 42, "end_offset": 46, "type": "NAME"}],
        }
    ],
}


def write(path: Path, content: object) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_a_file_contains_the_decisions_about_each_document(tmp_path: Path) -> None:
    decisions = Decisions.load(write(tmp_path / "decisions.json", EXAMPLE))

    assert decisions == decided(reviewed=True, rejected=(3, 7), added=(IRIS,))


def test_the_path_of_a_file_may_be_a_str(tmp_path: Path) -> None:
    path = str(tmp_path / "decisions.json")
    decided().save(path)

    assert Decisions.load(path) == decided()


def test_decisions_are_saved_as_the_page_saves_them(tmp_path: Path) -> None:
    decided(reviewed=True, rejected=(3, 7), added=(IRIS,)).save(tmp_path / "decisions.json")

    content = (tmp_path / "decisions.json").read_text("utf-8")
    assert json.loads(content) == EXAMPLE
    assert "Zinnia" not in content


marks = st.tuples(st.integers(0, 10), st.integers(11, 2**40), st.sampled_from(["ID", "NAME", "X9"]))


@given(
    st.lists(
        st.builds(
            DocumentDecisions,
            input_key=st.text(st.characters(codec="utf-8")),
            sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
            reviewed=st.booleans(),
            rejected=st.lists(st.integers(0, 99), unique=True, max_size=3).map(tuple),
            added=st.lists(marks, unique=True, max_size=3).map(
                lambda spans: tuple(
                    AddedMark(begin_offset=begin, end_offset=end, type=type_)
                    for begin, end, type_ in spans
                )
            ),
        ),
        unique_by=lambda document: document.input_key,
        max_size=3,
    )
)
def test_saved_decisions_can_be_loaded(
    tmp_path_factory: pytest.TempPathFactory, documents: list[DocumentDecisions]
) -> None:
    path = tmp_path_factory.getbasetemp() / "decisions.json"
    decisions = Decisions(tuple(documents))

    decisions.save(path)

    assert Decisions.load(path) == decisions


def test_only_the_owner_can_read_a_saved_file(tmp_path: Path) -> None:
    path = write(tmp_path / "decisions.json", b"earlier")
    path.chmod(0o666)

    decided().save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["decisions.json"]


def test_saved_decisions_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    decided().save(tmp_path / "decisions.json")

    assert synced != []


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "decisions.json").mkdir()

    with pytest.raises(OSError, match=r"decisions\.json"):
        decided().save(tmp_path / "decisions.json")

    assert [each.name for each in tmp_path.iterdir()] == ["decisions.json"]


def test_a_file_that_does_not_exist_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Decisions.load(tmp_path / "decisions.json")


@pytest.mark.parametrize("method", [Decisions.load, Decisions().save])
def test_a_path_of_another_type_is_refused(method: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        method(3)
    assert str(caught.value) == (
        f"Decisions.{method.__name__}.path (path) must be a str or a path, not int"
    )


def changed(**members: Any) -> dict[str, Any]:
    """The example with other members of its document."""
    return {**EXAMPLE, "documents": [{**EXAMPLE["documents"][0], **members}]}


def with_mark(**members: Any) -> dict[str, Any]:
    """The example with other members of its added mark."""
    return changed(added=[{"begin_offset": 42, "end_offset": 46, "type": "NAME", **members}])


DAMAGED: list[tuple[str, Any, str]] = [
    ("empty", b"", "it is not JSON in UTF-8"),
    ("not JSON", f'{{"{CANARY}'.encode(), "it is not JSON in UTF-8"),
    ("UTF-16", json.dumps(EXAMPLE).encode("utf-16"), "it is not JSON in UTF-8"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "it is not JSON in UTF-8"),
    ("deep", b"[" * 100_000, "it is not JSON in UTF-8"),
    ("a list", [CANARY], "Expected `object`, got `array`"),
    ("a text", CANARY, "Expected `object`, got `str`"),
    ("no version", {"documents": []}, "Object missing required field `version`"),
    ("no documents", {"version": 1}, "Object missing required field `documents`"),
    (
        "version 2",
        {**EXAMPLE, "version": 2},
        "its version is not 1, which is the one that this package knows",
    ),
    ("version true", {**EXAMPLE, "version": True}, "Expected `int`, got `bool` - at `$.version`"),
    (
        "an unknown member",
        {**EXAMPLE, CANARY: CANARY},
        "it contains a member that this package does not know",
    ),
    (
        "an unknown member of a document",
        changed(**{CANARY: ""}),
        "it contains a member that this package does not know",
    ),
    ("text in a mark", with_mark(text=CANARY), "it contains a member that this package does not"),
    ("a repeated member", b'{"version": 1, "version": 1}', "it repeats a member of an object"),
    (
        "no list",
        {**EXAMPLE, "documents": {}},
        "Expected `array`, got `object` - at `$.documents`",
    ),
    (
        "two decisions about one document",
        {**EXAMPLE, "documents": [*changed()["documents"], *changed(reviewed=False)["documents"]]},
        "Decisions.documents (tuple) must not contain a key twice",
    ),
    ("reviewed 1", changed(reviewed=1), "Expected `bool`, got `int`"),
    ("no key", changed(input_key=None), "Expected `str`, got `null`"),
    (
        "a short hash",
        changed(sha256=hash_of(NOTE)[:63]),
        "DocumentDecisions.sha256 (SHA-256) must match [0-9a-f]{64} - at `$.documents[0]`",
    ),
    ("a hash in capitals", changed(sha256=hash_of(NOTE).upper()), "must match [0-9a-f]{64}"),
    ("the text as the hash", changed(sha256=CANARY), "must match [0-9a-f]{64}"),
    ("an id as text", changed(rejected=[CANARY]), "Expected `int`, got `str`"),
    ("an id as a float", changed(rejected=[3.0]), "Expected `int`, got `float`"),
    ("a negative id", changed(rejected=[-1]), "rejected (entity id) must be at least 0"),
    ("an id twice", changed(rejected=[3, 3]), "rejected (tuple) must not repeat an item"),
    ("an id of many digits", f'{{"version": {"1" * 5000}}}'.encode(), "it is not JSON in UTF-8"),
    (
        "a mark twice",
        changed(added=with_mark()["documents"][0]["added"] * 2),
        "added (tuple) must not repeat an item",
    ),
    ("a negative offset", with_mark(begin_offset=-1), "begin_offset (offset) must be at least 0"),
    ("an empty mark", with_mark(end_offset=42), "end_offset (offset) must be greater than begin"),
    (
        "an inverted mark",
        with_mark(end_offset=41),
        "end_offset (offset) must be greater than begin",
    ),
    ("an offset as a float", with_mark(end_offset=46.5), "Expected `int`, got `float`"),
    ("no type", with_mark(type=""), "type (entity type) must have at least 1 character, not 0"),
    ("a long type", with_mark(type="X" * 65), "type (entity type) must have at most 64 characters"),
    ("a text as the type", with_mark(type=CANARY), "must match [A-Z][A-Z0-9_]*"),
]


@pytest.mark.parametrize(
    ("content", "problem"), [pytest.param(*case, id=name) for name, *case in DAMAGED]
)
def test_a_damaged_file_is_refused_without_a_value(
    tmp_path: Path, content: object, problem: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Decisions.load(write(tmp_path / "decisions.json", content))

    error = caught.value
    expected = "Decisions.load.path (decisions) must be a file that the review page has saved: "
    assert str(error).startswith(expected)
    assert problem in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    shown = f"{error!r} {vars(error)} {''.join(traceback.format_exception(error))}"
    assert "Zinnia" not in shown
    assert hash_of(NOTE)[:32] not in shown


# --- The values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"rejected": [3]}, "rejected (tuple) must be a tuple, not list"),
        ({"rejected": (True,)}, "rejected (entity id) must be an int, not bool"),
        ({"rejected": (3, 3)}, "rejected (tuple) must not repeat an item"),
        ({"added": (3,)}, "added (AddedMark) must be an AddedMark, not int"),
        ({"added": (IRIS, IRIS)}, "added (tuple) must not repeat an item"),
        ({"reviewed": 1}, "reviewed (bool) must be a bool, not int"),
        ({"input_key": b"notes/a.txt"}, "input_key (str) must be a str, not bytes"),
        ({"sha256": b"0" * 64}, "sha256 (SHA-256) must be a str, not bytes"),
    ],
)
def test_decisions_about_a_document_are_checked(members: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        decided(**members)
    assert str(caught.value) == f"DocumentDecisions.{problem}"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"begin_offset": 1.0}, "begin_offset (offset) must be an int, not float"),
        ({"end_offset": "46"}, "end_offset (offset) must be an int, not str"),
        ({"end_offset": 42}, "end_offset (offset) must be greater than begin_offset"),
        ({"type": None}, "type (entity type) must be a str, not NoneType"),
    ],
)
def test_an_added_mark_is_checked(members: dict[str, Any], problem: str) -> None:
    fields: dict[str, Any] = {"begin_offset": 42, "end_offset": 46, "type": "NAME", **members}
    with pytest.raises(RequestValidationError) as caught:
        AddedMark(**fields)
    assert str(caught.value) == f"AddedMark.{problem}"


@pytest.mark.parametrize("documents", [[], (DOCUMENT,), decided().documents * 2])
def test_decisions_contain_each_document_once(documents: Any) -> None:
    with pytest.raises(RequestValidationError, match=r"^Decisions\.documents "):
        Decisions(documents)


def test_no_repr_contains_a_key_or_a_hash() -> None:
    decisions = decided(reviewed=True, rejected=(3,), added=(IRIS,))

    assert repr(decisions) == "<Decisions about 1 document, 1 reviewed>"
    assert repr(decisions.documents[0]) == (
        "DocumentDecisions(reviewed=True, rejected=(3,), added=(AddedMark(begin_offset=42,"
        " end_offset=46, type='NAME'),))"
    )


def test_rich_shows_no_key_either() -> None:
    assert "notes/a.txt" not in pretty_repr(decided(reviewed=True))


def test_decisions_can_be_pickled() -> None:
    decisions = decided(rejected=(3,))
    copy = pickle.loads(pickle.dumps(decisions))

    assert copy == decisions
    assert copy.apply(DOCUMENT, NOTE) == decisions.apply(DOCUMENT, NOTE)

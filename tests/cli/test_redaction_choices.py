"""The options that choose what replaces an entity, and those that follow reviewers' decisions."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from comprehend_phi import Entity, pseudonyms
from comprehend_phi.review import AddedMark, Decisions, DocumentDecisions

from ..conftest import CANARY
from .conftest import NOTE, REDACTED, Run

KEY = bytes(range(32))


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "phi.key"
    path.write_bytes(KEY)
    return str(path)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "copies"


@pytest.fixture
def note(tmp_path: Path) -> str:
    path = tmp_path / "note.txt"
    path.write_bytes(NOTE.encode())
    return str(path)


def text_of(path: Path) -> str:
    return path.read_bytes().decode()


# --- What replaces an entity ----------------------------------------------------------------------

SAME_LENGTH = f"Patient: {'*' * len(CANARY)}, seen on **********.\r\nPhone **************\n"


def with_pseudonyms() -> str:
    """Return the note with the tokens of `KEY`."""
    text, token = NOTE, pseudonyms(KEY)
    found = {CANARY: "NAME", "2031-02-03": "DATE", "(555) 555-0142": "PHONE_OR_FAX"}
    for own, type_ in found.items():
        entity = Entity(
            id=0, begin_offset=0, end_offset=1, score=1.0, text=own, category="", type=type_
        )
        text = text.replace(own, token(entity))
    return text


def test_redact_writes_masks_of_the_same_length(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path
) -> None:
    done = run("redact", job_id, str(copies), "--same-length", *endpoint)

    assert done.code == 0
    assert text_of(copies / "one.txt") == SAME_LENGTH


def test_redact_writes_pseudonyms(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path, key_file: str
) -> None:
    done = run("redact", job_id, str(copies), "--pseudonym-key", key_file, *endpoint)

    assert done.code == 0
    for name in ("one.txt", "ward 3/two.txt"):
        assert text_of(copies / name) == with_pseudonyms()


def test_redact_may_replace_entities_with_nothing(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path
) -> None:
    assert run("redact", job_id, str(copies), "--replacement", "", *endpoint).code == 0
    assert text_of(copies / "one.txt") == "Patient: , seen on .\r\nPhone \n"


@pytest.mark.parametrize("redact", [(), ("--redact",)])
def test_detect_text_prints_the_text_if_an_option_says_what_replaces_an_entity(
    run: Run, endpoint: tuple[str, str], note: str, key_file: str, redact: tuple[str, ...]
) -> None:
    choices = {
        ("--same-length",): SAME_LENGTH,
        ("--pseudonym-key", key_file): with_pseudonyms(),
        ("--replacement", "[{type}]"): REDACTED,
    }
    for choice, expected in choices.items():
        done = run("detect-text", note, *choice, *redact, *endpoint)

        assert (done.code, done.out) == (0, expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--same-length", "--replacement", "x"),
            "--same-length cannot be combined with --replacement",
        ),
        (
            ("--pseudonym-key", "phi.key", "--same-length"),
            "--pseudonym-key cannot be combined with --same-length",
        ),
        (("--replacement", "{Zinnia}"), "--replacement (format string) may only use the field"),
        (("--pseudonym-key", "gone.key"), "No such file or directory: gone.key"),
        (("--pseudonym-key", "short.key"), "--pseudonym-key must have at least 16 bytes"),
        (("--pseudonym-key", "s3://bucket/key"), "--pseudonym-key must be a local file"),
    ],
)
@pytest.mark.parametrize("command", [("redact", "job", "copies"), ("detect-text", "gone.txt")])
def test_a_wrong_choice_is_refused_before_anything_is_read(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    options: tuple[str, ...],
    says: str,
) -> None:
    (tmp_path / "short.key").write_text(CANARY[:15])
    monkeypatch.chdir(tmp_path)

    done = run(*command, *options)

    assert done.code in (1, 2)
    assert done.out == ""
    assert says in done.error


# --- What reviewers decided -----------------------------------------------------------------------


def decisions_file(tmp_path: Path, **members: Any) -> str:
    """Save decisions about the first note of `job_id`."""
    empty = DocumentDecisions(
        input_key="good/one.txt",
        sha256=sha256(NOTE.encode()).hexdigest(),
        reviewed=True,
        rejected=(),
        added=(),
    )
    decided = msgspec.structs.replace(empty, **members)
    Decisions((decided,)).save(tmp_path / "decisions.json")
    return str(tmp_path / "decisions.json")


def test_redact_follows_decisions(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path, tmp_path: Path
) -> None:
    seen = AddedMark(begin_offset=29, end_offset=33, type="PROFESSION")
    file = decisions_file(tmp_path, rejected=(1,), added=(seen,))

    done = run("redact", job_id, str(copies), "--decisions", file, *endpoint)

    assert (done.code, done.failed) == (0, {})
    assert text_of(copies / "one.txt") == (
        "Patient: [NAME], [PROFESSION] on 2031-02-03.\r\nPhone [PHONE_OR_FAX]\n"
    )
    assert text_of(copies / "ward 3/two.txt") == REDACTED


def test_redact_leaves_out_what_was_not_reviewed_if_that_is_required(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path, tmp_path: Path
) -> None:
    options = ("--decisions", decisions_file(tmp_path), "--require-reviewed")

    done = run("redact", job_id, str(copies), *options, *endpoint)

    assert done.code == 1
    assert done.failed.keys() == {"good/ward 3/two.txt"}
    assert done.failed["good/ward 3/two.txt"].startswith("DecisionsError: ")
    assert [path.name for path in copies.rglob("*.txt")] == ["one.txt"]


def test_redact_leaves_out_notes_that_their_decisions_do_not_fit(
    run: Run, endpoint: tuple[str, str], job_id: str, copies: Path, tmp_path: Path
) -> None:
    file = decisions_file(tmp_path, rejected=(99,))

    done = run("redact", job_id, str(copies), "--decisions", file, *endpoint)

    assert done.code == 1
    assert "The decisions reject entity 99" in done.failed["good/one.txt"]
    assert [path.name for path in copies.rglob("*.txt")] == ["two.txt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--require-reviewed",), "--require-reviewed needs --decisions"),
        (
            ("--decisions", "note.json"),
            "--decisions must be a file that the review page has saved: it is not JSON in UTF-8",
        ),
        (("--decisions", "gone.json"), "No such file or directory: gone.json"),
        (("--decisions", "s3://bucket/key"), "--decisions must be a local file"),
    ],
)
def test_wrong_decisions_are_refused_before_anything_is_read(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    says: str,
) -> None:
    (tmp_path / "note.json").write_text(NOTE)
    monkeypatch.chdir(tmp_path)

    done = run("redact", "job", "copies", *options)

    assert done.code in (1, 2)
    assert done.out == ""
    assert says in done.error
    assert not (tmp_path / "copies").exists()

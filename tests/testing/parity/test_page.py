"""Each question settles a row of `docs/aws-behavior.md`, and rows that can be asked have one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from comprehend_phi.testing.parity.answers import Reason
from comprehend_phi.testing.parity.command import ExitCode, main
from comprehend_phi.testing.parity.questions import QUESTIONS

DOCS = Path(__file__).parents[3] / "docs"

# Nobody can ask these, or AWS would not be the one to answer.
NOT_ASKED = (
    "Detecting PHI costs",  # on a bill
    "Each attempt is billed",  # on a bill
    "If a response asks for a longer wait",  # a rule of this package's client
    "A note that S3 dates after",  # a rule of this package's client
    "A job may be unknown for up to 15 minutes",  # a rule of this package for forgotten jobs
    "If a job's output folder has a manifest",  # a rule of this package for forgotten jobs
)


def rows() -> list[tuple[str, str, set[str]]]:
    """Return the fact, its source and its questions of each row with a question column."""
    page = (DOCS / "aws-behavior.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (.+?) \| (.+?) \|(?: (.*?) ?)?\|$", page, re.MULTILINE)
    return [
        (fact, source, set(re.findall(r"`([a-z0-9-]+)`", questions)))
        for fact, source, questions in found
    ]


def test_the_rows_of_the_page_are_found() -> None:
    assert len(rows()) > 50


@pytest.mark.parametrize("name", [question.name for question in QUESTIONS])
def test_a_question_settles_a_row(name: str) -> None:
    assert [fact for fact, _, questions in rows() if name in questions]


def test_the_page_names_no_other_questions() -> None:
    named = {name for _, _, questions in rows() for name in questions}
    assert named == {question.name for question in QUESTIONS}


def test_every_unknown_row_that_can_be_asked_has_a_question() -> None:
    unknown = [
        fact
        for fact, source, questions in rows()
        if re.search(r"\bours\b|not known", source) and not questions
    ]
    assert [fact for fact in unknown if not fact.startswith(NOT_ASKED)] == []
    assert len(unknown) == len(NOT_ASKED)


@pytest.fixture
def parity_page() -> str:
    return (DOCS / "parity.md").read_text(encoding="utf-8")


def test_the_page_about_the_kit_has_every_reason(parity_page: str) -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", parity_page, re.MULTILINE)
    assert sorted(listed) == sorted(Reason)


def test_the_page_about_the_kit_has_every_exit_code(parity_page: str) -> None:
    listed = re.findall(r"^\| (\d+) \|", parity_page, re.MULTILINE)
    assert listed == [str(code.value) for code in ExitCode]


def test_the_page_about_the_kit_has_every_option(
    parity_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert [option for option in options if f"`{option}" not in parity_page] == []

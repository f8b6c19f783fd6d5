"""The parity kit agrees with the local service, and notices every other rule.

Each alternative of the local service is found by exactly the questions about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from comprehend_phi.testing import Limits, Rules
from comprehend_phi.testing.parity.questions import QUESTIONS

from .conftest import World

OURS = {question.name: question.ours for question in QUESTIONS}


def alternatives() -> list[Any]:
    """Return each value of a rule that is not the default."""
    options = {name: get_args(hint) for name, hint in get_type_hints(Rules).items()}
    options["list_name"] = ("files", "part-00000.json")
    return [
        pytest.param(name, value, id=f"{name}={value}")
        for name, values in options.items()
        for value in values[1:]
    ]


# Some alternatives leave nothing to look at for other questions.
NOT_ANSWERED: dict[tuple[str, str], dict[str, str]] = {
    ("not_utf8", "processed"): {"latin-1-code": "RESULT_MISSING ErrorCode"},
    ("unprocessed_files", "names"): {
        "latin-1-code": "RESULT_MISSING ErrorCode",
        "too-large-file-code": "RESULT_MISSING ErrorCode",
    },
    ("empty_location", "completes"): {"failure-message": "JOB_DID_NOT_FAIL"},
}


def differences(answers: dict[str, str]) -> dict[str, str]:
    return {name: answer for name, answer in answers.items() if answer != OURS[name]}


def test_with_our_rules_every_answer_is_the_same(world: Callable[..., World]) -> None:
    here = world()
    here.run.ask_all()
    assert here.answers() == OURS


@pytest.mark.parametrize(("name", "value"), alternatives())
def test_exactly_the_questions_about_a_rule_find_its_alternative(
    name: str, value: str, world: Callable[..., World]
) -> None:
    changed: dict[str, Any] = {name: value}
    here = world(rules=Rules(**changed))
    here.run.ask_all()
    expected = {question.name: value for question in QUESTIONS if question.rule == name}
    assert expected
    assert differences(here.answers()) == {**expected, **NOT_ANSWERED.get((name, value), {})}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(file_bytes=71_679), {"largest-file": "unprocessed"}),
        (
            Limits(file_bytes=71_681),
            {"too-large-file": "processed", "too-large-file-code": "RESULT_MISSING ErrorCode"},
        ),
        (Limits(text_bytes=19_999), {"largest-text": "TextSizeLimitExceededException"}),
        (Limits(text_bytes=20_001), {"too-large-text": "accepted"}),
    ],
)
def test_exactly_the_questions_about_a_limit_find_another_one(
    limits: Limits, expected: dict[str, str], world: Callable[..., World]
) -> None:
    here = world(limits=limits)
    here.run.ask_all()
    assert differences(here.answers()) == expected


def test_the_questions_have_names_of_their_own() -> None:
    assert len(OURS) == len(QUESTIONS)

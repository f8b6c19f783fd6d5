"""Wording that several messages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from comprehend_phi._wording import amount, join_first, plural

LETTERS = "abcdefghijklmnopqrst"  # 20


@pytest.mark.parametrize(
    ("items", "options", "text"),
    [
        ([], {}, ""),
        (["a"], {}, "a"),
        (LETTERS, {}, ", ".join(LETTERS)),
        (LETTERS + "u", {}, ", ".join(LETTERS) + " and 1 more"),
        ("abc", {"limit": 2}, "a, b and 1 more"),
        ("abc", {"count": 3}, "a, b, c"),
        ("ab", {"count": 5_002}, "a, b and 5,000 more"),
        ("abc", {"count": 9, "limit": 2}, "a, b and 7 more"),
        ("ab", {"separator": "; "}, "a; b"),
    ],
)
def test_the_first_items_are_joined_and_the_others_counted(
    items: Sequence[str], options: dict[str, Any], text: str
) -> None:
    assert join_first(items, **options) == text


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12_345, "12,345 files")],
)
def test_an_amount_has_the_matching_form(number: int, shown: str) -> None:
    assert amount(number, "file") == shown


@pytest.mark.parametrize(("number", "shown"), [(1, "1 entity is"), (2, "2 entities are")])
def test_an_amount_can_have_an_irregular_form(number: int, shown: str) -> None:
    assert amount(number, "entity is", "entities are") == shown


@pytest.mark.parametrize(("number", "word"), [(0.5, "seconds"), (1.0, "second"), (1.5, "seconds")])
def test_a_fraction_has_the_plural(number: float, word: str) -> None:
    assert plural(number, "second") == word

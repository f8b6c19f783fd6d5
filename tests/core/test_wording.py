"""Wording that several messages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from comprehend_phi._wording import join_first

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

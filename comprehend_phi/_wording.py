"""Wording that several messages share."""

from __future__ import annotations

from collections.abc import Sequence


def plural(number: float, one: str, many: str | None = None) -> str:
    """Return the form of a word that matches a number.

    Args:
        number: the number.
        one: the form for 1, such as "file".
        many: the form for other numbers. Without it, `one` with an s.
    """
    if number == 1:
        return one
    return f"{one}s" if many is None else many


def amount(number: int, one: str, many: str | None = None) -> str:
    """Return a number and the matching form of what it counts, such as "1 file"; see `plural`."""
    return f"{number:,} {plural(number, one, many)}"


def join_first(
    items: Sequence[str], *, count: int | None = None, limit: int = 20, separator: str = ", "
) -> str:
    """Join the first items, and say how many more there are, such as "a, b and 7 more".

    Args:
        items: the items, or the first of them.
        count: how many items there are, if `items` are not all of them.
        limit: how many items to show.
        separator: what to write between two items.
    """
    shown = items[:limit]
    more = (len(items) if count is None else count) - len(shown)
    return separator.join(shown) + (f" and {more:,} more" if more > 0 else "")

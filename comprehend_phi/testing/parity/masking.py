"""Replacing whatever identifies the account, in everything that the kit prints or writes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PATTERNS = (
    (re.compile(r"\barn:[^\s\"',;<>]+"), "<arn>"),
    (
        re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"),
        "<request-id>",
    ),
    (re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{16,}(?![0-9a-fA-F])"), "<id>"),
    (re.compile(r"(?<!\d)\d{12}(?!\d)"), "<account>"),
)


class Mask:
    """Replaces identifiers.

    ARNs, account numbers, and the ids of requests and jobs are recognized by their form.

    Args:
        values: what else to replace, such as the bucket and the name of the role. Each value is
            replaced by its name in angle brackets.
    """

    def __init__(self, values: Iterable[tuple[str, str | None]]) -> None:
        found = {value: f"<{name}>" for name, value in values if value}
        # A value may contain another one.
        self._values = sorted(found.items(), key=lambda item: len(item[0]), reverse=True)

    def __call__(self, text: str) -> str:
        """Return `text` without identifiers."""
        for value, replacement in self._values:
            text = text.replace(value, replacement)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

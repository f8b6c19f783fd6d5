"""Messages of the service without the values that they quote."""

from __future__ import annotations

import re
from collections.abc import Iterable

# AWS's validation messages read: Value '...' at 'jobName' failed to satisfy constraint. The value
# itself may contain this ending, so everything up to the last one is masked.
_QUOTED_VALUE = r"(?s)\b([Vv]alue) '(?:.*(?=' at '[\w.\[\]]+' failed)|.*)"

# Shorter values are masked only where AWS quotes them. They occur in half of all sentences.
_SHORTEST_MASKED = 4
_LONGEST_WORD = 100  # a longer one is masked, because a search in it would take too long

# The rest of the path of a file below a key, up to a colon. It may contain spaces.
_FILE_BELOW = r"(?:(?:(?<=/)|/)[^\s.,;:!?'\")\]](?:(?!: )[\s\S])*)?"

_WORD = re.compile(r"\w+")
_JOINED_WORDS = re.compile(r"\b\w++(?:[^\w\s]\w++)+")  # in linear time


def mask(text: str, values: Iterable[str | None] = ()) -> str:
    """Return a message of the service without `values` and without any value that it quotes.

    If a value is the key of a folder, the names of files in the folder are masked, too.
    """
    # The service shows keys with and without their last slash.
    forms = {form for value in values if value for form in (value, value.rstrip("/"))}
    for value in sorted(forms, key=len, reverse=True):
        if len(value) >= _SHORTEST_MASKED:
            text = re.sub(re.escape(value) + _FILE_BELOW, "***", text)
    return re.sub(_QUOTED_VALUE, r"\1 '***", text)


def mask_words(message: str, text: str) -> str:
    """Return a message of the service without the words of `text`.

    A word of the message is masked if it has four or more characters and occurs in the text, or
    contains such a word of the text. Upper and lower case count as equal.
    """
    if not text:
        return message
    text = text.casefold()
    known = {word for word in _WORD.findall(text) if len(word) >= _SHORTEST_MASKED}

    def masked(match: re.Match[str]) -> str:
        word = match[0].casefold()
        size = len(word)
        if size < _SHORTEST_MASKED:
            return match[0]
        if size > _LONGEST_WORD or word in text:
            return "***"
        parts = (
            word[begin:end]
            for begin in range(size)
            for end in range(begin + _SHORTEST_MASKED, size + 1)
        )
        return match[0] if known.isdisjoint(parts) else "***"

    # First the words that punctuation joins, such as 555-0142, then each word.
    return _WORD.sub(masked, _JOINED_WORDS.sub(masked, message))

"""What replaces an entity: a template, a function, a mask of the same length, or a pseudonym.

A function may return anything, so `call_replacement` checks that its result does not contain the
text that it replaces.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

from attrs import frozen

from ._entities import Entity
from ._shapes import TEXT, InstanceShape, IntegerShape, RuleShape, StringShape, check_argument
from .errors import RedactionError, RequestValidationError

_LINE_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")  # those of str.splitlines
_SHORTEST_KEY = 16  # bytes

# A shorter text is part of many words: "Al" is in "alias".
_SHORTEST_SUBSTRING = 4  # code points


Replacement = str | Callable[[Entity], str]


# --- Ready-made replacements ----------------------------------------------------------------------


def same_length(character: str = "*") -> Callable[[Entity], str]:
    """Return a replacement that writes `character` over every code point except line breaks.

    The redacted text has as many code points as the original, so offsets stay valid. They count
    code points: the number of bytes may change. The mask shows how long the hidden text is.

        redact("Seen by Iris Example.", entities, replacement=same_length())
        # Seen by ************.

    Args:
        character: one printable character, neither white space nor a combining mark.

    Raises:
        RequestValidationError: `character` is not such a character.
    """
    check_argument("same_length", "character", _CHARACTER, character)
    return SameLength(character)


def pseudonyms(key: bytes, *, digits: int = 16) -> Callable[[Entity], str]:
    """Return a replacement that writes the same token wherever the same text has the same type.

    A token such as `[NAME-7f3a9c51e08b24d6]` consists of the type and the first digits of an
    HMAC-SHA-256 under your secret key. The token does not depend on upper and lower case, Unicode
    normal form, invisible format characters or spacing. Without the key, nobody can compute the
    token of a guessed name. With the key, anyone can.

    The result cannot be pickled, so the key cannot reach a file by accident. In another process,
    call `pseudonyms` again.

    Args:
        key: at least 16 random bytes, such as `secrets.token_bytes(32)`. Keep it secret. Another
            key gives other tokens.
        digits: the number of hexadecimal digits, from 8 to 64. Fewer digits make it more likely
            that two texts share a token. Among 10 million names, 16 digits make one such pair with
            a probability of 3 in a million.

    Raises:
        RequestValidationError: `key` or `digits` is not as described.
    """
    check_argument("pseudonyms", "key", _KEY, key)
    check_argument("pseudonyms", "digits", _DIGITS, digits)
    return Pseudonyms(key, digits)


@frozen
class SameLength:
    """See `same_length`."""

    character: str

    def __call__(self, entity: Entity) -> str:
        """Return the mask."""
        return "".join(c if c in _LINE_BREAKS else self.character for c in entity.text)


class Pseudonyms:
    """See `pseudonyms`."""

    __slots__ = ("_digits", "_keyed")

    def __init__(self, key: bytes, digits: int) -> None:
        # The key itself is not kept, so no tool that shows attributes can show it.
        self._keyed = hmac.new(key, digestmod="sha256")
        self._digits = digits

    def __call__(self, entity: Entity) -> str:
        """Return the token."""
        keyed = self._keyed.copy()
        keyed.update(f"{entity.type}\0{normalize(entity.text)}".encode(errors="surrogatepass"))
        return f"[{entity.type}-{keyed.hexdigest()[: self._digits]}]"

    def __repr__(self) -> str:
        return f"pseudonyms(digits={self._digits})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "pseudonyms cannot be pickled or copied, because that would spread the secret key;"
            " call pseudonyms(key) in each process"
        )


def normalize(text: str) -> str:
    """Return the text without differences in case, Unicode form, invisible characters or spacing.

    Remove format characters, convert to NFKC, fold the case, and convert to NFKC again. Then remove
    white space at the ends, and turn each other run of white space into one space.
    """
    # First, because a format character would keep the letters around it from being composed.
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return " ".join(folded.split())


def _character_problem(value: str) -> str | None:
    if value.isprintable() and not value.isspace() and unicodedata.category(value)[0] != "M":
        return None
    return "must be printable, and neither white space nor a combining mark"


_CHARACTER = StringShape("character", 1, 1, rule=_character_problem)
_BYTES = InstanceShape(bytes, "create it with secrets.token_bytes(32)")


def _key_problem(value: Any) -> str | None:
    problem = _BYTES.problem(value)
    if problem is None and len(value) < _SHORTEST_KEY:
        return f"must have at least {_SHORTEST_KEY} bytes; {_BYTES.advice}"
    return problem


_KEY = RuleShape("bytes", _key_problem)
_DIGITS = IntegerShape("digits", 8, 64)


# --- Checking replacements ------------------------------------------------------------------------

# Attributes, conversions and format specs are excluded: they can read objects or pad without limit.
_ONLY_TYPE = re.compile(r"(?:[^{}]|\{\{|\}\}|\{type\})*")


def check_replacement(owner: str, value: Any) -> None:
    """Raise `RequestValidationError` if `value` is neither a template nor a function."""
    if isinstance(value, str):
        check_argument(owner, "replacement", _TEMPLATE, value)
    elif not callable(value):
        raise RequestValidationError(
            owner=owner,
            field="replacement",
            shape="format string or function",
            reason=f"must be a str or a function, not {type(value).__name__}",
        )


def _template_problem(value: str) -> str | None:
    if _ONLY_TYPE.fullmatch(value):
        return None
    return "may only use the field {type}; write literal braces as {{ and }}"


_TEMPLATE = StringShape("format string", rule=_template_problem)


def call_replacement(
    replacement: Callable[[Entity], str], entity: Entity, own_texts: Iterable[str]
) -> str:
    """Return what `replacement` returns for `entity`.

    Args:
        replacement: the function.
        entity: the entity to replace, or one that combines entities that overlap.
        own_texts: the texts of these entities.

    Raises:
        RedactionError: the function raised an exception, or returned something else than a str or
            one of the texts. The error contains neither the exception nor the returned text.
    """
    result: Any = None
    problem: str | None
    try:
        result = replacement(entity)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - any error of the user's may quote the note
        problem = f"raised {type(error).__name__}"
    else:
        problem = _result_problem(result)
        if problem is None and not isinstance(replacement, (SameLength, Pseudonyms)):
            problem = _own_text_problem(result, entity.type, own_texts)
    if problem is None:
        return cast("str", result)
    raise RedactionError(
        f"The replacement for entity {entity.id} at offsets {entity.begin_offset} to"
        f" {entity.end_offset} {problem}. Nothing was redacted. Correct the function."
    )


def _result_problem(result: Any) -> str | None:
    if not isinstance(result, str):
        return f"is not a str but {type(result).__name__}"
    return "is not text that UTF-8 can encode" if TEXT.problem(result) else None


def _own_text_problem(result: str, type_: str, own_texts: Iterable[str]) -> str | None:
    """Return whether the result contains one of the texts that it replaces."""
    result, type_ = normalize(result), normalize(type_)
    for text in map(normalize, own_texts):
        # Everybody may read the type, even if the text is the same word.
        if _contains(result, text) and not _contains(type_, text):
            return "contains the text that it replaces"
    return None


def _contains(whole: str, text: str) -> bool:
    if not any(map(str.isalnum, text)):
        return False
    if len(text) >= _SHORTEST_SUBSTRING:
        return text in whole
    # Letters and digits make up words. An underscore separates them, as in `NAME_42`.
    return re.search(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", whole) is not None

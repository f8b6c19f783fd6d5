"""What a job reads in a file, and where the entities in it are.

AWS does not document the codes of files that a job cannot read; these are our rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .._entities import Entity
from .limits import Limits
from .rules import Rules

TOO_LARGE = "DOCUMENT_SIZE_EXCEEDED"
INVALID_ENCODING = "INVALID_ENCODING"


class UnreadableFile(Exception):
    """The file is not processed.

    Attributes:
        code: the error code of the file.
        message: the message next to the code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def read_text(key: str, body: bytes, limits: Limits, rules: Rules) -> str:
    """Return the text in which the model looks for entities.

    Raises:
        UnreadableFile: a job does not process such a file.
    """
    if len(body) > limits.file_bytes:
        raise UnreadableFile(
            TOO_LARGE, f"The file has {len(body)} bytes; the limit is {limits.file_bytes}."
        )
    if not body and rules.empty_files == "unprocessed":
        raise UnreadableFile("EMPTY_DOCUMENT", "The file is empty.")
    try:
        text = body.decode(errors="strict" if rules.not_utf8 == "unprocessed" else "replace")
    except UnicodeDecodeError as error:
        problem = f"The file is not UTF-8: the byte at {error.start} cannot be decoded."
    else:
        if "\0" in text and rules.nul_characters == "unprocessed":
            raise UnreadableFile("INVALID_CHARACTER", "The file contains U+0000.")
        return _altered(key, text, rules)
    raise UnreadableFile(INVALID_ENCODING, problem)


def _altered(key: str, text: str, rules: Rules) -> str:
    if key.endswith(".json") and rules.json_files == "text-member":
        text = _text_member(text)
    if rules.byte_order_marks == "removed":
        text = text.removeprefix("\ufeff")
    if rules.line_ends == "converted":
        text = text.replace("\r\n", "\n")
    return text


def _text_member(text: str) -> str:
    """Return the member `Text` of a JSON object."""
    try:
        value: Any = msgspec.json.decode(text, type=dict[str, Any])["Text"]
    except (msgspec.DecodeError, KeyError):
        value = None
    if not isinstance(value, str):
        raise UnreadableFile("INVALID_JSON", "The file is not a JSON object with a member Text.")
    return value


def count_offsets(entities: Sequence[Entity], text: str, rules: Rules) -> Sequence[Entity]:
    """Return entities whose offsets count code points, with the offsets that the rules ask for."""
    if rules.offsets == "code-points" or text.isascii():
        return entities
    return [
        msgspec.structs.replace(
            entity,
            begin_offset=_utf16_units(text[: entity.begin_offset]),
            end_offset=_utf16_units(text[: entity.end_offset]),
        )
        for entity in entities
    ]


def _utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2

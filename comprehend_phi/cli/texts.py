"""One text: reading it, and printing what was detected in it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .exits import Exit, ExitCode
from .output import emit_exactly, emit_json, entity_members, show_counts

if TYPE_CHECKING:
    from .._entities import DetectPHIResponse
    from .._replacements import Replacement

STDIN = Path("-")


def read_text(file: Path) -> str:
    """Return the text of a file or, for `STDIN`, of standard input. Keep its line ends.

    Raises:
        Exit: there is no standard input, or the text is not UTF-8.
        OSError: the file cannot be read.
    """
    if file != STDIN:
        content = file.read_bytes()
    elif sys.stdin is None:
        raise Exit(ExitCode.USAGE, "there is no standard input; name a file")
    else:
        content = sys.stdin.buffer.read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        position = error.start  # the error itself contains the text
    raise Exit(ExitCode.FAILED, f"the text is not UTF-8 (byte {position})")


def print_response(
    text: str,
    response: DetectPHIResponse,
    *,
    replacement: Replacement | None,
    as_json: bool,
) -> None:
    """Print how many entities there are, or the redacted text, or both as JSON.

    Nothing of the text is printed unless there is a replacement to redact it with.

    Raises:
        RedactionError: the entities do not match the text. Nothing was printed.
    """
    from .._redaction import redact

    counts = Counter(entity.type for entity in response.entities)
    result = None
    if replacement is not None:
        result = redact(text, response.entities, replacement=replacement)
    if as_json:
        emit_json(
            {
                "model_version": response.model_version,
                "entity_counts": dict(counts.most_common()),
                "entities": [
                    entity_members(entity, show_text=False) for entity in response.entities
                ],
                "redacted": result,
            }
        )
    elif result is not None:
        emit_exactly(result)
    else:
        show_counts(1, counts)

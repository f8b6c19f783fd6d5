"""The audit file of copies: one line of JSON for each copy, without any text of a note."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import ClassVar, Protocol

import msgspec

from .._structs import PrivateStruct
from ..errors import RequestValidationError


class AuditLine(PrivateStruct, frozen=True, kw_only=True):
    """What the audit file says about one copy.

    Attributes:
        copy: the path of the copy below the destination. Not in the repr.
        copy_sha256: the SHA-256 of the copy, as hexadecimal digits, like all hashes here.
        copy_bytes: the size of the copy.
        key_sha256: the SHA-256 of the note's key, in UTF-8.
        note_sha256: the SHA-256 of the note.
        redacted: the number of redacted entities by type.
        readable: the number of entities by type that were left readable.
    """

    _private: ClassVar[tuple[str, ...]] = ("copy",)

    copy: str
    copy_sha256: str
    copy_bytes: int
    key_sha256: str
    note_sha256: str
    redacted: dict[str, int]
    readable: dict[str, int]


class BinaryWriter(Protocol):
    """Takes the bytes of a file."""

    def write(self, piece: bytes, /) -> int:
        """Add bytes to the file, and return how many."""
        ...


class AuditFile:
    """Writes lines to a file.

    Args:
        file: takes the bytes.
    """

    def __init__(self, file: BinaryWriter) -> None:
        self._file = file
        self._digest = sha256()

    def add(self, line: AuditLine) -> None:
        """Write one line."""
        encoded = msgspec.json.encode(line) + b"\n"
        self._digest.update(encoded)
        self._file.write(encoded)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file."""
        return self._digest.hexdigest()


class AuditReader:
    """Yields the lines of an audit file.

    Args:
        file: yields lines of bytes.

    Attributes:
        count: the number of lines so far.

    Raises, while iterating:
        RequestValidationError: a line is not one that `AuditFile` wrote.
    """

    def __init__(self, file: Iterable[bytes]) -> None:
        self.count: int = 0
        self._file = file
        self._digest = sha256()
        self._decoder = msgspec.json.Decoder(AuditLine)

    def __iter__(self) -> Iterator[AuditLine]:
        for line in self._file:
            self.count += 1
            self._digest.update(line)
            yield self._decode(line)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the lines so far."""
        return self._digest.hexdigest()

    def _decode(self, line: bytes) -> AuditLine:
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # raised below: the cause may quote the line
        raise RequestValidationError(
            owner="verify_copies",
            field="audit",
            shape="audit file",
            reason=f"must be a file that write_copies wrote, but line {self.count} is not from it",
        )

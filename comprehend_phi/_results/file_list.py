"""A job's list of processed files, read piece by piece and kept in a few bytes per file.

A full job has 5,000,000 files. Their list has about a gigabyte, and as Python objects the files
would take several.
"""

from __future__ import annotations

import marshal
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import islice, pairwise
from typing import NamedTuple

from ..errors import UnreadableObjectError
from .decoding import ListEntry, decode_file_list

# What a list says about one file: the names of the note and of the document, and the note's size.
Entry = tuple[str | None, str | None, int | None]

ALL = slice(0, None, 1)

_FILES_PER_BLOCK = 500

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT_OBJECT = rb"\{(?:[^{}\[\]\"]|%b)*+\}" % _STRING
_BEGINNING = re.compile(rb'\s*+\{\s*+"Files"\s*+:\s*+\[')
# As many whole entries as there are. A comma follows each, so the last entry is never included.
_ENTRIES = re.compile(rb"(?:\s*+(?:%b|%b)\s*+,)*+" % (_FLAT_OBJECT, _STRING), re.DOTALL)
_LONGEST_BEGINNING = 1_000  # bytes


class File(NamedTuple):
    """A file that the job processed.

    Attributes:
        input_key: the key of the note in the input bucket.
        output_key: the key of the document in the output bucket.
        size: how many bytes the job read; None if the list does not say.
        is_ambiguous: whether the list gives one of the two keys to another file, too.
    """

    input_key: str
    output_key: str
    size: int | None = None
    is_ambiguous: bool = False


class PackedList:
    """Takes a list piece by piece, and packs its entries.

    Attributes:
        blocks: the packed entries.
        is_unusual: whether the list has another form than AWS's. Then it must be decoded as a
            whole.
    """

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.is_unusual = False
        self._has_begun = False
        self._rest = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next bytes of the list."""
        if self.is_unusual:
            return
        self._rest += piece
        if not self._has_begun:
            beginning = _BEGINNING.match(self._rest)
            if beginning is None:
                self.is_unusual = len(self._rest) > _LONGEST_BEGINNING
                return
            del self._rest[: beginning.end()]
            self._has_begun = True
        whole = _ENTRIES.match(self._rest)
        if whole is not None and whole.end():
            self._decode(b'{"Files":[%b]}' % bytes(self._rest[: whole.end() - 1]))
            del self._rest[: whole.end()]

    def end(self) -> None:
        """Take the end of the list."""
        rest = bytes(self._rest)
        # A second list would replace the first one, and a comma before the bracket is not JSON.
        if not self._has_begun or b'"Files"' in rest or (self.blocks and rest.lstrip()[:1] == b"]"):
            self.is_unusual = True
        if not self.is_unusual:
            self._decode(b'{"Files":[' + rest)

    def _decode(self, body: bytes) -> None:
        try:
            self.blocks += pack(entries_of(decode_file_list(body, bucket="", key="")))
        except UnreadableObjectError:  # decoding the list as a whole finds the error again
            self.is_unusual = True


def entries_of(listed: Iterable[ListEntry]) -> Iterator[Entry]:
    """Yield the parts of the entries that are kept."""
    return ((entry.input, entry.output, entry.input_size) for entry in listed)


def pack(entries: Iterable[Entry]) -> list[bytes]:
    """Return the entries in compressed blocks. Neighboring keys have nearly the same text."""
    rest, blocks = iter(entries), list[bytes]()
    while block := list(islice(rest, _FILES_PER_BLOCK)):
        blocks.append(zlib.compress(marshal.dumps(block), 1))
    return blocks


class FileList:
    """The processed files of a job, each once, in the order of the list.

    Equal entries are one file. If different entries share a note or a document, their files are
    marked as ambiguous.

    Args:
        blocks: packed entries.
        file_of: returns the file of an entry.
    """

    def __init__(self, blocks: Sequence[bytes], file_of: Callable[[Entry], File]) -> None:
        self._blocks = blocks
        self._file_of = file_of
        self._part = ALL
        self._repeated: set[int] = set()  # positions in the list
        self._ambiguous: set[int] = set()
        self._count = self._find_repeats()

    def part(self, part: slice) -> FileList:
        """Return the files of one part."""
        files = copy(self)
        files._part = part  # noqa: SLF001 - completes a copy of this object
        return files

    def __len__(self) -> int:
        return len(range(self._count)[self._part])

    def __iter__(self) -> Iterator[File]:
        files = (
            (position, entry)
            for position, entry in enumerate(self._entries())
            if position not in self._repeated
        )
        for position, entry in islice(files, self._part.start, None, self._part.step):
            file = self._file_of(entry)
            yield file._replace(is_ambiguous=True) if position in self._ambiguous else file

    def input_names(self) -> Iterator[str]:
        """Yield the name of each note, as the list writes it. Without a list, there are none."""
        return (name for name, _, _ in self._entries() if name is not None)

    def _entries(self) -> Iterator[Entry]:
        for block in self._blocks:
            yield from marshal.loads(zlib.decompress(block))  # noqa: S302 - no data from outside: `pack` made it in this process

    def _find_repeats(self) -> int:
        """Find the repeated and the ambiguous files, and return the number of files."""
        notes, documents = array("q"), array("q")
        for file in map(self._file_of, self._entries()):
            notes.append(hash(file.input_key))
            documents.append(hash(file.output_key))
        count = len(notes)
        of_notes, of_documents = _repeated(notes), _repeated(documents)
        if not of_notes and not of_documents:
            return count
        # Few files share a hash. Compare the keys themselves.
        first: dict[Entry, int] = {}
        suspects: dict[int, File] = {}
        for position, entry in enumerate(self._entries()):
            if notes[position] in of_notes or documents[position] in of_documents:
                if first.setdefault(entry, position) != position:
                    self._repeated.add(position)
                else:
                    suspects[position] = self._file_of(entry)
        by_note = Counter(file.input_key for file in suspects.values())
        by_document = Counter(file.output_key for file in suspects.values())
        self._ambiguous = {
            position
            for position, file in suspects.items()
            if by_note[file.input_key] > 1 or by_document[file.output_key] > 1
        }
        return count - len(self._repeated)


def _repeated(hashes: array[int]) -> set[int]:
    """Return the values that occur more than once. A set of all values would take more memory."""
    return {one for one, other in pairwise(sorted(hashes)) if one == other}

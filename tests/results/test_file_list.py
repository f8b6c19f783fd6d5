"""Lists of processed files: read piece by piece, and small in memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comprehend_phi import UnreadableObjectError
from comprehend_phi._results.decoding import decode_file_list
from comprehend_phi._results.file_list import (
    Entry,
    File,
    FileList,
    PackedList,
    entries_of,
    pack,
)

FILES = 50_000
PIECE_BYTES = 256 * 1024


def file_of(entry: Entry) -> File:
    note, document, size = entry
    return File(note or "", document or f"{note}.out", size)


def packed(body: bytes, sizes: Sequence[int] = (PIECE_BYTES,)) -> PackedList:
    """Return a list that got its body in pieces of these sizes, again and again."""
    taken, position, turn = PackedList(), 0, 0
    while position < len(body):
        size = sizes[turn % len(sizes)]
        taken.add(body[position : position + size])
        position, turn = position + size, turn + 1
    taken.end()
    return taken


def files_in(blocks: Sequence[bytes]) -> list[File]:
    return list(FileList(blocks, file_of))


names = st.text(st.sampled_from('ab/{}[]",:\\ \u00e9\U0001f600'), min_size=1, max_size=6)
entries = names | st.fixed_dictionaries(
    {"Input": names},
    optional={"Output": names, "InputSize": st.integers(0, 99), "Unknown": names},
)


@given(
    files=st.lists(entries, max_size=12),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
    rest=st.dictionaries(st.sampled_from(["A", "B"]), names),
)
def test_a_list_in_pieces_has_the_same_files_as_the_whole_list(
    files: Any, sizes: list[int], indent: int | None, ascii_only: bool, rest: dict[str, str]
) -> None:
    body = json.dumps({"Files": files, **rest}, indent=indent, ensure_ascii=ascii_only).encode()
    taken = packed(body, sizes)

    assert not taken.is_unusual
    whole = pack(entries_of(decode_file_list(body, bucket="", key="")))
    assert files_in(taken.blocks) == files_in(whole)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"Other": 1, "Files": []}',
        b'{"Files": ["a", "b",]}',
        b'{"Files": ["a", "b"], "Files": ["c"]}',
        b'{"Files": ["a", {"Output": "b"}, "c"]}',
        b'{"Files": ["a", 7, "c"]}',
        b'{"Files": ["a", "b"',
        b'{"Files": ["a", "b"]} {}',
        b'{"Files": ["a\xff", "b"]}',
        b'{"Files": ["a", "b", {"Input": "c", "Unknown": "\xff"}, "d"]}',
        b" " * 2_000,
    ],
)
@pytest.mark.parametrize("size", [1, 7, PIECE_BYTES])
def test_an_unusual_or_broken_list_is_left_to_the_decoder_of_whole_lists(
    body: bytes, size: int
) -> None:
    assert packed(body, [size]).is_unusual


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", "z"]), st.integers(0, 1)),
        max_size=8,
    )
)
def test_repeated_files_count_once_and_shared_keys_are_ambiguous(
    listed: list[tuple[str, str, int]],
) -> None:
    once = list(dict.fromkeys(listed))
    notes, documents = [note for note, _, _ in once], [document for _, document, _ in once]

    files = FileList(pack(listed), file_of)

    assert len(files) == len(once)
    assert list(files) == [
        File(note, document, size, notes.count(note) > 1 or documents.count(document) > 1)
        for note, document, size in once
    ]


@given(st.integers(0, 1_200), st.integers(0, 3), st.integers(1, 5))
def test_a_part_has_the_files_of_the_same_slice(count: int, start: int, step: int) -> None:
    files = FileList(pack((f"{number}", None, None) for number in range(count)), file_of)
    part = slice(start, None, step)

    assert list(files.part(part)) == list(files)[part]
    assert len(files.part(part)) == len(list(files)[part])


def test_a_file_takes_at_most_150_bytes_while_the_list_is_read_and_iterated() -> None:
    folder = "results/123456789012-PHIDetection-0123456789abcdef0123456789abcdef"

    def pieces() -> Any:
        yield b'{"Files": ['
        for start in range(0, FILES, 1_000):
            block = [
                {
                    "Input": f"notes/2031/02/ward-{number % 70}/note-{number * 7919:012}.txt",
                    "Output": f"{folder}/ward-{number % 70}/note-{number * 7919:012}.txt.out",
                    "InputSize": 1_000 + number * 31 % 7_000,
                }
                for number in range(start, start + 1_000)
            ]
            last = start + 1_000 == FILES
            yield json.dumps(block)[1:-1].encode() + (b"]}" if last else b",")

    tracemalloc.start()
    try:
        taken = PackedList()
        for piece in pieces():
            taken.add(piece)
        taken.end()
        files = FileList(taken.blocks, file_of)
        assert sum(1 for _ in files) == FILES
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150 * FILES
    assert kept < 50 * FILES


def test_a_broken_list_has_the_error_of_the_whole_list() -> None:
    with pytest.raises(UnreadableObjectError, match=r"\$\.Files\[1\]"):
        decode_file_list(b'{"Files": ["a", 7]}', bucket="", key="")

"""The notes in a local folder: every file, or an error that names what cannot be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .._wording import amount, join_first
from .exits import Exit, ExitCode

_MOST_BYTES = 1024  # of a key in S3 (Amazon S3 User Guide, "Naming Amazon S3 objects")


def find_notes(folder: Path) -> dict[str, Path]:
    """Return the path of every file below `folder`, by its key, in the order of the keys.

    A key is the path below `folder`, with slashes. A link to a file counts as that file. A link to
    a folder is refused: it may form a loop, or lead to the folder of the results.

    Raises:
        Exit: the folder contains something that cannot be read as a note.
    """
    notes: dict[str, Path] = {}
    problems: list[str] = []
    folders = [folder]
    while folders:
        subfolder = folders.pop()
        try:
            with os.scandir(subfolder) as entries:
                found = list(entries)
        except OSError as error:
            problems.append(f"{subfolder} ({error.strerror})")
            continue
        for entry in found:
            path = Path(entry.path)
            key = path.relative_to(folder).as_posix()
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                problem = _key_problem(key) or _file_problem(entry)
            except OSError as error:
                problem = error.strerror
            if problem is None:
                notes[key] = path
            else:
                problems.append(f"{path} ({problem})")
    if problems:
        raise _refusal(problems)
    return dict(sorted(notes.items()))


def read_note(path: Path) -> bytes:
    """Return the content of a file that `find_notes` found.

    Raises:
        Exit: the file has vanished since, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path} ({error.strerror})"
    raise _refusal([problem])


def _refusal(problems: list[str]) -> Exit:
    return Exit(
        ExitCode.FAILED,
        f"No job was started. {amount(len(problems), 'path')} in SOURCE cannot be read as"
        f" a note: {join_first(sorted(problems))}",
        "Make every path a file that you can read, or remove it from SOURCE.",
    )


def _key_problem(key: str) -> str | None:
    """Return why no object of the local service can have this key. Return None if one can."""
    if "\n" in key:  # S3 allows it, but moto finds no object with such a key.
        return "the name has a line break, which the local service does not support"
    try:
        if len(key.encode("utf-8")) <= _MOST_BYTES:
            return None
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return f"the path is longer than the {_MOST_BYTES} bytes of a key in S3"


def _file_problem(entry: os.DirEntry[str]) -> str | None:
    """Return why the entry is not a file, or None.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        if entry.is_symlink():
            return "a broken link"
        raise
    if stat.S_ISDIR(mode):
        return "a link to a folder"
    # Opening a named pipe would block.
    if not stat.S_ISREG(mode):
        return "not a regular file"
    os.close(os.open(entry.path, os.O_RDONLY))
    return None

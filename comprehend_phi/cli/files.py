"""Writing files safely: inside their folder, whole or not at all, and never over links."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

from .._keys import folder_key
from .._whole_file import whole_file
from .._wording import join_first
from ..errors import ResultsError
from .exits import Exit, ExitCode
from .output import amount

# Errors that concern one path, so that other files can still be written. A full disk is not one.
_ERRORS_OF_ONE_PATH = {
    errno.EACCES,
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
}


# A scheme of more than one letter, because a Windows path begins with a letter and a colon. The
# slashes may have been forgotten.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def local_path(text: str) -> Path:
    """Return the path that a user typed for a local file or folder.

    Raises:
        ValueError: `text` is empty, or begins like a URI. `./` before a name with a colon makes it
            a path.
    """
    if not text or _URI.match(text):
        raise ValueError
    return Path(text)


class Folder:
    """A folder that gets one file for each of many keys.

    A key for which no file can be written is left out, and `problem` names it in the end. All
    other files are written.

    Args:
        root: the folder, which is created if it does not exist. Nothing is written outside it.
        private: whether only the owner can read what is created.
    """

    def __init__(self, root: Path, *, private: bool) -> None:
        self._root = root
        self._folder_mode, self._file_mode = (0o700, 0o600) if private else (0o777, 0o666)
        self._written: set[tuple[int, int]] = set()
        self._left_out: list[str] = []
        self._last: tuple[str, Path] | None = None  # the last folder: its name and its path
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(self._folder_mode, exist_ok=True)

    def write(self, key: str, name: str, content: bytes) -> Path | None:
        """Write the file `name` for a key. Return its path, or None if the key was left out."""
        try:
            path = self._path(name)
            if path is None:
                reason: str | None = "its key has no path inside the folder"
            elif not (reason := self._obstacle(path)):
                self._written.add(_write_file(path, content, mode=self._file_mode))
                return path
        except UnicodeEncodeError:
            reason = "no file can have this name"
        except OSError as error:
            if error.errno not in _ERRORS_OF_ONE_PATH:
                raise
            reason = error.strerror
        self._left_out.append(f"{key} ({reason})")
        return None

    def _path(self, name: str) -> Path | None:
        """Create the folders of the file `name`, and return its path, or None if it is outside."""
        folder, _, last = name.rpartition("/")
        # Checking a folder takes longer than writing a file, and most files follow others in the
        # same folder.
        if self._last is not None and folder == self._last[0]:
            return self._last[1] / last if _is_file_name(last) else None
        path = path_below(self._root, name)
        if path is not None:
            for parent in reversed(path.relative_to(self._root).parents):
                (self._root / parent).mkdir(self._folder_mode, exist_ok=True)
            self._last = folder, path.parent
        return path

    def _obstacle(self, path: Path) -> str | None:
        """Return why no file may be written at `path`, or None."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return "its path is not a regular file"
        # Different names may be one file, for example if the file system ignores case.
        if _identity(status) in self._written:
            return "another key has the same path"
        return None

    @property
    def problem(self) -> ResultsError | None:
        """The error that names the keys that were left out, or None."""
        if not self._left_out:
            return None
        return ResultsError(
            f"{amount(len(self._left_out), 'file was', 'files were')} not written below"
            f" {self._root}: {join_first(self._left_out)}"
        )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def path_below(folder: Path, name: str) -> Path | None:
    """Return the path of the file `name` below `folder`, or None if it would be outside."""
    parts = name.split("/")
    path = folder.joinpath(*parts)
    if (
        not all(map(_is_file_name, parts))
        # A folder on the way may be a link.
        or not _real_path(path.parent).is_relative_to(_real_path(folder))
    ):
        return None
    return path


def _is_file_name(part: str) -> bool:
    # On Windows, a part may contain a drive or backslashes.
    return part not in ("", ".", "..") and "\0" not in part and Path(part).name == part


def _real_path(path: Path) -> Path:
    """Return the path without links. A loop of links is kept."""
    # Path.resolve raises RuntimeError for a loop before Python 3.13.
    return Path(os.path.realpath(path))


def name_of_copy(key: str, input_key: str) -> str:
    """Return the path of a note below its job's input key."""
    # An input key that names one object is the only key of its job.
    name = key.rpartition("/")[2] if key == input_key else key
    return name.removeprefix(folder_key(input_key))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_file(path, text.encode(), mode=0o600)


def _write_file(path: Path, content: bytes, *, mode: int) -> tuple[int, int]:
    """Write a whole file with this mode, and return what identifies it in the file system."""
    with whole_file(path, mode=mode) as file:
        file.write(content)
        return _identity(os.fstat(file.fileno()))


# --- Checks before a job is started ---------------------------------------------------------------


def require_separate(paths: Mapping[str, Path | None]) -> None:
    """Raise `Exit` if two of `paths`, by argument, are the same or one is inside the other.

    Such a command could replace a note, read its own output as notes in the next run, or put files
    that quote notes among the redacted copies.
    """
    real = {argument: _real_path(path) for argument, path in paths.items() if path is not None}
    for (outer, folder), (inner, path) in permutations(real.items(), 2):
        if _same(folder, path):
            problem = f"{inner} and {outer} must not be the same path"
        elif any(_same(folder, parent) for parent in path.parents):
            problem = f"{inner} must not be in {outer}"
        else:
            continue
        raise Exit(ExitCode.USAGE, f"{problem}. Choose paths of which none is inside another.")


def _same(one: Path, other: Path) -> bool:
    try:
        # The file system may ignore case.
        return one == other or one.samefile(other)
    except OSError:
        return False


def require_writable(argument: str, folder: Path) -> None:
    """Raise `Exit` if no file can be created in `folder`, which need not exist yet."""
    if reason := _obstacle_to(folder):
        raise Exit(ExitCode.FAILED, f"{argument} cannot be written. {folder}: {reason}")


def _obstacle_to(folder: Path) -> str | None:
    for existing in (folder, *folder.parents):
        try:
            if not stat.S_ISDIR(existing.stat().st_mode):
                return "not a folder"
        except FileNotFoundError:
            if existing.is_symlink():
                return "a broken link"
            continue
        except OSError as error:
            return error.strerror
        return None if os.access(existing, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    return None

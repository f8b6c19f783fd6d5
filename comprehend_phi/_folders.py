"""Writing many files into a local folder: inside it, whole or not at all, and never over links."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ._whole_file import move, temporary_name

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

_MOST_CHECKED = 10_000  # folders whose check is remembered


class NotWrittenError(Exception):
    """One file cannot be written. The message says why, without the file's name."""


class Folder:
    """A folder that gets many files. Threads may share it.

    Nothing is written outside the folder, and links in it are neither followed nor replaced. Each
    folder in it is checked when it is first needed. So nobody else should change its folders while
    files are written.

    Names may share a path, for example if the file system ignores case. To notice that, about 70
    bytes for each file stay in memory.

    Args:
        root: the folder, which is created if it does not exist.
        private: whether only the owner can read what is created.
        replaces: whether files that were there before are replaced. If not, a file with the same
            content counts as written, and any other file stays as it is.
    """

    def __init__(self, root: Path, *, private: bool, replaces: bool) -> None:
        self.root = root
        self._folder_mode, self._file_mode = (0o700, 0o600) if private else (0o777, 0o666)
        self._replaces = replaces
        self._written: set[int] = set()
        self._folder = lru_cache(_MOST_CHECKED)(self._check)
        self._lock = threading.RLock()
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(self._folder_mode, exist_ok=True)

    def write(self, name: str, content: bytes) -> bool:
        """Write the file `name`. Return False if it was there before, with this content.

        Raises:
            NotWrittenError: no file can be written under this name.
            OSError: no file can be written, for example because the disk is full.
        """
        try:
            folder, _, last = name.rpartition("/")
            _check_file_name(last)
            return self._write(f"{self._folder(folder)}{os.sep}{last}", content)
        except UnicodeEncodeError:
            reason = "no file can have this name"
        except OSError as error:
            if error.errno not in _ERRORS_OF_ONE_PATH:
                raise
            reason = os.strerror(error.errno)
        raise NotWrittenError(reason)

    def _check(self, folder: str) -> str:
        """Create a folder and the folders around it, and return its path without links."""
        path, parts = str(self.root), folder.split("/") if folder else []
        for part in parts:
            _check_file_name(part)
        for part in parts:
            path = f"{path}{os.sep}{part}"
            with suppress(FileExistsError):
                Path(path).mkdir(self._folder_mode)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotWrittenError("a folder on its path is a link or a file")
        return path

    def _write(self, path: str, content: bytes) -> bool:
        if not self._replaces and self._keeps(path, content):
            return False
        part = f"{path[: path.rindex(os.sep)]}{os.sep}{temporary_name()}"
        try:
            identity = self._write_new(part, content)
            # Another thread may have written this path meanwhile.
            with self._lock:
                is_new = not self._keeps(path, content)
                if is_new:
                    self._written.add(identity)
                    (os.replace if self._replaces else move)(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        if not is_new:
            Path(part).unlink()
        return is_new

    def _write_new(self, path: str, content: bytes) -> int:
        """Write a new file, and return what identifies it."""
        # A new file, because an existing one would keep its permissions.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._file_mode)
        try:
            # A file object would make more system calls.
            rest = content
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if not self._replaces:
                # A power failure could leave an empty file, which the next run would not replace.
                os.fsync(descriptor)
            return _identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _keeps(self, path: str, content: bytes) -> bool:
        """Return whether the file is there already and stays.

        Raises:
            NotWrittenError: something else is there and stays.
        """
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode):
            raise NotWrittenError("there is something else than a file with this name")
        same = (
            not self._replaces
            and status.st_size == len(content)
            and Path(path).read_bytes() == content
        )
        with self._lock:
            if _identity(status) in self._written:
                raise NotWrittenError("another note has the same path")
            if same:
                self._written.add(_identity(status))
        if not same and not self._replaces:
            raise NotWrittenError("there is another file with this name, which was not replaced")
        return same


def same_path(one: Path, other: Path) -> bool:
    """Return whether two paths are the same."""
    try:
        # The file system may ignore case.
        return real_path(one) == real_path(other) or one.samefile(other)
    except OSError:
        return False


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether `path` is somewhere in `folder`. Neither has to exist."""
    return any(same_path(parent, folder) for parent in real_path(path).parents)


def real_path(path: Path) -> Path:
    """Return the path without links. A loop of links is kept."""
    # Path.resolve raises RuntimeError for a loop before Python 3.13.
    return Path(os.path.realpath(path))


def _identity(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino


def _check_file_name(part: str) -> None:
    if (
        part in ("", ".", "..")
        or "\0" in part
        # On Windows, a part may contain a drive or backslashes.
        or (os.name == "nt" and Path(part).name != part)
    ):
        raise NotWrittenError("it has no path inside the folder")

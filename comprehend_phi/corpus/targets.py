"""Where redacted copies are: a folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

from .._folders import Folder, NotWrittenError
from .._shapes import StringShape, check_argument
from .copies_report import CopyError


class Target(Protocol):
    """Takes copies by their names. Threads may share it."""

    def write(self, name: str, content: bytes) -> bool:
        """Write one copy. Return False if an earlier run has written it.

        Raises:
            CopyError: this copy cannot be written.
            OSError: no copy can be written, for example because the disk is full.
            ResultsError, ServiceError, TransportError: S3 does not take the copy.
        """
        ...


class LocalTarget:
    """A folder on this machine.

    Args:
        root: the folder.
        private, replaces: see `Folder`.
    """

    def __init__(self, root: Path, *, private: bool = True, replaces: bool = False) -> None:
        self._folder = Folder(root, private=private, replaces=replaces)

    def write(self, name: str, content: bytes) -> bool:
        """Write one copy."""
        try:
            return self._folder.write(name, content)
        except NotWrittenError as error:
            reason = str(error)
        raise CopyError(reason)


class LocalCopies:
    """Copies in a folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> Iterator[str]:
        """Yield the path of everything in the folder but folders."""
        for folder, folders, files in os.walk(self._root, onerror=_raise):
            # A link to a folder counts as a file.
            here = Path(folder)
            links = [name for name in folders if (here / name).is_symlink()]
            for name in (*files, *links):
                yield (here / name).relative_to(self._root).as_posix()

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a copy; None if there is no such regular file."""
        path = self._root / name
        if path.is_symlink() or not path.is_file():
            return None
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()


def local_path(owner: str, argument: str, value: str | os.PathLike[str]) -> Path:
    """Return the path that an argument of the function `owner` names.

    Raises:
        RequestValidationError: the argument is not a path.
    """
    if not isinstance(value, os.PathLike):
        check_argument(owner, argument, _PATH, value)
    return Path(value)


def _path_problem(value: str) -> str | None:
    if value.startswith("s3:"):
        return "must be a path on this machine; for a folder on S3, pass an S3Location"
    return None if value else "must not be empty"


_PATH = StringShape("path", rule=_path_problem)


def _raise(error: OSError) -> None:
    raise error

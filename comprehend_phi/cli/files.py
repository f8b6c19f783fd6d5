"""The local files and folders that a user names, and checks of them before a job is started."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .._folders import is_inside, same_path
from .._whole_file import replaceable, whole_file
from .exits import Exit, ExitCode

if TYPE_CHECKING:
    from ..models import S3Location

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


def write_private(path: Path, text: str, *, replaces: bool = True) -> None:
    """Write a file that only its owner can read, and wait until it is on disk.

    Args:
        path: the file.
        text: what to write.
        replaces: whether a regular file that is there is replaced.

    Raises:
        OSError: the file cannot be written, or what is there is not replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, mode=0o600, sync=True, replaces=replaces) as file:
        file.write(text.encode())


# --- Checks before a job is started ---------------------------------------------------------------


def require_separate(paths: Mapping[str, Path | None]) -> None:
    """Raise `Exit` if two of `paths`, by argument, are the same or one is inside the other.

    Such a command could replace a note, read its own output as notes in the next run, or put files
    that quote notes among the redacted copies.
    """
    given = {argument: path for argument, path in paths.items() if path is not None}
    for (outer, folder), (inner, path) in permutations(given.items(), 2):
        if same_path(folder, path):
            problem = f"{inner} and {outer} must not be the same path"
        elif is_inside(path, folder):
            problem = f"{inner} must not be in {outer}"
        else:
            continue
        raise Exit(ExitCode.USAGE, f"{problem}. Choose paths of which none is inside another.")


def require_places(
    argument: str,
    copies: Path | S3Location,
    audit: Path | S3Location | None,
    others: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Raise `Exit` if copies and their audit file cannot be written to this machine.

    Args:
        argument: the argument that names the place of the copies.
        copies: where the copies go.
        audit: where the audit file goes; None without one.
        others: other local files that the command writes, by their names in messages.
    """
    places = {argument: copies, "--audit": audit}
    local = {name: place for name, place in places.items() if isinstance(place, Path)}
    require_separate({**local, **others})
    for name, path in local.items():
        (require_file if name == "--audit" else require_writable)(name, path)


def require_file(argument: str, file: Path) -> None:
    """Raise `Exit` if no file can be written at this path, which may replace a regular file."""
    require_writable(argument, file.parent)
    if not replaceable(file):
        raise Exit(ExitCode.USAGE, f"{argument} must be a new file or an existing regular file")


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

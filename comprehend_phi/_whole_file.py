"""Writing a local file that is complete or absent."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

# What file systems without hard links say.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def whole_file(
    path: Path, *, mode: int, sync: bool = False, replaces: bool = True
) -> Generator[BinaryIO, None, None]:
    """Enter with a new file, which appears at `path` when the block ends without an error.

    If the block fails, the new file is deleted, and what was at `path` stays as it was. If the
    process is killed, a file named `.comprehend-phi-` and 16 hex digits may remain in the folder.

    Args:
        path: where the file appears.
        mode: the permissions of the file, before the umask.
        sync: whether to wait until the content is on disk before the file appears. Without it, a
            power failure can leave an empty file at `path`.
        replaces: whether a regular file that is at `path` is replaced.

    Raises:
        FileExistsError: a link or something else that is not a regular file is at `path`, or any
            file if it must not be replaced.
        OSError: the file cannot be written.
    """
    if not replaceable(path):
        raise FileExistsError(errno.EEXIST, "Not a regular file", str(path))
    part = path.with_name(temporary_name())
    try:
        try:
            # A new file, because an existing one would keep its permissions.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            error.filename = str(path)  # The caller does not know the temporary name.
            raise
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(descriptor)
        (os.replace if replaces else move)(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def move(part: str | Path, path: str | Path) -> None:
    """Move a file to a path at which there is none.

    Raises:
        FileExistsError: something is at `path`.
    """
    try:
        # Unlike renaming, this fails if another program has written the path meanwhile.
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        Path(part).unlink()
        return
    Path(part).rename(path)


def temporary_name() -> str:
    """Return a name for a file that gets its own name when it is complete."""
    return f".comprehend-phi-{token_hex(8)}"


def replaceable(path: Path) -> bool:
    """Return whether a file may be written at `path`: nothing is there, or a regular file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True

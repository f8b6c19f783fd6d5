"""Where redacted copies are: in a folder on this machine or on S3."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .._folders import Folder, NotWrittenError
from .._keys import folder_key
from .._shapes import StringShape, check_argument
from ..errors import ExistingObjectError, MissingObjectError
from ..models import S3Location
from .copies_report import CopyError
from .objects import CHECKSUM, S3Objects
from .plan import hash_key
from .tally import MAX_KEY_BYTES

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage
    from .._results.s3_calls import S3Calls

Location = str | os.PathLike[str] | S3Location


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
        private: see `Folder`.
        replaces: see `Folder`.
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


class S3Target:
    """A folder on S3.

    The metadata of each copy contains the SHA-256 of the copy. A hash of the note would let readers
    of the copies test guesses about what was redacted.

    Args:
        calls: the way to S3.
        location: the folder.
        kms_key: the KMS key that encrypts the copies. None means the bucket's default.
        may_repeat: whether two notes may have the same name. About 80 bytes for each copy then
            stay in memory.
    """

    def __init__(
        self, calls: S3Calls, location: S3Location, *, kms_key: str | None, may_repeat: bool
    ) -> None:
        self._objects = S3Objects(calls)
        self._bucket = location.bucket
        self._folder = folder_key(location.key)
        self._kms_key = kms_key
        self._names: set[int] | None = set() if may_repeat else None
        self._lock = threading.Lock()
        self._continues = False

    def write(self, name: str, content: bytes) -> bool:
        """Write one copy."""
        if not name:
            raise CopyError("it has no path inside the folder")
        key = f"{self._folder}{name}"
        if len(key.encode()) > MAX_KEY_BYTES:
            raise CopyError(f"its key would have more than {MAX_KEY_BYTES:,} bytes")
        if self._names is not None:
            hashed = hash_key(name)
            with self._lock:
                if hashed in self._names:
                    raise CopyError("another note has the same path")
                self._names.add(hashed)
        # If an earlier run has written one copy, it has probably written others. Asking for them
        # sends less than the copies.
        if self._continues and self._is_written(key, content):
            return False
        try:
            self._objects.put(self._bucket, key, content, kms_key=self._kms_key)
        except ExistingObjectError:
            self._continues = True
        else:
            self._continues = False
            return True
        if self._is_written(key, content):
            return False
        raise CopyError("an object was written and deleted here meanwhile; write the copies again")

    def _is_written(self, key: str, content: bytes) -> bool:
        """Return whether the copy is there.

        Raises:
            CopyError: there is another object.
        """
        found = self._objects.head(self._bucket, key)
        if found is None:
            return False
        checksum = found.metadata.get(CHECKSUM)
        if checksum is None:
            raise CopyError(
                "an object that is no copy is there; nothing was replaced. Choose another"
                " destination, or rename the copy"
            )
        if checksum != sha256(content).hexdigest() or found.size != len(content):
            raise CopyError(
                "a copy with other content is there, for example of a run with other arguments;"
                " nothing was replaced. Delete it, or choose another destination"
            )
        return True


class Copies(Protocol):
    """Copies that were written. Threads may share it.

    Attributes:
        connections: how many copies can be read at the same time.
    """

    connections: int

    def names(self) -> Iterator[str]:
        """Yield the path of everything at the destination but folders."""
        ...

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a copy; None if there is no such file."""
        ...


class LocalCopies:
    """Copies in a folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.connections: int = 1
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


class S3Copies:
    """Copies in a folder on S3."""

    def __init__(self, storage: Boto3Storage, location: S3Location) -> None:
        self.connections: int = storage.connections
        self._storage = storage
        self._bucket = location.bucket
        self._folder = folder_key(location.key)

    def names(self) -> Iterator[str]:
        """Yield the path of every object in the folder, except folder markers."""
        token: str | None = None
        while True:
            page = self._storage.page(self._bucket, self._folder, token=token)
            for listed in page.objects:
                # The S3 console creates an empty object for a folder.
                if listed.size or not listed.key.endswith("/"):
                    yield listed.key.removeprefix(self._folder)
            token = page.next_token
            if token is None:
                return

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a copy; None if there is no such object."""
        try:
            body = self._storage.read(self._bucket, f"{self._folder}{name}").body
        except MissingObjectError:
            return None
        return sha256(body).hexdigest()


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
        return "must be a path on this machine; for S3, pass S3Location.from_uri(...)"
    return None if value else "must not be empty"


_PATH = StringShape("path or S3Location", rule=_path_problem)


def _raise(error: OSError) -> None:
    raise error

"""Verify redacted copies with the audit file of their run."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, cast

from attrs import field, frozen

from .._client import PHIClient
from .._client_base import s3_of
from .._shapes import InstanceShape, check_argument
from .._threads import Pool, map_in_order
from ..models import S3Location
from .audit import AuditReader
from .plan import hash_key
from .targets import Copies, LocalCopies, Location, S3Copies, local_path

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage

_CLIENT = InstanceShape(PHIClient, "because a location is on S3")


@frozen(kw_only=True)
class CopyDifferences:
    """What has changed since copies were written. `verify_copies` returns it.

    Attributes:
        copies: the number of copies in the audit file.
        audit_sha256: the SHA-256 of the audit file, to compare with that of the `CopiesReport`.
        changed: the paths of copies with other content. Not in the repr, like all paths here.
        missing: the paths of copies that are not there.
        added: the paths of files that are not in the audit file.
    """

    copies: int
    audit_sha256: str
    changed: tuple[str, ...] = field(repr=False)
    missing: tuple[str, ...] = field(repr=False)
    added: tuple[str, ...] = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether every copy is there unchanged, and nothing else."""
        return not (self.changed or self.missing or self.added)


def verify_copies(
    audit: str | os.PathLike[str] | S3Location,
    destination: str | os.PathLike[str] | S3Location,
    *,
    client: PHIClient | None = None,
) -> CopyDifferences:
    """Compare every copy with the audit file, byte by byte through its SHA-256.

    Anyone who can change the copies and the audit file can hide a change. So keep
    `CopiesReport.audit_sha256` elsewhere, and compare it with `CopyDifferences.audit_sha256`.

    About 80 bytes for each copy stay in memory.

    Args:
        audit: the audit file.
        destination: the folder of the copies.
        client: its S3 connection is used. Required if one of the locations is on S3.

    Raises:
        RequestValidationError: an argument has a wrong type, or `audit` is not an audit file.
        ResultsError, ServiceError, TransportError: S3 refuses or fails to return an object.
        OSError: a file cannot be read, or this machine cannot store the audit file from S3.
    """
    with _open_audit(audit, client) as file:
        copies = _copies_at(destination, client)
        lines = AuditReader(file)
        changed: list[str] = []
        missing: list[str] = []
        known: set[int] = set()
        with (
            Pool(copies.connections) as pool,
            closing(map_in_order(pool, lambda line: copies.sha256(line.copy), lines)) as calls,
        ):
            for line, call in calls:
                known.add(hash_key(line.copy))
                found = call.result()
                if found is None:
                    missing.append(line.copy)
                elif found != line.copy_sha256:
                    changed.append(line.copy)
    return CopyDifferences(
        copies=lines.count,
        audit_sha256=lines.sha256,
        changed=tuple(changed),
        missing=tuple(missing),
        added=tuple(name for name in copies.names() if hash_key(name) not in known),
    )


def _copies_at(destination: Location, client: PHIClient | None) -> Copies:
    if isinstance(destination, S3Location):
        return S3Copies(_storage(client), destination)
    return LocalCopies(local_path("verify_copies", "destination", destination))


@contextmanager
def _open_audit(audit: Location, client: PHIClient | None) -> Generator[IO[bytes], None, None]:
    """Enter with the audit file, open for reading."""
    if not isinstance(audit, S3Location):
        with local_path("verify_copies", "audit", audit).open("rb") as file:
            yield file
        return
    storage = _storage(client)
    with TemporaryFile() as file:  # without a name, and deleted at the end
        download = storage.feed(audit.bucket, audit.key or "", partial(_Download, file))
        if download.error is not None:
            raise download.error
        file.seek(0)
        yield file


class _Download:
    """Takes an object piece by piece, from the beginning, into a file.

    Attributes:
        error: why the file cannot be written; None if it can.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.error: OSError | None = None
        file.seek(0)
        file.truncate()
        self._file = file

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        try:
            self._file.write(piece)
        except OSError as error:  # If it were raised here, it would count as an error of S3.
            self.error = error


def _storage(client: PHIClient | None) -> Boto3Storage:
    check_argument("verify_copies", "client", _CLIENT, client)
    return s3_of(cast("PHIClient", client)).storage()

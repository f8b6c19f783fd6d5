"""Verify redacted copies with the audit file of their run."""

from __future__ import annotations

import os

from attrs import field, frozen

from .audit import AuditReader
from .plan import hash_key
from .targets import LocalCopies, local_path


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
    audit: str | os.PathLike[str], destination: str | os.PathLike[str]
) -> CopyDifferences:
    """Compare every copy with the audit file, byte by byte through its SHA-256.

    Anyone who can change the copies and the audit file can hide a change. So keep
    `CopiesReport.audit_sha256` elsewhere, and compare it with `CopyDifferences.audit_sha256`.

    About 100 bytes for each copy stay in memory.

    Args:
        audit: the audit file.
        destination: the folder of the copies.

    Raises:
        RequestValidationError: an argument has a wrong type, or `audit` is not an audit file.
        OSError: a file cannot be read.
    """
    path = local_path("verify_copies", "audit", audit)
    copies = LocalCopies(local_path("verify_copies", "destination", destination))
    changed: list[str] = []
    missing: list[str] = []
    known: set[int] = set()
    with path.open("rb") as file:
        lines = AuditReader(file)
        for line in lines:
            known.add(hash_key(line.copy))
            found = copies.sha256(line.copy)
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

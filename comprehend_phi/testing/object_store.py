"""The S3 that the local service reads notes from and writes results to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ObjectStore(Protocol):
    """The part of S3 that jobs use."""

    def has_bucket(self, bucket: str) -> bool:
        """Return whether the bucket exists."""
        ...

    def keys(self, bucket: str) -> Sequence[str]:
        """Return all keys of a bucket, in the order in which S3 lists them."""
        ...

    def read(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object."""
        ...

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Create or replace an object."""
        ...

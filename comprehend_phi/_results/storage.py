"""What reading results needs from S3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from attrs import field, frozen

from .._logs import JobContext
from .s3_calls import S3Calls


@frozen
class StoredObject:
    """The content of one object, from a single response of S3.

    Attributes:
        body: the bytes. Not in the repr, because they may be a document.
        last_modified: when the object was written, in whole seconds; None if S3 does not say.
    """

    body: bytes = field(repr=False)
    last_modified: datetime | None


class ListedObject(NamedTuple):
    """One object in a listing. `storage_class` and `etag` are None if S3 does not say."""

    key: str
    size: int  # bytes
    storage_class: str | None
    etag: str | None = None  # with its quotation marks

    def __repr__(self) -> str:
        return f"ListedObject(size={self.size}, storage_class={self.storage_class!r})"


@frozen
class ListingPage:
    """One page of a listing, in S3's order.

    Attributes:
        objects: the objects.
        folders: the folders directly below the prefix, each with its final slash. Empty unless they
            were requested.
        next_token: the token that gets the next page; None on the last page.
    """

    objects: Sequence[ListedObject] = field(repr=False)
    folders: Sequence[str] = field(repr=False)
    next_token: str | None = field(repr=False)


class Sink(Protocol):
    """Takes an object piece by piece."""

    def add(self, piece: bytes) -> None:
        """Take the next bytes. Must not raise."""
        ...


_Sink = TypeVar("_Sink", bound=Sink)


class Storage(Protocol):
    """Reads S3 objects. Threads may share a storage.

    Attributes:
        calls: the way to S3, for calls that are not about reading.
        connections: how many objects can be fetched at the same time.
    """

    calls: S3Calls
    connections: int

    def check_open(self) -> None:
        """Raise `ClientClosedError` if the client that reads was closed."""
        ...

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object.

        Raises:
            MissingObjectError: the bucket has no such key.
            UnreadableObjectError: S3 refuses to return the object, or its body was truncated on
                every attempt.
            MissingBucketError: the bucket does not exist.
            ServiceError, TransportError: all attempts failed. If the error has a `key`, other
                objects may still be readable. Otherwise no object can be read.
        """
        ...

    def feed(self, bucket: str, key: str, start: Callable[[], _Sink]) -> _Sink:
        """Fetch one object piece by piece, so that it is never in memory as a whole.

        Call `start` for each attempt, and `add` for each piece. Return what took all pieces. Raise
        what `read` raises.
        """
        ...

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List all keys that begin with `prefix`, in S3's order. Raise what `read` raises."""
        ...

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """List the folders directly below `prefix`, each with its final slash.

        Raise what `read` raises.
        """
        ...


class JobStorage:
    """A storage that adds a job's id to its log records."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self.calls: S3Calls = storage.calls
        self.connections: int = storage.connections
        self._storage = storage
        self._job_id = job_id

    def check_open(self) -> None:
        """Raise `ClientClosedError` if the client that reads was closed."""
        self._storage.check_open()

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        with JobContext(self._job_id):
            return self._storage.read(bucket, key)

    def feed(self, bucket: str, key: str, start: Callable[[], _Sink]) -> _Sink:
        """Fetch one object piece by piece."""
        with JobContext(self._job_id):
            return self._storage.feed(bucket, key, start)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List all keys that begin with `prefix`."""
        with JobContext(self._job_id):
            return self._storage.keys(bucket, prefix)

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """List the folders directly below `prefix`."""
        with JobContext(self._job_id):
            return self._storage.folders(bucket, prefix)

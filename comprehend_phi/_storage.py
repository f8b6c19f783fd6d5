"""The bytes of S3 objects: many at a time, in order, few in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import _wire, retry
from .errors import AccessDeniedException, MalformedResponseError, ResultsError, ServiceError

if TYPE_CHECKING:
    from ._clock import Clock

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class MissingObject(ResultsError):
    """There is no such key; `results` decides what that means."""


class Storage(Protocol):
    """What reading results asks of S3. Its methods may be called from several threads.

    Attributes:
        connections: how many objects can be fetched at the same time.
    """

    connections: int

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of one object.

        Raises:
            MissingObject: there is no such key.
            ResultsError: it may not be read, or arrives cut.
            ServiceError, TransportError: S3 could not be reached or refused otherwise.
        """
        ...

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, in S3's order. Raises as `read` does."""
        ...

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """What lies one slash below `prefix`, the slash included. Raises as `read` does."""
        ...


class Boto3Storage:
    """S3 through one boto3 client, which all threads share."""

    def __init__(self, client: Any, policy: retry.RetryPolicy, clock: Clock) -> None:
        self.connections: int = client.meta.config.max_pool_connections
        self._client = client
        self._policy = policy
        self._clock = clock

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of one object."""

        def get() -> bytes:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                content: bytes = body.read()
            if len(content) != answer["ContentLength"]:
                raise _wire.Malformed("its body is shorter than its length")
            return content

        return self._call("GetObject", get, bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, in S3's order."""
        return self._list("Contents", "Key", Bucket=bucket, Prefix=prefix)

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """What lies one slash below `prefix`, the slash included."""
        return self._list("CommonPrefixes", "Prefix", Bucket=bucket, Prefix=prefix, Delimiter="/")

    def _list(self, entries: str, name: str, **members: str) -> list[str]:
        def list_all() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(**members)
            return [entry[name] for page in pages for entry in page.get(entries, ())]

        return self._call("ListObjectsV2", list_all, members["Bucket"], members["Prefix"])

    def _call(self, operation: str, call: Callable[[], _Result], bucket: str, key: str) -> _Result:
        def attempt() -> _Result:
            try:
                return call()
            except Exception as cause:  # noqa: BLE001 - each becomes one of ours, or it could leak
                error = _wire.error_from(cause, operation, {})
            raise error

        try:
            return retry.call(attempt, self._policy, self._clock)
        except (ServiceError, MalformedResponseError) as error:
            failed = error
        raise _results_error(failed, bucket, key) or failed


def _results_error(
    error: ServiceError | MalformedResponseError, bucket: str, key: str
) -> ResultsError | None:
    """The error that says which object is concerned, where that is what went wrong."""
    if isinstance(error, MalformedResponseError):
        return ResultsError(error.reason, bucket=bucket, key=key)
    if isinstance(error, AccessDeniedException):
        reason = (
            "access denied; S3 answers the same for a key that does not exist, unless the caller"
            " has s3:ListBucket"
        )
        return ResultsError(reason, bucket=bucket, key=key)
    if error.code == "NoSuchBucket":
        return ResultsError("there is no such bucket", bucket=bucket, key=key)
    if error.code == "NoSuchKey":
        return MissingObject("there is no such key", bucket=bucket, key=key)
    return None


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int
) -> Generator[Future[_Result], None, None]:
    """The calls of `function`, one per item and in their order, to take the results from.

    At most twice as many calls as threads have begun and not yet been taken, so that memory stays
    bounded however slow the taker is. Closing the iterator starts no more calls and returns when
    those under way have ended.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="comprehend_phi") as pool:
        window: deque[Future[_Result]] = deque()
        try:
            for item in items:
                window.append(pool.submit(function, item))
                if len(window) > 2 * threads:
                    yield window.popleft()
            while window:
                yield window.popleft()
        finally:
            for future in window:
                future.cancel()

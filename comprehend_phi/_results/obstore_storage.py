"""Reading and writing S3 objects through obstore, an object store client in Rust."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._clock import Clock
from .._retry import RetryPolicy
from .boto3_storage import Boto3Storage
from .new_object import NewObject
from .obstore_route import ObstoreRoute
from .obstore_setup import LastExchange, build_store, build_writing_store
from .s3_calls import S3Calls
from .storage import StoredObject

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Store


class ObstoreCalls(S3Calls):
    """Writes objects through obstore if it does exactly what boto3 does, otherwise through boto3.

    boto3 makes all other calls. It also writes if obstore cannot be used, even if obstore is
    required for reading.

    Args:
        connect: see `S3Calls`.
        policy: see `S3Calls`.
        clock: see `S3Calls`.
        session: the session that built the client.
        last: boto3's last exchange in each thread.
    """

    def __init__(
        self,
        connect: Callable[[str], Any],
        policy: RetryPolicy,
        clock: Clock,
        *,
        session: Any,
        last: LastExchange,
    ) -> None:
        super().__init__(connect, policy, clock)
        config = connect("results").meta.config
        self._build = partial(build_writing_store, last, config=config, session=session)
        self._writes = ObstoreRoute("PutObject", connect, required=False)

    def put(self, new: NewObject) -> None:
        """Write an object."""
        self._writes.call(
            (new.bucket, new.kms_key),  # the options of a store contain the KMS key
            new.key,
            boto3=lambda failed: self.send("PutObject", new.send, attempts_before=failed),
            obstore=lambda store: _put(store, new),
            build=lambda: self._build(new),
        )


class ObstoreStorage(Boto3Storage):
    """Reads S3 objects through obstore if it does exactly what boto3 does, otherwise through boto3.

    Args:
        connect: returns a client that this package built, so that nobody changes it; see
            `Boto3Storage`.
        policy: how boto3's calls are retried.
        clock: measures the waits between attempts.
        session: the session that built the client.
        required: raise `TransportError` if obstore cannot be used for reading, instead of logging
            it.
    """

    def __init__(
        self,
        connect: Callable[[str], Any],
        policy: RetryPolicy,
        clock: Clock,
        *,
        session: Any,
        required: bool,
    ) -> None:
        super().__init__(connect, policy, clock)
        client, last = connect("results"), LastExchange()
        # After all handlers that may change the request.
        client.meta.events.register_last("before-send.s3", last.record_request)
        client.meta.events.register("needs-retry.s3", last.record_response)
        self.calls = ObstoreCalls(connect, policy, clock, session=session, last=last)
        self._build = partial(build_store, last, config=client.meta.config)
        self._session = session
        self._reads = ObstoreRoute("GetObject", connect, required=required)

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        return self._reads.call(
            bucket,
            key,
            boto3=lambda failed: self._read(bucket, key, attempts_before=failed),
            obstore=lambda store: _get(store, key),
            build=lambda: self._build(bucket, key, session=self._session),
        )


def _get(store: S3Store, key: str) -> StoredObject:
    import obstore

    answer = obstore.get(store, key)
    return StoredObject(bytes(answer.bytes()), answer.meta["last_modified"])


def _put(store: S3Store, new: NewObject) -> None:
    import obstore

    mode: PutMode = "create" if new.replaces is None else {"e_tag": new.replaces}
    attributes = {**new.metadata, "Content-Type": new.content_type}
    # obstore fails if the response has no ETag.
    obstore.put(store, new.key, new.body, attributes=attributes, mode=mode, use_multipart=False)

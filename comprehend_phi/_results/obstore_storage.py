"""Reading S3 objects through obstore, an object store client in Rust."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .._clock import Clock
from .._retry import RetryPolicy
from .boto3_storage import Boto3Storage
from .obstore_calls import ObstoreCalls
from .obstore_route import ObstoreRoute
from .obstore_setup import LastExchange, build_store
from .storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Store


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

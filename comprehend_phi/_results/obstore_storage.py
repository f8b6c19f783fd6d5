"""Reading S3 objects through obstore, an object store client in Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .boto3_storage import Boto3Storage
from .obstore_calls import ObstoreCalls
from .obstore_route import Failure, ObstoreRoute
from .obstore_setup import LastExchange, build_store
from .storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Store

    from .._clock import Clock
    from .._retry import RetryPolicy


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
        client = connect("results")
        self._config = client.meta.config
        self._session = session
        self._last = LastExchange()
        # After all handlers that may change the request.
        client.meta.events.register_last("before-send.s3", self._last.record_request)
        client.meta.events.register("needs-retry.s3", self._last.record_response)
        self.calls = ObstoreCalls(connect, policy, clock, session=session, last=self._last)
        self._reads = ObstoreRoute("GetObject", required=required)

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        store = self._reads.store(bucket, key)
        if store is None:
            found = super().read(bucket, key)
            self._reads.set_up(
                bucket,
                lambda: build_store(self._last, bucket, key, self._config, self._session),
            )
            return found
        self.calls.connect("GetObject")  # refuses if the client was closed
        through_obstore = self._reads.call(lambda: _get(store, key))
        if not isinstance(through_obstore, Failure):
            return through_obstore
        found = self._read(bucket, key, attempts_before=1)
        self._reads.count_repair()
        return found


def _get(store: S3Store, key: str) -> StoredObject:
    import obstore

    answer = obstore.get(store, key)
    return StoredObject(bytes(answer.bytes()), answer.meta["last_modified"])

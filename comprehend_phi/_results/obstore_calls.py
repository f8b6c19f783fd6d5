"""Calling S3 through boto3, but writing objects through obstore."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ServiceError, TransportError
from .new_object import NewObject
from .obstore_route import Failure, ObstoreRoute
from .obstore_setup import LastExchange, build_writing_store
from .s3_calls import S3Calls
from .s3_errors import is_conflict

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Store

    from .._clock import Clock
    from .._retry import RetryPolicy


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
        self._config = connect("results").meta.config
        self._session = session
        self._last = last
        self._writes = ObstoreRoute("PutObject", required=False)

    def put(self, new: NewObject, *, attempts_before: int = 0) -> None:
        """Write an object."""
        place = new.bucket, new.kms_key  # the options of a store contain the KMS key
        store = self._writes.store(place, new.key)
        if store is None:
            super().put(new, attempts_before=attempts_before)
            self._writes.set_up(
                place, lambda: build_writing_store(self._last, new, self._config, self._session)
            )
            return
        self.connect("PutObject")  # refuses if the client was closed
        done = self._writes.call(lambda: _put(store, new))
        if not isinstance(done, Failure):
            return
        try:
            super().put(new, attempts_before=attempts_before + 1)
        except (ServiceError, TransportError) as error:
            error.outcome_unknown |= done.outcome_unknown
            if done.outcome_unknown and is_conflict(error):
                # Probably, obstore has written the object but could not use the response.
                self._writes.count_repair()
            raise
        self._writes.count_repair()


def _put(store: S3Store, new: NewObject) -> None:
    import obstore

    mode: PutMode = "create" if new.replaces is None else {"e_tag": new.replaces}
    attributes = {**new.metadata, "Content-Type": new.content_type}
    # obstore fails if the response has no ETag.
    obstore.put(store, new.key, new.body, attributes=attributes, mode=mode, use_multipart=False)

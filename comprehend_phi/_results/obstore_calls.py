"""Calling S3 through boto3, but writing objects through obstore."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._clock import Clock
from .._retry import RetryPolicy
from .new_object import NewObject
from .obstore_route import ObstoreRoute
from .obstore_setup import LastExchange, build_writing_store
from .s3_calls import S3Calls

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


def _put(store: S3Store, new: NewObject) -> None:
    import obstore

    mode: PutMode = "create" if new.replaces is None else {"e_tag": new.replaces}
    attributes = {**new.metadata, "Content-Type": new.content_type}
    # obstore fails if the response has no ETag.
    obstore.put(store, new.key, new.body, attributes=attributes, mode=mode, use_multipart=False)

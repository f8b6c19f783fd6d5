"""Reading S3 objects through obstore, an object store client in Rust."""

from __future__ import annotations

import logging
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from .._logs import log
from ..errors import TransportError
from .boto3_storage import Boto3Storage
from .obstore_setup import LastExchange, build_store
from .storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import S3Store

    from .._clock import Clock
    from .._retry import RetryPolicy

# obstore normalizes paths, and the normalized key may be that of another object. It sends keys that
# match this pattern unchanged: no part between slashes is empty, `.` or `..`, and no part contains
# ASCII control characters (docs.rs, object_store::path::Path) or surrogates, which UTF-8 cannot
# encode.
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f\ud800-\udfff]+"
_UNCHANGED = re.compile(rf"{_PART}(?:/{_PART})*")

# After this many consecutive failures that boto3 repaired, obstore is no longer used. Our rule.
_MAX_REPAIRS = 3

FORKED = "this process was forked, and obstore's threads exist only in its parent"


def is_sent_unchanged(key: str) -> bool:
    """Return whether obstore sends `key` unchanged."""
    return _UNCHANGED.fullmatch(key) is not None


def skip_obstore(reason: str, *, required: bool, operation: str) -> None:
    """Log why S3 is read without obstore, or raise `TransportError` if obstore is required."""
    if not required:
        text = "S3 is read through boto3 alone: %s"
        log(logging.INFO, text, reason, operation=operation, reason=reason)
        return
    raise TransportError(
        operation=operation,
        reason=f"s3_transport='obstore' cannot be used: {reason}",
        outcome_unknown=False,
        retryable=False,
    )


class ObstoreStorage(Boto3Storage):
    """Reads S3 objects through obstore if it does exactly what boto3 does, otherwise through boto3.

    boto3 reads the first object of each bucket, and the keys that obstore would change. If obstore
    fails, boto3 makes the second attempt at once. So errors are the same with and without obstore.

    Args:
        connect: returns a client that this package built, so that nobody changes it; see
            `Boto3Storage`.
        policy: how boto3's calls are retried.
        clock: measures the waits between attempts.
        session: the session that built the client.
        required: raise `TransportError` if obstore cannot be used, instead of logging it.
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
        self._process = os.getpid()
        self._session = session
        self._required = required
        self._stores: dict[str, S3Store | None] = {}  # by bucket; None if only boto3 reads it
        self._repairs = 0  # consecutive
        self._gave_up = self._logged = False
        self._lock = threading.Lock()
        self._last = LastExchange()
        # After all handlers that may change the request.
        client.meta.events.register_last("before-send.s3", self._last.record_request)
        client.meta.events.register("needs-retry.s3", self._last.record_response)

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        if os.getpid() != self._process:
            self._skip_obstore(FORKED)
            return super().read(bucket, key)
        store = self._stores.get(bucket) if is_sent_unchanged(key) else None
        if store is None or self._gave_up:
            found = super().read(bucket, key)
            if bucket not in self._stores:
                self._stores[bucket] = self._build_store(bucket, key)
            return found
        self.calls.connect("GetObject")  # refuses if the client was closed
        through_obstore = self._get_through_obstore(store, key)
        if through_obstore is not None:
            return through_obstore
        found = self._read(bucket, key, attempts_before=1)
        self._count_repair()
        return found

    def _build_store(self, bucket: str, key: str) -> S3Store | None:
        """Return a store that sends what boto3 has just sent for `key`, or None."""
        store = build_store(self._last, bucket, key, self._config, self._session)
        if isinstance(store, str):
            self._skip_obstore(store)
            return None
        return store

    def _skip_obstore(self, reason: str) -> None:
        """Log once why obstore is not used, or raise `TransportError` if it is required."""
        # Two threads may both log it. A lock could have been held during a fork.
        logged, self._logged = self._logged, True
        if self._required or not logged:
            skip_obstore(reason, required=self._required, operation="GetObject")

    def _get_through_obstore(self, store: S3Store, key: str) -> StoredObject | None:
        """Fetch one object, or return None if obstore cannot."""
        import obstore

        try:
            answer = obstore.get(store, key)
            found = StoredObject(bytes(answer.bytes()), answer.meta["last_modified"])
        # obstore's messages quote keys and responses. boto3 finds the cause.
        except Exception as cause:  # noqa: BLE001 - boto3 repeats any failed read
            reason = type(cause).__name__
        else:
            self._repairs = 0
            return found
        text = "obstore cannot read an object (%s), so boto3 reads it"
        log(logging.INFO, text, reason, operation="GetObject", reason=reason)
        return None

    def _count_repair(self) -> None:
        with self._lock:
            self._repairs += 1
            if self._repairs < _MAX_REPAIRS or self._gave_up:
                return
            self._gave_up = True
        log(
            logging.WARNING,
            "obstore failed %d times in a row, and boto3 then succeeded: S3 is read through boto3"
            " alone from now on",
            _MAX_REPAIRS,
            operation="GetObject",
        )

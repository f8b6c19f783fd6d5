"""The way to S3 through obstore, an object store client in Rust, for one operation."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from .._logs import log
from ..errors import ServiceError, TransportError
from .s3_errors import is_conflict

if TYPE_CHECKING:
    from obstore.store import S3Store

_T = TypeVar("_T")

# obstore normalizes paths, and the normalized key may be that of another object. It sends keys that
# match this pattern unchanged: no part between slashes is empty, `.` or `..`, and no part contains
# ASCII control characters (docs.rs, object_store::path::Path) or surrogates, which UTF-8 cannot
# encode.
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f\ud800-\udfff]+"
_UNCHANGED = re.compile(rf"{_PART}(?:/{_PART})*")

# After this many consecutive failures that boto3 repaired, obstore is no longer used. Our rule.
_MAX_REPAIRS = 3

FORKED = "this process was forked, and obstore's threads exist only in its parent"


def _verbs(operation: str) -> tuple[str, str]:
    return ("write", "written") if operation == "PutObject" else ("read", "read")


def is_sent_unchanged(key: str) -> bool:
    """Return whether obstore sends `key` unchanged."""
    return _UNCHANGED.fullmatch(key) is not None


def skip_obstore(reason: str, *, required: bool, operation: str) -> None:
    """Log why obstore is not used, or raise `TransportError` if it is required."""
    if not required:
        _, done = _verbs(operation)
        text = f"S3 is {done} through boto3 alone: %s"
        log(logging.INFO, text, reason, operation=operation, reason=reason)
        return
    raise TransportError(
        operation=operation,
        reason=f"s3_transport='obstore' cannot be used: {reason}",
        outcome_unknown=False,
        retryable=False,
    )


class ObstoreRoute:
    """Makes the calls of one operation through obstore, as far as it does exactly what boto3 does.

    boto3 makes the first call for each bucket, and the calls for keys that obstore would change. If
    obstore fails, boto3 makes the second attempt at once. So errors are the same with and without
    obstore.

    Args:
        operation: S3's name of the operation.
        connect: takes the name of an operation, and raises `ClientClosedError` if the client was
            closed.
        required: raise `TransportError` if obstore cannot be used, instead of logging it.
    """

    def __init__(self, operation: str, connect: Callable[[str], object], *, required: bool) -> None:
        self._operation = operation
        self._connect = connect
        self._required = required
        self._process = os.getpid()
        self._stores: dict[Hashable, S3Store | None] = {}  # None if only boto3 makes the calls
        self._repairs = 0  # consecutive
        self._gave_up = self._logged = False
        self._lock = threading.Lock()

    def call(
        self,
        place: Hashable,
        key: str,
        *,
        boto3: Callable[[int], _T],
        obstore: Callable[[S3Store], _T],
        build: Callable[[], S3Store | str],
    ) -> _T:
        """Make one call, and return what `boto3` or `obstore` returns.

        Args:
            place: the bucket, and whatever else obstore's connection depends on.
            key: the key of the object.
            boto3: makes the call through boto3, after a number of attempts that obstore has made.
                Raises `ServiceError` or `TransportError` if it fails.
            obstore: makes the call through a connection of obstore.
            build: returns this connection, or the reason why there is none. Called after boto3 has
                made the first call for the place.
        """
        store = self._store(place, key)
        if store is None:
            made = boto3(0)
            self._set_up(place, build)
            return made
        self._connect(self._operation)
        try:
            made = obstore(store)
        # Its message is not used, because obstore's messages quote keys and responses.
        except Exception as cause:  # noqa: BLE001 - boto3 repeats the call, whatever failed
            reason = type(cause).__name__
            may_be_written = self._operation == "PutObject" and _may_be_carried_out(cause)
        else:
            self._repairs = 0
            return made
        verb, _ = _verbs(self._operation)
        text = f"obstore cannot {verb} an object (%s), so boto3 tries"
        log(logging.INFO, text, reason, operation=self._operation, reason=reason)
        try:
            made = boto3(1)
        except (ServiceError, TransportError) as error:
            error.outcome_unknown |= may_be_written
            if may_be_written and is_conflict(error):
                # Probably, obstore has written the object but could not use the response.
                self._count_repair()
            raise
        self._count_repair()
        return made

    def _store(self, place: Hashable, key: str) -> S3Store | None:
        """Return obstore's connection for a call, or None if boto3 must make it."""
        if os.getpid() != self._process:
            self._skip(FORKED)
            return None
        if self._gave_up or not is_sent_unchanged(key):
            return None
        return self._stores.get(place)

    def _set_up(self, place: Hashable, build: Callable[[], S3Store | str]) -> None:
        """Set obstore up for a place, after boto3 has made the first call there."""
        if place in self._stores or os.getpid() != self._process:
            return
        store = build()
        if isinstance(store, str):
            self._skip(store)
        self._stores[place] = None if isinstance(store, str) else store

    def _count_repair(self) -> None:
        """Count a call that boto3 made after obstore had failed."""
        with self._lock:
            self._repairs += 1
            if self._repairs < _MAX_REPAIRS or self._gave_up:
                return
            self._gave_up = True
        _, done = _verbs(self._operation)
        log(
            logging.WARNING,
            f"obstore failed %d times in a row, and boto3 then succeeded: S3 is {done} through"
            " boto3 alone from now on",
            _MAX_REPAIRS,
            operation=self._operation,
        )

    def _skip(self, reason: str) -> None:
        """Log once why obstore is not used, or raise `TransportError` if it is required."""
        # Two threads may both log it. A lock could have been held during a fork.
        logged, self._logged = self._logged, True
        if self._required or not logged:
            skip_obstore(reason, required=self._required, operation=self._operation)


def _may_be_carried_out(cause: Exception) -> bool:
    """Return whether S3 may have carried out a call that obstore failed to make."""
    from obstore import exceptions

    refusals = (
        FileNotFoundError,
        exceptions.AlreadyExistsError,
        exceptions.PermissionDeniedError,
        exceptions.PreconditionError,
        exceptions.UnauthenticatedError,
    )
    # obstore has no class for throttling. Its message quotes the response.
    return not isinstance(cause, refusals) and "<Code>SlowDown</Code>" not in str(cause)

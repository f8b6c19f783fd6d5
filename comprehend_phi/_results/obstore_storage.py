"""Reading S3 objects through obstore, an object store client in Rust, as boto3 would read them.

Nothing here resolves AWS's settings. boto3 reads the first object of each bucket; from then on
obstore sends what boto3 sent, to the same place, for other keys.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._logs import log
from .._process import import_before_threads, inherited
from .._service import codec
from ..errors import TransportError
from .storage import Boto3Storage, Storage, StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from boto3.session import Session
    from obstore.store import S3Credential, S3Store

    from .._clock import Clock
    from .._retry import RetryPolicy
    from .._service.connection import Connection

# obstore normalizes paths, and a normalized key is that of another object. Keys like this one it
# sends as they are: no part between slashes is empty, `.` or `..`, and none contains ASCII control
# characters (docs.rs, object_store::path::Path) or surrogates, which UTF-8 cannot encode.
_PART = r"(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f\ud800-\udfff]+"
_EXACT = re.compile(rf"{_PART}(?:/{_PART})*")

# Our rule: after so many failures in a row that boto3 repaired, obstore is not asked any more.
_LAST_REPAIR = 3

_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/([^/]+)/s3/aws4_request,.*")

# The headers of a plain GetObject, in lower case. obstore sends its own signature; the others do
# not change the answer, except that it has a checksum, which boto3 compares and obstore does not.
_PLAIN_HEADERS = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "user-agent",
        "x-amz-checksum-mode",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-trace-id",
    }
)

# obstore asks anew for credentials that last less than five minutes, so here once a minute.
# botocore renews its own ten minutes before they expire at the latest.
_CREDENTIALS_LAST = timedelta(minutes=6)

_FORKED = "this process was forked, and the threads of obstore are left behind in its parent"

_UNLIMITED = timedelta(days=1)


def is_exact(key: str) -> bool:
    """Return whether obstore asks for this key, and not for one that it makes of it."""
    return _EXACT.fullmatch(key) is not None


def open_storage(connection: Connection, policy: RetryPolicy, clock: Clock) -> Storage:
    """Return S3 by the transport that the user chose.

    Args:
        connection: the boto3 clients, and the `s3_transport` of the user.
        policy: how often to try.
        clock: what the waits between attempts go by.

    Raises:
        TransportError: boto3 cannot build its client, or `s3_transport` is "obstore" and obstore
            cannot be used.
    """
    import_before_threads("tenacity")  # which the threads that read need once a read fails
    _ = connection.s3("results")  # which makes boto3's default session if there is none
    session = connection.s3_session
    if connection.s3_transport == "boto3":
        return Boto3Storage(connection.s3, policy, clock)
    required = connection.s3_transport == "obstore"
    if (reason := _obstacle(policy, session)) is not None:
        _leave_out(reason, required=required, operation="results")
        return Boto3Storage(connection.s3, policy, clock)
    return ObstoreStorage(connection.s3, policy, clock, session=session, required=required)


def _obstacle(policy: RetryPolicy, session: Session | None) -> str | None:
    """Return why obstore cannot be used, as far as this is known before anything is read."""
    if session is None:
        return "s3_client= was handed in, which is used as it is"
    if find_spec("obstore") is None:
        return "obstore is not installed, which the extra `fast` brings"
    if inherited("obstore"):
        return _FORKED
    if policy.max_attempts == 1:
        return "RetryPolicy(max_attempts=1) leaves boto3 no attempt after obstore's"
    return None


def _leave_out(reason: str, *, required: bool, operation: str) -> None:
    """Log why obstore is not used, or raise `TransportError` if it is required."""
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
    """S3 through obstore where it does exactly what boto3 does, and through boto3 otherwise.

    boto3 reads the first object of each bucket, and the keys that obstore would change. If obstore
    fails, boto3 makes the next attempts, so that errors are the same with and without obstore.

    Args:
        connect: returns a client that we built, so that nobody changes it; see `Boto3Storage`.
        policy: one that allows at least two attempts, since boto3's come after obstore's.
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
        self._stores: dict[str, S3Store | None] = {}  # by bucket; None: boto3 alone reads it
        self._repairs = 0  # in a row
        self._given_up = self._told = False
        self._lock = threading.Lock()
        self._last = LastExchange()
        # After all handlers that may change the request.
        client.meta.events.register_last("before-send.s3", self._last.note_request)
        client.meta.events.register("needs-retry.s3", self._last.note_answer)

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        if os.getpid() != self._process:
            self._leave_out(_FORKED)
            return super().read(bucket, key)
        store = self._stores.get(bucket) if is_exact(key) else None
        if store is None or self._given_up:
            found = super().read(bucket, key)
            if bucket not in self._stores:
                self._stores[bucket] = self._follow(bucket, key)
            return found
        tried = False

        def attempt(client: Any) -> StoredObject:
            nonlocal tried
            if not tried:
                tried = True
                return self._get_by_obstore(store, key)
            found = self._get(client, bucket, key)
            self._count_repair()
            return found

        return self._call("GetObject", attempt, bucket, key)

    def _follow(self, bucket: str, key: str) -> S3Store | None:
        """Return a store that does what boto3 has just done for `key`, or None."""
        store = store_like(self._last, bucket, key, self._config, self._session)
        if isinstance(store, str):
            self._leave_out(store)
            return None
        return store

    def _leave_out(self, reason: str) -> None:
        """Log once why obstore is not used, or raise `TransportError` if it is required."""
        # Two threads may both log it. A lock might be one that was held at a fork.
        told, self._told = self._told, True
        if self._required or not told:
            _leave_out(reason, required=self._required, operation="GetObject")

    def _get_by_obstore(self, store: S3Store, key: str) -> StoredObject:
        import obstore

        try:
            answer = obstore.get(store, key)
            found = StoredObject(bytes(answer.bytes()), answer.meta["last_modified"])
        # Its messages quote keys and answers. boto3 finds out what is wrong.
        except Exception as cause:  # noqa: BLE001 - whatever it is, boto3 takes over
            reason = f"obstore cannot read it ({type(cause).__name__})"
        else:
            self._repairs = 0
            return found
        raise codec.InvalidResponse(reason)

    def _count_repair(self) -> None:
        with self._lock:
            self._repairs += 1
            if self._repairs < _LAST_REPAIR or self._given_up:
                return
            self._given_up = True
        log(
            logging.WARNING,
            "obstore failed %d times in a row where boto3 then succeeded: S3 is read through boto3"
            " alone from now on",
            _LAST_REPAIR,
            operation="GetObject",
        )


class LastExchange(threading.local):
    """What boto3 did last in this thread.

    Attributes:
        request: botocore's request, signed.
        connection: the connection of urllib3 over which the answer comes; None if the answer does
            not come from urllib3, as moto's does not.
    """

    request: Any = None
    connection: Any = None

    def note_request(self, request: Any, **_: Any) -> None:
        self.request = request

    def note_answer(self, response: Any, **_: Any) -> None:
        # A connection belongs to an answer until all of it is read, which is not yet so.
        raw = None if response is None else response[0].raw
        self.connection = getattr(raw, "connection", None)


def store_like(
    last: LastExchange, bucket: str, key: str, config: Any, session: Any
) -> S3Store | str:
    """Return a store that would do what boto3 did for an object, or why there is none.

    Args:
        last: what boto3 did.
        bucket: the bucket of the object.
        key: the key of the object.
        config: the configuration of the boto3 client.
        session: the session that built the client.
    """
    try:
        return _difference(last, key) or _build(last, bucket, key, config, session)
    # Such as a urllib3 or an obstore that lacks what is used here.
    except Exception as cause:  # noqa: BLE001 - whatever it is, boto3 reads alone
        return f"obstore cannot be set up like boto3 ({type(cause).__name__})"


def _difference(last: LastExchange, key: str) -> str | None:
    """Return what boto3 did that obstore cannot do, or None."""
    from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection

    connection, headers = last.connection, _headers(last.request)
    if type(connection) not in (AWSHTTPConnection, AWSHTTPSConnection):
        return "the answers to boto3 do not come from the network, as within moto's mocks"
    if connection.proxy is not None:
        return "boto3 goes through a proxy"
    if getattr(connection, "cert_file", None) is not None:
        return "boto3 presents a client certificate"
    if last.request.method != "GET" or not last.request.url.endswith(f"/{quote(key)}"):
        return "boto3 asks for more than the key"
    if added := headers.keys() - _PLAIN_HEADERS:
        return f"boto3 sends the header {min(added)}"
    if _SIGNATURE.fullmatch(headers.get("authorization", "")) is None:
        return "boto3 does not sign with Signature Version 4"
    # obstore reads it too, and nothing overrides it.
    if "AWS_SERVER_SIDE_ENCRYPTION" in os.environ:
        return "AWS_SERVER_SIDE_ENCRYPTION is set"
    return None


def _build(last: LastExchange, bucket: str, key: str, config: Any, session: Any) -> S3Store:
    """Return a store that would do what boto3 did, where there is no `_difference`."""
    from obstore.store import S3Store

    headers = _headers(last.request)
    place = last.request.url.removesuffix(f"/{quote(key)}")
    # Any: obstore's types do not know `disable_system_certificates`, which object_store has.
    options: Any = {
        "disable_system_certificates": True,
        "connect_timeout": _duration(config.connect_timeout),
        "read_timeout": _duration(config.read_timeout),
        "timeout": _UNLIMITED,  # of a whole request, which boto3 does not bound
        "user_agent": f"{headers['user-agent']} obstore",
        # Without a proxy, obstore would take that of the environment, by rules of its own. So it
        # gets one, from which every name and every address is excluded.
        "proxy_url": "http://127.0.0.1:9",
        "proxy_excludes": "*,0.0.0.0/0,::/0",
    }
    if place.startswith("https://"):
        options["root_certificate"] = Path(last.connection.ca_certs).read_bytes()
    else:
        options["allow_http"] = True
    credentials = session.get_credentials()

    def current() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }

    # What is left out here, obstore takes from environment variables, even from those that boto3
    # was told to ignore.
    return S3Store(
        bucket,
        endpoint=place,
        aws_endpoint_url_s3=place,
        virtual_hosted_style_request=True,  # the endpoint has the bucket
        region=_SIGNATURE.sub(r"\1", headers["authorization"]),
        credential_provider=current,
        skip_signature=False,
        unsigned_payload=False,
        request_payer=False,
        s3_express=False,
        client_options=options,
        retry_config={"max_retries": 0},  # RetryPolicy retries
    )


def _headers(request: Any) -> dict[str, str]:
    return {
        name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in request.headers.items()
    }


def _duration(seconds: float | None) -> timedelta:
    return _UNLIMITED if seconds is None else timedelta(seconds=seconds)

"""The boto3 clients below ours: how they are built, warned about and closed."""

from __future__ import annotations

import os
import threading
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from .._process import PerProcess, import_before_threads
from .._shapes import InstanceShape, require
from ..errors import ClientClosedError, DoubleRetryWarning, RequestValidationError, TransportError
from . import failures

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config


S3Transport = Literal["auto", "boto3", "obstore"]
_TEXT = InstanceShape(str)


class _Clients:
    """The boto3 clients that we built in one process, by service."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_service: dict[str, Any] = {}


class Connection:
    """The boto3 clients of one of our clients: for Comprehend Medical and, once asked for, for S3.

    Those built here do not retry by themselves, since `RetryPolicy` alone decides, and our retries
    keep one token. The first does not validate either: our validation prints no values. Clients
    that were handed in are used as they are. `connections` is how many connections those built here
    keep where the `config` does not say; None leaves it to botocore.

    A fork builds clients of its own, and leaves those of its parent alone.
    """

    def __init__(
        self,
        *,
        region_name: str | None,
        endpoint_url: str | None,
        session: Session | None,
        config: Config | None,
        client: BaseClient | None,
        s3_client: BaseClient | None,
        s3_transport: S3Transport,
        connections: int | None = None,
    ) -> None:
        _check_settings(region_name, endpoint_url, session, config)
        if client is not None:
            if endpoint_url is not None:
                raise TypeError("client= is used as it is: give its own endpoint_url to it instead")
            if not hasattr(client, "start_phi_detection_job"):
                raise TypeError("client= must be a boto3 client for comprehendmedical")
            _warn_of_retries("client", client)
            failures.track_tries(client)
        if s3_client is not None:
            if not hasattr(s3_client, "list_objects_v2"):  # nor has a boto3 resource that method
                raise TypeError(
                    "s3_client= must be a boto3 client for s3, as of boto3.client('s3')"
                )
            _warn_of_retries("s3_client", s3_client)
        _check_transport(s3_transport, s3_client)
        self._session = session
        self._config = config
        self._connections = connections
        self._region_name = region_name
        self._endpoint_url = endpoint_url
        self._client = client
        self._s3_client = s3_client
        self.s3_transport: S3Transport = s3_transport
        self._process = os.getpid()
        self._closed = False
        self._clients = PerProcess(_Clients)
        built_for = self.client.meta.region_name  # which refuses bad settings now
        self._region_name = region_name or built_for
        # boto3 needs the first for S3, and it cannot be imported once the main thread has ended.
        # Connecting needs the second.
        import_before_threads("concurrent.futures.thread", "encodings.idna")

    @property
    def client(self) -> Any:
        """The client for Comprehend Medical of this process."""
        return self._client or self._built("comprehendmedical", self._endpoint_url)

    @property
    def s3_client(self) -> Any:
        """The client for S3: where the session and AWS's own settings say, never `endpoint_url`."""
        return self._s3_client or self._built("s3", None)

    def s3(self, operation: str) -> Any:
        """Return the client for S3 for a call of `operation`. Raises what `check` raises."""
        self.check(operation)
        return self.s3_client

    def check(self, operation: str, client_request_token: str | None = None) -> None:
        """Refuse a call before anything is sent, if this connection may not be used.

        Raises:
            ClientClosedError: it was closed, or it has a client that was handed in and this process
                is a fork of the one that the client belongs to.
        """
        if self._closed:
            raise ClientClosedError(operation=operation, client_request_token=client_request_token)
        handed_in = self._client is not None or self._s3_client is not None
        if handed_in and os.getpid() != self._process:
            raise ClientClosedError(
                operation=operation,
                reason=(
                    "the boto3 client that was handed in belongs to the process that this one was"
                    " forked from; build it and this client in each process"
                ),
                client_request_token=client_request_token,
            )

    @property
    def s3_session(self) -> Session | None:
        """The session that builds the client for S3; None if that client was handed in."""
        if self._s3_client is not None:
            return None
        import boto3

        return self._session or boto3.DEFAULT_SESSION

    def mark_closed(self) -> None:
        """Let `check` refuse every call from now on."""
        self._closed = True

    def close(self) -> None:
        """Close the connections of the clients that this process built; never a user's client."""
        self.mark_closed()
        # Without the lock: another thread may hold it for as long as boto3 looks for credentials.
        for client in tuple(self._clients.get().by_service.values()):
            client.close()

    def _built(self, service: str, endpoint_url: str | None) -> Any:
        clients = self._clients.get()
        if service in clients.by_service:
            return clients.by_service[service]
        with clients.lock:
            if service not in clients.by_service:
                client = self._build(service, self._region_name, endpoint_url)
                if os.getpid() != self._process:
                    _let_refresh(client)
                clients.by_service[service] = client
            return clients.by_service[service]

    def _build(self, service: str, region_name: str | None, endpoint_url: str | None) -> Any:
        def build() -> Any:
            # Once the main thread has ended, boto3 cannot be imported either.
            import boto3
            from botocore.config import Config

            theirs = self._config or Config()
            if self._connections is not None:
                theirs = Config(max_pool_connections=self._connections).merge(theirs)
            # RetryPolicy alone retries. "standard" takes the place of an "adaptive" in the
            # environment, which waits by itself even for a single attempt.
            ours = Config(retries={"total_max_attempts": 1, "mode": "standard"})
            if service != "s3":
                ours = ours.merge(Config(parameter_validation=False))
            # Without a session, boto3's default one: what setup_default_session configured holds.
            session: Any = self._session or boto3
            return session.client(
                service,
                region_name=region_name,
                endpoint_url=endpoint_url,
                config=theirs.merge(ours),
            )

        return failures.build_with_boto3(build, f"the client for {service}")


def _check_settings(region_name: object, endpoint_url: object, session: Any, config: Any) -> None:
    """Refuse settings of the wrong type, which boto3 would take for wrong values."""
    require("PHIClient", "region_name", _TEXT, region_name, optional=True)
    require("PHIClient", "endpoint_url", _TEXT, endpoint_url, optional=True)
    for name, value, method, advice in (
        ("session", session, "client", "boto3 session, as of boto3.Session()"),
        ("config", config, "merge", "botocore config, as of botocore.config.Config()"),
    ):
        if value is not None and (isinstance(value, type) or not hasattr(value, method)):
            raise TypeError(f"{name}= must be a {advice}")


def _check_transport(transport: S3Transport, s3_client: BaseClient | None) -> None:
    if transport not in get_args(S3Transport):
        raise RequestValidationError(
            owner="PHIClient",
            field="s3_transport",
            shape="S3Transport",
            reason="must be 'auto', 'boto3' or 'obstore'",
        )
    if transport != "obstore":
        return
    if s3_client is not None:
        raise TypeError("s3_client= is a client of boto3: leave out s3_transport='obstore'")
    if find_spec("obstore") is None:
        raise TransportError(
            operation="PHIClient",
            reason="s3_transport='obstore' needs obstore, which the extra `fast` installs",
            outcome_unknown=False,
            retryable=False,
        )


def _let_refresh(client: Any) -> None:
    """Let a fork refresh the credentials of its client, which it shares with its parent.

    botocore guards the credentials with a lock. If the credentials are those of a role, the ones
    that the role is assumed with have a lock too. A lock that a thread of the parent held at the
    fork stays locked here.
    """
    from botocore.credentials import RefreshableCredentials

    # botocore has no public way to these; whatever a later version renames is left alone.
    credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    while isinstance(credentials, RefreshableCredentials):
        vars(credentials)["_refresh_lock"] = threading.Lock()
        fetcher = getattr(getattr(credentials, "_refresh_using", None), "__self__", None)
        credentials = getattr(fetcher, "_source_credentials", None)


def _warn_of_retries(name: str, client: BaseClient) -> None:
    config: Any = client.meta.config  # botocore sets its options as attributes
    retries: dict[str, Any] = config.retries or {}
    if retries.get("total_max_attempts") != 1:
        warnings.warn(
            f"{name}= retries by itself, so its tries multiply with the attempts of RetryPolicy."
            " Build it with Config(retries={'total_max_attempts': 1}).",
            DoubleRetryWarning,
            stacklevel=4,
        )

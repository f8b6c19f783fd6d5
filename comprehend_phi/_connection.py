"""The boto3 clients below ours: how they are built, warned about and closed."""

from __future__ import annotations

import threading
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from . import _failures
from .errors import DoubleRetryWarning, RequestValidationError, TransportError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

    from ._clock import Clock
    from ._storage import Storage
    from .retry import RetryPolicy


S3Transport = Literal["auto", "boto3", "obstore"]


class Connection:
    """The boto3 clients of one of our clients: for Comprehend Medical and, once asked for, for S3.

    Those built here do not retry by themselves, since `RetryPolicy` alone decides, and our retries
    keep one token. The first does not validate either: our validation prints no values. Clients
    that were handed in are used as they are. `connections` is how many connections those built here
    keep where the `config` does not say; None leaves it to botocore.
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
        if client is not None:
            if endpoint_url is not None:
                raise TypeError("client= is used as it is: give its own endpoint_url to it instead")
            if not hasattr(client, "start_phi_detection_job"):
                raise TypeError("client= must be a boto3 client for comprehendmedical")
            _warn_of_retries("client", client)
            _failures.watch(client)
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
        self._own: list[Any] = []
        self._lock = threading.Lock()
        self.client: Any = client or self._build("comprehendmedical", region_name, endpoint_url)
        self._region_name = region_name or self.client.meta.region_name
        self._s3_client: Any = s3_client
        self._s3_session: Session | None = None  # the one that built the client for S3
        self._s3_transport: S3Transport = s3_transport
        self._storage: Storage | None = None

    @property
    def s3_client(self) -> Any:
        """The client for S3: where the session and AWS's own settings say, never `endpoint_url`."""
        import boto3

        with self._lock:
            if self._s3_client is None:
                self._s3_client = self._build("s3", self._region_name, None)
                self._s3_session = self._session or boto3.DEFAULT_SESSION
            return self._s3_client

    def storage(self, policy: RetryPolicy, clock: Clock) -> Storage:
        """Return S3 as results are read from it, the same object for every call.

        Raises:
            TransportError: boto3 cannot build its client, or `s3_transport` is "obstore" and
                obstore cannot be used.
        """
        from ._obstore import open_storage

        client = self.s3_client
        with self._lock:
            if self._storage is None:
                self._storage = open_storage(
                    client, policy, clock, session=self._s3_session, transport=self._s3_transport
                )
            return self._storage

    def close(self) -> None:
        """Close the connections of the clients that were built here; never a user's client."""
        for client in self._own:
            client.close()

    def _build(self, service: str, region_name: str | None, endpoint_url: str | None) -> Any:
        import boto3
        from botocore.config import Config

        theirs = self._config or Config()
        if self._connections is not None:
            theirs = Config(max_pool_connections=self._connections).merge(theirs)
        # RetryPolicy alone retries. "standard" takes the place of an "adaptive" in the environment,
        # which waits by itself even for a single attempt.
        ours = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        if service != "s3":
            ours = ours.merge(Config(parameter_validation=False))
        config = theirs.merge(ours)
        # Without a session, boto3's default one: what setup_default_session configured holds.
        session: Any = self._session or boto3
        build = session.client
        try:
            client = build(
                service, region_name=region_name, endpoint_url=endpoint_url, config=config
            )
        # A line in an AWS config file can end in any exception of botocore or of Python.
        except Exception as cause:  # noqa: BLE001
            error = _failures.client_not_built(cause, f"the client for {service}")
        else:
            self._own.append(client)
            return client
        raise error


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

"""The boto3 clients below ours: how they are built, warned about and closed."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from . import _failures
from .errors import DoubleRetryWarning

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

    from ._clock import Clock
    from ._storage import Storage
    from .retry import RetryPolicy


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
        self._session = session
        self._config = config
        self._connections = connections
        self._own: list[Any] = []
        self._lock = threading.Lock()
        self.client: Any = client or self._build("comprehendmedical", region_name, endpoint_url)
        self._region_name = region_name or self.client.meta.region_name
        self._s3_client: Any = s3_client

    @property
    def s3_client(self) -> Any:
        """The client for S3: where the session and AWS's own settings say, never `endpoint_url`."""
        with self._lock:
            if self._s3_client is None:
                self._s3_client = self._build("s3", self._region_name, None)
            return self._s3_client

    def storage(self, policy: RetryPolicy, clock: Clock) -> Storage:
        """S3 as results are read from it: through obstore where the extra `fast` is installed.

        Not where somebody chose how boto3 connects, with `s3_client` or `config`, since obstore
        would not heed that; nor beside moto, which may have S3 mocked where obstore goes past it.
        """
        import boto3

        from ._storage import Boto3Storage, ObstoreStorage

        client = self.s3_client
        chosen = client not in self._own or self._config is not None
        if not chosen and "moto" not in sys.modules and find_spec("obstore") is not None:
            session = self._session or boto3.DEFAULT_SESSION
            with suppress(Exception):  # such as a session without credentials: boto3 will say so
                return ObstoreStorage(client, policy, clock, session=session)
        return Boto3Storage(client, policy, clock)

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

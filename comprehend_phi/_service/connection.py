"""The boto3 clients of one `PHIClient`: one set per process, refused after closing."""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import define, field

from .._process import PerProcess, import_before_threads
from .._shapes import RuleShape, check_argument
from ..errors import ClientClosedError
from .attempts import track_tries
from .boto3_clients import ServiceName, build_client, build_with_boto3, replace_credential_locks
from .checks import check_client, check_settings, settings_error

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config


S3Transport = Literal["auto", "boto3", "obstore"]


class _Clients:
    """The boto3 clients that one process built, by service."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_service: dict[ServiceName, Any] = {}


@define(kw_only=True, eq=False, repr=False, slots=False)
class Connection:
    """The boto3 clients for Comprehend Medical and, when first needed, for S3.

    Clients that the user passed in are used as they are. A forked process builds its own clients
    and leaves those of its parent alone.

    Args:
        region_name, endpoint_url, session, config, client, s3_client, s3_transport: as for
            `PHIClient`.
        max_pool_connections: how many connections a client keeps if `config` does not say; None is
            botocore's default.
    """

    region_name: str | None
    endpoint_url: str | None
    session: Session | None
    config: Config | None
    _client: BaseClient | None = field(alias="client")
    _s3_client: BaseClient | None = field(alias="s3_client")
    s3_transport: S3Transport
    max_pool_connections: int | None = None

    def __attrs_post_init__(self) -> None:
        check_settings(self.region_name, self.endpoint_url, self.session, self.config)
        if self._client is not None:
            check_client("client", self._client, self.endpoint_url)
            track_tries(self._client)
        if self._s3_client is not None:
            check_client("s3_client", self._s3_client)
            track_tries(self._s3_client)
        _check_transport(self.s3_transport, self._s3_client)
        self._process = os.getpid()
        self._closed = False
        self._clients = PerProcess(_Clients)
        # boto3 needs the first module for S3, and it cannot be imported once the main thread has
        # ended. Opening a connection needs the second.
        modules = ("concurrent.futures.thread", "encodings.idna")
        build_with_boto3(lambda: import_before_threads(*modules), "a client")
        # Build the client now, so that bad settings are reported now.
        region_of_client = self.client.meta.region_name
        self.region_name = self.region_name or region_of_client

    @property
    def client(self) -> Any:
        """The client for Comprehend Medical of this process."""
        return self._client or self._get("comprehendmedical", self.endpoint_url)

    @property
    def s3_client(self) -> Any:
        """The client for S3 of this process. `endpoint_url` does not apply to it."""
        return self._s3_client or self._get("s3", None)

    @property
    def s3_session(self) -> Session | None:
        """The session that builds the client for S3; None if the user passed that client in."""
        if self._s3_client is not None:
            return None
        import boto3

        return self.session or boto3.DEFAULT_SESSION

    def s3(self, operation: str) -> Any:
        """Return the client for S3, for a call of `operation`. Raise what `check` raises."""
        self.check(operation)
        return self.s3_client

    def check(self, operation: str, client_request_token: str | None = None) -> None:
        """Raise an error if nothing may be sent over this connection.

        Raises:
            ClientClosedError: the connection was closed, or the user passed a boto3 client in and
                this process was forked afterwards.
        """
        if self._closed:
            raise ClientClosedError(operation=operation, client_request_token=client_request_token)
        passed_in = self._client is not None or self._s3_client is not None
        if passed_in and os.getpid() != self._process:
            raise ClientClosedError(
                operation=operation,
                reason=(
                    "your boto3 client belongs to the process that this one was forked from; build"
                    " the boto3 client and this client in each process"
                ),
                client_request_token=client_request_token,
            )

    def mark_closed(self) -> None:
        """Let `check` reject every call from now on."""
        self._closed = True

    def close(self) -> None:
        """Close the clients that this process built. A client of the user stays open."""
        self.mark_closed()
        # Without the lock: another thread may hold it while boto3 looks for credentials.
        for client in tuple(self._clients.get().by_service.values()):
            client.close()

    def _get(self, service: ServiceName, endpoint_url: str | None) -> Any:
        """Return the client of this process for `service`. Build it if there is none."""
        clients = self._clients.get()
        if service in clients.by_service:
            return clients.by_service[service]
        with clients.lock:
            if service not in clients.by_service:
                client = build_client(
                    service,
                    region_name=self.region_name,
                    endpoint_url=endpoint_url,
                    session=self.session,
                    config=self.config,
                    max_pool_connections=self.max_pool_connections,
                )
                if os.getpid() != self._process:
                    replace_credential_locks(client)
                clients.by_service[service] = client
            return clients.by_service[service]


def _transport_problem(value: object) -> str | None:
    return None if value in get_args(S3Transport) else "must be 'auto', 'boto3' or 'obstore'"


def _check_transport(transport: S3Transport, s3_client: BaseClient | None) -> None:
    shape = RuleShape("S3Transport", _transport_problem)
    check_argument("PHIClient", "s3_transport", shape, transport)
    if transport != "obstore":
        return
    if s3_client is not None:
        raise TypeError("s3_transport='obstore' cannot use s3_client=; leave one of them out")
    if find_spec("obstore") is None:
        raise settings_error(
            "s3_transport='obstore' needs the module obstore, which the extra `fast` of"
            " comprehend_phi installs"
        )

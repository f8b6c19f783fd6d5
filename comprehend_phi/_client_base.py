"""What both clients have, and how `corpus/` reaches their connection to S3."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from ._client_clock import ClientClock
from ._clock import Clock, SystemClock
from ._process import PerProcess
from ._retry import Retrier, RetryPolicy, check_options
from ._service.connection import Connection

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

    from ._results.boto3_storage import Boto3Storage
    from ._service.operations import Operation, Request, Response


_DEFAULT_RETRY = RetryPolicy()
_SYSTEM_CLOCK = SystemClock()


class ClientS3:
    """A client's connection to S3, with the client's retries and clock.

    Attributes:
        connection: builds the boto3 client for S3, and refuses it once the client is closed.
        policy: how calls are retried.
        clock: measures the waits between attempts.
    """

    def __init__(self, connection: Connection, policy: RetryPolicy, clock: ClientClock) -> None:
        self.connection = connection
        self.policy = policy
        self.clock = clock
        # Programs that only import the package do not need it.
        from ._results.transport import open_storage

        self._storage = PerProcess(partial(open_storage, connection, policy, clock))

    @property
    def region(self) -> str:
        """The region in which the client starts jobs."""
        region: str = self.connection.client.meta.region_name
        return region

    def storage(self) -> Boto3Storage:
        """Return the storage that this process reads from. The first call builds a boto3 client.

        Raises:
            ClientClosedError, TransportError: raised as by `open_storage`.
        """
        return self._storage.get()


class ClientBase:
    """Base class of `PHIClient`, which documents the arguments, and of `AsyncPHIClient`.

    Attributes:
        _max_pool_connections: how many connections each boto3 client keeps if `config` does not
            say; None is botocore's default.
    """

    _max_pool_connections: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        session: Session | None = None,
        config: Config | None = None,
        client: BaseClient | None = None,
        s3_client: BaseClient | None = None,
        s3_transport: Literal["auto", "boto3", "obstore"] = "auto",
        retry: RetryPolicy = _DEFAULT_RETRY,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        check_options(type(self).__name__, retry, clock)
        self._connection = Connection(
            region_name=region_name,
            endpoint_url=endpoint_url,
            session=session,
            config=config,
            client=client,
            s3_client=s3_client,
            s3_transport=s3_transport,
            max_pool_connections=self._max_pool_connections,
        )
        self._clock = ClientClock(clock)
        self._retrier = Retrier(retry, self._clock)
        self._s3 = ClientS3(self._connection, retry, self._clock)
        self._prepare()

    def _prepare(self) -> None:
        """Build what only a subclass has."""

    def _attempt(self, operation: Operation[Request, Response], request: Request) -> Response:
        """Send `request` once, unless the client is closed."""
        token: str | None = getattr(request, "client_request_token", None)
        self._connection.check(operation.name, token)
        return operation.attempt(self._connection.client, request)

    def __comprehend_phi_s3__(self) -> ClientS3:
        """Return the connection to S3. Only `s3_of` calls this."""
        return self._s3


def s3_of(client: ClientBase) -> ClientS3:
    """Return the connection through which `client` uses S3."""
    return client.__comprehend_phi_s3__()

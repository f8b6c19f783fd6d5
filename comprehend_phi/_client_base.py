"""What both clients have, and how `corpus/` reaches their connection to S3."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ._process import PerProcess
from ._results.transport import open_storage
from ._retry import Retrier

if TYPE_CHECKING:
    from ._client_clock import ClientClock
    from ._results.boto3_storage import Boto3Storage
    from ._retry import RetryPolicy
    from ._service.connection import Connection


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
    """Base class of `PHIClient` and `AsyncPHIClient`.

    Args:
        connection: the boto3 clients.
        policy: the retry policy for individual calls.
        clock: measures time and sleeps for retries and waits, until the client is closed.
    """

    def __init__(self, connection: Connection, policy: RetryPolicy, clock: ClientClock) -> None:
        self._connection = connection
        self._clock = clock
        self._retrier = Retrier(policy, clock)
        self._s3 = ClientS3(connection, policy, clock)

    def __comprehend_phi_s3__(self) -> ClientS3:
        """Return the connection to S3. Only `s3_of` calls this."""
        return self._s3


def s3_of(client: ClientBase) -> ClientS3:
    """Return the connection through which `client` uses S3."""
    return client.__comprehend_phi_s3__()

"""Reading the results of a job from S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._clock import Clock
    from .._retry import RetryPolicy
    from .._service.connection import Connection
    from .storage import Storage


def open_storage(connection: Connection, policy: RetryPolicy, clock: Clock) -> Storage:
    """Return S3 by the transport that the user chose. The import waits until results are read.

    Raises:
        TransportError: boto3 cannot build its client, or `s3_transport` is "obstore" and obstore
            cannot be used.
    """
    from .obstore_storage import open_storage

    return open_storage(connection, policy, clock)

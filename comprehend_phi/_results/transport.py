"""The choice between boto3 and obstore for reading and writing S3."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from .._clock import Clock
from .._process import inherited
from .._retry import RetryPolicy
from .._service.connection import Connection
from .boto3_storage import Boto3Storage
from .obstore_route import FORKED, skip_obstore
from .obstore_storage import ObstoreStorage
from .s3_tuning import parse_listings, tune

if TYPE_CHECKING:
    from boto3.session import Session


def open_storage(connection: Connection, policy: RetryPolicy, clock: Clock) -> Boto3Storage:
    """Return a storage that uses the transport that the user chose.

    Args:
        connection: the boto3 clients, and the user's `s3_transport`.
        policy: how calls are retried.
        clock: measures the waits between attempts.

    Raises:
        TransportError: boto3 cannot build its client, or `s3_transport` is "obstore" and obstore
            cannot be used.
    """
    client = connection.s3("results")  # creates boto3's default session if there is none
    session = connection.s3_session
    if session is not None:  # so nobody else uses the client
        parse_listings(client)
        tune(client)
    if connection.s3_transport == "boto3":
        return Boto3Storage(connection.s3, policy, clock)
    required = connection.s3_transport == "obstore"
    if (reason := _obstacle(policy, session)) is not None:
        skip_obstore(reason, required=required, operation="results")
        return Boto3Storage(connection.s3, policy, clock)
    return ObstoreStorage(connection.s3, policy, clock, session=session, required=required)


def _obstacle(policy: RetryPolicy, session: Session | None) -> str | None:
    """Return why obstore cannot be used, as far as this is known before the first read."""
    if session is None:
        return "you passed s3_client=, which is used unchanged"
    if find_spec("obstore") is None:
        return (
            "reading through obstore needs the module obstore, which the extra `fast` of"
            " comprehend_phi installs"
        )
    if inherited("obstore"):
        return FORKED
    if policy.max_attempts == 1:
        return "RetryPolicy(max_attempts=1) allows one request, and a failure of obstore needs two"
    return None

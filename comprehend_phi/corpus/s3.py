"""The way to S3 that a client has: its connection, its retries and its clock."""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._async_client import AsyncPHIClient
    from .._client import PHIClient
    from .._process import PerProcess
    from .._results.boto3_storage import Boto3Storage


def s3_of(client: PHIClient | AsyncPHIClient) -> PerProcess[Boto3Storage]:
    """Return the storage that the client reads results from. Its `get` may build a boto3 client."""
    return client._storage


def region_of(client: PHIClient | AsyncPHIClient) -> str:
    """Return the region in which the client starts jobs."""
    region: str = client._connection.client.meta.region_name
    return region

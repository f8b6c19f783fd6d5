"""What both clients have, and how other packages reach a client's connection to S3."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from comprehend_phi import AsyncPHIClient, ClientClosedError, PHIClient
from comprehend_phi._client_base import ClientBase, s3_of

CLIENTS = pytest.mark.parametrize("make", [PHIClient, AsyncPHIClient])


@CLIENTS
def test_threads_share_the_storage_of_a_client(make: Callable[[], ClientBase]) -> None:
    s3 = s3_of(make())

    with ThreadPoolExecutor(8) as threads:
        storages = [threads.submit(s3.storage) for _ in range(8)]

    assert len({id(storage.result()) for storage in storages}) == 1


@CLIENTS
def test_the_connection_to_s3_knows_the_region_of_the_client(
    make: Callable[..., ClientBase],
) -> None:
    assert s3_of(make(region_name="eu-west-1")).region == "eu-west-1"


def test_a_closed_client_builds_no_storage() -> None:
    client = PHIClient()
    client.close()

    with pytest.raises(ClientClosedError):
        s3_of(client).storage()


def test_the_base_class_adds_no_public_name_to_the_clients() -> None:
    assert [name for name in vars(ClientBase) if not name.startswith("_")] == []

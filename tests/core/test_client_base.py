"""What both clients have, and how other packages reach a client's connection to S3."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from comprehend_phi import (
    AsyncPHIClient,
    ClientClosedError,
    PHIClient,
    RetryPolicy,
    ThrottlingException,
)
from comprehend_phi._client_base import ClientBase, s3_of
from comprehend_phi.testing import FakeClock

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


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (PHIClient, 10),  # botocore's own default
        (AsyncPHIClient, 25),
    ],
)
def test_the_boto3_clients_keep_a_number_of_connections_that_suits_the_client(
    make: Callable[[], ClientBase], number: int
) -> None:
    connection = s3_of(make()).connection

    for client in (connection.client, connection.s3_client):
        assert client.meta.config.max_pool_connections == number


@CLIENTS
def test_the_storage_retries_with_the_policy_and_the_clock_of_the_client(
    make: Callable[..., ClientBase],
    s3: Any,
    bucket: str,
    refuse: Callable[..., None],
    clock: FakeClock,
) -> None:
    refuse("notes/note.txt", status=503, code="SlowDown")
    client = make(s3_client=s3, retry=RetryPolicy(max_attempts=3), clock=clock)

    with pytest.raises(ThrottlingException) as caught:
        s3_of(client).storage().read(bucket, "notes/note.txt")

    assert caught.value.attempts == 3
    assert len(clock.sleeps) == 2


@CLIENTS
def test_the_connection_to_s3_knows_the_policy_and_the_clock_of_the_client(
    make: Callable[..., ClientBase], clock: FakeClock
) -> None:
    policy = RetryPolicy(max_attempts=3)

    connection = s3_of(make(retry=policy, clock=clock))
    connection.clock.sleep(7.0)

    assert connection.policy == policy
    assert clock.sleeps == [7.0]


def test_a_closed_client_builds_no_storage() -> None:
    client = PHIClient()
    client.close()

    with pytest.raises(ClientClosedError):
        s3_of(client).storage()


def test_the_base_class_adds_no_public_name_to_the_clients() -> None:
    assert [name for name in vars(ClientBase) if not name.startswith("_")] == []

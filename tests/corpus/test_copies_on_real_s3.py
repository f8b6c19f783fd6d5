"""Copies on a real S3 server, which checks conditions, signatures and checksums itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import PHIClient, S3Location
from comprehend_phi._client_base import s3_of
from comprehend_phi.corpus import CopyError
from comprehend_phi.corpus.targets import S3Copies, S3Target


@pytest.fixture
def client(real_s3: str) -> Iterator[PHIClient]:
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1})
    s3 = session.client("s3", endpoint_url=real_s3, config=config)
    with PHIClient(session=session, s3_client=s3) as client:
        yield client
    s3.close()


@pytest.fixture
def location(client: PHIClient) -> S3Location:
    location = S3Location(f"copies-{uuid4().hex}", "2031/02")
    s3_of(client).connection.s3_client.create_bucket(Bucket=location.bucket)
    return location


def target(client: PHIClient, location: S3Location) -> S3Target:
    calls = s3_of(client).storage().calls
    return S3Target(calls, location, kms_key=None, may_repeat=False)


def test_a_copy_is_written_once_and_never_replaced(client: PHIClient, location: S3Location) -> None:
    assert target(client, location).write("ward 3/\u00e9 +%.txt", b"1")
    assert not target(client, location).write("ward 3/\u00e9 +%.txt", b"1")
    with pytest.raises(CopyError, match="a copy with other content"):
        target(client, location).write("ward 3/\u00e9 +%.txt", b"2")

    copies = S3Copies(s3_of(client).storage(), location)
    assert list(copies.names()) == ["ward 3/\u00e9 +%.txt"]


def test_of_many_runs_at_the_same_time_only_one_writes_a_copy(
    client: PHIClient, location: S3Location
) -> None:
    def write(number: int) -> bool:
        try:
            return target(client, location).write("one.txt", b"%d" % number)
        except CopyError:
            return False

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))

    assert sum(written) == 1
    [winner] = [number for number, is_new in enumerate(written) if is_new]
    key = f"{location.key}/one.txt"
    assert s3_of(client).storage().read(location.bucket, key).body == b"%d" % winner

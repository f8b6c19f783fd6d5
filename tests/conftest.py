"""What many tests stand on: the local service over HTTP, and clients with a clock of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from hypothesis import settings

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    RetryPolicy,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.testing import FakeClock, LocalServer

# A slow machine is no failure; and the gate finds the same in every run, while a developer's runs
# look further.
settings.register_profile("local", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "local")

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"

# Planted where text may not leak from, and looked for everywhere it may leak to.
CANARY = "Zinnia Quellwasser"


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region that exist nowhere, whatever this machine is configured for."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> Iterator[LocalServer]:
    """The local service over HTTP; its jobs move on with `clock`."""
    with LocalServer(clock=clock, job_seconds=300) as server:
        yield server


@pytest.fixture
def make_client(server: LocalServer, clock: FakeClock) -> Iterator[Callable[..., PHIClient]]:
    """Builds clients of `server` that never really sleep; all are closed in the end."""
    clients: list[PHIClient] = []

    def make(**options: Any) -> PHIClient:
        options = {"endpoint_url": server.endpoint_url, "clock": clock, **options}
        clients.append(PHIClient(**options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., PHIClient]) -> PHIClient:
    return make_client()


@pytest.fixture
def once(make_client: Callable[..., PHIClient]) -> PHIClient:
    """A client that tries everything only once."""
    return make_client(retry=RetryPolicy(max_attempts=1))


@pytest.fixture
def s3(server: LocalServer) -> Iterator[Any]:
    """A boto3 client for the S3 beside the local service."""
    client: Any = boto3.client("s3", endpoint_url=server.endpoint_url)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of this test alone, with one note at `notes/note.txt`."""
    name = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    s3.put_object(
        Bucket=name, Key="notes/note.txt", Body=b"Patient: Ada Example, phone (555) 555-0142"
    )
    return name


@pytest.fixture
def make_request(bucket: str) -> Callable[..., StartPHIDetectionJobRequest]:
    """Builds requests for the notes in `bucket`, each a start of its own."""

    def make(**fields: Any) -> StartPHIDetectionJobRequest:
        members: dict[str, Any] = {
            "input_data_config": InputDataConfig(s3_bucket=bucket, s3_key="notes"),
            "output_data_config": OutputDataConfig(s3_bucket=bucket, s3_key="results"),
            "data_access_role_arn": ROLE,
            "kms_key": KEY,
            **fields,
        }
        return StartPHIDetectionJobRequest(**members)

    return make


@pytest.fixture
def request_(
    make_request: Callable[..., StartPHIDetectionJobRequest],
) -> StartPHIDetectionJobRequest:
    """One request for the notes in `bucket`."""
    return make_request()

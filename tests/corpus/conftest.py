"""What the tests of `corpus/` share: the local service, and jobs over the notes in a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    AsyncPHIClient,
    InputDataConfig,
    JobResults,
    OutputDataConfig,
    PHIClient,
    S3Location,
    StartPHIDetectionJobRequest,
)
from comprehend_phi._client_base import s3_of
from comprehend_phi.corpus import InputReport, check_input, check_input_async
from comprehend_phi.corpus.objects import S3Objects
from comprehend_phi.testing import FakeClock, LocalServer

from ..conftest import CANARY, KEY, ROLE, Serving
from ..s3_server import S3Server

Check = Callable[..., InputReport]
Put = Callable[..., None]

NOTE = f"Patient: {CANARY}, seen on 2031-02-03.\r\nPhone (555) 555-0142\n"


@pytest.fixture(params=["sync", "async"])
def check(
    request: pytest.FixtureRequest,
    server: LocalServer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Check:
    """Checks the input of a request; `client=` has options of the client."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)

    def check(
        job: StartPHIDetectionJobRequest, *, client: dict[str, Any] | None = None, **options: Any
    ) -> InputReport:
        settings: dict[str, Any] = {"clock": clock, **(client or {})}
        if request.param == "sync":
            with PHIClient(**settings) as sync_client:
                return check_input(sync_client, job, **options)

        async def check_async() -> InputReport:
            async with AsyncPHIClient(**settings) as async_client:
                return await check_input_async(async_client, job, **options)

        return asyncio.run(check_async(), debug=True)

    return check


@pytest.fixture
def s3_server(
    server: LocalServer,
    serving: Callable[[S3Server], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[S3Server]:
    """The S3 of the local service, with faults. Clients that are built afterwards use it."""
    s3_server = S3Server(server.storage)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
    with serving(s3_server):
        yield s3_server


@pytest.fixture
def put(s3: Any, bucket: str) -> Put:
    """Write objects into the bucket, which has no others."""
    s3.delete_object(Bucket=bucket, Key="notes/note.txt")

    def put(*keys: str, body: str | bytes = b"text", **members: Any) -> None:
        content = body.encode() if isinstance(body, str) else body
        for key in keys:
            s3.put_object(Bucket=bucket, Key=key, Body=content, **members)

    return put


class Ward:
    """A bucket with notes at `notes/`, jobs over them, and a bucket for copies.

    Attributes:
        requests: the S3 server that the client talks to. It can fail.
        s3: a boto3 client that the faults of `requests` do not concern.
    """

    def __init__(self, server: LocalServer, requests: S3Server, client: PHIClient, s3: Any) -> None:
        self.bucket = f"bucket-{uuid4().hex}"
        self.copies = S3Location(f"copies-{uuid4().hex}", "2031/redacted")
        self.requests = requests
        self.client = client
        self.s3 = s3
        self.storage = server.storage
        self.url = server.endpoint_url
        for bucket in (self.bucket, self.copies.bucket):
            s3.create_bucket(Bucket=bucket)

    def put(self, name: str, body: str | bytes = NOTE) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.storage.write(self.bucket, f"notes/{name}", content)

    def run(self, *names: str, folder: str | None = "notes") -> JobResults:
        """Write notes with these names, and return the results of a job over them."""
        for name in names:
            self.put(name)
        job = self.client.submit(
            StartPHIDetectionJobRequest(
                input_data_config=InputDataConfig(s3_bucket=self.bucket, s3_key=folder),
                output_data_config=OutputDataConfig(s3_bucket=self.bucket, s3_key="results"),
                data_access_role_arn=ROLE,
                kms_key=KEY,
                job_name=f"Notes of {CANARY}",
            )
        )
        job.wait()
        self.requests.requests.clear()
        return job.results()

    def output_key(self, results: JobResults, name: str) -> str:
        return f"results/123456789012-PHIDetection-{results.job.job_id}/{name}"

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=key)

    def objects(self) -> dict[str, bytes]:
        """Return what is in the bucket for copies, by its key."""
        bucket = self.copies.bucket
        listed = self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: self.s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            for each in listed
        }


# A module shares servers and a client. Each test has its own buckets and jobs.


@pytest.fixture(scope="module")
def ward_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def ward_services(
    serving: Serving, ward_clock: FakeClock
) -> Iterator[tuple[LocalServer, S3Server, PHIClient, Any]]:
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    clock = ward_clock
    with LocalServer(clock=clock, job_seconds=0) as server, ExitStack() as stack:
        requests = S3Server(server.storage)
        stack.enter_context(serving(requests))
        config = Config(retries={"total_max_attempts": 1})
        url = server.endpoint_url
        clients: list[Any] = [
            session.client("s3", endpoint_url=each, config=config) for each in (requests.url, url)
        ]
        options: dict[str, Any] = {"session": session, "endpoint_url": url, "clock": clock}
        client = stack.enter_context(PHIClient(s3_client=clients[0], **options))
        yield server, requests, client, clients[1]
        for each in clients:
            each.close()


@pytest.fixture
def ward(
    request: pytest.FixtureRequest,
    ward_services: tuple[LocalServer, S3Server, PHIClient, Any],
    ward_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ward]:
    """A ward for one test. Its client uses boto3, or obstore if that is the parameter."""
    server, requests, client, s3 = ward_services
    requests.rules.clear()
    if getattr(request, "param", "boto3") == "boto3":
        yield Ward(server, requests, client, s3)
        return
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", requests.url)
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    with PHIClient(
        session=session,
        endpoint_url=server.endpoint_url,
        clock=ward_clock,
        s3_transport="obstore",
    ) as fast:
        ward = Ward(server, requests, fast, s3)
        first = S3Objects(s3_of(fast).storage().calls)
        for key, kms_key in {"first": None, "second": KEY}.items():
            first.put(ward.copies.bucket, key, b"written through boto3", kms_key=kms_key)
            s3.delete_object(Bucket=ward.copies.bucket, Key=key)
        yield ward

"""The local service over HTTP, as seen by boto3, the AWS CLI and plain sockets."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from moto import mock_aws

from comprehend_phi import JobStatus, PHIClient, StartPHIDetectionJobRequest
from comprehend_phi.testing import FakeClock, Limits, LocalServer, faults, local_service

from ..conftest import LIST, ROLE

untyped_boto3: Any = boto3  # its stubs only know some services

# --- boto3 ----------------------------------------------------------------------------------------


@contextmanager
def raw_client(url: str, **options: Any) -> Generator[Any, None, None]:
    """A boto3 client with default settings except for the endpoint."""
    client = untyped_boto3.client("comprehendmedical", endpoint_url=url, **options)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def raw(server: LocalServer) -> Generator[Any, None, None]:
    with raw_client(server.endpoint_url) as client:
        yield client


def start(client: Any, bucket: str, **members: Any) -> str:
    job_id: str = client.start_phi_detection_job(
        InputDataConfig={"S3Bucket": bucket, "S3Key": "notes"},
        OutputDataConfig={"S3Bucket": bucket, "S3Key": "results"},
        DataAccessRoleArn=ROLE,
        LanguageCode="en",
        **members,
    )["JobId"]
    return job_id


def test_boto3_takes_a_job_from_start_to_results(
    raw: Any, s3: Any, bucket: str, clock: FakeClock
) -> None:
    job_id = start(raw, bucket, JobName="nightly")
    described = raw.describe_phi_detection_job(JobId=job_id)["ComprehendMedicalAsyncJobProperties"]
    assert (described["JobStatus"], described["JobName"]) == ("SUBMITTED", "nightly")
    assert described["SubmitTime"] == clock.now()
    clock.sleep(300)
    # The results are in S3 when the job ends, without another request to Comprehend Medical.
    folder = f"results/123456789012-PHIDetection-{job_id}/"
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]
    assert {f"{folder}note.txt.out", f"{folder}Manifest"} <= {item["Key"] for item in listed}
    body = s3.get_object(Bucket=bucket, Key=f"{folder}note.txt.out")["Body"].read()
    assert [entity["Type"] for entity in json.loads(body)["Entities"]] == ["NAME", "PHONE_OR_FAX"]


def test_boto3_lists_jobs_page_by_page(raw: Any, bucket: str) -> None:
    ids = [start(raw, bucket) for _ in range(3)]
    page = raw.list_phi_detection_jobs(MaxResults=2)
    rest = raw.list_phi_detection_jobs(MaxResults=2, NextToken=page["NextToken"])
    assert "NextToken" not in rest
    name = "ComprehendMedicalAsyncJobPropertiesList"
    assert [job["JobId"] for job in (*page[name], *rest[name])] == ids[::-1]


def test_boto3_filters_by_time(raw: Any, bucket: str, clock: FakeClock) -> None:
    early = start(raw, bucket)
    clock.sleep(10)
    start(raw, bucket)
    answer = raw.list_phi_detection_jobs(Filter={"SubmitTimeBefore": clock.now()})
    assert [job["JobId"] for job in answer["ComprehendMedicalAsyncJobPropertiesList"]] == [early]


def test_boto3_stops_a_job(raw: Any, bucket: str) -> None:
    job_id = start(raw, bucket)
    assert raw.stop_phi_detection_job(JobId=job_id)["JobId"] == job_id
    described = raw.describe_phi_detection_job(JobId=job_id)
    assert described["ComprehendMedicalAsyncJobProperties"]["JobStatus"] == "STOP_REQUESTED"


def test_boto3_raises_the_errors_of_the_service_model(raw: Any) -> None:
    with pytest.raises(raw.exceptions.ResourceNotFoundException) as missing:
        raw.describe_phi_detection_job(JobId="0" * 32)
    metadata = missing.value.response["ResponseMetadata"]
    assert metadata["RequestId"]
    assert metadata["HTTPStatusCode"] == 400


def test_boto3_sees_only_the_jobs_of_its_region(server: LocalServer, raw: Any, bucket: str) -> None:
    job_id = start(raw, bucket)
    with raw_client(server.endpoint_url, region_name="eu-west-1") as elsewhere:
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            elsewhere.describe_phi_detection_job(JobId=job_id)
        assert elsewhere.list_phi_detection_jobs()["ComprehendMedicalAsyncJobPropertiesList"] == []


def test_s3_returns_the_bytes_that_were_stored(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b c.bin", Body=bytes(range(256)))
    assert s3.get_object(Bucket=bucket, Key="a/b c.bin")["Body"].read() == bytes(range(256))
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="a/")["Contents"]
    assert [item["Key"] for item in listed] == ["a/b c.bin"]


def test_twenty_boto3_clients_at_the_same_time(clock: FakeClock) -> None:
    limits = Limits(active_jobs=1000)
    with LocalServer(clock=clock, job_seconds=300, limits=limits) as server:
        bucket = f"bucket-{uuid4().hex}"
        s3 = untyped_boto3.client("s3", endpoint_url=server.endpoint_url)
        s3.create_bucket(Bucket=bucket)
        s3.close()
        clients = [
            untyped_boto3.client("comprehendmedical", endpoint_url=server.endpoint_url)
            for _ in range(20)
        ]

        def work(number: int) -> list[str]:
            client = clients[number]
            token = f"token-{number}"
            ids = [start(client, bucket, ClientRequestToken=f"{token}-{one}") for one in range(5)]
            again = [start(client, bucket, ClientRequestToken=f"{token}-{one}") for one in range(5)]
            assert ids == again
            for job_id in ids:
                client.describe_phi_detection_job(JobId=job_id)
            client.list_phi_detection_jobs(MaxResults=10)
            client.stop_phi_detection_job(JobId=ids[0])
            return ids

        with ThreadPoolExecutor(20) as pool:
            ids = [job_id for ids in pool.map(work, range(20)) for job_id in ids]
        for client in clients:
            client.close()
        assert len(set(ids)) == 100
        assert set(server.service.job_ids) == set(ids)
        assert server.service.attempts("StartPHIDetectionJob") == 200


def test_twenty_threads_with_one_token_start_one_job(
    raw: Any, server: LocalServer, bucket: str
) -> None:
    def again(_: int) -> str:
        return start(raw, bucket, ClientRequestToken="one")

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(again, range(40)))
    assert ids == set(server.service.job_ids)
    assert len(ids) == 1


# --- Sockets --------------------------------------------------------------------------------------


def call(server: LocalServer, operation: str = LIST) -> bytes:
    """Return the bytes of a request."""
    return (
        f"POST / HTTP/1.1\r\nHost: {server.endpoint_url.removeprefix('http://')}\r\n"
        f"X-Amz-Target: ComprehendMedical_20181030.{operation}\r\n"
        "Content-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}"
    ).encode()


@contextmanager
def connect(server: LocalServer) -> Generator[socket.socket, None, None]:
    address = ("127.0.0.1", int(server.endpoint_url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=30) as connection:
        yield connection


@pytest.mark.parametrize("fault", [faults.reset_before(), faults.reset_after()])
def test_a_reset_connection_is_reset_and_not_closed(
    server: LocalServer, fault: faults.Fault
) -> None:
    server.service.script(fault)
    with connect(server) as connection:
        connection.sendall(call(server))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize(
    ("fault", "jobs"), [(faults.reset_before(), 0), (faults.reset_after(), 1), (faults.cut(), 1)]
)
def test_a_fault_comes_before_or_after_the_start_of_the_job(
    server: LocalServer, bucket: str, fault: faults.Fault, jobs: int
) -> None:
    server.service.script(fault)
    once = Config(retries={"total_max_attempts": 1})
    # botocore does not notice that the body is truncated: its response has no JobId.
    lost = pytest.raises((ConnectionClosedError, KeyError))
    with raw_client(server.endpoint_url, config=once) as client, lost:
        start(client, bucket)
    assert len(server.service.job_ids) == jobs


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_response_is_shorter_than_its_content_length(
    server: LocalServer, keep: float
) -> None:
    whole = b'{"ComprehendMedicalAsyncJobPropertiesList": []}'
    server.service.script(faults.cut(keep))
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
    headers = {"X-Amz-Target": f"ComprehendMedical_20181030.{LIST}"}
    try:
        connection.request("POST", "/", b"{}", headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(whole)))
        with pytest.raises(http.client.IncompleteRead) as cut:
            answer.read()
    finally:
        connection.close()
    assert cut.value.partial == whole[: int(len(whole) * keep)]


def test_a_scripted_response_is_sent_unchanged(server: LocalServer) -> None:
    server.service.script(faults.answer(418, b"\xff tea", {"X-Pot": "short", "Retry-After": "3"}))
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
    headers = {"X-Amz-Target": f"ComprehendMedical_20181030.{LIST}"}
    try:
        connection.request("POST", "/", b"{}", headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (418, b"\xff tea")
    finally:
        connection.close()
    assert (answer.headers["X-Pot"], answer.headers["Retry-After"]) == ("short", "3")


def test_a_slow_response_advances_the_clock_of_the_service(
    raw: Any, server: LocalServer, clock: FakeClock
) -> None:
    server.service.script(faults.slow(25.0))
    raw.list_phi_detection_jobs()
    assert clock.sleeps == [25.0]


def test_the_server_only_listens_on_127_0_0_1(server: LocalServer) -> None:
    assert server.endpoint_url.startswith("http://127.0.0.1:")
    port = int(server.endpoint_url.rpartition(":")[2])
    # A server that listens on all interfaces would also accept this loopback address.
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


def test_a_closed_server_does_not_listen(clock: FakeClock) -> None:
    with LocalServer(clock=clock) as server:
        port = int(server.endpoint_url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_closed_server_frees_its_port(clock: FakeClock) -> None:
    with LocalServer(clock=clock) as server:
        port = int(server.endpoint_url.rpartition(":")[2])
    with LocalServer(clock=clock, port=port) as server, raw_client(server.endpoint_url) as client:
        client.list_phi_detection_jobs()


def test_each_server_has_its_own_jobs(
    client: PHIClient,
    make_client: Callable[..., PHIClient],
    clock: FakeClock,
    request_: StartPHIDetectionJobRequest,
) -> None:
    client.submit(request_)
    with LocalServer(clock=clock) as other:
        assert list(make_client(endpoint_url=other.endpoint_url).list_phi_detection_jobs()) == []


def test_the_server_logs_nothing(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    s3: Any,
    bucket: str,
    server: LocalServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.service.script(faults.reset_before(), faults.cut())
    client.submit(request_)
    s3.put_object(Bucket=bucket, Key="notes/Zinnia.txt", Body=b"")
    assert capfd.readouterr() == ("", "")


# --- One server beside others ---------------------------------------------------------------------


def s3_of(url: str | None = None, **options: Any) -> Any:
    return untyped_boto3.client("s3", endpoint_url=url, region_name="us-east-1", **options)


def buckets(s3: Any) -> list[str]:
    return [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def body_of(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def send(server: LocalServer, method: str, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_each_server_has_its_own_buckets(s3: Any, bucket: str, clock: FakeClock) -> None:
    with LocalServer(clock=clock) as other, closing(s3_of(other.endpoint_url)) as elsewhere:
        assert buckets(elsewhere) == []
        # A name that is taken on one server is free on the other.
        elsewhere.create_bucket(Bucket=bucket)
        elsewhere.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"elsewhere")
        assert body_of(elsewhere, bucket, "notes/note.txt") == b"elsewhere"
        assert body_of(s3, bucket, "notes/note.txt").startswith(b"Patient: Ada Example")
        elsewhere.delete_object(Bucket=bucket, Key="notes/note.txt")
        elsewhere.delete_bucket(Bucket=bucket)
    assert buckets(s3) == [bucket]


def test_servers_in_use_at_the_same_time_keep_their_objects_separate(clock: FakeClock) -> None:
    with ExitStack() as stack:
        clients: list[Any] = []
        for _ in range(4):
            server = stack.enter_context(LocalServer(clock=clock))
            clients.append(stack.enter_context(closing(s3_of(server.endpoint_url))))
            clients[-1].create_bucket(Bucket="bucket")

        def work(number: int) -> list[bytes]:
            s3, keys = clients[number % 4], [f"notes/{one}.txt" for one in range(10)]
            for key in keys:
                s3.put_object(Bucket="bucket", Key=key, Body=str(number % 4).encode())
            return [body_of(s3, "bucket", key) for key in keys]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
    assert found == [[str(number % 4).encode()] * 10 for number in range(8)]


def test_a_server_reads_and_writes_its_own_buckets(clock: FakeClock) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(LocalServer(clock=clock, job_seconds=300)) for _ in range(2)]
        clients: list[Any] = [
            stack.enter_context(closing(s3_of(one.endpoint_url))) for one in servers
        ]
        job_ids: list[str] = []
        for number, (server, s3) in enumerate(zip(servers, clients, strict=True)):
            s3.create_bucket(Bucket="bucket")
            s3.put_object(Bucket="bucket", Key=f"notes/{number}.txt", Body=b"Patient: Ada Example")
            client = stack.enter_context(raw_client(server.endpoint_url))
            job_ids.append(start(client, "bucket"))
        clock.sleep(300)
        for number, (job_id, s3) in enumerate(zip(job_ids, clients, strict=True)):
            listed = s3.list_objects_v2(Bucket="bucket", Prefix="results/")["Contents"]
            documents = [one["Key"] for one in listed if one["Key"].endswith(".out")]
            assert documents == [f"results/123456789012-PHIDetection-{job_id}/{number}.txt.out"]


def test_mock_aws_has_another_s3(s3: Any, bucket: str) -> None:
    with mock_aws(), closing(s3_of()) as mocked:
        assert buckets(mocked) == []
        mocked.create_bucket(Bucket=bucket)
        mocked.create_bucket(Bucket="only-mocked")
        mocked.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"mocked")
        assert buckets(s3) == [bucket]
        assert body_of(s3, bucket, "notes/note.txt").startswith(b"Patient: Ada Example")
        s3.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"served")
        assert body_of(mocked, bucket, "notes/note.txt") == b"mocked"


def test_mock_aws_does_not_empty_a_server(
    s3: Any, bucket: str, client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=1, Body=b"all")
    job = client.submit(request_)
    for _ in range(2):
        with mock_aws():
            pass
    assert body_of(s3, bucket, "notes/note.txt").startswith(b"Patient: Ada Example")
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key="large",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert body_of(s3, bucket, "large") == b"all"
    assert job.wait().job_status is JobStatus.COMPLETED


def test_a_local_service_in_the_same_process_is_separate(
    s3: Any, bucket: str, client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    with local_service(clock=clock) as service, closing(s3_of()) as mocked:
        assert buckets(mocked) == []
        job = client.submit(request_)
        assert service.job_ids == ()
        with PHIClient(region_name="us-east-1", clock=clock) as in_process:
            assert list(in_process.list_phi_detection_jobs()) == []
        assert job.wait().job_status is JobStatus.COMPLETED
        assert buckets(mocked) == []
    assert buckets(s3) == [bucket]


def test_a_server_leaves_no_trace_in_motos_own_s3(s3: Any, bucket: str) -> None:
    from moto.s3 import models

    moto_s3: Any = models
    s3.put_object(Bucket=bucket, Key="another", Body=b"")
    assert bucket not in moto_s3.s3_backends.bucket_accounts
    keys: Any = moto_s3.FakeKey
    tracked = keys.instances_tracked if hasattr(keys, "instances_tracked") else keys.instances
    assert bucket not in [one.bucket_name for one in tracked]


def test_the_clock_of_a_server_dates_its_objects(
    server: LocalServer, s3: Any, bucket: str, clock: FakeClock
) -> None:
    def dated() -> datetime:
        when: datetime = s3.head_object(Bucket=bucket, Key="notes/note.txt")["LastModified"]
        return when

    assert dated() == clock.now()
    clock.sleep(60)
    s3.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"")
    assert dated() == clock.now()
    clock.sleep(60)
    server.storage.write(bucket, "notes/note.txt", b"")
    assert dated() == clock.now()


def test_a_server_keeps_no_object_that_was_replaced(server: LocalServer, s3: Any) -> None:
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="note.txt", Body=b"first")
    with server.storage.backends() as backends:
        replaced = weakref.ref(backends["123456789012"]["aws"].get_object("bucket", "note.txt"))
    s3.put_object(Bucket="bucket", Key="note.txt", Body=b"second")
    gc.collect()
    assert replaced() is None


def test_the_storage_of_a_server_is_its_s3(server: LocalServer, s3: Any) -> None:
    server.storage.create_bucket("bucket")
    server.storage.write("bucket", "notes/b.txt", b"Patient: Ada Example")
    s3.put_object(Bucket="bucket", Key="notes/a.txt", Body=b"nothing")
    assert server.storage.keys("bucket") == ["notes/a.txt", "notes/b.txt"]
    assert server.storage.read("bucket", "notes/a.txt") == b"nothing"
    assert body_of(s3, "bucket", "notes/b.txt") == b"Patient: Ada Example"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "us-gov-west-1", "cn-north-1"])
def test_a_job_finds_its_bucket_in_every_partition(
    region: str, server: LocalServer, clock: FakeClock
) -> None:
    place = {} if region == "us-east-1" else {"LocationConstraint": region}
    options = {"endpoint_url": server.endpoint_url, "region_name": region}
    with closing(untyped_boto3.client("s3", **options)) as s3:
        s3.create_bucket(Bucket="bucket", **{"CreateBucketConfiguration": place} if place else {})
        s3.put_object(Bucket="bucket", Key="notes/note.txt", Body=b"Patient: Ada Example")
        with raw_client(server.endpoint_url, region_name=region) as client:
            job_id = start(client, "bucket")
            clock.sleep(300)
            described = client.describe_phi_detection_job(JobId=job_id)
        job = described["ComprehendMedicalAsyncJobProperties"]
        assert job["JobStatus"] == "COMPLETED"
        assert json.loads(body_of(s3, "bucket", job["ManifestFilePath"]))["Summary"]


def test_the_names_of_folders_contain_the_account_of_moto(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "210987654321")
    with (
        LocalServer(clock=clock, job_seconds=300) as server,
        closing(s3_of(server.endpoint_url)) as s3,
        raw_client(server.endpoint_url) as client,
    ):
        server.storage.create_bucket("bucket")
        assert buckets(s3) == ["bucket"]
        s3.put_object(Bucket="bucket", Key="notes/note.txt", Body=b"Patient: Ada Example")
        job_id = start(client, "bucket")
        clock.sleep(300)
        job = client.describe_phi_detection_job(JobId=job_id)["ComprehendMedicalAsyncJobProperties"]
        folder = f"results/210987654321-PHIDetection-{job_id}/"
        assert job["OutputDataConfig"]["S3Key"] == folder
        assert job["ManifestFilePath"] == f"{folder}Manifest"
        assert body_of(s3, "bucket", f"{folder}note.txt.out")


# --- Reset ----------------------------------------------------------------------------------------


def test_a_reset_deletes_buckets_jobs_and_faults(clock: FakeClock) -> None:
    limits = Limits(active_jobs=1)
    with (
        LocalServer(clock=clock, job_seconds=300, limits=limits) as server,
        closing(s3_of(server.endpoint_url)) as s3,
        raw_client(server.endpoint_url) as client,
    ):
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="notes/note.txt", Body=b"Patient: Ada Example")
        before = start(client, "bucket", ClientRequestToken="one")
        server.service.script(faults.error("InvalidRequestException"))
        assert send(server, "POST", "/moto-api/reset") == (200, {"status": "ok"})
        assert buckets(s3) == []
        assert server.service.job_ids == ()
        assert server.service.attempts("StartPHIDetectionJob") == 0
        # The job slot, the token and the name of the bucket are free again.
        assert start(client, "bucket", ClientRequestToken="one") != before
        s3.create_bucket(Bucket="bucket")
        assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_a_reset_does_not_change_other_servers(
    s3: Any, bucket: str, client: PHIClient, request_: StartPHIDetectionJobRequest, clock: FakeClock
) -> None:
    job = client.submit(request_)
    with LocalServer(clock=clock) as other, mock_aws(), closing(s3_of()) as mocked:
        mocked.create_bucket(Bucket="mocked")
        assert send(other, "POST", "/moto-api/reset")[0] == 200
        assert buckets(mocked) == ["mocked"]
    assert job.wait().job_status is JobStatus.COMPLETED
    assert body_of(s3, bucket, "notes/note.txt")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/moto-api/reset"),
        ("GET", "/moto-api/"),
        ("GET", "/moto-api/data.json"),
        ("POST", "/moto-api/reset-auth"),
        ("POST", "/moto-api/seed?a=1"),
    ],
)
def test_the_rest_of_motos_own_api_is_refused(server: LocalServer, method: str, path: str) -> None:
    said = "Of moto's API, this server only has POST /moto-api/reset."
    assert send(server, method, path) == (404, {"error": said})

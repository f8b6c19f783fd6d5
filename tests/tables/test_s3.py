"""Tables on S3: a multipart upload, which is complete or leaves nothing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet as arrow_parquet

from comprehend_phi import (
    ClientClosedError,
    Document,
    IncompleteResultsError,
    JobResults,
    PHIClient,
    RequestValidationError,
    S3Location,
    UnwritableObjectError,
)
from comprehend_phi.tables import entity_batches, write_csv, write_parquet
from comprehend_phi.testing import LocalServer

from ..conftest import CANARY, KEY, Serving
from ..s3_server import RESET, THROTTLED, S3Server, refused
from .conftest import document, entity

Write = Callable[..., int]

each_format = pytest.mark.parametrize("write", [write_parquet, write_csv])

# Untyped: the stubs of pyarrow are only partly typed.
csv: Any = arrow_csv
parquet: Any = arrow_parquet


@pytest.fixture
def s3_server(
    server: LocalServer, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    s3_server = S3Server(server.storage)
    with serving(s3_server):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
        yield s3_server


@pytest.fixture
def target(s3_server: S3Server, bucket: str) -> S3Location:
    return S3Location(bucket, "tables/entities")


def body(s3: Any, location: S3Location) -> bytes:
    content: bytes = s3.get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
    return content


def left_over(s3: Any, bucket: str) -> list[str]:
    """Return the objects and the pending uploads below `tables/`."""
    objects = s3.list_objects_v2(Bucket=bucket, Prefix="tables/").get("Contents", [])
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [each["Key"] for each in (*objects, *uploads)]


@pytest.mark.parametrize(
    ("write", "read", "media_type"),
    [
        (write_parquet, parquet.read_table, "application/vnd.apache.parquet"),
        (write_csv, csv.read_csv, "text/csv; charset=utf-8"),
    ],
)
def test_a_table_on_s3_has_all_rows(
    complete: JobResults,
    client: PHIClient,
    s3: Any,
    target: S3Location,
    write: Write,
    read: Callable[[BytesIO], Any],
    media_type: str,
) -> None:
    assert write(complete, target, client=client) == 6

    batches: Any = entity_batches(complete)
    assert read(BytesIO(body(s3, target))).to_pylist() == batches.read_all().to_pylist()
    head = s3.head_object(Bucket=target.bucket, Key=target.key)
    assert head["ContentType"] == media_type
    assert left_over(s3, target.bucket) == [target.key]


@each_format
@pytest.mark.parametrize("kms_key", [None, KEY])
def test_the_object_is_encrypted_with_the_kms_key(
    client: PHIClient, s3_server: S3Server, target: S3Location, write: Write, kms_key: str | None
) -> None:
    write([document("a")], target, client=client, kms_key=kms_key)

    [create] = [each for each in s3_server.requests if each.operation == "CreateMultipartUpload"]
    assert create.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == kms_key


@each_format
@pytest.mark.parametrize("batch_rows", [1, 1_000])
def test_incomplete_results_leave_no_object_and_no_upload(
    complete: JobResults,
    lose: Callable[[str], None],
    client: PHIClient,
    s3: Any,
    s3_server: S3Server,
    target: S3Location,
    write: Write,
    batch_rows: int,
) -> None:
    lose("b")

    with pytest.raises(IncompleteResultsError) as caught:
        write(complete, target, client=client, batch_rows=batch_rows)

    assert caught.value.failed.keys() == {"notes/b.txt"}
    assert caught.value.__context__ is None
    assert s3_server.counts()["AbortMultipartUpload"] == 1
    assert left_over(s3, target.bucket) == []


@each_format
@pytest.mark.parametrize(
    "operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
def test_a_refusal_of_s3_leaves_nothing_and_closes_the_documents(
    client: PHIClient,
    s3: Any,
    s3_server: S3Server,
    target: S3Location,
    write: Write,
    operation: str,
) -> None:
    s3_server.script(operation, refused("AccessDenied", 403))
    closed: list[bool] = []

    def source() -> Iterator[Document]:
        try:
            yield document("a")
        finally:
            closed.append(True)

    with pytest.raises(UnwritableObjectError) as caught:
        write(source(), target, client=client, include_text=True)

    shown = "".join(traceback.format_exception(caught.value))
    assert not [word for word in (*CANARY.split(), "Zinnia") if word in shown]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert closed == ([] if operation == "CreateMultipartUpload" else [True])
    assert left_over(s3, target.bucket) == []


@pytest.mark.parametrize("fault", [THROTTLED, RESET])
def test_each_call_is_retried(
    client: PHIClient, s3: Any, s3_server: S3Server, target: S3Location, fault: Any
) -> None:
    for operation in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
        s3_server.script(operation, fault)

    write_parquet([document("a")], target, client=client)

    assert parquet.read_table(BytesIO(body(s3, target))).num_rows == 1


def test_a_large_table_has_several_parts(
    client: PHIClient, s3: Any, s3_server: S3Server, target: S3Location
) -> None:
    texts = ["text " * 50_000] * 60
    entities = tuple(entity(number, text=text) for number, text in enumerate(texts))
    large = Document(input_key="a", output_key="o", entities=entities, model_version=None)

    write_csv([large], target, client=client, include_text=True, batch_rows=10)

    assert s3_server.counts()["UploadPart"] == 2
    assert csv.read_csv(BytesIO(body(s3, target))).column("text").to_pylist() == texts


def test_a_closed_client_writes_nothing(
    client: PHIClient, s3_server: S3Server, target: S3Location
) -> None:
    client.close()

    with pytest.raises(ClientClosedError):
        write_parquet([document("a")], target, client=client)

    assert s3_server.requests == []


@each_format
@pytest.mark.parametrize(
    ("location", "options", "field"),
    [
        (S3Location("a-bucket", "key"), {"client": None}, "client"),
        (S3Location("a-bucket", "key"), {"client": CANARY}, "client"),
        (S3Location("a-bucket", "key"), {"kms_key": f"{CANARY}\n"}, "kms_key"),
        (S3Location("a-bucket", f"{CANARY}/"), {}, "destination"),
        (S3Location("a-bucket"), {}, "destination"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    client: PHIClient,
    s3_server: S3Server,
    write: Write,
    location: S3Location,
    options: dict[str, Any],
    field: str,
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        write([document("a")], location, **{"client": client, **options})

    assert (caught.value.owner, caught.value.field) == (write.__name__, field)
    assert CANARY not in str(caught.value)
    assert s3_server.requests == []

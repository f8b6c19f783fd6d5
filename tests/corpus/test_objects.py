"""Writing, copying and deleting objects of the S3 beside the local service, and its faults."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    ClientClosedError,
    ComprehendPHIError,
    DoubleRetryWarning,
    ExistingObjectError,
    MissingBucketError,
    MissingObjectError,
    PHIClient,
    ResultsError,
    RetryPolicy,
    ServiceError,
    SourceChangedError,
    ThrottlingException,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
)
from comprehend_phi._client_base import s3_of
from comprehend_phi._results.obstore_route import is_sent_unchanged
from comprehend_phi._results.obstore_storage import ObstoreStorage
from comprehend_phi.corpus.objects import CHECKSUM, S3Objects, Upload
from comprehend_phi.testing import FakeClock, LocalServer

from ..conftest import KEY as KMS_KEY
from ..conftest import Serving
from ..s3_server import LOST, RESET, THROTTLED, S3Fault, S3Server, refused

KEYS = ["a", "b c", "é/ü", "100%+1", "a//b", "a&<b>", "q?versionId=1#2", "x\x01y"]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


# One server and one client for all tests, because building them takes most of the time.
@pytest.fixture(scope="module")
def server(clock: FakeClock) -> Iterator[LocalServer]:
    with LocalServer(clock=clock) as server:
        yield server


@pytest.fixture(scope="module")
def module_server(server: LocalServer, serving: Serving) -> Iterator[S3Server]:
    s3_server = S3Server(server.storage)
    with serving(s3_server):
        yield s3_server


@pytest.fixture(autouse=True)
def s3_server(module_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    module_server.requests.clear()
    module_server.rules.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", module_server.url)
    return module_server


@pytest.fixture(scope="module")
def s3(server: LocalServer) -> Iterator[Any]:
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    client = session.client("s3", endpoint_url=server.endpoint_url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def objects(module_server: S3Server, clock: FakeClock) -> Iterator[S3Objects]:
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    s3_client = session.client(
        "s3", endpoint_url=module_server.url, config=Config(retries={"total_max_attempts": 1})
    )
    with PHIClient(session=session, s3_client=s3_client, clock=clock) as client:
        yield S3Objects(s3_of(client).storage().calls)
    s3_client.close()


@pytest.fixture(scope="module")
def make_fast(module_server: S3Server, clock: FakeClock) -> Iterator[Callable[[], S3Objects]]:
    """Open S3 for writing through obstore."""
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    client = session.client(
        "s3", endpoint_url=module_server.url, config=Config(retries={"total_max_attempts": 1})
    )

    def make() -> S3Objects:
        storage = ObstoreStorage(
            lambda _: client, RetryPolicy(), clock, session=session, required=True
        )
        return S3Objects(storage.calls)

    yield make
    client.close()


@pytest.fixture(scope="module")
def tuned(module_server: S3Server, clock: FakeClock) -> Iterator[S3Objects]:
    """Write through boto3 with a client that the package has built."""
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", module_server.url)
        with PHIClient(session=session, clock=clock, s3_transport="boto3") as client:
            yield S3Objects(s3_of(client).storage().calls)


@pytest.fixture(params=["boto3", "tuned boto3", "obstore"])
def writer(
    request: pytest.FixtureRequest,
    objects: S3Objects,
    tuned: S3Objects,
    make_fast: Callable[[], S3Objects],
    s3_server: S3Server,
    s3: Any,
    bucket: str,
) -> Iterator[S3Objects]:
    """Write through each transport, and check that it makes the first attempt."""
    if request.param == "boto3":
        yield objects
    elif request.param == "tuned boto3":
        yield tuned
    else:
        fast = make_fast()
        for key, kms_key in {"first": None, "second": KMS_KEY}.items():
            fast.put(bucket, key, b"written through boto3", kms_key=kms_key)
            s3.delete_object(Bucket=bucket, Key=key)
        s3_server.requests.clear()
        yield fast
    assert agents(s3_server)[0] in request.param
    first = next(each for each in s3_server.requests if each.operation == "PutObject")
    assert ("expect" in first.headers) == (request.param == "boto3")


def agents(s3_server: S3Server) -> list[str]:
    """Return what has sent each PutObject request."""
    return [
        "obstore" if request.headers["user-agent"].endswith(" obstore") else "boto3"
        for request in s3_server.requests
        if request.operation == "PutObject"
    ]


@pytest.fixture
def put(s3: Any, bucket: str) -> Callable[..., str]:
    """Write an object without our code, and return its ETag."""

    def put(key: str, body: bytes = b"text", **members: Any) -> str:
        etag: str = s3.put_object(Bucket=bucket, Key=key, Body=body, **members)["ETag"]
        return etag

    return put


@pytest.fixture
def keys(s3: Any, bucket: str) -> Callable[[], set[str]]:
    """Return the keys in the bucket, without the fixture's own note."""

    def keys() -> set[str]:
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"] for each in listed} - {"notes/note.txt"}

    return keys


def body_of(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def assert_keeps_quiet(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    assert not [text for text in shown if "Zinnia" in text]


# --- head -----------------------------------------------------------------------------------------


def test_the_properties_of_an_object_are_returned(
    objects: S3Objects, put: Callable[..., str], bucket: str, clock: FakeClock
) -> None:
    etag = put("a", b"text", Metadata={"name": "Zinnia"})
    found = objects.head(bucket, "a")
    assert found is not None
    assert (found.size, found.etag, found.metadata) == (4, etag, {"name": "Zinnia"})
    assert found.last_modified is not None
    assert found.last_modified.timestamp() == int(clock.now().timestamp())
    assert "Zinnia" not in repr(found)


def test_the_names_of_metadata_do_not_depend_on_the_case_of_headers(
    objects: S3Objects,
    put: Callable[..., str],
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage: Any = s3_server.storage

    def capitalized(environ: Any, start_response: Callable[..., Any]) -> Any:
        # As servers and proxies in Go send them.
        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            return start_response(status, [(name.title(), value) for name, value in headers])

        return storage(environ, start)

    put("a", b"text", Metadata={"some-name": "Some Value"})
    monkeypatch.setattr(s3_server, "storage", capitalized)
    found = objects.head(bucket, "a")
    assert found is not None
    assert found.metadata == {"some-name": "Some Value"}


@pytest.mark.parametrize("where", ["key", "bucket"])
def test_a_missing_object_has_no_properties(objects: S3Objects, bucket: str, where: str) -> None:
    assert objects.head(bucket if where == "key" else "no-such-bucket", "a") is None


def test_a_refusal_to_return_properties_says_which_permission_is_missing(
    objects: S3Objects, s3_server: S3Server
) -> None:
    s3_server.script("HeadObject", S3Fault(answer=(403, b"")))
    with pytest.raises(UnreadableObjectError, match="caller needs s3:GetObject") as caught:
        objects.head("bucket", "a")
    assert (caught.value.bucket, caught.value.key) == ("bucket", "a")


# --- copy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_copied_whatever_its_key_is(
    objects: S3Objects, put: Callable[..., str], s3: Any, bucket: str, key: str
) -> None:
    objects.copy(bucket, key, put(key, b"a note"), bucket, f"copies/{key}")
    assert body_of(s3, bucket, f"copies/{key}") == b"a note"


def test_a_copy_has_neither_metadata_nor_tags_of_its_source(
    objects: S3Objects, put: Callable[..., str], s3: Any, bucket: str
) -> None:
    etag = put("a", Metadata={"name": "Zinnia"}, Tagging="name=Zinnia", ContentType="x/y")
    objects.copy(bucket, "a", etag, bucket, "b")
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == []
    copied = s3.head_object(Bucket=bucket, Key="b")
    assert (copied["Metadata"], copied["ContentType"]) == ({}, "text/plain; charset=utf-8")


@pytest.mark.parametrize("kms_key", [KMS_KEY, None], ids=["key", "default"])
@pytest.mark.parametrize("operation", ["CopyObject", "PutObject", "CreateMultipartUpload"])
def test_objects_are_encrypted_with_the_kms_key_if_there_is_one(
    writer: S3Objects,
    put: Callable[..., str],
    s3_server: S3Server,
    bucket: str,
    kms_key: str | None,
    operation: str,
) -> None:
    writer.copy(bucket, "a", put("a"), bucket, "b", kms_key=kms_key)
    writer.put(bucket, "c", b"text", kms_key=kms_key)
    with writer.upload(bucket, "d", kms_key=kms_key) as upload:
        upload.write(b"text")
    headers = next(each for each in s3_server.requests if each.operation == operation).headers
    assert headers.get("x-amz-server-side-encryption") == (kms_key and "aws:kms")
    assert headers.get("x-amz-server-side-encryption-aws-kms-key-id") == kms_key


def test_a_source_that_was_replaced_is_not_copied(
    objects: S3Objects, put: Callable[..., str], bucket: str, keys: Callable[[], set[str]]
) -> None:
    etag = put("a")
    put("a", b"another text")
    with pytest.raises(SourceChangedError, match="replaced since it was listed") as caught:
        objects.copy(bucket, "a", etag, bucket, "b")
    assert (caught.value.bucket, caught.value.key) == (bucket, "a")
    assert_keeps_quiet(caught.value)
    assert keys() == {"a"}


def test_a_source_that_was_deleted_is_missing(objects: S3Objects, bucket: str) -> None:
    with pytest.raises(MissingObjectError) as caught:
        objects.copy(bucket, "a", '"etag"', bucket, "b")
    assert caught.value.key == "a"


def test_a_refused_copy_says_which_permissions_are_missing(
    objects: S3Objects, s3_server: S3Server
) -> None:
    s3_server.script("CopyObject", refused("AccessDenied", 403))
    with pytest.raises(UnwritableObjectError, match=r"s3:GetObject .* s3:PutObject") as caught:
        objects.copy("bucket", "a", '"etag"', "bucket", "b")
    assert (caught.value.key, caught.value.code) == ("a", "AccessDenied")
    assert_keeps_quiet(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        THROTTLED,
        RESET,
        LOST,
        refused("InternalError", 200),  # S3 may fail after it has begun to answer
        refused("OperationAborted", 409),
        S3Fault(answer=(200, b"<CopyObjectResult></CopyObjectResult>")),
        S3Fault(answer=(200, b"<html>It works!</html>")),
    ],
    ids=["throttled", "reset", "lost", "failed", "conflict", "no-etag", "html"],
)
def test_a_copy_is_retried(
    objects: S3Objects,
    put: Callable[..., str],
    s3_server: S3Server,
    s3: Any,
    bucket: str,
    fault: S3Fault,
) -> None:
    etag = put("a")
    s3_server.script("CopyObject", fault)
    objects.copy(bucket, "a", etag, bucket, "b")
    assert s3_server.counts()["CopyObject"] == 2
    assert body_of(s3, bucket, "b") == b"text"


def test_a_copy_that_fails_on_every_attempt_has_a_typed_error(
    objects: S3Objects, s3_server: S3Server
) -> None:
    s3_server.script("CopyObject", *[THROTTLED] * 8)
    with pytest.raises(ThrottlingException) as caught:
        objects.copy("bucket", "a", '"etag"', "bucket", "b")
    assert (caught.value.attempts, caught.value.key) == (8, "a")
    assert caught.value.__context__ is None


# --- put ------------------------------------------------------------------------------------------


def test_an_object_is_written_with_its_checksum(writer: S3Objects, s3: Any, bucket: str) -> None:
    writer.put(bucket, "a", b"text", metadata={"version": "1"}, content_type="text/csv")
    found = s3.get_object(Bucket=bucket, Key="a")
    assert found["Body"].read() == b"text"
    assert found["ContentType"] == "text/csv"
    assert found["Metadata"] == {
        "version": "1",
        CHECKSUM: "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1",
    }


def test_an_object_that_is_already_there_is_not_replaced(
    writer: S3Objects, put: Callable[..., str], s3: Any, bucket: str
) -> None:
    put("a", b"foreign")
    with pytest.raises(ExistingObjectError, match="already there") as caught:
        writer.put(bucket, "a", b"text")
    assert (caught.value.bucket, caught.value.key) == (bucket, "a")
    assert_keeps_quiet(caught.value)
    assert body_of(s3, bucket, "a") == b"foreign"


def test_a_known_object_is_replaced(
    writer: S3Objects, put: Callable[..., str], s3: Any, bucket: str
) -> None:
    writer.put(bucket, "a", b"new", replaces=put("a", b"old"))
    assert body_of(s3, bucket, "a") == b"new"


def test_another_object_than_the_known_one_is_not_replaced(
    writer: S3Objects, put: Callable[..., str], s3_server: S3Server, bucket: str
) -> None:
    etag = put("a")
    s3_server.script("PutObject", *[refused("PreconditionFailed", 412)] * 2)
    with pytest.raises(ExistingObjectError, match="replaced meanwhile"):
        writer.put(bucket, "a", b"new", replaces=etag)
    assert s3_server.requests[0].headers["if-match"] == etag


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
def test_a_write_whose_response_was_lost_has_succeeded(
    writer: S3Objects,
    put: Callable[..., str],
    s3_server: S3Server,
    s3: Any,
    bucket: str,
    replaces: bool,
) -> None:
    etag = put("a", b"old") if replaces else None
    s3_server.script("PutObject", LOST, refused("PreconditionFailed", 412))
    writer.put(bucket, "a", b"text", replaces=etag)
    assert s3_server.counts() == {"PutObject": 2, "HeadObject": 1}
    assert body_of(s3, bucket, "a") == b"text"


def test_another_object_that_appears_between_two_attempts_is_not_replaced(
    writer: S3Objects, put: Callable[..., str], s3_server: S3Server, s3: Any, bucket: str
) -> None:
    s3_server.before("PutObject", lambda _: put("a", b"foreign"))
    s3_server.script("PutObject", RESET)
    with pytest.raises(ExistingObjectError):
        writer.put(bucket, "a", b"text")
    assert body_of(s3, bucket, "a") == b"foreign"


def test_an_existing_object_is_not_examined_if_no_response_was_lost(
    writer: S3Objects, s3_server: S3Server, bucket: str
) -> None:
    writer.put(bucket, "a", b"text")
    s3_server.script("PutObject", THROTTLED)
    with pytest.raises(ExistingObjectError):
        writer.put(bucket, "a", b"text")
    assert s3_server.counts() == {"PutObject": 3}


@pytest.mark.parametrize(
    "fault",
    [THROTTLED, RESET, S3Fault(answer=(200, b"")), refused("OperationAborted", 409)],
    ids=["throttled", "reset", "no-etag", "conflict"],
)
def test_a_write_is_retried(
    writer: S3Objects, s3_server: S3Server, s3: Any, bucket: str, fault: S3Fault
) -> None:
    s3_server.script("PutObject", fault, refused("ConditionalRequestConflict", 409))
    writer.put(bucket, "a", b"text")
    assert s3_server.counts()["PutObject"] == 3
    assert body_of(s3, bucket, "a") == b"text"


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "AccessDenied", UnwritableObjectError, "s3:PutObject and, if KMS"),
        (400, "KMS.DisabledException", UnwritableObjectError, "KMS key .* cannot be used"),
        (400, "InvalidArgument", UnwritableObjectError, "refuses to carry out PutObject"),
        (404, "NoSuchBucket", MissingBucketError, "the bucket does not exist"),
        (404, "NoSuchKey", MissingObjectError, "the key does not exist"),
    ],
)
def test_a_refused_write_has_a_typed_error(
    writer: S3Objects,
    s3_server: S3Server,
    bucket: str,
    status: int,
    code: str,
    kind: type[ResultsError],
    words: str,
) -> None:
    s3_server.script("PutObject", *[refused(code, status)] * 2)
    with pytest.raises(kind, match=words) as caught:
        writer.put(bucket, "a", b"text")
    assert caught.value.bucket == bucket
    assert_keeps_quiet(caught.value)
    # boto3 repeats what fails through obstore, so that the error is the same.
    assert agents(s3_server) in (["boto3"], ["obstore", "boto3"])


def test_an_answer_without_an_etag_is_no_success(
    writer: S3Objects, s3_server: S3Server, bucket: str
) -> None:
    s3_server.script("PutObject", *[S3Fault(answer=(200, b""))] * 8)
    with pytest.raises(UnwritableObjectError) as caught:
        writer.put(bucket, "a", b"text")
    assert caught.value.reason == "the response is not usable: it has no ETag"
    assert s3_server.counts() == {"PutObject": 8}


def test_an_error_says_that_an_attempt_may_have_been_carried_out(
    writer: S3Objects, s3_server: S3Server, bucket: str
) -> None:
    s3_server.script("PutObject", RESET, *[THROTTLED] * 7)
    with pytest.raises(ThrottlingException) as caught:
        writer.put(bucket, "a", b"text")
    assert (caught.value.attempts, caught.value.outcome_unknown) == (8, True)


@pytest.mark.parametrize("fault", [THROTTLED, refused("OperationAborted", 409)])
def test_an_error_says_that_no_attempt_was_carried_out(
    writer: S3Objects, s3_server: S3Server, bucket: str, fault: S3Fault
) -> None:
    s3_server.script("PutObject", fault, *[THROTTLED] * 7)
    with pytest.raises(ThrottlingException) as caught:
        writer.put(bucket, "a", b"text")
    assert (caught.value.attempts, caught.value.outcome_unknown) == (8, False)


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_written_whatever_its_key_is(
    objects: S3Objects,
    make_fast: Callable[[], S3Objects],
    s3_server: S3Server,
    s3: Any,
    bucket: str,
    key: str,
) -> None:
    fast = make_fast()
    fast.put(bucket, "first", b"written through boto3")
    s3_server.requests.clear()
    fast.put(bucket, key, b"text")
    assert body_of(s3, bucket, key) == b"text"
    assert agents(s3_server) == ["obstore" if is_sent_unchanged(key) else "boto3"]
    with pytest.raises(ExistingObjectError):
        objects.put(bucket, key, b"another text")


# --- delete ---------------------------------------------------------------------------------------


def test_objects_are_deleted_whatever_their_keys_are(
    objects: S3Objects, put: Callable[..., str], bucket: str, keys: Callable[[], set[str]]
) -> None:
    for key in [*KEYS, "kept"]:
        put(key)
    objects.delete(bucket, [*KEYS, "no such key"])
    assert keys() == {"kept"}


def test_line_breaks_in_keys_are_sent_so_that_xml_keeps_them(
    objects: S3Objects, s3_server: S3Server
) -> None:
    # moto has no such keys.
    s3_server.script("DeleteObjects", _deletion(deleted=1))
    objects.delete("bucket", ["a\r\nb"])
    body = s3_server.requests[0].body.decode()
    assert ElementTree.fromstring(body).findtext(".//{*}Key") == "a\r\nb"


def test_nothing_is_sent_to_delete_nothing(objects: S3Objects, s3_server: S3Server) -> None:
    objects.delete("bucket", [])
    assert s3_server.requests == []


def _deletion(*errors: tuple[str, str], deleted: int = 0) -> S3Fault:
    failed = "".join(
        f"<Error><Key>{key}</Key><Code>{code}</Code><Message>Zinnia</Message></Error>"
        for key, code in errors
    )
    done = "<Deleted><Key>done</Key></Deleted>" * deleted
    return S3Fault(answer=(200, f"<DeleteResult>{done}{failed}</DeleteResult>".encode()))


def test_only_keys_that_were_not_deleted_are_deleted_again(
    objects: S3Objects, s3_server: S3Server, bucket: str
) -> None:
    s3_server.script(
        "DeleteObjects", _deletion(("b", "AccessDenied"), ("c", "SlowDown"), deleted=1)
    )
    objects.delete(bucket, ["a", "b", "c"])
    first, second = s3_server.requests
    assert first.body.count(b"<Key>") == 3
    assert second.body.count(b"<Key>") == 2
    assert b"<Key>a</Key>" not in second.body


@pytest.mark.parametrize(
    ("code", "words"),
    [("AccessDenied", "caller needs s3:DeleteObject"), ("Strange", "to carry out DeleteObjects")],
)
def test_a_key_that_cannot_be_deleted_is_named(
    objects: S3Objects, s3_server: S3Server, code: str, words: str
) -> None:
    s3_server.script("DeleteObjects", _deletion(("b", code), deleted=1))
    with pytest.raises(UnwritableObjectError, match=words) as caught:
        objects.delete("bucket", ["a", "b"])
    assert (caught.value.key, caught.value.code) == ("b", code)
    assert_keeps_quiet(caught.value)


def test_an_answer_that_does_not_mention_each_key_is_no_success(
    objects: S3Objects, s3_server: S3Server, bucket: str
) -> None:
    s3_server.script("DeleteObjects", _deletion(deleted=1))
    objects.delete(bucket, ["a", "b"])
    assert s3_server.counts() == {"DeleteObjects": 2}


# --- upload ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[], [1], [8 * MIB], [3 * MIB] * 7, [17 * MIB]])
def test_pieces_become_one_object(
    objects: S3Objects, s3: Any, bucket: str, sizes: list[int]
) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    with objects.upload(bucket, "a", content_type="x/y") as upload:
        assert [upload.write(piece) for piece in pieces] == sizes
    assert body_of(s3, bucket, "a") == b"".join(pieces)
    assert s3.head_object(Bucket=bucket, Key="a")["ContentType"] == "x/y"


def test_parts_grow_so_that_there_are_always_enough(
    objects: S3Objects, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comprehend_phi.corpus.objects._PART_BYTES", 5)
    monkeypatch.setattr("comprehend_phi.corpus.objects._PARTS_OF_ONE_SIZE", 2)
    s3_server.script("CompleteMultipartUpload", refused("EntityTooSmall", 400))
    with (
        pytest.raises(UnwritableObjectError, match="CompleteMultipartUpload"),
        objects.upload(bucket, "a") as upload,
    ):
        upload.write(bytes(5 + 5 + 10 + 10 + 20 + 7))
    sizes = [len(each.body) for each in s3_server.requests if each.operation == "UploadPart"]
    assert sizes == [5, 5, 10, 10, 20, 7]


def _fail_in(upload: Upload, error: type[BaseException]) -> None:
    upload.write(bytes(9 * MIB))
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_upload_whose_block_fails_leaves_nothing(
    objects: S3Objects, s3: Any, bucket: str, error: type[BaseException]
) -> None:
    with pytest.raises(error), objects.upload(bucket, "a") as upload:
        _fail_in(upload, error)
    assert objects.head(bucket, "a") is None
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_an_upload_that_s3_refuses_leaves_nothing(
    objects: S3Objects, s3_server: S3Server, s3: Any, bucket: str, operation: str
) -> None:
    s3_server.script(operation, refused("AccessDenied", 403))
    with (
        pytest.raises(UnwritableObjectError, match="s3:PutObject") as caught,
        objects.upload(bucket, "a") as upload,
    ):
        upload.write(b"text")
    assert_keeps_quiet(caught.value)
    assert objects.head(bucket, "a") is None
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(
    "operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
@pytest.mark.parametrize("fault", [THROTTLED, RESET, S3Fault(answer=(200, b""))])
def test_each_call_of_an_upload_is_retried(
    objects: S3Objects, s3_server: S3Server, s3: Any, bucket: str, operation: str, fault: S3Fault
) -> None:
    s3_server.script(operation, fault)
    with objects.upload(bucket, "a") as upload:
        upload.write(b"text")
    assert s3_server.counts()[operation] == 2
    assert body_of(s3, bucket, "a") == b"text"


def test_an_upload_whose_last_response_was_lost_is_complete(
    objects: S3Objects, s3_server: S3Server, s3: Any, bucket: str
) -> None:
    s3_server.script("CompleteMultipartUpload", LOST, refused("NoSuchUpload", 404))
    with objects.upload(bucket, "a") as upload:
        upload.write(b"text")
    assert s3_server.counts()["AbortMultipartUpload"] == 0
    assert body_of(s3, bucket, "a") == b"text"


@pytest.fixture
def retrying(
    s3_server: S3Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Objects]:
    """Write through a boto3 client of the user that retries on its own."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=float))
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    s3_client = session.client("s3", endpoint_url=s3_server.url)
    with pytest.warns(DoubleRetryWarning):
        client = PHIClient(session=session, s3_client=s3_client, clock=clock)
    with client:
        yield S3Objects(s3_of(client).storage().calls)
    s3_client.close()


def test_an_upload_whose_last_response_only_boto3_missed_is_complete(
    retrying: S3Objects, s3_server: S3Server, s3: Any, bucket: str
) -> None:
    s3_server.script("CompleteMultipartUpload", LOST, refused("NoSuchUpload", 404))
    with retrying.upload(bucket, "a") as upload:
        upload.write(b"text")
    assert s3_server.counts()["CompleteMultipartUpload"] == 2
    assert body_of(s3, bucket, "a") == b"text"


def test_a_write_whose_response_only_boto3_missed_has_succeeded(
    retrying: S3Objects, s3_server: S3Server, s3: Any, bucket: str
) -> None:
    s3_server.script("PutObject", LOST)
    retrying.put(bucket, "a", b"text")
    assert s3_server.counts()["PutObject"] == 2
    assert body_of(s3, bucket, "a") == b"text"


@pytest.mark.parametrize("faults", [[], [RESET]], ids=["refused", "unknown"])
def test_an_upload_that_was_aborted_elsewhere_is_not_complete(
    objects: S3Objects,
    put: Callable[..., str],
    s3_server: S3Server,
    bucket: str,
    faults: list[S3Fault],
) -> None:
    put("a", b"another object")
    s3_server.script("CompleteMultipartUpload", *faults, refused("NoSuchUpload", 404))
    with (
        pytest.raises(UnwritableObjectError, match="something else has aborted it") as caught,
        objects.upload(bucket, "a") as upload,
    ):
        upload.write(b"text")
    assert caught.value.key == "a"


def test_an_upload_that_cannot_be_aborted_is_logged(
    objects: S3Objects, s3_server: S3Server, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    s3_server.script("AbortMultipartUpload", refused("AccessDenied", 403))
    with (
        caplog.at_level(logging.WARNING, "comprehend_phi"),
        pytest.raises(ValueError, match="ours"),
        objects.upload(bucket, "secret-key"),
    ):
        raise ValueError("ours")
    [record] = caplog.records
    assert record.getMessage() == (
        "AbortMultipartUpload: an upload could not be aborted, so S3 keeps its parts: AccessDenied"
    )


# --- All calls ------------------------------------------------------------------------------------


CALLS: dict[str, Callable[[S3Objects], object]] = {
    "head": lambda objects: objects.head("bucket", "a"),
    "copy": lambda objects: objects.copy("bucket", "a", '"etag"', "bucket", "b"),
    "put": lambda objects: objects.put("bucket", "a", b"text"),
    "delete": lambda objects: objects.delete("bucket", ["a"]),
    "delete-one": lambda objects: objects.delete("bucket", ["\x01"]),
    "upload": lambda objects: objects.upload("bucket", "a").__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("problem", ["closed", "unreachable", "expired"])
def test_only_our_errors_are_raised(
    make_client: Callable[..., PHIClient],
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[S3Objects], object],
    problem: str,
) -> None:
    if problem == "unreachable":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    client = make_client()
    objects = S3Objects(s3_of(client).storage().calls)
    expected: type[ComprehendPHIError] = TransportError
    if problem == "closed":
        client.close()
        expected = ClientClosedError
    elif problem == "expired":
        s3_server.rules.append(lambda _: refused("ExpiredToken", 400))
        expected = ComprehendPHIError
    with pytest.raises(expected) as caught:
        call(objects)
    assert isinstance(caught.value, (ResultsError, ServiceError, TransportError))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


# --- A real S3 server -----------------------------------------------------------------------------


def test_a_real_server_carries_out_each_call_and_checks_each_condition(
    make_client: Callable[..., PHIClient], real_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", real_s3)
    s3: Any = boto3.client("s3")
    bucket = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    objects = S3Objects(s3_of(make_client()).storage().calls)

    objects.put(bucket, "a b+%é", b"old")
    with pytest.raises(ExistingObjectError):
        objects.put(bucket, "a b+%é", b"new")
    old = objects.head(bucket, "a b+%é")
    assert old is not None
    objects.put(bucket, "a b+%é", b"new", replaces=old.etag)
    with pytest.raises(ExistingObjectError):
        objects.put(bucket, "a b+%é", b"newer", replaces=old.etag)
    new = objects.head(bucket, "a b+%é")
    assert new is not None
    objects.copy(bucket, "a b+%é", new.etag, bucket, "copies/a b+%é")
    assert body_of(s3, bucket, "copies/a b+%é") == b"new"
    with pytest.raises(SourceChangedError):
        objects.copy(bucket, "a b+%é", old.etag, bucket, "c")
    objects.delete(bucket, ["a b+%é", "copies/a b+%é", "x\x01y"])
    with objects.upload(bucket, "d") as upload:
        upload.write(bytes(9 * MIB))
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(each["Key"], each["Size"]) for each in listed] == [("d", 9 * MIB)]
    s3.close()

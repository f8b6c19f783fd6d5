"""Results from a real S3 server, which verifies signatures, stores times and returns pages.

SeaweedFS stores objects as files, so it does not support every key of S3: no empty segments, no
backslashes, no object below another one. `test_obstore_storage.py` tests all kinds of keys with a
server that sees the bytes that were sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    InputDataConfig,
    MissingObjectError,
    OutputDataConfig,
    PHIClient,
    ResultsError,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
)
from comprehend_phi._results.boto3_storage import Boto3Storage
from comprehend_phi._results.obstore_route import is_sent_unchanged
from comprehend_phi._results.obstore_storage import ObstoreStorage
from comprehend_phi._service.connection import S3Transport
from comprehend_phi.testing import FakeClock, LocalServer

NO_RETRIES = Config(retries={"total_max_attempts": 1})
NUMBERS = count()


@pytest.fixture(scope="module")
def session() -> Any:
    return boto3.Session("testing", "testing", region_name="us-east-1")


@pytest.fixture(scope="module")
def s3(real_s3: str, session: Any) -> Iterator[Any]:
    client = session.client("s3", endpoint_url=real_s3, config=NO_RETRIES)
    with pytest.MonkeyPatch.context() as patch:
        # With older versions of botocore, SeaweedFS would respond twice to an empty object.
        patch.setenv("BOTO_EXPERIMENTAL__NO_EMPTY_CONTINUE", "true")
        yield client
    client.close()


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    name = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


class Storages:
    """A storage for each transport. The one through obstore has already read its first object.

    Attributes:
        boto3_requests: how many requests boto3 has sent for the storage through obstore.
    """

    def __init__(self, url: str, session: Any, bucket: str) -> None:
        self.boto3_requests = 0
        policy, clock = RetryPolicy(max_attempts=2), FakeClock()
        self._clients = [
            session.client("s3", endpoint_url=url, config=NO_RETRIES) for _ in range(2)
        ]
        first, second = self._clients
        self.boto3 = Boto3Storage(lambda _: first, policy, clock)
        self.obstore = ObstoreStorage(
            lambda _: second, policy, clock, session=session, required=True
        )
        first.put_object(Bucket=bucket, Key="first", Body=b"")
        second.meta.events.register("before-send.s3", self._count)
        self.obstore.read(bucket, "first")

    def _count(self, **_: Any) -> None:
        self.boto3_requests += 1

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture(scope="module")
def storages(real_s3: str, session: Any, bucket: str) -> Iterator[Storages]:
    storages = Storages(real_s3, session, bucket)
    yield storages
    storages.close()


@pytest.fixture(params=["boto3", "obstore"])
def storage(request: pytest.FixtureRequest, storages: Storages) -> Iterator[Boto3Storage]:
    """Return the storage of each transport, and check that only this transport reads."""
    before = storages.boto3_requests
    storage: Boto3Storage = getattr(storages, request.param)
    yield storage
    assert storages.boto3_requests == before


# --- Keys -----------------------------------------------------------------------------------------

# Names that SeaweedFS accepts as parts of a path.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("a b+c%20d%2Fe%.txt")
@example("~tilde*star?question#hash&equals=;colon:@,$!'()[]{}<>^`|\"")
@example("Été/病歴/cafe\u0301/\U0001f600")
@example("tab\tand\nline\x7f")
@example(".hidden/..twice/...")
@given(KEYS)
def test_both_transports_read_the_object_of_a_key(
    s3: Any, bucket: str, storages: Storages, key: str
) -> None:
    # A new folder for each key, because SeaweedFS stores no object below another one.
    key = f"{next(NUMBERS)}/{key}"
    body = key.encode()
    written = s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert written["ResponseMetadata"]["HTTPStatusCode"] == 200
    before = storages.boto3_requests
    assert storages.obstore.read(bucket, key).body == body
    assert storages.boto3_requests - before == (0 if is_sent_unchanged(key) else 1)
    assert storages.boto3.read(bucket, key).body == body


def test_a_final_slash_of_a_key_is_kept(s3: Any, bucket: str, storages: Storages) -> None:
    s3.put_object(Bucket=bucket, Key="smith/", Body=b"")
    s3.put_object(Bucket=bucket, Key="smith/note.txt", Body=b"note")
    assert storages.obstore.read(bucket, "smith/").body == b""
    with pytest.raises(MissingObjectError):
        storages.obstore.read(bucket, "smith/note.txt/")


# --- Bodies and times -----------------------------------------------------------------------------


# SeaweedFS splits objects over 4 MiB into parts.
@pytest.mark.parametrize("size", [0, 1, 70_000, 4 * 2**20, 9 * 2**20 + 1])
def test_a_body_is_read_completely(s3: Any, bucket: str, storage: Boto3Storage, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    s3.put_object(Bucket=bucket, Key="body", Body=body)
    assert storage.read(bucket, "body").body == body


def test_an_object_has_the_time_at_which_it_was_written(
    s3: Any, bucket: str, storages: Storages
) -> None:
    earliest = datetime.now(UTC).replace(microsecond=0)
    s3.put_object(Bucket=bucket, Key="time", Body=b"1")
    latest = datetime.now(UTC)
    [listed] = s3.list_objects_v2(Bucket=bucket, Prefix="time")["Contents"]
    by_boto3 = storages.boto3.read(bucket, "time").last_modified
    by_obstore = storages.obstore.read(bucket, "time").last_modified
    assert by_boto3 == by_obstore == listed["LastModified"].replace(microsecond=0)
    assert by_boto3 is not None
    assert earliest <= by_boto3 <= latest


def test_a_replaced_object_is_read_again(s3: Any, bucket: str, storage: Boto3Storage) -> None:
    for body in (b"before", b"after"):
        s3.put_object(Bucket=bucket, Key="replaced", Body=body)
        assert storage.read(bucket, "replaced").body == body


def test_a_read_on_the_condition_that_nothing_changed_is_refused_after_a_change(
    s3: Any, bucket: str
) -> None:
    before = s3.put_object(Bucket=bucket, Key="condition", Body=b"before")["ETag"]
    now = s3.put_object(Bucket=bucket, Key="condition", Body=b"now")["ETag"]
    got = s3.get_object(Bucket=bucket, Key="condition", IfMatch=now)
    assert got["Body"].read() == b"now"
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    for condition in ({"IfMatch": before}, {"IfUnmodifiedSince": long_ago}):
        with pytest.raises(s3.exceptions.ClientError, match="PreconditionFailed"):
            s3.get_object(Bucket=bucket, Key="condition", **condition)


# --- Lists ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(s3: Any, session: Any) -> tuple[str, list[str]]:
    """Return a bucket with more keys than fit on a page, and its keys."""
    bucket = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    keys = [f"notes/{number:04} é&<.txt" for number in range(1_203)]
    keys += [f"other/{number}/note.txt" for number in range(3)]
    with ThreadPoolExecutor(10) as pool:
        written = [pool.submit(s3.put_object, Bucket=bucket, Key=key, Body=b"") for key in keys]
        assert not [put for put in written if put.exception() is not None]
    return bucket, keys


def test_the_keys_of_all_pages_are_listed_once_and_in_order(
    storages: Storages, listed: tuple[str, list[str]]
) -> None:
    bucket, keys = listed
    assert storages.boto3.keys(bucket, "") == keys
    assert storages.obstore.keys(bucket, "notes/1") == [k for k in keys if k.startswith("notes/1")]
    assert storages.boto3.keys(bucket, "nowhere/") == []


def test_folders_are_listed_without_what_is_in_them(
    storages: Storages, listed: tuple[str, list[str]]
) -> None:
    bucket, _ = listed
    assert storages.boto3.folders(bucket, "") == ["notes/", "other/"]
    assert storages.boto3.folders(bucket, "other/") == ["other/0/", "other/1/", "other/2/"]


# --- Refusals -------------------------------------------------------------------------------------


def test_the_error_for_a_missing_object_has_its_key(bucket: str, storages: Storages) -> None:
    for storage in (storages.boto3, storages.obstore):
        with pytest.raises(MissingObjectError) as caught:
            storage.read(bucket, "nowhere")
        assert (caught.value.bucket, caught.value.key) == (bucket, "nowhere")


def test_the_error_for_a_missing_bucket_has_no_key(storages: Storages) -> None:
    for read in (storages.boto3.read, storages.obstore.read, storages.boto3.keys):
        with pytest.raises(ResultsError, match="the bucket does not exist") as caught:
            read("no-such-bucket", "a")
        assert (caught.value.bucket, caught.value.key) == ("no-such-bucket", None)


def test_the_error_for_a_wrong_signature_has_no_key(real_s3: str, bucket: str) -> None:
    stranger: Any = boto3.Session("testing", "not the secret", region_name="us-east-1")
    client = stranger.client("s3", endpoint_url=real_s3, config=NO_RETRIES)
    storage = ObstoreStorage(
        lambda _: client, RetryPolicy(max_attempts=2), FakeClock(), session=stranger, required=True
    )
    with pytest.raises(ServiceError) as caught:
        storage.read(bucket, "first")
    assert caught.value.code == "SignatureDoesNotMatch"
    assert caught.value.key is None
    client.close()


# --- A whole job ----------------------------------------------------------------------------------

NOTES = {
    "2031/02/ada.txt": "Patient: Ada Example, phone (555) 555-0142\n",
    "2031/02/a b%20c.txt": "Nothing here.\n",
    "2031/02/deep/er/Été.txt": "Seen by Dr. Noor Sample.\n",
}


@pytest.mark.parametrize("transport", ["boto3", "obstore"])
def test_the_results_of_a_job_are_read_and_redacted(
    real_s3: str,
    session: Any,
    s3: Any,
    server: LocalServer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    transport: S3Transport,
) -> None:
    """The local service runs the job, and the test copies its results to the real S3."""
    names = [f"{kind}-{uuid4().hex}" for kind in ("notes", "results")]
    source, target = names
    local: Any = session.client("s3", endpoint_url=server.endpoint_url)
    for name in names:
        local.create_bucket(Bucket=name)
        s3.create_bucket(Bucket=name)
    for key, text in NOTES.items():
        for client in (local, s3):
            client.put_object(Bucket=source, Key=key, Body=text.encode())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", real_s3)
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=source, s3_key="2031/02"),
        output_data_config=OutputDataConfig(s3_bucket=target),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )
    with PHIClient(
        session=session, endpoint_url=server.endpoint_url, clock=clock, s3_transport=transport
    ) as client:
        job = client.submit(request)
        job.wait()
        for listed in local.list_objects_v2(Bucket=target)["Contents"]:
            body = local.get_object(Bucket=target, Key=listed["Key"])["Body"].read()
            s3.put_object(Bucket=target, Key=listed["Key"], Body=body)
        assert dict(job.results().redacted()) == {
            "2031/02/ada.txt": "Patient: [NAME], phone [PHONE_OR_FAX]\n",
            "2031/02/a b%20c.txt": "Nothing here.\n",
            "2031/02/deep/er/Été.txt": "Seen by Dr. [NAME].\n",
        }
    local.close()

"""Reading S3 objects: failures of the network and of S3, and many objects at a time."""

from __future__ import annotations

import base64
import json
import logging
import socket
import socketserver
import struct
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    ClientClosedError,
    ExpiredTokenException,
    IncompleteResultsError,
    InputDataConfig,
    JobProperties,
    JobResults,
    JobStatus,
    MissingBucketError,
    MissingObjectError,
    OutputDataConfig,
    PHIClient,
    ResultsError,
    RetryPolicy,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TransportError,
)
from comprehend_phi._results.boto3_storage import Boto3Storage
from comprehend_phi._results.listing import Listing
from comprehend_phi._results.s3_tuning import tune
from comprehend_phi._results.storage import JobStorage, ListedObject, StoredObject
from comprehend_phi._threads import Pool
from comprehend_phi.testing import FakeClock, LocalServer, faults

BUCKET, KEY = "a-bucket", "notes/a b.txt.out"
WHERE = f"s3://{BUCKET}/{KEY}"
BODY = b'{"Entities": []}' * 1_000
JOB_ID = "0123456789abcdef0123456789abcdef"

# Part of S3's error messages. It must not appear in our errors.
CANARY = "Zinnia"


# --- A scripted S3 --------------------------------------------------------------------------------


class Answer(NamedTuple):
    """The bytes to send, and what to do with the connection afterwards."""

    data: bytes
    end: str = "keep"  # or "close", or "reset"


def answer(status: int, body: bytes, headers: str = "", *, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = f"HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{headers}\r\n"
    return head.encode() + body


def ok(body: bytes = BODY, headers: str = "") -> Answer:
    return Answer(answer(200, body, headers))


def error(status: int, code: str, headers: str = "") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>It says {CANARY}</Message></Error>"
    return Answer(answer(status, body.encode(), headers))


def cut(body: bytes = BODY, keep: int = 20) -> Answer:
    return Answer(answer(200, body[:keep], length=len(body)), "close")


def reset(body: bytes = BODY, keep: int = 20) -> Answer:
    return Answer(answer(200, body[:keep], length=len(body)), "reset")


def listing(*keys: str, folders: Sequence[str] = (), following: str = "") -> Answer:
    contents = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    common = "".join(f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in folders)
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return ok(
        f"<ListBucketResult><IsTruncated>{str(bool(following)).lower()}</IsTruncated>"
        f"<KeyCount>{len(keys) + len(folders)}</KeyCount>{contents}{common}{more}"
        "</ListBucketResult>".encode()
    )


class S3(socketserver.ThreadingTCPServer):
    """Sends the scripted answers in their order, and repeats the last one forever.

    Attributes:
        answers: the next answers. A callable takes the requested key and returns an answer.
        requests: the paths of the requests, with their queries.
        connections: how many connections were opened.
        closed: set when the client has closed a connection.
        most: the largest number of connections that were open at the same time.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[Answer | Callable[[str], Answer]] = deque()
        self.requests: list[str] = []
        self.connections = self.open = self.most = 0
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def script(self, *answers: Answer | Callable[[str], Answer]) -> None:
        self.answers = deque(answers)

    def next_answer(self, path: str) -> Answer:
        with self.lock:
            self.requests.append(path)
            chosen = self.answers[0] if len(self.answers) == 1 else self.answers.popleft()
        return chosen if isinstance(chosen, Answer) else chosen(unquote(path).split("/", 2)[2])


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.s3 = cast("S3", self.server)
        with self.s3.lock:
            self.s3.connections += 1
            self.s3.open += 1
            self.s3.most = max(self.s3.most, self.s3.open)

    def handle(self) -> None:
        while request := self.rfile.readline():
            while self.rfile.readline().strip():  # headers
                pass
            data, end = self.s3.next_answer(request.split()[1].decode())
            self.wfile.write(data)
            if end == "reset":
                # With a linger time of 0, a closed socket sends RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if end != "keep":
                return
        self.s3.closed.set()

    def finish(self) -> None:
        super().finish()
        with self.s3.lock:
            self.s3.open -= 1


@pytest.fixture
def s3(serving: Callable[[S3], AbstractContextManager[None]]) -> Iterator[S3]:
    server = S3()
    with serving(server):
        yield server


@pytest.fixture(params=["as it is", "tuned"])
def boto3_client(request: pytest.FixtureRequest, s3: S3) -> Iterator[Any]:
    # Any: the stubs overload `client` for hundreds of services.
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    # No retries of botocore, which would really sleep. Ours use the fake clock.
    config = Config(retries={"total_max_attempts": 1})
    client = session.client("s3", endpoint_url=s3.url, config=config)
    if request.param == "tuned":
        tune(client)
    yield client
    client.close()


@pytest.fixture
def storage(boto3_client: Any, clock: FakeClock) -> Boto3Storage:
    return Boto3Storage(lambda _: boto3_client, RetryPolicy(max_attempts=4), clock)


def assert_keeps_quiet(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    assert not [text for text in shown if CANARY in text]


# --- One object -----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, b"", b"\0\xff\r\n"], ids=["long", "empty", "binary"])
def test_the_bytes_of_an_object_are_read(s3: S3, storage: Boto3Storage, body: bytes) -> None:
    s3.script(ok(body))
    assert storage.read(BUCKET, KEY).body == body
    assert [unquote(path) for path in s3.requests] == [f"/{BUCKET}/{KEY}"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            "Last-Modified: Thu, 02 Jan 2031 03:04:05 GMT\r\n",
            datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        ("", None),
    ],
    ids=["given", "absent"],
)
def test_an_object_has_the_time_at_which_it_was_written(
    s3: S3, storage: Boto3Storage, headers: str, expected: datetime | None
) -> None:
    s3.script(ok(headers=headers))
    assert storage.read(BUCKET, KEY).last_modified == expected


def test_the_repr_of_an_object_does_not_contain_its_bytes() -> None:
    assert CANARY not in repr(StoredObject(CANARY.encode(), None))


def test_the_repr_of_a_listed_object_contains_neither_its_key_nor_its_etag() -> None:
    listed = ListedObject(f"notes/{CANARY}", 6, "GLACIER", '"etag"')
    assert repr(listed) == "ListedObject(size=6, storage_class='GLACIER')"


def test_a_missing_key_has_its_own_error(s3: S3, storage: Boto3Storage) -> None:
    s3.script(error(404, "NoSuchKey"))
    with pytest.raises(MissingObjectError) as caught:
        storage.read(BUCKET, KEY)
    assert WHERE in str(caught.value)
    assert len(s3.requests) == 1
    assert_keeps_quiet(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "AccessDeniedException", "s3:ListBucket"),
        (403, "InvalidObjectState", "archived: restore it"),
        (400, "KMS.DisabledException", "KMS key .* enable it"),
        (400, "KMS.KMSInvalidStateException", "KMS key .* enable it"),
        (400, "InvalidRequest", "SSE-C"),
        (405, "MethodNotAllowed", "delete marker"),
        (400, "NeverHeardOf", "refuses to return this object"),
    ],
)
def test_a_refusal_names_bucket_and_key_and_gives_advice(
    s3: S3, storage: Boto3Storage, status: int, code: str, words: str
) -> None:
    s3.script(error(status, code))
    with pytest.raises(ResultsError, match=words) as caught:
        storage.read(BUCKET, KEY)
    assert not isinstance(caught.value, MissingObjectError)
    assert (caught.value.bucket, caught.value.key) == (BUCKET, KEY)
    assert WHERE in str(caught.value)
    assert f"({code}, HTTP {status}, request id unknown)" in str(caught.value)
    assert len(s3.requests) == 1
    assert_keeps_quiet(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ExpiredToken", ExpiredTokenException),
        (403, "SignatureDoesNotMatch", ServiceError),
        (403, "InvalidAccessKeyId", ServiceError),
        (403, "RequestTimeTooSkewed", ServiceError),
        (403, "AllAccessDisabled", ServiceError),
        (400, "AuthorizationHeaderMalformed", ServiceError),
    ],
)
def test_a_refusal_of_the_caller_is_a_service_error_without_a_key(
    s3: S3, storage: Boto3Storage, status: int, code: str, kind: type[ServiceError]
) -> None:
    s3.script(error(status, code))
    with pytest.raises(kind) as caught:
        storage.read(BUCKET, KEY)
    assert (caught.value.operation, caught.value.code) == ("GetObject", code)
    assert (caught.value.bucket, caught.value.key) == (None, None)
    assert WHERE not in str(caught.value)
    assert len(s3.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (301, "PermanentRedirect"),
        (307, "TemporaryRedirect"),
        (307, "Redirect"),
        (400, "AuthorizationHeaderMalformed"),
        (400, "IllegalLocationConstraintException"),
    ],
)
def test_a_bucket_elsewhere_is_a_service_error_without_a_key_that_names_the_settings(
    s3: S3, storage: Boto3Storage, clock: FakeClock, status: int, code: str
) -> None:
    # boto3 asks for the bucket's region, and gets no answer that helps. Without the header, it
    # might send that question over the connection that is being closed.
    closing = "Connection: close\r\n"
    s3.script(
        Answer(error(status, code, closing).data, "close"),
        Answer(answer(404, b"", closing), "close"),
    )
    with pytest.raises(ServiceError) as caught:
        storage.read(BUCKET, KEY)
    assert (caught.value.operation, caught.value.code) == ("GetObject", code)
    assert (caught.value.bucket, caught.value.key) == (None, None)
    assert WHERE not in str(caught.value)
    assert "AWS_ENDPOINT_URL_S3" in caught.value.advice
    assert clock.sleeps == []


@pytest.mark.parametrize("key", ["", "notes/\ud800.txt"])
def test_a_key_that_s3_cannot_have_is_a_missing_object(
    s3: S3, storage: Boto3Storage, key: str
) -> None:
    with pytest.raises(MissingObjectError) as caught:
        storage.read(BUCKET, key)
    assert caught.value.reason == "S3 has no keys that are empty or not UTF-8"
    assert (caught.value.bucket, caught.value.key) == (BUCKET, key)
    assert s3.requests == []


class Pieces:
    """Takes an object piece by piece."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self.taken.append(piece)


def test_a_large_object_is_fed_in_pieces(s3: S3, storage: Boto3Storage) -> None:
    body = bytes(range(256)) * 3_000
    s3.script(ok(body))
    taken = storage.feed(BUCKET, KEY, Pieces).taken
    assert b"".join(taken) == body
    assert max(map(len, taken)) <= 256 * 1024


def test_a_key_that_s3_cannot_have_is_not_fed(s3: S3, storage: Boto3Storage) -> None:
    with pytest.raises(MissingObjectError) as caught:
        storage.feed(BUCKET, "", Pieces)
    assert (caught.value.bucket, caught.value.key) == (BUCKET, "")
    assert s3.requests == []


def test_a_missing_bucket_is_an_error_without_a_key(s3: S3, storage: Boto3Storage) -> None:
    s3.script(error(404, "NoSuchBucket"))
    with pytest.raises(ResultsError) as caught:
        storage.read(BUCKET, KEY)
    assert str(caught.value) == f"s3://{BUCKET}: the bucket does not exist"
    assert (caught.value.bucket, caught.value.key) == (BUCKET, None)
    assert_keeps_quiet(caught.value)


TRANSIENT = {
    "SlowDown": error(503, "SlowDown"),
    "InternalError": error(500, "InternalError"),
    "ServiceUnavailable": error(503, "ServiceUnavailable"),
    "an empty 503": Answer(answer(503, b"")),
    "reset before the answer": Answer(b"", "reset"),
    "closed before the answer": Answer(b"", "close"),
    "reset within the body": reset(),
    "cut within the body": cut(),
    "cut before the body": cut(keep=0),
    "cut by one byte": cut(keep=len(BODY) - 1),
    "without a length": Answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY, "close"),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_temporary_failure_is_retried(
    s3: S3, storage: Boto3Storage, clock: FakeClock, name: str
) -> None:
    s3.script(TRANSIENT[name], TRANSIENT[name], ok())
    assert storage.read(BUCKET, KEY).body == BODY
    assert len(s3.requests) == 3
    assert len(clock.sleeps) == 2


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_permanent_failure_is_raised_after_the_last_attempt(
    s3: S3, storage: Boto3Storage, name: str
) -> None:
    s3.script(TRANSIENT[name])
    with pytest.raises((ResultsError, ServiceError, TransportError)) as caught:
        storage.read(BUCKET, KEY)
    assert isinstance(caught.value, (ResultsError, ServiceError, TransportError))
    assert not isinstance(caught.value, MissingObjectError)
    assert len(s3.requests) == 4
    assert (caught.value.bucket, caught.value.key) == (BUCKET, KEY)
    assert WHERE in str(caught.value)
    assert isinstance(caught.value, ResultsError) or caught.value.retryable
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_body_without_a_length_is_refused(s3: S3, storage: Boto3Storage) -> None:
    s3.script(TRANSIENT["without a length"])
    with pytest.raises(ResultsError) as caught:
        storage.read(BUCKET, KEY)
    assert caught.value.reason == "the response is not usable: it has no Content-Length"


@pytest.mark.parametrize("keep", [0, 20, len(BODY) - 1])
def test_the_error_for_a_body_that_is_always_cut_off_names_bucket_and_key(
    s3: S3, storage: Boto3Storage, keep: int
) -> None:
    s3.script(cut(keep=keep))
    with pytest.raises(ResultsError) as caught:
        storage.read(BUCKET, KEY)
    assert (
        caught.value.reason
        == "the response is not usable: its body cannot be read (ResponseStreamingError)"
    )
    assert WHERE in str(caught.value)
    assert_keeps_quiet(caught.value)


def checksum(value: int) -> str:
    """Return the header with the checksum of a body."""
    return f"x-amz-checksum-crc32: {base64.b64encode(value.to_bytes(4, 'big')).decode()}\r\n"


def test_a_body_with_a_wrong_checksum_is_fetched_again(s3: S3, storage: Boto3Storage) -> None:
    s3.script(ok(BODY, checksum(1)), ok())
    assert storage.read(BUCKET, KEY).body == BODY


def test_the_error_for_a_body_whose_checksum_is_always_wrong_names_bucket_and_key(
    s3: S3, storage: Boto3Storage
) -> None:
    s3.script(ok(BODY, checksum(1)))
    with pytest.raises(ResultsError) as caught:
        storage.read(BUCKET, KEY)
    assert WHERE in str(caught.value)
    assert_keeps_quiet(caught.value)


def test_missing_credentials_are_not_retried(
    s3: S3, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    session: Any = boto3.Session()
    client = session.client("s3", endpoint_url=s3.url)
    storage = Boto3Storage(lambda _: client, RetryPolicy(), clock)
    with pytest.raises(TransportError) as caught:
        storage.read(BUCKET, KEY)
    client.close()
    assert not caught.value.retryable
    assert caught.value.key is None
    assert s3.requests == []


# --- Lists ----------------------------------------------------------------------------------------


def test_keys_of_every_page_are_listed(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing("a", "b", following="x"), listing("c", following="y"), listing("d"))
    assert storage.keys(BUCKET, "notes/") == ["a", "b", "c", "d"]
    assert len(s3.requests) == 3


def test_a_call_that_was_ended_lists_no_further_page(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing("a", following="token"), listing("b"))

    submitted = threading.Event()

    def work() -> None:
        assert submitted.wait(30)
        for _ in storage.pages(BUCKET, ""):
            call.end()

    with Pool(1) as pool:
        call = pool.submit(work)
        submitted.set()
        with pytest.raises(ClientClosedError):
            call.result()
    assert len(s3.requests) == 1


def test_only_a_throttled_page_is_fetched_again(s3: S3, storage: Boto3Storage) -> None:
    s3.script(
        listing("a", following="x"), *[error(503, "SlowDown")] * 3, listing("b", following="y")
    )
    s3.answers.append(error(503, "SlowDown"))
    s3.answers.append(listing("c"))
    assert storage.keys(BUCKET, "notes/") == ["a", "b", "c"]
    asked = [request.partition("continuation-token=")[2][:1] for request in s3.requests]
    assert asked == ["", "x", "x", "x", "x", "y", "y"]


@pytest.mark.parametrize("ask", ["keys", "folders"])
@pytest.mark.parametrize("token", ["", "x"], ids=["absent", "repeated"])
def test_a_truncated_page_without_a_usable_token_is_an_error(
    s3: S3, storage: Boto3Storage, token: str, ask: str
) -> None:
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    endless = b"<NextContinuationToken>x</NextContinuationToken>"
    page = listing("a", following="x").data.replace(endless, following.encode())
    head, _, body = page.partition(b"\r\n\r\n")
    assert head
    s3.script(listing("a", following="x"), ok(body))
    with pytest.raises(ResultsError) as caught:
        getattr(storage, ask)(BUCKET, "notes/")
    reason = "the response is not usable: it has no usable NextContinuationToken"
    assert caught.value.reason == reason
    assert (caught.value.bucket, caught.value.key) == (BUCKET, "notes/")
    assert len(s3.requests) == 1 + 4


def test_keys_are_requested_by_their_prefix(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing("notes/a"))
    storage.keys(BUCKET, "notes/a b")
    [asked] = s3.requests
    assert asked.startswith(f"/{BUCKET}?list-type=2&prefix=notes%2Fa%20b")
    assert "delimiter" not in asked


def test_folders_of_every_page_are_listed_without_keys(s3: S3, storage: Boto3Storage) -> None:
    s3.script(
        listing("notes/x", folders=["notes/a/"], following="x"), listing(folders=["notes/b/"])
    )
    assert storage.folders(BUCKET, "notes/") == ["notes/a/", "notes/b/"]
    assert len(s3.requests) == 2
    assert "&prefix=notes%2F" in s3.requests[0]
    assert "&delimiter=%2F" in s3.requests[0]


def test_a_page_with_a_wrong_key_count_is_fetched_again(s3: S3, storage: Boto3Storage) -> None:
    short = Answer(listing("a").data.replace(b"<KeyCount>1", b"<KeyCount>2"))
    s3.script(short, listing("a", "b"))
    assert storage.keys(BUCKET, "") == ["a", "b"]


@pytest.mark.parametrize("ask", ["keys", "folders"])
def test_a_page_whose_key_count_is_always_wrong_is_an_error(
    s3: S3, storage: Boto3Storage, ask: str
) -> None:
    page = listing("a", folders=["b/"]).data
    s3.script(Answer(page.replace(b"<KeyCount>2", b"<KeyCount>3")))
    with pytest.raises(ResultsError) as caught:
        getattr(storage, ask)(BUCKET, "notes/")
    assert caught.value.reason == "the response is not usable: its KeyCount does not match its keys"
    assert (caught.value.bucket, caught.value.key) == (BUCKET, "notes/")


@pytest.mark.parametrize("ask", ["keys", "folders"])
def test_an_error_of_a_listing_names_the_operation(s3: S3, storage: Boto3Storage, ask: str) -> None:
    s3.script(error(503, "SlowDown"))
    with pytest.raises(ThrottlingException) as caught:
        getattr(storage, ask)(BUCKET, "notes/")
    assert caught.value.operation == "ListObjectsV2"
    assert f"ListObjectsV2 of s3://{BUCKET}/notes/: " in str(caught.value)


def test_an_empty_folder_has_no_keys(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing())
    assert storage.keys(BUCKET, "notes/") == []


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(cut(listing("a").data.partition(b"\r\n\r\n")[2], keep=40), id="cut"),
        pytest.param(cut(listing("a").data.partition(b"\r\n\r\n")[2], keep=0), id="nothing"),
        pytest.param(ok(b""), id="empty"),
        pytest.param(ok(b"<html><body>It works!</body></html>"), id="a proxy's page"),
    ],
)
@pytest.mark.parametrize("ask", ["keys", "folders"])
def test_a_broken_listing_is_not_an_empty_one(
    s3: S3, storage: Boto3Storage, broken: Answer, ask: str
) -> None:
    s3.script(broken)
    with pytest.raises((ResultsError, TransportError)):
        getattr(storage, ask)(BUCKET, "notes/")


@pytest.mark.parametrize("ask", ["keys", "folders"])
def test_the_error_for_a_denied_listing_names_the_folder(
    s3: S3, storage: Boto3Storage, ask: str
) -> None:
    s3.script(error(403, "AccessDenied"))
    with pytest.raises(ResultsError, match="s3:ListBucket") as caught:
        getattr(storage, ask)(BUCKET, "notes/")
    assert (caught.value.bucket, caught.value.key) == (BUCKET, "notes/")


@pytest.mark.parametrize("ask", ["keys", "folders"])
def test_a_retry_of_a_listing_is_logged_with_the_job_id(
    s3: S3, storage: Boto3Storage, caplog: pytest.LogCaptureFixture, ask: str
) -> None:
    caplog.set_level(logging.INFO, "comprehend_phi")
    s3.script(error(503, "SlowDown"), listing())
    getattr(JobStorage(storage, JOB_ID), ask)(BUCKET, "notes/")
    [record] = [vars(record) for record in caplog.records if record.name == "comprehend_phi"]
    assert (record["operation"], record["job_id"]) == ("ListObjectsV2", JOB_ID)


def test_every_page_of_a_listing_begins_after_the_given_key(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing("notes/b", following="x"), listing("notes/c"))
    pages = storage.pages(BUCKET, "notes/", after="notes/a")
    assert [each.key for page in pages for each in page.objects] == ["notes/b", "notes/c"]
    assert ["start-after=notes%2Fa" in request for request in s3.requests] == [True, True]


def test_a_page_that_is_not_truncated_is_the_last_one_whatever_token_it_has(
    s3: S3, storage: Boto3Storage
) -> None:
    body = listing("a", following="x").data.partition(b"\r\n\r\n")[2]
    s3.script(ok(body.replace(b"<IsTruncated>true<", b"<IsTruncated>false<")), listing("b"))
    assert storage.keys(BUCKET, "notes/") == ["a"]


def test_an_object_is_found_by_its_key(s3: S3, storage: Boto3Storage) -> None:
    s3.script(listing("notes/a/b", "notes/a/b/c"))
    assert storage.find(BUCKET, "notes/a/b") == ListedObject("notes/a/b", 1, None)
    [asked] = s3.requests
    assert asked.startswith(f"/{BUCKET}?list-type=2&prefix=notes%2Fa%2Fb")
    assert "delimiter" not in asked


@pytest.mark.parametrize("page", [listing("notes/ab"), listing()], ids=["longer", "none"])
def test_a_key_that_does_not_exist_is_not_found(
    s3: S3, storage: Boto3Storage, page: Answer
) -> None:
    s3.script(page)
    assert storage.find(BUCKET, "notes/a") is None


# --- The region of a bucket -----------------------------------------------------------------------

IRELAND = "x-amz-bucket-region: eu-west-1\r\n"


def test_the_region_of_a_bucket_is_in_the_response(s3: S3, storage: Boto3Storage) -> None:
    s3.script(ok(b"", IRELAND))
    assert storage.region(BUCKET) == "eu-west-1"
    assert s3.requests == [f"/{BUCKET}"]


@pytest.mark.parametrize("status", [301, 307, 400, 403])
def test_the_region_of_a_bucket_is_also_in_a_refusal(
    s3: S3, storage: Boto3Storage, clock: FakeClock, status: int
) -> None:
    s3.script(Answer(answer(status, b"", IRELAND)))
    assert storage.region(BUCKET) == "eu-west-1"
    assert clock.sleeps == []


@pytest.mark.parametrize("status", [200, 403])
def test_a_bucket_whose_region_s3_does_not_say_has_none(
    s3: S3, storage: Boto3Storage, status: int
) -> None:
    s3.script(Answer(answer(status, b"")))
    assert storage.region(BUCKET) is None


def test_the_region_of_a_missing_bucket_is_an_error(
    s3: S3, storage: Boto3Storage, clock: FakeClock
) -> None:
    s3.script(Answer(answer(404, b"", IRELAND)))
    with pytest.raises(MissingBucketError) as caught:
        storage.region(BUCKET)
    assert caught.value.reason == "the bucket does not exist"
    assert (caught.value.bucket, caught.value.key) == (BUCKET, None)
    assert clock.sleeps == []


def test_a_failed_request_for_a_region_is_retried(
    s3: S3, storage: Boto3Storage, clock: FakeClock
) -> None:
    s3.script(Answer(answer(503, b"", IRELAND)), ok(b"", IRELAND))
    assert storage.region(BUCKET) == "eu-west-1"
    assert len(clock.sleeps) == 1


def test_the_error_for_a_region_that_s3_never_returns_names_operation_and_bucket(
    s3: S3, storage: Boto3Storage
) -> None:
    s3.script(Answer(answer(503, b"", IRELAND)))
    with pytest.raises(ServiceUnavailableException) as caught:
        storage.region(BUCKET)
    error = caught.value
    assert (error.operation, error.bucket, error.key) == ("HeadBucket", BUCKET, "")
    assert_keeps_quiet(error)


# --- Through a client -----------------------------------------------------------------------------

FOLDER = f"123456789012-PHIDetection-{JOB_ID}/"


def documents(count: int) -> Callable[[str], Answer]:
    """Return a function that answers for a key of a job with `count` documents."""

    def answer_to(key: str) -> Answer:
        name = key.removeprefix(FOLDER)
        contents: dict[str, Any] = {
            "Manifest": {
                "Summary": {
                    "Status": "COMPLETED",
                    "SuccessfulFilesListLocation": "success",
                    "UnprocessedFilesListLocation": "failed",
                }
            },
            "success": {"Files": [f"{number}.txt" for number in range(count)]},
            "failed": {"Files": []},
        }
        return ok(json.dumps(contents.get(name, {"Entities": []})).encode())

    return answer_to


def results_of(server: LocalServer, client: PHIClient) -> JobResults:
    location = {"S3Bucket": BUCKET, "S3Key": FOLDER}
    job = {
        "JobId": JOB_ID,
        "JobStatus": "COMPLETED",
        "InputDataConfig": {"S3Bucket": BUCKET},
        "OutputDataConfig": location,
    }
    body = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
    server.service.script(faults.answer(200, body), operation="DescribePHIDetectionJob")
    return client.job(JOB_ID).results()


@pytest.fixture
def s3_endpoint(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set AWS's variable for the endpoint of S3."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)


@pytest.mark.usefixtures("s3_endpoint")
def test_all_connections_fetch_objects_at_the_same_time(
    s3: S3, server: LocalServer, make_client: Callable[..., PHIClient]
) -> None:
    client = make_client(config=Config(max_pool_connections=3), s3_transport="boto3")
    gate = threading.Barrier(3)
    plain = documents(30)

    def together(key: str) -> Answer:
        # Returns only when three requests are in progress at the same time.
        if key.endswith(".out"):
            gate.wait(timeout=30)
        return plain(key)

    s3.script(together)
    assert sum(1 for _ in results_of(server, client)) == 30
    # With more threads than connections, each request would open a new connection.
    assert s3.connections == 3
    assert s3.most == 3


@pytest.mark.usefixtures("s3_endpoint")
@pytest.mark.parametrize("attempts", [1, 2, 8])
@pytest.mark.parametrize(
    "config", [None, Config(retries={"total_max_attempts": 5, "mode": "adaptive"})]
)
def test_only_the_retry_policy_decides_how_often_s3_is_called(
    s3: S3,
    server: LocalServer,
    make_client: Callable[..., PHIClient],
    attempts: int,
    config: Config | None,
) -> None:
    client = make_client(retry=RetryPolicy(max_attempts=attempts), config=config)
    s3.script(error(503, "SlowDown"))
    with pytest.raises(ThrottlingException) as caught:
        _ = results_of(server, client).manifest
    assert len(s3.requests) == caught.value.attempts == attempts


@pytest.mark.usefixtures("s3_endpoint")
def test_closing_a_client_closes_the_s3_client_that_it_built(
    s3: S3, server: LocalServer, make_client: Callable[..., PHIClient]
) -> None:
    client = make_client()
    s3.script(documents(1))
    assert results_of(server, client).manifest.status == "COMPLETED"
    client.close()
    assert s3.closed.wait(timeout=30)


def test_an_s3_client_of_the_user_is_used_and_left_open(
    s3: S3, server: LocalServer, make_client: Callable[..., PHIClient], boto3_client: Any
) -> None:
    client = make_client(s3_client=boto3_client)
    s3.script(documents(0))
    assert list(results_of(server, client)) == []
    client.close()
    boto3_client.get_object(Bucket=BUCKET, Key="Manifest")["Body"].read()
    # If the client had been closed, this request would have opened another connection.
    assert s3.connections == s3.most


def test_a_denied_document_is_reported_after_all_others(
    s3: S3, server: LocalServer, make_client: Callable[..., PHIClient], boto3_client: Any
) -> None:
    plain = documents(200)

    def denies(key: str) -> Answer:
        return error(403, "AccessDenied") if key.endswith("/3.txt.out") else plain(key)

    s3.script(denies)
    yielded: list[Any] = []
    with pytest.raises(IncompleteResultsError, match="s3:ListBucket") as caught:
        yielded.extend(results_of(server, make_client(s3_client=boto3_client)))
    assert len(yielded) == 199
    assert f"{FOLDER}3.txt.out" in caught.value.failed["3.txt"]


def test_refused_credentials_stop_reading_at_once(
    s3: S3, server: LocalServer, make_client: Callable[..., PHIClient], boto3_client: Any
) -> None:
    plain = documents(200)

    def refuses(key: str) -> Answer:
        return error(400, "ExpiredToken") if key.endswith("/3.txt.out") else plain(key)

    s3.script(refuses)
    yielded: list[Any] = []
    with pytest.raises(ExpiredTokenException):
        yielded.extend(results_of(server, make_client(s3_client=boto3_client)))
    assert len(yielded) == 3
    assert len(s3.requests) < 60


# --- Two jobs -------------------------------------------------------------------------------------


class WaitsForBoth:
    """A storage in which the reads of two jobs end only when both have begun."""

    calls: Any = None
    connections = 1

    def __init__(self) -> None:
        self._both = threading.Barrier(2, timeout=30)

    def check_open(self) -> None:
        """Stay open."""

    def read(self, bucket: str, key: str) -> StoredObject:
        self._both.wait()
        return StoredObject(b'{"Summary": {"Status": "COMPLETED"}}', None)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        return []

    def feed(self, bucket: str, key: str, start: Callable[[], Any]) -> Any:
        raise AssertionError("no list is read")

    def folders(self, bucket: str, prefix: str) -> list[str]:
        return []


def test_readers_of_two_jobs_do_not_wait_for_each_other() -> None:
    storage = WaitsForBoth()
    readers = [
        JobResults(
            Listing(
                JobProperties(
                    job_id=job_id,
                    job_status=JobStatus.COMPLETED,
                    input_data_config=InputDataConfig(s3_bucket="notes"),
                    output_data_config=OutputDataConfig(
                        s3_bucket="results", s3_key=f"1-PHIDetection-{job_id}/"
                    ),
                ),
                storage,
            )
        )
        for job_id in ("0" * 32, "1" * 32)
    ]

    def status(results: JobResults) -> str:
        return results.manifest.status

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(status, readers)) == ["COMPLETED", "COMPLETED"]

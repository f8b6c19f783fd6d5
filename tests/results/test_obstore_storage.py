"""Results that are read through obstore: the same documents and the same errors."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import socketserver
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

import boto3
import certifi
import pytest
from botocore import UNSIGNED
from botocore.awsrequest import AWSHTTPSConnection, AWSResponse
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    AsyncPHIClient,
    ComprehendPHIError,
    IncompleteResultsError,
    InputDataConfig,
    MissingObjectError,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    ResultsError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    TransportError,
)
from comprehend_phi._results.boto3_storage import Boto3Storage
from comprehend_phi._results.new_object import NewObject
from comprehend_phi._results.obstore_route import is_sent_unchanged
from comprehend_phi._results.obstore_setup import LastExchange, build_store
from comprehend_phi._results.obstore_storage import ObstoreStorage
from comprehend_phi._results.transport import open_storage
from comprehend_phi._service.connection import Connection, S3Transport
from comprehend_phi.testing import FakeClock, LocalServer, faults, local_service

BUCKET = "a-bucket"
JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"results/123456789012-PHIDetection-{JOB_ID}/"
PLAIN = f"{FOLDER}plain.txt.out"
WRITTEN = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)

# S3 accepts each of these keys unchanged. obstore strips leading and final slashes and refuses some
# keys. Percent signs show whether something is encoded or decoded twice.
AWKWARD = [
    "plain.txt",
    "deep/er/note.txt",
    "a b.txt",
    "a%20b.txt",
    "a%2520b.txt",
    "a+b.txt",
    "a%2Bb.txt",
    "100%.txt",
    "tab\there.txt",
    "tab%09here.txt",
    "./a",
    "a",
    "b/../c",
    "c",
    "d/./e",
    "d/e",
    "e//f",
    "e/f",
    "folder",
    "folder/",
    "~tilde*star?question#hash",
    "Été/病歴.txt",
    "cafe\u0301.txt",
    "\U0001f600",
    "back\\slash",
    "[{<'\"^`|>}]",
]


class S3(socketserver.ThreadingTCPServer):
    """Serves the objects of a dict over HTTP and records the requests.

    Attributes:
        objects: the bytes of each key.
        asked: key, agent and access key id of each request.
        buckets: the bucket of each request.
        scopes: the region and service for which each request was signed.
        busy: how many more requests for a key get the error SlowDown.
        denied: keys that nobody may read.
        cut: keys whose bodies are cut off for obstore.
        region: the only region whose requests are served, or an empty string.
    """

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        scheme = "http"
        if tls is not None:
            self.socket, scheme = tls.wrap_socket(self.socket, server_side=True), "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}"
        self.broken_handshakes = 0
        self.reset()

    def reset(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.buckets: list[str] = []
        self.scopes: list[str] = []
        self.busy: dict[str, int] = {}
        self.cut: set[str] = set()
        self.denied: set[str] = set()
        self.region = ""

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except ssl.SSLError:
            self.broken_handshakes += 1
            raise

    def agents(self, key: str) -> list[str]:
        return [agent for asked, agent, _ in self.asked if asked == key]


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        s3 = cast("S3", self.server)
        while request := self.rfile.readline():
            headers: dict[str, str] = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            target = (
                request.split()[1].decode().removeprefix(s3.url)
            )  # through a proxy, the target is a URL
            _, bucket, key = unquote(target).split("/", 2)
            agent = "obstore" if headers["user-agent"].endswith(" obstore") else "boto3"
            credential = headers["authorization"].partition("Credential=")[2].split("/")
            s3.asked.append((key, agent, credential[0]))
            s3.buckets.append(bucket)
            s3.scopes.append("/".join(credential[2:4]))
            body = s3.objects.get(key)
            if request.startswith(b"PUT"):
                s3.objects[key], body = self.receive(headers), b""
            status, more = 200, ""
            if s3.region not in ("", credential[2]):
                status, more = 301, f"x-amz-bucket-region: {s3.region}\r\n"
                body = b"<Error><Code>PermanentRedirect</Code></Error>"
            elif s3.busy.get(key):
                s3.busy[key] -= 1
                status, body = 503, b"<Error><Code>SlowDown</Code></Error>"
            elif key in s3.denied:
                status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"
            elif body is None:
                status, body = 404, b"<Error><Code>NoSuchKey</Code></Error>"
            length = len(body)
            # obstore requires these two.
            more += 'Last-Modified: Thu, 02 Jan 2031 03:04:05 GMT\r\nETag: "0"\r\n'
            head = f"HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{more}\r\n".encode()
            if key in s3.cut and agent == "obstore":
                self.wfile.write(head + body[:9])
                return
            self.wfile.write(head + body)

    def receive(self, headers: Mapping[str, str]) -> bytes:
        """Return the body of a request, which may be in chunks of HTTP and then of S3."""
        if "expect" in headers:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "transfer-encoding" not in headers:
            return self.rfile.read(int(headers["content-length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        length, _, rest = body.partition(b"\r\n")  # the first of S3's chunks
        return rest[: int(length, 16)]


@pytest.fixture(scope="module")
def s3_server(serving: Callable[[S3], AbstractContextManager[None]]) -> Iterator[S3]:
    server = S3()
    with serving(server):
        yield server


@pytest.fixture
def s3(s3_server: S3) -> S3:
    """Return an S3 with a job whose paths are awkward. Each document and note has its own text."""
    s3 = s3_server
    s3.reset()
    lists = {
        "success": [
            {"Input": f"notes/{path}", "Output": f"{FOLDER}{path}.out"} for path in AWKWARD
        ],
        "failed": [],
    }
    summary = {
        "Status": "COMPLETED",
        "InputFileCount": len(AWKWARD),
        "SuccessfulFilesListLocation": "success",
        "UnprocessedFilesListLocation": "failed",
    }
    s3.objects = {f"{FOLDER}Manifest": json.dumps({"Summary": summary}).encode()}
    for name, files in lists.items():
        s3.objects[f"{FOLDER}{name}"] = json.dumps({"Files": files}).encode()
    for number, path in enumerate(AWKWARD):
        text = f"{number:04}"
        entity = {
            "Id": 0,
            "BeginOffset": 2,
            "EndOffset": 6,
            "Score": 1,
            "Text": text,
            "Category": "PROTECTED_HEALTH_INFORMATION",
            "Type": "ID",
        }
        s3.objects[f"{FOLDER}{path}.out"] = json.dumps({"Entities": [entity]}).encode()
        s3.objects[f"notes/{path}"] = f"> {text}\r\n".encode()
    return s3


# --- One object -----------------------------------------------------------------------------------

Open = Callable[..., ObstoreStorage]


@pytest.fixture
def open_s3(s3: S3, clock: FakeClock) -> Iterator[Open]:
    """Return a function that opens `s3` for reading as a client does."""
    clients: list[Any] = []

    def open_s3(
        policy: RetryPolicy | None = None, *, required: bool = False, config: Config | None = None
    ) -> ObstoreStorage:
        session: Any = boto3.Session("testing", "testing", region_name="eu-west-2")
        # No retries of botocore, which would really sleep. Ours use the fake clock.
        ours = Config(retries={"total_max_attempts": 1}, max_pool_connections=7)
        config = ours.merge(config or Config())
        client = session.client("s3", endpoint_url=s3.url, config=config)
        clients.append(client)
        policy = policy or RetryPolicy(max_attempts=3)
        return ObstoreStorage(lambda _: client, policy, clock, session=session, required=required)

    yield open_s3
    for client in clients:
        client.close()


@pytest.fixture
def storage(s3: S3, open_s3: Open) -> ObstoreStorage:
    """Return a storage that has already read from the bucket."""
    storage = open_s3()
    storage.read(BUCKET, "notes/a")
    s3.asked.clear()
    s3.scopes.clear()
    s3.buckets.clear()
    return storage


def test_boto3_reads_the_first_object_of_a_bucket_and_obstore_the_others(
    s3: S3, open_s3: Open
) -> None:
    storage = open_s3()
    keys = [PLAIN, "notes/plain.txt", PLAIN]
    for bucket in (BUCKET, "another-bucket"):
        for key in keys:
            assert storage.read(bucket, key).body == s3.objects[key]
    assert [(key, agent) for key, agent, _ in s3.asked] == [
        (PLAIN, "boto3"),
        ("notes/plain.txt", "obstore"),
        (PLAIN, "obstore"),
    ] * 2
    assert s3.buckets == [BUCKET] * 3 + ["another-bucket"] * 3


def test_a_failed_read_of_boto3_does_not_set_obstore_up(s3: S3, open_s3: Open) -> None:
    storage = open_s3()
    with pytest.raises(MissingObjectError):
        storage.read(BUCKET, "nowhere")
    storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["boto3"]


def test_an_object_has_the_time_at_which_it_was_written(storage: ObstoreStorage) -> None:
    assert storage.read(BUCKET, PLAIN).last_modified == WRITTEN


def test_obstore_signs_for_the_region_of_the_client(s3: S3, storage: ObstoreStorage) -> None:
    storage.read(BUCKET, PLAIN)
    assert s3.scopes == ["eu-west-2/s3"]


def test_a_storage_has_the_number_of_connections_of_its_client(storage: ObstoreStorage) -> None:
    assert storage.connections == 7


def test_obstore_uses_the_credentials_of_the_session(s3: S3, open_s3: Open) -> None:
    storage = open_s3()
    storage.read(BUCKET, PLAIN)
    storage.read(BUCKET, PLAIN)
    assert [access_key for _, _, access_key in s3.asked] == ["testing", "testing"]


@pytest.mark.parametrize("name", ["access_key", "token"])
def test_a_line_break_in_the_credentials_is_a_transport_error(
    storage: ObstoreStorage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    session = storage._session  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(session.get_credentials(), name, "quell\nwasser")
    with pytest.raises(TransportError) as caught:
        storage.read(BUCKET, "notes/a")
    assert caught.value.outcome_unknown is False
    assert "wasser" not in str(caught.value)


@pytest.mark.parametrize("name", ["access_key", "token"])
def test_boto3_reads_with_credentials_that_obstore_cannot_send(
    s3: S3, storage: ObstoreStorage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    session = storage._session  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(session.get_credentials(), name, "not-ascii-\N{SNOWMAN}")
    storage.read(BUCKET, "notes/a")
    assert s3.agents("notes/a") == ["boto3"]


# --- Keys -----------------------------------------------------------------------------------------

# Many slashes, dots and percent signs, which obstore might change.
KEYS = st.lists(
    st.sampled_from(["/", "//", ".", "..", "%", "%2F", "%2e", " ", "\\", "?", "#", "a", "é", "\t"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    min_size=1,
    max_size=6,
).map(lambda parts: "".join(parts) or "empty")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(key="a/", other="a")
@example(key="/a", other="a")
@example(key="a//b", other="a/b")
@example(key="a/../b", other="b")
@given(key=KEYS, other=KEYS)
def test_every_key_is_requested_unchanged(
    s3: S3, storage: ObstoreStorage, key: str, other: str
) -> None:
    s3.objects = {other: b"other", key: b"this"}
    s3.asked.clear()
    assert storage.read(BUCKET, key).body == b"this"
    assert [asked for asked, _, _ in s3.asked] == [key]
    assert s3.agents(key) == ["obstore" if is_sent_unchanged(key) else "boto3"]


@pytest.mark.parametrize(
    ("key", "exact"),
    [
        ("a", True),
        ("a/b", True),
        ("...", True),
        ("a/.b/..c/d..", True),
        ("a%2Fb/%2e%2e", True),
        ("cafe\u0301/\U0001f600/\u0085 ", True),
        ("", False),
        ("/", False),
        ("/a", False),
        ("a/", False),
        ("a//b", False),
        (".", False),
        ("..", False),
        ("./a", False),
        ("a/.", False),
        ("a/./b", False),
        ("a/../b", False),
        ("a/..", False),
        ("a\n", False),
        ("a\x7f", False),
        ("a\0", False),
        ("a\ud800", False),
    ],
)
def test_which_keys_obstore_sends_unchanged(key: str, exact: bool) -> None:
    assert is_sent_unchanged(key) is exact


# --- Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [2, 3, 8])
def test_both_transports_together_make_as_many_attempts_as_the_policy_allows(
    s3: S3, clock: FakeClock, open_s3: Open, attempts: int
) -> None:
    storage = open_s3(RetryPolicy(max_attempts=attempts))
    storage.read(BUCKET, "notes/a")
    s3.busy[PLAIN] = 99
    with pytest.raises(ThrottlingException) as caught:
        storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["obstore"] + ["boto3"] * (attempts - 1)
    assert len(clock.sleeps) == attempts - 2
    assert caught.value.attempts == attempts
    assert (caught.value.operation, caught.value.key) == ("GetObject", PLAIN)


def test_boto3_makes_the_other_attempts_if_obstore_fails(
    s3: S3, storage: ObstoreStorage, clock: FakeClock
) -> None:
    s3.busy[PLAIN] = 2
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    assert s3.agents(PLAIN) == ["obstore", "boto3", "boto3"]
    assert len(clock.sleeps) == 1


def test_boto3_repeats_a_read_of_obstore_at_once_and_outside_the_timeout(
    s3: S3, open_s3: Open, clock: FakeClock
) -> None:
    storage = open_s3(RetryPolicy(timeout=0.0, base_delay=9.0))
    storage.read(BUCKET, "notes/a")
    s3.cut.add(PLAIN)
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    with pytest.raises(MissingObjectError):
        storage.read(BUCKET, "nowhere")
    assert clock.sleeps == []


def test_what_obstore_cannot_read_is_logged_as_a_fallback(
    s3: S3, storage: ObstoreStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    with pytest.raises(MissingObjectError):
        storage.read(BUCKET, "nowhere")
    assert caplog.messages == [
        "GetObject: obstore cannot read an object (FileNotFoundError), so boto3 tries"
    ]
    assert vars(caplog.records[0])["attempt"] is None


def test_a_body_that_was_cut_off_is_fetched_again(s3: S3, storage: ObstoreStorage) -> None:
    s3.cut.add(PLAIN)
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    assert s3.agents(PLAIN) == ["obstore", "boto3"]


def test_an_error_of_obstore_is_neither_raised_nor_chained(s3: S3, storage: ObstoreStorage) -> None:
    s3.denied.add(PLAIN)
    with pytest.raises(ResultsError) as caught:
        storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["obstore", "boto3"]
    assert "access denied" in caught.value.reason
    assert (caught.value.bucket, caught.value.key) == (BUCKET, PLAIN)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_obstore_is_no_longer_used_after_boto3_repaired_three_failures_in_a_row(
    s3: S3, storage: ObstoreStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "comprehend_phi")
    s3.cut.add(PLAIN)
    for key in (PLAIN, PLAIN, "notes/a", PLAIN, PLAIN):
        storage.read(BUCKET, key)
    assert s3.agents(PLAIN) == ["obstore", "boto3"] * 4
    assert caplog.messages == []
    for _ in range(3):
        storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["obstore", "boto3"] * 5 + ["boto3"] * 2
    [message] = caplog.messages
    assert message.startswith(
        "GetObject: obstore failed 3 times in a row, and boto3 then succeeded"
    )


def test_obstore_stays_in_use_if_boto3_fails_too(s3: S3, storage: ObstoreStorage) -> None:
    for _ in range(5):
        with pytest.raises(MissingObjectError):
            storage.read(BUCKET, "nowhere")
    assert s3.agents("nowhere") == ["obstore", "boto3"] * 5


def test_many_threads_log_once_that_obstore_is_no_longer_used(
    s3: S3, storage: ObstoreStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "comprehend_phi")
    s3.cut.add(PLAIN)
    with ThreadPoolExecutor(storage.connections) as pool:
        bodies = {found.body for found in pool.map(storage.read, [BUCKET] * 40, [PLAIN] * 40)}
    assert bodies == {s3.objects[PLAIN]}
    assert len([record for record in caplog.records if record.name == "comprehend_phi"]) == 1
    for _ in range(5):
        storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN)[-5:] == ["boto3"] * 5


# --- The settings of boto3 ------------------------------------------------------------------------


class Asked(NamedTuple):
    """boto3's request for an object, and the settings of its client."""

    last: LastExchange
    config: Any
    session: Any


def ask(key: str, *, bucket: str = BUCKET, handler: Any = None, **options: Any) -> Asked:
    """Return what boto3 would send for an object, without sending it."""
    last = LastExchange()
    session: Any = boto3.Session()
    if handler is not None:
        session.events.register(*handler)
    client = session.client("s3", **options)
    client.meta.events.register("before-send.s3", answer_nothing)
    client.meta.events.register_last("before-send.s3", last.record_request)
    client.get_object(Bucket=bucket, Key=key)
    client.close()
    last.connection = AWSHTTPSConnection("s3.example")
    last.connection.ca_certs = certifi.where()
    return Asked(last, client.meta.config, session)


def answer_nothing(request: Any, **_: Any) -> AWSResponse:
    """Handle `before-send` and return the response, so that nothing is sent."""
    return AWSResponse(request.url, 200, cast("Any", {}), cast("Any", None))


def store_for(asked: Asked, key: str, bucket: str = BUCKET) -> Any:
    return build_store(asked.last, bucket, key, asked.config, asked.session)


ENDPOINTS = {
    "nothing": {},
    "a region": {"region_name": "eu-west-2"},
    "path style": {"config": Config(s3={"addressing_style": "path"})},
    "FIPS": {"config": Config(use_fips_endpoint=True)},
    "FIPS in another region": {
        "region_name": "us-west-2",
        "config": Config(use_fips_endpoint=True),
    },
    "dual-stack": {"config": Config(use_dualstack_endpoint=True)},
    "accelerate": {"config": Config(s3={"use_accelerate_endpoint": True})},
    "an endpoint": {"endpoint_url": "https://s3.example:8443/a/path"},
    "an endpoint by virtual host": {
        "endpoint_url": "https://s3.example",
        "config": Config(s3={"addressing_style": "virtual"}),
    },
    "the regional endpoint": {"config": Config(s3={"us_east_1_regional_endpoint": "regional"})},
}


def assert_same_endpoint(asked: Asked, bucket: str = BUCKET) -> None:
    """Check that obstore and boto3 send the request for a key to the same URL."""
    import obstore

    store = store_for(asked, "first", bucket)
    assert not isinstance(store, str), store
    signed = urlsplit(obstore.sign(store, "GET", "an/other %2F key", timedelta(minutes=1)))
    url: str = asked.last.request.url.removesuffix("first") + quote("an/other %2F key")
    expected = urlsplit(url)
    assert (signed.scheme, signed.netloc, signed.path) == (
        expected.scheme,
        expected.netloc,
        expected.path,
    )
    scope = re.search(rb"Credential=([^,]+)", asked.last.request.headers["Authorization"])
    assert scope is not None
    assert quote(scope[1].decode(), safe="") in signed.query


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_obstore_uses_the_endpoint_of_boto3(endpoint: str) -> None:
    assert_same_endpoint(ask("first", **cast("Any", ENDPOINTS[endpoint])))


def test_obstore_uses_the_endpoint_of_boto3_for_a_bucket_with_dots() -> None:
    assert_same_endpoint(ask("first", bucket="a.bucket.example"), "a.bucket.example")


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_DEFAULT_REGION": "eu-west-2"},
        {"AWS_ENDPOINT_URL": "https://all.example"},
        {"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_S3": "https://s3.example"},
        {
            "AWS_ENDPOINT_URL": "https://all.example",
            "AWS_ENDPOINT_URL_S3": "https://s3.example",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        },
        # Variables that obstore reads and boto3 ignores.
        {
            "AWS_ENDPOINT": "https://obstore.example",
            "AWS_REGION": "xx-nowhere-1",
            "AWS_BUCKET": "another-bucket",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_S3_EXPRESS": "true",
            "AWS_REQUEST_PAYER": "requester",
            "AWS_UNSIGNED_PAYLOAD": "true",
        },
    ],
    ids=" ".join,
)
def test_obstore_uses_the_endpoint_that_the_environment_sets_for_boto3(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_same_endpoint(ask("first"))


def add_header(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["X-Amz-Request-Payer"] = "requester"


def add_query(request: Any, **_: Any) -> None:
    request.url += "?versionId=1"


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "a header": (
        {"handler": ("before-call.s3", add_header)},
        "boto3 sends the header x-amz-request-payer",
    ),
    "a query": (
        {"handler": ("before-sign.s3", add_query)},
        "boto3's URL contains more than the key",
    ),
    "no signature": (
        {"config": Config(signature_version=UNSIGNED)},
        "boto3 does not sign with Signature Version 4",
    ),
    "an older signature": (
        {"config": Config(signature_version="s3")},
        "boto3 sends the header date",
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_obstore_is_not_used_if_boto3_does_what_obstore_cannot(name: str) -> None:
    options, reason = DIFFERENCES[name]
    assert store_for(ask("first", **options), "first") == reason


def test_obstore_is_not_used_if_responses_do_not_come_from_the_network() -> None:
    asked = ask("first")
    for connection in (None, object()):
        asked.last.connection = connection
        assert store_for(asked, "first") == (
            "boto3's responses do not come from the network (moto's mocks, for example)"
        )


@pytest.mark.parametrize("bundle", [None, "/nowhere.pem"], ids=["none", "one that is gone"])
def test_obstore_is_not_used_without_the_certificates_of_boto3(bundle: str | None) -> None:
    asked = ask("first")
    asked.last.connection.ca_certs = bundle
    assert str(store_for(asked, "first")).startswith("obstore cannot be set up like boto3 (")


def test_obstore_is_not_used_if_boto3_uses_a_proxy(
    s3: S3, open_s3: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    storage = open_s3(config=Config(proxies={"http": s3.url}))
    for _ in range(2):
        assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    assert s3.agents(PLAIN) == ["boto3"] * 2
    assert caplog.messages == ["GetObject: S3 is read through boto3 alone: boto3 uses a proxy"]


def test_obstore_is_not_used_if_the_environment_sets_its_encryption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
    assert store_for(ask("first"), "first") == "AWS_SERVER_SIDE_ENCRYPTION is set"


def test_the_timeouts_are_those_of_boto3() -> None:
    config = Config(connect_timeout=1.5, read_timeout=cast("Any", None))
    options = store_for(ask("first", config=config), "first").client_options
    assert options["connect_timeout"] == "1s 500ms"
    assert options["read_timeout"] == options["timeout"] == "1day"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_obstore_uses_no_proxy_if_boto3_uses_none(
    s3: S3, open_s3: Open, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for spelled in (name, name.lower()):
        monkeypatch.setenv(spelled, "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY" if spelled == name else "no_proxy", "127.0.0.1")
    storage = open_s3()
    # Without these, only the options of the store keep obstore from using the proxy.
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    storage.read(BUCKET, PLAIN)
    storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["boto3", "obstore"]


def test_obstore_follows_boto3_to_the_region_of_a_bucket(s3: S3, open_s3: Open) -> None:
    storage = open_s3(RetryPolicy(max_attempts=2))
    s3.region = "ap-south-1"
    storage.read(BUCKET, PLAIN)
    storage.read(BUCKET, PLAIN)
    assert s3.agents(PLAIN) == ["boto3", "boto3", "obstore"]
    assert s3.scopes == ["eu-west-2/s3", "ap-south-1/s3", "ap-south-1/s3"]


def test_boto3_follows_a_bucket_to_its_region_without_a_retry(s3: S3, clock: FakeClock) -> None:
    s3.region = "ap-south-1"
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
    client: Any = boto3.client("s3", endpoint_url=s3.url, config=config)
    storage = Boto3Storage(lambda _: client, RetryPolicy(max_attempts=1), clock)
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    client.close()


# --- Certificates ---------------------------------------------------------------------------------


class Authority:
    """A private CA.

    Attributes:
        bundle: its certificate, as a PEM file.
        server: the key and the certificate of its server, as a PEM file.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.server = folder / "server.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
        certificate = (
            self._certificate(self._key, self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "ca.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, name: x509.Name
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )

    def context(self) -> ssl.SSLContext:
        """Make a certificate of this CA for a server at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = (
            self._certificate(key, x509.Name([]))
            .add_extension(address, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.server.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "strangers")


@pytest.fixture
def tls_s3(
    authority: Authority, serving: Callable[[S3], AbstractContextManager[None]]
) -> Iterator[S3]:
    server = S3(authority.context())
    server.objects = {"first": b"1", "second": b"2"}
    with serving(server):
        yield server


def trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, bundle: Path) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if how == "ca_bundle":
        config = tmp_path / "config"
        config.write_text(f"[default]\nca_bundle = {bundle}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    else:
        monkeypatch.setenv(how, str(bundle))


BUNDLES = ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"]


@pytest.mark.parametrize("how", BUNDLES)
def test_obstore_trusts_the_authority_that_boto3_trusts(
    tls_s3: S3,
    authority: Authority,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    trust(monkeypatch, tmp_path, how, authority.bundle)
    session: Any = boto3.Session()
    client = session.client("s3", endpoint_url=tls_s3.url)
    storage = ObstoreStorage(lambda _: client, RetryPolicy(), clock, session=session, required=True)
    assert [storage.read(BUCKET, key).body for key in ("first", "second")] == [b"1", b"2"]
    assert [agent for _, agent, _ in tls_s3.asked] == ["boto3", "obstore"]
    assert tls_s3.broken_handshakes == 0
    client.close()


def test_obstore_writes_to_the_server_that_boto3_trusts(
    tls_s3: S3,
    authority: Authority,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    trust(monkeypatch, tmp_path, "AWS_CA_BUNDLE", authority.bundle)
    session: Any = boto3.Session()
    client = session.client("s3", endpoint_url=tls_s3.url)
    storage = ObstoreStorage(lambda _: client, RetryPolicy(), clock, session=session, required=True)
    for key in ("third", "fourth"):
        storage.calls.put(
            NewObject(
                bucket=BUCKET,
                key=key,
                body=b"text",
                replaces=None,
                metadata={},
                kms_key=None,
                content_type="text/plain",
            )
        )
        assert tls_s3.objects[key] == b"text"
    assert [agent for _, agent, _ in tls_s3.asked] == ["boto3", "obstore"]
    client.close()


@pytest.mark.parametrize("how", BUNDLES)
def test_obstore_trusts_no_authority_that_boto3_does_not_trust(
    tls_s3: S3,
    authority: Authority,
    stranger: Authority,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    import obstore

    trust(monkeypatch, tmp_path, how, stranger.bundle)
    # The operating system trusts the authority, and obstore would use its store by default.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    session: Any = boto3.Session()
    config = Config(retries={"total_max_attempts": 1})
    client = session.client("s3", endpoint_url=tls_s3.url, config=config)
    storage = ObstoreStorage(
        lambda _: client, RetryPolicy(max_attempts=2), clock, session=session, required=False
    )
    with pytest.raises(TransportError):
        storage.read(BUCKET, "first")
    # obstore would refuse even if boto3 had succeeded before someone intercepted the connection.
    asked = ask("first", endpoint_url=tls_s3.url)
    asked.last.connection.ca_certs = str(stranger.bundle)
    with pytest.raises(Exception, match="error sending request"):
        obstore.get(store_for(asked, "first"), "first")
    assert tls_s3.asked == []
    client.close()


def test_obstore_is_not_used_if_boto3_presents_a_certificate(
    tls_s3: S3, authority: Authority, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    session: Any = boto3.Session()
    config = Config(client_cert=str(authority.server))
    client = session.client(
        "s3", endpoint_url=tls_s3.url, verify=str(authority.bundle), config=config
    )
    storage = ObstoreStorage(
        lambda _: client, RetryPolicy(), clock, session=session, required=False
    )
    assert storage.read(BUCKET, "first").body == b"1"
    assert caplog.messages == [
        "GetObject: S3 is read through boto3 alone: boto3 presents a client certificate"
    ]
    client.close()


# --- What the user chooses ------------------------------------------------------------------------


@pytest.fixture
def make_storage(s3: S3, clock: FakeClock) -> Iterator[Callable[..., Any]]:
    clients: list[Any] = []

    def make(transport: Any, *, attempts: int = 2, handed_in: bool = False) -> Any:
        session: Any = boto3.Session()
        client = session.client("s3", endpoint_url=s3.url)
        clients.append(client)

        def connect(_operation: str) -> Any:
            return client

        connection = SimpleNamespace(
            s3=connect,
            s3_session=None if handed_in else session,
            s3_transport=transport,
        )
        policy = RetryPolicy(max_attempts=attempts)
        return open_storage(cast("Connection", connection), policy, clock)

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("transport", ["auto", "obstore"])
def test_obstore_is_chosen_if_nothing_prevents_it(
    make_storage: Callable[..., Any], caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    assert isinstance(make_storage(transport), ObstoreStorage)
    assert caplog.messages == []


def test_boto3_is_chosen_if_the_user_asks_for_it(
    make_storage: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    assert type(make_storage("boto3")) is Boto3Storage
    assert caplog.messages == []


OBSTACLES: dict[str, tuple[dict[str, Any], str]] = {
    "a client that was handed in": ({"handed_in": True}, "you passed s3_client="),
    "obstore is not installed": ({}, "needs the module obstore"),
    "a single attempt": ({"attempts": 1}, "max_attempts=1"),
    "a fork of a process that used obstore": ({}, "this process was forked"),
}


def arrange(obstacle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if obstacle == "obstore is not installed":
        monkeypatch.setitem(sys.modules, "obstore", None)
    if obstacle == "a fork of a process that used obstore":
        importlib.import_module("obstore")
        monkeypatch.setattr(os, "getpid", lambda: -1)


@pytest.mark.parametrize("name", OBSTACLES)
def test_boto3_is_chosen_if_obstore_cannot_be_used_and_the_reason_is_logged(
    make_storage: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    options, reason = OBSTACLES[name]
    arrange(name, monkeypatch)
    assert type(make_storage("auto", **options)) is Boto3Storage
    [message] = caplog.messages
    assert message.startswith("results: S3 is read through boto3 alone: ")
    assert reason in message


@pytest.mark.parametrize("name", OBSTACLES)
def test_it_is_an_error_if_required_obstore_cannot_be_used(
    make_storage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options, reason = OBSTACLES[name]
    arrange(name, monkeypatch)
    with pytest.raises(TransportError, match="s3_transport='obstore' cannot be used: ") as caught:
        make_storage("obstore", **options)
    assert reason in caught.value.reason
    assert not caught.value.retryable
    assert not caught.value.outcome_unknown


def test_a_fork_reads_through_boto3_and_logs_it_once(
    s3: S3,
    storage: ObstoreStorage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for _ in range(2):
        assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    assert s3.agents(PLAIN) == ["boto3"] * 2
    assert caplog.messages == [
        "GetObject: S3 is read through boto3 alone: this process was forked, and obstore's threads"
        " exist only in its parent"
    ]


def test_the_reason_not_to_use_obstore_is_logged_once(
    s3: S3, open_s3: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
    storage = open_s3()
    for bucket in (BUCKET, "another-bucket", BUCKET):
        storage.read(bucket, PLAIN)
    assert s3.agents(PLAIN) == ["boto3"] * 3
    assert caplog.messages == [
        "GetObject: S3 is read through boto3 alone: AWS_SERVER_SIDE_ENCRYPTION is set"
    ]


def test_it_is_an_error_for_required_obstore_if_boto3_does_what_obstore_cannot(
    open_s3: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
    storage = open_s3(required=True)
    for _ in range(2):
        with pytest.raises(TransportError, match="AWS_SERVER_SIDE_ENCRYPTION is set") as caught:
            storage.read(BUCKET, PLAIN)
        assert caught.value.key is None  # the error is about every object
        assert not caught.value.retryable


# --- Through the clients --------------------------------------------------------------------------


@pytest.fixture
def ended(server: LocalServer, s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the endpoint of a service whose job has ended. AWS's setting says where S3 is."""
    job = {
        "JobId": JOB_ID,
        "JobStatus": "COMPLETED",
        "InputDataConfig": {"S3Bucket": BUCKET, "S3Key": "notes"},
        "OutputDataConfig": {"S3Bucket": BUCKET, "S3Key": FOLDER},
    }
    body = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
    server.service.script(*[faults.answer(200, body)] * 3, operation="DescribePHIDetectionJob")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    return server.endpoint_url


Found = dict[str, Any]


def read_with_client(endpoint_url: str, **options: Any) -> Found:
    with PHIClient(endpoint_url=endpoint_url, **options) as client:
        results = client.job(JOB_ID).results()
        return {
            "documents": [
                (found.input_key, found.output_key, [entity.text for entity in found.entities])
                for found in results
            ],
            "redacted": list(results.redacted()),
        }


def read_with_async_client(endpoint_url: str, **options: Any) -> Found:
    async def read() -> Found:
        async with AsyncPHIClient(endpoint_url=endpoint_url, **options) as client:
            results = await client.job(JOB_ID).results()
            return {
                "documents": [
                    (found.input_key, found.output_key, [entity.text for entity in found.entities])
                    async for found in results
                ],
                "redacted": [pair async for pair in results.redacted()],
            }

    return asyncio.run(read())


@pytest.fixture(params=[read_with_client, read_with_async_client], ids=["sync", "async"])
def read_results(
    request: pytest.FixtureRequest, ended: str, clock: FakeClock
) -> Callable[..., Found]:
    """Return a function that reads the job's results with one of the clients."""
    read: Callable[..., Found] = request.param
    return partial(read, ended, clock=clock)


EXPECTED: Found = {
    "documents": [
        (f"notes/{path}", f"{FOLDER}{path}.out", [f"{number:04}"])
        for number, path in enumerate(AWKWARD)
    ],
    "redacted": [(f"notes/{path}", "> [ID]\r\n") for path in AWKWARD],
}


@pytest.mark.parametrize("transport", ["auto", "obstore", "boto3"])
def test_both_transports_give_the_same_results(
    read_results: Callable[..., Found], s3: S3, transport: str
) -> None:
    assert read_results(s3_transport=transport) == EXPECTED
    agents = {agent for key in (PLAIN, "notes/plain.txt") for agent in s3.agents(key)}
    assert agents == {"boto3" if transport == "boto3" else "obstore"}
    assert s3.agents(f"{FOLDER}Manifest") == ["boto3"]


def test_results_are_the_same_without_obstore(
    read_results: Callable[..., Found], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert read_results() == EXPECTED
    assert {agent for _, agent, _ in s3.asked} == {"boto3"}


def test_obstore_is_used_with_a_config(read_results: Callable[..., Found], s3: S3) -> None:
    assert read_results(config=Config(read_timeout=30)) == EXPECTED
    assert set(s3.agents(PLAIN)) == {"obstore"}


def test_an_s3_client_of_the_user_is_used(read_results: Callable[..., Found], s3: S3) -> None:
    theirs: Any = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
    assert read_results(s3_client=theirs) == EXPECTED
    assert {agent for _, agent, _ in s3.asked} == {"boto3"}
    theirs.close()


@pytest.mark.parametrize("session", [None, boto3.Session("of-the-session", "secret")])
def test_obstore_signs_with_the_credentials_of_the_session(
    read_results: Callable[..., Found], s3: S3, session: Any
) -> None:
    read_results(session=session, region_name="us-east-1")
    keys = {access_key for _, agent, access_key in s3.asked if agent == "obstore"}
    assert keys == {"of-the-session" if session else "testing"}


def test_obstore_keeps_the_default_session_that_built_the_client(
    ended: str, s3: S3, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = boto3.Session("the-first", "secret", region_name="us-east-1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", first)
    with PHIClient(endpoint_url=ended, clock=clock) as client:
        results = client.job(JOB_ID).results()
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session("a-later-one", "secret"))
        assert len(list(results)) == len(AWKWARD)
    assert {access_key for _, _, access_key in s3.asked} == {"the-first"}


@pytest.mark.parametrize("attempts", [1, 2, 4])
@pytest.mark.parametrize("transport", ["auto", "boto3"])
def test_only_the_policy_decides_how_often_an_object_is_requested(
    read_results: Callable[..., Found], s3: S3, transport: str, attempts: int
) -> None:
    s3.busy[PLAIN] = 99
    with pytest.raises(IncompleteResultsError) as caught:
        read_results(s3_transport=transport, retry=RetryPolicy(max_attempts=attempts))
    [reason] = caught.value.failed.values()
    assert reason.startswith("ThrottlingException: ")
    assert ("1 attempt)" if attempts == 1 else f"{attempts} attempts)") in reason
    assert len(s3.agents(PLAIN)) == attempts


@pytest.mark.parametrize("transport", ["auto", "boto3"])
def test_a_client_logs_the_reason_once(
    ended: str,
    s3: S3,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    transport: S3Transport,
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    once = RetryPolicy(max_attempts=1)
    with PHIClient(endpoint_url=ended, clock=clock, retry=once, s3_transport=transport) as client:
        for _ in range(2):
            assert len(list(client.job(JOB_ID).results())) == len(AWKWARD)
    reasons = [message for message in caplog.messages if "boto3 alone" in message]
    assert len(reasons) == (1 if transport == "auto" else 0)


def outcome(read: Callable[[], object]) -> tuple[str, str, object]:
    """Return the error of a failed reading without the number of attempts."""
    with pytest.raises(ComprehendPHIError) as caught:
        read()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    message = re.sub(r"\d+ attempts?", "some attempts", str(error))
    return type(error).__name__, message, getattr(error, "key", None)


def damage(s3: S3, what: str) -> None:
    if what.startswith("lost "):
        del s3.objects[FOLDER + what.removeprefix("lost ")]
    elif what == "denied":
        s3.denied.add(PLAIN)
    elif what == "busy":
        s3.busy[PLAIN] = 99
    else:
        s3.objects[PLAIN] = b"Patient"


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("lost plain.txt.out", "IncompleteResultsError", "plain.txt.out"),
        ("lost a b.txt.out", "IncompleteResultsError", "a b.txt.out"),
        ("lost ./a.out", "IncompleteResultsError", "./a.out"),
        ("lost success", "IncompleteResultsError", "success"),
        ("lost Manifest", "LostManifestError", "Manifest"),
        ("denied", "IncompleteResultsError", "s3:ListBucket"),
        ("busy", "IncompleteResultsError", PLAIN),
        ("broken", "IncompleteResultsError", PLAIN),
    ],
)
def test_both_transports_raise_the_same_errors(
    read_results: Callable[..., Found], s3: S3, what: str, kind: str, words: str
) -> None:
    damage(s3, what)
    policy = RetryPolicy(max_attempts=3)
    expected = outcome(lambda: read_results(retry=policy))
    s3.busy.clear()
    if what == "busy":
        damage(s3, what)
    assert outcome(lambda: read_results(retry=policy, s3_transport="boto3")) == expected
    assert expected[0] == kind
    assert words in expected[1]


def failures(read: Callable[[], object]) -> tuple[str, Mapping[str, str], tuple[str, ...], str]:
    """Return the class and the notes of an `IncompleteResultsError`, and its message."""
    with pytest.raises(IncompleteResultsError) as caught:
        read()
    error = caught.value
    return type(error).__name__, error.failed, error.missing, str(error)


def test_a_backoff_that_the_timeout_cannot_hold_changes_no_error(
    ended: str, s3: S3, clock: FakeClock
) -> None:
    """The policy leaves no time for a second attempt, and boto3 needs none after obstore."""
    del s3.objects[PLAIN], s3.objects["notes/deep/er/note.txt"]
    s3.denied.add(f"{FOLDER}a b.txt.out")
    policy = RetryPolicy(timeout=0.05, base_delay=10.0)

    def read(transport: S3Transport) -> None:
        client = PHIClient(endpoint_url=ended, clock=clock, retry=policy, s3_transport=transport)
        with client:
            list(client.job(JOB_ID).results().redacted())

    auto, boto3_alone = failures(lambda: read("auto")), failures(lambda: read("boto3"))

    assert auto == boto3_alone
    _, failed, missing, _ = auto
    assert missing == (PLAIN,)
    assert {key: reason.partition(":")[0] for key, reason in failed.items()} == {
        "notes/plain.txt": "MissingObjectError",
        "notes/deep/er/note.txt": "SourceChangedError",
        "notes/a b.txt": "UnreadableObjectError",
    }
    assert "obstore" in {agent for _, agent, _ in s3.asked}


def test_missing_credentials_are_the_same_error_with_each_transport(
    ended: str, s3: S3, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Any = boto3.client(
        "comprehendmedical", endpoint_url=ended, config=Config(retries={"total_max_attempts": 1})
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    outcomes: set[tuple[str, str, object]] = set()
    transports: list[S3Transport] = ["auto", "boto3", "obstore"]
    for transport in transports:
        with PHIClient(
            client=service, session=boto3.Session(), clock=clock, s3_transport=transport
        ) as client:
            results = client.job(JOB_ID).results()
            outcomes.add(outcome(partial(getattr, results, "manifest")))
    assert {kind for kind, _, _ in outcomes} == {"TransportError"}
    assert len(outcomes) == 1
    assert s3.asked == []
    service.close()


@pytest.mark.parametrize("client_class", [PHIClient, AsyncPHIClient])
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (
            {"s3_transport": "carrier pigeon"},
            RequestValidationError,
            "PHIClient.s3_transport (S3Transport) must be 'auto', 'boto3' or 'obstore'",
        ),
        (
            {"s3_transport": "obstore", "s3_client": True},
            TypeError,
            "s3_transport='obstore' cannot use s3_client=; leave one of them out",
        ),
    ],
)
def test_an_impossible_transport_is_refused_by_the_constructor(
    client_class: Callable[..., Any], options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    s3: Any = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
    if "s3_client" in options:
        options = {**options, "s3_client": s3}
    with pytest.raises(kind) as caught:
        client_class(**options)
    assert str(caught.value) == words
    s3.close()


@pytest.mark.parametrize("client_class", [PHIClient, AsyncPHIClient])
def test_obstore_can_be_required_only_if_it_is_installed(
    client_class: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        TransportError, match="the extra `fast` of comprehend_phi installs"
    ) as caught:
        client_class(s3_transport="obstore")
    assert not caught.value.retryable


# --- With moto ------------------------------------------------------------------------------------


def test_boto3_reads_from_the_local_service_in_this_process(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    with local_service(clock=clock, job_seconds=60):
        s3: Any = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="notes/a.txt", Body=b"Patient: Ada Example, seen.")
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key="notes"),
            output_data_config=OutputDataConfig(s3_bucket=BUCKET, s3_key="results"),
            data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
            kms_key="alias/notes",
        )
        with (
            PHIClient(clock=clock) as client,
            PHIClient(clock=clock, s3_transport="obstore") as strict,
        ):
            job = client.submit(request)
            job.wait()
            assert [text for _, text in job.results().redacted()] == ["Patient: [NAME], seen."]
            with pytest.raises(TransportError, match="moto's mocks"):
                _ = strict.job(job.job_id).results().manifest
        s3.close()
    assert [message for message in caplog.messages if "boto3 alone" in message] == [
        "GetObject: S3 is read through boto3 alone: boto3's responses do not come from the network"
        f" (moto's mocks, for example) (job_id={job.job_id})"
    ]


# --- A whole program ------------------------------------------------------------------------------

PROGRAM = """
import sys
from comprehend_phi import PHIClient

assert "moto" not in sys.modules
with PHIClient(s3_transport="obstore") as client:
    results = client.job(sys.argv[1]).results()
    print(len(list(results)), len(list(results.redacted())))
"""


def test_a_program_reads_through_obstore_and_exits_quietly(ended: str, s3: S3) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", PROGRAM, JOB_ID],
        env={**os.environ, "AWS_ENDPOINT_URL_COMPREHENDMEDICAL": ended},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(len(AWKWARD))] * 2
    assert set(s3.agents(PLAIN)) == {"obstore"}

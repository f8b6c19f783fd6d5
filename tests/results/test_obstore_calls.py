"""Objects that are written through obstore: what it sends, and when boto3 writes instead."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSHTTPSConnectionPool, AWSResponse
from botocore.config import Config

from comprehend_phi import ClientClosedError, RetryPolicy, ServiceError
from comprehend_phi._results.new_object import NewObject
from comprehend_phi._results.obstore_setup import LastExchange, build_writing_store
from comprehend_phi._results.obstore_storage import ObstoreCalls
from comprehend_phi.testing import FakeClock, LocalServer

from ..conftest import KEY, Serving
from ..s3_server import LOST, RESET, S3Fault, S3Request, S3Server, refused

NO_RETRIES = Config(retries={"total_max_attempts": 1})
UNUSABLE = S3Fault(answer=(200, b""))  # no ETag


def new_object(key: str = "a", **fields: Any) -> NewObject:
    members: dict[str, Any] = {
        "bucket": "a-bucket",
        "body": b"text",
        "replaces": None,
        "metadata": {"comprehend-phi-sha256": "0" * 64},
        "kms_key": None,
        "content_type": "text/plain; charset=utf-8",
        **fields,
    }
    return NewObject(key=key, **members)


def agent(request: S3Request) -> str:
    return "obstore" if request.headers["user-agent"].endswith(" obstore") else "boto3"


@pytest.fixture(scope="module")
def module_server(serving: Serving) -> Iterator[S3Server]:
    with LocalServer(clock=FakeClock()) as server:
        s3_server = S3Server(server.storage)
        with serving(s3_server):
            yield s3_server


@pytest.fixture(scope="module")
def client(module_server: S3Server) -> Iterator[Any]:
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    client = session.client("s3", endpoint_url=module_server.url, config=NO_RETRIES)
    for name in ("a-bucket", "another-bucket"):
        client.create_bucket(Bucket=name)
    yield client
    client.close()


@pytest.fixture
def s3_server(module_server: S3Server, client: Any) -> S3Server:
    module_server.rules.clear()
    for bucket in ("a-bucket", "another-bucket"):
        for each in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=each["Key"])
    module_server.requests.clear()
    return module_server


Open = Callable[..., ObstoreCalls]


@pytest.fixture
def open_s3(client: Any, clock: FakeClock) -> Open:
    """Open S3 for writing as a client does."""

    def open_s3(
        connect: Callable[[str], Any] = lambda _: client, policy: RetryPolicy | None = None
    ) -> ObstoreCalls:
        last = LastExchange()
        client.meta.events.register_last("before-send.s3", last.record_request)
        client.meta.events.register("needs-retry.s3", last.record_response)
        session: Any = boto3.Session("testing", "testing")
        return ObstoreCalls(
            connect, policy or RetryPolicy(max_attempts=3), clock, session=session, last=last
        )

    return open_s3


@pytest.fixture
def calls(open_s3: Open, s3_server: S3Server) -> ObstoreCalls:
    """S3, where boto3 has already written an object."""
    calls = open_s3()
    calls.put(new_object("first"))
    s3_server.requests.clear()
    return calls


def agents(s3_server: S3Server) -> list[tuple[str, str]]:
    """Return the key of each request to write, and what has sent it."""
    return [
        (request.key, agent(request))
        for request in s3_server.requests
        if request.operation == "PutObject"
    ]


# --- What is sent ---------------------------------------------------------------------------------


def test_boto3_writes_the_first_object_of_a_bucket_and_a_kms_key_and_obstore_the_others(
    s3_server: S3Server, open_s3: Open
) -> None:
    calls = open_s3()
    places: list[dict[str, Any]] = [
        {},
        {"kms_key": KEY},
        {"bucket": "another-bucket"},
    ]
    for number, place in enumerate(places):
        for key in ("a", "b", "c"):
            calls.put(new_object(f"{number}/{key}", **place))
    assert [sent for _, sent in agents(s3_server)] == ["boto3", "obstore", "obstore"] * 3


@pytest.mark.parametrize("kms_key", [None, KEY])
@pytest.mark.parametrize("replaces", [None, '"0123456789abcdef0123456789abcdef"'])
def test_obstore_sends_what_boto3_sends(
    s3_server: S3Server, open_s3: Open, kms_key: str | None, replaces: str | None
) -> None:
    s3_server.rules.append(
        lambda request: refused("PreconditionFailed", 412) if request.key == "b" else None
    )
    calls = open_s3(policy=RetryPolicy(max_attempts=2))
    calls.put(new_object("a", kms_key=kms_key))
    with pytest.raises(ServiceError):
        calls.put(new_object("b", kms_key=kms_key, replaces=replaces))
    by_obstore, by_boto3 = s3_server.requests[1:]
    assert (agent(by_obstore), agent(by_boto3)) == ("obstore", "boto3")
    assert (by_obstore.bucket, by_obstore.body) == (by_boto3.bucket, by_boto3.body)
    # How they sign and how they send a checksum differs, and what describes the program.
    differing = (
        "accept",
        "amz-sdk",
        "authorization",
        "connection",
        "expect",
        "user-agent",
        "x-amz-checksum",
        "x-amz-date",
        "x-amz-sdk",
    )
    sent = [
        {name: value for name, value in each.headers.items() if not name.startswith(differing)}
        for each in (by_obstore, by_boto3)
    ]
    assert sent[0] == sent[1]
    assert "x-amz-content-sha256" in sent[0]
    assert "x-amz-checksum-sha256" in by_obstore.headers


def test_obstore_replaces_objects_if_boto3_has_replaced_one(
    s3_server: S3Server, open_s3: Open, client: Any
) -> None:
    etags = [
        client.put_object(Bucket="a-bucket", Key=key, Body=b"old")["ETag"] for key in ("a", "b")
    ]
    s3_server.requests.clear()
    calls = open_s3()
    for key, etag in zip(("a", "b"), etags, strict=True):
        calls.put(new_object(key, body=b"new", replaces=etag))
    assert agents(s3_server) == [("a", "boto3"), ("b", "obstore")]
    assert [request.headers["if-match"] for request in s3_server.requests] == etags


def test_an_object_over_5_mib_is_one_request(s3_server: S3Server, calls: ObstoreCalls) -> None:
    body = bytes(6 * 1024 * 1024)  # obstore would split it, and multipart uploads have no condition
    calls.put(new_object("large", body=body))
    assert agents(s3_server) == [("large", "obstore")]
    assert s3_server.requests[0].body == body


# --- When boto3 writes ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "./a", "a/../b", "a\x01"])
def test_boto3_writes_keys_that_obstore_would_change(
    s3_server: S3Server, calls: ObstoreCalls, key: str
) -> None:
    s3_server.rules.append(lambda _: UNUSABLE)
    with pytest.raises(Exception, match="no ETag"):
        calls.put(new_object(key))
    assert {sent for _, sent in agents(s3_server)} == {"boto3"}


def test_a_failed_write_of_boto3_does_not_set_obstore_up(
    s3_server: S3Server, open_s3: Open
) -> None:
    calls = open_s3()
    s3_server.script("PutObject", refused("AccessDenied", 403))
    with pytest.raises(ServiceError):
        calls.put(new_object("a"))
    calls.put(new_object("b"))
    assert [sent for _, sent in agents(s3_server)] == ["boto3"] * 2


def test_a_closed_client_writes_nothing_through_obstore(
    s3_server: S3Server, open_s3: Open, client: Any
) -> None:
    closed = False

    def connect(operation: str) -> Any:
        if closed:
            raise ClientClosedError(operation=operation)
        return client

    calls = open_s3(connect)
    calls.put(new_object("a"))
    closed = True
    with pytest.raises(ClientClosedError):
        calls.put(new_object("b"))
    assert agents(s3_server) == [("a", "boto3")]


def test_a_fork_writes_through_boto3_and_logs_it_once(
    s3_server: S3Server,
    calls: ObstoreCalls,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    for key in ("a", "b"):
        calls.put(new_object(key))
    assert agents(s3_server) == [("a", "boto3"), ("b", "boto3")]
    assert caplog.messages == [
        "PutObject: S3 is written through boto3 alone: this process was forked, and obstore's"
        " threads exist only in its parent"
    ]


def test_a_failure_of_obstore_is_logged_without_its_message(
    s3_server: S3Server, calls: ObstoreCalls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "comprehend_phi")
    s3_server.script("PutObject", refused("OperationAborted", 409))
    calls.put(new_object("zinnia"))
    assert agents(s3_server) == [("zinnia", "obstore"), ("zinnia", "boto3")]
    assert caplog.messages == [
        "PutObject: obstore cannot write an object (AlreadyExistsError), so boto3 tries"
    ]


@pytest.mark.parametrize(
    "faults",
    [[RESET], [UNUSABLE], [LOST, refused("PreconditionFailed", 412)]],
    ids=["reset", "unusable", "lost"],
)
def test_obstore_no_longer_writes_after_boto3_repaired_three_failures_in_a_row(
    s3_server: S3Server,
    calls: ObstoreCalls,
    caplog: pytest.LogCaptureFixture,
    faults: list[S3Fault],
) -> None:
    for number in range(3):
        s3_server.script("PutObject", *faults)
        # `S3Objects` finds out what a lost response means.
        with suppress(ServiceError):
            calls.put(new_object(f"{number}"))
    assert [sent for _, sent in agents(s3_server)] == ["obstore", "boto3"] * 3
    calls.put(new_object("a"))
    assert agents(s3_server)[-1] == ("a", "boto3")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "PutObject: obstore failed 3 times in a row, and boto3 then succeeded: S3 is written"
        " through boto3 alone from now on"
    ]


def test_obstore_still_writes_after_s3_has_refused_objects(
    s3_server: S3Server, calls: ObstoreCalls
) -> None:
    for number in range(4):
        s3_server.script("PutObject", *[refused("PreconditionFailed", 412)] * 2)
        with pytest.raises(ServiceError) as caught:
            calls.put(new_object(f"{number}"))
        assert not caught.value.outcome_unknown
    assert [sent for _, sent in agents(s3_server)] == ["obstore", "boto3"] * 4


# --- The settings of boto3 ------------------------------------------------------------------------


def answer(request: Any, **_: Any) -> AWSResponse:
    """Handle `before-send` and return the response, so that nothing is sent."""
    return AWSResponse(request.url, 200, {"ETag": "1"}, _Empty())  # type: ignore[arg-type] # botocore's stub wants a subclass


class _Empty:
    def stream(self) -> Iterator[bytes]:
        return iter([b""])


def difference(
    new: NewObject, *handler: Any, url: str = "http://s3.example", **options: Any
) -> object:
    """Return a store for writing like boto3, or the reason why there is none."""
    last = LastExchange()
    session: Any = boto3.Session("testing", "testing", region_name="eu-west-2")
    if handler:
        session.events.register(*handler)
    client = session.client("s3", endpoint_url=url, config=Config(**options))
    client.meta.events.register("before-send.s3", answer)
    client.meta.events.register_last("before-send.s3", last.record_request)
    new.send(client)
    client.close()
    last.connection = AWSHTTPSConnectionPool("s3.example")
    return build_writing_store(last, new, client.meta.config, session)


@pytest.mark.parametrize("kms_key", [None, KEY])
@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_obstore_sends_a_checksum_if_boto3_does(kms_key: str | None, checksums: str) -> None:
    store: Any = difference(new_object(kms_key=kms_key), request_checksum_calculation=checksums)
    expected = "sha256" if checksums == "when_supported" else None
    assert store.config.get("checksum_algorithm") == expected
    assert store.config.get("sse_kms_key_id") == kms_key


def add_header(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["X-Amz-Tagging"] = "name=Zinnia"


def change_header(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["Content-Type"] = "text/html"


def drop_condition(params: dict[str, Any], **_: Any) -> None:
    del params["headers"]["If-None-Match"]


def encrypt(params: dict[str, Any], **_: Any) -> None:
    params["Body"] = b"encrypted " + params["Body"]


def compress(params: dict[str, Any], **_: Any) -> None:
    params["ContentEncoding"] = "gzip"


def add_query(request: Any, **_: Any) -> None:
    request.url += "?tagging"


DIFFERENCES: dict[str, tuple[tuple[str, Any], str]] = {
    "a header": (("before-call.s3", add_header), "boto3 sends the header x-amz-tagging"),
    "another value": (
        ("before-call.s3", change_header),
        "boto3 does not send the header content-type as it was told to",
    ),
    "no condition": (
        ("before-call.s3", drop_condition),
        "boto3 does not send the header if-none-match as it was told to",
    ),
    "another body": (
        ("provide-client-params.s3", encrypt),
        "boto3 sends another body than it was told to",
    ),
    "an encoding": (("provide-client-params.s3", compress), "boto3 encodes what it sends"),
    "a query": (("before-sign.s3", add_query), "boto3's URL contains more than the key"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_obstore_does_not_write_if_boto3_does_what_obstore_cannot(name: str) -> None:
    handler, reason = DIFFERENCES[name]
    assert difference(new_object(), *handler) == reason


@pytest.mark.parametrize(
    "name",
    ["AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_BUCKET_KEY_ENABLED", "AWS_CHECKSUM_ALGORITHM"],
)
def test_obstore_does_not_write_if_a_variable_of_obstore_would_change_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "true")
    assert difference(new_object()) == f"{name} is set"


def test_no_variable_of_obstore_switches_its_conditions_off(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, open_s3: Open
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    calls = open_s3()
    calls.put(new_object("a"))
    calls.put(new_object("b"))
    first, second = s3_server.requests
    assert (agent(second), second.headers["if-none-match"]) == ("obstore", "*")
    assert first.headers["if-none-match"] == "*"


def test_obstore_does_not_write_if_responses_do_not_come_from_the_network() -> None:
    last = LastExchange()
    assert str(build_writing_store(last, new_object(), Config(), None)).startswith("obstore cannot")

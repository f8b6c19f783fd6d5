"""With the extra `fast`, results come through obstore: the same results and the same errors.

The clients run in processes of their own, since moto, which the server here needs, keeps them from
using obstore; the storage below them is tried in this process.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any, cast
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import RetryPolicy, ThrottlingException
from comprehend_phi._storage import ObstoreStorage
from comprehend_phi.testing import FakeClock, LocalServer, faults

pytest.importorskip("obstore", reason="the extra `fast` is not installed")

BUCKET = "a-bucket"
JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"results/123456789012-PHIDetection-{JOB_ID}/"

# obstore normalises paths as its own store sees fit; S3 takes each of these as it is, and the
# second of a pair must never be read in the place of the first.
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
    "~tilde*star?question#hash",
    "Été/病歴.txt",
    "cafe\u0301.txt",
    "\U0001f600",
    "back\\slash",
    "[{<'\"^`|>}]",
]

PROGRAM = """
import json, sys
import boto3
from botocore.config import Config
from comprehend_phi import ComprehendPHIError, PHIClient, RetryPolicy

how = sys.argv[1]
if "without" in how:
    sys.modules["obstore"] = None  # as where it is not installed
options = {}
if how == "s3_client":
    options["s3_client"] = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))
elif how == "config":
    options["config"] = Config(read_timeout=30)
elif how == "session":
    options["session"] = boto3.Session("of-the-session", "secret")
elif how == "moto":
    import moto
elif "client" in how:
    options["client"] = boto3.client(
        "comprehendmedical",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
told = {"documents": [], "redacted": [], "error": None}
try:
    with PHIClient(retry=RetryPolicy(max_attempts=1), **options) as client:
        results = client.job(sys.argv[2]).results()
        for document in results:
            texts = [entity.text for entity in document.entities]
            told["documents"].append([document.input_key, document.output_key, texts])
        told["redacted"] = list(results.redacted())
except ComprehendPHIError as error:
    told["error"] = [type(error).__name__, str(error), getattr(error, "key", None)]
    told["chained"] = error.__cause__ is not None or error.__context__ is not None
print(json.dumps(told))
"""


class S3(socketserver.ThreadingTCPServer):
    """The objects of a dict over HTTP; notes who asked.

    Attributes:
        objects: the bytes of each key.
        asked: the key, the user agent's first word and the access key id of every GET.
        buckets: the bucket that each of these was for.
        scopes: the region and the service that each of these was signed for.
        busy: how often a key is yet to be answered with "slow down".
        denied: the keys that nobody may read.
        cut: the keys whose bodies end early, for obstore only.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.buckets: list[str] = []
        self.scopes: list[str] = []
        self.busy: dict[str, int] = {}
        self.cut: set[str] = set()
        self.denied: set[str] = set()

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
            _, bucket, key = unquote(request.split()[1].decode()).split("/", 2)
            agent = "boto3" if "boto" in headers["user-agent"].lower() else "obstore"
            credential = headers["authorization"].partition("Credential=")[2].split("/")
            s3.asked.append((key, agent, credential[0]))
            s3.buckets.append(bucket)
            s3.scopes.append("/".join(credential[2:4]))
            body = s3.objects.get(key)
            status = 200
            if s3.busy.get(key):
                s3.busy[key] -= 1
                status, body = 503, b"<Error><Code>SlowDown</Code></Error>"
            elif key in s3.denied:
                status, body = 403, b"<Error><Code>AccessDenied</Code></Error>"
            elif body is None:
                status, body = 404, b"<Error><Code>NoSuchKey</Code></Error>"
            length = len(body)
            # obstore asks for these two.
            more = 'Last-Modified: Thu, 02 Jan 2031 03:04:05 GMT\r\nETag: "0"\r\n'
            head = f"HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{more}\r\n".encode()
            if key in s3.cut and agent == "obstore":
                self.wfile.write(head + body[:9])
                return
            self.wfile.write(head + body)


@pytest.fixture(scope="module")
def s3_server(serving: Callable[[S3], AbstractContextManager[None]]) -> Iterator[S3]:
    server = S3()
    with serving(server):
        yield server


@pytest.fixture
def s3(s3_server: S3) -> S3:
    """An S3 with a job whose paths are awkward, each document and each source of its own text."""
    s3 = s3_server
    s3.asked.clear()
    s3.cut.clear()
    s3.denied.clear()
    s3.busy.clear()
    s3.buckets.clear()
    s3.scopes.clear()
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


@pytest.fixture
def storage(s3: S3, clock: FakeClock) -> Iterator[ObstoreStorage]:
    """Reads from `s3` in this process, where no client would: moto is in it."""
    session: Any = boto3.Session("testing", "testing", region_name="eu-west-2")
    # Only our retries, which wait by the fake clock; botocore's would really sleep.
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=7)
    url = f"http://127.0.0.1:{s3.server_address[1]}"
    client = session.client("s3", endpoint_url=url, config=config)
    yield ObstoreStorage(client, RetryPolicy(max_attempts=3), clock, session=session)
    client.close()


PLAIN = f"{FOLDER}plain.txt.out"


def test_an_object_is_read_by_obstore_alone(s3: S3, storage: ObstoreStorage) -> None:
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    assert storage.read(BUCKET, "notes/plain.txt").body == s3.objects["notes/plain.txt"]
    assert [(key, agent) for key, agent, _ in s3.asked] == [
        (PLAIN, "obstore"),
        ("notes/plain.txt", "obstore"),
    ]


def test_an_object_says_when_it_was_written(storage: ObstoreStorage) -> None:
    written = storage.read(BUCKET, PLAIN).last_modified
    assert written == datetime(2031, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def test_obstore_signs_for_the_region_of_the_client(s3: S3, storage: ObstoreStorage) -> None:
    storage.read(BUCKET, PLAIN)
    assert s3.scopes == ["eu-west-2/s3"]


def test_each_bucket_is_asked_for_its_own_objects(s3: S3, storage: ObstoreStorage) -> None:
    for bucket in (BUCKET, "another-bucket", BUCKET):
        storage.read(bucket, PLAIN)
    assert s3.buckets == [BUCKET, "another-bucket", BUCKET]
    assert s3.agents(PLAIN) == ["obstore"] * 3


def test_as_many_objects_as_connections_are_fetched_at_a_time(storage: ObstoreStorage) -> None:
    assert storage.connections == 7


def test_what_obstore_cannot_read_boto3_reads_with_its_retries(
    s3: S3, storage: ObstoreStorage, clock: FakeClock
) -> None:
    s3.busy[PLAIN] = 3
    assert storage.read(BUCKET, PLAIN).body == s3.objects[PLAIN]
    # obstore's own retries would be beside ours, and would really sleep.
    assert s3.agents(PLAIN) == ["obstore", "boto3", "boto3", "boto3"]
    assert len(clock.sleeps) == 2


def test_what_boto3_cannot_read_either_is_its_error(
    s3: S3, storage: ObstoreStorage, clock: FakeClock
) -> None:
    s3.busy[PLAIN] = 99
    with pytest.raises(ThrottlingException) as caught:
        storage.read(BUCKET, PLAIN)
    assert caught.value.operation == "GetObject"
    assert s3.agents(PLAIN) == ["obstore", "boto3", "boto3", "boto3"]
    assert len(clock.sleeps) == 2


Run = Callable[..., Any]


@pytest.fixture
def run(server: LocalServer, s3: S3) -> Run:
    """Reads the results in a process of its own; returns what the program tells."""

    def run(how: str = "with", **environment: str) -> Any:
        job = {
            "JobId": JOB_ID,
            "JobStatus": "COMPLETED",
            "InputDataConfig": {"S3Bucket": BUCKET, "S3Key": "notes"},
            "OutputDataConfig": {"S3Bucket": BUCKET, "S3Key": FOLDER},
        }
        body = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
        server.service.script(faults.answer(200, body), operation="DescribePHIDetectionJob")
        done = subprocess.run(  # the program is ours
            [sys.executable, "-W", "error", "-c", PROGRAM, how, JOB_ID],
            env={
                **os.environ,
                "AWS_ENDPOINT_URL_COMPREHENDMEDICAL": server.endpoint_url,
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{s3.server_address[1]}",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run


def expected() -> Any:
    return {
        "documents": [
            [f"notes/{path}", f"{FOLDER}{path}.out", [f"{number:04}"]]
            for number, path in enumerate(AWKWARD)
        ],
        "redacted": [[f"notes/{path}", "> [ID]\r\n"] for path in AWKWARD],
        "error": None,
    }


@pytest.mark.parametrize("how", ["with", "without"])
def test_results_are_the_same_with_and_without_obstore(run: Run, how: str) -> None:
    assert run(how) == expected()


def test_obstore_fetches_what_it_can_spell(run: Run, s3: S3) -> None:
    run()
    plain = [f"{FOLDER}plain.txt.out", "notes/plain.txt", f"{FOLDER}deep/er/note.txt.out"]
    assert {agent for key in plain for agent in s3.agents(key)} == {"obstore"}
    assert s3.agents(f"{FOLDER}Manifest") == ["obstore"]


@pytest.mark.parametrize("how", ["without", "s3_client", "config", "moto"])
def test_obstore_is_not_used(run: Run, s3: S3, how: str) -> None:
    assert run(how) == expected()
    assert {agent for _, agent, _ in s3.asked} == {"boto3"}


@pytest.mark.parametrize(
    ("how", "access_key"), [("with", "testing"), ("session", "of-the-session")]
)
def test_obstore_signs_with_the_credentials_of_the_session(
    run: Run, s3: S3, how: str, access_key: str
) -> None:
    run(how)
    assert {(agent, key) for _, agent, key in s3.asked if agent == "obstore"} == {
        ("obstore", access_key)
    }


@pytest.mark.parametrize("lost", ["plain.txt.out", "a b.txt.out", "./a.out", "success", "Manifest"])
def test_a_missing_key_gives_the_same_error(run: Run, s3: S3, lost: str) -> None:
    del s3.objects[FOLDER + lost]
    told = run()
    assert told == run("without")
    assert told["error"][0] == (
        "LostManifestError" if lost == "Manifest" else "IncompleteResultsError"
    )
    assert lost in told["error"][1]
    assert not told["chained"]


def test_a_denied_key_gives_the_same_error(run: Run, s3: S3) -> None:
    s3.denied.add(f"{FOLDER}plain.txt.out")
    told = run()
    assert told == run("without")
    assert told["error"][0] == "UnreadableObjectError"
    assert "s3:ListBucket" in told["error"][1]
    assert not told["chained"]


def test_a_broken_document_gives_the_same_error(run: Run, s3: S3) -> None:
    s3.objects[f"{FOLDER}plain.txt.out"] = b"Patient"
    told = run()
    assert told == run("without")
    assert told["error"][0] == "UnreadableObjectError"
    assert not told["chained"]


def test_a_body_that_is_cut_is_fetched_again(run: Run, s3: S3) -> None:
    key = f"{FOLDER}plain.txt.out"
    s3.cut.add(key)
    assert run() == expected()
    assert s3.agents(key)[:1] == ["obstore"]
    assert "boto3" in s3.agents(key)


def test_missing_credentials_give_the_same_error(run: Run, s3: S3) -> None:
    gone = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    told = run(**gone)
    assert told == run("without", **gone)
    assert told["error"][0] == "TransportError"
    assert s3.asked == []


def test_credentials_of_the_service_client_alone_give_the_same_error(run: Run) -> None:
    gone = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    told = run("client", **gone)
    assert told == run("client without", **gone)
    assert told["error"][0] == "TransportError"

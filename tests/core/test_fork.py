"""Clients in forked processes: nobody receives another process's answers, and nobody hangs.

Each test runs a program of its own, since Python warns of forks in processes with threads. Children
that hang are killed by an alarm.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")

DOCUMENTS = 60  # more than are fetched in advance
BUSY = "b" * 32
TIMEOUT = 120  # seconds, for a whole program on a slow machine


# --- The service ----------------------------------------------------------------------------------


class Service(ThreadingHTTPServer):
    """Knows every job id, each with results on its S3.

    Attributes:
        ports: by job id, the ports of the connections over which somebody asked about the job.
            Those over which somebody read from S3 are at `s3` and the job id.
        refused: the documents of the job `BUSY` that were asked for once, which was refused.
    """

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = self.url.replace("http:", "https:")
        self.ports: defaultdict[str, set[int]] = defaultdict(set)
        self.refused: set[str] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of processes that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        if operation == "DescribePHIDetectionJob":
            job = self.job(asked["JobId"])
            self.answer(asked["JobId"], {"ComprehendMedicalAsyncJobProperties": job})
        elif operation == "ListPHIDetectionJobs":
            page = int(asked.get("NextToken", "0"))
            jobs = [self.job(f"{2 * page + number:032x}") for number in (0, 1)]
            self.answer(
                "list",
                {
                    "ComprehendMedicalAsyncJobPropertiesList": jobs,
                    **({"NextToken": str(page + 1)} if page < 2 else {}),
                },
            )
        else:
            job_id = asked.get("JobId") or asked["ClientRequestToken"]
            self.answer(job_id, {"JobId": job_id})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = re.search("PHIDetection-([0-9a-f]{32})/", path)
        assert found is not None
        summary = {
            "Status": "COMPLETED",
            "SuccessfulFilesListLocation": "success",
            "UnprocessedFilesListLocation": "failed",
        }
        contents: dict[str, Any] = {
            "Manifest": {"Summary": summary},
            "success": {"Files": [f"{number}.txt" for number in range(DOCUMENTS)]},
            "failed": {"Files": []},
        }
        content: object = contents.get(path.rpartition("/")[2], {"Entities": []})
        assert isinstance(self.server, Service)
        refused = found.group(1) == BUSY and path not in self.server.refused
        if refused and path.endswith(".out") and not path.endswith("/0.txt.out"):
            self.server.refused.add(path)
            self.answer(f"s3 {BUSY}", {}, status=503)
        else:
            self.answer(f"s3 {found.group(1)}", content)

    def job(self, job_id: str) -> dict[str, Any]:
        folder = f"123456789012-PHIDetection-{job_id}/"
        return {
            "JobId": job_id,
            "JobStatus": "COMPLETED",
            "InputDataConfig": {"S3Bucket": "notes"},
            "OutputDataConfig": {"S3Bucket": "results", "S3Key": folder},
        }

    def answer(self, about: str, content: object, status: int = 200) -> None:
        assert isinstance(self.server, Service)
        self.server.ports[about].add(self.client_address[1])
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 02 Jan 2031 03:04:05 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key and the certificate of a server at 127.0.0.1, as a PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server of the tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(
    request: pytest.FixtureRequest,
    serving: Callable[[Service], AbstractContextManager[None]],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    context = None
    if "scheme" in request.fixturenames and request.getfixturevalue("scheme") == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    server = Service(context)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    with serving(server):
        yield server


# --- The programs ---------------------------------------------------------------------------------

BEGIN = """
import asyncio, json, os, signal, sys, threading, time
import boto3
from botocore.config import Config
from comprehend_phi import (
    AsyncPHIClient, InputDataConfig, OutputDataConfig, PHIClient, StartPHIDetectionJobRequest,
)

PARENT, CHILD, GRANDCHILD = ("0" * 32, "1" * 32, "2" * 32)


def said_by(function):
    # A failure is what the process says, too.
    try:
        return function()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


class Forked:
    # A child that has begun a function.

    def __init__(self, function, *, ends=os._exit):
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._read)
            signal.alarm(30)
            answer = said_by(function)
            os.write(write, json.dumps(answer).encode())
            os.close(write)
            ends(0)
        os.close(write)

    def answer(self):
        with open(self._read, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(self._pid, 0)
        return f"killed by {-os.waitstatus_to_exitcode(status)}" if status else json.loads(answer)


def forked(function, **options):
    return Forked(function, **options).answer()


def request(token):
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="notes"),
        output_data_config=OutputDataConfig(s3_bucket="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
        client_request_token=token,
    )


def ask(client, job_id):
    # What each call comes to: the id that was asked for, or a number of documents.
    return [
        client.describe_phi_detection_job(job_id).job_id,
        client.submit(request(job_id)).job_id,
        client.job(job_id).wait().job_id,
        client.stop_phi_detection_job(job_id),
        len(list(client.results(job_id))),
    ]


def ask_async(client, job_id):
    async def main():
        return [
            (await client.describe_phi_detection_job(job_id)).job_id,
            (await client.submit(request(job_id))).job_id,
            (await client.job(job_id).wait()).job_id,
            await client.stop_phi_detection_job(job_id),
            len([document async for document in await client.results(job_id)]),
        ]

    return asyncio.run(main())


def tell(*answers):
    print(json.dumps(answers), flush=True)

"""
PARENT, CHILD, GRANDCHILD = ("0" * 32, "1" * 32, "2" * 32)


def answers(*job_ids: str) -> list[object]:
    return [[*[job_id] * 4, DOCUMENTS] for job_id in job_ids]


def run(source: str) -> Any:
    """What a program tells."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + source],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ASK = {
    "PHIClient": "client = PHIClient()",
    "AsyncPHIClient": "client = AsyncPHIClient(); ask = ask_async",
}


@pytest.mark.parametrize(
    ("scheme", "ends"), [("http", "os._exit"), ("https", "sys.exit")], indirect=["scheme"]
)
@pytest.mark.parametrize("client", ASK)
def test_each_process_has_connections_of_its_own(
    client: str, ends: str, scheme: str, service: Service
) -> None:
    told = run(f"""
{ASK[client]}
def child():
    mine = ask(client, CHILD)
    return mine, forked(lambda: ask(client, GRANDCHILD))

parent = ask(client, PARENT)
theirs = forked(child, ends={ends})
tell(parent, *theirs, ask(client, PARENT))
""")

    assert told == answers(PARENT, CHILD, GRANDCHILD, PARENT)
    seen: set[int] = set()
    for job_id in (PARENT, CHILD, GRANDCHILD):
        ports = service.ports[job_id] | service.ports[f"s3 {job_id}"]
        assert not ports & seen
        seen |= ports
    if client == "PHIClient":
        # The parent went on over the connection that it had before.
        assert len(service.ports[PARENT]) == 1


@pytest.mark.parametrize("client", ASK)
def test_many_children_at_a_time_have_connections_of_their_own(
    client: str, service: Service
) -> None:
    told = run(f"""
{ASK[client]}
ask(client, PARENT)
ids = [f"{{number + 1:032x}}" for number in range(4)]
children = [Forked(lambda job_id=job_id: ask(client, job_id)) for job_id in ids]
tell(*[child.answer() for child in children])
""")

    assert told == answers(*[f"{number + 1:032x}" for number in range(4)])


def test_a_pool_of_processes_works(service: Service) -> None:
    told = run("""
import multiprocessing
client = PHIClient()
ask(client, PARENT)
ask(client, PARENT)

def child(job_id):
    signal.alarm(30)
    return ask(client, job_id)

with multiprocessing.get_context("fork").Pool(2) as pool:
    tell(*pool.map(child, [CHILD, GRANDCHILD]))
""")

    assert told == answers(CHILD, GRANDCHILD)


def test_locks_that_a_thread_of_the_parent_held_do_not_stop_a_child(service: Service) -> None:
    told = run("""
building = threading.Event()
parent = os.getpid()

class Slow(boto3.Session):
    # Does not come to an end with the client for S3, in the parent.
    def client(self, service, *args, **options):
        if service == "s3" and os.getpid() == parent:
            building.set()
            time.sleep(3600)
        return super().client(service, *args, **options)

client = PHIClient(session=Slow())
threading.Thread(target=client.results, args=[PARENT], daemon=True).start()
building.wait()
tell(forked(lambda: ask(client, CHILD)))
sys.stdout.flush()
os._exit(0)
""")

    assert told == answers(CHILD)


ROLES = {
    "credentials": "credentials",
    "credentials that a role is assumed with": "assumed",
}


@pytest.mark.parametrize("what", ROLES)
def test_credentials_that_the_parent_is_refreshing_are_refreshed_by_a_child(
    what: str, service: Service
) -> None:
    told = run(f"""
from datetime import UTC, datetime, timedelta
import botocore.session
from botocore.credentials import RefreshableCredentials

parent = os.getpid()
refreshing = threading.Event()

def fresh():
    return {{
        "access_key": "AKID", "secret_key": "x", "token": None,
        "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }}

def refresh():
    if os.getpid() == parent:
        refreshing.set()
        time.sleep(3600)
    return fresh()

def expired(refresh):
    past = datetime.now(UTC) - timedelta(hours=1)
    return RefreshableCredentials("AKID", "x", None, past, refresh, "test")

class Role:
    # As botocore's AssumeRoleCredentialFetcher.
    def __init__(self, source):
        self._source_credentials = source

    def fetch(self):
        self._source_credentials.get_frozen_credentials()
        return fresh()

credentials = expired(refresh)
assumed = expired(Role(credentials).fetch)
session = botocore.session.get_session()
session._credentials = {ROLES[what]}
client = PHIClient(session=boto3.Session(botocore_session=session))
threading.Thread(target=client.describe_phi_detection_job, args=[PARENT], daemon=True).start()
refreshing.wait()
tell(forked(lambda: ask(client, CHILD)))
os._exit(0)
""")

    assert told == answers(CHILD)


# --- What was begun before the fork ---------------------------------------------------------------


def test_what_was_opened_before_the_fork_is_read_in_both_processes(service: Service) -> None:
    told = run("""
client = PHIClient()
results = client.results(PARENT)
opened = iter(results)
begun = iter(results)
for _ in range(5):
    next(begun)
jobs = client.list_phi_detection_jobs()
next(jobs)

def read():
    return [len(list(each)) for each in (results, opened, begun, jobs)]

def close():
    begun.close()
    return "closed"

tell(forked(close), forked(read), read())
""")

    assert told == ["closed", *[[DOCUMENTS, DOCUMENTS, DOCUMENTS - 5, 5]] * 2]


def test_what_was_opened_before_the_fork_is_read_asynchronously_in_both_processes(
    service: Service,
) -> None:
    told = run("""
client = AsyncPHIClient()

async def begin():
    results = await client.results(PARENT)
    begun = results.__aiter__()
    for _ in range(5):
        await begun.__anext__()
    jobs = client.list_phi_detection_jobs()
    await jobs.__anext__()
    return results, begun, jobs

# asyncio.run would close what was begun.
loop = asyncio.new_event_loop()
results, *begun = loop.run_until_complete(begin())

async def count(items):
    return len([item async for item in items])

def in_a_new_loop():
    loop = asyncio.new_event_loop()
    return [loop.run_until_complete(count(each)) for each in (results, *begun)]

tell(forked(in_a_new_loop), [loop.run_until_complete(count(each)) for each in (results, *begun)])
""")

    assert told == [[DOCUMENTS, DOCUMENTS - 5, 5]] * 2


@pytest.mark.parametrize("client", ASK)
def test_what_the_threads_of_the_parent_were_fetching_is_fetched_again_by_a_child(
    client: str, service: Service
) -> None:
    told = run(f"""
parent = os.getpid()
asleep = threading.Event()

class Clock:
    # Does not wake up in the parent.
    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        asleep.set()
        if os.getpid() == parent:
            time.sleep(3600)

    async def sleep_async(self, seconds):
        await asyncio.sleep(seconds)

client = {client}(clock=Clock())
if isinstance(client, PHIClient):
    begun = iter(client.results("{BUSY}"))
    next(begun)
    read = lambda: len(list(begun))
else:
    loop = asyncio.new_event_loop()

    async def begin():
        documents = (await client.results("{BUSY}")).__aiter__()
        await documents.__anext__()
        return documents

    begun = loop.run_until_complete(begin())

    async def count():
        return len([document async for document in begun])

    read = lambda: asyncio.new_event_loop().run_until_complete(count())

asleep.wait()
tell(forked(read))
os._exit(0)
""")

    assert told == [DOCUMENTS - 1]


# --- Closing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ASK)
def test_closing_in_one_process_leaves_the_other_alone(client: str, service: Service) -> None:
    told = run(f"""
{ASK[client]}
close = client.close if ask.__name__ == "ask" else lambda: asyncio.run(client.close())
ask(client, PARENT)

def closed():
    close()
    return said_by(lambda: ask(client, CHILD))

def used_and_closed():
    ask(client, CHILD)
    close()
    return said_by(lambda: ask(client, CHILD))

children = [forked(closed), forked(used_and_closed)]
parent = ask(client, PARENT)
close()
tell(*children, parent, forked(lambda: ask(client, CHILD)))
""")

    refused = (
        "ClientClosedError: DescribePHIDetectionJob: this client is closed; build another one"
        " (1 attempt)."
    )
    assert told == [refused, refused, *answers(PARENT), refused]


# --- Clients that were handed in ------------------------------------------------------------------

HANDED_IN = {
    "client": 'client = {cls}(client=boto3.client("comprehendmedical", config=once))',
    "s3_client": 'client = {cls}(s3_client=boto3.client("s3", config=once))',
}


@pytest.mark.parametrize("cls", ASK)
@pytest.mark.parametrize("what", HANDED_IN)
def test_a_client_that_was_handed_in_is_refused_in_a_child_before_anything_is_sent(
    what: str, cls: str, service: Service
) -> None:
    told = run(f"""
once = Config(retries={{"total_max_attempts": 1}})
{HANDED_IN[what].format(cls=cls)}
ask = {{"PHIClient": ask, "AsyncPHIClient": ask_async}}["{cls}"]
parent = ask(client, PARENT)

def again():
    {HANDED_IN[what].format(cls=cls)}
    return ask(client, CHILD)

tell(parent, forked(lambda: ask(client, GRANDCHILD)), forked(again))
""")

    assert told == [
        *answers(PARENT),
        "ClientClosedError: DescribePHIDetectionJob: your boto3 client belongs to the process"
        " that this one was forked from; build the boto3 client and this client in each process"
        " (1 attempt).",
        *answers(CHILD),
    ]
    assert service.ports[GRANDCHILD] == set()


def test_results_that_were_opened_with_a_client_that_was_handed_in_are_refused_in_a_child(
    service: Service,
) -> None:
    told = run("""
once = Config(retries={"total_max_attempts": 1})
client = PHIClient(s3_client=boto3.client("s3", config=once))
results = client.results(PARENT)
begun = iter(results)
next(begun)
tell(*[forked(lambda each=each: len(list(each))) for each in (results, begun)])
""")

    for each in told:
        assert each.startswith(
            "ClientClosedError: results: your boto3 client belongs to the process that"
        )


# --- obstore --------------------------------------------------------------------------------------


@pytest.fixture
def _obstore() -> None:
    pytest.importorskip("obstore", reason="the extra `fast` is not installed")


@pytest.mark.usefixtures("_obstore")
class TestObstore:
    @pytest.mark.parametrize("client", ASK)
    def test_a_child_reads_through_boto3_what_its_parent_read_through_obstore(
        self, client: str, service: Service
    ) -> None:
        told = run(f"""
{ASK[client]}
parent = ask(client, PARENT)
used = "obstore" in sys.modules
tell(used, parent, forked(lambda: ask(client, CHILD)))
""")

        assert told == [True, *answers(PARENT, CHILD)]

    def test_a_child_says_so_in_its_log(self, service: Service) -> None:
        told = run("""
import logging
messages = []
class Keep(logging.Handler):
    def emit(self, record):
        messages.append(record.getMessage())
logging.getLogger("comprehend_phi").addHandler(Keep())
logging.getLogger("comprehend_phi").setLevel("INFO")

client = PHIClient()
results = client.results(PARENT)
list(results)

def child():
    list(results)
    list(PHIClient().results(CHILD))
    return [message for message in messages if "boto3 alone" in message]

tell(forked(child))
""")

        reason = (
            "S3 is read through boto3 alone: this process was forked, and obstore's threads"
            " exist only in its parent"
        )
        # Once for each client.
        assert told == [[f"GetObject: {reason} (job_id={PARENT})", f"results: {reason}"]]

    def test_a_child_that_may_only_use_obstore_says_that_it_cannot(self, service: Service) -> None:
        told = run("""
client = PHIClient(s3_transport="obstore")
results = client.results(PARENT)
list(results)
tell(*[
    forked(lambda: len(list(results))),
    forked(lambda: len(list(PHIClient(s3_transport="obstore").results(CHILD)))),
])
""")

        for operation, said in zip(("GetObject", "results"), told, strict=True):
            assert said.startswith(f"TransportError: {operation}: s3_transport='obstore' cannot be")
            assert "was forked" in said

    def test_a_child_uses_obstore_if_its_parent_did_not_load_it(self, service: Service) -> None:
        told = run("""
client = PHIClient(s3_transport="obstore")

def child():
    read = len(list(client.results(CHILD)))
    again = len(list(PHIClient(s3_transport="obstore").results(CHILD)))
    return [read, "obstore" in sys.modules, again]

client.describe_phi_detection_job(PARENT)
tell("obstore" in sys.modules, forked(child))
""")

        assert told == [False, [DOCUMENTS, True, DOCUMENTS]]


# --- Imports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["PHIClient", "AsyncPHIClient"])
def test_the_threads_of_a_client_import_nothing(client: str, service: Service) -> None:
    """If a process forks during an import in a thread, the child waits for that import for ever."""
    imported, tenacity_is_there = run(f"""
ask = ask if {client!r} == "PHIClient" else ask_async
main, imported = threading.main_thread(), []

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is not main:
            imported.append(name)

sys.meta_path.insert(0, Finder)
client = {client}(s3_transport="boto3")
ask(client, PARENT)
tell(imported, "tenacity" in sys.modules)
""")

    assert imported == []
    assert tenacity_is_there  # which threads need once a read fails

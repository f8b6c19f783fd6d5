"""Running a plan on S3 and the local service, with processes that are killed at any request."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from comprehend_phi import (
    IncompleteResultsError,
    PHIClient,
    PlaintextOutputWarning,
    RequestValidationError,
    S3Location,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)
from comprehend_phi.corpus import (
    CostLimitError,
    IncompleteRunError,
    JobPlan,
    LedgerInUseError,
    ServiceLimits,
    abandon,
    plan_jobs,
    plan_keys,
    run_jobs,
)
from comprehend_phi.testing import FakeClock, LocalServer, StartRecord

from ..conftest import Serving
from .plans import a_plan

BUCKET, STAGED = "hospital-notes", "staged-notes"
STAGING = S3Location(STAGED, "work")
LIMITS = ServiceLimits(max_job_files=2, max_active_jobs=2, starts_per_second=1_000)
KEYS = ("notes/ward/1.txt", "notes/ward/2.txt", "notes/x.txt", "notes/y.txt", "notes/z.txt")


# Polls that are not what a test is about.
SELDOM = WaitPolicy(delay=50)


def write_notes(server: LocalServer) -> None:
    for bucket in (BUCKET, STAGED):
        server.storage.create_bucket(bucket)
    for key in KEYS:
        server.storage.write(BUCKET, key, f"Seen by Dr. Example, note {key}".encode())


REQUEST = a_plan(bucket=BUCKET).request


@pytest.fixture
def corpus(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """A local service with a folder that is a job, and files that have to be staged."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    write_notes(server)
    return server


def planned(client: PHIClient) -> JobPlan:
    plan = plan_jobs(client, REQUEST, name="monday", staging=STAGING, limits=LIMITS)
    assert [job.staged for job in plan.jobs] == [False, True, True]
    return plan


def test_a_corpus_is_run_and_its_copies_are_deleted(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    summary = run_jobs(client, planned(client), tmp_path / "ledger", wait=SELDOM)
    assert [job.status for job in summary.jobs] == ["COMPLETED"] * 3
    assert corpus.storage.keys(STAGED) == []
    assert pickle.loads(pickle.dumps(summary)) == summary


def test_a_job_whose_files_changed_says_so(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    plan = planned(client)
    corpus.storage.write(BUCKET, "notes/ward/1.txt", b"another text")
    corpus.storage.write(BUCKET, "notes/z.txt", b"another text")
    summary = run_jobs(client, plan, tmp_path / "ledger", wait=SELDOM)
    assert [job.status for job in summary.jobs] == [None, "COMPLETED", None]
    assert "has changed since it was planned" in str(summary.jobs[0].message)
    assert corpus.storage.keys(STAGED) == []


def test_the_files_of_a_job_that_changed_can_be_run_alone(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    plan = planned(client)
    corpus.storage.write(BUCKET, "notes/xx.txt", b"Seen by Dr. Example")
    summary = run_jobs(client, plan, tmp_path / "ledger", wait=SELDOM)
    [changed] = [job.planned for job in summary.jobs if job.status is None]
    keys = [
        key for key in corpus.storage.keys(BUCKET) if changed.first_key <= key <= changed.last_key
    ]
    again = plan_keys(client, REQUEST, keys, name="changed", staging=STAGING, limits=LIMITS)
    rest = run_jobs(client, again, tmp_path / "changed", wait=SELDOM)

    read = [document.input_key for document in rest.results(client)]
    with pytest.raises(IncompleteResultsError):
        read.extend(document.input_key for document in summary.results(client))
    assert sorted(read) == sorted([*KEYS, "notes/xx.txt"])


def test_an_abandoned_run_starts_nothing_and_deletes_all_copies(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    plan = planned(client)
    run_jobs(client, plan, tmp_path / "ledger", keep_staged=True, wait=SELDOM)
    assert len(corpus.storage.keys(STAGED)) == 3
    summary = abandon(client, plan, str(tmp_path / "ledger"))
    assert [job.status for job in summary.jobs] == ["COMPLETED"] * 3
    assert corpus.storage.keys(STAGED) == []


def test_a_run_whose_timeout_has_passed_copies_no_further_files(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    count = 500
    for number in range(2 * count):
        corpus.storage.write(BUCKET, f"notes/z/{number:04}.txt", b"Seen by Dr. Example")
    limits = ServiceLimits(max_job_files=count)
    plan = plan_jobs(client, REQUEST, name="monday", staging=STAGING, limits=limits)

    with pytest.raises(IncompleteRunError):
        run_jobs(client, plan, tmp_path / "ledger", wait=WaitPolicy(timeout=0.1))
    assert len(corpus.storage.keys(STAGED)) < count


# --- The cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_cost", [Decimal("1.399"), 1.39, 1, 0])
def test_nothing_is_done_if_the_jobs_may_cost_too_much(
    corpus: LocalServer, client: PHIClient, tmp_path: Path, max_cost: Decimal | float
) -> None:
    plan = a_plan(max_units=1_000)
    with pytest.raises(CostLimitError, match=r"may cost \$1\.40") as caught:
        run_jobs(client, plan, tmp_path / "ledger", max_cost=max_cost)
    assert caught.value.maximum == Decimal("1.4")
    assert caught.value.max_cost == Decimal(str(max_cost))
    assert not (tmp_path / "ledger").exists()
    assert not corpus.service.received
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_jobs_that_cost_just_the_limit_are_run(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    plan = planned(client)
    maximum = plan.report.estimate_cost().maximum
    summary = run_jobs(client, plan, tmp_path / "ledger", max_cost=maximum, wait=SELDOM)
    assert {job.status for job in summary.jobs} == {"COMPLETED"}


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client", object()),
        ("plan", "plan"),
        ("ledger", 7),
        ("wait", 60),
        ("max_cost", "500"),
        ("max_cost", -1),
        ("on_change", 7),
        ("retry_failed", 1),
        ("keep_staged", None),
    ],
)
def test_a_wrong_argument_is_refused(
    corpus: LocalServer, client: PHIClient, tmp_path: Path, name: str, value: object
) -> None:
    arguments: dict[str, Any] = {
        "client": client,
        "plan": a_plan(),
        "ledger": tmp_path / "ledger",
        name: value,
    }
    with pytest.raises(RequestValidationError, match=rf"run_jobs\.{name} "):
        run_jobs(**arguments)
    assert not corpus.service.received


def test_a_wrong_argument_of_abandon_is_refused(client: PHIClient, tmp_path: Path) -> None:
    plan: Any = "plan"
    with pytest.raises(RequestValidationError, match=r"abandon\.plan "):
        abandon(client, plan, tmp_path / "ledger")


def test_the_line_of_the_caller_is_warned_about_results_in_plain_text(
    client: PHIClient, tmp_path: Path
) -> None:
    members = REQUEST.to_dict()
    del members["KMSKey"]
    plan = a_plan(0)
    plain = JobPlan(
        name=plan.name,
        request=StartPHIDetectionJobRequest.from_dict(members),
        limits=plan.limits,
        jobs=(),
        report=plan.report,
    )
    with pytest.warns(PlaintextOutputWarning) as caught:
        run_jobs(client, plain, tmp_path / "ledger")
    assert caught[0].filename == __file__


def test_one_ledger_has_one_run_at_a_time(
    corpus: LocalServer, client: PHIClient, tmp_path: Path
) -> None:
    plan = planned(client)
    errors: list[str] = []

    def run_again(_: object) -> None:
        with pytest.raises(LedgerInUseError) as caught:
            run_jobs(client, plan, tmp_path / "ledger")
        errors.append(str(caught.value))

    run_jobs(client, plan, tmp_path / "ledger", on_change=run_again, wait=SELDOM)
    assert errors
    assert len(corpus.service.job_ids) == 3


# --- Processes that are killed --------------------------------------------------------------------

# Each line of its input runs the plan in a fork, so that the imports happen once.
FORKS = """
import os, sys
import boto3
from comprehend_phi import PHIClient, WaitPolicy
from comprehend_phi.corpus import JobPlan, run_jobs
plan = JobPlan.from_json(open(sys.argv[1]).read())
session = boto3.Session(region_name="us-east-1")
session.client("comprehendmedical"), session.client("s3")
for ledger in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            url = os.environ["AWS_ENDPOINT_URL_S3"]
            with PHIClient(session=session, endpoint_url=url) as client:
                poll = WaitPolicy(delay=0.02, max_delay=0.02)
                run_jobs(client, plan, ledger.strip(), wait=poll)
            code = 0
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class KillingProxy(BaseHTTPRequestHandler):
    """Forwards requests. Kills the process that sent one of them, before or after it is answered.

    Attributes:
        target: the port of the server.
        child: the id of the process.
        countdown: how many requests pass until then.
        answers: whether the server gets that request.
    """

    protocol_version = "HTTP/1.1"
    target: int
    child = 0
    countdown = 0
    answers = False
    lock = threading.Lock()

    def forward(self) -> None:
        kind = type(self)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the process was killed while it sent this request
            self.close_connection = True
            return
        with kind.lock:
            kind.countdown -= 1
            if kind.countdown == 0 and not kind.answers:
                os.kill(kind.child, signal.SIGKILL)
                self.close_connection = True
                return
            server = HTTPConnection("127.0.0.1", kind.target)
            headers = {name: value for name, value in self.headers.items() if name != "Expect"}
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            if kind.countdown == 0:
                os.kill(kind.child, signal.SIGKILL)
                self.close_connection = True
                return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        size = answer.getheader("Content-Length", "0") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 - http.server calls these names

    def log_message(self, *_: object, **__: object) -> None:
        """Print nothing."""


class QuietServer(ThreadingHTTPServer):
    """Prints nothing about the connections of processes that were killed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


class Killer:
    """Runs the plan in processes that it kills."""

    def __init__(self, proxy: type[KillingProxy], forks: Any) -> None:
        self._proxy = proxy
        self._forks = forks

    def run(self, ledger: Path, *, kill_at: int = 0, answers: bool = False) -> tuple[int, int]:
        """Run the plan, and return the exit code and the number of requests."""
        # The process sends its first request only after this thread has released the lock.
        with self._proxy.lock:
            self._forks.stdin.write(f"{ledger}\n")
            self._forks.stdin.flush()
            self._proxy.child = int(self._forks.stdout.readline())
            self._proxy.countdown, self._proxy.answers = kill_at, answers
        code = int(self._forks.stdout.readline())
        return code, kill_at - self._proxy.countdown


@pytest.fixture(scope="module")
def killer(
    tmp_path_factory: pytest.TempPathFactory, serving: Serving
) -> Iterator[tuple[Killer, LocalServer, list[StartRecord]]]:
    records: list[StartRecord] = []
    folder = tmp_path_factory.mktemp("killer")
    with LocalServer(job_seconds=0.1, on_start=records.append) as server:
        target = urlsplit(server.endpoint_url).port
        proxy: type[KillingProxy] = type("Proxy", (KillingProxy,), {"target": target})
        front = QuietServer(("127.0.0.1", 0), proxy)
        with serving(front):
            environment = {
                **os.environ,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{front.server_port}",
            }
            write_notes(server)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                patch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
                with PHIClient(endpoint_url=server.endpoint_url, clock=FakeClock()) as client:
                    (folder / "plan").write_text(planned(client).to_json())
            server.reset()
            with subprocess.Popen(
                [sys.executable, "-c", FORKS, str(folder / "plan")],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as forks:
                yield Killer(proxy, forks), server, records
                assert forks.stdin is not None
                forks.stdin.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize("answers", [False, True], ids=["before", "after"])
def test_a_run_that_is_killed_at_any_request_continues_and_starts_each_job_once(
    killer: tuple[Killer, LocalServer, list[StartRecord]], tmp_path: Path, answers: bool
) -> None:
    runs, server, records = killer

    def a_run(name: str, kill_at: int) -> int:
        server.reset()
        records.clear()
        write_notes(server)
        code, requests = runs.run(tmp_path / name, kill_at=kill_at, answers=answers)
        if kill_at:
            assert code == -signal.SIGKILL
            code, _ = runs.run(tmp_path / name)
        assert code == 0
        started = [record.token for record in records if record.job_id and not record.repeated]
        assert len(started) == len(set(started)) == 3, kill_at
        assert server.storage.keys(STAGED) == [], kill_at
        return requests

    total = a_run("whole", 0)
    for kill_at in range(1 + 6 * answers, total, 12):
        a_run(f"killed-{kill_at}", kill_at)

"""The command line, as a shell sees it: each command is a process of its own."""

from __future__ import annotations

import errno
import json
import logging
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
import msgspec
import pytest
from attrs import frozen
from botocore.config import Config

from comprehend_phi import (
    ActiveJobLimitExceeded,
    Entity,
    InputDataConfig,
    Job,
    OutputDataConfig,
    PHIClient,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)
from comprehend_phi._retry import call_with_retries
from comprehend_phi.cli import commands
from comprehend_phi.cli.exits import Exit
from comprehend_phi.cli.files import Folder, path_below
from comprehend_phi.cli.notes import find_notes, read_note
from comprehend_phi.cli.progress import retries_shown
from comprehend_phi.testing import FakeClock, LocalServer, faults
from comprehend_phi.testing.detector import detect

Serving = Callable[[BaseServer], AbstractContextManager[None]]

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
KEY = "alias/phi-results"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

# In every note, every job name and every rejected value: no command may print it unasked.
CANARY = "Zinnia Quellwasser"
NOTE = f"Patient: {CANARY}, seen on 2031-02-03.\r\nPhone (555) 555-0142\n"
REDACTED = "Patient: [NAME], seen on [DATE].\r\nPhone [PHONE_OR_FAX]\n"

CODES = {
    "done": 0,
    "failed": 1,
    "wrong usage": 2,
    "partial success": 3,
    "timed out": 4,
    "interrupted": 130,
    "nobody reads": 141,
}


@frozen
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object that was printed."""
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """The objects that were printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        [line] = [line for line in self.err.splitlines() if line.startswith("comprehend-phi: ")]
        return line.removeprefix("comprehend-phi: ")

    @property
    def failed(self) -> dict[str, str]:
        """The notes that could not be delivered and the reasons, as stderr names them."""
        lines = [line for line in self.err.splitlines() if line.startswith("Failed: ")]
        matches = [re.fullmatch(r"Failed: (.*?) \((.*)\)", line) for line in lines]
        return {match[1]: match[2] for match in matches if match is not None}


@frozen
class Shell:
    """Runs commands on one local service, with one bucket.

    No command prints a traceback, a control sequence or the canary, whatever it is for.
    """

    server: LocalServer
    client: PHIClient
    s3: Any
    bucket: str
    home: Path

    @property
    def url(self) -> str:
        return self.server.endpoint_url

    def environment(self, **env: str) -> dict[str, str]:
        """The variables of a command; an empty one is not there."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_S3": self.url,
            **env,
        }
        return {name: value for name, value in variables.items() if value}

    def popen(self, *arguments: str, python: tuple[str, ...] = (), **env: str) -> Any:
        return subprocess.Popen(
            [sys.executable, *(python or ("-m", "comprehend_phi")), *arguments],
            cwd=self.home,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, shows: bool = False, python: tuple[str, ...] = (), **env: str
    ) -> Done:
        """The command as it is typed, in a process of its own."""
        with self.popen(*arguments, python=python, **env) as process:
            return finished(process, shows=shows)

    def __call__(self, *arguments: str, shows: bool = False) -> Done:
        """A command that calls the service, in a process of its own."""
        return self.run(*arguments, "--endpoint-url", self.url, shows=shows)

    def start(self, key: str, *options: str) -> tuple[str, ...]:
        """The arguments of a start, but for the KMS key."""
        locations = (f"s3://{self.bucket}/{key}", f"s3://{self.bucket}/results")
        return (*locations, "--role-arn", ROLE, "--job-name", f"Notes of {CANARY}", *options)

    def put(self, key: str, body: str | bytes = NOTE) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def new_job(self, key: str) -> Job:
        """A job that somebody started elsewhere."""
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=self.bucket, s3_key=key),
            output_data_config=OutputDataConfig(s3_bucket=self.bucket, s3_key="results"),
            data_access_role_arn=ROLE,
            kms_key=KEY,
            job_name=f"Notes of {CANARY}",
        )
        return self.client.submit(request)

    def ended_job(self, key: str) -> str:
        """The id of such a job that has ended."""
        job = self.new_job(key)
        job.wait(WaitPolicy(delay=0.02))
        return job.job_id


def finished(process: Any, *, shows: bool = False) -> Done:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return checked(Done(process.returncode, out, err), shows=shows)


def checked(done: Done, *, shows: bool = False) -> Done:
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err
    assert "\x1b" not in done.out + done.err
    if not shows:
        assert not leaks(done.out + done.err)
    return done


# Root may read and write everything, so that a process of root gives up this right.
AS_ANYBODY = (
    "-c",
    "import ctypes, os, sys; os.getuid() or [ctypes.CDLL(None).prctl(24, right, 0, 0, 0)"
    " for right in (1, 2)]; os.execv(sys.executable, [sys.executable, '-m', 'comprehend_phi',"
    " *sys.argv[1:]])",
)


def leaks(text: str) -> bool:
    return any(word in text for word in (*CANARY.split(), "555-0142"))


@contextmanager
def shell_on(server: LocalServer, home: Path) -> Generator[Shell, None, None]:
    session = boto3.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
    )
    config = Config(retries={"total_max_attempts": 1})
    s3: Any = session.client("s3", endpoint_url=server.endpoint_url, config=config)
    bucket = f"bucket-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    with PHIClient(session=session, endpoint_url=server.endpoint_url, s3_client=s3) as client:
        yield Shell(server, client, s3, bucket, home)
    s3.close()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Commands on a service whose jobs take a moment."""
    home = tmp_path_factory.mktemp("home")
    with LocalServer(job_seconds=0.05) as server, shell_on(server, home) as shell:
        shell.put("good/one.txt")
        shell.put("good/ward 3/two.txt")
        shell.put("mixed/one.txt")
        shell.put("mixed/a\x1b[31m.txt", b"\xff")
        shell.put("bad/none.txt", b"\xff")
        yield shell


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Commands on a service whose jobs take an hour."""
    home = tmp_path_factory.mktemp("slow")
    with LocalServer(job_seconds=3600) as server, shell_on(server, home) as shell:
        shell.put("notes/one.txt")
        yield shell


@pytest.fixture(scope="module")
def slow_job(slow: Shell) -> str:
    return slow.new_job("notes").job_id


@pytest.fixture
def quick(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Runs a command in this process: the hundredth process would show nothing new."""
    monkeypatch.chdir(shell.home)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", shell.url)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        handler = signal.getsignal(signal.SIGINT)
        code = commands.main(arguments)
        assert signal.getsignal(signal.SIGINT) is handler
        out, err = capsys.readouterr()
        return checked(Done(code, out, err))

    return run


# --- The program ----------------------------------------------------------------------------------

COMMANDS = ("detect", "start", "status", "list", "wait", "stop", "results", "redact", "review")


def test_help_names_every_command_and_every_exit_code(shell: Shell) -> None:
    done = shell.run("--help")

    assert (done.code, done.err) == (0, "")
    assert [name for name in COMMANDS if f"\n  {name} " not in done.out] == []
    for meaning, code in CODES.items():
        assert re.search(rf"\n +{code}  {meaning}", done.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_its_options_and_exit_codes_and_speaks_json(
    command: str, quick: Callable[..., Done]
) -> None:
    done = quick(command, "--help")

    assert done.code == 0
    for option in ("--json", "--region", "--profile", "--endpoint-url"):
        assert f"\n  {option} " in done.out
    assert "timed out" in done.out
    # Braces would read as a choice.
    assert not set("{}") & set(done.out.splitlines()[0])


def test_the_script_is_the_module(shell: Shell) -> None:
    script = Path(sys.executable).with_name("comprehend-phi")
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("comprehend-phi 0.")
    assert done.stdout == shell.run("--version").out


def loaded(shell: Shell, code: str) -> set[str]:
    ending = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = shell.run(python=("-c", code + ending))
    assert done.code == 0
    return set(done.out.splitlines()[-1].split())


def test_the_package_loads_nothing_of_the_command_line(shell: Shell) -> None:
    assert not {"click", "rich", "jinja2"} & loaded(shell, "import comprehend_phi")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_not_load_boto3(option: str, shell: Shell) -> None:
    found = loaded(shell, f"from comprehend_phi.cli import commands; commands.main(['{option}'])")

    assert "click" in found
    assert not {"boto3", "botocore", "moto", "jinja2"} & found


def without(module: str) -> tuple[str, ...]:
    """A Python in which this module is not installed."""
    code = f"import sys; sys.modules['{module}'] = None"
    return ("-c", f"{code}; from comprehend_phi.__main__ import main; main()")


def test_without_the_extra_it_says_what_to_install(shell: Shell) -> None:
    done = shell.run("--version", python=without("click"))

    assert done.code == 2
    assert done.err == (
        "comprehend-phi: the command line needs the module click, which the extra `cli` of"
        " comprehend_phi installs\n"
    )


def test_without_the_extra_testing_local_says_what_to_install(shell: Shell) -> None:
    done = shell.run("detect", "--local", ".", "../out", python=without("moto"))

    assert done.code == 2
    assert done.error == (
        "--local needs the module moto, which the extra `testing` of comprehend_phi installs"
    )


def test_without_jinja2_no_job_is_started_for_a_review(shell: Shell) -> None:
    before = shell.server.service.job_ids
    done = shell.run(
        "detect", *shell.start("good"), "--review", "page.html", python=without("jinja2")
    )

    assert done.code == 2
    assert "the review page needs the module jinja2" in done.error
    assert shell.server.service.job_ids == before


# --- detect ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detected(shell: Shell) -> Done:
    files = ("--redact", "redacted", "--review", "pages/review.html")
    return shell(
        "detect", *shell.start("mixed", "--kms-key", KEY), *files, "--poll-seconds", "0.02"
    )


def test_detect_counts_the_entities_by_type(detected: Done) -> None:
    lines = detected.out.splitlines()

    assert lines[0] == "3 entities in 1 document"
    assert lines[1].split() == ["TYPE", "COUNT"]
    counts = {tuple(line.split()) for line in lines[2:5]}
    assert counts == {("NAME", "1"), ("DATE", "1"), ("PHONE_OR_FAX", "1")}


def test_detect_exits_with_3_and_shows_the_files_that_were_not_processed(detected: Done) -> None:
    assert detected.code == 3
    lines = detected.out.splitlines()
    index = lines.index("1 file was not processed")
    # A key is shown without what could steer a terminal.
    assert re.match(r"mixed/a\\x1b\[31m\.txt +INVALID_ENCODING +The file is", lines[index + 2])


def test_detect_tells_token_job_and_states_on_stderr(detected: Done, shell: Shell) -> None:
    token, job, *states = detected.err.splitlines()

    assert re.fullmatch(r"Request token: [0-9a-f-]{36}", token)
    [job_id] = re.findall(r"^Job ([0-9a-f]{32}) started$", job)
    assert job_id in shell.server.service.job_ids
    assert re.fullmatch(r"PARTIAL_SUCCESS after 0:00:\d\d", states[-1])
    assert {state.split()[0] for state in states[:-1]} <= {"SUBMITTED", "IN_PROGRESS"}


def test_detect_writes_redacted_copies_that_keep_their_line_ends(
    detected: Done, shell: Shell
) -> None:
    copies = shell.home / "redacted"

    assert [path.name for path in copies.rglob("*")] == ["one.txt"]
    assert (copies / "one.txt").read_bytes() == REDACTED.encode()
    assert "Redacted copies are in redacted" in detected.out


def test_detect_writes_a_page_that_only_its_owner_can_read(detected: Done, shell: Shell) -> None:
    page = shell.home / "pages" / "review.html"

    assert page.read_text("utf-8").lower().startswith("<!doctype html>")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "pages/review.html; it has the notes in full" in detected.out


def test_detect_as_json_is_one_object(shell: Shell) -> None:
    options = ("--kms-key", KEY, "--token", "my-token", "--poll-seconds", "0.02", "--json")
    done = shell("detect", *shell.start("mixed", *options))

    assert done.code == 3
    assert done.err.startswith("Request token: my-token\n")
    assert done.json["job_status"] == "PARTIAL_SUCCESS"
    assert done.json["client_request_token"] == "my-token"
    assert done.json["destination"] == f"s3://{shell.bucket}/results"
    assert done.json["document_count"] == 1
    assert done.json["entity_counts"] == {"NAME": 1, "DATE": 1, "PHONE_OR_FAX": 1}
    [file] = done.json["unprocessed"]
    assert file["input_key"] == "mixed/a\x1b[31m.txt"
    assert file["error_code"] == "INVALID_ENCODING"


def test_detect_exits_with_1_when_the_job_fails_and_says_why(shell: Shell) -> None:
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--json")
    done = shell("detect", *shell.start("bad", *options))

    assert done.code == 1
    assert "failed: None of the input files could be processed" in done.error
    assert done.json["job_status"] == "FAILED"


# --- The other commands ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def job_id(shell: Shell) -> str:
    """A job of which every file was processed."""
    return shell.ended_job("good")


@pytest.fixture(scope="module")
def partial_job_id(shell: Shell) -> str:
    """A job of which one file was not processed."""
    return shell.ended_job("mixed")


@pytest.fixture
def on(shell: Shell) -> tuple[str, str]:
    """The option that leads to the service."""
    return "--endpoint-url", shell.url


def test_start_sends_what_it_was_given_and_prints_the_id_of_the_job(shell: Shell) -> None:
    done = shell("start", *shell.start("good/", "--kms-key", KEY, "--token", "t-1"))

    assert (done.code, done.out) == (0, f"{shell.server.service.job_ids[-1]}\n")
    assert done.err == f"Request token: t-1\nJob {shell.server.service.job_ids[-1]} started\n"
    request = [r for r in shell.server.service.received if r.operation.startswith("Start")][-1]
    assert request.members == {
        "InputDataConfig": {"S3Bucket": shell.bucket, "S3Key": "good/"},
        "OutputDataConfig": {"S3Bucket": shell.bucket, "S3Key": "results"},
        "DataAccessRoleArn": ROLE,
        "KMSKey": KEY,
        "JobName": f"Notes of {CANARY}",
        "LanguageCode": "en",
        "ClientRequestToken": "t-1",
    }


def test_start_as_json_has_id_and_token(
    shell: Shell,
    quick: Callable[..., Done],
    on: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPREHEND_PHI_ROLE_ARN", ROLE)
    locations = (f"s3://{shell.bucket}", f"s3://{shell.bucket}/")
    options = ("--kms-key", KEY, "--token", "t-2", "--json", "--allow-overlap")
    done = quick("start", *locations, *options, *on)

    job_id = shell.server.service.job_ids[-1]
    assert done.json == {"job_id": job_id, "client_request_token": "t-2"}


def test_status_shows_a_job_without_its_name_and_keys(shell: Shell, job_id: str) -> None:
    done = shell("status", job_id)
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())

    assert done.code == 0
    assert (rows["job_id"], rows["job_status"]) == (job_id, "COMPLETED")
    assert rows["input_data_config"] == f"s3://{shell.bucket}"
    assert not {"job_name", "manifest_file_path"} & rows.keys()


def test_status_shows_names_and_keys_where_they_are_asked_for(shell: Shell, job_id: str) -> None:
    job = shell("status", job_id, "--show-names", "--json", shows=True).json

    assert job["job_name"] == f"Notes of {CANARY}"
    assert job["input_data_config"] == {"s3_bucket": shell.bucket, "s3_key": "good"}
    assert job["submit_time"].endswith("+00:00")


def test_list_has_a_line_per_job(shell: Shell, job_id: str, partial_job_id: str) -> None:
    heading, *lines = shell("list").out.splitlines()

    assert heading.split() == ["JOB", "ID", "STATUS", "SUBMITTED", "ENDED"]
    listed = {tuple(line.split()[:2]) for line in lines}
    assert {(job_id, "COMPLETED"), (partial_job_id, "PARTIAL_SUCCESS")} <= listed


@pytest.mark.parametrize(
    ("filter", "finds"),
    [
        (("--status", "completed"), (True, False)),
        (("--name", f"Notes of {CANARY}"), (True, True)),
        (("--before", "2001-02-03"), (False, False)),
        (("--after", "2001-02-03T04:05:06Z"), (True, True)),
    ],
)
def test_list_as_json_filters(
    filter: tuple[str, str],
    finds: tuple[bool, bool],
    quick: Callable[..., Done],
    on: tuple[str, str],
    job_id: str,
    partial_job_id: str,
) -> None:
    done = quick("list", *filter, "--json", *on)

    assert done.code == 0
    found = {job["job_id"] for job in done.lines}
    assert (job_id in found, partial_job_id in found) == finds


def test_wait_prints_how_the_job_ended(shell: Shell, job_id: str) -> None:
    done = shell("wait", job_id)

    assert (done.code, done.out) == (0, "COMPLETED\n")
    assert done.err.startswith("COMPLETED after ")


def test_wait_exits_with_3_after_partial_success(shell: Shell, partial_job_id: str) -> None:
    done = shell("wait", partial_job_id, "--json")

    assert done.code == 3
    assert done.json["job_status"] == "PARTIAL_SUCCESS"


def test_wait_exits_with_1_when_the_job_was_stopped(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str]
) -> None:
    job = shell.new_job("good")
    job.stop()
    done = quick("wait", job.job_id, "--poll-seconds", "0.02", "--json", *on)

    assert done.code == 1
    assert done.json["job_status"] == "STOPPED"
    assert done.error == f"Job {job.job_id} was stopped before it was done."


def test_stop_asks_for_the_job_to_be_stopped(slow: Shell) -> None:
    job = slow.new_job("notes")
    done = slow("stop", job.job_id, "--json")

    assert done.json == {"job_id": job.job_id}
    assert job.properties().job_status == "STOP_REQUESTED"


def test_stopping_a_job_that_has_ended_fails_in_one_line(
    quick: Callable[..., Done], on: tuple[str, str], job_id: str
) -> None:
    done = quick("stop", job_id, *on)

    assert (done.code, done.out) == (1, "")
    assert "InvalidRequestException" in done.error


def test_results_has_a_line_per_document_without_text(shell: Shell, job_id: str) -> None:
    done = shell("results", job_id)

    assert (done.code, done.err) == (0, "")
    assert [line["input_key"] for line in done.lines] == ["good/one.txt", "good/ward 3/two.txt"]
    [name, *_] = done.lines[0]["entities"]
    assert (name["type"], name["begin_offset"], name["end_offset"]) == ("NAME", 9, 27)
    assert "text" not in name
    assert done.lines[0]["model_version"] == "0.1.0"


def test_results_shows_the_text_where_it_is_asked_for(shell: Shell, job_id: str) -> None:
    done = shell("results", job_id, "--show-text", "--json", shows=True)

    assert done.lines[0]["entities"][0]["text"] == CANARY


def test_results_exits_with_3_and_notes_the_files_that_were_not_processed(
    quick: Callable[..., Done], on: tuple[str, str], partial_job_id: str
) -> None:
    done = quick("results", partial_job_id, *on)

    assert done.code == 3
    assert len(done.lines) == 1
    noted = r"Not processed: mixed/a\\x1b\[31m\.txt \(INVALID_ENCODING: .*\)\n"
    assert re.fullmatch(noted, done.err)


def test_results_of_a_job_that_goes_on_fail_in_one_line(
    slow: Shell, slow_job: str, quick: Callable[..., Done]
) -> None:
    done = quick("results", slow_job, "--endpoint-url", slow.url)

    assert (done.code, done.out) == (1, "")
    assert "has no results yet; wait until it has ended" in done.error


def test_results_that_are_not_complete_exit_with_1_after_what_is_there(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str]
) -> None:
    job_id = shell.ended_job("good")
    gone = f"results/123456789012-PHIDetection-{job_id}/one.txt.out"
    shell.s3.delete_object(Bucket=shell.bucket, Key=gone)

    done = quick("results", job_id, *on)

    assert done.code == 1
    assert [line["input_key"] for line in done.lines] == ["good/ward 3/two.txt"]
    assert done.failed.keys() == {"good/one.txt"}
    assert gone in done.failed["good/one.txt"]


def test_redact_writes_copies_at_their_paths(shell: Shell, job_id: str, tmp_path: Path) -> None:
    done = shell("redact", job_id, str(tmp_path / "copies"))

    assert (done.code, done.err) == (0, "")
    assert done.out == f"2 redacted copies are in {tmp_path / 'copies'}\n"
    for name in ("one.txt", "ward 3/two.txt"):
        assert (tmp_path / "copies" / name).read_bytes() == REDACTED.encode()


def test_redact_as_json_has_a_line_per_copy(shell: Shell, job_id: str, tmp_path: Path) -> None:
    done = shell("redact", job_id, str(tmp_path), "--replacement", "<{type}>", "--json")

    assert done.lines == [
        {"input_key": "good/one.txt", "path": str(tmp_path / "one.txt")},
        {"input_key": "good/ward 3/two.txt", "path": str(tmp_path / "ward 3" / "two.txt")},
    ]
    assert (tmp_path / "one.txt").read_text("utf-8").startswith("Patient: <NAME>, ")


def test_redact_of_a_job_over_one_file_writes_that_file(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    done = quick("redact", shell.ended_job("good/one.txt"), str(tmp_path), *on)

    assert done.code == 0
    assert (tmp_path / "one.txt").read_bytes() == REDACTED.encode()


def test_redact_refuses_a_note_that_has_changed(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("changed/one.txt")
    job_id = shell.ended_job("changed")
    shell.put("changed/one.txt", f"Not {NOTE}")

    done = quick("redact", job_id, str(tmp_path), *on)

    assert done.code == 1
    assert done.failed.keys() == {"changed/one.txt"}
    assert done.failed["changed/one.txt"].startswith("SourceChangedError: ")
    assert list(tmp_path.iterdir()) == []


def test_folder_markers_need_no_copies(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    for key, body in (("ward/", ""), ("ward/3/", ""), ("ward/3/a.txt", NOTE), ("ward/b.txt", NOTE)):
        shell.put(f"marked/{key}", body)
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path / "detect"))
    done = quick("detect", *shell.start("marked/ward/", *options), *on)
    job_id = shell.server.service.job_ids[-1]
    again = quick("redact", job_id, str(tmp_path / "redact"), *on)

    assert (done.code, done.out.splitlines()[0]) == (0, "6 entities in 3 documents")
    assert (again.code, again.out) == (0, f"2 redacted copies are in {tmp_path / 'redact'}\n")
    for folder in ("detect", "redact"):
        copies = tmp_path / folder
        files = {str(path.relative_to(copies)) for path in copies.rglob("*") if path.is_file()}
        assert files == {"3/a.txt", "b.txt"}


def test_a_note_whose_key_ends_with_a_slash_is_no_folder_marker(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("marked-note/")
    done = quick("redact", shell.ended_job("marked-note/"), str(tmp_path), *on)

    assert (done.code, done.out) == (1, f"0 redacted copies are in {tmp_path}\n")
    assert "marked-note/ (its key has no path inside the folder)" in done.error


@pytest.mark.parametrize("name", ["../../out.txt", "a/../out.txt", "./out.txt"])
def test_redact_writes_nothing_outside_the_folder(
    name: str, shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    prefix = f"escape-{uuid4().hex}"
    shell.put(f"{prefix}/{name}")

    done = quick("redact", shell.ended_job(prefix), str(tmp_path / "a" / "copies"), *on)

    assert done.code == 1
    assert f"{prefix}/{name} (its key has no path inside the folder)" in done.error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["/etc/out.txt", "a//out.txt", "a\0.txt"])
def test_a_name_that_is_no_path_below_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    assert path_below(tmp_path, name) is None


def test_redact_follows_no_loop_of_links(
    quick: Callable[..., Done], on: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "ward 3").symlink_to("ward 3")

    done = quick("redact", job_id, str(tmp_path), *on)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert done.error.startswith(f"1 file was not written below {tmp_path}: good/ward 3/two.txt (")


def test_redact_follows_no_link_out_of_the_folder(
    quick: Callable[..., Done], on: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "ward 3").symlink_to(tmp_path / "elsewhere")

    done = quick("redact", job_id, str(tmp_path / "copies"), *on)

    assert done.code == 1
    assert done.error == (
        f"1 file was not written below {tmp_path / 'copies'}:"
        " good/ward 3/two.txt (its key has no path inside the folder)"
    )
    assert (tmp_path / "copies" / "one.txt").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.fixture(scope="module")
def awkward_job_id(shell: Shell) -> str:
    """A job with keys that cannot all be paths, between others."""
    for name in ("a.txt", "b/../c.txt", "x", "x/y", f"{'Q' * 256}.txt", "z.txt"):
        shell.put(f"awkward/{name}")
    return shell.ended_job("awkward")


def test_redact_writes_what_can_be_written_and_names_the_keys_left_out(
    quick: Callable[..., Done], on: tuple[str, str], awkward_job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")

    done = quick("redact", awkward_job_id, str(tmp_path), *on)

    assert (done.code, done.out) == (1, f"2 redacted copies are in {tmp_path}\n")
    assert done.error.startswith(f"4 files were not written below {tmp_path}: ")
    for name in ("a.txt", "b/../c.txt", "x/y", f"{'Q' * 256}.txt"):
        assert f"awkward/{name} (" in done.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "x", "z.txt"]


@pytest.fixture(scope="module")
def damaged_job_id(shell: Shell) -> str:
    """A job of 26 notes, 25 of which cannot be delivered any more."""
    for number in range(26):
        shell.put(f"damaged/{number:02}.txt")
    job_id = shell.ended_job("damaged")
    folder = f"results/123456789012-PHIDetection-{job_id}/"
    shell.s3.delete_object(Bucket=shell.bucket, Key="damaged/01.txt")
    shell.put("damaged/02.txt", b"\xff")
    shell.put("damaged/03.txt", f"Not {NOTE}")
    shell.put(f"{folder}04.txt.out", NOTE)
    shell.s3.delete_object(Bucket=shell.bucket, Key=f"{folder}05.txt.out")
    for number in range(6, 26):
        shell.put(f"damaged/{number:02}.txt", b"\xff")
    return job_id


DAMAGED = {f"damaged/{number:02}.txt" for number in range(1, 26)}


def test_redact_writes_all_other_copies_and_names_every_note_that_failed(
    quick: Callable[..., Done], on: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = quick("redact", damaged_job_id, str(tmp_path), *on)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["00.txt"]
    assert done.failed.keys() == DAMAGED
    for number, reason in {
        "01": "SourceChangedError",
        "02": "SourceChangedError",
        "03": "SourceChangedError",
        "04": "UnreadableObjectError",
        "05": "MissingObject",
    }.items():
        assert done.failed[f"damaged/{number}.txt"].startswith(f"{reason}: s3://")
    assert done.error == "25 notes could not be delivered"


def test_redact_as_json_has_a_line_per_note_that_failed(
    quick: Callable[..., Done], on: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = quick("redact", damaged_job_id, str(tmp_path), "--json", *on)

    [copy, *failed] = done.lines
    assert (done.code, copy["input_key"]) == (1, "damaged/00.txt")
    assert {each["failed"]["input_key"] for each in failed} == DAMAGED
    assert failed[0]["failed"]["reason"].startswith("SourceChangedError: ")


def test_review_shows_all_other_notes_and_names_every_note_that_failed(
    quick: Callable[..., Done], on: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = quick("review", damaged_job_id, str(tmp_path / "page.html"), "--json", *on)

    assert done.code == 1
    assert {each["input_key"] for each in done.json["failed"]} == done.failed.keys() == DAMAGED
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "25 notes cannot be shown." in page
    assert '"key":"damaged/00.txt"' in page
    assert '"key":"damaged/01.txt"' not in page
    assert done.error == "25 notes could not be delivered"


def test_results_prints_all_other_documents_and_names_every_note_that_failed(
    quick: Callable[..., Done], on: tuple[str, str], damaged_job_id: str
) -> None:
    done = quick("results", damaged_job_id, *on)

    assert done.code == 1
    assert len(done.lines) == 24
    assert done.failed.keys() == {"damaged/04.txt", "damaged/05.txt"}
    assert done.error == "2 notes could not be delivered"


def test_a_note_replaced_by_one_of_its_size_after_its_job_is_neither_copied_nor_shown(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    with LocalServer(clock=clock, job_seconds=0) as server, shell_on(server, tmp_path) as shell:
        shell.put("notes/blank.txt", "To be dictated later.\n")
        job_id = shell.ended_job("notes")
        clock.sleep(1)
        shell.put("notes/blank.txt", "Patient: Noor Sample.\n")
        for command in (("redact", job_id, "copies"), ("review", job_id, "page.html")):
            done = shell(*command)
            assert done.code == 1
            assert done.failed["notes/blank.txt"].startswith("SourceChangedError: ")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in written if "Noor" in text]


def test_numbers_that_do_not_add_up_fail_after_everything_was_written(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("short/one.txt")
    job_id = shell.ended_job("short")
    folder = f"results/123456789012-PHIDetection-{job_id}"
    manifest = {"Summary": {"Status": "COMPLETED", "SuccessFilesCount": 2}}
    shell.put(f"{folder}/Manifest", json.dumps(manifest))

    done = quick("redact", job_id, str(tmp_path), *on)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert done.error.endswith("the manifest counts 2 processed files, there are 1")


def test_detect_delivers_all_other_notes_and_names_every_note_that_failed(tmp_path: Path) -> None:
    def detector(text: str) -> Sequence[Entity]:
        entities = detect(text)
        if "misfit" not in text:
            return entities
        return [msgspec.structs.replace(entity, begin_offset=0) for entity in entities]

    with (
        LocalServer(job_seconds=0.02, detector=detector) as server,
        shell_on(server, tmp_path) as shell,
    ):
        shell.put("notes/fit.txt")
        shell.put("notes/misfit.txt", f"misfit {NOTE}")
        files = ("--redact", "redacted", "--review", "page.html", "--json")
        options = ("--kms-key", KEY, "--poll-seconds", "0.02", *files)
        done = shell("detect", *shell.start("notes", *options))

    assert done.code == 1
    assert done.json["document_count"] == 2
    assert [each["input_key"] for each in done.json["failed"]] == ["notes/misfit.txt"]
    assert done.failed.keys() == {"notes/misfit.txt"}
    assert done.failed["notes/misfit.txt"].startswith("RedactionError: ")
    assert done.error == "1 note could not be delivered"
    copies = [path for path in (tmp_path / "redacted").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in copies] == [REDACTED.encode()]
    assert "1 note cannot be shown." in (tmp_path / "page.html").read_text("utf-8")


def test_detect_prints_what_it_found_also_where_keys_were_left_out(
    shell: Shell,
    quick: Callable[..., Done],
    on: tuple[str, str],
    awkward_job_id: str,
    tmp_path: Path,
) -> None:
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path), "--json")
    done = quick("detect", *shell.start("awkward", *options), *on)

    assert (done.code, done.json["document_count"]) == (1, 6)
    assert done.error.startswith(f"3 files were not written below {tmp_path}: ")


def test_no_path_is_written_twice_and_20_keys_are_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "copies", private=False)
    for number in range(24):
        folder.write(f"key-{number}", "one.txt", str(number).encode())

    assert (tmp_path / "copies" / "one.txt").read_text() == "0"
    error = str(folder.problem)
    assert error.startswith("23 files were not written below ")
    assert error.count("another key has its path") == 20
    assert error.endswith("key-20 (another key has its path) and 3 more")


def test_a_full_disk_ends_the_writing_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = Folder(tmp_path, private=False)
    (tmp_path / "one.txt").write_text("as it was")
    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(OSError, match="No space left"):
        folder.write("one.txt", "one.txt", b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one.txt": "as it was"}


def test_results_and_redact_as_json_have_a_line_per_unprocessed_file(
    quick: Callable[..., Done], on: tuple[str, str], partial_job_id: str, tmp_path: Path
) -> None:
    for command in (("results", partial_job_id), ("redact", partial_job_id, str(tmp_path))):
        done = quick(*command, "--json", *on)

        assert done.code == 3
        [document, unprocessed] = done.lines
        assert document["input_key"] == "mixed/one.txt"
        assert unprocessed.keys() == {"unprocessed"}
        assert unprocessed["unprocessed"]["input_key"] == "mixed/a\x1b[31m.txt"
        assert unprocessed["unprocessed"]["error_code"] == "INVALID_ENCODING"


def test_a_page_is_not_put_in_the_place_of_a_link(
    quick: Callable[..., Done], on: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").symlink_to(os.devnull)

    done = quick("review", job_id, str(tmp_path / "page.html"), *on)

    assert done.code == 2
    assert (tmp_path / "page.html").is_symlink()


def test_a_folder_that_cannot_be_written_fails_in_one_line(
    quick: Callable[..., Done], on: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    done = quick("redact", job_id, str(tmp_path / "file"), *on)

    assert done.code == 1
    assert str(tmp_path / "file") in done.error


def broken_link(path: Path) -> None:
    path.symlink_to("gone")


@pytest.mark.parametrize(
    ("make", "says"),
    [(Path.touch, "not a folder"), (broken_link, "a broken link")],
)
@pytest.mark.parametrize("below", [".", "a/b"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_started(
    make: Callable[[Path], None],
    says: str,
    below: str,
    shell: Shell,
    quick: Callable[..., Done],
    on: tuple[str, str],
    tmp_path: Path,
) -> None:
    (tmp_path / "notes").mkdir()
    taken = tmp_path / "taken"
    make(taken)
    jobs = shell.server.service.job_ids
    start = ("detect", *shell.start("good", "--kms-key", KEY), *on)
    local = ("detect", "--local", str(tmp_path / "notes"))
    folder = str(taken / below)
    commands = {
        "--redact": (*start, "--redact", folder),
        "--review": (*start, "--review", f"{folder}/page.html"),
        "DESTINATION": (*local, folder),
        "FOLDER": ("redact", "1", folder),
        "FILE": ("review", "1", f"{folder}/page.html"),
    }

    for option, command in commands.items():
        done = quick(*command)
        assert (done.code, done.out) == (1, "")
        assert done.error.startswith(f"{option} cannot be written. {folder}: ")
        assert says in done.error or "Not a directory" in done.error
    assert shell.server.service.job_ids == jobs


def test_a_folder_without_the_right_to_write_is_told_before_a_job_is_started(
    shell: Shell, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    before = shell.server.service.job_ids
    options = ("--kms-key", KEY, "--redact", str(tmp_path / "a" / "b"))
    command = ("detect", *shell.start("good", *options), "--endpoint-url", shell.url)
    done = shell.run(*command, python=AS_ANYBODY)
    tmp_path.chmod(0o700)

    assert done.code == 1
    assert done.err == (
        f"comprehend-phi: --redact cannot be written. {tmp_path}/a/b: Permission denied\n"
    )
    assert shell.server.service.job_ids == before


def test_review_writes_a_page(shell: Shell, partial_job_id: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.touch(0o644)

    done = shell("review", partial_job_id, str(page), "--json")

    assert done.code == 3
    assert done.json.keys() == {"job_id", "unprocessed", "failed", "review"}
    assert done.json["failed"] == []
    assert [file["error_code"] for file in done.json["unprocessed"]] == ["INVALID_ENCODING"]
    assert done.json["review"] == str(page)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "INVALID_ENCODING" in page.read_text("utf-8")


# --- Wrong usage ----------------------------------------------------------------------------------

LOCATIONS = ("s3://notes-bucket/notes", "s3://notes-bucket/results")
WITH_ROLE = (*LOCATIONS, "--role-arn", ROLE)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing command."),
        (("detcet",), "No such command 'detcet'."),
        (("detect",), "Missing argument 'SOURCE'."),
        (("wait", "1", "--bogus"), "No such option"),
        (("wait", "1", "--timeout", "Zinnia"), "Invalid value for '--timeout': "),
        (("wait", "1", "--timeout=Zinnia"), "Invalid value for '--timeout': "),
        (("wait", "1", "Zinnia"), "Got unexpected extra argument"),
        (("wait", "1", "--timeout", "-1"), "--timeout (seconds) must be at least 0"),
        (("wait", "1", "--timeout", "nan"), "--timeout (seconds) must be at least 0"),
        (("wait", "1", "--poll-seconds", "0"), "--poll-seconds (seconds) must be at least 0.001"),
        (("wait", "1", "--poll-seconds", "inf"), "--poll-seconds (seconds) must be finite"),
        (("start", *WITH_ROLE, "--slot-timeout", "-1"), "--slot-timeout (seconds) must be at le"),
        (("wait", "Zinnia!"), "JOB_ID (JobId) must consist of"),
        (("wait", "1", "--profile", "Zinnia"), "--profile: "),
        (("wait", "1", "--region", "us-east-1\n"), "--region must be a name"),
        (("wait", "1", "--region", "Zinnia east"), "--region must be a name"),
        (("wait", "1", "--region", ""), "--region must be a name"),
        (("wait", "1", "--endpoint-url", "Zinnia"), "--endpoint-url must be a URL"),
        (("wait", "1", "--endpoint-url", "ftp://Zinnia"), "--endpoint-url must be a URL"),
        (("wait", "1", "--endpoint-url", "http://"), "--endpoint-url must be a URL"),
        (("wait", "1", "--endpoint-url", "http://Zinnia:65536"), "--endpoint-url must be a URL"),
        (("wait", "1", "--endpoint-url", "http://[Zinnia"), "--endpoint-url must be a URL"),
        (("start", *LOCATIONS), "--role-arn is missing"),
        (("start", *LOCATIONS, "--role-arn", "Zinnia"), "--role-arn (IamRoleArn) must have"),
        (("start", *WITH_ROLE, "--token", "Zinnia!"), "--token (Client"),
        (("start", *WITH_ROLE, "--job-name", "Zinnia!"), "--job-name (JobN"),
        (("start", *LOCATIONS, "--role-arn", f"{ROLE}\udcff"), "--role-arn (IamRoleArn) must be"),
        (("start", *WITH_ROLE, "--kms-key", "\udcff"), "--kms-key (KMSKey) mu"),
        (("start", "s3://a-bucket/\udcff", LOCATIONS[1]), "SOURCE (S3 URI) must be text that UTF"),
        (
            ("start", LOCATIONS[0], "s3://a-bucket/\udcff", "--role-arn", ROLE),
            "DESTINATION (S3 URI",
        ),
        (("wait", "\udcff"), "JOB_ID (JobId) must consist of"),
        (("start", "Zinnia", LOCATIONS[1]), "SOURCE must be like s3://bucket/prefix"),
        (("start", "s3://Zinnia/", LOCATIONS[1]), "SOURCE (S3Bucket) must consist of"),
        (("detect", LOCATIONS[0], "Zinnia"), "DESTINATION must be like s3://bucket/prefix"),
        (("detect", "--local", "Zinnia", "out"), "SOURCE must be a folder that exists"),
        (("detect", "--local", ".", "out", "--region", "x"), "--local takes no --region"),
        (("detect", "--local", ".", "out", "--allow-overlap"), "--local takes no --allow-overlap"),
        (("detect", "--local", "s3://Zinnia", "out"), "SOURCE must be a local folder"),
        (("detect", "--local", "", "out"), "SOURCE must be a local folder"),
        (("detect", "--local", ".", "s3://Zinnia"), "DESTINATION must be a local folder"),
        (("detect", "--local", ".", ""), "DESTINATION must be a local folder"),
        (("detect", *LOCATIONS, "--redact", "s3://Zinnia/a"), "--redact must be a local folder"),
        (("detect", *LOCATIONS, "--redact=gs://Zinnia"), "--redact must be a local folder"),
        (("detect", *LOCATIONS, "--redact", ""), "--redact must be a local folder"),
        (("detect", *LOCATIONS, "--review", "S3://Zinnia/a"), "--review must be a local file"),
        (("redact", "1", "s3://Zinnia/a"), "FOLDER must be a local folder"),
        (("redact", "1", "file:/Zinnia"), "FOLDER must be a local folder"),
        (("review", "1", "s3://Zinnia/a"), "FILE must be a local file"),
        (("review", "1", ""), "FILE must be a local file"),
        (("detect", "--local", ".", "out", "--redact", "./"), "--redact would write among"),
        (("detect", "--local", ".", "../out", "--review", "a/page.html"), "--review would write"),
        (("detect", "--local", ".", "../out", "--review", os.devnull), "--review must not be"),
        (("review", "1", "."), "FILE must not be there yet or be a regular file"),
        (("detect", "--local", ".", "out"), "DESTINATION would write among the notes in SOURCE"),
        (("list", "--status", "Zinnia"), "--status (JobStatus) must be one of SUBMITTED"),
        (("list", "--name", "a", "--status", "FAILED"), "--status (Comprehend"),
        (("list", "--before", "Zinnia"), "--before must be a date"),
        (("list", "--before", "2031-02-30"), "--before must be a date"),
        (("list", "--after", ""), "--after must be a date"),
        (("list", "--after", "\udcff"), "--after must be a date"),
        (("list", "--name", "\udcff"), "--name (JobName) must consist of"),
        (("list", "--before", "9999-12-31T23:59:59-14:00"), "--before must be a date"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    arguments: tuple[str, ...], says: str, quick: Callable[..., Done]
) -> None:
    done = quick(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(says)
    assert len(done.err.splitlines()) == 1


def test_an_unknown_option_is_named_without_its_value(quick: Callable[..., Done]) -> None:
    done = quick("wait", "1", "--bogus=Zinnia")

    # click's own words, which differ from version to version.
    assert re.fullmatch(r"No such option:? '?--bogus'?\. Try --help\.", done.error)


def test_a_uri_in_the_place_of_a_folder_creates_nothing_and_starts_nothing(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], job_id: str
) -> None:
    jobs, files = shell.server.service.job_ids, set(shell.home.rglob("*"))
    uri = f"s3://{shell.bucket}/copies"
    start = ("detect", *shell.start("good", "--kms-key", KEY))
    commands = (
        (*start, "--redact", uri),
        (*start, "--review", uri),
        ("redact", job_id, uri),
        ("review", job_id, uri),
    )

    assert [quick(*command, *on).code for command in commands] == [2, 2, 2, 2]
    assert shell.server.service.job_ids == jobs
    assert set(shell.home.rglob("*")) == files


def test_a_local_folder_may_be_named_like_a_scheme(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str], job_id: str
) -> None:
    assert quick("redact", job_id, "./s3:/copies", *on).code == 0
    assert (shell.home / "s3:" / "copies" / "one.txt").read_bytes() == REDACTED.encode()


@pytest.mark.parametrize(
    ("source", "destination"), [("notes", "notes"), ("notes/", "notes/out"), ("a/notes", "a")]
)
def test_overlapping_locations_need_an_explicit_option(
    source: str,
    destination: str,
    shell: Shell,
    quick: Callable[..., Done],
    on: tuple[str, str],
) -> None:
    shell.put("notes/one.txt")
    shell.put("a/notes/one.txt")
    locations = (f"s3://{shell.bucket}/{source}", f"s3://{shell.bucket}/{destination}")
    options = ("--role-arn", ROLE, "--kms-key", KEY, *on)
    jobs = shell.server.service.job_ids

    for command in ("start", "detect"):
        done = quick(command, *locations, *options)
        assert (done.code, done.out) == (2, "")
        assert done.error.startswith("SOURCE and DESTINATION overlap")
        assert "--allow-overlap" in done.err
    assert shell.server.service.job_ids == jobs

    for allowed in (("start",), ("detect", "--poll-seconds", "0.02")):
        done = quick(*allowed, *locations, *options, "--allow-overlap")
        assert (done.code, "Warning" in done.err) == (0, False)
    assert len(shell.server.service.job_ids) == len(jobs) + 2


def test_a_process_that_was_used_wrongly_exits_with_2(shell: Shell) -> None:
    done = shell.run("start", *LOCATIONS, "--job-name", f"{CANARY}!", "--role-arn", ROLE)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("--job-name (JobName) must consist of Unicode letters")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--replacement", "{Zinnia}"), "--replacement (format string) must "),
        (("--replacement", "\udcff"), "--replacement (format string) must "),
        (("--min-score", "nan"), "--min-score (score) must be between 0 and 1"),
        (("--min-score", "1.5"), "--min-score (score) must be between 0 and 1"),
        (("--min-score", "Zinnia"), "Invalid value for '--min-score': "),
    ],
)
def test_wrong_options_of_redact_are_wrong_usage(
    option: tuple[str, str],
    says: str,
    quick: Callable[..., Done],
    on: tuple[str, str],
    job_id: str,
    tmp_path: Path,
) -> None:
    done = quick("redact", job_id, str(tmp_path), *option, *on)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(says)


# --- Failures -------------------------------------------------------------------------------------


def test_an_unknown_job_fails_in_one_line(shell: Shell) -> None:
    done = shell("status", "0" * 32)

    assert (done.code, done.out) == (1, "")
    assert done.error.startswith("DescribePHIDetectionJob: ResourceNotFoundException: ")


def test_no_region_fails_in_one_line(shell: Shell) -> None:
    done = shell.run("status", "0" * 32, AWS_DEFAULT_REGION="")

    assert done.code == 1
    assert "AWS_DEFAULT_REGION" in done.error


NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
TWO_REGIONS = "[default]\nregion = us-east-1\nregion = us-west-2\n"


@pytest.mark.parametrize(
    ("config", "options", "env", "says"),
    [
        (TWO_REGIONS, (), {}, "the AWS config file"),
        (TWO_REGIONS, ("--profile", "default"), {}, "the AWS config file"),
        (CANARY, (), {}, "the AWS config file"),
        (CANARY, ("--profile", "default"), {}, "the AWS config file"),
        ("", (), {"AWS_PROFILE": "Zinnia"}, "the profile (AWS_PROFILE)"),
        ("", (), {"AWS_DEFAULTS_MODE": "Zinnia"}, "the AWS config file"),
        ("[default]\ncredential_process = /Zinnia", (), NO_KEYS, "credential_process"),
        ("[default]\nrole_arn = a\nsource_profile = b", (), NO_KEYS, "role_arn"),
        ("", (), {"AWS_ACCESS_KEY_ID": ""}, "AWS_SECRET_ACCESS_KEY"),
        ("", (), NO_KEYS, "AWS_ACCESS_KEY_ID"),
        (
            "",
            (),
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/Zinnia",
                **NO_KEYS,
            },
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ),
        (
            "",
            (),
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/Zinnia", "AWS_ROLE_ARN": ROLE, **NO_KEYS},
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
        ("[default]\ns3 = Zinnia", (), {}, "the AWS config file"),
    ],
)
def test_broken_settings_of_aws_fail_in_one_line_that_says_what_to_check(
    config: str,
    options: tuple[str, ...],
    env: dict[str, str],
    says: str,
    quick: Callable[..., Done],
    on: tuple[str, str],
    job_id: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name, value in env.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)

    done = quick("results", job_id, *options, *on)

    assert (done.code, done.out) == (1, "")
    assert "bug" not in done.err
    assert says in done.error


def test_what_nobody_expected_shows_its_type_alone(shell: Shell, tmp_path: Path) -> None:
    # A first attempt that fails makes the client import tenacity.
    (tmp_path / "tenacity.py").write_text(f"raise ValueError('{CANARY}')")
    closed = ("--endpoint-url", "http://127.0.0.1:1")

    done = shell.run("status", "0" * 32, *closed, PYTHONPATH=str(tmp_path))

    assert (done.code, done.out) == (1, "")
    assert done.err == "comprehend-phi: unexpected ValueError; this is a bug, please report it\n"


def test_without_a_key_it_warns_in_one_line(shell: Shell) -> None:
    done = shell("start", *shell.start("good"))

    assert done.code == 0
    [_, warning, _] = done.err.splitlines()
    assert warning.startswith("Warning: Without --kms-key the service writes its results")


def test_without_a_key_no_job_starts_where_warnings_are_errors(
    shell: Shell, quick: Callable[..., Done], on: tuple[str, str]
) -> None:
    before = shell.server.service.job_ids
    done = quick("start", *shell.start("good"), *on)  # pytest makes errors of warnings

    assert done.code == 1
    assert done.error.startswith("No job was started. Without --kms-key")
    assert shell.server.service.job_ids == before


# --- Tokens ---------------------------------------------------------------------------------------


def test_the_token_of_a_start_with_unknown_outcome_starts_no_second_job(slow: Shell) -> None:
    command = ("start", *slow.start("notes", "--kms-key", KEY))
    before = len(slow.server.service.job_ids)
    # The first attempt starts the job, and its answer is lost; the second is not let through.
    slow.server.service.script(
        faults.reset_after(), faults.error("AccessDeniedException", "Not now")
    )

    lost = slow(*command)
    [token] = re.findall(r"^Request token: (.*)$", lost.err, re.MULTILINE)
    again = slow(*command, "--token", token)

    assert (lost.code, lost.out) == (1, "")
    assert lost.err.endswith(f"the same command with --token {token}\n")
    assert (again.code, again.out) == (0, f"{slow.server.service.job_ids[-1]}\n")
    assert len(slow.server.service.job_ids) == before + 1


def test_the_token_is_told_before_anything_is_answered(shell: Shell) -> None:
    nowhere = "http://127.0.0.1:9"
    command = ("start", *shell.start("good", "--kms-key", KEY), "--endpoint-url", nowhere)
    with shell.popen(*command) as process:
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        done = finished(process)

    [token] = re.findall(r"^Request token: ([0-9a-f-]{36})$", told)
    assert done.code == 130
    assert done.err.endswith(f"the same command with --token {token}\n")


def test_all_slots_taken_is_told_with_the_option_that_waits(
    slow: Shell, quick: Callable[..., Done]
) -> None:
    slow.server.service.script(faults.job_limit())
    arguments = slow.start("notes", "--kms-key", KEY)
    done = quick("start", *arguments, "--endpoint-url", slow.url)

    assert done.code == 1
    assert "\n--slot-timeout SECONDS waits for a free slot." in done.err


# --- Waiting that ends early ----------------------------------------------------------------------


def test_a_wait_that_times_out_exits_with_4_and_says_how_to_go_on(
    slow: Shell, slow_job: str
) -> None:
    done = slow("wait", slow_job, "--timeout", "0.1", "--json", "--region", "us-east-1")

    assert done.code == 4
    assert done.json["job_id"] == slow_job
    assert re.match(rf"Job {slow_job} was \w+ after 0.1 seconds of waiting\.", done.error)
    assert done.err.splitlines()[-1] == (
        "The job goes on; to wait for it again: comprehend-phi wait"
        f" {slow_job} --region us-east-1 --endpoint-url {slow.url}"
    )


def interrupted(process: Any) -> Done:
    """The process, interrupted in its wait."""
    while not process.stderr.readline().startswith(("SUBMITTED", "IN_PROGRESS")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    return finished(process)


def test_an_interrupted_wait_exits_with_130_and_says_how_to_go_on(
    slow: Shell, slow_job: str
) -> None:
    with slow.popen("wait", slow_job, "--endpoint-url", slow.url) as process:
        done = interrupted(process)

    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines() == [
        f"comprehend-phi: Interrupted in the wait for job {slow_job}",
        f"The job goes on; to wait for it again: comprehend-phi wait {slow_job}"
        f" --endpoint-url {slow.url}",
    ]


def test_an_interrupted_detect_says_how_to_wait_for_its_job(slow: Shell) -> None:
    command = ("detect", *slow.start("notes", "--kms-key", KEY), "--endpoint-url", slow.url)
    with slow.popen(*command) as process:
        done = interrupted(process)

    assert done.code == 130
    job_id = slow.server.service.job_ids[-1]
    assert f"comprehend-phi wait {job_id} --endpoint-url {slow.url}" in done.err


def test_an_interrupted_local_job_has_ended(shell: Shell, notes: Path) -> None:
    command = ("detect", "--local", str(notes), "out", "--poll-seconds", "3600")
    with shell.popen(*command) as process:
        done = interrupted(process)

    assert done.code == 130
    assert "The job has ended with this program" in done.err
    assert "comprehend-phi wait" not in done.err


def test_an_interrupt_while_results_are_printed_exits_with_130(shell: Shell) -> None:
    shell.put("long/one.txt", NOTE * 300)
    job_id = shell.ended_job("long")
    with shell.popen("results", job_id, "--endpoint-url", shell.url) as process:
        # There is more than fits into the pipe, so it stands in the midst of it.
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        done = finished(process)

    assert done.code == 130
    assert done.err == (
        f"comprehend-phi: Interrupted while reading the results of job {job_id}\n"
        "The same command reads them again.\n"
    )


def test_an_interrupt_while_detect_reads_is_not_said_to_be_one_of_the_wait(
    shell: Shell,
    quick: Callable[..., Done],
    on: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)  # which puts each copy in its place
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path))
    done = quick("detect", *shell.start("good", *options), *on)

    job_id = shell.server.service.job_ids[-1]
    assert done.code == 130
    assert done.error == f"Interrupted while reading the results of job {job_id}"
    assert done.err.splitlines()[-1] == (
        "The job has ended; to read its results: comprehend-phi results"
        f" {job_id} --endpoint-url {shell.url}"
    )


class SilentAboutDocuments(BaseHTTPRequestHandler):
    """Passes requests on to another S3, but for documents, whose requests it never answers."""

    s3: str
    asked: threading.Event

    def do_GET(self) -> None:
        if self.path.endswith(".out"):
            self.asked.set()
            self.rfile.read(1)  # until the client goes away
            return
        with urlopen(Request(self.s3 + self.path, headers=dict(self.headers))) as answer:
            self.send_response(answer.status)
            for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.read())

    def log_message(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.parametrize("command", ["results", "redact", "review"])
def test_an_interrupt_ends_the_reading_while_s3_does_not_answer(
    command: str, shell: Shell, job_id: str, serving: Serving, tmp_path: Path
) -> None:
    asked = threading.Event()
    handler = type("Handler", (SilentAboutDocuments,), {"s3": shell.url, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    files = () if command == "results" else (str(tmp_path / "new"),)
    arguments = (command, job_id, *files, "--endpoint-url", shell.url)
    with serving(server), shell.popen(*arguments, AWS_ENDPOINT_URL_S3=url) as process:
        reads = asked.wait(60)
        process.send_signal(signal.SIGINT)
        done = finished(process)

    assert reads
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        f"comprehend-phi: Interrupted while reading the results of job {job_id}\n"
        "The same command reads them again.\n"
    )


IMPATIENT = """
import os, signal, time
import click
from comprehend_phi.cli.exits import interrupted, run

app = click.Group()

def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

@app.command()
def command():
    try:
        press_ctrl_c()
    except KeyboardInterrupt:
        ended = interrupted("Interrupted", "How to go on")
    try:
        raise ended
    finally:
        press_ctrl_c()  # while connections are closed

run(app, ["command"])
"""


def test_the_second_ctrl_c_ends_the_process_at_once_after_the_first_told_how_to_go_on(
    shell: Shell,
) -> None:
    done = shell.run(python=("-c", IMPATIENT))

    assert done == Done(-signal.SIGINT, "", "comprehend-phi: Interrupted\nHow to go on\n")


def test_an_interrupt_while_the_program_is_loaded_is_quiet(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")

    assert shell.run("--help", PYTHONPATH=str(tmp_path)) == Done(130, "", "")


def test_a_wait_in_which_no_poll_is_answered_exits_with_1_and_says_how_to_go_on(
    slow: Shell, slow_job: str, quick: Callable[..., Done]
) -> None:
    job_id = slow_job
    slow.server.service.script(faults.error("AccessDeniedException", "Not now"))
    done = quick("wait", job_id, "--json", "--endpoint-url", slow.url)

    assert done.code == 1
    assert done.json == {"job_id": job_id, "job_status": None}
    assert done.error.startswith("DescribePHIDetectionJob: AccessDeniedException")
    assert done.err.splitlines()[-1].endswith(
        f"comprehend-phi wait {job_id} --endpoint-url {slow.url}"
    )


def test_a_wait_shows_each_poll_that_fails_when_it_fails(
    slow: Shell, slow_job: str, quick: Callable[..., Done]
) -> None:
    slow.server.service.script(
        faults.passes(),
        faults.error("ExpiredTokenException", f"Expired\x1b[31m at {slow_job}"),
        faults.error("AccessDeniedException", "Not now"),
    )
    done = quick("wait", slow_job, "--poll-seconds", "0.02", "--endpoint-url", slow.url)

    assert done.code == 1
    first, second, *_ = done.err.splitlines()
    assert re.fullmatch(r"[A-Z_]+ after 0:00:\d\d", first)
    assert re.match(
        r"Poll failed after 0:00:\d\d: DescribePHIDetectionJob: ExpiredTokenException: Expired",
        second,
    )


# --- Calls that are tried again -------------------------------------------------------------------


def test_a_call_that_is_tried_again_is_told_with_its_reason_and_what_to_check(
    shell: Shell,
) -> None:
    # Bound, so that nobody else gets the port, but not listening.
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with shell.popen("wait", "1", "--endpoint-url", url) as process:
            first, second = (process.stderr.readline() for _ in range(2))
            process.send_signal(signal.SIGINT)
            done = finished(process)

    again = "DescribePHIDetectionJob: could not connect to {} (EndpointConnectionError) on attempt"
    assert first.startswith(f"{again.format(url)} 1, trying again in 0.")
    for setting in ("region_name", "AWS_ENDPOINT_URL_COMPREHENDMEDICAL", "AWS_ENDPOINT_URL)"):
        assert setting in first
    # What to check is said once.
    assert re.fullmatch(
        rf"{re.escape(again.format(url))} 2, trying again in \d\.\d\d s\.\n", second
    )
    assert done.code == 130


def test_waiting_for_a_job_slot_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"

    def start() -> None:
        raise ActiveJobLimitExceeded(operation="StartPHIDetectionJob", code=words, message=words)

    policy = RetryPolicy(slot_timeout=100)
    with retries_shown(), pytest.raises(ActiveJobLimitExceeded):
        call_with_retries(start, policy, FakeClock())

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"StartPHIDetectionJob: {words} on attempt 1, trying again in ")
    assert "free slot" in line


def test_after_the_command_nothing_is_told_any_more(quick: Callable[..., Done]) -> None:
    log = logging.getLogger("comprehend_phi")
    before = (log.level, list(log.handlers))
    quick("--version")

    assert (log.level, log.handlers) == before


# --- AWS's own settings ---------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [(), ("--profile", "ward")])
@pytest.mark.parametrize(
    "config",
    [
        "s3 =\n",
        "region = Zinnia\nregion = Zinnia\n",
        "Zinnia\n",
        "credential_process = /Zinnia/keys\n",
    ],
)
def test_a_line_in_the_config_file_that_boto3_cannot_use_is_no_bug(
    config: str, profile: tuple[str, ...], shell: Shell
) -> None:
    path = shell.home / f"{uuid4().hex}.config"
    path.write_text(f"[default]\n{config}\n[profile ward]\n{config}")
    env = {"AWS_CONFIG_FILE": str(path)}
    if "credential_process" in config:
        env.update(dict.fromkeys(CREDENTIALS, ""))
    arguments = ("status", "1", *profile, "--endpoint-url", shell.url)
    with shell.popen(*arguments, python=(), **env) as process:
        done = finished(process)

    assert (done.code, done.out) == (1, "")
    assert "boto3 cannot build " in done.error
    assert "credential_process" in done.error or "AWS_CONFIG_FILE" in done.error


def test_a_variable_that_boto3_cannot_use_is_no_bug_either(shell: Shell) -> None:
    (shell.home / "one note").mkdir()
    (shell.home / "one note" / "a.txt").write_text(NOTE)
    arguments = ("detect", "--local", "one note", "out of one note")
    with shell.popen(*arguments, AWS_DEFAULTS_MODE="Zinnia") as process:
        done = finished(process)

    assert (done.code, done.out) == (1, "")
    assert "boto3 cannot build the client for s3 (" in done.error


# --- Pipes and terminals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "stream"),
    [("wait", "stdout"), ("wait", "stderr"), ("results", "stdout"), ("list", "stdout")],
)
def test_a_closed_pipe_ends_quietly_with_141(
    command: str, stream: str, shell: Shell, job_id: str
) -> None:
    arguments = (command,) if command == "list" else (command, job_id)
    with shell.popen(*arguments, "--json", "--endpoint-url", shell.url) as process:
        getattr(process, stream).close()
        rest = (process.stderr if stream == "stdout" else process.stdout).read()
        code = process.wait(60)

    assert code == 141
    assert "Traceback" not in rest
    assert "Exception" not in rest


@pytest.mark.parametrize("stream", [1, 2])
def test_a_stream_that_the_shell_closed_is_done_without(
    stream: int, shell: Shell, job_id: str
) -> None:
    code = (
        f"import os, sys; os.close({stream}); sys.stdin, sys.std{['out', 'err'][stream - 1]} ="
        " None, None; from comprehend_phi.__main__ import main; main()"
    )
    done = shell.run("wait", job_id, "--endpoint-url", shell.url, python=("-c", code))

    assert done.code == 0
    assert (done.out == "") == (stream == 1)
    assert (done.err == "") == (stream == 2)


def run_on_full_disk(shell: Shell, *arguments: str, full: str) -> Done:
    """Run a command whose stdout or stderr, or both, go to a file on a full disk."""
    with Path("/dev/full").open("w") as disk:
        done = subprocess.run(
            [sys.executable, "-m", "comprehend_phi", *arguments, "--endpoint-url", shell.url],
            cwd=shell.home,
            env=shell.environment(),
            text=True,
            timeout=60,
            check=False,
            stdout=disk if "stdout" in full else subprocess.PIPE,
            stderr=disk if "stderr" in full else subprocess.PIPE,
        )
    return checked(Done(done.returncode, done.stdout or "", done.stderr or ""))


@pytest.mark.parametrize("command", ["status", "results", "list"])
def test_a_full_disk_behind_stdout_fails_in_one_line(
    command: str, shell: Shell, job_id: str
) -> None:
    arguments = (command,) if command == "list" else (command, job_id)
    done = run_on_full_disk(shell, *arguments, full="stdout")

    assert done.code == 1
    assert done.error == "No space left on device: <stdout>"


def test_the_id_of_a_started_job_is_told_if_stdout_is_full(shell: Shell) -> None:
    done = run_on_full_disk(shell, "start", *shell.start("good", "--kms-key", KEY), full="stdout")

    assert done.code == 1
    assert f"Job {shell.server.service.job_ids[-1]} started\n" in done.err


def test_detect_says_how_to_read_the_results_again_if_stdout_is_full(shell: Shell) -> None:
    options = ("--kms-key", KEY, "--poll-seconds", "0.02")
    done = run_on_full_disk(shell, "detect", *shell.start("good", *options), full="stdout")

    job_id = shell.server.service.job_ids[-1]
    assert done.code == 1
    assert done.error == "No space left on device: <stdout>"
    assert done.err.splitlines()[-1] == (
        f"The job has ended; to read its results: comprehend-phi results {job_id}"
        f" --endpoint-url {shell.url}"
    )


def test_no_job_is_started_if_its_token_cannot_be_told(shell: Shell) -> None:
    before = shell.server.service.job_ids
    start = ("start", *shell.start("good", "--kms-key", KEY))

    assert run_on_full_disk(shell, *start, full="stderr") == Done(1, "", "")
    assert run_on_full_disk(shell, *start, full="stdout stderr") == Done(1, "", "")
    assert shell.server.service.job_ids == before


def test_wrong_usage_exits_with_2_also_if_stderr_is_full(shell: Shell) -> None:
    assert run_on_full_disk(shell, "status", full="stderr") == Done(2, "", "")


def test_help_into_a_closed_pipe_ends_quietly_with_141(shell: Shell) -> None:
    with shell.popen("--help") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


def on_a_terminal(shell: Shell, *arguments: str, **env: str) -> str:
    """What a terminal gets."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "comprehend_phi", *arguments, "--endpoint-url", shell.url],
        cwd=shell.home,
        env=shell.environment(**{"TERM": "xterm-256color", "COLUMNS": "60", **env}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
        os.close(ours)
        assert process.wait(60) in (0, 3)
    text = shown.decode()
    assert not leaks(text)
    return text


# There is none with or without NO_COLOR: what tells things apart is in words.
COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


def test_on_a_terminal_the_wait_shows_state_elapsed_time_and_next_poll_without_colour(
    shell: Shell,
) -> None:
    job = shell.new_job("good")
    shown = on_a_terminal(shell, "wait", job.job_id, "--poll-seconds", "0.6")

    assert re.search(r"[A-Z]+ 0:00:\d\d elapsed, ", shown)
    assert re.search(r"COMPLETED after 0:00:\d\d\r\n", shown)
    assert not COLOUR.search(shown)


def test_on_a_terminal_a_poll_that_fails_is_a_line_of_its_own(shell: Shell) -> None:
    job = shell.new_job("good")
    paused = {"ComprehendMedicalAsyncJobProperties": {"JobId": job.job_id, "JobStatus": "PAUSED"}}
    shell.server.service.script(
        faults.answer(200, json.dumps(paused).encode()),
        faults.error("ExpiredTokenException", "Expired."),
    )
    shown = on_a_terminal(shell, "wait", job.job_id, "--poll-seconds", "0.01")

    assert re.search(r"Poll failed after 0:00:\d\d: DescribePHIDetectionJob: Expired", shown)
    assert shown.rstrip().endswith("COMPLETED")


def test_a_dumb_terminal_gets_plain_lines(shell: Shell, job_id: str) -> None:
    shown = on_a_terminal(shell, "wait", job_id, TERM="dumb")

    assert "\x1b" not in shown
    assert re.fullmatch(r"COMPLETED after 0:00:\d\d\r\nCOMPLETED\r\n", shown)


def test_tables_on_a_terminal_are_not_cut_and_have_no_colour(shell: Shell) -> None:
    shell.put(f"wide/{'Q' * 90}.txt", b"\xff")
    shell.put("wide/one.txt")
    options = ("--kms-key", KEY, "--poll-seconds", "0.05")
    shown = on_a_terminal(shell, "detect", *shell.start("wide", *options))

    assert "TYPE" in shown
    assert shown.count("Q") == 90
    assert not COLOUR.search(shown)


# --- Without AWS ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "ward 3" / "Äpfel").mkdir(parents=True)
    (folder / "one.txt").write_bytes(NOTE.encode())
    (folder / "ward 3" / "Äpfel" / "100% #2.txt").write_bytes(NOTE.encode())
    return folder


@pytest.fixture(scope="module")
def local(shell: Shell, notes: Path) -> Done:
    """A local run on a machine whose own settings would lead elsewhere, or nowhere."""
    nowhere = "http://127.0.0.1:9"
    files = ("--redact", "local/redacted", "--review", "local/review.html")
    return shell.run(
        "detect",
        "--local",
        str(notes),
        "local/out",
        *files,
        AWS_PROFILE="nobody",
        AWS_ENDPOINT_URL=nowhere,
        AWS_ENDPOINT_URL_S3=nowhere,
        HTTP_PROXY=nowhere,
        http_proxy=nowhere,
        AWS_DEFAULT_REGION="",
        AWS_ACCESS_KEY_ID="",
        PYTHONWARNINGS="error",
    )


def test_a_local_job_needs_nothing_of_aws(local: Done) -> None:
    assert local.code == 0
    assert local.out.startswith("6 entities in 2 documents\n")


def test_a_local_job_leaves_the_files_that_aws_would(local: Done, shell: Shell) -> None:
    [folder] = (shell.home / "local" / "out").iterdir()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert re.fullmatch(r"123456789012-PHIDetection-[0-9a-f]{32}", folder.name)
    assert files == {
        "Manifest",
        "one.txt.out",
        "ward 3/Äpfel/100% #2.txt.out",
        f"Manifest_{folder.name}/success/files",
        f"Manifest_{folder.name}/failed/files",
    }


def test_the_output_of_a_local_job_is_for_its_owner_alone(local: Done, shell: Shell) -> None:
    out = shell.home / "local" / "out"
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in out.rglob("*")}

    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert modes == {(True, 0o700), (False, 0o600)}


def test_a_local_job_has_its_redacted_copies_and_its_page(local: Done, shell: Shell) -> None:
    copies = shell.home / "local" / "redacted"

    for name in ("one.txt", "ward 3/Äpfel/100% #2.txt"):
        assert (copies / name).read_bytes() == REDACTED.encode()
    assert (shell.home / "local" / "review.html").is_file()


# --- What a local folder may contain --------------------------------------------------------------


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_its_folder(path: Path) -> None:
    path.symlink_to(".")


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def folders_below_1024_bytes(path: Path) -> None:
    for _ in range(5):
        path /= "f" * 204
    path.mkdir(parents=True)
    (path / "note.txt").touch()


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (broken_link, "ward 4", "ward 4 (a broken link)"),
        (link_to_itself, "ward 4", "ward 4 (Too many levels of symbolic links)"),
        (link_to_its_folder, "ward 4", "ward 4 (a link to a folder)"),
        (named_pipe, "ward 4", "ward 4 (not a regular file)"),
        (bound_socket, "ward 4", "ward 4 (not a regular file)"),
        (Path.touch, "ward\udcff", "ward\\udcff (the name is not UTF-8)"),
        (folders_below_1024_bytes, "ward 4", "(the path is longer than the 1024 bytes of a key"),
    ],
)
def test_a_local_job_names_what_cannot_be_a_note_and_is_not_started(
    make: Callable[[Path], None], name: str, says: str, quick: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "notes" / "ward 3").mkdir(parents=True)
    (tmp_path / "notes" / "ward 3" / "one.txt").write_bytes(NOTE.encode())
    make(tmp_path / "notes" / name)

    done = quick("detect", "--local", str(tmp_path / "notes"), str(tmp_path / "out"))

    assert (done.code, done.out) == (1, "")
    assert done.error.startswith(
        f"No job was started. 1 path in SOURCE cannot be read as a note: {tmp_path / 'notes'}/"
    )
    assert says in done.error
    assert not (tmp_path / "out").exists()


def test_a_local_job_names_files_and_folders_that_may_not_be_read(
    shell: Shell, tmp_path: Path
) -> None:
    for name in ("may", "may not"):
        (tmp_path / "notes" / name).mkdir(parents=True)
        (tmp_path / "notes" / name / "one.txt").write_bytes(NOTE.encode())
    (tmp_path / "notes" / "may" / "two.txt").touch(0o000)
    (tmp_path / "notes" / "may not").chmod(0o000)
    command = ("detect", "--local", str(tmp_path / "notes"), "out of this", "--redact", "copies")
    done = shell.run(*command, python=AS_ANYBODY)
    (tmp_path / "notes" / "may not").chmod(0o700)

    assert (done.code, done.out) == (1, "")
    assert done.error == (
        "No job was started. 2 paths in SOURCE cannot be read as a note:"
        f" {tmp_path}/notes/may not (Permission denied),"
        f" {tmp_path}/notes/may/two.txt (Permission denied)"
    )
    assert not (shell.home / "out of this").exists()
    assert not (shell.home / "copies").exists()


def test_a_local_job_reads_links_to_files_and_hidden_files(
    quick: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "notes" / ".ward").mkdir(parents=True)
    (tmp_path / "elsewhere.txt").write_bytes(NOTE.encode())
    (tmp_path / "notes" / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "notes" / ".ward" / ".one.txt").write_bytes(NOTE.encode())

    places = (str(tmp_path / "notes"), str(tmp_path / "out"), "--redact", str(tmp_path / "copies"))
    done = quick("detect", "--local", *places)

    assert (done.code, done.out.splitlines()[0]) == (0, "6 entities in 2 documents")
    for name in ("linked.txt", ".ward/.one.txt"):
        assert (tmp_path / "copies" / name).read_bytes() == REDACTED.encode()
    assert not (tmp_path / "copies" / "linked.txt").is_symlink()


def test_20_of_the_paths_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for number in range(24):
        broken_link(tmp_path / f"link-{number:02}")

    with pytest.raises(Exit) as refused:
        find_notes(tmp_path)

    assert refused.value.code == 1
    assert refused.value.lines[0].count("a broken link") == 20
    assert refused.value.lines[0].endswith("link-19 (a broken link) and 4 more")


def test_a_note_that_vanishes_before_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.txt").touch()
    [path] = find_notes(tmp_path).values()
    path.unlink()

    with pytest.raises(Exit, match=r"one\.txt \(No such file or directory\)"):
        read_note(path)

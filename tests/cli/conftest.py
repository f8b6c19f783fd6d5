"""Run commands as a shell does. Each is a process, except for those of the fixture `run`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from attrs import frozen
from botocore.config import Config

from comprehend_phi import (
    InputDataConfig,
    Job,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
    WaitPolicy,
)
from comprehend_phi.cli import commands
from comprehend_phi.testing import LocalServer

from ..conftest import CANARY, ROLE

KEY = "alias/phi-results"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

# The canary is in every note, job name and rejected value. No command may print it unasked.
NOTE = f"Patient: {CANARY}, seen on 2031-02-03.\r\nPhone (555) 555-0142\n"
REDACTED = "Patient: [NAME], seen on [DATE].\r\nPhone [PHONE_OR_FAX]\n"


@frozen
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The object that stdout contains."""
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """The objects that stdout contains, one per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> str:
        """The line on stderr that says what went wrong."""
        [line] = [line for line in self.err.splitlines() if line.startswith("comprehend-phi: ")]
        return line.removeprefix("comprehend-phi: ")

    @property
    def failed(self) -> dict[str, str]:
        """The notes that stderr names as not delivered, with the reasons."""
        lines = [line for line in self.err.splitlines() if line.startswith("Failed: ")]
        matches = [re.fullmatch(r"Failed: (.*?) \((.*)\)", line) for line in lines]
        return {match[1]: match[2] for match in matches if match is not None}


Run = Callable[..., Done]


@frozen
class Shell:
    """Runs commands on one local service, with one bucket.

    It checks that no command prints a traceback, a control sequence or the canary.
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
        """Return the environment variables of a command. An empty variable is left out."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONSAFEPATH": os.environ["PYTHONSAFEPATH"],
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
        """Run a command."""
        with self.popen(*arguments, python=python, **env) as process:
            return finished(process, shows=shows)

    def run_without_stdin(self, *arguments: str) -> Done:
        """Run a command whose standard input is closed."""
        command = shlex.join((sys.executable, "-m", "comprehend_phi", *arguments))
        done = subprocess.run(
            f"{command} <&-",
            shell=True,
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return checked(Done(done.returncode, done.stdout, done.stderr))

    def __call__(self, *arguments: str, shows: bool = False) -> Done:
        """Run a command that calls the service."""
        return self.run(*arguments, "--endpoint-url", self.url, shows=shows)

    def start(self, key: str, *options: str) -> tuple[str, ...]:
        """Return the arguments of a start, without a KMS key."""
        locations = (f"s3://{self.bucket}/{key}", f"s3://{self.bucket}/results")
        return (*locations, "--role-arn", ROLE, "--job-name", f"Notes of {CANARY}", *options)

    def put(self, key: str, body: str | bytes = NOTE) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def new_job(self, key: str) -> Job:
        """Start a job with the library."""
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=self.bucket, s3_key=key),
            output_data_config=OutputDataConfig(s3_bucket=self.bucket, s3_key="results"),
            data_access_role_arn=ROLE,
            kms_key=KEY,
            job_name=f"Notes of {CANARY}",
        )
        return self.client.submit(request)

    def skip(self, job_id: str, output_key: str, input_key: str) -> None:
        """Change the lists of a COMPLETED job as if it had not processed a file."""
        folder = f"{output_key}/123456789012-PHIDetection-{job_id}/"
        lists = f"{folder}Manifest_{folder.split('/')[-2]}/"

        def edit(key: str, change: Callable[[Any], object]) -> None:
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"]
            content = json.load(body)
            change(content)
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=json.dumps(content).encode())

        def count(manifest: Any) -> None:
            summary = manifest["Summary"]
            assert (summary["Status"], summary["UnprocessedFilesCount"]) == ("COMPLETED", 0)
            summary["UnprocessedFilesCount"] = 1
            summary["SuccessFilesCount"] -= 1

        def remove(listed: Any) -> None:
            listed["Files"] = [file for file in listed["Files"] if file["Input"] != input_key]

        edit(f"{folder}Manifest", count)
        edit(f"{lists}success/files", remove)
        skipped = {"Input": input_key, "ErrorCode": "TOO_LARGE", "ErrorMessage": "It is too large."}
        edit(f"{lists}failed/files", lambda listed: listed["Files"].append(skipped))

    def ended_job(self, key: str) -> str:
        """Start a job with the library, wait for it, and return its id."""
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


def leaks(text: str) -> bool:
    return any(word in text for word in (*CANARY.split(), "555-0142"))


# Root may read and write everything. A process of root gives up these two capabilities.
AS_ORDINARY_USER = (
    "-c",
    "import ctypes, os, sys; os.getuid() or [ctypes.CDLL(None).prctl(24, right, 0, 0, 0)"
    " for right in (1, 2)]; os.execv(sys.executable, [sys.executable, '-m', 'comprehend_phi',"
    " *sys.argv[1:]])",
)


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
    """Commands on a service whose jobs take 0.05 seconds."""
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
def run(shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in the process of the tests, which is faster."""
    monkeypatch.chdir(shell.home)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", shell.url)

    def run_command(*arguments: str) -> Done:
        capsys.readouterr()
        handler = signal.getsignal(signal.SIGINT)
        code = commands.main(arguments)
        assert signal.getsignal(signal.SIGINT) is handler
        out, err = capsys.readouterr()
        return checked(Done(code, out, err))

    return run_command


@pytest.fixture
def endpoint(shell: Shell) -> tuple[str, str]:
    """The option that selects the service of `shell`."""
    return "--endpoint-url", shell.url


@pytest.fixture(scope="module")
def job_id(shell: Shell) -> str:
    """A job that processed every file."""
    return shell.ended_job("good")


@pytest.fixture(scope="module")
def partial_job_id(shell: Shell) -> str:
    """A job that did not process one of its files."""
    return shell.ended_job("mixed")


@pytest.fixture(scope="module")
def awkward_job_id(shell: Shell) -> str:
    """A job in which some keys cannot be paths."""
    for name in ("a.txt", "b/../c.txt", "x", "x/y", f"{'Q' * 256}.txt", "z.txt"):
        shell.put(f"awkward/{name}")
    return shell.ended_job("awkward")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "ward 3" / "Äpfel").mkdir(parents=True)
    (folder / "one.txt").write_bytes(NOTE.encode())
    (folder / "ward 3" / "Äpfel" / "100% #2.txt").write_bytes(NOTE.encode())
    return folder


def broken_link(path: Path) -> None:
    path.symlink_to("gone")

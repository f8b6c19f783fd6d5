"""Ctrl-C, in every phase of a command."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from ..conftest import Serving
from .conftest import KEY, NOTE, Done, Run, Shell, finished


def interrupted(process: Any) -> Done:
    """Interrupt a process while it waits for its job."""
    while not process.stderr.readline().startswith(("SUBMITTED", "IN_PROGRESS")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    return finished(process)


def test_an_interrupted_wait_exits_with_130_and_says_how_to_continue(
    slow: Shell, slow_job: str
) -> None:
    with slow.popen("wait", slow_job, "--endpoint-url", slow.url) as process:
        done = interrupted(process)

    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines() == [
        f"comprehend-phi: Interrupted while waiting for job {slow_job}",
        f"The job is not affected. To wait for it again: comprehend-phi wait {slow_job}"
        f" --endpoint-url {slow.url}",
    ]


def test_an_interrupted_detect_says_how_to_wait_for_its_job(slow: Shell) -> None:
    command = ("detect", *slow.start("notes", "--kms-key", KEY), "--endpoint-url", slow.url)
    with slow.popen(*command) as process:
        done = interrupted(process)

    assert done.code == 130
    job_id = slow.server.service.job_ids[-1]
    assert f"comprehend-phi wait {job_id} --endpoint-url {slow.url}" in done.err


def test_interrupting_a_local_job_ends_it(shell: Shell, notes: Path) -> None:
    command = ("detect", "--local", str(notes), "out", "--poll-seconds", "3600")
    with shell.popen(*command) as process:
        done = interrupted(process)

    assert done.code == 130
    assert "The local job ended with this command." in done.err
    assert "comprehend-phi wait" not in done.err


def test_an_interrupt_while_results_are_printed_exits_with_130(shell: Shell) -> None:
    shell.put("long/one.txt", NOTE * 300)
    job_id = shell.ended_job("long")
    with shell.popen("results", job_id, "--endpoint-url", shell.url) as process:
        # The results do not fit into the pipe, so the process blocks while it prints them.
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        done = finished(process)

    assert done.code == 130
    assert done.err == (
        f"comprehend-phi: Interrupted while reading the results of job {job_id}\n"
        "To read them again, repeat the command.\n"
    )


def test_interrupting_detect_while_it_reads_says_so(
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)  # the last step of writing a copy
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path))
    done = run("detect", *shell.start("good", *options), *endpoint)

    job_id = shell.server.service.job_ids[-1]
    assert done.code == 130
    assert done.error == f"Interrupted while reading the results of job {job_id}"
    assert done.err.splitlines()[-1] == (
        "The job has ended. To read its results: comprehend-phi results"
        f" {job_id} --endpoint-url {shell.url}"
    )


class SilentForDocuments(BaseHTTPRequestHandler):
    """Forwards requests to another S3, but never answers requests for documents."""

    s3: str
    asked: threading.Event

    def do_GET(self) -> None:
        if self.path.endswith(".out"):
            self.asked.set()
            self.rfile.read(1)  # blocks until the client closes the connection
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
def test_an_interrupt_ends_reading_even_if_s3_does_not_answer(
    command: str, shell: Shell, job_id: str, serving: Serving, tmp_path: Path
) -> None:
    asked = threading.Event()
    handler = type("Handler", (SilentForDocuments,), {"s3": shell.url, "asked": asked})
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
        "To read them again, repeat the command.\n"
    )


IMPATIENT = """
import os, signal, time
import click
from comprehend_phi.cli.exits import interrupted
from comprehend_phi.cli.program import run

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
        press_ctrl_c()  # as if connections were being closed

run(app, ["command"])
"""


def test_the_first_ctrl_c_says_how_to_continue_and_the_second_ends_the_process(
    shell: Shell,
) -> None:
    done = shell.run(python=("-c", IMPATIENT))

    assert done == Done(-signal.SIGINT, "", "comprehend-phi: Interrupted\nHow to go on\n")


def test_an_interrupt_while_the_program_loads_is_quiet(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")

    assert shell.run("--help", PYTHONPATH=str(tmp_path)) == Done(130, "", "")

"""stdout and stderr that are closed, on a full disk, or a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from comprehend_phi.testing import faults

from .conftest import KEY, Done, Shell, checked, leaks


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


def test_help_into_a_closed_pipe_ends_quietly_with_141(shell: Shell) -> None:
    with shell.popen("--help") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@pytest.mark.parametrize("stream", [1, 2])
def test_a_command_works_without_a_stream_that_the_shell_closed(
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
    """Run a command with stdout, stderr or both on a full disk."""
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
def test_stdout_on_a_full_disk_fails_in_one_line(command: str, shell: Shell, job_id: str) -> None:
    arguments = (command,) if command == "list" else (command, job_id)
    done = run_on_full_disk(shell, *arguments, full="stdout")

    assert done.code == 1
    assert done.error == "No space left on device: <stdout>"


def test_the_id_of_a_started_job_is_on_stderr_if_stdout_is_full(shell: Shell) -> None:
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
        f"The job has ended. To read its results: comprehend-phi results {job_id}"
        f" --endpoint-url {shell.url}"
    )


def test_no_job_is_started_if_its_token_cannot_be_printed(shell: Shell) -> None:
    before = shell.server.service.job_ids
    start = ("start", *shell.start("good", "--kms-key", KEY))

    assert run_on_full_disk(shell, *start, full="stderr") == Done(1, "", "")
    assert run_on_full_disk(shell, *start, full="stdout stderr") == Done(1, "", "")
    assert shell.server.service.job_ids == before


def test_wrong_usage_exits_with_2_even_if_stderr_is_full(shell: Shell) -> None:
    assert run_on_full_disk(shell, "status", full="stderr") == Done(2, "", "")


def on_a_terminal(shell: Shell, *arguments: str, **env: str) -> str:
    """Run a command on a terminal, and return what the terminal gets."""
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
            except OSError:  # on Linux: the process has closed its side
                break
        os.close(ours)
        assert process.wait(60) in (0, 3)
    text = shown.decode()
    assert not leaks(text)
    return text


# There are no colors, with or without NO_COLOR: words make the differences.
COLOR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[0-9;]*m")


def test_a_terminal_shows_state_elapsed_time_and_next_poll_without_color(
    shell: Shell,
) -> None:
    job = shell.new_job("good")
    shown = on_a_terminal(shell, "wait", job.job_id, "--poll-seconds", "0.6")

    assert re.search(r"[A-Z]+ 0:00:\d\d elapsed, ", shown)
    assert re.search(r"COMPLETED after 0:00:\d\d\r\n", shown)
    assert not COLOR.search(shown)


def test_a_terminal_shows_a_failed_poll_on_a_line_of_its_own(shell: Shell) -> None:
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


def test_tables_on_a_terminal_are_not_cut_and_have_no_color(shell: Shell) -> None:
    shell.put(f"wide/{'Q' * 90}.txt", b"\xff")
    shell.put("wide/one.txt")
    options = ("--kms-key", KEY, "--poll-seconds", "0.05")
    shown = on_a_terminal(shell, "detect", *shell.start("wide", *options))

    assert "TYPE" in shown
    assert shown.count("Q") == 90
    assert not COLOR.search(shown)

"""Failures of calls and settings: exit code 1 and one line that says what to check."""

from __future__ import annotations

import logging
import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from comprehend_phi import ActiveJobLimitExceeded, RetryPolicy
from comprehend_phi._retry import Retrier
from comprehend_phi.cli.progress import retries_shown
from comprehend_phi.testing import FakeClock

from ..conftest import CANARY, ROLE
from .conftest import CREDENTIALS, NOTE, Run, Shell, finished


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
def test_broken_aws_settings_fail_in_one_line_that_says_what_to_check(
    config: str,
    options: tuple[str, ...],
    env: dict[str, str],
    says: str,
    run: Run,
    endpoint: tuple[str, str],
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

    done = run("results", job_id, *options, *endpoint)

    assert (done.code, done.out) == (1, "")
    assert "bug" not in done.err
    assert says in done.error


def test_an_unexpected_exception_shows_only_its_type(shell: Shell, tmp_path: Path) -> None:
    # Building the client imports tenacity.
    (tmp_path / "tenacity.py").write_text(f"raise ValueError('{CANARY}')")
    closed = ("--endpoint-url", "http://127.0.0.1:1")

    done = shell.run("status", "0" * 32, *closed, PYTHONPATH=str(tmp_path))

    assert (done.code, done.out) == (1, "")
    assert done.err == "comprehend-phi: Unexpected ValueError. This is a bug; please report it.\n"


def test_a_retry_is_reported_with_its_reason_and_what_to_check(
    shell: Shell,
) -> None:
    # The port is bound, so that nobody else gets it, but nobody listens.
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
    # The advice is printed once.
    assert re.fullmatch(
        rf"{re.escape(again.format(url))} 2, trying again in \d\.\d\d s\.\n", second
    )
    assert done.code == 130


def test_waiting_for_a_job_slot_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"

    def start() -> None:
        raise ActiveJobLimitExceeded(operation="StartPHIDetectionJob", code=words, message=words)

    policy = RetryPolicy(slot_timeout=100)
    with retries_shown(), pytest.raises(ActiveJobLimitExceeded):
        Retrier(policy, FakeClock()).call(start)

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"StartPHIDetectionJob: {words} on attempt 1, trying again in ")
    assert "free slot" in line


def test_a_command_restores_the_logger(run: Run) -> None:
    log = logging.getLogger("comprehend_phi")
    before = (log.level, list(log.handlers))
    run("--version")

    assert (log.level, log.handlers) == before


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
def test_a_bad_line_in_the_aws_config_file_is_not_reported_as_a_bug(
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


def test_a_bad_variable_is_not_reported_as_a_bug(shell: Shell) -> None:
    (shell.home / "one note").mkdir()
    (shell.home / "one note" / "a.txt").write_text(NOTE)
    arguments = ("detect", "--local", "one note", "out of one note")
    with shell.popen(*arguments, AWS_DEFAULTS_MODE="Zinnia") as process:
        done = finished(process)

    assert (done.code, done.out) == (1, "")
    assert "boto3 cannot build the client for s3 (" in done.error

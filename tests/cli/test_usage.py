"""Wrong usage: exit code 2 and one line, which never quotes a value."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import pytest

from comprehend_phi.cli import program

from ..conftest import CANARY, ROLE
from .conftest import Run, Shell

LOCATIONS = ("s3://notes-bucket/notes", "s3://notes-bucket/results")


WITH_ROLE = (*LOCATIONS, "--role-arn", ROLE)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing command."),
        (("detcet",), "No such command 'detcet'. Try --help."),
        (("Zinnia",), "No such command. Try --help."),
        (("Patient Zinnia",), "No such command. Try --help."),
        (("--Zinnia",), "No such option. Try --help."),
        (("detect",), "Missing argument 'SOURCE'."),
        (("wait", "1", "--bogus"), "No such option"),
        (("wait", "1", "--timeout", "Zinnia"), "Invalid value for '--timeout': "),
        (("wait", "1", "--timeout=Zinnia"), "Invalid value for '--timeout': "),
        (("wait", "1", "Zinnia"), "Too many arguments. Try --help."),
        (("wait", "1", "--json=Zinnia"), "Option '--json' does not take a value. Try --help."),
        (("wait", "1", "--region"), "Option '--region' requires an argument. Try --help."),
        (("completion", "Zinnia"), "Invalid value for 'SHELL': it must be one of bash, zsh, fish."),
        (("wait", "1", "--timeout", "-1"), "--timeout (seconds) must be at least 0"),
        (("wait", "1", "--timeout", "nan"), "--timeout (seconds) must be at least 0"),
        (("wait", "1", "--poll-seconds", "0"), "--poll-seconds (seconds) must be at least 0.001"),
        (("wait", "1", "--poll-seconds", "inf"), "--poll-seconds (seconds) must be finite"),
        (("start", *WITH_ROLE, "--slot-timeout", "-1"), "--slot-timeout (seconds) must be at le"),
        (("wait", "Zinnia!"), "JOB_ID (JobId) must only contain"),
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
        (("wait", "\udcff"), "JOB_ID (JobId) must only contain"),
        (("start", "Zinnia", LOCATIONS[1]), "SOURCE must be a URI such as s3://"),
        (("start", "s3://Zinnia/", LOCATIONS[1]), "SOURCE (S3Bucket) must only contain"),
        (
            ("detect", LOCATIONS[0], "Zinnia"),
            "DESTINATION must be a URI such as s3://bucket/prefix, or a folder with --local",
        ),
        (("detect", "--local", "Zinnia", "out"), "SOURCE must be an existing folder"),
        (
            ("detect", "--local", ".", "out", "--region", "x"),
            "--local cannot be combined with --reg",
        ),
        (
            ("detect", "--local", ".", "out", "--allow-overlap"),
            "--local cannot be combined with --allow-overlap",
        ),
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
        (("detect", *LOCATIONS, "--redact", "s3:Zinnia/a"), "--redact must be a local folder"),
        (("detect", *LOCATIONS, "--review", "s3:Zinnia"), "--review must be a local file"),
        (("redact", "1", "arn:aws:s3:::Zinnia/a"), "FOLDER must be a local folder"),
        (("review", "1", "S3:Zinnia"), "FILE must be a local file"),
        (("detect", "--local", "s3:Zinnia/a", "out"), "SOURCE must be a local folder"),
        (("detect", "--local", ".", "s3:Zinnia/a"), "DESTINATION must be a local folder"),
        (("review", "1", "s3://Zinnia/a"), "FILE must be a local file"),
        (("review", "1", ""), "FILE must be a local file"),
        (("detect", "--local", ".", "../out", "--redact", "./"), "SOURCE and --redact must not be"),
        (
            ("detect", "--local", ".", "../out", "--review", "a/page.html"),
            "--review must not be in SOURCE",
        ),
        (
            ("detect", "--local", ".", "../out", "--review", os.devnull),
            "--review must be a new file",
        ),
        (("review", "1", "."), "FILE must be a new file or an existing regular file"),
        (("detect", "--local", ".", "out"), "DESTINATION must not be in SOURCE"),
        (("run", *LOCATIONS, "--ledger", "."), "--ledger must be a local file"),
        (("list", "--status", "Zinnia"), "--status (JobStatus) must be one of SUBMITTED"),
        (
            ("list", "--name", "a", "--status", "FAILED"),
            "--status cannot be combined with --name: the service accepts one filter at a time",
        ),
        (
            ("list", "--before", "2031-02-03", "--after", "2031-02-03"),
            "--after cannot be combined with --before: the service accepts one filter at a time",
        ),
        (("list", "--before", "Zinnia"), "--before must be a date"),
        (("list", "--before", "2031-02-30"), "--before must be a date"),
        (("list", "--after", ""), "--after must be a date"),
        (("list", "--after", "\udcff"), "--after must be a date"),
        (("list", "--name", "\udcff"), "--name (JobName) must only contain"),
        (("list", "--before", "9999-12-31T23:59:59-14:00"), "--before must be a date"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    arguments: tuple[str, ...], says: str, run: Run
) -> None:
    done = run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(says)
    assert len(done.err.splitlines()) == 1


def test_an_unknown_option_is_named_without_its_value(run: Run) -> None:
    done = run("wait", "1", "--bogus=Zinnia")

    # The wording is click's and differs between its versions.
    assert re.fullmatch(r"No such option:? '?--bogus'?\. Try --help\.", done.error)


@pytest.mark.parametrize("option", ["--jso", "--poll"], ids=["one hint", "two hints"])
def test_no_full_stop_follows_a_hint_at_other_options(option: str, run: Run) -> None:
    done = run("wait", "1", option)

    # The wording is click's and differs between its versions.
    assert re.fullmatch(r"No such option.+[?)] Try --help\.", done.error)


@pytest.mark.parametrize(
    "arguments",
    [
        ("Ann Li",),
        ("Ann",),
        ("-Ann",),
        ("--Ann",),
        ("wait", "1", "Ann", "Li"),
        ("wait", "1", "-Ann"),
        ("wait", "1", "--Ann"),
        ("wait", "1", "--bogus=Ann"),
        ("wait", "1", "--json=Ann"),
        ("wait", "1", "--timeout", "Ann"),
        ("wait", "Ann;"),
        ("wait", "1", "--profile", "Ann"),
        ("wait", "1", "--region", "Ann Li"),
        ("wait", "1", "--endpoint-url", "Ann"),
        ("start", "s3://Ann", "Ann"),
        ("start", *WITH_ROLE, "--max-cost", "Ann"),
        ("start", *WITH_ROLE, "--job-name", "Ann;"),
        ("list", "--status", "Ann"),
        ("list", "--before", "Ann"),
        ("redact", "1", "s3://Ann/Li"),
        ("completion", "Ann"),
    ],
)
def test_no_error_of_wrong_usage_quotes_a_name_of_three_letters(
    arguments: tuple[str, ...], run: Run
) -> None:
    done = run(*arguments)

    assert done.code == 2
    assert not re.search(r"\bAnn|\bLi\b|-A\b", done.out + done.err)


def test_an_unknown_error_of_click_is_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def command() -> None:
        raise click.UsageError("Zinnia")

    assert program.run(click.Group(commands={"command": command}), ["command"]) == 2
    assert capsys.readouterr().err == "comprehend-phi: Wrong usage. Try --help.\n"


def test_wrong_usage_of_a_process_exits_with_2(shell: Shell) -> None:
    done = shell.run("start", *LOCATIONS, "--job-name", f"{CANARY}!", "--role-arn", ROLE)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("--job-name (JobName) must only contain Unicode letters")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            ("--replacement", "{Zinnia}"),
            "--replacement (format string) may only use the field {type}",
        ),
        (("--replacement", "\udcff"), "--replacement (format string) must "),
        (("--min-score", "nan"), "--min-score (score) must be between 0 and 1"),
        (("--min-score", "1.5"), "--min-score (score) must be between 0 and 1"),
        (("--min-score", "Zinnia"), "Invalid value for '--min-score': "),
    ],
)
def test_wrong_options_of_redact_are_wrong_usage(
    option: tuple[str, str],
    says: str,
    run: Run,
    endpoint: tuple[str, str],
    job_id: str,
    tmp_path: Path,
) -> None:
    done = run("redact", job_id, str(tmp_path), *option, *endpoint)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(says)

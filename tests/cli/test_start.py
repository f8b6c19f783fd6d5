"""`start`: no job is started twice or by accident."""

from __future__ import annotations

import re
import signal

import pytest

from comprehend_phi.testing import faults

from ..conftest import CANARY, ROLE
from .conftest import KEY, Run, Shell, finished


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


def test_start_prints_id_and_token_as_json(
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COMPREHEND_PHI_ROLE_ARN", ROLE)
    locations = (f"s3://{shell.bucket}", f"s3://{shell.bucket}/")
    options = ("--kms-key", KEY, "--token", "t-2", "--json", "--allow-overlap")
    done = run("start", *locations, *options, *endpoint)

    job_id = shell.server.service.job_ids[-1]
    assert done.json == {"job_id": job_id, "client_request_token": "t-2"}


@pytest.mark.parametrize(
    ("source", "destination"), [("notes", "notes"), ("notes/", "notes/out"), ("a/notes", "a")]
)
def test_overlapping_locations_need_an_explicit_option(
    source: str,
    destination: str,
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
) -> None:
    shell.put("notes/one.txt")
    shell.put("a/notes/one.txt")
    locations = (f"s3://{shell.bucket}/{source}", f"s3://{shell.bucket}/{destination}")
    options = ("--role-arn", ROLE, "--kms-key", KEY, *endpoint)
    jobs = shell.server.service.job_ids

    for command in ("start", "detect"):
        done = run(command, *locations, *options)
        assert (done.code, done.out) == (2, "")
        assert done.error.startswith("SOURCE and DESTINATION overlap")
        assert "--allow-overlap" in done.err
    assert shell.server.service.job_ids == jobs

    for allowed in (("start",), ("detect", "--poll-seconds", "0.02")):
        done = run(*allowed, *locations, *options, "--allow-overlap")
        assert (done.code, "Warning" in done.err) == (0, False)
    assert len(shell.server.service.job_ids) == len(jobs) + 2


def test_a_start_without_a_kms_key_warns_in_one_line(shell: Shell) -> None:
    done = shell("start", *shell.start("good"))

    assert done.code == 0
    [_, warning, _] = done.err.splitlines()
    assert warning.startswith("Warning: Without --kms-key, the service writes its results")


def test_no_job_starts_without_a_kms_key_if_warnings_are_errors(
    shell: Shell, run: Run, endpoint: tuple[str, str]
) -> None:
    before = shell.server.service.job_ids
    done = run("start", *shell.start("good"), *endpoint)  # pytest turns warnings into errors

    assert done.code == 1
    assert done.error.startswith("No job was started. Without --kms-key")
    assert shell.server.service.job_ids == before


def test_repeating_a_start_with_its_token_starts_no_second_job(slow: Shell) -> None:
    command = ("start", *slow.start("notes", "--kms-key", KEY))
    before = len(slow.server.service.job_ids)
    # The first attempt starts the job, but its response is lost. The second attempt is rejected.
    slow.server.service.script(
        faults.reset_after(), faults.error("AccessDeniedException", "Not now")
    )

    lost = slow(*command)
    [token] = re.findall(r"^Request token: (.*)$", lost.err, re.MULTILINE)
    again = slow(*command, "--token", token)

    assert (lost.code, lost.out) == (1, "")
    assert lost.err.endswith(f"without starting a second job, add --token {token}\n")
    assert (again.code, again.out) == (0, f"{slow.server.service.job_ids[-1]}\n")
    assert len(slow.server.service.job_ids) == before + 1


def test_the_token_is_printed_before_the_service_answers(shell: Shell) -> None:
    nowhere = "http://127.0.0.1:9"
    command = ("start", *shell.start("good", "--kms-key", KEY), "--endpoint-url", nowhere)
    with shell.popen(*command) as process:
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        done = finished(process)

    [token] = re.findall(r"^Request token: ([0-9a-f-]{36})$", told)
    assert done.code == 130
    assert done.err.endswith(f"without starting a second job, add --token {token}\n")


def test_a_full_account_is_reported_with_the_option_that_waits(slow: Shell, run: Run) -> None:
    slow.server.service.script(faults.job_limit())
    arguments = slow.start("notes", "--kms-key", KEY)
    done = run("start", *arguments, "--endpoint-url", slow.url)

    assert done.code == 1
    assert "\nTo wait for a free slot, add --slot-timeout SECONDS." in done.err


def test_a_job_that_may_have_taken_the_last_slot_is_to_be_looked_for(slow: Shell, run: Run) -> None:
    before = len(slow.server.service.job_ids)
    slow.server.service.script(faults.reset_after(), faults.job_limit())
    arguments = slow.start("notes", "--kms-key", KEY)
    done = run("start", *arguments, "--slot-timeout", "3600", "--endpoint-url", slow.url)

    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("List the jobs with `comprehend-phi list` before")
    assert "--token" not in done.err
    assert len(slow.server.service.job_ids) == before + 1

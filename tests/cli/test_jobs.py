"""`status`, `list`, `wait` and `stop`."""

from __future__ import annotations

import re

import pytest

from comprehend_phi.testing import faults

from ..conftest import CANARY
from .conftest import Run, Shell


def test_status_shows_a_job_without_its_name_and_keys(shell: Shell, job_id: str) -> None:
    done = shell("status", job_id)
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines())

    assert done.code == 0
    assert (rows["job_id"], rows["job_status"]) == (job_id, "COMPLETED")
    assert rows["input_data_config"] == f"s3://{shell.bucket}"
    assert not {"job_name", "manifest_file_path"} & rows.keys()


def test_status_shows_names_and_keys_with_show_names(shell: Shell, job_id: str) -> None:
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
def test_list_applies_each_filter(
    filter: tuple[str, str],
    finds: tuple[bool, bool],
    run: Run,
    endpoint: tuple[str, str],
    job_id: str,
    partial_job_id: str,
) -> None:
    done = run("list", *filter, "--json", *endpoint)

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


def test_wait_exits_with_3_if_a_completed_job_lists_unprocessed_files(
    shell: Shell, run: Run, endpoint: tuple[str, str]
) -> None:
    job_id = shell.ended_job("good")
    shell.skip(job_id, "results", "good/one.txt")
    done = run("wait", job_id, *endpoint)

    assert (done.code, done.out) == (3, "COMPLETED\n")


def test_wait_says_if_it_cannot_know_whether_files_were_skipped(
    shell: Shell, run: Run, endpoint: tuple[str, str]
) -> None:
    job_id = shell.ended_job("good")
    manifest = f"results/123456789012-PHIDetection-{job_id}/Manifest"
    shell.s3.delete_object(Bucket=shell.bucket, Key=manifest)
    done = run("wait", job_id, *endpoint)

    assert (done.code, done.out) == (0, "COMPLETED\n")
    assert "It is unknown whether all files were processed: " in done.err
    assert "its manifest is missing" in done.err


def test_wait_exits_with_1_if_the_job_was_stopped(
    shell: Shell, run: Run, endpoint: tuple[str, str]
) -> None:
    job = shell.new_job("good")
    job.stop()
    done = run("wait", job.job_id, "--poll-seconds", "0.02", "--json", *endpoint)

    assert done.code == 1
    assert done.json["job_status"] == "STOPPED"
    assert done.error == f"Job {job.job_id} was stopped before it was complete."


def test_a_wait_that_times_out_exits_with_4_and_says_how_to_continue(
    slow: Shell, slow_job: str
) -> None:
    done = slow("wait", slow_job, "--timeout", "0.1", "--json", "--region", "us-east-1")

    assert done.code == 4
    assert done.json["job_id"] == slow_job
    assert re.match(rf"Job {slow_job} was still \w+ after 0.1 seconds\.", done.error)
    assert done.err.splitlines()[-1] == (
        "The job is not affected. To wait for it again: comprehend-phi wait"
        f" {slow_job} --region us-east-1 --endpoint-url {slow.url}"
    )


def test_a_wait_without_a_successful_poll_exits_with_1_and_says_how_to_continue(
    slow: Shell, slow_job: str, run: Run
) -> None:
    job_id = slow_job
    slow.server.service.script(faults.error("AccessDeniedException", "Not now"))
    done = run("wait", job_id, "--json", "--endpoint-url", slow.url)

    assert done.code == 1
    assert done.json == {"job_id": job_id, "job_status": None}
    assert done.error.startswith("DescribePHIDetectionJob: AccessDeniedException")
    assert done.err.splitlines()[-1].endswith(
        f"comprehend-phi wait {job_id} --endpoint-url {slow.url}"
    )


def test_a_wait_shows_each_failed_poll_at_once(slow: Shell, slow_job: str, run: Run) -> None:
    slow.server.service.script(
        faults.passes(),
        faults.error("ExpiredTokenException", f"Expired\x1b[31m at {slow_job}"),
        faults.error("AccessDeniedException", "Not now"),
    )
    done = run("wait", slow_job, "--poll-seconds", "0.02", "--endpoint-url", slow.url)

    assert done.code == 1
    first, second, *_ = done.err.splitlines()
    assert re.fullmatch(r"[A-Z_]+ after 0:00:\d\d", first)
    assert re.match(
        r"Poll failed after 0:00:\d\d: DescribePHIDetectionJob: ExpiredTokenException: Expired",
        second,
    )


def test_stop_asks_the_service_to_stop_the_job(slow: Shell) -> None:
    job = slow.new_job("notes")
    done = slow("stop", job.job_id, "--json")

    assert done.json == {"job_id": job.job_id}
    assert job.properties().job_status == "STOP_REQUESTED"


def test_stopping_a_job_that_has_ended_fails_in_one_line(
    run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    done = run("stop", job_id, *endpoint)

    assert (done.code, done.out) == (1, "")
    assert "InvalidRequestException" in done.error

"""The command `python -m comprehend_phi.testing.server`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from comprehend_phi.testing import LocalServer
from comprehend_phi.testing.server import main

from ..conftest import ROLE

untyped_boto3: Any = boto3  # its stubs only know some services


@contextmanager
def raw_client(url: str) -> Generator[Any, None, None]:
    """A boto3 client without retries."""
    config = Config(retries={"total_max_attempts": 1})
    client = untyped_boto3.client("comprehendmedical", endpoint_url=url, config=config)
    with closing(client):
        yield client


def start(client: Any, bucket: str = "bucket", **members: Any) -> str:
    job_id: str = client.start_phi_detection_job(
        InputDataConfig={"S3Bucket": bucket, "S3Key": "notes"},
        OutputDataConfig={"S3Bucket": bucket, "S3Key": "results"},
        DataAccessRoleArn=ROLE,
        LanguageCode="en",
        **members,
    )["JobId"]
    return job_id


@contextmanager
def command(*arguments: str, cwd: Path) -> Generator[tuple[subprocess.Popen[str], str], None, None]:
    """Run the server in its own process, outside the checkout, and yield its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "comprehend_phi.testing.server", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:[0-9]+", line)
            if found is None:
                _, error = process.communicate(timeout=30)
                raise AssertionError(f"no URL in {line!r}; {error}")
            yield process, found[0]
        finally:
            process.kill()


def test_the_command_serves_until_interrupted(tmp_path: Path) -> None:
    with command("--port", "0", "--job-seconds", "0.2", cwd=tmp_path) as (process, url):
        s3 = untyped_boto3.client("s3", endpoint_url=url)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="notes/note.txt", Body=b"Patient: Ada Example")
        with raw_client(url) as client:
            job_id = start(client, "bucket")
            job: dict[str, Any] = {}
            # The server uses the real clock, and each request takes a few milliseconds.
            while job.get("JobStatus") != "COMPLETED":
                answer = client.describe_phi_detection_job(JobId=job_id)
                job = answer["ComprehendMedicalAsyncJobProperties"]
                assert job["JobStatus"] in ("SUBMITTED", "IN_PROGRESS", "COMPLETED")
        assert (job["EndTime"] - job["SubmitTime"]).total_seconds() == pytest.approx(0.2)
        body = s3.get_object(Bucket="bucket", Key=job["ManifestFilePath"])["Body"].read()
        assert json.loads(body)["Summary"]["SuccessFilesCount"] == 1
        s3.close()
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=30)
        assert (process.returncode, rest, error) == (0, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "many"],
        ["--port", "65536"],
        ["--job-seconds", "soon"],
        ["--job-seconds", "-1"],
        ["--active-jobs", "0"],
        ["--starts-per-second", "0"],
        ["--fault-share", "1.5"],
        ["--rule", "input_key"],
        ["--rule", "input_key=suffix"],
        ["--rule", "colour=blue"],
        ["--journal", "no/such/folder/journal"],
        ["extra"],
    ],
)
def test_the_command_refuses_wrong_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "usage: python -m comprehend_phi.testing.server" in capsys.readouterr().err


def test_an_error_about_a_taken_port_names_the_port(
    server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.endpoint_url.rpartition(":")[2]
    with pytest.raises(OSError, match="Address already in use"):
        LocalServer(port=int(port))
    with pytest.raises(SystemExit) as refused:
        main(["--port", port])
    assert refused.value.code == 2
    assert f"error: port {port}: " in capsys.readouterr().err


def test_the_help_names_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    from attrs import fields_dict

    from comprehend_phi.testing import Rules

    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert set(fields_dict(Rules)) <= set(words)


def test_the_options_limit_the_account(tmp_path: Path) -> None:
    options = [
        "--port",
        "0",
        "--job-seconds",
        "3600",
        "--active-jobs",
        "2",
        "--starts-per-second",
        "0.001",
    ]
    with command(*options, cwd=tmp_path) as (_, url), raw_client(url) as client:
        start(client)
        with pytest.raises(ClientError) as refused:
            start(client)
    response: Any = refused.value.response
    assert response["Error"] == {
        "Code": "ThrottlingException",
        "Message": "Rate exceeded",
    }
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_the_options_choose_other_rules(tmp_path: Path) -> None:
    options = "--port 0 --rule error_status=service-model --rule unfiltered_list=oldest-first"
    with command(*options.split(), cwd=tmp_path) as (_, url), raw_client(url) as client:
        ids = [start(client) for _ in range(2)]
        listed = client.list_phi_detection_jobs()["ComprehendMedicalAsyncJobPropertiesList"]
        assert [job["JobId"] for job in listed] == ids
        with pytest.raises(ClientError) as missing:
            client.stop_phi_detection_job(JobId="0" * 32)
        response: Any = missing.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_the_journal_has_a_line_for_each_start(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text("{}\n")  # of an earlier run
    options = ["--port", "0", "--journal", str(journal)]
    with command(*options, cwd=tmp_path) as (_, url), raw_client(url) as client:
        first = start(client, ClientRequestToken="one", JobName="Zinnia Quellwasser")
        start(client, ClientRequestToken="one", JobName="Zinnia Quellwasser")
        with pytest.raises(ClientError):
            start(client, ClientRequestToken="one", JobName="other")
        second = start(client, ClientRequestToken="two")
        lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert "Zinnia" not in journal.read_text()
    times = [datetime.fromisoformat(line.pop("time")) for line in lines]
    assert times == sorted(times)
    assert times[0].tzinfo == UTC
    same = {"operation": "StartPHIDetectionJob", "region": "us-east-1"}
    assert lines == [
        {**same, "token": "one", "job_id": first, "repeated": False, "error": None},
        {**same, "token": "one", "job_id": first, "repeated": True, "error": None},
        {
            **same,
            "token": "one",
            "job_id": None,
            "repeated": False,
            "error": "InvalidRequestException",
        },
        {**same, "token": "two", "job_id": second, "repeated": False, "error": None},
    ]


def outcomes(url: str) -> list[str]:
    """Send some calls one after another, and return what becomes of each."""
    found: list[str] = []
    with raw_client(url) as client:
        for _ in range(20):
            try:
                client.list_phi_detection_jobs()
            except ClientError as error:
                response: Any = error.response
                found.append(response["Error"]["Code"])
            except Exception as error:  # noqa: BLE001 - any fault on the way
                found.append(type(error).__name__)
            else:
                found.append("ok")
    return found


def test_the_same_seed_gives_the_same_faults(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}
    for run, seed in (("first", "1"), ("again", "1"), ("other", "2")):
        options = ["--port", "0", "--fault-seed", seed, "--fault-share", "0.5"]
        with command(*options, cwd=tmp_path) as (_, url):
            seen[run] = outcomes(url)
    assert seen["first"] == seen["again"] != seen["other"]
    assert 3 < seen["first"].count("ok") < 17

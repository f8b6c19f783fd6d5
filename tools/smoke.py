"""Check what the wheel does without any extra: `python tools/smoke.py`.

Run it with a Python in which only the wheel is installed, so without pytest. `make release` does
this for each supported version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import requires
from importlib.util import find_spec
from typing import ClassVar

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
JOB_ID = "0123456789abcdef0123456789abcdef"
EXTRAS = ("click", "flask", "jinja2", "moto", "obstore", "rich")


class Service(BaseHTTPRequestHandler):
    """A service that throttles every other request, and starts and completes one job."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str]]] = []  # operations and their tokens

    def do_POST(self) -> None:
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((operation, asked.get("ClientRequestToken", "")))
        job = {"JobId": JOB_ID, "JobStatus": "COMPLETED"}
        answer: dict[str, object] = {"__type": "TooManyRequestsException", "Message": "Slowly."}
        if is_throttled := len(self.seen) % 2 == 1:
            pass
        elif operation.startswith("Describe"):
            answer = {"ComprehendMedicalAsyncJobProperties": job}
        else:
            answer = {"JobId": JOB_ID}
        body = json.dumps(answer).encode()
        self.send_response(429 if is_throttled else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Print nothing."""


def no_extra_is_installed() -> None:
    assert requires("comprehend_phi")
    assert [name for name in EXTRAS if find_spec(name)] == []


def importing_the_package_does_not_import_boto3() -> None:
    import comprehend_phi

    assert comprehend_phi.__version__
    assert "boto3" not in sys.modules
    assert "msgspec" not in sys.modules


def every_public_name_can_be_imported() -> None:
    import comprehend_phi

    for name in comprehend_phi.__all__:
        assert getattr(comprehend_phi, name) is not None, name


def an_invalid_request_is_refused() -> None:
    from comprehend_phi import InputDataConfig, RequestValidationError

    refusal = None
    try:
        InputDataConfig(s3_bucket="Hospital")
    except RequestValidationError as error:
        refusal = str(error)
    assert refusal is not None
    assert "index 0" in refusal


def a_job_is_started_once_and_completes() -> None:
    from comprehend_phi import (
        InputDataConfig,
        OutputDataConfig,
        PHIClient,
        RetryPolicy,
        StartPHIDetectionJobRequest,
    )

    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="notes"),
        output_data_config=OutputDataConfig(s3_bucket="results"),
        data_access_role_arn=ROLE,
        kms_key="alias/results",
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with PHIClient(
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        retry=RetryPolicy(base_delay=0.01),
    ) as client:
        job = client.submit(request)
        assert job.wait().job_status == "COMPLETED"
    server.shutdown()
    server.server_close()
    token = request.client_request_token
    start, describe = "StartPHIDetectionJob", "DescribePHIDetectionJob"
    assert Service.seen == [(start, token), (start, token), (describe, ""), (describe, "")]


def a_text_is_redacted() -> None:
    from comprehend_phi import Entity, redact

    name = Entity(
        id=0,
        begin_offset=4,
        end_offset=10,
        text="Okafor",
        score=0.99,
        type="NAME",
        category="PROTECTED_HEALTH_INFORMATION",
    )
    assert redact("Dr. Okafor called.", [name]) == "Dr. [NAME] called."


def an_error_names_the_missing_extra() -> None:
    # With -I, Python does not find the package in the current directory.
    for command, extra in (
        ("import comprehend_phi.testing", "testing"),
        ("import comprehend_phi.review", "cli"),
        ("from comprehend_phi.__main__ import main; main()", "cli"),
    ):
        done = subprocess.run(
            [sys.executable, "-I", "-c", command], check=False, capture_output=True, text=True
        )
        assert done.returncode != 0, command
        assert f"which the extra `{extra}` of comprehend_phi installs" in done.stderr, done.stderr


CHECKS: tuple[Callable[[], None], ...] = (
    no_extra_is_installed,
    importing_the_package_does_not_import_boto3,
    every_public_name_can_be_imported,
    an_invalid_request_is_refused,
    a_job_is_started_once_and_completes,
    a_text_is_redacted,
    an_error_names_the_missing_extra,
)


def main() -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", NO_PROXY="127.0.0.1"
    )
    for check in CHECKS:
        check()
        sys.stdout.write(f"{check.__name__.replace('_', ' ')}\n")


if __name__ == "__main__":
    main()

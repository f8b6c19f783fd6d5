"""The CPU time of starting a job, compared with raw boto3, without the network.

A call is everything that a program does for one start. With this package, it builds the request,
which checks it and creates its token, and calls `PHIClient.start_phi_detection_job`. With raw
boto3, it calls `client.start_phi_detection_job(...)`, and botocore creates the token. Both send the
same members, sign the request and decode the response.

A handler of botocore's `before-send` event, the last step before a connection is opened, returns a
prepared response. So no socket is involved, but the rest of botocore runs. All clients are built
from the session that has this handler. The requests of all candidates are compared first.

Raw boto3 is measured twice. By default, it checks parameters against the service model, which this
package replaces by its own checks. The target applies to this comparison. With the configuration
that `PHIClient` gives to its boto3 client (no checks, no retries), the ratio shows everything that
this package adds, including its checks.

Calls are timed in blocks in this process. The garbage collector is frozen and switched off, because
its pauses would count against the candidate that is running.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from time import process_time
from typing import Any

import boto3
from _canned import CannedResponse
from _measure import Comparison, in_turns, print_table
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from comprehend_phi import InputDataConfig, OutputDataConfig, PHIClient, StartPHIDetectionJobRequest

ROUNDS = 300
WARM_UPS = 12
CALLS = 20  # per block
OURS, THEIRS, QUIET = "comprehend_phi", "raw boto3", "raw boto3, our config"

REGION = "us-east-1"
BUCKET, INPUT_KEY, OUTPUT_KEY = "clinical-notes", "2024/inbox", "2024/phi"
ROLE = "arn:aws:iam::123456789012:role/ComprehendMedicalDataAccess"
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
JOB_NAME = "nightly-run"
JOB_ID = "0123456789abcdef0123456789abcdef"


class Service:
    """Respond instead of the network and remember the last request."""

    def __init__(self) -> None:
        self.request: AWSPreparedRequest
        self._respond = CannedResponse({"JobId": JOB_ID})

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """Handle `before-send`. botocore uses the returned value as the service's response."""
        self.request = request
        return self._respond(request)


def boto3_start(client: Any) -> Callable[[], str]:
    """Start a job with raw boto3."""

    def start() -> str:
        answer = client.start_phi_detection_job(
            InputDataConfig={"S3Bucket": BUCKET, "S3Key": INPUT_KEY},
            OutputDataConfig={"S3Bucket": BUCKET, "S3Key": OUTPUT_KEY},
            DataAccessRoleArn=ROLE,
            LanguageCode="en",
            JobName=JOB_NAME,
            KMSKey=KMS_KEY,
        )
        job_id: str = answer["JobId"]
        return job_id

    return start


def our_start(client: PHIClient) -> Callable[[], str]:
    """Start a job with this package, from plain values to the job's id."""

    def start() -> str:
        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key=INPUT_KEY),
            output_data_config=OutputDataConfig(s3_bucket=BUCKET, s3_key=OUTPUT_KEY),
            data_access_role_arn=ROLE,
            language_code="en",
            job_name=JOB_NAME,
            kms_key=KMS_KEY,
        )
        return client.start_phi_detection_job(request).job_id

    return start


def candidates(service: Service) -> dict[str, Callable[[], str]]:
    """Return the ways to start a job. `service` responds to all of them."""
    # Any, because the stubs only know some services and no return values of event handlers.
    session: Any = boto3.Session("AKIDEXAMPLE", "no secret, an example", region_name=REGION)
    session.events.register("before-send.comprehendmedical", service.answer)
    # The configuration that PHIClient gives to its boto3 client.
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return {
        THEIRS: boto3_start(session.client("comprehendmedical")),
        QUIET: boto3_start(session.client("comprehendmedical", config=config)),
        OURS: our_start(PHIClient(session=session)),
    }


def sent_by(start: Callable[[], str], service: Service) -> dict[str, Any]:
    """Return what one start sends, without its token, which always differs."""
    if start() != JOB_ID:
        raise SystemExit("boto3 did not return the prepared response")
    request = service.request
    body: Any = request.body
    members: dict[str, Any] = json.loads(body)
    del members["ClientRequestToken"]
    headers = sorted(request.headers.keys())
    return {"url": request.url, "headers": headers, "members": members}


def timed(start: Callable[[], str]) -> Callable[[], float]:
    """Return a function that measures the CPU seconds of one start, as the mean of a block."""

    def block() -> float:
        gc.collect()  # collect what the last block left, before the measurement begins
        began = process_time()
        for _ in range(CALLS):
            start()
        return (process_time() - began) / CALLS

    return block


def main() -> None:
    """Compare the requests, measure and print the results."""
    service = Service()
    starts = candidates(service)
    theirs, *others = (sent_by(start, service) for start in starts.values())
    if "Authorization" not in theirs["headers"] or any(sent != theirs for sent in others):
        raise SystemExit("the requests are not the same: there is nothing to compare")

    gc.collect()
    gc.freeze()
    gc.disable()
    taken = in_turns(
        {name: timed(start) for name, start in starts.items()}, rounds=ROUNDS, warm_ups=WARM_UPS
    )
    print_table(
        f"CPU time of one start, {ROUNDS} rounds of {CALLS} calls",
        taken,
        [Comparison(OURS, THEIRS, target=1.10), Comparison(OURS, QUIET)],
        unit="us",
    )


if __name__ == "__main__":
    main()

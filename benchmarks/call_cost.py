"""What starting a job costs beside raw boto3, in CPU time and below HTTP.

A call is what a program writes for one start: with this package, building the request object
(which checks it and makes its token) and `PHIClient.start_phi_detection_job`; with raw boto3,
`client.start_phi_detection_job(...)`, where botocore makes the token. Both send the same members,
are signed, and decode the answer.

The network is cut out at botocore's `before-send` event, the last step before a connection is
taken: its handler answers with a canned response, so that no socket is involved and all the rest
of botocore runs. The handler is registered on the one session that all clients are built from.
Before anything is measured, the requests are held against each other.

Raw boto3 comes twice. As it is by default, it checks parameters against the service model, which
this package replaces with checks of its own: that is the comparison the target is about. With the
configuration that `PHIClient` gives to its boto3 client (no checks, no retries), the ratio shows
the whole of what this package adds, its checks included.

The calls are timed in blocks, all in this process, with the garbage collector frozen and off: its
pauses would fall on whichever candidate is running.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

import boto3
from _measure import Comparison, in_turns, print_table
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config

from comprehend_phi import InputDataConfig, OutputDataConfig, PHIClient, StartPHIDetectionJobRequest

ROUNDS = 300
WARM_UPS = 12
CALLS = 20  # in a block
OURS, THEIRS, QUIET = "comprehend_phi", "raw boto3", "raw boto3, our config"

REGION = "us-east-1"
BUCKET, INPUT_KEY, OUTPUT_KEY = "clinical-notes", "2024/inbox", "2024/phi"
ROLE = "arn:aws:iam::123456789012:role/ComprehendMedicalDataAccess"
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
JOB_NAME = "nightly-run"
JOB_ID = "0123456789abcdef0123456789abcdef"
ANSWER = json.dumps({"JobId": JOB_ID}).encode()


class Body:
    """The body of an answer, with the one method by which botocore reads it from urllib3."""

    def stream(self) -> Iterator[bytes]:
        """The whole of it at once."""
        yield ANSWER


class Service:
    """Answers in the place of the network and remembers the last request."""

    def __init__(self) -> None:
        self.request: AWSPreparedRequest
        self._headers = HTTPHeaders()
        self._headers["Content-Type"] = "application/x-amz-json-1.1"
        self._headers["Content-Length"] = str(len(ANSWER))
        self._headers["x-amzn-RequestId"] = "01234567-89ab-cdef-0123-456789abcdef"

    def answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """The handler of `before-send`: what it returns is taken for the service's response."""
        self.request = request
        return AWSResponse(request.url, 200, self._headers, Body())


def boto3_start(client: Any) -> Callable[[], str]:
    """One start of a job by raw boto3."""

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
    """One start of a job by this package, from the bare values to the job's id."""

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
    """The ways to start a job, all answered by `service`."""
    # Any: the stubs type a client for each of hundreds of services, and no answer to an event.
    session: Any = boto3.Session("AKIDEXAMPLE", "no secret, an example", region_name=REGION)
    session.events.register("before-send.comprehendmedical", service.answer)
    # What PHIClient gives to the boto3 client that it builds.
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return {
        THEIRS: boto3_start(session.client("comprehendmedical")),
        QUIET: boto3_start(session.client("comprehendmedical", config=config)),
        OURS: our_start(PHIClient(session=session)),
    }


def sent_by(start: Callable[[], str], service: Service) -> dict[str, Any]:
    """What one start sends, apart from its token, which has to differ."""
    if start() != JOB_ID:
        raise SystemExit("the canned answer was not the one that came back")
    request = service.request
    body: Any = request.body
    members: dict[str, Any] = json.loads(body)
    del members["ClientRequestToken"]
    headers = sorted(request.headers.keys())
    return {"url": request.url, "headers": headers, "members": members}


def timed(start: Callable[[], str]) -> Callable[[], float]:
    """A measurement of the CPU seconds of one start, as the mean of a block of them."""

    def block() -> float:
        gc.collect()  # what the last block left, at nobody's expense
        began = process_time()
        for _ in range(CALLS):
            start()
        return (process_time() - began) / CALLS

    return block


def main() -> None:
    """Compare the requests, measure and print."""
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
        [Comparison(OURS, THEIRS, target=1.05), Comparison(OURS, QUIET)],
        unit="us",
    )


if __name__ == "__main__":
    main()

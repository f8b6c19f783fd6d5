"""What `make demo` does, with the library: find the PHI in a folder of notes, without AWS.

Starts the local service, uploads the notes, starts a job, follows it to its end, and reads what it
found. Prints kinds and numbers, never what was found.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import boto3
from botocore.config import Config

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
    WaitPolicy,
    entity_counts,
)
from comprehend_phi.testing import LocalServer

NOTES = Path(__file__).parent / "notes"
BUCKET = "hospital-notes"


def main() -> None:
    """Run the job on a local service."""
    # The local service checks no signature, but boto3 wants something to sign with.
    session = boto3.Session("local", "local", region_name="us-east-1")
    with LocalServer() as server:
        config = Config(retries={"total_max_attempts": 1})  # the client's RetryPolicy retries
        s3 = session.client("s3", endpoint_url=server.endpoint_url, config=config)
        s3.create_bucket(Bucket=BUCKET)
        for path in NOTES.rglob("*.txt"):
            key = f"notes/{path.relative_to(NOTES).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        with PHIClient(session=session, endpoint_url=server.endpoint_url, s3_client=s3) as client:
            run(client)
        s3.close()


def run(client: PHIClient) -> None:
    """Start a job over the notes, wait for it and show what it found."""
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key="notes"),
        output_data_config=OutputDataConfig(s3_bucket=BUCKET, s3_key="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
    )
    job = client.submit(request)
    print(f"Job {job.job_id} started; its token was {request.client_request_token}")
    job.wait(WaitPolicy(delay=0.25), on_poll=lambda seen: print(f"  {seen.job_status}"))

    results = job.results()
    print("\nFound, per note:")
    for document in results:
        kinds = Counter(entity.type for entity in document.entities)
        print(f"  {document.input_key.removeprefix('notes/'):32} {in_words(kinds)}")
    for file in results.unprocessed:
        name = file.input_key.removeprefix("notes/")
        print(f"  {name:32} NOT PROCESSED: {file.error_code}. {file.error_message}")
    print(f"\nIn all: {in_words(entity_counts(results))}")


def in_words(kinds: Counter[str]) -> str:
    """Kinds and their numbers, the most frequent first."""
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()) or "nothing"


if __name__ == "__main__":
    main()

"""Find the PHI in a folder of notes without AWS: `make demo`, written with the library.

This program starts the local service, uploads the notes, starts a job, waits for it and reads the
results. It prints types and counts, but never the detected text.
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
    # boto3 needs keys to sign with. The local service checks no signature.
    session = boto3.Session("local", "local", region_name="us-east-1")
    with LocalServer() as server:
        config = Config(retries={"total_max_attempts": 1})  # the client retries by itself
        s3 = session.client("s3", endpoint_url=server.endpoint_url, config=config)
        s3.create_bucket(Bucket=BUCKET)
        for path in NOTES.rglob("*.txt"):
            key = f"notes/{path.relative_to(NOTES).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        with PHIClient(session=session, endpoint_url=server.endpoint_url, s3_client=s3) as client:
            run(client)
        s3.close()


def run(client: PHIClient) -> None:
    """Start a job over the notes, wait for it, and print what it found."""
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig.from_uri(f"s3://{BUCKET}/notes"),
        output_data_config=OutputDataConfig.from_uri(f"s3://{BUCKET}/results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
    )
    job = client.submit(request)
    print(f"Job {job.job_id} started; its token is {request.client_request_token}")
    job.wait(WaitPolicy(delay=0.25), on_poll=lambda seen: print(f"  {seen.job_status}"))

    results = job.results()
    print("\nEntities per note:")
    for document in results:
        types = Counter(entity.type for entity in document.entities)
        print(f"  {document.input_key.removeprefix('notes/'):32} {in_words(types)}")
    for file in results.unprocessed:
        name = file.input_key.removeprefix("notes/")
        print(f"  {name:32} NOT PROCESSED: {file.error_code}. {file.error_message}")
    print(f"\nIn all notes: {in_words(entity_counts(results))}")


def in_words(types: Counter[str]) -> str:
    """Return the types and their counts, the most frequent type first."""
    return ", ".join(f"{number} {kind}" for kind, number in types.most_common()) or "nothing"


if __name__ == "__main__":
    main()

"""The main job from one end to the other, without AWS: find the PHI in a folder of notes.

Starts the local service, uploads the notes, starts a job, follows it to its end, and reads what it
found. Prints kinds and numbers, never what was found; writes redacted copies to a folder.

    python examples/demo.py [FOLDER_FOR_REDACTED_COPIES]
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from comprehend_phi import (
    InputDataConfig,
    JobProperties,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
    WaitPolicy,
    entity_counts,
)
from comprehend_phi.testing import LocalServer

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NOTES = Path(__file__).parent / "notes"
BUCKET = "hospital-notes"


def main() -> None:
    """Run the demo."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
    # The local service checks no signature, but boto3 wants something to sign with.
    os.environ.update(AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo")  # noqa: S106 - opens nothing
    with LocalServer(job_seconds=1.5) as server:
        print(f"Local Comprehend Medical and S3 at {server.endpoint_url}")
        s3 = boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1")
        with PHIClient(
            region_name="us-east-1", endpoint_url=server.endpoint_url, s3_client=s3
        ) as client:
            print(f"{upload(s3)} notes uploaded to s3://{BUCKET}/notes/\n")
            run(client, target)
        s3.close()


def upload(s3: S3Client) -> int:
    """Put the example notes into the bucket; returns how many."""
    s3.create_bucket(Bucket=BUCKET)
    paths = [path for path in sorted(NOTES.rglob("*.txt")) if path.is_file()]
    for path in paths:
        key = f"notes/{path.relative_to(NOTES).as_posix()}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    return len(paths)


def run(client: PHIClient, target: Path) -> None:
    """Start a job over the notes, wait for it and show what it found."""
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key="notes"),
        output_data_config=OutputDataConfig(s3_bucket=BUCKET, s3_key="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
        job_name="demo",
    )
    job = client.submit(request)
    print(f"Job {job.job_id} started; its token was {request.client_request_token}")
    job.wait(WaitPolicy(delay=0.25, max_delay=0.5), on_poll=show_progress)

    results = job.results()
    print("\nFound, per note:")
    for document in results:
        kinds = Counter(entity.type for entity in document.entities)
        print(f"  {document.input_key.removeprefix('notes/'):32} {in_words(kinds)}")
    for file in results.unprocessed:
        name = file.input_key.removeprefix("notes/")
        print(f"  {name:32} NOT PROCESSED: {file.error_code}. {file.error_message}")

    print(f"\nIn all: {in_words(entity_counts(results))}")
    for key, text in results.redacted():
        copy = target / key.removeprefix("notes/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        # newline="" keeps the line ends as they were.
        with copy.open("w", encoding="utf-8", newline="") as file_:
            file_.write(text)
    print(f"Redacted copies are in {target}/ ({results.manifest.success_files_count} notes).")


def show_progress(job: JobProperties) -> None:
    """One line per poll."""
    print(f"  {job.job_status}")


def in_words(kinds: Counter[str]) -> str:
    """Kinds and their numbers, the most frequent first."""
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common()) or "nothing"


if __name__ == "__main__":
    main()

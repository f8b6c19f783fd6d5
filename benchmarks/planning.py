"""What it costs to plan the jobs of a corpus, in CPU time and in memory.

Each layout of keys is planned in a process of its own, whose peak of memory counts. The keys come
from a generator in the place of the boto3 client, so the time contains no network. The figures
"generator only" say what the generator itself takes.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from time import process_time
from typing import Any

import boto3
from botocore.config import Config

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    S3Location,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import plan_jobs

PAGE = 1_000
KEYS = 5_000_000
SIZE = 3_500  # bytes of a note
MOST_MEGABYTES = 200
REGION = "us-east-1"

REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket="hospital-notes", s3_key="notes"),
    output_data_config=OutputDataConfig(s3_bucket="phi-results"),
    data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
)
LAYOUTS = {
    "one folder for each note": "notes/{number:08}/note.txt",
    "one flat folder": "notes/{number:08}.txt",
    "folders in folders": "notes/{thousands:05}/{tens:07}/{number:08}/note.txt",
}


class Listing:
    """What a plan asks of a boto3 client, with keys that it makes up."""

    def __init__(self, layout: str) -> None:
        config = Config(retries={"total_max_attempts": 1})
        client: Any = boto3.client("s3", region_name=REGION, config=config)
        self.meta = client.meta
        self._layout = layout

    def head_bucket(self, **_: Any) -> Any:
        """Answer that the bucket exists."""
        return {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}

    def list_objects_v2(self, **members: str) -> Any:
        """Answer with the next page."""
        first = int(members.get("ContinuationToken", "0"))
        last = min(first + PAGE, KEYS)
        return {
            "KeyCount": last - first,
            "IsTruncated": last < KEYS,
            "NextContinuationToken": str(last),
            "Contents": [
                {
                    "Key": self._layout.format(
                        number=number, tens=number // 10, thousands=number // 1_000
                    ),
                    "Size": SIZE,
                    "ETag": '"d41d8cd98f00b204e9800998ecf8427e"',
                }
                for number in range(first, last)
            ],
        }


def measure(name: str) -> None:
    """Plan the keys of one layout in this process, and print what it took."""
    listing: Any = Listing(LAYOUTS[name])
    began = process_time()
    for first in range(0, KEYS, PAGE):
        listing.list_objects_v2(ContinuationToken=str(first))
    generating = process_time() - began
    began = process_time()
    with PHIClient(region_name=REGION, s3_client=listing) as client:
        plan = plan_jobs(client, REQUEST, name="benchmark", staging=S3Location("staged-notes"))
    elapsed = process_time() - began
    if sum(job.file_count for job in plan.jobs) != KEYS:
        raise SystemExit("the plan does not contain every key")
    # Linux counts in KiB.
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6
    verdict = "met" if megabytes <= MOST_MEGABYTES else "MISSED"
    print(
        f"{name}: {KEYS:,} keys in {elapsed:.0f} s (generator only: {generating:.0f} s),"
        f" {len(plan.jobs)} jobs, peak memory {megabytes:.0f} MB"
        f" (at most {MOST_MEGABYTES}: {verdict}), {len(plan.to_json()):,} bytes of JSON",
        flush=True,
    )


def main() -> None:
    """Measure each layout in a process of its own."""
    for name in LAYOUTS:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()

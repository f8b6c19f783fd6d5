"""How long 40 jobs take in 10 slots, compared with the ideal, on a clock that does not wait.

The ideal fills a slot as soon as a job ends. A run notices an end with its next poll, and keeps the
rate of starts. No other program uses the slots, so no start may be refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import ServiceLimits, plan_jobs, run_jobs
from comprehend_phi.testing import FakeClock, Limits, LocalServer

JOBS, SLOTS = 40, 10
DURATIONS = (60.0, 600.0, 3_600.0, 36_000.0)  # seconds
MOST = 1.03
BUCKET = "hospital-notes"

REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key="notes"),
    output_data_config=OutputDataConfig(s3_bucket=BUCKET, s3_key="results"),
    data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
    kms_key="alias/phi-results",
)


def measure(job_seconds: float) -> None:
    """Run jobs of one duration, and print the ratio to the ideal."""
    clock = FakeClock()
    refused: list[str | None] = []
    with LocalServer(
        clock=clock,
        job_seconds=job_seconds,
        limits=Limits(active_jobs=SLOTS, starts_per_second=ServiceLimits().starts_per_second),
        on_start=lambda record: refused.append(record.error) if record.error else None,
    ) as server:
        os.environ["AWS_ENDPOINT_URL_S3"] = server.endpoint_url
        server.storage.create_bucket(BUCKET)
        for number in range(JOBS):
            server.storage.write(BUCKET, f"notes/{number:02}/note.txt", b"Seen by Dr. Example.")
        with (
            TemporaryDirectory() as folder,
            PHIClient(
                region_name="us-east-1", endpoint_url=server.endpoint_url, clock=clock
            ) as client,
        ):
            limits = ServiceLimits(max_job_files=1, max_active_jobs=SLOTS)
            plan = plan_jobs(client, REQUEST, name="benchmark", limits=limits)
            began = clock.monotonic()
            run_jobs(client, plan, Path(folder, "ledger"))
            elapsed = clock.monotonic() - began
        requests = len(server.service.received)
    ratio = elapsed / (JOBS / SLOTS * job_seconds)
    verdict = "met" if ratio <= MOST and not refused else "MISSED"
    print(
        f"{JOBS} jobs of {job_seconds:,.0f} s in {SLOTS} slots: {ratio:.4f} of the ideal"
        f" (at most {MOST}), {len(refused)} starts refused (none allowed): {verdict};"
        f" {requests:,} requests",
        flush=True,
    )


def main() -> None:
    """Measure each duration."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
    for job_seconds in DURATIONS:
        measure(job_seconds)


if __name__ == "__main__":
    main()

"""Redact the notes of one job in several processes: `python many_processes.py JOB_ID`."""

from __future__ import annotations

import sys
from multiprocessing import Pool

from comprehend_phi import PHIClient

PARTS = 2


def redact_part(part: tuple[str, int, int]) -> int:
    """Redact one part of the notes of a job, and return how many there were."""
    job_id, index, count = part
    with PHIClient() as client:
        results = client.results(job_id).part(index, count)
        return sum(1 for _note in results.redacted())  # store each key and text here


if __name__ == "__main__":
    with Pool(PARTS) as pool:
        counts = pool.map(redact_part, [(sys.argv[1], index, PARTS) for index in range(PARTS)])
    print(f"{sum(counts)} notes were redacted in {len(counts)} parts")

"""Measure how well a pool fills the job slots: `pytest -s tests/airflow/measure_pool.py`.

It takes some five minutes, so the tests leave it out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from comprehend_phi.testing import LocalServer, StartRecord

from .conftest import connection_to
from .processes import Airflow

JOBS, SLOTS, JOB_SECONDS = 40, 10, 60.0


def test_forty_jobs_in_a_pool_of_ten_start_without_a_rejection(tmp_path: Path) -> None:
    starts: list[StartRecord] = []
    with LocalServer(job_seconds=JOB_SECONDS, on_start=starts.append) as server:
        for bucket in ("hospital-notes", "phi-results"):
            server.storage.create_bucket(bucket)
        for number in range(JOBS):
            server.storage.write("hospital-notes", f"{number}/note.txt", b"Seen by Dr. Example.")
        dags = Path(__file__).parent / "dags" / "end_to_end"
        airflow = Airflow(tmp_path, dags, {"aws_forty": connection_to(server)})
        airflow.prepare()
        pool = ("phi_detection_jobs", str(SLOTS), "PHI detection jobs", "--include-deferred")
        airflow.command("pools", "set", *pool)
        with airflow:
            run = airflow.run("forty_jobs")
            assert airflow.wait_for(run, seconds=900) == "success"
        rejected = sum(start.error is not None for start in starts)
        [(seconds,)] = airflow.query(
            "SELECT 86400 * (julianday(end_date) - julianday(start_date)) FROM dag_run"
        )

    ideal = JOBS / SLOTS * JOB_SECONDS
    sys.stdout.write(
        f"{len(starts)} starts, {rejected} rejected, {seconds:.0f} s, {seconds / ideal:.2f} ideal\n"
    )
    assert (len(server.service.job_ids), rejected) == (JOBS, 0)

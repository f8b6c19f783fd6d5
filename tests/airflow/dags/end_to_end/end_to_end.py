"""What `test_end_to_end.py` and `measure_pool.py` run."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import dag

from comprehend_phi.airflow import StartPHIDetectionJobOperator

ARGUMENTS: dict[str, Any] = {
    "task_id": "detect",
    "output_uri": "s3://phi-results/Zinnia-Quellwasser/",
    "data_access_role_arn": "arn:aws:iam::123456789012:role/reads-notes",
    "kms_key": "alias/phi-results",
    "deferrable": True,
    "poll_interval": 0.5,
    "slot_delay": 0.5,
    "retries": 2,
    "retry_delay": timedelta(seconds=1),
}


@dag(schedule=None)
def six_jobs() -> None:
    folders = [f"s3://hospital-notes/Zinnia-Quellwasser/{number}/" for number in range(6)]
    StartPHIDetectionJobOperator.partial(aws_conn_id="aws_six", **ARGUMENTS).expand(
        input_uri=folders
    )


def write_process_id(_context: object) -> None:
    Path(os.environ["WORKER_PROCESS_ID"]).write_text(str(os.getpid()), encoding="utf-8")


@dag(schedule=None)
def killed_worker() -> None:
    StartPHIDetectionJobOperator(
        input_uri="s3://hospital-notes/Zinnia-Quellwasser/0/",
        aws_conn_id="aws_killed",
        on_execute_callback=write_process_id,
        **ARGUMENTS,
    )


@dag(schedule=None)
def failed_job() -> None:
    StartPHIDetectionJobOperator(
        input_uri="s3://no-such-bucket/Zinnia-Quellwasser/", aws_conn_id="aws_failed", **ARGUMENTS
    )


@dag(schedule=None)
def forty_jobs() -> None:
    folders = [f"s3://hospital-notes/{number}/" for number in range(40)]
    arguments = ARGUMENTS | {"poll_interval": 5.0, "pool": "phi_detection_jobs"}
    StartPHIDetectionJobOperator.partial(aws_conn_id="aws_forty", **arguments).expand(
        input_uri=folders
    )


six_jobs()
killed_worker()
failed_job()
forty_jobs()

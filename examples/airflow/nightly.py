"""One folder of notes a night, and redacted copies of them, written by several tasks at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, dag, task

from comprehend_phi.airflow import PHIHook, StartPHIDetectionJobOperator

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
PARTS = 4

# The folder is the day that ended when the run was due. `ds` is another day on Airflow 2 than on
# Airflow 3. To process another folder, trigger the DAG with {"folder": "2031-02-01"}.
FOLDER = "{{ dag_run.conf.get('folder') or (data_interval_end - macros.timedelta(days=1)) | ds }}"


@dag(schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def nightly() -> None:
    """Detect PHI in last night's notes, and write redacted copies."""
    job_id = StartPHIDetectionJobOperator(
        task_id="detect",
        input_uri=f"s3://hospital-notes/{FOLDER}/",
        output_uri="s3://phi-results/",
        data_access_role_arn=ROLE,
        kms_key="alias/phi-results",
        pool="phi_detection_jobs",
        deferrable=True,
        poll_interval=30,
        retries=2,
        retry_delay=timedelta(minutes=5),
    ).output

    @task(retries=2)
    def copy(job_id: str, part: int, folder: str = "") -> int:
        """Write every fourth copy. A repeated task does not write finished copies again."""
        from comprehend_phi import ComprehendPHIError, S3Location
        from comprehend_phi.corpus import write_copies

        written, problem = 0, ""
        with PHIHook().phi_client() as client:
            try:
                report = write_copies(
                    client.results(job_id).part(part, PARTS),
                    S3Location.from_uri(f"s3://redacted-notes/{folder}/"),
                    kms_key="alias/redacted-notes",
                )
                written = report.written + report.already_written
                problem = f"{len(report.failures)} notes have no copy" if report.failures else ""
            except ComprehendPHIError as error:
                problem = type(error).__name__
        if problem:
            # The error itself would show the names of notes in Airflow's logs.
            raise AirflowException(f"Part {part} of job {job_id} is incomplete: {problem}.")
        return written

    copy.partial(job_id=job_id, folder=FOLDER).expand(part=list(range(PARTS)))


DAG: Any = nightly()

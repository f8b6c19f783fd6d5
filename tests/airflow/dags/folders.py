"""One job for each folder of a list, mapped."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from comprehend_phi.airflow import PHIDetectionJobSensor, PHIHook, StartPHIDetectionJobOperator


@dag(
    schedule=None,
    params={"bucket": "hospital-notes", "folders": ["one"]},
)
def folders() -> None:
    @task(show_return_value_in_logs=False)
    def inputs(**context: Any) -> list[str]:
        bucket = context["params"]["bucket"]
        return [f"s3://{bucket}/{folder}/" for folder in context["params"]["folders"]]

    job_ids = StartPHIDetectionJobOperator.partial(
        task_id="detect",
        output_uri="s3://phi-results/{{ dag.dag_id }}/",
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
        deferrable=True,
        poll_interval=0.01,
        slot_delay=0.01,
        aws_conn_id="aws_folders",
    ).expand(input_uri=inputs())

    wait = PHIDetectionJobSensor.partial(
        task_id="wait", deferrable=True, aws_conn_id="aws_folders"
    ).expand(job_id=job_ids.output)

    @task
    def count(job_id: str) -> int:
        with PHIHook("aws_folders").phi_client() as client:
            return sum(1 for _ in client.results(job_id))

    wait >> count.expand(job_id=job_ids.output)


DAG = folders()

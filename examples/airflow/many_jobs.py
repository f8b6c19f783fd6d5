"""A corpus that is too large for one job: a plan, whose jobs run through a pool."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from comprehend_phi.airflow import PHIHook, StartPHIDetectionJobOperator

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
SOURCE, RESULTS = "s3://hospital-notes/archive/", "s3://phi-results/archive/"


@dag(schedule=None)
def many_jobs() -> None:
    """Detect PHI in the archive, with as many jobs as AWS's quotas require."""

    # XComs are stored in plain text, and so are the inputs of mapped tasks. Plan an archive like
    # this only if the names of its folders name nobody.
    @task(show_return_value_in_logs=False)
    def plan() -> list[str]:
        from comprehend_phi import InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest
        from comprehend_phi.corpus import plan_jobs

        request = StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig.from_uri(SOURCE),
            output_data_config=OutputDataConfig.from_uri(RESULTS),
            data_access_role_arn=ROLE,
        )
        with PHIHook().phi_client() as client:
            jobs = plan_jobs(client, request, name="archive").jobs
        return [job.request.input_data_config.uri for job in jobs]

    # The pool has ten slots, which is AWS's quota of jobs at a time, and includes deferred tasks.
    job_ids = (
        StartPHIDetectionJobOperator.partial(
            task_id="detect",
            output_uri=RESULTS,
            data_access_role_arn=ROLE,
            kms_key="alias/phi-results",
            pool="phi_detection_jobs",
            deferrable=True,
            max_cost=1_000,
            retries=2,
            retry_delay=timedelta(minutes=5),
        )
        .expand(input_uri=plan())
        .output
    )

    @task
    def count(job_id: str) -> int:
        """Return how many entities one of the jobs has found."""
        with PHIHook().phi_client() as client:
            return sum(len(document.entities) for document in client.results(job_id))

    count.expand(job_id=job_ids)


DAG: Any = many_jobs()

"""Plans for tests that need no corpus."""

from __future__ import annotations

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
    request_token,
)
from comprehend_phi.corpus import InputReport, JobPlan, PlannedJob, ServiceLimits

from ..conftest import CANARY, KEY, ROLE


def a_plan(
    count: int = 3,
    *,
    name: str = "monday",
    bucket: str = "hospital-notes",
    staged: tuple[int, ...] = (),
    max_units: int = 1_000,
    limits: ServiceLimits | None = None,
) -> JobPlan:
    """Return a plan with `count` jobs, one for each folder. Keys contain the canary."""
    jobs = [_job(index, name, bucket, index in staged) for index in range(count)]
    return JobPlan(
        name=name,
        request=_request(bucket, "notes"),
        limits=limits or ServiceLimits(),
        jobs=tuple(jobs),
        report=InputReport(
            file_count=count,
            total_bytes=count,
            characters=None,
            min_units=1,
            max_units=max_units,
            problems=(),
            problem_counts={},
        ),
    )


def _job(index: int, name: str, bucket: str, staged: bool) -> PlannedJob:
    token = f"{index:03}-{request_token(name)[:8]}"
    return PlannedJob(
        index=index,
        request=_request(
            bucket,
            f"notes/{index:03}/",
            job_name=f"{name}-{index:03}",
            client_request_token=token,
        ),
        file_count=1,
        total_bytes=1,
        first_key=f"notes/{index:03}/{CANARY}.txt",
        last_key=f"notes/{index:03}/{CANARY}.txt",
        staged=staged,
        listing_sum=index,
        key_sum=index,
    )


def _request(bucket: str, key: str, **fields: str) -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=bucket, s3_key=key),
        output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key="results"),
        data_access_role_arn=ROLE,
        kms_key=KEY,
        **fields,
    )

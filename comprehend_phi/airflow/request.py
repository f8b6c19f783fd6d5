"""The request of a task: the same task of the same run always means the same job."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import cast

from .._shapes import JOB_NAME
from ..models import InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest

_VERSION = 1  # of the rule by which tokens are made
_NAME_DIGITS = 32
_NOT_IN_NAMES = re.compile(r"[^\w.:/=+\-%@]")


def build_request(
    *,
    dag_id: str,
    run_id: str,
    task_id: str,
    request_key: str,
    input_uri: str,
    output_uri: str,
    data_access_role_arn: str,
    kms_key: str | None,
    language_code: str,
) -> StartPHIDetectionJobRequest:
    """Return the request of a task, with a job name and a token that every try makes again.

    Both depend on the DAG, the run, the task, the input and `request_key`. They do not depend on
    the number of the try, so a retry finds its job. They do not depend on `map_index` either, so a
    mapped task finds its job after the list of inputs has changed.

    Raises:
        RequestValidationError: a value breaks the rule of its shape.
    """
    parts = [_VERSION, dag_id, run_id, task_id, input_uri, request_key]
    digest = sha256(json.dumps(parts).encode()).hexdigest()
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig.from_uri(input_uri),
        output_data_config=OutputDataConfig.from_uri(output_uri),
        data_access_role_arn=data_access_role_arn,
        kms_key=kms_key,
        language_code=language_code,
        job_name=_job_name(dag_id, task_id, digest),
        client_request_token=digest,
    )


def _job_name(dag_id: str, task_id: str, digest: str) -> str:
    ending = f":{digest[:_NAME_DIGITS]}"
    start = _NOT_IN_NAMES.sub("", f"airflow:{dag_id}.{task_id}")
    return start[: cast("int", JOB_NAME.max_length) - len(ending)] + ending

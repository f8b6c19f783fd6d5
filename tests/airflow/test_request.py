"""The request of a task: its token and its job name."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from comprehend_phi import RequestValidationError, StartPHIDetectionJobRequest
from comprehend_phi.airflow.request import build_request

from .conftest import CANARY, ROLE

PARTS = {"dag_id": "nightly", "run_id": "run 1", "task_id": "notes.detect", "request_key": ""}


def a_request(**changes: Any) -> StartPHIDetectionJobRequest:
    arguments: dict[str, Any] = {
        **PARTS,
        "input_uri": "s3://hospital-notes/2031/",
        "output_uri": "s3://phi-results/",
        "data_access_role_arn": ROLE,
        "kms_key": "alias/phi-results",
        "language_code": "en",
        **changes,
    }
    return build_request(**arguments)


def test_the_token_is_the_hash_that_the_documentation_describes() -> None:
    parts = [1, "nightly", "run 1", "notes.detect", "s3://hospital-notes/2031/", ""]
    digest = sha256(json.dumps(parts).encode()).hexdigest()

    assert a_request().client_request_token == digest
    assert a_request().job_name == f"airflow:nightly.notes.detect:{digest[:32]}"


@pytest.mark.parametrize(
    "change",
    [
        {"dag_id": "weekly"},
        {"run_id": "run 2"},
        {"task_id": "detect"},
        {"input_uri": "s3://hospital-notes/2032/"},
        {"request_key": "again"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_task_run_or_input_has_another_token_and_name(change: dict[str, str]) -> None:
    one, other = a_request(), a_request(**change)

    assert one.client_request_token != other.client_request_token
    assert one.job_name != other.job_name


@pytest.mark.parametrize("change", [{"output_uri": "s3://other-results/"}, {"kms_key": "alias/k"}])
def test_other_parameters_keep_the_token_so_a_changed_task_starts_no_second_job(
    change: dict[str, str],
) -> None:
    assert a_request(**change).client_request_token == a_request().client_request_token


@pytest.mark.parametrize(
    ("dag_id", "start"), [("n" * 250, "airflow:nnn"), ("nächtlich!\t", "airflow:nächtlich.notes")]
)
def test_long_and_unusual_ids_give_names_that_the_service_accepts(dag_id: str, start: str) -> None:
    name = a_request(dag_id=dag_id).job_name

    assert name is not None
    assert name.startswith(start)
    assert len(name) <= 256


def test_an_invalid_value_is_refused_without_being_quoted() -> None:
    with pytest.raises(RequestValidationError) as caught:
        a_request(input_uri=f"https://{CANARY}")

    assert CANARY not in str(caught.value)

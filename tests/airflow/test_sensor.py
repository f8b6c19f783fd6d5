"""The sensor, without Airflow's processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    TaskDeferred,
)

from comprehend_phi.airflow import PHIDetectionJobSensor, PHIDetectionJobTrigger, PHIHook
from comprehend_phi.testing import LocalServer

from .conftest import Context, TickingClock
from .test_request import a_request

KMS = {"kms_key": "alias/phi-results", "input_uri": "s3://hospital-notes/one/"}


@pytest.fixture
def job_id(hook: PHIHook) -> str:
    """A job that is running."""
    with hook.phi_client() as client:
        return client.submit(a_request(**KMS)).job_id


def a_sensor(connection: str, job_id: str, **options: Any) -> PHIDetectionJobSensor:
    return PHIDetectionJobSensor(
        task_id="wait", job_id=job_id, aws_conn_id=connection, poke_interval=0.005, **options
    )


def test_a_worker_waits_for_the_job(clock: TickingClock, connection: str, job_id: str) -> None:
    sensor = a_sensor(connection, job_id)

    assert not sensor.poke(Context())
    clock.advance(35)
    sensor.execute(Context())
    assert sensor.poke(Context())


def test_the_triggerer_waits_for_the_job_and_never_stops_it(connection: str, job_id: str) -> None:
    sensor = a_sensor(connection, job_id, deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(Context())
    trigger = caught.value.trigger
    assert isinstance(trigger, PHIDetectionJobTrigger)
    assert (trigger.job_id, trigger.cancel_on_kill) == (job_id, False)

    event = asyncio.run(trigger.event())

    sensor.execute_complete(Context(), event)
    assert event["status"] == "COMPLETED"
    # The job has ended, so there is nothing to wait for.
    sensor.execute(Context())


def test_the_trigger_gets_the_settings_of_the_sensor(connection: str, job_id: str) -> None:
    settings = {"region_name": "us-east-1", "verify": False, "botocore_config": {"read_timeout": 9}}
    sensor = a_sensor(connection, job_id, deferrable=True, **settings)

    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(Context())

    assert isinstance(caught.value.trigger, PHIDetectionJobTrigger)
    _, values = caught.value.trigger.serialize()
    expected = {**settings, "aws_conn_id": connection, "poll_interval": 0.005}
    assert {name: values[name] for name in expected} == expected


def test_a_partial_success_can_fail_the_sensor(
    clock: TickingClock, server: LocalServer, connection: str, hook: PHIHook
) -> None:
    server.storage.write("hospital-notes", "one/broken.txt", b"\xff")
    with hook.phi_client() as client:
        job_id = client.submit(a_request(**KMS)).job_id
    clock.advance(40)

    a_sensor(connection, job_id).execute(Context())
    with pytest.raises(AirflowFailException, match="did not process every file"):
        a_sensor(connection, job_id, fail_on_partial_success=True).execute(Context())


def test_a_failed_job_fails_the_sensor(clock: TickingClock, connection: str, hook: PHIHook) -> None:
    with hook.phi_client() as client:
        request = a_request(input_uri="s3://no-such-bucket/", kms_key="alias/phi-results")
        job_id = client.submit(request).job_id
    clock.advance(40)

    with pytest.raises(AirflowException, match=f"Job {job_id} failed: "):
        a_sensor(connection, job_id).execute(Context())


def test_an_invalid_job_id_is_refused_without_being_quoted(connection: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        a_sensor(connection, "no such\njob").poke(Context())

    assert "no such" not in str(caught.value)

"""The trigger: recreated from what Airflow stores, and run twice at once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.triggers.base import TriggerEvent

from comprehend_phi import JobStatus, RequestValidationError
from comprehend_phi.airflow import PHIDetectionJobTrigger, PHIHook
from comprehend_phi.airflow.clients import ConnectionSettings, SharedClients
from comprehend_phi.testing import Fault, LocalServer, StartRecord, faults

from .conftest import AIRFLOW_VERSION, CANARY
from .test_request import a_request

IN_CANARY = {"input_uri": f"s3://hospital-notes/{CANARY}/"}


def recreated(trigger: PHIDetectionJobTrigger) -> PHIDetectionJobTrigger:
    """Return the trigger that a triggerer builds from what the database contains."""
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    module, _, name = path.rpartition(".")
    other: PHIDetectionJobTrigger = getattr(import_module(module), name)(**arguments)
    return other


async def payload(trigger: PHIDetectionJobTrigger) -> Any:
    [event] = [event async for event in trigger.run()]
    assert isinstance(event, TriggerEvent)
    return event.payload


def run(*triggers: PHIDetectionJobTrigger) -> list[Any]:
    """Run the triggers at the same time, and return what their events contain."""

    async def run() -> list[Any]:
        return await asyncio.gather(*map(payload, triggers))

    return asyncio.run(run())


def start_trigger(connection: str, **changes: Any) -> PHIDetectionJobTrigger:
    request = a_request(**changes).to_dict()
    return PHIDetectionJobTrigger(request=request, slot_delay=0.005, aws_conn_id=connection)


def job_trigger(connection: str, job_id: str, **changes: Any) -> PHIDetectionJobTrigger:
    return PHIDetectionJobTrigger(
        job_id=job_id, **{"poll_interval": 0.005, "aws_conn_id": connection, **changes}
    )


def a_job(hook: PHIHook, **changes: Any) -> str:
    with hook.phi_client() as client:
        return client.submit(a_request(**{**IN_CANARY, **changes})).job_id


@pytest.mark.parametrize(
    "trigger",
    [
        PHIDetectionJobTrigger(job_id="1", deadline=5.5, cancel_on_kill=False),
        PHIDetectionJobTrigger(
            request=a_request().to_dict(),
            slot_delay=1.5,
            aws_conn_id=None,
            region_name="us-west-2",
            verify=False,
            botocore_config={"read_timeout": 5},
        ),
    ],
    ids=["job", "request"],
)
def test_a_trigger_can_be_recreated_from_json(trigger: PHIDetectionJobTrigger) -> None:
    assert recreated(trigger).serialize() == trigger.serialize()


@pytest.mark.parametrize("arguments", [{}, {"job_id": "1", "request": {}}])
def test_a_trigger_has_a_job_or_a_request(arguments: dict[str, Any]) -> None:
    with pytest.raises(RequestValidationError, match="but not both"):
        PHIDetectionJobTrigger(**arguments)


def test_the_repr_shows_neither_keys_nor_names() -> None:
    trigger = PHIDetectionJobTrigger(request=a_request(**IN_CANARY).to_dict())

    assert repr(trigger) == "PHIDetectionJobTrigger(job_id=None)"


def test_a_trigger_that_runs_twice_at_once_starts_one_job(
    server: LocalServer, connection: str
) -> None:
    trigger = start_trigger(connection)

    one, other = run(trigger, recreated(trigger))

    assert one == other == {"status": "STARTED", "job_id": one["job_id"], "message": ""}
    assert len(server.service.job_ids) == 1


def test_a_trigger_that_runs_again_finds_its_job(server: LocalServer, connection: str) -> None:
    trigger = start_trigger(connection)
    [one], [other] = run(trigger), run(recreated(trigger))

    assert one == other
    assert len(server.service.job_ids) == 1


def test_a_job_waits_until_a_slot_is_free(
    server: LocalServer, connection: str, hook: PHIHook
) -> None:
    first = a_job(hook)

    [event] = run(start_trigger(connection))

    assert event["status"] == "STARTED"
    with hook.phi_client() as client:
        assert client.job(first).properties().job_status is JobStatus.COMPLETED
    assert len(server.service.job_ids) == 2


def test_two_triggers_that_wait_for_the_same_slot_start_one_job(
    server: LocalServer, connection: str, hook: PHIHook
) -> None:
    a_job(hook)
    trigger = start_trigger(connection)

    one, other = run(trigger, recreated(trigger))

    assert one == other
    assert len(server.service.job_ids) == 2


def test_a_wait_for_a_slot_ends_at_its_deadline(connection: str, hook: PHIHook) -> None:
    a_job(hook)
    trigger = PHIDetectionJobTrigger(
        request=a_request().to_dict(), deadline=time.time(), aws_conn_id=connection
    )

    [event] = run(recreated(trigger))

    assert event["status"] == "RETRY"
    assert "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED" in event["message"]


def test_the_next_job_starts_after_the_one_before_has_stopped(
    starts: list[StartRecord], connection: str, hook: PHIHook
) -> None:
    with hook.phi_client() as client:
        job = client.submit(a_request())
        job.stop()
        assert job.properties().job_status is JobStatus.STOP_REQUESTED

    [event] = run(start_trigger(connection))

    assert event["status"] == "STARTED"
    assert event["job_id"] != job.job_id
    one, other = starts
    assert one.token != other.token


def test_a_trigger_waits_for_the_end_of_a_job(connection: str, hook: PHIHook) -> None:
    job_id = a_job(hook)
    trigger = job_trigger(connection, job_id)

    events = run(trigger, recreated(trigger))

    assert events == [{"status": "COMPLETED", "job_id": job_id, "message": ""}] * 2


def test_a_wait_for_a_job_ends_at_its_deadline_and_the_job_runs_on(
    connection: str, hook: PHIHook
) -> None:
    job_id = a_job(hook)

    [event] = run(job_trigger(connection, job_id, deadline=time.time()))

    assert event["status"] == "RETRY"
    assert "It is still running." in event["message"]
    assert run(job_trigger(connection, job_id))[0]["status"] == "COMPLETED"


def test_a_failed_job_gives_a_masked_event(connection: str, hook: PHIHook) -> None:
    job_id = a_job(hook, input_uri=f"s3://no-such-bucket/{CANARY}/")

    [event] = run(job_trigger(connection, job_id))

    assert event["status"] == "RETRY"
    assert f"Job {job_id} failed: " in event["message"]
    assert CANARY not in json.dumps(event)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.error("AccessDeniedException", message=CANARY), "FAIL"),
        (faults.error("ExpiredTokenException"), "RETRY"),
    ],
)
def test_a_refused_start_gives_a_masked_event(
    server: LocalServer, connection: str, fault: Fault, status: str
) -> None:
    server.service.script(fault, operation="StartPHIDetectionJob")

    [event] = run(start_trigger(connection, **IN_CANARY))

    assert (event["status"], event["job_id"]) == (status, None)
    assert CANARY not in json.dumps(event)


def test_a_wait_survives_a_failed_poll(server: LocalServer, connection: str, hook: PHIHook) -> None:
    job_id = a_job(hook)
    server.service.script(faults.passes(), faults.error("ExpiredTokenException"))

    [event] = run(job_trigger(connection, job_id))

    assert event["status"] == "COMPLETED"


def test_an_unforeseen_error_becomes_an_event_that_quotes_nothing(connection: str) -> None:
    trigger = job_trigger(connection, "1", botocore_config={CANARY: 1})

    [event] = run(trigger)

    assert event == {
        "status": "RETRY",
        "job_id": "1",
        "message": "The task failed with TypeError.",
    }


def set_task(trigger: PHIDetectionJobTrigger, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """Give a trigger a task in this state, as a triggerer does."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    trigger.task_instance = SimpleNamespace(
        dag_id="dag", run_id="run", task_id="detect", map_index=2
    )

    def get_task_states(**query: Any) -> dict[str, dict[str, str]]:
        assert query == {
            "dag_id": "dag",
            "map_index": 2,
            "run_ids": ["run"],
            "task_ids": ["detect"],
        }
        return {"run": {"detect_2": state}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)


calls_on_kill = pytest.mark.skipif(AIRFLOW_VERSION < (3, 3), reason="needs Airflow 3.3")


@calls_on_kill
@pytest.mark.parametrize(
    ("cancel", "status"), [(True, JobStatus.STOP_REQUESTED), (False, JobStatus.SUBMITTED)]
)
def test_killing_a_task_stops_its_job_if_it_may(
    connection: str,
    hook: PHIHook,
    monkeypatch: pytest.MonkeyPatch,
    cancel: bool,
    status: JobStatus,
) -> None:
    job_id = a_job(hook)
    trigger = job_trigger(connection, job_id, cancel_on_kill=cancel)
    set_task(trigger, monkeypatch, "failed")

    asyncio.run(trigger.on_kill())

    with hook.phi_client() as client:
        assert client.job(job_id).properties().job_status is status


@calls_on_kill
def test_a_job_for_which_another_triggerer_waits_is_not_stopped(
    server: LocalServer, connection: str, hook: PHIHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = job_trigger(connection, a_job(hook))
    set_task(trigger, monkeypatch, "deferred")

    asyncio.run(trigger.on_kill())

    assert not server.service.attempts("StopPHIDetectionJob")


def test_killing_a_task_that_waits_for_a_slot_stops_nothing(
    server: LocalServer, connection: str
) -> None:
    asyncio.run(start_trigger(connection).on_kill())

    assert not server.service.received


@calls_on_kill
def test_a_restart_of_the_triggerer_stops_no_job(
    server: LocalServer, connection: str, hook: PHIHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = job_trigger(connection, a_job(hook))
    set_task(trigger, monkeypatch, "failed")

    async def scenario() -> None:
        running = asyncio.create_task(payload(trigger))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        await trigger.cleanup()

    asyncio.run(scenario())

    assert not server.service.attempts("StopPHIDetectionJob")


def test_a_start_is_sent_to_the_region_of_the_trigger(
    starts: list[StartRecord], connection: str
) -> None:
    trigger = PHIDetectionJobTrigger(
        request=a_request().to_dict(), aws_conn_id=connection, region_name="us-west-2"
    )

    run(recreated(trigger))

    assert [start.region for start in starts] == ["us-west-2"]


def test_a_poll_verifies_certificates_as_the_trigger_says(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    monkeypatch.setenv(variable, os.environ[variable].replace("http:", "https:"))

    # The local service speaks no TLS, but the bundle is read before that matters.
    [event] = run(job_trigger(connection, "1", verify="/no/such/bundle.pem"))

    assert "CA bundle" in event["message"]


def test_clients_are_shared_until_they_are_old() -> None:
    now, built = [0.0], list[object]()

    def build(_settings: object) -> Any:
        built.append(object())
        return built[-1]

    clients = SharedClients(build, lambda: now[0])
    settings: dict[str, Any] = {"aws_conn_id": "a", "region_name": None, "verify": None}

    async def get(**changes: Any) -> object:
        return await clients.get(cast(ConnectionSettings, settings | changes))

    async def scenario() -> None:
        first = await get()
        assert await get(region_name="us-west-2") is not first
        now[0] = 599.0
        assert await get() is first
        now[0] = 600.0
        assert await get() is not first

    asyncio.run(scenario())
    assert len(built) == 3

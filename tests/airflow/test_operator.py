"""The operator, without Airflow's processes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    TaskDeferred,
)

from comprehend_phi import JobStatus, RequestValidationError
from comprehend_phi.airflow import (
    PHIDetectionJobTrigger,
    PHIHook,
    StartPHIDetectionJobOperator,
)
from comprehend_phi.testing import Fault, LocalServer, StartRecord, faults

from .conftest import CANARY, Context

Arguments = Callable[..., dict[str, Any]]


def execute(arguments: dict[str, Any], context: Context | None = None) -> Any:
    return StartPHIDetectionJobOperator(**arguments).execute(context or Context())


def deferred(arguments: dict[str, Any], context: Context | None = None) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        execute({**arguments, "deferrable": True}, context)
    return caught.value


def trigger_of(deferral: TaskDeferred) -> PHIDetectionJobTrigger:
    assert isinstance(deferral.trigger, PHIDetectionJobTrigger)
    assert deferral.method_name == "execute_complete"
    return deferral.trigger


@pytest.mark.parametrize(
    "change",
    [
        {"poll_interval": 0},
        {"wait_timeout": -1},
        {"slot_delay": 0},
        {"slot_timeout": "1"},
        {"max_cost": -1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_number_out_of_range_is_refused_when_the_dag_is_read(
    arguments: Arguments, change: dict[str, Any]
) -> None:
    with pytest.raises(RequestValidationError, match=next(iter(change))):
        StartPHIDetectionJobOperator(**arguments(**change))


def test_a_worker_can_wait_for_the_job(
    arguments: Arguments, context: Context, hook: PHIHook
) -> None:
    job_id = execute(arguments(), context)

    with hook.phi_client() as client:
        assert client.job(job_id).properties().job_status is JobStatus.COMPLETED
    link = {"region_name": "us-east-1", "aws_domain": "aws.amazon.com", "job_id": job_id}
    assert context.pushed == {"phi_detection_job": link}


def test_without_waiting_the_task_returns_a_running_job(
    arguments: Arguments, hook: PHIHook
) -> None:
    job_id = execute(arguments(wait_for_completion=False))

    with hook.phi_client() as client:
        assert not client.job(job_id).properties().job_status.is_terminal


def test_a_deferred_task_waits_in_the_triggerer_and_returns_the_job(
    server: LocalServer, arguments: Arguments, context: Context
) -> None:
    trigger = trigger_of(deferred(arguments(), context))
    event = asyncio.run(trigger.event())

    # Airflow builds the operator again.
    operator = StartPHIDetectionJobOperator(**arguments(deferrable=True))
    assert operator.execute_complete(context, event) == server.service.job_ids[0]


def test_the_trigger_gets_the_connection_and_an_absolute_deadline(
    arguments: Arguments, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    settings = {"region_name": "us-east-1", "verify": False, "botocore_config": {"read_timeout": 9}}

    trigger = trigger_of(
        deferred(arguments(**settings, wait_timeout=60.0, cancel_on_kill=False, poll_interval=7.0))
    )

    expected = {**settings, "aws_conn_id": connection, "deadline": 1060.0, "poll_interval": 7.0}
    _, values = trigger.serialize()
    assert {name: values[name] for name in expected} == expected
    assert values["cancel_on_kill"] is False
    assert values["request"] is None


def test_tries_of_a_task_start_one_job(starts: list[StartRecord], arguments: Arguments) -> None:
    tries = {execute(arguments(), Context(try_number=number)) for number in (1, 2, 3)}

    assert len(tries) == len(starts) == 1


def test_a_lost_answer_and_a_new_try_start_one_job(
    server: LocalServer, arguments: Arguments
) -> None:
    lost = faults.error("ExpiredTokenException", works=True)
    server.service.script(lost, operation="StartPHIDetectionJob")
    with pytest.raises(AirflowException, match="ExpiredTokenException"):
        execute(arguments())

    assert execute(arguments()) == server.service.job_ids[0]
    assert len(server.service.job_ids) == 1


def test_the_order_of_mapped_inputs_does_not_matter(arguments: Arguments) -> None:
    folders = [f"s3://hospital-notes/{name}/" for name in ("one", "two")]

    def run(folders: list[str]) -> list[str]:
        return [
            execute(arguments(input_uri=folder), Context(map_index=index))
            for index, folder in enumerate(folders)
        ]

    assert run(folders[::-1]) == run(folders)[::-1]


@pytest.mark.parametrize("context", [Context(run_id="next"), Context(task_id="other")])
def test_another_run_and_another_task_start_their_own_job(
    arguments: Arguments, context: Context
) -> None:
    assert execute(arguments(), context) != execute(arguments())


def test_another_request_key_starts_another_job(arguments: Arguments) -> None:
    assert execute(arguments(request_key="again")) != execute(arguments())


def test_each_retry_after_a_failed_job_starts_another_job(
    starts: list[StartRecord], arguments: Arguments
) -> None:
    for _ in range(3):
        with pytest.raises(AirflowException, match="failed: ") as caught:
            execute(arguments(input_uri="s3://no-such-bucket/"))
        assert not isinstance(caught.value, AirflowFailException)

    assert len({start.token for start in starts}) == 3
    assert len({start.job_id for start in starts}) == 3


def test_a_retry_after_a_timeout_waits_for_the_same_job(
    starts: list[StartRecord], arguments: Arguments
) -> None:
    with pytest.raises(AirflowException, match="It is still running"):
        execute(arguments(wait_timeout=0))

    assert execute(arguments()) == starts[0].job_id
    assert len(starts) == 1


def test_without_a_free_slot_the_task_defers_at_once(
    server: LocalServer, arguments: Arguments, context: Context
) -> None:
    execute(arguments(wait_for_completion=False), Context(run_id="another"))

    trigger = trigger_of(deferred(arguments(), context))
    assert server.service.attempts("StartPHIDetectionJob") == 2
    event = asyncio.run(trigger.event())
    operator = StartPHIDetectionJobOperator(**arguments(deferrable=True))
    with pytest.raises(TaskDeferred) as caught:
        operator.execute_complete(context, event)

    assert trigger_of(caught.value).job_id == server.service.job_ids[1]
    assert context.pushed["phi_detection_job"]["job_id"] == server.service.job_ids[1]


def test_a_worker_can_wait_for_a_slot(server: LocalServer, arguments: Arguments) -> None:
    execute(arguments(wait_for_completion=False), Context(run_id="another"))

    assert execute(arguments()) == server.service.job_ids[1]


def test_a_wait_for_a_slot_times_out(arguments: Arguments) -> None:
    execute(arguments(wait_for_completion=False), Context(run_id="another"))

    with pytest.raises(AirflowException, match="ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"):
        execute(arguments(slot_timeout=0))


def test_a_cleared_task_starts_again_after_its_job_was_stopped(
    server: LocalServer, arguments: Arguments
) -> None:
    operator = StartPHIDetectionJobOperator(**arguments(wait_for_completion=False))
    stopped = operator.execute(Context())
    operator.on_kill()

    job_id = execute(arguments())

    assert job_id != stopped
    assert server.service.job_ids == (stopped, job_id)


@pytest.mark.parametrize(
    ("cancel", "status"), [(True, JobStatus.STOP_REQUESTED), (False, JobStatus.SUBMITTED)]
)
def test_killing_a_worker_stops_its_job_if_it_may(
    arguments: Arguments, hook: PHIHook, cancel: bool, status: JobStatus
) -> None:
    operator = StartPHIDetectionJobOperator(
        **arguments(wait_for_completion=False, cancel_on_kill=cancel)
    )
    job_id = operator.execute(Context())

    operator.on_kill()

    with hook.phi_client() as client:
        assert client.job(job_id).properties().job_status is status


def test_killing_a_task_without_a_job_sends_nothing(
    server: LocalServer, arguments: Arguments
) -> None:
    StartPHIDetectionJobOperator(**arguments()).on_kill()

    assert not server.service.received


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.error("AccessDeniedException", message=CANARY), AirflowFailException),
        (faults.error("InvalidRequestException", message=CANARY), AirflowFailException),
        (faults.error("ExpiredTokenException"), AirflowException),
        (faults.error("KmsException"), AirflowException),
    ],
)
def test_an_error_says_whether_a_retry_can_help_and_shows_no_key(
    server: LocalServer, arguments: Arguments, fault: Fault, error: type[Exception]
) -> None:
    server.service.script(fault, operation="StartPHIDetectionJob")

    with pytest.raises(AirflowException) as caught:
        execute(arguments(input_uri=f"s3://hospital-notes/{CANARY}/"))

    assert type(caught.value) is error
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "change", [{"input_uri": f"s3:/{CANARY}"}, {"kms_key": f"{CANARY}\n"}, {"language_code": "xx"}]
)
def test_a_wrong_argument_fails_the_task_for_good_and_is_not_quoted(
    server: LocalServer, arguments: Arguments, change: dict[str, str]
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        execute(arguments(**change))

    assert CANARY not in str(caught.value)
    assert not server.service.received


def test_a_job_with_other_parameters_fails_the_task_for_good(arguments: Arguments) -> None:
    execute(arguments())

    with pytest.raises(AirflowFailException, match="kms_key"):
        execute(arguments(kms_key="alias/other"))


def test_a_partial_success_is_a_warning(
    server: LocalServer, arguments: Arguments, capfd: pytest.CaptureFixture[str]
) -> None:
    server.storage.write("hospital-notes", "one/broken.txt", b"\xff")

    execute(arguments())

    assert "did not process every file" in "".join(capfd.readouterr())


def test_a_partial_success_can_fail_the_task(server: LocalServer, arguments: Arguments) -> None:
    server.storage.write("hospital-notes", "one/broken.txt", b"\xff")

    with pytest.raises(AirflowFailException, match="did not process every file"):
        execute(arguments(fail_on_partial_success=True))


def test_a_job_that_may_cost_too_much_is_not_started(
    server: LocalServer, arguments: Arguments
) -> None:
    with pytest.raises(AirflowFailException, match="more than max_cost"):
        execute(arguments(max_cost=0))

    assert not server.service.job_ids


def test_a_job_that_was_started_is_found_whatever_it_would_cost_now(
    server: LocalServer, arguments: Arguments
) -> None:
    job_id = execute(arguments(max_cost=0.01))

    assert execute(arguments(max_cost=0)) == job_id


def test_a_job_within_its_cost_is_started(server: LocalServer, arguments: Arguments) -> None:
    execute(arguments(max_cost=0.01))

    assert len(server.service.job_ids) == 1


def test_nothing_that_airflow_stores_or_logs_shows_a_key(
    arguments: Arguments, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    context = Context()
    with caplog.at_level(logging.DEBUG, "comprehend_phi"):
        job_id = execute(arguments(input_uri=f"s3://hospital-notes/{CANARY}/"), context)

    logs = caplog.text + "".join(capfd.readouterr())
    assert job_id in logs
    assert CANARY not in logs + json.dumps([job_id, context.pushed])


def test_the_template_fields_are_those_that_the_documentation_lists() -> None:
    own = {"input_uri", "output_uri", "data_access_role_arn", "kms_key", "request_key"}

    assert own < set(StartPHIDetectionJobOperator.template_fields)
    assert {"aws_conn_id", "region_name"} < set(StartPHIDetectionJobOperator.template_fields)

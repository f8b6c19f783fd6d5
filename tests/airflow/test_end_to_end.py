"""Airflow's own processes, some of which are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import field, frozen

from comprehend_phi.testing import Limits, LocalServer, StartRecord

from .conftest import CANARY, connection_to
from .processes import Airflow, wait_until

# The code of the DAGs contains keys here, and Airflow stores the rendered fields of tasks.
COLUMNS_WITH_KEYS = {
    "dag_code.source_code",
    "rendered_task_instance_fields.rendered_fields",
    "serialized_dag.data",
}


@frozen
class Service:
    """A local service and the starts that it has processed."""

    server: LocalServer
    starts: list[StartRecord]


@frozen
class World:
    """Airflow, the services of three DAGs, and a run of each DAG."""

    airflow: Airflow
    six: Service
    killed: Service
    failed: Service
    runs: dict[str, str] = field(factory=dict)
    columns_during_waits: set[str] = field(factory=set)


class Killer:
    """Kills the worker that sends the first start, before it gets the response."""

    def __init__(self, process_id: Path) -> None:
        self.starts: list[StartRecord] = []
        self._process_id = process_id

    def __call__(self, start: StartRecord) -> None:
        self.starts.append(start)
        if len(self.starts) == 1:
            os.kill(int(self._process_id.read_text(encoding="utf-8")), signal.SIGKILL)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("airflow")
    killer = Killer(home / "worker.pid")
    limits = Limits(active_jobs=3)
    records: dict[str, list[StartRecord]] = {"six": [], "failed": []}
    with ExitStack() as stack:

        def service(job_seconds: float, starts: list[StartRecord], on_start: object) -> Service:
            assert callable(on_start)
            server = LocalServer(job_seconds=job_seconds, limits=limits, on_start=on_start)
            stack.enter_context(server)
            for bucket in ("hospital-notes", "phi-results"):
                server.storage.create_bucket(bucket)
            for number in range(6):
                text = f"Seen by Dr. {CANARY}.".encode()
                server.storage.write("hospital-notes", f"{CANARY}/{number}/note.txt", text)
            return Service(server, starts)

        six = service(12.0, records["six"], records["six"].append)
        killed = service(1.0, killer.starts, killer)
        failed = service(1.0, records["failed"], records["failed"].append)
        connections = {
            "aws_six": connection_to(six.server),
            "aws_killed": connection_to(killed.server),
            "aws_failed": connection_to(failed.server),
        }
        environment = {"WORKER_PROCESS_ID": str(home / "worker.pid")}
        airflow = Airflow(
            home,
            Path(__file__).parent / "dags" / "end_to_end",
            connections,
            environment=environment,
        )
        airflow.prepare()
        stack.enter_context(airflow)
        world = World(airflow, six, killed, failed)
        for dag_id in ("six_jobs", "killed_worker", "failed_job"):
            world.runs[dag_id] = airflow.run(dag_id)
        yield world


def test_a_killed_triggerer_costs_no_job_and_no_task(world: World) -> None:
    run = world.runs["six_jobs"]

    def jobs_run_and_tasks_wait_for_slots() -> bool:
        was_rejected = any(start.error is not None for start in world.six.starts)
        # The arguments of a trigger that waits for a slot contain the request.
        return was_rejected and "trigger.kwargs" in world.airflow.columns_with(CANARY)

    wait_until(jobs_run_and_tasks_wait_for_slots, "a wait for a slot")
    world.airflow.kill("triggerer")
    world.columns_during_waits.update(world.airflow.columns_with(CANARY))
    world.airflow.start("triggerer")

    assert world.airflow.wait_for(run) == "success"
    assert len(world.six.server.service.job_ids) == 6
    assert len({start.token for start in world.six.starts}) == 6


def test_a_worker_killed_right_after_the_start_leaves_one_job(world: World) -> None:
    assert world.airflow.wait_for(world.runs["killed_worker"]) == "success"

    tries = "SELECT max(try_number) FROM task_instance WHERE dag_id = 'killed_worker'"
    assert world.airflow.query(tries) == [(2,)]
    [start] = world.killed.starts
    assert world.killed.server.service.job_ids == (start.job_id,)


def test_each_retry_of_a_failed_job_has_another_token(world: World) -> None:
    assert world.airflow.wait_for(world.runs["failed_job"]) == "failed"

    assert len(world.failed.starts) == 3
    assert len({start.token for start in world.failed.starts}) == 3
    assert len({start.job_id for start in world.failed.starts}) == 3


def test_cleared_tasks_find_their_jobs(world: World) -> None:
    before = len(world.six.starts)

    world.airflow.clear("six_jobs", world.runs["six_jobs"])

    wait_until(
        lambda: (
            None in world.airflow.states(world.runs["six_jobs"])
            or "success" not in world.airflow.states(world.runs["six_jobs"])
        ),
        "the clear",
    )
    assert world.airflow.wait_for(world.runs["six_jobs"]) == "success"
    assert len(world.six.starts) == before


def test_keys_are_only_where_the_documentation_says(world: World) -> None:
    # Airflow itself adds the URL of the link.
    ours = {"return_value", "phi_detection_job"}
    assert {key for (key,) in world.airflow.query("SELECT key FROM xcom")} == ours | {
        "_link_PHIDetectionJobLink"
    }
    assert world.columns_during_waits == COLUMNS_WITH_KEYS | {"trigger.kwargs"}
    assert world.airflow.columns_with(CANARY) == COLUMNS_WITH_KEYS


def test_logs_of_tasks_and_triggers_show_no_key(world: World) -> None:
    logs = world.airflow.logs()

    # These are the logs of the tasks, the events of the triggers and the errors.
    assert all(f"The job is {job_id}." in logs for job_id in world.six.server.service.job_ids)
    assert "Trigger fired event" in logs
    assert all(f"Job {start.job_id} failed: " in logs for start in world.failed.starts)
    assert CANARY not in logs

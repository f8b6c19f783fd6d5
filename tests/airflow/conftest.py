"""Airflow with a home of its own, a local service over HTTP, and a connection to it."""

from __future__ import annotations

import functools
import json
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

# Airflow reads these when it is imported.
_DIRECTORY = tempfile.TemporaryDirectory(prefix="airflow-")
HOME = _DIRECTORY.name
# dag.test() needs the file of a DAG in Airflow's folder of DAGs.
DAGS = Path(HOME, "dags")
DAGS.mkdir()
for source in (Path(__file__).with_name("dags"), Path(__file__).parents[2] / "examples/airflow"):
    for path in source.glob("*.py"):
        shutil.copy(path, DAGS)
os.environ.update(
    {
        "AIRFLOW_HOME": HOME,
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "d2VhayBrZXkgZm9yIHRlc3RzIG9ubHksIDMyIGI9PSE=",
    }
)

from botocore.loaders import JSONFileLoader

from comprehend_phi.airflow import PHIHook
from comprehend_phi.testing import Limits, LocalServer, Rules, StartRecord

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
AIRFLOW_VERSION = tuple(map(int, version("apache-airflow").split(".")[:2]))
CANARY = "Zinnia-Quellwasser"


@pytest.fixture(scope="session", autouse=True)
def botocore_reads_each_file_once() -> Iterator[None]:
    """Share botocore's files between sessions. Reading them takes most of a client's time."""
    files = functools.cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _loader, path: files(path))
        yield


@pytest.fixture
def starts() -> list[StartRecord]:
    """A record of each start that `server` has processed."""
    return []


class TickingClock:
    """A clock that advances by a second whenever somebody looks at it.

    So the number of requests decides how far a job is, and the speed of the machine does not.
    """

    def __init__(self) -> None:
        self._now = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        self.advance(1)
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the service has no reason to sleep")


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def server(clock: TickingClock, starts: list[StartRecord]) -> Iterator[LocalServer]:
    """A local service with one job slot and notes in three folders. Jobs take some 40 requests.

    It forgets the token of a job that has ended. Only the list of jobs then shows that it exists.
    """
    with LocalServer(
        clock=clock,
        job_seconds=40,
        limits=Limits(active_jobs=1),
        rules=Rules(remember_tokens="until-job-ends"),
        on_start=starts.append,
    ) as server:
        server.storage.create_bucket("hospital-notes")
        server.storage.create_bucket("phi-results")
        for folder in ("one", "two", CANARY):
            text = f"Seen by Dr. {CANARY} on 2031-02-03.".encode()
            server.storage.write("hospital-notes", f"{folder}/note.txt", text)
        yield server


@pytest.fixture
def connection(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a connection to the local service. Clients are shared, so no two tests use one."""
    name = f"aws_{uuid4().hex}"
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", connection_to(server))
    return name


def connection_to(server: LocalServer) -> str:
    """Return the connection as Airflow reads it from an environment variable."""
    return json.dumps(
        {
            "conn_type": "aws",
            "login": "testing",
            "password": "testing",
            "extra": {"region_name": "us-east-1", "endpoint_url": server.endpoint_url},
        }
    )


@pytest.fixture
def hook(connection: str) -> PHIHook:
    return PHIHook(connection)


class Context(dict[str, Any]):
    """What Airflow passes to a task, as far as our operators use it."""

    def __init__(
        self,
        run_id: str = "run",
        task_id: str = "detect",
        *,
        try_number: int = 1,
        map_index: int = -1,
    ) -> None:
        self.pushed: dict[str, Any] = {}
        task = SimpleNamespace(
            dag_id="dag",
            run_id=run_id,
            task_id=task_id,
            try_number=try_number,
            map_index=map_index,
            xcom_push=self._push,
        )
        super().__init__(ti=task)

    def _push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def arguments(connection: str) -> Callable[..., dict[str, Any]]:
    """Arguments of the operator, with short waits."""

    def arguments(**changes: Any) -> dict[str, Any]:
        return {
            "task_id": "detect",
            "input_uri": "s3://hospital-notes/one/",
            "output_uri": "s3://phi-results/",
            "data_access_role_arn": ROLE,
            "kms_key": "alias/phi-results",
            "poll_interval": 0.005,
            "slot_delay": 0.005,
            "aws_conn_id": connection,
            **changes,
        }

    return arguments


def load_dag(name: str) -> Any:
    """Return the DAG of a file in Airflow's folder.

    On Airflow 2.11, its operators wait in the worker. There, `dag.test()` forgets that a task is
    mapped when it resumes the task.
    """
    dag = runpy.run_path(str(DAGS / f"{name}.py"))["DAG"]
    if AIRFLOW_VERSION < (3,):
        for task in dag.tasks:
            getattr(task, "partial_kwargs", {}).pop("deferrable", None)
    return dag


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's database."""
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, check=True, capture_output=True)


def query(statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Return rows of Airflow's database."""
    with closing(sqlite3.connect(f"file:{HOME}/airflow.db?mode=ro", uri=True)) as database:
        return database.execute(statement, values).fetchall()

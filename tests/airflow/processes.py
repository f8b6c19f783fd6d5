"""Airflow's own processes: a scheduler with its workers, a triggerer and an API server."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

# The scheduler gives the triggers of a triggerer to another one after this many seconds without a
# sign of life.
TRIGGERER_TIMEOUT = 6


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    """Wait until the condition is true. Raise `TimeoutError` if that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:g} seconds")
        time.sleep(0.2)


class Airflow:
    """A local Airflow with SQLite and `LocalExecutor`. As a context manager, it runs.

    It ends only the processes that it started.

    Args:
        home: a directory for Airflow's database and logs.
        dags: the folder of the DAGs.
        connections: the connections, by their ids.
        parallelism: how many tasks run at the same time.
        environment: other variables for all processes.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        connections: dict[str, str],
        *,
        parallelism: int = 4,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.home = home
        self._port = free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        settings = {
            "API__BASE_URL": self._url,
            "API__HOST": "127.0.0.1",
            "API__PORT": self._port,
            "API__WORKERS": 1,
            "API_AUTH__JWT_SECRET": "a secret for tests on this machine only",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__DAGS_FOLDER": dags,
            "CORE__EXECUTION_API_SERVER_URL": f"{self._url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__FERNET_KEY": "d2VhayBrZXkgZm9yIHRlc3RzIG9ubHksIDMyIGI9PSE=",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": parallelism,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(),
            "LOGGING__WORKER_LOG_SERVER_PORT": free_port(),
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
            "TRIGGERER__JOB_HEARTBEAT_SEC": 1,
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": TRIGGERER_TIMEOUT,
        }
        self._environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()},
            **(environment or {}),
        }

    def prepare(self) -> None:
        """Create the database, and read the DAGs once."""
        self.command("db", "migrate")
        self.command("dags", "reserialize")

    def __enter__(self) -> Self:
        for name in ("api-server", "scheduler", "triggerer"):
            self.start(name)
        wait_until(self._answers, "the start of the API server")
        return self

    def __exit__(self, *_error: object) -> None:
        for name in tuple(self._processes):
            self.kill(name)

    def command(self, *arguments: str) -> None:
        """Run a command of Airflow."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str) -> None:
        """Start a process of Airflow, whose output goes to a file in the home."""
        with (self.home / f"{name}.txt").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that it has a process group of its own
            )

    def kill(self, name: str) -> None:
        """Kill a process of Airflow and those that it started."""
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow's REST API."""
        token = self._open("GET", "/auth/token", None, {})["access_token"]
        return self._open(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {token}"})

    def run(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of a DAG and return its id."""
        body = {"logical_date": None, "conf": conf or {}}
        run_id: str = self.api("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]
        return run_id

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a run, so that Airflow runs them again."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False}
        self.api("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return rows of Airflow's database."""
        url = f"file:{self.home}/airflow.db?mode=ro"
        with closing(sqlite3.connect(url, uri=True, timeout=30)) as database:
            return database.execute(statement, values).fetchall()

    def columns_with(self, text: str) -> set[str]:
        """Return the columns of Airflow's database, as `table.column`, that contain a text."""
        found = set[str]()
        for (table,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'"):
            names = [row[1] for row in self.query(f"PRAGMA table_info('{table}')")]
            for row in self.query(f"SELECT * FROM '{table}'"):
                values = zip(names, row, strict=True)
                found |= {f"{table}.{name}" for name, value in values if text in str(value)}
        return found

    def states(self, run_id: str, task_id: str = "detect") -> Sequence[str | None]:
        """Return the states of a task's instances in a run."""
        rows = self.query(
            "SELECT state FROM task_instance WHERE run_id = ? AND task_id = ? ORDER BY map_index",
            run_id,
            task_id,
        )
        return [state for (state,) in rows]

    def wait_for(self, run_id: str, seconds: float = 300.0) -> str:
        """Wait until a run has ended, and return its state."""

        def state() -> str:
            [(value,)] = self.query("SELECT state FROM dag_run WHERE run_id = ?", run_id)
            return str(value)

        wait_until(lambda: state() in ("success", "failed"), "the end of the run", seconds)
        return state()

    def logs(self) -> str:
        """Return all logs of the processes and of the tasks."""
        files = [*self.home.glob("*.txt"), *self.home.glob("logs/**/*.log")]
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)

    def _answers(self) -> bool:
        try:
            return bool(self._open("GET", "/auth/token", None, {}))
        except (URLError, ConnectionError):
            return False

    def _open(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        with urlopen(Request(self._url + path, data, headers, method=method)) as response:
            return json.load(response)

"""The example DAGs, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from comprehend_phi.testing import LocalServer

from .conftest import AIRFLOW_VERSION, CANARY, TickingClock, connection_to, load_dag, query


# Clients are shared by connection, so all tests that use `aws_default` have one server.
@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """The buckets of the examples, on a service whose jobs end at once."""
    with LocalServer(clock=TickingClock(), job_seconds=0) as server:
        for bucket in ("hospital-notes", "phi-results", "redacted-notes"):
            server.storage.create_bucket(bucket)
        for folder in ("2031-02-03", "archive/a", "archive/b"):
            for number in range(6):
                note = f"Seen by Dr. {CANARY} on 2031-02-03.".encode()
                server.storage.write("hospital-notes", f"{folder}/{CANARY}-{number}.txt", note)
        yield server


@pytest.fixture
def account(server: LocalServer, monkeypatch: pytest.MonkeyPatch, database: None) -> LocalServer:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection_to(server))
    return server


def run(name: str, date: datetime | None = None, conf: dict[str, Any] | None = None) -> str:
    """Run an example for a date, and return the id of its run."""
    argument = "logical_date" if AIRFLOW_VERSION >= (3,) else "execution_date"
    run = load_dag(name).test(**{argument: date}, run_conf=conf or {})
    assert run.state == "success"
    run_id: str = run.run_id
    return run_id


def test_the_nightly_example_writes_a_copy_of_every_note(
    account: LocalServer, capfd: pytest.CaptureFixture[str]
) -> None:
    # On this night, the day before has ended.
    run_id = run("nightly", datetime(2031, 2, 4, tzinfo=UTC))

    copies = list(account.storage.keys("redacted-notes"))
    assert len(copies) == 6
    assert account.storage.read("redacted-notes", copies[0]) == b"Seen by Dr. [NAME] on [DATE]."
    xcoms = query("SELECT value FROM xcom WHERE task_id = 'copy' AND run_id = ?", run_id)
    assert sorted(int(value) for (value,) in xcoms) == [1, 1, 2, 2]
    assert CANARY not in "".join(capfd.readouterr())


def test_the_nightly_example_reads_another_folder_if_it_is_told_to(account: LocalServer) -> None:
    dag = load_dag("nightly")
    template = dag.get_task("detect").input_uri
    run = SimpleNamespace(conf={"folder": "2031-02-01"})

    rendered = dag.get_template_env().from_string(template).render(dag_run=run)

    assert rendered == "s3://hospital-notes/2031-02-01/"


def test_the_example_with_many_jobs_runs_the_jobs_of_its_plan(account: LocalServer) -> None:
    before = set(account.service.job_ids)

    run_id = run("many_jobs")

    # The archive fits into one job, in which each of twelve notes has a name and a date.
    assert len(set(account.service.job_ids) - before) == 1
    [(count,)] = query("SELECT value FROM xcom WHERE task_id = 'count' AND run_id = ?", run_id)
    assert int(count) == 24

"""A DAG with mapped tasks, templates, XComs and a link, in one process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comprehend_phi.testing import LocalServer, StartRecord

from .conftest import CANARY, connection_to, load_dag, query

RETURNED = ("detect", "return_value")


@pytest.fixture
def dag(database: None, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAG of `dags/folders.py`, with a connection to the local service."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_FOLDERS", connection_to(server))
    return load_dag("folders")


def test_mapped_tasks_run_their_jobs_and_show_no_key(
    dag: Any, server: LocalServer, starts: list[StartRecord], capfd: pytest.CaptureFixture[str]
) -> None:
    conf = {"bucket": "hospital-notes", "folders": ["one", "two", CANARY]}

    run = dag.test(run_conf=conf)

    assert run.state == "success"
    # Each mapped task started one job, although there is only one slot.
    assert len(server.service.job_ids) == len({start.token for start in starts}) == 3

    # Templates were rendered, and the user interface shows them.
    rendered = query("SELECT rendered_fields FROM rendered_task_instance_fields")
    assert any("s3://phi-results/folders/" in fields for (fields,) in rendered)

    # The XComs are the ids of the jobs, what the link needs, and what the DAG returns.
    xcoms = query("SELECT task_id, key, value FROM xcom")
    job_ids = {json.loads(value) for task, key, value in xcoms if (task, key) == RETURNED}
    assert job_ids == set(server.service.job_ids)
    links = [json.loads(value) for task, key, value in xcoms if key == "phi_detection_job"]
    assert {link["job_id"] for link in links} == job_ids
    [link_class] = dag.get_task("detect").operator_extra_links
    assert link_class.format_link(**links[0]).endswith("?region=us-east-1")

    # The DAG's own input list contains the key. Nothing else does: no XCom and no log.
    assert not [row for row in xcoms if row[0] != "inputs" and CANARY in str(row)]
    logs = "".join(capfd.readouterr())
    assert all(job_id in logs for job_id in job_ids)
    assert CANARY not in logs

"""Run the example DAGs on a local Airflow and the local service, until you press Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from comprehend_phi.testing import LocalServer

EXAMPLES = Path(__file__).parents[1] / "examples"
AIRFLOW = [sys.executable, "-m", "airflow"]
BUCKETS = ("hospital-notes", "phi-results", "redacted-notes")

INTRODUCTION = """Airflow starts at http://localhost:8080, which takes half a minute.
The DAG `nightly` runs at once: look at its graph, at the XComs of `detect`, and at the logs.
To run `many_jobs`, trigger it. Ctrl-C ends the demo.
"""


def fill(server: LocalServer) -> None:
    """Write the example notes to the folders that the DAGs read."""
    for bucket in BUCKETS:
        server.storage.create_bucket(bucket)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for path in sorted(EXAMPLES.joinpath("notes").glob("*.txt")):
        for folder in (f"{yesterday:%Y-%m-%d}", "archive/2029", "archive/2030"):
            server.storage.write("hospital-notes", f"{folder}/{path.name}", path.read_bytes())


def main() -> None:
    """Start the local service and Airflow."""
    with tempfile.TemporaryDirectory() as home, LocalServer(job_seconds=60) as server:
        fill(server)
        connection = {
            "conn_type": "aws",
            "login": "testing",
            "password": "testing",
            "extra": {"region_name": "us-east-1", "endpoint_url": server.endpoint_url},
        }
        environment = {
            **os.environ,
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "airflow"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        }
        pool = ("phi_detection_jobs", "10", "PHI detection jobs", "--include-deferred")
        for command in (("db", "migrate"), ("pools", "set", *pool)):
            subprocess.run([*AIRFLOW, *command], env=environment, check=True, capture_output=True)
        sys.stdout.write(INTRODUCTION)
        sys.stdout.flush()
        try:
            subprocess.run([*AIRFLOW, "standalone"], env=environment, check=False)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

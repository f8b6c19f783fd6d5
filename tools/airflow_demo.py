"""Run the example DAGs on a local Airflow and the local service, until you press Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

from comprehend_phi.testing import LocalServer

EXAMPLES = Path(__file__).parents[1] / "examples"
AIRFLOW = [sys.executable, "-m", "airflow"]
BUCKETS = ("hospital-notes", "phi-results", "redacted-notes")
PORT = 8080

STARTING = """Airflow is starting, which takes about a minute. Ctrl-C ends the demo.
"""
READY = """Airflow runs at {url}.
The DAG `nightly` has started. Its job takes a minute:
  the graph        {url}/dags/nightly
  the task's log   open the run, then the task `detect`
  the job's id     the tab XCom of `detect`
  the copies       the tasks `copy`, which return how many notes each has written
To run `many_jobs`, press Trigger at {url}/dags/many_jobs.
Airflow's own output is in {output}. Ctrl-C ends the demo.
"""


def fill(server: LocalServer) -> None:
    """Write the example notes to the folders that the DAGs read."""
    for bucket in BUCKETS:
        server.storage.create_bucket(bucket)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for path in sorted(EXAMPLES.joinpath("notes").glob("*.txt")):
        for folder in (f"{yesterday:%Y-%m-%d}", "archive/2029", "archive/2030"):
            server.storage.write("hospital-notes", f"{folder}/{path.name}", path.read_bytes())


def free_port() -> int:
    """Return `PORT`, or another one if a program uses it."""
    for port in (PORT, 0):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise OSError("no port is free")


def command(environment: dict[str, str], *arguments: str) -> None:
    """Run a command of Airflow. Show its output only if it fails."""
    run = subprocess.run(
        [*AIRFLOW, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if run.returncode != 0:
        sys.exit(run.stdout.decode(errors="replace"))


def run(environment: dict[str, str], url: str, output: Path) -> None:
    """Run Airflow until it ends or somebody interrupts this program. Leave no process behind."""
    # In a session of its own, Airflow does not receive Ctrl-C itself. It ends best if only its main
    # process does.
    with output.open("wb") as file:
        airflow = subprocess.Popen(
            [*AIRFLOW, "standalone"],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if answers(url, airflow):
            # Before that, tasks would fail and wait for their next try.
            command(environment, "dags", "unpause", "--yes", "--treat-dag-id-as-regex", ".*")
            sys.stdout.write(READY.format(url=url, output=output))
            sys.stdout.flush()
        airflow.wait()
        sys.stderr.write(output.read_text(encoding="utf-8", errors="replace"))
    except KeyboardInterrupt:
        airflow.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            airflow.wait(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(airflow.pid, signal.SIGKILL)
        airflow.wait()


def answers(url: str, airflow: subprocess.Popen[bytes]) -> bool:
    """Wait until Airflow's server answers. Return False if Airflow ends before."""
    while airflow.poll() is None:
        with suppress(OSError), urlopen(f"{url}/api/v2/monitor/health"):
            return True
        time.sleep(1)
    return False


def main() -> None:
    """Start the local service and Airflow."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory() as home,
        LocalServer(job_seconds=60) as server,
    ):
        fill(server)
        connection = {
            "conn_type": "aws",
            "login": "testing",
            "password": "testing",
            "extra": {"region_name": "us-east-1", "endpoint_url": server.endpoint_url},
        }
        port = free_port()
        url = f"http://localhost:{port}"
        environment = {
            **os.environ,
            # `airflow standalone` starts other processes as `airflow`.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
            "AIRFLOW__API__BASE_URL": url,
            # Everybody who reaches the server is its administrator.
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        }
        sys.stdout.write(STARTING)
        sys.stdout.flush()
        command(environment, "db", "migrate")
        command(environment, "dags", "reserialize")
        pool = ("phi_detection_jobs", "10", "PHI detection jobs", "--include-deferred")
        command(environment, "pools", "set", *pool)
        run(environment, url, Path(home, "airflow.txt"))


if __name__ == "__main__":
    main()

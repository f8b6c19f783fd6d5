"""The client's CPU time of fetching and decoding the documents of a job, per document.

The documents have 3.5 KB each. They come from two servers on this machine, in their own processes:

- SeaweedFS, a real S3 server, which checks signatures and sends the headers and checksums of S3;
- nginx, which only sends the same files. No response is cheaper to read.

CPU time is the time of all threads of this process, including those of Rust. The candidates:

- comprehend_phi with `s3_transport="boto3"`: `Job.results()` through boto3;
- comprehend_phi with the extra `fast`: the same through obstore;
- boto3 and json: `get_object` in as many threads, `json.loads` and attrs classes.

The script first counts the requests that boto3 sends, to make sure that each candidate uses its own
transport. As in call_cost.py, a handler in this process describes the job.

Without nginx, only SeaweedFS is measured. Without obstore, its line is left out.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import boto3
from _canned import CannedResponse
from _measure import Comparison, in_turns, print_table
from botocore.awsrequest import AWSPreparedRequest
from results_decode import by_attrs, document

from comprehend_phi import PHIClient

ROUNDS = 18
WARM_UPS = 6
DOCUMENTS = 200
THREADS = 10  # the size of boto3's connection pool, and so the threads of all candidates
OURS, FAST, THEIRS = "comprehend_phi", "comprehend_phi[fast]", "boto3, json and attrs"
S3, STATIC = "SeaweedFS", "nginx"
TARGETS = {S3: 0.20, STATIC: 0.10}

REGION, BUCKET = "us-east-1", "results"
JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"123456789012-PHIDetection-{JOB_ID}/"
# Any, because the stubs only know some services and no return values of event handlers.
SESSION: Any = boto3.Session(
    "testing", "testing", region_name=REGION
)  # the credentials of tests/real_s3.py
SENT: list[str] = []  # the URLs that boto3 sends to S3

NGINX = """
daemon off;
{user}
error_log stderr crit;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path {folder}/a;
    proxy_temp_path {folder}/b;
    fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d;
    scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/root;
    }}
}}
"""


@contextmanager
def seaweedfs(folder: Path) -> Generator[str, None, None]:
    """Serve the files below `folder`/root from a real S3 server and yield its URL."""
    script = Path(__file__).parent.parent / "tests/real_s3.py"
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        if server.stdin is None or server.stdout is None or not (url := server.stdout.readline()):
            raise SystemExit("SeaweedFS did not start")
        s3: Any = SESSION.client("s3", endpoint_url=url.strip())
        s3.create_bucket(Bucket=BUCKET)
        root = folder / "root" / BUCKET
        for path in filter(Path.is_file, root.rglob("*")):
            key = path.relative_to(root).as_posix()
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        s3.close()
        yield url.strip()
        server.stdin.close()


@contextmanager
def nginx(folder: Path) -> Generator[str, None, None]:
    """Serve the files below `folder`/root from nginx and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""  # only this user may read the folder
    config = folder / "config"
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    command = [str(which_nginx()), "-p", str(folder), "-c", str(config)]
    server = subprocess.Popen(command)
    try:
        for _ in range(100):
            if server.poll() is not None:
                raise SystemExit("nginx did not start")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def lay(root: Path) -> None:
    """Write the results of a job as the service lays them out."""
    folder = root / BUCKET / FOLDER
    folder.mkdir(parents=True)
    body = document()
    for number in range(DOCUMENTS):
        (folder / f"{number}.txt.out").write_bytes(body)
    summary = {
        "Status": "COMPLETED",
        "SuccessFilesCount": DOCUMENTS,
        "SuccessfulFilesListLocation": "success",
        "UnprocessedFilesListLocation": "failed",
    }
    files = [
        {"Input": f"{number}.txt", "Output": f"{number}.txt.out"} for number in range(DOCUMENTS)
    ]
    (folder / "Manifest").write_text(json.dumps({"Summary": summary}))
    (folder / "success").write_text(json.dumps({"Files": files}))
    (folder / "failed").write_text(json.dumps({"Files": []}))


DESCRIPTION = CannedResponse(
    {
        "ComprehendMedicalAsyncJobProperties": {
            "JobId": JOB_ID,
            "JobStatus": "COMPLETED",
            "InputDataConfig": {"S3Bucket": BUCKET},
            "OutputDataConfig": {"S3Bucket": BUCKET, "S3Key": FOLDER},
        }
    }
)


def note(request: AWSPreparedRequest, **_: Any) -> None:
    """Handle `before-send` by recording the URL."""
    SENT.append(request.url)


def which_nginx() -> str | None:
    """Return the path of nginx if it is installed."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def by_us(client: PHIClient) -> int:
    """Read all documents of the job with this package and return the number of entities."""
    return sum(len(found.entities) for found in client.job(JOB_ID).results())


def by_boto3(client: Any) -> int:
    """Read all documents of the job with raw boto3, whose keys are known."""

    def read(number: int) -> int:
        answer = client.get_object(Bucket=BUCKET, Key=f"{FOLDER}{number}.txt.out")
        return len(by_attrs(answer["Body"].read()))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(read, range(DOCUMENTS)))


def candidates() -> dict[str, Callable[[], int]]:
    """Return the ways to read all documents of the job."""
    s3: Any = SESSION.client("s3")
    plain = PHIClient(session=SESSION, s3_transport="boto3")
    ways: dict[str, Callable[[], int]] = {
        THEIRS: lambda: by_boto3(s3),
        OURS: lambda: by_us(plain),
    }
    if find_spec("obstore") is None:
        print(f"{FAST}: skipped, obstore is not installed")
    else:
        fast = PHIClient(session=SESSION, s3_transport="obstore")
        ways[FAST] = lambda: by_us(fast)
    return ways


def check(ways: dict[str, Callable[[], int]]) -> None:
    """Check that all candidates read the same entities, each through its own transport."""
    counts: set[int] = set()
    for name, read in ways.items():
        before = len(SENT)
        counts.add(read())
        through_boto3 = len(SENT) - before
        # boto3 always reads the first object, which is the manifest, and the list of files.
        if through_boto3 != 2 if name == FAST else through_boto3 < DOCUMENTS:
            raise SystemExit(f"{name} did not use its own transport")
    if len(counts) != 1:
        raise SystemExit("the entities are not the same: there is nothing to compare")


def timed(read: Callable[[], int]) -> Callable[[], float]:
    """Return a function that measures the CPU seconds per document."""

    def block() -> float:
        gc.collect()  # collect what the last block left, before the measurement begins
        began = process_time()
        read()
        return (process_time() - began) / DOCUMENTS

    return block


def measure(server: str, url: str) -> None:
    """Check the candidates with one server, measure and print the results."""
    os.environ["AWS_ENDPOINT_URL_S3"] = url
    ways = candidates()
    check(ways)
    gc.collect()
    gc.freeze()
    gc.disable()
    taken = in_turns(
        {way: timed(read) for way, read in ways.items()}, rounds=ROUNDS, warm_ups=WARM_UPS
    )
    gc.enable()
    lines = [Comparison(OURS, THEIRS, target=1.0)]
    if FAST in taken:
        lines.append(Comparison(FAST, THEIRS, target=TARGETS[server]))
    print_table(
        f"{server}: CPU time to fetch and decode a document of {len(document()):,} bytes,"
        f" {ROUNDS} rounds of {DOCUMENTS}",
        taken,
        lines,
        unit="us",
    )


def main() -> None:
    """Measure with each server."""
    SESSION.events.register("before-send.comprehendmedical", DESCRIPTION)
    SESSION.events.register("before-send.s3", note)
    with TemporaryDirectory() as name:
        folder = Path(name)
        lay(folder / "root")
        with seaweedfs(folder) as url:
            measure(S3, url)
        if which_nginx() is None:
            print(f"{STATIC}: skipped, nginx is not installed (Debian: nginx-light)")
            return
        with nginx(folder) as url:
            measure(STATIC, url)


if __name__ == "__main__":
    main()

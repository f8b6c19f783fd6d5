"""What it costs a client to fetch and decode the documents of a job, in CPU time per document.

The documents, 3.5 KB each, come from servers on this machine, in processes of their own:

- SeaweedFS, a real S3 server: it compares signatures, and its answers have the headers and the
  checksums of S3;
- nginx, which serves the same files and does nothing else. No answer could be cheaper to read.

CPU time is that of this whole process, with all its threads, those of Rust included. The
candidates:

- comprehend_phi with `s3_transport="boto3"`: `Job.results()` through boto3;
- comprehend_phi with the extra `fast`: the same through obstore;
- boto3 and json: `get_object` in as many threads, `json.loads` and attrs classes.

Before anything is measured, the script counts what boto3 sends: a candidate that silently went
through the other transport would be no comparison. The description of the job is answered within
this process, as in call_cost.py.

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
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import boto3
from _measure import Comparison, in_turns, print_table
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from results_decode import by_attrs, document

from comprehend_phi import PHIClient

ROUNDS = 18
WARM_UPS = 6
DOCUMENTS = 200
THREADS = 10  # boto3's pool of connections, and so the threads of all candidates
OURS, FAST, THEIRS = "comprehend_phi", "comprehend_phi[fast]", "boto3, json and attrs"
S3, STATIC = "SeaweedFS", "nginx"
TARGETS = {S3: 0.20, STATIC: 0.10}

REGION, BUCKET = "us-east-1", "results"
JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"123456789012-PHIDetection-{JOB_ID}/"
# Any: the stubs type a client for each of hundreds of services, and no answer to an event.
SESSION: Any = boto3.Session("testing", "testing", region_name=REGION)  # as tests/real_s3.py wants
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
    """The files below `folder`/root in a real S3 server; gives the URL."""
    script = Path(__file__).parent.parent / "tests/real_s3.py"
    command = [sys.executable, str(script)]
    with subprocess.Popen(  # noqa: S603 - a script of ours, with no shell between
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
    """The files below `folder`/root over HTTP; gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""  # nobody else may read the folder
    config = folder / "config"
    config.write_text(NGINX.format(folder=folder, port=port, user=user))
    command = [str(which_nginx()), "-p", str(folder), "-c", str(config)]
    server = subprocess.Popen(command)  # noqa: S603 - what shutil.which found, with no shell between
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
    """The results of a job as the service lays them out."""
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


class Body:
    """The description of the job, with the one method by which botocore reads it from urllib3."""

    CONTENT = json.dumps(
        {
            "ComprehendMedicalAsyncJobProperties": {
                "JobId": JOB_ID,
                "JobStatus": "COMPLETED",
                "InputDataConfig": {"S3Bucket": BUCKET},
                "OutputDataConfig": {"S3Bucket": BUCKET, "S3Key": FOLDER},
            }
        }
    ).encode()

    def stream(self) -> Iterator[bytes]:
        """The whole of it at once."""
        yield self.CONTENT


def describe(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    """The handler of `before-send`: what it returns is taken for the service's response."""
    headers = HTTPHeaders()
    headers["Content-Type"] = "application/x-amz-json-1.1"
    headers["Content-Length"] = str(len(Body.CONTENT))
    return AWSResponse(request.url, 200, headers, Body())


def note(request: AWSPreparedRequest, **_: Any) -> None:
    """The handler of `before-send` that counts and answers nothing."""
    SENT.append(request.url)


def which_nginx() -> str | None:
    """Where nginx is, if it is installed."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def by_us(client: PHIClient) -> int:
    """Every document of the job by this package; returns how many entities they have."""
    return sum(len(found.entities) for found in client.job(JOB_ID).results())


def by_boto3(client: Any) -> int:
    """Every document of the job by raw boto3, the keys being known."""

    def read(number: int) -> int:
        answer = client.get_object(Bucket=BUCKET, Key=f"{FOLDER}{number}.txt.out")
        return len(by_attrs(answer["Body"].read()))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(read, range(DOCUMENTS)))


def candidates() -> dict[str, Callable[[], int]]:
    """The ways to read all documents of the job."""
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
    """All read the same, each in its own way."""
    counts: set[int] = set()
    for name, read in ways.items():
        before = len(SENT)
        counts.add(read())
        through_boto3 = len(SENT) - before
        # boto3 reads the first object, whatever the transport.
        if through_boto3 != 1 if name == FAST else through_boto3 < DOCUMENTS:
            raise SystemExit(f"{name} did not fetch the way that it is to be measured")
    if len(counts) != 1:
        raise SystemExit("the entities are not the same: there is nothing to compare")


def timed(read: Callable[[], int]) -> Callable[[], float]:
    """A measurement of the CPU seconds of one document, as the mean of them all."""

    def block() -> float:
        gc.collect()  # what the last block left, at nobody's expense
        began = process_time()
        read()
        return (process_time() - began) / DOCUMENTS

    return block


def measure(server: str, url: str) -> None:
    """Check, measure and print what it costs to read from one server."""
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
    SESSION.events.register("before-send.comprehendmedical", describe)
    SESSION.events.register("before-send.s3", note)
    with TemporaryDirectory() as name:
        folder = Path(name)
        lay(folder / "root")
        with seaweedfs(folder) as url:
            measure(S3, url)
        if which_nginx() is None:
            print(f"{STATIC}: skipped, there is no nginx here (Debian: nginx-light)")
            return
        with nginx(folder) as url:
            measure(STATIC, url)


if __name__ == "__main__":
    main()

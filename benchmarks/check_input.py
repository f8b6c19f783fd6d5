"""What it costs to check the input of a job before paying, in CPU time per key and in memory.

A server in another process sends a listing of S3, with all members that S3 sends, in pages of 1,000
keys. CPU time is that of this whole process, with all its threads. The candidates:

- boto3: a loop over its paginator for ListObjectsV2 that does nothing with the keys;
- comprehend_phi: `check_input`, with every check that needs no download;
- obstore: a loop over its `list` that does nothing with the keys, if it is installed.

The memory is the peak of a process of its own that checks 5,000,000 keys, every hundredth of which
has a problem. They come from a generator in the place of the boto3 client.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from statistics import median
from time import perf_counter, process_time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from _measure import Comparison, in_turns, print_table
from botocore.config import Config

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import check_input

ROUNDS = 12
WARM_UPS = 3
PAGE = 1_000
KEYS = 50 * PAGE
MANY_KEYS = 5_000_000
MOST_MEGABYTES = 200
OURS, THEIRS, RUST = "comprehend_phi, check_input", "boto3, bare loop", "obstore, bare loop"

REGION, BUCKET = "us-east-1", "hospital-notes"
REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket=BUCKET, s3_key="notes"),
    output_data_config=OutputDataConfig(s3_bucket="phi-results"),
    data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
)

# --- The server -----------------------------------------------------------------------------------

ENTRY = (
    "<Contents><Key>notes/2031/patient-%08d/note.txt</Key>"
    "<LastModified>2031-02-03T04:05:06.000Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    "<Size>3500</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


@cache
def page(first: int, keys: int) -> bytes:
    """The page of a listing that begins with key number `first`."""
    following = first + PAGE
    more = following < keys
    token = f"<NextContinuationToken>{following}</NextContinuationToken>" if more else ""
    entries = "".join([ENTRY % number for number in range(first, min(following, keys))])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>notes/</Prefix>{token}<MaxKeys>{PAGE}</MaxKeys>"
        f"<EncodingType>url</EncodingType><KeyCount>{min(following, keys) - first}</KeyCount>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{entries}</ListBucketResult>"
    ).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers ListObjectsV2 and HeadBucket."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Send a page. A listing with a delimiter finds nothing."""
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("continuation-token", ["0"])[0])
        self.answer(page(first, 0 if "delimiter" in query else KEYS))

    def do_HEAD(self) -> None:
        """Send an empty answer."""
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        """Send `body`."""
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object, **__: object) -> None:
        """Print nothing."""


def serve() -> None:
    """Serve until stdin is closed."""
    import threading

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


# --- CPU time -------------------------------------------------------------------------------------


def by_boto3(client: Any) -> int:
    """List all keys through boto3's paginator."""
    count = 0
    for answer in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="notes/"):
        for _ in answer["Contents"]:
            count += 1
    return count


def by_obstore(url: str) -> Callable[[], int]:
    """Return what lists all keys through obstore."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=url,
        region=REGION,
        access_key_id="testing",
        secret_access_key="testing",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    def read() -> int:
        count = 0
        for objects in obstore.list(store, prefix="notes", chunk_size=PAGE):
            for _ in objects:
                count += 1
        return count

    return read


def timed(read: Callable[[], int]) -> Callable[[], float]:
    """A measurement of the CPU seconds for one key, as the mean of them all."""

    def block() -> float:
        gc.collect()  # what the last block left, at nobody's expense
        began = process_time()
        if read() != KEYS:
            raise SystemExit("not all keys were listed")
        return (process_time() - began) / KEYS

    return block


def measure_time(url: str) -> None:
    """Measure and print the CPU time for a key."""
    os.environ["AWS_ENDPOINT_URL_S3"] = url
    session: Any = boto3.Session("testing", "testing", region_name=REGION)
    s3 = session.client("s3")
    client = PHIClient(session=session)
    ways: dict[str, Callable[[], int]] = {
        THEIRS: lambda: by_boto3(s3),
        OURS: lambda: check_input(client, REQUEST).file_count,
    }
    if find_spec("obstore") is None:
        print(f"{RUST}: skipped, obstore is not installed")
    else:
        ways[RUST] = by_obstore(url)
    taken = in_turns(
        {way: timed(read) for way, read in ways.items()}, rounds=ROUNDS, warm_ups=WARM_UPS
    )
    lines = [Comparison(OURS, THEIRS, target=1.15)]
    if RUST in taken:
        lines.append(Comparison(RUST, THEIRS))
    print_table(
        f"CPU time to list a key, {ROUNDS} rounds of {KEYS:,} keys", taken, lines, unit="us"
    )
    rates = [f"{1 / median(seconds):,.0f} ({name})" for name, seconds in taken.items()]
    print(f"  Keys for a second of CPU time: {', '.join(rates)}")


# --- Memory ---------------------------------------------------------------------------------------


class Listing:
    """What a check asks of a boto3 client, with keys that it makes up."""

    def __init__(self) -> None:
        config = Config(retries={"total_max_attempts": 1})
        client: Any = boto3.client("s3", region_name=REGION, config=config)
        self.meta = client.meta

    def head_bucket(self, **_: Any) -> Any:
        """Answer that the bucket exists."""
        return {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}

    def list_objects_v2(self, **members: str) -> Any:
        """Answer with the next page."""
        first = int(members.get("ContinuationToken", "0"))
        last = first if "Delimiter" in members else min(first + PAGE, MANY_KEYS)
        return {
            "KeyCount": last - first,
            "IsTruncated": first < last < MANY_KEYS,
            "NextContinuationToken": str(last),
            "Contents": [
                {"Key": f"notes/{number:08}/note.{'txt' if number % 100 else 'pdf'}", "Size": 200}
                for number in range(first, last)
            ],
        }


def measure_memory() -> None:
    """Check many keys in this process, and print its peak of memory."""
    listing: Any = Listing()
    began = perf_counter()
    with PHIClient(region_name=REGION, s3_client=listing) as client:
        report = check_input(client, REQUEST)
    elapsed = perf_counter() - began
    if (report.file_count, report.problem_counts) != (
        MANY_KEYS,
        {"NOT_PLAIN_TEXT": MANY_KEYS // 100},
    ):
        raise SystemExit("the report is wrong")
    # Linux counts in KiB.
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6
    verdict = "met" if megabytes <= MOST_MEGABYTES else "MISSED"
    print(
        f"Peak memory for {MANY_KEYS:,} keys: {megabytes:.0f} MB"
        f" (at most {MOST_MEGABYTES}: {verdict}), {MANY_KEYS / elapsed:,.0f} keys a second,"
        " the generator included"
    )


def main() -> None:
    """Measure CPU time, then memory, each with a process beside this one."""
    command = [sys.executable, __file__]
    with subprocess.Popen(
        [*command, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        if server.stdin is None or server.stdout is None or not (url := server.stdout.readline()):
            raise SystemExit("the server did not start")
        measure_time(url.strip())
        server.stdin.close()
    subprocess.run([*command, "memory"], check=True)


if __name__ == "__main__":
    {"serve": serve, "memory": measure_memory}.get(sys.argv[-1], main)()

"""The peak memory of a process that plans a large corpus and reads the results of its job.

Each transport is measured in a process of its own: `plan_jobs` lists the corpus, and `RunSummary`
reads the documents of the plan's only job, one after the other. Everything comes over HTTP from a
server in another process. It makes up the listing, the manifest, the lists and the documents, so a
job of any size needs no disk. The documents are tiny, because only one at a time is in memory.

By default, the job has 10,000 files. `large_job.py 1000000` measures the size that the target is
about, which takes long, above all through boto3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from _canned import CannedResponse

from comprehend_phi import (
    InputDataConfig,
    JobStatus,
    OutputDataConfig,
    PHIClient,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import JobOutcome, RunSummary, plan_jobs

FILES = 10_000
MOST_MEGABYTES = 300
REGION, NOTES, RESULTS = "us-east-1", "hospital-notes", "phi-results"
JOB_ID = "0123456789abcdef0123456789abcdef"
FOLDER = f"2031/123456789012-PHIDetection-{JOB_ID}/"
NAME = "ward-{0:05}/{1:08}.txt"  # the path of a note; a hundred notes are in one folder
PAGE = 1_000

REQUEST = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket=NOTES, s3_key="notes"),
    output_data_config=OutputDataConfig(s3_bucket=RESULTS, s3_key="2031"),
    data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
    kms_key="alias/phi-results",
)
DOCUMENT = json.dumps(
    {
        "Entities": [
            {
                "Id": 0,
                "BeginOffset": 9,
                "EndOffset": 20,
                "Score": 0.97,
                "Text": "Ada Example",
                "Category": "PROTECTED_HEALTH_INFORMATION",
                "Type": "NAME",
                "Traits": [],
            }
        ],
        "ModelVersion": "1.0.0",
    }
).encode()


# --- The server -----------------------------------------------------------------------------------


def name_of(number: int) -> str:
    """Return the path of a note below the input key."""
    return NAME.format(number // 100, number)


def page_of(query: str, files: int) -> bytes:
    """Return a page of the listing of the notes."""
    first = int(parse_qs(query).get("continuation-token", ["0"])[0])
    last = min(first + PAGE, files)
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < files else ""
    contents = "".join(
        f"<Contents><Key>notes/{name_of(number)}</Key><Size>900</Size>"
        "<LastModified>2031-02-03T04:05:06.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(first, last)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{NOTES}</Name><Prefix>notes/</Prefix><KeyCount>{last - first}</KeyCount>"
        f"<MaxKeys>{PAGE}</MaxKeys><IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        f"{more}{contents}</ListBucketResult>"
    ).encode()


def success_list(files: int) -> Iterator[bytes]:
    """Yield the list of processed files in pieces."""
    yield b'{"Files":['
    for first in range(0, files, PAGE):
        last = min(first + PAGE, files)
        entries = ",".join(
            f'{{"Input":"notes/{name_of(number)}","Output":"{FOLDER}{name_of(number)}.out",'
            '"InputSize":900}'
            for number in range(first, last)
        )
        yield f"{entries}{',' if last < files else ']}'}".encode()


def manifest(files: int) -> bytes:
    """Return the manifest of the job."""
    summary = {
        "Status": "COMPLETED",
        "InputFileCount": files,
        "SuccessFilesCount": files,
        "UnprocessedFilesCount": 0,
        "SuccessfulFilesListLocation": f"{FOLDER}success",
        "UnprocessedFilesListLocation": f"{FOLDER}failed",
    }
    return json.dumps({"Summary": summary}).encode()


async def serve(files: int, port: Connection) -> None:
    """Answer as S3 does, until this process is ended."""
    list_bytes = sum(map(len, success_list(files)))
    small = {"Manifest": manifest(files), "failed": b'{"Files":[]}'}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = head.split(b" ", 2)[:2]
                url = urlsplit(target.decode())
                pieces: Iterator[bytes]
                name = unquote(url.path).removeprefix(f"/{RESULTS}/{FOLDER}")
                if method == b"HEAD":
                    pieces, size = iter(()), 0
                elif "list-type" in url.query:
                    body = page_of(url.query, files)
                    pieces, size = iter((body,)), len(body)
                elif name == "success":
                    pieces, size = success_list(files), list_bytes
                else:
                    body = small.get(name, DOCUMENT)
                    pieces, size = iter((body,)), len(body)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nx-amz-bucket-region: %b\r\n"
                    b"x-amz-request-id: 0123456789ABCDEF\r\n"
                    b"Last-Modified: Mon, 03 Feb 2031 04:05:06 GMT\r\n"
                    b'ETag: "0123456789abcdef0123456789abcdef"\r\n\r\n' % (size, REGION.encode())
                )
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed the connection
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def run_server(files: int, port: Connection) -> None:
    """Run the server in this process."""
    asyncio.run(serve(files, port))


# --- The client -----------------------------------------------------------------------------------


DESCRIPTION = CannedResponse(
    {
        "ComprehendMedicalAsyncJobProperties": {
            "JobId": JOB_ID,
            "JobStatus": "COMPLETED",
            "InputDataConfig": {"S3Bucket": NOTES, "S3Key": "notes/"},
            "OutputDataConfig": {"S3Bucket": RESULTS, "S3Key": FOLDER},
        }
    }
)


def peak() -> float:
    """Return the peak of this process's memory in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6  # Linux counts in KiB


def measure(transport: Any, files: int) -> None:
    """Plan the corpus and read all documents in this process, and print what it took."""
    session: Any = boto3.Session("testing", "testing", region_name=REGION)
    session.events.register("before-send.comprehendmedical", DESCRIPTION)
    with PHIClient(session=session, s3_transport=transport) as client:
        at_first = peak()
        plan = plan_jobs(client, REQUEST, name="benchmark")
        planned = peak()
        [job] = plan.jobs
        outcome = JobOutcome(planned=job, job_id=JOB_ID, status=JobStatus.COMPLETED)
        results = RunSummary(plan=plan, jobs=(outcome,)).results(client)
        began, began_cpu = perf_counter(), process_time()
        entities = sum(len(document.entities) for document in results)
        took, cpu = perf_counter() - began, process_time() - began_cpu
    if entities != files:
        raise SystemExit(f"{entities} documents were read, not {files}")
    verdict = "met" if peak() <= MOST_MEGABYTES else "MISSED"
    print(
        f"{transport}: {files:,} files read in {took:.0f} s, {cpu / files * 1e6:.0f} us of CPU time"
        f" each; peak memory {peak():.0f} MB (at most {MOST_MEGABYTES}: {verdict}),"
        f" {planned:.0f} MB after planning, {at_first:.0f} MB before",
        flush=True,
    )


def main() -> None:
    """Measure each transport in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=FILES)
    parser.add_argument("--transport", choices=("boto3", "obstore"), help="only this one")
    options = parser.parse_args()
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        measure(options.transport, options.files)
        return
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(
        target=run_server, args=(options.files, theirs), daemon=True
    )
    server.start()
    environment = {**os.environ, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ours.recv()}"}
    for transport in (options.transport,) if options.transport else ("obstore", "boto3"):
        command = [sys.executable, __file__, str(options.files), "--transport", transport]
        subprocess.run(command, env=environment, check=True)
    server.terminate()


if __name__ == "__main__":
    main()

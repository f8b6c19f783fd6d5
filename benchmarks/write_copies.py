"""The client's CPU time of writing redacted copies to S3, per note.

The notes have 3.5 KB each and 20 entities. SeaweedFS, a real S3 server, sends notes and documents
from its own process, and takes the copies. The candidates, each with ten connections:

- comprehend_phi: `write_copies` of a job's results through boto3;
- comprehend_phi with the extra `fast`: the same through obstore;
- boto3 and json: a program without any check, with `get_object`, `json.loads`, slices and
  `put_object` in as many threads;
- obstore and orjson: the same program with the fastest libraries. No program can be cheaper.

CPU time is the time of all threads of this process, including those of Rust. As in call_cost.py, a
handler in this process describes the job.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import obstore
import orjson
from _measure import Comparison, in_turns, print_table
from obstore.store import S3Store
from redact_command import NOTES, lay, note_and_entities
from results_fetch import BUCKET, DESCRIPTION, FOLDER, JOB_ID, REGION, SESSION, THREADS, seaweedfs

from comprehend_phi import PHIClient, S3Location
from comprehend_phi.corpus import write_copies

ROUNDS = 12
WARM_UPS = 2
OURS, FAST = "comprehend_phi", "comprehend_phi[fast]"
THEIRS, FLOOR = "boto3, json and threads", "obstore and orjson"
COPIES = "copies"  # the bucket
NAMES = [f"ward-{number // 50}/{number}.txt" for number in range(NOTES)]
RUNS = count()  # each run writes into a folder of its own, because copies are never replaced


def redacted(text: str, entities: list[dict[str, Any]]) -> bytes:
    """Return the text with each entity replaced, without any check."""
    for entity in reversed(entities):
        text = f"{text[: entity['BeginOffset']]}[{entity['Type']}]{text[entity['EndOffset'] :]}"
    return text.encode()


def by_us(client: PHIClient) -> None:
    """Write all copies with this package."""
    report = write_copies(client.results(JOB_ID), S3Location(COPIES, str(next(RUNS))))
    if report.written != NOTES:
        raise SystemExit(f"{report.written} copies were written, not {NOTES}")


def by_boto3(s3: Any) -> None:
    """Write all copies with raw boto3, whose keys are known."""
    folder = next(RUNS)

    def copy(name: str) -> None:
        document = s3.get_object(Bucket=BUCKET, Key=f"{FOLDER}{name}.out")["Body"].read()
        note = s3.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        body = redacted(note.decode(), json.loads(document)["Entities"])
        s3.put_object(Bucket=COPIES, Key=f"{folder}/{name}", Body=body)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, NAMES))


def by_obstore(source: S3Store, target: S3Store) -> None:
    """Write all copies with the fastest libraries."""
    folder = next(RUNS)

    def copy(name: str) -> None:
        document = bytes(obstore.get(source, f"{FOLDER}{name}.out").bytes())
        note = bytes(obstore.get(source, name).bytes())
        body = redacted(note.decode(), orjson.loads(document)["Entities"])
        obstore.put(target, f"{folder}/{name}", body)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, NAMES))


def store(bucket: str, url: str) -> S3Store:
    """Return obstore's connection to a bucket."""
    return S3Store(
        bucket,
        endpoint=url,
        region=REGION,
        access_key_id="testing",
        secret_access_key="testing",
        client_options={"allow_http": True},
    )


def timed(write: Callable[[], None], rates: list[float]) -> Callable[[], float]:
    """Return a function that measures the CPU seconds per note, and adds notes per second."""

    def block() -> float:
        gc.collect()  # collect what the last block left, before the measurement begins
        began, began_cpu = perf_counter(), process_time()
        write()
        rates.append(NOTES / (perf_counter() - began))
        return (process_time() - began_cpu) / NOTES

    return block


def main() -> None:
    """Measure all candidates in turns."""
    SESSION.events.register("before-send.comprehendmedical", DESCRIPTION)
    with TemporaryDirectory() as name:
        lay(Path(name) / "root")
        with seaweedfs(Path(name)) as url:
            os.environ["AWS_ENDPOINT_URL_S3"] = url
            s3: Any = SESSION.client("s3")
            s3.create_bucket(Bucket=COPIES)
            source, target = store(BUCKET, url), store(COPIES, url)
            plain = PHIClient(session=SESSION, s3_transport="boto3")
            fast = PHIClient(session=SESSION, s3_transport="obstore")
            ways: dict[str, Callable[[], None]] = {
                THEIRS: lambda: by_boto3(s3),
                OURS: lambda: by_us(plain),
                FAST: lambda: by_us(fast),
                FLOOR: lambda: by_obstore(source, target),
            }
            rates: dict[str, list[float]] = {way: [] for way in ways}
            gc.freeze()
            gc.disable()
            taken = in_turns(
                {way: timed(write, rates[way]) for way, write in ways.items()},
                rounds=ROUNDS,
                warm_ups=WARM_UPS,
            )
            gc.enable()
    print_table(
        f"CPU time to read, redact and write a note of {len(note_and_entities()[0]):,} bytes,"
        f" {ROUNDS} rounds of {NOTES}",
        taken,
        [
            Comparison(OURS, THEIRS, target=1.0),
            Comparison(FAST, THEIRS, target=0.35),
            Comparison(FLOOR, THEIRS),
        ],
        unit="us",
    )
    for way, each in rates.items():
        print(f"  {way}: {max(each):,.0f} notes per second")


if __name__ == "__main__":
    main()

"""The CPU time and memory of writing a job's entities to a Parquet file.

The documents are 200 .out files of 3.5 KB, with 21 entities each, again and again, as bytes in
memory. There are three candidates, each in one process, in turns:

- decoding alone: this package turns the bytes into typed entities;
- this package: decoding, and `write_parquet`, which also writes the file to the disk;
- a program of ten lines: `json.loads`, a dict per entity, and one `pyarrow.Table` at the end.

The values in the two files are compared first. Memory is the peak of a process that writes a
million entities; the process of the short program does the same.

This needs pyarrow and orjson, which `results_decode` imports.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import pyarrow
from _measure import Comparison, in_turns, print_table
from pyarrow import parquet as arrow_parquet
from results_decode import document

from comprehend_phi import Document
from comprehend_phi._results.decoding import decode_output
from comprehend_phi.tables import write_parquet

ROUNDS = 12
WARM_UPS = 6
BODIES = 200
ENTITIES = 100_000  # in each round
MILLION = 1_000_000
OURS, DECODING, SHORT = "comprehend_phi", "decoding alone", "ten lines of json and pyarrow"

MOST_OF_DECODING = 3.0
MOST_OF_SHORT = 0.5
MOST_MEGABYTES = 300

# Untyped: the stubs of pyarrow are only partly typed.
arrow: Any = pyarrow
parquet: Any = arrow_parquet


def bodies() -> list[bytes]:
    """Return different .out files."""
    chance = random.Random(5)
    content = json.loads(document())
    made: list[bytes] = []
    for _ in range(BODIES):
        moved = 0
        for entity in content["Entities"]:
            length = entity["EndOffset"] - entity["BeginOffset"]
            moved += length + chance.randrange(1, 60)
            entity.update(BeginOffset=moved - length, EndOffset=moved, Score=chance.random())
        made.append(json.dumps(content, separators=(",", ":")).encode())
    return made


FILES = bodies()
PER_FILE = len(json.loads(FILES[0])["Entities"])


def files(entities: int) -> Iterator[tuple[str, bytes]]:
    """Yield keys and .out files with about this many entities."""
    for number in range(entities // PER_FILE):
        yield f"notes/{number // 1_000:04}/{number:07}.txt", FILES[number % BODIES]


def documents(entities: int) -> Iterator[Document]:
    """Yield documents as `JobResults` does."""
    for key, body in files(entities):
        content = decode_output(body, bucket="results", key=key)
        yield Document(
            input_key=key,
            output_key=f"results/{key}.out",
            entities=content.entities,
            model_version=content.model_version,
        )


def decode(entities: int, _path: str) -> None:
    """Decode the documents, and do nothing with them."""
    for _ in documents(entities):
        pass


def by_us(entities: int, path: str) -> None:
    """Write the file with this package."""
    write_parquet(documents(entities), path)


def by_short_program(entities: int, path: str) -> None:
    """Write the file as a short program does."""
    rows: list[dict[str, Any]] = []
    for key, body in files(entities):
        content = json.loads(body)
        for entity in content["Entities"]:
            row = {"input_key": key, "entity_id": entity["Id"], "score": entity["Score"]}
            row |= {"begin_offset": entity["BeginOffset"], "end_offset": entity["EndOffset"]}
            row |= {"type": entity["Type"], "category": entity["Category"]}
            rows.append(row | {"model_version": content["ModelVersion"]})
    parquet.write_table(arrow.Table.from_pylist(rows), path)


CANDIDATES: dict[str, Callable[[int, str], None]] = {
    DECODING: decode,
    SHORT: by_short_program,
    OURS: by_us,
}


def timed(candidate: Callable[[int, str], None], path: str) -> Callable[[], float]:
    """Return a function that measures the CPU seconds of one file."""

    def run() -> float:
        began = process_time()
        candidate(ENTITIES, path)
        return process_time() - began

    return run


def rows_of(path: Path) -> Any:
    """Return the rows of a file, with the columns in alphabetical order."""
    table = parquet.read_table(path)
    return table.select(sorted(table.column_names)).to_pylist()


def print_peak(name: str) -> None:
    """Write a million entities in this process, and print its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        CANDIDATES[name](MILLION, f"{folder}/entities.parquet")
    # Linux counts in KiB.
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6
    line = f"  {name:{max(map(len, CANDIDATES))}}  {megabytes:>6.0f} MB"
    if name == OURS:
        met = "met" if megabytes <= MOST_MEGABYTES else "MISSED"
        line += f"  at most {MOST_MEGABYTES}: {met}"
    print(line, flush=True)


def main() -> None:
    """Measure the memory, compare the values, measure the time, and print the results."""
    # First, because the peak of a new process begins with the memory of the one that starts it.
    print("Peak memory of a process that writes a million entities", flush=True)
    for name in CANDIDATES:
        subprocess.run([sys.executable, __file__, name], check=True)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.parquet"), Path(folder, "theirs.parquet")
        by_us(10_000, str(ours))
        by_short_program(10_000, str(theirs))
        if rows_of(ours) != rows_of(theirs):
            raise SystemExit("the values are not the same: there is nothing to compare")
        taken = in_turns(
            {name: timed(run, str(ours)) for name, run in CANDIDATES.items()},
            rounds=ROUNDS,
            warm_ups=WARM_UPS,
        )
    print_table(
        f"CPU time to write {ENTITIES:,} entities of {ENTITIES // PER_FILE:,} documents, {ROUNDS}"
        " rounds",
        taken,
        [
            Comparison(OURS, DECODING, target=MOST_OF_DECODING),
            Comparison(OURS, SHORT, target=MOST_OF_SHORT),
        ],
        unit="ms",
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_peak(sys.argv[1])
    else:
        main()

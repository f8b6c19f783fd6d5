"""The client's CPU time of `comprehend-phi redact JOB FOLDER` per note, beside the library's own.

The notes have 3.5 KB each and 20 entities. SeaweedFS, a real S3 server, sends them from its own
process. With the extra `fast`, notes and documents are read through obstore. The candidates, all
with one client that is already connected:

- the library: iterating over `results.redacted()` and dropping the texts;
- the library and plain files: the same, and each text in a file of one flat folder, with
  `Path.write_bytes` and without any check;
- the command: what `comprehend-phi redact` does once it has the results;
- `write_copies`: copies that are synced to the disk, and an audit file.

CPU time is the time of all threads of this process, including those of Rust and the system's.
Creating a file costs the system more on some file systems than on others, so the folder for copies
is in memory if `/dev/shm` exists.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from time import process_time
from typing import Any

from _measure import Comparison, in_turns, print_table
from results_fetch import BUCKET, DESCRIPTION, FOLDER, JOB_ID, SESSION, seaweedfs

from comprehend_phi import JobResults, PHIClient
from comprehend_phi.cli.delivery import Delivery
from comprehend_phi.corpus import write_copies

ROUNDS = 18
WARM_UPS = 6
NOTES = 400
LIBRARY, PLAIN = "the library", "the library and plain files"
COMMAND, COPIES = "the command", "write_copies"
TARGET = 1.3

SENTENCE = "Seen by Dr. {name} on 2031-02-03. The patient is well, sleeps well and eats well. "
NAMES = [f"Ada Example{chr(97 + number)}" for number in range(20)]


def note_and_entities() -> tuple[str, list[dict[str, Any]]]:
    """Return a note, and its entities as the service writes them."""
    text, entities = "", list[dict[str, Any]]()
    for number, name in enumerate(NAMES):
        begin = len(text) + SENTENCE.index("{name}")
        text += SENTENCE.format(name=name) + "Nothing else was found, as far as we know. " * 2
        entities.append(
            {
                "Id": number,
                "BeginOffset": begin,
                "EndOffset": begin + len(name),
                "Score": 0.97,
                "Text": name,
                "Category": "PROTECTED_HEALTH_INFORMATION",
                "Type": "NAME",
                "Traits": [],
            }
        )
    return text, entities


def lay(root: Path) -> None:
    """Write the notes and the results of a job as the service lays them out."""
    text, entities = note_and_entities()
    body = json.dumps({"Entities": entities, "UnmappedAttributes": []})
    names = [f"ward-{number // 50}/{number}.txt" for number in range(NOTES)]
    for name in names:
        for path, content in ((f"{name}", text), (f"{FOLDER}{name}.out", body)):
            target = root / BUCKET / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
    summary = {
        "Status": "COMPLETED",
        "SuccessFilesCount": NOTES,
        "SuccessfulFilesListLocation": "success",
        "UnprocessedFilesListLocation": "failed",
    }
    files = [{"Input": name, "Output": f"{name}.out"} for name in names]
    folder = root / BUCKET / FOLDER
    (folder / "Manifest").write_text(json.dumps({"Summary": summary}))
    (folder / "success").write_text(json.dumps({"Files": files}))
    (folder / "failed").write_text(json.dumps({"Files": []}))


def by_library(results: JobResults, _folder: Path) -> None:
    """Redact all notes, and drop the texts."""
    for _ in results.redacted():
        pass


def by_plain_files(results: JobResults, folder: Path) -> None:
    """Redact all notes, and write them without any check."""
    for key, text in results.redacted():
        (folder / key.rpartition("/")[2]).write_bytes(text.encode())


def by_command(results: JobResults, folder: Path) -> None:
    """Do what the command does."""
    Delivery(results).write_copies(folder)


def by_write_copies(results: JobResults, folder: Path) -> None:
    """Write copies that are on the disk, and an audit file."""
    write_copies(results, folder / "copies", audit=folder / "audit.jsonl")


def timed(
    client: PHIClient, write: Callable[[JobResults, Path], None], parent: str | None
) -> Callable[[], float]:
    """Return a function that measures the CPU seconds per note."""

    def block() -> float:
        folder = Path(mkdtemp(dir=parent))
        gc.collect()  # collect what the last block left, before the measurement begins
        began = process_time()
        write(client.results(JOB_ID), folder)
        taken = (process_time() - began) / NOTES
        shutil.rmtree(folder)
        return taken

    return block


def main() -> None:
    """Measure all candidates in turns."""
    SESSION.events.register("before-send.comprehendmedical", DESCRIPTION)
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    ways = {
        LIBRARY: by_library,
        PLAIN: by_plain_files,
        COMMAND: by_command,
        COPIES: by_write_copies,
    }
    with TemporaryDirectory() as name:
        lay(Path(name) / "root")
        with seaweedfs(Path(name)) as url:
            os.environ["AWS_ENDPOINT_URL_S3"] = url
            with PHIClient(session=SESSION, s3_transport="obstore") as client:
                gc.freeze()
                gc.disable()
                taken = in_turns(
                    {way: timed(client, write, parent) for way, write in ways.items()},
                    rounds=ROUNDS,
                    warm_ups=WARM_UPS,
                )
    print_table(
        f"CPU time per note of {len(note_and_entities()[0]):,} bytes, {ROUNDS} rounds of {NOTES}",
        taken,
        [
            Comparison(PLAIN, LIBRARY),
            Comparison(COMMAND, LIBRARY, target=TARGET),
            Comparison(COPIES, LIBRARY),
        ],
        unit="us",
    )


if __name__ == "__main__":
    main()

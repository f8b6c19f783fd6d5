"""Tables in files: they are complete or absent, and contain no text unless asked."""

from __future__ import annotations

import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from pyarrow import csv as arrow_csv
from pyarrow import parquet as arrow_parquet

from comprehend_phi import (
    Document,
    IncompleteResultsError,
    JobResults,
    PHIClient,
    RequestValidationError,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import JobOutcome, RunSummary, ServiceLimits, plan_jobs
from comprehend_phi.tables import entity_batches, write_csv, write_parquet

from ..conftest import CANARY
from .conftest import document
from .test_batches import documents as many_documents

# Untyped: the stubs of pyarrow are only partly typed.
csv: Any = arrow_csv
parquet: Any = arrow_parquet

Write = Callable[..., int]

each_format = pytest.mark.parametrize("write", [write_parquet, write_csv])


def table_of(documents: Any, **options: Any) -> Any:
    reader: Any = entity_batches(documents, **options)
    return reader.read_all()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- Parquet --------------------------------------------------------------------------------------


def test_a_parquet_file_has_the_rows_and_the_schema_of_the_batches(
    complete: JobResults, tmp_path: Path
) -> None:
    path = tmp_path / "entities.parquet"

    number = write_parquet(complete, path)

    expected = table_of(complete)
    table = parquet.read_table(path)
    assert number == table.num_rows == 6
    assert table.to_pylist() == expected.to_pylist()
    assert list(table.schema) == list(expected.schema)


@given(documents=many_documents)
@settings(max_examples=25)
def test_a_parquet_file_has_all_values_of_all_documents(documents: Sequence[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "entities.parquet")
        write_parquet(documents, path, include_text=True, batch_rows=3)

        table = parquet.read_table(path)

    assert table.to_pylist() == table_of(documents, include_text=True).to_pylist()


def test_the_metadata_says_what_the_file_contains(complete: JobResults, tmp_path: Path) -> None:
    path = tmp_path / "entities.parquet"
    write_parquet(complete, path)

    metadata = parquet.read_metadata(path).metadata
    del metadata[b"ARROW:schema"]
    assert metadata == {
        b"comprehend_phi.schema": b"1",
        b"comprehend_phi.job_id": complete.job.job_id.encode(),
        b"comprehend_phi.documents": b"3",
        b"comprehend_phi.entities": b"6",
        b"comprehend_phi.unprocessed": b"0",
    }


def test_the_metadata_counts_files_that_were_not_processed(
    make_client: Callable[..., PHIClient],
    s3: Any,
    bucket: str,
    request_: StartPHIDetectionJobRequest,
    tmp_path: Path,
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"Phone (555) 555-0142")
    s3.put_object(Bucket=bucket, Key="notes/scan.txt", Body=b"\xff\xd8\xff")
    job = make_client(s3_client=s3).submit(request_)
    job.wait()
    path = tmp_path / "entities.parquet"

    write_parquet(job.results(), path)

    metadata = parquet.read_metadata(path).metadata
    assert metadata[b"comprehend_phi.documents"] == b"1"
    assert metadata[b"comprehend_phi.unprocessed"] == b"1"


def test_all_jobs_of_a_plan_become_one_table(
    make_client: Callable[..., PHIClient],
    s3: Any,
    bucket: str,
    request_: StartPHIDetectionJobRequest,
    tmp_path: Path,
) -> None:
    client = make_client(s3_client=s3)
    s3.delete_object(Bucket=bucket, Key="notes/note.txt")
    for folder in ("a", "b"):
        s3.put_object(Bucket=bucket, Key=f"notes/{folder}/1.txt", Body=b"Phone (555) 555-0142")
        s3.put_object(Bucket=bucket, Key=f"notes/{folder}/scan.txt", Body=b"\xff\xd8\xff")
    plan = plan_jobs(client, request_, name="monday", limits=ServiceLimits(max_job_files=2))
    outcomes: list[JobOutcome] = []
    for planned in plan.jobs:
        job = client.submit(planned.request)
        status = job.wait().job_status
        outcomes.append(JobOutcome(planned=planned, job_id=job.job_id, status=status))
    results = RunSummary(plan=plan, jobs=tuple(outcomes)).results(client)
    path = tmp_path / "entities.parquet"

    write_parquet(results, path)

    assert len(outcomes) == 2
    keys = parquet.read_table(path)["input_key"].to_pylist()
    assert sorted(keys) == ["notes/a/1.txt", "notes/b/1.txt"]
    metadata = parquet.read_metadata(path).metadata
    assert metadata[b"comprehend_phi.unprocessed"] == b"2"
    assert b"comprehend_phi.job_id" not in metadata


def test_other_documents_have_no_job_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "entities.parquet"
    write_parquet([document("a"), document("b", 0)], path)

    metadata = parquet.read_metadata(path).metadata
    assert metadata[b"comprehend_phi.documents"] == b"2"
    assert metadata[b"comprehend_phi.entities"] == b"1"
    assert b"comprehend_phi.job_id" not in metadata
    assert b"comprehend_phi.unprocessed" not in metadata


def test_a_row_group_has_at_most_batch_rows(tmp_path: Path) -> None:
    path = tmp_path / "entities.parquet"
    write_parquet([document("a", 5)], path, batch_rows=2)

    metadata = parquet.read_metadata(path)
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert groups == [2, 2, 1]


# --- CSV ------------------------------------------------------------------------------------------


def test_a_csv_file_has_a_header_and_a_line_per_entity(tmp_path: Path) -> None:
    path = tmp_path / "entities.csv"

    number = write_csv([document('a, "b"'), document("c", version=None)], path, include_text=True)

    assert number == 2
    assert path.read_text("utf-8") == (
        '"input_key","entity_id","begin_offset","end_offset","score","type","category",'
        '"model_version","text"\n'
        '"a, ""b""",0,0,7,0.75,"NAME","PROTECTED_HEALTH_INFORMATION","0.1.0","'
        f'{CANARY}"\n'
        f'"c",0,0,7,0.75,"NAME","PROTECTED_HEALTH_INFORMATION",,"{CANARY}"\n'
    )


# --- No text unless asked -------------------------------------------------------------------------


def contents(path: Path) -> str:
    """Return everything in a file: its bytes, and what a Parquet file contains uncompressed."""
    found = path.read_bytes().decode("latin-1")
    if path.suffix == ".parquet":
        file = parquet.ParquetFile(path)
        found += f"{file.metadata} {file.metadata.metadata} {file.read().to_pylist()}"
        for group in range(file.num_row_groups):
            found += f"{file.metadata.row_group(group).to_dict()}"
    return found


@each_format
@pytest.mark.parametrize("include_text", [False, True])
def test_a_file_contains_text_only_if_it_is_asked_for(
    complete: JobResults, tmp_path: Path, write: Write, include_text: bool
) -> None:
    path = tmp_path / f"entities.{'parquet' if write is write_parquet else 'csv'}"

    write(complete, path, include_text=include_text)

    found = contents(path)
    assert "notes/a.txt" in found
    for text in (*CANARY.split(), "555-0142"):
        assert (text in found) == include_text


# --- Complete or absent ---------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize("documents", [[], [document("a", 0)], [document("a")]])
def test_only_the_owner_can_read_a_file(
    tmp_path: Path, write: Write, documents: Sequence[Document]
) -> None:
    path = tmp_path / "entities"
    path.touch(0o644)

    assert write(documents, str(path)) == sum(len(each.entities) for each in documents)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["entities"]


@each_format
@pytest.mark.parametrize("batch_rows", [1, 1_000])
def test_incomplete_results_leave_no_file(
    complete: JobResults,
    lose: Callable[[str], None],
    tmp_path: Path,
    write: Write,
    batch_rows: int,
) -> None:
    lose("b")

    with pytest.raises(IncompleteResultsError) as caught:
        write(complete, tmp_path / "entities", batch_rows=batch_rows)

    assert caught.value.failed.keys() == {"notes/b.txt"}
    assert caught.value.__context__ is None
    assert names(tmp_path) == []


@each_format
def test_a_failure_leaves_the_earlier_file_as_it_was(
    complete: JobResults, lose: Callable[[str], None], tmp_path: Path, write: Write
) -> None:
    path = tmp_path / "entities"
    write(complete, path)
    before = path.read_bytes()
    lose("b")

    with pytest.raises(IncompleteResultsError):
        write(complete, path)

    assert path.read_bytes() == before
    assert names(tmp_path) == ["entities"]


@each_format
def test_a_full_disk_leaves_no_file_and_closes_the_documents(tmp_path: Path, write: Write) -> None:
    closed: list[bool] = []

    def source() -> Iterator[Document]:
        try:
            while True:
                yield document("a", 1_000)
        finally:
            closed.append(True)

    documents = source()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write(documents, tmp_path / "entities", batch_rows=1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    # The error's traceback still refers to everything that was in use.
    assert caught.value.__traceback__ is not None
    assert closed == [True]
    assert names(tmp_path) == []


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    read: list[bool] = []

    def source() -> Iterator[Document]:
        read.append(True)
        yield document("a")

    with pytest.raises(FileNotFoundError):
        write_parquet(source(), tmp_path / "missing" / "entities.parquet")

    assert read == []


KILLED = """
import sys
from comprehend_phi import Document, Entity
from comprehend_phi.tables import write_parquet

def source():
    entity = Entity(
        id=0, begin_offset=0, end_offset=1, score=1.0, text="A", category="PHI", type="NAME"
    )
    for number in range(3):
        yield Document(
            input_key=str(number), output_key="o", entities=(entity,), model_version=None
        )
    print("reading", flush=True)
    sys.stdin.read()

write_parquet(source(), sys.argv[1], batch_rows=1)
"""


def test_a_kill_leaves_at_most_the_private_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "entities.parquet"
    path.write_bytes(b"before")
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"reading\n"
        program.send_signal(signal.SIGKILL)

    assert path.read_bytes() == b"before"
    [part] = [each for each in tmp_path.iterdir() if each != path]
    assert part.name.startswith(".comprehend-phi-")
    assert stat.S_IMODE(part.stat().st_mode) == 0o600


# --- Wrong arguments ------------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"documents": 5}, "documents"),
        ({"documents": [CANARY]}, "documents"),
        ({"destination": 5}, "destination"),
        ({"destination": f"s3://{CANARY}"}, "destination"),
        ({"destination": Path(f"s3://{CANARY}")}, "destination"),
        ({"kms_key": CANARY}, "kms_key"),
        ({"include_text": None}, "include_text"),
        ({"batch_rows": 0}, "batch_rows"),
    ],
)
def test_a_wrong_argument_is_refused_and_not_quoted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Write,
    wrong: dict[str, Any],
    field: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(RequestValidationError) as caught:
        write(**{"documents": [], "destination": "entities", **wrong})

    assert (caught.value.owner, caught.value.field) == (write.__name__, field)
    assert CANARY not in str(caught.value)
    assert names(tmp_path) == []

"""`results --parquet` and `results --csv`."""

from __future__ import annotations

import stat
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet as arrow_parquet

from ..conftest import CANARY
from .conftest import Run, Shell, leaks

# Untyped: the stubs of pyarrow are only partly typed.
csv: Any = arrow_csv
parquet: Any = arrow_parquet


def test_results_writes_a_parquet_file(shell: Shell, job_id: str, tmp_path: Path) -> None:
    path = tmp_path / "tables" / "entities.parquet"

    done = shell("results", job_id, "--parquet", str(path))

    assert (done.code, done.out, done.err) == (0, f"6 entities are in {path}\n", "")
    table = parquet.read_table(path)
    assert set(table.column("input_key").to_pylist()) == {"good/one.txt", "good/ward 3/two.txt"}
    assert table.schema.metadata[b"comprehend_phi.job_id"] == job_id.encode()
    assert not leaks(str(table.to_pylist()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_results_writes_a_csv_file(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    path = tmp_path / "entities.csv"

    done = run("results", job_id, "--csv", str(path), "--show-text", *endpoint)

    assert (done.code, done.out) == (0, f"6 entities are in {path}\n")
    assert csv.read_csv(path).column("text").to_pylist().count(CANARY) == 2


def test_results_writes_a_file_on_s3(
    shell: Shell, run: Run, endpoint: tuple[str, str], partial_job_id: str
) -> None:
    uri = f"s3://{shell.bucket}/tables/entities.parquet"

    done = run(
        *("results", partial_job_id, "--parquet", uri, "--kms-key", "alias/tables", "--json"),
        *endpoint,
    )

    assert done.code == 3
    assert done.json.pop("unprocessed")[0]["error_code"] == "INVALID_ENCODING"
    assert {**done.json, "unprocessed": None} == {
        "job_id": partial_job_id,
        "unprocessed": None,
        "failed": [],
        "entities": 3,
        "parquet": uri,
    }
    stored = shell.s3.get_object(Bucket=shell.bucket, Key="tables/entities.parquet")
    assert parquet.read_table(BytesIO(stored["Body"].read())).num_rows == 3
    assert stored["SSEKMSKeyId"] == "alias/tables"


@pytest.mark.parametrize("option", ["--parquet", "--csv"])
def test_incomplete_results_leave_no_table_and_exit_with_1(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path, option: str
) -> None:
    job_id = shell.ended_job("good")
    gone = f"results/123456789012-PHIDetection-{job_id}/one.txt.out"
    shell.s3.delete_object(Bucket=shell.bucket, Key=gone)

    plain = run("results", job_id, option, str(tmp_path / "entities"), *endpoint)
    as_json = run("results", job_id, option, str(tmp_path / "entities"), "--json", *endpoint)

    assert (plain.code, plain.out) == (1, "")
    assert plain.failed.keys() == {"good/one.txt"}
    assert as_json.code == 1
    assert (as_json.json["entities"], as_json.json[option.removeprefix("--")]) == (None, None)
    assert [each["input_key"] for each in as_json.json["failed"]] == ["good/one.txt"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--parquet", "a", "--csv", "b"), "--csv cannot be combined with --parquet"),
        (("--kms-key", "alias/k"), "--kms-key is only for a table on S3"),
        (("--csv", "a", "--kms-key", "alias/k"), "--kms-key is only for a table on S3"),
        (("--parquet", ""), "--parquet must be a local file, or a URI"),
        (("--parquet", "s3:Zinnia"), "--parquet must be a local file, or a URI"),
        (("--parquet", "s3://Zinnia/key"), "--parquet must be a local file, or a URI"),
        (("--csv", "s3://a-bucket"), "--csv must be a local file, or a URI"),
        (("--csv", "s3://a-bucket/Zinnia/"), "--csv must be a local file, or a URI"),
        (("--csv", "."), "--csv must be a new file or an existing regular file"),
    ],
)
def test_a_wrong_option_exits_with_2_and_is_not_quoted(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    done = run("results", "1", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(says)


def test_a_table_that_cannot_be_written_exits_with_1_before_anything_is_read(
    shell: Shell, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    done = run("results", "1", "--csv", str(tmp_path / "file" / "entities.csv"))

    assert (done.code, done.out) == (1, "")
    assert done.error.startswith("--csv cannot be written. ")


def test_a_missing_pyarrow_exits_with_2_and_names_the_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("comprehend_phi.tables")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    done = run("results", "1", "--csv", "entities.csv")

    assert (done.code, done.out) == (2, "")
    assert done.error == (
        "tables need the module pyarrow, which the extra `arrow` of comprehend_phi installs"
    )

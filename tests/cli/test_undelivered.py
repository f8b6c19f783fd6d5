"""Notes that cannot be delivered: the command delivers all others, and fails in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from comprehend_phi import ExpiredTokenException
from comprehend_phi.cli.delivery import Delivery
from comprehend_phi.testing import FakeClock, LocalServer

from .conftest import NOTE, Run, Shell, shell_on


@pytest.fixture(scope="module")
def damaged_job_id(shell: Shell) -> str:
    """A job over 26 notes, of which only one can still be delivered."""
    for number in range(26):
        shell.put(f"damaged/{number:02}.txt")
    job_id = shell.ended_job("damaged")
    folder = f"results/123456789012-PHIDetection-{job_id}/"
    shell.s3.delete_object(Bucket=shell.bucket, Key="damaged/01.txt")
    shell.put("damaged/02.txt", b"\xff")
    shell.put("damaged/03.txt", f"Not {NOTE}")
    shell.put(f"{folder}04.txt.out", NOTE)
    shell.s3.delete_object(Bucket=shell.bucket, Key=f"{folder}05.txt.out")
    for number in range(6, 26):
        shell.put(f"damaged/{number:02}.txt", b"\xff")
    return job_id


DAMAGED = {f"damaged/{number:02}.txt" for number in range(1, 26)}


def test_redact_refuses_a_note_that_has_changed(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("changed/one.txt")
    job_id = shell.ended_job("changed")
    shell.put("changed/one.txt", f"Not {NOTE}")

    done = run("redact", job_id, str(tmp_path), *endpoint)

    assert done.code == 1
    assert done.failed.keys() == {"changed/one.txt"}
    assert done.failed["changed/one.txt"].startswith("SourceChangedError: ")
    assert list(tmp_path.iterdir()) == []


def test_a_note_replaced_by_one_of_the_same_size_is_neither_copied_nor_shown(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    with LocalServer(clock=clock, job_seconds=0) as server, shell_on(server, tmp_path) as shell:
        shell.put("notes/blank.txt", "To be dictated later.\n")
        job_id = shell.ended_job("notes")
        clock.sleep(1)
        shell.put("notes/blank.txt", "Patient: Noor Sample.\n")
        for command in (("redact", job_id, "copies"), ("review", job_id, "page.html")):
            done = shell(*command)
            assert done.code == 1
            assert done.failed["notes/blank.txt"].startswith("SourceChangedError: ")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in written if "Noor" in text]


def test_redact_writes_all_other_copies_and_names_every_failed_note(
    run: Run, endpoint: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = run("redact", damaged_job_id, str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["00.txt"]
    assert done.failed.keys() == DAMAGED
    for number, reason in {
        "01": "SourceChangedError",
        "02": "SourceChangedError",
        "03": "SourceChangedError",
        "04": "UnreadableObjectError",
        "05": "MissingObjectError",
    }.items():
        assert done.failed[f"damaged/{number}.txt"].startswith(f"{reason}: s3://")
    assert done.error == "25 notes could not be delivered"


def test_redact_prints_a_line_per_failed_note_as_json(
    run: Run, endpoint: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = run("redact", damaged_job_id, str(tmp_path), "--json", *endpoint)

    [copy, *failed] = done.lines
    assert (done.code, copy["input_key"]) == (1, "damaged/00.txt")
    assert {each["failed"]["input_key"] for each in failed} == DAMAGED
    assert failed[0]["failed"]["reason"].startswith("SourceChangedError: ")


def test_review_shows_all_other_notes_and_names_every_failed_note(
    run: Run, endpoint: tuple[str, str], damaged_job_id: str, tmp_path: Path
) -> None:
    done = run("review", damaged_job_id, str(tmp_path / "page.html"), "--json", *endpoint)

    assert done.code == 1
    assert {each["input_key"] for each in done.json["failed"]} == done.failed.keys() == DAMAGED
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "25 notes cannot be shown." in page
    assert '"key":"damaged/00.txt"' in page
    assert '"key":"damaged/01.txt"' not in page
    assert done.error == "25 notes could not be delivered"


def test_results_prints_all_other_documents_and_names_every_failed_note(
    run: Run, endpoint: tuple[str, str], damaged_job_id: str
) -> None:
    done = run("results", damaged_job_id, *endpoint)

    assert done.code == 1
    assert len(done.lines) == 24
    assert done.failed.keys() == {"damaged/04.txt", "damaged/05.txt"}
    assert done.error == "2 notes could not be delivered"


@pytest.fixture
def s3(shell: Shell) -> Any:
    """The S3 that the fixture `refuse` changes."""
    return shell.s3


@pytest.mark.parametrize("write", [Delivery.write_copies, Delivery.write_page])
def test_notes_that_failed_are_named_even_if_reading_ends_early(
    write: Callable[[Delivery, Path], object],
    shell: Shell,
    refuse: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix = f"expires-{uuid4().hex}"
    for number in range(4):
        shell.put(f"{prefix}/{number}.txt")
    results = shell.client.results(shell.ended_job(prefix))
    shell.put(f"{prefix}/0.txt", b"\xff")
    refuse(f"{prefix}/2.txt", status=400, code="ExpiredToken")

    with pytest.raises(ExpiredTokenException) as caught:
        write(Delivery(results, as_json=True), tmp_path / "out")

    out, err = capsys.readouterr()
    assert err.startswith(f"Failed: {prefix}/0.txt (SourceChangedError: ")
    [failed] = [each["failed"] for each in map(json.loads, out.splitlines()) if "failed" in each]
    assert failed["input_key"] == f"{prefix}/0.txt"
    # The lines above name the note, so the message does not.
    assert str(caught.value).endswith(" Reading ended early: 3 documents were not delivered.")


def test_a_wrong_count_in_the_manifest_fails_after_everything_was_written(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("short/one.txt")
    job_id = shell.ended_job("short")
    folder = f"results/123456789012-PHIDetection-{job_id}"
    manifest = {"Summary": {"Status": "COMPLETED", "SuccessFilesCount": 2}}
    shell.put(f"{folder}/Manifest", json.dumps(manifest))

    done = run("redact", job_id, str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert done.error.endswith("the manifest counts 2 processed files, but there are 1")

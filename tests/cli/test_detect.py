"""`detect`: start a job, wait for it and deliver its results."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from comprehend_phi import Entity
from comprehend_phi.testing import LocalServer
from comprehend_phi.testing.detector import detect

from .conftest import KEY, NOTE, REDACTED, Done, Run, Shell, shell_on


@pytest.fixture(scope="module")
def detected(shell: Shell) -> Done:
    files = ("--redact", "redacted", "--review", "pages/review.html")
    return shell(
        "detect", *shell.start("mixed", "--kms-key", KEY), *files, "--poll-seconds", "0.02"
    )


def test_detect_counts_the_entities_by_type(detected: Done) -> None:
    lines = detected.out.splitlines()

    assert lines[0] == "3 entities in 1 document"
    assert lines[1].split() == ["TYPE", "COUNT"]
    counts = {tuple(line.split()) for line in lines[2:5]}
    assert counts == {("NAME", "1"), ("DATE", "1"), ("PHONE_OR_FAX", "1")}


def test_detect_exits_with_3_and_lists_unprocessed_files(detected: Done) -> None:
    assert detected.code == 3
    lines = detected.out.splitlines()
    index = lines.index("1 file was not processed")
    # A control sequence in a key could steer the terminal.
    assert re.match(r"mixed/a\\x1b\[31m\.txt +INVALID_ENCODING +The file is", lines[index + 2])


def test_detect_prints_token_job_and_states_to_stderr(detected: Done, shell: Shell) -> None:
    token, job, *states = detected.err.splitlines()

    assert re.fullmatch(r"Request token: [0-9a-f-]{36}", token)
    [job_id] = re.findall(r"^Job ([0-9a-f]{32}) started$", job)
    assert job_id in shell.server.service.job_ids
    assert re.fullmatch(r"PARTIAL_SUCCESS after 0:00:\d\d", states[-1])
    assert {state.split()[0] for state in states[:-1]} <= {"SUBMITTED", "IN_PROGRESS"}


def test_detect_writes_redacted_copies_and_keeps_their_line_endings(
    detected: Done, shell: Shell
) -> None:
    copies = shell.home / "redacted"

    assert [path.name for path in copies.rglob("*")] == ["one.txt"]
    assert (copies / "one.txt").read_bytes() == REDACTED.encode()
    assert "Redacted copies are in redacted" in detected.out


def test_detect_writes_a_page_that_only_its_owner_can_read(detected: Done, shell: Shell) -> None:
    page = shell.home / "pages" / "review.html"

    assert page.read_text("utf-8").lower().startswith("<!doctype html>")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "pages/review.html. It contains the notes in full." in detected.out


def test_detect_prints_one_object_as_json(shell: Shell) -> None:
    options = ("--kms-key", KEY, "--token", "my-token", "--poll-seconds", "0.02", "--json")
    done = shell("detect", *shell.start("mixed", *options))

    assert done.code == 3
    assert done.err.startswith("Request token: my-token\n")
    assert done.json["job_status"] == "PARTIAL_SUCCESS"
    assert done.json["client_request_token"] == "my-token"
    assert done.json["destination"] == f"s3://{shell.bucket}/results"
    assert done.json["document_count"] == 1
    assert done.json["entity_counts"] == {"NAME": 1, "DATE": 1, "PHONE_OR_FAX": 1}
    [file] = done.json["unprocessed"]
    assert file["input_key"] == "mixed/a\x1b[31m.txt"
    assert file["error_code"] == "INVALID_ENCODING"


def test_detect_exits_with_1_and_says_why_the_job_failed(shell: Shell) -> None:
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--json")
    done = shell("detect", *shell.start("bad", *options))

    assert done.code == 1
    assert "failed: None of the input files could be processed" in done.error
    assert done.json["job_status"] == "FAILED"


def test_detect_delivers_all_other_notes_and_names_every_failed_note(tmp_path: Path) -> None:
    def detector(text: str) -> Sequence[Entity]:
        entities = detect(text)
        if "misfit" not in text:
            return entities
        return [msgspec.structs.replace(entity, begin_offset=0) for entity in entities]

    with (
        LocalServer(job_seconds=0.02, detector=detector) as server,
        shell_on(server, tmp_path) as shell,
    ):
        shell.put("notes/fit.txt")
        shell.put("notes/misfit.txt", f"misfit {NOTE}")
        files = ("--redact", "redacted", "--review", "page.html", "--json")
        options = ("--kms-key", KEY, "--poll-seconds", "0.02", *files)
        done = shell("detect", *shell.start("notes", *options))

    assert done.code == 1
    assert done.json["document_count"] == 2
    assert [each["input_key"] for each in done.json["failed"]] == ["notes/misfit.txt"]
    assert done.failed.keys() == {"notes/misfit.txt"}
    assert done.failed["notes/misfit.txt"].startswith("RedactionError: ")
    assert done.error == "1 note could not be delivered"
    copies = [path for path in (tmp_path / "redacted").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in copies] == [REDACTED.encode()]
    assert "1 note cannot be shown." in (tmp_path / "page.html").read_text("utf-8")


def test_detect_prints_its_counts_even_if_keys_were_left_out(
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
    awkward_job_id: str,
    tmp_path: Path,
) -> None:
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path), "--json")
    done = run("detect", *shell.start("awkward", *options), *endpoint)

    assert (done.code, done.json["document_count"]) == (1, 6)
    assert done.error == "3 notes could not be delivered"
    failed = [line for line in done.err.splitlines() if " (CopyError: " in line]
    assert len(failed) == 3
    assert all("awkward/" in line for line in failed)

"""`results`, `redact` and `review`."""

from __future__ import annotations

import json
import re
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from comprehend_phi import S3Location
from comprehend_phi.cli.delivery import path_of_copy
from comprehend_phi.corpus import verify_copies
from comprehend_phi.review import Decisions
from comprehend_phi.testing import faults

from ..conftest import CANARY
from ..conftest import KEY as KMS_KEY
from .conftest import KEY, NOTE, REDACTED, Run, Shell


def test_results_prints_a_line_per_document_without_text(shell: Shell, job_id: str) -> None:
    done = shell("results", job_id)

    assert (done.code, done.err) == (0, "")
    assert [line["input_key"] for line in done.lines] == ["good/one.txt", "good/ward 3/two.txt"]
    [name, *_] = done.lines[0]["entities"]
    assert (name["type"], name["begin_offset"], name["end_offset"]) == ("NAME", 9, 27)
    assert "text" not in name
    assert done.lines[0]["model_version"] == "0.1.0"


def test_results_prints_the_text_with_show_text(shell: Shell, job_id: str) -> None:
    done = shell("results", job_id, "--show-text", "--json", shows=True)

    assert done.lines[0]["entities"][0]["text"] == CANARY


def test_results_exits_with_3_and_names_unprocessed_files(
    run: Run, endpoint: tuple[str, str], partial_job_id: str
) -> None:
    done = run("results", partial_job_id, *endpoint)

    assert done.code == 3
    assert len(done.lines) == 1
    noted = r"Not processed: mixed/a\\x1b\[31m\.txt \(INVALID_ENCODING: .*\)\n"
    assert re.fullmatch(noted, done.err)


def test_unprocessed_files_of_a_completed_job_exit_with_3(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    job_id = shell.ended_job("good")
    shell.skip(job_id, "results", "good/one.txt")

    copies, page = str(tmp_path / "copies"), str(tmp_path / "page.html")
    for command in (("results",), ("redact", copies), ("review", page)):
        done = run(command[0], job_id, *command[1:], *endpoint)
        assert (command[0], done.code) == (command[0], 3)
        assert "Not processed: good/one.txt (TOO_LARGE: It is too large)" in done.err


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
@pytest.mark.parametrize("says", ["service", "manifest"])
def test_results_of_a_failed_or_stopped_job_exit_with_3(
    shell: Shell, run: Run, endpoint: tuple[str, str], status: str, says: str
) -> None:
    job_id = shell.ended_job("good")
    folder = f"results/123456789012-PHIDetection-{job_id}/"
    if says == "service":
        job = {
            "JobId": job_id,
            "JobStatus": status,
            "InputDataConfig": {"S3Bucket": shell.bucket, "S3Key": "good"},
            "OutputDataConfig": {"S3Bucket": shell.bucket, "S3Key": folder},
        }
        answer = json.dumps({"ComprehendMedicalAsyncJobProperties": job}).encode()
        shell.server.service.script(faults.answer(200, answer), operation="DescribePHIDetectionJob")
    else:
        manifest = json.dumps({"Summary": {"Status": status}}).encode()
        shell.s3.put_object(Bucket=shell.bucket, Key=f"{folder}Manifest", Body=manifest)
    done = run("results", job_id, *endpoint)

    assert (done.code, len(done.lines)) == (3, 2)


def test_results_of_a_running_job_fail_in_one_line(slow: Shell, slow_job: str, run: Run) -> None:
    done = run("results", slow_job, "--endpoint-url", slow.url)

    assert (done.code, done.out) == (1, "")
    assert "has no results yet; wait until it has ended" in done.error


def test_incomplete_results_are_printed_and_exit_with_1(
    shell: Shell, run: Run, endpoint: tuple[str, str]
) -> None:
    job_id = shell.ended_job("good")
    gone = f"results/123456789012-PHIDetection-{job_id}/one.txt.out"
    shell.s3.delete_object(Bucket=shell.bucket, Key=gone)

    done = run("results", job_id, *endpoint)

    assert done.code == 1
    assert [line["input_key"] for line in done.lines] == ["good/ward 3/two.txt"]
    assert done.failed.keys() == {"good/one.txt"}
    assert gone in done.failed["good/one.txt"]


def test_redact_writes_copies_at_their_paths(shell: Shell, job_id: str, tmp_path: Path) -> None:
    done = shell("redact", job_id, str(tmp_path / "copies"))

    assert (done.code, done.err) == (0, "")
    assert done.out == f"2 redacted copies are in {tmp_path / 'copies'}\n"
    for name in ("one.txt", "ward 3/two.txt"):
        assert (tmp_path / "copies" / name).read_bytes() == REDACTED.encode()


def test_redact_prints_a_line_per_copy_as_json(shell: Shell, job_id: str, tmp_path: Path) -> None:
    done = shell("redact", job_id, str(tmp_path), "--replacement", "<{type}>", "--json")

    assert done.lines == [
        {"input_key": "good/one.txt", "path": str(tmp_path / "one.txt")},
        {"input_key": "good/ward 3/two.txt", "path": str(tmp_path / "ward 3" / "two.txt")},
    ]
    assert (tmp_path / "one.txt").read_text("utf-8").startswith("Patient: <NAME>, ")


def test_redact_writes_copies_to_s3(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    uri = f"s3://{shell.bucket}/redacted"
    for _ in range(2):
        done = run("redact", job_id, uri, "--kms-key", KMS_KEY, *endpoint)
        assert (done.code, done.err) == (0, "")
        assert done.out == f"2 redacted copies are in {uri}\n"
    again = run("redact", job_id, f"{uri}/", "--json", *endpoint)

    assert again.lines == [
        {"input_key": f"good/{name}", "path": f"{uri}/{name}"}
        for name in ("one.txt", "ward 3/two.txt")
    ]
    for name in ("one.txt", "ward 3/two.txt"):
        found = shell.s3.get_object(Bucket=shell.bucket, Key=f"redacted/{name}")
        assert found["Body"].read() == REDACTED.encode()
        assert found["SSEKMSKeyId"] == KMS_KEY


@pytest.mark.parametrize("on_s3", [False, True], ids=["local", "S3"])
def test_redact_writes_an_audit_file_that_verifies_the_copies(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path, on_s3: bool
) -> None:
    copies: Path | S3Location = tmp_path / "copies"
    audit: Path | S3Location = tmp_path / "audits" / "audit.jsonl"
    if on_s3:
        copies, audit = (S3Location(shell.bucket, key) for key in ("audited", "audit.jsonl"))
    places = [path_of_copy(place) for place in (copies, audit)]
    done = run("redact", job_id, places[0], "--audit", places[1], *endpoint)

    found = verify_copies(audit, copies, client=shell.client)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == (
        f"The audit file is {places[1]}. Its SHA-256 is {found.audit_sha256}"
    )
    assert (found.copies, found.is_empty) == (2, True)
    if on_s3:
        shell.s3.put_object(Bucket=shell.bucket, Key="audited/one.txt", Body=b"changed")
    else:
        assert stat.S_IMODE((tmp_path / "audits" / "audit.jsonl").stat().st_mode) == 0o600
        (tmp_path / "copies" / "one.txt").write_text("changed")
    assert verify_copies(audit, copies, client=shell.client).changed == ("one.txt",)


def test_redact_prints_the_audit_file_as_json(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    options = ("--audit", str(audit), "--json", *endpoint)
    done = run("redact", job_id, str(tmp_path / "copies"), *options)

    digest = sha256(audit.read_bytes()).hexdigest()
    assert done.lines[-1] == {"audit": {"path": str(audit), "sha256": digest}}


def test_the_audit_file_lists_the_copies_that_were_written_if_a_note_fails(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    job_id = shell.ended_job("good")
    gone = f"results/123456789012-PHIDetection-{job_id}/one.txt.out"
    shell.s3.delete_object(Bucket=shell.bucket, Key=gone)
    copies, audit = tmp_path / "copies", tmp_path / "audit.jsonl"
    done = run("redact", job_id, str(copies), "--audit", str(audit), *endpoint)

    assert done.code == 1
    assert [json.loads(line)["copy"] for line in audit.read_text().splitlines()] == [
        "ward 3/two.txt"
    ]
    assert verify_copies(audit, copies).is_empty


def test_there_is_no_audit_file_if_the_copies_end_early(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    audit.write_text("of an earlier run")
    done = run("redact", job_id, "s3://missing-bucket/copies", "--audit", str(audit), *endpoint)

    assert done.code == 1
    assert "the bucket does not exist" in done.error
    assert audit.read_text() == "of an earlier run"


@pytest.mark.parametrize(
    ("copies", "audit", "error"),
    [
        ("copies", "copies/audit.jsonl", "--audit must not be in FOLDER"),
        ("copies", "copies", "--audit and FOLDER must not be the same path"),
        ("copies", "s3://{bucket}/folder/", "--audit (S3Location) must have the key of a file"),
        ("copies", "s3://{bucket}/good/audit", "--audit (S3Location) must be outside"),
        ("copies", "s3://{bucket}/results/audit", "--audit (S3Location) must be outside"),
        ("s3://{bucket}/new", "s3://{bucket}/new/audit", "--audit (S3Location) must be outside"),
    ],
)
def test_redact_refuses_an_audit_file_among_copies_notes_or_results(
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
    job_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copies: str,
    audit: str,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [place.format(bucket=shell.bucket) for place in (copies, audit)]
    done = run("redact", job_id, places[0], "--audit", places[1], *endpoint)

    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--pseudonym-key", "--decisions"])
def test_an_audit_file_never_replaces_a_file_that_redact_reads(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path, option: str
) -> None:
    file = tmp_path / "file"
    Decisions(()).save(file)
    file.write_text(content := file.read_text().ljust(32))  # long enough for a key, too
    audit = f"{tmp_path}/./file"
    options = (option, str(file), "--audit", audit)
    done = run("redact", job_id, str(tmp_path / "copies"), *options, *endpoint)

    assert done.code == 2
    assert done.error == f"--audit would replace the file of {option}. Choose another file."
    assert file.read_text() == content
    assert not (tmp_path / "copies").exists()


def test_redact_never_replaces_an_object(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    shell.put("theirs/one.txt", "theirs")

    done = run("redact", job_id, f"s3://{shell.bucket}/theirs", *endpoint)

    assert (done.code, done.out) == (1, f"1 redacted copy is in s3://{shell.bucket}/theirs\n")
    assert done.failed["good/one.txt"].startswith("CopyError: an object that is no copy is there")
    found = shell.s3.get_object(Bucket=shell.bucket, Key="theirs/one.txt")
    assert found["Body"].read() == b"theirs"


def test_redact_writes_nothing_among_notes_or_results(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    for key in ("good", "good/copies", "results"):
        done = run("redact", job_id, f"s3://{shell.bucket}/{key}", *endpoint)
        assert (done.code, done.out) == (2, "")
        assert done.error == (
            "FOLDER (S3Location) must not overlap the location of the notes or of the results"
        )


def test_redact_refuses_a_kms_key_for_a_local_folder(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    done = run("redact", job_id, str(tmp_path / "copies"), "--kms-key", KMS_KEY, *endpoint)

    assert (done.code, done.out) == (2, "")
    assert done.error == "--kms-key (KMSKey) must be left out for a folder on this machine"
    assert list(tmp_path.iterdir()) == []


def test_redact_writes_the_copy_of_a_job_over_one_file(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    done = run("redact", shell.ended_job("good/one.txt"), str(tmp_path), *endpoint)

    assert done.code == 0
    assert (tmp_path / "one.txt").read_bytes() == REDACTED.encode()


def test_results_and_redact_print_a_line_per_unprocessed_file_as_json(
    run: Run, endpoint: tuple[str, str], partial_job_id: str, tmp_path: Path
) -> None:
    for command in (("results", partial_job_id), ("redact", partial_job_id, str(tmp_path))):
        done = run(*command, "--json", *endpoint)

        assert done.code == 3
        [document, unprocessed] = done.lines
        assert document["input_key"] == "mixed/one.txt"
        assert unprocessed.keys() == {"unprocessed"}
        assert unprocessed["unprocessed"]["input_key"] == "mixed/a\x1b[31m.txt"
        assert unprocessed["unprocessed"]["error_code"] == "INVALID_ENCODING"


def test_review_writes_a_page(shell: Shell, partial_job_id: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.touch(0o644)

    done = shell("review", partial_job_id, str(page), "--json")

    assert done.code == 3
    assert done.json.keys() == {"job_id", "unprocessed", "failed", "review"}
    assert done.json["failed"] == []
    assert [file["error_code"] for file in done.json["unprocessed"]] == ["INVALID_ENCODING"]
    assert done.json["review"] == str(page)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "INVALID_ENCODING" in page.read_text("utf-8")


def test_folder_markers_need_no_copies(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    for key, body in (("ward/", ""), ("ward/3/", ""), ("ward/3/a.txt", NOTE), ("ward/b.txt", NOTE)):
        shell.put(f"marked/{key}", body)
    options = ("--kms-key", KEY, "--poll-seconds", "0.02", "--redact", str(tmp_path / "detect"))
    done = run("detect", *shell.start("marked/ward/", *options), *endpoint)
    job_id = shell.server.service.job_ids[-1]
    again = run("redact", job_id, str(tmp_path / "redact"), *endpoint)

    assert (done.code, done.out.splitlines()[0]) == (0, "6 entities in 3 documents")
    assert (again.code, again.out) == (0, f"2 redacted copies are in {tmp_path / 'redact'}\n")
    for folder in ("detect", "redact"):
        copies = tmp_path / folder
        files = {str(path.relative_to(copies)) for path in copies.rglob("*") if path.is_file()}
        assert files == {"3/a.txt", "b.txt"}


def test_a_note_whose_key_ends_with_a_slash_is_no_folder_marker(
    shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    shell.put("marked-note/")
    done = run("redact", shell.ended_job("marked-note/"), str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"0 redacted copies are in {tmp_path}\n")
    assert done.failed == {"marked-note/": "CopyError: it has no path inside the folder"}

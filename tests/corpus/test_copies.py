"""Redacted copies of a job's notes: complete, private, and without text in reports and errors."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import stat
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from comprehend_phi import (
    ComprehendPHIError,
    Entity,
    ExpiredTokenException,
    IncompleteResultsError,
    MissingBucketError,
    MissingObjectError,
    OverlappingLocationsWarning,
    RedactionError,
    RequestValidationError,
    S3Location,
    SourceChangedError,
    UnreadableObjectError,
    UnwritableObjectError,
)
from comprehend_phi.corpus import (
    NOT_COVERED,
    SAFE_HARBOR,
    CopiesReport,
    CopyError,
    IncompleteCopiesError,
    SafeHarborIdentifier,
    verify_copies,
    write_copies,
)
from comprehend_phi.review import AddedMark, Decisions, DecisionsError, DocumentDecisions

from ..conftest import CANARY, KEY
from ..s3_server import LOST, S3Fault, S3Request, refused
from .conftest import NOTE, Ward

REDACTED = "Patient: [NAME], seen on [DATE].\r\nPhone [PHONE_OR_FAX]\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def copies_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode()
        for path in folder.rglob("*")
        if path.is_file()
    }


def failures(report: CopiesReport) -> dict[str, str]:
    return {
        each.input_key: f"{type(each.error).__name__}: {each.error}" for each in report.failures
    }


def leaks(shown: str) -> bool:
    return any(word in shown for word in (*CANARY.split(), "555-0142", "2031-02-03"))


# --- What is written ------------------------------------------------------------------------------


def test_each_note_gets_a_copy_at_its_path(ward: Ward, out: Path) -> None:
    report = write_copies(ward.run("one.txt", "ward 3/two.txt"), out)

    assert copies_in(out) == {"one.txt": REDACTED, "ward 3/two.txt": REDACTED}
    assert (report.written, report.already_written, report.failures) == (2, 0, ())


def test_the_folder_may_be_a_string(ward: Ward, out: Path) -> None:
    write_copies(ward.run("one.txt"), str(out))

    assert copies_in(out) == {"one.txt": REDACTED}


def test_a_job_over_one_object_gets_a_copy_with_its_name(ward: Ward, out: Path) -> None:
    write_copies(ward.run("ward/one.txt", folder="notes/ward/one.txt"), out)

    assert copies_in(out) == {"one.txt": REDACTED}


def test_parts_are_copied_like_whole_results(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt")

    assert [write_copies(results.part(index, 2), out).written for index in range(2)] == [2, 1]
    assert copies_in(out).keys() == {"a.txt", "b.txt", "c.txt"}


def test_folder_markers_need_no_copies(ward: Ward, out: Path) -> None:
    ward.put("ward/", "")
    report = write_copies(ward.run("ward/one.txt", folder="notes/ward/"), out)

    assert (report.written, report.folder_markers, report.failures) == (1, 1, ())
    assert copies_in(out) == {"one.txt": REDACTED}


def test_the_arguments_of_redact_are_used(ward: Ward, out: Path) -> None:
    report = write_copies(ward.run("one.txt"), out, min_score=1.0, replacement="<{type}>")
    assert copies_in(out) == {"one.txt": NOTE}
    assert report.readable_counts == {"NAME": 1, "DATE": 1, "PHONE_OR_FAX": 1}
    assert report.redacted_counts == {}


def test_a_function_makes_the_marks(ward: Ward, out: Path) -> None:
    def mark(entity: Entity) -> str:
        return f"({entity.type.lower()})"

    report = write_copies(ward.run("one.txt"), out, replacement=mark)

    assert copies_in(out)["one.txt"].startswith("Patient: (name), seen on (date).")
    assert report.replacement is None


def test_copies_get_the_names_that_rename_returns(ward: Ward, out: Path) -> None:
    ids = {"one.txt": "0001.txt", "ward 3/two.txt": "3/0002.txt"}
    write_copies(ward.run(*ids), out, rename=ids.__getitem__)

    assert copies_in(out) == {"0001.txt": REDACTED, "3/0002.txt": REDACTED}


def test_only_the_owner_can_read_copies(ward: Ward, out: Path) -> None:
    write_copies(ward.run("ward/one.txt"), out, audit=out.parent / "audit.jsonl")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.parent.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (out, out / "ward")} == {0o700}


# --- Again ----------------------------------------------------------------------------------------


def test_finished_copies_are_not_written_again(ward: Ward, out: Path) -> None:
    results = ward.run("one.txt", "two.txt")
    write_copies(results, out)
    (out / "two.txt").unlink()
    before = (out / "one.txt").stat().st_ino

    report = write_copies(results, out)

    assert (report.written, report.already_written) == (1, 1)
    assert (out / "one.txt").stat().st_ino == before
    assert report.redacted_counts == {"NAME": 2, "DATE": 2, "PHONE_OR_FAX": 2}


def test_a_copy_with_other_choices_is_a_failure(ward: Ward, out: Path) -> None:
    results = ward.run("one.txt")
    write_copies(results, out, replacement="X")

    report = write_copies(results, out)

    assert "there is another file with this name" in failures(report)["notes/one.txt"]
    assert copies_in(out)["one.txt"].startswith("Patient: X")


def test_a_run_that_was_interrupted_is_continued(ward: Ward, out: Path) -> None:
    names = [f"{number:02}.txt" for number in range(30)]
    results = ward.run(*names)

    def interrupt(name: str) -> str:
        if name == "20.txt":
            raise KeyboardInterrupt
        return name

    with pytest.raises(KeyboardInterrupt):
        write_copies(results, out, rename=interrupt, audit=out.parent / "audit.jsonl")
    assert not (out.parent / "audit.jsonl").exists()
    report = write_copies(results, out, audit=out.parent / "audit.jsonl")

    assert report.written + report.already_written == 30
    assert report.already_written >= 20
    assert copies_in(out) == dict.fromkeys(names, REDACTED)


# --- Notes that fail ------------------------------------------------------------------------------


def test_a_failed_note_does_not_stop_the_others(ward: Ward, out: Path) -> None:
    names = ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]
    results = ward.run(*names)
    ward.delete("notes/a.txt")
    ward.put("b.txt", b"\xff" * len(NOTE))
    ward.put("c.txt", NOTE.replace("Zinnia", "Zenith"))
    ward.storage.write(ward.bucket, ward.output_key(results, "d.txt.out"), b"{")

    report = write_copies(results, out)

    assert [(each.input_key, type(each.error)) for each in report.failures] == [
        ("notes/a.txt", SourceChangedError),
        ("notes/b.txt", SourceChangedError),
        ("notes/c.txt", RedactionError),
        ("notes/d.txt", UnreadableObjectError),
    ]
    assert copies_in(out) == {"e.txt": REDACTED}


def test_the_error_of_a_changed_note_names_the_note_and_its_job(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt")
    ward.delete("notes/a.txt")

    [failure] = write_copies(results, out).failures

    error = failure.error
    assert isinstance(error, SourceChangedError)
    assert (error.bucket, error.key) == (ward.bucket, "notes/a.txt")
    assert error.job_id == results.job.job_id


def test_missing_documents_are_raised_at_the_end_with_the_report(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt")
    missing = ward.output_key(results, "a.txt.out")
    ward.delete(missing)
    ward.delete("notes/b.txt")

    with pytest.raises(IncompleteCopiesError) as caught:
        write_copies(results, out, audit=out.parent / "audit.jsonl")

    error = caught.value
    assert error.missing == (missing,)
    assert error.failed.keys() == {"notes/a.txt", "notes/b.txt"}
    assert error.job_id == results.job.job_id
    assert [type(each.error) for each in error.report.failures] == [
        MissingObjectError,
        SourceChangedError,
    ]
    assert (error.report.written, copies_in(out)) == (1, {"c.txt": REDACTED})
    assert (out.parent / "audit.jsonl").read_bytes().count(b"\n") == 1
    assert (error.__cause__, error.__context__) == (None, None)
    assert isinstance(error, IncompleteResultsError)


def test_a_wrong_count_in_the_manifest_is_raised_although_a_note_failed(
    ward: Ward, out: Path
) -> None:
    results = ward.run("a.txt", "b.txt")
    ward.delete("notes/a.txt")
    manifest = {"Summary": {"Status": "COMPLETED", "SuccessFilesCount": 3}}
    key = ward.output_key(results, "Manifest")
    ward.storage.write(ward.bucket, key, json.dumps(manifest).encode())

    with pytest.raises(IncompleteCopiesError, match="counts 3 processed files") as caught:
        write_copies(results, out)

    assert failures(caught.value.report).keys() == {"notes/a.txt"}
    assert copies_in(out) == {"b.txt": REDACTED}


def test_a_lost_list_is_raised_with_an_empty_report(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt")
    for kind in ("success", "failed"):
        lists = ward.output_key(results, f"Manifest_123456789012-PHIDetection-{results.job.job_id}")
        for entry in ward.s3.list_objects_v2(Bucket=ward.bucket, Prefix=f"{lists}/{kind}/")[
            "Contents"
        ]:
            ward.delete(entry["Key"])

    with pytest.raises(IncompleteCopiesError, match="the list of processed files") as caught:
        write_copies(results, out)

    assert (caught.value.report.written, caught.value.report.unprocessed) == (0, None)


def test_a_lost_manifest_is_raised_as_when_reading(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt")
    ward.delete(ward.output_key(results, "Manifest"))

    with pytest.raises(IncompleteResultsError) as caught:
        write_copies(results, out)
    assert type(caught.value).__name__ == "LostManifestError"


def test_an_error_that_concerns_all_notes_ends_the_run(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt")
    ward.requests.script("GetObject", refused("ExpiredToken", 400), key="notes/b.txt")

    with pytest.raises(ExpiredTokenException):
        write_copies(results, out, audit=out.parent / "audit.jsonl")
    assert not (out.parent / "audit.jsonl").exists()


def test_two_notes_with_one_name_are_a_failure(ward: Ward, out: Path) -> None:
    report = write_copies(ward.run("a.txt", "b.txt", "c.txt"), out, rename=lambda name: "same")

    assert set(failures(report).values()) == {"CopyError: another note has the same path"}
    assert (report.written, len(report.failures)) == (1, 2)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (ValueError(CANARY), "`rename` raised ValueError"),
        (None, "`rename` must return a name: it must be a str, not NoneType"),
        ("", "`rename` must return a name: it must have at least 1 character, not 0"),
        ("\ud800", "`rename` must return a name: it must be text that UTF-8 can encode; the"),
        ("../out.txt", "it has no path inside the folder"),
        ("/etc/out.txt", "it has no path inside the folder"),
        ("a//out.txt", "it has no path inside the folder"),
    ],
)
def test_a_note_without_a_usable_name_is_a_failure(
    returned: Any, reason: str, ward: Ward, out: Path
) -> None:
    def rename(name: str) -> str:
        if name == "b.txt":
            return name
        if isinstance(returned, Exception):
            raise returned
        found: str = returned
        return found

    report = write_copies(ward.run("a.txt", "b.txt"), out, rename=rename)

    [failure] = report.failures
    assert (failure.input_key, type(failure.error)) == ("notes/a.txt", CopyError)
    assert str(failure.error).startswith(reason)
    assert (failure.error.__cause__, failure.error.__context__) == (None, None)
    assert copies_in(out) == {"b.txt": REDACTED}
    assert not list(out.parent.glob("*.txt"))


def test_a_mark_that_utf_8_cannot_encode_is_a_failure(ward: Ward, out: Path) -> None:
    report = write_copies(ward.run("a.txt"), out, replacement=lambda _: "\ud800")

    [failure] = report.failures
    assert isinstance(failure.error, ComprehendPHIError)
    assert (failure.error.__cause__, failure.error.__context__) == (None, None)
    assert copies_in(out) == {}


def test_versions_of_the_model_are_listed_once(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt", "d.txt")
    for name, version in {"a": "2.0.0", "b": "1.0.0", "c": "2.0.0", "d": None}.items():
        content: dict[str, Any] = {"Entities": [], "ModelVersion": version}
        key = ward.output_key(results, f"{name}.txt.out")
        ward.storage.write(ward.bucket, key, json.dumps(content).encode())

    assert write_copies(results, out).model_versions == ("1.0.0", "2.0.0")


def test_unprocessed_files_are_counted(ward: Ward, out: Path) -> None:
    ward.put("scan.txt", b"\xff")

    assert write_copies(ward.run("a.txt"), out).unprocessed == 1


# --- A reviewer's decisions -----------------------------------------------------------------------


def decisions_about(*keys: str, **fields: Any) -> Decisions:
    members: dict[str, Any] = {
        "sha256": sha256(NOTE.encode()).hexdigest(),
        "reviewed": True,
        "rejected": (),
        "added": (),
        **fields,
    }
    return Decisions(tuple(DocumentDecisions(input_key=key, **members) for key in keys))


def test_copies_follow_the_decisions_of_a_reviewer(ward: Ward, out: Path) -> None:
    added = AddedMark(begin_offset=0, end_offset=7, type="OTHER")
    decisions = decisions_about("notes/a.txt", rejected=(1,), added=(added,))

    report = write_copies(ward.run("a.txt", "b.txt"), out, min_score=0.9, decisions=decisions)

    assert copies_in(out) == {
        "a.txt": REDACTED.replace("Patient", "[OTHER]").replace("[DATE]", "2031-02-03"),
        "b.txt": REDACTED,
    }
    assert report.redacted_counts == {"OTHER": 1, "NAME": 2, "DATE": 1, "PHONE_OR_FAX": 2}


def test_a_note_that_its_decisions_do_not_fit_is_a_failure(ward: Ward, out: Path) -> None:
    decisions = decisions_about("notes/a.txt", sha256="0" * 64)

    report = write_copies(ward.run("a.txt", "b.txt"), out, decisions=decisions)

    [failure] = report.failures
    assert (failure.input_key, type(failure.error)) == ("notes/a.txt", DecisionsError)
    assert not leaks(str(failure.error))
    assert copies_in(out) == {"b.txt": REDACTED}


def test_a_note_that_is_not_reviewed_is_a_failure_on_request(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt")
    decisions = decisions_about("notes/a.txt")

    report = write_copies(results, out, decisions=decisions, require_reviewed=True)

    assert failures(report).keys() == {"notes/b.txt"}
    assert copies_in(out) == {"a.txt": REDACTED}


# --- Copies on S3 ---------------------------------------------------------------------------------

both_transports = pytest.mark.parametrize("ward", ["boto3", "obstore"], indirect=True)


@both_transports
def test_copies_on_s3_have_their_paths_below_the_destination(ward: Ward) -> None:
    report = write_copies(ward.run("one.txt", "ward 3/\U0001f600+%.txt"), ward.copies)

    assert ward.objects() == {
        "2031/redacted/one.txt": REDACTED.encode(),
        "2031/redacted/ward 3/\U0001f600+%.txt": REDACTED.encode(),
    }
    assert (report.written, report.already_written, report.failures) == (2, 0, ())


def test_a_whole_bucket_gets_copies_at_its_top(ward: Ward) -> None:
    write_copies(ward.run("one.txt"), S3Location(ward.copies.bucket))

    assert ward.objects().keys() == {"one.txt"}


@both_transports
@pytest.mark.parametrize("kms_key", [None, KEY])
def test_copies_and_audit_file_are_encrypted_with_the_kms_key(
    kms_key: str | None, ward: Ward
) -> None:
    audit = S3Location(ward.copies.bucket, "audit/1.jsonl")
    write_copies(ward.run("one.txt"), ward.copies, kms_key=kms_key, audit=audit)

    heads = [
        ward.s3.head_object(Bucket=ward.copies.bucket, Key=key)
        for key in ("2031/redacted/one.txt", "audit/1.jsonl")
    ]
    assert [head.get("SSEKMSKeyId") for head in heads] == [kms_key, kms_key]


@both_transports
def test_metadata_says_nothing_about_the_note(ward: Ward) -> None:
    write_copies(ward.run("one.txt"), ward.copies)

    head = ward.s3.head_object(Bucket=ward.copies.bucket, Key="2031/redacted/one.txt")
    # Readers of the copy know this hash. One that depends on the note would let them test guesses.
    assert head["Metadata"] == {
        "comprehend-phi-sha256": sha256(REDACTED.encode()).hexdigest(),
    }


@both_transports
def test_finished_copies_on_s3_are_not_written_again(ward: Ward) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt")
    write_copies(results.part(0, 2), ward.copies)
    before = ward.s3.head_object(Bucket=ward.copies.bucket, Key="2031/redacted/a.txt")

    report = write_copies(results, ward.copies)

    assert (report.written, report.already_written, report.failures) == (1, 2, ())
    after = ward.s3.head_object(Bucket=ward.copies.bucket, Key="2031/redacted/a.txt")
    assert after["LastModified"] == before["LastModified"]
    assert len(ward.objects()) == 3


@both_transports
def test_a_run_that_finds_copies_asks_for_the_next_ones_instead_of_sending_them(
    ward: Ward,
) -> None:
    results = ward.run(*(f"{number:02}.txt" for number in range(40)))
    write_copies(results, ward.copies)
    ward.requests.requests.clear()

    assert write_copies(results, ward.copies).already_written == 40
    # The first call of each thread cannot know that there are copies.
    sent = {each.key for each in ward.requests.requests if each.operation == "PutObject"}
    assert len(sent) <= 10
    assert ward.requests.counts()["HeadObject"] == 40


@both_transports
def test_only_one_request_is_sent_for_a_new_copy(ward: Ward) -> None:
    write_copies(ward.run("a.txt", "b.txt"), ward.copies)

    counts = ward.requests.counts()
    assert (counts["PutObject"], counts["HeadObject"]) == (2, 0)


@both_transports
@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "an object that is no copy is there"),
        ({"comprehend-phi-sha256": "0" * 64}, "a copy with other content is there"),
        (
            {"comprehend-phi-sha256": sha256(REDACTED.encode()).hexdigest()},
            "a copy with other content is there",
        ),
    ],
)
def test_other_objects_are_never_replaced(
    metadata: dict[str, str], reason: str, ward: Ward
) -> None:
    key = "2031/redacted/a.txt"
    ward.s3.put_object(Bucket=ward.copies.bucket, Key=key, Body=b"theirs", Metadata=metadata)

    report = write_copies(ward.run("a.txt", "b.txt"), ward.copies)

    assert failures(report)["notes/a.txt"].startswith(f"CopyError: {reason}")
    assert ward.objects() == {key: b"theirs", "2031/redacted/b.txt": REDACTED.encode()}


@both_transports
def test_an_object_that_appears_and_vanishes_is_a_failure(ward: Ward) -> None:
    ward.requests.script("PutObject", *[refused("PreconditionFailed", 412)] * 2)

    report = write_copies(ward.run("a.txt"), ward.copies)

    assert "written and deleted here meanwhile" in failures(report)["notes/a.txt"]
    assert ward.objects() == {}


@both_transports
def test_a_copy_that_vanished_since_the_last_run_is_written_again(ward: Ward) -> None:
    results = ward.run("a.txt", "b.txt")
    write_copies(results, ward.copies)
    ward.s3.delete_object(Bucket=ward.copies.bucket, Key="2031/redacted/b.txt")

    def in_turn(request: S3Request) -> None:
        if request.operation == "GetObject" and request.key == "notes/b.txt":
            while ward.requests.counts()["HeadObject"] == 0:
                pass

    ward.requests.rules.append(in_turn)
    report = write_copies(results, ward.copies)

    assert (report.written, report.already_written) == (1, 1)
    assert len(ward.objects()) == 2


@both_transports
def test_a_copy_whose_response_was_lost_counts_as_written(ward: Ward) -> None:
    ward.requests.script("PutObject", LOST)

    report = write_copies(ward.run("a.txt"), ward.copies)

    assert (report.written, report.failures) == (1, ())


@both_transports
def test_a_copy_that_s3_refuses_is_a_failure(ward: Ward) -> None:
    key = "2031/redacted/a.txt"
    ward.requests.script("PutObject", *[refused("AccessDenied", 403)] * 2, key=key)

    report = write_copies(ward.run("a.txt", "b.txt"), ward.copies)

    [failure] = report.failures
    assert isinstance(failure.error, UnwritableObjectError)
    assert not leaks(str(failure.error))
    assert ward.objects().keys() == {"2031/redacted/b.txt"}


@both_transports
def test_copying_stops_when_s3_refuses_100_copies_in_a_row(ward: Ward) -> None:
    names = [f"{number:03}.txt" for number in range(150)]
    results = ward.run(*names)
    bad = {f"2031/redacted/{name}" for name in names[:99]}

    def refuse(request: S3Request) -> S3Fault | None:
        is_refused = request.operation == "PutObject" and request.key in bad
        return refused("AccessDenied", 403) if is_refused else None

    ward.requests.rules.append(refuse)
    report = write_copies(results, ward.copies)
    assert (report.written, len(report.failures)) == (51, 99)

    bad |= {f"elsewhere/{name}" for name in names}
    with pytest.raises(UnwritableObjectError, match="access denied") as caught:
        write_copies(results, S3Location(ward.copies.bucket, "elsewhere"))
    assert caught.value.undelivered == 150
    assert len(caught.value.failed) == 99


@both_transports
def test_a_bucket_that_does_not_exist_ends_the_run(ward: Ward) -> None:
    with pytest.raises(MissingBucketError):
        write_copies(ward.run("a.txt"), S3Location(f"gone-{uuid4().hex}"))


@both_transports
def test_two_notes_with_one_key_are_a_failure(ward: Ward) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt")

    report = write_copies(results, ward.copies, rename=lambda _: "same")

    assert set(failures(report).values()) == {"CopyError: another note has the same path"}
    assert (report.written, len(report.failures)) == (1, 2)


@pytest.mark.parametrize("folder", [None, "copies"], ids=["bucket", "folder"])
def test_a_note_that_is_the_input_folder_itself_is_a_failure(
    folder: str | None, ward: Ward
) -> None:
    ward.put("")
    results = ward.run("a.txt", folder="notes/")

    report = write_copies(results, S3Location(ward.copies.bucket, folder))

    assert failures(report) == {"notes/": "CopyError: it has no path inside the folder"}
    assert report.written == 1


@pytest.mark.parametrize(("size", "written"), [(1_010, 1), (1_011, 0)])
def test_a_key_that_would_be_too_long_is_a_failure(size: int, written: int, ward: Ward) -> None:
    name = "\u00e9" * (size // 2) + "e" * (size % 2)

    report = write_copies(ward.run("a.txt"), ward.copies, rename=lambda _: name)

    assert report.written == written
    if not written:
        reason = "CopyError: its key would have more than 1,024 bytes"
        assert failures(report) == {"notes/a.txt": reason}


def test_the_audit_file_can_be_on_s3(ward: Ward) -> None:
    audit = S3Location(ward.copies.bucket, "audit/1.jsonl")

    report = write_copies(ward.run("a.txt", "b.txt"), ward.copies, audit=audit)

    content = ward.objects()["audit/1.jsonl"]
    assert [json.loads(line)["copy"] for line in content.splitlines()] == ["a.txt", "b.txt"]
    assert report.audit_sha256 == sha256(content).hexdigest()
    assert not leaks(content.decode())


def test_the_audit_file_on_s3_is_complete_or_absent(ward: Ward) -> None:
    results = ward.run("a.txt", "b.txt")
    ward.requests.script("GetObject", refused("ExpiredToken", 400), key="notes/b.txt")

    with pytest.raises(ExpiredTokenException):
        write_copies(results, ward.copies, audit=S3Location(ward.copies.bucket, "audit.jsonl"))
    assert "audit.jsonl" not in ward.objects()


@pytest.mark.parametrize("key", [None, "notes", "notes/", "notes/copies", "results", "results/x"])
def test_copies_must_not_overlap_notes_or_results(key: str | None, ward: Ward) -> None:
    results = ward.run("a.txt")
    before = len(ward.requests.requests)

    with pytest.raises(RequestValidationError, match="must not overlap") as caught:
        write_copies(results, S3Location(ward.bucket, key))
    assert caught.value.field == "destination"
    assert ward.requests.counts()["PutObject"] == 0
    assert len(ward.requests.requests) == before


def test_a_job_over_a_bucket_leaves_no_room_for_copies_in_it(ward: Ward) -> None:
    with pytest.warns(OverlappingLocationsWarning):
        results = ward.run("a.txt", folder=None)

    with pytest.raises(RequestValidationError, match="must not overlap"):
        write_copies(results, S3Location(ward.bucket, "copies"))


@pytest.mark.parametrize("key", ["notes-redacted", "copies"])
def test_copies_may_be_beside_notes_and_results(key: str, ward: Ward) -> None:
    assert write_copies(ward.run("a.txt"), S3Location(ward.bucket, key)).written == 1


@pytest.mark.parametrize(
    ("bucket", "key", "reason"),
    [
        ("copies", "2031/redacted/audit.jsonl", "must be outside the destination"),
        ("notes", "notes/audit.jsonl", "must be outside the destination"),
        ("notes", "results/audit.jsonl", "must be outside the destination"),
        ("copies", None, "must have the key of a file"),
        ("copies", "audit/", "must have the key of a file"),
    ],
)
def test_an_audit_file_on_s3_needs_a_place_of_its_own(
    bucket: str, key: str | None, reason: str, ward: Ward
) -> None:
    audit = S3Location(ward.copies.bucket if bucket == "copies" else ward.bucket, key)

    with pytest.raises(RequestValidationError, match=reason) as caught:
        write_copies(ward.run("a.txt"), ward.copies, audit=audit)
    assert caught.value.field == "audit"
    assert ward.objects() == {}


def test_an_audit_file_does_not_replace_the_only_note_of_a_job(ward: Ward) -> None:
    results = ward.run("a.txt", folder="notes/a.txt")

    with pytest.raises(RequestValidationError, match="must be outside the destination, the notes"):
        write_copies(results, ward.copies, audit=S3Location(ward.bucket, "notes/a.txt"))
    assert [text for _, text in results.redacted()] == [REDACTED]


def test_copies_and_audit_file_may_be_in_different_places(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt")
    audit = S3Location(ward.copies.bucket, "audit.jsonl")

    local = write_copies(results, out, audit=audit)
    remote = write_copies(results, ward.copies, audit=out.parent / "audit.jsonl")

    assert local.audit_sha256 == remote.audit_sha256
    assert ward.objects()["audit.jsonl"] == (out.parent / "audit.jsonl").read_bytes()


# --- The audit file -------------------------------------------------------------------------------


def test_the_audit_file_has_a_line_for_each_copy(ward: Ward, out: Path) -> None:
    audit = out.parent / "audit.jsonl"
    results = ward.run("a.txt", "b.txt")

    report = write_copies(results, out, rename=lambda name: f"{name[0]}/1", audit=audit)

    assert [json.loads(line) for line in audit.read_bytes().splitlines()] == [
        {
            "copy": f"{name}/1",
            "copy_sha256": sha256(REDACTED.encode()).hexdigest(),
            "copy_bytes": len(REDACTED),
            "key_sha256": sha256(f"notes/{name}.txt".encode()).hexdigest(),
            "note_sha256": sha256(NOTE.encode()).hexdigest(),
            "redacted": {"NAME": 1, "DATE": 1, "PHONE_OR_FAX": 1},
            "readable": {},
        }
        for name in ("a", "b")
    ]
    assert report.audit_sha256 == sha256(audit.read_bytes()).hexdigest()


def test_the_same_run_writes_the_same_audit_file_again(ward: Ward, out: Path) -> None:
    audit = out.parent / "audit.jsonl"
    results = ward.run(*(f"{number}.txt" for number in range(20)))

    first, again = (write_copies(results, out, audit=audit).audit_sha256 for _ in range(2))

    assert first == again == sha256(audit.read_bytes()).hexdigest()


def test_without_audit_nothing_but_copies_is_written(ward: Ward, out: Path) -> None:
    assert write_copies(ward.run("a.txt"), out).audit_sha256 is None
    assert list(out.parent.iterdir()) == [out]


# --- The report -----------------------------------------------------------------------------------


def test_the_report_as_json(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt")
    ward.delete("notes/b.txt")

    report = write_copies(results, out, min_score=0.25, audit=out.parent / "audit.jsonl")

    members = json.loads(report.to_json())
    counts = members["safe_harbor"].pop("counts")
    assert members == {
        "version": 1,
        "jobs": [{"job_id": results.job.job_id, "request_token": None}],
        "model_versions": ["0.1.0"],
        "package_version": report.package_version,
        "min_score": 0.25,
        "replacement": "[{type}]",
        "copies": {"written": 1, "already_written": 0},
        "folder_markers": 0,
        "unprocessed": 0,
        "failures": {"SourceChangedError": 1},
        "entities": {"redacted": {"DATE": 1, "NAME": 1, "PHONE_OR_FAX": 1}, "readable": {}},
        "safe_harbor": {
            "types_not_in_table": [],
            "not_covered_by_service": ["(O) IP addresses", "(Q) full-face photographs"],
        },
        "audit_sha256": report.audit_sha256,
    }
    assert {identifier: number for identifier, number in counts.items() if number} == {
        "(A) names": 1,
        "(C) dates, and ages over 89": 1,
        "(D) telephone numbers": 1,
        "(E) fax numbers": 1,
    }
    assert len(counts) == 18


def a_report(**fields: Any) -> CopiesReport:
    members: dict[str, Any] = {
        "jobs": (),
        "model_versions": (),
        "package_version": "1",
        "min_score": 0.0,
        "replacement": None,
        "written": 0,
        "already_written": 0,
        "folder_markers": 0,
        "unprocessed": None,
        "failures": (),
        "redacted_counts": {},
        "readable_counts": {},
        "audit_sha256": None,
        **fields,
    }
    return CopiesReport(**members)


def test_types_that_aws_assigns_to_no_identifier_are_named() -> None:
    report = a_report(redacted_counts={"NAME": 1, "IDENTIFIER": 2, "NEW_TYPE": 3})

    members = json.loads(report.to_json())["safe_harbor"]
    assert members["types_not_in_table"] == ["IDENTIFIER", "NEW_TYPE"]
    assert sum(members["counts"].values()) == 1


def test_the_table_is_that_of_aws() -> None:
    """Developer Guide, "Detect PHI", "Detected PHI entities", with AWS's numbers."""
    numbers = {identifier: number for number, identifier in enumerate(SafeHarborIdentifier, 1)}

    assert {name: [numbers[each] for each in found] for name, found in SAFE_HARBOR.items()} == {
        "AGE": [3],
        "DATE": [3],
        "NAME": [1],
        "PHONE_OR_FAX": [4, 5],
        "EMAIL": [6],
        "ID": [7, 8, 9, 10, 11, 12, 13, 16, 18],
        "URL": [14],
        "ADDRESS": [2],
        "PROFESSION": [18],
    }
    assert [numbers[each] for each in NOT_COVERED] == [15, 17]
    letters = [f"({letter})" for letter in "ABCDEFGHIJKLMNOPQR"]
    assert [identifier.partition(" ")[0] for identifier in SafeHarborIdentifier] == letters


# --- Nothing leaks --------------------------------------------------------------------------------


def test_neither_the_report_nor_the_audit_file_nor_the_log_contains_text_or_keys(
    ward: Ward, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="comprehend_phi")
    names = [f"{CANARY}/{number}.txt" for number in range(4)]
    results = ward.run(*names)
    ward.delete(f"notes/{names[1]}")
    ward.put(names[2], NOTE.replace("seen", "soon"))
    ids = Counter[str]()

    def rename(name: str) -> str:
        if name == names[3]:
            raise KeyError(name)
        ids[name] += 1
        return f"{sum(ids.values())}.txt"

    report = write_copies(results, out, rename=rename, audit=out.parent / "audit.jsonl")

    assert report.written >= 1
    logged = [f"{record.getMessage()} {record.__dict__}" for record in caplog.records]
    assert logged
    shown = [report.to_json(), repr(report), repr(report.failures), *logged]
    assert not [each for each in shown if leaks(each)]
    for path in out.parent.rglob("*"):
        assert not leaks(str(path.relative_to(out.parent)))
        assert path.is_dir() or not leaks(path.read_bytes().decode())


def test_the_errors_of_failures_keep_no_variables(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt", "c.txt")
    ward.put("a.txt", NOTE.replace("Zinnia", "Zenith"))

    report = write_copies(results, out, rename=lambda name: "same")

    assert len(report.failures) == 2
    for failure in report.failures:
        assert failure.error.__traceback__ is None
        assert (failure.error.__cause__, failure.error.__context__) == (None, None)
        assert not leaks(str(failure.error))


def test_the_error_about_missing_results_can_be_pickled(ward: Ward, out: Path) -> None:
    results = ward.run("a.txt", "b.txt")
    ward.delete(ward.output_key(results, "a.txt.out"))
    with pytest.raises(IncompleteCopiesError) as caught:
        write_copies(results, out)

    again = pickle.loads(pickle.dumps(caught.value))

    assert str(again) == str(caught.value)
    assert again.report.to_json() == caught.value.report.to_json()


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"results": CANARY}, "results"),
        ({"destination": 7}, "destination"),
        ({"destination": ""}, "destination"),
        ({"destination": f"s3://bucket/{CANARY}"}, "destination"),
        ({"rename": CANARY}, "rename"),
        ({"min_score": 2}, "min_score"),
        ({"replacement": "{0}"}, "replacement"),
        ({"audit": b"audit"}, "audit"),
        ({"decisions": CANARY}, "decisions"),
        ({"require_reviewed": True}, "require_reviewed"),
        ({"kms_key": ""}, "kms_key"),
        ({"kms_key": KEY}, "kms_key"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(
    arguments: dict[str, Any], field: str, ward: Ward, out: Path
) -> None:
    valid: dict[str, Any] = {"results": ward.run("a.txt"), "destination": out}

    with pytest.raises(RequestValidationError) as caught:
        write_copies(**{**valid, **arguments})
    assert caught.value.field == field
    assert not leaks(str(caught.value))
    assert not out.exists()


@pytest.mark.parametrize("name", [".", "audit.jsonl", "a/audit.jsonl", "../linked/audit.jsonl"])
def test_the_audit_file_must_be_outside_the_destination(name: str, ward: Ward, out: Path) -> None:
    (out.parent / "linked").symlink_to(out)

    with pytest.raises(RequestValidationError, match="outside the destination"):
        write_copies(ward.run("a.txt"), out, audit=out / name)
    assert not out.exists()


def test_a_folder_that_cannot_be_created_is_an_os_error(ward: Ward, out: Path) -> None:
    out.write_text("")

    with pytest.raises(FileExistsError):
        write_copies(ward.run("a.txt"), out)
    assert list(out.parent.iterdir()) == [out]


# --- A program that is killed ---------------------------------------------------------------------

KILLED = """
import os, signal, sys

import boto3

from comprehend_phi import PHIClient
from comprehend_phi.corpus import write_copies

url, job_id, folder = sys.argv[1:]
session = boto3.Session("testing", "testing", region_name="us-east-1")
s3 = session.client("s3", endpoint_url=url)
seen = 0

def rename(name):
    global seen
    seen += 1
    if seen == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return name

with PHIClient(session=session, endpoint_url=url, s3_client=s3) as client:
    results = client.results(job_id)
    write_copies(results, folder + "/copies", rename=rename, audit=folder + "/audit.jsonl")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_program_that_was_killed_leaves_only_whole_copies_and_is_continued(
    ward: Ward, out: Path
) -> None:
    names = [f"{number:02}.txt" for number in range(40)]
    results = ward.run(*names)
    program = [sys.executable, "-c", KILLED, ward.url, results.job.job_id, str(out.parent)]
    killed = subprocess.run(program, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL

    parts = {path.name for path in out.iterdir() if path.name.startswith(".comprehend-phi-")}
    copies = {name: text for name, text in copies_in(out).items() if name not in parts}
    assert set(copies.values()) == {REDACTED}
    assert not (out.parent / "audit.jsonl").exists()

    report = write_copies(results, out, audit=out.parent / "audit.jsonl")

    assert report.already_written == len(copies)
    assert report.written == len(names) - len(copies)
    found = verify_copies(out.parent / "audit.jsonl", out)
    assert (found.changed, found.missing, set(found.added)) == ((), (), parts)

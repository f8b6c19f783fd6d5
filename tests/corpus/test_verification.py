"""Every changed, missing and added copy is found."""

from __future__ import annotations

import resource
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import RequestValidationError, S3Location, UnreadableObjectError
from comprehend_phi.corpus import verify_copies, write_copies
from comprehend_phi.corpus.audit import AuditFile, AuditLine

from ..conftest import CANARY
from ..s3_server import RESET, refused
from .conftest import Ward

COPIES = {"one.txt": b"1", "ward 3/two.txt": b"2", "ward 3/three.txt": b""}


def line_of(name: str, content: bytes) -> AuditLine:
    return AuditLine(
        copy=name,
        copy_sha256=sha256(content).hexdigest(),
        copy_bytes=len(content),
        key_sha256="",
        note_sha256="",
        redacted={},
        readable={},
    )


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    with path.open("wb") as file:
        lines = AuditFile(file)
        for name, content in COPIES.items():
            lines.add(line_of(name, content))
    return path


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    root = tmp_path / "copies"
    for name, content in COPIES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_unchanged_copies_have_no_differences(audit: Path, copies: Path) -> None:
    found = verify_copies(audit, str(copies))

    assert found.is_empty
    assert (found.copies, found.changed, found.missing, found.added) == (3, (), (), ())
    assert found.audit_sha256 == sha256(audit.read_bytes()).hexdigest()


def test_changed_missing_and_added_copies_are_named(audit: Path, copies: Path) -> None:
    (copies / "one.txt").write_bytes(b"")
    (copies / "ward 3/two.txt").unlink()
    (copies / "ward 3/four.txt").write_bytes(b"")

    found = verify_copies(audit, copies)

    assert (found.changed, found.missing) == (("one.txt",), ("ward 3/two.txt",))
    assert found.added == ("ward 3/four.txt",)
    assert not found.is_empty
    assert ".txt" not in repr(found)


def test_a_file_that_a_killed_run_left_is_an_added_one(audit: Path, copies: Path) -> None:
    (copies / ".comprehend-phi-0").write_bytes(b"")

    assert verify_copies(audit, copies).added == (".comprehend-phi-0",)


@pytest.mark.parametrize("target", ["elsewhere", "gone"])
def test_a_link_is_no_copy(target: str, audit: Path, copies: Path, tmp_path: Path) -> None:
    (copies / "one.txt").rename(tmp_path / "elsewhere")
    (copies / "one.txt").symlink_to(tmp_path / target)

    assert verify_copies(audit, copies).missing == ("one.txt",)


def test_a_link_to_a_folder_is_added(audit: Path, copies: Path, tmp_path: Path) -> None:
    (copies / "ward 3").rename(tmp_path / "elsewhere")
    (copies / "ward 3").symlink_to(tmp_path / "elsewhere")

    assert verify_copies(audit, copies).added == ("ward 3",)


@given(data=st.data())
@settings(max_examples=25)
def test_every_changed_bit_is_found(data: st.DataObject, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("copies")
    content = data.draw(st.binary(min_size=1, max_size=50))
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    with (root / "audit").open("wb") as file:
        AuditFile(file).add(line_of("a/1", content))
    (root / "a").mkdir()
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    (root / "a/1").write_bytes(changed)

    found = verify_copies(root / "audit", root)

    assert (found.changed, found.missing, found.added) == (("a/1",), (), ("audit",))


@pytest.mark.parametrize(
    "line",
    [
        CANARY.encode(),
        b"\xff",
        b'{"copy": "%b\xff"}' % CANARY.encode(),
        b"{}",
        b'{"copy": 1}',
        b'{"new": ' + b"[" * 100_000,
    ],
)
def test_another_file_is_refused_without_being_quoted(
    line: bytes, audit: Path, copies: Path
) -> None:
    audit.write_bytes(audit.read_bytes() + line)

    with pytest.raises(RequestValidationError, match="line 4 is not") as caught:
        verify_copies(audit, copies)
    assert "Zinnia" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_folder_that_does_not_exist_is_an_os_error(audit: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify_copies(audit, tmp_path / "gone")


@pytest.mark.parametrize("field", ["audit", "destination"])
@pytest.mark.parametrize("value", [7, "", b"bytes", f"s3://bucket/{CANARY}"])
def test_a_wrong_argument_is_refused(field: str, value: Any, audit: Path, copies: Path) -> None:
    arguments: dict[str, Any] = {"audit": audit, "destination": copies, field: value}

    with pytest.raises(RequestValidationError) as caught:
        verify_copies(**arguments)
    assert caught.value.field == field
    assert "Zinnia" not in str(caught.value)


def test_a_line_shows_no_path() -> None:
    assert CANARY not in repr(line_of(CANARY, b""))


# --- S3 -------------------------------------------------------------------------------------------


def audit_on_s3(ward: Ward) -> S3Location:
    """Write the copies and the audit file to S3."""
    bucket, folder = ward.copies.bucket, f"{ward.copies.key}/"
    with BytesIO() as file:
        lines = AuditFile(file)
        for name, content in COPIES.items():
            lines.add(line_of(name, content))
            ward.s3.put_object(Bucket=bucket, Key=f"{folder}{name}", Body=content)
        ward.s3.put_object(Bucket=bucket, Key="audit.jsonl", Body=file.getvalue())
    return S3Location(bucket, "audit.jsonl")


def test_copies_on_s3_are_verified(ward: Ward) -> None:
    found = verify_copies(audit_on_s3(ward), ward.copies, client=ward.client)

    assert found.is_empty
    assert found.copies == 3
    assert found.audit_sha256 == sha256(ward.objects()["audit.jsonl"]).hexdigest()


def test_folders_that_the_s3_console_made_are_no_copies(ward: Ward) -> None:
    audit = audit_on_s3(ward)
    for name, content in (("", b""), ("empty/", b""), ("text/", b"1")):
        key = f"{ward.copies.key}/{name}"
        ward.s3.put_object(Bucket=ward.copies.bucket, Key=key, Body=content)

    assert verify_copies(audit, ward.copies, client=ward.client).added == ("text/",)


def test_changed_missing_and_added_copies_on_s3_are_named(ward: Ward) -> None:
    audit = audit_on_s3(ward)
    bucket, folder = ward.copies.bucket, f"{ward.copies.key}/"
    ward.s3.put_object(Bucket=bucket, Key=f"{folder}one.txt", Body=b"2")
    ward.s3.delete_object(Bucket=bucket, Key=f"{folder}ward 3/two.txt")
    for number in range(1_001):
        ward.storage.write(bucket, f"{folder}x/{number}", b"")

    found = verify_copies(audit, ward.copies, client=ward.client)

    assert (found.changed, found.missing) == (("one.txt",), ("ward 3/two.txt",))
    assert set(found.added) == {f"x/{number}" for number in range(1_001)}


def test_an_audit_file_whose_first_attempt_failed_is_read_from_its_beginning(ward: Ward) -> None:
    audit = audit_on_s3(ward)
    ward.requests.script("GetObject", RESET, key="audit.jsonl")

    assert verify_copies(audit, ward.copies, client=ward.client).is_empty


def test_an_error_of_s3_is_raised(ward: Ward) -> None:
    audit = audit_on_s3(ward)
    ward.requests.script("GetObject", refused("AccessDenied", 403))

    with pytest.raises(UnreadableObjectError):
        verify_copies(audit, ward.copies, client=ward.client)


def test_an_audit_file_that_this_machine_cannot_store_is_an_os_error(ward: Ward) -> None:
    audit = audit_on_s3(ward)
    body = ward.objects()["audit.jsonl"] * 1_000
    ward.s3.put_object(Bucket=audit.bucket, Key="audit.jsonl", Body=body)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As if the disk were full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            verify_copies(audit, ward.copies, client=ward.client)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("client", [None, CANARY])
@pytest.mark.parametrize("field", ["audit", "destination"])
def test_s3_needs_a_client(field: str, client: Any, audit: Path, copies: Path) -> None:
    arguments: dict[str, Any] = {"audit": audit, "destination": copies}
    arguments[field] = S3Location("bucket", "key")

    with pytest.raises(RequestValidationError, match="because a location is on S3") as caught:
        verify_copies(**arguments, client=client)
    assert caught.value.field == "client"


def test_what_was_written_is_verified(ward: Ward, tmp_path: Path) -> None:
    results = ward.run("a.txt", "ward/b.txt")
    audit = tmp_path / "audit.jsonl"
    for destination in (ward.copies, tmp_path / "copies"):
        report = write_copies(results, destination, audit=audit)

        found = verify_copies(audit, destination, client=ward.client)

        assert found.is_empty
        assert (found.copies, found.audit_sha256) == (2, report.audit_sha256)

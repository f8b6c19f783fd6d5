"""`detect-text`: counts, the redacted text, and no other text whatever fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comprehend_phi.testing import FakeClock, Fault, faults

from ..conftest import CANARY
from .conftest import NOTE, REDACTED, Done, Run, Shell, checked

PERMANENT = {
    "access denied": faults.error("AccessDeniedException", NOTE),
    "quoted in a message": faults.error("InvalidRequestException", f"Cannot read {NOTE}"),
    "too large": faults.error("TextSizeLimitExceededException", NOTE),
    "more entities": faults.answer(
        200, b'{"Entities": [], "PaginationToken": "next", "ModelVersion": "0"}'
    ),
    "another text": faults.answer(
        200,
        b'{"Entities": [{"Id": 0, "BeginOffset": 0, "EndOffset": 3, "Score": 1, "Text": "Ada",'
        b' "Category": "PHI", "Type": "NAME"}], "ModelVersion": "0"}',
    ),
}
# The command retries these, and gives up after eight attempts.
TEMPORARY = {
    "throttled": faults.throttle({"Retry-After": "0"}),
    "server error": faults.server_error(),
    "reset": faults.reset_after(),
    "cut": faults.cut(),
    "empty map": faults.empty_map(),
    "HTML": faults.html(),
    "not UTF-8": faults.not_utf8(),
}


def detect_text(shell: Shell, *arguments: str, stdin: bytes = b"") -> tuple[Done, bytes]:
    """Run the command, and return it with the exact bytes on stdout."""
    program = (sys.executable, "-m", "comprehend_phi", "detect-text")
    done = subprocess.run(
        [*program, "--endpoint-url", shell.url, *arguments],
        cwd=shell.home,
        env=shell.environment(),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
    )
    text = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
    return checked(text), done.stdout


@pytest.fixture
def note(tmp_path: Path) -> str:
    path = tmp_path / "note.txt"
    path.write_bytes(NOTE.encode())
    return str(path)


def test_the_entities_of_a_file_are_counted(shell: Shell, note: str) -> None:
    done, _ = detect_text(shell, note)

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "3 entities in 1 document",
        "TYPE          COUNT",
        "NAME          1",
        "DATE          1",
        "PHONE_OR_FAX  1",
    ]


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_the_redacted_text_of_standard_input_keeps_its_bytes(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    text = f"\ufeffZo\u00eb \U0001f642\r\n{NOTE}\n no line end"
    done, out = detect_text(shell, "--redact", *arguments, stdin=text.encode())

    assert (done.code, done.err) == (0, "")
    assert out.decode() == text.replace(NOTE, REDACTED)


def test_json_has_entities_without_their_text(shell: Shell, note: str) -> None:
    done, _ = detect_text(shell, note, "--json")

    assert done.json["entity_counts"] == {"NAME": 1, "DATE": 1, "PHONE_OR_FAX": 1}
    assert done.json["redacted"] is None
    assert {each["type"] for each in done.json["entities"]} == done.json["entity_counts"].keys()
    assert all("text" not in each for each in done.json["entities"])
    assert done.json["model_version"]


def test_json_with_redact_has_the_redacted_text(shell: Shell, note: str) -> None:
    done, _ = detect_text(shell, note, "--json", "--redact")

    assert done.json["redacted"] == REDACTED


def test_a_long_text_is_redacted_in_pieces(shell: Shell) -> None:
    done, out = detect_text(shell, "--redact", stdin=NOTE.encode() * 1_000)

    assert done.code == 0
    assert out.decode() == REDACTED * 1_000


def test_an_empty_text_sends_nothing(shell: Shell) -> None:
    before = shell.server.service.attempts("DetectPHI")

    assert detect_text(shell)[0].out == "0 entities in 1 document\n"
    assert detect_text(shell, "--redact")[1] == b""
    assert shell.server.service.attempts("DetectPHI") == before


@pytest.mark.parametrize("fault", PERMANENT.values(), ids=PERMANENT)
@pytest.mark.parametrize("options", [(), ("--redact",), ("--redact", "--json")])
def test_nothing_is_printed_if_the_call_fails(
    shell: Shell, note: str, fault: Fault, options: tuple[str, ...]
) -> None:
    shell.server.service.script(fault)
    done, out = detect_text(shell, note, *options)

    assert (done.code, out) == (1, b"")
    assert done.error.startswith("DetectPHI: ")


@pytest.mark.parametrize("fault", TEMPORARY.values(), ids=TEMPORARY)
def test_a_fault_that_passes_changes_nothing(shell: Shell, note: str, fault: Fault) -> None:
    shell.server.service.script(fault)
    done, out = detect_text(shell, note, "--redact")

    assert (done.code, out.decode()) == (0, REDACTED)


@pytest.mark.parametrize("fault", TEMPORARY.values(), ids=TEMPORARY)
def test_nothing_is_printed_if_all_attempts_fail(
    shell: Shell, run: Run, note: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", FakeClock().sleep)  # the waits between attempts
    before = shell.server.service.attempts("DetectPHI")
    shell.server.service.script(*[fault] * 8)
    done = run("detect-text", "--endpoint-url", shell.url, "--redact", note)

    assert (done.code, done.out) == (1, "")
    assert done.error.startswith("DetectPHI: ")
    assert "8 attempts" in done.error
    assert shell.server.service.attempts("DetectPHI") == before + 8


def test_a_failed_piece_leaves_nothing_of_the_others(shell: Shell) -> None:
    shell.server.service.script(faults.passes(), faults.error("AccessDeniedException", CANARY))
    done, out = detect_text(shell, "--redact", stdin=NOTE.encode() * 1_000)

    assert (done.code, out) == (1, b"")


def test_a_text_that_is_not_utf8_is_not_sent(shell: Shell) -> None:
    before = shell.server.service.attempts("DetectPHI")
    done, out = detect_text(shell, "--redact", stdin=CANARY.encode() + b"\xff")

    assert (done.code, out) == (1, b"")
    assert done.error == f"the text is not UTF-8 (byte {len(CANARY)})"
    assert shell.server.service.attempts("DetectPHI") == before


@pytest.mark.parametrize(
    ("file", "code", "problem"),
    [
        ("missing.txt", 1, "No such file or directory"),
        (".", 1, "Is a directory"),
        ("s3://bucket/note.txt", 2, "FILE must be a local file, or - for standard input"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    shell: Shell, file: str, code: int, problem: str
) -> None:
    done, out = detect_text(shell, file)

    assert (done.code, out) == (code, b"")
    assert problem in done.error


def test_a_closed_standard_input_is_wrong_usage(shell: Shell) -> None:
    done = shell.run_without_stdin("detect-text", "--endpoint-url", shell.url)

    assert done.code == 2
    assert "there is no standard input" in done.err

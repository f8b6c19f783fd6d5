"""The demo as `make demo` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comprehend_phi.testing import detect

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTES = {path: path.read_bytes() for path in sorted((EXAMPLES / "notes").rglob("*.txt"))}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redacted")


@pytest.fixture(scope="module")
def output(copies: Path) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "demo.py"), str(copies)]
    # From another folder: the demo has to find its notes, and the installed package.
    done = subprocess.run(command, cwd=copies, check=False, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_the_demo_says_what_was_found_in_each_note(output: str) -> None:
    for path in NOTES:
        name = path.relative_to(EXAMPLES / "notes").as_posix()
        assert f"\n  {name} " in output


def test_the_demo_says_which_file_was_not_processed_and_why(output: str) -> None:
    [line] = [line for line in output.splitlines() if "NOT PROCESSED" in line]

    assert "too-large.txt" in line
    assert "the limit is 71680" in line


def test_the_demo_follows_the_states(output: str) -> None:
    states = [line.strip() for line in output.splitlines() if line.strip().isupper()]

    assert states[-1] == "PARTIAL_SUCCESS"
    assert set(states) <= {"SUBMITTED", "IN_PROGRESS", "PARTIAL_SUCCESS"}


def test_the_demo_prints_no_phi(output: str) -> None:
    found = {entity.text for body in NOTES.values() for entity in detect(body.decode("utf-8"))}
    # A number of one or two digits, such as an age, also occurs as a count.
    assert [text for text in found if len(text) > 2 and text in output] == []


def test_the_redacted_copies_lack_what_was_found_and_keep_their_line_ends(
    output: str, copies: Path
) -> None:
    for path, body in NOTES.items():
        copy = copies / path.relative_to(EXAMPLES / "notes")
        if path.name == "too-large.txt":
            assert not copy.exists()
            continue
        redacted = copy.read_bytes()
        assert redacted.count(b"\r\n") == body.count(b"\r\n")
        names = {e.text for e in detect(body.decode("utf-8")) if e.type in ("NAME", "ID")}
        assert [name for name in names if name in redacted.decode("utf-8")] == []

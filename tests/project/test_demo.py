"""The demo as `make demo` runs it, the example of the same with the library, and other examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from comprehend_phi import PHIClient, StartPHIDetectionJobRequest
from comprehend_phi.testing import FakeClock, LocalServer, detect

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTES = {
    path.relative_to(EXAMPLES / "notes").as_posix(): path.read_bytes()
    for path in sorted((EXAMPLES / "notes").rglob("*.txt"))
}
# Numbers of one or two digits, such as ages, also occur as counts.
PHI = {
    entity.text
    for body in NOTES.values()
    for entity in detect(body.decode("utf-8"))
    if len(entity.text) > 2
}


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


# --- make demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(target: Path) -> subprocess.CompletedProcess[str]:
    # The package is installed already; in a Python that need not be the Makefile's own.
    given = (f"BIN={Path(sys.executable).parent}", f"DEMO={target}", "--old-file=.venv/package")
    return run("make", "--silent", "demo", *given, cwd=ROOT)


def test_the_demo_counts_what_was_found(demo: subprocess.CompletedProcess[str]) -> None:
    assert f" in {len(NOTES) - 1} documents\n" in demo.stdout
    assert "\nNAME " in demo.stdout


def test_the_demo_says_which_file_was_not_processed_and_why(
    demo: subprocess.CompletedProcess[str],
) -> None:
    [line] = [line for line in demo.stdout.splitlines() if "DOCUMENT_SIZE_EXCEEDED" in line]

    assert line.startswith("too-large.txt ")
    assert "the limit is 71680" in line


def test_the_demo_follows_the_states(demo: subprocess.CompletedProcess[str]) -> None:
    states = [line.split()[0] for line in demo.stderr.splitlines() if " after 0:" in line]

    assert states[-1] == "PARTIAL_SUCCESS"
    assert set(states) <= {"SUBMITTED", "IN_PROGRESS", "PARTIAL_SUCCESS"}


def test_the_demo_prints_no_phi(demo: subprocess.CompletedProcess[str]) -> None:
    assert [text for text in PHI if text in demo.stdout + demo.stderr] == []


def test_the_demo_prints_where_its_files_are(
    demo: subprocess.CompletedProcess[str], target: Path
) -> None:
    for name in ("results", "redacted", "review.html"):
        assert f" {target / name}" in demo.stdout
        assert (target / name).exists()


def test_the_redacted_copies_lack_what_was_found_and_keep_their_line_ends(
    demo: subprocess.CompletedProcess[str], target: Path
) -> None:
    for name, body in NOTES.items():
        copy = target / "redacted" / name
        if name == "too-large.txt":
            assert not copy.exists()
            continue
        redacted = copy.read_bytes()
        assert redacted.count(b"\r\n") == body.count(b"\r\n")
        found = {e.text for e in detect(body.decode("utf-8")) if e.type in ("NAME", "ID")}
        assert [text for text in found if text in redacted.decode("utf-8")] == []


# --- examples/demo.py -----------------------------------------------------------------------------


def test_the_example_with_the_library_says_what_was_found_in_each_note(tmp_path: Path) -> None:
    # From another folder: it has to find its notes, and the installed package.
    done = run(sys.executable, "-W", "error", str(EXAMPLES / "demo.py"), cwd=tmp_path)

    assert done.stderr == ""
    assert [name for name in NOTES if f"\n  {name} " not in done.stdout] == []
    assert "too-large.txt                    NOT PROCESSED: DOCUMENT_SIZE_EXCEEDED." in done.stdout
    assert [text for text in PHI if text in done.stdout] == []


# --- examples/many_processes.py -------------------------------------------------------------------


def test_parts_of_a_job_are_redacted_in_several_processes(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    s3: Any,
    bucket: str,
    server: LocalServer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for number in range(4):
        s3.put_object(Bucket=bucket, Key=f"notes/{number}", Body=b"Patient: Ada Example")
    clock.sleep(2)
    job = client.submit(request_)
    job.wait()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)

    done = run(sys.executable, str(EXAMPLES / "many_processes.py"), job.job_id, cwd=tmp_path)

    assert done.stdout == "5 notes were redacted in 2 parts\n"

"""SOURCE, DESTINATION, the redacted copies and the review page must stay separate."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import KEY, NOTE, REDACTED, Run, Shell


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Folders of notes, and links to them."""
    (tmp_path / "notes" / "notes").mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    (tmp_path / "x.txt").write_text("Patient: Ada Original")
    (tmp_path / "shared" / "original.txt").write_text("Patient: Ada Original")
    (tmp_path / "notes" / "notes" / "x.txt").write_bytes(NOTE.encode())
    (tmp_path / "notes" / "link.txt").symlink_to(tmp_path / "shared" / "original.txt")
    (tmp_path / "second-name.txt").hardlink_to(tmp_path / "shared" / "original.txt")
    (tmp_path / "link").symlink_to("notes")
    (tmp_path / "above").symlink_to(".")
    return tmp_path


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # A copy would replace a note beside or above SOURCE.
        ("notes ../out --redact .", "SOURCE must not be in --redact"),
        ("notes ../out --redact above", "SOURCE must not be in --redact"),
        ("notes ../out --redact notes/..", "SOURCE must not be in --redact"),
        ("notes ../out --redact new/..", "SOURCE must not be in --redact"),
        ("notes .", "SOURCE must not be in DESTINATION"),
        # The next run would read it as a note.
        ("notes out --redact notes", "SOURCE and --redact must not be the same path"),
        ("notes link", "SOURCE and DESTINATION must not be the same path"),
        ("link notes", "SOURCE and DESTINATION must not be the same path"),
        ("notes link/new/out", "DESTINATION must not be in SOURCE"),
        ("link out --review notes/new/page.html", "--review must not be in SOURCE"),
        # The redacted copies would lie beside files that quote notes.
        ("notes out --redact out", "DESTINATION and --redact must not be the same path"),
        ("notes out/x --redact out", "DESTINATION must not be in --redact"),
        ("notes out --redact out/x", "--redact must not be in DESTINATION"),
        ("notes above/out --redact ./new/../out/x", "--redact must not be in DESTINATION"),
        ("notes out --redact red --review red/x.txt", "--review must not be in --redact"),
        ("notes out --redact red --review red", "--review and --redact must not be the same"),
        ("notes out --redact red/x.txt --review red", "--redact must not be in --review"),
        ("notes out --review out/page.html", "--review must not be in DESTINATION"),
        ("notes page --review page", "DESTINATION and --review must not be the same path"),
        # The note is elsewhere, and a link to it is in SOURCE.
        ("notes out --redact shared", "link.txt must not be in --redact"),
        ("notes shared", "link.txt must not be in DESTINATION"),
        ("notes out --review shared/original.txt", "link.txt and --review must not be the same"),
        # Two names of one file, as on a file system that ignores case.
        ("notes out --review second-name.txt", "link.txt and --review must not be the same"),
    ],
)
def test_a_local_job_is_refused_if_two_paths_overlap(
    arguments: str, says: str, run: Run, here: Path
) -> None:
    before = tree(here)
    source, destination, *options = arguments.split()
    places = [path if path.startswith("--") else str(here / path) for path in options]

    done = run("detect", "--local", str(here / source), str(here / destination), *places)

    assert (done.code, done.out) == (2, "")
    assert says in done.error
    assert tree(here) == before


@pytest.mark.parametrize("review", ["red", "red/x.txt", "red/../red/new/page.html"])
def test_a_job_at_aws_is_refused_if_the_page_is_among_the_copies(
    review: str, run: Run, shell: Shell, endpoint: tuple[str, str]
) -> None:
    jobs = shell.server.service.job_ids
    start = shell.start("good", "--kms-key", KEY, "--redact", "red", "--review", review)

    done = run("detect", *start, *endpoint)

    assert (done.code, done.out) == (2, "")
    assert "--review" in done.error
    assert "--redact" in done.error
    assert shell.server.service.job_ids == jobs
    assert not (shell.home / "red").exists()


def test_neighbors_are_separate_and_a_run_can_be_repeated(run: Run, here: Path) -> None:
    command = f"detect --local {here}/notes {here}/notes-out --redact {here}/notes-red"
    options = f" --review {here}/notes-red.html"

    for _ in range(2):
        assert run(*(command + options).split()).code == 0
    assert (here / "notes-red" / "notes" / "x.txt").read_bytes() == REDACTED.encode()
    assert (here / "x.txt").read_text() == "Patient: Ada Original"

"""`detect --local`: folders and the local service, without AWS."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from comprehend_phi.cli.exits import Exit
from comprehend_phi.cli.notes import find_notes, read_note

from .conftest import AS_ORDINARY_USER, NOTE, REDACTED, Done, Run, Shell, broken_link


@pytest.fixture(scope="module")
def local(shell: Shell, notes: Path) -> Done:
    """A local run on a machine whose AWS settings lead elsewhere or nowhere."""
    nowhere = "http://127.0.0.1:9"
    files = ("--redact", "local/redacted", "--review", "local/review.html")
    return shell.run(
        "detect",
        "--local",
        str(notes),
        "local/out",
        *files,
        AWS_PROFILE="nobody",
        AWS_ENDPOINT_URL=nowhere,
        AWS_ENDPOINT_URL_S3=nowhere,
        HTTP_PROXY=nowhere,
        http_proxy=nowhere,
        AWS_DEFAULT_REGION="",
        AWS_ACCESS_KEY_ID="",
        PYTHONWARNINGS="error",
    )


def test_a_local_job_needs_nothing_from_aws(local: Done) -> None:
    assert local.code == 0
    assert local.out.startswith("6 entities in 2 documents\n")


def test_a_local_job_writes_the_files_that_aws_would_write(local: Done, shell: Shell) -> None:
    [folder] = (shell.home / "local" / "out").iterdir()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert re.fullmatch(r"123456789012-PHIDetection-[0-9a-f]{32}", folder.name)
    assert files == {
        "Manifest",
        "one.txt.out",
        "ward 3/Äpfel/100% #2.txt.out",
        f"Manifest_{folder.name}/success/files",
        f"Manifest_{folder.name}/failed/files",
    }


def test_only_the_owner_can_read_the_output_of_a_local_job(local: Done, shell: Shell) -> None:
    out = shell.home / "local" / "out"
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in out.rglob("*")}

    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert modes == {(True, 0o700), (False, 0o600)}


def test_a_local_job_writes_redacted_copies_and_a_page(local: Done, shell: Shell) -> None:
    copies = shell.home / "local" / "redacted"

    for name in ("one.txt", "ward 3/Äpfel/100% #2.txt"):
        assert (copies / name).read_bytes() == REDACTED.encode()
    assert (shell.home / "local" / "review.html").is_file()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_its_folder(path: Path) -> None:
    path.symlink_to(".")


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def folders_below_1024_bytes(path: Path) -> None:
    for _ in range(5):
        path /= "f" * 204
    path.mkdir(parents=True)
    (path / "note.txt").touch()


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (broken_link, "ward 4", "ward 4 (a broken link)"),
        (link_to_itself, "ward 4", "ward 4 (Too many levels of symbolic links)"),
        (link_to_its_folder, "ward 4", "ward 4 (a link to a folder)"),
        (named_pipe, "ward 4", "ward 4 (not a regular file)"),
        (bound_socket, "ward 4", "ward 4 (not a regular file)"),
        (Path.touch, "ward\udcff", "ward\\udcff (the name is not UTF-8)"),
        (Path.touch, "ward\n4", "ward\\n4 (the name has a line break, which"),
        (folders_below_1024_bytes, "ward 4", "(the path is longer than the 1024 bytes of a key"),
    ],
)
def test_no_local_job_is_started_if_something_cannot_be_a_note(
    make: Callable[[Path], None], name: str, says: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "notes" / "ward 3").mkdir(parents=True)
    (tmp_path / "notes" / "ward 3" / "one.txt").write_bytes(NOTE.encode())
    make(tmp_path / "notes" / name)

    done = run("detect", "--local", str(tmp_path / "notes"), str(tmp_path / "out"))

    assert (done.code, done.out) == (1, "")
    assert done.error.startswith(
        f"No job was started. 1 path in SOURCE cannot be read as a note: {tmp_path / 'notes'}/"
    )
    assert says in done.error
    assert not (tmp_path / "out").exists()


def test_no_local_job_is_started_if_something_is_not_readable_for_the_user(
    shell: Shell, tmp_path: Path
) -> None:
    for name in ("may", "may not"):
        (tmp_path / "notes" / name).mkdir(parents=True)
        (tmp_path / "notes" / name / "one.txt").write_bytes(NOTE.encode())
    (tmp_path / "notes" / "may" / "two.txt").touch(0o000)
    (tmp_path / "notes" / "may not").chmod(0o000)
    command = ("detect", "--local", str(tmp_path / "notes"), "out of this", "--redact", "copies")
    done = shell.run(*command, python=AS_ORDINARY_USER)
    (tmp_path / "notes" / "may not").chmod(0o700)

    assert (done.code, done.out) == (1, "")
    assert done.error == (
        "No job was started. 2 paths in SOURCE cannot be read as a note:"
        f" {tmp_path}/notes/may not (Permission denied),"
        f" {tmp_path}/notes/may/two.txt (Permission denied)"
    )
    assert not (shell.home / "out of this").exists()
    assert not (shell.home / "copies").exists()


def test_a_local_job_reads_links_to_files_and_hidden_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes" / ".ward").mkdir(parents=True)
    (tmp_path / "elsewhere.txt").write_bytes(NOTE.encode())
    (tmp_path / "notes" / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
    (tmp_path / "notes" / ".ward" / ".one.txt").write_bytes(NOTE.encode())

    places = (str(tmp_path / "notes"), str(tmp_path / "out"), "--redact", str(tmp_path / "copies"))
    done = run("detect", "--local", *places)

    assert (done.code, done.out.splitlines()[0]) == (0, "6 entities in 2 documents")
    for name in ("linked.txt", ".ward/.one.txt"):
        assert (tmp_path / "copies" / name).read_bytes() == REDACTED.encode()
    assert not (tmp_path / "copies" / "linked.txt").is_symlink()


def test_20_unreadable_paths_are_named(tmp_path: Path) -> None:
    for number in range(24):
        broken_link(tmp_path / f"link-{number:02}")

    with pytest.raises(Exit) as refused:
        find_notes(tmp_path)

    assert refused.value.code == 1
    assert refused.value.lines[0].count("a broken link") == 20
    assert refused.value.lines[0].endswith("link-19 (a broken link) and 4 more")


def test_a_note_that_vanishes_before_it_is_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.txt").touch()
    [path] = find_notes(tmp_path).values()
    path.unlink()

    with pytest.raises(Exit, match=r"one\.txt \(No such file or directory\)"):
        read_note(path)

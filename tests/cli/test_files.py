"""Files that commands write: inside their folder, and never over links or devices."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from comprehend_phi.cli.files import Folder, path_below

from .conftest import AS_ORDINARY_USER, KEY, REDACTED, Run, Shell, broken_link


@pytest.mark.parametrize("name", ["../../out.txt", "a/../out.txt", "./out.txt"])
def test_redact_writes_nothing_outside_the_folder(
    name: str, shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    prefix = f"escape-{uuid4().hex}"
    shell.put(f"{prefix}/{name}")

    done = run("redact", shell.ended_job(prefix), str(tmp_path / "a" / "copies"), *endpoint)

    assert done.code == 1
    assert f"{prefix}/{name} (its key has no path inside the folder)" in done.error
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["/etc/out.txt", "a//out.txt", "a\0.txt"])
def test_a_name_has_no_path_if_it_would_be_outside_the_folder(name: str, tmp_path: Path) -> None:
    assert path_below(tmp_path, name) is None


def test_redact_does_not_follow_a_loop_of_links(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "ward 3").symlink_to("ward 3")

    done = run("redact", job_id, str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert done.error.startswith(f"1 file was not written below {tmp_path}: good/ward 3/two.txt (")


def test_redact_does_not_follow_a_link_out_of_the_folder(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "ward 3").symlink_to(tmp_path / "elsewhere")

    done = run("redact", job_id, str(tmp_path / "copies"), *endpoint)

    assert done.code == 1
    assert done.error == (
        f"1 file was not written below {tmp_path / 'copies'}:"
        " good/ward 3/two.txt (its key has no path inside the folder)"
    )
    assert (tmp_path / "copies" / "one.txt").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_redact_writes_what_it_can_and_names_the_keys_that_it_left_out(
    run: Run, endpoint: tuple[str, str], awkward_job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")

    done = run("redact", awkward_job_id, str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"2 redacted copies are in {tmp_path}\n")
    assert done.error.startswith(f"4 files were not written below {tmp_path}: ")
    for name in ("a.txt", "b/../c.txt", "x/y", f"{'Q' * 256}.txt"):
        assert f"awkward/{name} (" in done.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "x", "z.txt"]


@pytest.mark.parametrize("last", ["", ".", "..", "a\0b"])
def test_a_file_that_follows_another_one_in_its_folder_is_checked_too(
    last: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "copies", private=False)
    assert folder.write("one", "ward/one.txt", b"") is not None
    assert folder.write("two", f"ward/{last}", b"") is None
    assert "two (its key has no path inside the folder)" in str(folder.problem)
    assert folder.write("three", "ward/three.txt", b"3") == tmp_path / "copies/ward/three.txt"


def test_a_link_between_two_files_is_not_followed(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "copies", private=False)
    (tmp_path / "outside").mkdir()
    (tmp_path / "copies/linked").symlink_to(tmp_path / "outside")

    assert folder.write("one", "ward/one.txt", b"") is not None
    assert folder.write("two", "linked/two.txt", b"") is None
    assert folder.write("three", "ward/three.txt", b"") is not None
    assert list((tmp_path / "outside").iterdir()) == []


def test_no_path_is_written_twice_and_20_keys_are_named(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "copies", private=False)
    for number in range(24):
        folder.write(f"key-{number}", "one.txt", str(number).encode())

    assert (tmp_path / "copies" / "one.txt").read_text() == "0"
    error = str(folder.problem)
    assert error.startswith("23 files were not written below ")
    assert error.count("another key has the same path") == 20
    assert error.endswith("key-20 (another key has the same path) and 3 more")


def test_a_full_disk_ends_writing_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = Folder(tmp_path, private=False)
    (tmp_path / "one.txt").write_text("as it was")
    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(OSError, match="No space left"):
        folder.write("one.txt", "one.txt", b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one.txt": "as it was"}


def test_the_page_never_replaces_a_link(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").symlink_to(os.devnull)

    done = run("review", job_id, str(tmp_path / "page.html"), *endpoint)

    assert done.code == 2
    assert (tmp_path / "page.html").is_symlink()


def test_a_folder_that_cannot_be_written_fails_in_one_line(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    done = run("redact", job_id, str(tmp_path / "file"), *endpoint)

    assert done.code == 1
    assert str(tmp_path / "file") in done.error


@pytest.mark.parametrize(
    ("make", "says"),
    [(Path.touch, "not a folder"), (broken_link, "a broken link")],
)
@pytest.mark.parametrize("below", [".", "a/b"])
def test_no_job_is_started_if_a_folder_cannot_be_written(
    make: Callable[[Path], None],
    says: str,
    below: str,
    shell: Shell,
    run: Run,
    endpoint: tuple[str, str],
    tmp_path: Path,
) -> None:
    (tmp_path / "notes").mkdir()
    taken = tmp_path / "taken"
    make(taken)
    jobs = shell.server.service.job_ids
    start = ("detect", *shell.start("good", "--kms-key", KEY), *endpoint)
    local = ("detect", "--local", str(tmp_path / "notes"))
    folder = str(taken / below)
    commands = {
        "--redact": (*start, "--redact", folder),
        "--review": (*start, "--review", f"{folder}/page.html"),
        "DESTINATION": (*local, folder),
        "FOLDER": ("redact", "1", folder),
        "FILE": ("review", "1", f"{folder}/page.html"),
    }

    for option, command in commands.items():
        done = run(*command)
        assert (done.code, done.out) == (1, "")
        assert done.error.startswith(f"{option} cannot be written. {folder}: ")
        assert says in done.error or "Not a directory" in done.error
    assert shell.server.service.job_ids == jobs


def test_no_job_is_started_if_a_folder_is_not_writable_for_the_user(
    shell: Shell, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    before = shell.server.service.job_ids
    options = ("--kms-key", KEY, "--redact", str(tmp_path / "a" / "b"))
    command = ("detect", *shell.start("good", *options), "--endpoint-url", shell.url)
    done = shell.run(*command, python=AS_ORDINARY_USER)
    tmp_path.chmod(0o700)

    assert done.code == 1
    assert done.err == (
        f"comprehend-phi: --redact cannot be written. {tmp_path}/a/b: Permission denied\n"
    )
    assert shell.server.service.job_ids == before


def test_a_uri_instead_of_a_folder_creates_nothing_and_starts_nothing(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    jobs, files = shell.server.service.job_ids, set(shell.home.rglob("*"))
    uri = f"s3://{shell.bucket}/copies"
    start = ("detect", *shell.start("good", "--kms-key", KEY))
    commands = (
        (*start, "--redact", uri),
        (*start, "--review", uri),
        ("redact", job_id, uri),
        ("review", job_id, uri),
    )

    assert [run(*command, *endpoint).code for command in commands] == [2, 2, 2, 2]
    assert shell.server.service.job_ids == jobs
    assert set(shell.home.rglob("*")) == files


def test_a_local_folder_may_be_named_like_a_scheme(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    assert run("redact", job_id, "./s3:/copies", *endpoint).code == 0
    assert (shell.home / "s3:" / "copies" / "one.txt").read_bytes() == REDACTED.encode()

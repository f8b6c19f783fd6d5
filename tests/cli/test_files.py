"""Files that commands write: inside their folder, and never over links or devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from .conftest import AS_ORDINARY_USER, KEY, REDACTED, Run, Shell, broken_link


@pytest.mark.parametrize("name", ["../../out.txt", "a/../out.txt", "./out.txt"])
def test_redact_writes_nothing_outside_the_folder(
    name: str, shell: Shell, run: Run, endpoint: tuple[str, str], tmp_path: Path
) -> None:
    prefix = f"escape-{uuid4().hex}"
    shell.put(f"{prefix}/{name}")

    done = run("redact", shell.ended_job(prefix), str(tmp_path / "a" / "copies"), *endpoint)

    assert done.code == 1
    assert done.failed == {f"{prefix}/{name}": "CopyError: it has no path inside the folder"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_redact_does_not_follow_a_loop_of_links(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "ward 3").symlink_to("ward 3")

    done = run("redact", job_id, str(tmp_path), *endpoint)

    assert (done.code, done.out) == (1, f"1 redacted copy is in {tmp_path}\n")
    assert done.failed == {
        "good/ward 3/two.txt": "CopyError: a folder on its path is a link or a file"
    }


def test_redact_does_not_follow_a_link_out_of_the_folder(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "ward 3").symlink_to(tmp_path / "elsewhere")

    done = run("redact", job_id, str(tmp_path / "copies"), *endpoint)

    assert done.code == 1
    assert done.failed == {
        "good/ward 3/two.txt": "CopyError: a folder on its path is a link or a file"
    }
    assert (tmp_path / "copies" / "one.txt").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_redact_writes_what_it_can_and_names_the_keys_that_it_left_out(
    run: Run, endpoint: tuple[str, str], awkward_job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "elsewhere")

    done = run("redact", awkward_job_id, str(tmp_path), "--json", *endpoint)

    assert (done.code, done.error) == (1, "4 notes could not be delivered")
    # Of the notes `x` and `x/y`, only one can have a copy.
    [one_of_two] = done.failed.keys() & {"awkward/x", "awkward/x/y"}
    assert done.failed.keys() - {one_of_two} == {
        f"awkward/{name}" for name in ("a.txt", "b/../c.txt", f"{'Q' * 256}.txt")
    }
    assert [each["failed"]["input_key"] for each in done.lines if "failed" in each] == list(
        done.failed
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "x", "z.txt"]


def test_redact_replaces_the_files_of_an_earlier_run(
    run: Run, endpoint: tuple[str, str], job_id: str, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("as it was")

    assert run("redact", job_id, str(tmp_path), *endpoint).code == 0
    assert (tmp_path / "one.txt").read_bytes() == REDACTED.encode()


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
        ("redact", job_id, uri.replace("//", "")),
        ("redact", job_id, "s3://"),
        ("review", job_id, uri),
    )

    assert [run(*command, *endpoint).code for command in commands] == [2, 2, 2, 2, 2]
    assert shell.server.service.job_ids == jobs
    assert set(shell.home.rglob("*")) == files


def test_a_local_folder_may_be_named_like_a_scheme(
    shell: Shell, run: Run, endpoint: tuple[str, str], job_id: str
) -> None:
    assert run("redact", job_id, "./s3:/copies", *endpoint).code == 0
    assert (shell.home / "s3:" / "copies" / "one.txt").read_bytes() == REDACTED.encode()

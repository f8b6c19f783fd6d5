"""Local files that are complete or absent."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from comprehend_phi._whole_file import whole_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_the_file_appears_at_the_end_with_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o644)

    with whole_file(path, mode=mode) as file:
        file.write(b"after")
        file.flush()
        assert path.read_bytes() == b"before"
        [part] = [each for each in tmp_path.iterdir() if each != path]
        assert re.fullmatch(r"\.comprehend-phi-[0-9a-f]{16}", part.name)
        assert stat.S_IMODE(part.stat().st_mode) == mode

    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write() -> None:
        with whole_file(path, mode=0o600) as file:
            file.write(b"after")
            raise error

    with pytest.raises(error):
        write()

    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("sync", "sizes"), [(True, [5]), (False, [])])
def test_with_sync_the_content_is_on_disk_before_the_file_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, sizes: list[int]
) -> None:
    path = tmp_path / "file"
    synced: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        assert not path.exists()
        fsync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", recorded)
    with whole_file(path, mode=0o600, sync=sync) as file:
        file.write(b"after")

    assert synced == sizes


def test_a_file_that_must_not_be_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path, mode=0o600, replaces=False) as file:
        file.write(b"first")

    with pytest.raises(FileExistsError), whole_file(path, mode=0o600, replaces=False) as file:
        file.write(b"second")

    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def a_link(path: Path) -> None:
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, a_link])
def test_only_a_regular_file_is_replaced(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.lstat()

    with pytest.raises(FileExistsError) as caught, whole_file(path, mode=0o600):
        pass

    assert caught.value.filename == str(path)
    assert path.lstat().st_ino == before.st_ino
    assert names(tmp_path) == ["file"]


def test_the_error_about_a_missing_folder_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"

    with pytest.raises(FileNotFoundError) as caught, whole_file(path, mode=0o600):
        pass

    assert caught.value.filename == str(path)

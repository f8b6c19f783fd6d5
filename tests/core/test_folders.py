"""Files in a local folder: inside it, whole or not at all, and never over links or other files."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comprehend_phi._folders import Folder, NotWrittenError, is_inside, same_path


def refusal(folder: Folder, name: str, content: bytes = b"new") -> str:
    """Return why the folder does not take a file."""
    with pytest.raises(NotWrittenError) as caught:
        folder.write(name, content)
    return str(caught.value)


def files_below(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a" / "copies"


@pytest.fixture
def folder(root: Path) -> Folder:
    return Folder(root, private=True, replaces=False)


@pytest.fixture
def replacing(root: Path) -> Folder:
    return Folder(root, private=True, replaces=True)


# --- Where files are ------------------------------------------------------------------------------


def test_a_file_has_its_path_below_the_folder(folder: Folder, root: Path) -> None:
    assert folder.write("ward/3/one.txt", b"1")
    assert folder.write("two.txt", b"2")
    assert files_below(root) == {"ward/3/one.txt": b"1", "two.txt": b"2"}


def test_the_folder_is_created_with_the_folders_around_it(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b" / "copies"
    Folder(root, private=True, replaces=False)
    assert root.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../out.txt",
        "../../out.txt",
        "a/../out.txt",
        "./out.txt",
        "/etc/out.txt",
        "a//out.txt",
        "a/",
        "a/.",
        "a\0.txt",
        "a\0b/c.txt",
    ],
)
def test_a_name_without_a_path_inside_the_folder_is_refused(
    name: str, folder: Folder, tmp_path: Path
) -> None:
    assert refusal(folder, name) == "it has no path inside the folder"
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", folder.root]


def test_names_are_checked_in_a_folder_that_is_known_already(folder: Folder, root: Path) -> None:
    folder.write("ward/one.txt", b"1")
    for last in ("", ".", "..", "a\0b"):
        assert refusal(folder, f"ward/{last}") == "it has no path inside the folder"
    assert files_below(root) == {"ward/one.txt": b"1"}


@pytest.mark.parametrize("target", [".", "outside", "gone", "linked"])
def test_a_link_to_a_folder_is_not_followed(
    target: str, folder: Folder, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (root / "linked").symlink_to(tmp_path / "outside" if target == "outside" else target)

    for _ in range(2):
        reason = "a folder on its path is a link or a file"
        assert refusal(folder, "linked/below/one.txt") == reason
    assert files_below(tmp_path) == {}


def test_a_file_on_the_way_to_a_file_is_refused(folder: Folder) -> None:
    folder.write("ward", b"1")

    assert refusal(folder, "ward/one.txt") == "a folder on its path is a link or a file"


def broken_link(path: Path) -> None:
    path.symlink_to("gone")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, broken_link])
def test_only_files_are_replaced(
    make: Callable[[Path], None], replacing: Folder, folder: Folder, root: Path
) -> None:
    make(root / "one.txt")
    before = (root / "one.txt").lstat()

    for each in (replacing, folder):
        assert refusal(each, "one.txt") == "there is something else than a file with this name"
    assert (root / "one.txt").lstat() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("\ud800.txt", "no file can have this name"),
        ("\ud800/one.txt", "no file can have this name"),
        ("Q" * 300, os.strerror(errno.ENAMETOOLONG)),
    ],
)
def test_a_name_that_the_file_system_refuses_is_refused(
    name: str, reason: str, folder: Folder
) -> None:
    assert refusal(folder, name) == reason


# --- Files that are there already -----------------------------------------------------------------


def test_a_file_with_the_same_content_counts_as_written(folder: Folder, root: Path) -> None:
    (root / "one.txt").write_bytes(b"same")
    before = (root / "one.txt").stat().st_ino

    assert not folder.write("one.txt", b"same")
    assert (root / "one.txt").stat().st_ino == before


def test_each_file_of_an_earlier_run_counts_as_written(folder: Folder, root: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (root / name).write_bytes(b"same")

    assert not folder.write("one.txt", b"same")
    assert not folder.write("two.txt", b"same")


def test_a_file_that_counts_as_written_is_not_written_again(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    (root / "one.txt").write_bytes(b"same")
    monkeypatch.setattr(os, "write", fail(errno.ENOSPC))

    assert not folder.write("one.txt", b"same")


@pytest.mark.parametrize("content", [b"", b"other", b"longer than before"])
def test_a_file_with_other_content_stays(content: bytes, folder: Folder, root: Path) -> None:
    (root / "one.txt").write_bytes(b"as is")

    reason = "there is another file with this name, which was not replaced"
    assert refusal(folder, "one.txt", content) == reason
    assert files_below(root) == {"one.txt": b"as is"}


def test_a_file_of_an_earlier_run_is_replaced_on_request(replacing: Folder, root: Path) -> None:
    (root / "one.txt").write_bytes(b"as it was")
    (root / "one.txt").chmod(0o644)

    assert replacing.write("one.txt", b"new")
    assert files_below(root) == {"one.txt": b"new"}
    assert stat.S_IMODE((root / "one.txt").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"1", b"2"])
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_two_names_never_share_a_file(
    content: bytes, replaces: bool, earlier: bool, root: Path
) -> None:
    if earlier:
        Folder(root, private=True, replaces=False).write("one.txt", b"1")
    folder = Folder(root, private=True, replaces=replaces)
    folder.write("one.txt", b"1")

    # A file system that ignores case gives two names one file, as a link does.
    (root / "ONE.txt").hardlink_to(root / "one.txt")
    assert refusal(folder, "ONE.txt", content) == "another note has the same path"
    assert (root / "ONE.txt").read_bytes() == b"1"


@pytest.mark.parametrize("replaces", [False, True])
def test_of_many_threads_only_one_writes_a_name(replaces: bool, root: Path) -> None:
    folder = Folder(root, private=True, replaces=replaces)
    start = threading.Barrier(8)
    written: list[bytes] = []

    def write(content: bytes) -> None:
        start.wait()
        for number in range(20):
            try:
                folder.write(f"{number}.txt", content)
                written.append(b"%d:%b" % (number, content))
            except NotWrittenError as error:
                assert "another note has the same path" in str(error)  # noqa: PT017 - in a thread

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = {path.name: path.read_bytes() for path in root.iterdir()}
    assert sorted(written) == sorted(
        b"%b:%b" % (name.removesuffix(".txt").encode(), content) for name, content in found.items()
    )
    assert len(written) == 20


# --- Whole or not at all --------------------------------------------------------------------------


def fail(number: int) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return function


def test_only_the_owner_can_read_private_files(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def fsync(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    folder.write("ward/one.txt", b"1")

    paths = [root, root / "ward", root / "ward/one.txt"]
    assert modes == [0o600]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o700, 0o700, 0o600]


def test_the_umask_decides_who_can_read_other_files(root: Path) -> None:
    before = os.umask(0)
    try:
        Folder(root, private=False, replaces=False).write("ward/one.txt", b"1")
    finally:
        os.umask(before)

    paths = [root, root / "ward", root / "ward/one.txt"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o777, 0o777, 0o666]


def test_a_file_is_written_in_the_folder_in_which_it_appears(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    contents: list[bytes] = []

    def fsync(_: int) -> None:
        contents.extend(files_below(root / "ward").values())

    monkeypatch.setattr(os, "fsync", fsync)
    folder.write("ward/one.txt", b"1")
    assert contents == [b"1"]


def test_a_file_that_cannot_be_created_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Folder
) -> None:
    monkeypatch.setattr(os, "open", fail(errno.EACCES))
    assert refusal(folder, "one.txt") == os.strerror(errno.EACCES)


def test_a_full_disk_ends_writing_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, replacing: Folder, root: Path
) -> None:
    (root / "one.txt").write_text("as it was")
    monkeypatch.setattr(os, "replace", fail(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        replacing.write("one.txt", b"new")
    assert files_below(root) == {"one.txt": b"as it was"}


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        folder.write("one.txt", b"new")
    assert files_below(root) == {}


def test_a_file_that_another_program_writes_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    link = os.link

    def late(part: str, path: str) -> None:
        Path(path).write_bytes(b"theirs")
        link(part, path)

    monkeypatch.setattr(os, "link", late)
    assert refusal(folder, "one.txt") == os.strerror(errno.EEXIST)
    assert files_below(root) == {"one.txt": b"theirs"}


def test_a_file_that_another_thread_writes_meanwhile_counts_once(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    fsync = os.fsync

    def late(descriptor: int) -> None:
        (root / "one.txt").write_bytes(b"new")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", late)
    assert not folder.write("one.txt", b"new")
    assert files_below(root) == {"one.txt": b"new"}


def test_a_file_system_without_hard_links_gets_files_too(
    monkeypatch: pytest.MonkeyPatch, folder: Folder, root: Path
) -> None:
    monkeypatch.setattr(os, "link", fail(errno.EPERM))

    assert folder.write("one.txt", b"new")
    assert files_below(root) == {"one.txt": b"new"}


# --- Paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same", "inside"),
    [
        ("a", "a", True, False),
        ("a", "a/.", True, False),
        ("link", "a", True, False),
        ("a/b/c", "a", False, True),
        ("link/b", "a", False, True),
        ("gone/b", "gone", False, True),
        ("ab", "a", False, False),
        ("a", "a/b", False, False),
    ],
)
def test_paths_are_compared_without_links(
    one: str, other: str, same: bool, inside: bool, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")

    assert same_path(tmp_path / one, tmp_path / other) is same
    assert is_inside(tmp_path / one, tmp_path / other) is inside

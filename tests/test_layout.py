"""Where a job's files lie: what the manifest and its lists may call them, and the keys meant."""

from __future__ import annotations

import pytest

from comprehend_phi._layout import Layout, find_folder, folder_key

JOB_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
NAME = f"123456789012-PHIDetection-{JOB_ID}"

# The folders that output keys of no, one and two parts lead to.
FOLDERS = [f"{NAME}/", f"out/{NAME}/", f"out/monday/{NAME}/"]


@pytest.mark.parametrize(("key", "folder"), [("", ""), ("out", "out/"), ("out/", "out/")])
def test_a_key_becomes_that_of_a_folder(key: str, folder: str) -> None:
    assert folder_key(key) == folder


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("end", ["", "/"])
def test_an_output_key_that_is_the_jobs_folder_is_taken_as_it_is(folder: str, end: str) -> None:
    def folders(_key: str) -> list[str]:
        raise AssertionError("nothing is to be looked for")

    assert find_folder(JOB_ID, folder[:-1] + end, folders) == folder


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_that_the_output_key_does_not_show_is_looked_for(folder: str, end: str) -> None:
    below = folder.removesuffix(f"{NAME}/")
    asked: list[str] = []

    def folders(key: str) -> list[str]:
        asked.append(key)
        return [f"{below}older/", f"{below}{NAME}1/", folder]

    assert find_folder(JOB_ID, below.rstrip("/") + end if below else "", folders) == folder
    assert asked == [below]


def test_a_folder_that_is_nowhere_is_none() -> None:
    assert find_folder(JOB_ID, "out", lambda key: [f"{key}older/"]) is None


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_lists_lie_in_a_folder_that_repeats_the_name(folder: str) -> None:
    assert Layout(folder, "notes").lists_folder == f"{folder}Manifest_{NAME}/"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", ["a.txt.out", "ward/a.txt.out", f"Manifest_{NAME}/success/1"])
def test_the_manifest_may_name_a_file_in_four_ways(folder: str, name: str) -> None:
    layout, key = Layout(folder, "notes"), folder + name
    for called in (key, f"/{key}", f"s3://bucket.example/{key}", f"{NAME}/{name}", name):
        assert layout.key_of(called) == key, called


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_document_is_told_from_a_list_and_from_the_manifest(folder: str) -> None:
    layout = Layout(folder, "notes")
    assert layout.is_output(f"{folder}ward/a.txt.out")
    assert not layout.is_output(f"{folder}Manifest")
    assert not layout.is_output(f"{layout.lists_folder}success/1.out")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("input_key", ["", "notes", "notes/", "notes/2026"])
@pytest.mark.parametrize("path", ["a.txt", "ward/a.txt"])
def test_a_document_repeats_the_path_of_its_file(folder: str, input_key: str, path: str) -> None:
    layout = Layout(folder, input_key)
    file = f"{folder_key(input_key)}{path}"
    document = f"{folder}{path}.out"
    assert layout.path_of(document) == path
    for called in (file, f"s3://bucket.example/{file}", path):
        assert layout.output_key_of(called) == document, called
        assert layout.input_key_of(called, only=False) == file, called
        assert layout.input_key_of(called, output_key=document, only=False) == file, called


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("input_key", ["a.txt", "notes/a.txt", "notes/2026/a.txt"])
def test_an_input_key_may_name_the_one_file(folder: str, input_key: str) -> None:
    layout = Layout(folder, input_key)
    assert layout.output_key_of(input_key) == f"{folder}a.txt.out"
    for called in (input_key, f"s3://bucket.example/{input_key}", "a.txt"):
        assert layout.input_key_of(called, only=True) == input_key, called


def test_a_folder_may_be_named_like_a_file_in_it() -> None:
    layout = Layout(f"out/{NAME}/", "notes/a.txt")
    assert layout.input_key_of("a.txt", only=False) == "notes/a.txt/a.txt"
    assert layout.input_key_of("a.txt", only=True) == "notes/a.txt"


def test_a_path_that_begins_like_the_input_key_is_told_from_a_key_by_its_document() -> None:
    layout = Layout(f"out/{NAME}/", "notes")
    key = "notes/a.txt"
    assert layout.input_key_of(key, output_key=f"out/{NAME}/a.txt.out", only=False) == key
    assert (
        layout.input_key_of(key, output_key=f"out/{NAME}/notes/a.txt.out", only=False)
        == "notes/notes/a.txt"
    )

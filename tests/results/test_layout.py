"""Where a job's files are: the keys that names in the manifest and its lists may mean."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from comprehend_phi._keys import folder_key
from comprehend_phi._results.layout import Layout, find_folder, folder_of_outputs

JOB_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
NAME = f"123456789012-PHIDetection-{JOB_ID}"

# Job folders for output keys with no, one and two parts, and for keys with a leading slash.
FOLDERS = [f"{NAME}/", f"out/{NAME}/", f"out/monday/{NAME}/", f"/{NAME}/", f"/out/{NAME}/"]
INPUT_KEYS = ["", "notes", "notes/", "notes/2026", "/", "/notes", "/notes/", "//", "n//"]


@pytest.mark.parametrize(
    ("key", "folder"),
    [("", ""), ("out", "out/"), ("out/", "out/"), ("/", "/"), ("/out", "/out/"), ("//", "//")],
)
def test_a_key_becomes_a_folder_key(key: str, folder: str) -> None:
    assert folder_key(key) == folder


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("end", ["", "/"])
def test_an_output_key_that_is_the_job_folder_is_used(folder: str, end: str) -> None:
    def folders(_key: str) -> list[str]:
        raise AssertionError("nothing should be searched for")

    assert find_folder(JOB_ID, folder[:-1] + end, folders) == folder


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("end", ["", "/"])
def test_a_job_folder_that_the_output_key_does_not_show_is_searched_for(
    folder: str, end: str
) -> None:
    below = folder.removesuffix(f"{NAME}/")
    asked: list[str] = []

    def folders(key: str) -> list[str]:
        asked.append(key)
        return [f"{below}older/", f"{below}{NAME}1/", folder]

    shown = below if below in {"", "/"} else below[:-1] + end
    assert find_folder(JOB_ID, shown, folders) == folder
    assert asked == [below]


def test_a_missing_job_folder_is_none() -> None:
    assert find_folder(JOB_ID, "out", lambda key: [f"{key}older/"]) is None


def layout_of(folder: str, input_key: str) -> Layout:
    return Layout(folder, input_bucket="notes.example", input_key=input_key)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folder_of_the_lists_repeats_the_name_of_the_job_folder(folder: str) -> None:
    assert layout_of(folder, "notes").lists_folder == f"{folder}Manifest_{NAME}/"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", ["a.txt.out", "ward/a.txt.out", f"Manifest_{NAME}/success/1"])
def test_the_manifest_may_name_a_file_in_four_ways(folder: str, name: str) -> None:
    layout, key = layout_of(folder, "notes"), folder + name
    for called in (key, f"/{key}", f"s3://bucket.example/{key}", f"{NAME}/{name}", name):
        assert layout.keys_of(called) == [key], called


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_leading_slash_is_first_read_literally(folder: str) -> None:
    layout = layout_of(folder, "notes")
    assert layout.keys_of("/a.txt.out") == [f"{folder}/a.txt.out", f"{folder}a.txt.out"]
    assert layout.keys_of("//a.txt.out") == [f"{folder}//a.txt.out", f"{folder}/a.txt.out"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_lists_and_the_manifest_are_no_documents(folder: str) -> None:
    layout = layout_of(folder, "notes")
    assert layout.is_output(f"{folder}ward/a.txt.out")
    assert not layout.is_output(f"{folder}Manifest")
    assert not layout.is_output(f"{layout.lists_folder}success/1.out")


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("input_key", INPUT_KEYS)
@pytest.mark.parametrize("path", ["a.txt", "ward/a.txt", "/a.txt", "ward//a.txt", "/", "//"])
def test_a_document_repeats_the_path_of_its_note(folder: str, input_key: str, path: str) -> None:
    layout = layout_of(folder, input_key)
    file = f"{folder_key(input_key)}{path}"
    document = f"{folder}{path}.out"
    assert layout.output_key_of(file) == document
    assert layout.input_key_of(document, only=False) == file
    for called in (file, f"s3://notes.example/{file}", path):
        assert layout.pairs_of(called, document, only=False) == [(file, document)], called


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("input_key", ["a.txt", "notes/a.txt", "/a.txt", "/notes/2026/a.txt"])
def test_an_input_key_may_be_a_single_file(folder: str, input_key: str) -> None:
    layout = layout_of(folder, input_key)
    document = f"{folder}a.txt.out"
    assert layout.output_key_of(input_key) == document
    assert layout.input_key_of(document, only=True) == input_key
    for called in (input_key, f"s3://notes.example/{input_key}", "a.txt"):
        assert layout.pairs_of(called, document, only=True)[0] == (input_key, document), called


def test_a_folder_may_have_the_name_of_a_file_in_it() -> None:
    layout = layout_of(f"out/{NAME}/", "notes/a.txt")
    document = f"out/{NAME}/a.txt.out"
    for only, key in ((False, "notes/a.txt/a.txt"), (True, "notes/a.txt")):
        assert layout.input_keys_of("a.txt", only=only)[0] == key
        assert layout.input_key_of(document, only=only) == key


def test_the_document_decides_between_a_key_and_a_path_that_begins_like_the_input_key() -> None:
    layout = layout_of(f"out/{NAME}/", "notes")
    for document, key in (("a.txt", "notes/a.txt"), ("notes/a.txt", "notes/notes/a.txt")):
        pair = (key, f"out/{NAME}/{document}.out")
        assert layout.pairs_of("notes/a.txt", pair[1], only=False) == [pair]


def test_the_document_decides_whether_a_leading_slash_is_part_of_the_key() -> None:
    layout = layout_of(f"out/{NAME}/", "")
    for document, key in (("a.txt", "a.txt"), ("/a.txt", "/a.txt")):
        pair = (key, f"out/{NAME}/{document}.out")
        assert layout.pairs_of("/a.txt", pair[1], only=False) == [pair]


def test_a_uri_of_another_bucket_is_read_as_a_path() -> None:
    layout = layout_of(f"{NAME}/", "notes")
    assert layout.input_keys_of("s3://other.example/notes/a.txt", only=False) == [
        "notes/s3://other.example/notes/a.txt"
    ]


def test_a_document_that_repeats_no_path_gets_the_most_literal_reading() -> None:
    layout = layout_of(f"{NAME}/", "notes")
    assert layout.pairs_of("notes/a.txt", "odd", only=False) == [("notes/a.txt", f"{NAME}/odd")]


# --- Any keys -------------------------------------------------------------------------------------

# Mostly slashes, dots and beginnings of this file's keys, where readings could collide.
keys = st.text(st.sampled_from("//.an"), min_size=1, max_size=6) | st.text(min_size=1, max_size=9)
input_keys = st.sampled_from(INPUT_KEYS) | keys
folders = st.sampled_from(FOLDERS)


@given(folder=folders, input_key=input_keys, paths=st.sets(keys, min_size=2, max_size=2))
def test_two_notes_never_share_a_document(folder: str, input_key: str, paths: set[str]) -> None:
    layout = layout_of(folder, input_key)
    assert len({layout.output_key_of(folder_key(input_key) + path) for path in paths}) == 2


@given(folder=folders, input_key=input_keys, path=keys)
def test_every_note_is_found_by_its_key_and_its_documents_key(
    folder: str, input_key: str, path: str
) -> None:
    layout = layout_of(folder, input_key)
    for source in (folder_key(input_key) + path, input_key or path):
        pair = (source, layout.output_key_of(source))
        assert layout.pairs_of(*pair, only=False)[0] == pair


@given(
    folder=folders,
    input_key=input_keys,
    path=keys,
    spelling=st.sampled_from(["{key}", "{path}", "/{key}", "/{path}", "s3://notes.example/{key}"]),
    document_spelling=st.sampled_from(["{key}", "/{key}", "s3://results.example/{key}"]),
)
def test_every_note_is_found_in_each_spelling_of_a_list(
    folder: str, input_key: str, path: str, spelling: str, document_spelling: str
) -> None:
    layout = layout_of(folder, input_key)
    key, document = folder_key(input_key) + path, f"{folder}{path}.out"
    entry = spelling.format(key=key, path=path), document_spelling.format(key=document)
    assume(input_key not in {*entry, entry[0][1:]})  # otherwise the name is the file itself
    assert layout.pairs_of(*entry, only=False) == [(key, document)]


@pytest.mark.parametrize(
    ("output_key", "folder"),
    [
        ("results/123456789012-PHIDetection-0123/", "results/"),
        ("a/b/123456789012-PHIDetection-0123", "a/b/"),
        ("123456789012-PHIDetection-0123/", "123456789012-PHIDetection-0123/"),
        ("results", "results/"),
        ("", ""),
    ],
)
def test_the_folder_of_outputs_is_the_one_around_the_folder_of_the_job(
    output_key: str, folder: str
) -> None:
    assert folder_of_outputs(output_key) == folder

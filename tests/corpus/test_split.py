"""Splitting a listing into jobs: every file in exactly one job, and no job too large."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comprehend_phi._results.storage import ListedObject
from comprehend_phi.corpus import PlanError, ServiceLimits
from comprehend_phi.corpus.plan import add_hashes, hash_file, hash_key
from comprehend_phi.corpus.split import Part, Splitter

SMALL = ServiceLimits(max_file_bytes=10, max_job_bytes=40, max_job_files=6)


def is_usable(file: ListedObject) -> bool:
    """Return whether AWS would process the file, as a check says."""
    return file.size <= SMALL.max_file_bytes and "//" not in f"/{file.key}"


def split(
    files: Iterable[ListedObject],
    *,
    folder: str = "",
    limits: ServiceLimits = SMALL,
    staged_key_bytes: int | None = 900,
    max_jobs: int = 1_000,
    keep_folders: bool = True,
) -> list[Part]:
    splitter = Splitter(
        folder,
        limits,
        staged_key_bytes=staged_key_bytes,
        max_jobs=max_jobs,
        keep_folders=keep_folders,
    )
    for file in files:
        splitter.add(file, is_usable=is_usable(file))
    return splitter.parts()


def files(*keys: str, size: int = 1) -> list[ListedObject]:
    return [ListedObject(key, size, None, '"etag"') for key in sorted(keys)]


def numbered(folder: str, count: int) -> list[str]:
    return [f"{folder}{number:03}.txt" for number in range(count)]


def shape(parts: list[Part]) -> list[tuple[str | None, int]]:
    return [(part.folder, part.everything.file_count) for part in parts]


def files_of(part: Part, listing: list[ListedObject]) -> list[ListedObject]:
    """Return the files of a part, as its job would find them."""
    if part.folder is not None:
        return [file for file in listing if file.key.startswith(part.folder)]
    first, last = part.everything.first_key, part.everything.last_key
    return [file for file in listing if first <= file.key <= last and is_usable(file)]


# Few names, so that folders share files and names begin alike.
names = st.text("ab-\U0001f600", min_size=1, max_size=2)
paths = st.lists(st.one_of(names, names, names, st.just("")), max_size=4).map(
    lambda folders: "".join(f"{name}/" for name in folders)
)
keys = st.tuples(paths, names).map("".join)
listings = st.dictionaries(keys, st.integers(0, 12), min_size=1, max_size=80).map(
    lambda sizes: [ListedObject(key, sizes[key], None, '"etag"') for key in sorted(sizes)]
)


@given(listings, st.booleans(), st.booleans())
def test_every_usable_file_is_in_exactly_one_job_and_no_job_is_too_large(
    listing: list[ListedObject], stages: bool, keep_folders: bool
) -> None:
    try:
        parts = split(
            listing,
            staged_key_bytes=900 if stages else None,
            keep_folders=keep_folders or not stages,
        )
    except PlanError:
        # Without staging, some corpora cannot be split. With it, there is always a plan.
        assert not stages or not any(map(is_usable, listing))
        return
    found: list[str] = []
    for part in parts:
        members, sums = files_of(part, listing), part.everything
        assert len(members) == sums.file_count <= SMALL.max_job_files
        assert sum(file.size for file in members) == sums.total_bytes <= SMALL.max_job_bytes
        assert (members[0].key, members[-1].key) == (
            sums.first_key,
            sums.last_key,
        )
        assert part.folder is None or "//" not in "".join(f"/{file.key}" for file in members)
        listing_sum = key_sum = 0
        for file in reversed(members):
            listing_sum = add_hashes(listing_sum, hash_file(file))
            key_sum = add_hashes(key_sum, hash_key(file.key))
        assert listing_sum == add_hashes(sums.listing_sum, 0)
        assert key_sum == add_hashes(sums.key_sum, 0)
        found += [file.key for file in members]
    assert len(found) == len(set(found))
    assert {file.key for file in listing if is_usable(file)} <= set(found)
    assert not stages or all(part.folder is None for part in parts) or keep_folders


@given(listings)
def test_neighboring_ranges_would_not_fit_into_one_job(listing: list[ListedObject]) -> None:
    if not any(map(is_usable, listing)):
        return
    parts = split(listing)
    for one, other in pairwise(parts):
        if one.folder is None and other.folder is None:
            count = one.everything.file_count + other.everything.file_count
            size = one.everything.total_bytes + other.everything.total_bytes
            assert count > SMALL.max_job_files or size > SMALL.max_job_bytes


def test_a_corpus_that_fits_is_one_job_without_copies() -> None:
    assert shape(split(files("a/1", "a/2", "b/1"))) == [("", 3)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # At least half full: no copies.
        ({"a/": 3, "b/": 4}, [("a/", 3), ("b/", 4)]),
        # Small ones are grouped.
        ({"a/": 2, "b/": 2, "c/": 2, "d/": 2}, [(None, 6), ("d/", 2)]),
        # Large folders divide the small ones.
        ({"a/": 2, "b/": 5, "c/": 2}, [("a/", 2), ("b/", 5), ("c/", 2)]),
        # A folder that is too large is split, and its rest is grouped with the next one.
        ({"a/": 8, "b/": 2}, [(None, 6), (None, 4)]),
        # Files beside folders are copied.
        ({"": 1, "a/": 5, "b/": 1}, [(None, 1), ("a/", 5), ("b/", 1)]),
    ],
)
def test_small_folders_are_grouped_and_large_ones_stay(
    counts: dict[str, int], expected: list[tuple[str | None, int]]
) -> None:
    listing = files(*(key for folder, count in counts.items() for key in numbered(folder, count)))
    assert shape(split(listing)) == expected


def test_without_staging_the_largest_folders_that_fit_become_jobs() -> None:
    listing = files(*numbered("a/x/", 4), *numbered("a/y/", 4), *numbered("b/x/", 1), "b/y/1")
    assert shape(split(listing, staged_key_bytes=None)) == [("a/x/", 4), ("a/y/", 4), ("b/", 2)]


def test_without_staging_a_folder_that_is_too_large_is_named() -> None:
    listing = files(*numbered("a/x/", 7), *numbered("b/", 2), *numbered("c/y/", 9))
    with pytest.raises(PlanError, match=r"2 folders .*Pass `staging`.*: a/x/, c/y/") as caught:
        split(listing, staged_key_bytes=None)
    assert caught.value.folders == ("a/x/", "c/y/")


def test_without_staging_too_many_folders_are_counted() -> None:
    listing = files(*(f"{number:02}/{each}" for number in range(30) for each in "abcd"))
    with pytest.raises(PlanError, match="would need 30 jobs") as caught:
        split(listing, staged_key_bytes=None, max_jobs=7)
    assert caught.value.job_count == 30


def test_many_folders_still_become_one_job_if_they_fit_together() -> None:
    listing = files(*(f"{number:02}/note" for number in range(6)))
    assert shape(split(listing, staged_key_bytes=None, max_jobs=1)) == [("", 6)]


def test_a_job_may_be_exactly_full() -> None:
    assert shape(split(files(*numbered("", 5), size=8))) == [("", 5)]
    assert shape(split(files(*numbered("", 6)))) == [("", 6)]


def test_folders_that_become_one_job_count_as_one() -> None:
    listing = files(*(f"a/{number}/note" for number in range(6)), *numbered("b/", 6))
    assert shape(split(listing, staged_key_bytes=None, max_jobs=2)) == [("a/", 6), ("b/", 6)]


def test_with_staging_too_many_jobs_are_counted() -> None:
    with pytest.raises(PlanError, match=r"need 3 jobs.* Raise `max_jobs`") as caught:
        split(files(*numbered("", 18)), max_jobs=2)
    assert caught.value.job_count == 3


def test_a_folder_whose_path_has_two_slashes_is_never_a_job() -> None:
    parts = split(files("a//1", "a/2", "a/3", "a/4", "b/1", "b/2", "b/3"))
    assert shape(parts) == [(None, 3), ("b/", 3)]
    assert parts[0].everything.first_key == "a/2"


def test_a_folder_with_skipped_files_only_is_not_a_job() -> None:
    listing = sorted(files(*numbered("a/", 5), size=11) + files(*numbered("b/", 4)))
    assert shape(split(listing)) == [("b/", 4)]


def test_a_corpus_with_skipped_files_only_cannot_be_planned() -> None:
    with pytest.raises(PlanError, match="skip every file"):
        split(files("a", "b", size=11))


def test_a_listing_that_is_not_sorted_is_refused() -> None:
    with pytest.raises(PlanError, match="not in ascending order"):
        split([*files("b"), *files("a")])
    with pytest.raises(PlanError, match="not in ascending order"):
        split([*files("a"), *files("a")])


def test_a_file_that_is_larger_than_a_job_is_refused() -> None:
    limits = ServiceLimits(max_file_bytes=10, max_job_bytes=5)
    with pytest.raises(PlanError, match="larger than a job may be"):
        split(files("note", size=6), limits=limits)


def test_keys_that_are_too_long_below_the_staging_location_are_named() -> None:
    # The limit counts bytes of UTF-8, and not the folder above.
    listing = files("in/aé", "in/aaé", *numbered("in/b/", 6))
    with pytest.raises(PlanError, match="more than 1,024 bytes") as caught:
        split(listing, folder="in/", staged_key_bytes=3)
    assert caught.value.keys == ("in/aaé",)


def test_keys_that_are_too_long_are_named_if_their_folders_are_grouped() -> None:
    listing = files("a/long", "b/long", *numbered("c/", 6))
    with pytest.raises(PlanError, match="more than 1,024 bytes") as caught:
        split(listing, staged_key_bytes=5)
    assert caught.value.keys == ("a/long", "b/long")


def test_keys_may_be_long_if_they_are_not_staged() -> None:
    listing = files(f"{'a' * 50}/1", f"{'a' * 50}/2")
    assert shape(split(listing, staged_key_bytes=10)) == [("", 2)]


def test_an_error_names_a_few_of_many_folders() -> None:
    listing = files(*(key for each in range(30) for key in numbered(f"{each:02}/", 7)))
    with pytest.raises(PlanError, match=r": 00/, .*19/ and 10 more$") as caught:
        split(listing, staged_key_bytes=None)
    assert len(caught.value.folders) == 30


def test_an_error_counts_all_folders_and_contains_the_first_1_000() -> None:
    listing = files(*(key for each in range(1_001) for key in numbered(f"{each:04}/", 7)))
    with pytest.raises(PlanError, match="1,001 folders") as caught:
        split(listing, staged_key_bytes=None)
    assert caught.value.folders == tuple(f"{each:04}/" for each in range(1_000))


@pytest.mark.parametrize("stages", [True, False], ids=["staged", "not staged"])
@pytest.mark.parametrize(
    "pattern", ["{0:07}/{1}", "{0:07}", "{2:03}/{0:07}/{1}"], ids=["tiny", "flat", "nested"]
)
def test_the_memory_does_not_depend_on_the_number_of_files(pattern: str, stages: bool) -> None:
    def peak(count: int) -> int:
        listing = (
            ListedObject(pattern.format(number, "note.txt", number // 1_000), 1, None, '"etag"')
            for number in range(count)
        )
        tracemalloc.start()
        split(listing, limits=ServiceLimits(), staged_key_bytes=900 if stages else None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak(20_000) - peak(4_000) < 100_000  # bytes

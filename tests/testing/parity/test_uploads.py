"""Everything that the kit sends is invented."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from comprehend_phi.testing.parity.setups import FILLER, NOTE, large_note, long_note

from .conftest import World

# Whatever is not one of these phrases fails the test. 555 numbers belong to nobody, and nobody was
# seen in 2031 yet.
PHRASES = (
    "Patient: Ada Example, seen on 2031-02-14. Phone: (555) 555-0142.",
    "Clinic visit.",
    "No complaints.",
    "Seen at the caf\xe9.",
    "Mood:",
    '{"Text": "',
    '"}',
    FILLER,
    "\ufeff",
)


def leftover(text: str) -> str:
    """Return what is left of a text without invented phrases, space and punctuation."""
    for phrase in PHRASES:
        text = text.replace(phrase, "")
    return re.sub(r"[\s.\0]", "", text)


def test_a_phrase_that_is_not_invented_would_be_found() -> None:
    assert leftover(f"{NOTE} No complaints.") == ""
    assert leftover(f"{NOTE} Zinnia") == "Zinnia"


def test_all_that_is_sent_is_invented(world: Callable[..., World]) -> None:
    here = world()
    here.run.ask_all()
    notes = {key: body for key, body in here.files.items() if "PHIDetection-" not in key}
    assert len(notes) == 20
    texts = [
        body.decode("latin-1" if key.endswith("latin-1.txt") else "utf-8")
        for key, body in notes.items()
    ]
    texts += [each.members["Text"] for each in here.service.received if "Text" in each.members]
    assert len(texts) == 22
    # A note that is cut to a length may end within a phrase.
    cut = {f"{phrase[:size]}" for phrase in PHRASES[2:3] for size in range(len(phrase))}
    for text in texts:
        assert leftover(text) in {leftover(part) for part in cut}


def test_keys_and_job_names_only_contain_words_and_the_number_of_the_run(
    world: Callable[..., World],
) -> None:
    here = world(jobs=["base"])
    here.run.ask_all()
    run = here.account.state.run
    for key in here.files:
        assert key.startswith(f"comprehend-phi-parity/{run}/")
    names = {each.members["JobName"] for each in here.service.received if "JobName" in each.members}
    assert names
    for name in names:
        assert re.fullmatch(rf"parity-{run}-[a-z-]+", name)


@pytest.mark.parametrize("characters", [len(NOTE), 110, 130])
def test_a_long_note_has_so_many_characters(characters: int) -> None:
    assert len(long_note(characters)) == characters


@pytest.mark.parametrize("size", [20_000, 20_001, 71_680, 71_681])
def test_a_large_note_has_so_many_bytes_and_few_characters(size: int) -> None:
    assert len(large_note(size).encode()) == size
    assert len(large_note(size)) < size / 3.9 + len(NOTE)

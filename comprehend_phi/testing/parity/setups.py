"""The jobs that the kit runs, and the notes that it uploads for them.

Every name, number and date in these notes is invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from ..limits import Limits

NOTE = "Patient: Ada Example, seen on 2031-02-14. Phone: (555) 555-0142."

# In UTF-8, this character has four bytes. The service bills characters, so large texts of it cost a
# quarter of what large texts of ASCII cost.
FILLER = "\U0001f642"

LARGEST_FILE = Limits().file_bytes
LARGEST_TEXT = Limits().text_bytes


def long_note(characters: int) -> str:
    """Return a note with so many characters."""
    return (NOTE + " No complaints." * (characters // 10))[:characters]


def large_note(size: int) -> str:
    """Return a note with so many bytes in UTF-8, and about a quarter as many characters."""
    fillers, dots = divmod(size - len(NOTE), len(FILLER.encode()))
    return NOTE + FILLER * fillers + "." * dots


@frozen(kw_only=True)
class Setup:
    """One job and its notes. Its keys are below a folder that belongs to this job.

    Attributes:
        name: what questions call the job.
        notes: the objects to upload, by key.
        input_key, output_key: the keys of the job's locations.
        missing: what the request names although it does not exist: the "role" or the "bucket" of
            the notes.
        key_form: the form in which the request names the KMS key: as an "arn", or "short".
    """

    name: str
    notes: Mapping[str, bytes] = field(factory=dict[str, bytes])
    input_key: str = "notes"
    output_key: str = "results"
    missing: Literal["role", "bucket"] | None = None
    key_form: Literal["arn", "short"] | None = None

    @property
    def needs_kms_key(self) -> bool:
        """Whether the job needs a KMS key of the user."""
        return self.key_form is not None


_ONE_NOTE = {"notes/note.txt": NOTE.encode()}

_TEXTS = {
    "notes/control.txt": NOTE,
    "notes/empty.txt": "",
    "notes/marker/": "",
    "notes/byte-order-mark.txt": f"\ufeff{NOTE}",
    "notes/nul.txt": f"{NOTE}\0{NOTE}",
    "notes/line-ends.txt": f"Clinic visit.\r\nNo complaints.\r\n{NOTE}",
    "notes/astral.txt": f"Mood: {FILLER * 3}. {NOTE}",
    "notes/note.json": f'{{"Text": "{NOTE}"}}',
}

_FILES = {
    "notes/control.txt": NOTE.encode(),
    "notes/latin-1.txt": f"Seen at the caf\xe9. {NOTE}".encode("latin-1"),
    "notes/largest.txt": large_note(LARGEST_FILE).encode(),
    "notes/too-large.txt": large_note(LARGEST_FILE + 1).encode(),
}

SETUPS = (
    Setup(
        name="base",
        notes={
            "2031/one.txt": long_note(130).encode(),
            "2031/two.txt": long_note(120).encode(),
            "2031-old/three.txt": long_note(110).encode(),
        },
        input_key="2031",
    ),
    Setup(name="final-slash", notes=_ONE_NOTE, input_key="notes/", output_key="results/"),
    Setup(name="stopped", notes=_ONE_NOTE),
    Setup(name="texts", notes={key: text.encode() for key, text in _TEXTS.items()}),
    Setup(name="files", notes=_FILES),
    Setup(name="empty-location"),
    Setup(name="missing-bucket", missing="bucket"),
    Setup(name="missing-role", notes=_ONE_NOTE, missing="role"),
    Setup(name="kms-arn", notes=_ONE_NOTE, key_form="arn"),
    Setup(name="kms-short", notes=_ONE_NOTE, key_form="short"),
)

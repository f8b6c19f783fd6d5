"""What a job wrote, as it is: keys and names, before anybody interprets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from ..._results.storage import Storage
from ..._structs import PrivateStruct
from .answers import NotAnswered, Reason

_File = TypeVar("_File")


class _Manifest(msgspec.Struct, rename="pascal"):
    summary: dict[str, Any]


class Entry(msgspec.Struct, rename="pascal"):
    """An entry of a list, if it is not just a name.

    Attributes:
        input: the name of the note.
        error_code: why the note was not processed.
    """

    input: str
    error_code: str | None = None


class _List(msgspec.Struct, rename="pascal"):
    files: list[Entry | str]


class _Entity(PrivateStruct, frozen=True, rename="pascal"):
    _private: ClassVar[tuple[str, ...]] = ("text",)

    text: str
    begin_offset: int


class _Document(msgspec.Struct, rename="pascal"):
    entities: list[_Entity]


class Output:
    """The files that a job wrote.

    All methods raise `NotAnswered` if a file is missing or has other members than AWS documents.

    Args:
        storage: reads S3.
        bucket: the bucket of the results.
        prefix: the prefix of all keys that the job may have written.
        job_id: the job.

    Attributes:
        keys: the keys of all files below `prefix`.
        manifest_key: the key of the manifest.
        folder: the key of the job's folder, with a slash at its end.
    """

    def __init__(self, storage: Storage, bucket: str, prefix: str, job_id: str) -> None:
        self._storage = storage
        self._bucket = bucket
        self._bodies: dict[str, bytes] = {}
        self.keys: list[str] = storage.keys(bucket, prefix)
        ending = f"-PHIDetection-{job_id}/Manifest"
        self.manifest_key: str = self._find("Manifest", ending)
        self.folder: str = self.manifest_key.removesuffix("Manifest")

    @property
    def summary(self) -> dict[str, Any]:
        """The members of the manifest."""
        return self._read(self.manifest_key, _Manifest).summary

    def list_key(self, kind: str) -> str:
        """Return the key of the list of files in the folder `success` or `failed`."""
        start = f"{self.folder}Manifest_"
        for key in self.keys:
            if key.startswith(start) and f"/{kind}/" in key.removeprefix(start):
                return key
        raise NotAnswered(Reason.RESULT_MISSING, kind)

    def entries(self, kind: str) -> Sequence[Entry | str]:
        """Return the entries of the list in the folder `success` or `failed`."""
        return self._read(self.list_key(kind), _List).files

    def fate(self, note: str) -> str:
        """Return whether a note was "processed" or "unprocessed", or "absent" from the lists."""
        for kind, fate in (("success", "processed"), ("failed", "unprocessed")):
            if any(_is_about(entry, note) for entry in self.entries(kind)):
                return fate
        return "absent"

    def input_name(self, note: str) -> str:
        """Return how the list of processed files names a note."""
        for entry in self.entries("success"):
            if _is_about(entry, note):
                return _name(entry)
        raise NotAnswered(Reason.RESULT_MISSING, "Input")

    def error_code(self, note: str) -> str:
        """Return the error code of a note that was not processed."""
        for entry in self.entries("failed"):
            if isinstance(entry, Entry) and _is_about(entry, note) and entry.error_code:
                return entry.error_code
        raise NotAnswered(Reason.RESULT_MISSING, "ErrorCode")

    def offset_shift(self, note: str, text: str) -> int:
        """Return how far the offsets of a note are from those in `text`, which count code points.

        The first entity whose text occurs only once in the note tells.
        """
        key = self._find("document", f"/{note}.out")
        for entity in self._read(key, _Document).entities:
            if text.count(entity.text) == 1:
                return entity.begin_offset - text.index(entity.text)
        raise NotAnswered(Reason.NO_ENTITY)

    def _find(self, what: str, ending: str) -> str:
        for key in self.keys:
            if key.endswith(ending):
                return key
        raise NotAnswered(Reason.RESULT_MISSING, what)

    def _read(self, key: str, kind: type[_File]) -> _File:
        if key not in self._bodies:
            self._bodies[key] = self._storage.read(self._bucket, key).body
        try:
            return msgspec.json.decode(self._bodies[key], type=kind)
        except msgspec.DecodeError:
            pass  # its error may quote the file
        raise NotAnswered(Reason.RESULT_MISSING, f"member of {kind.__name__.strip('_')}")


def _name(entry: Entry | str) -> str:
    return entry if isinstance(entry, str) else entry.input


def _is_about(entry: Entry | str, note: str) -> bool:
    """Return whether an entry of a list is about a note with this name."""
    return f"/{_name(entry)}".endswith(f"/{note}")

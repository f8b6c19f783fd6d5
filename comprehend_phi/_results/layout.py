"""Where a job's files are: the keys that the manifest and its lists mean by their names.

AWS documents the layout of the output folder. It describes the names in the lists as "input
path/input file name" and "output path/output file name" (Developer Guide, batch APIs). AWS does not
say whether such a name is a key, a path below a folder or an `s3://` URI, or how it writes an empty
path. Keys are opaque, so the literal reading of a name comes first. If several readings are
possible, a document and its note decide together, because the document's key repeats the note's
path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .._keys import folder_key, path_of_note

_FOLDER_NAME = re.compile(r"[^/]*-PHIDetection-([^/]{1,32})")


def job_id_of(folder: str) -> str | None:
    """Return the id of the job whose output folder has this key, or None for any other key."""
    match = _FOLDER_NAME.fullmatch(folder.removesuffix("/").rpartition("/")[2])
    return match[1] if match else None


def folder_of_outputs(output_key: str) -> str:
    """Return the key of the folder in which a job has its own output folder, with a final slash.

    If that is the whole bucket, return the key of the job's own folder.

    Args:
        output_key: the key in the job's OutputDataConfig.
    """
    folder = folder_key(output_key)
    if job_id_of(folder) is None:
        return folder
    return folder_key(folder[:-1].rpartition("/")[0]) or folder


def find_folder(
    job_id: str, output_key: str, folders: Callable[[str], Iterable[str]]
) -> str | None:
    """Return the key of the job's output folder, with a final slash, or None.

    AWS documents that the service names it `<account>-PHIDetection-<jobid>`, and that
    OutputDataConfig shows it if the request had no output key. If it does not, search for the
    folder.

    Args:
        job_id: the job's id.
        output_key: the key in the job's OutputDataConfig, or an empty string.
        folders: lists the folders directly below a key, each with its final slash.
    """
    ending = f"-PHIDetection-{job_id}/"
    shown = folder_key(output_key)
    if shown.endswith(ending):
        return shown
    return next((folder for folder in folders(shown) if folder.endswith(ending)), None)


class Layout:
    """The keys of one job's notes, documents and lists.

    Attributes:
        folder: the key of the output folder, with a final slash.
        lists_folder: the key of the folder of the lists, with a final slash.
    """

    def __init__(self, folder: str, *, input_bucket: str, input_key: str) -> None:
        self.folder = folder
        self._name = folder[:-1].rpartition("/")[2]
        self.lists_folder = f"{folder}Manifest_{self._name}/"
        self._input_bucket = input_bucket
        self._input_key = input_key
        self._input_folder = folder_key(input_key)
        self._input_name = input_key.rpartition("/")[2]

    def keys_of(self, name: str) -> list[str]:
        """Return the keys in the output folder that `name` may mean, the most literal one first.

        There is only one, unless `name` begins with a slash.
        """
        # No path contains the name of the job's folder by chance, because it ends with the job id.
        _, folder, path = f"/{name}".partition(f"/{self._name}/")
        if folder:
            return [self.folder + path]
        return [self.folder + path for path in _literal_first(name)]

    def is_output(self, key: str) -> bool:
        """Return whether a key in the output folder belongs to a document."""
        return key.endswith(".out") and not key.startswith(self.lists_folder)

    def output_key_of(self, input_key: str) -> str:
        """Return the key of a note's document, according to the layout that AWS documents."""
        return f"{self.folder}{path_of_note(input_key, self._input_key)}.out"

    def input_key_of(self, output_key: str, *, only: bool) -> str:
        """Return the key of a document's note, according to the layout that AWS documents.

        Args:
            output_key: the key of the document.
            only: whether the job has only one input file. The input location may then be that file.
        """
        path = output_key.removeprefix(self.folder).removesuffix(".out")
        if only and path == self._input_name:
            return self._input_key
        return self._input_folder + path

    def input_keys_of(self, name: str, *, only: bool) -> list[str]:
        """Return the keys in the input location that `name` may mean, the most literal one first.

        Args:
            name: the name of the file in a list.
            only: whether the job has only one input file. The input location may then be that file.
        """
        keys: list[str] = []
        uri = f"s3://{self._input_bucket}/"
        if name.startswith(uri) and self._is_input(key := name.removeprefix(uri)):
            keys.append(key)
        for path in _literal_first(name):
            if self._is_input(path):
                keys.append(path)
            if only and path == self._input_name:
                keys.append(self._input_key)
            keys.append(self._input_folder + path)
        return list(dict.fromkeys(keys))

    def pairs_of(
        self, input_name: str, output_name: str | None, *, only: bool
    ) -> list[tuple[str, str]]:
        """Return the pairs of a note's and a document's key that an entry of a list may mean.

        A document's key repeats the path of its note. Pairs without this property are left out. If
        no pair has it, return only the most literal one.

        Args:
            input_name: the name of the note in the list.
            output_name: the name of the document; None or empty if the list has none.
            only: whether the job has only one input file. The input location may then be that file.
        """
        notes = self.input_keys_of(input_name, only=only)
        pairs = [(note, self.output_key_of(note)) for note in notes]
        if not output_name:
            return pairs
        documents = self.keys_of(output_name)
        consistent = [pair for pair in pairs if pair[1] in documents]
        return consistent or [(notes[0], documents[0])]

    def _is_input(self, key: str) -> bool:
        return key == self._input_key or key.startswith(self._input_folder)


def _literal_first(name: str) -> list[str]:
    """Return the name, then the name without a leading slash, which the writer may have added."""
    return [name, name[1:]] if name.startswith("/") else [name]

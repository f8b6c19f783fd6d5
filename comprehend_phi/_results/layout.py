"""Where the files of a job lie: from what the manifest and its lists call them to their keys.

AWS documents the layout of the output folder, and writes the names in the lists as "input
path/input file name" and "output path/output file name" (Developer Guide, batch APIs). Whether such
a name is a key, a path below a folder or an `s3://` URI, and what an empty path looks like, AWS
leaves open. Keys are opaque: every name is first taken as it is written. Where that leaves a
choice, a document and its source decide it together, since one repeats the path of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


def find_folder(
    job_id: str, output_key: str, folders: Callable[[str], Iterable[str]]
) -> str | None:
    """The key of the job's output folder, with a slash at its end; None where there is none.

    AWS documents that the service names it `<account>-PHIDetection-<jobid>`, and shows it in
    OutputDataConfig where the request had no output key. Where it is not, it is looked for.

    Args:
        job_id: the job's id.
        output_key: the key in the job's OutputDataConfig, or an empty string.
        folders: what lies one slash below a key, the slash included.
    """
    ending = f"-PHIDetection-{job_id}/"
    shown = folder_key(output_key)
    if shown.endswith(ending):
        return shown
    return next((folder for folder in folders(shown) if folder.endswith(ending)), None)


def folder_key(key: str) -> str:
    """The key with a slash at its end; empty for the whole bucket."""
    return key if not key or key.endswith("/") else f"{key}/"


class Layout:
    """The keys below one job's output folder, and those of its input files.

    Attributes:
        folder: the key of the output folder, with a slash at its end.
        lists_folder: below which the lists of processed and unprocessed files lie.
    """

    def __init__(self, folder: str, *, input_bucket: str, input_key: str) -> None:
        self.folder = folder
        self._name = folder[:-1].rpartition("/")[2]
        self.lists_folder = f"{folder}Manifest_{self._name}/"
        self._input_bucket = input_bucket
        self._input_key = input_key
        self._input_folder = folder_key(input_key)

    def keys_of(self, name: str) -> list[str]:
        """Return the keys in the output folder that `name` may mean, the most literal first.

        There is one only, unless `name` begins with a slash.
        """
        # No path can contain the job's own folder by chance: its name has the job's id.
        _, folder, path = f"/{name}".partition(f"/{self._name}/")
        if folder:
            return [self.folder + path]
        return [self.folder + path for path in _literal_first(name)]

    def is_output(self, key: str) -> bool:
        """Whether a key in the output folder is that of a document."""
        return key.endswith(".out") and not key.startswith(self.lists_folder)

    def output_key_of(self, input_key: str) -> str:
        """Return the key of the document for an input file, by the layout that AWS documents."""
        if input_key == self._input_key:  # which then names the one file
            path = self._input_name
        else:
            path = input_key.removeprefix(self._input_folder)
        return f"{self.folder}{path}.out"

    def input_key_of(self, output_key: str, *, only: bool) -> str:
        """Return the key of the input file for a document, by the layout that AWS documents.

        Args:
            output_key: the key of the document.
            only: whether it is the only one: the input key may then name the file itself.
        """
        path = output_key.removeprefix(self.folder).removesuffix(".out")
        if only and path == self._input_name:
            return self._input_key
        return self._input_folder + path

    def input_keys_of(self, name: str, *, only: bool) -> list[str]:
        """Return the keys in the input location that `name` may mean, the most literal first.

        Args:
            name: what a list calls the file.
            only: whether it is the only input file: the input key may then name the file itself.
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
        """Return the pairs of keys, of a source and its document, that a list may mean by an entry.

        A document repeats the path of its source, so readings that break this are left out. If all
        break it, the most literal reading is returned alone.

        Args:
            input_name: what the list calls the source.
            output_name: what the list calls the document; None or empty if it does not say.
            only: whether it is the only input file: the input key may then name the file itself.
        """
        sources = self.input_keys_of(input_name, only=only)
        pairs = [(source, self.output_key_of(source)) for source in sources]
        if not output_name:
            return pairs
        documents = self.keys_of(output_name)
        fitting = [pair for pair in pairs if pair[1] in documents]
        return fitting or [(sources[0], documents[0])]

    @property
    def _input_name(self) -> str:
        return self._input_key.rpartition("/")[2]

    def _is_input(self, key: str) -> bool:
        return key == self._input_key or key.startswith(self._input_folder)


def _literal_first(name: str) -> list[str]:
    """Return the name as it is written, then without a slash that the writer may have put first."""
    return [name, name[1:]] if name.startswith("/") else [name]

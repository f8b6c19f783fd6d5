"""Where the files of a job lie: from what the manifest and its lists call them to their keys.

The layout of the output folder is AWS's (Developer Guide, batch APIs). Where AWS leaves a name
open, the manifest tells it, by a key, by a path below a folder or by an `s3://` URI.
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

    def __init__(self, folder: str, input_key: str) -> None:
        self.folder = folder
        self._parent, _, self._name = folder[:-1].rpartition("/")
        self.lists_folder = f"{folder}Manifest_{self._name}/"
        self._input_key = input_key
        self._input_folder = folder_key(input_key)

    def key_of(self, name: str) -> str:
        """The key of something that the manifest names: by its key, or below one of the folders."""
        name = _without_bucket(name)
        if name.startswith(self.folder):
            return name
        # There is a parent here: a folder without one is the name alone, and has returned above.
        if name.startswith(f"{self._name}/"):
            return f"{self._parent}/{name}"
        return self.folder + name

    def is_output(self, key: str) -> bool:
        """Whether a key in the output folder is that of a document."""
        return key.endswith(".out") and not key.startswith(self.lists_folder)

    def output_key_of(self, input_name: str) -> str:
        """The key of the document for an input file, which repeats its path below the input key."""
        name = _without_bucket(input_name)
        if name == self._input_key:  # which then names the one file
            path = name.rpartition("/")[2]
        else:
            path = name.removeprefix(self._input_folder)
        return self.key_of(f"{path}.out")

    def path_of(self, output_key: str) -> str:
        """The path of the input file below the input key, which the output's key repeats."""
        return output_key.removeprefix(self.folder).removesuffix(".out")

    def input_key_of(self, name: str, *, output_key: str | None = None, only: bool) -> str:
        """The key of an input file, which lists may name by its key or by its path below.

        Args:
            name: what a list calls it.
            output_key: that of its document, if it has one. It tells a relative path that happens
                to begin like the input key from a key.
            only: whether it is the only input file, which the input key may then name itself.
        """
        name = _without_bucket(name)
        only = only and name == self._input_key.rpartition("/")[2]
        if name == self._input_key or only:
            return self._input_key
        relative = output_key is not None and name == self.path_of(output_key)
        if name.startswith(self._input_folder) and not relative:
            return name
        return self._input_folder + name


def _without_bucket(name: str) -> str:
    """A key from a key, a path or an `s3://` URI."""
    if name.startswith("s3://"):
        name = name.removeprefix("s3://").partition("/")[2]
    return name.removeprefix("/")

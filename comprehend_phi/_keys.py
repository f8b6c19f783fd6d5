"""Keys of S3 objects as folders."""

from __future__ import annotations


def folder_key(key: str | None) -> str:
    """Return the key with a final slash. The key of the whole bucket, None or empty, is empty."""
    if not key:
        return ""
    return key if key.endswith("/") else f"{key}/"


def path_of_note(key: str, input_key: str) -> str:
    """Return the path of a note below its job's input key."""
    # An input key that names one object is the only key of its job.
    name = key.rpartition("/")[2] if key == input_key else key
    return name.removeprefix(folder_key(input_key))

"""Keys of S3 objects as folders."""

from __future__ import annotations


def folder_key(key: str | None) -> str:
    """Return the key with a final slash. The key of the whole bucket, None or empty, is empty."""
    if not key:
        return ""
    return key if key.endswith("/") else f"{key}/"

"""The error for a response that cannot be used, before it becomes one of our public errors."""

from __future__ import annotations


class InvalidResponse(Exception):
    """A response of Comprehend Medical or of S3 cannot be used.

    Args:
        reason: what is wrong with it, without any value.
        retryable: whether the same request may get a usable response.
    """

    def __init__(self, reason: str, *, retryable: bool = True) -> None:
        super().__init__(reason)
        self.retryable = retryable

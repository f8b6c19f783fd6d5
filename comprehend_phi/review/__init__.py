"""A page on which a person reviews what was found. Needs the extra `cli`."""

from .page import render

__all__ = ["render"]

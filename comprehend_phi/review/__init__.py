"""A page on which a person reviews detected PHI. Needs the extra `cli`."""

from .page import render

__all__ = ["render"]

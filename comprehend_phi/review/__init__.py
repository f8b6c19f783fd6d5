"""A person's review of detected PHI: a page, and the decisions that it saves.

`render` needs the extra `cli`.
"""

from typing import TYPE_CHECKING

from .._results.decisions import AddedMark, Decisions, DecisionsError, DocumentDecisions

if TYPE_CHECKING:
    from .page import render

__all__ = ["AddedMark", "Decisions", "DecisionsError", "DocumentDecisions", "render"]

# Type checkers see the import above; for them, a module __getattr__ would let misspelt names pass.
if not TYPE_CHECKING:
    # Decisions can be applied without the extra.
    def __getattr__(name: str) -> object:
        if name == "render":
            from .page import render

            return render
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

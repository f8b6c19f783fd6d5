"""What a command could not deliver: it delivers everything else, and then fails."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from ..errors import IncompleteResultsError, ResultsError
from .exits import FAILED, Exit
from .output import amount, emit_json, inform

_Item = TypeVar("_Item")


class Undelivered:
    """Collects the notes and files that a command cannot deliver.

    Each note is named on stderr as soon as it is known.

    Args:
        as_json: whether stdout gets a line for each note, too.

    Attributes:
        failed: why each note was not delivered, by its key.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.failed: dict[str, str] = {}
        self._as_json = as_json
        self._incomplete: list[IncompleteResultsError] = []

    def all_but(
        self, stream: Generator[_Item, None, None], failed: dict[str, str] | None = None
    ) -> Generator[_Item, None, None]:
        """Yield what a stream of results delivers, and collect what it does not.

        If you pass `failed`, it gets what this stream could not deliver.
        """
        with closing(stream):
            try:
                yield from stream
            except IncompleteResultsError as error:
                self._collect(error)
                if failed is not None:
                    failed.update(error.failed)

    def _collect(self, error: IncompleteResultsError) -> None:
        if not error.failed:
            self._incomplete.append(error)
        for key, reason in error.failed.items():
            if key in self.failed:
                continue
            self.failed[key] = reason
            inform(f"Failed: {key} ({reason.rstrip('.')})")
            if self._as_json:
                emit_json({"failed": {"input_key": key, "reason": reason}})

    @property
    def members(self) -> list[dict[str, str]]:
        """The notes that were not delivered, for JSON."""
        return [{"input_key": key, "reason": reason} for key, reason in self.failed.items()]

    def exit_if_any(self, *problems: ResultsError | None) -> None:
        """End the command, with a line per problem, if something was not delivered.

        Args:
            problems: other problems, printed first.
        """
        lines = [str(problem) for problem in problems if problem is not None]
        if self.failed:
            lines.append(f"{amount(len(self.failed), 'note', 'notes')} could not be delivered")
        lines.extend(str(error) for error in self._incomplete)
        if lines:
            raise Exit(FAILED, *dict.fromkeys(lines))

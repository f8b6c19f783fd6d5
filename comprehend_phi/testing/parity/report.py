"""The report of a run: a table for the terminal, and JSON to send in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from attrs import frozen

from ... import __version__
from .answers import Answer
from .planning import Plan
from .questions import QUESTIONS, Question

SAME, DIFFERENT, NOT_ANSWERED = "same", "different", "not answered"

_VERSION = 1


@frozen(kw_only=True)
class Row:
    """One question with our answer and the observed one."""

    question: Question
    answer: Answer

    @property
    def result(self) -> str:
        """Whether the service does what we expect: "same", "different" or "not answered"."""
        if self.answer.observed is None:
            return NOT_ANSWERED
        return SAME if self.answer.observed == self.question.ours else DIFFERENT

    @property
    def why(self) -> str:
        """Why there is no answer. Empty if there is one."""
        return " ".join(filter(None, (self.answer.reason, self.answer.detail)))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {
            "question": self.question.name,
            "text": self.question.text,
            "rule": self.question.rule,
            "ours": self.question.ours,
            "observed": self.answer.observed,
            "result": self.result,
            "reason": self.answer.reason,
            "detail": self.answer.detail,
        }


@frozen(kw_only=True)
class Report:
    """What a run found out.

    Attributes:
        rows: all questions, also those that were not asked.
        region: the region of the service.
        day: the day of the run.
    """

    rows: tuple[Row, ...]
    region: str
    day: date

    @property
    def has_differences(self) -> bool:
        """Whether the service does something else than we expect."""
        return any(row.result == DIFFERENT for row in self.rows)

    @property
    def is_complete(self) -> bool:
        """Whether every question has an answer, except those that the user chose not to ask."""
        return all(row.answer.reason is None or row.answer.reason.is_choice for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "version": _VERSION,
            "comprehend_phi": __version__,
            "region": self.region,
            "day": self.day.isoformat(),
            "questions": [row.to_dict() for row in self.rows],
        }

    def to_text(self) -> str:
        """Return the report as a table."""
        cells = [("Result", "Question", "Ours", "Observed")]
        cells += [
            (row.result, row.question.name, row.question.ours, row.answer.observed or row.why)
            for row in self.rows
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(3)]
        lines = [
            "  ".join(
                [*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]
            )
            for row in cells
        ]
        return "\n".join(lines)


def make_report(plan: Plan, answers: Mapping[str, Answer], *, region: str, day: date) -> Report:
    """Return the report of a run that has ended."""
    left_out = {name: Answer(reason=reason) for name, reason in plan.left_out.items()}
    rows = (Row(question=each, answer={**left_out, **answers}[each.name]) for each in QUESTIONS)
    return Report(rows=tuple(rows), region=region, day=day)

"""Which questions to ask, and with which jobs, within the budget and the job slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from attrs import frozen

from ...corpus.report import PRICE_PER_UNIT
from ...corpus.tally import units
from .answers import Reason
from .questions import QUESTIONS, Question
from .setups import SETUPS, Setup


@frozen(kw_only=True)
class Plan:
    """What a run does.

    Attributes:
        batches: the jobs, in groups that run at the same time.
        questions: the questions to ask.
        left_out: why each of the other questions is not asked, by its name.
        units: the most units that AWS may bill. A unit is 100 characters.
    """

    batches: Sequence[Sequence[Setup]]
    questions: Sequence[Question]
    left_out: Mapping[str, Reason]
    units: int

    @property
    def setups(self) -> list[Setup]:
        """The jobs, in the order in which they start."""
        return [setup for batch in self.batches for setup in batch]

    @property
    def cost(self) -> Decimal:
        """The most that AWS may bill for detecting PHI, in US dollars."""
        return self.units * PRICE_PER_UNIT


def make_plan(*, has_kms_key: bool, max_cost: Decimal, slots: int) -> Plan:
    """Plan a run. If the budget is too small, the most expensive questions are left out.

    Args:
        has_kms_key: whether the user gave a KMS key.
        max_cost: the budget, in US dollars.
        slots: how many jobs may run at the same time.
    """
    left_out: dict[str, Reason] = {}
    asked: list[Question] = []
    for question in sorted(QUESTIONS, key=_most_units):
        jobs = _setups([question])
        if not has_kms_key and any(setup.needs_kms_key for setup in jobs):
            left_out[question.name] = Reason.NEEDS_KMS_KEY
        elif _total_units([*asked, question]) * PRICE_PER_UNIT > max_cost:
            left_out[question.name] = Reason.OVER_BUDGET
        else:
            asked.append(question)
    setups = _setups(asked)
    return Plan(
        batches=[setups[begin : begin + slots] for begin in range(0, len(setups), slots)],
        questions=[question for question in QUESTIONS if question in asked],
        left_out=left_out,
        units=_total_units(asked),
    )


def _setups(questions: Sequence[Question]) -> list[Setup]:
    """Return the jobs that some questions need."""
    needed = {name for question in questions for name in question.jobs}
    return [setup for setup in SETUPS if setup.name in needed]


def _total_units(questions: Sequence[Question]) -> int:
    """Return the most units that some questions and their jobs may cost together."""
    return sum(_own_units(question) for question in questions) + sum(
        units_of(setup) for setup in _setups(questions)
    )


def _most_units(question: Question) -> int:
    return _own_units(question) + sum(units_of(setup) for setup in _setups([question]))


def _own_units(question: Question) -> int:
    """Return the most units that a question may cost in addition to its jobs."""
    again = sum(units_of(setup) for setup in _setups([question])[:1])
    return question.units + question.restarts * again


def units_of(setup: Setup) -> int:
    """Return the most units of a job: every file is rounded up, and has at least one."""
    return sum(max(1, units(len(body.decode(errors="replace")))) for body in setup.notes.values())

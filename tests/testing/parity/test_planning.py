"""The plan: which questions are asked, with which jobs, and for how much."""

from __future__ import annotations

from decimal import Decimal

import pytest

from comprehend_phi.testing.parity.answers import Reason
from comprehend_phi.testing.parity.planning import make_plan, units_of
from comprehend_phi.testing.parity.questions import QUESTIONS
from comprehend_phi.testing.parity.setups import SETUPS

NAMES = [question.name for question in QUESTIONS]


def test_every_question_costs_less_than_a_dollar_in_one_batch_of_ten_jobs() -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal("1.00"), slots=10)
    assert [question.name for question in plan.questions] == NAMES
    assert plan.left_out == {}
    assert len(plan.batches) == 1
    assert Decimal("0.50") < plan.cost < Decimal("0.80")


def test_there_are_at_least_fifteen_questions() -> None:
    assert len(NAMES) >= 15


def test_every_job_is_needed_by_a_question() -> None:
    assert {name for each in QUESTIONS for name in each.jobs} == {each.name for each in SETUPS}


def test_without_a_key_the_question_about_keys_and_its_jobs_are_left_out() -> None:
    plan = make_plan(has_kms_key=False, max_cost=Decimal("1.00"), slots=10)
    assert plan.left_out == {"kms-key-forms": Reason.NEEDS_KMS_KEY}
    assert not [setup for setup in plan.setups if setup.needs_kms_key]


@pytest.mark.parametrize("budget", ["0", "0.001", "0.01", "0.05", "0.1", "0.2", "0.6"])
def test_the_cost_never_exceeds_the_budget(budget: str) -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal(budget), slots=10)
    assert plan.cost <= Decimal(budget)
    assert set(plan.left_out.values()) == {Reason.OVER_BUDGET}
    asked = [question.name for question in plan.questions]
    assert asked == [name for name in NAMES if name not in plan.left_out]


def test_a_small_budget_leaves_out_the_large_files_first() -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal("0.30"), slots=10)
    files = {question.name for question in QUESTIONS if "files" in question.jobs}
    assert set(plan.left_out) == files


def test_what_costs_nothing_is_asked_without_a_budget() -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal(0), slots=10)
    assert {"error-status", "empty-location", "missing-bucket"} <= {
        question.name for question in plan.questions
    }


@pytest.mark.parametrize("slots", [1, 3, 4, 10, 50])
def test_no_batch_has_more_jobs_than_there_are_slots(slots: int) -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal("1.00"), slots=slots)
    assert max(len(batch) for batch in plan.batches) == min(slots, len(SETUPS))
    assert plan.setups == list(SETUPS)


def test_every_file_costs_at_least_one_unit_and_is_rounded_up() -> None:
    units = {setup.name: units_of(setup) for setup in SETUPS}
    assert units["base"] == 6  # three files of more than 100 characters
    assert units["texts"] == 9  # eight files, one of which has more than 100 characters
    assert units["empty-location"] == 0


def test_starts_that_a_question_may_repeat_are_in_the_cost() -> None:
    plan = make_plan(has_kms_key=True, max_cost=Decimal("1.00"), slots=10)
    jobs = sum(units_of(setup) for setup in plan.setups)
    calls = sum(question.units for question in plan.questions)
    assert plan.units - jobs - calls == 3 * 6  # three questions may start `base` again

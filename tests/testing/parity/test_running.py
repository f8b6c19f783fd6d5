"""A run starts nothing twice, continues after interruptions, and cleans up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from comprehend_phi import (
    ComprehendPHIError,
    ExpiredTokenException,
    JobStatus,
    MalformedResponseError,
    ServiceError,
    TransportError,
)
from comprehend_phi.testing import FakeClock, Limits, Rules, faults
from comprehend_phi.testing.parity.masking import Mask
from comprehend_phi.testing.parity.questions import QUESTIONS
from comprehend_phi.testing.parity.running import Run, can_continue

from ...conftest import START
from .conftest import World

FEW = ("base", "final-slash", "stopped", "missing-role")  # jobs with few files
OURS = {question.name: question.ours for question in QUESTIONS}

Build = Callable[..., World]


class InterruptingClock(FakeClock):
    """A clock that interrupts one of its sleeps."""

    def __init__(self, sleep: int) -> None:
        super().__init__()
        self._interrupted = sleep

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if len(self.sleeps) == self._interrupted:
            raise KeyboardInterrupt


def asked(world: World) -> dict[str, str]:
    """Return our answers to the questions of the world's plan."""
    return {question.name: question.ours for question in world.plan.questions}


# --- Interruptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("sleep", [1, 4, 5])
def test_an_interrupted_run_continues_and_starts_nothing_twice(sleep: int, world: Build) -> None:
    here = world(clock=InterruptingClock(sleep), jobs=FEW)
    with pytest.raises(KeyboardInterrupt):
        here.run.ask_all()
    later = here.again()
    later.run.ask_all()
    assert later.answers() == asked(here)
    assert len(here.service.job_ids) == len(here.plan.setups) - 1  # one start is refused
    later.run.clean_up()
    assert here.files == {}


@pytest.mark.parametrize("calls_before", [0, 3])
def test_a_start_whose_response_was_lost_is_found_again(calls_before: int, world: Build) -> None:
    # The service does not know the tokens any more when the run continues.
    rules = Rules(remember_tokens="until-job-ends")
    here = world(rules=rules, jobs=FEW, max_attempts=1)
    here.service.script(*[faults.passes()] * calls_before, faults.reset_after(), operation=START)
    with pytest.raises(TransportError):
        here.run.ask_all()
    started = here.service.job_ids
    here.clock.sleep(3600)  # the jobs end
    later = here.again()
    later.run.ask_all()
    # One start is refused, and the question about tokens starts a job again.
    assert len(here.service.job_ids) == len(here.plan.setups)
    assert here.service.job_ids[: len(started)] == started


def test_a_start_is_the_same_request_whenever_the_run_continues(world: Build) -> None:
    here = world()
    here.account.state.save()
    later = here.again()
    for setup in here.plan.setups:
        assert later.account.request(setup.name) == here.account.request(setup.name)


def test_each_start_and_each_run_has_a_token_of_its_own(world: Build) -> None:
    runs = [world(), world()]  # without a saved state
    tokens = {
        here.account.request(setup.name).client_request_token
        for here in runs
        for setup in here.plan.setups
    }
    assert len(tokens) == 2 * len(runs[0].plan.setups)


def test_a_start_whose_response_was_cut_is_retried_with_its_token(world: Build) -> None:
    here = world(jobs=FEW)
    here.service.script(faults.cut(), operation=START)
    here.run.ask_all()
    assert here.answers() == asked(here)
    assert len(here.service.job_ids) == len(here.plan.setups) - 1


def test_a_question_that_needs_a_running_job_is_given_up_once_the_job_has_ended(
    world: Build,
) -> None:
    here = world(jobs=FEW, max_attempts=1)
    here.service.script(faults.reset_before(), operation="StopPHIDetectionJob")
    with pytest.raises(TransportError):
        here.run.ask_all()
    here.clock.sleep(3600)
    later = here.again()
    later.run.ask_all()
    late = {"state-after-stop": "JOB_ENDED", "second-stop": "JOB_ENDED"}
    assert later.answers() == {**asked(here), **late}


def test_a_run_that_has_all_answers_sends_nothing_when_it_continues(world: Build) -> None:
    here = world(jobs=FEW)
    here.run.ask_all()
    sent = len(here.service.received)
    here.again().run.ask_all()
    assert len(here.service.received) == sent


def test_jobs_wait_for_their_turn_if_there_are_few_slots(world: Build) -> None:
    here = world(limits=Limits(active_jobs=3), slots=3)
    here.run.ask_all()
    assert here.answers() == OURS


# --- Failures -------------------------------------------------------------------------------------


def test_if_every_start_is_refused_the_code_is_the_reason(world: Build) -> None:
    here = world(jobs=FEW)
    denied = faults.error("AccessDeniedException", "Zinnia")
    here.service.script(*[denied] * 20, operation=START)
    here.run.ask_all()
    answers = here.answers()
    with_jobs = [question.name for question in here.plan.questions if question.jobs]
    assert {answers[name] for name in with_jobs} == {"JOB_NOT_STARTED AccessDeniedException"}
    assert here.service.job_ids == ()


@pytest.mark.parametrize(
    ("operation", "questions"),
    [
        ("ListPHIDetectionJobs", {"unfiltered-list", "two-filters"}),
        ("DetectPHI", {"largest-text", "too-large-text"}),
    ],
)
def test_a_call_that_is_denied_is_no_difference(
    operation: str, questions: set[str], world: Build
) -> None:
    here = world(jobs=["base", "final-slash"])
    here.service.script(*[faults.error("AccessDeniedException")] * 9, operation=operation)
    here.run.ask_all()
    denied = dict.fromkeys(questions, "CALL_FAILED AccessDeniedException")
    assert here.answers() == {**asked(here), **denied}


def test_a_response_that_is_no_answer_is_the_reason(world: Build) -> None:
    here = world(jobs=[], max_attempts=1)
    here.service.script(faults.answer(200, b'{"Entities": 5}'), operation="DetectPHI")
    here.run.ask_all()
    assert here.answers()["largest-text"] == "CALL_FAILED MalformedResponseError"


def test_expired_credentials_end_the_run_so_that_it_can_continue(world: Build) -> None:
    here = world(jobs=FEW)
    here.service.script(faults.error("ExpiredTokenException"), operation=START)
    with pytest.raises(ExpiredTokenException):
        here.run.ask_all()
    later = here.again()
    later.run.ask_all()
    assert later.answers() == asked(here)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransportError(operation="X", reason="reset"), True),
        (ExpiredTokenException(operation="X", code="E", message=""), True),
        (MalformedResponseError(operation="X", reason="cut"), False),
        (ServiceError(operation="X", code="E", message=""), False),
    ],
)
def test_a_run_can_continue_after_errors_that_pass(
    error: ComprehendPHIError, expected: bool
) -> None:
    assert can_continue(error) == expected


def test_a_bucket_with_the_name_of_an_answer_is_no_difference(world: Build) -> None:
    here = world(jobs=["base"])
    mask = Mask([("bucket", "key"), ("role", "refused")])
    Run(here.account, here.plan, mask=mask, clock=here.clock, inform=lambda line: None).ask_all()
    assert here.answers() == asked(here)


# --- Cleaning up ----------------------------------------------------------------------------------


def test_jobs_that_do_not_end_are_stopped(world: Build) -> None:
    here = world(jobs=FEW, job_seconds=100_000)
    here.run.ask_all()
    assert here.answers()["folder-or-prefix"] == "JOB_NOT_ENDED"
    here.run.clean_up()
    client = here.account.client
    for job_id in here.service.job_ids:
        status = client.describe_phi_detection_job(job_id).job_status
        assert status in (JobStatus.STOP_REQUESTED, JobStatus.STOPPED, JobStatus.FAILED)


def test_a_job_that_a_question_started_by_accident_is_cleaned_up_too(world: Build) -> None:
    here = world(rules=Rules(remember_tokens="until-job-ends"), jobs=FEW)
    here.run.ask_all()
    (other,) = here.account.state.others
    here.again().run.clean_up()
    assert here.account.client.describe_phi_detection_job(other).job_status is JobStatus.STOPPED
    assert here.files == {}


def test_a_job_whose_start_had_no_response_is_stopped(world: Build) -> None:
    here = world(jobs=FEW, max_attempts=1)
    here.service.script(faults.reset_after(), operation=START)
    with pytest.raises(TransportError):
        here.run.ask_all()
    here.again().run.clean_up()
    (job_id,) = here.service.job_ids
    assert here.account.client.describe_phi_detection_job(job_id).job_status is JobStatus.STOPPED
    assert here.files == {}


def test_only_files_of_the_run_are_deleted(world: Build) -> None:
    here = world(jobs=FEW)
    mine = {"notes/mine.txt": b"mine", "comprehend-phi-parity/earlier/note.txt": b"of another run"}
    for key, body in mine.items():
        here.server.storage.write("quellwasser-notes", key, body)
    here.run.ask_all()
    assert here.files.keys() > mine.keys()
    here.run.clean_up()
    assert here.files == mine


def test_a_job_that_was_started_by_accident_is_remembered_once(world: Build) -> None:
    state = world().account.state
    for _ in range(2):
        state.add_other("0123456789abcdef0123456789abcdef")
    assert len(state.others) == 1


def test_the_state_only_has_numbers_and_names_of_questions(world: Build) -> None:
    here = world(jobs=FEW)
    here.run.ask_all()
    stored = here.account.state.path.read_text()
    assert [
        word for word in ("zinnia", "quellwasser", "arn:", "123456789012") if word in stored
    ] == []

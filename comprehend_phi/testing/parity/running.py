"""One run: upload notes, run jobs, ask questions, and clean up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from ..._client_base import s3_of
from ..._clock import Clock
from ..._jobs import WaitPolicy
from ...corpus.objects import S3Objects
from ...errors import (
    ComprehendPHIError,
    ExistingObjectError,
    ExpiredTokenException,
    JobError,
    MalformedResponseError,
    MissingBucketError,
    ServiceError,
    TransportError,
    WaitTimeout,
)
from ...models import JobFilter
from .account import FOLDER, Account
from .answers import Answer, NotAnswered, Reason
from .masking import Mask
from .planning import Plan
from .questions import Question
from .setups import Setup

# A small job takes about seven minutes in AWS's own example.
_JOB_SECONDS = 3600.0
_STOP_SECONDS = 900.0

# Starts are so far apart that the order of the jobs shows even if AWS rounds times to seconds.
_SECONDS_BETWEEN_STARTS = 1.0

_MOST_DELETED = 1_000  # keys in one request


class Run:
    """One run. If it is interrupted, a later one with the same state continues.

    Args:
        account: the account that is asked.
        plan: what to do.
        mask: removes identifiers from answers.
        clock: passes the time between starts.
        inform: receives a line for each step.
    """

    def __init__(
        self,
        account: Account,
        plan: Plan,
        *,
        mask: Mask,
        clock: Clock,
        inform: Callable[[str], object],
    ) -> None:
        self._account = account
        self._state = account.state
        self._plan = plan
        self._mask = mask
        self._clock = clock
        self._inform = inform
        self._objects = S3Objects(s3_of(account.client).storage().calls)

    def ask_all(self) -> None:
        """Run the jobs and ask all questions. The answers are in the state.

        Raises:
            ComprehendPHIError: the run cannot go on. If `can_continue` is true for the error, a
                later run can.
        """
        if all(question.name in self._state.answers for question in self._plan.questions):
            return  # the run was interrupted while it cleaned up
        ended: set[str] = set()
        self._ask([question for question in self._plan.questions if not question.jobs])
        for batch in self._plan.batches:
            for setup in batch:
                self._start(setup)
                self._ask(self._questions_about({setup.name}, while_running=True))
            for setup in batch:
                self._wait(setup)
            ended.update(setup.name for setup in batch)
            self._ask(self._questions_about(ended, while_running=False))

    def clean_up(self) -> None:
        """Stop what still runs, and delete everything that was written.

        Raises:
            ComprehendPHIError: something could not be stopped or deleted.
        """
        for name in self._state.attempted:
            if name not in self._state.jobs:
                self._find(name)
        jobs = (*self._state.jobs.values(), *self._state.others)
        for job_id in jobs:
            job = self._account.client.job(job_id)
            if not job.properties().job_status.is_terminal:
                job.stop()
        for job_id in jobs:
            # A job that is being stopped may still write something.
            with suppress(JobError):
                self._account.client.job(job_id).wait(WaitPolicy(timeout=_STOP_SECONDS))
        bucket = self._account.target.bucket
        with suppress(MissingBucketError):  # then there is nothing to delete
            keys = s3_of(self._account.client).storage().keys(bucket, f"{FOLDER}{self._state.run}/")
            for begin in range(0, len(keys), _MOST_DELETED):
                self._objects.delete(bucket, keys[begin : begin + _MOST_DELETED])

    # --- Jobs ---

    def _upload(self, setup: Setup) -> None:
        for key, body in setup.notes.items():
            # An earlier run may have written it.
            with suppress(ExistingObjectError):
                self._objects.put(
                    self._account.target.bucket, self._account.folder(setup.name) + key, body
                )

    def _start(self, setup: Setup) -> None:
        name = setup.name
        if name in self._state.jobs or self._find(name):
            self._give_up_if_ended(name)
            return
        self._upload(setup)
        self._state.add_attempt(name)
        try:
            job_id = self._account.start(self._account.request(name))
        except ServiceError as error:
            if can_continue(error):
                raise
            self._account.refusals[name] = error
            self._inform(f"Job {name} was refused.")
        else:
            self._state.add_job(name, job_id)
            self._inform(f"Job {name} has started.")
        self._clock.sleep(_SECONDS_BETWEEN_STARTS)

    def _find(self, name: str) -> bool:
        """Look for a job that an interrupted run may have started without learning its id.

        How long the service remembers tokens is one of the questions, so look for its name.
        """
        if name not in self._state.attempted:
            return False
        job_name = self._account.request(name).job_name
        jobs = self._account.client.list_phi_detection_jobs(JobFilter(job_name=job_name))
        found = next(jobs, None)
        if found is not None:
            self._state.add_job(name, found.job_id)
        return found is not None

    def _give_up_if_ended(self, name: str) -> None:
        """Give up questions that only a running job can answer, if it ended in the meantime."""
        questions = self._questions_about({name}, while_running=True)
        missing = [each for each in questions if each.name not in self._state.answers]
        if (
            missing
            and self._account.client.job(self._state.jobs[name]).properties().job_status.is_terminal
        ):
            for question in missing:
                self._state.add_answer(question.name, Answer(reason=Reason.JOB_ENDED))

    def _wait(self, setup: Setup) -> None:
        if setup.name in self._account.refusals:
            return
        job = self._account.client.job(self._state.jobs[setup.name])
        try:
            properties = job.wait(WaitPolicy(timeout=_JOB_SECONDS))
        except WaitTimeout:
            self._inform(f"Job {setup.name} has not ended.")
            return
        except JobError as error:
            properties = error.job
        self._account.ended[setup.name] = properties
        self._inform(f"Job {setup.name} has ended as {properties.job_status}.")

    # --- Questions ---

    def _questions_about(self, jobs: set[str], *, while_running: bool) -> list[Question]:
        return [
            question
            for question in self._plan.questions
            if question.jobs
            and jobs.issuperset(question.jobs)
            and question.while_running == while_running
        ]

    def _ask(self, questions: Sequence[Question]) -> None:
        for question in questions:
            if question.name not in self._state.answers:
                self._state.add_answer(question.name, self._answer(question))

    def _answer(self, question: Question) -> Answer:
        try:
            observed = question.ask(self._account)
            # Our own answers have no identifiers, and a bucket may have the name of one of them.
            is_ours = observed == question.ours
            return Answer(observed=observed if is_ours else self._mask(observed))
        except NotAnswered as error:
            return Answer(reason=error.reason, detail=self._mask(error.detail))
        except ComprehendPHIError as error:
            if can_continue(error):
                raise
            detail = error.code if isinstance(error, ServiceError) else type(error).__name__
            return Answer(reason=Reason.CALL_FAILED, detail=self._mask(detail))


def can_continue(error: ComprehendPHIError) -> bool:
    """Return whether a run that ended with this error can continue later."""
    if isinstance(error, MalformedResponseError):
        return False
    return isinstance(error, (TransportError, ExpiredTokenException))

"""Running a plan: every job once, whatever happens, with staging that only takes notes."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    ActiveJobLimitExceeded,
    ClientClosedError,
    ComprehendPHIError,
    ExpiredTokenException,
    JobStatus,
    PHIClient,
    ResourceNotFoundException,
    ResultsError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    TransportError,
    WaitPolicy,
)
from comprehend_phi.corpus import (
    JobOutcome,
    JobPlan,
    PlanChangedError,
    PlannedJob,
    ServiceLimits,
)
from comprehend_phi.corpus.ledger import Copies, JobState, Ledger
from comprehend_phi.corpus.runner import WAIT, Run
from comprehend_phi.corpus.summary import IncompleteRunError, RunSummary
from comprehend_phi.testing import FakeClock, Limits, LocalServer, Rules, StartRecord, faults

from ..conftest import CANARY
from .plans import a_plan

START, LIST, DESCRIBE, STOP = (
    "StartPHIDetectionJob",
    "ListPHIDetectionJobs",
    "DescribePHIDetectionJob",
    "StopPHIDetectionJob",
)
# Polls that are not what a test is about.
SELDOM = WaitPolicy(delay=5, multiplier=1.3)
FEW = ServiceLimits(max_active_jobs=3)


class Staging:
    """Staging that copies nothing, but knows what was asked of it.

    Attributes:
        copies: the jobs that have copies.
        errors: the errors that calls raise, each once, by the name of the method and the job.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.copies: set[int] = set()
        self.errors: dict[tuple[str, int], list[ComprehendPHIError]] = {}

    def check(self, job: PlannedJob) -> None:
        self._call("check", job.index)

    def copy(self, job: PlannedJob) -> None:
        self.copies.add(job.index)
        self._call("copy", job.index)

    def delete(self, job: PlannedJob) -> None:
        self._call("delete", job.index)
        self.copies.discard(job.index)

    def _call(self, method: str, index: int) -> None:
        self.calls.append((method, index))
        if errors := self.errors.get((method, index)):
            raise errors.pop(0)


class World:
    """A local service with the notes of a plan, and runs of that plan."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = FakeClock()
        self.records: list[StartRecord] = []
        settings: dict[str, Any] = {
            "job_seconds": 300,
            "limits": Limits(starts_per_second=5),
            "on_start": self.records.append,
            **options,
        }
        self.server = LocalServer(clock=self.clock, **settings)
        self.staging = Staging()
        self.path = path
        self.seen: list[JobOutcome] = []
        self.clients: list[PHIClient] = []

    def prepare(self, plan: JobPlan, empty: tuple[int, ...] = ()) -> JobPlan:
        """Write the notes of a plan, except for jobs that shall fail."""
        self.plan = plan
        storage = self.server.storage
        if not storage.has_bucket("hospital-notes"):
            storage.create_bucket("hospital-notes")
        for job in plan.jobs:
            if job.index not in empty:
                storage.write("hospital-notes", job.first_key, f"Seen by {CANARY}.".encode())
        return plan

    def client(self, **options: Any) -> PHIClient:
        url = self.server.endpoint_url
        self.clients.append(PHIClient(endpoint_url=url, clock=self.clock, **options))
        return self.clients[-1]

    def run(self, client: PHIClient | None = None, **options: Any) -> RunSummary:
        """Run the plan as a new process would."""
        settings = {"on_change": self.seen.append, "wait": SELDOM, "now": self.clock.now}
        options = {**settings, **options}
        with Ledger(self.path, self.plan) as ledger:
            return Run(client or self.client(), self.plan, ledger, self.staging, **options).finish()

    def entries(self) -> list[Any]:
        with Ledger(self.path, self.plan) as ledger:
            return [ledger.entry(job) for job in self.plan.jobs]

    @property
    def started(self) -> list[str | None]:
        """The tokens of the jobs that were started."""
        return [record.token for record in self.records if record.job_id and not record.repeated]

    @property
    def refused(self) -> list[str | None]:
        return [record.error for record in self.records if record.error]

    def each_once(self) -> bool:
        tokens = [job.request.client_request_token for job in self.plan.jobs]
        return sorted(map(str, self.started)) == tokens


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(**options: Any) -> World:
        world = World(tmp_path / f"ledger-{len(worlds)}", **options)
        world.server.__enter__()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", world.server.endpoint_url)
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        for client in world.clients:
            client.close()
        world.server.__exit__(None, None, None)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


def statuses(summary: RunSummary) -> list[str | None]:
    return [job.status for job in summary.jobs]


class Killed(BaseException):
    """Ends a run as the death of its process does."""


# --- A run without trouble ------------------------------------------------------------------------


def test_every_job_is_started_once_and_followed_until_it_ends(world: World) -> None:
    plan = world.prepare(a_plan(5))
    summary = world.run()
    assert statuses(summary) == [JobStatus.COMPLETED] * 5
    assert [job.planned for job in summary.jobs] == list(plan.jobs)
    assert [job.job_id for job in summary.jobs] == list(world.server.service.job_ids)
    assert world.each_once()


def test_a_plan_without_jobs_is_done(world: World) -> None:
    world.prepare(a_plan(0))
    assert world.run().jobs == ()


def test_a_run_that_has_ended_asks_for_nothing_and_knows_how_it_ended(world: World) -> None:
    world.prepare(a_plan(3), empty=(1,))
    before = world.run()
    received = len(world.server.service.received)
    assert world.run() == before
    assert len(world.server.service.received) == received


def test_quotas_are_kept_and_no_start_is_refused(make_world: Callable[..., World]) -> None:
    world = make_world(limits=Limits(active_jobs=3, starts_per_second=2))
    limits = ServiceLimits(max_active_jobs=3, starts_per_second=2)
    world.prepare(a_plan(10, limits=limits))
    world.run()
    assert world.each_once()
    assert world.refused == []


def test_each_change_of_a_job_is_reported(world: World) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    world.run()
    assert [(job.status, job.message) for job in world.seen] == [
        (None, "copying files"),
        (None, None),
        ("SUBMITTED", None),
        ("IN_PROGRESS", None),
        ("COMPLETED", None),
    ]


def test_one_job_that_fails_does_not_stop_the_others(world: World) -> None:
    world.prepare(a_plan(3), empty=(1,))
    summary = world.run()
    assert statuses(summary) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "no files" in str(summary.jobs[1].message).lower()


def test_polling_takes_one_request_for_many_jobs(world: World) -> None:
    world.prepare(a_plan(6))
    world.run(wait=WAIT)
    service = world.server.service
    polls = service.attempts(LIST) - 6  # jobs are looked up by their names first
    assert service.attempts(DESCRIBE) < 15
    assert polls < 200


def test_a_run_waits_as_its_policy_says(world: World) -> None:
    world.prepare(a_plan(1))
    world.run(wait=WaitPolicy(delay=50, multiplier=1, max_delay=50))
    assert world.server.service.attempts(DESCRIBE) == 6
    assert [seconds for seconds in world.clock.sleeps if seconds > 1] == [50] * 6


# --- Slots that others take -----------------------------------------------------------------------


def test_a_start_waits_for_a_slot_that_another_program_frees(
    make_world: Callable[..., World],
) -> None:
    world = make_world(limits=Limits(active_jobs=1))
    world.prepare(a_plan(1))
    foreign = a_plan(1, name="foreign").jobs[0].request
    world.client().submit(foreign)
    summary = world.run()
    assert statuses(summary) == ["COMPLETED"]
    assert "waiting for a job slot" in {job.message for job in world.seen}
    assert len(world.refused) == 300 / 15
    assert world.clock.monotonic() < 660


def test_a_refused_start_is_sent_again_when_one_of_our_jobs_ends(
    make_world: Callable[..., World],
) -> None:
    world = make_world(limits=Limits(active_jobs=1))
    world.prepare(a_plan(2))
    world.run(wait=WaitPolicy(delay=100, multiplier=1, max_delay=100, timeout=10_000))
    starts = [record.time for record in world.records if record.job_id]
    # The first job ends after 300 s. The poll at that time sees it.
    assert (starts[1] - starts[0]).total_seconds() == pytest.approx(300, abs=1)


def test_the_client_own_wait_for_slots_does_not_block_the_run(
    make_world: Callable[..., World],
) -> None:
    world = make_world(limits=Limits(active_jobs=1))
    world.prepare(a_plan(2))
    patient = world.client(retry=RetryPolicy(slot_timeout=1e6, slot_delay=1e5))
    assert statuses(world.run(patient)) == ["COMPLETED"] * 2
    assert world.clock.monotonic() < 700


# --- Continuing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kill_at", range(1, 12))
def test_a_run_that_is_killed_after_any_change_continues(world: World, kill_at: int) -> None:
    world.prepare(a_plan(3, staged=(1,), limits=FEW))

    def kill(_: JobOutcome) -> None:
        nonlocal kill_at
        kill_at -= 1
        if kill_at == 0:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_change=kill)
    assert statuses(world.run()) == ["COMPLETED"] * 3
    assert world.each_once()
    assert world.staging.copies == set()


@pytest.mark.parametrize(
    "fault", [faults.reset_after(), faults.cut(), faults.empty_map()], ids=["reset", "cut", "empty"]
)
def test_a_start_whose_response_was_lost_is_found_by_its_name(
    world: World, fault: faults.Fault
) -> None:
    world.prepare(a_plan(2))
    world.server.service.script(fault, operation=START)
    # Without an attempt left, this ends the run unless the error may pass.
    once = world.client(retry=RetryPolicy(max_attempts=1))
    assert statuses(world.run(once)) == ["COMPLETED"] * 2
    assert world.each_once()


def test_a_job_that_was_starting_is_looked_up_before_it_is_sent_again(world: World) -> None:
    plan = world.prepare(a_plan(1))
    job_id = world.client().submit(plan.jobs[0].request).job_id
    with Ledger(world.path, plan) as ledger:
        token = plan.jobs[0].request.client_request_token
        ledger.record(plan.jobs[0], state=JobState.STARTING, start_token=token)
    assert world.run().jobs[0].job_id == job_id
    assert len(world.records) == 1


def test_a_job_that_a_refused_start_may_have_started_before_keeps_its_copies(
    world: World,
) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    # The first response is lost. 15 seconds later, the role has been deleted.
    world.server.service.script(
        faults.reset_after(), faults.error("InvalidRequestException"), operation=START
    )
    once = world.client(retry=RetryPolicy(max_attempts=1))
    assert statuses(world.run(once)) == ["COMPLETED"]
    assert world.staging.calls.index(("delete", 0)) == len(world.staging.calls) - 1
    assert world.clock.monotonic() > 300  # when the job had ended
    assert len(world.started) == 1


def test_a_job_that_may_have_taken_the_last_slot_keeps_its_copies(world: World) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    # The first response is lost, and the job takes the last slot. 15 seconds later, the role has
    # been deleted.
    no_slot = faults.error("TooManyRequestsException", "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED")
    world.server.service.script(
        faults.reset_after(), no_slot, faults.error("InvalidRequestException"), operation=START
    )
    twice = world.client(retry=RetryPolicy(max_attempts=2))
    assert statuses(world.run(twice)) == ["COMPLETED"]
    assert world.clock.monotonic() > 300  # when the job had ended
    assert len(world.started) == 1


@pytest.mark.parametrize("obstacle", [faults.job_limit(), faults.reset_before()])
def test_a_job_that_ends_before_its_start_is_sent_again_is_not_started_twice(
    make_world: Callable[..., World], obstacle: faults.Fault
) -> None:
    world = make_world(rules=Rules(remember_tokens="until-job-ends"))
    world.prepare(a_plan(1))
    # The first response is lost. The job then takes the last slot, or nothing can be reached.
    attempts = 300 // 15
    world.server.service.script(faults.reset_after(), *[obstacle] * attempts, operation=START)
    once = world.client(retry=RetryPolicy(max_attempts=1))
    assert statuses(world.run(once)) == ["COMPLETED"]
    assert len(world.started) == 1


def test_a_job_that_failed_unseen_is_not_started_a_third_time(world: World) -> None:
    world.prepare(a_plan(1), empty=(0,))
    world.run()
    # The response is lost, and the jobs cannot be listed until the job has failed.
    world.server.service.script(faults.reset_after(), operation=START)
    outage = [faults.unavailable()] * (300 // 15)
    world.server.service.script(faults.passes(), *outage, operation=LIST)
    once = world.client(retry=RetryPolicy(max_attempts=1))
    assert statuses(world.run(once, retry_failed=True)) == ["FAILED"]
    assert len(world.started) == 2


@pytest.mark.parametrize("abandons", [False, True], ids=["files changed", "abandoned"])
def test_a_job_that_the_service_lists_late_is_not_given_up(world: World, abandons: bool) -> None:
    plan = world.prepare(a_plan(1, staged=(0,)))
    job_id = world.client().submit(plan.jobs[0].request).job_id
    with Ledger(world.path, plan) as ledger:
        token = plan.jobs[0].request.client_request_token
        ledger.record(plan.jobs[0], state=JobState.STARTING, start_token=token, copies=Copies.ALL)
    world.staging.copies = {0}
    changed = PlanChangedError(index=0, file_count=1, found_count=2)
    world.staging.errors = {("copy", 0): [changed]}
    nothing = b'{"ComprehendMedicalAsyncJobPropertiesList": []}'
    world.server.service.script(faults.answer(200, nothing), operation=LIST)
    [job] = world.run(abandons=abandons).jobs
    assert (job.job_id, job.status) == (job_id, "STOPPED" if abandons else "COMPLETED")
    assert world.staging.copies == set()
    assert len(world.records) == 1


def test_a_lost_ledger_starts_no_job_twice(world: World) -> None:
    world.prepare(a_plan(4, limits=FEW), empty=(1,))
    before = world.run()
    world.path.unlink()
    assert world.run() == before
    assert len(world.started) == 4


def test_the_service_may_forget_tokens_when_jobs_end(make_world: Callable[..., World]) -> None:
    world = make_world(rules=Rules(remember_tokens="until-job-ends"))
    world.prepare(a_plan(2))
    world.run()
    world.path.unlink()
    world.run()
    assert len(world.started) == 2


def test_running_jobs_are_reported_again_when_a_run_continues(world: World) -> None:
    world.prepare(a_plan(2))

    with pytest.raises(Killed):
        world.run(on_change=killer_at("IN_PROGRESS"))
    world.run()
    first = world.seen[0]
    assert (first.planned.index, first.job_id) == (0, world.server.service.job_ids[0])


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0, 0.1, 0.3]),
    kills=st.lists(st.integers(1, 30), max_size=3),
    staged=st.sets(st.integers(0, 5)),
    foreign=st.integers(0, 2),
)
@example(seed=326, share=0.3, kills=[], staged=set(), foreign=2)  # truncates a refusal
def test_every_job_is_started_once_whatever_happens(
    make_world: Callable[..., World],
    seed: int,
    share: float,
    kills: list[int],
    staged: set[int],
    foreign: int,
) -> None:
    world = make_world(job_seconds=60, limits=Limits(active_jobs=3))
    world.prepare(a_plan(6, staged=tuple(staged), limits=FEW), empty=(4,))
    for job in a_plan(foreign, name="foreign").jobs:
        world.client().submit(job.request)
    world.server.service.fail_randomly(seed, share)

    def kill_after(count: int) -> Callable[[JobOutcome], None]:
        def kill(_: JobOutcome) -> None:
            nonlocal count
            count -= 1
            if count == 0:
                raise Killed

        return kill

    for count in kills:
        with suppress(Killed):
            world.run(on_change=kill_after(count))
    summary = world.run()
    assert statuses(summary) == ["COMPLETED"] * 4 + ["FAILED", "COMPLETED"]
    assert len(world.started) == 6 + foreign
    assert world.staging.copies == set()
    assert {entry.copies for entry in world.entries()} == {Copies.NONE}


# --- Jobs that failed -----------------------------------------------------------------------------


def test_failed_jobs_are_started_again_once_if_asked_to(world: World) -> None:
    plan = world.prepare(a_plan(2), empty=(1,))
    first = world.run()
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED", "FAILED"]
    assert len(world.started) == len(set(world.started)) == 3
    world.prepare(plan)
    assert statuses(world.run()) == ["COMPLETED", "FAILED"]
    last = world.run(retry_failed=True)
    assert statuses(last) == ["COMPLETED", "COMPLETED"]
    assert last.jobs[0] == first.jobs[0]
    assert len(world.started) == 4


def test_a_second_start_that_was_under_way_is_finished_without_being_asked_again(
    world: World,
) -> None:
    plan = world.prepare(a_plan(1), empty=(0,))
    world.run()
    world.prepare(plan)
    world.server.service.script(faults.error("ExpiredTokenException"), operation=START)
    with pytest.raises(IncompleteRunError):
        world.run(retry_failed=True)
    assert world.entries()[0].state is JobState.STARTING
    assert statuses(world.run()) == ["COMPLETED"]
    assert len(world.started) == 2


def test_a_start_that_the_service_refuses_for_good_is_an_outcome(world: World) -> None:
    world.prepare(a_plan(2, staged=(0,)))
    refusal = faults.error("InvalidRequestException", f"Value '{CANARY}' at 'role' failed")
    world.server.service.script(refusal, operation=START)
    summary = world.run()
    assert [(job.job_id is None, job.status) for job in summary.jobs] == [
        (True, None),
        (False, "COMPLETED"),
    ]
    assert "InvalidRequestException" in str(summary.jobs[0].message)
    assert CANARY not in str(summary.jobs[0].message)
    assert world.staging.copies == set()
    assert world.run() == summary
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED"] * 2


def test_a_refusal_after_a_lost_response_ends_the_run_because_the_job_may_exist(
    world: World,
) -> None:
    world.prepare(a_plan(1))
    refusal = faults.error("InvalidRequestException")
    world.server.service.script(faults.reset_after(), refusal, operation=START)
    with pytest.raises(IncompleteRunError, match="InvalidRequestException"):
        world.run()
    assert statuses(world.run()) == ["COMPLETED"]
    assert world.each_once()


def test_a_job_of_the_same_name_with_other_parameters_is_an_outcome(world: World) -> None:
    plan = world.prepare(a_plan(2))
    other = a_plan(2, name="other").jobs[0].request.to_dict()
    other["JobName"] = plan.jobs[0].request.job_name
    other["InputDataConfig"]["S3Key"] = "elsewhere"
    world.client().submit(StartPHIDetectionJobRequest.from_dict(other))
    summary = world.run()
    assert statuses(summary) == [None, "COMPLETED"]
    assert "differs in input_data_config" in str(summary.jobs[0].message)


# --- Files that changed, and copies ---------------------------------------------------------------


class ChangedError(ComprehendPHIError):
    """The files are not the planned ones."""

    def __str__(self) -> str:
        return "the files have changed"


def test_a_job_whose_files_changed_is_not_started_and_the_others_are(world: World) -> None:
    world.prepare(a_plan(3, staged=(2,)))
    world.staging.errors = {("check", 0): [ChangedError()], ("copy", 2): [ChangedError()]}
    summary = world.run()
    assert statuses(summary) == [None, "COMPLETED", None]
    assert summary.jobs[0].message == "the files have changed"
    assert world.staging.copies == set()
    assert world.run().jobs[0].message == "ChangedError: the files have changed"
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED"] * 3


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (ResultsError("S3 refuses", bucket="b", key=CANARY), "ResultsError: S3 refuses"),
        (ComprehendPHIError("2 failed", CANARY), "ComprehendPHIError: 2 failed"),
    ],
)
def test_the_ledger_does_not_name_files_that_could_not_be_copied(
    world: World, error: ComprehendPHIError, recorded: str
) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    world.staging.errors = {("copy", 0): [error]}
    assert world.run().jobs[0].message == str(error)
    assert world.entries()[0].message == recorded


def test_the_next_files_are_copied_while_jobs_run(world: World) -> None:
    world.prepare(a_plan(9, staged=tuple(range(9)), limits=FEW))
    ahead: list[int] = []

    def note(job: JobOutcome) -> None:
        if job.status == "COMPLETED" and not ahead:
            ahead.append(sum(method == "copy" for method, _ in world.staging.calls))

    world.run(on_change=note)
    assert ahead == [6]


def test_a_folder_is_checked_just_before_its_job_starts(world: World) -> None:
    world.prepare(a_plan(4, limits=ServiceLimits(max_active_jobs=1)))
    checked: list[int] = []

    def note(job: JobOutcome) -> None:
        if job.status == "COMPLETED":
            checked.append(len(world.staging.calls))

    world.run(on_change=note)
    assert checked == [1, 2, 3, 4]


def test_copies_are_deleted_when_their_job_has_ended_however_it_ended(world: World) -> None:
    world.prepare(a_plan(3, staged=(0, 1, 2)), empty=(1,))
    world.run()
    assert world.staging.copies == set()
    assert {entry.copies for entry in world.entries()} == {Copies.NONE}


@pytest.mark.parametrize("abandons", [False, True])
def test_copies_are_deleted_even_if_the_ledger_was_lost(world: World, abandons: bool) -> None:
    world.prepare(a_plan(2, staged=(0, 1)))

    with pytest.raises(Killed):
        world.run(on_change=killer_at("SUBMITTED"))
    assert world.staging.copies
    world.path.unlink()
    world.run(abandons=abandons)
    assert world.staging.copies == set()


def test_copies_can_be_kept(world: World) -> None:
    world.prepare(a_plan(2, staged=(0, 1)), empty=(1,))
    world.run(keep_staged=True)
    assert world.staging.copies == {0, 1}
    world.run()
    assert world.staging.copies == set()


@pytest.mark.parametrize("damage", ["manifest", "count"])
def test_copies_are_kept_while_results_are_incomplete(world: World, damage: str) -> None:
    plan = world.prepare(a_plan(1, staged=(0,)))
    storage, manifests = world.server.storage, dict[str, bytes]()

    def hide(job: JobOutcome) -> None:
        if job.status == "COMPLETED":
            [key] = [key for key in storage.keys("hospital-notes") if key.endswith("/Manifest")]
            manifests[key] = storage.read("hospital-notes", key)
            changed = manifests[key].replace(b'"SuccessFilesCount":1', b'"SuccessFilesCount":0')
            assert changed != manifests[key]
            storage.write("hospital-notes", key, b"{" if damage == "manifest" else changed)

    assert statuses(world.run(on_change=hide)) == ["COMPLETED"]
    assert world.staging.copies == {0}
    for key, content in manifests.items():
        storage.write("hospital-notes", key, content)
    world.run()
    assert world.staging.copies == set()
    assert plan.jobs[0].staged


def test_copies_that_cannot_be_deleted_are_an_error_after_all_jobs_have_ended(world: World) -> None:
    world.prepare(a_plan(2, staged=(0,)))
    problem = ResultsError("S3 refuses to delete them", bucket="b")
    world.staging.errors = {("delete", 0): [problem]}
    with pytest.raises(IncompleteRunError, match="copies of 1 job could not be deleted") as caught:
        world.run()
    assert statuses(caught.value.summary) == ["COMPLETED"] * 2
    assert caught.value.error is problem
    assert statuses(world.run()) == ["COMPLETED"] * 2
    assert world.staging.copies == set()


# --- Jobs that the service does not know ----------------------------------------------------------

DAY = 86_400
UNKNOWN = faults.error("ResourceNotFoundException")


def killer_at(status: str, count: int = 1) -> Callable[[JobOutcome], None]:
    """Return a callback that ends the process when so many jobs have a status."""

    def kill(job: JobOutcome) -> None:
        nonlocal count
        count -= job.status == status
        if count == 0:
            raise Killed

    return kill


def killed_when_started(world: World, jobs: int | None = None, **options: Any) -> None:
    """Run a plan with a process that dies as soon as all jobs, or so many, are started."""
    kill = killer_at("SUBMITTED", jobs or len(world.plan.jobs))
    with pytest.raises(Killed):
        world.run(on_change=kill, **options)


def started_unseen(world: World) -> str:
    """Start the only job with a process that dies before the response, and return the token."""
    plan = world.prepare(a_plan(1))
    world.server.service.script(faults.reset_after(), operation=START)
    once = world.client(retry=RetryPolicy(max_attempts=1))
    with pytest.raises(IncompleteRunError):
        world.run(once, wait=WaitPolicy(timeout=1))
    assert world.entries()[0].state is JobState.STARTING
    return str(plan.jobs[0].request.client_request_token)


def manifest_of(world: World, index: int) -> str:
    """Return the key of the manifest of the job that was started at this place."""
    return f"results/123456789012-PHIDetection-{world.records[index].job_id}/Manifest"


def forgotten(world: World, *, empty: tuple[int, ...] = (), count: int = 2) -> JobPlan:
    """Start staged jobs, let them end unseen, and wait until the service has forgotten them."""
    plan = world.prepare(a_plan(count, staged=tuple(range(count))), empty=empty)
    killed_when_started(world)
    world.clock.sleep(400)
    world.server.service.settle()
    world.clock.sleep(120 * DAY)
    return plan


def lose(world: World, *, count: int = 2) -> None:
    """Let the service forget staged jobs, of which the first has left no manifest."""
    forgotten(world, count=count)
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    with closing(session.client("s3", endpoint_url=world.server.endpoint_url)) as s3:
        s3.delete_object(Bucket="hospital-notes", Key=manifest_of(world, 0))


@pytest.mark.parametrize("abandons", [False, True], ids=["run", "abandon"])
def test_manifests_say_how_forgotten_jobs_ended(world: World, abandons: bool) -> None:
    forgotten(world, count=3, empty=(1,))
    summary = world.run(abandons=abandons)
    assert statuses(summary) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "no files" in str(summary.jobs[1].message).lower()
    assert world.staging.copies == set()
    assert world.run() == summary
    assert world.each_once()


@pytest.mark.parametrize("abandons", [False, True], ids=["run", "abandon"])
def test_a_forgotten_job_without_a_manifest_is_lost_and_does_not_stop_the_others(
    world: World, abandons: bool
) -> None:
    lose(world)
    summary = world.run(abandons=abandons)
    assert [(job.status, job.is_lost) for job in summary.jobs] == [
        (None, True),
        ("COMPLETED", False),
    ]
    assert (summary.jobs[0].job_id, summary.jobs[0].message) == (
        world.records[0].job_id,
        "the service has forgotten the job, and it left no results",
    )
    assert world.staging.copies == set()
    assert world.run() == summary
    assert world.each_once()


@pytest.mark.parametrize("status", ["IN_PROGRESS", "PAUSED"])
def test_a_forgotten_job_whose_manifest_does_not_say_how_it_ended_is_lost(
    world: World, status: str
) -> None:
    forgotten(world, count=1)
    manifest = json.dumps({"Summary": {"Status": status}}).encode()
    world.server.storage.write("hospital-notes", manifest_of(world, 0), manifest)
    [job] = world.run().jobs
    assert (job.job_id, job.status, job.is_lost) == (world.records[0].job_id, None, True)
    assert world.each_once()


def test_a_lost_job_is_started_once_more_under_a_new_token_if_asked_to(world: World) -> None:
    lose(world)
    world.run()
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED"] * 2
    assert not any(job.is_lost for job in world.run(retry_failed=True).jobs)
    assert len(world.started) == len({*world.started}) == 3


def test_a_failed_job_that_is_forgotten_is_started_again_under_a_new_token(world: World) -> None:
    plan = world.prepare(a_plan(1), empty=(0,))
    assert statuses(world.run()) == ["FAILED"]
    world.clock.sleep(120 * DAY)
    world.prepare(plan)
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED"]
    assert len(world.started) == len({*world.started}) == 2


@pytest.mark.parametrize("knows", ["the service", "its manifest"])
def test_a_lost_job_that_is_found_again_is_not_started_again(world: World, knows: str) -> None:
    plan = world.prepare(a_plan(1))
    killed_when_started(world)
    world.clock.sleep(400)
    world.server.service.settle()
    job_id = world.records[0].job_id
    with Ledger(world.path, plan) as ledger:
        ledger.record(plan.jobs[0], state=JobState.LOST, job_id=job_id)
    if knows == "its manifest":
        world.clock.sleep(120 * DAY)
    [job] = world.run(retry_failed=True).jobs
    assert (job.job_id, job.status, job.is_lost) == (job_id, "COMPLETED", False)
    assert world.each_once()


def test_a_lost_job_is_not_started_again_if_its_results_cannot_be_read(world: World) -> None:
    forgotten(world, count=1)
    world.server.storage.write("hospital-notes", manifest_of(world, 0), b"{")
    plan = world.plan
    with Ledger(world.path, plan) as ledger:
        ledger.record(plan.jobs[0], state=JobState.LOST, job_id=world.records[0].job_id)
    [job] = world.run(retry_failed=True).jobs
    assert job.is_lost
    assert "the file is not JSON" in str(job.message)
    assert world.entries()[0].job_id == job.job_id == world.records[0].job_id
    assert world.each_once()


def test_a_job_that_the_service_does_not_know_yet_is_asked_for_again(world: World) -> None:
    world.prepare(a_plan(1))
    world.server.service.script(*[UNKNOWN] * 5, operation=DESCRIBE)
    [job] = world.run().jobs
    assert (job.status, job.is_lost) == ("COMPLETED", False)
    assert world.each_once()


@pytest.mark.parametrize(
    ("abandons", "operations", "status"),
    [(False, [DESCRIBE], "COMPLETED"), (True, [STOP, DESCRIBE], "STOPPED")],
    ids=["run", "abandon"],
)
def test_a_job_is_new_when_its_start_is_accepted_however_long_it_waited_for_a_slot(
    make_world: Callable[..., World], abandons: bool, operations: list[str], status: str
) -> None:
    world = make_world(limits=Limits(active_jobs=1), job_seconds=1_000)
    world.prepare(a_plan(1))
    world.client().submit(a_plan(1, name="foreign").jobs[0].request)
    killed_when_started(world)
    for operation in operations:
        world.server.service.script(UNKNOWN, operation=operation)
    assert statuses(world.run(abandons=abandons)) == [status]


@pytest.mark.parametrize(
    ("ahead", "reason"), [(800, "its timeout has passed"), (1_000, "job 0 is unknown")]
)
def test_a_start_in_the_future_is_only_new_if_the_clock_was_set_back_a_little(
    world: World, ahead: float, reason: str
) -> None:
    plan = world.prepare(a_plan(1))
    killed_when_started(world)
    with Ledger(world.path, plan) as ledger:
        sent = world.clock.now() + timedelta(seconds=ahead)
        ledger.record(plan.jobs[0], sent=sent)
    world.server.service.reset()
    with pytest.raises(IncompleteRunError, match=reason):
        world.run(wait=WaitPolicy(timeout=60))


@pytest.mark.parametrize("age", [900, 119 * DAY])
def test_a_job_that_the_service_should_know_ends_the_run_and_is_followed_later(
    make_world: Callable[..., World], age: float
) -> None:
    world = make_world(job_seconds=age + 1_000)
    world.prepare(a_plan(2, limits=ServiceLimits(max_active_jobs=1)), empty=(0,))
    killed_when_started(world, jobs=1)
    world.clock.sleep(age)
    world.server.service.script(UNKNOWN, operation=DESCRIBE)
    with pytest.raises(IncompleteRunError, match=r"job 0 is unknown.*Check the job id") as caught:
        world.run()
    assert isinstance(caught.value.error, ResourceNotFoundException)
    assert caught.value.__context__ is None
    assert len(world.started) == 1  # no job starts in the wrong account
    world.clock.sleep(1_000)
    with pytest.raises(Killed):
        world.run(on_change=killer_at("FAILED"))
    assert world.entries()[0].state is JobState.ENDED


def test_a_run_in_another_region_than_its_bucket_ends(make_world: Callable[..., World]) -> None:
    world = make_world(job_seconds=4_000)
    world.prepare(a_plan(1))
    killed_when_started(world)
    world.clock.sleep(3_600)
    session: Any = boto3.Session("testing", "testing", region_name="eu-west-1")
    with pytest.raises(IncompleteRunError, match="in us-east-1, but the client uses eu-west-1"):
        world.run(world.client(session=session), abandons=True)
    assert world.entries()[0].state is JobState.STARTED


def test_a_run_ends_if_the_results_of_an_unknown_job_cannot_be_read(world: World) -> None:
    forgotten(world, count=1)
    world.server.storage.write("hospital-notes", manifest_of(world, 0), b"{")
    with pytest.raises(IncompleteRunError, match=r"results cannot be read: .*not JSON") as caught:
        world.run()
    assert isinstance(caught.value.error, ResultsError)
    assert world.entries()[0].state is JobState.STARTED


def test_a_run_waits_for_s3_to_say_how_a_forgotten_job_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(world, count=1)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        once = world.client(retry=RetryPolicy(max_attempts=1))
        with pytest.raises(IncompleteRunError, match="its timeout has passed"):
            world.run(once, wait=WaitPolicy(timeout=60))
    assert statuses(world.run()) == ["COMPLETED"]


def test_unknown_jobs_are_given_up_if_they_are_abandoned(world: World) -> None:
    world.prepare(a_plan(2, staged=(1,)))
    killed_when_started(world)
    world.clock.sleep(900)
    world.server.service.reset()
    summary = world.run(abandons=True)
    assert [job.is_lost for job in summary.jobs] == [True, True]
    assert "in another account or region" in str(summary.jobs[0].message)
    assert world.staging.copies == set()


def test_a_job_that_the_service_does_not_know_yet_is_stopped_later(world: World) -> None:
    world.prepare(a_plan(1))
    killed_when_started(world)
    world.server.service.script(UNKNOWN, operation=STOP)
    assert statuses(world.run(abandons=True)) == ["STOPPED"]


@pytest.mark.parametrize("abandons", [False, True], ids=["run", "abandon"])
def test_a_start_of_long_ago_without_a_response_is_not_sent_again(
    world: World, abandons: bool
) -> None:
    started_unseen(world)
    world.clock.sleep(120 * DAY)
    [job] = world.run(abandons=abandons).jobs
    assert (job.job_id, job.status, job.is_lost) == (None, None, True)
    assert "120 days" in str(job.message)
    assert len(world.started) == 1


def test_a_start_of_long_ago_is_sent_again_if_asked_to(world: World) -> None:
    token = started_unseen(world)
    world.clock.sleep(120 * DAY)
    killed_when_started(world, retry_failed=True)
    assert world.started == [token, token]
    world.server.service.script(UNKNOWN, operation=DESCRIBE)  # too new to be lost
    assert statuses(world.run()) == ["COMPLETED"]


def test_copies_of_a_forgotten_job_are_deleted_if_its_results_are_complete(world: World) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    world.run(keep_staged=True)
    world.clock.sleep(120 * DAY)
    world.run()
    assert world.staging.copies == set()


# --- Errors that concern all jobs -----------------------------------------------------------------


def test_expired_credentials_end_the_run_and_leave_the_jobs_running(world: World) -> None:
    world.prepare(a_plan(5, limits=FEW))
    service = world.server.service
    service.script(*[faults.passes()] * 8, faults.error("ExpiredTokenException"), operation=LIST)
    with pytest.raises(IncompleteRunError, match="Of 5 jobs, 0 have ended and 3 are") as caught:
        world.run()
    assert isinstance(caught.value.error, ExpiredTokenException)
    assert "Fix the cause, then repeat the call with the same plan and ledger." in str(caught.value)
    assert caught.value.__context__ is None
    assert statuses(world.run()) == ["COMPLETED"] * 5
    assert world.each_once()


def test_a_job_that_the_service_does_not_know_ends_the_run(world: World) -> None:
    plan = world.prepare(a_plan(1))
    with Ledger(world.path, plan) as ledger:
        ledger.record(plan.jobs[0], state=JobState.STARTED, job_id="0" * 32)
    with pytest.raises(IncompleteRunError, match="Check the job id, the account and the region"):
        world.run()
    assert world.started == []


def test_a_closed_client_ends_the_run(world: World) -> None:
    world.prepare(a_plan(2))
    client = world.client()

    def close(job: JobOutcome) -> None:
        if job.status is not None:
            client.close()

    with pytest.raises(IncompleteRunError) as caught:
        world.run(client, on_change=close)
    assert isinstance(caught.value.error, ClientClosedError)
    assert statuses(world.run()) == ["COMPLETED"] * 2
    assert world.each_once()


@pytest.mark.parametrize("operation", [START, LIST, DESCRIBE])
def test_a_run_outlasts_an_outage_of_minutes(world: World, operation: str) -> None:
    world.prepare(a_plan(1))
    world.server.service.script(*[faults.unavailable()] * 100, operation=operation)
    assert statuses(world.run()) == ["COMPLETED"]
    assert world.each_once()


@pytest.mark.parametrize("method", ["copy", "delete"])
def test_a_run_outlasts_an_outage_of_s3(world: World, method: str) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    outage = TransportError(operation="CopyObject", reason="the connection failed")
    world.staging.errors = {(method, 0): [outage] * 5}
    assert statuses(world.run()) == ["COMPLETED"]
    assert world.staging.copies == set()


def test_an_outage_of_more_than_an_hour_ends_the_run(world: World) -> None:
    world.prepare(a_plan(1))
    world.server.service.script(*[faults.unavailable()] * 10_000, operation=LIST)
    with pytest.raises(IncompleteRunError, match="ServiceUnavailable"):
        world.run(world.client(retry=RetryPolicy(max_attempts=1)))
    assert 3_600 <= world.clock.monotonic() < 3_700


def test_an_outage_ends_when_the_service_says_that_no_slot_is_free(world: World) -> None:
    world.prepare(a_plan(1))
    outage, hours = faults.throttle(), 2 * 3_600 // 15
    world.server.service.script(outage, *[faults.job_limit()] * hours, outage, operation=START)
    assert statuses(world.run(world.client(retry=RetryPolicy(max_attempts=1)))) == ["COMPLETED"]


def test_an_outage_ends_when_s3_refuses_a_job(world: World) -> None:
    world.prepare(a_plan(2, staged=(0, 1)))
    outage = TransportError(operation="CopyObject", reason="the network failed")
    refusal = ResultsError("S3 refuses to list the folder")
    world.staging.errors = {
        ("copy", 0): [*[outage] * 200, refusal],
        ("copy", 1): [*[outage] * 300],
    }
    summary = world.run(keep_staged=True)
    assert statuses(summary) == [None, "COMPLETED"]


def test_a_timeout_ends_the_run_and_leaves_the_jobs_running(world: World) -> None:
    world.prepare(a_plan(2))
    with pytest.raises(IncompleteRunError, match="its timeout has passed") as caught:
        world.run(wait=WaitPolicy(timeout=100))
    assert world.clock.monotonic() == pytest.approx(100)
    assert caught.value.error is None
    assert "affect. Repeat the call with the same plan and ledger." in str(caught.value)
    assert statuses(caught.value.summary) == ["IN_PROGRESS"] * 2
    assert statuses(world.run()) == ["COMPLETED"] * 2


def test_ctrl_c_returns_at_once_even_if_files_are_being_copied(world: World) -> None:
    world.prepare(a_plan(2, staged=(1,)))
    copying, may_end = threading.Event(), threading.Event()

    class SlowStaging(Staging):
        def copy(self, job: PlannedJob) -> None:
            copying.set()
            may_end.wait(60)

    world.staging = SlowStaging()

    def interrupt(job: JobOutcome) -> None:
        if job.status is not None:
            assert copying.wait(60)
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            world.run(on_change=interrupt)
        assert not may_end.is_set()
    finally:
        may_end.set()
    world.staging = Staging()
    assert statuses(world.run()) == ["COMPLETED"] * 2
    assert world.each_once()


def test_the_run_sleeps_on_its_clock_while_files_are_being_copied(world: World) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    slept = threading.Event()

    class NoticedClock(FakeClock):
        def monotonic(self) -> float:
            return world.clock.monotonic()

        def sleep(self, seconds: float) -> None:
            world.clock.sleep(seconds)
            slept.set()

    class SlowStaging(Staging):
        def copy(self, job: PlannedJob) -> None:
            assert slept.wait(60)
            super().copy(job)

    world.staging = SlowStaging()
    with PHIClient(endpoint_url=world.server.endpoint_url, clock=NoticedClock()) as client:
        assert statuses(world.run(client)) == ["COMPLETED"]


# --- Abandoning -----------------------------------------------------------------------------------


def test_an_abandoned_run_stops_its_jobs_and_deletes_all_copies(world: World) -> None:
    world.prepare(a_plan(5, staged=(0, 4), limits=FEW))

    with pytest.raises(Killed):
        world.run(on_change=killer_at("IN_PROGRESS"))
    summary = world.run(abandons=True)
    assert statuses(summary) == ["STOPPED"] * 3 + [None] * 2
    assert summary.jobs[3].message == "abandoned before it was started"
    assert world.staging.copies == set()
    assert len(world.started) == 3
    assert statuses(world.run(retry_failed=True)) == ["COMPLETED"] * 5


def test_a_stop_that_fails_is_sent_again_and_does_not_keep_the_other_jobs_running(
    world: World,
) -> None:
    world.prepare(a_plan(3))

    with pytest.raises(Killed):
        world.run(on_change=killer_at("IN_PROGRESS"))
    world.server.service.script(faults.unavailable(), operation=STOP)
    once = world.client(retry=RetryPolicy(max_attempts=1))
    assert statuses(world.run(once, abandons=True)) == ["STOPPED"] * 3


def test_copies_of_a_run_that_ended_while_it_copied_are_deleted_when_it_is_abandoned(
    world: World,
) -> None:
    world.prepare(a_plan(1, staged=(0,)))
    expired = TransportError(operation="CopyObject", reason="expired", retryable=False)
    world.staging.errors = {("copy", 0): [expired]}
    with pytest.raises(IncompleteRunError):
        world.run()
    assert world.staging.copies == {0}
    world.run(abandons=True)
    assert world.staging.copies == set()


def test_abandoning_finds_jobs_by_their_names_and_ignores_those_that_have_ended(
    make_world: Callable[..., World],
) -> None:
    world = make_world(rules=Rules(stop_after_end="refused"))
    plan = world.prepare(a_plan(2))
    world.client().submit(plan.jobs[1].request)
    world.clock.sleep(400)
    assert statuses(world.run(abandons=True)) == [None, "COMPLETED"]


# --- Nothing leaks --------------------------------------------------------------------------------


def test_neither_summaries_nor_errors_nor_logs_show_keys(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "comprehend_phi")
    plan = world.prepare(a_plan(2, name=CANARY), empty=(1,))
    service = world.server.service
    service.script(*[faults.passes()] * 5, faults.error("ExpiredTokenException"), operation=LIST)
    with pytest.raises(IncompleteRunError) as caught:
        world.run()
    summary = world.run()
    shown = f"{caught.value!r} {caught.value} {summary!r} {world.seen!r} {caplog.text}"
    shown += " ".join(str(job.message) for job in summary.jobs)
    assert plan.name == CANARY
    assert not any(word in shown for word in CANARY.split())
    assert not any(word.encode() in world.path.read_bytes() for word in CANARY.split())


def test_summaries_and_errors_survive_pickling(world: World) -> None:
    world.prepare(a_plan(1))
    summary = world.run()
    assert pickle.loads(pickle.dumps(summary)) == summary
    error = IncompleteRunError("the network failed", summary=summary, error=ResultsError("gone"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.summary) == (str(error), summary)
    assert type(again.error) is ResultsError


def test_a_slot_refusal_is_no_error() -> None:
    assert ActiveJobLimitExceeded.retryable

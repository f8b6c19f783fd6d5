"""When a run starts and polls, and which jobs it prepares next: decisions without I/O."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import WaitPolicy
from comprehend_phi.corpus import ServiceLimits
from comprehend_phi.corpus.schedule import RETRY_SECONDS, Phase, Step, Timetable, to_prepare

WAIT = WaitPolicy(delay=2, multiplier=1.5, max_delay=60)


def timetable(limits: ServiceLimits | None = None) -> Timetable:
    return Timetable(limits or ServiceLimits(), WAIT)


# --- Which jobs to prepare ------------------------------------------------------------------------

ACTIVE, READY, PREPARING, DONE, WAITING = (
    Phase.ACTIVE,
    Phase.READY,
    Phase.PREPARING,
    Phase.DONE,
    Phase.WAITING,
)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ([WAITING] * 4, [0, 1]),
        ([ACTIVE, WAITING, WAITING], [1]),
        ([READY, PREPARING, WAITING], []),
        ([DONE, ACTIVE, DONE, WAITING], [3]),
        ([ACTIVE, ACTIVE, WAITING], []),
    ],
)
def test_a_folder_is_checked_when_a_slot_is_free(folders: list[Phase], expected: list[int]) -> None:
    jobs = [Step(phase, staged=False) for phase in folders]
    assert list(to_prepare(jobs, slots=2)) == expected


@pytest.mark.parametrize(
    ("staged", "expected"),
    [
        ([WAITING] * 4, [0, 1]),
        ([ACTIVE, ACTIVE, WAITING, WAITING, WAITING], [2, 3]),
        ([ACTIVE, ACTIVE, READY, WAITING, WAITING], [3]),
        ([READY, PREPARING, WAITING], []),
    ],
)
def test_files_are_copied_ahead_for_as_many_jobs_as_may_run(
    staged: list[Phase], expected: list[int]
) -> None:
    jobs = [Step(phase, staged=True) for phase in staged]
    assert list(to_prepare(jobs, slots=2)) == expected


def test_copies_that_are_ready_take_the_slots_before_folders() -> None:
    jobs = [Step(READY, staged=True), Step(WAITING, staged=False), Step(ACTIVE, staged=False)]
    assert list(to_prepare(jobs, slots=2)) == []


STEPS = st.lists(st.builds(Step, st.sampled_from(Phase), st.booleans()), max_size=12)


@given(STEPS, st.integers(1, 5))
def test_a_free_slot_never_stays_empty_while_a_job_waits(jobs: list[Step], slots: int) -> None:
    chosen = list(to_prepare(jobs, slots))
    coming = sum(job.phase in (ACTIVE, READY, PREPARING) for job in jobs) + len(chosen)
    waiting = [index for index, job in enumerate(jobs) if job.phase is WAITING]
    assert set(chosen) <= set(waiting)
    assert chosen == sorted(chosen)
    assert coming >= slots or set(chosen) == set(waiting)


# --- When to start --------------------------------------------------------------------------------


def test_the_first_start_is_due_at_once() -> None:
    assert timetable().start_delay(now=0) == 0


def test_starts_keep_their_rate() -> None:
    times = timetable(ServiceLimits(starts_per_second=4))
    times.sent(now=100)
    assert [times.start_delay(now) for now in (100, 100.125, 100.25, 101)] == [0.25, 0.125, 0, 0]


def test_no_start_is_due_while_our_jobs_take_all_slots() -> None:
    times = timetable(ServiceLimits(max_active_jobs=2))
    for job in (7, 8):
        assert times.start_delay(now=5) == 0
        times.started(job, now=5)
    assert times.start_delay(now=5) is None
    times.ended(7)
    assert times.start_delay(now=5) == 0


def test_a_refused_start_is_due_again_after_a_while() -> None:
    times = timetable()
    times.started(1, now=0)
    times.refused(now=10)
    assert times.start_delay(now=10) == RETRY_SECONDS
    assert times.start_delay(now=10 + RETRY_SECONDS) == 0


def test_a_refused_start_is_due_again_when_one_of_our_jobs_ends() -> None:
    times = timetable()
    times.started(1, now=0)
    times.refused(now=10)
    times.ended(1)
    assert times.start_delay(now=11) == 0


# --- When to poll ---------------------------------------------------------------------------------


def test_no_poll_is_due_without_a_job() -> None:
    assert timetable().poll_delay(now=7) is None


def test_the_first_poll_is_due_after_the_delay() -> None:
    times = timetable()
    times.started(1, now=100)
    assert [times.poll_delay(now) for now in (100, 101, 102, 103)] == [2, 1, 0, 0]


def test_polls_of_one_job_are_those_of_a_wait() -> None:
    times = timetable()
    times.started(1, now=0)
    polls = [0.0]
    for _ in range(12):
        delay = times.poll_delay(polls[-1])
        assert delay is not None
        polls.append(polls[-1] + delay)
        times.polled(polls[-1])
    delays = [after - before for before, after in pairwise(polls)]
    assert delays == pytest.approx([min(2 * 1.5**n, 60) for n in range(12)])


def test_the_time_between_polls_depends_on_the_job_that_has_run_longest() -> None:
    times = timetable()
    times.started(1, now=0)
    times.polled(now=60)
    times.started(2, now=60)
    assert times.active == (1, 2)
    assert times.poll_delay(now=60) == 2 + 0.5 * 60
    times.ended(1)
    assert times.poll_delay(now=60) == 2


def test_after_a_time_without_jobs_the_next_job_is_polled_from_its_start() -> None:
    times = timetable()
    times.started(1, now=0)
    times.polled(now=60)
    times.ended(1)
    times.started(2, now=1_000)
    assert times.poll_delay(now=1_000) == 2


def test_a_job_that_started_after_the_last_poll_does_not_shorten_the_delay() -> None:
    times = timetable()
    times.started(1, now=0)
    times.started(2, now=10)
    times.ended(1)
    assert times.poll_delay(now=10) == 0
    times.polled(now=10)
    assert times.poll_delay(now=10) == 2


# --- Both together --------------------------------------------------------------------------------


def simulate(durations: list[float], slots: int) -> tuple[float, float]:
    """Start the jobs and see them end when the timetable says.

    Return how long they take together, and the longest time until an end was seen.
    """
    times = Timetable(
        ServiceLimits(max_active_jobs=slots), WaitPolicy(delay=0.5, multiplier=1.01, max_delay=60)
    )
    now, waiting, ends = 0.0, list(range(len(durations)))[::-1], dict[int, float]()
    latest = 0.0
    while waiting or times.active:
        start = times.start_delay(now) if waiting else None
        poll = times.poll_delay(now)
        now += min(delay for delay in (start, poll) if delay is not None)
        if waiting and times.start_delay(now) == 0:
            job = waiting.pop()
            times.sent(now)
            times.started(job, now)
            ends[job] = now + durations[job]
            assert len(times.active) <= slots
        elif times.poll_delay(now) == 0:
            times.polled(now)
            for job in times.active:
                if ends[job] <= now:
                    latest = max(latest, now - ends[job])
                    times.ended(job)
    return now, latest


def ideal(durations: list[float], slots: int) -> float:
    """Return how long the jobs take in this order if each slot is filled at once."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


@pytest.mark.parametrize("seconds", [60, 61.5, 90, 300, 1_000, 36_000])
def test_forty_equal_jobs_in_ten_slots_take_at_most_3_percent_longer_than_the_ideal(
    seconds: float,
) -> None:
    makespan, _ = simulate([seconds] * 40, 10)
    assert makespan <= 1.03 * ideal([seconds] * 40, 10)


@settings(max_examples=60)
@given(st.lists(st.floats(1, 4_000), min_size=1, max_size=40))
def test_the_end_of_a_job_is_seen_soon_compared_with_the_longest_job(
    durations: list[float],
) -> None:
    _, latest = simulate(durations, 10)
    assert latest <= 0.5 + 0.01 * max(durations) + 1e-6

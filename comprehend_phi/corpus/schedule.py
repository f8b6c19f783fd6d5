"""When to start jobs and when to poll, and which jobs to prepare next. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto

from attrs import frozen

from .._jobs import WaitPolicy
from .limits import ServiceLimits

RETRY_SECONDS = 15.0
"""How long a run waits after a refused start or another failed call. Our rule."""


class Phase(Enum):
    """What a run is doing with a job."""

    UNKNOWN = auto()  # only the service knows whether it was started
    LOOKING_UP = auto()
    WAITING = auto()
    PREPARING = auto()  # its files are being checked or copied
    READY = auto()
    ACTIVE = auto()
    DONE = auto()


@frozen
class Step:
    """The phase of a job, and whether its files have to be copied first."""

    phase: Phase
    staged: bool


def to_prepare(jobs: Sequence[Step], slots: int) -> Iterator[int]:
    """Yield the indices of the jobs to prepare now, in the order of the jobs.

    The files of a staged job are copied ahead, while other jobs run. The folder of any other job is
    only checked when a slot is free, because its files can change until the job reads them.

    Args:
        jobs: all jobs.
        slots: how many jobs may run at the same time.
    """
    prepared = [job for job in jobs if job.phase in (Phase.PREPARING, Phase.READY)]
    free_slots = slots - len(prepared) - sum(job.phase is Phase.ACTIVE for job in jobs)
    free_copies = slots - sum(job.staged for job in prepared)
    for index, job in enumerate(jobs):
        if job.phase is Phase.WAITING and (free_copies if job.staged else free_slots) > 0:
            free_slots -= 1
            free_copies -= job.staged
            yield index


class Timetable:
    """When the next start and the next poll are due. All times are in seconds of one clock.

    Args:
        limits: the quotas to keep.
        wait: how often to poll. `run_jobs` documents what its numbers mean for many jobs.
    """

    def __init__(self, limits: ServiceLimits, wait: WaitPolicy) -> None:
        self._limits = limits
        self._wait = wait
        self._next_start = 0.0
        self._refused_until = 0.0
        self._paused_until = 0.0
        self._last_poll = 0.0
        self._active_since: dict[int, float] = {}

    @property
    def active(self) -> tuple[int, ...]:
        """The jobs that run, the one that has run longest first."""
        return tuple(self._active_since)

    def started(self, job: int, now: float) -> None:
        """Record that a job runs. For jobs that run already, `now` is when this became known."""
        if not self._active_since:
            self._last_poll = now
        self._active_since[job] = now

    def sent(self, now: float) -> None:
        """Record that a start was sent."""
        self._next_start = now + 1 / self._limits.starts_per_second

    def refused(self, now: float) -> None:
        """Record that the service refused a start because all slots are taken."""
        self._refused_until = now + RETRY_SECONDS

    def failed(self, now: float) -> None:
        """Record that a call failed in a way that may pass."""
        self._paused_until = now + RETRY_SECONDS

    def ended(self, job: int) -> None:
        """Record that a job has ended, so that its slot is free."""
        del self._active_since[job]
        self._refused_until = 0.0

    def polled(self, now: float) -> None:
        """Record that the jobs were polled."""
        self._last_poll = now

    def start_delay(self, now: float) -> float | None:
        """Return the seconds until a start may be sent, or None if our jobs take all slots."""
        if len(self._active_since) >= self._limits.max_active_jobs:
            return None
        return max(self.pause(now), self._next_start - now, self._refused_until - now)

    def pause(self, now: float) -> float:
        """Return the seconds until work may go on after a call that failed."""
        return max(0.0, self._paused_until - now)

    def poll_delay(self, now: float) -> float | None:
        """Return the seconds until the next poll is due, or None if no job runs."""
        if not self._active_since:
            return None
        oldest = next(iter(self._active_since.values()))
        # Delays that grow by a factor add up like this: each is the first delay, plus the share
        # by which they grow of the time since the first poll.
        wait = self._wait
        delay = wait.delay + (wait.multiplier - 1) * max(0.0, self._last_poll - oldest)
        return max(0.0, self._last_poll + min(delay, wait.max_delay) - now)

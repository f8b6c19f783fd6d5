"""One run of a plan: what is due is done, until every job has ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for_calls
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from attrs import evolve

from .._client import PHIClient, start_at_once
from .._client_base import s3_of
from .._jobs import WaitPolicy
from .._masking import mask
from .._results.listing import Listing
from .._threads import Pool
from .._wording import amount
from ..errors import (
    ActiveJobLimitExceeded,
    ComprehendPHIError,
    InvalidRequestException,
    JobMismatchError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    TransportError,
)
from ..models import JobProperties, JobStatus, StartPHIDetectionJobRequest
from .forgotten import Age, age_of, properties_of, read_end
from .ledger import Copies, JobState, Ledger
from .limits import KEPT_FOR
from .outcome import JobOutcome
from .plan import JobPlan, PlannedJob
from .schedule import Phase, Step, Timetable, to_prepare
from .service import Poller, find_or_request
from .summary import IncompleteRunError, RunSummary

if TYPE_CHECKING:
    from .._threads import PoolCall

OnChange = Callable[[JobOutcome], object]

# An end is seen at most this much later: half a second, and a hundredth of the time that the job
# has run.
WAIT = WaitPolicy(delay=0.5, multiplier=1.01, max_delay=60.0)

_THREADS = 4  # that look up jobs, check folders, copy and delete files; copying has its own threads
_PATIENCE = 3600.0  # seconds for which calls may fail in a row before a run ends; our rule

# While threads work, the loop looks for their results this often. The clock may be a fake one,
# whose sleeps take no time, so it first gives them some real time.
_GRACE_SECONDS = 0.2
_TICK_SECONDS = 0.2

_ENDED_WELL = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)
_ENDED_BADLY = (JobStatus.FAILED, JobStatus.STOPPED)
_COPYING = "copying files"
_NO_SLOT = "waiting for a job slot"
_ABANDONED = "abandoned before it was started"
_LOST = "the service has forgotten the job, and it left no results"
_UNKNOWN = (
    "the service does not know the job, and it left no results; if it runs in another account or"
    " region, it continues there"
)
_LOST_START = (
    f"its start was sent more than {KEPT_FOR.days} days ago, and the service does not know any more"
    " whether the job ran"
)


class StagingArea(Protocol):
    """What a run needs for the files of its jobs. `Staging` does this on S3."""

    def check(self, job: PlannedJob) -> None:
        """Raise an error if the files of the job are not those of the plan."""
        ...

    def copy(self, job: PlannedJob) -> None:
        """Copy the files of a staged job, after the same check."""
        ...

    def delete(self, job: PlannedJob) -> None:
        """Delete the copies of a staged job."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


class EarlyEnd(Exception):
    """Ends a run before all jobs have ended.

    Args:
        reason: why.
        error: the error that ends the run.
    """

    def __init__(self, reason: str, error: ComprehendPHIError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


class Run:
    """One run of a plan. Only the thread that runs it uses the ledger.

    Args:
        client: see `run_jobs`.
        plan: see `run_jobs`.
        ledger: the open ledger of the plan.
        staging: the files of the jobs.
        wait: see `run_jobs`.
        on_change: see `run_jobs`.
        retry_failed: see `run_jobs`.
        keep_staged: see `run_jobs`.
        abandons: whether to stop all jobs instead of starting them.
        now: returns the current time, which the ledger keeps for each start.
    """

    def __init__(
        self,
        client: PHIClient,
        plan: JobPlan,
        ledger: Ledger,
        staging: StagingArea,
        *,
        wait: WaitPolicy = WAIT,
        on_change: OnChange | None = None,
        retry_failed: bool = False,
        keep_staged: bool = False,
        abandons: bool = False,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._client = client
        self._plan = plan
        self._ledger = ledger
        self._staging = staging
        self._on_change = on_change
        self._retry_failed = retry_failed
        self._keep_staged = keep_staged
        self._abandons = abandons
        self._now = now
        self._connection = s3_of(client).connection
        self._clock = s3_of(client).clock
        self._began = self._clock.monotonic()
        self._timeout = wait.timeout
        self._times = Timetable(plan.limits, wait)
        self._poller = Poller(client)
        self._pool = Pool(_THREADS)
        self._phases = [Phase.WAITING] * len(plan.jobs)
        self._outcomes = [JobOutcome(planned=job) for job in plan.jobs]
        self._requests: dict[int, StartPHIDetectionJobRequest] = {}
        self._uncleaned: set[int] = set()  # jobs whose copies are to be deleted
        # Jobs with a start whose response was lost. The service may list such a job late.
        self._unsure: set[int] = set()
        self._sent: set[int] = set()  # jobs whose start this run has sent
        self._unstopped: set[int] = set()  # jobs to stop as soon as the service knows them
        self._tasks: dict[PoolCall[Any], Callable[[PoolCall[Any]], None]] = {}
        self._failing_since: float | None = None
        self._undeleted: list[ComprehendPHIError] = []

    def finish(self) -> RunSummary:
        """Work until every job has ended, and return the outcomes."""
        reason: str
        failed: ComprehendPHIError | None = None
        try:
            with self._pool:
                try:
                    self._resume()
                    is_in_time = True
                    while is_in_time and not self._is_done():
                        is_in_time = self._step()
                finally:
                    for call in self._tasks:
                        call.end()
        except (ServiceError, TransportError) as error:
            reason, failed = str(error), error
        except EarlyEnd as end:
            reason, failed = end.reason, end.error
        else:
            if is_in_time and not self._undeleted:
                return self._summary()
            reason = "its timeout has passed"
            if self._undeleted:
                failed = self._undeleted[0]
                jobs = amount(len(self._undeleted), "job")
                reason = f"the copies of {jobs} could not be deleted: {failed}"
        raise IncompleteRunError(reason, summary=self._summary(), error=failed)

    def _summary(self) -> RunSummary:
        return RunSummary(plan=self._plan, jobs=tuple(self._outcomes))

    def _is_done(self) -> bool:
        is_busy = self._tasks or self._uncleaned
        return not is_busy and all(phase is Phase.DONE for phase in self._phases)

    # --- The loop ---------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take up each job where the ledger says it is."""
        for index, job in enumerate(self._plan.jobs):
            entry = self._ledger.entry(job)
            if entry.state is JobState.STARTING:
                self._unsure.add(index)
            if entry.state is JobState.STARTED:
                self._follow(index, str(entry.job_id), JobStatus.SUBMITTED)
            elif entry.needs_lookup or (
                self._retry_failed
                and (
                    entry.state in (JobState.NOT_STARTED, JobState.LOST)
                    or entry.status in _ENDED_BADLY
                )
            ):
                self._phases[index] = Phase.UNKNOWN
            else:
                is_lost = entry.state is JobState.LOST
                self._conclude(index, entry.job_id, entry.status, entry.message, is_lost=is_lost)

    def _step(self) -> bool:
        """Do what is due, or sleep until something is. Return False if the timeout has passed."""
        self._connection.check("run_jobs")  # a closed client does not sleep
        self._collect()
        now = self._clock.monotonic()
        left = None if self._timeout is None else self._began + self._timeout - now
        if left is not None and left <= 0:
            return False
        delays = [] if left is None else [left]
        if pause := self._times.pause(now):
            delays.append(pause)
        else:
            self._submit_work()
        ready = next((i for i, phase in enumerate(self._phases) if phase is Phase.READY), None)
        if ready is not None and (delay := self._times.start_delay(now)) is not None:
            if delay == 0:
                self._start(ready)
                return True
            delays.append(delay)
        if (delay := self._times.poll_delay(now)) is not None:
            if delay == 0:
                self._poll()
                return True
            delays.append(delay)
        self._sleep(delays)
        return True

    def _sleep(self, delays: list[float]) -> None:
        """Sleep for the shortest of the delays, or until a thread has a result."""
        if self._tasks:
            done, _ = wait_for_calls(self._tasks, _GRACE_SECONDS, FIRST_COMPLETED)
            if done:
                return
            delays.append(_TICK_SECONDS)
        if delays:
            self._clock.sleep(max(min(delays), 0.001))

    def _submit_work(self) -> None:
        """Let threads do what can be done now."""
        for index in sorted(self._uncleaned):
            self._submit(self._delete_copies, index, self._cleaned)
        self._uncleaned.clear()
        for index in self._in_phase(Phase.UNKNOWN):
            self._phases[index] = Phase.LOOKING_UP
            self._submit(self._look_up, index, self._looked_up)
        if self._in_phase(Phase.LOOKING_UP):
            return  # some of these jobs may take slots
        if self._abandons:
            for index in self._in_phase(Phase.WAITING):
                self._give_up(index, _ABANDONED)
            return
        jobs = self._plan.jobs
        steps = [Step(phase, job.staged) for phase, job in zip(self._phases, jobs, strict=True)]
        for index in tuple(to_prepare(steps, self._plan.limits.max_active_jobs)):
            self._phases[index] = Phase.PREPARING
            if jobs[index].staged:
                self._ledger.record(jobs[index], copies=Copies.SOME)
                self._change(index, message=_COPYING)
                self._submit(self._staging.copy, index, self._prepared)
            else:
                self._submit(self._staging.check, index, self._prepared)

    def _in_phase(self, phase: Phase) -> list[int]:
        return [index for index, each in enumerate(self._phases) if each is phase]

    def _submit(
        self,
        work: Callable[[PlannedJob], object],
        index: int,
        finish: Callable[[int, PoolCall[Any]], None],
    ) -> None:
        """Let a thread do `work` for a job, and this thread then `finish` it."""
        call = self._pool.submit(partial(work, self._plan.jobs[index]))
        self._tasks[call] = partial(finish, index)

    def _collect(self) -> None:
        """Finish what threads have done."""
        for call in [call for call in self._tasks if call.done()]:
            finish = self._tasks.pop(call)
            if not isinstance(call.exception(), (ServiceError, TransportError)):
                self._failing_since = None
            finish(call)

    # --- What happens to a job --------------------------------------------------------------------

    def _look_up(self, job: PlannedJob) -> JobProperties | StartPHIDetectionJobRequest:
        entry = self._ledger.entry(job)
        found = find_or_request(
            self._client,
            job.request,
            start_token=entry.start_token,
            # Once: a job that this run has started may have failed meanwhile.
            retry_failed=self._retry_failed and job.index not in self._sent,
            ended_badly=entry.job_id,
        )
        if entry.state is JobState.LOST and entry.job_id and not isinstance(found, JobProperties):
            return read_end(self._client, job, entry.job_id) or found
        return found

    def _looked_up(self, index: int, call: PoolCall[Any]) -> None:
        job = self._plan.jobs[index]
        entry = self._ledger.entry(job)
        problem: str
        try:
            found: JobProperties | StartPHIDetectionJobRequest = call.result()
        except (ServiceError, TransportError) as error:
            self._endure(error)
            self._phases[index] = Phase.UNKNOWN
            return
        except JobMismatchError as error:
            problem = str(error)
        except ResultsError as error:  # a lost job may have results that S3 does not show
            message = mask(str(error), self._names(job))
            self._conclude(index, entry.job_id, None, message, is_lost=True)
            return
        else:
            if isinstance(found, JobProperties):
                self._record_start(index, found.job_id, found.submit_time or self._now())
                self._follow(index, found.job_id, JobStatus.SUBMITTED)
                self._see(index, found)
            else:
                self._request(index, found)
            return
        self._give_up(index, problem)

    def _request(self, index: int, request: StartPHIDetectionJobRequest) -> None:
        """Let a job be started, unless an earlier start may have started it long ago."""
        job = self._plan.jobs[index]
        entry = self._ledger.entry(job)
        if entry.state is JobState.STARTING and age_of(entry.sent, self._now()) is Age.FORGOTTEN:
            if not self._retry_failed:
                self._lose(index, None, _LOST_START)
                return
            self._ledger.record(job, sent=self._now())
        self._requests[index] = request
        # Before a start was sent, the files were checked and copied.
        self._phases[index] = Phase.READY if index in self._sent else Phase.WAITING

    def _prepared(self, index: int, call: PoolCall[Any]) -> None:
        job = self._plan.jobs[index]
        problem: ComprehendPHIError
        try:
            call.result()
        except (ServiceError, TransportError) as error:
            self._endure(error)
            self._phases[index] = Phase.WAITING
            return
        except ComprehendPHIError as error:
            problem = error
        else:
            if job.staged:
                self._ledger.record(job, copies=Copies.ALL)
            self._phases[index] = Phase.READY
            self._change(index, message=None)
            return
        # The ledger contains no keys, but some of these errors name files.
        self._give_up(index, str(problem), recorded=_without_keys(problem))

    def _start(self, index: int) -> None:
        job, request = self._plan.jobs[index], self._requests[index]
        token = request.client_request_token
        entry = self._ledger.entry(job)
        if (entry.state, entry.start_token) != (JobState.STARTING, token):
            # Before the call: if this process dies, the next one looks for the job.
            self._ledger.record(
                job,
                state=JobState.STARTING,
                start_token=token,
                sent=self._now(),
                job_id=None,
                status=None,
                message=None,
            )
        self._sent.add(index)
        self._times.sent(self._clock.monotonic())
        refusal: InvalidRequestException
        try:
            job_id = start_at_once(self._client, request)
        except ActiveJobLimitExceeded as error:
            self._failing_since = None
            self._times.refused(self._clock.monotonic())
            self._doubt(index, error)
            self._change(index, message=_NO_SLOT)
            return
        except InvalidRequestException as error:
            refusal = error
        except (ServiceError, TransportError) as error:
            self._doubt(index, error)
            self._endure(error)
            return
        else:
            self._failing_since = None
            # The first attempt may have been hours ago: no slot was free, or the service was down.
            self._record_start(index, job_id, self._now())
            self._follow(index, job_id, JobStatus.SUBMITTED)
            return
        if refusal.outcome_unknown:
            raise refusal
        self._failing_since = None
        self._give_up(index, mask(str(refusal), self._names(job)))

    def _doubt(self, index: int, error: ServiceError | TransportError) -> None:
        """After a failed start, look for the job first if it may have been started all the same.

        Until the next attempt, the job can end. Nobody outside AWS knows whether the service then
        still knows its token.
        """
        if error.outcome_unknown:
            self._unsure.add(index)
        if index in self._unsure:
            self._phases[index] = Phase.UNKNOWN

    def _record_start(self, index: int, job_id: str, sent: datetime) -> None:
        self._ledger.record(
            self._plan.jobs[index],
            state=JobState.STARTED,
            sent=sent,
            job_id=job_id,
            status=None,
            message=None,
        )

    def _follow(self, index: int, job_id: str, status: JobStatus) -> None:
        """Follow a job that has been started until it ends."""
        self._phases[index] = Phase.ACTIVE
        self._times.started(index, self._clock.monotonic())
        self._change(index, job_id=job_id, status=status, message=None)
        if self._abandons:
            self._stop(index, job_id)

    def _stop(self, index: int, job_id: str) -> None:
        try:
            # A job that has ended meanwhile cannot be stopped.
            with suppress(InvalidRequestException):
                self._client.stop_phi_detection_job(job_id)
        except ResourceNotFoundException:
            self._unstopped.add(index)
        except (ServiceError, TransportError) as error:
            self._unstopped.add(index)
            self._endure(error)
        else:
            self._unstopped.discard(index)

    def _poll(self) -> None:
        indices = {str(self._outcomes[index].job_id): index for index in self._times.active}
        self._times.polled(self._clock.monotonic())
        try:
            polled = self._poller.poll(tuple(indices))
        except (ServiceError, TransportError) as error:
            self._endure(error)
            return
        if not polled.unknown:
            self._failing_since = None
        for job in polled.jobs:
            self._see(indices[job.job_id], job)
        for job_id, unknown in polled.unknown.items():
            self._miss(indices[job_id], job_id, unknown)

    def _miss(self, index: int, job_id: str, error: ResourceNotFoundException) -> None:
        """Find out what became of a job that the service does not know."""
        job = self._plan.jobs[index]
        age = age_of(self._ledger.entry(job).sent, self._now())
        unreadable: ResultsError | None = None
        try:
            ended = read_end(self._client, job, job_id)
        except ResultsError as cause:
            ended, unreadable = None, cause
        except (ServiceError, TransportError) as cause:
            self._endure(cause)
            return
        self._failing_since = None
        if ended is not None:
            self._see(index, ended)
        elif age is Age.NEW:
            return  # the next poll asks again
        elif unreadable is not None:
            problem = mask(str(unreadable), self._names(job))
            reason = f"job {index} is unknown, and its results cannot be read: {problem}"
            raise EarlyEnd(reason, unreadable)
        elif age is Age.FORGOTTEN:
            self._lose(index, job_id, _LOST)
        elif self._abandons:
            self._lose(index, job_id, _UNKNOWN)
        else:
            raise EarlyEnd(f"job {index} is unknown, and it left no results: {error}", error)

    def _lose(self, index: int, job_id: str | None, message: str) -> None:
        """Note that nobody can say what became of a job."""
        self._ledger.record(
            self._plan.jobs[index],
            state=JobState.LOST,
            job_id=job_id,
            status=None,
            message=message,
        )
        if job_id is not None:
            self._times.ended(index)
        self._conclude(index, job_id, None, message, is_lost=True)

    def _see(self, index: int, seen: JobProperties) -> None:
        """Note the state of a job that is followed."""
        job = self._plan.jobs[index]
        message = mask(seen.message, self._names(job)) if seen.message else None
        if not seen.job_status.is_terminal:
            self._change(index, status=seen.job_status, message=message)
            if index in self._unstopped:
                self._stop(index, seen.job_id)
            return
        self._ledger.record(job, state=JobState.ENDED, status=seen.job_status, message=message)
        self._times.ended(index)
        self._conclude(index, seen.job_id, seen.job_status, message)

    def _give_up(self, index: int, reason: str, *, recorded: str | None = None) -> None:
        """Note that a job is not started, and why. The ledger gets `recorded` as the reason.

        If an earlier start may have reached the service, look for the job once more instead, after
        a pause. Otherwise, its copies would be deleted while it reads them.
        """
        if index in self._unsure:
            self._unsure.remove(index)
            self._phases[index] = Phase.UNKNOWN
            self._times.failed(self._clock.monotonic())
            return
        self._ledger.record(
            self._plan.jobs[index],
            state=JobState.NOT_STARTED,
            job_id=None,
            status=None,
            message=recorded or reason,
        )
        self._conclude(index, None, None, reason)

    def _conclude(
        self,
        index: int,
        job_id: str | None,
        status: JobStatus | None,
        message: str | None,
        *,
        is_lost: bool = False,
    ) -> None:
        """Note that nothing more happens to a job, except that its copies are deleted."""
        self._phases[index] = Phase.DONE
        has_copies = self._ledger.entry(self._plan.jobs[index]).copies is not Copies.NONE
        if has_copies and (self._abandons or not self._keep_staged):
            self._uncleaned.add(index)
        self._change(index, job_id=job_id, status=status, message=message, is_lost=is_lost)

    def _delete_copies(self, job: PlannedJob) -> bool:
        """Delete the copies of a job unless its results are incomplete. Return whether it did."""
        entry = self._ledger.entry(job)
        if (
            entry.status is not None
            and entry.status in _ENDED_WELL
            and not self._abandons
            # A job that has ended has an id.
            and not _is_complete(self._client, job, str(entry.job_id), entry.status)
        ):
            return False
        self._staging.delete(job)
        return True

    def _cleaned(self, index: int, call: PoolCall[Any]) -> None:
        try:
            is_clean: bool = call.result()
        except (ServiceError, TransportError) as error:
            self._endure(error)
            self._uncleaned.add(index)
        except ComprehendPHIError as error:
            self._undeleted.append(error)
        else:
            if is_clean:
                self._ledger.record(self._plan.jobs[index], copies=Copies.NONE)

    # --- What all of it needs ---------------------------------------------------------------------

    def _endure(self, error: ServiceError | TransportError) -> None:
        """Pause after a call that failed in a way that may pass. Otherwise, raise its error."""
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if not error.retryable or now - self._failing_since >= _PATIENCE:
            raise error
        self._times.failed(now)

    def _change(self, index: int, **changes: Any) -> None:
        outcome = evolve(self._outcomes[index], **changes)
        if outcome != self._outcomes[index]:
            self._outcomes[index] = outcome
            if self._on_change is not None:
                self._on_change(outcome)

    def _names(self, job: PlannedJob) -> tuple[str | None, ...]:
        """Return what no message may contain."""
        request, planned = job.request, self._plan.request
        return (
            job.first_key,
            job.last_key,
            request.job_name,
            request.input_data_config.s3_key,
            request.output_data_config.s3_key,
            planned.input_data_config.s3_key,
        )


def _without_keys(error: ComprehendPHIError) -> str:
    """Return what an error of a `StagingArea` says, without the files that it may name."""
    if isinstance(error, ResultsError):
        reason = error.reason
    else:
        reason = str(error.args[0] if error.args else error)
    return f"{type(error).__name__}: {reason}"


def _is_complete(client: PHIClient, job: PlannedJob, job_id: str, status: JobStatus) -> bool:
    """Return whether the manifest of a job accounts for all of its files."""
    properties, is_described = properties_of(client, job, job_id, status)
    try:
        manifest = Listing(properties, s3_of(client).storage(), is_described=is_described).manifest
    except ResultsError:
        return False
    counts = (manifest.success_files_count, manifest.unprocessed_files_count)
    # A manifest without counts says nothing that could be wrong.
    return None in counts or sum(count or 0 for count in counts) >= job.file_count

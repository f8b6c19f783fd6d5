"""The local service: its operations, from dicts to dicts.

The service behaves as AWS documents it. If nobody outside AWS knows a rule, the rule is ours, and a
comment or `Rules` says so. `docs/local-service.md` lists these rules.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
from attrs import evolve, field, frozen

from .._service import operations
from .._shapes import (
    CALLABLE,
    CLIENT_REQUEST_TOKEN,
    InstanceShape,
    NumberShape,
    StringShape,
    check_argument,
)
from ..models import JobStatus
from .clock import ServiceClock, WallClock
from .detector import Detector, DetectorError, detect, run_detector
from .faults import Fault, random_faults
from .jobs import MODEL_VERSION, LocalJob, Outcome
from .journal import StartRecord
from .limits import Limits
from .object_store import ObjectStore
from .preconditions import check_start
from .processing import process
from .rules import Rules
from .start_rate import StartRate
from .validation import (
    JOB_ID_CONSTRAINTS,
    LIST_CONSTRAINTS,
    START_CONSTRAINTS,
    RequestRefused,
    check_text,
    seconds,
    validate,
    without_nulls,
)

START = operations.START.name
DESCRIBE = operations.DESCRIBE.name
LIST = operations.LIST.name
STOP = operations.STOP.name
DETECT = operations.DETECT.name

_OPERATION = StringShape("operation", enum=(START, DESCRIBE, LIST, STOP, DETECT))
_FAULT = InstanceShape(Fault, "comprehend_phi.testing.faults has functions that return one")
_SECONDS = NumberShape("seconds", 0)
_SHARE = NumberShape("share", 0, 1)

# The API reference says 400, as for all other errors.
_MODEL_STATUSES = {"TooManyRequestsException": 429, "ResourceNotFoundException": 404}


@frozen(kw_only=True)
class Received:
    """A request as it arrived, with or without a fault."""

    operation: str
    members: Mapping[str, Any] = field(repr=False)


class LocalService:
    """Comprehend Medical for PHI detection. Threads can share it.

    Each request moves the jobs on to the current time of the clock. A job is SUBMITTED for the
    first fifth of `job_seconds`, then IN_PROGRESS, then it ends. Stopping a job takes a fifth of
    `job_seconds` as well.

    Args:
        storage: the S3 that jobs read from and write to.
        clock: the clock that drives the jobs. The default is this machine's clock.
        detector: finds the entities of one text. It may be called from any thread. If it raises an
            exception, the job fails, or DetectPHI returns the error `DetectorError`.
        job_seconds: how long a job runs, in seconds.
        limits: the quotas of the account.
        rules: the rules that nobody outside AWS knows.
        on_start: receives a record of each start that the service has processed.
        account_id: the account that owns all jobs.

    Attributes:
        clock: the clock that drives the jobs.
        received: the last 10,000 requests, including those that met a fault.
    """

    def __init__(
        self,
        storage: ObjectStore,
        *,
        clock: ServiceClock | None = None,
        detector: Detector = detect,
        job_seconds: float = 1.0,
        limits: Limits | None = None,
        rules: Rules | None = None,
        on_start: Callable[[StartRecord], object] | None = None,
        account_id: str = "123456789012",
    ) -> None:
        owner = "LocalService"
        check_argument(owner, "detector", CALLABLE, detector)
        check_argument(owner, "job_seconds", _SECONDS, job_seconds)
        check_argument(owner, "limits", InstanceShape(Limits), limits, optional=True)
        check_argument(owner, "rules", InstanceShape(Rules), rules, optional=True)
        check_argument(owner, "on_start", CALLABLE, on_start, optional=True)
        self.clock: ServiceClock = clock or WallClock()
        self.received: deque[Received] = deque(maxlen=10_000)
        self._storage = storage
        self._detector = detector
        self._duration = timedelta(seconds=job_seconds)
        self._limits = limits or Limits()
        self._rules = rules or Rules()
        self._on_start = on_start
        self._account_id = account_id
        self._lock = threading.RLock()
        self._jobs: dict[str, LocalJob] = {}
        self._tokens: dict[tuple[str, str], LocalJob] = {}
        self._started = 0
        self._start_rates: dict[str, StartRate] = {}
        self._faults: deque[tuple[str | None, Fault]] = deque()
        self._random_faults: Iterator[Fault | None] | None = None

    # --- For tests ---

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids of all jobs, in the order in which they started."""
        with self._lock:
            return tuple(self._jobs)

    def script(self, *faults: Fault, operation: str | None = None) -> None:
        """Schedule faults. Each of the next calls meets one of them, in order.

        Args:
            faults: the faults, from `comprehend_phi.testing.faults`.
            operation: the operation whose calls meet these faults; None means any operation.

        Raises:
            RequestValidationError: the service has no such operation, so the faults would never
                happen, or a fault is not a `Fault`.
        """
        check_argument("LocalService.script", "operation", _OPERATION, operation, optional=True)
        for fault in faults:
            check_argument("LocalService.script", "faults", _FAULT, fault)
        with self._lock:
            self._faults.extend((operation, fault) for fault in faults)

    def fail_randomly(self, seed: int, share: float = 0.1) -> None:
        """Let further calls without a scheduled fault meet random faults.

        Args:
            seed: determines the faults: the same seed gives the same sequence.
            share: the share of these calls that meet a fault, from 0 to 1.
        """
        check_argument("LocalService.fail_randomly", "share", _SHARE, share)
        with self._lock:
            self._random_faults = random_faults(seed, share)

    def attempts(self, operation: str) -> int:
        """Return how many requests for an operation have arrived."""
        check_argument("LocalService.attempts", "operation", _OPERATION, operation)
        return Counter(request.operation for request in list(self.received))[operation]

    def reset(self) -> None:
        """Forget jobs, tokens, scheduled faults and received requests. Random faults continue."""
        with self._lock:
            self.received.clear()
            self._jobs.clear()
            self._tokens.clear()
            self._start_rates.clear()
            self._faults.clear()

    def settle(self) -> None:
        """Move all jobs on to the current time of the clock. Every request does this, too."""
        with self._lock:
            now = self.clock.now()
            for job in self._jobs.values():
                job.advance(now, self._run)
            self._jobs = {job_id: job for job_id, job in self._jobs.items() if now < job.expires}
            self._tokens = {
                token: job for token, job in self._tokens.items() if job.job_id in self._jobs
            }

    # --- For the adapters ---

    def next_fault(self, operation: str, members: Mapping[str, Any]) -> Fault | None:
        """Record a request and return the fault that is scheduled for it, if any."""
        with self._lock:
            self.received.append(Received(operation=operation, members=members))
            for index, (wanted, fault) in enumerate(self._faults):
                if wanted in (None, operation):
                    del self._faults[index]
                    return fault
            return next(self._random_faults) if self._random_faults else None

    def perform(self, operation: str, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        """Process one request.

        Raises:
            RequestRefused: the service answers with an error.
        """
        operations = {
            START: self._start,
            DESCRIBE: self._describe,
            LIST: self._list,
            STOP: self._stop,
        }
        if operation == DETECT:  # concerns no job, so it needs no lock
            return self._detect(without_nulls(members))
        if operation not in operations:
            raise RequestRefused("UnknownOperationException", f"This service has no {operation}.")
        with self._lock:
            self.settle()
            try:
                return operations[operation](without_nulls(members), region)
            except RequestRefused as error:
                if self._rules.error_status == "service-model":
                    error.status = _MODEL_STATUSES.get(error.code, error.status)
                raise

    # --- The operations ---

    def _start(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        token, earlier = members.get("ClientRequestToken"), self._started
        record = StartRecord(
            time=self.clock.now(),
            operation=START,
            region=region,
            token=None if CLIENT_REQUEST_TOKEN.problem(token) else token,
        )
        try:
            job_id: str = self._start_job(members, region).job_id
        except RequestRefused as error:
            record = evolve(record, error=error.code)
            raise
        else:
            record = evolve(record, job_id=job_id, repeated=self._started == earlier)
            return {"JobId": job_id}
        finally:
            if self._on_start:
                self._on_start(record)

    def _start_job(self, members: Mapping[str, Any], region: str) -> LocalJob:
        if (per_second := self._limits.starts_per_second) is not None:
            rate = self._start_rates.setdefault(region, StartRate(per_second))
            if not rate.allows(self.clock.now()):
                raise RequestRefused("ThrottlingException", "Rate exceeded", 429)
        validate(START_CONSTRAINTS, members, "InvalidRequestException")
        # If the request has no token, the service creates one, so every request starts a job.
        token = (region, members.get("ClientRequestToken") or str(uuid4()))
        job = self._tokens.get(token)
        if job and not (self._rules.remember_tokens == "until-job-ends" and job.status.is_terminal):
            is_same = job.request == members
            rule = self._rules.same_parameters if is_same else self._rules.other_parameters
            if rule == "refused":
                raise RequestRefused(
                    "InvalidRequestException",
                    "The ClientRequestToken was used for a request with"
                    f" {'the same' if is_same else 'other'} parameters.",
                )
            return job
        check_start(members, self._storage, self._rules)
        active = sum(
            not job.status.is_terminal for job in self._jobs.values() if job.region == region
        )
        if active >= self._limits.active_jobs:
            raise RequestRefused(
                "TooManyRequestsException",
                "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is"
                f" {self._limits.active_jobs}.",
            )
        self._started += 1
        job = LocalJob(
            job_id=uuid4().hex,
            number=self._started,
            account_id=self._account_id,
            region=region,
            request=members,
            submitted=self.clock.now(),
            duration=self._duration,
            rules=self._rules,
        )
        self._jobs[job.job_id] = self._tokens[token] = job
        return job

    def _describe(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        job = self._find(members, region)
        return {"ComprehendMedicalAsyncJobProperties": job.properties()}

    def _list(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        validate(LIST_CONSTRAINTS, members, "ValidationException")
        wanted: Mapping[str, Any] = members.get("Filter") or {}
        if len(wanted) > 1 and self._rules.two_filters == "refused":
            raise RequestRefused("ValidationException", "Only one filter can be set at a time.")
        before, after = map(
            seconds, (wanted.get("SubmitTimeBefore"), wanted.get("SubmitTimeAfter"))
        )
        jobs = [
            job
            for job in self._jobs.values()
            if job.region == region
            and wanted.get("JobName") in (None, job.request.get("JobName"))
            and wanted.get("JobStatus") in (None, job.status.value)
            and (before is None or job.submitted.timestamp() < before)
            and (after is None or job.submitted.timestamp() > after)
        ]
        # AWS lists jobs before a time oldest first, and jobs after a time newest first.
        is_ascending = not wanted and self._rules.unfiltered_list == "oldest-first"
        sign = 1 if before is not None or is_ascending else -1
        jobs.sort(key=lambda job: sign * job.number)
        if (token := members.get("NextToken")) is not None:
            if not re.fullmatch(r"-?[0-9]{1,9}", token):
                raise RequestRefused(
                    "ValidationException", "This service issued no such NextToken."
                )
            jobs = [job for job in jobs if sign * job.number > int(token)]
        page = jobs[: members.get("MaxResults", 100)]
        response: dict[str, Any] = {
            "ComprehendMedicalAsyncJobPropertiesList": [job.properties() for job in page]
        }
        if len(jobs) > len(page):
            response["NextToken"] = str(sign * page[-1].number)
        return response

    def _stop(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        job = self._find(members, region)
        if job.status in (JobStatus.SUBMITTED, JobStatus.IN_PROGRESS):
            job.stop(self.clock.now())
        elif job.status in (JobStatus.STOP_REQUESTED, JobStatus.STOPPED):
            if self._rules.second_stop == "refused":
                raise RequestRefused("InvalidRequestException", "The job was stopped before.")
        elif self._rules.stop_after_end == "refused":
            raise RequestRefused("InvalidRequestException", f"The job has ended as {job.status}.")
        return {"JobId": job.job_id}

    def _detect(self, members: Mapping[str, Any]) -> dict[str, Any]:
        check_text(members, self._limits.text_bytes)
        try:
            entities = run_detector(self._detector, members["Text"])
        except DetectorError as error:
            raise RequestRefused("DetectorError", str(error)) from None
        return {"Entities": msgspec.to_builtins(list(entities)), "ModelVersion": MODEL_VERSION}

    def _find(self, members: Mapping[str, Any], region: str) -> LocalJob:
        validate(JOB_ID_CONSTRAINTS, members, "InvalidRequestException")
        job = self._jobs.get(members["JobId"])
        if job is None or job.region != region:
            raise RequestRefused("ResourceNotFoundException", "The job was not found.")
        return job

    def _run(self, job: LocalJob) -> Outcome:
        return process(job, self._storage, self._detector, self._limits)

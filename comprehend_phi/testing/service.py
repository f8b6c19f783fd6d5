"""The local service: the states of jobs, dicts in and dicts out.

What AWS documents is built as documented. Where nobody outside AWS knows, the rule is ours and says
so; the list of these rules is in `docs/local-service.md`.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import uuid4

from attrs import define, field, frozen

from .. import _shapes
from .._entities import Entity
from .._results.layout import folder_key
from .._shapes import IntegerShape, StringShape
from ..models import JobStatus
from . import output
from .clock import ServiceClock, WallClock
from .detector import detect
from .faults import Fault

START = "StartPHIDetectionJob"
DESCRIBE = "DescribePHIDetectionJob"
LIST = "ListPHIDetectionJobs"
STOP = "StopPHIDetectionJob"

_KEPT_FOR = timedelta(days=120)  # AWS: ExpirationTime in the API reference's example


@frozen(kw_only=True)
class Limits:
    """The quotas of an account (AWS, "Guidelines and quotas"), to lower in tests.

    Attributes:
        active_jobs: jobs that have not ended, at one time and in one region.
        file_bytes: the size of one file; AWS writes 70 KB, and that these are 1,024 bytes each is
            our reading.
        files: files of one job.
        total_bytes: the size of all files of one job.
    """

    active_jobs: int = 10
    file_bytes: int = 70 * 1024
    files: int = 5_000_000
    total_bytes: int = 10**9


class Refusal(Exception):
    """The service answers with an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


@frozen(kw_only=True)
class Received:
    """A request as it arrived, whatever became of it."""

    operation: str
    members: Mapping[str, Any] = field(repr=False)


@define(kw_only=True)
class _Job:
    job_id: str
    region: str
    order: int
    request: Mapping[str, Any]
    submitted: datetime
    status: JobStatus = JobStatus.SUBMITTED
    stop_requested: datetime | None = None
    ended: datetime | None = None
    message: str | None = None
    manifest: str | None = None

    @property
    def expires(self) -> datetime:
        return self.submitted.replace(microsecond=0) + _KEPT_FOR


class LocalService:
    """Comprehend Medical for PHI detection jobs, in this process. Safe to share among threads.

    Jobs move on as the clock does, whenever the service is asked something: SUBMITTED for the first
    fifth of `job_seconds`, then IN_PROGRESS, then one of the ends. A stop takes a fifth as well.

    Args:
        storage: the S3 that it reads from and writes to.
        clock: the time that its jobs take.
        detector: finds the entities of one text; it may be asked from any thread.
        job_seconds: how long a job runs.
        limits: the quotas of the account.
        account_id: the account that all jobs belong to.

    Attributes:
        clock: the clock it was given.
        received: the last 10,000 requests, scripted misfortunes included.
    """

    def __init__(
        self,
        storage: output.Storage,
        *,
        clock: ServiceClock | None = None,
        detector: Callable[[str], Sequence[Entity]] = detect,
        job_seconds: float = 1.0,
        limits: Limits | None = None,
        account_id: str = "123456789012",
    ) -> None:
        self.clock: ServiceClock = clock or WallClock()
        self.received: deque[Received] = deque(maxlen=10_000)
        self._storage = storage
        self._detector = detector
        self._seconds = job_seconds
        self._limits = limits or Limits()
        self._account_id = account_id
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._tokens: dict[tuple[str, str], _Job] = {}
        self._started = 0
        self._faults: deque[tuple[str | None, Fault]] = deque()

    # --- What a test may ask and arrange ---

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids of all jobs, in the order of their starts."""
        with self._lock:
            return tuple(self._jobs)

    def script(self, *faults: Fault, operation: str | None = None) -> None:
        """Let the next calls, or those of one operation, meet these faults, one each, in order."""
        with self._lock:
            self._faults.extend((operation, fault) for fault in faults)

    def attempts(self, operation: str) -> int:
        """How many requests for an operation have arrived."""
        return Counter(request.operation for request in list(self.received))[operation]

    def reset(self) -> None:
        """Forget all jobs, tokens, scripted faults and received requests."""
        with self._lock:
            self.received.clear()
            self._jobs.clear()
            self._tokens.clear()
            self._faults.clear()

    def settle(self) -> None:
        """Let every job move on to where the clock says; every request does it too."""
        with self._lock:
            now = self.clock.now()
            for job in self._jobs.values():
                self._move_on(job, now)
            for job in [job for job in self._jobs.values() if now >= job.expires]:
                del self._jobs[job.job_id]
            self._tokens = {
                token: job for token, job in self._tokens.items() if job.job_id in self._jobs
            }

    # --- What the adapters ask ---

    def next_fault(self, operation: str, members: Mapping[str, Any]) -> Fault | None:
        """Note the request; returns the misfortune that is scripted for it."""
        with self._lock:
            self.received.append(Received(operation=operation, members=members))
            for index, (wanted, fault) in enumerate(self._faults):
                if wanted in (None, operation):
                    del self._faults[index]
                    return fault
            return None

    def perform(self, operation: str, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        """Do the work of one request.

        Raises:
            Refusal: the service answers with an error.
        """
        operations = {
            START: self._start,
            DESCRIBE: self._describe,
            LIST: self._list,
            STOP: self._stop,
        }
        if operation not in operations:
            raise Refusal("UnknownOperationException", f"This service has no {operation}.")
        with self._lock:
            self.settle()
            return operations[operation](_without_nulls(members), region)

    # --- The operations ---

    def _start(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        _check(_START_RULES, members, "InvalidRequestException")
        # Without a token the service makes one; then every request is a start of its own.
        token = (region, members.get("ClientRequestToken") or str(uuid4()))
        if (job := self._tokens.get(token)) is not None:
            if job.request != members:
                raise Refusal(
                    "InvalidRequestException",
                    "The ClientRequestToken was used for a request with other parameters.",
                )
            return {"JobId": job.job_id}
        active = sum(
            not job.status.is_terminal for job in self._jobs.values() if job.region == region
        )
        if active >= self._limits.active_jobs:
            raise Refusal(
                "TooManyRequestsException",
                "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED: Active job limit for this account is"
                f" {self._limits.active_jobs}.",
            )
        self._started += 1
        job = _Job(
            job_id=uuid4().hex,
            region=region,
            order=self._started,
            request=members,
            submitted=self.clock.now(),
        )
        self._jobs[job.job_id] = self._tokens[token] = job
        return {"JobId": job.job_id}

    def _describe(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        return {
            "ComprehendMedicalAsyncJobProperties": self._properties(self._find(members, region))
        }

    def _list(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        _check(_LIST_RULES, members, "ValidationException")
        wanted: Mapping[str, Any] = members.get("Filter") or {}
        if len(wanted) > 1:  # our rule
            raise Refusal("ValidationException", "Only one filter can be set at a time.")
        for name in ("SubmitTimeBefore", "SubmitTimeAfter"):
            if not isinstance(wanted.get(name, 0), (int, float)):
                raise Refusal("SerializationException", f"Filter.{name} is not a timestamp.")
        before, after = wanted.get("SubmitTimeBefore"), wanted.get("SubmitTimeAfter")
        jobs = [
            job
            for job in self._jobs.values()
            if job.region == region
            and wanted.get("JobName") in (None, job.request.get("JobName"))
            and wanted.get("JobStatus") in (None, job.status.value)
            and (before is None or job.submitted.timestamp() < before)
            and (after is None or job.submitted.timestamp() > after)
        ]
        # AWS: submit-time-before lists oldest first, submit-time-after newest first. That an
        # unfiltered list has the newest first is our rule.
        sign = 1 if before is not None else -1
        jobs.sort(key=lambda job: sign * job.order)
        if (token := members.get("NextToken")) is not None:
            if not (isinstance(token, str) and re.fullmatch(r"-?[0-9]{1,9}", token)):
                raise Refusal("ValidationException", "The NextToken is not one of this service.")
            jobs = [job for job in jobs if sign * job.order > int(token)]
        page = jobs[: members.get("MaxResults", 100)]
        answer: dict[str, Any] = {
            "ComprehendMedicalAsyncJobPropertiesList": [self._properties(job) for job in page]
        }
        if len(jobs) > len(page):
            answer["NextToken"] = str(sign * page[-1].order)
        return answer

    def _stop(self, members: Mapping[str, Any], region: str) -> dict[str, Any]:
        job = self._find(members, region)
        if job.status in (JobStatus.SUBMITTED, JobStatus.IN_PROGRESS):
            job.status = JobStatus.STOP_REQUESTED
            job.stop_requested = self.clock.now()
        elif job.status not in (JobStatus.STOP_REQUESTED, JobStatus.STOPPED):
            # Our rule, after what AWS documents of the sister service Comprehend. A second stop
            # succeeds, so that a stop whose answer was lost can be sent again.
            raise Refusal("InvalidRequestException", f"The job has ended as {job.status}.")
        return {"JobId": job.job_id}

    def _find(self, members: Mapping[str, Any], region: str) -> _Job:
        _check(_JOB_ID_RULES, members, "InvalidRequestException")
        job = self._jobs.get(members["JobId"])
        if job is None or job.region != region:
            raise Refusal("ResourceNotFoundException", "The job was not found.")
        return job

    def _properties(self, job: _Job) -> dict[str, Any]:
        """The job as the service shows it; members that have no value are left out (AWS)."""
        source, target = job.request["InputDataConfig"], job.request["OutputDataConfig"]
        members = {
            "JobId": job.job_id,
            "JobName": job.request.get("JobName"),
            "JobStatus": job.status.value,
            "Message": job.message,
            "SubmitTime": job.submitted.timestamp(),
            "EndTime": job.ended and job.ended.timestamp(),
            "ExpirationTime": job.expires.timestamp(),
            "InputDataConfig": {"S3Bucket": source["S3Bucket"], "S3Key": source.get("S3Key", "")},
            "OutputDataConfig": {"S3Bucket": target["S3Bucket"], "S3Key": self._folder(job)},
            "LanguageCode": job.request["LanguageCode"],
            "DataAccessRoleArn": job.request["DataAccessRoleArn"],
            "ManifestFilePath": job.manifest,
            "KMSKey": job.request.get("KMSKey"),
            "ModelVersion": output.MODEL_VERSION,
        }
        return {name: value for name, value in members.items() if value is not None}

    # --- The course of a job ---

    def _move_on(self, job: _Job, now: datetime) -> None:
        fifth, whole = timedelta(seconds=self._seconds / 5), timedelta(seconds=self._seconds)
        if job.status.is_terminal:
            return
        if job.stop_requested is not None:
            if now >= job.stop_requested + fifth:
                job.status, job.ended = JobStatus.STOPPED, job.stop_requested + fifth
        elif now >= job.submitted + whole:
            job.ended = job.submitted + whole
            self._run(job)
        elif now >= job.submitted + fifth:
            job.status = JobStatus.IN_PROGRESS

    def _run(self, job: _Job) -> None:
        """Read, detect and write. The messages and the choice between the ends are our rules."""
        source, target = job.request["InputDataConfig"], job.request["OutputDataConfig"]
        for bucket, role in ((source["S3Bucket"], "input"), (target["S3Bucket"], "output")):
            if not self._storage.has_bucket(bucket):
                job.status = JobStatus.FAILED
                job.message = f"The {role} bucket does not exist or cannot be accessed."
                return
        found = output.Output()
        job.message = self._read_inputs(source["S3Bucket"], source.get("S3Key", ""), found)
        if job.message is not None:
            job.status = JobStatus.FAILED
        elif found.unprocessed:
            job.status = JobStatus.PARTIAL_SUCCESS
            job.message = f"{len(found.unprocessed)} files were not processed."
        else:
            job.status = JobStatus.COMPLETED
        job.manifest = output.write(
            self._storage,
            found,
            job=job.request,
            folder=self._folder(job),
            name=self._name(job),
            status=job.status.value,
            seconds=round(self._seconds),
            message=job.message if job.status is JobStatus.FAILED else None,
        )

    def _read_inputs(self, bucket: str, key: str, found: output.Output) -> str | None:
        """Fill `found`; returns why the job as a whole fails, or None."""
        # Our rule: the input key names a folder or a single object, never just the start of a name.
        folder = key if not key or key.endswith("/") else f"{key}/"
        keys = [
            name
            for name in self._storage.keys(bucket)
            if (name.startswith(folder) and not name.endswith("/")) or name == key
        ]
        if not keys:
            return "The input location holds no files."
        if len(keys) > self._limits.files:
            return f"The job has {len(keys)} files; the limit is {self._limits.files}."
        total = 0
        for name in keys:
            body = self._storage.read(bucket, name)
            total += len(body)
            if total > self._limits.total_bytes:
                return f"The job's files are larger than {self._limits.total_bytes} bytes together."
            path = name.removeprefix(folder) if name != key else name.rpartition("/")[2]
            file = output.read_file(body, name, path, self._limits.file_bytes, self._detector)
            if isinstance(file, output.Processed):
                found.processed.append(file)
            else:
                found.unprocessed.append(file)
        return None if found.processed else "None of the input files could be processed."

    def _name(self, job: _Job) -> str:
        return f"{self._account_id}-PHIDetection-{job.job_id}"

    def _folder(self, job: _Job) -> str:
        # Below an output key: our rule. Without one, AWS documents the name alone.
        key = job.request["OutputDataConfig"].get("S3Key", "")
        return f"{folder_key(key)}{self._name(job)}/"


def _without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the service reads it: a member that is null is one that is not there."""
    return {
        name: _without_nulls(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in members.items()
        if value is not None
    }


# --- Validation, in the words that AWS uses -------------------------------------------------------

_Rule = tuple[str, StringShape | IntegerShape, bool]

_START_RULES: tuple[_Rule, ...] = (
    ("InputDataConfig.S3Bucket", _shapes.S3_BUCKET, True),
    ("InputDataConfig.S3Key", _shapes.S3_KEY, False),
    ("OutputDataConfig.S3Bucket", _shapes.S3_BUCKET, True),
    ("OutputDataConfig.S3Key", _shapes.S3_KEY, False),
    ("DataAccessRoleArn", _shapes.IAM_ROLE_ARN, True),
    ("LanguageCode", _shapes.LANGUAGE_CODE, True),
    ("JobName", _shapes.JOB_NAME, False),
    ("KMSKey", _shapes.KMS_KEY, False),
    ("ClientRequestToken", _shapes.CLIENT_REQUEST_TOKEN, False),
)
_JOB_ID_RULES: tuple[_Rule, ...] = (("JobId", _shapes.JOB_ID, True),)
_LIST_RULES: tuple[_Rule, ...] = (
    ("MaxResults", _shapes.MAX_RESULTS, False),
    ("Filter.JobName", _shapes.JOB_NAME, False),
    ("Filter.JobStatus", StringShape("JobStatus", enum=tuple(JobStatus)), False),
)


def _check(rules: Sequence[_Rule], members: Mapping[str, Any], code: str) -> None:
    """Refuse `members` as AWS does: its messages quote the value."""
    for path, shape, required in rules:
        parent, _, name = path.rpartition(".")
        holder: Any = (members.get(parent) or {}) if parent else members
        if not isinstance(holder, Mapping):
            raise Refusal("SerializationException", f"{parent} is not a structure.")
        value = cast("Mapping[str, Any]", holder).get(name)
        at = ".".join(part[0].lower() + part[1:] for part in path.split("."))
        if value is None:
            if required:
                raise Refusal(
                    code,
                    f"1 validation error detected: Value null at '{at}' failed to satisfy"
                    " constraint: Member must not be null",
                )
        elif problem := shape.problem(value):
            raise Refusal(
                code,
                f"1 validation error detected: Value '{value}' at '{at}' failed to satisfy"
                f" constraint: Member {problem}",
            )

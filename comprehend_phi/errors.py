"""All errors and warnings of this package.

    ComprehendPHIError
    ├── RequestValidationError (also ValueError)   a wrong argument; nothing was sent
    ├── ServiceError                               the service returned an error
    │   ├── InternalServerException
    │   ├── InvalidRequestException
    │   ├── ResourceNotFoundException
    │   ├── TooManyRequestsException
    │   │   └── ActiveJobLimitExceeded             all job slots of the account are taken
    │   ├── ValidationException                    ListPHIDetectionJobs only
    │   ├── ServiceUnavailableException
    │   ├── ThrottlingException
    │   ├── TextSizeLimitExceededException         DetectPHI only
    │   ├── InvalidEncodingException               DetectPHI only
    │   ├── AccessDeniedException
    │   └── ExpiredTokenException
    ├── TransportError                             there is no usable response
    │   ├── MalformedResponseError                 the response is not a valid one
    │   └── ClientClosedError                      the client cannot be used any more
    ├── JobError                                   a job did not complete, or not in time
    │   ├── JobFailed
    │   ├── JobStopped
    │   ├── JobMismatchError                       a job of this name is not the one of the request
    │   └── WaitTimeout (also TimeoutError)
    ├── ResultsError                               results or other S3 objects cannot be used
    │   ├── JobNotEndedError                       the job has no results yet
    │   ├── MissingBucketError                     there is no such bucket
    │   ├── MissingObjectError                     a file is missing
    │   ├── MissingManifestError                   the job has no manifest
    │   ├── IncompleteResultsError                 some files or notes could not be read
    │   │   ├── LostManifestError (also MissingManifestError)   a completed job has no manifest
    │   │   └── corpus.IncompleteCopiesError       redacted copies of missing results are missing
    │   ├── UnreadableObjectError                  a file is broken, or S3 refuses to return it
    │   ├── UnwritableObjectError                  S3 refuses to write or delete an object
    │   ├── ExistingObjectError                    an object is there that must not be replaced
    │   └── SourceChangedError                     a note has changed since the job read it
    ├── RedactionError                             a text cannot be redacted with these entities
    │   └── review.DecisionsError                  a reviewer's decisions do not fit a note
    ├── corpus.InputCheckError                     the input of a job has errors
    ├── corpus.IncompleteCheckError                a check could not read some notes
    ├── corpus.CopyError                           a redacted copy was not written
    ├── corpus.PlanError                           a corpus cannot be planned as asked
    ├── corpus.PlanChangedError                    the files of a job have changed since then
    ├── corpus.StagingError                        the files of a job could not be copied
    ├── corpus.LedgerError                         the ledger of a run cannot be used
    │   └── corpus.LedgerInUseError
    ├── corpus.CostLimitError                      the jobs may cost too much; nothing was started
    └── corpus.IncompleteRunError                  a run ended before its jobs had ended

You can pickle every error. No error contains a request, a response or a document, and none has a
cause or context that does.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ._masking import mask
from ._wording import amount, join_first, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .models import JobProperties


class PlaintextOutputWarning(UserWarning):
    """A job was started without `kms_key`, so the service writes its results in plain text."""


class OverlappingLocationsWarning(UserWarning):
    """The input and output locations of a job are the same, or one lies inside the other.

    A later job could read the results of this job as notes.
    """


class DoubleRetryWarning(UserWarning):
    """A boto3 client that you passed in retries by itself, so its attempts multiply with ours."""


class ComprehendPHIError(Exception):
    """The base class of this package's errors."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, pickle calls the class with `args`, but most constructors take keywords.
        return type(self).__new__, (type(self), *self.args), self.__dict__.copy()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class RequestValidationError(ComprehendPHIError, ValueError):
    """An argument has a wrong value or a wrong type. Nothing was sent.

    All functions and classes of this package raise this error for wrong arguments. The message
    never contains the value. `TypeError` remains for missing and unknown arguments, and for boto3
    objects that cannot be used, such as a client for another service.

    Attributes:
        owner: the class or function that got the argument, such as `StartPHIDetectionJobRequest` or
            `submit`.
        field: the field or argument, such as `job_name`.
        shape: the service model's name for this kind of value, such as `JobName`, or the expected
            type.
        reason: the rule that the value breaks.
    """

    def __init__(self, *, owner: str, field: str, shape: str, reason: str) -> None:
        super().__init__(f"{owner}.{field} ({shape}) {reason}")
        self.owner = owner
        self.field = field
        self.shape = shape
        self.reason = reason


@dataclass(kw_only=True, eq=False, repr=False)
class _ReadingError(ComprehendPHIError):
    """An error that can end the reading of results before all documents were delivered."""

    undelivered: int | None = field(default=None, init=False)
    failed: Mapping[str, str] = field(default_factory=dict[str, str], init=False)

    def _undelivered(self) -> str:
        """Return what the message says about the documents that were not delivered."""
        if self.undelivered is None:
            return ""
        documents = amount(self.undelivered, "document was", "documents were")
        text = f" Reading ended early: {documents} not delivered."
        if self.failed:
            text += (
                f" {len(self.failed)} of them failed before: {join_first(_reasons(self.failed))}"
            )
        return text


def _reasons(failed: Mapping[str, str]) -> list[str]:
    return [f"{key} ({reason})" for key, reason in failed.items()]


@dataclass(kw_only=True, eq=False, repr=False)
class _CallError(_ReadingError):
    """An error of a call to AWS."""

    operation: str
    attempts: int = 1
    outcome_unknown: bool = False
    client_request_token: str | None = None
    retry_after: float | None = None
    # Subclasses set these for the class, or make them arguments.
    retryable: bool = field(default=False, init=False)
    advice: str = field(default="", init=False)
    bucket: str | None = field(default=None, init=False)
    key: str | None = field(default=None, init=False)

    def _sentence(self, problem: str, *circumstances: str | None) -> str:
        """Return the message: the call, the problem, the circumstances, and what to do."""
        details = ", ".join(filter(None, (*circumstances, amount(self.attempts, "attempt"))))
        where = "" if self.key is None else f" of s3://{self.bucket}/{self.key}"
        call = f"{self.operation}{where}: {problem} ({details})."
        return f"{call}{self._next_step()}{self._undelivered()}"

    def _next_step(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        if self.outcome_unknown and self.client_request_token is not None:
            return (
                f"{advice} The job may have started anyway. Send the same request again"
                f" (client_request_token {self.client_request_token}); that starts no second job."
            )
        return advice


def _origin(error: ServiceError | MalformedResponseError) -> tuple[str | None, str]:
    """Return the circumstances that say which response the error comes from."""
    status = f"HTTP {error.status_code}" if error.status_code else None
    return status, f"request id {error.request_id or 'unknown'}"


@dataclass(kw_only=True, eq=False, repr=False)
class ServiceError(_CallError):
    """The service returned an error. Error codes without a class of their own raise this class.

    Attributes:
        operation: the service's name of the call, such as `StartPHIDetectionJob`.
        code: the service's error code, or the HTTP status as a string if there is none.
        message: the service's message. Values from the request are masked.
        status_code: the HTTP status. The same error comes with different ones, so check the class
            instead.
        request_id: the id that AWS support asks for.
        attempts: the number of attempts that the call took.
        retryable: whether the same request may succeed later.
        outcome_unknown: whether this attempt or an earlier one may have succeeded anyway.
        client_request_token: the token of the request if the call was a start, otherwise None.
        retry_after: how long the service asked to wait, in seconds, or None.
        bucket, key: the S3 object, if the error may concern only this object. Otherwise None.
        advice: what to do about the error. Empty if there is nothing to say.
        undelivered: if the error ended the reading of results, how many documents were not
            delivered. Otherwise None.
        failed: why each of these documents failed that had failed before, by its input key.
    """

    code: str
    message: str
    status_code: int | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        problem = f"{self.code}: {self.message.rstrip('.')}" if self.message else self.code
        return self._sentence(problem, *_origin(self))


class InternalServerException(ServiceError):
    """The service has an internal error. Retried."""

    retryable = True


class InvalidRequestException(ServiceError):
    """The service rejects the request. Not retried."""

    advice = "Correct the request before you send it again."


class ResourceNotFoundException(ServiceError):
    """The service does not know the job. Not retried.

    The service forgets a job 120 days after its submission (AWS, `ExpirationTime`).
    """

    advice = "Check the job id, the account and the region. Jobs are forgotten after 120 days."


class TooManyRequestsException(ServiceError):
    """There were too many requests in a short time. Retried."""

    retryable = True


class ActiveJobLimitExceeded(TooManyRequestsException):
    """All job slots of the account are taken (`ACTIVE_JOB_COUNT_LIMIT_EXCEEDED`).

    A slot becomes free when a job ends, which takes minutes. `RetryPolicy.slot_timeout` waits for
    that, unless an earlier attempt of the same call may have started the job (`outcome_unknown`).
    """

    advice = (
        "Wait until a job has ended and send the same request again, or let"
        " RetryPolicy(slot_timeout=...) wait for a free slot."
    )

    def _next_step(self) -> str:
        if not self.outcome_unknown:
            return super()._next_step()
        return (
            " An earlier attempt may have started the job, which may have taken the last slot. Look"
            " for it with list_phi_detection_jobs before you send the same request again"
            f" (client_request_token {self.client_request_token}): the service may not know the"
            " token of a job that has ended."
        )


class ValidationException(ServiceError):
    """ListPHIDetectionJobs rejects its filter. Not retried."""

    advice = "Set one filter at a time."


class TextSizeLimitExceededException(ServiceError):
    """The text is too large for DetectPHI. Not retried."""

    advice = (
        "Use detect_phi_in_document, which splits the text. If it was used, give it a smaller"
        " max_bytes."
    )


class InvalidEncodingException(ServiceError):
    """DetectPHI cannot decode the text. Not retried."""

    advice = "Look for control characters in the text, or for bytes that were decoded wrongly."


class ServiceUnavailableException(ServiceError):
    """The service is temporarily unavailable. Retried."""

    retryable = True


class ThrottlingException(ServiceError):
    """The account has reached its rate limit. Retried."""

    retryable = True


class AccessDeniedException(ServiceError):
    """The caller has no permission for the call. Not retried."""

    advice = (
        "Check the caller's IAM policy: the comprehendmedical action and, for a start, iam:PassRole"
        " on the data access role."
    )


class ExpiredTokenException(ServiceError):
    """The caller's credentials have expired. Not retried."""

    advice = "Refresh the credentials and send the same request again."


@dataclass(kw_only=True, eq=False, repr=False)
class TransportError(_CallError):
    """There is no usable response: the network failed, or the request could not be sent.

    Attributes:
        operation: the service's name of the call.
        reason: what went wrong, without any value.
        attempts: the number of attempts that the call took.
        retryable: whether the same request may succeed later.
        outcome_unknown: whether this attempt or an earlier one may have succeeded.
        client_request_token: the token of the request if the call was a start, otherwise None.
        retry_after: how long a response asked to wait, in seconds, or None.
        bucket, key: the S3 object, if the error may concern only this object. Otherwise None.
        advice: what to do about the error. Empty if there is nothing to say. It names settings, but
            never their values.
        undelivered: if the error ended the reading of results, how many documents were not
            delivered. Otherwise None.
        failed: why each of these documents failed that had failed before, by its input key.
    """

    reason: str
    advice: str = ""
    outcome_unknown: bool = True
    retryable: bool = True

    def __str__(self) -> str:
        return self._sentence(self.reason)


@dataclass(kw_only=True, eq=False, repr=False)
class MalformedResponseError(TransportError):
    """The response is truncated, cannot be decoded, or lacks something it must contain.

    Attributes, in addition to those of `TransportError`:
        status_code: the HTTP status of the response, or None.
        request_id: the id that AWS support asks for, or None.
    """

    status_code: int | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return self._sentence(self.reason, *_origin(self))


@dataclass(kw_only=True, eq=False, repr=False)
class ClientClosedError(TransportError):
    """The client cannot be used any more, so nothing was sent. Not retried. Build another client.

    Either the client was closed, or it uses a boto3 client that you passed in and this process was
    forked from the one that the boto3 client belongs to.
    """

    reason: str = "this client is closed; build another one"
    outcome_unknown: bool = False
    retryable: bool = False


class JobError(ComprehendPHIError):
    """A job did not complete, or not in time.

    Attributes:
        job: the properties of the job from the last poll.
    """

    _outcome: ClassVar[str] = "did not complete"

    def __init__(self, job: JobProperties) -> None:
        super().__init__()
        self.job = job

    def __str__(self) -> str:
        return f"Job {self.job.job_id} {self._outcome}."


class JobFailed(JobError):
    """The job ended as FAILED."""

    @property
    def reason(self) -> str:
        """The service's message without keys and names, and without a period at its end."""
        locations = (self.job.input_data_config, self.job.output_data_config)
        keys = (location.s3_key for location in locations if location)
        reason = mask(self.job.message or "", (self.job.job_name, *keys)).rstrip(".")
        return reason or "the service gave no reason"

    def __str__(self) -> str:
        return (
            f"Job {self.job.job_id} failed: {self.reason}."
            " Fix the cause, then build a new request; this request's token belongs to the failed"
            " job."
        )


class JobStopped(JobError):
    """The job ended as STOPPED, because somebody asked the service to stop it."""

    _outcome = "was stopped before it was complete"


class JobMismatchError(JobError):
    """A job with the request's name has other parameters than the request. Nothing was started.

    Attributes:
        job: the properties of that job.
        differences: the names of the request's fields that differ, such as `kms_key`.
    """

    def __init__(self, job: JobProperties, *, differences: Sequence[str]) -> None:
        super().__init__(job)
        self.differences: tuple[str, ...] = tuple(differences)

    def __str__(self) -> str:
        return (
            f"Job {self.job.job_id} has the job_name of this request but differs in"
            f" {', '.join(self.differences)}. To start another job, change the request's job_name."
            " To use this job, correct the request."
        )


class WaitTimeout(JobError, TimeoutError):
    """The job had not ended when the wait's timeout ran out. The job is still running.

    Attributes, in addition to `job`:
        timeout: the timeout, in seconds.
        last_poll_error: the error message of the last poll, or None if it succeeded.
    """

    def __init__(
        self, job: JobProperties, *, timeout: float, last_poll_error: str | None = None
    ) -> None:
        super().__init__(job)
        self.timeout = timeout
        self.last_poll_error = last_poll_error

    def __str__(self) -> str:
        failure = f" The last poll failed: {self.last_poll_error}" if self.last_poll_error else ""
        seconds = f"{self.timeout:g} {plural(self.timeout, 'second')}"
        return (
            f"Job {self.job.job_id} was still {self.job.job_status} after {seconds}."
            f" The job is still running; call client.job({self.job.job_id!r}).wait() to keep"
            f" waiting.{failure}"
        )


@dataclass(eq=False, repr=False)
class ResultsError(_ReadingError):
    """The results of a job are missing or unreadable, or another S3 object cannot be used.

    Attributes:
        reason: what is wrong, without any content of a file.
        bucket: the bucket, or None.
        key: the key, or None if the error does not concern one object. The message contains the
            key, because you need it to fix the problem.
        job_id: the job that the results belong to. None if the error only concerns an object.
        undelivered: if the error ended the reading of results, how many documents were not
            delivered. Otherwise None.
        failed: why each of these documents failed that had failed before, by its input key.
    """

    reason: str
    _: KW_ONLY
    bucket: str | None = None
    key: str | None = None
    job_id: str | None = None

    def __str__(self) -> str:
        path = "" if self.key is None else f"/{self.key}"
        where = f"s3://{self.bucket}{path}: " if self.bucket is not None else ""
        ended_early = self._undelivered()
        return f"{where}{self.reason}{'.' if ended_early else ''}{ended_early}"


class JobNotEndedError(ResultsError):
    """The job has not ended, so it has no results yet. Wait for it first."""


class MissingBucketError(ResultsError):
    """The bucket does not exist."""


class MissingObjectError(ResultsError):
    """The bucket has no object with this key."""


class MissingManifestError(ResultsError):
    """The job has no manifest, so it is unknown which results there are.

    Jobs that ended as FAILED or STOPPED may have none. If a job ended as COMPLETED or
    PARTIAL_SUCCESS, the error is a `LostManifestError`.
    """


@dataclass(eq=False, repr=False)
class UnreadableObjectError(ResultsError):
    """A result file or a note is broken, or S3 permanently refuses to return it.

    Attributes, in addition to those of `ResultsError`:
        code: S3's error code, such as `InvalidObjectState`. None if S3 did not refuse.
    """

    code: str | None = field(default=None, kw_only=True)


@dataclass(eq=False, repr=False)
class UnwritableObjectError(ResultsError):
    """S3 permanently refuses to write, copy or delete an object.

    Attributes, in addition to those of `ResultsError`:
        code: S3's error code, such as `AccessDenied`. None if S3 did not refuse.
    """

    code: str | None = field(default=None, kw_only=True)


class ExistingObjectError(ResultsError):
    """An object is already there that must not be replaced. Nothing was written."""


class SourceChangedError(ResultsError):
    """A note was replaced or deleted since the job read it, or since the plan listed it."""


class IncompleteResultsError(ResultsError):
    """Some notes could not be delivered, or the manifest's numbers do not add up.

    Attributes, in addition to those of `ResultsError`:
        missing: the keys of files that the manifest lists but the bucket does not contain.
        failed: the reason why each note could not be delivered, by its input key. A reason begins
            with the name of an error class and contains no document text. A note with a missing
            file is listed here too.
    """

    def __init__(
        self,
        reason: str,
        *,
        bucket: str,
        missing: Sequence[str] = (),
        failed: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(reason, bucket=bucket, job_id=job_id)
        self.missing: tuple[str, ...] = tuple(missing)
        self.failed: Mapping[str, str] = dict(failed or {})

    def __str__(self) -> str:
        keys = join_first(_reasons(self.failed) if self.failed else self.missing)
        return f"s3://{self.bucket}: {self.reason}{f': {keys}' if keys else ''}"


class LostManifestError(IncompleteResultsError, MissingManifestError):
    """The job ended as COMPLETED or PARTIAL_SUCCESS, but its manifest is missing."""


class RedactionError(ComprehendPHIError):
    """An entity does not match the text, or cannot be replaced, so nothing was redacted.

    The message contains the id and the offsets of an entity, but no part of the text.
    """

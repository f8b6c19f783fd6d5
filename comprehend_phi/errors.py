"""Every error that this package raises.

    ComprehendPHIError
    ├── RequestValidationError (also ValueError)   refused before any network call
    ├── ServiceError                               the service answered with an error
    │   ├── InternalServerException
    │   ├── InvalidRequestException
    │   ├── ResourceNotFoundException
    │   ├── TooManyRequestsException
    │   │   └── ActiveJobLimitExceeded             all job slots of the account are taken
    │   ├── ValidationException                    ListPHIDetectionJobs only
    │   ├── ServiceUnavailableException
    │   ├── ThrottlingException
    │   ├── AccessDeniedException
    │   └── ExpiredTokenException
    ├── TransportError                             no usable answer
    │   ├── MalformedResponseError                 an answer that is not one
    │   └── ClientClosedError                      the client cannot be used any more
    ├── JobError                                   how a job ended, or did not
    │   ├── JobFailed
    │   ├── JobStopped
    │   └── WaitTimeout (also TimeoutError)
    ├── ResultsError                               results that are not there or not readable
    │   ├── JobNotEndedError                       the job still runs: it has no results yet
    │   ├── MissingManifestError                   the job left no manifest
    │   ├── IncompleteResultsError                 what the manifest promised and the bucket lacks
    │   │   └── LostManifestError (also MissingManifestError)   after a job that ended well
    │   ├── UnreadableObjectError                  a file that is broken or that S3 refuses
    │   └── SourceChangedError                     a note that is not the one the job read
    └── RedactionError                             offsets that do not fit the text

They are plain classes, the same in every session, and survive pickling. None holds a request, a
response or a document, and none chains an exception that does.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .models import JobProperties

# AWS's validation messages read: Value '...' at 'jobName' failed to satisfy constraint. The value
# may itself contain what looks like that end, so all is masked up to the last one.
_QUOTED_VALUE = re.compile(r"\b([Vv]alue) '(?:.*(?=' at '[\w.\[\]]+' failed)|.*)", re.DOTALL)

# Shorter ones are masked only where AWS quotes them: they would blot out half of every sentence.
_SHORTEST_MASKED = 4


def mask(text: str, values: Iterable[str | None] = ()) -> str:
    """The service's `text` without the values that it quotes and without any of `values`."""
    # The service shows keys with and without their last slash.
    forms = {form for value in values if value for form in (value, value.rstrip("/"))}
    for value in sorted(forms, key=len, reverse=True):
        if len(value) >= _SHORTEST_MASKED:
            text = text.replace(value, "***")
    return _QUOTED_VALUE.sub(r"\1 '***", text)


class PlaintextOutputWarning(UserWarning):
    """A job was started without `kms_key`: the service writes its results in plain text."""


class OverlappingLocationsWarning(UserWarning):
    """The input and output locations of a job are the same, or one lies inside the other.

    A later job could read the results of this one as notes.
    """


class DoubleRetryWarning(UserWarning):
    """A boto3 client that you hand in retries by itself, so its tries multiply with ours."""


def _restore(cls: type[ComprehendPHIError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ComprehendPHIError(Exception):
    """The root of this package's errors."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which keyword-only constructors refuse.
        return _restore, (type(self), self.args, self.__dict__.copy())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class RequestValidationError(ComprehendPHIError, ValueError):
    """A value was refused before anything was sent. The message never contains the value.

    Every argument of this package's functions and classes that has a wrong value or a wrong type
    raises this. Only boto3's own objects that cannot be used, such as a client for another service,
    raise `TypeError`, as do missing and unknown arguments.

    Attributes:
        owner: the class that was being built or the function that was called, such as
            `StartPHIDetectionJobRequest` or `submit`.
        field: the field or argument, such as `job_name`.
        shape: the service model's name for what the field holds, such as `JobName`, or the type
            that was expected.
        reason: the rule that the value breaks.
    """

    def __init__(self, *, owner: str, field: str, shape: str, reason: str) -> None:
        super().__init__(f"{owner}.{field} ({shape}) {reason}")
        self.owner = owner
        self.field = field
        self.shape = shape
        self.reason = reason


class _CallError(ComprehendPHIError):
    """What the errors of a call have in common."""

    operation: str
    attempts: int
    outcome_unknown: bool
    retryable: bool
    client_request_token: str | None
    retry_after: float | None
    bucket: str | None = None
    key: str | None = None
    advice: str = ""

    def __init__(
        self,
        *,
        operation: str,
        attempts: int,
        outcome_unknown: bool,
        client_request_token: str | None,
        retry_after: float | None,
    ) -> None:
        super().__init__()
        self.operation = operation
        self.attempts = attempts
        self.outcome_unknown = outcome_unknown
        self.client_request_token = client_request_token
        self.retry_after = retry_after

    def _sentence(self, what: str, *circumstances: str | None) -> str:
        """The error in words: which call, what happened, under which circumstances, what next."""
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        details = ", ".join(filter(None, (*circumstances, tries)))
        where = "" if self.key is None else f" of s3://{self.bucket}/{self.key}"
        return f"{self.operation}{where}: {what} ({details}).{self._next()}"

    def _next(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        if self.outcome_unknown and self.client_request_token is not None:
            return (
                f"{advice} The job may have been started all the same: send the same request again"
                f" (client_request_token {self.client_request_token}); that starts no second job."
            )
        return advice


class ServiceError(_CallError):
    """The service answered with an error; this class itself stands for codes without their own.

    Attributes:
        operation: the service's name of the call, such as `StartPHIDetectionJob`.
        code: the service's error code, or the HTTP status as a string where it sent none.
        message: the service's words; values that were sent are masked.
        status_code: the HTTP status. The same error comes with different ones: go by the class.
        request_id: what AWS support asks for.
        attempts: how many attempts the call took.
        retryable: whether the same request may succeed later.
        outcome_unknown: whether this or an earlier attempt may have been carried out nevertheless.
        client_request_token: on a start, the token of the request; else None.
        retry_after: seconds that the service asked to wait, or None.
        bucket, key: the S3 object that was read, if the error may concern it alone; else None.
        advice: what to do about the error, in words; empty if there is nothing to say.
    """

    retryable = False

    def __init__(
        self,
        *,
        operation: str,
        code: str,
        message: str,
        status_code: int | None = None,
        request_id: str | None = None,
        attempts: int = 1,
        outcome_unknown: bool = False,
        client_request_token: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            operation=operation,
            attempts=attempts,
            outcome_unknown=outcome_unknown,
            client_request_token=client_request_token,
            retry_after=retry_after,
        )
        self.code = code
        self.message = message
        self.status_code = status_code
        self.request_id = request_id

    def __str__(self) -> str:
        return self._sentence(
            f"{self.code}: {self.message.rstrip('.')}" if self.message else self.code,
            f"HTTP {self.status_code}" if self.status_code else None,
            f"request id {self.request_id or 'unknown'}",
        )


class InternalServerException(ServiceError):
    """An internal server error occurred. Retried."""

    retryable = True


class InvalidRequestException(ServiceError):
    """The service refuses the request as it stands. Not retried."""

    advice = "Correct the request before sending it again."


class ResourceNotFoundException(ServiceError):
    """The service knows no such job. Not retried.

    Jobs are forgotten 120 days after they were submitted (AWS, `ExpirationTime`).
    """

    advice = "Check the job id, the account and the region; jobs are forgotten after 120 days."


class TooManyRequestsException(ServiceError):
    """Too many requests in a short time. Retried."""

    retryable = True


class ActiveJobLimitExceeded(TooManyRequestsException):
    """All job slots of the account are taken (`ACTIVE_JOB_COUNT_LIMIT_EXCEEDED`).

    A slot becomes free when a job ends, after minutes: `RetryPolicy.slot_timeout` waits for that.
    """

    advice = (
        "Wait until a job has ended and send the same request again, or let"
        " RetryPolicy(slot_timeout=...) wait for a free slot."
    )


class ValidationException(ServiceError):
    """ListPHIDetectionJobs refuses its filter. Not retried."""

    advice = "Set one filter at a time."


class ServiceUnavailableException(ServiceError):
    """The service is unavailable for now. Retried."""

    retryable = True


class ThrottlingException(ServiceError):
    """The rate limit of the account is reached. Retried."""

    retryable = True


class AccessDeniedException(ServiceError):
    """The caller's permissions do not admit the call. Not retried."""

    advice = (
        "Check the caller's IAM policy: the comprehendmedical action and, for a start, iam:PassRole"
        " on the data access role."
    )


class ExpiredTokenException(ServiceError):
    """The caller's credentials have expired. Not retried."""

    advice = "Refresh the credentials and send the same request again."


class TransportError(_CallError):
    """There is no usable answer: the network failed, or the request could not be sent.

    Attributes:
        operation: the service's name of the call.
        reason: what went wrong, in words without any value.
        attempts: how many attempts the call took.
        retryable: whether the same request may succeed later.
        outcome_unknown: whether this or an earlier attempt may have been carried out.
        client_request_token: on a start, the token of the request; else None.
        retry_after: seconds that an answer asked to wait, or None.
        bucket, key: the S3 object that was read, if the error may concern it alone; else None.
        advice: what to do about the error, in words; empty if there is nothing to say. It names
            settings, never their values.
    """

    def __init__(
        self,
        *,
        operation: str,
        reason: str,
        advice: str = "",
        attempts: int = 1,
        outcome_unknown: bool = True,
        retryable: bool = True,
        client_request_token: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            operation=operation,
            attempts=attempts,
            outcome_unknown=outcome_unknown,
            client_request_token=client_request_token,
            retry_after=retry_after,
        )
        self.reason = reason
        self.advice = advice
        self.retryable = retryable

    def __str__(self) -> str:
        return self._sentence(self.reason)


class MalformedResponseError(TransportError):
    """An answer came that is not one: cut, undecodable, or without what it must contain.

    Attributes, beside those of `TransportError`:
        status_code: the HTTP status of the answer, or None.
        request_id: what AWS support asks for, or None.
    """

    def __init__(
        self,
        *,
        operation: str,
        reason: str,
        status_code: int | None = None,
        request_id: str | None = None,
        attempts: int = 1,
        outcome_unknown: bool = True,
        retryable: bool = True,
        client_request_token: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            operation=operation,
            reason=reason,
            attempts=attempts,
            outcome_unknown=outcome_unknown,
            retryable=retryable,
            client_request_token=client_request_token,
            retry_after=retry_after,
        )
        self.status_code = status_code
        self.request_id = request_id

    def __str__(self) -> str:
        return self._sentence(
            self.reason,
            f"HTTP {self.status_code}" if self.status_code else None,
            f"request id {self.request_id or 'unknown'}",
        )


class ClientClosedError(TransportError):
    """The client cannot be used any more, so nothing was sent. Not retried; build another client.

    It was closed. Or it has a boto3 client that was handed in, and this process was forked from the
    one that the boto3 client belongs to.
    """

    def __init__(
        self,
        *,
        operation: str,
        reason: str = "this client is closed; build another one",
        attempts: int = 1,
        outcome_unknown: bool = False,
        retryable: bool = False,
        client_request_token: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            operation=operation,
            reason=reason,
            attempts=attempts,
            outcome_unknown=outcome_unknown,
            retryable=retryable,
            client_request_token=client_request_token,
            retry_after=retry_after,
        )


class JobError(ComprehendPHIError):
    """A job did not come to a good end, or to none in time.

    Attributes:
        job: the properties of the job as the last poll saw them.
    """

    _what: ClassVar[str] = "did not come to a good end"

    def __init__(self, job: JobProperties) -> None:
        super().__init__()
        self.job = job

    def __str__(self) -> str:
        return f"Job {self.job.job_id} {self._what}."


class JobFailed(JobError):
    """The job ended as FAILED."""

    _what = "failed"

    def __str__(self) -> str:
        locations = (self.job.input_data_config, self.job.output_data_config)
        keys = (location.s3_key for location in locations if location)
        reason = mask(self.job.message or "", (self.job.job_name, *keys)).rstrip(".")
        return (
            f"Job {self.job.job_id} failed: {reason or 'the service gave no reason'}."
            " Mend the cause and start a new request: the token of this one stands for this job."
        )


class JobStopped(JobError):
    """The job ended as STOPPED: somebody asked for that, here or elsewhere."""

    _what = "was stopped before it was done"


class WaitTimeout(JobError, TimeoutError):
    """The job had not ended when the wait's timeout was up. It goes on all the same.

    Attributes, beside `job`:
        timeout: the seconds that were waited for.
        last_poll_error: how the last poll failed, in words; None if it did not.
    """

    def __init__(
        self, job: JobProperties, *, timeout: float, last_poll_error: str | None = None
    ) -> None:
        super().__init__(job)
        self.timeout = timeout
        self.last_poll_error = last_poll_error

    def __str__(self) -> str:
        unheard = f" The last poll failed: {self.last_poll_error}" if self.last_poll_error else ""
        return (
            f"Job {self.job.job_id} was {self.job.job_status} after {self.timeout:g} seconds of"
            f" waiting and goes on: client.job({self.job.job_id!r}).wait() waits further.{unheard}"
        )


class ResultsError(ComprehendPHIError):
    """A job's results are not there, or not readable.

    Attributes:
        reason: what is wrong, without a byte of the content.
        bucket: the bucket concerned, or None.
        key: the key concerned; None if it is not about one object. The message shows it: whoever
            fixes this has to find it.
        job_id: the job that the results belong to; None if the error is about an object alone.
    """

    def __init__(
        self,
        reason: str,
        *,
        bucket: str | None = None,
        key: str | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__()
        self.reason = reason
        self.bucket = bucket
        self.key = key
        self.job_id = job_id

    def __str__(self) -> str:
        path = "" if self.key is None else f"/{self.key}"
        where = f"s3://{self.bucket}{path}: " if self.bucket is not None else ""
        return f"{where}{self.reason}"


class JobNotEndedError(ResultsError):
    """The job has not ended, so it has no results yet. Wait for it first."""


class MissingManifestError(ResultsError):
    """The job left no manifest, so nobody can tell which results there are.

    That is how a job may end as FAILED or STOPPED. After COMPLETED or PARTIAL_SUCCESS, it is a
    `LostManifestError`.
    """


class UnreadableObjectError(ResultsError):
    """A file of the results, or a note, is broken, or S3 refuses to return it for good.

    Attributes, beside those of `ResultsError`:
        code: S3's error code, such as `InvalidObjectState`; None if S3 did not refuse.
    """

    def __init__(
        self,
        reason: str,
        *,
        bucket: str | None = None,
        key: str | None = None,
        job_id: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(reason, bucket=bucket, key=key, job_id=job_id)
        self.code = code


class SourceChangedError(ResultsError):
    """A note is not the one that the job read: it was replaced or deleted since."""


class IncompleteResultsError(ResultsError):
    """Some notes could not be delivered, or the manifest's numbers do not add up.

    Attributes, beside those of `ResultsError`:
        missing: the keys of files that the manifest promised and the bucket lacks.
        failed: why each note was not delivered, by its input key. A reason begins with the name of
            an error class and contains no document text. If a file of a note is missing, the note
            is in here too.
    """

    _SHOWN = 20

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
        failed = (f"{key} ({reason})" for key, reason in self.failed.items())
        shown = ", ".join(islice(failed if self.failed else self.missing, self._SHOWN))
        more = len(self.failed or self.missing) - self._SHOWN
        keys = f": {shown}" + (f" and {more} more" if more > 0 else "") if shown else ""
        return f"s3://{self.bucket}: {self.reason}{keys}"


class LostManifestError(IncompleteResultsError, MissingManifestError):
    """The job ended as COMPLETED or PARTIAL_SUCCESS, but its manifest is not there."""


class RedactionError(ComprehendPHIError):
    """Entities do not fit the text that they are said to stand in, so nothing was redacted.

    The message names the entity and its offsets, never a character of the text.
    """

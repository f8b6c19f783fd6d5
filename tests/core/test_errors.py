"""The errors: their classes, their messages, and what they hide."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import comprehend_phi
from comprehend_phi import (
    InputDataConfig,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    _results,
    _service,
    corpus,
    errors,
    review,
)
from comprehend_phi.errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ClientClosedError,
    ComprehendPHIError,
    ExistingObjectError,
    ExpiredTokenException,
    IncompleteResultsError,
    InternalServerException,
    InvalidEncodingException,
    InvalidRequestException,
    JobError,
    JobFailed,
    JobMismatchError,
    JobNotEndedError,
    JobStopped,
    LostManifestError,
    MalformedResponseError,
    MissingBucketError,
    MissingManifestError,
    MissingObjectError,
    RedactionError,
    RequestValidationError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    ServiceUnavailableException,
    SourceChangedError,
    TextSizeLimitExceededException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
    ValidationException,
    WaitTimeout,
)

from ..conftest import CANARY

TOKEN = "9e7a3c1e-2b1f-4b58-9c3a-5f2d1c0b9a87"


def a_job(status: str = "FAILED", **fields: Any) -> JobProperties:
    return JobProperties(job_id="0" * 32, job_status=JobStatus(status), **fields)


SERVICE_ERRORS: list[type[ServiceError]] = [
    ServiceError,
    InternalServerException,
    InvalidRequestException,
    ResourceNotFoundException,
    TooManyRequestsException,
    ActiveJobLimitExceeded,
    ValidationException,
    TextSizeLimitExceededException,
    InvalidEncodingException,
    ServiceUnavailableException,
    ThrottlingException,
    AccessDeniedException,
    ExpiredTokenException,
]


A_SERVICE_ERROR: dict[str, Any] = {
    "operation": "StartPHIDetectionJob",
    "code": "TeapotException",
    "message": "no coffee here",
    "status_code": 418,
    "request_id": "request-1",
    "attempts": 3,
    "outcome_unknown": True,
    "client_request_token": TOKEN,
    "retry_after": 1.5,
}


def a_service_error(cls: type[ServiceError] = ServiceError, **fields: Any) -> ServiceError:
    return cls(**{**A_SERVICE_ERROR, **fields})


RESULTS_ERRORS = (
    ResultsError,
    JobNotEndedError,
    MissingBucketError,
    MissingObjectError,
    MissingManifestError,
    UnreadableObjectError,
    UnwritableObjectError,
    ExistingObjectError,
    SourceChangedError,
)
A_RESULTS_ERROR = {
    "reason": "there is no manifest",
    "bucket": "results.example",
    "key": "folder/Manifest",
    "job_id": "c0ffee00c0ffee00c0ffee00c0ffee00",
}
AN_INCOMPLETE_RESULTS_ERROR = {
    "reason": "2 files are missing",
    "bucket": "results.example",
    "missing": ("a", "b"),
    "failed": {"notes/a": "SourceChangedError: gone"},
    "job_id": "c0ffee00c0ffee00c0ffee00c0ffee00",
}

# The arguments of one error of each class. No attribute has its default.
MADE_OF: dict[type[ComprehendPHIError], dict[str, Any]] = {
    RequestValidationError: {
        "owner": "JobFilter",
        "field": "job_name",
        "shape": "JobName",
        "reason": "no",
    },
    **dict.fromkeys(SERVICE_ERRORS, A_SERVICE_ERROR),
    TransportError: {
        "operation": "StartPHIDetectionJob",
        "reason": "the network failed",
        "attempts": 4,
        "outcome_unknown": False,
        "retryable": False,
        "client_request_token": TOKEN,
        "retry_after": 2.0,
    },
    MalformedResponseError: {
        "operation": "StartPHIDetectionJob",
        "reason": "the response is not usable",
        "status_code": 200,
        "request_id": "request-2",
        "attempts": 5,
        "outcome_unknown": False,
        "retryable": False,
        "client_request_token": TOKEN,
        "retry_after": 3.0,
    },
    ClientClosedError: {
        "operation": "StartPHIDetectionJob",
        "reason": "this client is closed",
        "attempts": 2,
        "outcome_unknown": True,
        "retryable": True,
        "client_request_token": TOKEN,
        "retry_after": 1.0,
    },
    JobError: {"job": a_job()},
    JobFailed: {"job": a_job(message="no such bucket")},
    JobStopped: {"job": a_job("STOPPED")},
    JobMismatchError: {"job": a_job(), "differences": ("kms_key",)},
    WaitTimeout: {"job": a_job("IN_PROGRESS"), "timeout": 60.0, "last_poll_error": "throttled"},
    **dict.fromkeys(RESULTS_ERRORS, A_RESULTS_ERROR),
    **dict.fromkeys((IncompleteResultsError, LostManifestError), AN_INCOMPLETE_RESULTS_ERROR),
}
EXAMPLES: dict[str, ComprehendPHIError] = {
    "ComprehendPHIError": ComprehendPHIError("words"),
    **{cls.__name__: cls(**fields) for cls, fields in MADE_OF.items()},
    "RedactionError": RedactionError("entity 0 ends behind the text"),
}
each_error = pytest.mark.parametrize("error", EXAMPLES.values(), ids=EXAMPLES.keys())


# --- The tree -------------------------------------------------------------------------------------


def drawn_tree(drawing: str) -> dict[str, set[str]]:
    """Return each class in the drawing in a docstring, with its base classes in the drawing."""
    line = re.compile(r" {4}(?P<stem>(?:│   |    )*)(?P<twig>[├└]── )?(?P<name>[\w.]+)(?P<rest>.*)")
    bases: dict[str, set[str]] = {}
    path: list[str] = []
    for text in drawing.splitlines():
        match = line.fullmatch(text)
        if match is None:
            continue
        depth = len(match["stem"]) // 4 + bool(match["twig"])
        also = re.match(r" \(also (\w+)\)", match["rest"])
        bases[match["name"]] = {*path[depth - 1 : depth], *(also.groups() if also else ())}
        path = [*path[:depth], match["name"]]
    return bases


def real_tree() -> dict[str, set[str]]:
    """Return the same for the classes themselves, without private base classes."""

    def public_bases(cls: type) -> set[str]:
        return {
            name
            for base in cls.__bases__
            for name in (public_bases(base) if base.__name__.startswith("_") else {base.__name__})
        }

    classes = (
        value
        for value in vars(errors).values()
        if inspect.isclass(value)
        and issubclass(value, ComprehendPHIError)
        and not value.__name__.startswith("_")
    )
    tree = {cls.__name__: public_bases(cls) for cls in classes}
    tree["ComprehendPHIError"] -= {"Exception"}
    return tree


def test_the_docstring_draws_the_class_tree() -> None:
    elsewhere = {
        getattr(package, name): f"{package.__name__.removeprefix('comprehend_phi.')}.{name}"
        for package in (corpus, review)
        for name in package.__all__
        if name.endswith("Error")
    }

    drawn = drawn_tree(errors.__doc__ or "")

    assert drawn == real_tree() | {
        name: {elsewhere.get(base, base.__name__) for base in cls.__bases__}
        for cls, name in elsewhere.items()
    }


def test_reading_the_drawing_finds_depth_and_second_bases() -> None:
    drawing = """Words.

    Root
    ├── A (also ValueError)   words
    │   └── B                 words
    └── C
        └── D (also OSError)
    """

    assert drawn_tree(drawing) == {
        "Root": set(),
        "A": {"Root", "ValueError"},
        "B": {"A"},
        "C": {"Root"},
        "D": {"C", "OSError"},
    }


def all_subclasses(cls: type[BaseException]) -> set[type[BaseException]]:
    return {cls}.union(*(all_subclasses(below) for below in cls.__subclasses__()))


def test_every_error_that_a_call_or_results_can_raise_is_public() -> None:
    for package in (_results, _service):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

    private = {
        cls.__qualname__
        for cls in all_subclasses(ComprehendPHIError)
        if cls.__module__.startswith(("comprehend_phi.errors", "comprehend_phi._"))
        and getattr(comprehend_phi, cls.__name__, None) is not cls
        and getattr(review, cls.__name__, None) is not cls
    }
    # The base classes of ServiceError, TransportError and ResultsError.
    assert private == {"_CallError", "_ReadingError"}


def test_every_class_has_an_example() -> None:
    assert EXAMPLES.keys() == real_tree().keys()


@pytest.mark.parametrize(
    ("cls", "builtin"), [(RequestValidationError, ValueError), (WaitTimeout, TimeoutError)]
)
def test_an_error_with_a_builtin_base_can_be_caught_as_the_builtin(
    cls: type[ComprehendPHIError], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin):
        raise EXAMPLES[cls.__name__]


# --- As values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MADE_OF)
def test_an_error_has_its_arguments_as_attributes(cls: type[ComprehendPHIError]) -> None:
    error = cls(**MADE_OF[cls])

    assert {name: getattr(error, name) for name in MADE_OF[cls]} == MADE_OF[cls]


def _pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


ROUND_TRIPS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {number}": _pickled(number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@each_error
@pytest.mark.parametrize("round_trip", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_an_error_is_complete_after_pickling_and_copying(
    error: ComprehendPHIError, round_trip: Callable[[Any], Any]
) -> None:
    back = round_trip(error)

    assert back is not error
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert getattr(back, "retryable", None) == getattr(error, "retryable", None)


def test_a_note_on_an_error_survives_pickling() -> None:
    error = a_service_error()
    # add_note stores its notes here.
    error.__dict__["__notes__"] = ["seen on Monday"]

    assert vars(pickle.loads(pickle.dumps(error)))["__notes__"] == ["seen on Monday"]


@each_error
def test_the_repr_is_the_class_and_the_message(error: ComprehendPHIError) -> None:
    assert repr(error) == f"{type(error).__name__}({str(error)!r})"


@each_error
def test_the_message_is_one_line_of_sentences(error: ComprehendPHIError) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)
    assert ".." not in str(error).replace("(slot_timeout=...)", "")
    assert "None" not in str(error)


RETRYABLE = {
    "ServiceError": False,
    "InternalServerException": True,
    "InvalidRequestException": False,
    "ResourceNotFoundException": False,
    "TooManyRequestsException": True,
    "ActiveJobLimitExceeded": True,
    "ValidationException": False,
    "TextSizeLimitExceededException": False,
    "InvalidEncodingException": False,
    "ServiceUnavailableException": True,
    "ThrottlingException": True,
    "AccessDeniedException": False,
    "ExpiredTokenException": False,
}


@pytest.mark.parametrize("cls", SERVICE_ERRORS)
def test_the_class_says_whether_it_is_retried(cls: type[ServiceError]) -> None:
    assert cls.retryable is RETRYABLE[cls.__name__]
    assert a_service_error(cls).retryable is RETRYABLE[cls.__name__]


@pytest.mark.parametrize("cls", [TransportError, MalformedResponseError])
def test_a_transport_error_is_retryable_with_unknown_outcome_by_default(
    cls: type[TransportError],
) -> None:
    error = cls(operation="StopPHIDetectionJob", reason="the network failed")

    assert (error.retryable, error.outcome_unknown, error.attempts) == (True, True, 1)
    assert (error.client_request_token, error.retry_after) == (None, None)


def test_a_closed_client_error_is_not_retryable_and_sent_nothing_by_default() -> None:
    error = ClientClosedError(operation="StopPHIDetectionJob", reason="this client is closed")

    assert (error.retryable, error.outcome_unknown, error.attempts) == (False, False, 1)
    assert (error.client_request_token, error.retry_after) == (None, None)


@pytest.mark.parametrize("cls", SERVICE_ERRORS)
def test_a_service_error_has_a_known_outcome_by_default(
    cls: type[ServiceError],
) -> None:
    error = cls(operation="StopPHIDetectionJob", code="TeapotException", message="no coffee")

    assert (error.outcome_unknown, error.attempts) == (False, 1)
    assert (error.client_request_token, error.retry_after) == (None, None)


# --- In words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", SERVICE_ERRORS)
def test_a_service_error_shows_the_call_the_code_the_status_the_request_and_the_attempts(
    cls: type[ServiceError],
) -> None:
    shown = str(a_service_error(cls, outcome_unknown=False))

    assert shown.startswith(
        "StartPHIDetectionJob: TeapotException: no coffee here"
        " (HTTP 418, request id request-1, 3 attempts)."
    )


def test_unknown_details_are_left_out() -> None:
    error = ServiceError(operation="StopPHIDetectionJob", code="503", message="")

    assert str(error) == "StopPHIDetectionJob: 503 (request id unknown, 1 attempt)."


@pytest.mark.parametrize("message", ["Rate exceeded", "Rate exceeded.", "Rate exceeded..."])
def test_the_services_full_stop_is_not_repeated(message: str) -> None:
    error = ServiceError(operation="StopPHIDetectionJob", code="Teapot", message=message)

    assert str(error).startswith("StopPHIDetectionJob: Teapot: Rate exceeded (request id ")


def test_the_services_message_is_shown_completely() -> None:
    error = ServiceError(operation="StopPHIDetectionJob", code="Teapot", message=".X is no X")

    assert str(error).startswith("StopPHIDetectionJob: Teapot: .X is no X (request id ")


def test_a_malformed_response_shows_the_call_the_status_the_request_and_the_attempts() -> None:
    error = MalformedResponseError(**MADE_OF[MalformedResponseError])

    assert str(error) == (
        "StartPHIDetectionJob: the response is not usable"
        " (HTTP 200, request id request-2, 5 attempts)."
    )


def test_a_malformed_response_without_details_shows_the_call() -> None:
    error = MalformedResponseError(operation="StopPHIDetectionJob", reason="it is cut")

    assert str(error) == "StopPHIDetectionJob: it is cut (request id unknown, 1 attempt)."


def test_a_transport_error_shows_the_call_and_the_attempts() -> None:
    error = TransportError(**MADE_OF[TransportError])

    assert str(error) == "StartPHIDetectionJob: the network failed (4 attempts)."


@pytest.mark.parametrize(
    ("cls", "step"),
    [
        (InvalidRequestException, "Correct the request"),
        (ResourceNotFoundException, "Check the job id, the account and the region"),
        (ActiveJobLimitExceeded, "RetryPolicy(slot_timeout=...)"),
        (ValidationException, "one filter at a time"),
        (AccessDeniedException, "iam:PassRole"),
        (ExpiredTokenException, "Refresh the credentials"),
    ],
)
def test_an_error_that_the_caller_can_fix_says_how(cls: type[ServiceError], step: str) -> None:
    assert step in str(a_service_error(cls, outcome_unknown=False))


# Built for each test, because tests change attributes as the retry loop does.
CALL_ERRORS: list[Callable[..., ServiceError | TransportError]] = [
    partial(a_service_error, InternalServerException),
    partial(TransportError, operation="Any", reason="reset"),
    partial(MalformedResponseError, operation="Any", reason="cut"),
]


@pytest.mark.parametrize("make", CALL_ERRORS)
def test_an_unknown_outcome_shows_the_token_and_that_it_is_safe_to_send_again(
    make: Callable[..., ServiceError | TransportError],
) -> None:
    shown = str(make(outcome_unknown=True, client_request_token=TOKEN))

    assert f"client_request_token {TOKEN}" in shown
    assert "Send the same request again" in shown
    assert "starts no second job" in shown


@pytest.mark.parametrize("make", CALL_ERRORS)
@pytest.mark.parametrize(("unknown", "token"), [(False, TOKEN), (True, None), (False, None)])
def test_no_advice_to_send_again_if_the_outcome_is_known_or_nothing_was_started(
    make: Callable[..., ServiceError | TransportError], unknown: bool, token: str | None
) -> None:
    shown = str(make(outcome_unknown=unknown, client_request_token=token))

    assert TOKEN not in shown
    assert "the same request again" not in shown


def test_the_message_changes_with_the_attributes_that_the_retry_loop_sets() -> None:
    error = a_service_error(ThrottlingException, attempts=1, outcome_unknown=False)
    error.attempts, error.outcome_unknown = 8, True

    assert "8 attempts" in str(error)
    assert TOKEN in str(error)


def test_a_rejected_value_is_described_by_class_field_shape_and_rule() -> None:
    error = RequestValidationError(**MADE_OF[RequestValidationError])

    assert str(error) == "JobFilter.job_name (JobName) no"
    assert error.args == (str(error),)  # as of any ValueError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ResultsError("the job was forgotten"), "the job was forgotten"),
        (ResultsError("gone", bucket="b.example"), "s3://b.example: gone"),
        (
            ResultsError("gone", bucket="b.example", key="a/Manifest"),
            "s3://b.example/a/Manifest: gone",
        ),
    ],
)
def test_a_results_error_shows_the_object_that_it_concerns(error: ResultsError, words: str) -> None:
    assert str(error) == words


@pytest.mark.parametrize(
    ("undelivered", "failed", "words"),
    [
        (1, {}, "1 document was not delivered."),
        (
            3,
            {"notes/1": "gone", "notes/2": "cut"},
            "3 documents were not delivered."
            " 2 of them failed before: notes/1 (gone), notes/2 (cut)",
        ),
    ],
)
def test_an_error_that_ends_the_reading_counts_what_was_not_delivered(
    undelivered: int, failed: dict[str, str], words: str
) -> None:
    error = ResultsError("forgotten")
    error.undelivered, error.failed = undelivered, failed

    assert str(error) == f"forgotten. Reading ended early: {words}"


def test_an_error_of_a_call_shows_the_object_that_it_concerns() -> None:
    error = TransportError(operation="GetObject", reason="the network failed")
    error.bucket, error.key = "b.example", "a/Manifest"

    assert str(error).startswith("GetObject of s3://b.example/a/Manifest: the network failed (")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (0, ""),
        (1, ": key-0"),
        (2, ": key-0, key-1"),
        (20, ": " + ", ".join(f"key-{number}" for number in range(20))),
        (21, ": " + ", ".join(f"key-{number}" for number in range(20)) + " and 1 more"),
        (500, ": " + ", ".join(f"key-{number}" for number in range(20)) + " and 480 more"),
    ],
)
def test_at_most_twenty_missing_keys_are_shown(missing: int, words: str) -> None:
    keys = [f"key-{number}" for number in range(missing)]
    error = IncompleteResultsError("not all are there", bucket="b.example", missing=keys)

    assert str(error) == f"s3://b.example: not all are there{words}"
    assert error.missing == tuple(keys)


@pytest.mark.parametrize("failed", [1, 20, 21])
def test_at_most_twenty_failed_notes_are_shown_with_their_reasons(failed: int) -> None:
    reasons = {f"note-{number}": f"reason-{number}" for number in range(failed)}
    error = IncompleteResultsError(
        "not all came", bucket="b.example", missing=["elsewhere"], failed=reasons
    )

    shown = ", ".join(f"note-{number} (reason-{number})" for number in range(min(failed, 20)))
    more = " and 1 more" if failed > 20 else ""
    assert str(error) == f"s3://b.example: not all came: {shown}{more}"
    assert error.failed == reasons


# --- How a job ended ------------------------------------------------------------------------------


def test_a_failed_job_shows_the_services_reason_and_the_next_step() -> None:
    shown = str(JobFailed(a_job(message="The bucket does not exist.")))

    assert shown.startswith(f"Job {'0' * 32} failed: The bucket does not exist. Fix ")
    assert "build a new request" in shown


def test_the_services_reason_is_shown_completely() -> None:
    shown = str(JobFailed(a_job(message=".X is no X")))

    assert shown.startswith(f"Job {'0' * 32} failed: .X is no X. Fix ")


@pytest.mark.parametrize("message", [None, ""])
def test_a_job_that_failed_without_a_reason_says_so(message: str | None) -> None:
    assert "failed: the service gave no reason." in str(JobFailed(a_job(message=message)))


def test_a_failed_job_hides_its_name_and_its_keys_in_the_services_reason() -> None:
    job = a_job(
        job_name=CANARY,
        message=f"{CANARY}: cannot list s3://notes.example/in/{CANARY}/, cannot write out/Zinnia",
        input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key=f"in/{CANARY}"),
        output_data_config=OutputDataConfig(s3_bucket="notes.example", s3_key="out/Zinnia"),
    )
    error = JobFailed(job)

    assert "cannot list s3://notes.example/***/, cannot write ***" in str(error)
    assert "Zinnia" not in f"{error} {error!r} {error.args}"
    # The job itself is unchanged.
    assert error.job.message == job.message


@pytest.mark.parametrize("end", ["", "/"])
def test_a_failed_job_hides_its_keys_with_and_without_the_last_slash(end: str) -> None:
    job = a_job(
        message=f"cannot list s3://notes.example/{CANARY}",
        input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key=CANARY + end),
    )

    assert "Zinnia" not in str(JobFailed(job))


def test_a_failed_job_without_locations_has_a_message() -> None:
    job = a_job(message="gone", input_data_config=None, output_data_config=None)

    assert "failed: gone." in str(JobFailed(job))


def test_a_stopped_job_says_so() -> None:
    assert (
        str(JobStopped(a_job("STOPPED"))) == f"Job {'0' * 32} was stopped before it was complete."
    )


def test_a_timeout_shows_the_state_the_time_and_the_next_step() -> None:
    shown = str(WaitTimeout(a_job("IN_PROGRESS"), timeout=90.0))

    assert "was still IN_PROGRESS after 90 seconds." in shown
    assert shown.endswith(f"client.job('{'0' * 32}').wait() to keep waiting.")


def test_a_timeout_shows_why_the_last_poll_failed() -> None:
    error = WaitTimeout(a_job("SUBMITTED"), timeout=1.0, last_poll_error="throttled")

    assert "after 1 second." in str(error)
    assert "The last poll failed: throttled" in str(error)


def test_a_job_with_other_parameters_is_described_by_their_names() -> None:
    error = JobMismatchError(a_job(), differences=("language_code", "kms_key"))

    assert "differs in language_code, kms_key. To start another job" in str(error)


@pytest.mark.parametrize("cls", [JobError, JobFailed, JobStopped])
def test_a_job_error_has_the_complete_job(cls: type[JobError]) -> None:
    job = a_job(job_name=CANARY, message=CANARY)

    assert cls(job).job is job
    assert CANARY not in repr(cls(job).job)

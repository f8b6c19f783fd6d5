"""Nothing leaks: no exception, repr, log record or warning shows a canary from the request.

The canary is looked for by its words, so that a part of it counts as well.
"""

from __future__ import annotations

import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any, cast

import attrs
import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    ComprehendPHIError,
    Entity,
    InputDataConfig,
    InvalidRequestException,
    JobFailed,
    JobFilter,
    JobMismatchError,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    TransportError,
    WaitTimeout,
    request_token,
)
from comprehend_phi.models import JobPage, ListPHIDetectionJobsRequest
from comprehend_phi.testing import FakeClock, Fault, LocalServer, faults

from ..conftest import CANARY

MakeClient = Callable[..., PHIClient]

WORDS = ("zinnia", "quellwasser")
INPUT_KEY = f"notes/{CANARY}/2031"
OUTPUT_KEY = f"results for {CANARY}"

JSON = {"Content-Type": "application/x-amz-json-1.1"}
# Deeper objects add nothing. Their contents are searched, but not the objects around them.
_NOT_ENTERED = (type, ModuleType, FunctionType, FrameType, TracebackType, logging.Logger)


def texts(thing: object) -> Iterator[str]:
    """Yield every string that can be reached from `thing`, and all of its reprs.

    Exceptions with args, attributes, notes, cause, context, group and formatted traceback (without
    locals); mappings, collections and attributes of any object.
    """
    seen: dict[int, object] = {}  # which keeps them alive, so that no id is used twice
    pending: list[object] = [thing]
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            yield current
            continue
        if isinstance(current, (bytes, bytearray)):
            yield current.decode("latin-1")
            continue
        if id(current) in seen or isinstance(current, _NOT_ENTERED):
            continue
        seen[id(current)] = current
        yield repr(current)
        yield str(current)
        if isinstance(current, BaseException):
            yield "".join(traceback.format_exception(current))
            pending += [current.args, current.__cause__, current.__context__]
            pending += [getattr(current, "exceptions", ()), getattr(current, "__notes__", ())]
        pending += parts(current)
        pending += getattr(current, "__dict__", {}).values()
        for cls in type(current).__mro__:
            names: Any = cls.__dict__.get("__slots__", ())
            for name in (names,) if isinstance(names, str) else names:
                if name not in ("__dict__", "__weakref__"):
                    pending.append(getattr(current, name, None))


def parts(collection: Any) -> list[object]:
    """Return the items of a collection, or nothing for other objects."""
    if isinstance(collection, Mapping):
        return [
            part for item in cast("Mapping[object, object]", collection).items() for part in item
        ]
    if isinstance(collection, (list, tuple, set, frozenset)):
        return list(cast("Iterable[object]", collection))
    return []


def leaks(thing: object) -> list[str]:
    """Return the strings of `thing` that contain a word of the canary."""
    return [text for text in texts(thing) if any(word in text.lower() for word in WORDS)]


# --- The helper finds what it is to find ----------------------------------------------------------


def chained(error: ValueError, cause: Exception, *, hidden: bool) -> ValueError:
    """Return `error` after it was raised in an except block that caught `cause`."""
    error.__context__ = cause
    error.__suppress_context__ = hidden
    return error


def noted(error: ValueError) -> ValueError:
    error.__notes__ = [CANARY]
    return error


def with_attribute(value: object) -> ValueError:
    error = ValueError("harmless")
    error.__dict__["detail"] = value
    return error


class Silent:
    """An object that hides its content in its repr."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    def __repr__(self) -> str:
        return "Silent()"


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(ValueError(CANARY), id="args"),
        pytest.param(ValueError(3, [{"a": (CANARY,)}]), id="nested args"),
        pytest.param(ValueError(b"..." + CANARY.encode()), id="bytes"),
        pytest.param(ValueError({CANARY: 1}), id="key of a dict"),
        pytest.param(with_attribute(CANARY), id="attribute"),
        pytest.param(with_attribute(Silent(CANARY)), id="slot of an attribute"),
        pytest.param(noted(ValueError("harmless")), id="note"),
        pytest.param(chained(ValueError("harmless"), KeyError(CANARY), hidden=False), id="context"),
        pytest.param(
            chained(ValueError("harmless"), KeyError(CANARY), hidden=True), id="hidden context"
        ),
        pytest.param(
            chained(
                ValueError("harmless"),
                chained(ValueError("harmless"), with_attribute(Silent(CANARY)), hidden=True),
                hidden=True,
            ),
            id="far away",
        ),
        pytest.param(ValueError("only zinnia was kept"), id="a part of it"),
        pytest.param(
            with_attribute(InputDataConfig(s3_bucket="clinic-notes", s3_key=INPUT_KEY)),
            id="a model whose repr hides it",
        ),
    ],
)
def test_a_planted_canary_is_found(planted: BaseException) -> None:
    assert leaks(planted)


@pytest.mark.parametrize("where", [{"msg": CANARY}, {"args": (CANARY,)}, {"job": CANARY}])
def test_a_canary_in_a_log_record_is_found(where: dict[str, Any]) -> None:
    assert leaks(logging.makeLogRecord(where))


def test_no_canary_is_found_if_there_is_none() -> None:
    assert leaks(chained(with_attribute(Silent("x")), KeyError("y"), hidden=True)) == []


# --- Reprs ----------------------------------------------------------------------------------------


def request_with_canary(**fields: Any) -> StartPHIDetectionJobRequest:
    usual: dict[str, Any] = {
        "input_data_config": InputDataConfig(s3_bucket="clinic-notes", s3_key=INPUT_KEY),
        "output_data_config": OutputDataConfig(s3_bucket="clinic-results", s3_key=OUTPUT_KEY),
        "data_access_role_arn": "arn:aws:iam::123456789012:role/reads-notes",
        "kms_key": "alias/notes",
        "job_name": CANARY,
    }
    return StartPHIDetectionJobRequest(**{**usual, **fields})


def job_with_canary(status: JobStatus) -> JobProperties:
    request = request_with_canary()
    return JobProperties(
        job_id="0123456789abcdef0123456789abcdef",
        job_status=status,
        job_name=CANARY,
        message=f"Cannot read s3://clinic-notes/{INPUT_KEY} of {CANARY}.",
        submit_time=datetime(2031, 1, 2, tzinfo=UTC),
        input_data_config=request.input_data_config,
        output_data_config=request.output_data_config,
        manifest_file_path=f"{OUTPUT_KEY}/Manifest",
    )


@pytest.mark.parametrize(
    "model",
    [
        request_with_canary(),
        request_with_canary().input_data_config,
        request_with_canary().output_data_config,
        StartPHIDetectionJobResponse(job_id="0123456789abcdef0123456789abcdef"),
        job_with_canary(JobStatus.FAILED),
        JobFilter(job_name=CANARY),
        ListPHIDetectionJobsRequest(filter=JobFilter(job_name=CANARY), next_token=CANARY),
        JobPage(jobs=(job_with_canary(JobStatus.COMPLETED),), next_token=CANARY),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_model_shows_a_name_or_a_key(model: object) -> None:
    for shown in (repr(model), str(model), f"{model}"):
        assert leaks(shown) == []


@pytest.mark.parametrize(
    "error",
    [
        JobFailed(job_with_canary(JobStatus.FAILED)),
        WaitTimeout(job_with_canary(JobStatus.IN_PROGRESS), timeout=3.0),
        JobMismatchError(job_with_canary(JobStatus.COMPLETED), differences=("job_name",)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_job_error_shows_nothing_private_of_its_job(error: ComprehendPHIError) -> None:
    # These errors have the properties as an attribute, but must not show them.
    shown = (str(error), repr(error), "".join(traceback.format_exception(error)), error.args)
    assert leaks(shown) == []


# --- Calls ----------------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records of our logger at level DEBUG."""
    caplog.set_level(logging.DEBUG, "comprehend_phi")
    return caplog


def ours(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in log.records if record.name.startswith("comprehend_phi")]


def assert_clean(error: BaseException, log: pytest.LogCaptureFixture) -> None:
    """Check that neither the error nor the log shows the canary."""
    assert leaks(error) == []
    assert not any(word.encode() in pickle.dumps(error).lower() for word in WORDS)
    copy: Any = pickle.loads(pickle.dumps(error))
    assert leaks(copy) == []
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)
    for record in ours(log):
        assert leaks(record) == []
        assert leaks(record.getMessage()) == []


def failing_start(
    client: PHIClient, request: StartPHIDetectionJobRequest
) -> ServiceError | TransportError:
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        try:
            client.start_phi_detection_job(request)
        except (ServiceError, TransportError) as error:
            caught = error
        else:
            pytest.fail("the start succeeded")
    assert leaks([warning.message for warning in issued]) == []
    return caught


def quoting(template: str, code: str) -> Fault:
    return faults.error(code, template.format(name=CANARY, source=INPUT_KEY, target=OUTPUT_KEY))


HTML = f"<html><body>{CANARY}: {INPUT_KEY}</body></html>".encode()

QUOTES = (
    "1 validation error detected: Value '{name}' at 'jobName' failed to satisfy constraint: Member"
    " must have length less than or equal to 256",
    "2 validation errors detected: Value '{name}' at 'jobName' failed to satisfy constraint: Member"
    " must satisfy regular expression pattern: x; Value '{source}' at 'inputDataConfig.s3Key'"
    " failed to satisfy constraint: Member must have length less than or equal to 1024",
    # The value may look like the end of the quotation.
    "Value '{name}' at 'x' {name}' at 'jobName' failed to satisfy constraint: Member is bad",
    "Value '{name}",
    "value '{name}' is not allowed",
    "The input s3://clinic-notes/{source} cannot be read.",
    "Cannot write to arn:aws:s3:::clinic-results/{target}/*",
    "{name}",
    "{source} {target} {name} {source}",
    "JobName={name}, S3Key={source}",
)


@pytest.mark.parametrize("message", QUOTES)
@pytest.mark.parametrize("code", ["InvalidRequestException", "ThrottlingException", "Zonk"])
def test_a_service_message_that_quotes_the_request_is_masked(
    message: str,
    code: str,
    server: LocalServer,
    make_client: MakeClient,
    log: pytest.LogCaptureFixture,
) -> None:
    server.service.script(*[quoting(message, code)] * 2)

    error = failing_start(make_client(retry=RetryPolicy(max_attempts=2)), request_with_canary())

    assert isinstance(error, ServiceError)
    assert "***" in error.message
    assert_clean(error, log)


@pytest.mark.parametrize(
    ("key", "quoted"),
    [
        # The service shows a folder with and without its last slash.
        (f"{CANARY}/", f"s3://clinic-notes/{CANARY}"),
        (f"/{CANARY}", f"s3://clinic-notes/{CANARY}"),
    ],
)
def test_a_key_is_masked_with_and_without_its_outer_slashes(
    key: str,
    quoted: str,
    server: LocalServer,
    once: PHIClient,
    log: pytest.LogCaptureFixture,
) -> None:
    server.service.script(faults.error("InvalidRequestException", f"Cannot read {quoted}."))
    source = InputDataConfig(s3_bucket="clinic-notes", s3_key=key)

    error = failing_start(once, request_with_canary(input_data_config=source, job_name=None))

    assert_clean(error, log)


def test_a_short_value_is_masked_if_the_service_quotes_it(
    server: LocalServer, once: PHIClient
) -> None:
    message = "1 validation error detected: Value 'Bo' at 'jobName' failed to satisfy constraint"
    server.service.script(faults.error("InvalidRequestException", message))

    error = failing_start(once, request_with_canary(job_name="Bo"))

    assert isinstance(error, ServiceError)
    assert "Bo" not in str(error)
    assert error.message.endswith("at 'jobName' failed to satisfy constraint")


def test_a_message_that_quotes_nothing_is_unchanged(server: LocalServer, once: PHIClient) -> None:
    server.service.script(faults.error("InvalidRequestException", "DATA_ACCESS_ROLE_ARN_INVALID"))

    error = failing_start(once, request_with_canary())

    assert isinstance(error, ServiceError)
    assert error.message == "DATA_ACCESS_ROLE_ARN_INVALID"


def test_the_real_validation_message_of_the_service_is_masked(
    server: LocalServer, client: PHIClient, log: pytest.LogCaptureFixture
) -> None:
    with attrs.validators.disabled():
        request = request_with_canary(job_name=f"{CANARY}!")

    error = failing_start(client, request)

    assert isinstance(error, InvalidRequestException)
    assert "'jobName'" in error.message
    assert_clean(error, log)


STRANGERS = tuple(
    pytest.param(
        faults.answer(status, body, {"Content-Type": kind}, works=False), id=f"{status} {id_}"
    )
    for status in (200, 301, 400, 429, 500)
    for id_, kind, body in (
        ("html", "text/html", HTML),
        ("text", JSON["Content-Type"], CANARY.encode()),
        ("not UTF-8", JSON["Content-Type"], b'{"a": "\xff%s"}' % CANARY.encode()),
        ("string", JSON["Content-Type"], b'"%s"' % CANARY.encode()),
        ("list", JSON["Content-Type"], b'["%s"]' % CANARY.encode()),
        ("other members", JSON["Content-Type"], b'{"%s": "%s"}' % ((CANARY.encode(),) * 2)),
        ("as a code", JSON["Content-Type"], b'{"__type": "%s"}' % CANARY.encode()),
        ("as a job id's kind", JSON["Content-Type"], b'{"JobId": ["%s"]}' % CANARY.encode()),
        ("cut", JSON["Content-Type"], b'{"__type": "Zonk", "Message": "%s' % CANARY.encode()),
    )
)


@pytest.mark.parametrize("fault", STRANGERS)
def test_the_body_of_an_unexpected_response_is_in_no_error(
    fault: Fault,
    server: LocalServer,
    make_client: MakeClient,
    log: pytest.LogCaptureFixture,
) -> None:
    server.service.script(fault, fault)
    # The request does not contain the canary, so masking its values cannot hide the response.
    request = request_with_canary(
        job_name=None,
        input_data_config=InputDataConfig(s3_bucket="clinic-notes"),
        output_data_config=OutputDataConfig(s3_bucket="clinic-results"),
    )

    error = failing_start(make_client(retry=RetryPolicy(max_attempts=2)), request)

    assert_clean(error, log)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.reset_before(), id="reset"),
        pytest.param(faults.cut(), id="cut"),
        pytest.param(faults.throttle(), id="throttle"),
        pytest.param(faults.job_limit(), id="job limit"),
        pytest.param(faults.server_error(), id="server error"),
    ],
)
def test_a_fault_leaks_nothing_of_the_request(
    fault: Fault,
    server: LocalServer,
    make_client: MakeClient,
    log: pytest.LogCaptureFixture,
) -> None:
    server.service.script(*[fault] * 20)
    client = make_client(retry=RetryPolicy(max_attempts=3, slot_timeout=60))

    error = failing_start(client, request_with_canary(kms_key=None))

    assert ours(log), "there is something to look at"
    assert_clean(error, log)


def test_a_successful_call_logs_and_warns_about_nothing_private(
    client: PHIClient, log: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        client.start_phi_detection_job(request_with_canary(kms_key=None))

    assert len(issued) == 1
    assert leaks([str(issued[0].message), issued[0].message]) == []
    assert not [record for record in ours(log) if leaks(record)]
    assert ours(log), "there is something to look at"


@pytest.mark.parametrize("value", [[CANARY], {"a": CANARY}, CANARY.encode(), {CANARY}])
def test_a_boto3_client_with_validation_leaks_nothing(
    value: Any, server: LocalServer, log: pytest.LogCaptureFixture
) -> None:
    # botocore's own validation prints the value that it refuses.
    session: Any = boto3.Session()
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=True)
    theirs = session.client("comprehendmedical", endpoint_url=server.endpoint_url, config=config)
    with attrs.validators.disabled():
        request = request_with_canary(job_name=value)
    try:
        error = failing_start(PHIClient(client=theirs, clock=FakeClock()), request)
    finally:
        theirs.close()

    assert type(error) is TransportError
    assert not error.retryable
    assert not error.outcome_unknown
    assert not server.service.received
    assert_clean(error, log)


def test_a_failing_event_handler_of_the_user_leaks_nothing(
    server: LocalServer, log: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError(CANARY)

    session: Any = boto3.Session()
    config = Config(retries={"total_max_attempts": 1})
    theirs = session.client("comprehendmedical", endpoint_url=server.endpoint_url, config=config)
    theirs.meta.events.register("before-send.comprehendmedical.*", fail)
    try:
        error = failing_start(PHIClient(client=theirs, clock=FakeClock()), request_with_canary())
    finally:
        theirs.close()

    assert type(error) is TransportError
    assert_clean(error, log)


# --- What is refused before it is sent ------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: request_with_canary(job_name=f"{CANARY}\n"), id="job name"),
        pytest.param(lambda: request_with_canary(job_name=CANARY * 50), id="long job name"),
        pytest.param(lambda: request_with_canary(job_name=[CANARY]), id="type of the job name"),
        pytest.param(lambda: request_with_canary(job_name=CANARY.encode()), id="bytes"),
        pytest.param(lambda: request_with_canary(kms_key=f"{CANARY}\n"), id="kms key"),
        pytest.param(lambda: request_with_canary(language_code=CANARY), id="language"),
        pytest.param(lambda: request_with_canary(data_access_role_arn=CANARY), id="role"),
        pytest.param(lambda: request_with_canary(client_request_token=CANARY), id="token"),
        pytest.param(lambda: request_with_canary(input_data_config=CANARY), id="input"),
        pytest.param(lambda: request_with_canary(output_data_config={"a": CANARY}), id="output"),
        pytest.param(lambda: InputDataConfig(s3_bucket=CANARY), id="bucket"),
        pytest.param(lambda: InputDataConfig(s3_bucket="abc", s3_key=f"{CANARY}//"), id="key"),
        pytest.param(lambda: OutputDataConfig(s3_bucket="abc", s3_key=f"{CANARY}\n"), id="line"),
        pytest.param(lambda: OutputDataConfig(s3_bucket="abc", s3_key=CANARY * 60), id="long key"),
        pytest.param(lambda: JobFilter(job_name=f"{CANARY}!"), id="filter"),
        pytest.param(lambda: InputDataConfig.from_uri(CANARY), id="uri"),
        pytest.param(lambda: OutputDataConfig.from_uri(f"s3://abc/{CANARY}//"), id="key in a uri"),
        pytest.param(lambda: request_token(f"{CANARY}\ud800"), id="part of a token"),
        pytest.param(lambda: Entity.from_dict({"Text": CANARY}), id="entity"),
        pytest.param(
            lambda: Entity.from_dict({"Text": CANARY, "Id": CANARY, CANARY: CANARY}),
            id="id of an entity",
        ),
        pytest.param(
            lambda: StartPHIDetectionJobRequest.from_dict(
                {**request_with_canary().to_dict(), CANARY: CANARY}
            ),
            id="unknown member",
        ),
        pytest.param(
            lambda: StartPHIDetectionJobRequest.from_dict(
                {**request_with_canary().to_dict(), "InputDataConfig": CANARY}
            ),
            id="location in a dict",
        ),
        pytest.param(
            lambda: JobFilter(job_name=CANARY, job_status=JobStatus.FAILED), id="two filters"
        ),
    ],
)
def test_a_rejected_value_is_not_in_the_error(
    build: Callable[[], object], log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        build()

    assert_clean(caught.value, log)


def test_a_rejected_job_id_is_not_in_the_error(
    client: PHIClient, log: pytest.LogCaptureFixture
) -> None:
    for ask in (
        client.describe_phi_detection_job,
        client.stop_phi_detection_job,
        client.job,
    ):
        with pytest.raises(RequestValidationError) as caught:
            ask(f"{CANARY}!")
        assert_clean(caught.value, log)


def test_a_filter_that_the_service_quotes_is_masked(
    server: LocalServer, once: PHIClient, log: pytest.LogCaptureFixture
) -> None:
    message = f"Value '{CANARY}' at 'filter.jobName' failed; no job {CANARY}"
    server.service.script(faults.error("ValidationException", message))

    with pytest.raises(ServiceError) as caught:
        next(once.list_phi_detection_jobs(JobFilter(job_name=CANARY)))

    assert_clean(caught.value, log)

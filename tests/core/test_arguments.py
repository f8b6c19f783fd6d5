"""Arguments of a wrong type or value are rejected by name, at once, and never shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from inspect import isawaitable
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config

from comprehend_phi import (
    AsyncPHIClient,
    Entity,
    InputDataConfig,
    JobFilter,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    WaitPolicy,
    entity_counts,
    redact,
)
from comprehend_phi.testing import FakeClock

from ..conftest import JOB_ID
from ..entities import entity

CANARY = "zinnia-quellwasser"
SURROGATE = "\ud800"

NAME = entity("Marsh", 0, 5)


class Telltale:
    """An object whose repr contains the canary."""

    def __repr__(self) -> str:
        return CANARY


def refusal(call: Callable[[], object]) -> RequestValidationError:
    """Return the error of a call, and check that it does not show the canary."""
    with pytest.raises(RequestValidationError) as caught:
        call()
    error = caught.value
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    assert not any(CANARY in text for text in shown)
    assert error.__cause__ is error.__context__ is None
    return error


# --- The clients ----------------------------------------------------------------------------------

# Name of the method, wrong argument, owner in the error, name of the argument, its shape.
CALLS: dict[str, tuple[str, Any, str, str, str]] = {
    **{
        f"{method} {type(wrong).__name__}": (
            method,
            (wrong,),
            method,
            "request",
            "StartPHIDetectionJobRequest",
        )
        for method in ("submit", "find_or_submit", "start_phi_detection_job")
        for wrong in (
            {"JobName": CANARY},
            CANARY,
            None,
            Telltale(),
            InputDataConfig(s3_bucket="notes", s3_key=CANARY),
        )
    },
    "submit the class": (
        "submit",
        (StartPHIDetectionJobRequest,),
        "submit",
        "request",
        "StartPHIDetectionJobRequest",
    ),
    **{
        f"{method} {type(wrong).__name__} {len(str(wrong))}": (
            method,
            (wrong,),
            owner,
            "job_id",
            "JobId",
        )
        for method, owner in (
            ("describe_phi_detection_job", "DescribePHIDetectionJobRequest"),
            ("job", "DescribePHIDetectionJobRequest"),
            ("results", "DescribePHIDetectionJobRequest"),
            ("stop_phi_detection_job", "StopPHIDetectionJobRequest"),
        )
        for wrong in (None, 5, Telltale(), CANARY.encode(), f"{CANARY}{SURROGATE}", "")
    },
    **{
        f"list {type(wrong).__name__}": (
            "list_phi_detection_jobs",
            (wrong,),
            "ListPHIDetectionJobsRequest",
            "filter",
            "JobFilter",
        )
        for wrong in (CANARY, {"JobName": CANARY}, 5, Telltale())
    },
    "list the class": (
        "list_phi_detection_jobs",
        (JobFilter,),
        "ListPHIDetectionJobsRequest",
        "filter",
        "JobFilter",
    ),
}


@pytest.fixture(params=[PHIClient, AsyncPHIClient])
def client_class(request: pytest.FixtureRequest) -> Any:
    """Both client classes."""
    return request.param


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(client_class: Any, clock: FakeClock) -> Generator[Any, None, None]:
    """A client for a closed port: every request would end in a TransportError."""
    client = client_class(endpoint_url="http://127.0.0.1:9", clock=clock)
    yield client
    outcome(client.close())


def outcome(called: Any) -> Any:
    async def awaited() -> Any:
        return await called

    return asyncio.run(awaited()) if isawaitable(called) else called


@pytest.mark.parametrize(
    ("method", "arguments", "owner", "field", "shape"), CALLS.values(), ids=list(CALLS)
)
def test_a_client_rejects_a_wrong_argument_before_it_sends_anything(
    client: Any,
    clock: FakeClock,
    method: str,
    arguments: tuple[Any, ...],
    owner: str,
    field: str,
    shape: str,
) -> None:
    error = refusal(lambda: outcome(getattr(client, method)(*arguments)))

    assert (error.owner, error.field, error.shape) == (owner, field, shape)
    assert clock.sleeps == []


def test_a_request_of_the_wrong_type_is_rejected_with_advice(client: Any) -> None:
    error = refusal(lambda: outcome(client.submit({"JobName": CANARY})))

    assert str(error) == (
        "submit.request (StartPHIDetectionJobRequest) must be a StartPHIDetectionJobRequest, not"
        " dict; build one: StartPHIDetectionJobRequest(...)"
    )


@pytest.mark.parametrize("wrong", [0, 501, "100", None, 1.5, True, Telltale()])
def test_a_wrong_page_size_is_rejected_at_the_call(client: Any, wrong: Any) -> None:
    error = refusal(lambda: client.list_phi_detection_jobs(page_size=wrong))

    assert error.shape == "MaxResultsInteger"


@pytest.mark.parametrize(
    ("argument", "wrong", "reason"),
    [
        *(
            (
                "retry",
                wrong,
                f"(RetryPolicy) must be a RetryPolicy, not {type(wrong).__name__}; such as"
                " RetryPolicy(max_attempts=3)",
            )
            for wrong in (5, None, WaitPolicy(), {"max_attempts": 5}, Telltale(), RetryPolicy)
        ),
        *(
            (
                "clock",
                wrong,
                f"(Clock) must be a Clock, not {type(wrong).__name__}; such as SystemClock() or"
                " comprehend_phi.testing.FakeClock()",
            )
            for wrong in (5, None, time, Telltale(), FakeClock)
        ),
    ],
)
def test_a_client_rejects_a_wrong_policy_or_clock_when_it_is_built(
    client_class: Any, argument: str, wrong: Any, reason: str
) -> None:
    error = refusal(lambda: client_class(**{argument: wrong}))

    assert str(error) == f"{client_class.__name__}.{argument} {reason}"


@pytest.mark.parametrize("argument", ["region_name", "endpoint_url"])
@pytest.mark.parametrize("wrong", [5, CANARY.encode(), Telltale()])
def test_a_client_rejects_a_region_or_endpoint_that_is_not_text(
    client_class: Any, argument: str, wrong: Any
) -> None:
    error = refusal(lambda: client_class(**{argument: wrong}))

    assert str(error) == f"PHIClient.{argument} (str) must be a str, not {type(wrong).__name__}"


@pytest.mark.parametrize(
    ("argument", "wrong", "rule"),
    [
        *(
            ("session", wrong, "must be a boto3 session, such as boto3.Session()")
            for wrong in (5, CANARY, Telltale(), boto3.Session, botocore.session.Session())
        ),
        *(
            ("config", wrong, "must be a botocore config, such as botocore.config.Config()")
            for wrong in (5, CANARY, {"user_agent_extra": CANARY}, Telltale(), Config)
        ),
    ],
)
def test_a_client_rejects_a_session_or_config_that_is_not_from_boto3(
    client_class: Any, argument: str, wrong: Any, rule: str
) -> None:
    with pytest.raises(TypeError) as caught:
        client_class(**{argument: wrong})

    assert str(caught.value) == f"{argument}= {rule}"


# --- Waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [60, None, RetryPolicy(), Telltale(), WaitPolicy])
def test_a_wait_rejects_a_wrong_policy_before_the_first_poll(
    client: Any, clock: FakeClock, wrong: Any
) -> None:
    error = refusal(lambda: outcome(client.job(JOB_ID).wait(wrong)))

    assert str(error) == (
        f"wait.policy (WaitPolicy) must be a WaitPolicy, not {type(wrong).__name__}; to wait for at"
        " most 60 seconds, pass timeout=60"
    )
    assert clock.sleeps == []


@pytest.mark.parametrize("argument", ["on_poll", "on_poll_error"])
@pytest.mark.parametrize("wrong", [5, CANARY, Telltale()])
def test_a_wait_rejects_a_callback_that_is_not_callable_before_the_first_poll(
    client: Any, clock: FakeClock, argument: str, wrong: Any
) -> None:
    error = refusal(lambda: outcome(client.job(JOB_ID).wait(**{argument: wrong})))

    assert str(error) == (
        f"wait.{argument} (callable) must be callable, not {type(wrong).__name__}"
    )
    assert clock.sleeps == []


# --- Redacting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [CANARY.encode(), None, 5, Telltale(), [CANARY]])
@pytest.mark.parametrize("entities", [[], [NAME]])
def test_redact_rejects_a_text_that_is_not_a_str(wrong: Any, entities: list[Entity]) -> None:
    error = refusal(lambda: redact(wrong, entities))

    assert str(error) == (
        f"redact.text (str) must be a str, not {type(wrong).__name__}; decode bytes as UTF-8"
    )


@pytest.mark.parametrize("wrong", [None, 5, NAME, Telltale()])
def test_redact_rejects_entities_that_are_not_iterable(wrong: Any) -> None:
    error = refusal(lambda: redact("Marsh", wrong))

    assert str(error) == (
        f"redact.entities (Iterable) must be an Iterable, not {type(wrong).__name__}; pass the"
        " entities of a Document, for example"
    )


@pytest.mark.parametrize(
    "wrong", [{"Text": CANARY, "BeginOffset": 0, "EndOffset": 5}, None, CANARY, Telltale(), Entity]
)
def test_redact_rejects_other_objects_than_entities_such_as_boto3s_dicts(wrong: Any) -> None:
    error = refusal(lambda: redact("Marsh", [NAME, wrong]))

    assert str(error) == (
        "redact.entities (Entity) must contain only Entity objects; Entity.from_dict converts AWS's"
        " own dicts"
    )


def test_redact_rejects_a_text_as_its_entities() -> None:
    text: Any = CANARY

    assert refusal(lambda: redact("Marsh", text)).field == "entities"


def test_redact_rejects_a_replacement_that_utf_8_cannot_encode() -> None:
    error = refusal(lambda: redact("Marsh", [NAME], replacement=f"[{SURROGATE}{{type}}]"))

    assert str(error) == (
        "redact.replacement (format string) must be text that UTF-8 can encode; the character at"
        " index 1 is U+D800 (unnamed)"
    )


# --- Counting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 5, Telltale()])
def test_entity_counts_rejects_documents_that_are_not_iterable(wrong: Any) -> None:
    error = refusal(lambda: entity_counts(wrong))

    assert str(error) == (
        f"entity_counts.documents (Iterable) must be an Iterable, not {type(wrong).__name__}; pass"
        " the results of a job, for example"
    )


@pytest.mark.parametrize("wrong", [{"Entities": CANARY}, CANARY, ("note.txt", CANARY), NAME])
def test_entity_counts_rejects_other_objects_than_documents(wrong: Any) -> None:
    error = refusal(lambda: entity_counts([wrong]))

    assert str(error) == (
        f"entity_counts.documents (Document) must be a Document, not {type(wrong).__name__}"
    )

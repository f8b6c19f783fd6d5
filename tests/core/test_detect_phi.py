"""PHI in single texts, through both clients: what is sent, returned, retried and never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import random
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from botocore.config import Config

from comprehend_phi import (
    AccessDeniedException,
    AsyncPHIClient,
    ClientClosedError,
    DetectPHIResponse,
    Entity,
    InvalidEncodingException,
    MalformedResponseError,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    ServiceError,
    TextSizeLimitExceededException,
    ThrottlingException,
    TransportError,
    redact,
)
from comprehend_phi.models import DetectPHIRequest
from comprehend_phi.testing import FakeClock, Fault, Limits, LocalServer, detect, faults

from ..conftest import DESCRIBE

DETECT = "DetectPHI"
TEXT = "Patient: Zinnia Quellwasser, phone (555) 555-0142"
WORDS = ("zinnia", "quellwasser", "555", "0142")  # no log or error may show them
REDACTED = "Patient: [NAME], phone [PHONE_OR_FAX]"
JSON = {"Content-Type": "application/x-amz-json-1.1"}

MakeClient = Callable[..., PHIClient]


@pytest.fixture
def client_class(each_client_class: Callable[..., Any]) -> Callable[..., Any]:
    return each_client_class


def members_of(entity: Entity, **changes: Any) -> dict[str, Any]:
    return {
        "Id": entity.id,
        "BeginOffset": entity.begin_offset,
        "EndOffset": entity.end_offset,
        "Score": entity.score,
        "Text": entity.text,
        "Category": entity.category,
        "Type": entity.type,
        **changes,
    }


NAME, PHONE = detect(TEXT)


def answering(entities: Any, **members: Any) -> Fault:
    """Return a response with these entities."""
    content = {"Entities": entities, "ModelVersion": "0.1.0", **members}
    return faults.answer(200, json.dumps(content).encode(), JSON)


# --- One text -------------------------------------------------------------------------------------


def test_the_entities_of_a_text_redact_it(client: PHIClient, server: LocalServer) -> None:
    response = client.detect_phi(TEXT)

    assert response == DetectPHIResponse(entities=detect(TEXT), model_version="0.1.0")
    assert redact(TEXT, response.entities) == REDACTED
    assert [dict(each.members) for each in server.service.received] == [{"Text": TEXT}]


def test_offsets_count_code_points(client: PHIClient) -> None:
    text = "\U0001f642 e\u0301 語\r\nPatient: Zinnia Quellwasser"

    assert redact(text, client.detect_phi(text).entities).endswith("\r\nPatient: [NAME]")


def test_a_text_without_phi_has_no_entities(client: PHIClient) -> None:
    assert client.detect_phi("no news").entities == ()


def test_a_response_may_lack_the_version_of_the_model(
    client: PHIClient, server: LocalServer
) -> None:
    server.service.script(answering([members_of(NAME)], ModelVersion=None))

    assert client.detect_phi(TEXT) == DetectPHIResponse(entities=(NAME,), model_version=None)


def test_an_entity_may_have_members_that_we_do_not_know(
    client: PHIClient, server: LocalServer
) -> None:
    server.service.script(answering([members_of(NAME, Attributes=[], Traits=[], New=1)]))

    assert client.detect_phi(TEXT).entities == (NAME,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least 1 character"),
        ("x" * 20_001, "at most 20000 characters, not 20001; detect_phi_in_document"),
        ("é" * 10_001, "at most 20000 bytes in UTF-8, not 20002; detect_phi_in_document"),
        ("Zinnia \ud800", "UTF-8 can encode"),
        (b"Zinnia", "must be a str, not bytes"),
        (None, "must be a str, not NoneType"),
    ],
)
def test_a_text_that_breaks_a_rule_is_not_sent(
    client: PHIClient, server: LocalServer, text: Any, reason: str
) -> None:
    with pytest.raises(RequestValidationError, match=reason) as caught:
        client.detect_phi(text)

    assert shown(caught.value) == []
    assert not server.service.received


@pytest.mark.parametrize("text", ["x" * 20_000, "é" * 10_000, " "])
def test_a_text_within_the_limits_is_sent(client: PHIClient, text: str) -> None:
    assert client.detect_phi(text).entities == ()


def test_a_text_beyond_the_services_own_limit_is_a_typed_error(clock: FakeClock) -> None:
    with (
        LocalServer(clock=clock, limits=Limits(text_bytes=10)) as server,
        PHIClient(endpoint_url=server.endpoint_url, clock=clock) as client,
    ):
        with pytest.raises(TextSizeLimitExceededException, match="detect_phi_in_document"):
            client.detect_phi(TEXT)
        assert server.service.attempts(DETECT) == 1


def test_a_text_that_the_service_cannot_decode_is_a_typed_error(once: PHIClient) -> None:
    with (
        attrs.validators.disabled(),
        pytest.raises(InvalidEncodingException, match="not valid UTF-8"),
    ):
        once.detect_phi("\ud800")


# --- Responses that cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answering([members_of(NAME)], PaginationToken="next"), id="more entities"),
        pytest.param(answering([members_of(NAME, BeginOffset=8)]), id="moved"),
        pytest.param(answering([members_of(NAME, EndOffset=900)]), id="too long"),
        pytest.param(answering([members_of(NAME, BeginOffset=-40)]), id="from the end"),
        pytest.param(answering([members_of(NAME, Text="Quellwasser")]), id="another text"),
        pytest.param(answering([members_of(NAME, EndOffset=9, Text="")]), id="empty"),
        pytest.param(answering([members_of(NAME), {"Id": 1}]), id="without members"),
        pytest.param(answering([members_of(NAME, Type=None)]), id="without a type"),
        pytest.param(answering([members_of(NAME, Score="Zinnia")]), id="no number"),
    ],
)
def test_a_response_that_would_be_the_same_again_is_billed_once(
    client: PHIClient, server: LocalServer, fault: Fault
) -> None:
    server.service.script(fault)

    with pytest.raises(MalformedResponseError) as caught:
        client.detect_phi(TEXT)

    assert not caught.value.retryable
    assert server.service.attempts(DETECT) == 1
    assert shown(caught.value) == []


def test_an_entity_that_does_not_match_is_named_by_its_id_and_offsets(
    client: PHIClient, server: LocalServer
) -> None:
    server.service.script(answering([members_of(NAME, Id=7, EndOffset=900)]))

    with pytest.raises(MalformedResponseError) as caught:
        client.detect_phi(TEXT)

    assert caught.value.reason == (
        f"the response is not usable: entity 7 at offsets {NAME.begin_offset} to 900 ends after the"
        f" end of the text, which has {len(TEXT)} code points"
    )


LOST = {
    "reset before": faults.reset_before(),
    "reset after": faults.reset_after(),
    "cut": faults.cut(),
    "empty": faults.cut(0.0),
    "an empty map": faults.empty_map(),
    "no entities": faults.answer(200, b'{"ModelVersion": "0.1.0"}', JSON, works=True),
    "HTML": faults.html(),
    "not UTF-8": faults.not_utf8(),
    "throttled": faults.throttle(),
    "too many requests": faults.too_many_requests(),
    "server error": faults.server_error(),
    "unavailable": faults.unavailable(),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_a_lost_response_is_retried(client: PHIClient, server: LocalServer, fault: Fault) -> None:
    server.service.script(fault, fault)

    assert client.detect_phi(TEXT).entities == detect(TEXT)
    assert server.service.attempts(DETECT) == 3


def test_throttling_is_retried_as_for_other_operations(
    make_client: MakeClient, server: LocalServer, clock: FakeClock
) -> None:
    client = make_client(retry=RetryPolicy(max_attempts=5))
    server.service.script(*[faults.throttle()] * 10)
    attempts: list[int] = []
    waits: list[tuple[float, ...]] = []
    for call in (
        lambda: client.detect_phi(TEXT),
        lambda: client.describe_phi_detection_job("0" * 32),
    ):
        random.seed(20)  # the waits are random
        before = len(clock.sleeps)
        with pytest.raises(ThrottlingException) as caught:
            call()
        attempts.append(caught.value.attempts)
        waits.append(tuple(clock.sleeps[before:]))

    assert attempts == [5, 5]
    assert server.service.attempts(DETECT) == server.service.attempts(DESCRIBE) == 5
    assert len(set(waits[0])) == 4
    assert waits[0] == waits[1]


# --- Nothing leaks --------------------------------------------------------------------------------


def shown(error: BaseException) -> list[str]:
    """Return what shows a word of the text: the error with its chain, and its pickled form."""
    views = [repr(error), str(error), "".join(traceback.format_exception(error))]
    views += [repr(vars(error)), pickle.dumps(error).decode("latin-1")]
    assert (error.__cause__, error.__context__) == (None, None)
    return [view for view in views if any(word in view.lower() for word in WORDS[:2])]


def test_no_repr_shows_the_text(client: PHIClient) -> None:
    response = client.detect_phi(TEXT)

    for thing in (response, response.entities, DetectPHIRequest(TEXT)):
        assert not any(word in f"{thing!r} {thing}".lower() for word in WORDS)


@pytest.mark.parametrize(
    "message",
    [
        "Cannot read: {text}",
        "1 validation error detected: Value '{text}' at 'text' failed to satisfy constraint: x",
        "near 'Zinnia Quell'",
        "near 'nia QUELLWASSER'",
        "text=Zinnia;phone=555-0142",
        "xZinniax Quellwasser's (555-0142)",
        "x" * 200 + "Zinnia",
        "{text}" * 100,
    ],
)
def test_a_message_that_quotes_the_text_is_masked(
    client: PHIClient, server: LocalServer, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "comprehend_phi")
    server.service.script(
        faults.throttle(), faults.error("InvalidRequestException", message.format(text=TEXT))
    )

    with pytest.raises(ServiceError) as caught:
        client.detect_phi(TEXT)

    assert shown(caught.value) == []
    assert "0142" not in str(caught.value)
    assert "***" in caught.value.message
    records = [record for record in caplog.records if record.name.startswith("comprehend_phi")]
    assert records
    # Not the digits, which may be in a time or a request id.
    assert not any(word in f"{vars(record)}".lower() for record in records for word in WORDS[:2])


def test_the_words_of_a_message_that_the_text_does_not_contain_stay(
    once: PHIClient, server: LocalServer
) -> None:
    server.service.script(faults.error("InvalidRequestException", "Zinnia breaks the rule 7."))

    with pytest.raises(ServiceError) as caught:
        once.detect_phi(TEXT)

    assert caught.value.message == "*** breaks the rule 7."


def test_masking_a_long_message_takes_no_quadratic_time(
    once: PHIClient, server: LocalServer
) -> None:
    text = " ".join(f"word{number:04}" for number in range(2_000))
    server.service.script(
        *(faults.error("InvalidRequestException", message) for message in (text, "x" * 20_000))
    )
    for expected in ({"***"}, {"***"}):
        with pytest.raises(ServiceError) as caught:
            once.detect_phi(text)
        assert set(caught.value.message.split()) == expected


# --- A text of any length -------------------------------------------------------------------------

NOTE = (
    "Seen by Dr. Iris Example on 2031-02-03.\r\nPatient: Noor Sample, phone (555) 555-0142\r\n\r\n"
)
DOCUMENT = NOTE * 1_000  # five pieces


def test_a_long_document_has_the_entities_of_the_whole_text(
    client: PHIClient, server: LocalServer
) -> None:
    response = client.detect_phi_in_document(DOCUMENT)

    assert response == DetectPHIResponse(entities=detect(DOCUMENT), model_version="0.1.0")
    sent = [len(each.members["Text"].encode()) for each in server.service.received]
    assert len(sent) == 5
    assert max(sent) <= 20_000
    assert redact(DOCUMENT, response.entities).count("[NAME]") == 2_000


def test_the_sizes_of_pieces_can_be_chosen(client: PHIClient, server: LocalServer) -> None:
    client.detect_phi_in_document(NOTE * 10, max_bytes=400, overlap=0)

    sent = sorted((each.members["Text"] for each in server.service.received), key=len)
    assert sum(map(len, sent)) == len(NOTE * 10)
    assert len(sent[-1]) <= 400


def test_pieces_overlap_by_1000_bytes_by_default(client: PHIClient, server: LocalServer) -> None:
    client.detect_phi_in_document(DOCUMENT)
    client.detect_phi_in_document(DOCUMENT, max_bytes=20_000, overlap=1_000)

    sent = [each.members["Text"] for each in server.service.received]
    assert sorted(sent[:5]) == sorted(sent[5:])


def test_a_short_document_is_one_call(client: PHIClient, server: LocalServer) -> None:
    assert client.detect_phi_in_document(TEXT) == client.detect_phi(TEXT)
    assert server.service.attempts(DETECT) == 2


def test_an_empty_document_sends_nothing(client: PHIClient, server: LocalServer) -> None:
    assert client.detect_phi_in_document("") == DetectPHIResponse(entities=(), model_version=None)
    assert not server.service.received


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, {}),
        ("Zinnia \udfff", {}),
        (TEXT, {"max_bytes": 63}),
        (TEXT, {"max_bytes": 20_001}),
        (TEXT, {"overlap": 10_001}),
        (TEXT, {"overlap": -1}),
    ],
)
def test_a_document_with_an_invalid_argument_is_not_sent(
    client: PHIClient, server: LocalServer, text: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        client.detect_phi_in_document(text, **options)

    assert shown(caught.value) == []
    assert not server.service.received


def test_a_failed_piece_leaves_no_partial_answer(client: PHIClient, server: LocalServer) -> None:
    server.service.script(faults.passes(), faults.error("AccessDeniedException", "no"))

    with pytest.raises(AccessDeniedException) as caught:
        client.detect_phi_in_document(DOCUMENT)

    assert shown(caught.value) == []


def test_each_piece_is_retried(client: PHIClient, server: LocalServer) -> None:
    server.service.script(*[faults.throttle(), faults.passes(), faults.reset_after()] * 2)

    assert client.detect_phi_in_document(DOCUMENT).entities == detect(DOCUMENT)
    assert server.service.attempts(DETECT) == 9


def test_a_closed_client_detects_nothing(make_client: MakeClient, server: LocalServer) -> None:
    with PHIClient(endpoint_url=server.endpoint_url) as client:
        pass

    for call in (client.detect_phi, client.detect_phi_in_document):
        with pytest.raises(ClientClosedError):
            call(TEXT)


# --- Pieces at the same time ----------------------------------------------------------------------


class Busy:
    """A detector whose first calls wait until `together` of them run at the same time."""

    def __init__(self, together: int) -> None:
        self._together = together
        self._change = threading.Condition()
        self._running = 0
        self.most = 0

    def __call__(self, text: str) -> Sequence[Entity]:
        with self._change:
            self._running += 1
            self.most = max(self.most, self._running)
            self._change.notify_all()
            assert self._change.wait_for(lambda: self.most >= self._together, 60)
            self._running -= 1
        return detect(text)


def test_the_asynchronous_client_sends_as_many_pieces_as_it_has_connections() -> None:
    busy = Busy(together=3)
    document = NOTE * 40

    async def main(endpoint_url: str) -> DetectPHIResponse:
        config = Config(max_pool_connections=3)
        async with AsyncPHIClient(endpoint_url=endpoint_url, config=config) as client:
            return await client.detect_phi_in_document(document, max_bytes=400, overlap=160)

    with LocalServer(detector=busy) as server:
        response = asyncio.run(main(server.endpoint_url))
        assert server.service.attempts(DETECT) > 10

    assert response.entities == detect(document)
    assert busy.most == 3


def test_a_failed_piece_cancels_those_that_wait(server: LocalServer, clock: FakeClock) -> None:
    server.service.script(faults.error("AccessDeniedException", "no"))

    async def main() -> set[asyncio.Task[Any]]:
        config = Config(max_pool_connections=1)
        async with AsyncPHIClient(
            endpoint_url=server.endpoint_url, clock=clock, config=config
        ) as client:
            with pytest.raises(AccessDeniedException):
                await client.detect_phi_in_document(DOCUMENT, max_bytes=1_000, overlap=0)
            return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    assert server.service.attempts(DETECT) <= 3


def test_cancelling_a_document_cancels_its_pieces(server: LocalServer, clock: FakeClock) -> None:
    started = threading.Event()
    go_on = threading.Event()

    def wait(text: str) -> Sequence[Entity]:
        started.set()
        assert go_on.wait(60)
        return ()

    async def main(endpoint_url: str) -> None:
        config = Config(max_pool_connections=1)
        async with AsyncPHIClient(endpoint_url=endpoint_url, config=config) as client:
            task = asyncio.create_task(client.detect_phi_in_document(DOCUMENT))
            await asyncio.to_thread(started.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}
            go_on.set()

    with LocalServer(detector=wait) as slow:
        asyncio.run(main(slow.endpoint_url))
        assert slow.service.attempts(DETECT) == 1


def test_a_failed_document_is_the_error_of_its_piece(server: LocalServer, once: PHIClient) -> None:
    server.service.script(faults.reset_before())

    with pytest.raises(TransportError, match=r"^DetectPHI: ") as caught:
        once.detect_phi_in_document(TEXT)

    assert type(caught.value) is TransportError

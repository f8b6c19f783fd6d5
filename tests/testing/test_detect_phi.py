"""DetectPHI of the local service: what it answers, and what it refuses."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from comprehend_phi import Entity
from comprehend_phi.testing import Limits, LocalService, local_service
from comprehend_phi.testing.validation import RequestRefused

from ..entities import entity

REGION = "us-east-1"
DETECT = "DetectPHI"
TEXT = "Patient: Ada Example, phone (555) 555-0142"


class NoStorage:
    """DetectPHI needs no bucket."""

    def has_bucket(self, bucket: str) -> bool:
        raise NotImplementedError

    def keys(self, bucket: str) -> list[str]:
        raise NotImplementedError

    def read(self, bucket: str, key: str) -> bytes:
        raise NotImplementedError

    def write(self, bucket: str, key: str, body: bytes) -> None:
        raise NotImplementedError


def test_the_detectors_entities_are_returned_under_awss_names() -> None:
    found = entity(TEXT, 9, 20, score=0.5)
    service = LocalService(NoStorage(), detector=lambda _text: [found])

    answer = service.perform(DETECT, {"Text": TEXT}, REGION)

    assert answer.keys() == {"Entities", "ModelVersion"}
    assert answer["Entities"] == [
        {
            "Id": 0,
            "BeginOffset": 9,
            "EndOffset": 20,
            "Score": 0.5,
            "Text": "Ada Example",
            "Category": "PROTECTED_HEALTH_INFORMATION",
            "Type": "NAME",
            "Traits": (),
        }
    ]


def test_a_detector_that_raises_is_an_error_without_the_text() -> None:
    def detector(text: str) -> list[Entity]:
        raise ValueError(text)

    service = LocalService(NoStorage(), detector=detector)
    with pytest.raises(RequestRefused) as caught:
        service.perform(DETECT, {"Text": TEXT}, REGION)
    assert (caught.value.code, caught.value.message) == (
        "DetectorError",
        "The detector raised ValueError.",
    )


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "InvalidRequestException"),
        ({"Text": None}, "InvalidRequestException"),
        ({"Text": ""}, "InvalidRequestException"),
        ({"Text": 7}, "SerializationException"),
        ({"Text": "\ud800"}, "InvalidEncodingException"),
        ({"Text": "x" * 20_001}, "TextSizeLimitExceededException"),
        ({"Text": "é" * 10_001}, "TextSizeLimitExceededException"),
    ],
)
def test_a_text_that_the_service_cannot_take_is_refused(members: dict[str, Any], code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        LocalService(NoStorage()).perform(DETECT, members, REGION)

    assert (refused.value.code, refused.value.status) == (code, 400)


@pytest.mark.parametrize("text", ["x", "x" * 20_000, "é" * 10_000])
def test_a_text_within_the_limits_is_accepted(text: str) -> None:
    assert LocalService(NoStorage()).perform(DETECT, {"Text": text}, REGION)["Entities"] == []


def test_the_limit_of_a_text_can_be_lowered() -> None:
    service = LocalService(NoStorage(), limits=Limits(text_bytes=10))

    with pytest.raises(RequestRefused, match="limit is 10"):
        service.perform(DETECT, {"Text": "x" * 11}, REGION)


def test_the_repr_of_a_received_request_does_not_show_the_text() -> None:
    service = LocalService(NoStorage())
    service.next_fault(DETECT, {"Text": TEXT})

    assert "Ada" not in repr(service.received)
    assert service.attempts(DETECT) == 1


def test_boto3_detects_phi_within_the_process() -> None:
    with local_service():
        client: Any = boto3.client("comprehendmedical")
        answer = client.detect_phi(Text=TEXT)

        assert [(each["Type"], each["Text"]) for each in answer["Entities"]] == [
            ("NAME", "Ada Example"),
            ("PHONE_OR_FAX", "(555) 555-0142"),
        ]
        with pytest.raises(client.exceptions.TextSizeLimitExceededException):
            client.detect_phi(Text="x" * 20_001)

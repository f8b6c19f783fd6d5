"""The wire format of the local service: AWS JSON 1.1, one HTTP request in, one answer out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from attrs import evolve

from .faults import Answer, error_answer
from .service import LocalService, Refusal

TARGET_PREFIX = "ComprehendMedical_20181030."


def respond(service: LocalService, headers: Mapping[str, str], body: bytes) -> Answer:
    """The answer to one request.

    Args:
        service: who does the work.
        headers: of the request, with lower-case names.
        body: of the request.
    """
    operation = headers.get("x-amz-target", "").removeprefix(TARGET_PREFIX)
    try:
        members: Any = json.loads(body or b"{}")
    except ValueError:
        members = None
    if not isinstance(members, dict):
        answer = error_answer("SerializationException", "The body is not a JSON object.", 400)
        return _with_request_id(answer)
    members = cast("dict[str, Any]", members)
    fault = service.next_fault(operation, members)
    works = fault is None or fault.works
    answer = _work(service, operation, members, _region(headers)) if works else Answer(status=200)
    return _with_request_id(fault.spoil(answer) if fault else answer)


def _work(service: LocalService, operation: str, members: dict[str, Any], region: str) -> Answer:
    try:
        result = service.perform(operation, members, region)
    except Refusal as refusal:
        return error_answer(refusal.code, refusal.message, refusal.status)
    return Answer(status=200, body=json.dumps(result).encode())


def _with_request_id(answer: Answer) -> Answer:
    return evolve(answer, headers={"x-amzn-RequestId": str(uuid4()), **answer.headers})


def _region(headers: Mapping[str, str]) -> str:
    """The region that the request was signed for; signatures are not checked."""
    credential = headers.get("authorization", "").partition("Credential=")[2]
    scope = credential.partition(",")[0].split("/")
    # access key / date / region / service / aws4_request
    return scope[2] if len(scope) > 4 else "us-east-1"

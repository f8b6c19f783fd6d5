"""Wrong arguments of the local service are refused, because a test would pass without its fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from comprehend_phi import RequestValidationError
from comprehend_phi._service import operations
from comprehend_phi.testing import LocalServer

OPERATIONS = [
    each.name for each in vars(operations).values() if isinstance(each, operations.Operation)
]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.mark.parametrize(
    ("method", "arguments", "options", "field"),
    [
        ("script", (None,), {}, "faults"),
        ("script", (), {"operation": "DescribePhiDetectionJob"}, "operation"),
        ("script", (), {"operation": 5}, "operation"),
        ("attempts", ("DescribePhiDetectionJob",), {}, "operation"),
        ("fail_randomly", (1, 2), {}, "share"),
        ("fail_randomly", (1, "x"), {}, "share"),
    ],
)
def test_the_service_refuses_wrong_arguments(
    method: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    field: str,
    server: LocalServer,
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        getattr(server.service, method)(*arguments, **options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detector", 1),
        ("job_seconds", -1),
        ("job_seconds", "1"),
        ("limits", ""),
        ("rules", ""),
        ("on_start", 1),
    ],
)
def test_the_server_refuses_wrong_arguments(field: str, value: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        LocalServer(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_service_accepts_every_operation(operation: str, server: LocalServer) -> None:
    assert server.service.attempts(operation) == 0

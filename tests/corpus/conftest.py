"""A check by each of the two functions, on the S3 beside the local service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from comprehend_phi import AsyncPHIClient, PHIClient, StartPHIDetectionJobRequest
from comprehend_phi.corpus import InputReport, check_input, check_input_async
from comprehend_phi.testing import FakeClock, LocalServer

from ..s3_server import S3Server

Check = Callable[..., InputReport]


@pytest.fixture(params=["sync", "async"])
def check(
    request: pytest.FixtureRequest,
    server: LocalServer,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Check:
    """Checks the input of a request; `client=` has options of the client."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)

    def check(
        job: StartPHIDetectionJobRequest, *, client: dict[str, Any] | None = None, **options: Any
    ) -> InputReport:
        settings: dict[str, Any] = {"clock": clock, **(client or {})}
        if request.param == "sync":
            with PHIClient(**settings) as sync_client:
                return check_input(sync_client, job, **options)

        async def check_async() -> InputReport:
            async with AsyncPHIClient(**settings) as async_client:
                return await check_input_async(async_client, job, **options)

        return asyncio.run(check_async(), debug=True)

    return check


@pytest.fixture
def s3_server(
    server: LocalServer,
    serving: Callable[[S3Server], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[S3Server]:
    """The S3 of the local service, with faults. Clients that are built afterwards use it."""
    s3_server = S3Server(server.storage)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
    with serving(s3_server):
        yield s3_server

"""A check by each of the two functions, on the S3 beside the local service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from comprehend_phi import AsyncPHIClient, PHIClient, StartPHIDetectionJobRequest
from comprehend_phi.corpus import InputReport, check_input, check_input_async
from comprehend_phi.testing import FakeClock, LocalServer

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

"""The clients that the triggers of one process share."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, TypedDict

from ._sdk import sync_to_async
from .hook import PHIHook

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._async_client import AsyncPHIClient

# Airflow does not say when somebody changes a connection. Our rule: a change counts after this
# many seconds.
_MAX_AGE = 600.0


class ConnectionSettings(TypedDict):
    """The arguments of operators and triggers that say how to reach AWS."""

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None


def build_client(settings: ConnectionSettings) -> AsyncPHIClient:
    """Return a new client for these settings. This blocks."""
    hook = PHIHook(
        settings["aws_conn_id"],
        region_name=settings["region_name"],
        verify=settings["verify"],
        config=settings["botocore_config"],
    )
    return hook.async_phi_client()


class SharedClients:
    """One client for each connection. A client takes 8 MB and a quarter of a second to build.

    Args:
        build: builds a client.
        now: returns the time in seconds, on any scale.
    """

    def __init__(
        self,
        build: Callable[[ConnectionSettings], AsyncPHIClient] = build_client,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build = build
        self._now = now
        self._lock = threading.Lock()
        self._clients: dict[str, tuple[float, AsyncPHIClient]] = {}

    async def get(self, settings: ConnectionSettings) -> AsyncPHIClient:
        """Return the client for a connection, in a thread, because looking it up blocks.

        An old client is replaced but not closed, because other triggers may be using it.

        Raises what `PHIHook.phi_client` raises.
        """
        return await sync_to_async(self._get)(settings)

    def _get(self, settings: ConnectionSettings) -> AsyncPHIClient:
        key = json.dumps(settings, sort_keys=True)
        with self._lock:
            built, client = self._clients.get(key, (0.0, None))
            if client is None or self._now() - built >= _MAX_AGE:
                client = self._build(settings)
                self._clients[key] = self._now(), client
            return client

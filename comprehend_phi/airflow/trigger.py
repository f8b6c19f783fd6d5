"""Waiting in the triggerer: for a free job slot, or for the end of a job."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import TYPE_CHECKING, Any

from .._clock import SystemClock
from .._jobs import Wait, WaitPolicy
from .._shapes import JOB_ID
from ..errors import RequestValidationError, ServiceError, TransportError
from ..models import StartPHIDetectionJobRequest
from ._sdk import BaseTrigger, TriggerEvent, is_deferred
from .clients import ConnectionSettings, SharedClients
from .outcome import Event, ended, failed, started
from .start import Obstacle, start_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..models import JobProperties

_CLIENTS = SharedClients()


class PHIDetectionJobTrigger(BaseTrigger):
    """Waits until a job has ended or, if it gets a request, until the request's job has started.

    It may run several times, also at the same time, because the request's token starts one job. Its
    only event contains a status, the job's id and a masked message.

    Airflow stores the arguments in its database until the trigger has ended. Airflow 3 stores them
    in plain text. Airflow 2.11 encrypts them with its Fernet key.

    Args:
        job_id: the job to wait for.
        request: what `StartPHIDetectionJobRequest.to_dict` returned, instead of `job_id`.
        deadline: when to give up, in seconds since 1970. None means never.
        poll_interval: the time between two polls of a job, in seconds.
        slot_delay: the average time between two tries to get a slot, in seconds.
        cancel_on_kill: whether to stop the job when a user ends the task. Needs Airflow 3.3.
        aws_conn_id, region_name, verify, botocore_config: how to reach AWS, as for operators.

    Raises:
        RequestValidationError: there is neither a job nor a request, or both. Or the request is not
            valid.
    """

    def __init__(
        self,
        *,
        job_id: str | None = None,
        request: dict[str, Any] | None = None,
        deadline: float | None = None,
        poll_interval: float = 30.0,
        slot_delay: float = 15.0,
        cancel_on_kill: bool = True,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if (job_id is None) == (request is None):
            raise RequestValidationError(
                owner="PHIDetectionJobTrigger",
                field="job_id",
                shape=JOB_ID.name,
                reason="or request must be passed, but not both",
            )
        self.job_id = job_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.slot_delay = slot_delay
        self.cancel_on_kill = cancel_on_kill
        self._request = StartPHIDetectionJobRequest.from_dict(request) if request else None
        self._settings = ConnectionSettings(
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )

    def __repr__(self) -> str:
        return f"PHIDetectionJobTrigger(job_id={self.job_id!r})"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments, from which Airflow builds the trigger again."""
        return (
            "comprehend_phi.airflow.PHIDetectionJobTrigger",
            {
                "job_id": self.job_id,
                "request": self._request and self._request.to_dict(),
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "slot_delay": self.slot_delay,
                "cancel_on_kill": self.cancel_on_kill,
                **self._settings,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait has ended, whatever ended it."""
        yield TriggerEvent(await self.event())

    async def event(self) -> Event:
        """Wait, and return the payload of the event."""
        try:
            return await self._wait()
        # Airflow would log any exception with everything that it contains.
        except Exception as error:  # noqa: BLE001 - the event has only what is safe to log
            return failed(error, job_id=self.job_id, request=self._request)

    async def on_kill(self) -> None:
        """Stop the job, because a user ended the task. Airflow calls this since version 3.3.

        If the task still waits, another triggerer waits for the job now, and the job runs on.
        """
        if self.job_id is None or not self.cancel_on_kill:
            return
        # Airflow 3.3 also calls this in a triggerer that was unresponsive for a while:
        # https://github.com/apache/airflow/pull/73454
        if await is_deferred(self):
            return
        client = await _CLIENTS.get(self._settings)
        await client.stop_phi_detection_job(self.job_id)

    async def _wait(self) -> Event:
        if self._request is not None:
            return started(await self._wait_for_start(self._request))
        return ended(await self._wait_for_end(self.job_id or ""))

    async def _wait_for_start(self, request: StartPHIDetectionJobRequest) -> str:
        while True:
            client = await _CLIENTS.get(self._settings)
            job = await start_async(client, request)
            if isinstance(job, str):
                return job
            self._check_deadline(job)
            # Random, so that the tasks that wait do not all try at the same time.
            delay = self.slot_delay * random.uniform(0.5, 1.5)  # noqa: S311 - spreads attempts; nothing is secret
            await asyncio.sleep(delay)

    def _check_deadline(self, obstacle: Obstacle) -> None:
        """Raise what prevents the start if it is too late for another attempt."""
        if self._remaining() <= 0:
            raise obstacle

    async def _wait_for_end(self, job_id: str) -> JobProperties:
        policy = WaitPolicy(
            delay=self.poll_interval,
            max_delay=self.poll_interval,
            multiplier=1.0,
            timeout=self._remaining(),
        )
        wait = Wait(job_id, policy, SystemClock())
        while True:
            delay = wait.next_delay(await self._poll(job_id))
            if delay is None:
                return wait.result()
            await asyncio.sleep(delay)

    async def _poll(self, job_id: str) -> JobProperties | ServiceError | TransportError:
        try:
            client = await _CLIENTS.get(self._settings)
            return await client.describe_phi_detection_job(job_id)
        except (ServiceError, TransportError) as error:
            return error

    def _remaining(self) -> float:
        """Return the seconds until the deadline."""
        return math.inf if self.deadline is None else max(self.deadline - time.time(), 0.0)

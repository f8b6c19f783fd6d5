"""The asynchronous client: the same operations, retries, waits and results, awaited.

boto3 runs in threads of the client's own. What a call to the service waits for between its
attempts, and a job between its polls, are asynchronous sleeps and need no thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from ._clock import ClientClock, Clock, SystemClock
from ._jobs import AsyncJob
from ._logs import job_context
from ._process import PerProcess, import_before_threads
from ._results.transport import open_storage
from ._retry import Retrier, RetryPolicy, check_options
from ._service import operations
from ._service.connection import Connection
from ._threads import Pool, join_pools, run_in_thread
from .models import (
    DescribePHIDetectionJobRequest,
    JobFilter,
    JobProperties,
    ListPHIDetectionJobsRequest,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)

if TYPE_CHECKING:
    from types import TracebackType

    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

    from ._results.streams import AsyncJobResults

__all__ = ["AsyncJob", "AsyncPHIClient"]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_DEFAULT_RETRY = RetryPolicy()
_SYSTEM_CLOCK = SystemClock()
_CONNECTIONS = 25


class AsyncPHIClient:
    """`PHIClient` for asynchronous programs: the same promises, arguments, answers and errors.

    Usable with `async with`, which closes its connections and ends its threads. Building it builds
    the boto3 client, which takes a good part of a second: do it before the program serves.

    As many calls are under way at a time as there are connections; others wait for their turn.
    There are 25, or `max_pool_connections` of the `config` or of the `client` that is given.

    Cancelling a call between its attempts, or before its turn, ends it at once. A request that is
    being sent cannot be taken back: cancelling then ends the await, and whether the service did
    what it was asked is open. After a cancelled start, send the same request again: its
    `client_request_token` makes sure that there is one job, and the answer has its id.

    Args:
        region_name, endpoint_url, session, config, client, s3_client, s3_transport: as for
            `PHIClient`.
        retry: how single calls are tried again.
        clock: what retries and waits go by; tests pass `comprehend_phi.testing.FakeClock`.

    Raises:
        TransportError, RequestValidationError, TypeError: as for `PHIClient`.
    """

    def __init__(
        self,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        session: Session | None = None,
        config: Config | None = None,
        client: BaseClient | None = None,
        s3_client: BaseClient | None = None,
        s3_transport: Literal["auto", "boto3", "obstore"] = "auto",
        retry: RetryPolicy = _DEFAULT_RETRY,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        check_options("AsyncPHIClient", retry, clock)
        self._clock = ClientClock(clock)
        self._retrier = Retrier(retry, self._clock)
        self._connection = Connection(
            region_name=region_name,
            endpoint_url=endpoint_url,
            session=session,
            config=config,
            client=client,
            s3_client=s3_client,
            s3_transport=s3_transport,
            max_pool_connections=_CONNECTIONS,
        )
        self._storage = PerProcess(partial(open_storage, self._connection, retry, self._clock))
        self._calls = Pool(self._connection.client.meta.config.max_pool_connections)
        self._fetches: Pool | None = None
        # Needed later, when importing them would hold up the event loop.
        import_before_threads(
            "comprehend_phi._results.streams",
            "boto3.s3.inject",
        )

    async def __aenter__(self) -> Self:
        self._connection.check("AsyncPHIClient")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what `PHIClient.close` does, when the calls that are being sent have ended.

        From then on, every call, every wait and every iterator of this client raises
        `ClientClosedError`; those that sleep until their next attempt or poll raise at once.
        """
        self._connection.mark_closed()
        self._clock.close()
        pools = [self._calls] if self._fetches is None else [self._calls, self._fetches]
        await join_pools(pools, self._connection.close)

    async def start_phi_detection_job(
        self, request: StartPHIDetectionJobRequest
    ) -> StartPHIDetectionJobResponse:
        """Start the job that `request` stands for, once, however often this is called with it.

        Raises and warns as `PHIClient.start_phi_detection_job` does.
        """
        operations.check_start("start_phi_detection_job", request)
        return await self._call(operations.START, request)

    async def describe_phi_detection_job(self, job_id: str) -> JobProperties:
        """What the service knows of a job now.

        Raises as `PHIClient.describe_phi_detection_job` does.
        """
        request = DescribePHIDetectionJobRequest(job_id=job_id)
        return await self._call(operations.DESCRIBE, request)

    def list_phi_detection_jobs(
        self, filter: JobFilter | None = None, *, page_size: int = 100
    ) -> AsyncGenerator[JobProperties, None]:
        """The jobs of the account in this region, in the service's order, for `async for`.

        Nothing is sent before the first job is asked for; then a page at a time, each retried on
        its own. Takes and raises what `PHIClient.list_phi_detection_jobs` does.
        """
        first = ListPHIDetectionJobsRequest(filter=filter, max_results=page_size)
        return self._pages(first)

    async def _pages(
        self, request: ListPHIDetectionJobsRequest | None
    ) -> AsyncGenerator[JobProperties, None]:
        pages = operations.Pages()
        while request is not None:
            page = await self._call(operations.LIST, request)
            for job in page.jobs:
                yield job
                self._connection.check(operations.LIST.name)
            request = pages.next_request(request, page)

    async def stop_phi_detection_job(self, job_id: str) -> str:
        """Ask for a job to be stopped; returns its id.

        Raises as `PHIClient.stop_phi_detection_job` does.
        """
        return await self._call(operations.STOP, StopPHIDetectionJobRequest(job_id=job_id))

    async def submit(self, request: StartPHIDetectionJobRequest) -> AsyncJob:
        """Start a job and return it as one object.

        Raises and warns as `start_phi_detection_job` does.
        """
        operations.check_start("submit", request)
        response = await self._call(operations.START, request)
        return AsyncJob(response.job_id, self, self._clock)

    def job(self, job_id: str) -> AsyncJob:
        """The job with this id, in any process, without asking the service; not a coroutine.

        Raises:
            RequestValidationError: `job_id` cannot be one.
        """
        return AsyncJob(DescribePHIDetectionJobRequest(job_id=job_id).job_id, self, self._clock)

    async def results(self, job_id: str) -> AsyncJobResults:
        """What a job found, its manifest loaded; `AsyncJob.results` is the same.

        Raises as `PHIClient.results` does, and what loading the manifest raises:

            MissingManifestError: the job left no manifest; if it ended well, this is a
                `LostManifestError`.
            UnreadableObjectError: the manifest is broken, or S3 refuses to hand it out.
            ServiceError, TransportError: S3 could not be reached or refused.
        """
        from ._results.streams import load

        job = await self.describe_phi_detection_job(job_id)
        storage = await run_in_thread(self._calls, self._storage.get)
        self._connection.check("results")
        if self._fetches is None:
            self._fetches = Pool(storage.connections)
        return await load(job, storage, self._fetches)

    async def _call(
        self, operation: operations.Operation[_Request, _Response], request: _Request
    ) -> _Response:
        token: str | None = getattr(request, "client_request_token", None)

        def send() -> _Response:
            self._connection.check(operation.name, token)
            return operation.attempt(self._connection.client, request)

        with job_context(getattr(request, "job_id", None)):
            return await self._retrier.call_async(lambda: run_in_thread(self._calls, send))

"""The asynchronous client, with the operations, retries, waits and results of `PHIClient`.

boto3 runs in threads of the client. The waits between attempts and between polls are asynchronous
sleeps, which need no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Self

from ._adoption import find_job, name_filter
from ._client_base import ClientBase
from ._jobs import AsyncJob
from ._logs import JobContext
from ._process import import_before_threads
from ._results.listing import Listing
from ._results.output_folder import job_id_at, properties_at
from ._results.storage import Storage
from ._results.streams import AsyncJobResults, load
from ._service import operations
from ._service.operations import Request, Response
from ._service.start_check import check_start
from ._splitting import Piece, merge, split
from ._stream import AsyncStream
from ._threads import Pool, join_pools, run_in_thread
from .models import (
    DescribePHIDetectionJobRequest,
    DetectPHIRequest,
    JobFilter,
    JobProperties,
    ListPHIDetectionJobsRequest,
    S3Location,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)

if TYPE_CHECKING:
    from ._entities import DetectPHIResponse

__all__ = ["AsyncJob", "AsyncPHIClient"]


class AsyncPHIClient(ClientBase):
    """`PHIClient` for asynchronous programs, with the same promises, arguments and errors.

    Use it with `async with`, which closes its connections and ends its threads. Building a client
    builds the boto3 client, which takes a good part of a second and blocks the event loop. So build
    it before the program starts to serve.

    The client makes 25 calls at the same time; other calls wait for their turn. To get another
    number, set `max_pool_connections` in `config`, or pass a `client` that has it.

    If you cancel a call between its attempts or before its turn, it ends at once. A request that is
    being sent cannot be taken back: the await ends, but you do not know whether the service did
    what it was asked. After a cancelled start, send the same request again. Its
    `client_request_token` makes sure that there is only one job, and the response has the job's id.

    Args:
        region_name, endpoint_url, session, config, client, s3_client, s3_transport, retry, clock:
            see `PHIClient`.

    Raises:
        TransportError, RequestValidationError, TypeError: see `PHIClient`.
    """

    _max_pool_connections = 25

    def _prepare(self) -> None:
        self._calls = Pool(self._connection.client.meta.config.max_pool_connections)
        self._fetches: Pool | None = None
        import_before_threads("boto3.s3.inject")  # building the S3 client imports it

    async def __aenter__(self) -> Self:
        self._connection.check("AsyncPHIClient")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for the requests that are being sent, then close what `PHIClient.close` closes.

        From now on, every call, wait and iterator of this client raises `ClientClosedError`. Those
        that sleep until their next attempt or poll raise it at once.
        """
        self._connection.mark_closed()
        self._clock.close()
        pools = [self._calls] if self._fetches is None else [self._calls, self._fetches]
        await join_pools(pools, self._connection.close)

    async def start_phi_detection_job(
        self, request: StartPHIDetectionJobRequest
    ) -> StartPHIDetectionJobResponse:
        """Start the job of `request`. If you send the same request again, there is still one job.

        Raises the same errors and issues the same warnings as `PHIClient.start_phi_detection_job`.
        """
        check_start("start_phi_detection_job", request)
        return await self._call(operations.START, request)

    async def describe_phi_detection_job(self, job_id: str) -> JobProperties:
        """Ask the service for the properties of a job.

        Raises the same errors as `PHIClient.describe_phi_detection_job`.
        """
        request = DescribePHIDetectionJobRequest(job_id=job_id)
        return await self._call(operations.DESCRIBE, request)

    def list_phi_detection_jobs(
        self, filter: JobFilter | None = None, *, page_size: int = 100
    ) -> AsyncGenerator[JobProperties, None]:
        """Iterate with `async for` over the account's jobs in this region, in the service's order.

        Takes the same arguments and raises the same errors as `PHIClient.list_phi_detection_jobs`.
        """
        request = ListPHIDetectionJobsRequest(filter=filter, max_results=page_size)
        return AsyncStream(operations.LIST.name, self._pages(request))

    async def _pages(
        self, request: ListPHIDetectionJobsRequest | None
    ) -> AsyncGenerator[JobProperties, None]:
        seen: set[str] = set()
        while request is not None:
            page = await self._call(operations.LIST, request)
            for job in page.jobs:
                yield job
                self._connection.check(operations.LIST.name)
            request = operations.next_page_request(request, page, seen)

    async def stop_phi_detection_job(self, job_id: str) -> str:
        """Ask the service to stop a job, and return the job's id.

        Raises the same errors as `PHIClient.stop_phi_detection_job`.
        """
        return await self._call(operations.STOP, StopPHIDetectionJobRequest(job_id=job_id))

    async def detect_phi(self, text: str) -> DetectPHIResponse:
        """Detect PHI in one text, and return it at once.

        Takes the same text and raises the same errors as `PHIClient.detect_phi`.
        """
        return await self._call(operations.DETECT, DetectPHIRequest(text))

    async def detect_phi_in_document(
        self, text: str, *, max_bytes: int = 20_000, overlap: int = 1_000
    ) -> DetectPHIResponse:
        """Detect PHI in a text of any length, piece by piece.

        Takes the same arguments and raises the same errors as `PHIClient.detect_phi_in_document`,
        but sends pieces at the same time: as many as the client has connections. If a piece fails,
        the others are cancelled.
        """
        pieces = await run_in_thread(self._calls, partial(split, text, max_bytes, overlap))
        # A piece keeps its turn between its attempts, so throttling slows down all of them.
        turns = asyncio.Semaphore(self._calls.threads)

        async def detect(piece: Piece) -> DetectPHIResponse:
            async with turns:
                return await self.detect_phi(text[piece.begin : piece.end])

        tasks = [asyncio.create_task(detect(piece)) for piece in pieces]
        try:
            responses = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await run_in_thread(self._calls, partial(merge, pieces, responses))

    async def submit(self, request: StartPHIDetectionJobRequest) -> AsyncJob:
        """Start the job of `request`, and return it as an `AsyncJob`.

        Raises the same errors and issues the same warnings as `start_phi_detection_job`.
        """
        check_start("submit", request)
        response = await self._call(operations.START, request)
        return AsyncJob(response.job_id, self, self._clock)

    async def find_or_submit(self, request: StartPHIDetectionJobRequest) -> AsyncJob:
        """Return the job with the request's `job_name`. Start it if there is none.

        Follows the same rules, raises the same errors and issues the same warnings as
        `PHIClient.find_or_submit`.
        """
        check_start("find_or_submit", request)
        jobs = self.list_phi_detection_jobs(name_filter("find_or_submit", request), page_size=500)
        found = find_job(request, [job async for job in jobs])
        if isinstance(found, JobProperties):
            return AsyncJob(found.job_id, self, self._clock)
        response = await self._call(operations.START, found)
        return AsyncJob(response.job_id, self, self._clock)

    def job(self, job_id: str) -> AsyncJob:
        """Return the job with this id, which any process may have started. Send nothing.

        This is not a coroutine.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
        """
        return AsyncJob(DescribePHIDetectionJobRequest(job_id=job_id).job_id, self, self._clock)

    async def results(self, job_id: str) -> AsyncJobResults:
        """Return a job's results with the manifest loaded. Documents are read when you use them.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
            JobNotEndedError: the job has not ended.
            MissingManifestError: the job has no manifest. If the job ended well, this is a
                `LostManifestError`.
            UnreadableObjectError: the manifest is broken, or S3 refuses to return it.
            ServiceError, TransportError: the job's properties or the manifest could not be fetched.
        """
        job = await self.describe_phi_detection_job(job_id)
        storage, fetches = await self._reading()
        return await load(Listing(job, storage), fetches)

    async def results_at(self, location: S3Location) -> AsyncJobResults:
        """Return the results in a job's output folder, without asking the service about the job.

        Takes the same argument and raises the same errors as `PHIClient.results_at`.
        """
        job_id_at(location)
        storage, fetches = await self._reading()
        job = await run_in_thread(fetches, partial(properties_at, location, storage))
        return await load(Listing(job, storage, is_described=False), fetches)

    async def _reading(self) -> tuple[Storage, Pool]:
        """Return what reads results: S3, and the threads that fetch objects."""
        storage = await run_in_thread(self._calls, self._s3.storage)
        self._connection.check("results")
        if self._fetches is None:
            self._fetches = Pool(storage.connections)
        return storage, self._fetches

    async def _call(
        self, operation: operations.Operation[Request, Response], request: Request
    ) -> Response:
        send = partial(self._attempt, operation, request)
        with JobContext(getattr(request, "job_id", None)):
            return await self._retrier.call_async(lambda: run_in_thread(self._calls, send))

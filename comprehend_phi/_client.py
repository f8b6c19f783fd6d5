"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from ._clock import ClientClock, Clock, SystemClock
from ._jobs import Job
from ._logs import job_context
from ._process import PerProcess
from ._results.transport import open_storage
from ._retry import Retrier, RetryPolicy, check_options
from ._service import operations
from ._service.connection import Connection
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

    from ._results.streams import JobResults

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_DEFAULT_RETRY = RetryPolicy()
_SYSTEM_CLOCK = SystemClock()


class PHIClient:
    """Starts, follows, lists and stops PHI detection jobs. Safe to share among threads.

    Forked processes can share a client too: each one builds boto3 clients of its own. A `client` or
    `s3_client` that was handed in cannot be used in a fork, so every call raises
    `ClientClosedError` there.

    Usable as a context manager, which closes the connections that it opened.

    Args:
        region_name: the AWS region; without it, the session's.
        endpoint_url: where Comprehend Medical is, when it is not at AWS. S3 follows the session
            and AWS's own settings, such as the variable AWS_ENDPOINT_URL_S3.
        session: the boto3 session for credentials and region; without it, boto3's default one.
        config: botocore settings such as timeouts, the size of the connection pool or a proxy. Its
            retries are ignored, because `retry` takes their place. So is its parameter validation
            for Comprehend Medical, because requests are validated when they are built.
        client: a boto3 client for `comprehendmedical` to use as it is, instead of building one.
        s3_client: a boto3 client for S3 to read results with, instead of building one when they
            are asked for. As many objects are fetched at a time as its connection pool is large.
        s3_transport: how results are read from S3. "auto" reads through obstore if the extra
            `fast` is installed and obstore can do exactly what boto3 does, and otherwise through
            boto3; the logger `comprehend_phi` then says why, once. "boto3" reads through boto3
            alone. "obstore" does what "auto" does, but raises `TransportError` if obstore cannot be
            used.
        retry: how single calls are tried again.
        clock: what retries and waits go by; tests pass `comprehend_phi.testing.FakeClock`.

    Raises:
        TransportError: boto3 cannot build the client, for want of a region for example; or
            `s3_transport` is "obstore", and the extra `fast` is not installed.
        RequestValidationError: `region_name`, `endpoint_url`, `s3_transport`, `retry` or `clock` is
            of the wrong type, or there is no such `s3_transport`.
        TypeError: `endpoint_url` beside `client`, `s3_client` beside `s3_transport="obstore"`, a
            client of another service, or another object in the place of a session or config.
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
        check_options("PHIClient", retry, clock)
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
        )
        self._storage = PerProcess(partial(open_storage, self._connection, retry, self._clock))

    def __enter__(self) -> Self:
        self._connection.check("PHIClient")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that this client opened. A client that was handed in stays open.

        From then on, every call, every wait and every iterator of this client raises
        `ClientClosedError`. Results that are being fetched are not waited for. A thread of yours
        that sleeps until its next attempt or poll raises when it has slept. Closing a client twice
        is harmless. A client that is closed after a fork stays open in the other process.
        """
        self._connection.close()
        self._clock.close()

    def start_phi_detection_job(
        self, request: StartPHIDetectionJobRequest
    ) -> StartPHIDetectionJobResponse:
        """Start the job that `request` stands for, once, however often this is called with it.

        Raises:
            RequestValidationError: `request` is not a request; raised before anything is sent.
            InvalidRequestException: the service refuses the request, or its token stands for
                another one.
            ActiveJobLimitExceeded: all job slots are taken and `RetryPolicy.slot_timeout` is up.
            ServiceError: the service answered with another error.
            TransportError: there was no usable answer. Where `outcome_unknown` is true the job may
                have been started: send the same request again to learn its id.

        Warns:
            PlaintextOutputWarning: the request has no `kms_key`.
            OverlappingLocationsWarning: one of the request's locations lies inside the other.
        """
        operations.check_start("start_phi_detection_job", request)
        return self._call(operations.START, request)

    def describe_phi_detection_job(self, job_id: str) -> JobProperties:
        """What the service knows of a job now.

        Raises:
            RequestValidationError: `job_id` cannot be one.
            ResourceNotFoundException: there is no such job in this account and region.
            ServiceError, TransportError: the call failed otherwise.
        """
        return self._call(operations.DESCRIBE, DescribePHIDetectionJobRequest(job_id=job_id))

    def list_phi_detection_jobs(
        self, filter: JobFilter | None = None, *, page_size: int = 100
    ) -> Iterator[JobProperties]:
        """The jobs of the account in this region, in the service's order.

        Nothing is sent before the first job is asked for; then a page at a time, each retried on
        its own.

        Args:
            filter: which jobs; the service takes one criterion at a time.
            page_size: how many jobs a page brings, 1 to 500.

        Raises:
            RequestValidationError: an argument breaks its rule; raised at once.
            ServiceError, TransportError: a page could not be fetched; raised while iterating.
            MalformedResponseError: the service repeated a NextToken, which would never end.
        """
        first = ListPHIDetectionJobsRequest(filter=filter, max_results=page_size)
        return self._pages(first)

    def _pages(self, request: ListPHIDetectionJobsRequest | None) -> Iterator[JobProperties]:
        pages = operations.Pages()
        while request is not None:
            page = self._call(operations.LIST, request)
            for job in page.jobs:
                yield job
                self._connection.check(operations.LIST.name)
            request = pages.next_request(request, page)

    def stop_phi_detection_job(self, job_id: str) -> str:
        """Ask for a job to be stopped; returns its id.

        Raises:
            RequestValidationError: `job_id` cannot be one.
            ResourceNotFoundException: there is no such job in this account and region.
            ServiceError, TransportError: the call failed otherwise.
        """
        return self._call(operations.STOP, StopPHIDetectionJobRequest(job_id=job_id))

    def submit(self, request: StartPHIDetectionJobRequest) -> Job:
        """Start a job and return it as one object.

        Raises and warns as `start_phi_detection_job` does.
        """
        operations.check_start("submit", request)
        return Job(self._call(operations.START, request).job_id, self, self._clock)

    def job(self, job_id: str) -> Job:
        """The job with this id, in any process, without asking the service.

        Raises:
            RequestValidationError: `job_id` cannot be one.
        """
        return Job(DescribePHIDetectionJobRequest(job_id=job_id).job_id, self, self._clock)

    def results(self, job_id: str) -> JobResults:
        """What a job found, read from S3 as it is asked for; `Job.results` is the same.

        Raises:
            RequestValidationError: `job_id` cannot be one.
            JobNotEndedError: the job has not ended.
            ServiceError, TransportError: the job could not be described.
        """
        from ._results.streams import JobResults

        job = self.describe_phi_detection_job(job_id)
        return JobResults(job, self._storage.get())

    def _call(
        self, operation: operations.Operation[_Request, _Response], request: _Request
    ) -> _Response:
        token: str | None = getattr(request, "client_request_token", None)

        def attempt() -> _Response:
            self._connection.check(operation.name, token)
            return operation.attempt(self._connection.client, request)

        with job_context(getattr(request, "job_id", None)):
            return self._retrier.call(attempt)

"""The synchronous client."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Self

from ._adoption import find_job, name_filter
from ._client_base import ClientBase
from ._jobs import Job
from ._logs import JobContext
from ._retry import Retrier
from ._service import operations
from ._service.operations import Request, Response
from ._service.start_check import check_start
from ._stream import Stream
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
    from ._results.streams import JobResults


class PHIClient(ClientBase):
    """Starts, follows, lists and stops PHI detection jobs, and detects PHI in single texts.

    Threads can share a client, and so can forked processes: each process builds its own boto3
    clients. A `client` or `s3_client` that you pass belongs to the process that built it, so in a
    fork every call raises `ClientClosedError`.

    As a context manager, a client closes the connections that it opened.

    Args:
        region_name: the AWS region. None means the region of the session.
        endpoint_url: the URL of Comprehend Medical, if it is not AWS's own. S3 does not use it, but
            follows the session and AWS's own settings, such as the variable AWS_ENDPOINT_URL_S3.
        session: the boto3 session that provides credentials and the region. None means boto3's
            default session.
        config: botocore settings such as timeouts, the size of the connection pool or a proxy. Its
            retries are ignored, because `retry` replaces them. For Comprehend Medical its parameter
            validation is ignored too, because requests are validated when you build them.
        client: a boto3 client for `comprehendmedical`, which is used as it is instead of a new one.
        s3_client: a boto3 client for S3, which reads results instead of a new one. The size of its
            connection pool says how many objects are fetched at the same time.
        s3_transport: how results are read from S3, and redacted copies written. "auto" uses obstore
            if the extra `fast` is installed and obstore does exactly what boto3 would do. Otherwise
            it uses boto3, and the logger `comprehend_phi` says why, once. "boto3" only uses boto3.
            "obstore" does what "auto" does, but raises `TransportError` if obstore cannot be used
            for reading.
        retry: the retry policy for individual calls.
        clock: measures time and sleeps for retries and waits. Tests pass
            `comprehend_phi.testing.FakeClock`.

    Raises:
        TransportError: boto3 cannot build the client, for example because there is no region. Or
            the endpoint is not a valid URL. Or `s3_transport` is "obstore" and the extra `fast` is
            not installed.
        RequestValidationError: `region_name`, `endpoint_url`, `retry` or `clock` has the wrong
            type, or `s3_transport` is none of the three. Or the `config`, or the one of `client` or
            `s3_client`, has a number of connections, a timeout or a proxy that cannot work.
        TypeError: `session` or `config` has the wrong type, `client` or `s3_client` is a client for
            another service, `endpoint_url` was passed together with `client`, or
            `s3_transport="obstore"` together with `s3_client`.
    """

    def __enter__(self) -> Self:
        self._connection.check("PHIClient")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that this client opened. A boto3 client of yours stays open.

        From then on, every call, wait and iterator of this client raises `ClientClosedError`.
        Closing does not wait for results that are being fetched. If a thread of yours sleeps until
        its next attempt or poll, it raises the error after that sleep. Closing a client twice is
        harmless. After a fork, each process closes the client for itself.
        """
        self._connection.close()
        self._clock.close()

    def start_phi_detection_job(
        self, request: StartPHIDetectionJobRequest
    ) -> StartPHIDetectionJobResponse:
        """Start the job of `request`. If you send the same request again, there is still one job.

        Raises:
            RequestValidationError: `request` is not a request. Nothing was sent.
            InvalidRequestException: the service refused the request, or the request's token belongs
                to another request.
            ActiveJobLimitExceeded: all job slots are taken, and `RetryPolicy.slot_timeout` has
                passed.
            ServiceError: the service responded with another error.
            TransportError: there was no usable response. If `outcome_unknown` is true, the job may
                have been started: send the same request again to get its id.

        Warns:
            PlaintextOutputWarning: the request has no `kms_key`.
            OverlappingLocationsWarning: one of the request's locations is inside the other.
        """
        check_start("start_phi_detection_job", request)
        return self._call(operations.START, request)

    def describe_phi_detection_job(self, job_id: str) -> JobProperties:
        """Ask the service for the properties of a job.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
            ResourceNotFoundException: this account has no such job in this region.
            ServiceError, TransportError: the call failed in another way.
        """
        return self._call(operations.DESCRIBE, DescribePHIDetectionJobRequest(job_id=job_id))

    def list_phi_detection_jobs(
        self, filter: JobFilter | None = None, *, page_size: int = 100
    ) -> Iterator[JobProperties]:
        """Iterate over the account's jobs in this region, in the service's order.

        The iterator fetches a page when it needs one, and retries each page separately.

        Args:
            filter: which jobs to list. The service accepts one criterion at a time.
            page_size: how many jobs to fetch with each request, 1 to 500.

        Raises:
            RequestValidationError: an argument is invalid; raised at the call.
            ServiceError, TransportError: a page could not be fetched; raised while iterating.
            MalformedResponseError: the service repeated a NextToken, so the list would never end.
        """
        request = ListPHIDetectionJobsRequest(filter=filter, max_results=page_size)
        return Stream(operations.LIST.name, self._pages(request))

    def _pages(
        self, request: ListPHIDetectionJobsRequest | None
    ) -> Generator[JobProperties, None, None]:
        seen: set[str] = set()
        while request is not None:
            page = self._call(operations.LIST, request)
            for job in page.jobs:
                yield job
                self._connection.check(operations.LIST.name)
            request = operations.next_page_request(request, page, seen)

    def stop_phi_detection_job(self, job_id: str) -> str:
        """Ask the service to stop a job, and return the job's id.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
            ResourceNotFoundException: this account has no such job in this region.
            ServiceError, TransportError: the call failed in another way.
        """
        return self._call(operations.STOP, StopPHIDetectionJobRequest(job_id=job_id))

    def detect_phi(self, text: str) -> DetectPHIResponse:
        """Detect PHI in one text, and return it at once.

        To redact the text, pass it and the entities to `redact`. The service bills each call by the
        characters of the text.

        Args:
            text: 1 to 20,000 code points and at most 20,000 bytes in UTF-8.
                `detect_phi_in_document` takes longer text.

        Raises:
            RequestValidationError: `text` is empty or too long, or UTF-8 cannot encode it. Nothing
                was sent.
            TextSizeLimitExceededException, InvalidEncodingException: the service rejected the text.
            MalformedResponseError: some entities are missing from the response, or one does not
                match the text. Such a response is not retried, because every attempt is billed.
            ServiceError, TransportError: the call failed in another way.
        """
        return self._call(operations.DETECT, DetectPHIRequest(text))

    def detect_phi_in_document(
        self, text: str, *, max_bytes: int = 20_000, overlap: int = 1_000
    ) -> DetectPHIResponse:
        """Detect PHI in a text of any length, piece by piece.

        The text is split where a paragraph, a line, a sentence or a word ends, and the pieces are
        sent one after the other. Neighboring pieces share at least `overlap` bytes, which the
        service bills twice. An entity is found as in the whole text if it fits into half of
        `overlap` together with the context that the service needs to recognize it.

        If two pieces disagree about what they share, no detected text is lost: both entities are in
        the response, except that one within a longer one of the same type is left out if its score
        is not higher. Ids are renumbered in the order of the text. If pieces were processed by
        different versions of the model, `model_version` lists them, separated by commas.

        If a piece fails, there is no response. The pieces before it have been billed.

        Args:
            text: the text. For an empty text, nothing is sent.
            max_bytes: the largest size of a piece, from 64 to 20,000 bytes of UTF-8.
            overlap: how much neighboring pieces share, from 0 to half of `max_bytes`.

        Raises:
            RequestValidationError: an argument is invalid, or UTF-8 cannot encode the text. Nothing
                was sent.
            ServiceError, TransportError: `detect_phi` failed for a piece.
        """
        from ._splitting import merge, split

        pieces = split(text, max_bytes, overlap)
        return merge(pieces, [self.detect_phi(text[p.begin : p.end]) for p in pieces])

    def submit(self, request: StartPHIDetectionJobRequest) -> Job:
        """Start the job of `request`, and return it as a `Job`.

        Raises the same errors and issues the same warnings as `start_phi_detection_job`.
        """
        check_start("submit", request)
        return Job(self._call(operations.START, request).job_id, self, self._clock)

    def find_or_submit(self, request: StartPHIDetectionJobRequest) -> Job:
        """Return the job with the request's `job_name`. Start it if there is none.

        Use this method in programs that keep no state. Run again, they find their job. The newest
        job of this name counts that has not failed and was not stopped. A job that is still being
        stopped counts, too.

        If all jobs of this name have failed or were stopped, the job is started again. The new
        start has a token made from the request's token and the ids of these jobs. So two processes
        that call this method at the same time start one job. For this, both need the same token:
        make it with `request_token`.

        The service forgets a job 120 days after its submission. Do not use this method to find
        older jobs, because it would start them again.

        Raises:
            RequestValidationError: `request` is not a request, or has no `job_name`. Nothing was
                sent.
            JobMismatchError: the job of this name has other parameters. Nothing was started. A
                location is the same with and without a slash at its end. A KMS key is the same if
                the service shows its ARN and the request has the id or alias at its end. An alias
                matches every id and ARN of a key, because only KMS knows to which key it belongs.
            ServiceError, TransportError: the jobs could not be listed, or see
                `start_phi_detection_job`.

        Warns: see `start_phi_detection_job`.
        """
        check_start("find_or_submit", request)
        jobs = self.list_phi_detection_jobs(name_filter("find_or_submit", request), page_size=500)
        found = find_job(request, list(jobs))
        job = found if isinstance(found, JobProperties) else self._call(operations.START, found)
        return Job(job.job_id, self, self._clock)

    def job(self, job_id: str) -> Job:
        """Return the job with this id, which any process may have started. Send nothing.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
        """
        return Job(DescribePHIDetectionJobRequest(job_id=job_id).job_id, self, self._clock)

    def results(self, job_id: str) -> JobResults:
        """Return a job's results, which are read from S3 when you use them.

        Raises:
            RequestValidationError: `job_id` is not a valid job id.
            JobNotEndedError: the job has not ended.
            ServiceError, TransportError: the job's properties could not be fetched.
        """
        from ._results.listing import Listing
        from ._results.streams import JobResults

        job = self.describe_phi_detection_job(job_id)
        return JobResults(Listing(job, self._s3.storage()))

    def results_at(self, location: S3Location) -> JobResults:
        """Return the results in a job's output folder, without asking the service about the job.

        Use it for jobs that the service has forgotten. The manifest is read at once, because it
        names the input location. `JobResults.job` has only what the manifest says. The time of the
        submission is unknown, so a note counts as replaced if it was written after its document.

        Args:
            location: the output folder of one job, whose name is `<account>-PHIDetection-<job id>`.

        Raises:
            RequestValidationError: `location` is not such a location.
            MissingManifestError: the folder has no manifest.
            UnreadableObjectError: the manifest is broken, does not name the input location, or S3
                refuses to return it.
            ResultsError: the bucket does not exist.
            ServiceError, TransportError: S3 failed.
        """
        from ._results.listing import Listing
        from ._results.output_folder import job_id_at, properties_at
        from ._results.streams import JobResults

        job_id_at(location)
        storage = self._s3.storage()
        job = properties_at(location, storage)
        return JobResults(Listing(job, storage, is_described=False))

    def __comprehend_phi_start__(self, request: StartPHIDetectionJobRequest) -> str:
        """Start a job without waiting for a slot. Only `start_at_once` calls this."""
        retrier = self._retrier.without_slot_waits()
        return self._call(operations.START, request, retrier).job_id

    def _call(
        self,
        operation: operations.Operation[Request, Response],
        request: Request,
        retrier: Retrier | None = None,
    ) -> Response:
        with JobContext(getattr(request, "job_id", None)):
            return (retrier or self._retrier).call(partial(self._attempt, operation, request))


def start_at_once(client: PHIClient, request: StartPHIDetectionJobRequest) -> str:
    """Start a job, and return its id. If all slots are taken, do not wait, but raise at once.

    All other errors are retried as the client's own `RetryPolicy` says.

    Raises:
        ActiveJobLimitExceeded: all slots are taken.
        ServiceError, TransportError: the start failed in another way.
    """
    return client.__comprehend_phi_start__(request)

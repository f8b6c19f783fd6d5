"""The operations of the service: one row each in the table below.

To see what the service can do, read the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import evolve, frozen

from .._logs import log
from .._members import encode
from ..errors import MalformedResponseError
from ..models import (
    DescribePHIDetectionJobRequest,
    DetectPHIRequest,
    JobPage,
    JobProperties,
    ListPHIDetectionJobsRequest,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)
from . import codec
from .attempts import run_attempt
from .invalid_response import InvalidResponse

if TYPE_CHECKING:
    from .._entities import DetectPHIResponse

Request = TypeVar("Request")
Response = TypeVar("Response")


@frozen(kw_only=True)
class Operation(Generic[Request, Response]):
    """One operation.

    Attributes:
        name: the service's name of the operation.
        method: the name of the method of a boto3 client.
        decode: translates what the method returns.
        check: raises `InvalidResponse` if a response cannot be the one to a request. After a
            fork, or on a connection that two threads share, a request can get the response to
            another one.
        log_message: what to log at INFO after a response, if the operation changes something. The
            success of any other operation is logged at DEBUG.
    """

    name: str
    method: str
    decode: Callable[[Mapping[str, Any]], Response]
    check: Callable[[Request, Response], None] = lambda _request, _response: None
    log_message: str | None = None

    def attempt(self, client: Any, request: Request) -> Response:
        """Send `request` once through the boto3 `client`.

        Raises:
            ServiceError: the service returned an error.
            TransportError: there is no usable response.
        """
        params = encode(request)
        method = getattr(client, self.method)

        def send() -> tuple[Response, str | None]:
            received = method(**params)
            response = self.decode(received)
            self.check(request, response)
            return response, received.get("ResponseMetadata", {}).get("RequestId") or None

        response, request_id = run_attempt(send, self.name, params)
        log(
            logging.INFO if self.log_message else logging.DEBUG,
            self.log_message or "succeeded",
            operation=self.name,
            job_id=getattr(response, "job_id", None),  # a start has no id before this
            client_request_token=getattr(request, "client_request_token", None),
            request_id=request_id,
        )
        return response


def _check_job_id(
    request: DescribePHIDetectionJobRequest | StopPHIDetectionJobRequest, job_id: str
) -> None:
    if job_id != request.job_id:
        raise InvalidResponse("it is about another job")


def _check_entities(request: DetectPHIRequest, response: DetectPHIResponse) -> None:
    from .._entities import mismatch

    for entity in response.entities:
        if problem := mismatch(request.text, entity):
            raise InvalidResponse(
                f"entity {entity.id} at offsets {entity.begin_offset} to {entity.end_offset}"
                f" {problem}",
                retryable=False,  # each attempt is billed
            )


START: Operation[StartPHIDetectionJobRequest, StartPHIDetectionJobResponse] = Operation(
    name="StartPHIDetectionJob",
    method="start_phi_detection_job",
    decode=codec.decode_start,
    log_message="job started",
)
DESCRIBE: Operation[DescribePHIDetectionJobRequest, JobProperties] = Operation(
    name="DescribePHIDetectionJob",
    method="describe_phi_detection_job",
    decode=codec.decode_describe,
    check=lambda request, job: _check_job_id(request, job.job_id),
)
LIST: Operation[ListPHIDetectionJobsRequest, JobPage] = Operation(
    name="ListPHIDetectionJobs",
    method="list_phi_detection_jobs",
    decode=codec.decode_list,
)
STOP: Operation[StopPHIDetectionJobRequest, str] = Operation(
    name="StopPHIDetectionJob",
    method="stop_phi_detection_job",
    decode=codec.decode_stop,
    check=_check_job_id,
    log_message="stop requested",
)
DETECT: Operation[DetectPHIRequest, DetectPHIResponse] = Operation(
    name="DetectPHI",
    method="detect_phi",
    decode=codec.decode_detect,
    check=_check_entities,
)


def next_page_request(
    request: ListPHIDetectionJobsRequest, page: JobPage, seen: set[str]
) -> ListPHIDetectionJobsRequest | None:
    """Return the request for the next page of a list, or None if `page` is the last one.

    Args:
        request: the request that returned `page`.
        page: the page.
        seen: the NextTokens of the pages before, to which this adds that of `page`.

    Raises:
        MalformedResponseError: the service repeated a NextToken, so the list would never end.
    """
    token = page.next_token
    if token is None:
        return None
    if token in seen:
        raise MalformedResponseError(
            operation=LIST.name,
            reason="the service repeated a NextToken, so the list would never end",
            outcome_unknown=False,
            retryable=False,
        )
    seen.add(token)
    return evolve(request, next_token=token)

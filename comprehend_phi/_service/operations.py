"""The operations of the service: what is sent, what comes back, and one attempt at each.

Reading the table at the end is reading the service.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import evolve, frozen

from .._logs import log
from .._shapes import require
from ..errors import MalformedResponseError, OverlappingLocationsWarning, PlaintextOutputWarning
from ..models import (
    START_REQUEST,
    DescribePHIDetectionJobRequest,
    JobPage,
    JobProperties,
    ListPHIDetectionJobsRequest,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    StopPHIDetectionJobRequest,
)
from . import codec, failures

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@frozen
class Operation(Generic[_Request, _Response]):
    """One operation.

    Attributes:
        name: its name at the service.
        method: its method in boto3.
        encode: translates a request into its members.
        decode: translates the members of an answer.
        answers: whether a response belongs to a request, as far as it shows. After a fork, or on a
            connection that two threads share, one request can receive the answer to another.
        done: what the log says of an answer.
        level: at which level it says so.
    """

    name: str
    method: str
    encode: Callable[[_Request], dict[str, Any]]
    decode: Callable[[codec.Members], _Response]
    answers: Callable[[_Request, _Response], bool] = lambda _request, _response: True
    done: str = "answered"
    level: int = logging.DEBUG

    def attempt(self, client: Any, request: _Request) -> _Response:
        """Send `request` once through the boto3 `client`.

        Raises:
            ServiceError: the service answered with an error.
            TransportError: there was no usable answer.
        """
        members = self.encode(request)
        send = getattr(client, self.method)

        def answer() -> tuple[_Response, str | None]:
            received = send(**members)
            response = self.decode(received)
            if not self.answers(request, response):
                raise codec.InvalidResponse("it is about another job")
            return response, received.get("ResponseMetadata", {}).get("RequestId")

        response, request_id = failures.attempt(answer, self.name, members)
        log(
            *(self.level, self.done),
            operation=self.name,
            # A start learns it only now.
            job_id=getattr(response, "job_id", None),
            client_request_token=getattr(request, "client_request_token", None),
            request_id=request_id,
        )
        return response


START: Operation[StartPHIDetectionJobRequest, StartPHIDetectionJobResponse] = Operation(
    "StartPHIDetectionJob",
    "start_phi_detection_job",
    codec.encode_start,
    codec.decode_start,
    done="the job is started",
    level=logging.INFO,
)
DESCRIBE: Operation[DescribePHIDetectionJobRequest, JobProperties] = Operation(
    "DescribePHIDetectionJob",
    "describe_phi_detection_job",
    codec.encode_job_id,
    codec.decode_describe,
    lambda request, job: job.job_id == request.job_id,
)
LIST: Operation[ListPHIDetectionJobsRequest, JobPage] = Operation(
    "ListPHIDetectionJobs", "list_phi_detection_jobs", codec.encode_list, codec.decode_list
)
STOP: Operation[StopPHIDetectionJobRequest, str] = Operation(
    "StopPHIDetectionJob",
    "stop_phi_detection_job",
    codec.encode_job_id,
    codec.decode_stop,
    lambda request, job_id: job_id == request.job_id,
    done="the job is asked to stop",
    level=logging.INFO,
)


def check_start(method: str, request: StartPHIDetectionJobRequest) -> None:
    """Check the argument of a client's method that starts a job, and warn the method's caller.

    Called before anything is sent, so that a warning that is an error starts no job.

    Args:
        method: the name of the client's method, which calls this itself.
        request: what the method was given.

    Raises:
        RequestValidationError: `request` is not a request.
    """
    require(method, "request", START_REQUEST, request)
    if request.kms_key is None:
        warnings.warn(
            "This job has no kms_key: the service writes its results, which quote the protected"
            " health information, in plain text. Give the request a kms_key.",
            PlaintextOutputWarning,
            stacklevel=3,
        )
    if request.locations_overlap:
        warnings.warn(
            "The input and output locations of this job overlap, so a later job could read its"
            " results as notes. Use two buckets, or two folders of which neither contains the"
            " other.",
            OverlappingLocationsWarning,
            stacklevel=3,
        )


class Pages:
    """The way through the pages of one list."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def next_request(
        self, request: ListPHIDetectionJobsRequest, page: JobPage
    ) -> ListPHIDetectionJobsRequest | None:
        """The request for the page after `page`, which answered `request`; None after the last.

        Raises:
            MalformedResponseError: the service repeats a NextToken, which would never end.
        """
        token = page.next_token
        if token is None:
            return None
        if token in self._seen:
            raise MalformedResponseError(
                operation=LIST.name,
                reason="the service repeated a NextToken: following it would never end",
                outcome_unknown=False,
                retryable=False,
            )
        self._seen.add(token)
        return evolve(request, next_token=token)

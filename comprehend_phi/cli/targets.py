"""Where a job runs, and how a command reaches the service there. This module knows AWS only."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from .._client import PHIClient
from .._clock import Clock, SystemClock
from .._retry import RetryPolicy
from .._service.boto3_clients import build_with_boto3
from ..errors import RequestValidationError, ResultsError
from ..models import InputDataConfig, OutputDataConfig, S3Location, StartPHIDetectionJobRequest
from .exits import PROGRAM, Exit, ExitCode

_SYSTEM_CLOCK = SystemClock()


@frozen
class ServiceOptions:
    """The service that --region, --profile and --endpoint-url choose."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None

    def client(self, clock: Clock = _SYSTEM_CLOCK, slot_timeout: float = 0.0) -> PHIClient:
        """Return a new client of the service."""
        return PHIClient(
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            session=self._session(),
            retry=RetryPolicy(slot_timeout=slot_timeout),
            clock=clock,
        )

    def _session(self) -> Any:
        if self.profile is None:
            return None
        import boto3
        from botocore.exceptions import ProfileNotFound

        def build() -> Any:
            try:
                return boto3.Session(profile_name=self.profile)
            except ProfileNotFound:
                return None

        session = build_with_boto3(build, "a session for --profile")
        if session is None:
            raise Exit(
                ExitCode.USAGE, "--profile: there is no such profile in this machine's AWS settings"
            )
        return session

    def how_to_wait(self, job_id: str) -> str:
        """Return how to wait for a job of the service again."""
        return f"The job is not affected. To wait for it again: {self._command('wait', job_id)}"

    def how_to_read(self, job_id: str) -> str:
        """Return how to read the results of a job of the service again."""
        return f"The job has ended. To read its results: {self._command('results', job_id)}"

    def _command(self, name: str, job_id: str) -> str:
        options = {
            "--region": self.region,
            "--profile": self.profile,
            "--endpoint-url": self.endpoint_url,
        }
        given = (part for option, value in options.items() if value for part in (option, value))
        return shlex.join([PROGRAM, name, job_id, *given])


@frozen
class StartOptions:
    """The options of a start. They have the names of the request's fields."""

    data_access_role_arn: str | None
    kms_key: str | None
    job_name: str | None
    client_request_token: str | None
    allow_overlap: bool

    def request(
        self, source: InputDataConfig, destination: OutputDataConfig
    ) -> StartPHIDetectionJobRequest:
        """Return the request for a job.

        Raises:
            Exit: the role is missing, or the locations overlap without `allow_overlap`.
        """
        if self.data_access_role_arn is None:
            raise Exit(
                ExitCode.USAGE, "--role-arn is missing: add it, or set COMPREHEND_PHI_ROLE_ARN"
            )
        token = self.client_request_token
        request = StartPHIDetectionJobRequest(
            input_data_config=source,
            output_data_config=destination,
            data_access_role_arn=self.data_access_role_arn,
            kms_key=self.kms_key,
            job_name=self.job_name,
            **({} if token is None else {"client_request_token": token}),
        )
        if request.locations_overlap and not self.allow_overlap:
            raise Exit(
                ExitCode.USAGE,
                "SOURCE and DESTINATION overlap, so a later job could read the results as notes.",
                "Use two buckets or two separate prefixes, or accept this with --allow-overlap.",
            )
        return request


@frozen
class PlanOptions:
    """The options of a plan. They have the names of fields and arguments."""

    data_access_role_arn: str | None
    kms_key: str | None
    staging: str | None

    def request(
        self, source: InputDataConfig, destination: OutputDataConfig
    ) -> StartPHIDetectionJobRequest:
        """Return the request for the whole corpus.

        Raises:
            Exit: the role is missing.
        """
        # The plan refuses locations that overlap.
        options = StartOptions(self.data_access_role_arn, self.kms_key, None, None, True)
        return options.request(source, destination)

    def location(self) -> S3Location | None:
        """Return the staging location, if there is one.

        Raises:
            Exit: it is not a location.
        """
        if self.staging is None:
            return None
        try:
            return S3Location.from_uri(self.staging)
        except RequestValidationError as error:
            rule = f"--staging ({error.shape}) {error.reason}"
        raise Exit(ExitCode.USAGE, rule)


@frozen
class Target:
    """Where a job runs.

    Attributes:
        client: a client of the service there.
        request: the request that starts the job.
        how_to_wait: returns the advice for a user who stops waiting for a job id.
        how_to_read: returns the advice for a user who stops reading the results of a job id.
        fetch: copies the results to where the user wants them. Returns the error that ends the
            command if some results were left out.
    """

    client: PHIClient
    request: StartPHIDetectionJobRequest
    how_to_wait: Callable[[str], str]
    how_to_read: Callable[[str], str]
    fetch: Callable[[], ResultsError | None]


@contextmanager
def at_aws(
    service: ServiceOptions, request: StartPHIDetectionJobRequest, clock: Clock, slot_timeout: float
) -> Generator[Target, None, None]:
    """Run the job at AWS. Its results stay where the service writes them."""
    with service.client(clock, slot_timeout) as client:
        yield Target(client, request, service.how_to_wait, service.how_to_read, lambda: None)

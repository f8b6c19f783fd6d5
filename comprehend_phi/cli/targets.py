"""Where the command line's jobs run: at AWS or in this process.

The only module outside `testing` that knows the local service, which it imports when asked for.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import field, frozen

from .._client import PHIClient
from .._jobs import Job
from .._retry import RetryPolicy
from .._service.boto3_clients import build_with_boto3
from ..errors import (
    ActiveJobLimitExceeded,
    JobError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    TransportError,
    WaitTimeout,
)
from ..models import InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest
from .exits import FAILED, TIMED_OUT, USAGE, Ended, interrupted, os_problem
from .notes import find_notes, read_note
from .output import Folder, emit_json, job_members, note

if TYPE_CHECKING:
    from .._clock import Clock


_REGION = re.compile(r"[A-Za-z0-9-]+")


def _check_region(_owner: object, _field: object, region: str | None) -> None:
    if region is not None and not _REGION.fullmatch(region):
        raise Ended(USAGE, "--region must be a name of letters, digits and hyphens, as us-east-1")


def _check_url(_owner: object, _field: object, url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none
        valid = False
    if not valid:
        raise Ended(USAGE, "--endpoint-url must be a URL as https://host or http://host:8080")


@frozen
class Connection:
    """The options that say which service is meant."""

    region: str | None = field(default=None, validator=_check_region)
    profile: str | None = None
    endpoint_url: str | None = field(default=None, validator=_check_url)

    def client(self, *, clock: Clock, slot_timeout: float = 0.0) -> PHIClient:
        """A client of that service."""
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

        def session() -> Any:
            try:
                return boto3.Session(profile_name=self.profile)
            except ProfileNotFound:
                return None

        found = build_with_boto3(session, "a session for --profile")
        if found is None:
            raise Ended(USAGE, "--profile: AWS's settings on this machine have no such profile")
        return found

    def how_to_wait(self, job_id: str) -> str:
        """How a job at that service is waited for again."""
        return f"The job goes on; to wait for it again: {self._command('wait', job_id)}"

    def how_to_read(self, job_id: str) -> str:
        """How the results of a job at that service are read again."""
        return f"The job has ended; to read its results: {self._command('results', job_id)}"

    def _command(self, name: str, job_id: str) -> str:
        options = {
            "--region": self.region,
            "--profile": self.profile,
            "--endpoint-url": self.endpoint_url,
        }
        given = (part for option, value in options.items() if value for part in (option, value))
        return shlex.join(["comprehend-phi", name, job_id, *given])


@frozen
class StartOptions:
    """The options of a start that are the same at AWS and locally."""

    role_arn: str | None
    kms_key: str | None
    job_name: str | None
    token: str | None
    allow_overlap: bool = False

    def request(
        self, source: InputDataConfig, destination: OutputDataConfig
    ) -> StartPHIDetectionJobRequest:
        """The request for a job."""
        if self.role_arn is None:
            raise Ended(USAGE, "--role-arn is missing, and so is COMPREHEND_PHI_ROLE_ARN")
        members: dict[str, Any] = {} if self.token is None else {"client_request_token": self.token}
        return StartPHIDetectionJobRequest(
            input_data_config=source,
            output_data_config=destination,
            data_access_role_arn=self.role_arn,
            kms_key=self.kms_key,
            job_name=self.job_name,
            **members,
        )


@frozen
class Place:
    """Where a job runs.

    Attributes:
        client: a client of the service there.
        request: what starts the job.
        how_to_wait: what to tell somebody who has the job's id and stops waiting.
        how_to_read: what to tell somebody who stops reading the results of the job.
        fetch: brings the results to where they were asked for; returns the error to raise in the
            end where some of them had to be left out.
    """

    client: PHIClient
    request: StartPHIDetectionJobRequest
    how_to_wait: Callable[[str], str]
    how_to_read: Callable[[str], str]
    fetch: Callable[[], ResultsError | None]


# --- At AWS ---------------------------------------------------------------------------------------


def request_for(
    source: str, destination: str, options: StartOptions
) -> StartPHIDetectionJobRequest:
    """Return the request for a job from one `s3://` URI to another.

    Raises:
        Ended: an argument is no such URI, or the two overlap and the options do not allow it.
    """
    bucket, key = _location("SOURCE", source)
    source_config = InputDataConfig(s3_bucket=bucket, s3_key=key)
    bucket, key = _location("DESTINATION", destination)
    request = options.request(source_config, OutputDataConfig(s3_bucket=bucket, s3_key=key))
    if request.locations_overlap and not options.allow_overlap:
        raise Ended(
            USAGE,
            "SOURCE and DESTINATION overlap, so a later job could read the results as notes.",
            "Use two buckets or two separate prefixes, or accept this with --allow-overlap.",
        )
    return request


def _location(argument: str, uri: str) -> tuple[str, str | None]:
    if not uri.startswith("s3://"):
        raise Ended(USAGE, f"{argument} must be like s3://bucket/prefix, or a folder with --local")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key or None


@contextmanager
def at_aws(
    connection: Connection,
    request: StartPHIDetectionJobRequest,
    clock: Clock,
    slot_timeout: float,
) -> Generator[Place, None, None]:
    """The service that the connection's options say."""
    with connection.client(clock=clock, slot_timeout=slot_timeout) as client:
        # The results stay where the service wrote them.
        yield Place(
            client, request, connection.how_to_wait, connection.how_to_read, fetch=lambda: None
        )


# --- In this process ------------------------------------------------------------------------------


_WAS_LOCAL = "The job has ended with this program: it was local."


@contextmanager
def locally(
    source: Path, destination: Path, options: StartOptions, clock: Clock
) -> Generator[Place, None, None]:
    """A local service in this process, with every file of the folder `source` in its S3."""
    if not source.is_dir():
        raise Ended(USAGE, "SOURCE must be a folder that exists, as --local is given")
    notes = find_notes(source)
    # Without keys in the locations, the keys are the paths below the folders.
    source_config = InputDataConfig(s3_bucket="source")
    destination_config = OutputDataConfig(s3_bucket="destination")
    role_arn = options.role_arn or "arn:aws:iam::123456789012:role/local"
    options = StartOptions(
        role_arn, options.kms_key or "alias/local", options.job_name, options.token
    )
    request = options.request(source_config, destination_config)
    server_class = _local_server()

    from botocore.config import Config

    session = _session_of_nobody()
    # Without proxies, since those of the environment may not leave this host out.
    config = Config(proxies={}, retries={"total_max_attempts": 1})
    with server_class() as server:
        s3 = build_with_boto3(
            lambda: session.client("s3", endpoint_url=server.endpoint_url, config=config),
            "the client for s3",
        )
        try:
            for bucket in (source_config.s3_bucket, destination_config.s3_bucket):
                s3.create_bucket(Bucket=bucket)
            for key, path in notes.items():
                s3.put_object(Bucket=source_config.s3_bucket, Key=key, Body=read_note(path))
            with PHIClient(
                session=session,
                endpoint_url=server.endpoint_url,
                config=config,
                s3_client=s3,
                clock=clock,
            ) as client:
                yield Place(
                    client,
                    request,
                    how_to_wait=lambda _: _WAS_LOCAL,
                    how_to_read=lambda _: _WAS_LOCAL,
                    fetch=lambda: _download(s3, destination_config.s3_bucket, destination),
                )
        finally:
            s3.close()


def _local_server() -> Any:
    try:
        from ..testing import LocalServer
    except ModuleNotFoundError as cause:
        missing = cause.name
    else:
        return LocalServer
    raise Ended(
        USAGE,
        f"--local: there is no {missing}; install it: pip install 'comprehend_phi[cli,testing]'",
    )


def _session_of_nobody() -> Any:
    """A boto3 session that knows nothing of this machine's accounts, profiles and settings."""
    import boto3
    from botocore.session import Session

    unset = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    variables = {"profile": unset, "config_file": nowhere, "credentials_file": nowhere}
    # boto3 wants keys to sign with; the local service checks no signature.
    return boto3.Session(
        "local",
        "local",
        region_name="us-east-1",
        botocore_session=Session(session_vars=variables),
    )


def _download(s3: Any, bucket: str, root: Path) -> ResultsError | None:
    # The output quotes the PHI that was found.
    folder = Folder(root, private=True)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in [entry["Key"] for entry in page.get("Contents", [])]:
            folder.write(key, key, s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return folder.problem


# --- The course of a job --------------------------------------------------------------------------


def submit(client: PHIClient, request: StartPHIDetectionJobRequest) -> Job:
    """Start a job. Its token is on stderr before anything is sent, its id once it is known."""
    token = request.client_request_token
    again = f"To send it again and start no second job: the same command with --token {token}"
    try:
        note(f"Request token: {token}")
        job = client.submit(request)
        # The id is told here too, because stdout may turn out to be full or closed.
        note(f"Job {job.job_id} started")
    except KeyboardInterrupt:
        ended = interrupted("Interrupted: the job may have been started.", again)
    except ActiveJobLimitExceeded as error:
        ended = Ended(FAILED, f"{error}", "--slot-timeout SECONDS waits for a free slot.", again)
    except (ServiceError, TransportError) as error:
        if not error.outcome_unknown:
            raise
        ended = Ended(FAILED, f"{error}", again)
    else:
        return job
    raise ended


@contextmanager
def waiting(
    job_id: str, how_to_wait: Callable[[str], str], *, as_json: bool
) -> Generator[None, None, None]:
    """Say how to go on with a job where the wait for it ends without its end.

    With `as_json`, a job that comes to no good end is printed all the same.
    """
    try:
        yield
    except KeyboardInterrupt:
        ended = interrupted(f"Interrupted in the wait for job {job_id}", how_to_wait(job_id))
    except WaitTimeout as error:
        unheard = error.last_poll_error
        ended = Ended(
            TIMED_OUT,
            f"Job {job_id} was {error.job.job_status} after {error.timeout:g} seconds of waiting."
            + (f" The last poll failed: {unheard}" if unheard else ""),
            how_to_wait(job_id),
        )
        if as_json:
            emit_json(job_members(error.job))
    except JobError as error:
        if as_json:
            emit_json(job_members(error.job))
        raise
    except (ServiceError, TransportError) as error:
        # Nobody knows how the job is, but where the service knows no such job.
        advice = () if isinstance(error, ResourceNotFoundException) else (how_to_wait(job_id),)
        ended = Ended(FAILED, str(error), *advice)
        if as_json:
            emit_json({"job_id": job_id, "job_status": None})
    else:
        return
    raise ended


@contextmanager
def reading(job_id: str, how_to_read: Callable[[str], str]) -> Generator[None, None, None]:
    """Say how to read a job's results again if reading or writing them ends early."""
    try:
        yield
    except KeyboardInterrupt:
        ended = interrupted(
            f"Interrupted while reading the results of job {job_id}", how_to_read(job_id)
        )
    except ResourceNotFoundException:
        raise
    except (ServiceError, TransportError) as error:
        ended = Ended(FAILED, str(error), how_to_read(job_id))
    except OSError as error:
        ended = Ended(FAILED, os_problem(error), how_to_read(job_id))
    else:
        return
    raise ended


def the_same_command(_job_id: str) -> str:
    """Return how to read the results again if that is all that the command does."""
    return "The same command reads them again."

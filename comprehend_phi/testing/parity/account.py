"""The account that is asked: what a question can do there, and what it can look at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import evolve, field, frozen

from ..._client import PHIClient
from ..._client_base import s3_of
from ..._retry import Retrier
from ..._service.attempts import run_attempt
from ...errors import InvalidRequestException, PlaintextOutputWarning, ServiceError
from ...models import (
    InputDataConfig,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
    request_token,
)
from ..preconditions import NO_SUCH_ROLE
from .answers import NotAnswered, Reason
from .outputs import Output
from .setups import SETUPS, Setup
from .state import State

FOLDER = "comprehend-phi-parity/"  # below it, each run has a folder of its own

_Response = TypeVar("_Response")

_BY_NAME = {setup.name: setup for setup in SETUPS}


@frozen(kw_only=True)
class Target:
    """Where the kit works. None of this is in the report.

    Attributes:
        role_arn: the role with which jobs read and write.
        bucket: the bucket for notes and results.
        kms_key: the user's key in both forms, "arn" and "short"; empty if there is none.
    """

    role_arn: str = field(repr=False)
    bucket: str = field(repr=False)
    kms_key: dict[str, str] = field(factory=dict[str, str], repr=False)


class Account:
    """What questions can do in the account, and what they can look at.

    Args:
        client: the client that asks.
        target: where it works.
        state: what is known about the jobs of this run.

    Attributes:
        client, target, state: the arguments.
        refusals: why the service refused to start a job, by its name.
        ended: the properties of the jobs that have ended, by their names.
    """

    def __init__(self, client: PHIClient, target: Target, state: State) -> None:
        self.client = client
        self.target = target
        self.state = state
        self.refusals: dict[str, ServiceError] = {}
        self.ended: dict[str, JobProperties] = {}
        self._outputs: dict[str, Output] = {}

    # --- What questions look at ---

    def job_id(self, name: str) -> str:
        """Return the id of a job that was started."""
        if name in self.refusals:
            raise NotAnswered(Reason.JOB_NOT_STARTED, self.refusals[name].code)
        return self.state.jobs[name]

    def properties(self, name: str) -> JobProperties:
        """Return the properties of a job that has ended."""
        self.job_id(name)
        if name not in self.ended:
            raise NotAnswered(Reason.JOB_NOT_ENDED)
        return self.ended[name]

    def output(self, name: str) -> Output:
        """Return what a job wrote."""
        job = self.properties(name)
        if name not in self._outputs:
            failed: NotAnswered | None = None
            try:
                self._outputs[name] = Output(
                    s3_of(self.client).storage(),
                    self.target.bucket,
                    self.folder(name),
                    job.job_id,
                )
            except NotAnswered as error:
                failed = error
            if failed is not None:
                has_failed = job.job_status is JobStatus.FAILED
                raise NotAnswered(Reason.JOB_FAILED) if has_failed else failed
        return self._outputs[name]

    # --- What questions do ---

    def start(self, request: StartPHIDetectionJobRequest) -> str:
        """Start a job and return its id. The notes are invented, so results need no key."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PlaintextOutputWarning)
            return self.client.start_phi_detection_job(request).job_id

    def start_again(self, name: str, **changes: Any) -> str:
        """Start a job a second time with its token.

        Args:
            name: the job.
            changes: the fields of the request that are different this time.

        Returns:
            "same-job", "another-job" or "refused".
        """
        first = self.job_id(name)
        try:
            job_id = self.start(evolve(self.request(name), **changes))
        except InvalidRequestException:
            return "refused"
        if job_id == first:
            return "same-job"
        self.state.add_other(job_id)
        return "another-job"

    def stop(self, name: str) -> str:
        """Ask the service to stop a job, and return "accepted" or "refused"."""
        try:
            self.client.stop_phi_detection_job(self.job_id(name))
        except InvalidRequestException:
            return "refused"
        return "accepted"

    def send(self, operation: str, send: Callable[[Any], _Response]) -> _Response:
        """Send a request that the client itself would refuse, with its boto3 client."""
        s3 = s3_of(self.client)
        return Retrier(s3.policy, s3.clock).call(
            lambda: run_attempt(lambda: send(s3.connection.client), operation, {})
        )

    # --- Requests ---

    def folder(self, name: str) -> str:
        """Return the key of the folder with everything that belongs to a job."""
        return f"{FOLDER}{self.state.run}/{name}/"

    def request(self, name: str) -> StartPHIDetectionJobRequest:
        """Return the request of a job. It is the same whenever a run continues."""
        setup, run = _BY_NAME[name], self.state.run
        return StartPHIDetectionJobRequest(
            input_data_config=InputDataConfig(
                s3_bucket=self._input_bucket(setup), s3_key=self.folder(name) + setup.input_key
            ),
            output_data_config=OutputDataConfig(
                s3_bucket=self.target.bucket, s3_key=self.folder(name) + setup.output_key
            ),
            data_access_role_arn=self._role(setup),
            job_name=f"parity-{run}-{name}",
            kms_key=self.target.kms_key[setup.key_form] if setup.key_form else None,
            client_request_token=request_token("comprehend_phi parity", run, name),
        )

    def _input_bucket(self, setup: Setup) -> str:
        is_missing = setup.missing == "bucket"
        return f"no-such-bucket-{self.state.run}" if is_missing else self.target.bucket

    def _role(self, setup: Setup) -> str:
        if setup.missing != "role":
            return self.target.role_arn
        path = self.target.role_arn.rpartition("/")[0]
        return f"{path}/{NO_SUCH_ROLE}-{self.state.run}"

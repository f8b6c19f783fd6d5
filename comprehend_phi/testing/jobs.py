"""A job of the local service, and how time moves it from state to state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import define, frozen

from .._keys import folder_key
from ..corpus.limits import KEPT_FOR
from ..models import JobStatus
from .rules import Rules

MODEL_VERSION = "0.1.0"


@frozen(kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: the final state.
        message: why the job failed or skipped files, if it did.
        manifest: the key of the manifest, if the job wrote one.
    """

    status: JobStatus
    message: str | None = None
    manifest: str | None = None


@define(kw_only=True)
class LocalJob:
    """One job.

    Attributes:
        number: the position of the job among all starts of the service.
        request: the members of the request that started the job.
        duration: how long the job runs if nobody stops it.
        outcome: how the job ended, or None while it runs.
    """

    job_id: str
    number: int
    account_id: str
    region: str
    request: Mapping[str, Any]
    submitted: datetime
    duration: timedelta
    rules: Rules
    started: bool = False
    stop_requested: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None

    @property
    def status(self) -> JobStatus:
        """The state of the job."""
        if self.outcome is not None:
            return self.outcome.status
        if self.stop_requested is not None:
            return JobStatus.STOP_REQUESTED
        return JobStatus.IN_PROGRESS if self.started else JobStatus.SUBMITTED

    @property
    def expires(self) -> datetime:
        """When the service forgets the job."""
        return self.submitted.replace(microsecond=0) + KEPT_FOR

    @property
    def name(self) -> str:
        """The name of the job's output folder."""
        return f"{self.account_id}-PHIDetection-{self.job_id}"

    @property
    def folder(self) -> str:
        """The key of the job's output folder, with a slash at its end."""
        key = self.request["OutputDataConfig"].get("S3Key", "")
        if key.endswith("/") and self.rules.final_slash == "kept":
            key += "/"
        return f"{folder_key(key) if self.rules.output_folder == 'below' else key}{self.name}/"

    def advance(self, now: datetime, run: Callable[[LocalJob], Outcome]) -> None:
        """Move on to the state that the job has at `now`.

        The job is SUBMITTED for a fifth of its duration. Stopping it takes a fifth as well.

        Args:
            now: the current time.
            run: does the work of the job. It is called once, when the job completes.
        """
        if self.outcome is not None:
            return
        if self.stop_requested is not None:
            end = self.stop_requested + self.duration / 5
            if now >= end:
                self.ended, self.outcome = end, Outcome(status=JobStatus.STOPPED)
            return
        self.started = now >= self.submitted + self.duration / 5
        end = self.submitted + self.duration
        if now >= end:
            self.ended = end
            self.outcome = run(self)

    def stop(self, now: datetime) -> None:
        """Stop the job, which has not ended."""
        self.stop_requested = now
        if self.rules.state_after_stop == "STOPPED":
            self.ended, self.outcome = now, Outcome(status=JobStatus.STOPPED)

    def properties(self) -> dict[str, Any]:
        """Return the job as the service describes it. Members without a value are left out."""
        source, target = self.request["InputDataConfig"], self.request["OutputDataConfig"]
        output_key = target.get("S3Key")
        if output_key is None or self.rules.described_output_key == "folder":
            output_key = self.folder
        members = {
            "JobId": self.job_id,
            "JobName": self.request.get("JobName"),
            "JobStatus": self.status.value,
            "Message": self.outcome and self.outcome.message,
            "SubmitTime": self.submitted,
            "EndTime": self.ended,
            "ExpirationTime": self.expires,
            "InputDataConfig": {"S3Bucket": source["S3Bucket"], "S3Key": source.get("S3Key", "")},
            "OutputDataConfig": {"S3Bucket": target["S3Bucket"], "S3Key": output_key},
            "LanguageCode": self.request["LanguageCode"],
            "DataAccessRoleArn": self.request["DataAccessRoleArn"],
            "ManifestFilePath": self._manifest_path(target["S3Bucket"]),
            "KMSKey": self.request.get("KMSKey"),
            "ModelVersion": MODEL_VERSION,
        }
        return {name: value for name, value in members.items() if value is not None}

    def _manifest_path(self, bucket: str) -> str | None:
        if self.outcome is None or self.outcome.manifest is None:
            return None
        key = self.outcome.manifest
        return {"key": key, "uri": f"s3://{bucket}/{key}", "absent": None}[self.rules.manifest_path]

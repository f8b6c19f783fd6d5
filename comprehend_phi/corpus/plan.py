"""A plan: the jobs that together read every note of a corpus once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

import attrs
from attrs import field, frozen

from .._keys import folder_key
from .._shapes import TEXT, check_argument
from .._wording import amount, join_first, plural
from ..errors import ComprehendPHIError, RequestValidationError
from ..models import StartPHIDetectionJobRequest
from .limits import ServiceLimits
from .report import InputReport

if TYPE_CHECKING:
    from .._results.storage import ListedObject

_VERSION = 1  # of the JSON
_HASH_BYTES = 16
_FOLDER_DIGITS = 32  # digits of the token in the name of a staged job's folder
_SUM_RANGE = 1 << 8 * _HASH_BYTES


def hash_key(key: str) -> int:
    """Return a 128-bit hash of a key. A `key_sum` adds these up."""
    return _hash(key)


def hash_file(file: ListedObject) -> int:
    """Return a 128-bit hash of a key, its size and its ETag. A `listing_sum` adds these up."""
    return _hash(f"{file.key}\0{file.size}\0{file.etag or ''}")


def add_hashes(one: int, other: int) -> int:
    """Return the sum of two sums of hashes. The order of the hashes does not matter."""
    return (one + other) % _SUM_RANGE


def _hash(text: str) -> int:
    encoded = text.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=_HASH_BYTES).digest())


def staging_folder(key: str | None, token: str) -> str:
    """Return the key of the folder with the copies for a job.

    Args:
        key: the staging location; None is the whole bucket.
        token: the token of the job's request.
    """
    return f"{folder_key(key)}{token[:_FOLDER_DIGITS]}/"


class PlanError(ComprehendPHIError):
    """The corpus cannot be planned as asked. Nothing was written or started.

    The message names up to 20 folders or keys, because somebody has to fix them.

    Attributes:
        folders: folders that cannot become a job although they contain files of their own; at most
            1,000.
        keys: keys that do not exist, or that would be too long; at most 1,000.
        job_count: the number of jobs that the corpus would need; None if that is not the problem.
    """

    _KEPT = 1_000

    def __init__(
        self,
        problem: str,
        *,
        folders: Sequence[str] = (),
        keys: Sequence[str] = (),
        job_count: int | None = None,
    ) -> None:
        super().__init__(problem)
        self.folders: tuple[str, ...] = tuple(folders[: self._KEPT])
        self.keys: tuple[str, ...] = tuple(keys[: self._KEPT])
        self.job_count = job_count

    def __str__(self) -> str:
        names = self.folders or self.keys
        return f"{self.args[0]}: {join_first(names)}" if names else f"{self.args[0]}"


class PlanChangedError(ComprehendPHIError):
    """The files of a planned job are not those that were planned. The job must not be started.

    Attributes:
        index: the place of the job in the plan, from 0.
        file_count: the number of files that were planned.
        found_count: the number of files that are there now.
    """

    def __init__(self, *, index: int, file_count: int, found_count: int) -> None:
        super().__init__()
        self.index = index
        self.file_count = file_count
        self.found_count = found_count

    def __str__(self) -> str:
        if self.found_count == self.file_count:
            change = "its file was replaced"
            if self.file_count > 1:
                change = f"some of its {self.file_count:,} files were replaced or deleted"
        else:
            are = plural(self.found_count, "is", "are")
            had = amount(self.file_count, "file")
            change = f"it had {had}, and now there {are} {self.found_count:,}"
        return (
            f"Job {self.index} of the plan has changed since it was planned: {change}. Plan the"
            " files of this job alone, under another name, and run that plan with another ledger."
            " Do not plan the whole corpus again: other jobs could get other files, too, and files"
            " that were processed would be billed twice."
        )


@frozen(kw_only=True)
class PlannedJob:
    """One job of a plan.

    Attributes:
        index: the place of the job in the plan, from 0.
        request: the request that starts the job. Its token and its job name depend on the plan's
            name, on the planned request and on the files of this job, so the same files get the
            same token.
        file_count: number of files.
        total_bytes: size of these files, in bytes.
        first_key, last_key: the first and the last key in the order of S3. Not in the repr.
        staged: whether the files have to be copied to the request's input location first. They are
            then all files from `first_key` to `last_key` that AWS would not skip, or those of
            `JobPlan.keys`. Otherwise, they are all files in the folder that the request names.
        listing_sum: the sum of 128-bit hashes of all keys with their sizes and ETags.
        key_sum: the sum of 128-bit hashes of all keys.
    """

    index: int
    request: StartPHIDetectionJobRequest
    file_count: int
    total_bytes: int
    first_key: str = field(repr=False)
    last_key: str = field(repr=False)
    staged: bool
    listing_sum: int
    key_sum: int


@frozen(kw_only=True)
class JobPlan:
    """The jobs that together read every note of a corpus once. `plan_jobs` makes a plan.

    Attributes:
        name: the name of the plan, with which all job names begin. Not in the repr.
        request: the planned request: the corpus as if it were one job.
        limits: the quotas that the jobs keep.
        jobs: the jobs, in the order of their keys.
        report: what the corpus contains. It lists the files that AWS would skip.
        keys: the planned keys in ascending order if `plan_keys` made the plan, otherwise None. Not
            in the repr.
    """

    name: str = field(repr=False)
    request: StartPHIDetectionJobRequest
    limits: ServiceLimits
    jobs: tuple[PlannedJob, ...]
    report: InputReport
    keys: tuple[str, ...] | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Return the plan as JSON, for a file. It contains keys and names, which may name people.

        Its size depends on the number of jobs, and not on the number of files, except for the keys
        that you passed to `plan_keys`.
        """
        return json.dumps(
            {
                "version": _VERSION,
                "name": self.name,
                "request": self.request.to_dict(),
                "limits": attrs.asdict(self.limits),
                "jobs": [_job_to_dict(job) for job in self.jobs],
                "report": self.report.to_dict(),
                "keys": self.keys,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the plan from what `to_json` returned, here or on another machine.

        Raises:
            RequestValidationError: `text` is not a plan that this version of the package can read.
        """
        owner = f"{cls.__name__}.from_json"
        check_argument(owner, "text", TEXT, text)
        try:
            members = json.loads(text)
            if members["version"] == _VERSION:
                return cls(
                    name=members["name"],
                    request=StartPHIDetectionJobRequest.from_dict(members["request"]),
                    limits=ServiceLimits(**members["limits"]),
                    jobs=tuple(map(_job_from_dict, members["jobs"])),
                    report=InputReport.from_dict(members["report"]),
                    keys=None if members["keys"] is None else tuple(members["keys"]),
                )
        except (KeyError, TypeError, ValueError):
            pass  # raised below: the cause may quote the text
        raise RequestValidationError(
            owner=owner,
            field="text",
            shape="JSON",
            reason="must be what to_json returned, in this version of the package; plan again",
        )


def staged_key(plan: JobPlan, job: PlannedJob, key: str) -> str:
    """Return the key that a job reads, for the key of a note of the corpus.

    That is the key of the note's copy if the job is staged, and otherwise the note's own key.
    """
    return _job_folder(job) + key[len(_corpus_folder(plan)) :] if job.staged else key


def source_key(plan: JobPlan, job: PlannedJob, key: str) -> str:
    """Return the key of a note of the corpus, for a key that a job reads."""
    return _corpus_folder(plan) + key[len(_job_folder(job)) :] if job.staged else key


def _job_folder(job: PlannedJob) -> str:
    return folder_key(job.request.input_data_config.s3_key)


def _corpus_folder(plan: JobPlan) -> str:
    return folder_key(plan.request.input_data_config.s3_key)


def _job_to_dict(job: PlannedJob) -> dict[str, Any]:
    return {
        "index": job.index,
        "request": job.request.to_dict(),
        "file_count": job.file_count,
        "total_bytes": job.total_bytes,
        "first_key": job.first_key,
        "last_key": job.last_key,
        "staged": job.staged,
        # Many readers of JSON round large integers.
        "listing_sum": f"{job.listing_sum:032x}",
        "key_sum": f"{job.key_sum:032x}",
    }


def _job_from_dict(members: Mapping[str, Any]) -> PlannedJob:
    values = dict(members)
    values["request"] = StartPHIDetectionJobRequest.from_dict(values["request"])
    for name in ("listing_sum", "key_sum"):
        values[name] = int(values[name], 16)
    return PlannedJob(**values)

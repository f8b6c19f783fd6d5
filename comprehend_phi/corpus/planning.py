"""Plan the jobs for a corpus: list it once, and split it into jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, cast

from attrs import evolve

from .._client import PHIClient
from .._client_base import s3_of
from .._keys import folder_key
from .._results.storage import ListedObject
from .._shapes import JOB_NAME, InstanceShape, IntegerShape, check_argument
from .._threads import Pool, map_in_order
from ..errors import MissingBucketError, RequestValidationError
from ..models import (
    START_REQUEST,
    InputDataConfig,
    S3Location,
    StartPHIDetectionJobRequest,
    request_token,
)
from .limits import LIMITS_SHAPE, ServiceLimits
from .plan import JobPlan, PlanError, PlannedJob, add_hashes, staging_folder
from .report import InputReport, ProblemCode
from .split import Part, Splitter
from .steps import InputCheck, run
from .tally import MAX_KEY_BYTES, Tally

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage

_LIMITS = ServiceLimits()
_CLIENT = InstanceShape(PHIClient)
_STAGING = InstanceShape(S3Location, "such as S3Location('bucket', 'folder')")
_MAX_JOBS = IntegerShape("int", 1)

# Each job is named `<name>-<some digits of its token>`.
_NAME_DIGITS = 12
_NAME = evolve(JOB_NAME, max_length=cast("int", JOB_NAME.max_length) - _NAME_DIGITS - 1)

_JOB_PROBLEMS = frozenset(
    {
        ProblemCode.NO_FILES,
        ProblemCode.NO_SUCH_BUCKET,
        ProblemCode.WRONG_REGION,
        ProblemCode.OUTPUT_INSIDE_INPUT,
    }
)
_UNLIMITED = 2**63  # the corpus as a whole may have any size


def plan_jobs(
    client: PHIClient,
    request: StartPHIDetectionJobRequest,
    *,
    name: str,
    staging: S3Location | None = None,
    limits: ServiceLimits = _LIMITS,
    max_jobs: int = 1_000,
) -> JobPlan:
    """Return the jobs that together read every note of a corpus once. Write and start nothing.

    This lists the input location once, in memory that does not depend on the number of files or
    folders. The same name, request and listing always give the same plan.

    A folder that is small enough for one job, and at least half as large as a job may be, becomes a
    job as it is. With `staging`, all other files form ranges of neighboring keys. The files of a
    range have to be copied to a folder of their own below `staging` before its job starts. If a
    range would be one whole folder, that folder becomes a job without copies. Without `staging`,
    each folder that is small enough becomes a job, unless the folder around it is, too.

    Folders whose path contains `//` are never a job, because AWS does not allow such paths. Of
    files that AWS would skip, a range contains none. They are in the plan's report. A folder's job
    contains all files of the folder.

    Args:
        client: its S3 connection is used, with its retries.
        request: the whole corpus, as if it were one job. Its input key is a folder, with or without
            a slash at the end. Its token and its job name are not used.
        name: 1 to 243 characters that a job name may have. All job names begin with it. To process
            the same files again, choose another name.
        staging: the folder for copies. It must not overlap the input or output location.
        limits: AWS's quotas, which each job keeps.
        max_jobs: the most jobs that the plan may have.

    Raises:
        RequestValidationError: an argument has a wrong type or value.
        PlanError: the corpus cannot be planned. A bucket does not exist or is in another region,
            there is nothing to process, the locations overlap, there would be too many jobs, staged
            keys would be too long, or S3 does not list in ascending order. Without `staging`: a
            folder that cannot become a job has files of its own.
        ResultsError: S3 refuses to list the input location.
        ServiceError, TransportError: S3 cannot be reached, or the credentials have expired.
    """
    _check_arguments("plan_jobs", client, request, name, limits)
    check_argument("plan_jobs", "staging", _STAGING, staging, optional=True)
    check_argument("plan_jobs", "max_jobs", _MAX_JOBS, max_jobs)
    planning = _Planning(client, request, name, staging, limits)
    splitter = planning.splitter(max_jobs)

    def add(file: ListedObject, is_usable: bool) -> None:
        splitter.add(file, is_usable=is_usable)

    with Pool(1) as pool, closing(planning.check(add).steps(pool)) as steps:
        report = run(steps)
    planning.require_sound(report)
    return planning.plan(splitter.parts(), report)


def plan_keys(
    client: PHIClient,
    request: StartPHIDetectionJobRequest,
    keys: Iterable[str],
    *,
    name: str,
    staging: S3Location,
    limits: ServiceLimits = _LIMITS,
) -> JobPlan:
    """Return the jobs that together read the notes with these keys once. Write and start nothing.

    Use it to run skipped files again:

        skipped = [file.input_key for file in results.unprocessed]
        plan = plan_keys(client, request, skipped, name="monday-again", staging=staging)

    This asks S3 for each key, many at a time. All jobs are staged. The plan contains its keys.
    Files that AWS would skip for a reason known from the listing are not planned. They are in the
    plan's report.

    Args:
        client: see `plan_jobs`.
        request: see `plan_jobs`.
        keys: keys below the input key, in any order. A key that occurs twice counts once.
        name: see `plan_jobs`. Choose another name than that of the plan that skipped the files.
        staging: the folder for copies. It must not overlap the input or output location.
        limits: see `plan_jobs`.

    Raises:
        RequestValidationError: an argument has a wrong type or value.
        PlanError: a key does not exist or is not below the input key, or see `plan_jobs`.
        ResultsError, ServiceError, TransportError: see `plan_jobs`.
    """
    _check_arguments("plan_keys", client, request, name, limits)
    check_argument("plan_keys", "staging", _STAGING, staging)
    planning = _Planning(client, request, name, staging, limits)
    wanted = sorted(_strings(keys))
    if foreign := [key for key in wanted if not key.startswith(planning.folder)]:
        raise PlanError("These keys are not below the input key", keys=foreign)
    splitter = planning.splitter(max_jobs=_UNLIMITED, keep_folders=False)
    planned: list[str] = []
    missing: list[str] = []
    look_up = partial(planning.storage.find, request.input_data_config.s3_bucket)
    with Pool(planning.storage.connections) as pool:
        with closing(planning.check(None).check_buckets(pool)) as steps:
            has_bucket = run(steps)
        if has_bucket:
            with closing(map_in_order(pool, look_up, wanted)) as calls:
                for key, call in calls:
                    file = call.result()
                    if file is None:
                        missing.append(key)
                    elif planning.tally.add_file(file.key, file.size, file.storage_class):
                        planning.tally.add_price(file.size)
                        splitter.add(file, is_usable=True)
                        planned.append(key)
    if missing:
        raise PlanError("These keys do not exist", keys=missing)
    report = planning.tally.report(was_listed=has_bucket)
    planning.require_sound(report)
    return planning.plan(splitter.parts(), report, keys=tuple(planned))


class _Planning:
    """One call of `plan_jobs` or `plan_keys`.

    Attributes:
        folder: the input key with a final slash; "" for the whole bucket.
        storage: S3.
        tally: takes files and problems.

    Raises:
        PlanError: the staging location cannot be used.
    """

    def __init__(
        self,
        client: PHIClient,
        request: StartPHIDetectionJobRequest,
        name: str,
        staging: S3Location | None,
        limits: ServiceLimits,
    ) -> None:
        source = request.input_data_config
        self.folder = folder_key(source.s3_key)
        # With the final slash, no job reads names that only begin like the folder.
        self._request = evolve(
            request, input_data_config=evolve(source, s3_key=self.folder or None)
        )
        self._planned_request = request
        self._name = name
        self._staging = staging
        self._limits = limits
        self._region = s3_of(client).region
        self.storage: Boto3Storage = s3_of(client).storage()
        unlimited = evolve(limits, max_job_bytes=_UNLIMITED, max_job_files=_UNLIMITED)
        self.tally = Tally(self._request, unlimited, None)
        if staging is not None:
            self._check_staging(staging)

    def splitter(self, max_jobs: int, *, keep_folders: bool = True) -> Splitter:
        """Return what splits the files into parts."""
        return Splitter(
            self.folder,
            self._limits,
            staged_key_bytes=None
            if self._staging is None
            else MAX_KEY_BYTES - len(staging_folder(self._staging.key, "0" * 64).encode()),
            max_jobs=max_jobs,
            keep_folders=keep_folders,
        )

    def check(self, on_file: Callable[[ListedObject, bool], object] | None) -> InputCheck:
        """Return the check of the input, which calls `on_file` with each file."""
        return InputCheck(
            self.storage,
            self._request,
            self._region,
            self.tally,
            read_notes=False,
            on_progress=None,
            on_file=on_file,
        )

    def require_sound(self, report: InputReport) -> None:
        """Raise `PlanError` if every job would fail, or if jobs would read results as notes."""
        problems = [problem.detail for problem in report.problems if problem.code in _JOB_PROBLEMS]
        if problems:
            raise PlanError(f"The locations cannot be used: {'; '.join(problems)}")

    def plan(
        self, parts: Sequence[Part], report: InputReport, keys: tuple[str, ...] | None = None
    ) -> JobPlan:
        """Return the plan that has these parts as jobs."""
        return JobPlan(
            name=self._name,
            request=self._planned_request,
            limits=self._limits,
            jobs=tuple(self._job(index, part) for index, part in enumerate(parts)),
            report=report,
            keys=keys,
        )

    def _job(self, index: int, part: Part) -> PlannedJob:
        sums = part.everything
        listing_sum = add_hashes(sums.listing_sum, 0)
        # The token depends on the request without the request's own token and name.
        common = evolve(self._request, job_name=None, client_request_token="0" * 64)
        token = request_token(
            "comprehend_phi.corpus",
            self._name,
            json.dumps(common.to_dict(), sort_keys=True),
            # A token always belongs to the same parameters, so it depends on the input location.
            "folder" if part.folder is not None else "staging",
            part.folder if part.folder is not None else cast("S3Location", self._staging).uri,
            f"{listing_sum:032x}",
        )
        if part.folder is None:
            staging = cast("S3Location", self._staging)
            source = InputDataConfig(
                s3_bucket=staging.bucket, s3_key=staging_folder(staging.key, token)
            )
        else:
            source = evolve(self._request.input_data_config, s3_key=part.folder or None)
        return PlannedJob(
            index=index,
            request=evolve(
                self._request,
                input_data_config=source,
                job_name=f"{self._name}-{token[:_NAME_DIGITS]}",
                client_request_token=token,
            ),
            file_count=sums.file_count,
            total_bytes=sums.total_bytes,
            first_key=sums.first_key,
            last_key=sums.last_key,
            staged=part.folder is None,
            listing_sum=listing_sum,
            key_sum=add_hashes(sums.key_sum, 0),
        )

    def _check_staging(self, staging: S3Location) -> None:
        folder = folder_key(staging.key)
        source, target = self._request.input_data_config, self._request.output_data_config
        for role, bucket, key in (
            ("input", source.s3_bucket, self.folder),
            ("output", target.s3_bucket, folder_key(target.s3_key)),
        ):
            if bucket == staging.bucket and (folder.startswith(key) or key.startswith(folder)):
                raise PlanError(
                    f"The staging location and the {role} location overlap. Choose a folder outside"
                    " both locations, or another bucket"
                )
        try:
            region = self.storage.region(staging.bucket)
        except MissingBucketError:
            problem = "the bucket does not exist"
        else:
            if region in (None, self._region):
                return
            problem = f"the bucket is in {region}, but the client uses {self._region}"
        raise PlanError(f"The staging location cannot be used: {problem}")


def _check_arguments(
    owner: str, client: object, request: object, name: object, limits: object
) -> None:
    check_argument(owner, "client", _CLIENT, client)
    check_argument(owner, "request", START_REQUEST, request)
    check_argument(owner, "name", _NAME, name)
    check_argument(owner, "limits", LIMITS_SHAPE, limits)


def _strings(keys: object) -> set[str]:
    """Return the keys, each once."""
    # A string is iterable too, and so are its letters.
    if isinstance(keys, Iterable) and not isinstance(keys, (str, bytes)):
        each = set(cast("Iterable[object]", keys))
        if each and all(isinstance(key, str) and key for key in each):
            return cast("set[str]", each)
        reason = "must contain one or more strings that are not empty, and nothing else"
    else:
        reason = f"must be an iterable of strings, not {type(keys).__name__}"
    raise RequestValidationError(owner="plan_keys", field="keys", shape="str", reason=reason)

"""The files of a planned job, as S3 lists them now."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from .._keys import folder_key
from .._threads import Pool, map_in_order
from .plan import JobPlan, PlannedJob
from .tally import Tally

if TYPE_CHECKING:
    from .._results.boto3_storage import Boto3Storage
    from .._results.storage import ListedObject


def planned_files(
    storage: Boto3Storage, plan: JobPlan, job: PlannedJob, pool: Pool
) -> Iterator[ListedObject]:
    """List the files of a job again, page by page, in ascending order of their keys.

    If they have not changed, these are exactly the planned ones. Pages of a listing are read in
    this thread. `pool` looks up the keys of a plan that `plan_keys` made.

    Raises:
        ResultsError: S3 refuses to list the input location.
        ServiceError, TransportError: all attempts failed.
    """
    bucket = plan.request.input_data_config.s3_bucket
    if not job.staged:
        folder = job.request.input_data_config.s3_key or ""
        return (file for file in listed(storage, bucket, folder) if not file.key.endswith("/"))
    files = (
        _range(storage, plan, job)
        if plan.keys is None
        else _found(storage, bucket, plan.keys, job, pool)
    )
    tally = Tally(plan.request, plan.limits, None)
    return (file for file in files if tally.add_file(file.key, file.size, file.storage_class))


def listed(
    storage: Boto3Storage, bucket: str, prefix: str, after: str | None = None
) -> Iterator[ListedObject]:
    """List the objects whose keys begin with `prefix`, page by page."""
    for page in storage.pages(bucket, prefix, after=after):
        yield from page.objects


def _range(storage: Boto3Storage, plan: JobPlan, job: PlannedJob) -> Iterator[ListedObject]:
    """List the files from the first key of a job to its last."""
    source = plan.request.input_data_config
    # S3 can only list the keys after one.
    first = storage.find(source.s3_bucket, job.first_key)
    if first is not None:
        yield first
    for file in listed(storage, source.s3_bucket, folder_key(source.s3_key), job.first_key):
        if file.key > job.last_key:
            return
        yield file


def _found(
    storage: Boto3Storage, bucket: str, keys: tuple[str, ...], job: PlannedJob, pool: Pool
) -> Iterator[ListedObject]:
    """Look up the planned keys of a job. Leave out those that do not exist any more."""
    begin, end = bisect_left(keys, job.first_key), bisect_right(keys, job.last_key)
    find = partial(storage.find, bucket)
    with closing(map_in_order(pool, find, keys[begin:end])) as calls:
        for _, call in calls:
            file = call.result()
            if file is not None:
                yield file

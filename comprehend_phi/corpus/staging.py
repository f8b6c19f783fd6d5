"""Copies the files of a planned job to a folder of their own, and deletes the copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from .._client_base import s3_of
from .._keys import folder_key
from .._results.outages import FailedFiles
from .._results.storage import ListedObject
from .._threads import Pool, map_in_order
from .._wording import amount, join_first
from ..errors import (
    ComprehendPHIError,
    MissingObjectError,
    RequestValidationError,
    ResultsError,
    ServiceError,
    SourceChangedError,
    TransportError,
    UnwritableObjectError,
)
from .objects import S3Objects
from .plan import (
    JobPlan,
    PlanChangedError,
    PlannedJob,
    add_hashes,
    hash_file,
    staged_key,
    staging_folder,
)
from .relisting import listed, planned_files
from .split import Sums

if TYPE_CHECKING:
    from .._client import PHIClient
    from .._results.boto3_storage import Boto3Storage

# The metadata of a copy that contains the ETag of its source.
_SOURCE_ETAG = "comprehend-phi-source-etag"

_MOST_DELETED = 1_000  # keys in one request


class StagingError(ComprehendPHIError):
    """Some files of a job could not be copied, or the copies are not complete.

    The message names up to 20 files, so that you can find and fix them. After that, run the plan
    again: files that were already copied are not copied again.

    Attributes:
        index: the place of the job in the plan, from 0.
        failed: the reason for each file that failed by its key, at most 1,000. A reason begins with
            the name of an error class and contains no text.
        failed_count: the number of files that failed; complete.
    """

    def __init__(
        self,
        problem: str,
        *,
        index: int,
        failed: Mapping[str, str] | None = None,
        failed_count: int = 0,
    ) -> None:
        super().__init__(problem)
        self.index = index
        self.failed: Mapping[str, str] = dict(failed or {})
        self.failed_count = failed_count

    def __str__(self) -> str:
        shown = join_first([*self.failed.values()], count=self.failed_count, separator="; ")
        return f"Job {self.index} of the plan: {self.args[0]}{f': {shown}' if shown else ''}"


class Staging:
    """The staged copies of a plan's jobs. Threads may share it, also for several jobs at a time.

    S3 copies the files itself, as many at a time as the client's connection pool allows. The notes
    do not pass through this machine.

    Args:
        client: its S3 connection is used, with its retries.
        plan: the plan. It must not be changed after it was made.
    """

    def __init__(self, client: PHIClient, plan: JobPlan) -> None:
        self._s3 = s3_of(client)
        self._plan = plan
        self._pool = Pool(self._s3.storage().connections)

    def check(self, job: PlannedJob) -> None:
        """List the files of a job again, and check that they are the planned ones.

        Raises:
            PlanChangedError: they are not: keys, sizes or ETags differ.
            ResultsError: S3 refuses to list the input location.
            ServiceError, TransportError: all attempts failed.
        """
        sums = Sums()
        for file in self._planned_files(job):
            sums.add_file(file, hash_file(file), 0)
        self._require_planned(job, sums)

    def copy(self, job: PlannedJob) -> None:
        """Copy the files of a staged job to its folder, and check that the copies are complete.

        Whatever else is in the folder is deleted. This can be repeated: a file is not copied again
        if the folder has a copy of the same version. For a job that is not staged, only `check`.

        Raises:
            PlanChangedError: the files are not the planned ones.
            StagingError: some files could not be copied, although the others were tried. Or the
                folder does not contain exactly the copies.
            UnwritableObjectError: S3 has refused to copy 100 files in a row.
            MissingBucketError: the bucket of the notes or of the copies does not exist.
            ResultsError: S3 refuses to list a location.
            ServiceError, TransportError: S3 cannot be reached, or the credentials have expired.
        """
        self.check(job)
        if not job.staged:
            return
        copying = _Copying(self._s3.storage(), self._plan, job, self._pool)
        copying.run()
        self._require_planned(job, copying.sums)
        if copying.source_changed:
            raise _changed(job, copying.sums)
        if (count := copying.failed.count) > 0:
            raise StagingError(
                f"{count:,} of {amount(job.file_count, 'file')} could not be copied, so the job"
                " cannot start",
                index=job.index,
                failed=copying.failed.reasons,
                failed_count=count,
            )
        if not copying.is_complete():
            raise StagingError(
                "its staging folder does not contain exactly the copies, so the job cannot start."
                " Something else writes to the folder or deletes from it",
                index=job.index,
            )

    def delete(self, job: PlannedJob) -> None:
        """Delete everything in the folder of a staged job. This can be repeated.

        For a job that is not staged, do nothing.

        Raises:
            MissingBucketError: the bucket does not exist.
            UnwritableObjectError: S3 refuses to delete a copy. All others were deleted.
            StagingError: there are still objects in the folder.
            ResultsError: S3 refuses to list the folder.
            ServiceError, TransportError: S3 cannot be reached, or the credentials have expired.
        """
        if not job.staged:
            return
        bucket, folder = _location(self._plan, job)
        storage = self._s3.storage()
        objects = S3Objects(storage.calls)
        refused: UnwritableObjectError | None = None
        for page in storage.pages(bucket, folder):
            try:
                objects.delete(bucket, [each.key for each in page.objects])
            except UnwritableObjectError as error:
                refused = error
        if refused is not None:
            raise refused
        if storage.page(bucket, folder).objects:
            raise StagingError(
                "objects appeared in its staging folder while it was being emptied; delete them",
                index=job.index,
            )

    def _planned_files(self, job: PlannedJob) -> Iterator[ListedObject]:
        return planned_files(self._s3.storage(), self._plan, job, self._pool)

    def _require_planned(self, job: PlannedJob, found: Sums) -> None:
        if add_hashes(found.listing_sum, 0) != job.listing_sum:
            raise _changed(job, found)


class _Copying:
    """Copies the files of one job, in memory that does not depend on their number.

    The files and the objects in the staging folder are listed side by side, both in the order of
    their keys.

    Attributes:
        sums: the sums over the files that were listed.
        failed: the files that could not be copied.
        source_changed: whether a file was replaced or deleted after it was listed.
    """

    def __init__(self, storage: Boto3Storage, plan: JobPlan, job: PlannedJob, pool: Pool) -> None:
        self.sums: Sums = Sums()
        self.failed: FailedFiles = FailedFiles()
        self.source_changed: bool = False
        self._storage = storage
        self._objects = S3Objects(storage.calls)
        self._plan = plan
        self._job = job
        self._pool = pool
        self._bucket, self._folder = _location(plan, job)
        self._copies_sum = 0  # what the sum over the copies must be
        self._extra: list[str] = []

    def run(self) -> None:
        """Copy each file that has no copy yet, many at a time. Delete all other objects."""
        with closing(map_in_order(self._pool, self._copy, self._pairs())) as calls:
            for _, call in calls:
                error = call.result()
                if error is None:
                    self.failed.streak.end()
                elif isinstance(error, (SourceChangedError, MissingObjectError)):
                    self.source_changed = True
                elif not self.failed.add(error.key or "", error):
                    raise error

    def is_complete(self) -> bool:
        """Return whether the folder contains a copy of each file, and nothing else."""
        copies_sum = 0
        for copy in listed(self._storage, self._bucket, self._folder):
            copies_sum += _hash_copy(copy.key, copy.size)
        return copies_sum == self._copies_sum

    def _pairs(self) -> Iterator[tuple[ListedObject, ListedObject | None]]:
        """Yield each file and what is in its place in the folder. Delete what is in no place."""
        there = listed(self._storage, self._bucket, self._folder)
        copy = next(there, None)
        for file in planned_files(self._storage, self._plan, self._job, self._pool):
            key = staged_key(self._plan, self._job, file.key)
            self.sums.add_file(file, hash_file(file), 0)
            self._copies_sum += _hash_copy(key, file.size)
            while copy is not None and copy.key < key:
                self._delete_extra(copy.key)
                copy = next(there, None)
            if copy is not None and copy.key == key:
                yield file, copy
                copy = next(there, None)
            else:
                yield file, None
        while copy is not None:
            self._delete_extra(copy.key)
            copy = next(there, None)
        self._objects.delete(self._bucket, self._extra)

    def _delete_extra(self, key: str) -> None:
        self._extra.append(key)
        if len(self._extra) == _MOST_DELETED:
            self._objects.delete(self._bucket, self._extra)
            self._extra.clear()

    def _copy(
        self, pair: tuple[ListedObject, ListedObject | None]
    ) -> ResultsError | ServiceError | TransportError | None:
        """Copy one file unless its copy is there. Return the error if that fails."""
        file, there = pair
        source = self._plan.request.input_data_config.s3_bucket
        key = staged_key(self._plan, self._job, file.key)
        try:
            if file.etag is None:
                return UnwritableObjectError(
                    "S3 did not list its ETag, so it cannot be copied safely",
                    bucket=source,
                    key=file.key,
                )
            if there is None or there.size != file.size or not self._is_copy(there, file.etag):
                self._objects.copy(
                    source,
                    file.key,
                    file.etag,
                    self._bucket,
                    key,
                    metadata={_SOURCE_ETAG: file.etag},
                    kms_key=self._job.request.kms_key,
                )
        except (ResultsError, ServiceError, TransportError) as error:
            return error
        return None

    def _is_copy(self, there: ListedObject, etag: str) -> bool:
        """Return whether an object is our copy of the file that has this ETag."""
        found = self._objects.head(self._bucket, there.key)
        return found is not None and found.metadata.get(_SOURCE_ETAG) == etag


def _changed(job: PlannedJob, found: Sums) -> PlanChangedError:
    return PlanChangedError(
        index=job.index, file_count=job.file_count, found_count=found.file_count
    )


def _location(plan: JobPlan, job: PlannedJob) -> tuple[str, str]:
    """Return the bucket and the folder of a staged job."""
    source, token = job.request.input_data_config, job.request.client_request_token
    folder = source.s3_key or ""
    # Everything in the folder may be deleted, so it must not be a folder of the corpus.
    corpus = plan.request.input_data_config
    is_in_corpus = source.s3_bucket == corpus.s3_bucket and folder.startswith(
        folder_key(corpus.s3_key)
    )
    if is_in_corpus or not folder.endswith(staging_folder(None, token)):
        raise RequestValidationError(
            owner="Staging",
            field="job",
            shape="PlannedJob",
            reason="must be a job of a plan that was not edited; plan again",
        )
    return source.s3_bucket, folder


def _hash_copy(key: str, size: int) -> int:
    return hash_file(ListedObject(key, size, None))

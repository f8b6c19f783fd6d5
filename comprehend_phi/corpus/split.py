"""Splits a sorted listing into the parts that become jobs. No I/O.

The memory depends on the number of jobs and on the depth of the folders, and not on the number of
files or folders: an open folder only has parts that are too large to be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._wording import amount
from .plan import PlanError, add_hashes, hash_file, hash_key

if TYPE_CHECKING:
    from .._results.storage import ListedObject
    from .limits import ServiceLimits

_MAX_BYTES_PER_CHARACTER = 4  # of UTF-8
_MOST_NAMED = 1_000  # keys and folders that an error names


class Sums:
    """The sums over some files.

    Attributes:
        file_count, total_bytes: number and size of the files.
        listing_sum, key_sum: the sums of their hashes, see `PlannedJob`.
        first_key, last_key: the first and the last key.
    """

    __slots__ = ("file_count", "first_key", "key_sum", "last_key", "listing_sum", "total_bytes")

    def __init__(self) -> None:
        self.file_count: int = 0
        self.total_bytes: int = 0
        self.listing_sum: int = 0
        self.key_sum: int = 0
        self.first_key: str = ""
        self.last_key: str = ""

    def add_file(self, file: ListedObject, listing_hash: int, key_hash: int) -> None:
        """Add one file, whose key is after all others."""
        if not self.file_count:
            self.first_key = file.key
        self.file_count += 1
        self.total_bytes += file.size
        self.listing_sum += listing_hash  # far faster without the remainder
        self.key_sum += key_hash
        self.last_key = file.key

    def add(self, other: Sums) -> None:
        """Add the files of `other`, whose keys are after all others."""
        if not self.file_count:
            self.first_key = other.first_key
        self.file_count += other.file_count
        self.total_bytes += other.total_bytes
        self.listing_sum = add_hashes(self.listing_sum, other.listing_sum)
        self.key_sum = add_hashes(self.key_sum, other.key_sum)
        self.last_key = other.last_key


class Part:
    """A folder, or a range of files, that fits into one job.

    Attributes:
        folder: the key of the folder with its final slash; None for a range. "" is the whole
            bucket.
        everything: all files in the folder. In a range, the same as `usable`.
        usable: the files that AWS would not skip.
        jobs: how many jobs the part stands for. More than one only if there are too many.
        long_keys: some of the usable keys that would be too long below the staging location.
    """

    __slots__ = ("everything", "folder", "jobs", "long_keys", "usable")

    def __init__(self) -> None:
        self.folder: str | None = None
        self.usable: Sums = Sums()
        self.everything: Sums = self.usable
        self.jobs: int = 1
        self.long_keys: list[str] = []

    def add(self, other: Part) -> None:
        """Add the usable files of `other`. This makes the part a range."""
        self.become_range()
        self.usable.add(other.usable)
        if other.long_keys:
            self.long_keys += other.long_keys[: _MOST_NAMED - len(self.long_keys)]

    def become_range(self) -> None:
        """Forget that the part was a folder, and with it the files that AWS would skip."""
        self.folder = None
        self.everything = self.usable


class _Folder:
    """A folder whose last file has not been seen yet.

    Attributes:
        key: its key with the final slash.
        everything: all files in it and in closed folders below.
        parts: the usable files in it and in closed folders below.
        own: its own usable files if there is no staging, otherwise None.
        can_be_input: whether AWS allows every path in the folder.
    """

    __slots__ = ("can_be_input", "everything", "key", "own", "parts")

    def __init__(self, key: str) -> None:
        self.key = key
        self.everything: Sums = Sums()
        self.parts: list[Part] = []
        self.own: Part | None = None
        self.can_be_input: bool = "//" not in f"/{key}"


class Splitter:
    """Splits the files of one folder.

    Args:
        folder: the key of the folder with its final slash; "" for the whole bucket.
        limits: AWS's quotas.
        staged_key_bytes: how many bytes of UTF-8 a path below `folder` may have if it is staged;
            None if there is no staging location.
        max_jobs: the most jobs.
        keep_folders: whether a folder that fits into a job may become one without copies.
    """

    def __init__(
        self,
        folder: str,
        limits: ServiceLimits,
        *,
        staged_key_bytes: int | None,
        max_jobs: int,
        keep_folders: bool = True,
    ) -> None:
        self._limits = limits
        self._staged_key_bytes = staged_key_bytes
        self._stages = staged_key_bytes is not None
        self._max_jobs = max_jobs
        self._keeps_folders = keep_folders
        self._folder = folder
        self._last_key = ""
        self._result = _Folder(folder)
        self._open = [_Folder(folder)]
        self._unsplit: list[str] = []
        self._unsplit_count = 0

    def add(self, file: ListedObject, *, is_usable: bool) -> None:
        """Add the next file.

        Args:
            file: a file below the folder. Its key is after all others.
            is_usable: whether AWS would process the file, as far as known.

        Raises:
            PlanError: the listing is not sorted, or the file is larger than a job may be.
        """
        key = file.key
        if key <= self._last_key:
            raise PlanError(
                "The listing of the input location is not in ascending order, as in directory"
                " buckets. Copy the notes to a general purpose bucket"
            )
        self._last_key = key
        folder = self._open[-1]
        while not key.startswith(folder.key):
            self._close()
            folder = self._open[-1]
        while (slash := key.find("/", len(folder.key))) >= 0:
            folder = _Folder(key[: slash + 1])
            self._open.append(folder)
        listing_hash, key_hash = hash_file(file), hash_key(key)
        folder.everything.add_file(file, listing_hash, key_hash)
        if is_usable:
            part = self._range_for(folder, file)
            part.usable.add_file(file, listing_hash, key_hash)
            if self._is_too_long(key) and len(part.long_keys) < _MOST_NAMED:
                part.long_keys.append(key)

    def parts(self) -> list[Part]:
        """Return the parts after all files have been added, in the order of their keys.

        Raises:
            PlanError: there is nothing to process, there would be too many jobs, a folder cannot
                become a job and there is no staging location, or staged keys would be too long.
        """
        while self._open:
            self._close()
        parts = self._result.parts
        if self._unsplit:
            raise PlanError(
                f"{amount(self._unsplit_count, 'folder')} with files of their own cannot become a"
                " job, because they are too large or contain //. Pass `staging`, or move the files"
                " into smaller folders. The folders are",
                folders=self._unsplit,
            )
        if not parts:
            raise PlanError("AWS would skip every file, so there is nothing to plan")
        if (job_count := sum(part.jobs for part in parts)) > self._max_jobs:
            hint = "Raise `max_jobs`" if self._stages else "Pass `staging`, or raise `max_jobs`"
            raise PlanError(
                f"The corpus would need {amount(job_count, 'job')}, and `max_jobs` is"
                f" {self._max_jobs:,}. {hint}",
                job_count=job_count,
            )
        if long_keys := [key for part in parts if part.folder is None for key in part.long_keys]:
            raise PlanError(
                "Below the staging location, these keys would have more than 1,024 bytes. Choose a"
                " shorter staging location, or rename the files. The keys are",
                keys=long_keys,
            )
        return parts

    def _range_for(self, folder: _Folder, file: ListedObject) -> Part:
        """Return the part of `folder` to which a usable file belongs."""
        if not self._stages:
            if folder.own is None:
                folder.own = Part()
            return folder.own
        last = folder.parts[-1] if folder.parts else None
        if last is not None and self._can_grow(last) and self._fits(last.usable, 1, file.size):
            last.become_range()
            return last
        if not self._fits(Sums(), 1, file.size):
            raise PlanError(
                "A file is larger than a job may be. Check the limits. Its key is", keys=[file.key]
            )
        folder.parts.append(Part())
        return folder.parts[-1]

    def _close(self) -> None:
        """Close the innermost open folder, and add its parts to the folder around it."""
        folder = self._open.pop()
        outer = self._open[-1] if self._open else self._result
        outer.everything.add(folder.everything)
        outer.can_be_input = outer.can_be_input and folder.can_be_input
        for part in self._parts_of(folder):
            self._append(outer, part)

    def _parts_of(self, folder: _Folder) -> list[Part]:
        """Return the parts of a folder that is complete."""
        if self._keeps_folders and folder.can_be_input and self._fits(folder.everything):
            parts = folder.parts if folder.own is None else [folder.own, *folder.parts]
            if not parts:
                return []  # AWS would skip every file, so a job would only fail
            whole = parts[0]
            for part in parts[1:]:
                whole.add(part)
            whole.folder, whole.everything = folder.key, folder.everything
            whole.jobs = 1
            return [whole]
        if folder.own is not None:
            self._unsplit_count += 1
            if self._unsplit_count <= _MOST_NAMED:
                self._unsplit.append(folder.key)
        return folder.parts

    def _append(self, folder: _Folder, part: Part) -> None:
        """Add a part to the parts of a folder, and merge it with its neighbor if it fits."""
        last = folder.parts[-1] if folder.parts else None
        if last is not None and self._stages:
            if (
                self._can_grow(last)
                and self._can_grow(part)
                and self._fits(last.usable, part.usable.file_count, part.usable.total_bytes)
            ):
                last.add(part)
                return
        elif len(folder.parts) > self._max_jobs:
            # The folder around may still fit into a job. Otherwise, only the number matters.
            folder.parts[-1].add(part)
            folder.parts[-1].jobs += part.jobs
            return
        folder.parts.append(part)

    def _can_grow(self, part: Part) -> bool:
        """Return whether a part may be staged with others. A folder that is half full may not."""
        if part.folder is None:
            return True
        count, size = part.everything.file_count, part.everything.total_bytes
        return 2 * count < self._limits.max_job_files and 2 * size < self._limits.max_job_bytes

    def _fits(self, sums: Sums, files: int = 0, size: int = 0) -> bool:
        """Return whether these and more files fit into one job."""
        return (
            sums.file_count + files <= self._limits.max_job_files
            and sums.total_bytes + size <= self._limits.max_job_bytes
        )

    def _is_too_long(self, key: str) -> bool:
        if self._staged_key_bytes is None:
            return False
        path = key[len(self._folder) :]
        # Most keys are short enough however many bytes their characters have.
        return (
            len(path) * _MAX_BYTES_PER_CHARACTER > self._staged_key_bytes
            and len(path.encode(errors="surrogatepass")) > self._staged_key_bytes
        )

"""The results of all jobs of a plan, with the keys of the notes in the corpus."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from .._client_base import s3_of
from .._keys import folder_key
from .._redaction import redact
from .._results.completeness import ReadError
from .._results.decisions import Decisions, decide_with
from .._results.documents import Document, UnprocessedFile
from .._results.file_list import ALL
from .._results.listing import Listing, NoteSource
from .._results.notes import Notes, notes_of
from .._results.outages import Streak
from .._results.streams import JobResults, part_of, shown_part
from .._stream import Stream
from .._threads import Pool
from .._wording import amount, join_first
from ..errors import (
    IncompleteResultsError,
    MissingBucketError,
    ResultsError,
    ServiceError,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
)
from ..models import JobStatus
from .forgotten import properties_of
from .plan import JobPlan, PlannedJob, add_hashes, hash_file, hash_key, source_key, staged_key
from .relisting import planned_files

if TYPE_CHECKING:
    from .._client import PHIClient
    from .._entities import Entity
    from .outcome import JobOutcome

_T = TypeVar("_T")

_MOST_NAMED = 1_000  # notes without a result, of each job
_LOW_BITS = (1 << 64) - 1

# A job in one of these states processed or skipped every file.
_HAS_RESULTS = (JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS)

_CHANGED = (
    "notes of its job were replaced or deleted since they were copied, so only the copy is sure to"
    " be what the job read, and the copy was deleted. Run the plan with keep_staged=True to keep"
    " copies until you have read the results, or start another job"
)


class RunResults:
    """The results of all jobs of a plan, read from S3 when they are needed.

    `RunSummary.results` returns them. They can be used as the results of one job (`JobResults`).
    All keys are those of the notes in the corpus, also if a job read copies. The jobs are read one
    after the other, and only the lists of one job are in memory.

    A job that has no results does not stop the others. At the end, an `IncompleteResultsError`
    names the jobs without results and the documents and notes that could not be read. It is also
    raised if a job was about other files than planned. Then its location is listed again to find
    the notes without a result. Documents of files that nobody planned are yielded, too.

    The notes of a job that read copies are read from the corpus if a new listing shows that none of
    them has changed. Otherwise the copies are read, if they still exist. If they do not, these
    notes are left out.

    Args:
        client: reads the results. It needs access to the corpus and to the output location.
        plan: the plan.
        outcomes: what became of its jobs.

    Raises, while iterating and from `unprocessed`:
        IncompleteResultsError: something is missing. Raised after everything else was yielded.
        MissingBucketError: the bucket of the results does not exist. Raised at once.
        UnreadableObjectError: S3 has refused to return 100 manifests, documents or notes in a row.
            Raised at once.
        ServiceError, TransportError: nothing more can be read, as in `JobResults`. Raised at once.

    Errors that are raised at once have `undelivered`, the number of planned files of all jobs that
    were not delivered, and `failed`, which says which of them had failed before.
    """

    def __init__(
        self, client: PHIClient, plan: JobPlan, outcomes: Sequence[JobOutcome], part: slice = ALL
    ) -> None:
        self._client = client
        self._plan = plan
        self._outcomes = tuple(outcomes)
        self._part = part

    def __repr__(self) -> str:
        return f"RunResults({amount(len(self._outcomes), 'job')}){shown_part(self._part)}"

    def part(self, index: int, count: int) -> RunResults:
        """Return one of `count` parts of these results, for example for one of many machines.

        Each part has about as many files of each job, and checks its own files; see
        `JobResults.part`.

        Args:
            index: which part, from 0 to `count` - 1.
            count: how many parts there are.

        Raises:
            RequestValidationError: `index` or `count` is not such an integer.
        """
        part = part_of(self._part, "RunResults.part", index, count)
        return RunResults(self._client, self._plan, self._outcomes, part)

    @property
    def unprocessed(self) -> tuple[UnprocessedFile, ...]:
        """The files that the service did not process, each with the reason."""
        return tuple(self._read(lambda results: (file for file in results.unprocessed)))

    def __iter__(self) -> Generator[Document, None, None]:  # noqa: PYI058 - callers may close() it to stop fetching
        return self._read(JobResults.__iter__)

    def with_text(
        self, *, decisions: Decisions | None = None, require_reviewed: bool = False
    ) -> Generator[tuple[Document, str], None, None]:
        """Yield every document and its note; see `JobResults.with_text`."""
        decide_with("with_text", decisions, require_reviewed=require_reviewed)
        return self._read(
            lambda results: results.with_text(
                decisions=decisions, require_reviewed=require_reviewed
            ),
            reads_notes=True,
        )

    def redacted(
        self,
        *,
        min_score: float = 0.0,
        replacement: str | Callable[[Entity], str] = "[{type}]",
        decisions: Decisions | None = None,
        require_reviewed: bool = False,
    ) -> Generator[tuple[str, str], None, None]:
        """Yield the input key and the redacted text of every note; see `JobResults.redacted`."""
        # Check the arguments now, not after the first file was read.
        redact("", (), min_score=min_score, replacement=replacement)
        decide_with("redacted", decisions, require_reviewed=require_reviewed)
        return self._read(
            lambda results: results.redacted(
                min_score=min_score,
                replacement=replacement,
                decisions=decisions,
                require_reviewed=require_reviewed,
            ),
            reads_notes=True,
        )

    def __comprehend_phi_notes__(self) -> Notes:
        """Return the notes for `write_copies`. Only `notes_of` calls this."""
        request = self._plan.request
        source, target = request.input_data_config, request.output_data_config
        staged = [job.request.input_data_config for job in self._plan.jobs if job.staged]
        return Notes(
            each=self._each_note,
            unprocessed=self._unprocessed_count,
            input_key=source.s3_key or "",
            locations=tuple(
                (location.s3_bucket, folder_key(location.s3_key))
                for location in (source, target, *staged)
            ),
            jobs=tuple(
                (outcome.job_id, outcome.planned.request.client_request_token)
                for outcome in self._outcomes
                if outcome.job_id is not None
            ),
            calls=s3_of(self._client).storage().calls,
        )

    def _each_note(
        self, use: Callable[[Document, str], _T], on_failure: Callable[[str, ReadError], object]
    ) -> Generator[_T, None, None]:
        problems = _Problems(self._plan, self._parts())

        def fail(key: str, error: ReadError) -> None:
            problems.note(key, error)
            on_failure(key, error)

        return self._read(
            lambda job: notes_of(job).each(use, fail), reads_notes=True, problems=problems
        )

    def _unprocessed_count(self) -> int:
        return sum(
            len(_JobReading(self._client, self._plan, outcome).listing.listed_unprocessed[part])
            for outcome, part in self._parts()
        )

    def _parts(self) -> Iterator[tuple[JobOutcome, slice]]:
        """Yield each job, and which of its files belong to this part."""
        begin, step = self._part.start, self._part.step
        for outcome in self._outcomes:
            # The part has every `step`-th file of the plan, so that small jobs are divided, too.
            yield outcome, slice(begin % step, None, step)
            begin -= outcome.planned.file_count

    def _read(
        self,
        read: Callable[[JobResults], Generator[_T, None, None]],
        *,
        reads_notes: bool = False,
        problems: _Problems | None = None,
    ) -> Generator[_T, None, None]:
        return Stream("results", self._items(read, reads_notes, problems))

    def _items(
        self,
        read: Callable[[JobResults], Generator[_T, None, None]],
        reads_notes: bool,
        problems: _Problems | None,
    ) -> Generator[_T, None, None]:
        problems = problems or _Problems(self._plan, self._parts())
        for outcome, part in self._parts():
            with problems.of(outcome.planned, part):
                job = _JobReading(self._client, self._plan, outcome)
                job.check_files(problems, reads_notes=reads_notes)
                with closing(read(JobResults(job.listing, part, problems.streak))) as items:
                    yield from items
        problems.raise_if_any()


def skipped_files(
    client: PHIClient,
    plan: JobPlan,
    outcomes: Sequence[JobOutcome],
    on_problem: Callable[[JobOutcome, ResultsError], object],
) -> Generator[UnprocessedFile, None, None]:
    """Yield the files that the service did not process, with the keys of the corpus.

    Only manifests and lists of unprocessed files are read. Jobs that did not end well are left out.

    Args:
        client: reads the results.
        plan: the plan.
        outcomes: what became of its jobs.
        on_problem: called with each job whose list is missing, broken or incomplete.

    Raises:
        ServiceError, TransportError: nothing more can be read.
    """
    for outcome in outcomes:
        if outcome.status in _HAS_RESULTS:
            try:
                listing = _JobReading(client, plan, outcome).listing
                yield from listing.listed_unprocessed
                _ = listing.unprocessed  # raises if the manifest counts another number
            except ResultsError as error:
                on_problem(outcome, error)


class _CorpusNotes(NoteSource):
    """The notes of a job in the corpus, also if the job read copies."""

    def __init__(self, plan: JobPlan, job: PlannedJob) -> None:
        super().__init__(plan.request.input_data_config.s3_bucket)
        self._plan = plan
        self._job = job
        self._reads_copies = False

    def read_copies(self) -> None:
        """Read the copies from now on."""
        self._reads_copies = True
        self.missing = _CHANGED

    def key_of(self, input_key: str) -> str:
        """Return the key of the note in the corpus, for a key that the job read."""
        return source_key(self._plan, self._job, input_key)

    def location_of(self, key: str) -> tuple[str, str]:
        """Return the bucket and the key from which to read a note."""
        if not self._reads_copies:
            return super().location_of(key)
        copies = self._job.request.input_data_config.s3_bucket
        return copies, staged_key(self._plan, self._job, key)


class _JobReading:
    """Opens the results of one job, and compares their files with the planned ones.

    Attributes:
        listing: what the job's lists contain, with the keys of the corpus.

    Raises:
        ResultsError: the job has no results.
        ServiceError, TransportError: the service cannot be asked about the job.
    """

    def __init__(self, client: PHIClient, plan: JobPlan, outcome: JobOutcome) -> None:
        job = outcome.planned
        if outcome.is_lost:
            raise ResultsError("the service has forgotten the job", job_id=outcome.job_id)
        if outcome.job_id is None:
            raise ResultsError("the job was not started")
        if outcome.status is None or outcome.status not in _HAS_RESULTS:
            raise ResultsError(f"the job is {outcome.status}", job_id=outcome.job_id)
        self._plan = plan
        self._job = job
        self._storage = s3_of(client).storage()
        self._notes = _CorpusNotes(plan, job)
        properties, is_described = properties_of(client, job, outcome.job_id, outcome.status)
        self.listing: Listing = Listing(
            properties, self._storage, is_described=is_described, notes=self._notes
        )

    def check_files(self, problems: _Problems, *, reads_notes: bool) -> None:
        """Add a problem unless the results are about the planned files.

        Args:
            problems: takes the problem.
            reads_notes: whether the notes will be read. Then decide where: in the corpus, or in
                the staging folder.
        """
        job, found = self._job, _Keys(self._keys())
        is_planned = found.count == job.file_count and found.key_sum == job.key_sum
        if is_planned and not (job.staged and reads_notes):
            return
        refusal: ResultsError | None = None
        try:
            listing_sum, missing = self._relist(found, only_found=is_planned)
        except ResultsError as error:
            # S3 refuses to list the corpus, so nothing is known about its notes.
            listing_sum, missing, refusal = None, _Missing(), error
            if not is_planned:
                problems.add(job, f"the notes without a result cannot be named: {error}")
        if not is_planned:
            problems.add_unplanned(job, found.count, missing)
        if job.staged and listing_sum != job.listing_sum:
            if refusal is not None and reads_notes and not self._has_copies():
                raise IncompleteResultsError(
                    f"its notes cannot be read: {refusal}", bucket=self._notes.bucket
                )
            self._notes.read_copies()

    def _has_copies(self) -> bool:
        """Return whether the job's first copy can be read."""
        job = self._job
        bucket = job.request.input_data_config.s3_bucket
        try:
            self._storage.read(bucket, staged_key(self._plan, job, job.first_key))
        except ResultsError:
            return False
        return True

    def _relist(self, found: _Keys, *, only_found: bool) -> tuple[int, _Missing]:
        """List the job's files again. Return their sum, and the notes without a result.

        Args:
            found: the keys of the notes with a result.
            only_found: leave out the other notes, which have arrived since, from the sum.
        """
        listing_sum, missing = 0, _Missing()
        with Pool(self._storage.connections) as pool:
            for file in planned_files(self._storage, self._plan, self._job, pool):
                is_found = file.key in found
                if is_found or not only_found:
                    listing_sum += hash_file(file)
                if not is_found:
                    missing.add(file.key)
        return add_hashes(listing_sum, 0), missing

    def _keys(self) -> Iterator[str]:
        yield from (file.input_key for file in self.listing.files)
        yield from (file.input_key for file in self.listing.listed_unprocessed)


def _count(job: PlannedJob, part: slice) -> int:
    """Return how many planned files of a job belong to a part."""
    return len(range(job.file_count)[part])


class _Missing:
    """Notes without a result: their number, and the first of their keys."""

    def __init__(self) -> None:
        self.count: int = 0
        self.keys: list[str] = []

    def add(self, key: str) -> None:
        self.count += 1
        self.keys += [key][: _MOST_NAMED - len(self.keys)]


class _Keys:
    """The keys of files, except folder markers, in 8 bytes each."""

    def __init__(self, keys: Iterator[str]) -> None:
        hashes, key_sum = array("Q"), 0
        for key in keys:
            if not key.endswith("/"):
                key_hash = hash_key(key)
                key_sum += key_hash
                hashes.append(key_hash & _LOW_BITS)
        self.count: int = len(hashes)
        self.key_sum: int = add_hashes(key_sum, 0)
        self._hashes = array("Q", sorted(hashes))

    def __contains__(self, key: str) -> bool:
        key_hash = hash_key(key) & _LOW_BITS
        place = bisect_left(self._hashes, key_hash)
        return place < self.count and self._hashes[place] == key_hash


class _Problems:
    """What is missing in the results of a plan's jobs.

    Args:
        plan: the plan.
        parts: the jobs to read, and which of their files.

    Attributes:
        streak: failures of S3 in a row, in all jobs so far.
    """

    def __init__(self, plan: JobPlan, parts: Iterable[tuple[JobOutcome, slice]]) -> None:
        self.streak: Streak = Streak(counts_refusals=True)
        self._bucket = plan.request.output_data_config.s3_bucket
        # Planned files of this job and of those after it.
        self._left = sum(_count(outcome.planned, part) for outcome, part in parts)
        self._undelivered = 0  # of the jobs before this one
        self._reasons: list[str] = []
        self._missing: list[str] = []
        self._failed: dict[str, str] = {}
        self._noted: dict[str, str] = {}

    @contextmanager
    def of(self, job: PlannedJob, part: slice) -> Generator[None, None, None]:
        """Add errors about the results of one job. Errors that concern all jobs end the reading."""
        planned, noted = _count(job, part), len(self._noted)
        self._left -= planned
        try:
            yield
        except (ResultsError, ServiceError, TransportError) as error:
            undelivered = planned if error.undelivered is None else error.undelivered
            if self._concerns_all_jobs(error):
                error.undelivered = self._undelivered + undelivered + self._left
                error.failed = {**self._noted, **self._failed, **error.failed}
                raise
            self._undelivered += undelivered
            if isinstance(error, IncompleteResultsError):
                self.add(job, error.reason)
                self._missing += error.missing
                self._failed |= error.failed
            else:
                self.add(job, f"it has no results: {error}")
        else:
            self._undelivered += len(self._noted) - noted

    def _concerns_all_jobs(self, error: ResultsError | ServiceError | TransportError) -> bool:
        if isinstance(error, UnreadableObjectError):
            # With a count, the reading of documents has ended early. Otherwise, it never began.
            return error.undelivered is not None or self.streak.add(error)
        return not isinstance(error, ResultsError) or isinstance(
            error, (MissingBucketError, UnwritableObjectError)
        )

    def note(self, key: str, error: ReadError) -> None:
        """Remember a note that failed and that somebody else reports."""
        self._noted[key] = f"{type(error).__name__}: {error}"

    def add(self, job: PlannedJob, reason: str) -> None:
        """Add what is wrong with the results of a job."""
        self._reasons.append(f"job {job.index}: {reason}")

    def add_unplanned(self, job: PlannedJob, found_count: int, missing: _Missing) -> None:
        """Add that the results of a job are about other files than planned."""
        planned = amount(job.file_count, "file was", "files were")
        reason = f"{planned} planned, but the results are about {found_count:,}"
        if (excess := found_count - job.file_count) > 0:
            reason += f", so at least {amount(excess, 'of them was', 'of them were')} not planned"
        if missing.count:
            reason += f"; files in its location without a result: {missing.count}"
        self.add(job, reason)
        self._undelivered += missing.count
        self._failed |= dict.fromkeys(
            missing.keys, "MissingObjectError: the results of its job do not mention this note"
        )

    def raise_if_any(self) -> None:
        """Raise an error about everything that is missing, if anything is."""
        if self._reasons:
            raise IncompleteResultsError(
                join_first(self._reasons, separator="; "),
                bucket=self._bucket,
                missing=self._missing,
                failed=self._failed,
            )

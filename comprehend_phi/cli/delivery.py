"""Delivering a job's results: every note that can be delivered is, and the others are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .._redaction import redact
from .._results.decisions import decide_with
from .._results.notes import notes_of
from .._wording import amount
from ..corpus.copies import checked_audit, checked_destination, each_copy, new_audit_file
from ..corpus.targets import LocalTarget, S3Target
from ..errors import IncompleteResultsError, ResultsError, ServiceError, TransportError
from ..models import JobStatus, S3Location
from .exits import Exit, ExitCode
from .files import require_file, write_private
from .output import document_members, emit, emit_json, inform, unprocessed_members

if TYPE_CHECKING:
    from .._replacements import Replacement
    from .._results.decisions import Decisions
    from .._results.documents import UnprocessedFile
    from .._results.streams import JobResults

_Item = TypeVar("_Item")


class Delivery:
    """Delivers a job's results. A note that cannot be delivered is named on stderr at once.

    Args:
        results: the results.
        as_json: whether stdout gets a line for each copy and for each note that cannot be
            delivered.

    Attributes:
        rows: how many rows the table has that was written, or None.
        audit_sha256: the SHA-256 of the audit file that was written, or None.
    """

    def __init__(self, results: JobResults, *, as_json: bool = False) -> None:
        self.rows: int | None = None
        self.audit_sha256: str | None = None
        self._results = results
        self._as_json = as_json
        self._failed: dict[str, str] = {}
        self._left_out: list[ResultsError] = []
        self._incomplete: list[IncompleteResultsError] = []

    @property
    def failed(self) -> list[dict[str, str]]:
        """The notes that could not be delivered, for JSON."""
        return [{"input_key": key, "reason": reason} for key, reason in self._failed.items()]

    def print_documents(self, *, show_text: bool) -> None:
        """Print the documents to stdout, as one JSON object per line."""
        with closing(self._deliver(iter(self._results))) as documents:
            for document in documents:
                emit_json(document_members(document, show_text=show_text))

    def count(self) -> tuple[int, Counter[str]]:
        """Return how many documents there are, and how many entities of each type."""
        number = 0
        counts: Counter[str] = Counter()
        with closing(self._deliver(iter(self._results))) as documents:
            for document in documents:
                number += 1
                counts.update(entity.type for entity in document.entities)
        return number, counts

    def write_copies(
        self,
        destination: Path | S3Location,
        *,
        kms_key: str | None = None,
        min_score: float = 0.0,
        replacement: Replacement = "[{type}]",
        decisions: Decisions | None = None,
        require_reviewed: bool = False,
        audit: Path | S3Location | None = None,
    ) -> int:
        """Write redacted copies to `destination`, and return how many there are.

        With `audit`, also write an audit file, and set `audit_sha256`.
        """
        notes = notes_of(self._results)
        checked_destination("redact", notes, destination, kms_key)
        if audit is not None:
            checked_audit(notes, destination, audit)
        redact("", (), min_score=min_score, replacement=replacement)  # before a folder is created
        target = (
            LocalTarget(destination, private=False, replaces=True)
            if isinstance(destination, Path)
            else S3Target(notes.calls, destination, kms_key=kms_key, may_repeat=False)
        )
        copies = each_copy(
            notes,
            target,
            min_score=min_score,
            replacement=replacement,
            rename=None,
            audited=audit is not None,
            decide=decide_with("redacted", decisions, require_reviewed=require_reviewed),
            on_failure=lambda key, error: self._name({key: f"{type(error).__name__}: {error}"}),
        )
        number = 0
        with ExitStack() as stack:
            audit_file = None
            if audit is not None:
                audit_file = stack.enter_context(new_audit_file(audit, notes.calls, kms_key))
            for copy in stack.enter_context(closing(self._deliver(copies))):
                if copy.name is None:
                    continue
                number += 1
                if audit_file is not None and copy.line is not None:
                    audit_file.add(copy.line)
                if self._as_json:
                    path = path_of_copy(destination, copy.name)
                    emit_json({"input_key": copy.input_key, "path": path})
        if audit_file is not None:
            self.audit_sha256 = audit_file.sha256
        return number

    def write_page(self, file: Path) -> None:
        """Write the review page. It lists the files and notes that it cannot show."""
        from ..review.page import render

        failed: dict[str, str] = {}
        html = render(
            self._deliver(self._results.with_text(), failed),
            title=f"Job {self._results.job.job_id}",
            unprocessed=self._results.unprocessed,
            failed=failed,
        )
        write_private(file, html)

    def write_table(self, write: Callable[[JobResults], int]) -> None:
        """Write a table, which is complete or absent, and set `rows`."""
        with self._collected():
            self.rows = write(self._results)

    def print_unprocessed(self) -> None:
        """Print to stderr which files were not processed, and as JSON to stdout, too."""
        for file in self._results.unprocessed:
            name_unprocessed(file, as_json=self._as_json)

    def leave_out(self, problem: ResultsError | None) -> None:
        """Let the command fail in the end because of `problem`, if there is one."""
        if problem is not None:
            self._left_out.append(problem)

    def end(self) -> int:
        """Return the exit code.

        Raises:
            Exit: something was not delivered.
        """
        lines = [str(problem) for problem in self._left_out]
        if self._failed:
            lines.append(f"{amount(len(self._failed), 'note')} could not be delivered")
        lines.extend(str(error) for error in self._incomplete)
        if lines:
            raise Exit(ExitCode.FAILED, *dict.fromkeys(lines))
        # The service and the manifest may disagree. Nobody outside AWS knows which one is right.
        states = {self._results.job.job_status, self._results.manifest.status}
        ended_early = not states.isdisjoint((JobStatus.FAILED, JobStatus.STOPPED))
        return ExitCode.PARTIAL if self._results.unprocessed or ended_early else ExitCode.DONE

    def _deliver(
        self, stream: Generator[_Item, None, None], failed: dict[str, str] | None = None
    ) -> Generator[_Item, None, None]:
        """Yield what a stream of results delivers, and collect what it does not.

        If you pass `failed`, it gets the notes that this stream could not deliver.
        """
        with closing(stream), self._collected(failed):
            yield from stream

    @contextmanager
    def _collected(self, failed: dict[str, str] | None = None) -> Generator[None, None, None]:
        """Collect the notes that a block could not deliver. Incomplete results end it normally."""
        try:
            yield
        except IncompleteResultsError as error:
            self._collect(error)
            if failed is not None:
                failed.update(error.failed)
        except (ResultsError, ServiceError, TransportError) as error:
            self._name(error.failed)
            error.failed = {}  # so that the message does not name them again
            raise

    def _collect(self, error: IncompleteResultsError) -> None:
        if not error.failed:
            self._incomplete.append(error)
        self._name(error.failed)

    def _name(self, failed: Mapping[str, str]) -> None:
        """Print which notes failed, and why."""
        for key, reason in failed.items():
            if key in self._failed:
                continue
            self._failed[key] = reason
            name_failed(key, reason, as_json=self._as_json)


def name_failed(key: str, reason: str, *, as_json: bool) -> None:
    """Print to stderr which note failed and why, and with `as_json` as JSON to stdout, too."""
    inform(f"Failed: {key} ({reason.rstrip('.')})")
    if as_json:
        emit_json({"failed": {"input_key": key, "reason": reason}})


def name_unprocessed(file: UnprocessedFile, *, as_json: bool) -> None:
    """Print to stderr which file was not processed, and with `as_json` to stdout, too."""
    if as_json:
        emit_json({"unprocessed": unprocessed_members(file)})
    why = ": ".join(filter(None, (file.error_code, file.error_message)))
    inform(f"Not processed: {file.input_key}" + (f" ({why.rstrip('.')})" if why else ""))


def path_of_copy(destination: Path | S3Location, name: str = "") -> str:
    """Return the path or the URI of a copy, or without `name` that of all copies."""
    if isinstance(destination, Path):
        return str(destination / name)
    uri = destination.uri
    return f"{uri.removesuffix('/')}/{name}" if name else uri


def show_audit(audit: Path | S3Location, sha256: str | None) -> None:
    """Print to stdout where the audit file is, and its SHA-256."""
    emit(f"The audit file is {path_of_copy(audit)}. Its SHA-256 is {sha256}")


def require_page(argument: str, file: Path) -> None:
    """Check that the review page can be written, so that no job is started in vain.

    Raises:
        Exit: it cannot.
    """
    require_file(argument, file)
    try:
        from ..review import page as _  # noqa: F401 - only to see whether jinja2 is installed
    except ImportError as error:
        reason = str(error)
    else:
        return
    raise Exit(ExitCode.USAGE, reason)

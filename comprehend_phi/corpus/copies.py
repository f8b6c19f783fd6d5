"""Write redacted copies of notes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING

from attrs import field, frozen

from .._folders import is_inside, same_path
from .._keys import path_of_note
from .._redaction import redact, usable_score
from .._results.notes import Notes, Results, notes_of
from .._shapes import CALLABLE, InstanceShape, StringShape, check_argument
from .._whole_file import whole_file
from ..errors import ComprehendPHIError, IncompleteResultsError, RequestValidationError
from .audit import AuditFile, AuditLine
from .copies_report import CopiesReport, CopyError, CopyFailure, IncompleteCopiesError
from .targets import LocalTarget, Target, local_path

if TYPE_CHECKING:
    from .._entities import Entity
    from .._results.documents import Document

_RESULTS = InstanceShape(Results, "pass what Job.results returns")
_NAME = StringShape("str", 1)


def write_copies(
    results: Results,
    destination: str | os.PathLike[str],
    *,
    min_score: float = 0.0,
    replacement: str | Callable[[Entity], str] = "[{type}]",
    rename: Callable[[str], str] | None = None,
    audit: str | os.PathLike[str] | None = None,
) -> CopiesReport:
    """Write a redacted copy of every note, and return what was written.

    Each copy has the path below the destination that its note has below the job's input key, unless
    `rename` gives it another one. Names of files often contain names of people or record numbers,
    so use `rename`.

    Call this again to continue after an interruption. Notes are then read again, but copies that
    are there already with the right content are not written again. A file with other content is
    never replaced: its note is among the failures.

    Everything that is created on this machine can only be read by its owner. Each copy is there as
    a whole or not at all. If the process is killed, a file can remain whose name begins with
    `.comprehend-phi-`.

    Args:
        results: the results of a job, or a part of them.
        destination: a folder on this machine. It is created if it does not exist.
        min_score: as for `redact`.
        replacement: as for `redact`.
        rename: takes the path of a note and returns that of its copy. Called from several threads.
            The same note must always get the same path, and no two notes may get the same one.
        audit: a file on this machine, outside `destination`, which gets one line of JSON for each
            copy. It is complete or absent. An earlier audit file is replaced.

    Raises:
        RequestValidationError: an argument has a wrong value or type. Nothing was written.
        IncompleteCopiesError: results are missing. Raised at the end: everything else was written,
            and the report is its `report`.
        ResultsError, ServiceError, TransportError: nothing more can be read; see `JobResults`.
        OSError: nothing more can be written, for example because the disk is full.
    """
    check_argument("write_copies", "results", _RESULTS, results)
    check_argument("write_copies", "rename", CALLABLE, rename, optional=True)
    # Check these arguments before anything is written.
    redact("", (), min_score=min_score, replacement=replacement)
    folder = local_path("write_copies", "destination", destination)
    audit_path = None if audit is None else local_path("write_copies", "audit", audit)
    if audit_path is not None and (same_path(audit_path, folder) or is_inside(audit_path, folder)):
        raise RequestValidationError(
            owner="write_copies",
            field="audit",
            shape="path",
            reason="must be outside the destination",
        )
    notes = notes_of(results)
    tally = _Tally()
    incomplete: IncompleteResultsError | None = None
    with ExitStack() as stack:
        audit_file = None
        if audit_path is not None:
            audit_path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(whole_file(audit_path, mode=0o600, sync=True))
            audit_file = AuditFile(file)
        copies = each_copy(
            notes,
            LocalTarget(folder),
            min_score=min_score,
            replacement=replacement,
            rename=rename,
            on_failure=tally.add_failure,
        )
        stack.enter_context(closing(copies))
        try:
            for copy in copies:
                tally.add(copy)
                if audit_file is not None and copy.line is not None:
                    audit_file.add(copy.line)
        except IncompleteResultsError as error:
            # Other classes are raised before anything is written.
            if type(error) is not IncompleteResultsError:
                raise
            incomplete = error
    report = CopiesReport(
        jobs=notes.jobs,
        model_versions=tuple(sorted(tally.model_versions)),
        package_version=version("comprehend_phi"),
        min_score=min_score,
        replacement=replacement if isinstance(replacement, str) else None,
        written=tally.written,
        already_written=tally.already_written,
        folder_markers=tally.folder_markers,
        unprocessed=notes.unprocessed(),
        failures=tuple(tally.failures),
        redacted_counts=dict(tally.redacted),
        readable_counts=dict(tally.readable),
        audit_sha256=None if audit_file is None else audit_file.sha256,
    )
    if incomplete is None:
        return report
    raise IncompleteCopiesError(
        incomplete.reason,
        bucket=incomplete.bucket or "",
        report=report,
        missing=incomplete.missing,
        failed=incomplete.failed,
        job_id=incomplete.job_id,
    )


@frozen
class Copy:
    """A note that was copied, or that needs no copy.

    Attributes:
        input_key: the key of the note. Not in the repr.
        line: its line in the audit file. None for a folder marker, which needs no copy.
        is_new: whether the copy was written now.
        model_version: the version of the service's model.
    """

    input_key: str = field(repr=False)
    line: AuditLine | None
    is_new: bool
    model_version: str | None


def each_copy(
    notes: Notes,
    target: Target,
    *,
    min_score: float,
    replacement: str | Callable[[Entity], str],
    rename: Callable[[str], str] | None,
    on_failure: Callable[[str, ComprehendPHIError], object],
) -> Generator[Copy, None, None]:
    """Write the copies, many at a time, and yield them in the order of the results.

    Args:
        notes: the notes.
        target: takes the copies.
        min_score: see `write_copies`.
        replacement: see `write_copies`.
        rename: see `write_copies`.
        on_failure: takes the input key of each note that has no copy, and the reason.

    Raises:
        IncompleteResultsError: documents are missing. Raised at the end.
        ResultsError, ServiceError, TransportError: nothing more can be read. Raised at once.
        OSError: nothing more can be written. Raised at once.
    """

    def write(document: Document, text: str) -> Copy | CopyFailure:
        key = document.input_key
        # A folder marker, such as the S3 console creates.
        if key.endswith("/") and not text:
            return Copy(key, None, False, document.model_version)
        redacted = redact(text, document.entities, min_score=min_score, replacement=replacement)
        try:
            name = path_of_note(key, notes.input_key)
            if rename is not None:
                name = _renamed(rename, name)
            content = redacted.encode()
            is_new = target.write(name, content)
        except CopyError as error:
            return CopyFailure(input_key=key, error=error)
        marked, readable = Counter[str](), Counter[str]()
        for entity in document.entities:
            (marked if usable_score(entity) >= min_score else readable)[entity.type] += 1
        line = AuditLine(
            copy=name,
            copy_sha256=sha256(content).hexdigest(),
            copy_bytes=len(content),
            key_sha256=sha256(key.encode()).hexdigest(),
            # The note was decoded strictly, so encoding it again gives its bytes.
            note_sha256=sha256(text.encode()).hexdigest(),
            redacted=marked,
            readable=readable,
        )
        return Copy(key, line, is_new, document.model_version)

    with closing(notes.each(write, on_failure)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Copy):
                yield outcome
            else:
                on_failure(outcome.input_key, outcome.error)


class _Tally:
    """Counts copies and collects failures."""

    def __init__(self) -> None:
        self.written = self.already_written = self.folder_markers = 0
        self.failures: list[CopyFailure] = []
        self.model_versions: set[str] = set()
        self.redacted: Counter[str] = Counter()
        self.readable: Counter[str] = Counter()

    def add(self, copy: Copy) -> None:
        if copy.model_version is not None:
            self.model_versions.add(copy.model_version)
        if copy.line is None:
            self.folder_markers += 1
            return
        self.written += copy.is_new
        self.already_written += not copy.is_new
        self.redacted.update(copy.line.redacted)
        self.readable.update(copy.line.readable)

    def add_failure(self, input_key: str, error: ComprehendPHIError) -> None:
        # The traceback keeps the variables of all its functions, such as the note.
        self.failures.append(CopyFailure(input_key=input_key, error=error.with_traceback(None)))


def _renamed(rename: Callable[[str], str], name: str) -> str:
    """Return the new name of a copy."""
    try:
        renamed = rename(name)
        problem = _NAME.problem(renamed)
    except Exception as error:  # noqa: BLE001 - the note fails, whatever `rename` raised
        renamed, problem = "", f"raised {type(error).__name__}"
    else:
        if problem is None:
            return renamed
        problem = f"must return a name: it {problem}"
    raise CopyError(f"`rename` {problem}")

"""Write redacted copies of notes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from .._entities import usable_score
from .._folders import is_inside, same_path
from .._keys import folder_key, path_of_note
from .._redaction import redact
from .._results.decisions import Decide, Decisions, decide_with
from .._results.notes import Notes, Results, notes_of
from .._shapes import CALLABLE, KMS_KEY, InstanceShape, StringShape, check_argument
from .._whole_file import whole_file
from ..errors import (
    ComprehendPHIError,
    IncompleteResultsError,
    RequestValidationError,
    ResultsError,
    ServiceError,
    TransportError,
)
from ..models import S3Location
from .audit import AuditFile, AuditLine, BinaryWriter
from .copies_report import CopiesReport, CopyError, CopyFailure, IncompleteCopiesError
from .objects import S3Objects
from .targets import LocalTarget, Location, S3Target, Target, local_path

if TYPE_CHECKING:
    from .._entities import Entity
    from .._results.documents import Document
    from .._results.s3_calls import S3Calls

_RESULTS = InstanceShape(Results, "pass what Job.results returns")
_NAME = StringShape("str", 1)
_JSON_LINES = "application/jsonl"


def write_copies(
    results: Results,
    destination: str | os.PathLike[str] | S3Location,
    *,
    min_score: float = 0.0,
    replacement: str | Callable[[Entity], str] = "[{type}]",
    decisions: Decisions | None = None,
    require_reviewed: bool = False,
    rename: Callable[[str], str] | None = None,
    kms_key: str | None = None,
    audit: str | os.PathLike[str] | S3Location | None = None,
) -> CopiesReport:
    """Write a redacted copy of every note, and return what was written.

    Each copy has the path below the destination that its note has below the input key, unless
    `rename` gives it another one. Names of files often contain names of people or record numbers,
    so use `rename`.

    A note that fails is among the report's `failures`, and the others are copied. Nothing that is
    at the destination already is ever replaced. To continue after an interruption, call this again.
    Notes are then read again, but a copy that is there already with the same content is not written
    again. If there is something else in its place, its note is a failure.

    On this machine, only the owner can read what is created. Each copy is complete or absent. If
    the process is killed, a file can remain whose name begins with `.comprehend-phi-`. S3 must
    support conditional writes (`If-None-Match`), as AWS does.

    Args:
        results: the results of a job, or a part of them.
        destination: a folder on this machine, which is created if it does not exist, or on S3. It
            must not overlap the locations of the notes and of the results.
        min_score: as for `redact`.
        replacement: as for `redact`.
        decisions: a reviewer's decisions. Rejected entities stay readable, and added marks are
            always redacted. A note that its decisions do not fit is a failure.
        require_reviewed: whether a note that is not marked as reviewed is a failure, also if there
            are no decisions about it.
        rename: takes the path of a note and returns that of its copy. Called from several threads.
            It must always return the same path for the same note, and different paths for different
            notes.
        kms_key: the KMS key that encrypts what is written to S3. Without it, the default of the
            bucket applies.
        audit: a file outside `destination`, which gets one line of JSON for each copy. It is
            complete or absent, and replaces an earlier audit file. Keep it as private as the notes:
            the hash of a short note can be guessed.

    Raises:
        RequestValidationError: an argument has a wrong value or type, or locations overlap. Nothing
            was written.
        IncompleteCopiesError: results are missing. Raised at the end: everything else was written,
            and the report is its `report`.
        ResultsError, ServiceError, TransportError: nothing more can be read or written; see
            `JobResults`. S3 has refused 100 copies in a row, for example.
        OSError: nothing more can be written, for example because the disk is full.
    """
    check_argument("write_copies", "results", _RESULTS, results)
    check_argument("write_copies", "rename", CALLABLE, rename, optional=True)
    # Check these arguments before anything is written.
    redact("", (), min_score=min_score, replacement=replacement)
    decide = decide_with("write_copies", decisions, require_reviewed=require_reviewed)
    notes = notes_of(results)
    destination = checked_destination("write_copies", notes, destination, kms_key)
    if audit is not None:
        audit = checked_audit(notes, destination, audit)
    tally = _Tally()
    incomplete: IncompleteResultsError | None = None
    with ExitStack() as stack:
        audit_file = None
        if audit is not None:
            audit_file = stack.enter_context(new_audit_file(audit, notes.calls, kms_key))
        target: Target
        if isinstance(destination, S3Location):
            renames = rename is not None
            target = S3Target(notes.calls, destination, kms_key=kms_key, may_repeat=renames)
        else:
            target = LocalTarget(destination)
        copies = each_copy(
            notes,
            target,
            min_score=min_score,
            replacement=replacement,
            decide=decide,
            rename=rename,
            audited=audit is not None,
            on_failure=tally.add_failure,
        )
        stack.enter_context(closing(copies))
        try:
            for copy in copies:
                tally.add(copy)
                if audit_file is not None and copy.line is not None:
                    audit_file.add(copy.line)
        except IncompleteResultsError as error:
            # Its subclasses are raised before anything is written.
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
        unprocessed=_unprocessed_count(notes),
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


def _unprocessed_count(notes: Notes) -> int | None:
    """Return how many files the service did not process, or None if that cannot be read."""
    with suppress(ResultsError, ServiceError, TransportError):
        return notes.unprocessed()
    return None


def checked_destination(
    owner: str, notes: Notes, destination: Location, kms_key: str | None
) -> Path | S3Location:
    """Return the destination.

    Raises:
        RequestValidationError: it is no location, or overlaps the notes or the results. Or there is
            a KMS key for a folder on this machine, or the key breaks the rules.
    """
    check_argument(owner, "kms_key", KMS_KEY, kms_key, optional=True)
    if not isinstance(destination, S3Location):
        path = local_path(owner, "destination", destination)
        if kms_key is None:
            return path
        reason = "must be left out for a folder on this machine"
        raise RequestValidationError(
            owner=owner, field="kms_key", shape=KMS_KEY.name, reason=reason
        )
    folder = folder_key(destination.key)
    for bucket, key in notes.locations:
        if bucket == destination.bucket and (folder.startswith(key) or key.startswith(folder)):
            raise RequestValidationError(
                owner=owner,
                field="destination",
                shape="S3Location",
                reason="must not overlap the location of the notes or of the results",
            )
    return destination


def checked_audit(
    notes: Notes, destination: Path | S3Location, audit: Location
) -> Path | S3Location:
    """Return the location of the audit file.

    Raises:
        RequestValidationError: it is no location, or is inside the destination, for example.
    """
    if not isinstance(audit, S3Location):
        path = local_path("write_copies", "audit", audit)
        if isinstance(destination, S3Location) or not (
            same_path(path, destination) or is_inside(path, destination)
        ):
            return path
        raise _wrong_audit("path", "must be outside the destination")
    if audit.key is None or audit.key.endswith("/"):
        raise _wrong_audit("S3Location", "must have the key of a file; this one is a folder")
    folders = [*notes.locations]
    if isinstance(destination, S3Location):
        folders.append((destination.bucket, folder_key(destination.key)))
    # The input key of a job may be the key of a note, and not only that of a folder.
    file = folder_key(audit.key)
    if any(bucket == audit.bucket and file.startswith(key) for bucket, key in folders):
        raise _wrong_audit(
            "S3Location", "must be outside the destination, the notes and the results"
        )
    return audit


def _wrong_audit(shape: str, reason: str) -> RequestValidationError:
    return RequestValidationError(owner="write_copies", field="audit", shape=shape, reason=reason)


@contextmanager
def new_audit_file(
    location: Path | S3Location, calls: S3Calls, kms_key: str | None
) -> Generator[AuditFile, None, None]:
    """Enter with an audit file, which appears when the block ends well.

    Args:
        location: what `checked_audit` returned.
        calls: the way to S3.
        kms_key: the KMS key that encrypts the file on S3, or None.
    """
    file: AbstractContextManager[BinaryWriter]
    if isinstance(location, S3Location):
        objects, key = S3Objects(calls), location.key or ""
        file = objects.upload(location.bucket, key, kms_key=kms_key, content_type=_JSON_LINES)
    else:
        location.parent.mkdir(parents=True, exist_ok=True)
        file = whole_file(location, mode=0o600, sync=True)
    with file as opened:
        yield AuditFile(opened)


@frozen
class Copy:
    """A note that was copied, or that needs no copy.

    Attributes:
        input_key: the key of the note. Not in the repr.
        name: the path of the copy below the destination. None for a folder marker, which needs no
            copy. Not in the repr.
        is_new: whether the copy was written now.
        model_version: the version of the service's model.
        redacted: the number of redacted entities by type.
        readable: the number of entities by type that were left readable.
        line: the line for the audit file, if there is one.
    """

    input_key: str = field(repr=False)
    name: str | None = field(repr=False)
    is_new: bool
    model_version: str | None
    redacted: Counter[str]
    readable: Counter[str]
    line: AuditLine | None


def each_copy(
    notes: Notes,
    target: Target,
    *,
    min_score: float,
    replacement: str | Callable[[Entity], str],
    decide: Decide | None,
    rename: Callable[[str], str] | None,
    audited: bool,
    on_failure: Callable[[str, ComprehendPHIError], object],
) -> Generator[Copy, None, None]:
    """Write the copies, many at a time, and yield them in the order of the results.

    Args:
        notes: the notes.
        target: takes the copies.
        min_score: see `write_copies`.
        replacement: see `write_copies`.
        decide: returns the documents as a reviewer decided.
        rename: see `write_copies`.
        audited: whether copies need a line for the audit file.
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
            return Copy(key, None, False, document.model_version, Counter(), Counter(), None)
        if decide is not None:
            document = decide(document, text)
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
        line = None
        if audited:
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
        return Copy(key, name, is_new, document.model_version, marked, readable, line)

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
        if copy.name is None:
            self.folder_markers += 1
            return
        self.written += copy.is_new
        self.already_written += not copy.is_new
        self.redacted.update(copy.redacted)
        self.readable.update(copy.readable)

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

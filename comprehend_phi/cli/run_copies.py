"""Redacted copies of all notes of a run: checked before a job starts, written after all ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from .._redaction import redact
from .._results.notes import notes_of
from .._wording import amount
from ..corpus.copies import checked_audit, checked_destination, write_copies
from ..corpus.copies_report import IncompleteCopiesError
from ..errors import RequestValidationError, ResultsError, ServiceError, TransportError
from ..models import S3Location
from .delivery import name_failed, path_of_copy, show_audit
from .exits import Exit, ExitCode
from .files import require_places
from .output import emit, emit_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._client import PHIClient
    from .._replacements import Replacement
    from ..corpus import CopiesReport, RunResults, RunSummary

_OPTIONS = {"destination": "--copies", "kms_key": "--copies-kms-key", "audit": "--audit"}


@frozen
class RunCopies:
    """The copies that --copies asks for.

    Attributes:
        destination: where the copies go.
        kms_key: the KMS key that encrypts them on S3, or None.
        audit: the audit file, or None.
        min_score: entities with a lower score stay readable.
        replacement: what replaces the others.
    """

    destination: Path | S3Location
    kms_key: str | None
    audit: Path | S3Location | None
    min_score: float
    replacement: Replacement

    def check(self, results: RunResults, files: Mapping[str, Path]) -> None:
        """Check what can be checked before a job starts.

        Args:
            results: the results of the plan. They need not exist yet.
            files: the files of the run, by their names in messages.

        Raises:
            Exit: the copies or the audit file cannot be written.
        """
        notes = notes_of(results)
        redact("", (), min_score=self.min_score, replacement=self.replacement)
        try:
            checked_destination("write_copies", notes, self.destination, self.kms_key)
            if self.audit is not None:
                checked_audit(notes, self.destination, self.audit)
        except RequestValidationError as error:
            problem = f"{_OPTIONS[error.field]} {error.reason}"
        else:
            require_places("--copies", self.destination, self.audit, files)
            return
        raise Exit(ExitCode.USAGE, problem)

    def write(self, client: PHIClient, summary: RunSummary, *, as_json: bool) -> list[str]:
        """Write the copies, and name the notes without one.

        Return lines that say what went wrong, or none.
        """
        problems: list[str] = []
        missing: Mapping[str, str] = {}
        try:
            report = write_copies(
                summary.results(client),
                self.destination,
                min_score=self.min_score,
                replacement=self.replacement,
                kms_key=self.kms_key,
                audit=self.audit,
            )
        except IncompleteCopiesError as error:
            report, missing = error.report, error.failed
            error.failed = {}  # so that the message does not name them again
            problems.append(str(error))
        except (ResultsError, ServiceError, TransportError) as error:
            for key, reason in error.failed.items():
                name_failed(key, reason, as_json=as_json)
            error.failed = {}  # as above
            raise
        failed = {
            each.input_key: f"{type(each.error).__name__}: {each.error}" for each in report.failures
        }
        failed |= missing
        for key, reason in failed.items():
            name_failed(key, reason, as_json=as_json)
        if failed:
            problems.insert(0, f"{amount(len(failed), 'note has', 'notes have')} no redacted copy")
        self._show(report, as_json=as_json)
        return problems

    def _show(self, report: CopiesReport, *, as_json: bool) -> None:
        if as_json:
            emit_json({"copies": json.loads(report.to_json())})
            return
        number = report.written + report.already_written
        copies = amount(number, "redacted copy is", "redacted copies are")
        new = amount(report.written, "is new", "are new")
        emit(f"{copies} in {path_of_copy(self.destination)}, of which {new}")
        if self.audit is not None:
            show_audit(self.audit, report.audit_sha256)

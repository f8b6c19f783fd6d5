"""What was copied and what was not: as a value, as JSON, and as an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from ..errors import ComprehendPHIError, IncompleteResultsError
from .safe_harbor import NOT_COVERED, SAFE_HARBOR, SafeHarborIdentifier

_VERSION = 1  # of the JSON


class CopyError(ComprehendPHIError):
    """A redacted copy was not written, because of its name or of what is there already.

    The message contains no name.
    """


@frozen(kw_only=True)
class CopyFailure:
    """A note without a redacted copy.

    Attributes:
        input_key: the key of the note. Not in the repr.
        error: why there is no copy. The messages of some errors contain the key. Not in the repr.
    """

    input_key: str = field(repr=False)
    error: ComprehendPHIError = field(repr=False)


@frozen(kw_only=True)
class CopiesReport:
    """What `write_copies` did.

    The report says what the service detected and what was replaced. It does not say that the copies
    are de-identified: the service may miss PHI.

    Attributes:
        jobs: the id of each job, and the request token of its start, or None if it is unknown.
        model_versions: the versions of the service's model, sorted.
        package_version: the version of this package.
        min_score: entities with a lower score were left readable.
        replacement: the template of the marks; None if a function made them.
        written: the number of copies that were written now.
        already_written: the number of copies that an earlier run had written.
        folder_markers: the number of empty notes whose key ends with a slash. They get no copy.
        unprocessed: the number of files that the service did not process; None if it is unknown.
        failures: the notes without a copy, in the order of the results.
        redacted_counts: the number of redacted entities by type.
        readable_counts: the number of entities by type that were left readable.
        audit_sha256: the SHA-256 of the audit file as hexadecimal digits; None without `audit`.
    """

    jobs: tuple[tuple[str, str | None], ...]
    model_versions: tuple[str, ...]
    package_version: str
    min_score: float
    replacement: str | None
    written: int
    already_written: int
    folder_markers: int
    unprocessed: int | None
    failures: tuple[CopyFailure, ...] = field(repr=False)
    redacted_counts: Mapping[str, int]
    readable_counts: Mapping[str, int]
    audit_sha256: str | None

    def safe_harbor_counts(self) -> dict[SafeHarborIdentifier, int]:
        """Return how many redacted entities belong to each identifier, according to AWS's table.

        The table assigns several identifiers to some types. Nobody outside AWS can say which of
        them an entity is, so it counts for each. Types that are not in the table do not count.
        """
        counts = dict.fromkeys(SafeHarborIdentifier, 0)
        for entity_type, number in self.redacted_counts.items():
            for identifier in SAFE_HARBOR.get(entity_type, ()):
                counts[identifier] += number
        return counts

    def to_json(self) -> str:
        """Return the report as JSON. It contains no key and no text of a note.

        `failures` has the number of failures by the class of the error. `types_not_in_table` has
        the types of redacted entities that AWS's table does not contain.
        """
        errors = Counter(type(failure.error).__name__ for failure in self.failures)
        members: dict[str, Any] = {
            "version": _VERSION,
            "jobs": [{"job_id": job_id, "request_token": token} for job_id, token in self.jobs],
            "model_versions": self.model_versions,
            "package_version": self.package_version,
            "min_score": self.min_score,
            "replacement": self.replacement,
            "copies": {"written": self.written, "already_written": self.already_written},
            "folder_markers": self.folder_markers,
            "unprocessed": self.unprocessed,
            "failures": dict(sorted(errors.items())),
            "entities": {
                "redacted": dict(sorted(self.redacted_counts.items())),
                "readable": dict(sorted(self.readable_counts.items())),
            },
            "safe_harbor": {
                "counts": self.safe_harbor_counts(),
                "types_not_in_table": sorted(self.redacted_counts.keys() - SAFE_HARBOR.keys()),
                "not_covered_by_service": NOT_COVERED,
            },
            "audit_sha256": self.audit_sha256,
        }
        return json.dumps(members, indent=2)


class IncompleteCopiesError(IncompleteResultsError):
    """Some results are missing, so their notes have no redacted copy. All other copies are written.

    Attributes, in addition to those of `IncompleteResultsError`:
        report: what was written.
    """

    def __init__(
        self,
        reason: str,
        *,
        bucket: str,
        report: CopiesReport,
        missing: Sequence[str] = (),
        failed: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(reason, bucket=bucket, missing=missing, failed=failed, job_id=job_id)
        self.report = report

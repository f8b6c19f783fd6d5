"""What a check of the input found, and what the job would cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, Self, cast

from attrs import field, frozen

from .._wording import amount, join_first
from ..errors import ComprehendPHIError, RequestValidationError

PRICE_PER_UNIT = Decimal("0.0014")
"""The list price of one unit, 100 characters of PHI detection, in US dollars.

Source: https://aws.amazon.com/comprehend/medical/pricing/, as of 2026. It does not include the free
tier (85,000 units in the first month) and discounts.
"""


Severity = Literal["error", "warning"]


class ProblemCode(StrEnum):
    """What can be wrong with the input of a job. "Before you pay" in the docs gives the reasons."""

    # About one file.
    TOO_LARGE = "TOO_LARGE"
    EMPTY = "EMPTY"
    FOLDER_MARKER = "FOLDER_MARKER"
    DOUBLE_SLASH = "DOUBLE_SLASH"
    ARCHIVED = "ARCHIVED"
    NOT_PLAIN_TEXT = "NOT_PLAIN_TEXT"
    OUTPUT_KEY_TOO_LONG = "OUTPUT_KEY_TOO_LONG"
    # About the content of one file, so only found if the notes are read.
    NOT_UTF8 = "NOT_UTF8"
    BYTE_ORDER_MARK = "BYTE_ORDER_MARK"
    NUL_CHARACTER = "NUL_CHARACTER"
    # About the whole job.
    NO_FILES = "NO_FILES"
    TOO_MANY_FILES = "TOO_MANY_FILES"
    TOO_MANY_BYTES = "TOO_MANY_BYTES"
    NO_SUCH_BUCKET = "NO_SUCH_BUCKET"
    WRONG_REGION = "WRONG_REGION"
    OUTPUT_INSIDE_INPUT = "OUTPUT_INSIDE_INPUT"
    SIBLING_PREFIX = "SIBLING_PREFIX"

    @property
    def severity(self) -> Severity:
        """Return "error" if the job would fail or skip the file, otherwise "warning"."""
        return "warning" if self in _WARNINGS else "error"


_WARNINGS = frozenset(
    {
        ProblemCode.EMPTY,
        ProblemCode.FOLDER_MARKER,
        ProblemCode.NOT_PLAIN_TEXT,
        ProblemCode.BYTE_ORDER_MARK,
        ProblemCode.NUL_CHARACTER,
        ProblemCode.OUTPUT_INSIDE_INPUT,
        ProblemCode.SIBLING_PREFIX,
    }
)


@frozen(kw_only=True)
class InputProblem:
    """One thing that is wrong with the input.

    Attributes:
        code: what is wrong.
        key: the S3 key of the file or name; None if the problem concerns the whole job. Keys may
            name people, so the repr does not show this.
        detail: numbers and names that explain the problem. Contains neither keys nor text.
    """

    code: ProblemCode
    key: str | None = field(default=None, repr=False)
    detail: str

    @property
    def severity(self) -> Severity:
        """Return "error" if the job would fail or skip the file, otherwise "warning"."""
        return self.code.severity


@frozen(kw_only=True)
class CostEstimate:
    """What a job would cost, in US dollars.

    Attributes:
        minimum: the cost if AWS rounds once, for the whole job.
        maximum: the cost if AWS rounds up for every file.
    """

    minimum: Decimal
    maximum: Decimal


@frozen(kw_only=True)
class InputReport:
    """What a job would read.

    Attributes:
        file_count: number of files, without folder markers. Includes files that AWS would skip.
        total_bytes: size of these files, in bytes.
        characters: number of code points in the files that AWS would process; None unless every one
            of them was read.
        min_units: fewest units that AWS may charge. A unit is 100 characters.
        max_units: most units that AWS may charge. Every file counts as at least one unit.
        problems: the problems, at most 1,000 for each code. Not in the repr.
        problem_counts: the number of problems for each code that occurred; complete.
    """

    file_count: int
    total_bytes: int
    characters: int | None
    min_units: int
    max_units: int
    problems: tuple[InputProblem, ...] = field(repr=False)
    problem_counts: Mapping[str, int]

    def estimate_cost(self, price_per_unit: Decimal | float = PRICE_PER_UNIT) -> CostEstimate:
        """Return what the job would cost, in US dollars.

        Files that AWS would skip are not priced.

        Args:
            price_per_unit: the price of one unit in US dollars. A float counts as the decimal
                number that Python shows for it.

        Raises:
            RequestValidationError: `price_per_unit` is not a finite number, or is negative.
        """
        price = us_dollars("estimate_cost", "price_per_unit", price_per_unit)
        return CostEstimate(minimum=self.min_units * price, maximum=self.max_units * price)

    def raise_for_problems(self, ignore: Collection[str] = ()) -> None:
        """Raise `InputCheckError` if the report contains an error. Warnings do not raise.

        Args:
            ignore: codes of errors that you accept.

        Raises:
            InputCheckError: there is an error whose code is not in `ignore`.
            RequestValidationError: `ignore` is not a collection of codes.
        """
        accepted = _codes(ignore)
        if any(
            ProblemCode(code).severity == "error"
            for code in self.problem_counts
            if code not in accepted
        ):
            raise InputCheckError(self, ignored=accepted)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for `json.dumps`. It contains keys."""
        return {
            "file_count": self.file_count,
            "total_bytes": self.total_bytes,
            "characters": self.characters,
            "min_units": self.min_units,
            "max_units": self.max_units,
            "problem_counts": dict(self.problem_counts),
            "problems": [
                {
                    "code": str(problem.code),
                    "severity": problem.severity,
                    "key": problem.key,
                    "detail": problem.detail,
                }
                for problem in self.problems
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the report from what `to_dict` returned."""
        arguments = dict(values)
        arguments["problems"] = tuple(
            InputProblem(
                code=ProblemCode(problem["code"]), key=problem["key"], detail=problem["detail"]
            )
            for problem in values["problems"]
        )
        return cls(**arguments)


class InputCheckError(ComprehendPHIError):
    """The input of a job has errors. The message contains their codes and counts, but no keys.

    Attributes:
        report: the whole report. `report.problems` contains the keys.
        codes: the codes of the errors.
    """

    def __init__(self, report: InputReport, *, ignored: Collection[str] = ()) -> None:
        super().__init__()
        self.report = report
        self.codes: tuple[ProblemCode, ...] = tuple(
            code
            for code in map(ProblemCode, report.problem_counts)
            if code.severity == "error" and code not in ignored
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{code} ({self.report.problem_counts[code]})" for code in self.codes)
        return (
            f"The input has errors: {counts}. Fix what `report.problems` names, or ignore the codes"
            " that you accept."
        )


class IncompleteCheckError(ComprehendPHIError):
    """Some notes could not be read, so the report does not cover their content.

    The message names up to 20 of them by bucket and key, so that you can find and fix them.

    Attributes:
        report: everything that is known. `characters` is None, and the units of unread notes are
            estimated from their size.
        bucket: the input bucket.
        failed: the reason for each unread note by its key, at most 1,000. A reason begins with the
            name of an error class and contains no text.
        failed_count: the number of unread notes; complete.
    """

    def __init__(
        self, report: InputReport, *, bucket: str, failed: Mapping[str, str], failed_count: int
    ) -> None:
        super().__init__()
        self.report = report
        self.bucket = bucket
        self.failed: Mapping[str, str] = dict(failed)
        self.failed_count = failed_count

    def __str__(self) -> str:
        shown = join_first([*self.failed.values()], count=self.failed_count, separator="; ")
        notes = amount(self.failed_count, "note")
        return f"{notes} in s3://{self.bucket} could not be read: {shown}"


def us_dollars(owner: str, field: str, value: object) -> Decimal:
    """Return an argument as an exact number of US dollars.

    Raises:
        RequestValidationError: `value` is not a finite number, or is negative.
    """
    if isinstance(value, (Decimal, int, float)) and not isinstance(value, bool):
        price = Decimal(str(value))
        if price.is_finite() and price >= 0:
            return price
        reason = "must be finite and not negative"
    else:
        reason = f"must be a number, not {type(value).__name__}"
    raise RequestValidationError(owner=owner, field=field, shape="US dollars", reason=reason)


def _codes(ignore: object) -> Collection[str]:
    # A string is a collection too, of its letters.
    if not isinstance(ignore, str) and isinstance(ignore, Collection):
        codes = cast("Collection[str]", ignore)
        if all(code in ProblemCode.__members__ for code in codes):
            return codes
        reason = f"must only contain codes: {', '.join(ProblemCode)}"
    else:
        reason = f"must be a collection of codes, not {type(ignore).__name__}"
    raise RequestValidationError(
        owner="raise_for_problems", field="ignore", shape="ProblemCode", reason=reason
    )

"""Checking a job's input: what `check` prints, and what stops a start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .._client import PHIClient
from .._wording import amount, join_first
from ..models import InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest
from .exits import Exit, ExitCode
from .output import emit, emit_json, inform, table

if TYPE_CHECKING:
    from ..corpus import InputReport

# A check neither uses a role nor starts anything.
_NO_ROLE = "arn:aws:iam::000000000000:role/none"

_SHOWN = 3  # keys for each code
_PROGRESS_SECONDS = 5.0

_EARLIER = (
    "An earlier command with this --token may have started the job. To find out, use"
    " `comprehend-phi list`."
)


def us_dollars(text: str) -> Decimal:
    """Parse a price or a cost. Raise ValueError if it is not a number, or is negative."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise ValueError
    return price


def print_check(
    client: PHIClient,
    source: InputDataConfig,
    destination: OutputDataConfig | None,
    *,
    read: bool,
    price: Decimal | None,
    as_json: bool,
) -> int:
    """Check the input of a job, print the report to stdout, and return the exit code."""
    from ..corpus import PRICE_PER_UNIT, IncompleteCheckError, check_input

    request = StartPHIDetectionJobRequest(
        input_data_config=source,
        output_data_config=destination or OutputDataConfig(s3_bucket=source.s3_bucket),
        data_access_role_arn=_NO_ROLE,
    )
    unread: str | None = None
    try:
        report = check_input(client, request, read_notes=read, on_progress=_Progress())
    except IncompleteCheckError as error:
        report, unread = error.report, str(error)
    if destination is None:
        report = _without_output(report)
    price = PRICE_PER_UNIT if price is None else price
    if as_json:
        cost = report.estimate_cost(price)
        costs = {"minimum": float(cost.minimum), "maximum": float(cost.maximum)}
        emit_json({**report.to_dict(), "price_per_unit": float(price), "cost": costs})
    else:
        _show(report, price)
    if unread is not None:
        raise Exit(ExitCode.FAILED, unread)
    return ExitCode.INPUT_ERRORS if _errors(report) else ExitCode.DONE


@frozen
class Preconditions:
    """What must be true before a job starts: the options `--check` and `--max-cost`."""

    check: bool
    max_cost: Decimal | None

    def require(
        self, client: PHIClient, request: StartPHIDetectionJobRequest, *, maybe_sent: bool
    ) -> None:
        """Check the input, unless neither option was given. Print the problems to stderr.

        Args:
            client: reads the input.
            request: says where the input is.
            maybe_sent: whether an earlier command may have sent the request.

        Raises:
            Exit: the input has errors, or the job may cost more than `max_cost`.
        """
        if not self.check and self.max_cost is None:
            return
        from ..corpus import PRICE_PER_UNIT, check_input

        earlier = (_EARLIER,) if maybe_sent else ()
        report = check_input(client, request, on_progress=_Progress())
        if self.check:
            show_problems(report)
        inform(cost_line(report, PRICE_PER_UNIT))
        if self.check and (errors := _errors(report)):
            raise Exit(
                ExitCode.INPUT_ERRORS,
                f"This command started no job, because the input has errors: {', '.join(errors)}.",
                "Fix them, or start the job without --check.",
                *earlier,
            )
        maximum = report.estimate_cost().maximum
        if self.max_cost is not None and maximum > self.max_cost:
            raise Exit(
                ExitCode.COSTS_MORE,
                f"This command started no job, because it may cost {dollars(maximum)}, which is"
                f" more than --max-cost {dollars(self.max_cost)}.",
                *earlier,
            )


def show_problems(report: InputReport) -> None:
    """Print the problems in a report to stderr, one line for each code."""
    for code, severity, count, keys in _rows(report):
        inform(f"{severity.capitalize()}: {code} ({count}): {keys}")


class _Progress:
    """Prints to stderr how many files have been checked, every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def __call__(self, file_count: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            inform(f"{amount(file_count, 'file')} checked")


def _without_output(report: InputReport) -> InputReport:
    """Return the report of a check that knows no output location."""
    counts = {**report.problem_counts}
    counts.pop("OUTPUT_INSIDE_INPUT", None)
    return evolve(
        report,
        problems=tuple(each for each in report.problems if each.code in counts),
        problem_counts=counts,
    )


def _show(report: InputReport, price: Decimal) -> None:
    """Print the report to stdout."""
    total = f"{amount(report.file_count, 'file')}, {amount(report.total_bytes, 'byte')}"
    if report.characters is not None:
        total += f", {amount(report.characters, 'character')}"
    emit(total)
    emit(cost_line(report, price))
    if report.problem_counts:
        table(("CODE", "SEVERITY", "COUNT", "FIRST"), _rows(report))


def cost_line(report: InputReport, price: Decimal, what: str = "The job") -> str:
    """Return what a job, or what else `what` names, would cost."""
    cost = report.estimate_cost(price)
    return (
        f"{what} would cost {dollars(cost.minimum)} to {dollars(cost.maximum)}:"
        f" {report.min_units:,} to {amount(report.max_units, 'unit')} at ${price} each"
    )


def dollars(cost: Decimal) -> str:
    """Return a cost in US dollars as a user reads it."""
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:,.4f}"


def _rows(report: InputReport) -> Iterator[tuple[str, str, str, str]]:
    """Yield the code, the severity, the count and the first keys of each kind of problem."""
    from ..corpus import ProblemCode

    for code, count in report.problem_counts.items():
        problems = (each for each in report.problems if each.code == code)
        # A problem of the whole job has no key.
        names = [each.detail if each.key is None else each.key for each in problems]
        first = join_first(names, count=count, limit=_SHOWN)
        yield code, ProblemCode(code).severity, f"{count:,}", first


def _errors(report: InputReport) -> list[str]:
    """Return the codes of the errors in a report."""
    from ..corpus import ProblemCode

    return [code for code in report.problem_counts if ProblemCode(code).severity == "error"]

"""How a run ended: its outcomes, and the errors that end it early."""

from __future__ import annotations

from decimal import Decimal

from attrs import field, frozen

from .._client import PHIClient
from .._shapes import InstanceShape, check_argument
from .._wording import amount
from ..errors import ComprehendPHIError
from .outcome import JobOutcome
from .plan import JobPlan
from .run_results import RunResults

_CLIENT = InstanceShape(PHIClient)


@frozen(kw_only=True)
class RunSummary:
    """The outcomes of a run. It can be pickled, and needs no ledger.

    Attributes:
        plan: the plan whose jobs were run. Not in the repr.
        jobs: what became of each job, in the order of the plan.
    """

    plan: JobPlan = field(repr=False)
    jobs: tuple[JobOutcome, ...]

    def results(self, client: PHIClient) -> RunResults:
        """Return the results of all jobs, which are read from S3 when you use them.

        Args:
            client: reads the corpus and the results.

        Raises:
            RequestValidationError: `client` is not a `PHIClient`.
        """
        check_argument("RunSummary.results", "client", _CLIENT, client)
        return RunResults(client, self.plan, self.jobs)


class CostLimitError(ComprehendPHIError):
    """The jobs may cost more than `max_cost`. Nothing was started.

    Attributes:
        maximum: the upper estimate of the cost, in US dollars.
        max_cost: the limit, in US dollars.
    """

    def __init__(self, *, maximum: Decimal, max_cost: Decimal) -> None:
        super().__init__()
        self.maximum = maximum
        self.max_cost = max_cost

    def __str__(self) -> str:
        return (
            f"The jobs may cost ${self.maximum:,.2f}, which is more than max_cost"
            f" (${self.max_cost:,.2f}). Nothing was started."
        )


class IncompleteRunError(ComprehendPHIError):
    """A run ended before all of its jobs had ended. The jobs that were started are not affected.

    To continue, repeat the call of `run_jobs` or `abandon` with the same plan and ledger.

    Attributes:
        summary: what is known about each job.
        error: the error that ended the run; None if its time was up.
    """

    def __init__(
        self,
        reason: str,
        *,
        summary: RunSummary,
        error: ComprehendPHIError | None = None,
    ) -> None:
        super().__init__(reason)
        self.summary = summary
        self.error = error

    def __str__(self) -> str:
        advice = "Repeat" if self.error is None else "Fix the cause, then repeat"
        return f"{self.description} {advice} the call with the same plan and ledger."

    @property
    def description(self) -> str:
        """What happened: the message without its advice."""
        statuses = [job.status for job in self.summary.jobs]
        ended = sum(status is not None and status.is_terminal for status in statuses)
        running = sum(status is not None and not status.is_terminal for status in statuses)
        return (
            f"The run ended early: {self.args[0].rstrip('.')}. Of {amount(len(statuses), 'job')},"
            f" {amount(ended, 'has', 'have')} ended and {amount(running, 'is', 'are')} running,"
            " which this does not affect."
        )

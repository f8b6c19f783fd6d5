"""Planning and running many jobs: the saved plan, the question about the cost, the live table."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve

from .._wording import amount
from ..errors import RequestValidationError
from ..models import JobStatus
from .checking import cost_line, dollars, show_problems
from .delivery import name_unprocessed
from .exits import Exit, ExitCode, interrupted
from .files import write_private
from .guidance import advising
from .output import emit, emit_json, inform, printable, table
from .progress import LiveDisplay

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rich.table import Table

    from .._client import PHIClient
    from ..corpus import JobOutcome, JobPlan, RunSummary
    from ..errors import ResultsError
    from ..models import S3Location, StartPHIDetectionJobRequest

CONTINUE = "To continue, repeat the command."


def show_plan(plan: JobPlan) -> None:
    """Print a plan to stdout, one row for each job."""
    from ..corpus import PRICE_PER_UNIT

    files = sum(job.file_count for job in plan.jobs)
    emit(f"{amount(len(plan.jobs), 'job')} with {amount(files, 'file')}")
    emit(cost_line(plan.report, PRICE_PER_UNIT, "The jobs"))
    table(
        ("JOB", "FILES", "BYTES", "STAGED"),
        [
            (
                str(job.index),
                f"{job.file_count:,}",
                f"{job.total_bytes:,}",
                "yes" if job.staged else "no",
            )
            for job in plan.jobs
        ],
    )


def plan_members(plan: JobPlan) -> dict[str, Any]:
    """Return a plan for JSON, without names and keys."""
    cost = plan.report.estimate_cost()
    return {
        "cost": {"minimum": float(cost.minimum), "maximum": float(cost.maximum)},
        "problem_counts": dict(plan.report.problem_counts),
        "jobs": [
            {
                "index": job.index,
                "file_count": job.file_count,
                "total_bytes": job.total_bytes,
                "staged": job.staged,
                "client_request_token": job.request.client_request_token,
            }
            for job in plan.jobs
        ],
    }


def plan_file(ledger: Path) -> Path:
    """Return the file beside a ledger in which the plan of the run is saved."""
    return ledger.with_name(f"{ledger.name}.plan.json")


def saved_plan(
    file: Path, request: StartPHIDetectionJobRequest, name: str, staging: S3Location | None
) -> JobPlan | None:
    """Return the plan in a file, or None if there is no such file.

    A run that continues needs the plan that it began with, even if files have arrived since.

    Raises:
        Exit: the file is not a plan, or the plan is not for this request, name and location.
    """
    plan = read_plan(file)
    if plan is None:
        return None
    again = "Repeat the command as it was, or choose another --ledger."
    same = evolve(request, client_request_token=plan.request.client_request_token)
    if (plan.request, plan.name) != (same, name):
        raise Exit(
            ExitCode.USAGE,
            f"{file} is a plan for other locations, another role, key or name.",
            again,
        )
    if not _is_staged_in(plan, staging):
        raise Exit(ExitCode.USAGE, f"{file} is a plan with another --staging location.", again)
    return plan


def save_plan(file: Path, plan: JobPlan) -> None:
    """Save the plan of a run that begins.

    Raises:
        Exit: another run has saved its plan there meanwhile, for example while the user was asked
            about the cost. Its ledger only fits that plan.
        OSError: the file cannot be written.
    """
    try:
        write_private(file, plan.to_json(), replaces=False)
    except FileExistsError:
        problem = (
            f"Nothing was started, because another run has saved its plan in {file} meanwhile."
        )
    else:
        return
    raise Exit(ExitCode.FAILED, problem, "To continue with that plan, repeat the command.")


def _is_staged_in(plan: JobPlan, staging: S3Location | None) -> bool:
    """Return whether the copies of all staged jobs are below `staging`."""
    from ..corpus.plan import staging_folder

    for job in plan.jobs:
        if job.staged:
            if staging is None:
                return False
            location, token = job.request.input_data_config, job.request.client_request_token
            folder = staging_folder(staging.key, token)
            if (location.s3_bucket, location.s3_key) != (staging.bucket, folder):
                return False
    return True


def read_plan(file: Path) -> JobPlan | None:
    """Return the plan in a file, or None if there is no such file.

    Raises:
        Exit: the file is not a plan.
    """
    from ..corpus import JobPlan

    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        return JobPlan.from_json(text)
    except RequestValidationError:
        pass
    raise Exit(
        ExitCode.FAILED,
        f"{file} is not a plan that this version can read.",
        "Rename the file to plan again. Jobs that were started are found by their names.",
    )


def confirm(plan: JobPlan, *, yes: bool) -> None:
    """Print what the jobs cost, and let the user confirm it.

    Raises:
        Exit: the user declines, or there is no terminal to ask on and `yes` is false.
    """
    from ..corpus import PRICE_PER_UNIT

    show_problems(plan.report)
    staged = sum(job.staged for job in plan.jobs)
    need = amount(staged, "needs copies of its files", "need copies of their files")
    inform(f"{amount(len(plan.jobs), 'job')}, of which {need}")
    inform(cost_line(plan.report, PRICE_PER_UNIT, "The jobs"))
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():  # None: the shell closed it (`<&-`)
        raise Exit(
            ExitCode.USAGE, "Nothing was started. Without a terminal, confirm the cost with --yes."
        )
    maximum = dollars(plan.report.estimate_cost().maximum)
    if not click.confirm(f"Start the jobs for up to {maximum}?", err=True):
        raise Exit(ExitCode.FAILED, "Nothing was started.")


def require_cost(plan: JobPlan, max_cost: Decimal | None) -> None:
    """Raise `Exit` if the jobs may cost more than `max_cost`."""
    maximum = plan.report.estimate_cost().maximum
    if max_cost is not None and maximum > max_cost:
        raise Exit(
            ExitCode.COSTS_MORE,
            f"This command started no job, because the jobs may cost {dollars(maximum)}, which is"
            f" more than --max-cost {dollars(max_cost)}.",
        )


def follow(
    client: PHIClient,
    plan: JobPlan,
    ledger: Path,
    *,
    timeout: float | None,
    retry_failed: bool,
    keep_staged: bool,
) -> RunSummary:
    """Run the jobs of a plan and show their progress. If that ends early, say how to continue."""
    from ..corpus import run_jobs
    from ..corpus.runner import WAIT

    with _continuable("The jobs are not affected."), RunProgress(plan) as progress:
        return run_jobs(
            client,
            plan,
            ledger,
            wait=evolve(WAIT, timeout=timeout),
            on_change=progress.on_change,
            retry_failed=retry_failed,
            keep_staged=keep_staged,
        )


def give_up(client: PHIClient, plan: JobPlan, ledger: Path) -> RunSummary:
    """Stop the jobs of a plan and delete their copies. If that ends early, say how to continue."""
    from ..corpus import abandon

    with _continuable("Some jobs may not have been stopped."):
        return abandon(client, plan, ledger)


@contextmanager
def _continuable(effect: str) -> Generator[None, None, None]:
    """Print how to continue if a run ends early.

    Args:
        effect: what an interruption means for the jobs.
    """
    from ..corpus import IncompleteRunError

    try:
        yield
    except KeyboardInterrupt:
        end = interrupted(f"Interrupted. {effect}", CONTINUE)
    except IncompleteRunError as error:
        if error.error is None:
            end = Exit(ExitCode.TIMED_OUT, error.description, CONTINUE)
        else:
            advice = "Fix the cause, then repeat the command."
            end = Exit(ExitCode.FAILED, error.description, advice)
    else:
        return
    raise end


def show_outcomes(summary: RunSummary, *, as_json: bool) -> None:
    """Print to stdout how each job ended."""
    if as_json:
        for job in summary.jobs:
            emit_json(
                {
                    "index": job.planned.index,
                    "job_id": job.job_id,
                    "job_status": job.status,
                    "is_lost": job.is_lost,
                    "message": job.message,
                }
            )
    else:
        table(
            ("JOB", "JOB ID", "STATUS", "MESSAGE"),
            [
                (
                    str(job.planned.index),
                    job.job_id or "",
                    "" if job.status is None else str(job.status),
                    job.message or "",
                )
                for job in summary.jobs
            ],
        )


def name_skipped(client: PHIClient, summary: RunSummary, *, as_json: bool) -> tuple[int, list[str]]:
    """Name the files that the service did not process, and return how many there are.

    Also return lines that say for which jobs this is unknown.
    """
    from ..corpus.run_results import skipped_files

    count = 0
    problems: list[str] = []

    def add_problem(job: JobOutcome, error: ResultsError) -> None:
        problems.append(
            f"The files that job {job.planned.index} did not process are unknown: {error}"
        )

    with advising("reading the results", CONTINUE):
        for file in skipped_files(client, summary.plan, summary.jobs, add_problem):
            count += 1
            name_unprocessed(file, as_json=as_json)
    return count, problems


def end(summary: RunSummary, problems: Sequence[str], *, skipped: int) -> int:
    """Return the exit code.

    Args:
        summary: how the jobs ended.
        problems: what went wrong after that.
        skipped: the number of files that the service did not process.

    Raises:
        Exit: a job did not complete, or something went wrong after that.
    """
    lines = [*problems]
    statuses = {job.status for job in summary.jobs}
    if not statuses <= {JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS}:
        lines.append("Some jobs did not complete.")
        if lost := sum(job.is_lost for job in summary.jobs):
            lines.append(
                f"{amount(lost, 'lost job')} may have run. Check the output location and your bill"
                " before you use --retry-failed."
            )
        lines.append("Fix the causes, then repeat the command with --retry-failed.")
    if lines:
        raise Exit(ExitCode.FAILED, *lines)
    is_partial = skipped or JobStatus.PARTIAL_SUCCESS in statuses
    return ExitCode.PARTIAL if is_partial else ExitCode.DONE


class RunProgress(LiveDisplay):
    """Shows a run on stderr: on a terminal a live table of its jobs, otherwise a line per change.

    Args:
        plan: the plan that is run.
    """

    def __init__(self, plan: JobPlan) -> None:
        super().__init__()
        self._plan = plan
        self._outcomes: dict[int, JobOutcome] = {}

    def on_change(self, job: JobOutcome) -> None:
        """Show what has changed."""
        self._outcomes[job.planned.index] = job
        if self._live is None:
            job_id = "" if job.job_id is None else f" ({job.job_id})"
            inform(f"Job {job.planned.index}{job_id}: {_state(job)}")

    def __rich__(self) -> Table:
        """Return the live table: the jobs that something happens to, and how many others."""
        from rich.table import Table

        drawn = Table(box=None)
        for heading in ("JOB", "FILES", "STATE"):
            drawn.add_column(heading)
        shown = [job for job in self._outcomes.values() if not _is_over(job)]
        for job in sorted(shown, key=lambda job: job.planned.index):
            planned = job.planned
            drawn.add_row(str(planned.index), f"{planned.file_count:,}", printable(_state(job)))
        over = len(self._outcomes) - len(shown)
        drawn.add_row(
            "", "", f"{over} of {amount(len(self._plan.jobs), 'job has', 'jobs have')} ended"
        )
        return drawn


def _state(job: JobOutcome) -> str:
    state = "" if job.status is None else str(job.status)
    return ": ".join(filter(None, (state, job.message))) or "ready to start"


def _is_over(job: JobOutcome) -> bool:
    return job.is_lost or (job.status is not None and job.status.is_terminal)

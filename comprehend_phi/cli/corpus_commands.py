"""The commands for many notes: plan the jobs of a corpus, and run them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click

from .._wording import amount
from ..models import InputDataConfig, OutputDataConfig
from .checking import show_problems
from .exits import Exit, ExitCode
from .files import write_private
from .group import Command
from .guidance import advising
from .options import (
    LOCAL_FILE,
    copies_options,
    json_option,
    max_cost_option,
    plan_options,
    s3_location,
    service_options,
    timeout_option,
)
from .output import emit_json
from .run_copies import RunCopies
from .runs import (
    CONTINUE,
    confirm,
    end,
    follow,
    give_up,
    name_skipped,
    plan_file,
    plan_members,
    read_plan,
    require_cost,
    save_plan,
    saved_plan,
    show_outcomes,
    show_plan,
)
from .targets import PlanOptions, ServiceOptions


@click.command("plan", cls=Command)
@click.argument("source")
@click.argument("destination")
@click.option(
    "--name",
    required=True,
    metavar="NAME",
    help="The name of the plan. The names of all its jobs begin with it.",
)
@plan_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    **LOCAL_FILE,
    help="Write the plan as JSON to this local file, which only you can read.",
)
@service_options
@json_option
def plan(
    source: str,
    destination: str,
    name: str,
    options: PlanOptions,
    output: Path | None,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Plan the jobs for a large corpus, and estimate their cost. Start nothing.

    SOURCE is where the notes are, and DESTINATION is where the results would go. Both are URIs such
    as s3://bucket/prefix.
    """
    from ..corpus import plan_jobs

    request = options.request(
        s3_location(InputDataConfig, "SOURCE", source),
        s3_location(OutputDataConfig, "DESTINATION", destination),
    )
    with service.client() as client:
        planned = plan_jobs(client, request, name=name, staging=options.location())
    show_problems(planned.report)
    if output is not None:
        write_private(output, planned.to_json())
    if as_json:
        emit_json(plan_members(planned))
    else:
        show_plan(planned)
    return ExitCode.DONE


@click.command(
    "run",
    cls=Command,
    exit_codes=(ExitCode.PARTIAL, ExitCode.TIMED_OUT, ExitCode.COSTS_MORE),
)
@click.argument("source")
@click.argument("destination")
@click.option(
    "--ledger",
    required=True,
    metavar="FILE",
    **LOCAL_FILE,
    help="The local file that says how far the jobs are. The plan is saved beside it.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="The name of the plan. Without it, the name of the ledger without its extension.",
)
@plan_options
@max_cost_option
@click.option("--yes", is_flag=True, help="Start the jobs without asking about their cost.")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Start jobs again that have failed, were stopped, are lost or were not started.",
)
@click.option("--keep-staged", is_flag=True, help="Keep the copies in --staging.")
@copies_options
@timeout_option
@service_options
@json_option
def run_plan(
    source: str,
    destination: str,
    ledger: Path,
    name: str | None,
    options: PlanOptions,
    max_cost: Decimal | None,
    yes: bool,
    retry_failed: bool,
    keep_staged: bool,
    copies: RunCopies | None,
    timeout: float | None,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Run all jobs for a large corpus. The same command again continues.

    SOURCE is where the notes are, and DESTINATION is where the results go. Both are URIs such as
    s3://bucket/prefix. The jobs are planned once. Notes that arrive later need another ledger.

    With --copies, write redacted copies of all notes when all jobs have ended.
    """
    from ..corpus import RunSummary, plan_jobs

    request = options.request(
        s3_location(InputDataConfig, "SOURCE", source),
        s3_location(OutputDataConfig, "DESTINATION", destination),
    )
    name = ledger.stem if name is None else name
    staging = options.location()
    file = plan_file(ledger)
    with service.client() as client:
        planned = saved_plan(file, request, name, staging)
        is_new = planned is None
        if planned is None:
            planned = plan_jobs(client, request, name=name, staging=staging)
        if copies is not None:
            files = {"--ledger": ledger, "the saved plan": file}
            copies.check(RunSummary(plan=planned, jobs=()).results(client), files)
        require_cost(planned, max_cost)
        if not ledger.exists():
            confirm(planned, yes=yes)
        if is_new:  # and confirmed: a plan that nobody ran would leave out files that arrive later
            save_plan(file, planned)
        summary = follow(
            client,
            planned,
            ledger,
            timeout=timeout,
            retry_failed=retry_failed,
            keep_staged=keep_staged,
        )
        show_outcomes(summary, as_json=as_json)
        skipped, problems = name_skipped(client, summary, as_json=as_json)
        if copies is not None:
            with advising("writing the copies", CONTINUE):
                problems = copies.write(client, summary, as_json=as_json)
    return end(summary, problems, skipped=skipped)


@click.command("abandon", cls=Command)
@click.argument("ledger", metavar="LEDGER", **LOCAL_FILE)
@service_options
@json_option
def abandon_plan(ledger: Path, service: ServiceOptions, as_json: bool) -> int:
    """Stop the jobs of a run, and delete its staged copies.

    LEDGER is the --ledger of the run. Wait until all jobs have ended. Their results stay where they
    are. The service may bill for what the jobs have processed.
    """
    file = plan_file(ledger)
    planned = read_plan(file)
    if planned is None:
        raise Exit(ExitCode.USAGE, f"There is no run to abandon: {file} does not exist.")
    with service.client() as client:
        summary = give_up(client, planned, ledger)
    show_outcomes(summary, as_json=as_json)
    if lost := sum(job.is_lost for job in summary.jobs):
        raise Exit(
            ExitCode.FAILED,
            f"{amount(lost, 'lost job was', 'lost jobs were')} not stopped. A job in another"
            " account or region continues there.",
        )
    return ExitCode.DONE

"""The public functions of a run: run the jobs of a plan, or abandon them."""

from __future__ import annotations

import os
from decimal import Decimal

from .._client import PHIClient
from .._jobs import WaitPolicy
from .._service.start_check import check_start
from .._shapes import CALLABLE, InstanceShape, check_argument
from .ledger import Ledger
from .plan import JobPlan
from .report import us_dollars
from .runner import WAIT, OnChange, Run
from .staging import Staging
from .summary import CostLimitError, RunSummary

_CLIENT = InstanceShape(PHIClient)
_PLAN = InstanceShape(JobPlan, "plan_jobs returns one")
_WAIT_POLICY = InstanceShape(WaitPolicy, "such as WaitPolicy(timeout=3600)")
_FLAG = InstanceShape(bool)


def run_jobs(
    client: PHIClient,
    plan: JobPlan,
    ledger: str | os.PathLike[str],
    *,
    wait: WaitPolicy = WAIT,
    max_cost: Decimal | float | None = None,
    on_change: OnChange | None = None,
    retry_failed: bool = False,
    keep_staged: bool = False,
) -> RunSummary:
    """Run all jobs of a plan, and return how each ended. Block until then.

    The ledger, a file on a local disk, says how far each job is. If the program ends early, for
    whatever reason, call `run_jobs` again with the same plan and ledger. It continues, and starts
    no job twice. Jobs are also found by their names, so even a lost ledger starts none twice.

    At most `plan.limits.max_active_jobs` jobs run at a time, and at most
    `plan.limits.starts_per_second` are started per second. If other programs take the slots, a
    start is tried again when one of these jobs ends, or after 15 seconds.

    Before a job starts, its files are listed again. If they are not those of the plan, the job is
    not started. The files of staged jobs are copied while other jobs run. The copies are deleted
    when their job has ended, however it ended. They are kept while the job's manifest is missing or
    does not account for all files. `run_jobs` then deletes them when you call it again, as soon as
    the results are complete.

    The service forgets jobs after 120 days. The manifest of such a job says how it ended. A
    forgotten job without a manifest is lost: it does not stop the others, and it is only started
    again with `retry_failed`.

    One job that fails does not stop the others. If the service cannot be reached, the run waits up
    to an hour for it, and then ends with an error. The jobs continue.

    Args:
        client: starts and follows the jobs. A wait for job slots in its `RetryPolicy` is not used.
        plan: the plan. `plan_jobs` or `plan_keys` returns it.
        ledger: the path of the ledger, which is created if it does not exist. Only its owner can
            read it. It contains no keys and no text.
        wait: how often to poll, and for how long to run. The time between two polls is `delay`, and
            `multiplier` - 1 of the time for which the oldest running job has run, but at most
            `max_delay`. That is how polls of this one job would follow each other. If `timeout`
            passes, the run ends with `IncompleteRunError`.
        max_cost: start nothing if the upper estimate of the plan's cost is more than this, in US
            dollars at list price.
        on_change: called in this thread with the outcome of a job whenever it changes: when its
            files are copied, when it waits for a slot, when it was started, when its status
            changes, and when it ended. A run that continues also calls it for each job that was
            started before. If it raises, the run ends with that exception. The jobs continue.
        retry_failed: start jobs again that have failed, were stopped, are lost or were not started,
            each once. A job that failed or is lost gets a new token, but a start whose response was
            never received keeps its token.
        keep_staged: keep the copies of staged jobs.

    Raises:
        RequestValidationError: an argument has a wrong type or value.
        CostLimitError: the jobs may cost more than `max_cost`. Nothing was started.
        LedgerInUseError: another run uses the ledger. Nothing was started.
        LedgerError: the ledger is damaged, belongs to another plan or cannot be written.
        IncompleteRunError: the run ended early: the credentials have expired, the client is closed,
            the service refuses all calls or cannot be reached, it does not know a job that it
            should know, the timeout has passed, or copies could not be deleted. Its `summary` has
            what is known about each job.

    Warns:
        PlaintextOutputWarning: the planned request has no `kms_key`.
    """
    _check_arguments("run_jobs", client, plan)
    check_argument("run_jobs", "wait", _WAIT_POLICY, wait)
    check_argument("run_jobs", "on_change", CALLABLE, on_change, optional=True)
    check_argument("run_jobs", "retry_failed", _FLAG, retry_failed)
    check_argument("run_jobs", "keep_staged", _FLAG, keep_staged)
    if max_cost is not None:
        limit = us_dollars("run_jobs", "max_cost", max_cost)
        maximum = plan.report.estimate_cost().maximum
        if maximum > limit:
            raise CostLimitError(maximum=maximum, max_cost=limit)
    check_start("run_jobs", plan.request)
    with Ledger(ledger, plan) as book:
        return Run(
            client,
            plan,
            book,
            Staging(client, plan),
            wait=wait,
            on_change=on_change,
            retry_failed=retry_failed,
            keep_staged=keep_staged,
        ).finish()


def abandon(client: PHIClient, plan: JobPlan, ledger: str | os.PathLike[str]) -> RunSummary:
    """Stop the running jobs of a plan, delete all staged copies, and return how each job ended.

    Start nothing. Block until all jobs have ended, because a job needs its copies until then. The
    service may bill for what the jobs have processed. The results of jobs that have ended stay
    where they are. To run the plan after all, call `run_jobs` with `retry_failed`.

    A job that the service does not know 15 minutes after its start, and that left no manifest, is
    lost. Make sure that the client uses the account and the region of the jobs: jobs elsewhere
    continue.

    Args:
        client: see `run_jobs`.
        plan: see `run_jobs`.
        ledger: see `run_jobs`.

    Raises:
        RequestValidationError, LedgerError, IncompleteRunError: see `run_jobs`.
    """
    _check_arguments("abandon", client, plan)
    with Ledger(ledger, plan) as book:
        return Run(client, plan, book, Staging(client, plan), abandons=True).finish()


def _check_arguments(owner: str, client: object, plan: object) -> None:
    check_argument(owner, "client", _CLIENT, client)
    check_argument(owner, "plan", _PLAN, plan)

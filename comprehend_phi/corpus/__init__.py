"""Many notes: check them before you pay for a job.

    from comprehend_phi.corpus import check_input

    report = check_input(client, request)
    report.raise_for_problems()
    print(report.estimate_cost().maximum)

Importing this package does not import boto3.
"""

from ..models import S3Location
from .check import check_input, check_input_async, check_objects
from .copies import write_copies
from .copies_report import CopiesReport, CopyError, CopyFailure, IncompleteCopiesError
from .ledger import LedgerError, LedgerInUseError
from .limits import ServiceLimits
from .outcome import JobOutcome
from .plan import JobPlan, PlanChangedError, PlanError, PlannedJob
from .planning import plan_jobs, plan_keys
from .report import (
    PRICE_PER_UNIT,
    CostEstimate,
    IncompleteCheckError,
    InputCheckError,
    InputProblem,
    InputReport,
    ProblemCode,
)
from .run import abandon, run_jobs
from .run_results import RunResults
from .safe_harbor import NOT_COVERED, SAFE_HARBOR, SafeHarborIdentifier
from .staging import StagingError
from .summary import CostLimitError, IncompleteRunError, RunSummary
from .verification import CopyDifferences, verify_copies

__all__ = [
    "NOT_COVERED",
    "PRICE_PER_UNIT",
    "SAFE_HARBOR",
    "CopiesReport",
    "CopyDifferences",
    "CopyError",
    "CopyFailure",
    "CostEstimate",
    "CostLimitError",
    "IncompleteCheckError",
    "IncompleteCopiesError",
    "IncompleteRunError",
    "InputCheckError",
    "InputProblem",
    "InputReport",
    "JobOutcome",
    "JobPlan",
    "LedgerError",
    "LedgerInUseError",
    "PlanChangedError",
    "PlanError",
    "PlannedJob",
    "ProblemCode",
    "RunResults",
    "RunSummary",
    "S3Location",
    "SafeHarborIdentifier",
    "ServiceLimits",
    "StagingError",
    "abandon",
    "check_input",
    "check_input_async",
    "check_objects",
    "plan_jobs",
    "plan_keys",
    "run_jobs",
    "verify_copies",
    "write_copies",
]

"""Many notes: check them before you pay for a job.

    from comprehend_phi.corpus import check_input

    report = check_input(client, request)
    report.raise_for_problems()
    print(report.estimate_cost().maximum)

Importing this package does not import boto3.
"""

from ..models import S3Location
from .check import check_input, check_input_async, check_objects
from .ledger import LedgerError, LedgerInUseError
from .limits import ServiceLimits
from .outcome import JobOutcome
from .plan import JobPlan, PlanError, PlannedJob
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

__all__ = [
    "PRICE_PER_UNIT",
    "CostEstimate",
    "IncompleteCheckError",
    "InputCheckError",
    "InputProblem",
    "InputReport",
    "JobOutcome",
    "JobPlan",
    "LedgerError",
    "LedgerInUseError",
    "PlanError",
    "PlannedJob",
    "ProblemCode",
    "S3Location",
    "ServiceLimits",
    "check_input",
    "check_input_async",
    "check_objects",
    "plan_jobs",
    "plan_keys",
]

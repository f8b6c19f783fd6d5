"""What became of one job of a plan."""

from __future__ import annotations

from attrs import field, frozen

from ..models import JobStatus
from .plan import PlannedJob


@frozen(kw_only=True)
class JobOutcome:
    """What became of one job of a plan.

    Attributes:
        planned: the job in the plan.
        job_id: the service's id of the job; None if it was not started.
        status: the state of the job; None if it was not started or is lost.
        message: the service's message about the job, or why it was not started, or what it waits
            for. None if there is nothing to say. Values from the request are masked. Not in the
            repr.
        is_lost: whether the service has forgotten the job and no manifest says how it ended. The
            job may have run. It is not started again unless you ask for it.
    """

    planned: PlannedJob
    job_id: str | None = None
    status: JobStatus | None = None
    message: str | None = field(default=None, repr=False)
    is_lost: bool = False

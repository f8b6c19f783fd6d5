"""The quotas that the local service enforces."""

from __future__ import annotations

from attrs import frozen

from .._shapes import MAX_TEXT_BYTES
from ..corpus.limits import ServiceLimits

_PUBLISHED = ServiceLimits()


@frozen(kw_only=True)
class Limits:
    """The quotas of the account, which tests can lower.

    The defaults are AWS's, as in `ServiceLimits`. Only the rate of starts has no limit by default,
    because with a `FakeClock` many starts happen at the same moment.

    Attributes:
        active_jobs: how many jobs may run at the same time in one region.
        file_bytes: the largest size of one file, in bytes.
        files: the largest number of files in one job.
        total_bytes: the largest size of all files of one job together, in bytes.
        starts_per_second: the rate of StartPHIDetectionJob calls in one region, repeated calls
            included. Calls beyond it get a ThrottlingException. None means no limit.
            `ServiceLimits().starts_per_second` is AWS's quota.
        text_bytes: the largest size of a text for DetectPHI, in bytes of UTF-8.
    """

    active_jobs: int = _PUBLISHED.max_active_jobs
    file_bytes: int = _PUBLISHED.max_file_bytes
    files: int = _PUBLISHED.max_job_files
    total_bytes: int = _PUBLISHED.max_job_bytes
    starts_per_second: float | None = None
    text_bytes: int = MAX_TEXT_BYTES

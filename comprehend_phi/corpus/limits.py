"""AWS's quotas for PHI detection jobs, each with its source."""

from __future__ import annotations

from datetime import timedelta

from attrs import field, frozen

from .._shapes import InstanceShape, IntegerShape, NumberShape

_AT_LEAST_ONE = IntegerShape("limit", 1)
_RATE = NumberShape("calls per second", 0.001)

KEPT_FOR = timedelta(days=120)
"""How long the service knows a job after its submission.

Source: `ExpirationTime` in the example of AWS's API reference, DescribePHIDetectionJob.
"""


@frozen(kw_only=True)
class ServiceLimits:
    """AWS's quotas for PHI detection jobs, as published in 2026.

    The source is AWS's page "Guidelines and quotas":
    https://docs.aws.amazon.com/comprehend-medical/latest/dev/comprehendmedical-quotas.html.
    AWS changes quotas, and raises some on request. Pass your account's values if they differ.

    Attributes:
        max_file_bytes: size of one file, in bytes. AWS says 70 KB; that a KB has 1,024 bytes is our
            reading. Earlier versions of AWS's page said 40 KB.
        max_job_bytes: size of all files of a job, in bytes. AWS says 1 GB; that a GB has
            1,000,000,000 bytes is our reading. AWS's page about the batch APIs says 10 GB.
        max_job_files: number of files in a job.
        max_active_jobs: PHI detection jobs that run at the same time in one region.
        starts_per_second: calls of StartPHIDetectionJob per second.

    Raises:
        RequestValidationError: a limit is not a number, or is less than 1 (`starts_per_second`:
            less than 0.001).
    """

    max_file_bytes: int = field(default=70 * 1024, validator=_AT_LEAST_ONE)
    max_job_bytes: int = field(default=10**9, validator=_AT_LEAST_ONE)
    max_job_files: int = field(default=5_000_000, validator=_AT_LEAST_ONE)
    max_active_jobs: int = field(default=10, validator=_AT_LEAST_ONE)
    starts_per_second: float = field(default=5.0, validator=_RATE)


LIMITS_SHAPE = InstanceShape(ServiceLimits, "such as ServiceLimits(max_file_bytes=40_960)")

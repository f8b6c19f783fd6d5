"""AWS's quotas are parameters, and wrong ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import asdict

from comprehend_phi import RequestValidationError
from comprehend_phi.corpus import ServiceLimits


def test_the_defaults_are_those_that_aws_publishes() -> None:
    assert asdict(ServiceLimits()) == {
        "max_file_bytes": 71_680,
        "max_job_bytes": 1_000_000_000,
        "max_job_files": 5_000_000,
        "max_active_jobs": 10,
        "starts_per_second": 5.0,
    }


@pytest.mark.parametrize(
    "limits",
    [
        {"max_file_bytes": 0},
        {"max_job_bytes": -1},
        {"max_job_files": 2.5},
        {"max_active_jobs": True},
        {"starts_per_second": 0},
        {"starts_per_second": float("inf")},
    ],
    ids=str,
)
def test_a_limit_that_nothing_can_keep_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(RequestValidationError) as caught:
        ServiceLimits(**limits)
    assert caught.value.field in limits

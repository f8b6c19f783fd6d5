"""The link from a task to the AWS console."""

from __future__ import annotations

from typing import ClassVar

from ._sdk import BASE_AWS_CONSOLE_LINK, BaseAwsLink


class PHIDetectionJobLink(BaseAwsLink):
    """Opens the Comprehend console in the job's region.

    AWS documents no URL for a single job. The job's id is the result of the task.
    """

    name: ClassVar[str] = "Comprehend Medical console"
    key: ClassVar[str] = "phi_detection_job"
    format_str: ClassVar[str] = f"{BASE_AWS_CONSOLE_LINK}/comprehend/home?region={{region_name}}"

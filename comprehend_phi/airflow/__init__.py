"""Run PHI detection jobs on Apache Airflow, and start each only once. Needs the extra `airflow`.

    from comprehend_phi.airflow import StartPHIDetectionJobOperator

    detect = StartPHIDetectionJobOperator(
        task_id="detect",
        input_uri="s3://hospital-notes/{{ ds }}/",
        output_uri="s3://phi-results/",
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/phi-results",
        pool="phi_detection_jobs",
        deferrable=True,
    )

The package works with Airflow 2.11 and 3.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hook import PHIHook
    from .link import PHIDetectionJobLink
    from .operator import StartPHIDetectionJobOperator
    from .sensor import PHIDetectionJobSensor
    from .trigger import PHIDetectionJobTrigger

__all__ = [
    "PHIDetectionJobLink",
    "PHIDetectionJobSensor",
    "PHIDetectionJobTrigger",
    "PHIHook",
    "StartPHIDetectionJobOperator",
]

# Type checkers see the imports above. Airflow imports this package to read `provider`, also if the
# extra is not installed.
if not TYPE_CHECKING:
    _LAZY = {
        "PHIDetectionJobLink": "link",
        "PHIDetectionJobSensor": "sensor",
        "PHIDetectionJobTrigger": "trigger",
        "PHIHook": "hook",
        "StartPHIDetectionJobOperator": "operator",
    }

    def __getattr__(name: str) -> object:
        if name in _LAZY:
            from importlib import import_module

            return getattr(import_module(f".{_LAZY[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

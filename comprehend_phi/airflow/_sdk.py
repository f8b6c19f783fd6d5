"""Everything that this package uses of Airflow. `_sdk.pyi` declares the types.

No other module imports Airflow. Type checkers read the stub, so they need no Airflow.
"""

from __future__ import annotations

try:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink
    from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
    from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
    from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
    from airflow.providers.common.compat.sdk import (
        AirflowException,
        AirflowFailException,
        conf,
    )
    from airflow.triggers.base import BaseTrigger, TriggerEvent
    from asgiref.sync import sync_to_async
except ModuleNotFoundError as _cause:
    _missing = str(_cause.name).partition(".")[0]
    raise ModuleNotFoundError(
        f"comprehend_phi.airflow needs the module {_missing}, which the extra `airflow` of"
        " comprehend_phi installs",
        name=_missing,
    ) from None


async def is_deferred(trigger: BaseTrigger) -> bool:
    """Return whether the trigger's task still waits for its event. Call this in a triggerer.

    Needs Airflow 3.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    task = trigger.task_instance
    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=task.dag_id,
        map_index=task.map_index,
        task_ids=[task.task_id],
        run_ids=[task.run_id],
    )
    return "deferred" in states.get(task.run_id, {}).values()


__all__ = [
    "BASE_AWS_CONSOLE_LINK",
    "AirflowException",
    "AirflowFailException",
    "AwsBaseOperator",
    "AwsBaseSensor",
    "AwsGenericHook",
    "BaseAwsLink",
    "BaseTrigger",
    "TriggerEvent",
    "aws_template_fields",
    "conf",
    "is_deferred",
    "sync_to_async",
]

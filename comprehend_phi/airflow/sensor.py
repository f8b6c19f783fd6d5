"""The sensor that waits for a job that somebody else started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..errors import WaitTimeout
from ._sdk import AwsBaseSensor, aws_template_fields, conf
from .hook import PHIHook
from .outcome import Event, check_completeness, ended, failed, raise_for
from .trigger import PHIDetectionJobTrigger


class PHIDetectionJobSensor(AwsBaseSensor[PHIHook]):
    """Waits until a PHI detection job has ended well. It never starts or stops a job.

    Args:
        job_id: the job's id. Templated.
        fail_on_partial_success: whether to fail if the job did not process every file.
        deferrable: whether the triggerer waits. Otherwise, the worker does.
        aws_conn_id, region_name, verify, botocore_config: how to reach AWS, as for all sensors of
            the Amazon provider. Templated.
        **kwargs: arguments of every sensor, such as `poke_interval` and `timeout` in seconds.
    """

    aws_hook_class = PHIHook
    template_fields: Sequence[str] = aws_template_fields("job_id")

    def __init__(
        self,
        *,
        job_id: str,
        fail_on_partial_success: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.fail_on_partial_success = fail_on_partial_success
        self.deferrable = deferrable

    def execute(self, context: Any) -> None:
        """Wait for the job. Raises what `poke` raises."""
        if not self.deferrable:
            super().execute(context)
        elif not self.poke(context):
            self.defer(
                trigger=PHIDetectionJobTrigger(
                    job_id=self.job_id,
                    poll_interval=self.poke_interval,
                    cancel_on_kill=False,
                    aws_conn_id=self.aws_conn_id,
                    region_name=self.region_name,
                    verify=self.verify,
                    botocore_config=self.botocore_config,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )

    def execute_complete(self, context: Any, event: Event) -> None:
        """Continue after the triggerer has waited. Raises what `poke` raises."""
        del context
        self._check(event)

    def poke(self, context: Any) -> bool:
        """Return whether the job has ended.

        Raises:
            AirflowException: the job failed or was stopped, or its state is unknown.
            AirflowFailException: another try would fail in the same way.
        """
        del context
        try:
            with self.hook.phi_client() as client:
                event = ended(client.job(self.job_id).wait(timeout=0))
        except WaitTimeout:
            return False
        # Airflow would log any other exception with everything that it contains.
        except Exception as error:  # noqa: BLE001 - `raise_for` raises an error that is safe to log
            event = failed(error, job_id=self.job_id)
        self._check(event)
        return True

    def _check(self, event: Event) -> None:
        raise_for(event)
        check_completeness(event, must_be_complete=self.fail_on_partial_success, log=self.log)

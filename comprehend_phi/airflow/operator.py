"""The operator that starts a job and waits for its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _shapes
from .._shapes import check_argument
from ._sdk import AwsBaseOperator, aws_template_fields, conf
from .hook import PHIHook
from .link import PHIDetectionJobLink
from .outcome import (
    Event,
    Status,
    check_completeness,
    failed,
    raise_for,
    refused,
    started,
)
from .request import build_request
from .start import is_started, start
from .trigger import PHIDetectionJobTrigger

if TYPE_CHECKING:
    from .._client import PHIClient
    from ..models import StartPHIDetectionJobRequest

_COST = _shapes.NumberShape("US dollars", 0.0)


class StartPHIDetectionJobOperator(AwsBaseOperator[PHIHook]):
    """Starts a PHI detection job, waits until it has ended, and returns its id.

    Each task of a DAG run has one job for its input. After a retry, a crash or a clear, the task
    finds this job again. Only if the job has failed or was stopped, the next try starts another
    one. To process the same input twice in one run, change `request_key`.

    Give the operator a pool that includes deferred tasks and has as many slots as Airflow may have
    jobs. If all slots of the account are taken all the same, the task waits for a slot.

    Airflow stores rendered template fields in plain text and shows them to everyone who may see the
    task. Keys may name people, so keep names out of the folders that you pass.

    Args:
        input_uri: the folder of the notes, such as `s3://bucket/folder/`. Templated.
        output_uri: the folder of the results. Templated.
        data_access_role_arn: the IAM role with which the service reads and writes. Templated.
        kms_key: the key that encrypts the results. None means plain text. Templated.
        language_code: the language of the notes. The service only knows `en`.
        request_key: distinguishes jobs with the same input in one run. Templated.
        wait_for_completion: whether to wait for the end of the job.
        deferrable: whether the triggerer waits. Otherwise, the worker does.
        poll_interval: the time between two polls of a job, in seconds.
        wait_timeout: how long to wait for the end of the job, in seconds; None means forever. The
            job continues after a timeout, and the next try waits for it again.
        slot_delay: the average time between two tries to get a slot, in seconds.
        slot_timeout: how long to wait for a slot, in seconds.
        fail_on_partial_success: whether the task fails if the job did not process every file.
        cancel_on_kill: whether to stop the job when a user ends the task while it waits. In the
            triggerer, this needs Airflow 3.3.
        max_cost: the most that the job may cost, in US dollars. The task fails before a start if
            the upper estimate of `check_input` is higher. None means no limit.
        aws_conn_id, region_name, verify, botocore_config: how to reach AWS, as for all operators of
            the Amazon provider. Templated.
        **kwargs: arguments of every operator.

    Raises:
        RequestValidationError: a number is out of range. Other arguments may be templates, so they
            are checked when the task runs.
    """

    aws_hook_class = PHIHook
    template_fields: Sequence[str] = aws_template_fields(
        "input_uri", "output_uri", "data_access_role_arn", "kms_key", "request_key"
    )
    operator_extra_links: ClassVar[Sequence[Any]] = (PHIDetectionJobLink(),)

    def __init__(
        self,
        *,
        input_uri: str,
        output_uri: str,
        data_access_role_arn: str,
        kms_key: str | None = None,
        language_code: str = "en",
        request_key: str = "",
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        wait_timeout: float | None = None,
        slot_delay: float = 15.0,
        slot_timeout: float = 86_400.0,
        fail_on_partial_success: bool = False,
        cancel_on_kill: bool = True,
        max_cost: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        check_argument(owner, "poll_interval", _shapes.PAUSE, poll_interval)
        check_argument(owner, "wait_timeout", _shapes.TIMEOUT, wait_timeout, optional=True)
        check_argument(owner, "slot_delay", _shapes.PAUSE, slot_delay)
        check_argument(owner, "slot_timeout", _shapes.TIMEOUT, slot_timeout)
        check_argument(owner, "max_cost", _COST, max_cost, optional=True)
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.data_access_role_arn = data_access_role_arn
        self.kms_key = kms_key
        self.language_code = language_code
        self.request_key = request_key
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.slot_delay = slot_delay
        self.slot_timeout = slot_timeout
        self.fail_on_partial_success = fail_on_partial_success
        self.cancel_on_kill = cancel_on_kill
        self.max_cost = max_cost
        self._job_id: str | None = None

    def execute(self, context: Any) -> str:
        """Find or start the job, and wait for it. Return its id.

        Raises:
            AirflowException: another try can succeed.
            AirflowFailException: another try would fail, too.
        """
        return self._continue(context, self._start(context))

    def execute_complete(self, context: Any, event: Event) -> str:
        """Continue after the triggerer has waited. Return the job's id.

        Raises what `execute` raises.
        """
        return self._continue(context, event)

    def on_kill(self) -> None:
        """Stop the job, because somebody ended the task."""
        if self._job_id is not None and self.cancel_on_kill:
            with self.hook.phi_client() as client:
                client.stop_phi_detection_job(self._job_id)

    def _start(self, context: Any) -> Event:
        """Find or start the job. If it cannot start yet, wait until it has started."""
        request: StartPHIDetectionJobRequest | None = None
        try:
            request = self._request(context)
            with self.hook.phi_client() as client:
                if excess := self._excess(client, request):
                    return refused(excess)
                job = start(client, request)
        # Airflow would log any other exception, which may contain the request.
        except Exception as error:  # noqa: BLE001 - `raise_for` raises an error that is safe to log
            return failed(error, request=request)
        if isinstance(job, str):
            return started(job)
        self.log.info("There is no free job slot, or a job is still being stopped. Waiting.")
        return self._wait(
            request=request.to_dict(),
            slot_delay=self.slot_delay,
            deadline=time.time() + self.slot_timeout,
        )

    def _continue(self, context: Any, event: Event) -> str:
        """Do what comes after a step of the task. Return the job's id."""
        raise_for(event)
        job_id = self._job_id = event["job_id"] or ""
        if event["status"] == Status.STARTED:
            self.log.info("The job is %s.", job_id)
            PHIDetectionJobLink.persist(
                context=context,
                operator=self,
                region_name=self.hook.conn_region_name,
                aws_partition=self.hook.conn_partition,
                job_id=job_id,
            )
            if not self.wait_for_completion:
                return job_id
            timeout = self.wait_timeout
            event = self._wait(
                job_id=job_id,
                poll_interval=self.poll_interval,
                deadline=None if timeout is None else time.time() + timeout,
                cancel_on_kill=self.cancel_on_kill,
            )
            raise_for(event)
        check_completeness(event, must_be_complete=self.fail_on_partial_success, log=self.log)
        return job_id

    def _wait(self, **arguments: Any) -> Event:
        """Let the triggerer wait, which ends this method, or wait here and return the event."""
        trigger = PHIDetectionJobTrigger(
            **arguments,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        return asyncio.run(trigger.event())

    def _request(self, context: Any) -> StartPHIDetectionJobRequest:
        task = context["ti"]
        return build_request(
            dag_id=task.dag_id,
            run_id=task.run_id,
            task_id=task.task_id,
            request_key=self.request_key,
            input_uri=self.input_uri,
            output_uri=self.output_uri,
            data_access_role_arn=self.data_access_role_arn,
            kms_key=self.kms_key or None,
            language_code=self.language_code,
        )

    def _excess(self, client: PHIClient, request: StartPHIDetectionJobRequest) -> str | None:
        """Return what to say if a job has to be started and may cost more than `max_cost`."""
        if self.max_cost is None or is_started(client, request):
            return None
        from ..corpus import check_input

        maximum = check_input(client, request).estimate_cost().maximum
        if maximum <= Decimal(str(self.max_cost)):
            return None
        return (
            f"The job may cost up to {maximum:.2f} US dollars, which is more than max_cost. Nothing"
            " was started."
        )

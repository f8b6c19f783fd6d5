"""Check the input of a job: what AWS will do with each file, and how much it will charge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from .._client import PHIClient
from .._client_base import s3_of
from .._shapes import CALLABLE, InstanceShape, check_argument
from .._threads import Pool, run_in_thread
from ..errors import RequestValidationError
from ..models import START_REQUEST, StartPHIDetectionJobRequest
from .limits import LIMITS_SHAPE, ServiceLimits
from .report import InputProblem, InputReport
from .steps import InputCheck, run, run_async
from .tally import Tally

if TYPE_CHECKING:
    from .._async_client import AsyncPHIClient

_LIMITS = ServiceLimits()
_CLIENT = InstanceShape(PHIClient, "for an AsyncPHIClient, call check_input_async")
_BOOL = InstanceShape(bool)


def check_input(
    client: PHIClient,
    request: StartPHIDetectionJobRequest,
    *,
    read_notes: bool = False,
    limits: ServiceLimits = _LIMITS,
    on_problem: Callable[[InputProblem], object] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> InputReport:
    """Return what the job of `request` would read, what is wrong with it, and what it would cost.

    This lists the input location, in memory that does not depend on the number of files, and asks
    S3 once for the region of each bucket. It writes nothing and starts nothing.

    Args:
        client: its S3 connection is used, with its retries.
        request: the job. You can start the same request afterwards.
        read_notes: also download every note that AWS would process, many at a time. This checks
            that the notes are UTF-8 and counts their characters.
        limits: AWS's quotas.
        on_problem: called with every problem, also with those that the report does not keep.
        on_progress: called with the number of files so far, after each page of up to 1,000 keys.

    Raises:
        RequestValidationError: an argument has the wrong type.
        IncompleteCheckError: some notes could not be read. Raised at the end, with the report.
        ResultsError: S3 refuses to list the input location.
        ServiceError, TransportError: S3 cannot be reached, the credentials have expired, or S3
            failed for 100 notes in a row although each request was retried.
    """
    check_argument("check_input", "client", _CLIENT, client)
    _require_arguments("check_input", request, read_notes, limits, on_problem, on_progress)
    storage = s3_of(client).storage()
    check = InputCheck(
        storage,
        request,
        s3_of(client).region,
        Tally(request, limits, on_problem),
        read_notes=read_notes,
        on_progress=on_progress,
    )
    with Pool(storage.connections) as pool, closing(check.steps(pool)) as steps:
        return run(steps)


async def check_input_async(
    client: AsyncPHIClient,
    request: StartPHIDetectionJobRequest,
    *,
    read_notes: bool = False,
    limits: ServiceLimits = _LIMITS,
    on_problem: Callable[[InputProblem], object] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> InputReport:
    """Do what `check_input` does, for asynchronous programs.

    `on_problem` and `on_progress` are called in the event loop, so they must not block. Cancelling
    stops the check; requests that are being sent still end, and their responses are dropped.

    Raises:
        Exception: what `check_input` raises.
    """
    from .._async_client import AsyncPHIClient

    shape = InstanceShape(AsyncPHIClient, "for a PHIClient, call check_input")
    check_argument("check_input_async", "client", shape, client)
    _require_arguments("check_input_async", request, read_notes, limits, on_problem, on_progress)
    # Building boto3's client for S3 takes long.
    storage = await run_in_thread(Pool(1), s3_of(client).storage)
    check = InputCheck(
        storage,
        request,
        s3_of(client).region,
        Tally(request, limits, on_problem),
        read_notes=read_notes,
        on_progress=on_progress,
    )
    with closing(check.steps(Pool(storage.connections))) as steps:
        return await run_async(steps)


def check_objects(
    objects: Iterable[tuple[str, int]],
    request: StartPHIDetectionJobRequest,
    *,
    limits: ServiceLimits = _LIMITS,
    on_problem: Callable[[InputProblem], object] | None = None,
) -> InputReport:
    """Do what `check_input` does for a list of objects that you already have, without S3.

    Such a list is S3 Inventory, for example. Keys outside the input location are ignored. Buckets,
    storage classes and contents are not checked.

    Args:
        objects: the key and the size in bytes of each object in the input bucket, in any order.
            Every key counts as often as it occurs.
        request: the job.
        limits: AWS's quotas.
        on_problem: called with every problem, also with those that the report does not keep.

    Raises:
        RequestValidationError: an argument has the wrong type, or `objects` contains anything else
            than pairs of a `str` and an `int` of 0 or more.
    """
    _require_arguments("check_objects", request, False, limits, on_problem, None)
    input_key = request.input_data_config.s3_key or ""
    tally = Tally(request, limits, on_problem)
    for key, size in _pairs(objects):
        if tally.is_input(key):
            if tally.add_file(key, size):
                tally.add_price(size)
        elif key.startswith(input_key):
            tally.add_sibling(key)
    return tally.report()


def _require_arguments(
    owner: str,
    request: object,
    read_notes: object,
    limits: object,
    on_problem: object,
    on_progress: object,
) -> None:
    check_argument(owner, "request", START_REQUEST, request)
    check_argument(owner, "read_notes", _BOOL, read_notes)
    check_argument(owner, "limits", LIMITS_SHAPE, limits)
    check_argument(owner, "on_problem", CALLABLE, on_problem, optional=True)
    check_argument(owner, "on_progress", CALLABLE, on_progress, optional=True)


def _pairs(objects: Iterable[object]) -> Iterator[tuple[str, int]]:
    """Yield `objects` if they are pairs of a key and a size."""
    for each in objects:
        match each:
            case (str() as key, int() as size) if size >= 0:
                yield key, size
            case _:
                raise RequestValidationError(
                    owner="check_objects",
                    field="objects",
                    shape="(key, size)",
                    reason="must only contain pairs of a str and an int of 0 or more",
                )

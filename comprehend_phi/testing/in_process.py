"""The local service as a backend of moto, for boto3 in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import moto.backend_index
from botocore.exceptions import ConnectionClosedError
from botocore.loaders import create_loader
from moto import mock_aws
from moto.core.base_backend import BackendDict, BaseBackend

from .._entities import Entity
from .clock import ServiceClock
from .detector import detect
from .s3 import MotoS3, account_id, dated_by
from .service import Limits, LocalService
from .wire import respond

_NAME = "comprehendmedical"


@contextmanager
def local_service(
    *,
    clock: ServiceClock | None = None,
    detector: Callable[[str], Sequence[Entity]] = detect,
    job_seconds: float = 1.0,
    limits: Limits | None = None,
) -> Generator[LocalService, None, None]:
    """Comprehend Medical and S3 for this process: boto3 inside the block talks to them alone.

    moto provides false credentials and all other services. Build the clients inside the block and
    give them a region. A job's results are in S3 after the first request that follows the end of
    the job, as `wait` sends it; `LocalService.settle` has the same effect without a request.
    Resetting moto also resets the local service.

    Args:
        clock: the time of its jobs and of the objects in S3, such as a `FakeClock` shared with the
            client; without it, this machine's.
        detector: finds the entities of one text.
        job_seconds: how long a job runs.
        limits: the quotas of the account.

    Raises:
        RuntimeError: another local service runs in this process.
    """
    service = LocalService(
        MotoS3(),
        clock=clock,
        detector=detector,
        job_seconds=job_seconds,
        limits=limits,
        account_id=account_id(),
    )
    with mock_aws(), dated_by(service.clock), _registered(service):
        yield service


@contextmanager
def _registered(service: LocalService) -> Generator[None, None, None]:
    """Have moto send the requests for Comprehend Medical to `service`.

    moto finds a backend by its URL in a list, and the backend itself as a module below `moto`.
    """
    url = _url()
    entry = (_NAME, re.compile(url))
    module_name = f"moto.{_NAME}"
    if module_name in sys.modules:
        raise RuntimeError("a local service runs in this process already; leave its block first")

    def dispatch(request: Any, _url: str, headers: Mapping[str, str]) -> tuple[int, Any, bytes]:
        return _send(service, request, headers)

    class Backend(BaseBackend):
        @property
        def urls(self) -> dict[str, Callable[..., Any]]:
            return {url: dispatch}

        def reset(self) -> None:
            service.reset()

    backends = BackendDict(
        Backend, _NAME, use_boto3_regions=False, additional_regions=["us-east-1"]
    )
    module = ModuleType(module_name)
    setattr(module, f"{_NAME}_backends", backends)
    sys.modules[module_name] = module
    moto.backend_index.backend_url_patterns.append(entry)
    try:
        yield
    finally:
        moto.backend_index.backend_url_patterns.remove(entry)
        del sys.modules[module_name]
        # The end of `mock_aws` resets moto; the service keeps its jobs for whoever asks then.
        backends.clear()


def _url() -> str:
    """Return a pattern for the URLs of all partitions: plain, FIPS, dual-stack and VPC."""
    outputs = [one["outputs"] for one in create_loader().load_data("partitions")["partitions"]]
    domains = {one[name] for one in outputs for name in ("dnsSuffix", "dualStackDnsSuffix")}
    either = "|".join(re.escape(domain) for domain in sorted(domains))
    return rf"https?://([^/]+\.)?{_NAME}(-fips)?\.[^/]+\.({either})(:\d+)?(/|$)"


def _send(
    service: LocalService, request: Any, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    lower = {name.lower(): str(value) for name, value in headers.items()}
    # moto hands over a request of werkzeug's since its 5.2.4, and one of botocore's before that.
    body = request.get_data() if hasattr(request, "get_data") else request.body
    answer = respond(service, lower, body)
    if answer.delay:
        service.clock.sleep(answer.delay)
    if answer.reset:
        # What botocore makes of a reset connection; in here there is none to reset.
        raise ConnectionClosedError(endpoint_url=request.url)
    return answer.status, dict(answer.headers), answer.body[: answer.sent]

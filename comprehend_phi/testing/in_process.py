"""The local service as a backend of moto, for boto3 in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import moto.backend_index
from botocore.exceptions import ConnectionClosedError
from botocore.loaders import create_loader
from moto import mock_aws
from moto.core.base_backend import BackendDict, BaseBackend

from .clock import ServiceClock
from .detector import Detector, detect
from .endpoint import respond
from .journal import StartRecord
from .limits import Limits
from .protocols import AWSJSON, Call, find_call
from .rules import Rules
from .s3 import MotoS3, account_id, dated_by
from .service import LocalService

_NAME = "comprehendmedical"


@contextmanager
def local_service(
    *,
    clock: ServiceClock | None = None,
    detector: Detector = detect,
    job_seconds: float = 1.0,
    limits: Limits | None = None,
    rules: Rules | None = None,
    on_start: Callable[[StartRecord], object] | None = None,
) -> Generator[LocalService, None, None]:
    """Let boto3 talk to a local Comprehend Medical and a local S3 inside the block.

    moto provides fake credentials and all other services. Build the clients inside the block and
    give them a region. A job's results are in S3 after the first request that follows the end of
    the job, such as those of `wait`. `LocalService.settle` has the same effect without a request.
    Resetting moto also resets the local service.

    Args:
        clock: drives the jobs and dates the objects in S3. Share a `FakeClock` with the client to
            make waiting instant. The default is this machine's clock.
        detector: finds the entities of one text.
        job_seconds: how long a job runs, in seconds.
        limits: the quotas of the account.
        rules: the rules that nobody outside AWS knows.
        on_start: receives a record of each start that the service has processed.

    Raises:
        RuntimeError: another local service runs in this process.
    """
    service = LocalService(
        MotoS3(),
        clock=clock,
        detector=detector,
        job_seconds=job_seconds,
        limits=limits,
        rules=rules,
        on_start=on_start,
        account_id=account_id(),
    )
    with mock_aws(), dated_by(service.clock), _registered(service):
        yield service


@contextmanager
def _registered(service: LocalService) -> Generator[None, None, None]:
    """Let moto pass requests for Comprehend Medical to `service`.

    moto looks up a service by URL in a list, and imports its backend as a module below `moto`.
    """
    url = _url()
    entry = (_NAME, re.compile(url))
    module_name = f"moto.{_NAME}"
    if module_name in sys.modules:
        raise RuntimeError("a local service already runs in this process; leave its block first")

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
        # Leaving `mock_aws` resets moto. The service keeps its jobs, so tests can look at them.
        backends.clear()


def _url() -> str:
    """Return a pattern for the endpoints in all partitions: plain, FIPS, dual-stack and VPC."""
    outputs = [one["outputs"] for one in create_loader().load_data("partitions")["partitions"]]
    domains = {one[name] for one in outputs for name in ("dnsSuffix", "dualStackDnsSuffix")}
    either = "|".join(re.escape(domain) for domain in sorted(domains))
    return rf"https?://([^/]+\.)?{_NAME}(-fips)?\.[^/]+\.({either})(:\d+)?(/|$)"


def _send(
    service: LocalService, request: Any, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    lower = {name.lower(): str(value) for name, value in headers.items()}
    # Since moto 5.2.4 the request is werkzeug's; before, it was botocore's.
    body = request.get_data() if hasattr(request, "get_data") else request.body
    path = urlsplit(str(request.url)).path
    call = find_call(path, lower) or Call("", AWSJSON())
    response = respond(service, call, lower, body)
    if response.reset:
        # botocore's error for a reset connection. Within the process there is no connection.
        raise ConnectionClosedError(endpoint_url=request.url)
    body = response.body if response.sent is None else response.sent
    return response.status, dict(response.headers), body

"""The local service beside moto's S3: the storage below it, and the adapter for one process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import moto.backend_index
import moto.backends
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws
from moto.s3.exceptions import MissingBucket

from ..results import Entity
from .clock import ServiceClock
from .detector import detect
from .service import Limits, LocalService
from .wire import respond

ACCOUNT_ID = "123456789012"  # moto's own
_NAME = "comprehendmedical"
_URL = r"https?://comprehendmedical(-fips)?\.(.+)\.amazonaws\.com"


class MotoStorage:
    """moto's S3 without HTTP: the service can use it while it answers a request."""

    @property
    def _s3(self) -> Any:
        # Looked up each time, since moto replaces its backends when it is reset.
        return moto.backends.get_backend("s3")[ACCOUNT_ID]["aws"]

    def has_bucket(self, bucket: str) -> bool:
        """Whether there is such a bucket."""
        try:
            self._s3.get_bucket(bucket)
        except MissingBucket:
            return False
        return True

    def keys(self, bucket: str) -> Sequence[str]:
        """All keys of a bucket, in the order of S3's own lists."""
        return sorted(self._s3.get_bucket(bucket).keys, key=lambda key: key.encode())

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        body: bytes = self._s3.get_object(bucket, key).value
        return body

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Create or replace an object."""
        self._s3.put_object(bucket, key, body)


@contextmanager
def local_service(
    *,
    clock: ServiceClock | None = None,
    detector: Callable[[str], Sequence[Entity]] = detect,
    job_seconds: float = 1.0,
    limits: Limits | None = None,
) -> Generator[LocalService, None, None]:
    """Comprehend Medical and S3 for this process: boto3 inside the block talks to them alone.

    Credentials are moto's false ones and all services are moto's; a region has to be given. Build
    the clients inside the block. Results lie in S3 once the service has been asked something after
    the end of the job, as `wait` does; `LocalService.settle` does it without asking.

    Args:
        clock: the time that its jobs take, such as a `FakeClock` shared with the client; without
            it, this machine's.
        detector: finds the entities of one text.
        job_seconds: how long a job runs.
        limits: the quotas of the account.

    Raises:
        RuntimeError: another local service runs in this process.
    """
    service = LocalService(
        MotoStorage(),
        clock=clock,
        detector=detector,
        job_seconds=job_seconds,
        limits=limits,
        account_id=ACCOUNT_ID,
    )
    with _registered(service), mock_aws():
        yield service


@contextmanager
def _registered(service: LocalService) -> Generator[None, None, None]:
    """Have moto send the requests for Comprehend Medical to `service`.

    moto finds a backend by its URL in a list, and the backend itself as a module below `moto`.
    """
    entry = (_NAME, re.compile(_URL))
    module_name = f"moto.{_NAME}"
    if module_name in sys.modules:
        raise RuntimeError("a local service runs in this process already; leave its block first")

    def dispatch(request: Any, _url: str, headers: Mapping[str, str]) -> tuple[int, Any, bytes]:
        return _send(service, request, headers)

    module = ModuleType(module_name)
    backends = {"global": SimpleNamespace(urls={_URL: dispatch})}
    setattr(module, f"{_NAME}_backends", backends)
    sys.modules[module_name] = module
    moto.backend_index.backend_url_patterns.append(entry)
    try:
        yield
    finally:
        moto.backend_index.backend_url_patterns.remove(entry)
        del sys.modules[module_name]


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

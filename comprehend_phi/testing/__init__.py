"""A local Amazon Comprehend Medical for PHI detection, for tests and demos without AWS.

    from comprehend_phi import PHIClient
    from comprehend_phi.testing import FakeClock, faults, local_service

    clock = FakeClock()
    with local_service(clock=clock) as service:
        client = PHIClient(region_name="us-east-1", clock=clock)
        service.script(faults.throttle(), faults.reset_after())
        ...

This package needs the extra `testing`. `local_service` runs within the process. `LocalServer` and
the command `python -m comprehend_phi.testing.server` serve HTTP. The detector is a stand-in: never
use it on real notes.
"""

from . import faults
from .clock import FakeClock, ServiceClock, WallClock
from .detector import detect
from .faults import Fault
from .journal import StartRecord
from .limits import Limits
from .rules import Rules
from .service import LocalService

try:
    from .in_process import local_service
    from .local_server import LocalServer
except ModuleNotFoundError as _cause:
    _missing = str(_cause.name).partition(".")[0]
    raise ModuleNotFoundError(
        f"the local service needs the module {_missing}, which the extra `testing` of"
        " comprehend_phi installs",
        name=_missing,
    ) from None

__all__ = [
    "FakeClock",
    "Fault",
    "Limits",
    "LocalServer",
    "LocalService",
    "Rules",
    "ServiceClock",
    "StartRecord",
    "WallClock",
    "detect",
    "faults",
    "local_service",
]

"""A local Amazon Comprehend Medical for PHI detection jobs: for tests and demos, without AWS.

    from comprehend_phi import PHIClient
    from comprehend_phi.testing import FakeClock, faults, local_service

    clock = FakeClock()
    with local_service(clock=clock) as service:
        client = PHIClient(region_name="us-east-1", clock=clock)
        service.script(faults.throttle(), faults.reset_after())
        ...

Needs the extra `testing`. `LocalServer` is the same over HTTP, and so is the command
`python -m comprehend_phi.testing.server`. The detector behind it is a stand-in: never give it real
notes to judge.
"""

from . import faults
from .clock import FakeClock, ServiceClock, WallClock
from .detector import detect
from .faults import Fault
from .service import Limits, LocalService

try:
    from .in_process import local_service
    from .local_server import LocalServer
except ModuleNotFoundError as _cause:
    _missing = str(_cause.name).partition(".")[0]
    raise ModuleNotFoundError(
        f"the local service needs {_missing}: pip install 'comprehend_phi[testing]'", name=_missing
    ) from None

__all__ = [
    "FakeClock",
    "Fault",
    "Limits",
    "LocalServer",
    "LocalService",
    "ServiceClock",
    "WallClock",
    "detect",
    "faults",
    "local_service",
]

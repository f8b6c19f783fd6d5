"""A typed SDK for Amazon Comprehend Medical's PHI detection jobs.

Nothing is started twice, nothing is lost, nothing leaks.
"""

from typing import TYPE_CHECKING

from ._clock import Clock, SystemClock
from .client import PHIClient
from .errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ComprehendPHIError,
    DoubleRetryWarning,
    ExpiredTokenException,
    InternalServerException,
    InvalidRequestException,
    JobError,
    JobFailed,
    JobStopped,
    MalformedResponseError,
    PlaintextOutputWarning,
    RequestValidationError,
    ResourceNotFoundException,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
    WaitTimeout,
)
from .jobs import Job, WaitPolicy
from .models import (
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
)
from .retry import RetryPolicy

if TYPE_CHECKING:
    from .results import Entity, Trait

    __version__: str

__all__ = [
    "AccessDeniedException",
    "ActiveJobLimitExceeded",
    "Clock",
    "ComprehendPHIError",
    "DoubleRetryWarning",
    "Entity",
    "ExpiredTokenException",
    "InputDataConfig",
    "InternalServerException",
    "InvalidRequestException",
    "Job",
    "JobError",
    "JobFailed",
    "JobFilter",
    "JobProperties",
    "JobStatus",
    "JobStopped",
    "MalformedResponseError",
    "OutputDataConfig",
    "PHIClient",
    "PlaintextOutputWarning",
    "RequestValidationError",
    "ResourceNotFoundException",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnavailableException",
    "StartPHIDetectionJobRequest",
    "StartPHIDetectionJobResponse",
    "SystemClock",
    "ThrottlingException",
    "TooManyRequestsException",
    "Trait",
    "TransportError",
    "ValidationException",
    "WaitPolicy",
    "WaitTimeout",
    "__version__",
]

# Type checkers see the imports above; for them, a module __getattr__ would let misspelt names pass.
if not TYPE_CHECKING:
    # Their module imports msgspec, which a program that only starts jobs does not need.
    _LAZY = {"Entity": "results", "Trait": "results"}

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("comprehend_phi")
        if name in _LAZY:
            from importlib import import_module

            return getattr(import_module(f".{_LAZY[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

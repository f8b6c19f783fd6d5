"""A typed SDK for Amazon Comprehend Medical's PHI detection jobs.

Nothing is started twice, nothing is lost, nothing leaks.
"""

from typing import TYPE_CHECKING

from ._clock import Clock, SystemClock
from .client import PHIClient
from .errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ClientClosedError,
    ComprehendPHIError,
    DoubleRetryWarning,
    ExpiredTokenException,
    IncompleteResultsError,
    InternalServerException,
    InvalidRequestException,
    JobError,
    JobFailed,
    JobNotEndedError,
    JobStopped,
    LostManifestError,
    MalformedResponseError,
    MissingManifestError,
    OverlappingLocationsWarning,
    PlaintextOutputWarning,
    RedactionError,
    RequestValidationError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    ServiceUnavailableException,
    SourceChangedError,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    UnreadableObjectError,
    ValidationException,
    WaitTimeout,
)
from .jobs import AsyncJob, Job, WaitPolicy
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
    from ._logs import quiet_botocore
    from .aio import AsyncPHIClient
    from .redaction import redact
    from .results import (
        AsyncJobResults,
        Document,
        Entity,
        JobResults,
        Manifest,
        Trait,
        UnprocessedFile,
        entity_counts,
    )

    __version__: str

__all__ = [
    "AccessDeniedException",
    "ActiveJobLimitExceeded",
    "AsyncJob",
    "AsyncJobResults",
    "AsyncPHIClient",
    "ClientClosedError",
    "Clock",
    "ComprehendPHIError",
    "Document",
    "DoubleRetryWarning",
    "Entity",
    "ExpiredTokenException",
    "IncompleteResultsError",
    "InputDataConfig",
    "InternalServerException",
    "InvalidRequestException",
    "Job",
    "JobError",
    "JobFailed",
    "JobFilter",
    "JobNotEndedError",
    "JobProperties",
    "JobResults",
    "JobStatus",
    "JobStopped",
    "LostManifestError",
    "MalformedResponseError",
    "Manifest",
    "MissingManifestError",
    "OutputDataConfig",
    "OverlappingLocationsWarning",
    "PHIClient",
    "PlaintextOutputWarning",
    "RedactionError",
    "RequestValidationError",
    "ResourceNotFoundException",
    "ResultsError",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnavailableException",
    "SourceChangedError",
    "StartPHIDetectionJobRequest",
    "StartPHIDetectionJobResponse",
    "SystemClock",
    "ThrottlingException",
    "TooManyRequestsException",
    "Trait",
    "TransportError",
    "UnprocessedFile",
    "UnreadableObjectError",
    "ValidationException",
    "WaitPolicy",
    "WaitTimeout",
    "__version__",
    "entity_counts",
    "quiet_botocore",
    "redact",
]

# Type checkers see the imports above; for them, a module __getattr__ would let misspelt names pass.
if not TYPE_CHECKING:
    # Their modules import what many programs that only start jobs do not need, such as msgspec.
    _LAZY = {
        "AsyncJobResults": "results",
        "AsyncPHIClient": "aio",
        "Document": "results",
        "Entity": "results",
        "JobResults": "results",
        "Manifest": "results",
        "Trait": "results",
        "UnprocessedFile": "results",
        "entity_counts": "results",
        "quiet_botocore": "_logs",
        "redact": "redaction",
    }

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

"""A typed SDK for the PHI detection of Amazon Comprehend Medical.

Nothing is started twice, nothing is lost, nothing leaks.
"""

from typing import TYPE_CHECKING

from ._client import PHIClient
from ._clock import Clock, SystemClock
from ._jobs import AsyncJob, Job, WaitPolicy
from ._retry import RetryPolicy
from .errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ClientClosedError,
    ComprehendPHIError,
    DoubleRetryWarning,
    ExistingObjectError,
    ExpiredTokenException,
    IncompleteResultsError,
    InternalServerException,
    InvalidEncodingException,
    InvalidRequestException,
    JobError,
    JobFailed,
    JobMismatchError,
    JobNotEndedError,
    JobStopped,
    LostManifestError,
    MalformedResponseError,
    MissingBucketError,
    MissingManifestError,
    MissingObjectError,
    OverlappingLocationsWarning,
    PlaintextOutputWarning,
    RedactionError,
    RequestValidationError,
    ResourceNotFoundException,
    ResultsError,
    ServiceError,
    ServiceUnavailableException,
    SourceChangedError,
    TextSizeLimitExceededException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
    ValidationException,
    WaitTimeout,
)
from .models import (
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    S3Location,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    request_token,
)

if TYPE_CHECKING:
    from ._async_client import AsyncPHIClient
    from ._entities import DetectPHIResponse, Entity, EntityType, Trait
    from ._quiet_botocore import quiet_botocore
    from ._redaction import redact
    from ._replacements import pseudonyms, same_length
    from ._results.documents import Document, Manifest, UnprocessedFile, entity_counts
    from ._results.streams import AsyncJobResults, JobResults

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
    "DetectPHIResponse",
    "Document",
    "DoubleRetryWarning",
    "Entity",
    "EntityType",
    "ExistingObjectError",
    "ExpiredTokenException",
    "IncompleteResultsError",
    "InputDataConfig",
    "InternalServerException",
    "InvalidEncodingException",
    "InvalidRequestException",
    "Job",
    "JobError",
    "JobFailed",
    "JobFilter",
    "JobMismatchError",
    "JobNotEndedError",
    "JobProperties",
    "JobResults",
    "JobStatus",
    "JobStopped",
    "LostManifestError",
    "MalformedResponseError",
    "Manifest",
    "MissingBucketError",
    "MissingManifestError",
    "MissingObjectError",
    "OutputDataConfig",
    "OverlappingLocationsWarning",
    "PHIClient",
    "PlaintextOutputWarning",
    "RedactionError",
    "RequestValidationError",
    "ResourceNotFoundException",
    "ResultsError",
    "RetryPolicy",
    "S3Location",
    "ServiceError",
    "ServiceUnavailableException",
    "SourceChangedError",
    "StartPHIDetectionJobRequest",
    "StartPHIDetectionJobResponse",
    "SystemClock",
    "TextSizeLimitExceededException",
    "ThrottlingException",
    "TooManyRequestsException",
    "Trait",
    "TransportError",
    "UnprocessedFile",
    "UnreadableObjectError",
    "UnwritableObjectError",
    "ValidationException",
    "WaitPolicy",
    "WaitTimeout",
    "__version__",
    "entity_counts",
    "pseudonyms",
    "quiet_botocore",
    "redact",
    "request_token",
    "same_length",
]

# Type checkers see the imports above; for them, a module __getattr__ would let misspelt names pass.
if not TYPE_CHECKING:
    # Their modules import what many programs that only start jobs do not need, such as msgspec.
    _LAZY = {
        "_async_client": ("AsyncPHIClient",),
        "_entities": ("DetectPHIResponse", "Entity", "EntityType", "Trait"),
        "_quiet_botocore": ("quiet_botocore",),
        "_redaction": ("redact",),
        "_replacements": ("pseudonyms", "same_length"),
        "_results.documents": ("Document", "Manifest", "UnprocessedFile", "entity_counts"),
        "_results.streams": ("AsyncJobResults", "JobResults"),
    }

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("comprehend_phi")
        for module, names in _LAZY.items():
            if name in names:
                from importlib import import_module

                return getattr(import_module(f".{module}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

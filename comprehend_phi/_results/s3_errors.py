"""Classify an S3 error: the object, the bucket or the caller is at fault."""

from __future__ import annotations

from http import HTTPStatus

from .._service import advice
from ..errors import (
    AccessDeniedException,
    MalformedResponseError,
    MissingBucketError,
    MissingObjectError,
    ResultsError,
    ServiceError,
    TransportError,
    UnreadableObjectError,
    UnwritableObjectError,
)

# With these codes, S3 refuses the caller or the bucket, so no other object can be read either.
# They come from the list of error codes in the Amazon S3 API Reference, as far as reads and writes
# of objects can cause them. The first ones mean another region or another endpoint.
_ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
_REFUSES_ALL = _ELSEWHERE | {
    "AccountProblem",
    "AllAccessDisabled",
    "CredentialsNotSupported",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidPayer",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnauthorizedAccess",
}

_ADVICE = {
    "InvalidObjectState": "the object is archived: restore it (RestoreObject), then read again",
    "InvalidRequest": (
        "S3 refuses the request: if the object is encrypted with a customer-provided key (SSE-C),"
        " copy it without SSE-C"
    ),
    "MethodNotAllowed": (
        "the object was deleted and only its delete marker is left: restore an earlier version"
    ),
    "NoSuchUpload": "the upload no longer exists: something else has aborted it",
}

_TO_READ = (
    "s3:GetObject and, if KMS encrypts the object, kms:Decrypt; without s3:ListBucket, S3 also"
    " denies access to a key that does not exist"
)
_TO_WRITE = "s3:PutObject and, if KMS encrypts the object, kms:GenerateDataKey and kms:Decrypt"
_TO_DELETE = "s3:DeleteObject"

_FORBIDDEN = "403"

# What the caller needs for each call (Amazon S3 API Reference).
_PERMISSIONS = {
    "GetObject": _TO_READ,
    "HeadObject": _TO_READ,
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "CopyObject": f"{_TO_READ}. At the destination, the caller needs {_TO_WRITE}",
    "PutObject": _TO_WRITE,
    "CreateMultipartUpload": _TO_WRITE,
    "UploadPart": _TO_WRITE,
    "CompleteMultipartUpload": _TO_WRITE,
    "DeleteObject": _TO_DELETE,
    "DeleteObjects": _TO_DELETE,
}
_READING = frozenset({"GetObject", "HeadObject", "HeadBucket", "ListObjectsV2"})


def is_conflict(error: ServiceError | TransportError) -> bool:
    """Return whether S3 refused a call because its condition does not hold."""
    return isinstance(error, ServiceError) and error.status_code == HTTPStatus.PRECONDITION_FAILED


def translate(
    error: ServiceError | TransportError, bucket: str, key: str
) -> ResultsError | ServiceError | TransportError:
    """Return the error to raise. It has a key if calls for other objects may still succeed.

    An error that a retry may fix is returned unchanged, apart from its bucket and key. A permanent
    refusal becomes an `UnreadableObjectError` or `UnwritableObjectError`, or a `ResultsError`
    without a key if the bucket does not exist.
    """
    if isinstance(error, MalformedResponseError):
        return _unusable(error.operation)(error.reason, bucket=bucket, key=key)
    if isinstance(error, ServiceError) and not error.retryable:
        if error.code == "NoSuchBucket":
            return MissingBucketError("the bucket does not exist", bucket=bucket)
        if error.code not in _REFUSES_ALL:
            return _refusal(error, bucket, key)
        if error.code in _ELSEWHERE:
            error.advice = f"The bucket needs another region or endpoint. {advice.ENDPOINT}"
    if error.retryable:
        error.bucket, error.key = bucket, key
    return error


def _refusal(error: ServiceError, bucket: str, key: str) -> ResultsError:
    code = error.code
    if code == "NoSuchKey":
        return MissingObjectError("the key does not exist", bucket=bucket, key=key)
    # The response to HeadObject has no body, and so no code.
    if isinstance(error, AccessDeniedException) or code == _FORBIDDEN:
        hint = f"access denied: the caller needs {_PERMISSIONS[error.operation]}"
    elif code.startswith("KMS."):
        hint = "the KMS key that encrypts the object cannot be used: enable it, or ask its owner"
    elif code in _ADVICE:
        hint = _ADVICE[code]
    elif error.operation in _READING:
        hint = "S3 refuses to return this object"
    else:
        hint = f"S3 refuses to carry out {error.operation} for this object"
    details = f"{code}, HTTP {error.status_code}, request id {error.request_id or 'unknown'}"
    message = f"{hint} ({details})"
    return _unusable(error.operation)(message, bucket=bucket, key=key, code=code)


def _unusable(operation: str) -> type[UnreadableObjectError | UnwritableObjectError]:
    return UnreadableObjectError if operation in _READING else UnwritableObjectError

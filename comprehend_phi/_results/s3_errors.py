"""Classify an S3 error: the object, the bucket or the caller is at fault."""

from __future__ import annotations

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
)

# With these codes, S3 refuses the caller or the bucket, so no other object can be read either.
# They come from the list of error codes in the Amazon S3 API Reference, as far as reads can
# cause them.
_REFUSES_ALL = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "CredentialsNotSupported",
        "ExpiredToken",
        "IllegalLocationConstraintException",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidPayer",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "PermanentRedirect",
        "Redirect",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TemporaryRedirect",
        "TokenRefreshRequired",
        "UnauthorizedAccess",
    }
)

# Those of them that mean another region or another endpoint.
_ELSEWHERE = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)

_ADVICE = {
    "AccessDenied": (
        "access denied: the caller needs s3:GetObject and, if KMS encrypts the object, kms:Decrypt;"
        " without s3:ListBucket, S3 also denies access to a key that does not exist"
    ),
    "InvalidObjectState": "the object is archived: restore it (RestoreObject), then read again",
    "InvalidRequest": (
        "S3 refuses the request: if the object is encrypted with a customer-provided key (SSE-C),"
        " copy it without SSE-C"
    ),
    "MethodNotAllowed": (
        "the object was deleted and only its delete marker is left: restore an earlier version"
    ),
}


def translate(
    error: ServiceError | TransportError, bucket: str, key: str
) -> ResultsError | ServiceError | TransportError:
    """Return the error to raise. It has a key if other objects may still be readable.

    An error that a retry may fix is returned unchanged, apart from its bucket and key. A permanent
    refusal becomes an `UnreadableObjectError`, or a `ResultsError` without a key if the bucket does
    not exist.
    """
    if isinstance(error, MalformedResponseError):
        return UnreadableObjectError(error.reason, bucket=bucket, key=key)
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
    if isinstance(error, AccessDeniedException):
        code = "AccessDenied"
    if code == "AccessDenied" and error.operation == "ListObjectsV2":
        hint = "access denied: the caller needs s3:ListBucket"
    elif code.startswith("KMS."):
        hint = "the KMS key that encrypts the object cannot be used: enable it, or ask its owner"
    else:
        hint = _ADVICE.get(code, "S3 refuses to return this object")
    details = f"{error.code}, HTTP {error.status_code}, request id {error.request_id or 'unknown'}"
    return UnreadableObjectError(f"{hint} ({details})", bucket=bucket, key=key, code=error.code)

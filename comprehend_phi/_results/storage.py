"""The bytes of S3 objects: many at a time, in order, few in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import field, frozen

from .._logs import job_context
from .._retry import RetryPolicy, call_with_retries
from .._service import codec, failures
from ..errors import (
    AccessDeniedException,
    MalformedResponseError,
    ResultsError,
    ServiceError,
    TransportError,
    UnreadableObjectError,
)

if TYPE_CHECKING:
    from .._clock import Clock

_SURROGATE = re.compile("[\ud800-\udfff]")

_Result = TypeVar("_Result")


class MissingObject(ResultsError):
    """There is no such key; `results` decides what that means."""


@frozen
class StoredObject:
    """One object, as a single answer of S3 describes it.

    Attributes:
        body: the bytes; they may be a document, so no repr shows them.
        last_modified: when S3 says that it was written, in whole seconds; None if S3 does not say.
    """

    body: bytes = field(repr=False)
    last_modified: datetime | None


class Storage(Protocol):
    """What reading results asks of S3. Its methods may be called from several threads.

    Attributes:
        connections: how many objects can be fetched at the same time.
    """

    connections: int

    def check_open(self) -> None:
        """Raise ClientClosedError if the client that reads was closed."""
        ...

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object.

        Raises:
            MissingObject: there is no such key.
            UnreadableObjectError: S3 refuses to hand it out, or it always arrives cut.
            ResultsError: there is no such bucket.
            ServiceError, TransportError: all attempts failed. With a `key`, this may concern this
                object alone; without one, no object can be read.
        """
        ...

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, in S3's order. Raises as `read` does."""
        ...

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """What lies one slash below `prefix`, the slash included. Raises as `read` does."""
        ...


class StorageOfJob:
    """A storage whose log records are about one job."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self._storage = storage
        self._job_id = job_id

    def check_open(self) -> None:
        """Raise ClientClosedError if the client was closed."""
        self._storage.check_open()

    def read(self, bucket: str, key: str) -> StoredObject:
        """Read one object."""
        with job_context(self._job_id):
            return self._storage.read(bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List all keys that begin with `prefix`."""
        with job_context(self._job_id):
            return self._storage.keys(bucket, prefix)

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """List what is one slash below `prefix`."""
        with job_context(self._job_id):
            return self._storage.folders(bucket, prefix)


class Boto3Storage:
    """S3 through one boto3 client, which all threads of a process share.

    Args:
        connect: returns the client for a call of the operation that it is given; raises
            ClientClosedError if there is none any more.
        policy: how calls are retried.
        clock: what the waits between attempts go by.
    """

    def __init__(self, connect: Callable[[str], Any], policy: RetryPolicy, clock: Clock) -> None:
        self._connect = connect
        self._policy = policy
        self._clock = clock
        self.connections: int = connect("results").meta.config.max_pool_connections

    def check_open(self) -> None:
        """Raise ClientClosedError if the client that reads was closed."""
        self._connect("results")

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        if not key or _SURROGATE.search(key):
            # boto3 refuses to send it, as if its configuration were wrong.
            raise MissingObject("no key of S3 is empty or not UTF-8", bucket=bucket, key=key)
        return self._call("GetObject", lambda client: self._get(client, bucket, key), bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, in S3's order."""
        return self._list("Contents", "Key", Bucket=bucket, Prefix=prefix)

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """What lies one slash below `prefix`, the slash included."""
        return self._list("CommonPrefixes", "Prefix", Bucket=bucket, Prefix=prefix, Delimiter="/")

    def _get(self, client: Any, bucket: str, key: str) -> StoredObject:
        """Send one GetObject request and read its whole body."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body:
            # Without a length, nobody would notice a body that is cut.
            if "ContentLength" not in answer:
                raise codec.InvalidResponse("it does not say how long its body is")
            try:
                content = StoredObject(body.read(), answer.get("LastModified"))
            # botocore turns some errors of urllib3 and of ssl into its own, not all of them.
            except (BotoCoreError, HTTPError, OSError) as cause:
                reason = f"its body cannot be read ({type(cause).__name__})"
            else:
                return content
        raise codec.InvalidResponse(reason)

    def _list(self, entries: str, name: str, **members: str) -> list[str]:
        """List all pages, each a call of its own for the retry policy."""
        bucket, prefix = members["Bucket"], members["Prefix"]
        found: list[str] = []
        token: str | None = None

        def next_page(client: Any) -> Mapping[str, Any]:
            more = {} if token is None else {"ContinuationToken": token}
            page: Mapping[str, Any] = client.list_objects_v2(**members, **more)
            # An answer that is cut, or that is not one of S3's, would read as "no keys".
            count = len(page.get("Contents", [])) + len(page.get("CommonPrefixes", []))
            if page.get("KeyCount") != count:
                raise codec.InvalidResponse("its keys are not as many as it says")
            following = page.get("NextContinuationToken")
            if page.get("IsTruncated") and following in (None, token):
                raise codec.InvalidResponse("it does not say where the next page begins")
            return page

        while True:
            page = self._call("ListObjectsV2", next_page, bucket, prefix)
            found += [entry[name] for entry in page.get(entries, [])]
            if not page.get("IsTruncated"):
                return found
            token = page["NextContinuationToken"]

    def _call(
        self, operation: str, call: Callable[[Any], _Result], bucket: str, key: str
    ) -> _Result:
        def attempt() -> _Result:
            client = self._connect(operation)
            return failures.attempt(lambda: call(client), operation, {})

        try:
            return call_with_retries(attempt, self._policy, self._clock)
        except (ServiceError, TransportError) as error:
            failed = error
        raise _about(failed, bucket, key)


# Codes by which S3 refuses the caller, or the bucket: no other object could be read either. From
# the list of error codes in the Amazon S3 API Reference, as far as reading can meet them.
_ABOUT_ALL = frozenset(
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

_ADVICE = {
    "AccessDenied": (
        "access denied: the caller needs s3:GetObject and, where KMS encrypts, kms:Decrypt; S3"
        " answers the same for a key that does not exist, unless the caller has s3:ListBucket"
    ),
    "InvalidObjectState": (
        "the object is archived: restore it (RestoreObject), then read the results again"
    ),
    "InvalidRequest": (
        "S3 refuses the request, as it does for objects that are encrypted with a key of the"
        " customer (SSE-C): copy the object to one without SSE-C"
    ),
    "MethodNotAllowed": "the object was deleted, and only its delete marker is left",
}


def _about(
    error: ServiceError | TransportError, bucket: str, key: str
) -> ResultsError | ServiceError | TransportError:
    """Return the error to raise: with bucket and key if it may concern this object alone.

    What a retry may help against stays what it is. What S3 refuses for good becomes an
    `UnreadableObjectError`, or a `ResultsError` without a key if the whole bucket is concerned.
    """
    if isinstance(error, MalformedResponseError):
        return UnreadableObjectError(error.reason, bucket=bucket, key=key)
    if isinstance(error, ServiceError) and not error.retryable:
        if error.code == "NoSuchBucket":
            return ResultsError("there is no such bucket", bucket=bucket)
        if error.code not in _ABOUT_ALL:
            return _refusal(error, bucket, key)
    if error.retryable:
        error.bucket, error.key = bucket, key
    return error


def _refusal(error: ServiceError, bucket: str, key: str) -> ResultsError:
    code = error.code
    if code == "NoSuchKey":
        return MissingObject("there is no such key", bucket=bucket, key=key)
    if isinstance(error, AccessDeniedException):
        code = "AccessDenied"
    if code.startswith("KMS."):
        advice = "the KMS key that encrypts the object cannot be used: enable it, or ask its owner"
    else:
        advice = _ADVICE.get(code, "S3 refuses to hand out this object")
    details = f"{error.code}, HTTP {error.status_code}, request id {error.request_id or 'unknown'}"
    return UnreadableObjectError(f"{advice} ({details})", bucket=bucket, key=key)

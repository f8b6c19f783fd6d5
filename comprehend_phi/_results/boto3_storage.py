"""Reading S3 objects through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from .._retry import RetryPolicy, call_with_retries
from .._service.attempts import run_attempt
from .._service.codec import InvalidResponse
from ..errors import ServiceError, TransportError
from .s3_errors import translate
from .storage import MissingObject, StoredObject

if TYPE_CHECKING:
    from .._clock import Clock

_SURROGATE = re.compile("[\ud800-\udfff]")

_Result = TypeVar("_Result")


class Boto3Storage:
    """Reads S3 objects through one boto3 client, which all threads of a process share.

    Args:
        connect: takes the name of an operation and returns the boto3 client for it, or raises
            `ClientClosedError`.
        policy: how calls are retried.
        clock: measures the waits between attempts.
    """

    def __init__(self, connect: Callable[[str], Any], policy: RetryPolicy, clock: Clock) -> None:
        self._connect = connect
        self._policy = policy
        self._clock = clock
        self.connections: int = connect("results").meta.config.max_pool_connections

    def check_open(self) -> None:
        """Raise `ClientClosedError` if the client that reads was closed."""
        self._connect("results")

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        if not key or _SURROGATE.search(key):
            # boto3's error for such a key would look like a configuration error.
            raise MissingObject("no key of S3 is empty or not UTF-8", bucket=bucket, key=key)
        return self._call("GetObject", lambda client: self._get(client, bucket, key), bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List all keys that begin with `prefix`, in S3's order."""
        return self._list("Contents", "Key", Bucket=bucket, Prefix=prefix)

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """List the folders directly below `prefix`, each with its final slash."""
        return self._list("CommonPrefixes", "Prefix", Bucket=bucket, Prefix=prefix, Delimiter="/")

    def _get(self, client: Any, bucket: str, key: str) -> StoredObject:
        """Send one GetObject request and read the whole body."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        answer = client.get_object(Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body:
            # Without a length, a body that was cut off would look complete.
            if "ContentLength" not in answer:
                raise InvalidResponse("it does not say how long its body is")
            try:
                content = StoredObject(body.read(), answer.get("LastModified"))
            # botocore wraps some errors of urllib3 and ssl, but not all.
            except (BotoCoreError, HTTPError, OSError) as cause:
                reason = f"its body cannot be read ({type(cause).__name__})"
            else:
                return content
        raise InvalidResponse(reason)

    def _list(self, entries: str, name: str, **members: str) -> list[str]:
        """List all pages. The retry policy applies to each page separately."""
        bucket, prefix = members["Bucket"], members["Prefix"]
        found: list[str] = []
        token: str | None = None

        def next_page(client: Any) -> Mapping[str, Any]:
            more = {} if token is None else {"ContinuationToken": token}
            page: Mapping[str, Any] = client.list_objects_v2(**members, **more)
            # Without this check, a response that was cut off, or that S3 did not send, would look
            # like an empty folder.
            count = len(page.get("Contents", [])) + len(page.get("CommonPrefixes", []))
            if page.get("KeyCount") != count:
                raise InvalidResponse("its keys are not as many as it says")
            following = page.get("NextContinuationToken")
            if page.get("IsTruncated") and following in (None, token):
                raise InvalidResponse("it does not say where the next page begins")
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
            return run_attempt(lambda: call(client), operation, {})

        try:
            return call_with_retries(attempt, self._policy, self._clock)
        except (ServiceError, TransportError) as error:
            failed = error
        raise translate(failed, bucket, key)

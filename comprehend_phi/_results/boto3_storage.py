"""Reading S3 objects through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar, cast

from .._clock import Clock
from .._retry import RetryPolicy
from .._service.invalid_response import InvalidResponse
from ..errors import MissingBucketError, MissingObjectError
from .s3_calls import S3Calls
from .s3_tuning import objects_in
from .storage import ListedObject, ListingPage, Sink, StoredObject

_SURROGATE = re.compile("[\ud800-\udfff]")

_Fed = TypeVar("_Fed", bound=Sink)

_PIECE_BYTES = 256 * 1024


class Boto3Storage:
    """Reads S3 objects through one boto3 client, which all threads of a process share.

    Args:
        connect: takes the name of an operation and returns the boto3 client for it, or raises
            `ClientClosedError`.
        policy: how calls are retried.
        clock: measures the waits between attempts.

    Attributes:
        calls: the way to S3.
        connections: how many objects can be fetched at the same time.
    """

    def __init__(self, connect: Callable[[str], Any], policy: RetryPolicy, clock: Clock) -> None:
        self.calls: S3Calls = S3Calls(connect, policy, clock)
        self.connections: int = self.calls.connections

    def check_open(self) -> None:
        """Raise `ClientClosedError` if the client that reads was closed."""
        self.calls.connect("results")

    def read(self, bucket: str, key: str) -> StoredObject:
        """Fetch one object."""
        return self._read(bucket, key)

    def feed(self, bucket: str, key: str, start: Callable[[], _Fed]) -> _Fed:
        """Fetch one object piece by piece, so that it is never in memory as a whole."""
        _check_key(bucket, key)

        def get(client: Any) -> _Fed:
            sink = start()
            with _body_of(client, bucket, key) as (body, _):
                for piece in body.iter_chunks(_PIECE_BYTES):
                    sink.add(piece)
            return sink

        return self.calls.call("GetObject", get, bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """List all keys that begin with `prefix`, in S3's order."""
        return [each.key for page in self.pages(bucket, prefix) for each in page.objects]

    def folders(self, bucket: str, prefix: str) -> list[str]:
        """List the folders directly below `prefix`, each with its final slash."""
        pages = self.pages(bucket, prefix, folders=True)
        return [folder for page in pages for folder in page.folders]

    def page(
        self,
        bucket: str,
        prefix: str,
        *,
        folders: bool = False,
        after: str | None = None,
        token: str | None = None,
    ) -> ListingPage:
        """List one page of the keys that begin with `prefix`.

        Args:
            bucket: the bucket.
            prefix: the beginning of the keys.
            folders: list the folders directly below `prefix` instead of the objects in them.
            after: only list keys after this one; None lists all.
            token: the `next_token` of the previous page; None for the first page.

        Raises:
            MissingBucketError: the bucket does not exist.
            ResultsError, ServiceError, TransportError: raised as by `read`. The `key` is `prefix`.
        """
        delimiter = "/" if folders else None
        options = {"Delimiter": delimiter, "StartAfter": after, "ContinuationToken": token}
        given = {name: value for name, value in options.items() if value is not None}

        def list_page(client: Any) -> ListingPage:
            answer: Mapping[str, Any] = client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, **given
            )
            objects = objects_in(answer)
            below = [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
            # Without this check, a truncated response, or that S3 did not send, would look
            # like an empty folder.
            if answer.get("KeyCount") != len(objects) + len(below):
                raise InvalidResponse("its KeyCount does not match its keys")
            following = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
            if answer.get("IsTruncated") and following in (None, token):
                raise InvalidResponse("it has no usable NextContinuationToken")
            return ListingPage(objects, below, following)

        return self.calls.call("ListObjectsV2", list_page, bucket, prefix)

    def pages(
        self, bucket: str, prefix: str, *, folders: bool = False, after: str | None = None
    ) -> Iterator[ListingPage]:
        """List all pages, as `page` does. The retry policy applies to each page separately."""
        list_page = partial(self.page, bucket, prefix, folders=folders, after=after)
        yield (page := list_page())
        while page.next_token is not None:
            yield (page := list_page(token=page.next_token))

    def find(self, bucket: str, key: str) -> ListedObject | None:
        """Return one object as a listing shows it, or None if there is no such key."""
        # A key comes before all longer ones.
        objects = self.page(bucket, key).objects
        return objects[0] if objects and objects[0].key == key else None

    def region(self, bucket: str) -> str | None:
        """Return the region of a bucket; None if S3 does not say.

        Raises:
            MissingBucketError: the bucket does not exist.
            ServiceError, TransportError: all attempts failed.
        """
        status, region = self.calls.call("HeadBucket", partial(_head, bucket), bucket, "")
        if status == HTTPStatus.NOT_FOUND:
            raise MissingBucketError("the bucket does not exist", bucket=bucket)
        return region

    def _read(self, bucket: str, key: str, *, attempts_before: int = 0) -> StoredObject:
        _check_key(bucket, key)

        def get(client: Any) -> StoredObject:
            with _body_of(client, bucket, key) as (body, last_modified):
                return StoredObject(body.read(), last_modified)

        return self.calls.call("GetObject", get, bucket, key, attempts_before=attempts_before)


def _check_key(bucket: str, key: str) -> None:
    """Raise `MissingObjectError` for a key for which boto3's error would be misleading."""
    if not key or _SURROGATE.search(key):
        raise MissingObjectError(
            "S3 has no keys that are empty or not UTF-8", bucket=bucket, key=key
        )


@contextmanager
def _body_of(
    client: Any, bucket: str, key: str
) -> Generator[tuple[Any, datetime | None], None, None]:
    """Send one GetObject request. Enter with the body and the time at which it was written."""
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    answer = client.get_object(Bucket=bucket, Key=key)
    with closing(answer["Body"]) as body:
        # Without a length, a truncated body would look complete.
        if "ContentLength" not in answer:
            raise InvalidResponse("it has no Content-Length")
        try:
            yield body, answer.get("LastModified")
        # botocore wraps some errors of urllib3 and ssl, but not all.
        except (BotoCoreError, HTTPError, OSError) as cause:
            reason = f"its body cannot be read ({type(cause).__name__})"
        else:
            return
    raise InvalidResponse(reason)


# What S3 answers to HeadBucket if the caller may not use the bucket, or not from this region. The
# body is empty, so only the status and the headers say why.
_REFUSALS = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
    }
)


def _head(bucket: str, client: Any) -> tuple[int, str | None]:
    """Return the status of a HeadBucket response and the region in its headers."""
    from botocore.exceptions import ClientError

    try:
        metadata: dict[str, Any] = client.head_bucket(Bucket=bucket)["ResponseMetadata"]
    except ClientError as cause:
        metadata = cast("dict[str, Any]", cause.response)["ResponseMetadata"]
        if metadata["HTTPStatusCode"] not in _REFUSALS:
            raise
    return metadata["HTTPStatusCode"], metadata["HTTPHeaders"].get("x-amz-bucket-region")

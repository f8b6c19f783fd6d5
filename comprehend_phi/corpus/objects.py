"""Writing, copying and deleting S3 objects over a client's connection."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from attrs import field, frozen

from .._logs import code_or_reason, error_fields, log
from .._results.new_object import NewObject, encryption, require_etag
from .._results.s3_errors import is_conflict, translate
from .._service.error_responses import is_retried
from .._service.invalid_response import InvalidResponse
from ..errors import (
    ExistingObjectError,
    ServiceError,
    SourceChangedError,
    TransportError,
)

if TYPE_CHECKING:
    from datetime import datetime

    from .._results.s3_calls import S3Calls

_TEXT = "text/plain; charset=utf-8"
_BINARY = "application/octet-stream"

# The names of metadata that this module adds.
CHECKSUM = "comprehend-phi-sha256"
_UPLOAD = "comprehend-phi-upload"

_MOST_DELETED = 1_000  # keys in one request (S3 API Reference, DeleteObjects)

# XML cannot contain these characters, but keys can.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")

# S3 takes 10,000 parts of an upload, and every part but the last needs 5 MiB (Amazon S3 User Guide,
# "Amazon S3 multipart upload limits"). If the size doubles this often, it never runs out of parts.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_OF_ONE_SIZE = 1_000


@frozen(kw_only=True)
class StoredProperties:
    """What S3 says about an object without returning it.

    Attributes:
        size: bytes.
        etag: the ETag with its quotation marks.
        last_modified: when the object was written, in whole seconds; None if S3 does not say.
        metadata: the user metadata. Its names are in lower case. Not in the repr.
    """

    size: int
    etag: str
    last_modified: datetime | None
    metadata: Mapping[str, str] = field(repr=False)


class S3Objects:
    """Writes S3 objects. Threads may share it.

    Without `kms_key`, S3 encrypts what is written as the bucket's default says.

    Args:
        calls: the client's way to S3.
    """

    def __init__(self, calls: S3Calls) -> None:
        self._calls = calls

    def head(self, bucket: str, key: str) -> StoredProperties | None:
        """Return the properties of an object, or None if there is no such key.

        Raises:
            UnreadableObjectError: S3 refuses to return them.
            ServiceError, TransportError: all attempts failed.
        """
        from botocore.exceptions import ClientError

        def send(client: Any) -> StoredProperties | None:
            try:
                answer: Mapping[str, Any] = client.head_object(Bucket=bucket, Key=key)
            except ClientError as cause:
                response: Mapping[str, Any] = cast("dict[str, Any]", cause.response)
                if response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
                    raise
                return None
            return StoredProperties(
                size=answer["ContentLength"],
                etag=answer["ETag"],
                last_modified=answer.get("LastModified"),
                # The names are those of HTTP headers, and servers may change their case.
                metadata={name.lower(): value for name, value in answer["Metadata"].items()},
            )

        return self._calls.call("HeadObject", send, bucket, key)

    def copy(
        self,
        source_bucket: str,
        source_key: str,
        etag: str,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        kms_key: str | None = None,
    ) -> None:
        """Copy a text of at most 5 GB within S3, without its metadata and tags.

        Args:
            source_bucket: the bucket of the source.
            source_key: the key of the source.
            etag: the ETag that the source must have.
            bucket: the bucket of the copy.
            key: the key of the copy. An object that is already there is replaced.
            metadata: user metadata of the copy: ASCII, with names in lower case.
            kms_key: the KMS key that encrypts the copy.

        Raises:
            SourceChangedError: the source has another ETag.
            MissingObjectError: the source does not exist.
            MissingBucketError: one of the buckets does not exist. The error names the first.
            UnwritableObjectError: S3 refuses to copy the object.
            ServiceError, TransportError: all attempts failed.
        """

        def send(client: Any) -> None:
            answer: Mapping[str, Any] = client.copy_object(
                CopySource={"Bucket": source_bucket, "Key": source_key},
                CopySourceIfMatch=etag,
                Bucket=bucket,
                Key=key,
                MetadataDirective="REPLACE",
                Metadata=dict(metadata or {}),
                ContentType=_TEXT,
                TaggingDirective="REPLACE",
                **encryption(kms_key),
            )
            require_etag(answer.get("CopyObjectResult", {}))

        try:
            self._calls.send("CopyObject", send)
        except (ServiceError, TransportError) as error:
            failed = error
        else:
            return
        if is_conflict(failed):
            raise SourceChangedError(
                "the object was replaced since it was listed", bucket=source_bucket, key=source_key
            )
        raise translate(failed, source_bucket, source_key)

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        replaces: str | None = None,
        metadata: Mapping[str, str] | None = None,
        kms_key: str | None = None,
        content_type: str = _TEXT,
    ) -> None:
        """Write an object, but only where there is none, or only over a known one.

        The metadata also gets the SHA-256 of `body`, under the name `CHECKSUM`. It shows whether an
        object that is suddenly there was written by an earlier attempt of this call.

        Args:
            bucket: the bucket.
            key: the key.
            body: the content.
            replaces: the ETag of the object to replace. None means that no object may be there.
            metadata: user metadata: ASCII, with names in lower case.
            kms_key: the KMS key that encrypts the object.
            content_type: the media type of the content.

        Raises:
            ExistingObjectError: another object is there. Nothing was written.
            MissingObjectError: the object to replace does not exist.
            MissingBucketError: the bucket does not exist.
            UnwritableObjectError: S3 refuses to write the object.
            ServiceError, TransportError: all attempts failed.
        """
        marked = {**(metadata or {}), CHECKSUM: sha256(body).hexdigest()}
        new = NewObject(
            bucket=bucket,
            key=key,
            body=body,
            replaces=replaces,
            metadata=marked,
            kms_key=kms_key,
            content_type=content_type,
        )
        try:
            self._calls.put(new)
        except (ServiceError, TransportError) as error:
            failed = error
        else:
            return
        if not is_conflict(failed):
            raise translate(failed, bucket, key)
        # An earlier attempt may have written the object, although its response was lost.
        if failed.outcome_unknown and self._has(bucket, key, marked):
            return
        raise ExistingObjectError(
            "an object is already there, so nothing was written"
            if replaces is None
            else "the object was replaced meanwhile, so nothing was written",
            bucket=bucket,
            key=key,
        )

    def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete up to 1,000 objects. It is no error if they do not exist.

        In a bucket with versions, this adds delete markers: earlier versions remain.

        Raises:
            MissingBucketError: the bucket does not exist.
            UnwritableObjectError: S3 refuses to delete one of the objects, for example. The objects
                that S3 does not refuse were deleted.
            ServiceError, TransportError: all attempts failed. Some objects may remain.
        """
        left = [key for key in keys if not _NOT_IN_XML.search(key)]
        for key in set(keys).difference(left):
            delete = partial(_delete_one, bucket, key)
            self._calls.call("DeleteObject", delete, bucket, key)

        def send(client: Any) -> None:
            answer: Mapping[str, Any] = client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in left]}
            )
            errors: list[dict[str, Any]] = answer.get("Errors", [])
            if len(answer.get("Deleted", [])) + len(errors) != len(left):
                raise InvalidResponse("it does not say what became of each key")
            left[:] = [each["Key"] for each in errors]
            if errors:
                raise _refused_deletion(errors, answer)

        if not left:
            return
        try:
            self._calls.send("DeleteObjects", send)
        except (ServiceError, TransportError) as error:
            failed = error
        else:
            return
        raise translate(failed, bucket, left[0])

    @contextmanager
    def upload(
        self, bucket: str, key: str, *, kms_key: str | None = None, content_type: str = _BINARY
    ) -> Generator[Upload, None, None]:
        """Write an object of any size, piece by piece, as a multipart upload.

        If the block ends without an error, the object is complete and replaces what was there. If
        the block or a call fails, the upload is aborted. If aborting fails too, S3 keeps the parts,
        and a log record says so.

        Raises:
            MissingBucketError: the bucket does not exist.
            UnwritableObjectError: S3 refuses the upload.
            ServiceError, TransportError: all attempts failed. If `outcome_unknown` is true, the
                object may be complete.
        """
        metadata = {_UPLOAD: uuid4().hex}  # which no other upload has
        upload = Upload(
            self._calls, bucket, key, metadata=metadata, kms_key=kms_key, content_type=content_type
        )
        try:
            yield upload
            upload.complete(lambda: self._has(bucket, key, metadata))
        except BaseException:
            upload.abort()
            raise

    def _has(self, bucket: str, key: str, metadata: Mapping[str, str]) -> bool:
        """Return whether an object is there and has this metadata."""
        found = self.head(bucket, key)
        return found is not None and found.metadata == metadata


class Upload:
    """A multipart upload. `S3Objects.upload` makes one.

    Args:
        calls: the client's way to S3.
        bucket: the bucket.
        key: the key.
        metadata: user metadata of the object.
        kms_key: the KMS key that encrypts the object.
        content_type: the media type of the content.
    """

    def __init__(
        self,
        calls: S3Calls,
        bucket: str,
        key: str,
        *,
        metadata: Mapping[str, str],
        kms_key: str | None,
        content_type: str,
    ) -> None:
        self._calls = calls
        self._bucket = bucket
        self._key = key
        self._rest = bytearray()
        self._etags: list[str] = []

        def create(client: Any) -> str:
            answer: Mapping[str, Any] = client.create_multipart_upload(
                Bucket=bucket,
                Key=key,
                Metadata=metadata,
                ContentType=content_type,
                **encryption(kms_key),
            )
            if not answer.get("UploadId"):
                raise InvalidResponse("it has no UploadId")
            return cast("str", answer["UploadId"])

        self._upload_id = calls.call("CreateMultipartUpload", create, bucket, key)

    def write(self, piece: bytes) -> int:
        """Add bytes to the object, and return how many. Raise what `S3Objects.upload` raises."""
        self._rest += piece
        # The size doubles from time to time, so that there are always enough parts.
        while len(self._rest) >= (size := _PART_BYTES << len(self._etags) // _PARTS_OF_ONE_SIZE):
            self._send_part(bytes(self._rest[:size]))
            del self._rest[:size]
        return len(piece)

    def complete(self, is_complete: Callable[[], bool]) -> None:
        """Complete the object. Raise what `S3Objects.upload` raises.

        Args:
            is_complete: returns whether the object is there. Called if an earlier attempt may have
                completed it, but its response was lost.
        """
        if self._rest or not self._etags:
            self._send_part(bytes(self._rest))
        parts = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, start=1)
        ]

        def send(client: Any) -> None:
            require_etag(
                client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": parts},
                )
            )

        try:
            self._calls.send("CompleteMultipartUpload", send)
        except (ServiceError, TransportError) as error:
            failed = error
        else:
            return
        has_ended = isinstance(failed, ServiceError) and failed.code == "NoSuchUpload"
        if has_ended and failed.outcome_unknown and is_complete():
            return
        raise translate(failed, self._bucket, self._key)

    def abort(self) -> None:
        """Delete all parts. Log it if that fails."""

        def send(client: Any) -> None:
            client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
            )

        try:
            self._calls.send("AbortMultipartUpload", send)
        except (ServiceError, TransportError) as error:
            log(
                logging.WARNING,
                "an upload could not be aborted, so S3 keeps its parts: %s",
                code_or_reason(error),
                operation=error.operation,
                **error_fields(error),
            )

    def _send_part(self, body: bytes) -> None:
        number = len(self._etags) + 1

        def send(client: Any) -> str:
            return require_etag(
                client.upload_part(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload_id,
                    PartNumber=number,
                    Body=body,
                )
            )

        self._etags.append(self._calls.call("UploadPart", send, self._bucket, self._key))


def _delete_one(bucket: str, key: str, client: Any) -> None:
    client.delete_object(Bucket=bucket, Key=key)


def _refused_deletion(errors: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> Exception:
    """Return boto3's error for the first key that was not deleted, preferably one to retry."""
    from botocore.exceptions import ClientError

    first = max(errors, key=lambda each: is_retried(each["Code"]))
    # S3 has no HTTP status for a single key.
    metadata = {**answer["ResponseMetadata"], "HTTPStatusCode": HTTPStatus.BAD_REQUEST}
    response: Any = {"Error": first, "ResponseMetadata": metadata}
    return ClientError(response, "DeleteObjects")

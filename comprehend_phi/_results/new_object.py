"""Writing an S3 object with one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from .._service.invalid_response import InvalidResponse


@frozen(kw_only=True)
class NewObject:
    """An object to write, but only where there is none, or only over a known one.

    Attributes:
        bucket: the bucket.
        key: the key. Not in the repr.
        body: the content. Not in the repr.
        replaces: the ETag of the object to replace. None means that no object may be there.
        metadata: user metadata: ASCII, with names in lower case. Not in the repr.
        kms_key: the KMS key that encrypts the object. None means the bucket's default.
        content_type: the media type of the content.
    """

    bucket: str
    key: str = field(repr=False)
    body: bytes = field(repr=False)
    replaces: str | None
    metadata: Mapping[str, str] = field(repr=False)
    kms_key: str | None
    content_type: str

    def send(self, client: Any) -> None:
        """Send the request through boto3."""
        condition = {"IfNoneMatch": "*"} if self.replaces is None else {"IfMatch": self.replaces}
        require_etag(
            client.put_object(
                Bucket=self.bucket,
                Key=self.key,
                Body=self.body,
                Metadata=self.metadata,
                ContentType=self.content_type,
                **condition,
                **encryption(self.kms_key),
            )
        )

    def headers(self) -> dict[str, str]:
        """Return the headers of the request that `send` asks for, in lower case."""
        condition = {"if-none-match": "*"} if self.replaces is None else {"if-match": self.replaces}
        metadata = {f"x-amz-meta-{name}": value for name, value in self.metadata.items()}
        headers = {**metadata, "content-type": self.content_type, **condition}
        if self.kms_key is not None:
            headers["x-amz-server-side-encryption"] = "aws:kms"
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key
        return headers


def encryption(kms_key: str | None) -> dict[str, str]:
    """Return boto3's arguments that encrypt an object with a KMS key."""
    return {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}


def require_etag(answer: Mapping[str, Any]) -> str:
    """Return the ETag in a response. A response without one did not come from S3."""
    etag: str | None = answer.get("ETag")
    if not etag:
        raise InvalidResponse("it has no ETag")
    return etag

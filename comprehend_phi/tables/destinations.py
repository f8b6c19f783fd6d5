"""Where a table is written: a local file or an S3 object, which is complete or absent."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, cast

from .._client import PHIClient
from .._client_base import s3_of
from .._shapes import KMS_KEY, InstanceShape, check_argument
from .._whole_file import whole_file
from ..corpus.objects import S3Objects
from ..errors import RequestValidationError
from ..models import S3Location

Destination = str | os.PathLike[str] | S3Location

_CLIENT = InstanceShape(PHIClient, "because the destination is on S3")


class Sink(Protocol):
    """Takes the bytes of a file."""

    def write(self, piece: bytes, /) -> int:
        """Add bytes to the end of the file, and return how many."""
        ...


def open_destination(
    owner: str,
    destination: object,
    *,
    client: PHIClient | None,
    kms_key: str | None,
    media_type: str,
) -> AbstractContextManager[Sink]:
    """Return a context that enters with a file, which appears when its block ends well.

    Args:
        owner: the function that is called.
        destination: a `Destination`: the path of a local file, or the location of an S3 object.
        client: the client whose connection to S3 is used.
        kms_key: the KMS key that encrypts the S3 object.
        media_type: the media type of the S3 object.

    Raises:
        RequestValidationError: an argument is wrong.
    """
    if isinstance(destination, S3Location):
        return _upload(owner, destination, client, kms_key, media_type)
    field, shape = "destination", "path or S3Location"
    path = cast("str | os.PathLike[str]", destination)
    if not isinstance(destination, (str, os.PathLike)):
        reason = f"must be a path or an S3Location, not {type(destination).__name__}"
    elif str(path).startswith("s3:/"):
        reason = "must be a path; for S3, pass S3Location.from_uri(...)"
    elif kms_key is not None:
        field, shape = "kms_key", KMS_KEY.name
        reason = "must be None because the destination is a local file"
    else:
        return whole_file(Path(path), mode=0o600, sync=True)
    raise RequestValidationError(owner=owner, field=field, shape=shape, reason=reason)


def _upload(
    owner: str,
    location: S3Location,
    client: PHIClient | None,
    kms_key: str | None,
    media_type: str,
) -> AbstractContextManager[Sink]:
    check_argument(owner, "client", _CLIENT, client)
    check_argument(owner, "kms_key", KMS_KEY, kms_key, optional=True)
    if location.key is None or location.key.endswith("/"):
        raise RequestValidationError(
            owner=owner,
            field="destination",
            shape="S3Location",
            reason="must have the key of a file; this one is a folder",
        )
    objects = S3Objects(s3_of(cast("PHIClient", client)).storage().calls)
    return objects.upload(location.bucket, location.key, kms_key=kms_key, content_type=media_type)

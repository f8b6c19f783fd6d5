"""Making boto3's calls cheaper, without changing what they mean.

botocore looks for some thirty headers in each response and parses dates of any format. This package
needs one or two of them. And botocore asks S3 before it sends a body of any size. For each object
in a listing, it builds a dict with a parsed date. A check or a plan lists millions of objects and
needs only three values of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from .storage import ListedObject

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.model import OperationModel

# Smaller bodies are sent at once. AWS's SDK for Go does the same (`ContinueHeaderThresholdBytes`).
_ASK_FROM = 2 * 1024 * 1024  # bytes

_MEMBER = "ComprehendPHIObjects"  # the member that this module adds to a response
_FIRST, _LAST = b"<Contents>", b"</Contents>"


# --- Single objects ------------------------------------------------------------------------------


def tune(client: BaseClient) -> None:
    """Make a boto3 client's calls of GetObject and PutObject cheaper.

    Responses then contain only `ContentLength`, `LastModified`, `ETag`, `Body` and
    `ResponseMetadata`. So use this function only with clients that this package built.
    """
    events = client.meta.events
    for operation in ("GetObject", "PutObject"):
        events.register(f"before-parse.s3.{operation}", _take_headers)
    # Before the handler of botocore that adds `Expect` to a request whose body is a file.
    events.register_first("before-call.s3", _send_at_once)


def _take_headers(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Take what this package needs from the headers, and let botocore find nothing in them.

    Leave an unusual response unchanged, so that botocore parses all of it.
    """
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    headers: dict[str, str] = {
        name.lower(): value for name, value in response_dict["headers"].items()
    }
    members: dict[str, object] = {}
    if (etag := headers.get("etag")) is not None:
        members["ETag"] = etag
    if (length := headers.get("content-length")) is not None:
        if not (length.isascii() and length.isdigit()):
            return
        members["ContentLength"] = int(length)
    if (written := headers.get("last-modified")) is not None:
        if (time := _time(written)) is None:
            return
        members["LastModified"] = time
    customized_response_dict.update(members)
    # botocore looks for most headers by names in mixed case.
    response_dict["headers"] = headers


def _time(value: str) -> datetime | None:
    """Return the time of a header, or None if it is not a usual date."""
    try:
        time = parsedate_to_datetime(value)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def _send_at_once(model: OperationModel, params: dict[str, Any], **_: object) -> None:
    """Send a small body with the headers, and without `Expect: 100-continue`.

    botocore has made a file of it. It would send the headers, wait for S3 to agree, and then send
    the body.
    """
    body = params.get("body")
    if (
        model.name == "PutObject"
        and isinstance(body, BytesIO)
        and body.getbuffer().nbytes < _ASK_FROM
    ):
        params["body"] = body.getvalue()


# --- Listings -------------------------------------------------------------------------------------


def parse_listings(client: BaseClient) -> None:
    """Make a boto3 client parse listings fast, so that `objects_in` gets the objects.

    The client's responses to ListObjectsV2 then lack `Contents`. So use this function only with
    clients that this package built.
    """
    client.meta.events.register("before-parse.s3.ListObjectsV2", _take_objects)


def objects_in(response: Mapping[str, Any]) -> list[ListedObject]:
    """Return the objects in a response of any boto3 client to ListObjectsV2."""
    taken: list[ListedObject] | None = response.get(_MEMBER)
    if taken is not None:
        return taken
    return [
        ListedObject(entry["Key"], entry["Size"], entry.get("StorageClass"), entry.get("ETag"))
        for entry in response.get("Contents", [])
    ]


def _take_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Move the objects from the body of a response to a member that botocore does not parse.

    Leave an unusual response unchanged, so that botocore parses all of it.
    """
    body: bytes = response_dict["body"]
    begin, end = body.find(_FIRST), body.rfind(_LAST) + len(_LAST)
    if response_dict["status_code"] != HTTPStatus.OK or not 0 <= begin < end:
        return
    rest = body[:begin] + body[end:]
    is_encoded = b"<EncodingType>url</EncodingType>" in rest
    objects = _parsed(body[begin:end], is_encoded=is_encoded)
    if objects is not None:
        customized_response_dict[_MEMBER] = objects
        response_dict["body"] = rest


def _parsed(contents: bytes, *, is_encoded: bool) -> list[ListedObject] | None:
    """Return the objects in consecutive `Contents` elements, or None for any other XML."""
    from xml.etree import ElementTree  # botocore has imported it by now

    objects: list[ListedObject] = []
    try:
        elements = ElementTree.fromstring(b"<r>%b</r>" % contents)  # noqa: S314 - botocore would parse the same bytes with this parser
        for element in elements:
            text_of = element.findtext
            key, size = text_of("Key"), text_of("Size")
            if element.tag != "Contents" or not key or size is None:
                return None
            # S3 encodes only some characters, and most keys have none of them.
            if is_encoded and ("%" in key or "+" in key):
                key = unquote_plus(key)
            objects.append(ListedObject(key, int(size), text_of("StorageClass"), text_of("ETag")))
    except (ElementTree.ParseError, ValueError):
        return None
    return objects

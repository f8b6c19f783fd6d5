"""Parsing listings of S3 in a sixth of the time that botocore takes.

botocore builds a dict with a parsed date for every object. A check or a plan lists millions of
objects and needs only three values of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from .storage import ListedObject

if TYPE_CHECKING:
    from botocore.client import BaseClient

_MEMBER = "ComprehendPHIObjects"  # the member that this module adds to a response
_FIRST, _LAST = b"<Contents>", b"</Contents>"


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
        elements = ElementTree.fromstring(b"<r>%b</r>" % contents)  # noqa: S314 - botocore's parser
        for element in elements:
            key, size = element.findtext("Key"), element.findtext("Size")
            if element.tag != "Contents" or not key or size is None:
                return None
            # S3 encodes only some characters, and most keys have none of them.
            if is_encoded and ("%" in key or "+" in key):
                key = unquote_plus(key)
            objects.append(
                ListedObject(
                    key, int(size), element.findtext("StorageClass"), element.findtext("ETag")
                )
            )
    except (ElementTree.ParseError, ValueError):
        return None
    return objects

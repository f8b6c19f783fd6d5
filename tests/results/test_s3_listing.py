"""Our parser of listings finds what botocore's finds."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comprehend_phi._results.s3_tuning import objects_in, parse_listings


class Body(BytesIO):
    """A body with the method by which botocore reads it from urllib3."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Listings:
    """Two boto3 clients that get the same response; one of them parses listings with our parser."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.clients: list[Any] = [boto3.client("s3") for _ in range(2)]
        for client in self.clients:
            client.meta.events.register("before-send.s3.ListObjectsV2", self._answer)
        self.plain, self.ours = self.clients
        parse_listings(self.ours)

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, self.status, HTTPHeaders(), Body(self.body))

    def outcomes(self) -> tuple[Any, Any]:
        """What each client returns, with the objects, or the class of what it raises."""
        plain, ours = (self._outcome(client) for client in self.clients)
        return plain, ours

    def _outcome(self, client: Any) -> Any:
        try:
            answer = client.list_objects_v2(Bucket="bucket")
            objects = objects_in(answer)
        except Exception as error:  # noqa: BLE001 - whatever botocore raises
            return type(error)
        others = {name: value for name, value in answer.items() if name not in OURS}
        return objects, others


OURS = ("Contents", "ComprehendPHIObjects", "ResponseMetadata")


@pytest.fixture
def listings(_no_aws: None) -> Iterator[Listings]:
    listings = Listings()
    yield listings
    for client in listings.clients:
        client.close()


def contents(key: str, size: object = 1, storage_class: str | None = "STANDARD") -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>2031-02-03T04:05:06.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        f"<Size>{size}</Size><Owner><ID>1</ID></Owner>"
        + (f"<StorageClass>{storage_class}</StorageClass>" if storage_class else "")
        + "</Contents>"
    )


def page(*parts: str, encoded: bool = False, folders: tuple[str, ...] = ()) -> bytes:
    below = "".join(f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in folders)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>p</Prefix>'
        f"<KeyCount>{len(parts)}</KeyCount><IsTruncated>true</IsTruncated>"
        f"{'<EncodingType>url</EncodingType>' if encoded else ''}"
        f"<NextContinuationToken>t</NextContinuationToken>{''.join(parts)}{below}"
        "</ListBucketResult>"
    ).encode()


# What XML can contain; other characters come encoded.
KEYS = st.text(
    st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(objects=[("a+b c%20</Contents>&<Contents>", 0, None)], encoded=False)
@example(objects=[("a+b c%20</Contents>&<Contents>", 0, "GLACIER")], encoded=True)
@example(objects=[("a name", 0, None)], encoded=True)  # "a+name", without any %
@example(objects=[], encoded=True)
@given(
    objects=st.lists(
        st.tuples(KEYS, st.integers(0, 5 * 10**12), st.sampled_from([None, "STANDARD", "GLACIER"])),
        max_size=5,
    ),
    encoded=st.booleans(),
)
def test_both_parsers_find_the_same_objects(
    listings: Listings, objects: list[tuple[str, int, str | None]], encoded: bool
) -> None:
    spell = quote_plus if encoded else escape
    parts = [contents(spell(key), size, storage) for key, size, storage in objects]
    listings.body = page(*parts, encoded=encoded, folders=("f/",))
    theirs, ours = listings.outcomes()
    assert ours == theirs
    assert ours[0] == [(*each, '"e"') for each in objects]
    assert "Contents" not in listings.ours.list_objects_v2(Bucket="bucket")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><Contents></Contents></html>",
        page(contents("a"))[:-40],
        page(contents("a")).replace(b"</Size>", b""),
        page(contents("a"), "<CommonPrefixes><Prefix>f/</Prefix></CommonPrefixes>", contents("b")),
        page(contents("a", size="many")),
        page(contents("a", size="")),
        page(contents("a").replace("<Size>1</Size>", "")),
        page(contents("").replace("<Key></Key>", "")),
        page(contents("a") + "</Contents>"),
    ],
    ids=[
        "empty body",
        "another root element",
        "truncated",
        "Size not closed",
        "folder between objects",
        "Size in words",
        "empty Size",
        "no Size",
        "no Key",
        "surplus closing tag",
    ],
)
def test_an_unusual_listing_is_left_to_botocore(listings: Listings, body: bytes) -> None:
    listings.body = body
    theirs, ours = listings.outcomes()
    assert ours == theirs


def test_an_error_is_left_to_botocore(listings: Listings) -> None:
    listings.status = 403
    listings.body = b"<Error><Code>AccessDenied</Code><Contents></Contents></Error>"
    theirs, ours = listings.outcomes()
    assert issubclass(ours, ClientError)
    assert ours.__name__ == theirs.__name__

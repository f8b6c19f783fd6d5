"""boto3 clients whose calls are cheaper: they send and return the same."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from comprehend_phi._results.s3_tuning import tune

NEEDED = ("ContentLength", "LastModified", "ETag")
MIB = 1024 * 1024


class _Raw:
    """The body of a response, which is empty."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter([b""])

    def read(self, *_: Any, **__: Any) -> bytes:
        return b""

    def close(self) -> None:
        pass


class Client:
    """A boto3 client that sends nothing. Each request gets the same response."""

    def __init__(
        self, *, status: int = 200, url: str = "http://s3.example", **headers: str
    ) -> None:
        session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1})
        self.boto3: Any = session.client("s3", endpoint_url=url, config=config)
        self.sent: Any = None
        self._status = status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.boto3.meta.events.register("before-send.s3", self._answer)

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        self.sent = request
        raw: Any = _Raw()
        headers: Any = self._headers
        return AWSResponse(request.url, self._status, headers, raw)

    def result(self, operation: str) -> dict[str, Any]:
        """Return the members of a response that this package needs, or the error."""
        body = {"Body": b"text"} if operation == "put_object" else {}
        try:
            answer = getattr(self.boto3, operation)(Bucket="a-bucket", Key="a", **body)
        except Exception as error:  # noqa: BLE001 - whatever botocore raises
            return {"error": (type(error), getattr(error, "response", str(error)))}
        metadata = answer["ResponseMetadata"]
        return {
            **{name: answer[name] for name in NEEDED if name in answer},
            "id": metadata.get("RequestId"),
            "headers": metadata["HTTPHeaders"],
        }


RESPONSES: dict[str, dict[str, Any]] = {
    "usual": {
        "Content_Length": "0",
        "Last_Modified": "Thu, 02 Jan 2031 03:04:05 GMT",
        "ETag": '"0"',
        "x_amz_request_id": "ABC",
        "x_amz_id_2": "DEF",
    },
    "names in lower case": {
        "content_length": "0",
        "last_modified": "Thu, 02 Jan 2031 03:04:05 GMT",
        "etag": '"0"',
    },
    "nothing": {},
    "a date of another form": {"Last_Modified": "2031-01-02T03:04:05Z"},
    "a date without a zone": {"Last_Modified": "Thu, 02 Jan 2031 03:04:05 -0000"},
    "a date in another zone": {"Last_Modified": "Thu, 02 Jan 2031 03:04:05 +0200"},
    "no date": {"Last_Modified": "yesterday"},
    "an impossible date": {"Last_Modified": "Thu, 42 Jan 2031 03:04:05 GMT"},
    "no number": {"Content_Length": "many"},
    "digits that are not ASCII": {"Content_Length": "\u0663"},
    "an error": {"status": 404, "Content_Length": "0", "x_amz_request_id": "ABC"},
    "a redirect": {"status": 307, "Location": "http://elsewhere.example"},
    "another success": {"status": 206, "Content_Length": "0", "ETag": '"0"'},
}


@pytest.mark.parametrize("operation", ["get_object", "put_object"])
@pytest.mark.parametrize("name", RESPONSES)
def test_a_tuned_client_returns_what_others_return(operation: str, name: str) -> None:
    client = Client(**RESPONSES[name])
    expected = client.result(operation)
    tune(client.boto3)
    result = client.result(operation)
    if operation == "put_object":  # it has no such members, so nobody looks
        result.pop("ContentLength", None)
        result.pop("LastModified", None)
    assert result == expected


@pytest.mark.parametrize("url", ["http://s3.example", "https://s3.example"])
@pytest.mark.parametrize("size", [0, 4, 2 * MIB - 1, 2 * MIB])
def test_a_small_body_is_sent_without_asking(url: str, size: int) -> None:
    client = Client(url=url, ETag='"0"')
    tune(client.boto3)
    client.boto3.put_object(Bucket="a-bucket", Key="a", Body=bytes(size))
    assert ("Expect" in client.sent.headers) == (size >= 2 * MIB)


def test_a_small_body_has_its_checksum() -> None:
    client = Client(ETag='"0"')
    tune(client.boto3)
    client.boto3.put_object(Bucket="a-bucket", Key="a", Body=b"text")
    checksum = base64.b64encode(zlib.crc32(b"text").to_bytes(4, "big"))
    assert client.sent.headers["x-amz-checksum-crc32"] == checksum
    assert client.sent.body == b"text"


def test_a_part_of_an_upload_is_sent_as_before() -> None:
    client = Client(ETag='"0"')
    tune(client.boto3)
    client.boto3.upload_part(Bucket="a-bucket", Key="a", UploadId="1", PartNumber=1, Body=b"text")
    assert client.sent.headers["Expect"] == b"100-continue"

"""The two protocols of the service model: how they write operations, members and errors.

AWS JSON 1.1 names the operation in a header, and Smithy RPC v2 CBOR in the path. botocore, the AWS
CLI and other SDKs choose one of them. In both, responses may contain datetimes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import cbor2
from attrs import frozen

_SERVICE = "ComprehendMedical_20181030"
_NAMESPACE = "com.amazonaws.comprehendmedical"


class WireProtocol(Protocol):
    """One protocol.

    Attributes:
        headers: the headers of all responses.
    """

    headers: Mapping[str, str]

    def decode(self, body: bytes) -> Any:
        """Return the content of a request. Raise `ValueError` if it cannot be decoded."""
        ...

    def encode(self, members: Mapping[str, Any]) -> bytes:
        """Return the body of a response. The members of an error include `__type`."""
        ...


class AWSJSON:
    """AWS JSON 1.1. Timestamps are numbers: seconds since 1970."""

    headers: Mapping[str, str] = {"Content-Type": "application/x-amz-json-1.1"}

    def decode(self, body: bytes) -> Any:
        """Return the content of a request. Raise `ValueError` if it cannot be decoded."""
        return json.loads(body or b"{}")

    def encode(self, members: Mapping[str, Any]) -> bytes:
        """Return the body of a response. The members of an error include `__type`."""
        return json.dumps(members, default=datetime.timestamp).encode()


class RPCv2CBOR:
    """Smithy RPC v2 CBOR. Timestamps have CBOR's tag 1."""

    headers: Mapping[str, str] = {
        "Content-Type": "application/cbor",
        "smithy-protocol": "rpc-v2-cbor",
    }

    def decode(self, body: bytes) -> Any:
        """Return the content of a request. Raise `ValueError` if it cannot be decoded."""
        try:
            return cbor2.loads(body) if body else {}
        except cbor2.CBORError as error:
            raise ValueError from error

    def encode(self, members: Mapping[str, Any]) -> bytes:
        """Return the body of a response. The members of an error include `__type`."""
        if code := members.get("__type"):
            members = {**members, "__type": f"{_NAMESPACE}#{code}"}
        body: bytes = cbor2.dumps(members, datetime_as_timestamp=True)
        return body


@frozen
class Call:
    """A request for this service: its operation and its protocol."""

    operation: str
    protocol: WireProtocol


def find_call(path: str, headers: Mapping[str, str]) -> Call | None:
    """Return the call that an HTTP request makes, or None if it is for another service.

    Args:
        path: the path of the request's URL.
        headers: the request's headers, with lower-case names.
    """
    service, _, operation = headers.get("x-amz-target", "").partition(".")
    if service == _SERVICE:
        return Call(operation, AWSJSON())
    found = re.fullmatch(rf"/service/{_SERVICE}/operation/([^/]+)", path)
    if found and headers.get("smithy-protocol") == "rpc-v2-cbor":
        return Call(found[1], RPCv2CBOR())
    return None

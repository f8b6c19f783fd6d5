"""Setting up obstore to send what boto3 sends.

This module resolves no AWS settings. boto3 reads or writes the first object of each bucket. From
then on, obstore sends the same request for other keys, to the same endpoint.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .new_object import NewObject

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/([^/]+)/s3/aws4_request,.*")

# The headers of a plain GetObject, in lower case. obstore sends its own signature. The others do
# not change the response, except that boto3 asks for a checksum, which obstore does not verify.
_PLAIN_HEADERS = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "user-agent",
        "x-amz-checksum-mode",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amzn-trace-id",
    }
)

# What boto3 adds to a PutObject request to send the body and its checksum. obstore sends a checksum
# of its own.
_BODY_HEADERS = frozenset(
    {
        "content-encoding",
        "content-length",
        "expect",
        "transfer-encoding",
        "x-amz-checksum-crc32",
        "x-amz-decoded-content-length",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
    }
)
_CHECKSUMS = frozenset({"x-amz-checksum-crc32", "x-amz-trailer"})

# obstore reads these variables, and no option overrides them.
_READING_VARIABLES = ("AWS_SERVER_SIDE_ENCRYPTION",)
_WRITING_VARIABLES = (*_READING_VARIABLES, "AWS_SSE_BUCKET_KEY_ENABLED", "AWS_CHECKSUM_ALGORITHM")

# obstore asks for new credentials if fewer than five minutes are left: with this value, once a
# minute. botocore renews its own at least ten minutes before they expire.
_CREDENTIALS_LAST = timedelta(minutes=6)

_VISIBLE = re.compile(r"[\x21-\x7e]*")

_UNLIMITED = timedelta(days=1)


class LastExchange(threading.local):
    """boto3's last request and response in this thread.

    Attributes:
        request: botocore's signed request.
        connection: urllib3's connection, which receives the response, or the pool that it has
            returned to. They have the same settings. None if the response does not come from
            urllib3. moto's responses do not.
    """

    request: Any = None
    connection: Any = None

    def record_request(self, request: Any, **_: Any) -> None:
        self.request = request

    def record_response(self, response: Any, **_: Any) -> None:
        raw = None if response is None else response[0].raw
        # The response keeps its connection until the body is read. botocore has already read the
        # body, unless it is an object.
        self.connection = getattr(raw, "connection", None) or getattr(raw, "_pool", None)


def build_store(
    last: LastExchange, bucket: str, key: str, config: Any, session: Any
) -> S3Store | str:
    """Return a store that does what boto3 did for an object, or the reason why there is none.

    Args:
        last: boto3's request for the object, and the response.
        bucket: the object's bucket.
        key: the object's key.
        config: the configuration of the boto3 client.
        session: the session that built the client.
    """
    return _built(
        lambda: (
            _difference(last, "GET", key, _headers(last.request), _READING_VARIABLES)
            or _build(last, bucket, key, config, session)
        )
    )


def build_writing_store(
    last: LastExchange, new: NewObject, config: Any, session: Any
) -> S3Store | str:
    """Return a store that writes like boto3, or the reason why there is none.

    Args:
        last: boto3's request that wrote an object, and the response.
        new: the object.
        config: the configuration of the boto3 client.
        session: the session that built the client.
    """

    def build() -> S3Store | str:
        headers, asked = _headers(last.request), new.headers()
        for name, value in asked.items():
            if headers.pop(name, None) != value:
                return f"boto3 does not send the header {name} as it was told to"
        if headers.get("content-encoding", "aws-chunked") != "aws-chunked":
            return "boto3 encodes what it sends"
        length = headers.get("x-amz-decoded-content-length", headers.get("content-length"))
        if length != str(len(new.body)):
            return "boto3 sends another body than it was told to"
        options: dict[str, Any] = {"conditional_put": "etag"}
        if not _CHECKSUMS.isdisjoint(headers):
            options["checksum_algorithm"] = "sha256"
        if new.kms_key is not None:
            options["server_side_encryption"] = "aws:kms"
            options["sse_kms_key_id"] = new.kms_key
        kept = {name: value for name, value in headers.items() if name not in _BODY_HEADERS}
        return _difference(last, "PUT", new.key, kept, _WRITING_VARIABLES) or _build(
            last, new.bucket, new.key, config, session, **options
        )

    return _built(build)


def _built(build: Callable[[], S3Store | str]) -> S3Store | str:
    try:
        return build()
    # For example, an old or new urllib3 or obstore may lack an attribute that is used here.
    except Exception as cause:  # noqa: BLE001 - boto3 reads instead, whatever failed
        return f"obstore cannot be set up like boto3 ({type(cause).__name__})"


def _difference(
    last: LastExchange,
    method: str,
    key: str,
    headers: Mapping[str, str],
    variables: Iterable[str],
) -> str | None:
    """Return what boto3 did that obstore cannot do, or None.

    Args:
        last: boto3's request for the object, and the response.
        method: the method of the request.
        key: the object's key.
        headers: the headers of the request that nobody has checked yet.
        variables: the environment variables that must not be set.
    """
    connection = last.connection
    if type(connection).__module__ != "botocore.awsrequest":
        return "boto3's responses do not come from the network (moto's mocks, for example)"
    if connection.proxy is not None:
        return "boto3 uses a proxy"
    if getattr(connection, "cert_file", None) is not None:
        return "boto3 presents a client certificate"
    if last.request.method != method or not last.request.url.endswith(f"/{quote(key)}"):
        return "boto3's URL contains more than the key"
    if added := headers.keys() - _PLAIN_HEADERS:
        return f"boto3 sends the header {min(added)}"
    if _SIGNATURE.fullmatch(headers.get("authorization", "")) is None:
        return "boto3 does not sign with Signature Version 4"
    if name := next(filter(os.environ.__contains__, variables), None):
        return f"{name} is set"
    return None


def _build(
    last: LastExchange, bucket: str, key: str, config: Any, session: Any, **more: Any
) -> S3Store:
    """Return a store that does what boto3 did, provided that there is no `_difference`.

    `more` are options for writing.
    """
    from obstore.store import S3Store

    headers = _headers(last.request)
    endpoint = last.request.url.removesuffix(f"/{quote(key)}")
    # Any: obstore's types lack `disable_system_certificates`, which object_store has.
    options: Any = {
        "disable_system_certificates": True,
        "connect_timeout": _duration(config.connect_timeout),
        "read_timeout": _duration(config.read_timeout),
        "timeout": _UNLIMITED,  # of a whole request, which boto3 does not limit
        "user_agent": f"{headers['user-agent']} obstore",
        # Without a proxy setting, obstore would apply its own rules to the environment's. This
        # setting excludes every name and every address.
        "proxy_url": "http://127.0.0.1:9",
        "proxy_excludes": "*,0.0.0.0/0,::/0",
    }
    if endpoint.startswith("https://"):
        options["root_certificate"] = Path(last.connection.ca_certs).read_bytes()
    else:
        options["allow_http"] = True
    credentials = session.get_credentials()

    def current() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        if not all(map(_VISIBLE.fullmatch, (frozen.access_key, frozen.token or ""))):
            # obstore would panic. boto3 sends the request instead and raises a typed error.
            raise ValueError("the credentials contain a character that no HTTP header may contain")
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }

    # Every option is set here. obstore would take a missing one from an environment variable, even
    # from one that boto3 was told to ignore.
    return S3Store(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        virtual_hosted_style_request=True,  # the endpoint contains the bucket
        region=_SIGNATURE.sub(r"\1", headers["authorization"]),
        credential_provider=current,
        skip_signature=False,
        unsigned_payload=False,
        request_payer=False,
        s3_express=False,
        client_options=options,
        retry_config={"max_retries": 0},  # `RetryPolicy` retries
        **more,
    )


def _headers(request: Any) -> dict[str, str]:
    return {
        name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in request.headers.items()
    }


def _duration(seconds: float | None) -> timedelta:
    return _UNLIMITED if seconds is None else timedelta(seconds=seconds)

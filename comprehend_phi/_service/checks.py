"""Check the settings, configs and boto3 clients that users pass in."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from .._shapes import InstanceShape, IntegerShape, NumberShape, StringShape, check_argument
from ..errors import DoubleRetryWarning, TransportError
from . import advice

if TYPE_CHECKING:
    from botocore.client import BaseClient

_TEXT = InstanceShape(str)


def check_settings(region_name: object, endpoint_url: object, session: Any, config: Any) -> None:
    """Reject settings that boto3 would report as other faults, or only when it sends a request.

    Raises:
        RequestValidationError: the region or the endpoint is not a `str`, or an option of the
            config is wrong.
        TypeError: the session or the config is not one of boto3's.
    """
    check_argument("PHIClient", "region_name", _TEXT, region_name, optional=True)
    check_argument("PHIClient", "endpoint_url", _TEXT, endpoint_url, optional=True)
    if session is not None:
        _check_kind("session", session, "client", "boto3 session, such as boto3.Session()")
    if config is not None:
        expected = "botocore config, such as botocore.config.Config()"
        _check_kind("config", config, "merge", expected)
        check_config(config)


def _proxy_problem(url: str) -> str | None:
    # botocore puts http:// in front of any URL that does not begin with one of these.
    if "://" in url and not url.startswith(("http://", "https://")):
        return "must begin with http:// or https://; other kinds of proxies are not supported"
    return None


# The maximum is our rule. urllib3 fills a queue of this length for each host, so a billion
# connections would block the first call until the memory is used up.
_CONNECTIONS = IntegerShape("connections", 1, 10_000)
_SOCKET_TIMEOUT = NumberShape("seconds", 0.001, 2_147_483.0)  # sockets do not accept longer ones
_PROXIES = InstanceShape(Mapping, "such as {'https': 'http://proxy.example:3128'}")
_PROXY = StringShape("proxy", rule=_proxy_problem)


def check_config(config: Any) -> None:
    """Check options that boto3 needs to be right but does not check.

    Raises:
        RequestValidationError: an option of the boto3 client's `Config` is wrong.
    """
    check_argument("Config", "max_pool_connections", _CONNECTIONS, config.max_pool_connections)
    for name in ("connect_timeout", "read_timeout"):
        check_argument("Config", name, _SOCKET_TIMEOUT, getattr(config, name), optional=True)
    check_argument("Config", "proxies", _PROXIES, config.proxies, optional=True)
    proxies: Mapping[str, object] = config.proxies or {}
    for proxy in proxies.values():
        check_argument("Config", "proxies", _PROXY, proxy, optional=True)


def check_resolved_settings(client: BaseClient) -> None:
    """Check the endpoint and the config that a boto3 client has resolved from all settings.

    Raises:
        TransportError: the endpoint is not a valid URL. boto3 checks its host only.
        RequestValidationError: an option of the client's `Config` is wrong.
    """
    check_config(client.meta.config)
    if (problem := _endpoint_problem(client.meta.endpoint_url)) is not None:
        raise settings_error(f"the URL of the endpoint {problem}", advice.ENDPOINT)


def _endpoint_problem(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return "must begin with http:// or https://"
    try:
        _ = parts.port
    except ValueError:
        return "has an invalid port"
    return None


def settings_error(reason: str, to_check: str = "") -> TransportError:
    """Return the error for settings with which no client can be built."""
    return TransportError(
        operation="PHIClient",
        reason=reason,
        advice=to_check,
        outcome_unknown=False,
        retryable=False,
    )


def check_client(
    name: Literal["client", "s3_client"], client: BaseClient, endpoint_url: str | None = None
) -> None:
    """Check a boto3 client that the user passed in as `name`, and warn if it retries.

    Raises:
        TypeError: it is a client for another service, or there is an `endpoint_url` beside it.
        TransportError, RequestValidationError: as `check_resolved_settings` raises.
    """
    if endpoint_url is not None:
        raise TypeError(
            "endpoint_url= has no effect on client=; pass it to boto3 when you build that client"
        )
    _check_kind(name, client, *_CLIENTS[name])
    check_resolved_settings(client)
    config: Any = client.meta.config  # botocore sets its options as attributes
    retries: dict[str, Any] = config.retries or {}
    if retries.get("total_max_attempts") != 1:
        warnings.warn(
            f"{name}= retries on its own, which multiplies the attempts of RetryPolicy."
            " Build it with Config(retries={'total_max_attempts': 1}).",
            DoubleRetryWarning,
            # Two frames of Connection(), PHIClient(), and then the line of the user.
            stacklevel=5,
        )


# A method of each client, which boto3 resources do not have either.
_CLIENTS = {
    "client": ("start_phi_detection_job", "boto3 client for comprehendmedical"),
    "s3_client": ("list_objects_v2", "boto3 client for S3, such as boto3.client('s3')"),
}


def _check_kind(name: str, value: object, method: str, expected: str) -> None:
    if isinstance(value, type) or not hasattr(value, method):
        raise TypeError(f"{name}= must be a {expected}")

"""Build boto3 clients, and check the ones that users pass in."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .._shapes import InstanceShape, IntegerShape, NumberShape, StringShape, check_argument
from ..errors import DoubleRetryWarning, TransportError
from . import advice
from .attempts import track_tries
from .phases import Trace

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

_T = TypeVar("_T")
_TEXT = InstanceShape(str)

Service = Literal["comprehendmedical", "s3"]


def build_client(
    service: Service,
    *,
    region_name: str | None,
    endpoint_url: str | None,
    session: Session | None,
    config: Config | None,
    max_pool_connections: int | None,
) -> Any:
    """Return a boto3 client that does not retry.

    `RetryPolicy` alone retries, because our retries keep one token. The client for Comprehend
    Medical does not check parameters either: boto3's errors would quote the values.

    Args:
        service: the service to call.
        region_name: the region; None leaves it to the session and AWS's settings.
        endpoint_url: the endpoint; None leaves it to AWS's settings.
        session: the session that builds the client; None is boto3's default session.
        config: the user's options, which take precedence over `max_pool_connections`.
        max_pool_connections: how many connections the client keeps; None is botocore's default.

    Raises:
        TransportError: boto3 cannot build the client.
        RequestValidationError: an option of the session's own `Config` is wrong.
    """

    def build() -> Any:
        # Once the main thread has ended, even importing boto3 can fail.
        import boto3
        from botocore.config import Config

        options = config or Config()
        if max_pool_connections is not None:
            options = Config(max_pool_connections=max_pool_connections).merge(options)
        # "standard" replaces an "adaptive" from the environment, which sleeps even if there is
        # only one attempt.
        ours = Config(retries={"total_max_attempts": 1, "mode": "standard"})
        if service == "comprehendmedical":
            ours = ours.merge(Config(parameter_validation=False))
        factory: Any = session or boto3  # boto3 itself uses its default session
        return factory.client(
            service,
            region_name=region_name,
            endpoint_url=endpoint_url,
            config=options.merge(ours),
        )

    client = build_with_boto3(build, f"the client for {service}")
    check_config(client.meta.config)
    return client


def build_with_boto3(build: Callable[[], _T], what: str) -> _T:
    """Return what `build` returns. If it fails, the error says that boto3 cannot build `what`.

    Raises:
        TransportError: `build` raised an exception.
    """
    try:
        return build()
    # One line in an AWS config file can raise any exception of botocore or of Python.
    except Exception as cause:  # noqa: BLE001 - no value of a setting may leave this function
        error = TransportError(
            operation="PHIClient",
            reason=f"boto3 cannot build {what} ({type(cause).__name__})",
            advice=_advice_on_settings(cause),
            outcome_unknown=False,
            retryable=False,
        )
    raise error


def _advice_on_settings(cause: Exception) -> str:
    from botocore.exceptions import (
        BaseEndpointResolverError,
        ConfigParseError,
        InvalidRegionError,
        ProfileNotFound,
    )

    trace = Trace.of(cause)
    if isinstance(cause, (ConfigParseError, ProfileNotFound)):
        return advice.CONFIG_FILES
    if isinstance(cause, (BaseEndpointResolverError, InvalidRegionError)):
        return advice.ENDPOINT
    if trace.ran(("botocore.endpoint", "create_endpoint")):
        return advice.ENDPOINT
    if trace.ran(("threading", "_register_atexit")):  # which fails once the main thread has ended
        return advice.TOO_LATE
    if trace.ran(("botocore.session", "get_credentials")):
        return advice.CREDENTIALS
    return advice.CONFIG_FILES


def replace_credential_locks(client: Any) -> None:
    """Let a forked process refresh credentials that it shares with its parent.

    botocore guards credentials with a lock. The credentials of a role have one, and so do the
    credentials that the role is assumed with. If a thread of the parent held a lock at the fork,
    the lock stays locked in the child forever.
    """
    from botocore.credentials import RefreshableCredentials

    # botocore has no public way to these. If a later version renames them, this does nothing.
    credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    while isinstance(credentials, RefreshableCredentials):
        vars(credentials)["_refresh_lock"] = threading.Lock()
        fetcher = getattr(getattr(credentials, "_refresh_using", None), "__self__", None)
        credentials = getattr(fetcher, "_source_credentials", None)


# --- What users pass in ---------------------------------------------------------------------------


def check_settings(region_name: object, endpoint_url: object, session: Any, config: Any) -> None:
    """Reject settings that boto3 would report as other faults, or only when it sends a request.

    Raises:
        RequestValidationError: the region or the endpoint is not a `str`, or an option of the
            config is wrong.
        TypeError: the session or the config is not one of boto3's.
    """
    check_argument("PHIClient", "region_name", _TEXT, region_name, optional=True)
    check_argument("PHIClient", "endpoint_url", _TEXT, endpoint_url, optional=True)
    for name, value, method, expected in (
        ("session", session, "client", "boto3 session, such as boto3.Session()"),
        ("config", config, "merge", "botocore config, such as botocore.config.Config()"),
    ):
        if value is not None and (isinstance(value, type) or not hasattr(value, method)):
            raise TypeError(f"{name}= must be a {expected}")
    if config is not None:
        check_config(config)


def _proxy_problem(url: str) -> str | None:
    # botocore puts http:// before everything that does not begin with one of these.
    if "://" in url and not url.startswith(("http://", "https://")):
        return "must begin with http:// or https://; other kinds of proxies are not supported"
    return None


_CONNECTIONS = IntegerShape("connections", 1)
_SOCKET_TIMEOUT = NumberShape("seconds", 0.001, 2_147_483.0)  # sockets take no longer ones
_PROXIES = InstanceShape(Mapping, "such as {'https': 'http://proxy.example:3128'}")
_PROXY = StringShape("proxy", rule=_proxy_problem)


def check_config(config: Any) -> None:
    """Check the options that boto3 does not check, although it cannot work with a wrong value.

    Raises:
        RequestValidationError: an option of the boto3 client's `Config` is wrong.
    """
    check_argument("Config", "max_pool_connections", _CONNECTIONS, config.max_pool_connections)
    for name in ("connect_timeout", "read_timeout"):
        check_argument("Config", name, _SOCKET_TIMEOUT, getattr(config, name), optional=True)
    check_argument("Config", "proxies", _PROXIES, config.proxies, optional=True)
    for proxy in (config.proxies or {}).values():
        check_argument("Config", "proxies", _PROXY, proxy, optional=True)


def check_client(client: BaseClient, endpoint_url: str | None) -> None:
    """Check a client for Comprehend Medical, and start to track its tries.

    Raises:
        TypeError: it is not such a client, or there is an `endpoint_url` beside it.
        RequestValidationError: an option of its `Config` is wrong.
    """
    if endpoint_url is not None:
        raise TypeError(
            "endpoint_url= has no effect on client=; pass it to boto3 when you build that client"
        )
    if not hasattr(client, "start_phi_detection_job"):
        raise TypeError("client= must be a boto3 client for comprehendmedical")
    check_config(client.meta.config)
    _warn_of_retries("client", client)
    track_tries(client)


def check_s3_client(client: BaseClient) -> None:
    """Check a client for S3.

    Raises:
        TypeError: it is not such a client.
        RequestValidationError: an option of its `Config` is wrong.
    """
    if not hasattr(client, "list_objects_v2"):  # boto3 resources do not have this method either
        raise TypeError("s3_client= must be a boto3 client for S3, such as boto3.client('s3')")
    check_config(client.meta.config)
    _warn_of_retries("s3_client", client)


def _warn_of_retries(name: str, client: BaseClient) -> None:
    config: Any = client.meta.config  # botocore sets its options as attributes
    retries: dict[str, Any] = config.retries or {}
    if retries.get("total_max_attempts") != 1:
        warnings.warn(
            f"{name}= retries on its own, which multiplies the attempts of RetryPolicy."
            " Build it with Config(retries={'total_max_attempts': 1}).",
            DoubleRetryWarning,
            # check_client, Connection(), PHIClient(), and then the line of the user.
            stacklevel=5,
        )

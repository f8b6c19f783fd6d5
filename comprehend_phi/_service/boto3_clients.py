"""Build boto3 clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import advice
from .checks import check_resolved_settings, settings_error
from .phases import Function, Trace

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config

_T = TypeVar("_T")

ServiceName = Literal["comprehendmedical", "s3"]


def build_client(
    service: ServiceName,
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
        TransportError: boto3 cannot build the client, or its endpoint is not a valid URL.
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
    check_resolved_settings(client)
    return client


def build_with_boto3(build: Callable[[], _T], what: str) -> _T:
    """Return what `build` returns. If it fails, the error says that boto3 cannot build `what`.

    Raises:
        TransportError: `build` raised an exception.
    """
    try:
        return build()
    # One line in an AWS config file can raise any exception of botocore or of Python.
    except Exception as cause:  # noqa: BLE001 - any error may quote a setting, such as a secret key
        reason = f"boto3 cannot build {what} ({type(cause).__name__})"
        error = settings_error(reason, _advice_on_settings(cause))
    raise error


def _advice_on_settings(cause: Exception) -> str:
    from botocore.exceptions import (
        BaseEndpointResolverError,
        ConfigParseError,
        InvalidRegionError,
        ProfileNotFound,
    )

    if isinstance(cause, (ConfigParseError, ProfileNotFound)):
        return advice.CONFIG_FILES
    if isinstance(cause, (BaseEndpointResolverError, InvalidRegionError)):
        return advice.ENDPOINT
    trace = Trace.of(cause)
    to_check = (to_check for function, to_check in _ADVICE_WITHIN if trace.shows(function))
    return next(to_check, advice.CONFIG_FILES)


# What to check if one of these functions was running. The first one counts.
_ADVICE_WITHIN: tuple[tuple[Function, str], ...] = (
    (("botocore.endpoint", "_get_verify_value"), advice.PEM_FILES),
    (("botocore.httpsession", "__init__"), advice.CONFIG),
    (("botocore.endpoint", "create_endpoint"), advice.ENDPOINT),
    (("threading", "_register_atexit"), advice.TOO_LATE),  # fails once the main thread has ended
    (("botocore.session", "get_credentials"), advice.CREDENTIALS),
)


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

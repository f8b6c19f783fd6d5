"""The boto3 clients below ours: how they are built, warned about and closed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .errors import DoubleRetryWarning, PlaintextOutputWarning, TransportError

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config

    from .models import StartPHIDetectionJobRequest


class Connection:
    """The boto3 client of one of our clients.

    A client that we build neither retries nor validates by itself: our retries keep one token and
    our validation does not print values. A client that was handed in is used as it is.
    """

    def __init__(
        self,
        *,
        region_name: str | None,
        endpoint_url: str | None,
        session: Session | None,
        config: Config | None,
        client: BaseClient | None,
    ) -> None:
        if client is not None:
            if endpoint_url is not None:
                raise TypeError("client= is used as it is: give its own endpoint_url to it instead")
            _warn_of_retries(client)
        self._owns_client = client is None
        self.client: Any = client or _build(region_name, endpoint_url, session, config)

    def close(self) -> None:
        """Close the connections of the client that was built here; never a user's client."""
        if self._owns_client:
            self.client.close()


def _build(
    region_name: str | None,
    endpoint_url: str | None,
    session: Session | None,
    config: Config | None,
) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    ours = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    try:
        # Without a session, boto3's default one: what setup_default_session configured holds.
        return (session or boto3).client(
            "comprehendmedical",
            region_name=region_name,
            endpoint_url=endpoint_url,
            config=config.merge(ours) if config else ours,
        )
    except (BotoCoreError, ValueError) as cause:
        reason = (
            f"boto3 cannot build the client ({type(cause).__name__}); check region_name or"
            " AWS_DEFAULT_REGION, the profile and endpoint_url"
        )
    raise TransportError(
        operation="PHIClient", reason=reason, outcome_unknown=False, retryable=False
    )


def _warn_of_retries(client: BaseClient) -> None:
    retries: Any = getattr(client.meta.config, "retries", None) or {}
    if retries.get("total_max_attempts") != 1:
        warnings.warn(
            "The boto3 client that was handed in retries by itself, and each of its tries is one"
            " attempt of RetryPolicy: the two multiply. Build it with"
            " Config(retries={'total_max_attempts': 1}).",
            DoubleRetryWarning,
            stacklevel=4,
        )


def warn_of_plain_text(request: StartPHIDetectionJobRequest) -> None:
    """Warn the caller of a client's method that results will be written unencrypted by KMS.

    Issued before anything is sent, so that `-W error` starts no job.
    """
    if request.kms_key is None:
        warnings.warn(
            "This job has no kms_key: the service writes its results, which quote the protected"
            " health information, in plain text. Give the request a kms_key.",
            PlaintextOutputWarning,
            stacklevel=3,
        )

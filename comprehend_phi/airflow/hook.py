"""Clients with the credentials and settings of an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._client import PHIClient
from ._sdk import AwsGenericHook

if TYPE_CHECKING:
    from boto3.session import Session

    from .._async_client import AsyncPHIClient

_SERVICE = "comprehendmedical"


class _ConnectionSession:
    """A boto3 session whose clients have the endpoint and the `verify` of a connection.

    Args:
        session: the session with the connection's credentials.
        hook: the hook of the connection.
    """

    def __init__(self, session: Session, hook: PHIHook) -> None:
        self._session = session
        self._hook = hook

    def client(self, service_name: str, *, endpoint_url: str | None = None, **options: Any) -> Any:
        """Return a boto3 client, as `boto3.Session.client` does."""
        connection = self._hook.conn_config
        factory: Any = self._session
        return factory.client(
            service_name,
            endpoint_url=endpoint_url or connection.get_service_endpoint_url(service_name),
            verify=self._hook.verify,
            **options,
        )

    def get_credentials(self) -> Any:
        """Return the session's credentials."""
        return self._session.get_credentials()


class PHIHook(AwsGenericHook):
    """Connects to Comprehend Medical and S3 as an Airflow connection of type `aws` says.

    Args:
        aws_conn_id: the id of the connection. None means boto3's own defaults.
        region_name: the AWS region, instead of the connection's.
        verify: whether and how to verify certificates, instead of the connection's setting.
        config: botocore settings, instead of the connection's. Retries are ignored, because
            `RetryPolicy` replaces them.
    """

    def __init__(
        self,
        aws_conn_id: str | None = AwsGenericHook.default_conn_name,
        *,
        region_name: str | None = None,
        verify: bool | str | None = None,
        config: Any = None,
    ) -> None:
        super().__init__(
            aws_conn_id,
            region_name=region_name,
            verify=verify,
            client_type=_SERVICE,
            config=config,
        )

    def phi_client(self) -> PHIClient:
        """Return a client with the connection's credentials, region, endpoints and settings.

        Use it with `with`, which closes its connections. It also reads results:

            with PHIHook("aws_default").phi_client() as client:
                for document in client.results(job_id):
                    ...

        Raises:
            TransportError, RequestValidationError: see `PHIClient`.
        """
        return PHIClient(**self._options())

    def async_phi_client(self) -> AsyncPHIClient:
        """Return an asynchronous client with the settings of `phi_client`.

        Looking up the connection and building the client block for a good part of a second, so do
        not call this in an event loop.
        """
        from .._async_client import AsyncPHIClient

        return AsyncPHIClient(**self._options())

    def _options(self) -> dict[str, Any]:
        session: Any = self.get_session(region_name=self.region_name)
        return {
            "region_name": self.region_name,
            "session": _ConnectionSession(session, self),
            "config": self.config,
        }

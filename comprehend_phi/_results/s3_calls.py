"""Calls of S3 through boto3, with the client's retries and typed errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .._client_clock import check_call
from .._clock import Clock
from .._retry import Retrier, RetryPolicy
from .._service.attempts import run_attempt
from ..errors import ServiceError, TransportError
from .new_object import NewObject
from .s3_errors import translate

_Result = TypeVar("_Result")


class S3Calls:
    """Calls S3 through one boto3 client, which all threads of a process share.

    Args:
        connect: takes the name of an operation and returns the boto3 client for it, or raises
            `ClientClosedError`.
        policy: how calls are retried.
        clock: measures the waits between attempts.

    Attributes:
        connect: the argument.
        connections: how many calls can be made at the same time.
    """

    def __init__(self, connect: Callable[[str], Any], policy: RetryPolicy, clock: Clock) -> None:
        self.connect: Callable[[str], Any] = connect
        self.connections: int = connect("results").meta.config.max_pool_connections
        self._retrier = Retrier(policy, clock)

    def call(
        self,
        operation: str,
        send: Callable[[Any], _Result],
        bucket: str,
        key: str,
        *,
        attempts_before: int = 0,
    ) -> _Result:
        """Return what `send` returns for a boto3 client. Errors are about one object.

        Args:
            operation: S3's name of the call.
            send: sends one request with the boto3 client, and decodes the response.
            bucket: the bucket of the object that errors are about.
            key: its key.
            attempts_before: how many attempts were made already, in another way.

        Raises:
            ResultsError: S3 refuses the call. See `s3_errors.translate`.
            ServiceError, TransportError: all attempts failed.
        """
        try:
            return self.send(operation, send, attempts_before=attempts_before)
        except (ServiceError, TransportError) as error:
            failed = error
        raise translate(failed, bucket, key)

    def send(
        self, operation: str, send: Callable[[Any], _Result], *, attempts_before: int = 0
    ) -> _Result:
        """Do what `call` does, but raise refusals as `ServiceError`, with S3's error code."""

        def attempt() -> _Result:
            check_call()
            client = self.connect(operation)
            return run_attempt(lambda: send(client), operation, {})

        return self._retrier.call(attempt, attempts_before=attempts_before)

    def put(self, new: NewObject) -> None:
        """Write an object. Raise refusals as `ServiceError`, with S3's error code.

        Raises:
            ServiceError: S3 refuses to write it. With the status 412, another object is there, or
                an earlier attempt has written it although the response was lost.
            TransportError: all attempts failed.
        """
        self.send("PutObject", new.send)

"""moto's S3: the one of this process, and a separate one for each server.

moto keeps its S3 in module globals, so a process has only one, and `mock_aws` empties it. To give
each server its own S3, this module executes moto's code for S3 a second time. The copy looks up its
buckets in a context variable, which each server sets while it answers a request.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec, module_from_spec
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import moto.backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.utilities.utils import get_partition

from .clock import ServiceClock


def account_id() -> str:
    """Return moto's account, which the variable `MOTO_ACCOUNT_ID` can change."""
    return os.environ.get("MOTO_ACCOUNT_ID", DEFAULT_ACCOUNT_ID)


class MotoS3:
    """The S3 of `mock_aws`, without HTTP: usable while another request is being answered."""

    @contextmanager
    def backends(self) -> Generator[Any, None, None]:
        """Yield moto's backends by account and partition, for use within the block."""
        yield moto.backends.get_backend("s3")

    def create_bucket(self, bucket: str, region: str = "us-east-1") -> None:
        """Create a bucket."""
        with self.backends() as backends:
            backends[account_id()][get_partition(region)].create_bucket(bucket, region)

    def has_bucket(self, bucket: str) -> bool:
        """Return whether the bucket exists."""
        with self.backends() as backends:
            return bucket in backends.bucket_accounts

    def keys(self, bucket: str) -> Sequence[str]:
        """Return all keys of a bucket, in the order in which S3 lists them."""
        with self._backend_of(bucket) as backend:
            return sorted(backend.get_bucket(bucket).keys, key=lambda key: key.encode())

    def read(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object."""
        with self._backend_of(bucket) as backend:
            body: bytes = backend.get_object(bucket, key).value
            return body

    def write(self, bucket: str, key: str, body: bytes) -> None:
        """Create or replace an object."""
        with self._backend_of(bucket) as backend:
            backend.put_object(bucket, key, body)

    @contextmanager
    def _backend_of(self, bucket: str) -> Generator[Any, None, None]:
        """Yield the backend that has the bucket, in whichever account and partition."""
        with self.backends() as backends:
            partition, account = backends.bucket_accounts[bucket]
            yield backends[account][partition]


class OwnS3(MotoS3):
    """An S3 that belongs to one server. `mock_aws` and other servers neither see nor empty it.

    Args:
        clock: dates the objects.
    """

    def __init__(self, clock: ServiceClock) -> None:
        self._clock = clock
        self._backends = _Backends(clock)

    @contextmanager
    def backends(self) -> Generator[Any, None, None]:
        """Yield the backends by account and partition, for use within the block."""
        token = _current.set(self._backends)
        try:
            yield self._backends
        finally:
            _current.reset(token)

    def clear(self) -> None:
        """Delete all buckets."""
        self._backends = _Backends(self._clock)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one HTTP request, as a WSGI application.

        Requests that are signed for services other than S3 go to moto, which has one state of each
        service for the whole process.
        """
        with self.backends():
            answer: Iterable[bytes] = _dispatcher(environ, start_response)
            return answer


@contextmanager
def dated_by(clock: ServiceClock) -> Generator[None, None, None]:
    """Let `clock` date the objects in the S3 of `mock_aws` within the block."""
    models: Any = sys.modules["moto.s3.models"]
    before = models.utcnow
    models.utcnow = lambda: _utc(clock)
    try:
        yield
    finally:
        models.utcnow = before


def _utc(clock: ServiceClock) -> datetime:
    """Return the time in the form that moto uses: UTC, but naive."""
    return clock.now().astimezone(UTC).replace(tzinfo=None)


# --- The copy of moto's code ----------------------------------------------------------------------


class _Backends(dict[str, "_Account"]):
    """The accounts of one server, in the form of moto's `s3_backends`."""

    def __init__(self, clock: ServiceClock) -> None:
        self.clock = clock
        self.bucket_accounts: dict[str, tuple[str, str]] = {}

    def __missing__(self, account: str) -> _Account:
        return self.setdefault(account, _Account(account))


class _Account(dict[str, Any]):
    """The backends of one account, by partition."""

    def __init__(self, account: str) -> None:
        self._id = account

    def __missing__(self, partition: str) -> Any:
        return self.setdefault(partition, _models.S3Backend(partition, self._id))


_current: ContextVar[_Backends] = ContextVar("_current")


class _Current:
    """The backends of the server that is answering a request in this context."""

    def __getitem__(self, account: str) -> _Account:
        return _current.get()[account]

    @property
    def bucket_accounts(self) -> dict[str, tuple[str, str]]:
        return _current.get().bucket_accounts


def _execute_again(name: str) -> Any:
    """Execute the code of a module again. Importing the module still returns the original."""
    spec: Any = find_spec(name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Memory(BytesIO):
    """A replacement for the temporary files of the copy."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


def _connect(models: Any, responses: Any) -> None:
    """Let the copy of `responses` use the copy of `models`, and let both use `_Current`."""
    original = sys.modules["moto.s3.models"].__dict__
    for name, value in models.__dict__.items():
        if value is original[name]:
            continue
        if responses.__dict__.get(name) is original[name]:
            setattr(responses, name, value)
        for tracked in ("instances", "instances_tracked"):  # before moto 5.2, and since
            if hasattr(value, tracked):
                # Otherwise moto keeps every object that was ever written.
                setattr(value, tracked, deque(maxlen=0))
    models.s3_backends = responses.s3_backends = _Current()
    models.utcnow = lambda: _utc(_current.get().clock)
    # Objects stay in memory, so nothing has to be closed, and moto need not warn about open files.
    models.tempfile = SimpleNamespace(SpooledTemporaryFile=_Memory)
    del models.FakeKey.__del__


def _check_sources(responses: Any) -> None:
    """Let CopyObject refuse a source that does not have the requested ETag. moto ignores it."""
    copy = responses.S3Response.copy_object

    def copy_object(self: Any) -> Any:
        headers: Mapping[str, str] = self.headers
        etag = headers.get("x-amz-copy-source-if-match")
        path: str = urlsplit(headers["x-amz-copy-source"]).path
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        source = self.backend.get_object(bucket, key)
        if etag is not None and source is not None and source.etag != etag:
            raise responses.PreconditionFailed("x-amz-copy-source-If-Match")
        return copy(self)

    responses.S3Response.copy_object = copy_object


_models, _responses = _execute_again("moto.s3.models"), _execute_again("moto.s3.responses")
_connect(_models, _responses)
_check_sources(_responses)


def _create_app(service: Any) -> Any:
    app: Any = create_backend_app(service)
    if service == "s3":
        own = _responses.S3Response
        for view in app.view_functions.values():
            handler = getattr(own, view.callback.__name__)
            # Before moto 5.2, the handlers are methods of an instance that this creates.
            bound = hasattr(handler, "__self__")
            view.callback = handler if bound else own.method_dispatch(handler)
    return app


class _Dispatcher(DomainDispatcherApplication):
    """moto's dispatcher, which chooses the service for a request, with S3 taken from the copy."""

    def __init__(self) -> None:
        super().__init__(_create_app)
        # Otherwise moto lists the folders of its package for each request.
        self._service = lru_cache(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        return self._service(host)


_dispatcher = _Dispatcher()

"""Find out how far a failed call got before it failed.

The class of an exception does not say this. Behind a proxy, for example, botocore reports a
connection that broke after the request was sent as a failure to connect. The traceback does say
it, and reading it costs nothing while calls succeed. A traceback without any function that is
listed here has the phase `UNKNOWN`, so the request may have been sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import groupby
from traceback import walk_tb
from typing import Any, Self

from attrs import frozen

Function = tuple[str, str]  # a module and a function in it


class Phase(Enum):
    """How far a call got. No byte of the request has left before `SENT`."""

    BUILDING = auto()
    SIGNING = auto()
    CONNECTING = auto()
    SENT = auto()
    ANSWERED = auto()
    UNKNOWN = auto()


# The functions that a call runs, in this order.
_BUILD_REQUEST = frozenset(
    {
        ("botocore.client", "_emit_api_params"),
        ("botocore.client", "_resolve_endpoint_ruleset"),
        ("botocore.client", "_convert_to_request_dict"),
        ("botocore.compress", "maybe_compress_request"),
        ("botocore.httpchecksum", "apply_request_checksum"),
    }
)
_SIGN_REQUEST: Function = ("botocore.endpoint", "create_request")
FETCH_CREDENTIALS: Function = ("botocore.signers", "sign")
CHOOSE_SIGNATURE: Function = ("botocore.signers", "_choose_signer")
_EXCHANGE: Function = ("botocore.endpoint", "_do_get_response")  # sends, and reads the response
_SEND: Function = ("botocore.endpoint", "_send")
READ_PROXY_SETTINGS = frozenset(
    {
        ("botocore.httpsession", "proxy_url_for"),
        ("botocore.httpsession", "_get_connection_manager"),
    }
)
WRITE_HEADERS = frozenset({("http.client", "putrequest"), ("http.client", "putheader")})
# What runs within `_SEND` before a connection gets the request.
_CONNECT = READ_PROXY_SETTINGS | frozenset(
    {
        ("urllib3.poolmanager", "connection_from_url"),
        ("botocore.httpsession", "_setup_ssl_cert"),
        ("botocore.httpsession", "_get_request_target"),
        ("botocore.httpsession", "_get_request_timeout"),
        ("botocore.httpsession", "_chunked"),
        ("urllib3.connectionpool", "_get_timeout"),
        ("urllib3.connectionpool", "_get_conn"),
        ("urllib3.connectionpool", "_prepare_proxy"),
        ("urllib3.connection", "connect"),
    }
)
CONNECT_TO_PROXY: Function = ("urllib3.connection", "_connect_tls_proxy")
READ_CERTIFICATES: Function = ("urllib3.util.ssl_", "ssl_wrap_socket")
DO_HANDSHAKE: Function = ("ssl", "do_handshake")
MATCH_HOST_NAME: Function = ("urllib3.connection", "_match_hostname")

_EVENT_HANDLERS = "botocore.hooks"  # the whole module
_RETRY_MODULES = frozenset({_EVENT_HANDLERS, "botocore.retryhandler"})
_RAISE_AGAIN: Function = ("botocore.retryhandler", "_check_caught_exception")


@frozen
class Trace:
    """What the traceback of a failed call shows.

    Attributes:
        functions: the functions that were running, outermost first.
        errors: the error that botocore raised, and the errors that it wraps.
    """

    functions: tuple[Function, ...]
    errors: tuple[BaseException, ...]

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Read the tracebacks of `error` and of the urllib3 error that botocore wrapped in it."""
        errors = [error]
        # Not `error.__context__`: botocore raises its error twice, and by the second time the
        # context is whatever the caller of the client is handling.
        wrapped: Any = getattr(error, "kwargs", {}).get("error")
        while isinstance(wrapped, BaseException):
            errors.append(wrapped)
            wrapped = _context_within(wrapped)
        functions = (function for each in errors for function in _functions(each))
        return cls(tuple(_without_retries(functions)), tuple(errors))

    def shows(self, *functions: Function) -> bool:
        """Return whether one of `functions` was running."""
        return not set(functions).isdisjoint(self.functions)

    def has_error(self, *kinds: type[BaseException]) -> bool:
        """Return whether one of the errors is of one of these kinds."""
        return any(isinstance(error, kinds) for error in self.errors)

    def within(self, function: Function) -> Trace:
        """Return the part of the trace that `function` called; empty if it was not running."""
        begin = self.functions.index(function) + 1 if self.shows(function) else len(self.functions)
        return Trace(self.functions[begin:], self.errors)

    @property
    def phase(self) -> Phase:
        """How far the call got."""
        for function in self.functions:
            # Handlers can make calls of their own, and some run only after the response.
            if function[0] == _EVENT_HANDLERS:
                return Phase.UNKNOWN
            if function in _BUILD_REQUEST:
                return Phase.BUILDING
            # Signing can call a service that hands out credentials. Its phase does not matter here.
            if function == _SIGN_REQUEST:
                return Phase.SIGNING
            if function == _EXCHANGE:
                return _phase_of_exchange(self.within(_EXCHANGE))
        return Phase.UNKNOWN


def _phase_of_exchange(trace: Trace) -> Phase:
    if trace.functions and trace.functions[0][0] == _EVENT_HANDLERS:
        return Phase.UNKNOWN
    if not trace.shows(_SEND):
        return Phase.ANSWERED
    if trace.shows(*WRITE_HEADERS):
        return Phase.BUILDING
    return Phase.CONNECTING if trace.shows(*_CONNECT) else Phase.SENT


def _functions(error: BaseException) -> Iterator[Function]:
    for frame, _ in walk_tb(error.__traceback__):
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_name


def _without_retries(functions: Iterable[Function]) -> Iterator[Function]:
    """Leave out the frames in which botocore's legacy retries raise the last error once more."""
    for retries, group in groupby(functions, lambda function: function[0] in _RETRY_MODULES):
        run = list(group)
        if not retries or run[-1] != _RAISE_AGAIN:
            yield from run


def _context_within(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when `error` was raised, if the call caused it.

    An error that the program was handling when it made the call is a context too. That one does
    not count.
    """
    context = error.__context__
    if context is None or context.__traceback__ is None:
        return None
    caught_in = context.__traceback__.tb_frame
    return context if any(frame is caught_in for frame, _ in walk_tb(error.__traceback__)) else None

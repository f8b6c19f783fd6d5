"""Turn whatever boto3 raises during a call into one of our errors.

How far the call got decides what its failure means. As long as no byte of the request was sent,
nothing can have been started. After that, the outcome is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ..errors import MalformedResponseError, ServiceError, TransportError
from . import advice, phases
from .codec import Params, token_of
from .error_responses import error_from_response
from .invalid_response import InvalidResponse
from .phases import Phase, Trace

# What decoding raises for a response that is not UTF-8, is not a map, or has impossible times.
_PARSING = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)

# The scheme, host and port of a URL. The other parts of a URL may be a key or a password.
_ORIGIN = re.compile(r"(https?://)(?:[^/?#@]*@)?([\w.-]+|\[[\w:.]+\])(:\d+)?(?=[/?#]|$)", re.ASCII)

# What botocore makes of a proxy's URL that begins with another scheme.
_WRONG_SCHEME = re.compile(r"http://[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)

_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


def error_from(cause: Exception, operation: str, params: Params) -> ServiceError | TransportError:
    """Return our error for `cause`, which ended a call of `operation` with `params`.

    Raise it outside the `except` block that caught `cause`: botocore's errors contain bodies.
    """
    from botocore.exceptions import ClientError

    call: dict[str, Any] = {"operation": operation, "client_request_token": token_of(params)}
    if isinstance(cause, InvalidResponse):
        return MalformedResponseError(
            reason=f"the response is not usable: {cause}", retryable=cause.retryable, **call
        )
    trace = Trace.of(cause)
    if trace.phase is Phase.SIGNING:
        return _unsigned(cause, trace, call)
    if isinstance(cause, ClientError):
        return error_from_response(cause.response, params, call)
    return _without_response(cause, trace, call)


def _without_response(cause: Exception, trace: Trace, call: Mapping[str, Any]) -> TransportError:
    phase = trace.phase
    if phase is Phase.BUILDING:
        return _unbuilt(cause, trace, call)
    if phase is Phase.CONNECTING:
        return _unconnected(cause, trace, call)
    return _unanswered(cause, phase, call)


def _unsent(
    reason: str, to_check: str, call: Mapping[str, Any], *, retryable: bool = False
) -> TransportError:
    """Return the error for a request of which no byte was sent."""
    return TransportError(
        reason=reason, advice=to_check, outcome_unknown=False, retryable=retryable, **call
    )


def _unbuilt(cause: Exception, trace: Trace, call: Mapping[str, Any]) -> TransportError:
    kind = type(cause).__name__
    if trace.shows(*phases.WRITE_HEADERS):
        return _unsent(f"a header of the request is not valid HTTP ({kind})", advice.HEADERS, call)
    to_check = f"{advice.ENDPOINT} {advice.CONFIG_FILES}"
    return _unsent(f"boto3 cannot build the request ({kind})", to_check, call)


def _unsigned(cause: Exception, trace: Trace, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that could not be signed, usually for lack of credentials."""
    from botocore.exceptions import (
        ClientError,
        UnknownSignatureVersionError,
        UnsupportedSignatureVersionError,
    )

    to_check, retryable = advice.CREDENTIALS, False
    fetch = trace.within(phases.FETCH_CREDENTIALS)
    if isinstance(cause, ClientError):
        error = error_from_response(cause.response, {}, call)
        said = error.code if isinstance(error, ServiceError) else error.reason
        reason = f"boto3 has no credentials, because {cause.operation_name} failed ({said})"
        retryable, call = error.retryable, {**call, "retry_after": error.retry_after}
    elif fetch.phase in (Phase.CONNECTING, Phase.SENT, Phase.ANSWERED):
        failed = _without_response(cause, fetch, call)
        reason = f"boto3 has no credentials, because the request for them failed: {failed.reason}"
        to_check, retryable = failed.advice or to_check, failed.retryable
    else:
        reason = f"the request cannot be signed ({type(cause).__name__})"
        unknown = (UnknownSignatureVersionError, UnsupportedSignatureVersionError)
        if isinstance(cause, unknown) or trace.shows(phases.CHOOSE_SIGNATURE):
            to_check = advice.SIGNATURE
    return _unsent(reason, to_check, call, retryable=retryable)


def _unconnected(cause: Exception, trace: Trace, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that was not sent because there was no connection."""
    import socket
    import ssl
    from http.client import InvalidURL

    kind = type(cause).__name__
    url = _origin(cause)
    peer, to_check, retryable = url or "the endpoint", advice.NETWORK, False
    if kind == "ProxyConnectionError" or trace.shows(phases.CONNECT_TO_PROXY):
        peer, to_check = "the proxy" if url is None else f"the proxy {url}", advice.PROXY
    closed = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    refusal = next(filter(None, map(_REFUSED_TUNNEL.search, map(str, trace.errors))), None)
    if trace.shows(*phases.READ_PROXY_SETTINGS):
        reason, to_check = f"the proxy settings are not valid ({kind})", advice.PROXY
    elif _WRONG_SCHEME.match(str(getattr(cause, "kwargs", {}).get("proxy_url") or "")):
        reason = f"the URL of the proxy must begin with http:// or https:// ({kind})"
    elif trace.has_error(ssl.SSLCertVerificationError) or trace.shows(phases.MATCH_HOST_NAME):
        reason, to_check = f"the certificate of {peer} is not trusted ({kind})", advice.TRUST
    elif trace.shows(phases.READ_CERTIFICATES) and not trace.shows(phases.DO_HANDSHAKE):
        reason = f"the CA bundle or client certificate cannot be read ({kind})"
        to_check = advice.PEM_FILES
    elif trace.has_error(ssl.SSLError) and not trace.has_error(*closed):
        reason = f"the TLS handshake with {peer} failed ({kind})"
    elif refusal is not None:
        reason = f"{peer} refused the connection (HTTP {refusal[1]})"
        retryable = int(refusal[1]) >= HTTPStatus.INTERNAL_SERVER_ERROR
    elif trace.has_error(ValueError, InvalidURL):
        reason = f"the URL of the endpoint or of the proxy is not valid ({kind})"
        to_check = f"{advice.ENDPOINT} {advice.PROXY}"
    else:
        step = "resolve the host name of" if trace.has_error(socket.gaierror) else "connect to"
        reason, retryable = f"could not {step} {peer} ({kind})", True
    return _unsent(reason, to_check, call, retryable=retryable)


def _origin(cause: Exception) -> str | None:
    """Return the scheme, host and port of the URL in botocore's error, if it has one."""
    members = getattr(cause, "kwargs", {})
    url = str(members.get("proxy_url") or members.get("endpoint_url") or "")
    found = _ORIGIN.match(url)
    # If an "@" follows, what looks like the host is the beginning of a password.
    if found is None or "@" in url[found.end() :]:
        return None
    return "".join(part or "" for part in found.groups())


def _unanswered(cause: Exception, phase: Phase, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that may have been sent and has no usable response."""
    from botocore.exceptions import BotoCoreError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as BotocoreConnectionError
    from botocore.parsers import ResponseParserError

    kind = type(cause).__name__
    undecoded = MalformedResponseError(reason=f"the response cannot be decoded ({kind})", **call)
    if phase is Phase.ANSWERED:
        return undecoded
    if isinstance(cause, (HTTPClientError, BotocoreConnectionError)):
        return TransportError(reason=f"the network failed ({kind})", **call)
    if isinstance(cause, BotoCoreError) and not isinstance(cause, IncompleteReadError):
        return TransportError(reason=f"botocore failed ({kind})", retryable=False, **call)
    if isinstance(cause, (ResponseParserError, IncompleteReadError, *_PARSING)):
        return undecoded
    return TransportError(
        reason=f"code other than botocore's failed during the call ({kind})",
        retryable=False,
        **call,
    )

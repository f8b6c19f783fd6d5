"""Turn the failure of a call into one of our errors.

The phase that a call had reached decides what its failure means. As long as no byte of the request
was sent, nothing can have been started; afterwards, nobody knows. The class of an exception does
not say which: behind a proxy, for example, botocore reports a connection that broke after the
request was sent as a failure to connect. The traceback does say it, and costs nothing while calls
succeed. If it does not lead through functions that are known here, the request may have been sent.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self, TypeVar

from attrs import frozen

from ..errors import (
    AccessDeniedException,
    ActiveJobLimitExceeded,
    ExpiredTokenException,
    InternalServerException,
    InvalidRequestException,
    MalformedResponseError,
    ResourceNotFoundException,
    ServiceError,
    ServiceUnavailableException,
    ThrottlingException,
    TooManyRequestsException,
    TransportError,
    ValidationException,
    mask,
)
from .codec import InvalidResponse, Members, private_values, token_of

if TYPE_CHECKING:
    from types import FrameType

    from botocore.client import BaseClient

_T = TypeVar("_T")

# What to check. Only settings are named, never their values.
_PLACE = (
    "the region (region_name, AWS_DEFAULT_REGION) and the endpoint (endpoint_url,"
    " AWS_ENDPOINT_URL_COMPREHENDMEDICAL, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL)."
)
_ENDPOINT = f"Check {_PLACE}"
_NETWORK = f"Check the network, {_PLACE}"
_PROXY = "Check the proxy: HTTPS_PROXY, HTTP_PROXY, NO_PROXY and Config(proxies=...)."
_CA_BUNDLE = "AWS_CA_BUNDLE, ca_bundle in the AWS config file, or verify= of a boto3 client"
_TRUST = (
    "Check the endpoint. If a proxy or a private CA issues the certificates here, name its CA"
    f" bundle: {_CA_BUNDLE}."
)
_PEM_FILES = (
    f"Check that these files exist and contain certificates: {_CA_BUNDLE},"
    " Config(client_cert=...) and Config(proxies_config=...)."
)
_CREDENTIALS = (
    "Check where boto3 takes the credentials from: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and"
    " AWS_SESSION_TOKEN, the profile (AWS_PROFILE, credential_process, role_arn),"
    " AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE."
)
_LINE_BREAKS = (
    "Check the access key id, the session token and the region for line breaks and other characters"
    " that do not belong there: AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN, AWS_DEFAULT_REGION and the"
    " AWS config files."
)
_CONFIG_FILES = (
    "Check the AWS config file (~/.aws/config or AWS_CONFIG_FILE), the credentials file"
    " (~/.aws/credentials or AWS_SHARED_CREDENTIALS_FILE), the profile (AWS_PROFILE) and config=."
)

_TOO_LATE = "Build the client before the main thread ends."

# --- One attempt ----------------------------------------------------------------------------------


class _Tries(threading.local):
    """What the tries of a boto3 client that retries by itself came to, within one attempt.

    Attributes:
        outcome_unknown: whether one of them may have been carried out.
    """

    outcome_unknown = False


_tries = _Tries()


def attempt(call: Callable[[], _T], operation: str, request: Members) -> _T:
    """Return what `call` returns; what it raises, as an error of ours without cause and context.

    Args:
        call: sends the members `request` once, and decodes the answer.
        operation: its name at the service.
        request: what is sent, for the token and for masking what the service quotes.
    """
    around, _tries.outcome_unknown = _tries.outcome_unknown, False
    try:
        return call()
    # Whatever boto3, an event handler of the user's or our decoding raises: they may be in its
    # message, or among the locals of its traceback.
    except Exception as cause:  # noqa: BLE001 - none may carry a request or an answer out of here
        error = error_from(cause, operation, request)
        error.outcome_unknown |= _tries.outcome_unknown
    finally:
        _tries.outcome_unknown = around
    # Out here, the error has neither a cause nor a context that would carry the answer's body.
    raise error


def track_tries(client: BaseClient) -> None:
    """Take note of every try of a boto3 client that may retry by itself.

    What such a client raises in the end tells of its last try only.
    """
    client.meta.events.register(
        "response-received.comprehendmedical", _note_try, unique_id="comprehend_phi"
    )


def _note_try(exception: Exception | None, parsed_response: Any, **_: Any) -> None:
    if exception is not None:
        _tries.outcome_unknown |= error_from(exception, "", {}).outcome_unknown
    elif parsed_response["ResponseMetadata"]["HTTPStatusCode"] >= _MULTIPLE_CHOICES:
        _tries.outcome_unknown |= _from_answer(
            parsed_response, {}, {"operation": ""}
        ).outcome_unknown


def error_from(cause: Exception, operation: str, request: Members) -> ServiceError | TransportError:
    """Return the error of ours for `cause`, which a call with the members `request` ended in.

    Raise it outside the `except` block that caught `cause`: botocore's errors contain bodies.
    """
    from botocore.exceptions import ClientError

    call: dict[str, Any] = {"operation": operation, "client_request_token": token_of(request)}
    if isinstance(cause, InvalidResponse):
        return MalformedResponseError(reason=f"the answer is not usable: {cause}", **call)
    trail = _Trail.of(cause)
    phase = trail.phase
    if phase is _Phase.SIGNING:
        return _unsigned(cause, trail, call)
    if isinstance(cause, ClientError):
        return _from_answer(cause.response, request, call)
    return _from_trail(cause, trail, call)


def build_with_boto3(build: Callable[[], _T], what: str) -> _T:
    """Return what `build` builds with boto3, described by `what`.

    Raises:
        TransportError: it cannot be built.
    """
    try:
        return build()
    # A line in an AWS config file can end in any exception of botocore or of Python.
    except Exception as cause:  # noqa: BLE001 - no value of a setting may come out of here
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

    trail = _Trail.of(cause)
    if isinstance(cause, (ConfigParseError, ProfileNotFound)):
        return _CONFIG_FILES
    if isinstance(cause, (BaseEndpointResolverError, InvalidRegionError)):
        return _ENDPOINT
    if trail.has(("botocore.endpoint", "create_endpoint")):
        return _ENDPOINT
    if trail.has(("threading", "_register_atexit")):  # which refuses then
        return _TOO_LATE
    return _CREDENTIALS if trail.has(("botocore.session", "get_credentials")) else _CONFIG_FILES


# --- How far a call got ---------------------------------------------------------------------------

_Place = tuple[str, str]  # a module and a function in it


class _Phase(Enum):
    """How far a call got. Before `SENT`, no byte of the request had left."""

    BUILDING = auto()
    SIGNING = auto()
    CONNECTING = auto()
    SENT = auto()
    ANSWERED = auto()
    UNKNOWN = auto()


# Where a call passes, in its order.
_BUILDS = frozenset(
    {
        ("botocore.client", "_emit_api_params"),
        ("botocore.client", "_resolve_endpoint_ruleset"),
        ("botocore.client", "_convert_to_request_dict"),
        ("botocore.compress", "maybe_compress_request"),
        ("botocore.httpchecksum", "apply_request_checksum"),
    }
)
_SIGNS: _Place = ("botocore.endpoint", "create_request")
_FETCHES_CREDENTIALS: _Place = ("botocore.signers", "sign")
_ASKS: _Place = ("botocore.endpoint", "_do_get_response")
_RUNS_HANDLERS = "botocore.hooks"  # the whole module
_RETRIES = frozenset({_RUNS_HANDLERS, "botocore.retryhandler"})
_RAISES_AGAIN: _Place = ("botocore.retryhandler", "_check_caught_exception")
_SENDS: _Place = ("botocore.endpoint", "_send")
_READS_PROXY: _Place = ("botocore.httpsession", "_get_connection_manager")
_WRITES_HEADERS = frozenset({("http.client", "putrequest"), ("http.client", "putheader")})
_CONNECTS = frozenset(
    {
        _READS_PROXY,
        ("botocore.httpsession", "_setup_ssl_cert"),
        ("urllib3.connectionpool", "_get_conn"),
        ("urllib3.connection", "connect"),
    }
)
_CONNECTS_TO_PROXY: _Place = ("urllib3.connection", "_connect_tls_proxy")
_READS_CERTIFICATES: _Place = ("urllib3.util.ssl_", "ssl_wrap_socket")
_SHAKES_HANDS: _Place = ("ssl", "do_handshake")
_COMPARES_NAMES: _Place = ("urllib3.connection", "_match_hostname")


@frozen
class _Trail:
    """What the traceback of a failed call shows.

    Attributes:
        places: the functions that were being run, outermost first.
        errors: the error that came out, and those that it stands for.
    """

    places: tuple[_Place, ...]
    errors: tuple[BaseException, ...]

    @classmethod
    def of(cls, cause: BaseException) -> Self:
        """Read the tracebacks of `cause` and of the urllib3 error that botocore wrapped in it."""
        errors = [cause]
        # Not the context of botocore's error: botocore raises it twice, and by the second time the
        # context is whatever the caller of the client may be handling.
        wrapped: Any = getattr(cause, "kwargs", {}).get("error")
        while isinstance(wrapped, BaseException):
            errors.append(wrapped)
            wrapped = _context_within(wrapped)
        places = (place for error in errors for place in _places(error))
        return cls(tuple(_without_retries(places)), tuple(errors))

    def has(self, *places: _Place) -> bool:
        """Whether one of `places` was being run."""
        return not set(places).isdisjoint(self.places)

    def caused_by(self, *kinds: type[BaseException]) -> bool:
        """Whether one of the errors is of one of these kinds."""
        return any(isinstance(error, kinds) for error in self.errors)

    def beyond(self, place: _Place) -> _Trail:
        """Return the part of the trail that `place` ran; an empty one if it was not run."""
        begin = self.places.index(place) + 1 if self.has(place) else len(self.places)
        return _Trail(self.places[begin:], self.errors)

    @property
    def phase(self) -> _Phase:
        """How far the call got."""
        for place in self.places:
            # Handlers may make calls of their own, and some run only after the answer.
            if place[0] == _RUNS_HANDLERS:
                return _Phase.UNKNOWN
            if place in _BUILDS:
                return _Phase.BUILDING
            # What signing calls, such as the service that hands out credentials, is no matter here.
            if place == _SIGNS:
                return _Phase.SIGNING
            if place == _ASKS:
                return self.beyond(_ASKS).phase_of_asking
        return _Phase.UNKNOWN

    @property
    def phase_of_asking(self) -> _Phase:
        """How far the call got, for the part of the trail from where the signed request is sent."""
        if self.places and self.places[0][0] == _RUNS_HANDLERS:
            return _Phase.UNKNOWN
        if not self.has(_SENDS):
            return _Phase.ANSWERED
        if self.has(*_WRITES_HEADERS):
            return _Phase.BUILDING
        return _Phase.CONNECTING if self.has(*_CONNECTS) else _Phase.SENT


def _places(error: BaseException) -> Iterator[_Place]:
    for frame in _frames(error):
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_name


def _without_retries(places: Iterable[_Place]) -> Iterator[_Place]:
    """Leave out where botocore's legacy retries raise again what the last try has raised."""
    for retries, group in groupby(places, lambda place: place[0] in _RETRIES):
        run = list(group)
        if not retries or run[-1] != _RAISES_AGAIN:
            yield from run


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _context_within(error: BaseException) -> BaseException | None:
    """Return the error that was being handled when `error` was raised, if the call caused it.

    What the program was handling around the call is a context as well.
    """
    context = error.__context__
    caught_in = None if context is None else next(_frames(context), None)
    return context if caught_in in list(_frames(error)) else None


# --- Failures without an answer -------------------------------------------------------------------

# What decoding raises for an answer that is not UTF-8, not a map, or has impossible times.
_PARSING = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)

# The scheme, the host and the port of a URL; what else is in one may be a key or a password.
_ORIGIN = re.compile(r"(https?://)(?:[^/?#@]*@)?([\w.-]+|\[[\w:.]+\])(:\d+)?(?=[/?#]|$)", re.ASCII)

_REFUSED_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


def _from_trail(cause: Exception, trail: _Trail, call: Mapping[str, Any]) -> TransportError:
    phase = trail.phase
    if phase is _Phase.BUILDING:
        return _unbuilt(cause, trail, call)
    if phase is _Phase.CONNECTING:
        return _unconnected(cause, trail, call)
    return _unanswered(cause, phase, call)


def _unbuilt(cause: Exception, trail: _Trail, call: Mapping[str, Any]) -> TransportError:
    kind = type(cause).__name__
    if trail.has(*_WRITES_HEADERS):
        reason, advice = f"HTTP does not allow one of the request's headers ({kind})", _LINE_BREAKS
    else:
        reason = f"boto3 cannot build the request ({kind})"
        advice = f"{_ENDPOINT} {_CONFIG_FILES}"
    return TransportError(
        reason=reason, advice=advice, outcome_unknown=False, retryable=False, **call
    )


def _unsigned(cause: Exception, trail: _Trail, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that could not be signed, for want of credentials mostly."""
    from botocore.exceptions import ClientError

    advice, retryable, retry_after = _CREDENTIALS, False, None
    within = trail.beyond(_FETCHES_CREDENTIALS)
    if isinstance(cause, ClientError):
        answer = _from_answer(cause.response, {}, call)
        said = answer.code if isinstance(answer, ServiceError) else answer.reason
        reason = f"no credentials, because {cause.operation_name} failed ({said})"
        retryable, retry_after = answer.retryable, answer.retry_after
    elif within.phase in (_Phase.CONNECTING, _Phase.SENT, _Phase.ANSWERED):
        failed = _from_trail(cause, within, call)
        reason = f"no credentials, because the call that fetches them failed: {failed.reason}"
        advice, retryable = failed.advice or advice, failed.retryable
    else:
        reason = f"the request cannot be signed ({type(cause).__name__})"
    return TransportError(
        reason=reason,
        advice=advice,
        outcome_unknown=False,
        retryable=retryable,
        retry_after=retry_after,
        **call,
    )


def _unconnected(cause: Exception, trail: _Trail, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that was not sent because there was no connection."""
    import socket
    import ssl
    from http.client import InvalidURL

    kind = type(cause).__name__
    url = _origin(cause)
    if kind == "ProxyConnectionError" or trail.has(_CONNECTS_TO_PROXY):
        where = "the proxy" if url is None else f"the proxy {url}"
        advice, retryable = _PROXY, False
    else:
        where = "the endpoint" if url is None else url
        advice, retryable = _NETWORK, False

    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    refusal = next(filter(None, map(_REFUSED_TUNNEL.search, map(str, trail.errors))), None)
    if trail.has(_READS_PROXY):
        reason, advice = f"the settings for the proxy are not usable ({kind})", _PROXY
    elif trail.caused_by(ssl.SSLCertVerificationError) or trail.has(_COMPARES_NAMES):
        reason, advice = f"the certificate of {where} is not trusted ({kind})", _TRUST
    elif trail.has(_READS_CERTIFICATES) and not trail.has(_SHAKES_HANDS):
        reason, advice = f"the CA bundle or client certificate cannot be read ({kind})", _PEM_FILES
    elif trail.caused_by(ssl.SSLError) and not trail.caused_by(*ended):
        reason = f"the TLS handshake with {where} failed ({kind})"
    elif refusal is not None:
        reason = f"{where} refused the connection (HTTP {refusal[1]})"
        retryable = int(refusal[1]) >= _SERVER_ERROR
    elif trail.caused_by(ValueError, InvalidURL):
        reason = f"the host name of the endpoint or of the proxy is not valid ({kind})"
        advice = f"{_ENDPOINT} {_PROXY}"
    else:
        lost = "find the host of" if trail.caused_by(socket.gaierror) else "connect to"
        reason, retryable = f"could not {lost} {where} ({kind})", True
    return TransportError(
        reason=reason, advice=advice, outcome_unknown=False, retryable=retryable, **call
    )


def _origin(cause: Exception) -> str | None:
    """Return the scheme, host and port of the URL in botocore's error, if it has one."""
    members = getattr(cause, "kwargs", {})
    url = str(members.get("proxy_url") or members.get("endpoint_url") or "")
    found = _ORIGIN.match(url)
    # After an "@" further on, what looks like the host is the beginning of a password.
    if found is None or "@" in url[found.end() :]:
        return None
    return "".join(part or "" for part in found.groups())


def _unanswered(cause: Exception, phase: _Phase, call: Mapping[str, Any]) -> TransportError:
    """Return the error for a request that may have been sent, and has no usable answer."""
    from botocore.exceptions import BotoCoreError, HTTPClientError, IncompleteReadError
    from botocore.exceptions import ConnectionError as BotocoreConnectionError
    from botocore.parsers import ResponseParserError

    kind = type(cause).__name__
    undecoded = MalformedResponseError(reason=f"the answer cannot be decoded ({kind})", **call)
    if phase is _Phase.ANSWERED:
        return undecoded
    if isinstance(cause, (HTTPClientError, BotocoreConnectionError)):
        return TransportError(reason=f"the network failed ({kind})", **call)
    if isinstance(cause, BotoCoreError) and not isinstance(cause, IncompleteReadError):
        return TransportError(reason=f"botocore failed ({kind})", retryable=False, **call)
    if isinstance(cause, (ResponseParserError, IncompleteReadError, *_PARSING)):
        return undecoded
    return TransportError(
        reason=f"something other than botocore failed during the call ({kind})",
        retryable=False,
        **call,
    )


# --- Answers with an error ------------------------------------------------------------------------

# By code only: AWS's API reference and service model give the same code different HTTP statuses.
_ERRORS: dict[str, type[ServiceError]] = {
    "InternalServerException": InternalServerException,
    "InvalidRequestException": InvalidRequestException,
    "ResourceNotFoundException": ResourceNotFoundException,
    "TooManyRequestsException": TooManyRequestsException,
    "ValidationException": ValidationException,
    "ServiceUnavailableException": ServiceUnavailableException,
    "AccessDeniedException": AccessDeniedException,
    "ExpiredTokenException": ExpiredTokenException,
    # What AWS's front doors answer for any service (AWS General Reference, common errors).
    "InternalFailure": InternalServerException,
    "InternalError": InternalServerException,
    "InternalServerError": InternalServerException,
    "ServiceUnavailable": ServiceUnavailableException,
    "AccessDenied": AccessDeniedException,
    "ExpiredToken": ExpiredTokenException,
    # The codes that botocore's own standard retries know as throttling.
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottledException",
            "RequestThrottled",
            "TooManyRequests",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "ProvisionedThroughputExceededException",
            "TransactionInProgressException",
            "PriorRequestNotComplete",
            "EC2ThrottledException",
            "SlowDown",
        ),
        ThrottlingException,
    ),
}
# How AWS refuses credentials (AWS General Reference, common errors, and S3's list of errors).
_BAD_CREDENTIALS = frozenset(
    {
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_ACTIVE_JOB_LIMIT = "ACTIVE_JOB_COUNT_LIMIT_EXCEEDED"

# What counts as an error code is our rule: anything else in its place is a stranger's body.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_DIGITS = re.compile(r"[0-9]{1,9}")

# The same as HTTP 408 under any status: the server did not get to read the request in time.
_TIMED_OUT = frozenset({"RequestTimeout", "RequestTimeoutException"})

# Our rule: who asks for a longer wait is not meant to be waited for. Seconds.
_LONGEST_WAIT = 3600.0
_MULTIPLE_CHOICES = 300
_BAD_REQUEST, _REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 400, 408, 429, 500


def _from_answer(
    answer: Members, request: Members, call: Mapping[str, Any]
) -> ServiceError | TransportError:
    metadata = answer.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    status = metadata.get("HTTPStatusCode")
    call = {
        **call,
        "status_code": status,
        "request_id": metadata.get("RequestId"),
        "retry_after": _retry_after(headers),
    }
    error = answer.get("Error", {})
    # Without a code, botocore puts the HTTP status there and a stranger's body into Message.
    code = str(error.get("Code") or "")
    named = _CODE.fullmatch(code) is not None
    words = str(error.get("Message") or "") if named else ""

    cls = _ERRORS.get(code)
    if cls is TooManyRequestsException and _ACTIVE_JOB_LIMIT in words:
        cls = ActiveJobLimitExceeded
    if cls is None and status == _TOO_MANY_REQUESTS:
        cls = ThrottlingException
    timed_out = status == _REQUEST_TIMEOUT or code in _TIMED_OUT
    if cls is None and (timed_out or not _is_refusal(status)):
        reason = f"error {code}" if named else "an error without a code"
        return MalformedResponseError(reason=f"the service answered with {reason}", **call)
    cls = cls or ServiceError
    refused = cls(
        code=code if named else str(status),
        message=mask(words, private_values(request)),
        # A server that failed may have failed after the work.
        outcome_unknown=cls in (InternalServerException, ServiceUnavailableException),
        **call,
    )
    if code in _BAD_CREDENTIALS:
        refused.advice = _CREDENTIALS
    return refused


def _is_refusal(status: int | None) -> bool:
    return status is not None and _BAD_REQUEST <= status < _SERVER_ERROR


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that an answer asks to wait, at most an hour.

    `x-amz-retry-after` counts milliseconds; `Retry-After` is seconds or a date (RFC 9110, 10.2.3),
    which is held against the answer's own `Date`, so that this machine's clock does not matter.
    """
    milliseconds = headers.get("x-amz-retry-after", "").strip()
    if _DIGITS.fullmatch(milliseconds):
        return min(_LONGEST_WAIT, int(milliseconds) / 1000)
    seconds = headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(seconds):
        return min(_LONGEST_WAIT, float(seconds))
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        wait = parsedate_to_datetime(seconds) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return min(_LONGEST_WAIT, max(0.0, wait.total_seconds()))

"""The options that several commands share, and how the command line checks and completes values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from .._folders import same_path
from ..errors import RequestValidationError
from ..models import InputDataConfig, JobStatus, OutputDataConfig, S3Location
from .checking import Preconditions, us_dollars
from .exits import Exit, ExitCode
from .files import local_path
from .run_copies import RunCopies
from .tables import table_location
from .targets import PlanOptions, ServiceOptions, StartOptions

if TYPE_CHECKING:
    from .._replacements import Replacement
    from .._results.decisions import Decisions

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Option(Protocol):
    """A decorator that adds options to a command."""

    def __call__(self, command: _Function, /) -> _Function:
        """Return the command with its options."""
        ...


_Location = TypeVar("_Location", InputDataConfig, OutputDataConfig)

# --- Checking values ------------------------------------------------------------------------------


def checked(parse: Callable[[str], Any], rule: str) -> Callable[..., Any]:
    """Return a click callback that parses a value. If it cannot, it exits with `rule`.

    Unlike click's own messages, `rule` does not quote the value.
    """

    def callback(_context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, OverflowError):
            pass
        raise Exit(ExitCode.USAGE, f"{label(parameter)} {rule}")

    return callback


def label(parameter: click.Parameter) -> str:
    """Return what a user types for a parameter: `--timeout` or `JOB_ID`."""
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name
    return parameter.opts[0]


def _region(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    # `port` raises ValueError if it is not a port.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    return text


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    # The service gets UTC, where times in the years 1 and 9999 may not exist.
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


utc_time: Callable[..., Any] = checked(_utc, "must be a date or a time such as 2031-02-03T04:05:06")


def s3_location(config: type[_Location], argument: str, text: str, hint: str = "") -> _Location:
    """Parse an argument that is an `s3://` URI. The hint completes the error for anything else."""
    try:
        return config.from_uri(text)
    except RequestValidationError as error:
        rule = f"({error.shape}) {error.reason}"
    if not text.startswith("s3://"):
        rule = f"must be a URI such as s3://bucket/prefix{hint}"
    raise Exit(ExitCode.USAGE, f"{argument} {rule}")


# --- Shell completion -----------------------------------------------------------------------------


def complete_status(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the statuses of a job that begin with what was typed."""
    return [status for status in JobStatus if status.startswith(incomplete.upper())]


def complete_local_folder(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a folder if --local was typed before."""
    return [CompletionItem(incomplete, type="dir")] if context.params.get("local") else []


def _local(
    kind: Literal["dir", "file"], rule: str, parse: Callable[[str], object] = local_path
) -> dict[str, Any]:
    def complete(
        _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type=kind)]

    return {"callback": checked(parse, rule), "shell_complete": complete}


# For arguments and options that are paths.
FOLDER_OF_COPIES = _local(
    "dir",
    "must be a local folder: copies are written only to this machine (write ./ before a name with"
    " a colon)",
)


def _local_or_s3(text: str) -> Path | S3Location:
    return S3Location.from_uri(text) if text.startswith("s3://") else local_path(text)


DESTINATION_OF_COPIES: dict[str, Any] = {
    **FOLDER_OF_COPIES,
    "callback": checked(
        _local_or_s3,
        "must be a local folder or a URI such as s3://bucket/folder (write ./ before a local name"
        " with a colon)",
    ),
}
REVIEW_PAGE = _local(
    "file",
    "must be a local file: the page is written only to this machine (write ./ before a name with"
    " a colon)",
)

TABLE = _local(
    "file",
    "must be a local file, or a URI such as s3://bucket/file (write ./ before a name with a colon)",
    table_location,
)


def _local_file(text: str) -> Path:
    path = local_path(text)
    if path.is_dir():
        raise ValueError
    return path


LOCAL_FILE = _local(
    "file", "must be a local file (write ./ before a name with a colon)", _local_file
)

AUDIT_FILE = _local(
    "file",
    "must be a local file, or a URI such as s3://bucket/file (write ./ before a name with a colon)",
    _local_or_s3,
)

TEXT_FILE = _local("file", "must be a local file, or - for standard input")

# --- Options --------------------------------------------------------------------------------------


def _combined(name: str, build: Callable[..., object], *options: Option) -> Option:
    """Return a decorator that adds options to a command.

    The command gets one argument for them all, `name`: what `build` returns for their values.
    """
    fields = inspect.signature(build).parameters

    def decorate(command: Any, /) -> Any:
        @wraps(command)
        def with_one_argument(**values: Any) -> Any:
            given = {field: values.pop(field) for field in fields}
            return command(**values, **{name: build(**given)})

        for option in reversed(options):
            with_one_argument = option(with_one_argument)
        return with_one_argument

    return decorate


service_options: Option = _combined(
    "service",
    ServiceOptions,
    click.option(
        "--region",
        metavar="NAME",
        callback=checked(
            _region, "must be a name of letters, digits and hyphens, such as us-east-1"
        ),
        help="The AWS region.",
    ),
    click.option("--profile", metavar="NAME", help="The profile of your AWS settings."),
    click.option(
        "--endpoint-url",
        metavar="URL",
        callback=checked(_url, "must be a URL such as https://host or http://host:8080"),
        help="The URL of Comprehend Medical if it is not AWS's own. S3 uses AWS_ENDPOINT_URL_S3.",
    ),
)


def _role_option(necessity: str) -> Option:
    return click.option(
        "--role-arn",
        "data_access_role_arn",
        metavar="ARN",
        envvar="COMPREHEND_PHI_ROLE_ARN",
        show_envvar=True,
        help=f"The role with which the service reads the notes and writes the results. {necessity}",
    )


_kms_option: Option = click.option(
    "--kms-key",
    metavar="KEY",
    help="The KMS key that encrypts the results. Without it, they are in plain text.",
)

# These have the names of the request's fields, so that an error of a field can name its option.
start_options: Option = _combined(
    "start",
    StartOptions,
    _role_option("Required, except by `detect --local`."),
    _kms_option,
    click.option("--job-name", metavar="NAME", help="A name by which `list` finds the job."),
    click.option(
        "--token",
        "client_request_token",
        metavar="TOKEN",
        help="The request token of an earlier attempt. The same request with the same token starts"
        " no second job.",
    ),
    click.option(
        "--allow-overlap",
        is_flag=True,
        help="Start the job even if SOURCE and DESTINATION overlap on S3.",
    ),
)

plan_options: Option = _combined(
    "options",
    PlanOptions,
    _role_option("Required."),
    _kms_option,
    click.option(
        "--staging",
        metavar="URI",
        help="The folder on S3 for copies of files that cannot be processed where they are, such as"
        " s3://bucket/staging.",
    ),
)


def _replacement(
    replacement: str | None, same_length: bool, pseudonym_key: Path | None
) -> Replacement | None:
    """Return what replaces an entity, or None if no option says so.

    Raises:
        RequestValidationError: the template is wrong.
        Exit: there is more than one option, or the key is too short.
        OSError: the key cannot be read.
    """
    from .._replacements import check_replacement, pseudonyms
    from .._replacements import same_length as mask

    options = {
        "--replacement": replacement is not None,
        "--same-length": same_length,
        "--pseudonym-key": pseudonym_key is not None,
    }
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise Exit(ExitCode.USAGE, f"{given[1]} cannot be combined with {given[0]}")
    if replacement is not None:
        check_replacement("redact", replacement)
        return replacement
    if pseudonym_key is None:
        return mask() if same_length else None
    try:
        return pseudonyms(pseudonym_key.read_bytes())
    except RequestValidationError as error:
        rule = error.reason
    raise Exit(ExitCode.USAGE, f"--pseudonym-key {rule}")


# At most one of them. Without any, the command gets None and uses the default.
DEFAULT_REPLACEMENT = "[{type}]"
replacement_options: Option = _combined(
    "replacement",
    _replacement,
    click.option(
        "--replacement",
        metavar="TEXT",
        help="The text that replaces an entity. {type} stands for its type. Without it,"
        f" {DEFAULT_REPLACEMENT}.",
    ),
    click.option(
        "--same-length",
        is_flag=True,
        help="Replace each character of an entity with *, so that offsets stay valid.",
    ),
    click.option(
        "--pseudonym-key",
        metavar="FILE",
        **LOCAL_FILE,
        help="Replace the same text with the same token. The content of this file is the secret"
        " key.",
    ),
)


min_score_option: Option = click.option(
    "--min-score",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SCORE",
    help="Do not redact entities with a lower score.",
)


def _run_copies(
    copies: Path | S3Location | None,
    copies_kms_key: str | None,
    audit: Path | S3Location | None,
    min_score: float,
    replacement: Replacement | None,
) -> RunCopies | None:
    """Return the copies that a run writes, if it writes any.

    Raises:
        Exit: an option needs --copies.
    """
    if copies is not None:
        marks = DEFAULT_REPLACEMENT if replacement is None else replacement
        return RunCopies(copies, copies_kms_key, audit, min_score, marks)
    options = {
        "--copies-kms-key": copies_kms_key is not None,
        "--audit": audit is not None,
        "--min-score": min_score != 0.0,
        "An option about what replaces an entity": replacement is not None,
    }
    for option, is_given in options.items():
        if is_given:
            raise Exit(ExitCode.USAGE, f"{option} needs --copies")
    return None


def _audit(audit: Path | S3Location | None) -> Path | S3Location | None:
    """Return where the audit file goes.

    Raises:
        Exit: it would replace a file that another option names.
    """
    if isinstance(audit, Path):
        files: dict[str, Any] = click.get_current_context().params
        for option in ("pseudonym_key", "decisions"):
            if (file := files.get(option)) is not None and same_path(audit, file):
                name = option.replace("_", "-")
                problem = f"--audit would replace the file of --{name}. Choose another file."
                raise Exit(ExitCode.USAGE, problem)
    return audit


audit_option: Option = _combined(
    "audit",
    _audit,
    click.option(
        "--audit",
        metavar="FILE",
        **AUDIT_FILE,
        help="Write one line of JSON for each copy to this file. It is local, or a URI such as"
        " s3://bucket/audit.jsonl.",
    ),
)
copies_options: Option = _combined(
    "copies",
    _run_copies,
    click.option(
        "--copies",
        metavar="FOLDER",
        **DESTINATION_OF_COPIES,
        help="Write redacted copies of all notes when the jobs have ended. FOLDER is local, or a"
        " URI such as s3://bucket/folder. Nothing in it is replaced.",
    ),
    click.option(
        "--copies-kms-key",
        metavar="KEY",
        help="The KMS key that encrypts copies on S3, and an audit file there.",
    ),
    audit_option,
    min_score_option,
    replacement_options,
)


class Review(NamedTuple):
    """What reviewers decided.

    Attributes:
        decisions: their decisions, or None.
        required: whether to leave out notes that are not marked as reviewed.
    """

    decisions: Decisions | None
    required: bool


def _review(decisions: Path | None, require_reviewed: bool) -> Review:
    from .._results.decisions import Decisions

    if decisions is None:
        if require_reviewed:
            raise Exit(ExitCode.USAGE, "--require-reviewed needs --decisions")
        return Review(None, required=False)
    try:
        return Review(Decisions.load(decisions), require_reviewed)
    except RequestValidationError as error:
        rule = error.reason
    raise Exit(ExitCode.USAGE, f"--decisions {rule}")


review_options: Option = _combined(
    "review",
    _review,
    click.option(
        "--decisions",
        metavar="FILE",
        **LOCAL_FILE,
        help="Redact what reviewers decided. They saved this file on the review page.",
    ),
    click.option(
        "--require-reviewed",
        is_flag=True,
        help="Leave out notes that are not marked as reviewed in --decisions.",
    ),
)

_DOLLARS = "must be a number of US dollars, such as 500"

max_cost_option: Option = click.option(
    "--max-cost",
    metavar="USD",
    callback=checked(us_dollars, _DOLLARS),
    help="Start nothing if it may cost more than this number of US dollars at list price.",
)
check_options: Option = _combined(
    "preconditions",
    Preconditions,
    click.option(
        "--check",
        is_flag=True,
        help="Check the notes in SOURCE first, as `check` does. If they have errors, start no job.",
    ),
    max_cost_option,
)
price_option: Option = click.option(
    "--price",
    metavar="USD",
    callback=checked(us_dollars, _DOLLARS),
    help="The price of 100 characters in US dollars. Without it, AWS's list price.",
)
timeout_option: Option = click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="How long to wait. Without it, there is no limit.",
)
poll_seconds_option: Option = click.option(
    "--poll-seconds",
    "delay",
    type=float,
    metavar="SECONDS",
    help="The time between two polls. Without it, the interval grows from 10 to 60 seconds.",
)
slot_timeout_option: Option = click.option(
    "--slot-timeout",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a free job slot if all are taken.",
)
show_names_option: Option = click.option(
    "--show-names", is_flag=True, help="Show job names and keys, which may name people."
)
json_option: Option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line."
)

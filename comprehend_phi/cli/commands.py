"""The command line. Needs the extra `cli`; `comprehend-phi --help` tells what it does.

A command returns its exit code, or raises; `_cli_ending` turns what was raised into one line and a
code.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from .._client import PHIClient
from .._jobs import Job, WaitPolicy
from ..models import JobFilter, JobProperties, JobStatus
from .exits import DONE, FAILED, PARTIAL, USAGE, Ended, run
from .options import (
    COPIES,
    LOCAL_JOB,
    PAGE,
    AllowOverlap,
    AsJson,
    EndpointUrl,
    JobId,
    JobName,
    KmsKey,
    PollSeconds,
    Profile,
    Region,
    RoleArn,
    ShowNames,
    SlotTimeout,
    Timeout,
    Token,
    local_path,
)
from .output import (
    Folder,
    Progress,
    Undelivered,
    WatchedClock,
    amount,
    document_members,
    emit,
    emit_json,
    failed_members,
    job_members,
    list_as_lines,
    name_of_copy,
    note,
    obstacle,
    real_path,
    replaceable,
    show_counts,
    show_job,
    show_unprocessed,
    unprocessed_members,
    write_private,
)
from .targets import (
    Connection,
    StartOptions,
    at_aws,
    locally,
    reading,
    request_for,
    submit,
    the_same_command,
    waiting,
)

if TYPE_CHECKING:
    from .._results.documents import Document
    from .._results.streams import JobResults
    from ..errors import ResultsError

_LOCAL_POLL_SECONDS = 0.25

# A backspace alone on its line keeps click from filling the paragraph.
_EPILOG = """\b
Exit codes:
    0  done
    1  failed
    2  wrong usage
    3  partial success: some files were not processed
    4  timed out
  130  interrupted
  141  nobody reads the output any more
"""


class _Command(TyperCommand):
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments as they are typed: typer's braces would look like a choice."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


app: typer.Typer = typer.Typer(
    add_completion=False,
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


# --- Commands -------------------------------------------------------------------------------------


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        emit(f"comprehend-phi {version('comprehend_phi')}")
        raise typer.Exit


@app.callback()
def comprehend_phi(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Find and redact protected health information with Amazon Comprehend Medical.

    Results go to stdout, progress and notes to stderr. The text that was found is shown by
    `results --show-text` and on the page of `review`, nowhere else.
    """


@app.command(cls=_Command, epilog=_EPILOG)
def detect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="The notes: s3://bucket/prefix, or a folder with --local."
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            help="For the results: s3://bucket/prefix, or a folder with --local.",
        ),
    ],
    role_arn: RoleArn = None,
    kms_key: KmsKey = None,
    job_name: JobName = None,
    token: Token = None,
    allow_overlap: AllowOverlap = False,
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="Use folders and the local service, without AWS. Its detector is a stand-in for"
            " tests and demos, never for real notes.",
        ),
    ] = False,
    redact: Annotated[
        Path | None,
        typer.Option(
            "--redact",
            metavar="FOLDER",
            parser=local_path("--redact", COPIES),
            help="Write redacted copies to this local folder.",
        ),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            "--review",
            metavar="FILE",
            parser=local_path("--review", PAGE),
            help="Write a page for a reviewer to this local file.",
        ),
    ] = None,
    timeout: Timeout = None,
    poll_seconds: PollSeconds = None,
    slot_timeout: SlotTimeout = 0.0,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Start a job, wait for it and count what it found."""
    if redact is not None:
        _require_writable("--redact", redact)
    render = None if review is None else _page_renderer("--review", review)
    connection = Connection(region, profile, endpoint_url)
    options = StartOptions(role_arn, kms_key, job_name, token, allow_overlap)
    clock = WatchedClock()
    if local:
        if connection != Connection():
            raise Ended(USAGE, "--local takes no --region, --profile or --endpoint-url")
        if allow_overlap:
            raise Ended(USAGE, "--local takes no --allow-overlap: its folders must not overlap")
        notes = local_path("SOURCE", LOCAL_JOB)(source)
        output = local_path("DESTINATION", LOCAL_JOB)(destination)
        _keep_out_of(notes, {"--redact": redact, "--review": review, "DESTINATION": output})
        _require_writable("DESTINATION", output)
        policy = _wait_policy(
            timeout, _LOCAL_POLL_SECONDS if poll_seconds is None else poll_seconds
        )
        place = locally(notes, output, options, clock)
    else:
        policy = _wait_policy(timeout, poll_seconds)
        place = at_aws(connection, request_for(source, destination, options), clock, slot_timeout)

    with place as here:
        job = submit(here.client, here.request)
        with waiting(job.job_id, here.how_to_wait, as_json=as_json):
            properties = _wait(job, policy, clock)
        with reading(job.job_id, here.how_to_read):
            problems = [here.fetch()]
            results = job.results()
            undelivered = Undelivered()
            documents, counts = _count(undelivered.all_but(iter(results)))
            if redact is not None:
                copies = undelivered.all_but(results.redacted())
                _, problem = _write_redacted(copies, redact, properties)
                problems.append(problem)
            if review is not None and render is not None:
                write_private(review, render(results, job.job_id, undelivered))
            unprocessed, code = results.unprocessed, _code(results)
            if as_json:
                emit_json(
                    {
                        **job_members(properties),
                        "client_request_token": here.request.client_request_token,
                        "destination": destination,
                        "document_count": documents,
                        "entity_counts": dict(counts.most_common()),
                        "unprocessed": [unprocessed_members(file) for file in unprocessed],
                        "failed": [failed_members(*each) for each in undelivered.failed.items()],
                        "redacted": None if redact is None else str(redact),
                        "review": None if review is None else str(review),
                    }
                )
            else:
                show_counts(documents, counts)
                show_unprocessed(unprocessed)
                if local:
                    emit(f"The job's output is in {destination}")
                if redact is not None:
                    emit(f"Redacted copies are in {redact}")
                if review is not None:
                    emit(f"The page for a reviewer is {review}; it has the notes in full")
    _fail_if([*problems, *undelivered.problems])
    return code


@app.command(cls=_Command, epilog=_EPILOG)
def start(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The notes: s3://bucket/prefix.")],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="For the results: s3://bucket/prefix.")
    ],
    role_arn: RoleArn = None,
    kms_key: KmsKey = None,
    job_name: JobName = None,
    token: Token = None,
    allow_overlap: AllowOverlap = False,
    slot_timeout: SlotTimeout = 0.0,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Start a job and print its id."""
    options = StartOptions(role_arn, kms_key, job_name, token, allow_overlap)
    request = request_for(source, destination, options)
    connection = Connection(region, profile, endpoint_url)
    with at_aws(connection, request, WatchedClock(), slot_timeout) as here:
        job_id = submit(here.client, request).job_id
    if as_json:
        emit_json({"job_id": job_id, "client_request_token": request.client_request_token})
    else:
        emit(job_id)
    return DONE


@app.command(cls=_Command, epilog=_EPILOG)
def status(
    job_id: JobId,
    show_names: ShowNames = False,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show what the service knows of a job; done whatever its state is."""
    with _client(region, profile, endpoint_url) as client:
        properties = client.describe_phi_detection_job(job_id)
    if as_json:
        emit_json(job_members(properties, show_names=show_names))
    else:
        show_job(properties, show_names=show_names)
    return DONE


@app.command("list", cls=_Command, epilog=_EPILOG)
def list_jobs(
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Jobs of exactly this name.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Jobs in this state.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TIME", help="Jobs submitted before it, oldest first."),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="TIME", help="Jobs submitted after it, newest first."),
    ] = None,
    show_names: ShowNames = False,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """List the jobs of the account in the region; the service takes one filter at a time.

    A TIME is a date or a moment such as 2031-02-03T04:05:06, in UTC unless it has an offset.
    """
    filter = JobFilter(
        job_name=name,
        job_status=None if state is None else JobStatus(state.upper()),
        submit_time_before=_moment("--before", before),
        submit_time_after=_moment("--after", after),
    )
    with _client(region, profile, endpoint_url) as client:
        jobs = client.list_phi_detection_jobs(filter)
        if as_json:
            for job in jobs:
                emit_json(job_members(job, show_names=show_names))
        else:
            list_as_lines(jobs, show_names=show_names)
    return DONE


@app.command(cls=_Command, epilog=_EPILOG)
def wait(
    job_id: JobId,
    timeout: Timeout = None,
    poll_seconds: PollSeconds = None,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Wait until a job has ended, and print how it ended."""
    connection = Connection(region, profile, endpoint_url)
    policy = _wait_policy(timeout, poll_seconds)
    clock = WatchedClock()
    with connection.client(clock=clock) as client:
        job = client.job(job_id)
        with waiting(job_id, connection.how_to_wait, as_json=as_json):
            properties = _wait(job, policy, clock)
    if as_json:
        emit_json(job_members(properties))
    else:
        emit(str(properties.job_status))
    return PARTIAL if properties.job_status is JobStatus.PARTIAL_SUCCESS else DONE


@app.command(cls=_Command, epilog=_EPILOG)
def stop(
    job_id: JobId,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Ask for a job to be stopped; `wait` tells when it is."""
    with _client(region, profile, endpoint_url) as client:
        stopped = client.stop_phi_detection_job(job_id)
    if as_json:
        emit_json({"job_id": stopped})
    else:
        emit(stopped)
    return DONE


@app.command(cls=_Command, epilog=_EPILOG)
def results(
    job_id: JobId,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Show the text that was found: this is PHI.")
    ] = False,
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Print what a job found, one JSON object for each document.

    With --json, there is an object for each file that was not processed or cannot be read too.
    """
    undelivered = Undelivered(as_json=as_json)
    with _client(region, profile, endpoint_url) as client, reading(job_id, the_same_command):
        found = client.results(job_id)
        with closing(undelivered.all_but(iter(found))) as documents:
            for document in documents:
                emit_json(document_members(document, show_text=show_text))
        code = _tell_unprocessed(found, as_json=as_json)
    _fail_if(undelivered.problems)
    return code


@app.command(cls=_Command, epilog=_EPILOG)
def redact(
    job_id: JobId,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            parser=local_path("FOLDER", COPIES),
            help="The local folder for the redacted copies.",
        ),
    ],
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score", metavar="SCORE", help="Entities with a lower score stay readable."
        ),
    ] = 0.0,
    replacement: Annotated[
        str,
        typer.Option("--replacement", metavar="TEXT", help="What takes the place of an entity."),
    ] = "[{type}]",
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Write redacted copies of a job's notes, at their paths below the job's prefix."""
    _require_writable("FOLDER", folder)
    undelivered = Undelivered(as_json=as_json)
    with _client(region, profile, endpoint_url) as client, reading(job_id, the_same_command):
        properties = client.describe_phi_detection_job(job_id)
        found = client.results(job_id)
        copies = undelivered.all_but(found.redacted(min_score=min_score, replacement=replacement))
        number, problem = _write_redacted(copies, folder, properties, as_json=as_json)
        code = _tell_unprocessed(found, as_json=as_json)
    if not as_json:
        emit(f"{amount(number, 'redacted copy is', 'redacted copies are')} in {folder}")
    _fail_if([problem, *undelivered.problems])
    return code


@app.command(cls=_Command, epilog=_EPILOG)
def review(
    job_id: JobId,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=local_path("FILE", PAGE),
            help="The local file for the page, in HTML.",
        ),
    ],
    region: Region = None,
    profile: Profile = None,
    endpoint_url: EndpointUrl = None,
    as_json: AsJson = False,
) -> int:
    """Write a page on which a person can review what a job found. It has the notes in full."""
    render = _page_renderer("FILE", file)
    undelivered = Undelivered()
    with _client(region, profile, endpoint_url) as client, reading(job_id, the_same_command):
        found = client.results(job_id)
        write_private(file, render(found, job_id, undelivered))
        code = _tell_unprocessed(found)
    if as_json:
        emit_json(
            {
                "job_id": job_id,
                "unprocessed": [unprocessed_members(file) for file in found.unprocessed],
                "failed": [failed_members(*each) for each in undelivered.failed.items()],
                "review": str(file),
            }
        )
    else:
        emit(f"The page for a reviewer is {file}; it has the notes in full")
    _fail_if(undelivered.problems)
    return code


# --- What commands share --------------------------------------------------------------------------


def _client(region: str | None, profile: str | None, endpoint_url: str | None) -> PHIClient:
    return Connection(region, profile, endpoint_url).client(clock=WatchedClock())


def _wait_policy(timeout: float | None, poll_seconds: float | None) -> WaitPolicy:
    if poll_seconds is None:
        return WaitPolicy(timeout=timeout)
    return WaitPolicy(delay=poll_seconds, max_delay=poll_seconds, multiplier=1.0, timeout=timeout)


def _wait(job: Job, policy: WaitPolicy, clock: WatchedClock) -> JobProperties:
    with Progress(clock) as progress:
        return job.wait(policy, on_poll=progress.seen, on_poll_error=progress.failed)


def _count(documents: Generator[Document, None, None]) -> tuple[int, Counter[str]]:
    """How many documents there are, and entities of each type in them."""
    number = 0
    counts: Counter[str] = Counter()
    with closing(documents):
        for document in documents:
            number += 1
            counts.update(entity.type for entity in document.entities)
    return number, counts


def _write_redacted(
    copies: Generator[tuple[str, str], None, None],
    root: Path,
    job: JobProperties,
    *,
    as_json: bool = False,
) -> tuple[int, ResultsError | None]:
    """Write redacted copies, and tell each where `as_json` asks for it.

    Returns:
        How many there are, and the error to raise in the end where others had to be left out.
    """
    number = 0
    source = job.input_data_config
    prefix = source.s3_key or "" if source else ""
    with closing(copies):
        folder = Folder(root, private=False)
        for key, text in copies:
            # A folder marker, such as the S3 console creates, is empty and needs no copy.
            if key.endswith("/") and not text:
                continue
            path = folder.write(key, name_of_copy(key, prefix), text.encode())
            if path is not None:
                number += 1
                if as_json:
                    emit_json({"input_key": key, "path": str(path)})
    return number, folder.problem


def _fail_if(problems: Sequence[ResultsError | None]) -> None:
    """End the command, with a line for each problem, if there is one."""
    lines = dict.fromkeys(str(problem) for problem in problems if problem is not None)
    if lines:
        raise Ended(FAILED, *lines)


def _keep_out_of(source: Path, places: Mapping[str, Path | None]) -> None:
    """Refuse to write into SOURCE: what lies there is a note to the next run."""
    folder = real_path(source)
    for option, place in places.items():
        if place is not None and real_path(place).is_relative_to(folder):
            raise Ended(USAGE, f"{option} would write among the notes in SOURCE")


def _require_writable(option: str, folder: Path) -> None:
    """Refuse a folder in which no file can be written, before anything is started."""
    if reason := obstacle(folder):
        raise Ended(FAILED, f"{option} cannot be written. {folder}: {reason}")


def _page_renderer(option: str, file: Path) -> Callable[[JobResults, str, Undelivered], str]:
    """What makes the page for a reviewer; asked for first, so that no job starts without it."""
    _require_writable(option, file.parent)
    if not replaceable(file):
        raise Ended(USAGE, f"{option} must not be there yet or be a regular file")
    try:
        from ..review.page import render
    except ImportError as error:
        reason = str(error)
    else:

        def page(found: JobResults, job_id: str, undelivered: Undelivered) -> str:
            failed: dict[str, str] = {}
            return render(
                undelivered.all_but(found.with_text(), failed),
                title=f"Job {job_id}",
                unprocessed=found.unprocessed,
                failed=failed,
            )

        return page
    raise Ended(USAGE, reason)


def _tell_unprocessed(found: JobResults, *, as_json: bool = False) -> int:
    """Note which files were not processed, with `as_json` as lines too; returns the exit code."""
    for file in found.unprocessed:
        if as_json:
            emit_json({"unprocessed": unprocessed_members(file)})
        why = ": ".join(filter(None, (file.error_code, file.error_message)))
        note(f"Not processed: {file.input_key}" + (f" ({why.rstrip('.')})" if why else ""))
    return _code(found)


def _code(found: JobResults) -> int:
    ended_early = found.manifest.status in (JobStatus.FAILED, JobStatus.STOPPED)
    return PARTIAL if found.unprocessed or ended_early else DONE


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Python 3.10 knows no Z.
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        # It is sent in UTC, where the first and the last years may lack it.
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Ended(USAGE, f"{option} must be a date or a moment such as 2031-02-03T04:05:06")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    return run(app, sys.argv[1:] if arguments is None else list(arguments))

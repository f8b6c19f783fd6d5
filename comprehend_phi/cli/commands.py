"""The commands. `comprehend-phi --help` says what they do.

A command returns its exit code or raises. `exits.run` prints one line for what it raises.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import shell_complete

from .._jobs import Job, WaitPolicy
from ..errors import RequestValidationError
from ..models import (
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    StartPHIDetectionJobRequest,
)
from .exits import COMPLETE_VARIABLE, DONE, EXIT_CODES, PARTIAL, PROGRAM, USAGE, Exit, run
from .files import (
    Folder,
    keep_out_of,
    name_of_copy,
    replaceable,
    require_writable,
    write_private,
)
from .guidance import SAME_COMMAND, reading, submit, waiting
from .local import LOCAL_POLL_SECONDS, at_local_service
from .options import (
    complete_file,
    complete_folder,
    complete_local_folder,
    complete_status,
    copies,
    json_option,
    label,
    local_folder,
    moment,
    page,
    poll_seconds_option,
    s3_location,
    service_options,
    show_names_option,
    slot_timeout_option,
    start_options,
    timeout_option,
)
from .output import (
    amount,
    document_members,
    emit,
    emit_json,
    inform,
    job_members,
    show_counts,
    show_job,
    show_jobs,
    show_unprocessed,
    unprocessed_members,
)
from .progress import Progress, WatchedClock
from .targets import Service, StartOptions, at_aws
from .undelivered import Undelivered

if TYPE_CHECKING:
    from .._results.documents import Document
    from .._results.streams import JobResults
    from ..errors import ResultsError


class _Command(click.Command):
    """A command whose errors name its own options instead of the fields of a request."""

    def __init__(self, name: str | None, **options: Any) -> None:
        super().__init__(name, epilog=EXIT_CODES, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RequestValidationError as error:
            labels = {parameter.name: label(parameter) for parameter in self.params}
            reason = error.reason
            for field, option in labels.items():
                reason = reason.replace(f"beside {field}:", f"beside {option}:")
            message = f"{labels.get(error.field, error.field)} ({error.shape}) {reason}"
        raise Exit(USAGE, message)


class _Group(click.Group):
    command_class = _Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order in which they are declared."""
        return list(self.commands)


@click.group(cls=_Group, epilog=EXIT_CODES, no_args_is_help=False)
@click.version_option(package_name="comprehend_phi", message=f"{PROGRAM} %(version)s")
def app() -> None:
    """Find and redact protected health information with Amazon Comprehend Medical.

    Results go to stdout. Progress and messages go to stderr. Only `results --show-text` and the
    page of `review` show the detected text.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run(app, sys.argv[1:] if arguments is None else arguments)


# --- Commands that start a job --------------------------------------------------------------------


@app.command()
@click.argument("source", shell_complete=complete_local_folder)
@click.argument("destination", shell_complete=complete_local_folder)
@start_options
@click.option(
    "--local",
    is_flag=True,
    help="Use local folders and a local service instead of AWS. Its detector is a stand-in for"
    " tests and demos. Never use it on real notes.",
)
@click.option(
    "--redact",
    metavar="FOLDER",
    callback=copies,
    shell_complete=complete_folder,
    help="Write redacted copies to this local folder.",
)
@click.option(
    "--review",
    metavar="FILE",
    callback=page,
    shell_complete=complete_file,
    help="Write the review page to this local file.",
)
@timeout_option
@poll_seconds_option
@slot_timeout_option
@service_options
@json_option
def detect(
    source: str,
    destination: str,
    start: StartOptions,
    local: bool,
    redact: Path | None,
    review: Path | None,
    timeout: float | None,
    delay: float | None,
    slot_timeout: float,
    service: Service,
    as_json: bool,
) -> int:
    """Start a job, wait for it and count what it found.

    SOURCE is where the notes are, and DESTINATION is where the results go. Both are URIs such as
    s3://bucket/prefix, or folders with --local.
    """
    if redact is not None:
        require_writable("--redact", redact)
    if review is not None:
        _require_page("--review", review)
    clock = WatchedClock()
    if local:
        if service != Service():
            raise Exit(
                USAGE, "--local cannot be combined with --region, --profile or --endpoint-url"
            )
        if start.allow_overlap:
            raise Exit(USAGE, "--local cannot be combined with --allow-overlap")
        notes = local_folder("SOURCE", source)
        output = local_folder("DESTINATION", destination)
        keep_out_of(notes, {"--redact": redact, "--review": review, "DESTINATION": output})
        require_writable("DESTINATION", output)
        policy = _wait_policy(timeout, LOCAL_POLL_SECONDS if delay is None else delay)
        target = at_local_service(notes, output, start, clock)
    else:
        request = _s3_request(source, destination, start, hint=", or a folder with --local")
        policy = _wait_policy(timeout, delay)
        target = at_aws(service, request, clock, slot_timeout)

    undelivered = Undelivered()
    with target as here:
        job = submit(here.client, here.request)
        with waiting(job.job_id, here.how_to_wait(job.job_id), as_json=as_json):
            properties = _wait(job, policy, clock)
        with reading(job.job_id, here.how_to_read(job.job_id)):
            problems = [here.fetch()]
            found = job.results()
            documents, counts = _count(undelivered.all_but(iter(found)))
            if redact is not None:
                redacted = undelivered.all_but(found.redacted())
                _, problem = _write_copies(redacted, redact, properties)
                problems.append(problem)
            if review is not None:
                _write_page(review, found, job.job_id, undelivered)
            unprocessed = found.unprocessed
            if as_json:
                emit_json(
                    {
                        **job_members(properties),
                        "client_request_token": here.request.client_request_token,
                        "destination": destination,
                        "document_count": documents,
                        "entity_counts": dict(counts.most_common()),
                        "unprocessed": [unprocessed_members(file) for file in unprocessed],
                        "failed": undelivered.members,
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
                    emit(f"The review page is {review}. It contains the notes in full.")
    undelivered.exit_if_any(*problems)
    return _exit_code(found)


@app.command("start")
@click.argument("source")
@click.argument("destination")
@start_options
@slot_timeout_option
@service_options
@json_option
def start_job(
    source: str,
    destination: str,
    start: StartOptions,
    slot_timeout: float,
    service: Service,
    as_json: bool,
) -> int:
    """Start a job and print its id.

    SOURCE is where the notes are, and DESTINATION is where the results go. Both are URIs such as
    s3://bucket/prefix.
    """
    request = _s3_request(source, destination, start)
    with service.client(clock=WatchedClock(), slot_timeout=slot_timeout) as client:
        job_id = submit(client, request).job_id
    if as_json:
        emit_json({"job_id": job_id, "client_request_token": request.client_request_token})
    else:
        emit(job_id)
    return DONE


# --- Commands for a job's state -------------------------------------------------------------------


@app.command()
@click.argument("job_id")
@show_names_option
@service_options
@json_option
def status(job_id: str, show_names: bool, service: Service, as_json: bool) -> int:
    """Show what the service knows about a job.

    The exit code is 0 whatever the job's state is.
    """
    with service.client(clock=WatchedClock()) as client:
        properties = client.describe_phi_detection_job(job_id)
    if as_json:
        emit_json(job_members(properties, show_names=show_names))
    else:
        show_job(properties, show_names=show_names)
    return DONE


# The options of the filter have the names of its fields.
@app.command("list")
@click.option("--name", "job_name", metavar="NAME", help="Only jobs with exactly this name.")
@click.option(
    "--status",
    "job_status",
    metavar="STATUS",
    shell_complete=complete_status,
    help="Only jobs in this state.",
)
@click.option(
    "--before",
    "submit_time_before",
    metavar="TIME",
    callback=moment,
    help="Only jobs submitted before this time, oldest first.",
)
@click.option(
    "--after",
    "submit_time_after",
    metavar="TIME",
    callback=moment,
    help="Only jobs submitted after this time, newest first.",
)
@show_names_option
@service_options
@json_option
def list_jobs(
    job_name: str | None,
    job_status: str | None,
    submit_time_before: datetime | None,
    submit_time_after: datetime | None,
    show_names: bool,
    service: Service,
    as_json: bool,
) -> int:
    """List the jobs of your account in the region.

    The service accepts one filter at a time. TIME is a date or a time such as 2031-02-03T04:05:06,
    in UTC unless it has an offset.
    """
    filter = JobFilter(
        job_name=job_name,
        job_status=None if job_status is None else JobStatus(job_status.upper()),
        submit_time_before=submit_time_before,
        submit_time_after=submit_time_after,
    )
    with service.client(clock=WatchedClock()) as client:
        jobs = client.list_phi_detection_jobs(filter)
        if as_json:
            for job in jobs:
                emit_json(job_members(job, show_names=show_names))
        else:
            show_jobs(jobs, show_names=show_names)
    return DONE


@app.command()
@click.argument("job_id")
@timeout_option
@poll_seconds_option
@service_options
@json_option
def wait(
    job_id: str, timeout: float | None, delay: float | None, service: Service, as_json: bool
) -> int:
    """Wait until a job has ended, and print how it ended."""
    policy = _wait_policy(timeout, delay)
    clock = WatchedClock()
    with service.client(clock=clock) as client:
        job = client.job(job_id)
        with waiting(job_id, service.how_to_wait(job_id), as_json=as_json):
            properties = _wait(job, policy, clock)
    if as_json:
        emit_json(job_members(properties))
    else:
        emit(str(properties.job_status))
    return PARTIAL if properties.job_status is JobStatus.PARTIAL_SUCCESS else DONE


@app.command()
@click.argument("job_id")
@service_options
@json_option
def stop(job_id: str, service: Service, as_json: bool) -> int:
    """Ask the service to stop a job.

    Use `wait` to see when the job has stopped.
    """
    with service.client(clock=WatchedClock()) as client:
        stopped = client.stop_phi_detection_job(job_id)
    if as_json:
        emit_json({"job_id": stopped})
    else:
        emit(stopped)
    return DONE


# --- Commands for a job's results -----------------------------------------------------------------


@app.command()
@click.argument("job_id")
@click.option("--show-text", is_flag=True, help="Show the detected text, which is PHI.")
@service_options
@json_option
def results(job_id: str, show_text: bool, service: Service, as_json: bool) -> int:
    """Print what a job found, as one JSON object per document.

    With --json, files that were not processed or cannot be read get an object, too.
    """
    undelivered = Undelivered(as_json=as_json)
    with service.client(clock=WatchedClock()) as client, reading(job_id, SAME_COMMAND):
        found = client.results(job_id)
        with closing(undelivered.all_but(iter(found))) as documents:
            for document in documents:
                emit_json(document_members(document, show_text=show_text))
        _print_unprocessed(found, as_json=as_json)
    undelivered.exit_if_any()
    return _exit_code(found)


@app.command()
@click.argument("job_id")
@click.argument("folder", callback=copies, shell_complete=complete_folder)
@click.option(
    "--min-score",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SCORE",
    help="Do not redact entities with a lower score.",
)
@click.option(
    "--replacement",
    default="[{type}]",
    show_default=True,
    metavar="TEXT",
    help="The text that replaces an entity. {type} stands for its type.",
)
@service_options
@json_option
def redact(
    job_id: str, folder: Path, min_score: float, replacement: str, service: Service, as_json: bool
) -> int:
    """Write redacted copies of a job's notes.

    FOLDER is a local folder. Each copy has the path in FOLDER that its note has below the job's
    prefix.
    """
    require_writable("FOLDER", folder)
    undelivered = Undelivered(as_json=as_json)
    with service.client(clock=WatchedClock()) as client, reading(job_id, SAME_COMMAND):
        properties = client.describe_phi_detection_job(job_id)
        found = client.results(job_id)
        redacted = undelivered.all_but(found.redacted(min_score=min_score, replacement=replacement))
        number, problem = _write_copies(redacted, folder, properties, as_json=as_json)
        _print_unprocessed(found, as_json=as_json)
    if not as_json:
        emit(f"{amount(number, 'redacted copy is', 'redacted copies are')} in {folder}")
    undelivered.exit_if_any(problem)
    return _exit_code(found)


@app.command()
@click.argument("job_id")
@click.argument("file", callback=page, shell_complete=complete_file)
@service_options
@json_option
def review(job_id: str, file: Path, service: Service, as_json: bool) -> int:
    """Write a page for reviewing what a job found.

    FILE is a local HTML file. It contains the notes in full.
    """
    _require_page("FILE", file)
    undelivered = Undelivered()
    with service.client(clock=WatchedClock()) as client, reading(job_id, SAME_COMMAND):
        found = client.results(job_id)
        _write_page(file, found, job_id, undelivered)
        _print_unprocessed(found)
    if as_json:
        emit_json(
            {
                "job_id": job_id,
                "unprocessed": [unprocessed_members(each) for each in found.unprocessed],
                "failed": undelivered.members,
                "review": str(file),
            }
        )
    else:
        emit(f"The review page is {file}. It contains the notes in full.")
    undelivered.exit_if_any()
    return _exit_code(found)


# --- Shell completion -----------------------------------------------------------------------------


@app.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> int:
    """Print a script for shell completion.

    SHELL is bash, zsh or fish.
    """
    return shell_complete(app, {}, PROGRAM, COMPLETE_VARIABLE, f"{shell}_source")


# --- What commands share --------------------------------------------------------------------------


def _s3_request(
    source: str, destination: str, start: StartOptions, hint: str = ""
) -> StartPHIDetectionJobRequest:
    return start.request(
        s3_location(InputDataConfig, "SOURCE", source, hint),
        s3_location(OutputDataConfig, "DESTINATION", destination, hint),
    )


def _wait_policy(timeout: float | None, delay: float | None) -> WaitPolicy:
    if delay is None:
        return WaitPolicy(timeout=timeout)
    return WaitPolicy(delay=delay, max_delay=delay, multiplier=1.0, timeout=timeout)


def _wait(job: Job, policy: WaitPolicy, clock: WatchedClock) -> JobProperties:
    with Progress(clock) as progress:
        return job.wait(policy, on_poll=progress.on_poll, on_poll_error=progress.on_poll_error)


def _count(documents: Generator[Document, None, None]) -> tuple[int, Counter[str]]:
    """Return how many documents there are, and how many entities of each type they contain."""
    number = 0
    counts: Counter[str] = Counter()
    with closing(documents):
        for document in documents:
            number += 1
            counts.update(entity.type for entity in document.entities)
    return number, counts


def _write_copies(
    redacted: Generator[tuple[str, str], None, None],
    root: Path,
    job: JobProperties,
    *,
    as_json: bool = False,
) -> tuple[int, ResultsError | None]:
    """Write redacted copies, and with `as_json` print a line for each.

    Returns:
        How many were written, and the error that names the keys that were left out.
    """
    number = 0
    source = job.input_data_config
    prefix = source.s3_key or "" if source else ""
    with closing(redacted):
        folder = Folder(root, private=False)
        for key, text in redacted:
            # A folder marker, such as the S3 console creates, is empty and needs no copy.
            if key.endswith("/") and not text:
                continue
            path = folder.write(key, name_of_copy(key, prefix), text.encode())
            if path is not None:
                number += 1
                if as_json:
                    emit_json({"input_key": key, "path": str(path)})
    return number, folder.problem


def _require_page(argument: str, file: Path) -> None:
    """Raise `Exit` if the page for a reviewer cannot be written, so that no job is started."""
    require_writable(argument, file.parent)
    if not replaceable(file):
        raise Exit(USAGE, f"{argument} must be a new file or an existing regular file")
    try:
        from ..review import page as _  # noqa: F401 - imports what the page needs
    except ImportError as error:
        reason = str(error)
    else:
        return
    raise Exit(USAGE, reason)


def _write_page(file: Path, found: JobResults, job_id: str, undelivered: Undelivered) -> None:
    from ..review.page import render

    failed: dict[str, str] = {}
    html = render(
        undelivered.all_but(found.with_text(), failed),
        title=f"Job {job_id}",
        unprocessed=found.unprocessed,
        failed=failed,
    )
    write_private(file, html)


def _print_unprocessed(found: JobResults, *, as_json: bool = False) -> None:
    """Print to stderr which files were not processed, and with `as_json` to stdout as well."""
    for file in found.unprocessed:
        if as_json:
            emit_json({"unprocessed": unprocessed_members(file)})
        why = ": ".join(filter(None, (file.error_code, file.error_message)))
        inform(f"Not processed: {file.input_key}" + (f" ({why.rstrip('.')})" if why else ""))


def _exit_code(found: JobResults) -> int:
    ended_early = found.manifest.status in (JobStatus.FAILED, JobStatus.STOPPED)
    return PARTIAL if found.unprocessed or ended_early else DONE

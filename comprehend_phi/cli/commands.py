"""The commands. `comprehend-phi --help` says what they do.

A command returns its exit code or raises. `program.run` prints one line for what it raises.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import shell_complete

from .._jobs import WaitPolicy
from .._wording import amount
from ..errors import ResultsError, ServiceError, TransportError
from ..models import (
    InputDataConfig,
    JobFilter,
    JobStatus,
    OutputDataConfig,
    S3Location,
    StartPHIDetectionJobRequest,
)
from .checking import Preconditions, print_check
from .corpus_commands import abandon_plan, plan, run_plan
from .delivery import Delivery, path_of_copy, require_page, show_audit
from .exits import PROGRAM, Exit, ExitCode, exit_codes_help
from .files import require_places, require_separate, require_writable
from .group import Group
from .guidance import SAME_COMMAND, reading, submit, wait
from .local import LOCAL_POLL_SECONDS, at_local_service, local_folders
from .options import (
    DEFAULT_REPLACEMENT,
    DESTINATION_OF_COPIES,
    FOLDER_OF_COPIES,
    REVIEW_PAGE,
    TABLE,
    TEXT_FILE,
    Review,
    audit_option,
    check_options,
    complete_local_folder,
    complete_status,
    json_option,
    min_score_option,
    poll_seconds_option,
    price_option,
    replacement_options,
    review_options,
    s3_location,
    service_options,
    show_names_option,
    slot_timeout_option,
    start_options,
    timeout_option,
    utc_time,
)
from .output import (
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
from .program import COMPLETE_VARIABLE, run
from .progress import WatchedClock
from .tables import requested_table
from .targets import ServiceOptions, StartOptions, at_aws
from .texts import print_response, read_text

if TYPE_CHECKING:
    from .._client import PHIClient
    from .._replacements import Replacement


@click.group(cls=Group, epilog=exit_codes_help(ExitCode), invoke_without_command=True)
@click.version_option(package_name="comprehend_phi", message=f"{PROGRAM} %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """Find and redact protected health information with Amazon Comprehend Medical.

    Results go to stdout. Progress and messages go to stderr. Only `results --show-text` and the
    page of `review` show the detected text.
    """
    if context.invoked_subcommand is None:
        raise Exit(ExitCode.USAGE, "Missing command. Try --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run(app, sys.argv[1:] if arguments is None else arguments)


# --- Commands that start a job --------------------------------------------------------------------


@app.command(
    exit_codes=(
        ExitCode.PARTIAL,
        ExitCode.TIMED_OUT,
        ExitCode.INPUT_ERRORS,
        ExitCode.COSTS_MORE,
    )
)
@click.argument("source", shell_complete=complete_local_folder)
@click.argument("destination", shell_complete=complete_local_folder)
@start_options
@check_options
@click.option(
    "--local",
    is_flag=True,
    help="Use local folders and a local service instead of AWS. Its detector is a stand-in for"
    " tests and demos. Never use it on real notes.",
)
@click.option(
    "--redact",
    metavar="FOLDER",
    **FOLDER_OF_COPIES,
    help="Write redacted copies to this local folder.",
)
@click.option(
    "--review",
    metavar="FILE",
    **REVIEW_PAGE,
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
    preconditions: Preconditions,
    local: bool,
    redact: Path | None,
    review: Path | None,
    timeout: float | None,
    delay: float | None,
    slot_timeout: float,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Start a job, wait for it and count what it found.

    SOURCE is where the notes are, and DESTINATION is where the results go. Both are URIs such as
    s3://bucket/prefix, or folders with --local.
    """
    if redact is not None:
        require_writable("--redact", redact)
    if review is not None:
        require_page("--review", review)
    files = {"--redact": redact, "--review": review}
    require_separate(files)
    clock = WatchedClock()
    if local:
        if service != ServiceOptions():
            raise Exit(
                ExitCode.USAGE,
                "--local cannot be combined with --region, --profile or --endpoint-url",
            )
        if start.allow_overlap:
            raise Exit(ExitCode.USAGE, "--local cannot be combined with --allow-overlap")
        notes, folder = local_folders(source, destination, files)
        policy = _wait_policy(timeout, LOCAL_POLL_SECONDS if delay is None else delay)
        target = at_local_service(notes, folder, start, clock)
    else:
        request = _s3_request(source, destination, start, hint=", or a folder with --local")
        policy = _wait_policy(timeout, delay)
        target = at_aws(service, request, clock, slot_timeout)

    with target as opened:
        # The local service is new, so it has received no earlier request.
        maybe_sent = not local and start.client_request_token is not None
        preconditions.require(opened.client, opened.request, maybe_sent=maybe_sent)
        job = submit(opened.client, opened.request)
        properties = wait(job, policy, clock, opened.how_to_wait(job.job_id), as_json=as_json)
        with reading(job.job_id, opened.how_to_read(job.job_id)):
            results = job.results()
            delivery = Delivery(results)
            delivery.leave_out(opened.fetch())
            documents, counts = delivery.count()
            if redact is not None:
                delivery.write_copies(redact)
            if review is not None:
                delivery.write_page(review)
            if as_json:
                emit_json(
                    {
                        **job_members(properties),
                        "client_request_token": opened.request.client_request_token,
                        "destination": destination,
                        "document_count": documents,
                        "entity_counts": dict(counts.most_common()),
                        "unprocessed": [unprocessed_members(file) for file in results.unprocessed],
                        "failed": delivery.failed,
                        "redacted": None if redact is None else str(redact),
                        "review": None if review is None else str(review),
                    }
                )
            else:
                show_counts(documents, counts)
                show_unprocessed(results.unprocessed)
                if local:
                    emit(f"The job's output is in {destination}")
                if redact is not None:
                    emit(f"Redacted copies are in {redact}")
                if review is not None:
                    emit(f"The review page is {review}. It contains the notes in full.")
    return delivery.end()


@app.command("start", exit_codes=(ExitCode.INPUT_ERRORS, ExitCode.COSTS_MORE))
@click.argument("source")
@click.argument("destination")
@start_options
@check_options
@slot_timeout_option
@service_options
@json_option
def start_job(
    source: str,
    destination: str,
    start: StartOptions,
    preconditions: Preconditions,
    slot_timeout: float,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Start a job and print its id.

    SOURCE is where the notes are, and DESTINATION is where the results go. Both are URIs such as
    s3://bucket/prefix.
    """
    request = _s3_request(source, destination, start)
    with service.client(slot_timeout=slot_timeout) as client:
        preconditions.require(client, request, maybe_sent=start.client_request_token is not None)
        job_id = submit(client, request).job_id
    if as_json:
        emit_json({"job_id": job_id, "client_request_token": request.client_request_token})
    else:
        emit(job_id)
    return ExitCode.DONE


@app.command(
    "check",
    short_help="Check the notes of a job, and estimate its cost.",
    exit_codes=(ExitCode.INPUT_ERRORS,),
)
@click.argument("source")
@click.argument("destination", required=False)
@click.option(
    "--read",
    is_flag=True,
    help="Also download the notes, to check that they are UTF-8 and to count their characters.",
)
@price_option
@service_options
@json_option
def check_notes(
    source: str,
    destination: str | None,
    read: bool,
    price: Decimal | None,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Check the notes of a job before you pay for it, and estimate its cost.

    SOURCE is where the notes are, and DESTINATION is where the results would go. Both are URIs such
    as s3://bucket/prefix. Nothing is started, and nothing is written.
    """
    notes = s3_location(InputDataConfig, "SOURCE", source)
    results = destination and s3_location(OutputDataConfig, "DESTINATION", destination)
    with service.client() as client:
        return print_check(client, notes, results or None, read=read, price=price, as_json=as_json)


app.add_command(plan)
app.add_command(run_plan)
app.add_command(abandon_plan)

# --- A command without a job ----------------------------------------------------------------------


@app.command("detect-text")
@click.argument("file", default="-", **TEXT_FILE)
@click.option("--redact", is_flag=True, help="Print the redacted text.")
@replacement_options
@service_options
@json_option
def detect_text(
    file: Path,
    redact: bool,
    replacement: Replacement | None,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Detect PHI in one text at once, and count what was found.

    FILE is a local file in UTF-8. Without it, or with -, the text is read from standard input. No
    job is started. The service bills the text by its characters. The options that choose what
    replaces an entity imply --redact.
    """
    if redact and replacement is None:
        replacement = DEFAULT_REPLACEMENT
    text = read_text(file)
    with service.client() as client:
        response = client.detect_phi_in_document(text)
    print_response(text, response, replacement=replacement, as_json=as_json)
    return ExitCode.DONE


# --- Commands for a job's state -------------------------------------------------------------------


@app.command()
@click.argument("job_id")
@show_names_option
@service_options
@json_option
def status(job_id: str, show_names: bool, service: ServiceOptions, as_json: bool) -> int:
    """Show what the service knows about a job.

    The exit code is 0 whatever the job's state is.
    """
    with service.client() as client:
        properties = client.describe_phi_detection_job(job_id)
    if as_json:
        emit_json(job_members(properties, show_names=show_names))
    else:
        show_job(properties, show_names=show_names)
    return ExitCode.DONE


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
    callback=utc_time,
    help="Only jobs submitted before this time, oldest first.",
)
@click.option(
    "--after",
    "submit_time_after",
    metavar="TIME",
    callback=utc_time,
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
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """List the jobs of your account in the region.

    The service accepts one filter at a time. TIME is a date or a time such as 2031-02-03T04:05:06,
    in UTC unless it has an offset.
    """
    filters = {
        "--name": job_name,
        "--status": job_status,
        "--before": submit_time_before,
        "--after": submit_time_after,
    }
    given = [option for option, value in filters.items() if value is not None]
    if len(given) > 1:
        rule = "the service accepts one filter at a time"
        raise Exit(ExitCode.USAGE, f"{given[1]} cannot be combined with {given[0]}: {rule}")
    filter = JobFilter(
        job_name=job_name,
        job_status=None if job_status is None else JobStatus(job_status.upper()),
        submit_time_before=submit_time_before,
        submit_time_after=submit_time_after,
    )
    with service.client() as client:
        jobs = client.list_phi_detection_jobs(filter)
        if as_json:
            for job in jobs:
                emit_json(job_members(job, show_names=show_names))
        else:
            show_jobs(jobs, show_names=show_names)
    return ExitCode.DONE


@app.command("wait", exit_codes=(ExitCode.PARTIAL, ExitCode.TIMED_OUT))
@click.argument("job_id")
@timeout_option
@poll_seconds_option
@service_options
@json_option
def wait_for_job(
    job_id: str, timeout: float | None, delay: float | None, service: ServiceOptions, as_json: bool
) -> int:
    """Wait until a job has ended, and print how it ended.

    Then read the job's manifest, to find out whether files were not processed.
    """
    policy = _wait_policy(timeout, delay)
    clock = WatchedClock()
    with service.client(clock) as client:
        advice = service.how_to_wait(job_id)
        properties = wait(client.job(job_id), policy, clock, advice, as_json=as_json)
        if as_json:
            emit_json(job_members(properties))
        else:
            emit(str(properties.job_status))
        is_partial = properties.job_status is JobStatus.PARTIAL_SUCCESS
        return ExitCode.PARTIAL if is_partial or _skipped_files(client, job_id) else ExitCode.DONE


def _skipped_files(client: PHIClient, job_id: str) -> bool:
    """Return whether the service did not process all files of a job, as far as that is known."""
    try:
        return bool(client.results(job_id).unprocessed)
    except (ResultsError, ServiceError, TransportError) as error:
        inform(f"It is unknown whether all files were processed: {error}")
        return False


@app.command()
@click.argument("job_id")
@service_options
@json_option
def stop(job_id: str, service: ServiceOptions, as_json: bool) -> int:
    """Ask the service to stop a job.

    Use `wait` to see when the job has stopped.
    """
    with service.client() as client:
        stopped = client.stop_phi_detection_job(job_id)
    if as_json:
        emit_json({"job_id": stopped})
    else:
        emit(stopped)
    return ExitCode.DONE


# --- Commands for a job's results -----------------------------------------------------------------


@app.command("results", exit_codes=(ExitCode.PARTIAL,))
@click.argument("job_id")
@click.option("--show-text", is_flag=True, help="Show the detected text, which is PHI.")
@click.option(
    "--parquet",
    metavar="FILE",
    **TABLE,
    help="Write all entities to this Parquet file instead. It is local, or a URI such as"
    " s3://bucket/table.parquet.",
)
@click.option("--csv", metavar="FILE", **TABLE, help="The same, but as CSV.")
@click.option("--kms-key", metavar="KEY", help="The KMS key that encrypts the file on S3.")
@service_options
@json_option
def print_results(
    job_id: str,
    show_text: bool,
    parquet: Path | S3Location | None,
    csv: Path | S3Location | None,
    kms_key: str | None,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Print what a job found, as one JSON object per document.

    With --json, also print an object for each file that was not processed or could not be read.

    With --parquet or --csv, write a table with one row per entity. The file is complete or absent.
    Only with --show-text, it contains the detected text.
    """
    table = requested_table(parquet=parquet, csv=csv, kms_key=kms_key)
    with service.client() as client, reading(job_id, SAME_COMMAND):
        results = client.results(job_id)
        delivery = Delivery(results, as_json=as_json and table is None)
        if table is None:
            delivery.print_documents(show_text=show_text)
            delivery.print_unprocessed()
            return delivery.end()
        delivery.write_table(partial(table.write, client=client, include_text=show_text))
        delivery.print_unprocessed()
    if as_json:
        emit_json(
            {
                "job_id": job_id,
                "unprocessed": [unprocessed_members(each) for each in results.unprocessed],
                "failed": delivery.failed,
                "entities": delivery.rows,
                table.kind: None if delivery.rows is None else str(table),
            }
        )
    elif delivery.rows is not None:
        emit(f"{amount(delivery.rows, 'entity is', 'entities are')} in {table}")
    return delivery.end()


@app.command(exit_codes=(ExitCode.PARTIAL,))
@click.argument("job_id")
@click.argument("destination", metavar="FOLDER", **DESTINATION_OF_COPIES)
@click.option(
    "--kms-key",
    metavar="KEY",
    help="The KMS key that encrypts the copies and the audit file if FOLDER is on S3.",
)
@audit_option
@min_score_option
@replacement_options
@review_options
@service_options
@json_option
def redact(
    job_id: str,
    destination: Path | S3Location,
    kms_key: str | None,
    audit: Path | S3Location | None,
    min_score: float,
    replacement: Replacement | None,
    review: Review,
    service: ServiceOptions,
    as_json: bool,
) -> int:
    """Write redacted copies of a job's notes.

    FOLDER is a local folder or a URI such as s3://bucket/folder. Each copy has the path in FOLDER
    that its note has below the job's prefix. Copies of an earlier run are replaced in a local
    folder. On S3, nothing is replaced.
    """
    require_places("FOLDER", destination, audit)
    with service.client() as client, reading(job_id, SAME_COMMAND):
        delivery = Delivery(client.results(job_id), as_json=as_json)
        number = delivery.write_copies(
            destination,
            kms_key=kms_key,
            min_score=min_score,
            replacement=DEFAULT_REPLACEMENT if replacement is None else replacement,
            decisions=review.decisions,
            require_reviewed=review.required,
            audit=audit,
        )
        delivery.print_unprocessed()
    sha256 = delivery.audit_sha256
    if not as_json:
        copies = amount(number, "redacted copy is", "redacted copies are")
        emit(f"{copies} in {path_of_copy(destination)}")
        if audit is not None:
            show_audit(audit, sha256)
    elif audit is not None:
        emit_json({"audit": {"path": path_of_copy(audit), "sha256": sha256}})
    return delivery.end()


@app.command(exit_codes=(ExitCode.PARTIAL,))
@click.argument("job_id")
@click.argument("file", **REVIEW_PAGE)
@service_options
@json_option
def review(job_id: str, file: Path, service: ServiceOptions, as_json: bool) -> int:
    """Write a page for reviewing what a job found.

    FILE is a local HTML file. It contains the notes in full.
    """
    require_page("FILE", file)
    with service.client() as client, reading(job_id, SAME_COMMAND):
        results = client.results(job_id)
        delivery = Delivery(results)
        delivery.write_page(file)
        delivery.print_unprocessed()
    if as_json:
        emit_json(
            {
                "job_id": job_id,
                "unprocessed": [unprocessed_members(each) for each in results.unprocessed],
                "failed": delivery.failed,
                "review": str(file),
            }
        )
    else:
        emit(f"The review page is {file}. It contains the notes in full.")
    return delivery.end()


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

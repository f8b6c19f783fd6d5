"""The public API as type checkers see it. This file is checked, never run.

Correct uses assert their types. Wrong uses have an ignore comment for the error that a type checker
must report, and both checkers report a comment that ignores nothing.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import attrs
import pyarrow

import comprehend_phi
from comprehend_phi import (
    ActiveJobLimitExceeded,
    AsyncJob,
    AsyncJobResults,
    AsyncPHIClient,
    ComprehendPHIError,
    DetectPHIResponse,
    Document,
    Entity,
    EntityType,
    InputDataConfig,
    Job,
    JobError,
    JobFilter,
    JobProperties,
    JobResults,
    JobStatus,
    Manifest,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    RetryPolicy,
    S3Location,
    ServiceError,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    TransportError,
    UnprocessedFile,
    WaitPolicy,
    WaitTimeout,
    pseudonyms,
    redact,
    request_token,
    same_length,
)
from comprehend_phi.corpus import (
    CostEstimate,
    IncompleteRunError,
    InputProblem,
    InputReport,
    JobOutcome,
    JobPlan,
    PlannedJob,
    ProblemCode,
    RunSummary,
    ServiceLimits,
    abandon,
    check_input,
    check_input_async,
    check_objects,
    plan_jobs,
    plan_keys,
    run_jobs,
)
from comprehend_phi.review import Decisions
from comprehend_phi.tables import entity_batches, write_csv, write_parquet
from comprehend_phi.testing import FakeClock

ROLE = "arn:aws:iam::123456789012:role/reads-notes"
SOURCE = InputDataConfig(s3_bucket="notes.example", s3_key="in")
TARGET = OutputDataConfig(s3_bucket="results.example")
REQUEST = StartPHIDetectionJobRequest(
    input_data_config=SOURCE,
    output_data_config=TARGET,
    data_access_role_arn=ROLE,
    language_code="en",
    job_name="monday",
    kms_key="alias/notes",
    client_request_token="token-1",
)


def takes_a_string(_: str) -> None: ...


def takes_a_timeout(_: TimeoutError) -> None: ...


def takes_an_exception(_: Exception) -> None: ...


# --- Right uses -----------------------------------------------------------------------------------


def requests() -> None:
    assert_type(SOURCE.s3_bucket, str)
    assert_type(SOURCE.s3_key, "str | None")
    assert_type(InputDataConfig.from_uri("s3://notes.example"), InputDataConfig)
    assert_type(OutputDataConfig.from_uri("s3://results.example/out"), OutputDataConfig)
    assert_type(TARGET.uri, str)
    assert_type(S3Location("copies.example", "2031").key, "str | None")
    assert_type(S3Location.from_uri("s3://copies.example/2031"), S3Location)
    assert_type(S3Location(bucket="copies.example").uri, str)
    assert_type(REQUEST.input_data_config, InputDataConfig)
    assert_type(REQUEST.output_data_config, OutputDataConfig)
    assert_type(REQUEST.job_name, "str | None")
    assert_type(REQUEST.client_request_token, str)
    assert_type(request_token("nightly", "2031-02-01"), str)
    assert_type(REQUEST.to_dict(), dict[str, Any])
    assert_type(StartPHIDetectionJobRequest.from_dict({}), StartPHIDetectionJobRequest)
    assert_type(attrs.evolve(REQUEST, job_name=None), StartPHIDetectionJobRequest)
    JobFilter(job_status=JobStatus.FAILED)


def clients() -> None:
    with PHIClient(region_name="us-east-1", retry=RetryPolicy(max_attempts=1)) as client:
        assert_type(client, PHIClient)
        assert_type(client.start_phi_detection_job(REQUEST), StartPHIDetectionJobResponse)
        assert_type(client.start_phi_detection_job(REQUEST).job_id, str)
        assert_type(client.describe_phi_detection_job("0"), JobProperties)
        assert_type(client.list_phi_detection_jobs(), Iterator[JobProperties])
        assert_type(
            client.list_phi_detection_jobs(JobFilter(), page_size=7), Iterator[JobProperties]
        )
        assert_type(next(client.list_phi_detection_jobs(filter=JobFilter())), JobProperties)
        assert_type(client.stop_phi_detection_job("0"), str)
        assert_type(client.submit(REQUEST), Job)
        assert_type(client.find_or_submit(REQUEST), Job)
        assert_type(client.job("0"), Job)
        assert_type(client.results_at(S3Location("results.example", "job")), JobResults)
        assert_type(client.detect_phi("text"), DetectPHIResponse)
        assert_type(client.detect_phi_in_document("text", overlap=0).entities, tuple[Entity, ...])
    PHIClient(clock=FakeClock())


async def checks(client: PHIClient, async_client: AsyncPHIClient) -> None:
    limits = ServiceLimits(max_file_bytes=40_960, starts_per_second=2)

    def note(problem: InputProblem) -> None:
        assert_type(problem.code, ProblemCode)
        assert_type(problem.key, "str | None")

    report = check_input(client, REQUEST, read_notes=True, limits=limits, on_problem=note)
    assert_type(report, InputReport)
    assert_type(await check_input_async(async_client, REQUEST, on_progress=print), InputReport)
    assert_type(check_objects(iter([("in/note.txt", 3_500)]), REQUEST), InputReport)
    assert_type(report.problems, tuple[InputProblem, ...])
    assert_type(report.problem_counts["TOO_LARGE"], int)
    assert_type(report.problem_counts[ProblemCode.TOO_LARGE], int)
    assert_type(report.estimate_cost(0.001), CostEstimate)
    assert_type(report.estimate_cost().maximum, Decimal)
    report.raise_for_problems(ignore={ProblemCode.EMPTY, "NO_FILES"})


def plans(client: PHIClient, unprocessed: list[UnprocessedFile]) -> None:
    staging = S3Location("staging.example")
    plan = plan_jobs(client, REQUEST, name="monday", staging=staging, max_jobs=50)
    assert_type(plan, JobPlan)
    assert_type(plan.jobs, tuple[PlannedJob, ...])
    assert_type(plan.jobs[0].request, StartPHIDetectionJobRequest)
    assert_type(JobPlan.from_json(plan.to_json()), JobPlan)
    skipped = (file.input_key for file in unprocessed)
    again = plan_keys(client, REQUEST, skipped, name="again", staging=staging)
    assert_type(again.keys, "tuple[str, ...] | None")


def runs(client: PHIClient, plan: JobPlan) -> None:
    messages: list[str | None] = []

    def note(outcome: JobOutcome) -> None:
        messages.append(outcome.message)

    summary = run_jobs(client, plan, "monday.ledger", max_cost=500, on_change=note)
    assert_type(summary, RunSummary)
    assert_type(summary.jobs, tuple[JobOutcome, ...])
    assert_type(summary.jobs[0].status, JobStatus | None)
    assert_type(abandon(client, plan, Path("monday.ledger")), RunSummary)
    try:
        run_jobs(client, plan, "monday.ledger", wait=WaitPolicy(timeout=60))
    except IncompleteRunError as error:
        assert_type(error.summary, RunSummary)


def jobs(job: Job) -> None:
    seen: list[JobStatus] = []

    def note(properties: JobProperties) -> None:
        seen.append(properties.job_status)

    assert_type(job.job_id, str)
    assert_type(job.properties(), JobProperties)
    assert_type(job.stop(), str)
    assert_type(job.wait(), JobProperties)
    assert_type(job.wait(WaitPolicy(timeout=None), note), JobProperties)
    assert_type(job.wait(timeout=60), JobProperties)
    assert_type(job.wait(WaitPolicy(delay=1), timeout=None), JobProperties)
    # The callback may return anything.
    job.wait(on_poll=lambda properties: properties.job_status.is_terminal)
    job.wait(on_poll=print)


async def asynchronous_clients() -> None:
    async with AsyncPHIClient(region_name="us-east-1", retry=RetryPolicy()) as client:
        assert_type(client, AsyncPHIClient)
        assert_type(await client.start_phi_detection_job(REQUEST), StartPHIDetectionJobResponse)
        assert_type(await client.describe_phi_detection_job("0"), JobProperties)
        assert_type([job async for job in client.list_phi_detection_jobs()], list[JobProperties])
        assert_type(await client.stop_phi_detection_job("0"), str)
        assert_type(await client.submit(REQUEST), AsyncJob)
        assert_type(await client.find_or_submit(REQUEST), AsyncJob)
        assert_type(client.job("0"), AsyncJob)
        await client.close()


async def asynchronous_jobs(job: AsyncJob) -> None:
    async def note(properties: JobProperties) -> None: ...

    assert_type(await job.properties(), JobProperties)
    assert_type(await job.stop(), str)
    assert_type(await job.wait(WaitPolicy(timeout=None), print), JobProperties)
    assert_type(await job.wait(timeout=60.5), JobProperties)
    await job.wait(on_poll=note)
    results = await job.results()
    assert_type(results, AsyncJobResults)
    assert_type(results.job, JobProperties)
    assert_type(results.manifest, Manifest)
    assert_type(results.unprocessed, tuple[UnprocessedFile, ...])
    assert_type([document async for document in results], list[Document])
    assert_type([pair async for pair in results.redacted()], list[tuple[str, str]])
    assert_type([pair async for pair in results.with_text()], list[tuple[Document, str]])
    async with aclosing(results.__aiter__()) as documents:  # ends the fetching
        assert_type(await documents.__anext__(), Document)


def properties(job: JobProperties) -> None:
    assert_type(job.job_id, str)
    assert_type(job.job_status, JobStatus)
    assert_type(job.job_status.is_terminal, bool)
    assert_type(job.message, "str | None")
    assert_type(job.submit_time, "datetime | None")
    assert_type(job.input_data_config, "InputDataConfig | None")
    # A state is a string and equals its value.
    assert_type(job.job_status == "COMPLETED", bool)
    assert_type(job.job_status == JobStatus.COMPLETED, bool)
    assert_type(job.job_status is JobStatus.COMPLETED, bool)
    takes_a_string(job.job_status)


def results(job: Job) -> None:
    found = job.results()
    assert_type(found, JobResults)
    assert_type(found.job, JobProperties)
    assert_type(found.manifest, Manifest)
    assert_type(found.unprocessed, tuple[UnprocessedFile, ...])
    assert_type(found.part(0, 4), JobResults)
    for document in found:
        assert_type(document, Document)
        for entity in document.entities:
            assert_type(entity, Entity)
            assert_type(entity.type, str)
            assert_type(entity.type == EntityType.NAME, bool)
            takes_a_string(EntityType.NAME)
        assert_type(redact("text", document.entities), str)
        redact("text", document.entities, replacement=lambda entity: entity.type)
    for document, text in found.with_text():
        assert_type((document, text), tuple[Document, str])
    with closing(iter(found)) as documents:  # ends the fetching
        assert_type(next(documents), Document)
    found.redacted().close()
    found.redacted(replacement=same_length("#")).close()
    decisions = Decisions.load("decisions.json")
    assert_type(decisions, Decisions)
    found.redacted(decisions=decisions, require_reviewed=True).close()
    found.with_text(decisions=decisions).close()
    found.redacted(replacement=pseudonyms(b"sixteen bytes...", digits=20)).close()


def tables(found: JobResults) -> None:
    assert_type(entity_batches(found, batch_rows=1_000), pyarrow.RecordBatchReader)
    assert_type(write_parquet(found.part(0, 4), "entities.parquet", include_text=True), int)
    assert_type(write_csv(iter(found), Path("entities.csv")), int)


def failures(client: PHIClient) -> None:
    try:
        client.submit(REQUEST).wait()
    except RequestValidationError as error:
        assert_type((error.field, error.reason), tuple[str, str])
    except ActiveJobLimitExceeded as error:
        assert_type(error.retry_after, "float | None")
    except ServiceError as error:
        assert_type((error.code, error.retryable), tuple[str, bool])
        assert_type(error.request_id, "str | None")
    except TransportError as error:
        assert_type((error.outcome_unknown, error.attempts), tuple[bool, int])
        assert_type(error.client_request_token, "str | None")
    except WaitTimeout as error:
        takes_a_timeout(error)
    except JobError as error:
        assert_type(error.job, JobProperties)
    except ComprehendPHIError as error:
        takes_an_exception(error)


def version() -> None:
    assert_type(comprehend_phi.__version__, str)


# --- Wrong uses -----------------------------------------------------------------------------------

# Every line with an ignore comment is a mistake that a user could make. The comment is the test: if
# it ignores nothing, mypy (warn_unused_ignores) and pyright (reportUnnecessaryTypeIgnoreComment)
# report the comment, because they would not report the mistake to a user.


def positional_arguments() -> None:
    """Arguments are keyword-only, because two strings in the wrong order would be a wrong job."""
    InputDataConfig("notes.example")  # type: ignore[call-arg]  # s3_bucket= is wanted
    OutputDataConfig("notes.example")  # type: ignore[call-arg]  # s3_bucket= is wanted
    StartPHIDetectionJobRequest(SOURCE, TARGET, ROLE)  # type: ignore[call-arg]  # each member by its name
    JobFilter("monday")  # type: ignore[call-arg]  # job_name= is wanted
    RetryPolicy(3)  # type: ignore[call-arg]  # max_attempts= is wanted
    WaitPolicy(10.0)  # type: ignore[call-arg]  # delay= is wanted
    PHIClient("us-east-1")  # type: ignore[call-arg]  # region_name= is wanted


def missing_members() -> None:
    """Required members have no default."""
    InputDataConfig()  # type: ignore[call-arg]  # no bucket
    InputDataConfig(s3_key="in")  # type: ignore[call-arg]  # no bucket
    StartPHIDetectionJobRequest(  # type: ignore[call-arg]  # no role
        input_data_config=SOURCE, output_data_config=TARGET
    )


def misspelt_members() -> None:
    """Unknown members and options."""
    InputDataConfig(s3_bucket="notes.example", s3key="in")  # type: ignore[call-arg]  # s3_key
    JobFilter(status=JobStatus.FAILED)  # type: ignore[call-arg]  # job_status
    RetryPolicy(max_attempt=3)  # type: ignore[call-arg]  # max_attempts
    WaitPolicy(time_out=3.0)  # type: ignore[call-arg]  # timeout
    _ = REQUEST.jobname  # type: ignore[attr-defined]  # job_name


def assignments(job: JobProperties, policy: RetryPolicy) -> None:
    """A checked object cannot change. `attrs.evolve` makes a changed copy."""
    SOURCE.s3_key = "out"  # type: ignore[misc]  # frozen
    REQUEST.job_name = "tuesday"  # type: ignore[misc]  # frozen
    REQUEST.client_request_token = "token-2"  # type: ignore[misc]  # frozen, the token above all
    job.job_status = JobStatus.FAILED  # type: ignore[misc]  # frozen, as answers are
    policy.max_attempts = 3  # type: ignore[misc]  # frozen


def misspelt_names() -> None:
    """The package loads names lazily, but type checkers still report names that do not exist."""
    _ = comprehend_phi.PHICleint  # type: ignore[attr-defined]  # PHIClient
    _ = EntityType.PHONE  # type: ignore[attr-defined]  # PHONE_OR_FAX
    _ = JobStatus.COMPLETE  # type: ignore[attr-defined]  # COMPLETED
    _ = comprehend_phi.JobStatus.DONE  # type: ignore[attr-defined]  # COMPLETED


def wrong_types(client: PHIClient, job: Job) -> None:
    """Type checkers report arguments that would be rejected at run time."""
    InputDataConfig(s3_bucket=None)  # type: ignore[arg-type]  # required
    InputDataConfig(s3_bucket=b"notes.example")  # type: ignore[arg-type]  # bytes
    StartPHIDetectionJobRequest(
        input_data_config=TARGET,  # type: ignore[arg-type]  # where output goes
        output_data_config={"S3Bucket": "notes.example"},  # type: ignore[arg-type]  # a dict
        data_access_role_arn=ROLE,
        language_code=1,  # type: ignore[arg-type]  # an int
    )
    StartPHIDetectionJobRequest.from_dict("{}")  # type: ignore[arg-type]  # json.loads is missing
    InputDataConfig.from_uri(b"s3://notes.example")  # type: ignore[arg-type]  # bytes
    S3Location(None)  # type: ignore[arg-type]  # no bucket
    request_token("nightly", 7)  # type: ignore[arg-type]  # an int
    Entity.from_dict([("Id", 0)])  # type: ignore[arg-type]  # a list
    JobFilter(job_status="FAILED")  # type: ignore[arg-type]  # not the enum
    JobFilter(submit_time_after="today")  # type: ignore[arg-type]  # not a datetime
    RetryPolicy(max_attempts=1.5)  # type: ignore[arg-type]  # a float
    RetryPolicy(slot_timeout=None)  # type: ignore[arg-type]  # 0 means not at all
    client.describe_phi_detection_job(7)  # type: ignore[arg-type]  # an int
    client.submit({"JobName": "monday"})  # type: ignore[arg-type]  # a dict
    client.list_phi_detection_jobs(JobFilter(), 100)  # type: ignore[call-arg]  # page_size= is wanted
    client.list_phi_detection_jobs("monday")  # type: ignore[arg-type]  # not a JobFilter
    len(client.list_phi_detection_jobs())  # type: ignore[arg-type]  # an iterator
    job.wait(30.0)  # type: ignore[arg-type]  # timeout=30.0
    job.wait(timeout="30")  # type: ignore[arg-type]  # a string
    PHIClient(clock=datetime)  # type: ignore[arg-type]  # no clock
    check_objects(["in/note.txt"], REQUEST)  # type: ignore[list-item]  # no sizes
    write_parquet([Entity], "entities.parquet")  # type: ignore[list-item]  # not a document
    plan_jobs(client, REQUEST, name="monday", staging="s3://b/k")  # type: ignore[arg-type]  # no S3Location
    run_jobs(client, plan_jobs, "ledger")  # type: ignore[arg-type]  # not a plan
    plan_keys(client, REQUEST, [], name="monday")  # type: ignore[call-arg]  # no staging


def wrong_callbacks(job: Job) -> None:
    """A callback gets the properties of the job."""

    def takes_a_state(status: JobStatus) -> None: ...

    def takes_nothing() -> None: ...

    job.wait(on_poll=takes_a_state)  # type: ignore[arg-type]  # takes the properties
    job.wait(on_poll=takes_nothing)  # type: ignore[arg-type]  # takes one argument


def what_may_be_absent(job: JobProperties) -> None:
    """The service may leave members out of its responses."""
    job.message.upper()  # type: ignore[union-attr]  # None unless it failed
    _ = job.output_data_config.s3_key  # type: ignore[union-attr]  # None in some answers

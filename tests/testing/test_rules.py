"""The promises of this package under every rule that nobody outside AWS knows.

Each test takes the SDK through one of its main flows under every alternative. No promise depends on
a rule, except that a repeated start needs a token that the service still remembers and answers.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, get_args, get_type_hints

import attrs
import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    IncompleteResultsError,
    InputDataConfig,
    InvalidRequestException,
    Job,
    JobFilter,
    JobStatus,
    JobStopped,
    OutputDataConfig,
    PHIClient,
    ResourceNotFoundException,
    RetryPolicy,
    ServiceError,
    StartPHIDetectionJobRequest,
    TransportError,
)
from comprehend_phi.testing import FakeClock, Limits, LocalServer, Rules, faults

from ..conftest import ROLE, START

KEY = "arn:aws:kms:us-east-1:123456789012:alias/results"


def values() -> dict[str, tuple[Any, ...]]:
    """Return all values of each rule, the default first."""
    options = {name: get_args(hint) for name, hint in get_type_hints(Rules).items()}
    return {**options, "list_name": ("files", "part-00000.json")}


# The reader cannot find the results of a job under these combinations, and says so.
UNREADABLE: list[dict[str, Any]] = [
    {"output_folder": "appended", "described_output_key": "requested"},
    {"output_folder": "appended", "list_locations": "absent"},
    {"final_slash": "kept", "described_output_key": "requested"},
]

# These rules decide what is read in unusual files and how unusual starts end. The flows have
# neither, so one run has all of these alternatives.
UNUSUAL = (
    "missing_role",
    "missing_bucket",
    "kms_key_forms",
    "empty_location",
    "failure_messages",
    "folder_markers",
    "empty_files",
    "not_utf8",
    "nul_characters",
    "byte_order_marks",
    "line_ends",
    "offsets",
    "json_files",
    "metered_characters",
)


def alternatives() -> list[Rules]:
    """Return the default rules, each single alternative, and some mixtures."""
    changes: list[dict[str, Any]] = [
        {},
        {name: values()[name][1] for name in UNUSUAL},
        *(
            {name: value}
            for name, options in values().items()
            if name not in UNUSUAL
            for value in options[1:]
        ),
    ]
    draw = random.Random(17)
    while len(changes) < 30:
        mixture = {name: draw.choice(options) for name, options in values().items()}
        if not any(mixture.items() >= unreadable.items() for unreadable in UNREADABLE):
            changes.append(mixture)
    return [Rules(**change) for change in changes]


def name_of(rules: Rules) -> str:
    changes = {
        field.name: value
        for field in attrs.fields(Rules)
        if (value := getattr(rules, field.name)) != field.default
    }
    if len(changes) > 1:
        return ""
    return " ".join(f"{name}={value}" for name, value in changes.items()) or "default"


every_rule = pytest.mark.parametrize("rules", alternatives(), ids=name_of)

NOTES = {
    "notes/a.txt": b"Patient: Ada Example",
    "notes/ward/b.txt": b"Phone: (555) 555-0142",
    "notes/bad.txt": b"x" * 201,
}
REDACTED = {"notes/a.txt": "Patient: [NAME]", "notes/ward/b.txt": "Phone: [PHONE_OR_FAX]"}


@cache
def session() -> Any:
    """Return a session that loads boto3's models only once for all tests."""
    return boto3.Session("testing", "testing", region_name="us-east-1")


@contextmanager
def serving(
    rules: Rules, clock: FakeClock, *, job_seconds: float = 20, **limits: Any
) -> Generator[tuple[LocalServer, Any], None, None]:
    """Run a server with notes, and yield it and a function that builds clients for it.

    A wait polls a job of 20 seconds three times: it is submitted, in progress, and at its end.
    """
    config = Config(retries={"total_max_attempts": 1})
    account = Limits(file_bytes=200, **limits)
    with LocalServer(clock=clock, job_seconds=job_seconds, rules=rules, limits=account) as server:
        for bucket in ("bucket", "out"):
            server.storage.create_bucket(bucket)
        for key, body in NOTES.items():
            server.storage.write("bucket", key, body)
        s3 = session().client("s3", endpoint_url=server.endpoint_url, config=config)
        clients: list[PHIClient] = []

        def connect(**options: Any) -> PHIClient:
            client = PHIClient(
                session=session(),
                endpoint_url=server.endpoint_url,
                clock=clock,
                s3_client=s3,
                **options,
            )
            clients.append(client)
            return client

        yield server, connect
        for client in clients:
            client.close()
        s3.close()


def request(
    source: str | None = "notes", target: str | None = "results", **members: Any
) -> StartPHIDetectionJobRequest:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="bucket", s3_key=source),
        output_data_config=OutputDataConfig(s3_bucket="out", s3_key=target),
        data_access_role_arn=ROLE,
        kms_key=KEY,
        **members,
    )


def redacted(job: Job) -> dict[str, str]:
    """Return the redacted notes of a job that ends."""
    job.wait()
    return dict(job.results().redacted())


@every_rule
def test_every_file_is_redacted_or_reported(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (_, connect):
        job = connect().submit(request())
        assert redacted(job) == REDACTED
        results = job.results()
        assert {document.input_key for document in results} == set(REDACTED)
        assert [file.input_key for file in results.unprocessed] == ["notes/bad.txt"]
        assert job.properties().job_status is JobStatus.PARTIAL_SUCCESS


SOURCES: dict[str | None, dict[str, str]] = {
    "notes/": REDACTED,
    "notes/ward": {"notes/ward/b.txt": "Phone: [PHONE_OR_FAX]"},
    "notes/a.txt": {"notes/a.txt": "Patient: [NAME]"},
    None: REDACTED,
}


@every_rule
def test_locations_may_have_any_form(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (_, connect):
        client = connect()
        for source, texts in SOURCES.items():
            for target in (None, "results/", "deep/er/results"):
                assert redacted(client.submit(request(source, target))) == texts


@every_rule
@pytest.mark.parametrize(
    "fault",
    [faults.reset_after(), faults.cut(), faults.empty_map(), faults.server_error(works=True)],
)
def test_a_start_whose_response_was_lost_is_not_repeated(
    rules: Rules, clock: FakeClock, fault: faults.Fault
) -> None:
    with serving(rules, clock) as (server, connect):
        server.service.script(fault, operation=START)
        lost = request()
        with pytest.raises(
            (ServiceError, TransportError), match=lost.client_request_token
        ) as failure:
            connect(retry=RetryPolicy(max_attempts=1)).submit(lost)
        assert failure.value.outcome_unknown
        # Another process resumes with the same request.
        again = StartPHIDetectionJobRequest.from_dict(lost.to_dict())
        if rules.same_parameters == "refused":
            with pytest.raises(InvalidRequestException):
                connect().submit(again)
            (job_id,) = server.service.job_ids
            job = connect().job(job_id)
        else:
            job = connect().submit(again)
        assert server.service.job_ids == (job.job_id,)
        assert redacted(job) == REDACTED


@every_rule
def test_retries_start_one_job(rules: Rules, clock: FakeClock) -> None:
    # The service may forget the token when the job ends, so the job runs longer than the retries.
    with serving(rules, clock, job_seconds=300) as (server, connect):
        server.service.script(
            faults.job_limit(), faults.throttle(), faults.reset_after(), faults.cut()
        )
        client = connect(retry=RetryPolicy(slot_timeout=600))
        if rules.same_parameters == "refused":
            with pytest.raises(InvalidRequestException) as refusal:
                client.submit(request())
            assert refusal.value.outcome_unknown
            assert len(server.service.job_ids) == 1
        else:
            assert (client.submit(request()).job_id,) == server.service.job_ids


@every_rule
def test_a_token_never_starts_a_second_job_while_the_first_one_runs(
    rules: Rules, clock: FakeClock
) -> None:
    with serving(rules, clock) as (server, connect):
        client, first = connect(), request()
        job = client.submit(first)
        changed = request(job_name="other", client_request_token=first.client_request_token)
        try:
            again = client.submit(changed)
        except InvalidRequestException:
            pass
        else:
            assert again.job_id == job.job_id
        assert server.service.job_ids == (job.job_id,)


@pytest.mark.parametrize(
    ("rules", "jobs"),
    [(Rules(), 1), (Rules(remember_tokens="until-job-ends"), 2)],
    ids=["remembered", "forgotten"],
)
def test_only_a_token_that_the_service_remembers_prevents_a_second_job(
    rules: Rules, jobs: int, clock: FakeClock
) -> None:
    # The one promise that depends on a rule: nobody outside AWS knows how long tokens are valid.
    # The job can still be found by its name.
    with serving(rules, clock) as (server, connect):
        client, start = connect(), request(job_name="nightly-2031-02")
        client.submit(start).wait()
        (found,) = client.list_phi_detection_jobs(JobFilter(job_name="nightly-2031-02"))
        assert server.service.job_ids == (found.job_id,)
        client.submit(start)
        assert len(server.service.job_ids) == jobs


@every_rule
def test_a_list_contains_each_job_once(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (_, connect):
        client = connect()
        ids: list[str] = []
        for number in range(5):
            ids.append(client.submit(request(job_name=f"job-{number}")).job_id)
            clock.sleep(1)
        for page_size in (1, 2, 100):
            listed = client.list_phi_detection_jobs(page_size=page_size)
            assert sorted(job.job_id for job in listed) == sorted(ids)
        named = client.list_phi_detection_jobs(JobFilter(job_name="job-3"))
        assert [job.job_id for job in named] == [ids[3]]


@every_rule
def test_a_start_waits_for_a_slot(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock, active_jobs=1) as (server, connect):
        client = connect(retry=RetryPolicy(slot_timeout=600))
        jobs = [client.submit(request()) for _ in range(2)]
        assert server.service.job_ids == tuple(job.job_id for job in jobs)
        assert [redacted(job) for job in jobs] == [REDACTED, REDACTED]


@every_rule
def test_a_stopped_job_raises_and_a_second_stop_does_no_harm(
    rules: Rules, clock: FakeClock
) -> None:
    with serving(rules, clock) as (_, connect):
        job = connect().submit(request())
        job.stop()
        stop(job)
        with pytest.raises(JobStopped):
            job.wait()
        stop(job)
        assert job.properties().job_status is JobStatus.STOPPED


@every_rule
def test_stopping_a_completed_job_changes_nothing(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (_, connect):
        job = connect().submit(request("notes/ward"))
        job.wait()
        stop(job)
        assert job.properties().job_status is JobStatus.COMPLETED


def stop(job: Job) -> None:
    with suppress(InvalidRequestException):
        job.stop()


@every_rule
def test_an_unknown_job_is_not_found(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (_, connect), pytest.raises(ResourceNotFoundException):
        connect().job("0" * 32).wait()


@every_rule
def test_a_sibling_folder_never_replaces_or_hides_a_note(rules: Rules, clock: FakeClock) -> None:
    with serving(rules, clock) as (server, connect):
        server.storage.write("bucket", "notes-old/a.txt", b"Patient: Grace Sample")
        job = connect().submit(request())
        job.wait()
        results = job.results()
        texts: dict[str, str] = {}
        failed: set[str] = set()
        try:
            texts.update(results.redacted())
        except IncompleteResultsError as error:
            failed = set(error.failed)
        unprocessed = {file.input_key for file in results.unprocessed}
        of_notes = {key: text for key, text in texts.items() if key in NOTES}
        assert of_notes == REDACTED
        assert unprocessed == {"notes/bad.txt"}
        # Under prefix matching, the job also read the sibling: redacted or reported, never lost.
        others = len(texts) - len(of_notes) + len(failed)
        assert others == (rules.input_key == "prefix")


def test_there_are_alternatives_for_every_rule() -> None:
    for name, options in values().items():
        assert options[0] == getattr(Rules(), name)
        assert len(options) > 1


@pytest.mark.parametrize("name", values())
def test_an_unknown_value_of_a_rule_is_refused(name: str) -> None:
    wrong: dict[str, Any] = {name: ""}
    with pytest.raises(ValueError, match=name):
        Rules(**wrong)

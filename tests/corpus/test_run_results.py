"""Reading the results of all jobs of a plan, from the local service."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import pytest

from comprehend_phi import (
    Entity,
    ExpiredTokenException,
    IncompleteResultsError,
    JobStatus,
    LostManifestError,
    MissingBucketError,
    PHIClient,
    RequestValidationError,
    ResultsError,
    S3Location,
    SourceChangedError,
    StartPHIDetectionJobRequest,
    TransportError,
    UnreadableObjectError,
)
from comprehend_phi.corpus import (
    IncompleteCopiesError,
    JobOutcome,
    JobPlan,
    PlannedJob,
    RunResults,
    RunSummary,
    ServiceLimits,
    plan_jobs,
    write_copies,
)
from comprehend_phi.corpus.plan import staged_key
from comprehend_phi.corpus.run_results import skipped_files
from comprehend_phi.corpus.staging import Staging
from comprehend_phi.review import Decisions, DocumentDecisions
from comprehend_phi.testing import FakeClock, LocalServer

from ..conftest import CANARY
from ..s3_server import S3Fault, S3Request, S3Server, refused
from .conftest import Put

LIMITS = ServiceLimits(max_job_files=3)
STAGED = "staged-notes"
NOTE = f"Patient: {CANARY}, seen today"
REDACTED = "Patient: [NAME], seen today"
KEYS = [f"notes/{number}/a b+%é" for number in range(5)]


@pytest.fixture
def client(make_client: Callable[..., PHIClient], s3_server: S3Server, s3: Any) -> PHIClient:
    s3.create_bucket(Bucket=STAGED)
    return make_client()


class Program:
    """Plans and runs the jobs of a corpus.

    Attributes:
        plan: the plan of the notes; two staged jobs, or five folders.
        outcomes: what became of the jobs.
    """

    def __init__(
        self,
        client: PHIClient,
        request: StartPHIDetectionJobRequest,
        clock: FakeClock,
        *,
        staged: bool,
        limits: ServiceLimits = LIMITS,
    ) -> None:
        self.client = client
        self.clock = clock
        staging = S3Location(STAGED, "work") if staged else None
        self.plan: JobPlan = plan_jobs(
            client, request, name="monday", staging=staging, limits=limits
        )
        self.staging = Staging(client, self.plan)
        self.outcomes: list[JobOutcome] = []

    def run(self, *, deletes_copies: bool = True) -> RunResults:
        """Run all jobs, and return their results."""
        for job in self.plan.jobs:
            self.staging.copy(job)
            self.clock.sleep(10)
            self.outcomes.append(self.run_job(job))
            if deletes_copies:
                self.staging.delete(job)
        self.clock.sleep(10)
        return self.results()

    def run_job(self, job: PlannedJob) -> JobOutcome:
        """Run one job without copying its notes."""
        started = self.client.submit(job.request)
        return JobOutcome(planned=job, job_id=started.job_id, status=started.wait().job_status)

    def results(self, **changes: Any) -> RunResults:
        """Return the results, with changes to what became of the first job."""
        first, *others = self.outcomes
        jobs = (attrs.evolve(first, **changes), *others)
        return RunSummary(plan=self.plan, jobs=jobs).results(self.client)


@pytest.fixture
def program(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    clock: FakeClock,
    put: Put,
) -> Callable[..., Program]:
    """Return a program for `KEYS`, in jobs that are staged or not."""

    def program(*, staged: bool = True) -> Program:
        put(*KEYS, body=NOTE)
        return Program(client, request_, clock, staged=staged)

    return program


@pytest.fixture
def ran(program: Callable[..., Program]) -> Program:
    """A program whose two staged jobs have ended."""
    ran = program()
    ran.run()
    return ran


@pytest.fixture
def results(ran: Program) -> RunResults:
    return ran.results()


def read(items: Any) -> tuple[list[Any], IncompleteResultsError | None]:
    """Return all items, and the error at the end."""
    found: list[Any] = []
    try:
        for item in items:
            found.append(item)
    except IncompleteResultsError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("staged", [True, False])
def test_documents_and_texts_have_the_keys_of_the_corpus(
    program: Callable[..., Program], staged: bool
) -> None:
    results = program(staged=staged).run()
    assert [document.input_key for document in results] == KEYS
    assert [(d.input_key, text) for d, text in results.with_text()] == [(k, NOTE) for k in KEYS]
    assert list(results.redacted()) == [(key, REDACTED) for key in KEYS]
    assert results.unprocessed == ()
    assert re.fullmatch(r"RunResults\(\d jobs\)", repr(results))


def test_unprocessed_files_have_the_keys_of_the_corpus(
    program: Callable[..., Program], put: Put
) -> None:
    put("notes/5/not-utf8", body=b"\xff")
    results = program().run()
    assert [file.input_key for file in results.unprocessed] == ["notes/5/not-utf8"]
    assert [document.input_key for document in results] == KEYS


def test_skipped_files_are_named_without_reading_documents(
    program: Callable[..., Program], put: Put, s3_server: S3Server
) -> None:
    put("notes/5/not-utf8", body=b"\xff")
    ran = program()
    ran.run()
    s3_server.requests.clear()
    problems: list[ResultsError] = []
    found = skipped_files(
        ran.client, ran.plan, ran.outcomes, lambda _, error: problems.append(error)
    )
    assert [file.input_key for file in found] == ["notes/5/not-utf8"]
    assert problems == []
    assert not any(request.key.endswith(".out") for request in s3_server.requests)


def test_jobs_whose_skipped_files_are_unknown_are_named_beside_the_others(
    program: Callable[..., Program], put: Put, s3: Any, bucket: str
) -> None:
    put("notes/5/not-utf8", body=b"\xff")
    ran = program()
    ran.run()
    first, second = ran.outcomes
    s3.delete_object(
        Bucket=bucket, Key=f"results/123456789012-PHIDetection-{first.job_id}/Manifest"
    )
    problems: list[tuple[JobOutcome, type[ResultsError]]] = []
    found = skipped_files(
        ran.client,
        ran.plan,
        [first, attrs.evolve(first, status=JobStatus.FAILED), second],
        lambda job, error: problems.append((job, type(error))),
    )
    assert [file.input_key for file in found] == ["notes/5/not-utf8"]
    assert problems == [(first, LostManifestError)]


@pytest.mark.parametrize("staged", [True, False])
def test_all_parts_together_are_the_results(program: Callable[..., Program], staged: bool) -> None:
    results = program(staged=staged).run()
    parts = [[each.input_key for each in results.part(index, 3)] for index in range(3)]
    assert sorted(key for part in parts for key in part) == KEYS
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [each.input_key for each in results.part(1, 2).part(1, 2)] == [KEYS[3]]
    assert repr(results.part(1, 3)).endswith("jobs).part(1, 3)")
    with pytest.raises(RequestValidationError, match=r"RunResults\.part"):
        results.part(3, 3)


def test_copies_of_parts_count_each_unprocessed_file_once(
    program: Callable[..., Program], put: Put, tmp_path: Path
) -> None:
    put("notes/5/not-utf8", body=b"\xff")
    results = program().run()
    parts = [results.part(index, 2) for index in range(2)]
    counts = [write_copies(part, tmp_path).unprocessed for part in parts]
    assert sum(count or 0 for count in counts) == 1


def test_only_a_client_can_read_results(program: Callable[..., Program]) -> None:
    summary: Any = RunSummary(plan=program().plan, jobs=())
    with pytest.raises(RequestValidationError, match=r"RunSummary\.results\.client"):
        summary.results(None)


def test_arguments_of_redaction_are_checked_at_once(program: Callable[..., Program]) -> None:
    with pytest.raises(RequestValidationError):
        program().run().redacted(min_score=2.0)
    with pytest.raises(RequestValidationError):
        program().run().with_text(require_reviewed=True)


def test_results_that_were_interrupted_do_not_look_complete(results: RunResults) -> None:
    def replacement(_: Entity) -> str:
        raise KeyboardInterrupt

    notes = results.redacted(replacement=replacement)
    with pytest.raises(KeyboardInterrupt):
        next(notes)
    with pytest.raises(TransportError, match="interrupted in an earlier step"):
        next(notes)


def test_decisions_name_notes_by_the_keys_of_the_corpus(results: RunResults) -> None:
    document, text = next(results.with_text())
    decided = DocumentDecisions(
        input_key=KEYS[0],
        sha256=sha256(text.encode()).hexdigest(),
        reviewed=True,
        rejected=tuple(entity.id for entity in document.entities),
        added=(),
    )
    decisions = Decisions((decided,))
    assert dict(results.redacted(decisions=decisions)) == {
        **dict.fromkeys(KEYS, REDACTED),
        KEYS[0]: NOTE,
    }
    found, error = read(results.with_text(decisions=decisions, require_reviewed=True))
    assert [document.input_key for document, _ in found] == KEYS[:1]
    assert error is not None
    assert sorted(error.failed) == KEYS[1:]


# --- Notes that changed ---------------------------------------------------------------------------


def test_notes_that_arrive_later_do_not_matter(results: RunResults, put: Put) -> None:
    put("notes/1/new", "notes/3/new", body=NOTE)
    assert list(results.redacted()) == [(key, REDACTED) for key in KEYS]


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_notes_of_a_staged_job_are_left_out_if_one_has_changed(
    results: RunResults, put: Put, s3: Any, bucket: str, change: str
) -> None:
    if change == "replaced":
        put(KEYS[1], body=NOTE.swapcase())
    else:
        s3.delete_object(Bucket=bucket, Key=KEYS[1])
    found, error = read(results.redacted())
    assert found == [(key, REDACTED) for key in KEYS[3:]]
    assert error is not None
    assert sorted(error.failed) == KEYS[:3]
    assert all("keep_staged=True" in reason for reason in error.failed.values())
    assert CANARY not in str(error)
    assert [document.input_key for document in results] == KEYS


def test_the_copies_are_read_instead_if_they_still_exist(
    program: Callable[..., Program], put: Put
) -> None:
    results = program().run(deletes_copies=False)
    put(KEYS[1], body=NOTE.swapcase())
    assert list(results.redacted()) == [(key, REDACTED) for key in KEYS]


def test_a_note_that_was_replaced_between_copy_and_job_is_left_out(
    program: Callable[..., Program], put: Put
) -> None:
    ran = program()
    job = ran.plan.jobs[0]
    ran.staging.copy(job)
    ran.clock.sleep(10)
    put(KEYS[0], body=NOTE.swapcase())  # as long as the note, and before the job is submitted
    ran.clock.sleep(10)
    outcome = ran.run_job(job)
    ran.staging.delete(job)
    found, error = read(RunResults(ran.client, ran.plan, [outcome]).with_text())
    assert found == []
    assert error is not None
    assert KEYS[0] in error.failed


def test_a_note_that_was_rewritten_unchanged_after_the_job_is_left_out(
    results: RunResults, put: Put
) -> None:
    put(KEYS[1], body=NOTE)
    found, error = read(results.redacted())
    assert [key for key, _ in found] == [key for key in KEYS if key != KEYS[1]]
    assert error is not None
    assert list(error.failed) == [KEYS[1]]


# --- Jobs without results -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job_id": None, "status": None}, "job 0: it has no results: the job was not started"),
        (
            {"status": None, "is_lost": True},
            "job 0: it has no results: the service has forgotten the job",
        ),
        ({"status": JobStatus.FAILED}, "job 0: it has no results: the job is FAILED"),
        ({"status": JobStatus.IN_PROGRESS}, "job 0: it has no results: the job is IN_PROGRESS"),
    ],
)
def test_a_job_without_results_is_named_after_the_others_were_read(
    ran: Program, changes: dict[str, Any], words: str
) -> None:
    found, error = read(ran.results(**changes))
    assert [document.input_key for document in found] == KEYS[3:]
    assert error is not None
    assert words in str(error)
    with pytest.raises(IncompleteResultsError, match=words):
        _ = ran.results(**changes).unprocessed


def test_missing_documents_of_all_jobs_are_named(results: RunResults, s3: Any, bucket: str) -> None:
    outputs = [document.output_key for document in results]
    for key in (outputs[0], outputs[4]):
        s3.delete_object(Bucket=bucket, Key=key)
    found, error = read(results)
    assert [document.input_key for document in found] == KEYS[1:4]
    assert error is not None
    assert error.missing == (outputs[0], outputs[4])
    assert list(error.failed) == [KEYS[0], KEYS[4]]
    assert "job 0: 1 of 3 documents" in str(error)
    assert "job 1: 1 of 2 documents" in str(error)


def test_results_can_be_read_when_the_service_has_forgotten_the_jobs(
    results: RunResults, server: LocalServer
) -> None:
    server.service.reset()
    assert list(results.redacted()) == [(key, REDACTED) for key in KEYS]


def test_an_error_that_concerns_all_jobs_ends_the_reading(
    results: RunResults, s3: Any, bucket: str, s3_server: S3Server
) -> None:
    output = next(iter(results)).output_key
    s3.delete_object(Bucket=bucket, Key=output)
    items = iter(results)
    assert next(items).input_key == KEYS[1]
    assert next(items).input_key == KEYS[2]
    s3_server.rules.append(lambda _: refused("ExpiredToken", 400))
    with pytest.raises(ExpiredTokenException) as caught:
        list(items)
    assert caught.value.undelivered == 3  # one note of the first job, and both of the second
    assert list(caught.value.failed) == [KEYS[0]]


def test_an_error_that_concerns_all_jobs_counts_the_jobs_before_it(
    ran: Program, s3_server: S3Server
) -> None:
    s3_server.rules.append(lambda _: refused("ExpiredToken", 400))
    with pytest.raises(ExpiredTokenException) as caught:
        list(ran.results(job_id=None, status=None))
    assert caught.value.undelivered == 5


def test_an_error_that_concerns_all_jobs_counts_the_files_of_its_part(
    results: RunResults, s3_server: S3Server
) -> None:
    s3_server.rules.append(lambda _: refused("ExpiredToken", 400))
    counts: list[int | None] = []
    for index in range(3):
        with pytest.raises(ExpiredTokenException) as caught:
            list(results.part(index, 3))
        counts.append(caught.value.undelivered)
    assert counts == [2, 2, 1]


def test_a_missing_bucket_of_results_ends_the_reading(
    results: RunResults, s3_server: S3Server
) -> None:
    s3_server.rules.append(lambda _: refused("NoSuchBucket", 404))
    with pytest.raises(MissingBucketError) as caught:
        list(results)
    assert caught.value.undelivered == 5


# --- S3 refuses everything ------------------------------------------------------------------------

MANY = [f"notes/{folder}/{number:02}" for folder in "abc" for number in range(60)]


@pytest.fixture
def many(
    client: PHIClient,
    request_: StartPHIDetectionJobRequest,
    clock: FakeClock,
    put: Put,
) -> RunResults:
    """The results of three jobs with 60 notes each."""
    put(*MANY, body=NOTE)
    limits = ServiceLimits(max_job_files=60)
    return Program(client, request_, clock, staged=False, limits=limits).run()


def denies(s3_server: S3Server, *prefixes: str, spares: tuple[str, ...] = ()) -> None:
    """Let S3 refuse to return objects whose keys begin with one of these prefixes."""

    def rule(request: S3Request) -> S3Fault | None:
        is_denied = request.key.startswith(prefixes) and request.key not in spares
        return refused("AccessDenied", 403) if is_denied else None

    s3_server.requests.clear()
    s3_server.rules.append(rule)


def test_reading_stops_in_a_later_job_if_s3_refuses_100_notes_in_a_row(
    s3_server: S3Server, many: RunResults
) -> None:
    denies(s3_server, "notes/")
    with pytest.raises(UnreadableObjectError, match="180 documents were not delivered") as caught:
        list(many.redacted())
    assert list(caught.value.failed) == MANY[:99]
    assert not any(request.key.startswith("notes/c/") for request in s3_server.requests)


def test_reading_goes_on_if_a_note_can_be_read_in_between(
    s3_server: S3Server, many: RunResults
) -> None:
    denies(s3_server, "notes/", spares=(MANY[70], MANY[140]))
    found, error = read(many.redacted())
    assert [key for key, _ in found] == [MANY[70], MANY[140]]
    assert error is not None
    assert len(error.failed) == 178


def test_copies_stop_if_s3_refuses_100_notes_in_a_row(
    s3_server: S3Server, many: RunResults, tmp_path: Path
) -> None:
    denies(s3_server, "notes/")
    with pytest.raises(UnreadableObjectError) as caught:
        write_copies(many, tmp_path / "copies", audit=tmp_path / "audit.jsonl")
    assert caught.value.undelivered == 180
    assert list(caught.value.failed) == MANY[:99]
    assert not (tmp_path / "audit.jsonl").exists()


def test_copies_that_end_early_count_the_notes_that_failed_before(
    s3_server: S3Server, many: RunResults, tmp_path: Path
) -> None:
    denies(s3_server, MANY[3])
    s3_server.script("GetObject", *[refused("ExpiredToken", 400)] * 5, key=MANY[60])
    with pytest.raises(ExpiredTokenException) as caught:
        write_copies(many, tmp_path)
    assert caught.value.undelivered == 121
    assert list(caught.value.failed) == [MANY[3]]


def test_reading_stops_if_s3_refuses_the_manifests_of_100_jobs_in_a_row(
    ran: Program, s3_server: S3Server
) -> None:
    [outcome, _] = ran.outcomes
    denies(s3_server, "")
    with pytest.raises(UnreadableObjectError, match="access denied") as caught:
        list(RunResults(ran.client, ran.plan, [outcome] * 150))
    assert caught.value.undelivered == 150 * outcome.planned.file_count


def test_each_job_is_named_if_s3_refuses_the_manifests_of_a_few(
    results: RunResults, s3_server: S3Server
) -> None:
    denies(s3_server, "")
    found, error = read(results)
    assert found == []
    assert re.search(r"job 0: it has no results: .*access denied.*; job 1: ", str(error))


def test_notes_of_a_staged_job_are_not_tried_if_nobody_can_say_whether_they_changed(
    results: RunResults, s3_server: S3Server
) -> None:
    s3_server.rules.append(
        lambda request: refused("AccessDenied", 403) if request.prefix == "notes/" else None
    )
    found, error = read(results.redacted())
    assert found == []
    assert re.search(r"job 0: its notes cannot be read: .*access denied", str(error))
    assert list(results) != []


# --- Files that nobody planned, and planned files without a result --------------------------------


def test_documents_of_files_that_arrived_after_planning_are_yielded(
    program: Callable[..., Program], put: Put
) -> None:
    ran = program(staged=False)
    job = ran.plan.jobs[0]
    put("notes/0/late", body=NOTE)
    outcome = ran.run_job(job)
    found, error = read(RunResults(ran.client, ran.plan, [outcome]))
    assert len(found) == job.file_count + 1
    assert error is not None
    assert "so at least 1 of them was not planned" in str(error)


def test_folder_markers_are_no_planned_files(program: Callable[..., Program], put: Put) -> None:
    put("notes/0/", body=b"")
    documents = list(program(staged=False).run())
    assert {document.input_key for document in documents} >= set(KEYS)


@pytest.mark.parametrize("lists", [True, False], ids=["listed", "refused"])
def test_planned_files_without_a_result_are_named(
    program: Callable[..., Program], s3: Any, s3_server: S3Server, lists: bool
) -> None:
    ran = program()
    job = ran.plan.jobs[0]
    ran.staging.copy(job)
    s3.delete_object(Bucket=STAGED, Key=staged_key(ran.plan, job, KEYS[1]))
    outcome = ran.run_job(job)
    if not lists:
        s3_server.rules.append(
            lambda request: (
                refused("AccessDenied", 403) if request.operation == "ListObjectsV2" else None
            )
        )
    found, error = read(RunResults(ran.client, ran.plan, [outcome]).with_text())
    assert [document.input_key for document, _ in found] == [KEYS[0], KEYS[2]]
    assert error is not None
    assert "3 files were planned, but the results are about 2" in str(error)
    if lists:
        assert "without a result: 1" in str(error)
        assert list(error.failed) == [KEYS[1]]
    else:
        assert "the notes without a result cannot be named" in str(error)


# --- Redacted copies ------------------------------------------------------------------------------


def copies_in(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("staged", [False, True])
def test_copies_of_all_jobs_have_the_paths_of_the_notes_in_the_corpus(
    program: Callable[..., Program], staged: bool, tmp_path: Path
) -> None:
    run = program(staged=staged)
    results = run.run()

    report = write_copies(results, tmp_path / "copies")

    assert copies_in(tmp_path / "copies") == {key.removeprefix("notes/"): REDACTED for key in KEYS}
    assert (report.written, report.failures, report.unprocessed) == (5, (), 0)
    assert report.jobs == tuple(
        (outcome.job_id, outcome.planned.request.client_request_token) for outcome in run.outcomes
    )


def test_copies_of_the_other_jobs_are_written_if_a_job_has_no_results(
    program: Callable[..., Program], put: Put, tmp_path: Path
) -> None:
    run = program(staged=False)
    run.run()
    put(KEYS[3], body=f"{NOTE}, again")
    results = run.results(job_id=None, status=None)

    with pytest.raises(IncompleteCopiesError) as caught:
        write_copies(results, tmp_path / "copies")

    report = caught.value.report
    assert copies_in(tmp_path / "copies").keys() == {
        KEYS[number].removeprefix("notes/") for number in (1, 2, 4)
    }
    assert [(each.input_key, type(each.error)) for each in report.failures] == [
        (KEYS[3], SourceChangedError)
    ]
    assert len(report.jobs) == 4
    assert report.unprocessed is None


def test_copies_must_not_overlap_anything_of_a_run(results: RunResults, bucket: str) -> None:
    for location in (
        S3Location(bucket, "notes/copies"),
        S3Location(bucket, "results/copies"),
        S3Location(STAGED),
        S3Location(STAGED, "work"),
    ):
        with pytest.raises(RequestValidationError, match="must not overlap"):
            write_copies(results, location)

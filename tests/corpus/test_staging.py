"""Copying the files of planned jobs to staging folders, on the S3 beside the local service."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    ClientClosedError,
    ExpiredTokenException,
    InputDataConfig,
    MissingBucketError,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    S3Location,
    StartPHIDetectionJobRequest,
    UnwritableObjectError,
)
from comprehend_phi.corpus import (
    JobPlan,
    PlanChangedError,
    PlannedJob,
    ServiceLimits,
    StagingError,
    plan_jobs,
    plan_keys,
)
from comprehend_phi.corpus.plan import source_key, staged_key
from comprehend_phi.corpus.staging import Staging
from comprehend_phi.corpus.tally import Tally
from comprehend_phi.testing import LocalServer

from ..conftest import CANARY, KEY, ROLE
from ..s3_server import LOST, RESET, THROTTLED, S3Fault, S3Request, S3Server, refused
from .conftest import Put

LIMITS = ServiceLimits(max_file_bytes=20, max_job_files=6)
STAGED = "staged-notes"
NAMES = [f"{number}/note" for number in range(8)]  # planned as ranges of six and two files
KEYS = [f"notes/{name}" for name in NAMES]

Plan = Callable[..., JobPlan]
Staged = Callable[[PlannedJob], dict[str, bytes]]


@pytest.fixture
def client(make_client: Callable[..., PHIClient], s3_server: S3Server, s3: Any) -> PHIClient:
    s3.create_bucket(Bucket=STAGED)
    return make_client()


@pytest.fixture
def plan(client: PHIClient, request_: StartPHIDetectionJobRequest) -> Plan:
    def plan(
        keys: list[str] | None = None,
        request: StartPHIDetectionJobRequest = request_,
        **options: Any,
    ) -> JobPlan:
        arguments: dict[str, Any] = {
            "name": "monday",
            "limits": LIMITS,
            "staging": S3Location(STAGED, "work"),
            **options,
        }
        if keys is None:
            return plan_jobs(client, request, **arguments)
        return plan_keys(client, request, keys, **arguments)

    return plan


@pytest.fixture
def planned(plan: Plan, put: Put) -> JobPlan:
    """The plan of `KEYS`. It has two staged jobs."""
    put(*KEYS)
    return plan()


@pytest.fixture
def job(planned: JobPlan) -> PlannedJob:
    """The first job of `planned`, with six files."""
    return planned.jobs[0]


@pytest.fixture
def staging(client: PHIClient, planned: JobPlan) -> Staging:
    return Staging(client, planned)


@pytest.fixture
def staged(s3: Any) -> Staged:
    """Return the content of a job's staging folder, by the path in it."""

    def staged(job: PlannedJob) -> dict[str, bytes]:
        folder = job.request.input_data_config.s3_key or ""
        listed = s3.list_objects_v2(Bucket=STAGED, Prefix=folder).get("Contents", [])
        return {
            each["Key"].removeprefix(folder): s3.get_object(Bucket=STAGED, Key=each["Key"])[
                "Body"
            ].read()
            for each in listed
        }

    return staged


# --- check ----------------------------------------------------------------------------------------


def test_files_of_a_range_that_have_not_changed_are_the_planned_ones(
    client: PHIClient, plan: Plan, put: Put
) -> None:
    put(*KEYS, "notes/a/", "notes/b/", "notes/b//c")
    put("notes/3/too-large", body=b"x" * 21)
    put("notes/4/archived", StorageClass="GLACIER")
    planned = plan()
    assert [(job.file_count, job.staged) for job in planned.jobs] == [(6, True), (2, True)]
    for job in planned.jobs:
        Staging(client, planned).check(job)


def test_files_of_a_folder_that_have_not_changed_are_the_planned_ones(
    client: PHIClient, plan: Plan, put: Put
) -> None:
    put(*KEYS, "notes/a/")
    put("notes/3/too-large", body=b"x" * 21)
    planned = plan(staging=None)
    assert [job.staged for job in planned.jobs] == [False] * 8
    for job in planned.jobs:
        Staging(client, planned).check(job)


def test_the_keys_of_a_plan_are_the_planned_files(client: PHIClient, plan: Plan, put: Put) -> None:
    put(*KEYS)
    planned = plan(KEYS)
    put("notes/2/arrived", "notes/5/arrived")
    assert len(planned.jobs) == 2
    for job in planned.jobs:
        Staging(client, planned).check(job)


def test_a_job_may_read_a_whole_bucket(
    client: PHIClient,
    plan: Plan,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    s3: Any,
    bucket: str,
) -> None:
    s3.create_bucket(Bucket="results")
    request = make_request(
        input_data_config=InputDataConfig(s3_bucket=bucket),
        output_data_config=OutputDataConfig(s3_bucket="results"),
    )
    s3.put_object(Bucket=bucket, Key="notes/note.txt", Body=b"text")
    planned = plan(request=request, staging=None)
    Staging(client, planned).check(planned.jobs[0])


Change = Callable[[Put, Any, str], object]

CHANGES: dict[str, Change] = {
    "replaced": lambda put, s3, bucket: put("notes/3/note", body=b"TEXT"),
    "deleted": lambda put, s3, bucket: s3.delete_object(Bucket=bucket, Key="notes/3/note"),
    "first": lambda put, s3, bucket: s3.delete_object(Bucket=bucket, Key="notes/0/note"),
    "arrived": lambda put, s3, bucket: put("notes/3/another"),
    "archived": lambda put, s3, bucket: put("notes/3/note", StorageClass="GLACIER"),
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(("range", change) for change in CHANGES),
        *(("folder", change) for change in ("replaced", "deleted", "arrived")),
        *(("keys", change) for change in ("replaced", "deleted", "archived")),
    ],
)
def test_a_change_of_the_files_is_noticed_and_nothing_is_copied(
    client: PHIClient,
    plan: Plan,
    put: Put,
    s3: Any,
    bucket: str,
    s3_server: S3Server,
    kind: str,
    change: str,
) -> None:
    put(*KEYS)
    plans: dict[str, Callable[[], JobPlan]] = {
        "range": plan,
        "folder": lambda: plan(limits=ServiceLimits(max_job_files=8)),
        "keys": lambda: plan(KEYS),
    }
    planned = plans[kind]()
    job = planned.jobs[0]
    assert job.staged == (kind != "folder")
    CHANGES[change](put, s3, bucket)
    staging = Staging(client, planned)
    for act in (staging.check, staging.copy):
        with pytest.raises(PlanChangedError, match="Do not plan the whole corpus again") as caught:
            act(job)
        assert (caught.value.index, caught.value.file_count) == (0, job.file_count)
        assert "note" not in str(caught.value)
    assert s3_server.counts()["CopyObject"] == 0


def test_the_error_counts_files(
    planned: JobPlan, job: PlannedJob, staging: Staging, put: Put
) -> None:
    put("notes/3/another")
    with pytest.raises(PlanChangedError, match="had 6 files, and now there are 7") as caught:
        staging.check(job)
    assert caught.value.found_count == 7
    put("notes/7/note", body=b"TEXT")
    with pytest.raises(PlanChangedError, match="some of its 2 files were replaced or deleted"):
        staging.check(planned.jobs[1])


def test_a_job_that_is_not_staged_is_only_checked(
    client: PHIClient, plan: Plan, put: Put, s3_server: S3Server
) -> None:
    put(*KEYS)
    planned = plan(staging=None)
    s3_server.requests.clear()
    Staging(client, planned).copy(planned.jobs[0])
    Staging(client, planned).delete(planned.jobs[0])
    assert s3_server.counts() == {"ListObjectsV2": 1}


# --- copy -----------------------------------------------------------------------------------------

STRANGE = [
    "a b",
    "é/ü",
    "100%+1",
    "a&<b>",
    "q?versionId=1#2",
    "%2F",
    "~",
    ".hidden/x",
    "\U0001d538",
]


def test_each_file_is_copied_to_its_path_in_the_staging_folder(
    client: PHIClient, plan: Plan, put: Put, staged: Staged
) -> None:
    for number, name in enumerate(STRANGE):
        put(f"notes/{number}/{name}", body=name.encode())
    put("notes/b//skipped", "notes/c/")
    planned = plan()
    found: dict[str, bytes] = {}
    for job in planned.jobs:
        Staging(client, planned).copy(job)
        assert len(staged(job)) == job.file_count
        found |= staged(job)
    assert found == {f"{number}/{name}": name.encode() for number, name in enumerate(STRANGE)}


def test_copies_are_encrypted_with_the_requests_key_and_have_no_tags(
    client: PHIClient, plan: Plan, put: Put, s3: Any
) -> None:
    put(*KEYS, Tagging=f"name={CANARY}", Metadata={"name": CANARY})
    planned = plan()
    Staging(client, planned).copy(planned.jobs[0])
    key = staged_key(planned, planned.jobs[0], "notes/3/note")
    assert s3.get_object_tagging(Bucket=STAGED, Key=key)["TagSet"] == []
    copied = s3.head_object(Bucket=STAGED, Key=key)
    assert (copied["ServerSideEncryption"], copied["SSEKMSKeyId"]) == ("aws:kms", KEY)
    assert CANARY not in str(copied["Metadata"])


def test_files_that_were_copied_are_not_copied_again(
    planned: JobPlan,
    job: PlannedJob,
    staging: Staging,
    staged: Staged,
    s3: Any,
    s3_server: S3Server,
) -> None:
    staging.copy(job)
    # As after a kill in the middle, with things that do not belong there.
    keys = {name: staged_key(planned, job, f"notes/{name}") for name in NAMES}
    s3.delete_object(Bucket=STAGED, Key=keys["1/note"])
    s3.put_object(Bucket=STAGED, Key=keys["2/note"], Body=b"long text")
    s3.put_object(Bucket=STAGED, Key=keys["3/note"], Body=b"TEXT")
    for extra in ("", "0/another", "3/note.tmp", "9"):
        s3.put_object(Bucket=STAGED, Key=staged_key(planned, job, f"notes/{extra}"), Body=b"x")
    s3_server.requests.clear()
    staging.copy(job)
    copied = [each.key for each in s3_server.requests if each.operation == "CopyObject"]
    assert sorted(copied) == [keys["1/note"], keys["2/note"], keys["3/note"]]
    assert staged(job) == dict.fromkeys(NAMES[:6], b"text")


def test_a_copy_of_another_version_is_replaced(
    client: PHIClient, plan: Plan, job: PlannedJob, staging: Staging, put: Put, staged: Staged
) -> None:
    put("notes/3/note", body=b"TEXT")
    changed = plan()
    same_folder = attrs.evolve(changed.jobs[0], request=job.request)
    Staging(client, changed).copy(same_folder)
    assert staged(job)["3/note"] == b"TEXT"
    put("notes/3/note", body=b"text")
    staging.copy(job)
    assert staged(job)["3/note"] == b"text"


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_changes_after_it_was_listed_is_not_copied(
    planned: JobPlan,
    job: PlannedJob,
    staging: Staging,
    put: Put,
    staged: Staged,
    s3: Any,
    bucket: str,
    s3_server: S3Server,
    change: str,
) -> None:
    key = staged_key(planned, job, "notes/3/note")
    s3_server.before("CopyObject", lambda _: CHANGES[change](put, s3, bucket), key=key)
    with pytest.raises(PlanChangedError, match="6 files were replaced or deleted"):
        staging.copy(job)
    assert b"TEXT" not in staged(job).values()


def test_a_file_that_arrives_after_the_check_is_noticed(
    job: PlannedJob, staging: Staging, put: Put, s3_server: S3Server
) -> None:
    # The check lists twice: the first key, and those after it. Then the staging folder is listed.
    s3_server.before("ListObjectsV2", lambda _: put("notes/3/another"), number=4)
    with pytest.raises(PlanChangedError, match="now there are 7"):
        staging.copy(job)


@pytest.mark.parametrize("fault", [THROTTLED, RESET, LOST], ids=["throttled", "reset", "lost"])
def test_a_failed_copy_is_retried(
    job: PlannedJob, staging: Staging, staged: Staged, s3_server: S3Server, fault: S3Fault
) -> None:
    s3_server.script("CopyObject", fault)
    staging.copy(job)
    assert s3_server.counts()["CopyObject"] == 7
    assert len(staged(job)) == 6


def test_copying_stops_when_s3_refuses_100_files_in_a_row(
    client: PHIClient, plan: Plan, put: Put, s3_server: S3Server
) -> None:
    keys = [f"notes/{number:03}/note" for number in range(240)]
    put(*keys)
    planned = plan(keys, limits=ServiceLimits(max_file_bytes=20, max_job_files=300))
    s3_server.script("CopyObject", *[refused("AccessDenied", 403)] * 240)
    with pytest.raises(UnwritableObjectError, match="access denied"):
        Staging(client, planned).copy(planned.jobs[0])
    assert 100 <= s3_server.counts()["CopyObject"] < 240


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([refused("AccessDenied", 403)], "UnwritableObjectError: s3://.*access denied"),
        ([THROTTLED] * 8, "ThrottlingException: CopyObject of s3://.*8 attempts"),
    ],
)
def test_all_other_files_are_copied_before_a_failure_is_raised(
    client: PHIClient,
    plan: Plan,
    put: Put,
    staged: Staged,
    s3_server: S3Server,
    faults: list[S3Fault],
    reason: str,
) -> None:
    put(*KEYS, body=CANARY.encode())
    planned = plan()
    job = planned.jobs[0]
    s3_server.script("CopyObject", *faults, key=staged_key(planned, job, "notes/1/note"))
    with pytest.raises(StagingError, match="1 of 6 files could not be copied") as caught:
        Staging(client, planned).copy(job)
    assert list(caught.value.failed) == ["notes/1/note"]
    assert re.match(reason, caught.value.failed["notes/1/note"])
    assert (caught.value.index, caught.value.failed_count) == (0, 1)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CANARY not in repr(caught.value)
    assert sorted(staged(job)) == [name for name in NAMES[:6] if name != "1/note"]


def test_the_errors_survive_pickling() -> None:
    error = StagingError("no", index=3, failed={"a": "b"}, failed_count=2)
    copied = pickle.loads(pickle.dumps(error))
    assert str(copied) == str(error) == "Job 3 of the plan: no: b and 1 more"
    assert (copied.index, copied.failed, copied.failed_count) == (3, {"a": "b"}, 2)
    changed = PlanChangedError(index=1, file_count=2, found_count=3)
    assert str(pickle.loads(pickle.dumps(changed))) == str(changed)


def test_expired_credentials_end_the_copying(
    job: PlannedJob, staging: Staging, s3_server: S3Server
) -> None:
    s3_server.script("CopyObject", *[refused("ExpiredToken", 400)] * 6)
    with pytest.raises(ExpiredTokenException):
        staging.copy(job)


def test_a_missing_bucket_ends_the_copying(job: PlannedJob, staging: Staging, s3: Any) -> None:
    s3.delete_bucket(Bucket=STAGED)
    with pytest.raises(MissingBucketError):
        staging.copy(job)


def test_a_closed_client_ends_the_copying(
    client: PHIClient, job: PlannedJob, staging: Staging, s3_server: S3Server
) -> None:
    s3_server.before("CopyObject", lambda _: client.close(), number=2)
    with pytest.raises(ClientClosedError):
        staging.copy(job)


def test_a_file_without_an_etag_is_not_copied(
    client: PHIClient, plan: Plan, put: Put, s3_server: S3Server
) -> None:
    put(*KEYS)
    without = S3Fault(alter=lambda body: re.sub(rb"<ETag>.*?</ETag>", b"", body))
    s3_server.rules.append(lambda each: without if each.operation == "ListObjectsV2" else None)
    planned = plan()
    with pytest.raises(StagingError, match=r"6 of 6 files .* ETag"):
        Staging(client, planned).copy(planned.jobs[0])
    assert s3_server.counts()["CopyObject"] == 0


@pytest.mark.parametrize("problem", ["lost", "foreign", "changed"])
def test_a_job_does_not_start_unless_its_folder_contains_exactly_the_copies(
    planned: JobPlan, job: PlannedJob, staging: Staging, s3: Any, s3_server: S3Server, problem: str
) -> None:
    key = staged_key(planned, job, "notes/3/note")

    def act(_: S3Request) -> None:
        if problem == "lost":
            s3.delete_object(Bucket=STAGED, Key=key)
        else:
            changed = key if problem == "changed" else f"{key}.txt"
            s3.put_object(Bucket=STAGED, Key=changed, Body=b"another text")

    s3_server.before("ListObjectsV2", act, number=6)  # the last one
    with pytest.raises(StagingError, match="does not contain exactly the copies"):
        staging.copy(job)
    staging.copy(job)


def test_any_number_of_other_objects_is_deleted(
    planned: JobPlan, staging: Staging, staged: Staged, server: LocalServer
) -> None:
    job = planned.jobs[1]
    for number in range(1_001):
        server.storage.write(STAGED, staged_key(planned, job, f"notes/{number:04}"), b"x")
    staging.copy(job)
    assert sorted(staged(job)) == NAMES[6:]


# --- delete ---------------------------------------------------------------------------------------


def test_everything_in_the_staging_folder_of_one_job_is_deleted(
    planned: JobPlan, staging: Staging, staged: Staged, server: LocalServer
) -> None:
    first, second = planned.jobs
    staging.copy(second)
    for number in range(1_001):
        server.storage.write(STAGED, staged_key(planned, first, f"notes/{number}"), b"x")
    staging.delete(first)
    assert staged(first) == {}
    assert len(staged(second)) == 2
    staging.delete(first)


def test_a_copy_that_cannot_be_deleted_is_named_after_the_others_were_deleted(
    planned: JobPlan, job: PlannedJob, staging: Staging, staged: Staged, s3_server: S3Server
) -> None:
    staging.copy(job)
    key = staged_key(planned, job, "notes/3/note")

    def refuse(request: S3Request) -> S3Fault | None:
        if request.operation != "DeleteObjects" or key.encode() not in request.body:
            return None
        failed = f"<Error><Key>{key}</Key><Code>AccessDenied</Code></Error>"
        body = f"<DeleteResult>{'<Deleted/>' * 5}{failed}</DeleteResult>"
        return S3Fault(answer=(200, body.encode()))

    s3_server.rules.append(refuse)
    with pytest.raises(UnwritableObjectError, match="s3:DeleteObject") as caught:
        staging.delete(job)
    assert caught.value.key == key
    s3_server.rules.clear()
    staging.delete(job)
    assert staged(job) == {}


def test_an_object_that_appears_meanwhile_is_an_error(
    planned: JobPlan, job: PlannedJob, staging: Staging, s3: Any, s3_server: S3Server
) -> None:
    key = staged_key(planned, job, "notes/9")
    s3_server.before(
        "ListObjectsV2", lambda _: s3.put_object(Bucket=STAGED, Key=key, Body=b"x"), number=2
    )
    with pytest.raises(StagingError, match="objects appeared"):
        staging.delete(job)


@pytest.mark.parametrize("place", ["bucket", "parent folder", "corpus named as the token"])
@pytest.mark.parametrize("act", ["copy", "delete"])
def test_only_a_folder_of_the_plan_is_ever_emptied(
    job: PlannedJob, staging: Staging, bucket: str, s3_server: S3Server, place: str, act: str
) -> None:
    places: dict[str, dict[str, Any]] = {
        "bucket": {"input_data_config": InputDataConfig(s3_bucket=STAGED)},
        "parent folder": {"input_data_config": InputDataConfig(s3_bucket=STAGED, s3_key="work/")},
        "corpus named as the token": {
            "input_data_config": InputDataConfig(s3_bucket=bucket, s3_key="notes/"),
            "client_request_token": "notes",
        },
    }
    edited = attrs.evolve(job, request=attrs.evolve(job.request, **places[place]))
    with pytest.raises(RequestValidationError, match="plan that was not edited"):
        getattr(staging, act)(edited)
    assert not s3_server.counts()["DeleteObjects"]
    assert not s3_server.counts()["CopyObject"]


# --- Keys -----------------------------------------------------------------------------------------

FOLDERS = st.sampled_from(["", "notes/", "a b/é/", "deep/er/"])
PATHS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)


def a_plan(folder: str, staging: str, *, is_staged: bool) -> JobPlan:
    """Return a plan with one job that reads the corpus in `folder`."""
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="notes-bucket", s3_key=folder or None),
        output_data_config=OutputDataConfig(s3_bucket="results"),
        data_access_role_arn=ROLE,
    )
    location = InputDataConfig(s3_bucket=STAGED, s3_key=staging or None)
    job = PlannedJob(
        index=0,
        request=attrs.evolve(request, input_data_config=location) if is_staged else request,
        file_count=1,
        total_bytes=1,
        first_key=folder,
        last_key=folder,
        staged=is_staged,
        listing_sum=0,
        key_sum=0,
    )
    report = Tally(request, LIMITS, None).report()
    return JobPlan(name="monday", request=request, limits=LIMITS, jobs=(job,), report=report)


@settings(max_examples=30)
@given(folder=FOLDERS, staging=FOLDERS, paths=PATHS, is_staged=st.booleans())
def test_each_copy_has_one_note_in_the_same_order(
    folder: str, staging: str, paths: list[str], is_staged: bool
) -> None:
    plan = a_plan(folder, staging, is_staged=is_staged)
    keys = sorted(f"{folder}{path}" for path in paths)
    copies = [staged_key(plan, plan.jobs[0], key) for key in keys]
    assert [source_key(plan, plan.jobs[0], copy) for copy in copies] == keys
    assert copies == sorted(set(copies))
    assert all(copy.startswith(staging if is_staged else folder) for copy in copies)

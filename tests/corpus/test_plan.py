"""Planning the jobs of a corpus, on the S3 beside the local service."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from comprehend_phi import (
    InputDataConfig,
    OutputDataConfig,
    PHIClient,
    RequestValidationError,
    S3Location,
    StartPHIDetectionJobRequest,
)
from comprehend_phi.corpus import (
    JobPlan,
    PlanError,
    ProblemCode,
    ServiceLimits,
    plan_jobs,
    plan_keys,
)
from comprehend_phi.testing import LocalServer

from ..conftest import CANARY
from .conftest import Put

LIMITS = ServiceLimits(max_file_bytes=20, max_job_bytes=100, max_job_files=6)
ALL_KEYS = [f"notes/{folder}/{number}.txt" for folder in "abc" for number in range(4)]


@pytest.fixture
def client(
    server: LocalServer, make_client: Callable[..., PHIClient], monkeypatch: pytest.MonkeyPatch
) -> PHIClient:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
    return make_client()


@pytest.fixture
def staging(s3: Any) -> S3Location:
    s3.create_bucket(Bucket="staged-notes")
    return S3Location("staged-notes", "work")


@pytest.fixture
def plan(client: PHIClient, request_: StartPHIDetectionJobRequest) -> Callable[..., JobPlan]:
    def plan(job: StartPHIDetectionJobRequest = request_, **options: Any) -> JobPlan:
        arguments: dict[str, Any] = {"name": "monday", "limits": LIMITS, **options}
        return plan_jobs(client, job, **arguments)

    return plan


@pytest.fixture
def replan(client: PHIClient, request_: StartPHIDetectionJobRequest) -> Callable[..., JobPlan]:
    def replan(keys: Any, **options: Any) -> JobPlan:
        arguments: dict[str, Any] = {"name": "again", "limits": LIMITS, **options}
        return plan_keys(client, request_, keys, **arguments)

    return replan


# --- plan_jobs ------------------------------------------------------------------------------------


def test_each_folder_becomes_a_job(plan: Callable[..., JobPlan], put: Put, bucket: str) -> None:
    put(*ALL_KEYS)
    jobs = plan().jobs
    assert [job.index for job in jobs] == [0, 1, 2]
    assert [job.request.input_data_config.s3_key for job in jobs] == [
        "notes/a/",
        "notes/b/",
        "notes/c/",
    ]
    assert {job.request.input_data_config.s3_bucket for job in jobs} == {bucket}
    assert [(job.file_count, job.total_bytes, job.staged) for job in jobs] == [(4, 16, False)] * 3
    assert (jobs[1].first_key, jobs[1].last_key) == ("notes/b/0.txt", "notes/b/3.txt")


def test_a_range_is_read_from_a_folder_of_its_own_below_the_staging_location(
    plan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put(*(f"notes/{number}/note" for number in range(8)))
    jobs = plan(staging=staging).jobs
    assert [(job.file_count, job.staged) for job in jobs] == [(6, True), (2, True)]
    for job in jobs:
        token = job.request.client_request_token
        assert job.request.input_data_config == InputDataConfig(
            s3_bucket="staged-notes", s3_key=f"work/{token[:32]}/"
        )


def test_a_job_has_all_other_parameters_of_the_request(
    plan: Callable[..., JobPlan],
    put: Put,
    request_: StartPHIDetectionJobRequest,
) -> None:
    put(*ALL_KEYS)
    job = plan().jobs[0].request
    token = job.client_request_token
    assert job.job_name == f"monday-{token[:12]}"
    assert (
        attrs.evolve(
            job,
            input_data_config=request_.input_data_config,
            job_name=request_.job_name,
            client_request_token=request_.client_request_token,
        )
        == request_
    )


def test_the_whole_bucket_can_be_one_job(
    plan: Callable[..., JobPlan],
    make_request: Callable[..., StartPHIDetectionJobRequest],
    bucket: str,
    staging: S3Location,
) -> None:
    request = make_request(
        input_data_config=InputDataConfig(s3_bucket=bucket),
        output_data_config=OutputDataConfig(s3_bucket=staging.bucket),
    )
    (job,) = plan(request, limits=ServiceLimits()).jobs
    assert job.request.input_data_config.s3_key is None


def test_names_that_only_begin_like_the_input_key_are_not_planned(
    plan: Callable[..., JobPlan], put: Put
) -> None:
    put("notes-old/1", "notes.txt", "notes/1")
    result = plan()
    assert [job.request.input_data_config.s3_key for job in result.jobs] == ["notes/"]
    assert result.report.file_count == 1


def test_folder_markers_do_not_count(plan: Callable[..., JobPlan], put: Put) -> None:
    put("notes/", "notes/a/", "notes/a/1")
    assert [job.file_count for job in plan().jobs] == [1]


def test_skipped_files_are_in_a_folder_job_but_not_in_a_range(
    plan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put(*ALL_KEYS[:4], "notes/d/1", "notes/e/1")
    put("notes/a/9.txt", "notes/e/2", body=b"x" * 21)
    result = plan(staging=staging)
    assert [(job.file_count, job.staged) for job in result.jobs] == [(5, False), (2, True)]
    assert result.report.problem_counts == {ProblemCode.TOO_LARGE: 2}


def test_planning_writes_and_starts_nothing(
    plan: Callable[..., JobPlan],
    put: Put,
    server: LocalServer,
    s3: Any,
    bucket: str,
    staging: S3Location,
) -> None:
    put(*ALL_KEYS)
    plan(staging=staging)
    assert not server.service.received
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == len(ALL_KEYS)
    assert s3.list_objects_v2(Bucket="staged-notes")["KeyCount"] == 0


def test_the_report_has_no_problem_with_the_size_of_the_corpus(
    plan: Callable[..., JobPlan], put: Put
) -> None:
    put(*ALL_KEYS, body=b"x" * 10)
    report = plan().report
    assert (report.file_count, report.total_bytes) == (12, 120)
    assert report.problem_counts == {}


# --- Tokens ---------------------------------------------------------------------------------------


def tokens(plan: JobPlan) -> list[str]:
    return [job.request.client_request_token for job in plan.jobs]


def test_the_same_listing_gives_the_same_plan(
    plan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put(*ALL_KEYS, "notes/d/1")
    assert plan(staging=staging) == plan(staging=staging)


def test_the_token_and_the_final_slash_of_the_request_do_not_matter(
    plan: Callable[..., JobPlan],
    put: Put,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    bucket: str,
) -> None:
    put(*ALL_KEYS)
    slash = make_request(input_data_config=InputDataConfig(s3_bucket=bucket, s3_key="notes/"))
    assert tokens(plan(slash)) == tokens(plan())


def test_a_changed_job_gets_another_token_and_its_neighbors_keep_theirs(
    plan: Callable[..., JobPlan], put: Put
) -> None:
    put(*ALL_KEYS)
    before = tokens(plan())
    put("notes/b/1.txt", body=b"TEXT")  # as long as before
    after = tokens(plan())
    assert before[1] != after[1]
    assert (before[0], before[2]) == (after[0], after[2])


def test_a_file_that_arrives_can_give_all_later_staged_jobs_other_files(
    plan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put(*(f"notes/{number:02}" for number in range(18)))
    before = tokens(plan(staging=staging))
    put("notes/00-late")
    assert not {*before} & {*tokens(plan(staging=staging))}


@pytest.mark.parametrize("changed", ["name", "role", "staging"])
def test_other_parameters_give_other_tokens(
    plan: Callable[..., JobPlan],
    put: Put,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    staging: S3Location,
    changed: str,
) -> None:
    put(*(f"notes/{number}/note" for number in range(8)))
    before = tokens(plan(staging=staging))
    role = "arn:aws:iam::123456789012:role/another"
    after = {
        "name": lambda: plan(staging=staging, name="tuesday"),
        "role": lambda: plan(make_request(data_access_role_arn=role), staging=staging),
        "staging": lambda: plan(staging=S3Location("staged-notes", "other")),
    }[changed]()
    assert not set(before) & set(tokens(after))


# --- What cannot be planned -----------------------------------------------------------------------


def test_an_input_location_without_files_is_refused(plan: Callable[..., JobPlan], put: Put) -> None:
    put("other/1")
    with pytest.raises(PlanError, match="contains no files"):
        plan()


@pytest.mark.parametrize("key", ["notes", "notes/results"])
def test_an_output_location_inside_the_input_is_refused(
    plan: Callable[..., JobPlan],
    make_request: Callable[..., StartPHIDetectionJobRequest],
    bucket: str,
    key: str,
) -> None:
    target = OutputDataConfig(s3_bucket=bucket, s3_key=key)
    with pytest.raises(PlanError, match="the output location is the input location, or inside it"):
        plan(make_request(output_data_config=target))


@pytest.mark.parametrize(
    ("key", "role"),
    [("notes/staged", "input"), ("notes", "input"), (None, "input"), ("results/staged", "output")],
)
def test_a_staging_location_that_overlaps_another_location_is_refused(
    plan: Callable[..., JobPlan], bucket: str, key: str | None, role: str
) -> None:
    with pytest.raises(PlanError, match=f"staging location and the {role} location overlap"):
        plan(staging=S3Location(bucket, key))


def test_a_missing_output_bucket_is_refused(
    plan: Callable[..., JobPlan], make_request: Callable[..., StartPHIDetectionJobRequest]
) -> None:
    target = OutputDataConfig(s3_bucket="no-such-bucket")
    with pytest.raises(PlanError, match="the output bucket does not exist"):
        plan(make_request(output_data_config=target))


def test_a_missing_staging_bucket_is_refused(plan: Callable[..., JobPlan]) -> None:
    with pytest.raises(PlanError, match="the bucket does not exist"):
        plan(staging=S3Location("no-such-bucket"))


def test_a_staging_bucket_in_another_region_is_refused(
    plan: Callable[..., JobPlan], s3: Any
) -> None:
    region = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="far-away", CreateBucketConfiguration=region)
    with pytest.raises(PlanError, match="the bucket is in eu-west-1, but the client uses us-east"):
        plan(staging=S3Location("far-away"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 244),
        ("name", None),
        ("limits", None),
        ("staging", "s3://staged-notes/work"),
        ("max_jobs", 0),
        ("job", {}),
    ],
)
def test_wrong_arguments_are_refused(
    plan: Callable[..., JobPlan], field: str, value: object
) -> None:
    shown = "request" if field == "job" else field
    with pytest.raises(RequestValidationError, match=rf"plan_jobs\.{shown} "):
        plan(**{field: value})


# --- plan_keys ------------------------------------------------------------------------------------


def test_keys_are_planned_once_each_and_all_are_staged(
    replan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put(*ALL_KEYS)
    wanted = [*reversed(ALL_KEYS[:9]), *ALL_KEYS[:3]]
    result = replan(iter(wanted), staging=staging)
    assert result.keys == tuple(ALL_KEYS[:9])
    assert [(job.file_count, job.staged) for job in result.jobs] == [(4, True), (5, True)]
    assert (result.jobs[1].first_key, result.jobs[1].last_key) == (ALL_KEYS[4], ALL_KEYS[8])
    assert result.report.file_count == 9


def test_the_files_of_keys_have_the_sums_that_they_have_in_a_listing(
    plan: Callable[..., JobPlan],
    replan: Callable[..., JobPlan],
    put: Put,
    staging: S3Location,
) -> None:
    put(*ALL_KEYS[:4])
    (listed,) = plan().jobs
    (looked_up,) = replan(ALL_KEYS[:4], staging=staging).jobs
    assert (listed.listing_sum, listed.key_sum) == (looked_up.listing_sum, looked_up.key_sum)


def test_keys_of_files_that_would_be_skipped_again_are_only_in_the_report(
    replan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put("notes/1", "notes/folder/")
    put("notes/2", body=b"x" * 21)
    result = replan(["notes/1", "notes/2", "notes/folder/"], staging=staging)
    assert result.keys == ("notes/1",)
    assert result.report.problem_counts == {ProblemCode.TOO_LARGE: 1, ProblemCode.FOLDER_MARKER: 1}


def test_keys_that_do_not_exist_are_named(
    replan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put("notes/1", "notes/22")
    with pytest.raises(PlanError, match=r"do not exist: notes/2, notes/3$") as caught:
        replan(["notes/3", "notes/1", "notes/2"], staging=staging)
    assert caught.value.keys == ("notes/2", "notes/3")


def test_keys_outside_the_input_location_are_named(
    replan: Callable[..., JobPlan], put: Put, staging: S3Location
) -> None:
    put("notes-old/1", "notes/1")
    with pytest.raises(PlanError, match="not below the input key: notes-old/1"):
        replan(["notes-old/1", "notes/1"], staging=staging)


def test_keys_in_a_missing_bucket_are_refused(
    client: PHIClient,
    make_request: Callable[..., StartPHIDetectionJobRequest],
    staging: S3Location,
) -> None:
    job = make_request(input_data_config=InputDataConfig(s3_bucket="no-such-bucket"))
    with pytest.raises(PlanError, match="the input bucket does not exist"):
        plan_keys(client, job, ["1"], name="again", staging=staging)


@pytest.mark.parametrize("keys", ["notes/1", b"notes/1", None, [], [""], ["notes/1", 2]])
def test_anything_but_keys_is_refused(
    replan: Callable[..., JobPlan], staging: S3Location, keys: object
) -> None:
    with pytest.raises(RequestValidationError, match=r"plan_keys\.keys "):
        replan(keys, staging=staging)


def test_keys_need_a_staging_location(replan: Callable[..., JobPlan]) -> None:
    with pytest.raises(RequestValidationError, match=r"plan_keys\.staging "):
        replan(["notes/1"], staging=None)


# --- Plans as values ------------------------------------------------------------------------------


@pytest.fixture
def plans(
    plan: Callable[..., JobPlan],
    replan: Callable[..., JobPlan],
    put: Put,
    staging: S3Location,
) -> list[JobPlan]:
    """A plan of each kind, with a private name in each key."""
    keys = [f"notes/{CANARY}/{number}" for number in range(8)]
    put(*keys, f"notes/{CANARY}/sent.pdf")
    return [plan(staging=staging), replan(keys, staging=staging)]


def test_a_plan_survives_json_and_pickle(plans: list[JobPlan]) -> None:
    for plan in plans:
        assert JobPlan.from_json(plan.to_json()) == plan
        assert pickle.loads(pickle.dumps(plan)) == plan


def test_no_repr_shows_a_key(plans: list[JobPlan]) -> None:
    for plan in plans:
        assert CANARY in plan.to_json()
        assert CANARY not in repr(plan)


def test_the_size_of_the_json_does_not_depend_on_the_number_of_files(
    plan: Callable[..., JobPlan], put: Put
) -> None:
    put("notes/1")
    one = len(plan(limits=ServiceLimits()).to_json())
    put(*ALL_KEYS)
    assert len(plan(limits=ServiceLimits()).to_json()) - one < 100


SPOILED: list[Callable[[str], str]] = [
    lambda _: "",
    lambda _: "[]",
    lambda _: "{}",
    lambda text: text[:-1],
    lambda text: text.replace('"version": 1', '"version": 2'),
    lambda text: text.replace('"file_count"', '"files"'),
    lambda text: text.replace('"key_sum": "', '"key_sum": "z'),
    lambda text: text.replace('"LanguageCode": "en"', f'"LanguageCode": "{CANARY}"'),
    lambda text: text.replace('"code": "', '"code": "NO_SUCH_'),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_json_that_is_no_plan_is_refused_without_quoting_it(
    plans: list[JobPlan], spoil: Callable[[str], str]
) -> None:
    with pytest.raises(RequestValidationError, match=r"JobPlan\.from_json\.text") as caught:
        JobPlan.from_json(spoil(plans[0].to_json()))
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_plan_is_plain_json(plans: list[JobPlan]) -> None:
    (job, *_) = json.loads(plans[0].to_json())["jobs"]
    assert set(job) == {field.name for field in attrs.fields(type(plans[0].jobs[0]))}
    assert StartPHIDetectionJobRequest.from_dict(job["request"]) == plans[0].jobs[0].request


def test_a_plan_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(PlanError("Too many", folders=["a/"], job_count=3)))
    assert (str(error), error.folders, error.job_count) == ("Too many: a/", ("a/",), 3)

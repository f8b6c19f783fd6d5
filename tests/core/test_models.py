"""Requests, responses and job states as values."""

from __future__ import annotations

import copy
import json
import operator
import pickle
import string
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import combinations
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    InputDataConfig,
    JobFilter,
    JobProperties,
    JobStatus,
    OutputDataConfig,
    RequestValidationError,
    RetryPolicy,
    S3Location,
    StartPHIDetectionJobRequest,
    StartPHIDetectionJobResponse,
    WaitPolicy,
    request_token,
)
from comprehend_phi.models import (
    DescribePHIDetectionJobRequest,
    JobPage,
    ListPHIDetectionJobsRequest,
    StopPHIDetectionJobRequest,
)

from ..conftest import CANARY, ROLE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_request(**fields: Any) -> StartPHIDetectionJobRequest:
    members: dict[str, Any] = {
        "input_data_config": InputDataConfig(s3_bucket="notes.example", s3_key=CANARY),
        "output_data_config": OutputDataConfig(s3_bucket="results.example", s3_key=CANARY),
        "data_access_role_arn": ROLE,
        "job_name": CANARY,
        **fields,
    }
    return StartPHIDetectionJobRequest(**members)


def a_job(**fields: Any) -> JobProperties:
    members: dict[str, Any] = {
        "job_id": "0" * 32,
        "job_status": JobStatus.FAILED,
        "job_name": CANARY,
        "message": f"cannot read {CANARY}",
        "submit_time": NOON,
        "input_data_config": InputDataConfig(s3_bucket="notes.example", s3_key=CANARY),
        "output_data_config": OutputDataConfig(s3_bucket="results.example", s3_key=CANARY),
        "manifest_file_path": f"s3://results.example/{CANARY}/Manifest",
        **fields,
    }
    return JobProperties(**members)


# One instance of each class, with the canary in every field that may name a person.
VALUES: dict[str, Any] = {
    type(value).__name__: value
    for value in (
        InputDataConfig(s3_bucket="notes.example", s3_key=CANARY),
        OutputDataConfig(s3_bucket="results.example", s3_key=CANARY),
        a_request(),
        StartPHIDetectionJobResponse(job_id="0" * 32),
        DescribePHIDetectionJobRequest(job_id="0" * 32),
        StopPHIDetectionJobRequest(job_id="0" * 32),
        JobFilter(job_name=CANARY),
        ListPHIDetectionJobsRequest(filter=JobFilter(job_name=CANARY), next_token=CANARY),
        a_job(),
        JobPage(jobs=(a_job(),), next_token=CANARY),
        RetryPolicy(),
        WaitPolicy(),
    )
}
each_value = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())


# --- All of them ----------------------------------------------------------------------------------


def names_of(value: Any) -> list[str]:
    return [attribute.name for attribute in value.__attrs_attrs__]


@each_value
def test_fields_cannot_be_assigned_deleted_or_added(value: Any) -> None:
    with pytest.raises(AttributeError):
        value.a_field_that_is_not_there = None
    for name in names_of(value):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(value, name)


@each_value
def test_no_instance_has_a_dict_that_could_take_new_fields(value: Any) -> None:
    assert not hasattr(value, "__dict__")


@each_value
def test_arguments_are_keyword_only(value: Any) -> None:
    first = names_of(value)[0]

    with pytest.raises(TypeError, match="positional"):
        type(value)(getattr(value, first))


@each_value
def test_a_misspelled_argument_is_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        type(value)(**attrs.asdict(value, recurse=False), s3_bucker="notes.example")


@each_value
def test_values_with_equal_fields_are_equal_and_have_equal_hashes(value: Any) -> None:
    same = type(value)(**attrs.asdict(value, recurse=False))

    assert same == value
    assert hash(same) == hash(value)
    assert same is not value


@each_value
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_value_is_equal_after_loading(value: Any, protocol: int) -> None:
    back = pickle.loads(pickle.dumps(value, protocol))

    assert type(back) is type(value)
    assert back == value


@each_value
@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
def test_a_copied_value_is_equal(value: Any, make_copy: Callable[[Any], Any]) -> None:
    assert make_copy(value) == value


@each_value
def test_the_repr_shows_no_name_key_path_or_message(value: Any) -> None:
    for shown in (repr(value), str(value), f"{value}", repr([value])):
        assert type(value).__name__ in shown
        assert CANARY not in shown
        assert CANARY[:6] not in shown


def test_the_repr_of_a_request_shows_the_other_fields() -> None:
    request = a_request(kms_key="alias/notes", client_request_token="token-1")

    for shown in ("notes.example", "results.example", ROLE, "alias/notes", "token-1", "'en'"):
        assert shown in repr(request)


# --- Locations ------------------------------------------------------------------------------------

each_location = pytest.mark.parametrize("cls", [InputDataConfig, OutputDataConfig])
Location = type[InputDataConfig | OutputDataConfig]

URIS = {
    "s3://notes.example": ("notes.example", None),
    "s3://notes.example/": ("notes.example", None),
    "s3://notes.example/ward": ("notes.example", "ward"),
    "s3://notes.example/ward/": ("notes.example", "ward/"),
    "s3://notes.example/ward/2031/02": ("notes.example", "ward/2031/02"),
    "s3://notes.example//ward": ("notes.example", "/ward"),
    "s3://notes.example/a%20b?versionId=1#c d": ("notes.example", "a%20b?versionId=1#c d"),
    "s3://notes.example/\u75c5\u6b74": ("notes.example", "\u75c5\u6b74"),
}


@each_location
@pytest.mark.parametrize(("uri", "parts"), URIS.items())
def test_a_uri_is_split_into_bucket_and_key(
    cls: Location, uri: str, parts: tuple[str, str | None]
) -> None:
    location = cls.from_uri(uri)

    assert type(location) is cls
    assert (location.s3_bucket, location.s3_key) == parts


@each_location
@pytest.mark.parametrize(
    ("uri", "owner", "field"),
    [
        *(
            (uri, "{}.from_uri", "uri")
            for uri in (
                "",
                CANARY,
                f"https://notes.example/{CANARY}",
                f"S3://notes.example/{CANARY}",
                f" s3://notes.example/{CANARY}",
                f"s3:/notes.example/{CANARY}",
                f"notes.example/{CANARY}",
                f"s3://notes.example/{CANARY}\ud800",
                f"s3://notes.example/{CANARY}".encode(),
                None,
                7,
            )
        ),
        ("s3://", "{}", "s3_bucket"),
        (f"s3:///{CANARY}", "{}", "s3_bucket"),
        (f"s3://{CANARY}", "{}", "s3_bucket"),
        (f"s3://notes.example/{CANARY}//", "{}", "s3_key"),
        (f"s3://notes.example/{CANARY}\n", "{}", "s3_key"),
        (f"s3://notes.example/{CANARY * 60}", "{}", "s3_key"),
    ],
)
def test_an_invalid_uri_is_rejected_without_quoting_it(
    cls: Location, uri: Any, owner: str, field: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        cls.from_uri(uri)

    error = caught.value
    assert (error.owner, error.field) == (owner.format(cls.__name__), field)
    assert CANARY not in f"{error!r} {error} {vars(error)}"
    assert error.__cause__ is error.__context__ is None


def test_the_error_for_an_invalid_uri_shows_a_valid_one() -> None:
    with pytest.raises(RequestValidationError) as caught:
        InputDataConfig.from_uri("notes.example/ward")

    assert str(caught.value) == (
        "InputDataConfig.from_uri.uri (S3 URI) must look like s3://bucket/key"
    )


@each_location
@given(
    bucket=st.text("abcz019.-_", min_size=3, max_size=63),
    key=st.none()
    | st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=50),
)
def test_a_location_equals_the_location_from_its_uri(
    cls: Location, bucket: str, key: str | None
) -> None:
    assume("//" not in (key or ""))

    location = cls(s3_bucket=bucket, s3_key=key)

    # An empty key means the same as None.
    assert cls.from_uri(location.uri) == attrs.evolve(location, s3_key=key or None)


@pytest.mark.parametrize(("uri", "parts"), URIS.items())
def test_a_uri_is_split_for_a_location_outside_requests(
    uri: str, parts: tuple[str, str | None]
) -> None:
    location = S3Location.from_uri(uri)

    assert (location.bucket, location.key) == parts
    assert location == S3Location(*parts)
    assert S3Location.from_uri(location.uri) == location


@pytest.mark.parametrize(
    ("build", "owner", "field"),
    [
        (lambda: S3Location.from_uri(CANARY), "S3Location.from_uri", "uri"),
        (lambda: S3Location(CANARY), "S3Location", "bucket"),
        (lambda: S3Location("abc", f"{CANARY}//"), "S3Location", "key"),
        (lambda: S3Location("abc", CANARY * 60), "S3Location", "key"),
    ],
    ids=["uri", "bucket", "slashes", "long key"],
)
def test_an_invalid_location_outside_requests_is_rejected_without_quoting_it(
    build: Callable[[], S3Location], owner: str, field: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        build()

    assert (caught.value.owner, caught.value.field) == (owner, field)
    assert CANARY not in f"{caught.value!r} {caught.value} {vars(caught.value)}"


def test_the_repr_of_a_location_outside_requests_has_no_key() -> None:
    assert repr(S3Location("abc", CANARY)) == "S3Location(bucket='abc')"


# --- Requests -------------------------------------------------------------------------------------


def test_only_the_required_members_are_needed() -> None:
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="notes.example"),
        output_data_config=OutputDataConfig(s3_bucket="notes.example"),
        data_access_role_arn=ROLE,
    )

    assert request.language_code == "en"
    assert (request.job_name, request.kms_key) == (None, None)
    assert (request.input_data_config.s3_key, request.output_data_config.s3_key) == (None, None)


@pytest.mark.parametrize(
    "missing", ["input_data_config", "output_data_config", "data_access_role_arn"]
)
def test_a_request_without_a_required_member_is_rejected(missing: str) -> None:
    fields = attrs.asdict(a_request(), recurse=False)
    del fields[missing]

    with pytest.raises(TypeError, match=missing):
        StartPHIDetectionJobRequest(**fields)


def test_each_request_has_its_own_token() -> None:
    tokens = {a_request().client_request_token for _ in range(100)}

    assert len(tokens) == 100


def test_a_token_is_a_random_uuid() -> None:
    token = a_request().client_request_token

    assert str(UUID(token)) == token
    assert UUID(token).version == 4


def test_a_given_token_is_kept() -> None:
    assert a_request(client_request_token="token-1").client_request_token == "token-1"


def test_evolve_keeps_the_token() -> None:
    request = a_request()
    changed = attrs.evolve(request, job_name="another")

    assert changed.job_name == "another"
    assert changed.client_request_token == request.client_request_token


def test_evolve_can_set_another_token() -> None:
    request = a_request()

    assert attrs.evolve(request, client_request_token="token-2").client_request_token == "token-2"


def test_the_docstring_says_that_evolve_keeps_the_token_and_how_to_get_another() -> None:
    words = " ".join((StartPHIDetectionJobRequest.__doc__ or "").split())

    assert "`attrs.evolve` keeps the token" in words
    assert "client_request_token=str(uuid.uuid4())" in words


def test_pickle_and_copies_keep_the_token() -> None:
    request = a_request()

    for same in (pickle.loads(pickle.dumps(request)), copy.copy(request), copy.deepcopy(request)):
        assert same.client_request_token == request.client_request_token


# --- Tokens that can be made again ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "token"),
    [
        # The first is `printf '7:nightly10:2031-02-01' | sha256sum`. They must never change.
        (
            ("nightly", "2031-02-01"),
            "e16057c4d249a05fe254e39b185f80ed7b6060d4f59662b56c96c4398fa16a8b",
        ),
        (("",), "ba768b331fd86cec803be04e56ab2b3d4c0e98ef4ee4fcd4e72ad7cce61a1d1f"),
        (("Été", "病歴"), "b49684863f28fae69d9fc13a49670f3480b99e940080bec87bcd21d8716586d2"),
    ],
)
def test_the_token_of_given_parts_never_changes(parts: tuple[str, ...], token: str) -> None:
    assert request_token(*parts) == token


parts = st.lists(st.text(max_size=5) | st.sampled_from(["a", "1:a", ""]), min_size=1, max_size=4)


@given(parts, parts)
def test_two_lists_of_parts_have_the_same_token_only_if_they_are_equal(
    one: list[str], other: list[str]
) -> None:
    assert (request_token(*one) == request_token(*other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["ab"]),
        (["a", ""], ["a"]),
        (["ab", "c"], ["a", "bc"]),
        (["a1:b"], ["a", "b"]),
        (["a:b"], ["a", "b"]),
        (["a,b"], ["a", "b"]),
        (["a\0b"], ["a", "b"]),
    ],
)
def test_parts_that_look_alike_when_joined_have_different_tokens(
    one: list[str], other: list[str]
) -> None:
    assert request_token(*one) != request_token(*other)


@given(parts)
def test_a_request_accepts_any_token_of_parts(parts: list[str]) -> None:
    token = request_token(*parts)

    assert a_request(client_request_token=token).client_request_token == token


def test_a_token_needs_at_least_one_part() -> None:
    with pytest.raises(RequestValidationError) as caught:
        request_token()

    assert str(caught.value) == "request_token.parts (str) must be one or more strings"


@pytest.mark.parametrize("wrong", [None, 7, CANARY.encode(), [CANARY], f"{CANARY}\ud800"])
def test_a_part_that_is_not_text_is_rejected_without_quoting_it(wrong: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        request_token("nightly", wrong)

    error = caught.value
    assert (error.owner, error.field) == ("request_token", "parts")
    assert CANARY not in f"{error!r} {error} {vars(error)}"
    assert error.__cause__ is error.__context__ is None


# --- Requests as dicts ----------------------------------------------------------------------------

MEMBERS: dict[str, Any] = {
    "InputDataConfig": {"S3Bucket": "notes.example", "S3Key": CANARY},
    "OutputDataConfig": {"S3Bucket": "results.example"},
    "DataAccessRoleArn": ROLE,
    "LanguageCode": "en",
    "JobName": CANARY,
    "KMSKey": "alias/notes",
    "ClientRequestToken": "token-1",
}
FULL = StartPHIDetectionJobRequest(
    input_data_config=InputDataConfig(s3_bucket="notes.example", s3_key=CANARY),
    output_data_config=OutputDataConfig(s3_bucket="results.example"),
    data_access_role_arn=ROLE,
    job_name=CANARY,
    kms_key="alias/notes",
    client_request_token="token-1",
)


def test_to_dict_uses_the_names_of_aws() -> None:
    assert FULL.to_dict() == MEMBERS


def test_from_dict_accepts_the_names_of_aws() -> None:
    assert StartPHIDetectionJobRequest.from_dict(MEMBERS) == FULL


def test_to_dict_always_contains_the_token() -> None:
    request = a_request()

    assert request.to_dict()["ClientRequestToken"] == request.client_request_token


def test_from_dict_requires_only_the_token_and_the_required_members() -> None:
    needed = ("InputDataConfig", "OutputDataConfig", "DataAccessRoleArn", "ClientRequestToken")

    request = StartPHIDetectionJobRequest.from_dict({name: MEMBERS[name] for name in needed})

    assert request == attrs.evolve(FULL, job_name=None, kms_key=None)


def test_from_dict_accepts_any_mapping() -> None:
    source = MappingProxyType({"S3Bucket": "abc"})
    members = MappingProxyType({**MEMBERS, "InputDataConfig": source})

    request = StartPHIDetectionJobRequest.from_dict(members)

    assert request.input_data_config == InputDataConfig(s3_bucket="abc")


def test_from_dict_does_not_change_its_argument() -> None:
    members = copy.deepcopy(MEMBERS)

    StartPHIDetectionJobRequest.from_dict(members)

    assert members == MEMBERS


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
keys = st.none() | st.lists(names, max_size=4).map("/".join)


@given(
    st.builds(
        StartPHIDetectionJobRequest,
        input_data_config=st.builds(InputDataConfig, s3_bucket=st.just("abc"), s3_key=keys),
        output_data_config=st.builds(OutputDataConfig, s3_bucket=st.just("abc"), s3_key=keys),
        data_access_role_arn=st.just(ROLE),
        job_name=st.none() | names,
        kms_key=st.none() | names,
        client_request_token=st.uuids().map(str),
    )
)
def test_a_request_is_equal_after_a_round_trip_through_json(
    request_: StartPHIDetectionJobRequest,
) -> None:
    members = json.loads(json.dumps(request_.to_dict()))

    assert StartPHIDetectionJobRequest.from_dict(members) == request_


def without(name: str) -> dict[str, Any]:
    return {member: value for member, value in MEMBERS.items() if member != name}


FROM_DICT = "StartPHIDetectionJobRequest.from_dict"
KNOWN = ", ".join(MEMBERS)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(
            without("ClientRequestToken"),
            f"{FROM_DICT}.client_request_token (ClientRequestTokenString) is missing; add the token"
            " of the start that this request repeats, or a new one, for example"
            " request_token('monday') or str(uuid.uuid4())",
            id="no token",
        ),
        pytest.param(
            without("DataAccessRoleArn"),
            f"{FROM_DICT}.members (Mapping) must contain DataAccessRoleArn",
            id="no role",
        ),
        pytest.param(
            {"JobName": CANARY},
            f"{FROM_DICT}.members (Mapping) must contain DataAccessRoleArn, InputDataConfig,"
            " OutputDataConfig",
            id="nothing that is required",
        ),
        pytest.param(
            dict[Any, Any](MEMBERS) | {CANARY: CANARY, "job_name": CANARY, 7: CANARY},
            f"{FROM_DICT}.members (Mapping) contains 3 unknown members; the known ones are {KNOWN}",
            id="unknown members",
        ),
        pytest.param(
            {**MEMBERS, "job_name": CANARY, "kms_key": CANARY},
            f"{FROM_DICT}.members (Mapping) contains 2 unknown members; the known ones are {KNOWN}",
            id="names of our fields",
        ),
        pytest.param(
            {**MEMBERS, "InputDataConfig": {"S3Bucket": "notes.example", CANARY: CANARY}},
            f"{FROM_DICT}.input_data_config (Mapping) contains 1 unknown member; the known ones are"
            " S3Bucket, S3Key",
            id="unknown member of a location",
        ),
        pytest.param(
            {**MEMBERS, "OutputDataConfig": {"S3Key": CANARY}},
            f"{FROM_DICT}.output_data_config (Mapping) must contain S3Bucket",
            id="no bucket",
        ),
        pytest.param(
            {**MEMBERS, "InputDataConfig": f"s3://notes.example/{CANARY}"},
            f"{FROM_DICT}.input_data_config (Mapping) must be a Mapping, not str; use AWS's"
            " own names",
            id="a URI as a location",
        ),
        pytest.param(
            {**MEMBERS, "OutputDataConfig": None},
            f"{FROM_DICT}.output_data_config (Mapping) must be a Mapping, not NoneType; use AWS's"
            " own names",
            id="no location",
        ),
        pytest.param(
            {**MEMBERS, "InputDataConfig": {"S3Bucket": [CANARY]}},
            "InputDataConfig.s3_bucket (S3Bucket) must be a str, not list",
            id="type of a bucket",
        ),
        pytest.param(
            {**MEMBERS, "JobName": [CANARY]},
            "StartPHIDetectionJobRequest.job_name (JobName) must be a str, not list",
            id="type of the job name",
        ),
        pytest.param(
            {**MEMBERS, "ClientRequestToken": None},
            "StartPHIDetectionJobRequest.client_request_token (ClientRequestTokenString) must be a"
            " str, not NoneType",
            id="token of no type",
        ),
        pytest.param(
            {**MEMBERS, "KMSKey": ""},
            "StartPHIDetectionJobRequest.kms_key (KMSKey) must have at least 1 character, not 0",
            id="empty key",
        ),
        *(
            pytest.param(
                members,
                f"{FROM_DICT}.members (Mapping) must be a Mapping, not {type(members).__name__};"
                " use AWS's own names",
                id=type(members).__name__,
            )
            for members in (json.dumps(MEMBERS), None, [MEMBERS], FULL)
        ),
    ],
)
def test_from_dict_rejects_an_invalid_request_without_quoting_it(
    members: Any, message: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        StartPHIDetectionJobRequest.from_dict(members)

    error = caught.value
    assert str(error) == message
    assert CANARY not in f"{error!r} {vars(error)}"
    assert error.__cause__ is error.__context__ is None


def test_from_dict_accepts_everything_while_validators_are_off() -> None:
    with attrs.validators.disabled():
        request = StartPHIDetectionJobRequest.from_dict({**MEMBERS, "LanguageCode": "es"})

    assert request.language_code == "es"


# --- Locations that overlap -----------------------------------------------------------------------

# Input key and output key, in the same bucket.
OVERLAPPING = [
    (None, None),
    ("", ""),
    (None, "results"),
    ("notes", None),
    ("notes", "notes"),
    ("notes", "notes/"),
    ("notes/", "notes"),
    ("notes", "notes/results"),
    ("notes/", "notes/results/"),
    ("notes/ward 3", "notes"),
    ("notes/ward 3", "notes/"),
    ("/", "/notes"),
]
APART = [
    ("notes", "results"),
    ("notes", "notes-results"),
    ("notes/", "notes-results/"),
    ("notes-old", "notes"),
    ("notes/ward 3", "notes/ward 30"),
    ("notes/one", "notes/two"),
    ("notes", "/notes"),
    ("notes", "archive/notes"),
    ("Notes", "notes"),
]


def between(source: str | None, target: str | None, other_bucket: str = "") -> Any:
    return StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket="hospital", s3_key=source),
        output_data_config=OutputDataConfig(s3_bucket=f"hospital{other_bucket}", s3_key=target),
        data_access_role_arn=ROLE,
    )


@pytest.mark.parametrize(("source", "target"), OVERLAPPING)
def test_locations_overlap_if_one_folder_contains_the_other(
    source: str | None, target: str | None
) -> None:
    assert between(source, target).locations_overlap
    assert between(target, source).locations_overlap


@pytest.mark.parametrize(("source", "target"), APART)
def test_locations_do_not_overlap_if_neither_folder_contains_the_other(
    source: str, target: str
) -> None:
    assert not between(source, target).locations_overlap
    assert not between(target, source).locations_overlap


@pytest.mark.parametrize(("source", "target"), OVERLAPPING)
def test_locations_in_two_buckets_never_overlap(source: str | None, target: str | None) -> None:
    assert not between(source, target, "-results").locations_overlap


folders = st.none() | st.lists(st.sampled_from(["a", "ab", "b"]), max_size=3).map("/".join)


@given(folders, folders, st.booleans(), st.booleans())
def test_locations_overlap_only_if_both_contain_some_key(
    source: str | None, target: str | None, slash: bool, other_slash: bool
) -> None:
    def inside(key: str, folder: str | None) -> bool:
        path = folder.split("/") if folder else []
        return key.split("/")[: len(path)] == path

    longest = max(source or "", target or "", key=lambda folder: folder.count("/") + bool(folder))
    key = f"{longest}/note.txt" if longest else "note.txt"
    request = between(
        f"{source}/" if source and slash else source,
        f"{target}/" if target and other_slash else target,
    )

    assert request.locations_overlap is (inside(key, source) and inside(key, target))


def test_evolve_checks_what_it_changes() -> None:
    with pytest.raises(RequestValidationError, match=r"job_name \(JobName\)"):
        attrs.evolve(a_request(), job_name=f"{CANARY}\n")


# --- The way out ----------------------------------------------------------------------------------


Start, Describe, Stop, List = (
    StartPHIDetectionJobRequest,
    DescribePHIDetectionJobRequest,
    StopPHIDetectionJobRequest,
    ListPHIDetectionJobsRequest,
)


@pytest.mark.parametrize(
    ("cls", "field", "bad"),
    [
        (InputDataConfig, "s3_bucket", "Not A Bucket"),
        (OutputDataConfig, "s3_key", "a//b"),
        (Start, "input_data_config", None),
        (Start, "data_access_role_arn", "role"),
        (Start, "language_code", "de"),
        (Start, "job_name", "n" * 257),
        (Start, "kms_key", ""),
        (Start, "client_request_token", "a token"),
        (Describe, "job_id", "0" * 33),
        (Stop, "job_id", ""),
        (List, "max_results", 501),
        (List, "filter", "a filter"),
        (JobFilter, "job_status", "PAUSED"),
        (JobFilter, "submit_time_before", "today"),
        # VALUES has a filter that already sets the name.
        (JobFilter, "submit_time_after", NOON),
        (RetryPolicy, "max_attempts", 0),
        (WaitPolicy, "multiplier", 0.5),
    ],
)
def test_only_attrs_switch_turns_the_rules_off(cls: type, field: str, bad: Any) -> None:
    fields = {**attrs.asdict(VALUES[cls.__name__], recurse=False), field: bad}

    with attrs.validators.disabled():
        assert getattr(cls(**fields), field) == bad
    with pytest.raises(RequestValidationError):
        cls(**fields)


def test_building_a_request_does_not_change_the_switch() -> None:
    a_request()

    assert not attrs.validators.get_disabled()


# --- Filters --------------------------------------------------------------------------------------

CRITERIA: dict[str, Any] = {
    "job_name": CANARY,
    "job_status": JobStatus.FAILED,
    "submit_time_before": NOON,
    "submit_time_after": NOON,
}


@pytest.mark.parametrize("name", CRITERIA)
def test_one_filter_is_accepted(name: str) -> None:
    assert getattr(JobFilter(**{name: CRITERIA[name]}), name) == CRITERIA[name]


def test_no_filter_is_accepted() -> None:
    assert JobFilter() == JobFilter(
        job_name=None, job_status=None, submit_time_before=None, submit_time_after=None
    )


@pytest.mark.parametrize(
    "names", [names for count in (2, 3, 4) for names in combinations(CRITERIA, count)]
)
def test_more_than_one_filter_is_rejected(names: tuple[str, ...]) -> None:
    with pytest.raises(RequestValidationError) as caught:
        JobFilter(**{name: CRITERIA[name] for name in names})

    error = caught.value
    assert (error.owner, error.shape) == ("JobFilter", "ComprehendMedicalAsyncJobFilter")
    assert "one filter at a time" in error.reason
    # The message names at least two of the given filters, and no others.
    assert {name for name in CRITERIA if name in str(error)} <= set(names)
    assert sum(name in str(error) for name in CRITERIA) >= 2
    assert CANARY not in f"{error!r} {error} {vars(error)}"


@pytest.mark.parametrize("names", list(combinations(CRITERIA, 2)))
def test_the_error_for_two_filters_names_one_of_them(names: tuple[str, str]) -> None:
    with pytest.raises(RequestValidationError) as caught:
        JobFilter(**{name: CRITERIA[name] for name in names})

    assert caught.value.field in names


# --- JobStatus ------------------------------------------------------------------------------------

TERMINAL = {
    "SUBMITTED": False,
    "IN_PROGRESS": False,
    "COMPLETED": True,
    "PARTIAL_SUCCESS": True,
    "FAILED": True,
    "STOP_REQUESTED": False,
    "STOPPED": True,
}
UNKNOWN = "PAUSED_FOR_REVIEW"
STATUSES = [*TERMINAL, UNKNOWN, "completed", ""]


def test_the_members_are_the_seven_states_of_the_service() -> None:
    assert [status.value for status in JobStatus] == list(TERMINAL)


@pytest.mark.parametrize(("value", "terminal"), TERMINAL.items())
def test_is_terminal_tells_whether_a_state_is_final(value: str, terminal: bool) -> None:
    assert JobStatus(value).is_terminal is terminal


@pytest.mark.parametrize("value", TERMINAL)
def test_a_known_state_is_the_enum_member(value: str) -> None:
    assert JobStatus(value) is JobStatus[value]


@pytest.mark.parametrize("value", [UNKNOWN, "completed", "COMPLETED ", ""])
def test_an_unknown_state_is_not_terminal(value: str) -> None:
    assert JobStatus(value).is_terminal is False


@pytest.mark.parametrize("value", STATUSES)
def test_a_state_equals_its_string(value: str) -> None:
    status = JobStatus(value)

    assert isinstance(status, JobStatus)
    assert status == value
    assert value == status
    assert status != value + "x"
    assert hash(status) == hash(value)
    numbers: dict[str, int] = {status: 1}
    assert numbers[value] == 1
    assert value in {status}
    assert status.value == status.name == value


@pytest.mark.parametrize("value", STATUSES)
def test_a_state_prints_as_its_plain_value(value: str) -> None:
    status = JobStatus(value)

    assert str(status) == value
    assert type(str(status)) is str
    assert f"{status}" == value
    assert f"{status:>20}" == value.rjust(20)
    assert str.format("{}", status) == value
    assert operator.mod("%s", status) == value  # as logging does it
    assert string.Template("$s").substitute(s=status) == value


@pytest.mark.parametrize("value", STATUSES)
def test_a_copied_or_pickled_state_is_the_same_state(value: str) -> None:
    status = JobStatus(value)
    copies = [copy.copy(status), copy.deepcopy(status)]
    copies += [pickle.loads(pickle.dumps(status, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]

    for same in copies:
        assert isinstance(same, JobStatus)
        assert same == status
        assert str(same) == value
        assert same.is_terminal is status.is_terminal


def test_an_unknown_state_does_not_become_a_member() -> None:
    JobStatus(UNKNOWN)

    assert UNKNOWN not in JobStatus.__members__
    assert len(JobStatus) == 7


def test_equal_unknown_states_are_equal_objects() -> None:
    assert JobStatus(UNKNOWN) == JobStatus(UNKNOWN)
    assert len({JobStatus(UNKNOWN), JobStatus(UNKNOWN)}) == 1


@pytest.mark.parametrize("value", [None, 7, b"FAILED", 1.5])
def test_a_value_that_is_not_a_string_is_not_a_state(value: Any) -> None:
    with pytest.raises(ValueError, match="not a valid JobStatus"):
        JobStatus(value)


@settings(deadline=None)
@given(st.text())
def test_every_string_can_be_a_state(value: str) -> None:
    status = JobStatus(value)

    assert (status, str(status), f"{status}", hash(status)) == (value, value, value, hash(value))
    assert pickle.loads(pickle.dumps(status)) == value
    assert status.is_terminal is TERMINAL.get(value, False)

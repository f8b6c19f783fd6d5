"""Each field accepts exactly the values that the service model allows."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from enum import Enum, StrEnum
from functools import cache
from typing import Any

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    InputDataConfig,
    JobFilter,
    JobStatus,
    OutputDataConfig,
    RequestValidationError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    WaitPolicy,
    request_token,
)
from comprehend_phi._shapes import JOB_NAME
from comprehend_phi.models import (
    DescribePHIDetectionJobRequest,
    DetectPHIRequest,
    ListPHIDetectionJobsRequest,
    StopPHIDetectionJobRequest,
)

from ..conftest import ROLE

# Part of every rejected value that can contain it. Only the pattern of roles rejects it by itself.
CANARY = "zinnia-quellwasser"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

Start = StartPHIDetectionJobRequest
Describe = DescribePHIDetectionJobRequest
Detect = DetectPHIRequest
Stop = StopPHIDetectionJobRequest
List = ListPHIDetectionJobsRequest


def valid(cls: type) -> dict[str, Any]:
    """Return the arguments that a class requires."""
    if cls is Start:
        return {
            "input_data_config": InputDataConfig(s3_bucket="notes.example"),
            "output_data_config": OutputDataConfig(s3_bucket="results.example"),
            "data_access_role_arn": ROLE,
        }
    if cls in (InputDataConfig, OutputDataConfig):
        return {"s3_bucket": "notes.example"}
    return {"job_id": "0" * 32} if cls in (Describe, Stop) else {}


def build(cls: type, field: str, value: Any) -> Any:
    return cls(**{**valid(cls), field: value})


def refusal(cls: type, field: str, value: Any) -> RequestValidationError:
    with pytest.raises(RequestValidationError) as caught:
        build(cls, field, value)
    return caught.value


class Folder(str, Enum):  # noqa: UP042 - a `StrEnum` is another case
    """What many programs wrote before Python had `StrEnum`. Its str() is not its value."""

    NOTES = "notes"


class NewFolder(StrEnum):
    NOTES = "notes"


class Hidden(str):
    """A text whose str() hides it, so that no log shows it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


@pytest.mark.parametrize("value", [Folder.NOTES, Hidden("notes")])
@pytest.mark.parametrize(
    ("cls", "field"),
    [(InputDataConfig, "s3_key"), (Start, "job_name"), (JobFilter, "job_name"), (Detect, "text")],
)
def test_a_str_that_would_be_sent_as_another_text_is_refused(
    cls: type, field: str, value: str
) -> None:
    error = refusal(cls, field, value)
    assert error.reason == (
        f"must be a plain str, because str() of this {type(value).__name__} is another text; for a"
        " member of an Enum, pass its value"
    )


def test_a_str_enum_is_accepted() -> None:
    assert accepts(InputDataConfig, "s3_key", NewFolder.NOTES)


def test_a_request_token_takes_the_value_of_a_member_of_an_enum() -> None:
    assert request_token(Folder.NOTES) == request_token("notes")


def accepts(cls: type, field: str, value: Any) -> bool:
    try:
        built = build(cls, field, value)
    except RequestValidationError:
        return False
    # The value is stored unchanged.
    assert getattr(built, field) == value
    return True


def assert_hides(error: RequestValidationError, value: Any) -> None:
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    assert error.__cause__ is None
    assert error.__context__ is None
    for secret in (CANARY, CANARY.upper(), CANARY[:9]):
        assert not any(secret in text for text in shown)
    # Shorter values can also occur in the text of the rule.
    if len(repr(value)) > 5:
        assert not any(repr(value) in text for text in shown)


NAME_FIELDS = [(Start, "job_name"), (JobFilter, "job_name")]
ID_FIELDS = [(Describe, "job_id"), (Stop, "job_id")]
BUCKET_FIELDS = [(InputDataConfig, "s3_bucket"), (OutputDataConfig, "s3_bucket")]
KEY_FIELDS = [(InputDataConfig, "s3_key"), (OutputDataConfig, "s3_key")]

# Every string field: class, field, the shape's name in the service model, whether None stands for
# leaving it out.
STRING_FIELDS = [
    *((cls, field, "S3Bucket", False) for cls, field in BUCKET_FIELDS),
    *((cls, field, "S3Key", True) for cls, field in KEY_FIELDS),
    (Start, "data_access_role_arn", "IamRoleArn", False),
    (Start, "language_code", "LanguageCode", False),
    (Start, "job_name", "JobName", True),
    (Start, "kms_key", "KMSKey", True),
    (Start, "client_request_token", "ClientRequestTokenString", False),
    *((cls, field, "JobId", False) for cls, field in ID_FIELDS),
    (JobFilter, "job_name", "JobName", True),
    (JobFilter, "job_status", "JobStatus", True),
]


# --- Wrong types ----------------------------------------------------------------------------------


class _Telltale:
    """An object whose repr contains the canary."""

    def __repr__(self) -> str:
        return CANARY


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (CANARY.encode(), "bytes"),
        (bytearray(CANARY.encode()), "bytearray"),
        ([CANARY], "list"),
        ({"S3Bucket": CANARY}, "dict"),
        (_Telltale(), "_Telltale"),
        (7, "int"),
        (True, "bool"),
        (1.5, "float"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize(("cls", "field", "shape", "_optional"), STRING_FIELDS)
def test_a_value_that_is_not_a_string_is_rejected(
    cls: type, field: str, shape: str, _optional: bool, value: Any, kind: str
) -> None:
    error = refusal(cls, field, value)

    assert (error.owner, error.field, error.shape) == (cls.__name__, field, shape)
    assert error.reason == f"must be a str, not {kind}"
    assert str(error) == f"{cls.__name__}.{field} ({shape}) must be a str, not {kind}"
    assert_hides(error, value)


@pytest.mark.parametrize(("cls", "field", "shape", "optional"), STRING_FIELDS)
def test_only_optional_fields_accept_none(
    cls: type, field: str, shape: str, optional: bool
) -> None:
    if optional:
        assert getattr(build(cls, field, None), field) is None
    else:
        assert refusal(cls, field, None).reason == "must be a str, not NoneType"


@pytest.mark.parametrize(
    ("field", "kind", "value", "given"),
    [
        (field, kind, value, type(value).__name__)
        for field, kind, other in (
            ("input_data_config", "InputDataConfig", OutputDataConfig),
            ("output_data_config", "OutputDataConfig", InputDataConfig),
        )
        for value in (
            None,
            CANARY,
            {"S3Bucket": CANARY},
            other(s3_bucket="notes.example", s3_key=CANARY),
        )
    ],
)
def test_a_location_of_another_class_is_rejected(
    field: str, kind: str, value: Any, given: str
) -> None:
    error = refusal(Start, field, value)

    assert (error.owner, error.field, error.shape) == ("StartPHIDetectionJobRequest", field, kind)
    assert error.reason == f"must be an {kind}, not {given}"
    assert_hides(error, value)


@pytest.mark.parametrize("value", [CANARY, {"JobName": CANARY}, JobStatus.FAILED, 0, False])
def test_a_filter_of_another_class_is_rejected(value: Any) -> None:
    error = refusal(List, "filter", value)

    assert (error.owner, error.field) == ("ListPHIDetectionJobsRequest", "filter")
    assert error.reason == f"must be a JobFilter, not {type(value).__name__}"
    assert_hides(error, value)


# --- Lengths, which count code points -------------------------------------------------------------

LENGTHS = [
    *((cls, field, 3, 63, "a") for cls, field in BUCKET_FIELDS),
    *((cls, field, 0, 1024, letter) for cls, field in KEY_FIELDS for letter in "k\U0001f600"),
    *((cls, field, 1, 256, letter) for cls, field in NAME_FIELDS for letter in "né\U00020000"),
    *((cls, field, 1, 32, letter) for cls, field in ID_FIELDS for letter in "0\U00020000"),
    (Start, "kms_key", 1, 2048, "k"),
    (Start, "kms_key", 1, 2048, "\U0001f511"),
    (Start, "client_request_token", 1, 64, "t"),
]


@pytest.mark.parametrize(("cls", "field", "shortest", "longest", "letter"), LENGTHS)
def test_the_shortest_and_the_longest_value_are_accepted(
    cls: type, field: str, shortest: int, longest: int, letter: str
) -> None:
    assert accepts(cls, field, letter * shortest)
    assert accepts(cls, field, letter * longest)


@pytest.mark.parametrize(("cls", "field", "_shortest", "longest", "letter"), LENGTHS)
def test_a_value_one_character_too_long_is_rejected(
    cls: type, field: str, _shortest: int, longest: int, letter: str
) -> None:
    value = (CANARY + letter * longest)[: longest + 1]
    error = refusal(cls, field, value)

    assert error.reason == f"must have at most {longest} characters, not {longest + 1}"
    assert_hides(error, value)


@pytest.mark.parametrize(
    ("cls", "field", "shortest", "letter"),
    [(cls, field, low, letter) for cls, field, low, _, letter in LENGTHS if low],
)
def test_a_value_one_character_too_short_is_rejected(
    cls: type, field: str, shortest: int, letter: str
) -> None:
    error = refusal(cls, field, letter * (shortest - 1))

    characters = "1 character" if shortest == 1 else f"{shortest} characters"
    assert error.reason == f"must have at least {characters}, not {shortest - 1}"


def test_only_roles_within_the_length_limits_are_accepted() -> None:
    stem = "arn:aws:iam::123456789012:role/"

    assert accepts(Start, "data_access_role_arn", stem + "r")
    assert accepts(Start, "data_access_role_arn", stem.ljust(2048, "r"))
    assert refusal(Start, "data_access_role_arn", stem.ljust(2049, "r")).reason == (
        "must have at most 2048 characters, not 2049"
    )
    assert refusal(Start, "data_access_role_arn", stem[:19]).reason == (
        "must have at least 20 characters, not 19"
    )


# --- Characters -----------------------------------------------------------------------------------

# One field of each shape whose rule forbids characters, what may stand around a bad one, and
# characters that it forbids.
BAD_CHARACTERS = [
    *(
        (cls, field, character)
        for cls, field in (*NAME_FIELDS, *ID_FIELDS)
        for character in "\n\r\t\0\x1b\x7f\u0301\u200d\ufeff\U0001f600\ud800\ue000,;#'\"!?&()<>|\\"
    ),
    *((cls, field, "\n") for cls, field in KEY_FIELDS),
    (Start, "kms_key", "\n"),
    *(
        (cls, field, character)
        for cls, field in BUCKET_FIELDS
        for character in "\n\r\t \0Zéß/:@\uff11\u0661\u0301\U0001f600\ud800"
    ),
    *(
        (Start, "client_request_token", character)
        for character in "\n\t \0_./éß\uff11\u0661\u0301\U0001f600\ud800"
    ),
]


@pytest.mark.parametrize("at", ["first", "middle", "last"])
@pytest.mark.parametrize(("cls", "field", "character"), BAD_CHARACTERS)
def test_a_forbidden_character_is_rejected_at_any_position(
    cls: type, field: str, character: str, at: str
) -> None:
    value = {
        "first": character + CANARY,
        "middle": CANARY[:6] + character + CANARY[6:],
        "last": CANARY + character,
    }[at]
    error = refusal(cls, field, value)

    assert (error.owner, error.field) == (cls.__name__, field)
    assert str(error) == f"{error.owner}.{error.field} ({error.shape}) {error.reason}"
    assert_hides(error, value)


@pytest.mark.parametrize(
    ("character", "named"),
    [
        ("\n", "U+000A (unnamed)"),  # control characters have no Unicode name
        ("\t", "U+0009 (unnamed)"),
        ("\x7f", "U+007F (unnamed)"),
        ("\u0301", "U+0301 (COMBINING ACUTE ACCENT)"),
        ("\u200d", "U+200D (ZERO WIDTH JOINER)"),
        ("\U0001f600", "U+1F600 (GRINNING FACE)"),
        (",", "U+002C (COMMA)"),
        ("'", "U+0027 (APOSTROPHE)"),
        ("\ud800", "U+D800 (unnamed)"),
    ],
)
@pytest.mark.parametrize(
    ("cls", "field", "letter"), [(*place, "\U00020000") for place in (*NAME_FIELDS, *ID_FIELDS)]
)
def test_the_error_for_a_name_has_the_index_and_unicode_name_of_the_first_bad_character(
    cls: type, field: str, letter: str, character: str, named: str
) -> None:
    error = refusal(cls, field, letter * 4 + character + "," + letter)

    assert "must only contain Unicode letters, separators and numbers" in error.reason
    assert f"at index 4 is {named}" in error.reason
    assert letter not in str(error)


# This rule holds for every shape, not only for names.
@pytest.mark.parametrize(
    ("cls", "field", "prefix", "character", "named"),
    [
        *((cls, field, "zinnia", "Q", "LATIN CAPITAL LETTER Q") for cls, field in BUCKET_FIELDS),
        (InputDataConfig, "s3_bucket", "zinnia", " ", "SPACE"),
        (InputDataConfig, "s3_bucket", "zinnia", "\uff11", "FULLWIDTH DIGIT ONE"),
        (Start, "client_request_token", "Zinnia", "_", "LOW LINE"),
        (Start, "client_request_token", "Zinnia", "\u0301", "COMBINING ACUTE ACCENT"),
    ],
)
def test_the_error_has_the_index_and_unicode_name_of_a_bad_character(
    cls: type, field: str, prefix: str, character: str, named: str
) -> None:
    error = refusal(cls, field, prefix + character + "quellwasser")

    assert f"at index 6 is U+{ord(character):04X} ({named})" in error.reason


@pytest.mark.parametrize(("cls", "field"), [*KEY_FIELDS, (Start, "kms_key")])
@pytest.mark.parametrize("end", ["", "quellwasser", "quell\nwasser"])
def test_the_error_for_a_line_break_has_its_index(cls: type, field: str, end: str) -> None:
    assert "at index 6 is U+000A" in refusal(cls, field, f"zinnia\n{end}").reason


ANY_TEXT_FIELDS = [*KEY_FIELDS, (Start, "kms_key"), (Start, "data_access_role_arn")]


@pytest.mark.parametrize(("cls", "field", "shape", "_"), STRING_FIELDS)
@pytest.mark.parametrize("surrogate", [0xD800, 0xDBFF, 0xDC80, 0xDFFF], ids=hex)
def test_text_that_utf_8_cannot_encode_is_rejected_in_every_field(
    cls: type, field: str, shape: str, _: bool, surrogate: int
) -> None:
    value = f"{CANARY}{chr(surrogate)}"
    error = refusal(cls, field, value)

    assert (error.field, error.shape) == (field, shape)
    assert_hides(error, value)


@pytest.mark.parametrize(("cls", "field"), ANY_TEXT_FIELDS)
def test_the_error_for_text_that_utf_8_cannot_encode_has_the_index(cls: type, field: str) -> None:
    error = refusal(cls, field, f"{ROLE}\udc80quellwasser")

    assert error.reason == (
        "must be text that UTF-8 can encode; the character at index"
        f" {len(ROLE)} is U+DC80 (unnamed)"
    )


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=1, exclude_characters="/\n"), max_size=20))
def test_a_text_is_accepted_if_utf_8_can_encode_it(end: str) -> None:
    try:
        end.encode()
    except UnicodeEncodeError:
        holds = False
    else:
        holds = True

    for cls, field in ANY_TEXT_FIELDS:
        assert accepts(cls, field, ROLE + end) is holds


@pytest.mark.parametrize(("cls", "field"), KEY_FIELDS)
@pytest.mark.parametrize("value", [f"//{CANARY}", f"zinnia//{CANARY}", f"{CANARY}//", "///"])
def test_a_double_slash_in_a_key_is_rejected_with_the_reason(
    cls: type, field: str, value: str
) -> None:
    error = refusal(cls, field, value)

    assert error.shape == "S3Key"
    assert "must not contain //" in error.reason
    assert f"at index {value.index('//')}" in error.reason
    assert_hides(error, value)


@pytest.mark.parametrize(("cls", "field"), KEY_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        "",
        "/",
        "/notes/",
        "notes/2026/",
        "a/b/c",
        "s3:/x",
        "../x",
        "Été 病歴 \U0001f600\u0301\t\r\0",
    ],
)
def test_any_other_key_is_accepted(cls: type, field: str, value: str) -> None:
    assert accepts(cls, field, value)


@pytest.mark.parametrize(
    "value",
    [
        "été 病歴",
        "\U0001f511 alias/zinnia",
        "\t\r\u2028",
        "arn:aws:kms:us-east-1:123456789012:key/x",
    ],
)
def test_any_kms_key_on_one_line_is_accepted(value: str) -> None:
    assert accepts(Start, "kms_key", value)


@pytest.mark.parametrize(("cls", "field"), BUCKET_FIELDS)
@pytest.mark.parametrize(
    "value",
    # The last one: the model's lookahead is at the end of the string, where it excludes nothing.
    ["abc", "a.b", "---", "a_b", "...", "192.168.5.4", "2026-notes.example", "notes.example."],
)
def test_buckets_that_the_model_allows_are_accepted(cls: type, field: str, value: str) -> None:
    assert accepts(cls, field, value)


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "Été Łódź 病歴 2",
        "a b:c/d=e+f-g%h@i_j.k",
        " ",
        "line\u2028separator",
        "paragraph\u2029separator",
        "no\u00a0break",
        "ideographic\u3000space",
        "roman \u2167",
        "half \u00bd squared \u00b2",
        "arabic \u0663 full width \uff15",
        "\U0001d54f astral letter",
        "\U00020000 astral ideograph",
        "modifier \u02b0 titlecase \u01c5",
        unicodedata.normalize("NFC", "e\u0301"),
    ],
)
@pytest.mark.parametrize(("cls", "field"), [*NAME_FIELDS, *ID_FIELDS])
def test_unicode_letters_separators_and_numbers_are_accepted(
    cls: type, field: str, value: str
) -> None:
    assert accepts(cls, field, value)


@pytest.mark.parametrize(("cls", "field"), [*NAME_FIELDS, *ID_FIELDS])
def test_a_letter_followed_by_a_combining_mark_is_rejected(cls: type, field: str) -> None:
    # The model allows no marks (\p{M}). The composed form of the same text is accepted.
    error = refusal(cls, field, unicodedata.normalize("NFD", "\u00e9t\u00e9"))

    assert "at index 1 is U+0301 (COMBINING ACUTE ACCENT)" in error.reason


@pytest.mark.parametrize("value", ["0", "A-z-9", "-", "9e7a3c1e-2b1f-4b58-9c3a-000000000000"])
def test_tokens_of_ascii_letters_digits_and_hyphens_are_accepted(value: str) -> None:
    assert accepts(Start, "client_request_token", value)


@pytest.mark.parametrize(
    "value",
    [
        ROLE,
        "arn:aws-cn:iam::123456789012:role/reads-notes",
        "arn:aws-us-gov:iam::123456789012:role/reads-notes",
        "arn:aws-iso-b:iam::123456789012:role/reads-notes",
        "arn:aws-partition of tomorrow:iam::123456789012:role/r",
        "arn:aws:iam::000000000000:role/path/to/été \U0001f600:+=,.@-_",
    ],
)
def test_roles_that_the_model_allows_are_accepted(value: str) -> None:
    assert accepts(Start, "data_access_role_arn", value)


@pytest.mark.parametrize(
    "value",
    [
        f"arn:awsx:iam::123456789012:role/{CANARY}",
        f"arn:aws-:iam::123456789012:role/{CANARY}",
        f"arn:aws-a:b:iam::123456789012:role/{CANARY}",
        f"arn:AWS:iam::123456789012:role/{CANARY}",
        f"arn:aws:iam::12:role/{CANARY}",
        f"arn:aws:iam::1234567890123:role/{CANARY}",
        f"arn:aws:iam::12345678901x:role/{CANARY}",
        f"arn:aws:iam::12345678901\uff12:role/{CANARY}",
        f"arn:aws:iam::\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669000:role/{CANARY}",
        f"arn:aws:iam:us-east-1:123456789012:role/{CANARY}",
        f"arn:aws:iam::123456789012:user/{CANARY}",
        f"arn:aws:sts::123456789012:assumed-role/{CANARY}/x",
        "arn:aws:iam::123456789012:role/",
        f" arn:aws:iam::123456789012:role/{CANARY}",
        f"x{ROLE}{CANARY}",
        f"arn:aws:iam::123456789012:role/{CANARY}\n",
        f"arn:aws:iam::123456789012:role/{CANARY}\nx",
        f"role/{CANARY}",
    ],
)
def test_an_invalid_role_is_rejected_with_the_pattern(value: str) -> None:
    error = refusal(Start, "data_access_role_arn", value)

    assert (error.owner, error.field) == ("StartPHIDetectionJobRequest", "data_access_role_arn")
    assert error.shape == "IamRoleArn"
    assert "arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+" in error.reason
    assert_hides(error, value)


@pytest.mark.parametrize("value", ["EN", "en ", "en\n", "", "e", "en-US", "de", CANARY])
def test_an_unknown_language_is_rejected(value: str) -> None:
    error = refusal(Start, "language_code", value)

    assert (error.shape, error.reason) == ("LanguageCode", "must be one of en")
    assert_hides(error, value)


@pytest.mark.parametrize("value", ["failed", "FAILED\n", "", CANARY.upper(), JobStatus(CANARY)])
def test_a_filter_rejects_an_unknown_status(value: str) -> None:
    error = refusal(JobFilter, "job_status", value)

    assert error.shape == "JobStatus"
    assert error.reason == (
        "must be one of SUBMITTED, IN_PROGRESS, COMPLETED, PARTIAL_SUCCESS, FAILED,"
        " STOP_REQUESTED, STOPPED"
    )
    assert_hides(error, value)


@pytest.mark.parametrize("value", list(JobStatus))
def test_a_filter_accepts_every_known_status(value: JobStatus) -> None:
    assert accepts(JobFilter, "job_status", value)


# --- Properties: an oracle of its own for every rule ----------------------------------------------


def _is_name_character(character: str) -> bool:
    return unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-%@"


def test_names_allow_code_points_by_unicode_category() -> None:
    def worth_a_look(character: str) -> bool:
        # A sample of the 970,000 unassigned, private and surrogate code points is enough.
        return unicodedata.category(character)[0] != "C" or ord(character) % 251 == 0

    assert not [
        f"U+{ord(character):04X}"
        for character in filter(worth_a_look, map(chr, range(sys.maxunicode + 1)))
        if (JOB_NAME.problem(character) is None) != _is_name_character(character)
    ]


NAME_CHARACTERS = st.one_of(
    st.characters(),
    st.characters(categories=["L", "Z", "N"]),
    st.sampled_from("aZ0 _.:/=+-%@\n\u0301\U0001f600"),
)


@settings(deadline=None)
@given(st.text(NAME_CHARACTERS, max_size=300))
def test_a_name_is_accepted_if_all_its_characters_are_allowed(value: str) -> None:
    admitted = 1 <= len(value) <= 256 and all(map(_is_name_character, value))

    assert accepts(Start, "job_name", value) is admitted
    assert accepts(JobFilter, "job_name", value) is admitted


@settings(deadline=None)
@given(st.text(NAME_CHARACTERS, max_size=40))
def test_a_job_id_is_accepted_if_all_its_characters_are_allowed(value: str) -> None:
    admitted = 1 <= len(value) <= 32 and all(map(_is_name_character, value))

    assert accepts(Describe, "job_id", value) is admitted
    assert accepts(Stop, "job_id", value) is admitted


@cache
def _model_rule(name: str) -> Callable[[str], bool]:
    """Return a function that says whether botocore's service model allows a string."""
    session: Any = botocore.session.get_session()
    loader = session.get_component("data_loader")
    shape: dict[str, Any] = loader.load_service_model("comprehendmedical", "service-2")["shapes"][
        name
    ]
    low, high = shape.get("min", 0), shape["max"]
    pattern = re.compile(shape["pattern"])
    return lambda value: low <= len(value) <= high and pattern.fullmatch(value) is not None


def _near(admitted: st.SearchStrategy[str], alphabet: str) -> st.SearchStrategy[str]:
    """Generate strings that a rule allows, and strings that almost follow it."""
    # The model says nothing about surrogates; a test above does.
    characters = st.one_of(st.sampled_from(alphabet), st.characters(codec="utf-8"))

    def changed(value: str, at: int, cut: int, extra: str) -> str:
        at %= len(value) + 1
        return value[:at] + extra + value[at + cut :]

    nearly = st.builds(
        changed, admitted, st.integers(0, 70), st.integers(0, 3), st.text(characters, max_size=2)
    )
    return st.one_of(admitted, nearly, st.text(characters, max_size=70))


BUCKET_VALUES = _near(
    st.text("abcxyz019.-_", min_size=2, max_size=64), "abcz09.-_ABé\uff11\u0661\n\t /"
)
ROLE_VALUES = _near(
    st.builds(
        "arn:aws{}:iam::{}:role/{}".format,
        st.sampled_from(["", "", "-cn", "-us-gov", "-", "x", "-a:b"]),
        st.text("0123456789", min_size=11, max_size=13),
        st.text(max_size=3),
    ),
    "arn:aws-iam:role/0123456789\uff11\n",
)
TOKEN_VALUES = _near(st.text("abzABZ019-", min_size=0, max_size=66), "abcXYZ019-_. é\uff11\u0661\n")
KMS_VALUES = _near(st.text(max_size=30), "arn:kms/\n\r\u2028\x85")
KEY_VALUES = _near(st.text("ab/", max_size=30), "/ab\n\r\u2028é")


@settings(deadline=None)
@given(BUCKET_VALUES)
def test_a_bucket_is_accepted_if_the_model_allows_it(value: str) -> None:
    admitted = _model_rule("S3Bucket")(value)

    assert accepts(InputDataConfig, "s3_bucket", value) is admitted
    assert accepts(OutputDataConfig, "s3_bucket", value) is admitted


@settings(deadline=None)
@given(KEY_VALUES)
def test_a_key_is_accepted_if_the_model_allows_it_and_it_has_no_double_slash(value: str) -> None:
    admitted = _model_rule("S3Key")(value) and "//" not in value

    assert accepts(InputDataConfig, "s3_key", value) is admitted
    assert accepts(OutputDataConfig, "s3_key", value) is admitted


@settings(deadline=None)
@given(ROLE_VALUES)
def test_a_role_is_accepted_if_the_model_allows_it(value: str) -> None:
    assert accepts(Start, "data_access_role_arn", value) is _model_rule("IamRoleArn")(value)


@settings(deadline=None)
@given(TOKEN_VALUES)
def test_a_token_is_accepted_if_the_model_allows_it(value: str) -> None:
    admitted = _model_rule("ClientRequestTokenString")(value)

    assert accepts(Start, "client_request_token", value) is admitted


@settings(deadline=None)
@given(KMS_VALUES)
def test_a_kms_key_is_accepted_if_the_model_allows_it(value: str) -> None:
    assert accepts(Start, "kms_key", value) is _model_rule("KMSKey")(value)


# --- Times in filters -----------------------------------------------------------------------------


class _NoOffset(tzinfo):
    """A time zone without an offset. Python defines its datetimes as naive."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None


TIME_FIELDS = ["submit_time_before", "submit_time_after"]


@pytest.mark.parametrize("field", TIME_FIELDS)
@pytest.mark.parametrize(
    "value",
    [NOON, NOON.astimezone(timezone(timedelta(hours=-9, minutes=-30)))],
    ids=["UTC", "elsewhere"],
)
def test_an_aware_datetime_is_accepted(field: str, value: datetime) -> None:
    assert accepts(JobFilter, field, value)


@pytest.mark.parametrize("field", TIME_FIELDS)
@pytest.mark.parametrize(
    "value",
    [NOON.replace(tzinfo=None), NOON.replace(tzinfo=_NoOffset())],
    ids=["no time zone", "a time zone without an offset"],
)
def test_a_naive_datetime_is_rejected_with_the_reason(field: str, value: datetime) -> None:
    error = refusal(JobFilter, field, value)

    assert (error.owner, error.field, error.shape) == ("JobFilter", field, "Timestamp")
    assert "must have a time zone" in error.reason
    assert "a different moment on each machine" in error.reason
    assert "tzinfo=datetime.UTC" in error.reason
    assert_hides(error, value)


@pytest.mark.parametrize("field", TIME_FIELDS)
@pytest.mark.parametrize(
    ("value", "kind"),
    [(f"2026-03-01 {CANARY}", "str"), (1772366400, "int"), (date(2026, 3, 1), "date")],
)
def test_a_value_that_is_not_a_datetime_is_rejected(field: str, value: Any, kind: str) -> None:
    error = refusal(JobFilter, field, value)

    assert error.reason == f"must be a datetime, not {kind}"
    assert_hides(error, value)


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 2, 100, 499, 500])
def test_page_sizes_within_the_limits_are_accepted(value: int) -> None:
    assert accepts(List, "max_results", value)


# Class, field, minimum, whether None is allowed, whether infinity is allowed.
NUMBER_FIELDS = [
    (RetryPolicy, "base_delay", 0.0, False, False),
    (RetryPolicy, "max_delay", 0.0, False, False),
    (RetryPolicy, "timeout", 0.0, True, True),
    (RetryPolicy, "slot_timeout", 0.0, False, True),
    (RetryPolicy, "slot_delay", 0.001, False, False),
    (WaitPolicy, "delay", 0.001, False, False),
    (WaitPolicy, "max_delay", 0.001, False, False),
    (WaitPolicy, "multiplier", 1.0, False, False),
    (WaitPolicy, "timeout", 0.0, True, True),
]


@pytest.mark.parametrize(("cls", "field", "least", "none", "infinite"), NUMBER_FIELDS)
def test_numbers_from_the_minimum_on_are_accepted(
    cls: type, field: str, least: float, none: bool, infinite: bool
) -> None:
    assert all(accepts(cls, field, value) for value in (least, least + 1, 7, 1e9))
    assert accepts(cls, field, sys.float_info.max)
    assert accepts(cls, field, None) is none
    assert accepts(cls, field, math.inf) is infinite


@pytest.mark.parametrize(("cls", "field", "least", "_none", "_infinite"), NUMBER_FIELDS)
@pytest.mark.parametrize("value", [-math.inf, -987654.25, -1, math.nan])
def test_a_number_below_the_minimum_is_rejected(
    cls: type, field: str, least: float, _none: bool, _infinite: bool, value: float
) -> None:
    error = refusal(cls, field, value)

    assert (error.owner, error.field) == (cls.__name__, field)
    assert error.reason == f"must be at least {least:g}"
    assert_hides(error, value)


@pytest.mark.parametrize(("cls", "field", "least", "_none", "_infinite"), NUMBER_FIELDS)
def test_the_largest_float_below_the_minimum_is_rejected(
    cls: type, field: str, least: float, _none: bool, _infinite: bool
) -> None:
    assert not accepts(cls, field, math.nextafter(least, -math.inf))


@pytest.mark.parametrize(
    ("cls", "field"), [(cls, field) for cls, field, _, _, infinite in NUMBER_FIELDS if not infinite]
)
def test_an_infinite_pause_is_rejected(cls: type, field: str) -> None:
    assert refusal(cls, field, math.inf).reason == "must be finite"


@pytest.mark.parametrize(("cls", "field", "_least", "_none", "_infinite"), NUMBER_FIELDS)
def test_an_integer_too_large_for_a_float_is_rejected(
    cls: type, field: str, _least: float, _none: bool, _infinite: bool
) -> None:
    # Time is counted in floats, and such a number cannot be added to a float.
    assert_hides(refusal(cls, field, 10**400), 10**400)


@pytest.mark.parametrize(("cls", "field", "_least", "none", "_infinite"), NUMBER_FIELDS)
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (CANARY, "str"),
        ("5", "str"),
        (True, "bool"),
        (b"5", "bytes"),
        (1j, "complex"),
        (timedelta(seconds=98765), "timedelta"),
    ],
)
def test_a_value_that_is_not_a_number_is_rejected(
    cls: type, field: str, _least: float, none: bool, _infinite: bool, value: Any, kind: str
) -> None:
    error = refusal(cls, field, value)

    assert (error.owner, error.field) == (cls.__name__, field)
    assert error.reason == f"must be a number, not {kind}"
    assert_hides(error, value)


@pytest.mark.parametrize(("cls", "field"), [(RetryPolicy, "max_attempts"), (List, "max_results")])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0, "must be at least 1"),
        (-987654, "must be at least 1"),
        (True, "must be an int, not bool"),
        (2.0, "must be an int, not float"),
        (math.inf, "must be an int, not float"),
        (CANARY, "must be an int, not str"),
        (b"zinnia", "must be an int, not bytes"),
        (None, "must be an int, not NoneType"),
    ],
)
def test_a_count_out_of_range_is_rejected(cls: type, field: str, value: Any, reason: str) -> None:
    error = refusal(cls, field, value)

    assert (error.owner, error.field, error.reason) == (cls.__name__, field, reason)
    assert_hides(error, value)


def test_a_page_size_over_the_limit_is_rejected() -> None:
    error = refusal(List, "max_results", 501)

    assert (error.shape, error.reason) == ("MaxResultsInteger", "must be at most 500")


def test_attempts_have_no_upper_limit() -> None:
    assert accepts(RetryPolicy, "max_attempts", 10**6)

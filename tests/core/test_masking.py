"""What masking removes from the messages of the service."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi._masking import mask, mask_words

CONSTRAINT = "failed to satisfy constraint: Member must have length less than or equal to 256"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Rate exceeded", "Rate exceeded"),
        ("", ""),
        (f"Value 'Zinnia' at 'jobName' {CONSTRAINT}", f"Value '***' at 'jobName' {CONSTRAINT}"),
        (f"value 'Zinnia' at 'jobName' {CONSTRAINT}", f"value '***' at 'jobName' {CONSTRAINT}"),
        ("Value '' at 'jobName' failed", "Value '***' at 'jobName' failed"),
        ("Value 'Zin'nia' at 'jobName' failed", "Value '***' at 'jobName' failed"),
        ("Value 'Zin\nnia' at 'jobName' failed", "Value '***' at 'jobName' failed"),
        ("Value '[Zin, nia]' at 'keys' failed", "Value '***' at 'keys' failed"),
        # A value that looks like the message around it.
        ("Value 'a' at 'Zinnia' at 'jobName' failed", "Value '***' at 'jobName' failed"),
        ("Value 'Value 'Zinnia' at 'jobName' failed", "Value '***' at 'jobName' failed"),
        # The end is missing or truncated.
        ("Value 'Zinnia", "Value '***"),
        ("Value 'Zinnia'", "Value '***"),
        ("Value 'Zinnia' at", "Value '***"),
        # No value is quoted here.
        ("Value at 'jobName' failed", "Value at 'jobName' failed"),
        ("Devalue 'd'", "Devalue 'd'"),
    ],
)
def test_the_value_that_the_service_quotes_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2 validation errors detected: Value 'Zinnia' at 'jobName' failed; Value 'Zinnia/' at"
        " 'inputDataConfig.s3Key' failed",
        "2 validation errors detected: Value 'Zinnia' at 'jobName' failed; Value 'Zinnia",
        "Value 'x' at 'jobName' failed; Value 'a' at 'Zinnia' at 'kMSKey' failed; value 'Zinnia'",
    ],
)
def test_all_values_in_several_validation_errors_are_masked(text: str) -> None:
    assert "Zinnia" not in mask(text)
    assert "***" in mask(text)


def test_a_value_that_imitates_the_message_is_masked_in_a_cut_message() -> None:
    # The message is truncated inside the value, so the last `' at '` is part of the value.
    assert "Zinnia" not in mask("Value 'a' at 'Zinnia")


@pytest.mark.parametrize(
    ("text", "values", "masked"),
    [
        ("no access to Zinnia/", ["Zinnia/"], "no access to ***"),
        ("Zinnia, again Zinnia", ["Zinnia"], "***, again ***"),
        # The longer value is masked first, or its rest would stay.
        ("no Zinnia Quell here", ["Zinnia", "Zinnia Quell"], "no *** here"),
        ("no Zinnia Quell here", ["Zinnia Quell", "Zinnia"], "no *** here"),
        ("no Ada Zinnia here", ["Zinnia", "Ada Zinnia"], "no *** here"),
        # A key is also masked without its last slash, but not in other forms.
        ("no ZINNIAX/, no ZINNIAX here", ["ZINNIAX/"], "no ***, no *** here"),
        ("no ZINNIA here", ["ZINNIAX/"], "no ZINNIA here"),
        # A file below a key is a key, too. Its name may contain spaces, so it ends at a colon.
        ("no s3://b/ZINNIAX/Ann Lee.txt: denied", ["ZINNIAX"], "no s3://b/***: denied"),
        ("no s3://b/ZINNIAX/Ann Lee.txt: denied", ["ZINNIAX/"], "no s3://b/***: denied"),
        ("no ZINNIAX/(Ann)\nLee:.txt", ["ZINNIAX/"], "no ***"),
        ("no ZINNIAX/. Or ZINNIAX/: denied", ["ZINNIAX"], "no ***/. Or ***/: denied"),
        # Characters that are special in regular expressions are ordinary here.
        ("no (Zin.ia) here", ["(Zin.ia)"], "no *** here"),
        ("no Zinnia here", ["Zin.ia"], "no Zinnia here"),
        ("a b c", [None, "", "b"], "a b c"),
        ("the job", ["job"], "the job"),
        ("the jobs", ["jobs"], "the ***"),
    ],
)
def test_given_values_are_masked_everywhere(
    text: str, values: list[str | None], masked: str
) -> None:
    assert mask(text, values) == masked


def test_a_short_value_is_masked_only_if_the_service_quotes_it() -> None:
    assert mask("Value 'Ann' at 'jobName' failed", ["Ann"]) == "Value '***' at 'jobName' failed"


@pytest.mark.parametrize(
    ("message", "text", "masked"),
    [
        ("near NOOR:", "Noor Sample", "near ***:"),
        ("near xNoorx", "Noor Sample", "near ***"),  # contains a word of the text
        ("near oor", "Noor Sample", "near oor"),
        ("near Ann", "Ann Sample", "near Ann"),
        ("near samp", "Ann Sample", "near ***"),  # part of a word of the text
        ("call 555-0142", "555-0142", "call ***"),
        ("no such rule", "Ann Sample", "no such rule"),
        ("no such rule", "", "no such rule"),
        # A longer word is not searched.
        ("y" * 100, "Ann Sample", "y" * 100),
        ("y" * 101, "Ann Sample", "***"),
    ],
)
def test_words_of_the_text_are_masked(message: str, text: str, masked: str) -> None:
    assert mask_words(message, text) == masked


QUOTES = st.text(st.sampled_from("Value' atZinjobNme;\n"), max_size=60)


@settings(deadline=None)
@given(st.text(max_size=8), QUOTES, QUOTES)
def test_a_complete_message_never_shows_a_value(before: str, left: str, right: str) -> None:
    value = f"{left}CANARY{right}"

    assert "CANARY" not in mask(f"{before} Value '{value}' at 'jobName' {CONSTRAINT}")
    assert "CANARY" not in mask(f"{before} {value} {CONSTRAINT}", [value])

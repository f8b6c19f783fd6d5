from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import Entity
from comprehend_phi.testing.detector import RULES, Rule, detect

NOTES = Path(__file__).parents[2] / "examples" / "notes"

# The largest document that a job accepts.
LIMIT = 71_680

TYPES = {
    "NAME",
    "AGE",
    "DATE",
    "PHONE_OR_FAX",
    "EMAIL",
    "ID",
    "URL",
    "ADDRESS",
    "PROFESSION",
}

Span = tuple[str, int, int]


def spans(entities: tuple[Entity, ...]) -> list[Span]:
    return [(entity.type, entity.begin_offset, entity.end_offset) for entity in entities]


def unmark(marked: str) -> tuple[str, list[Span]]:
    """Return a text such as "Dr. «NAME:Hart»" without its marks, and the marked spans."""
    text, position = "", 0
    expected: list[Span] = []
    for mark in re.finditer("«([A-Z_]+):([^»]*)»", marked):
        text += marked[position : mark.start()]
        expected.append((mark[1], len(text), len(text) + len(mark[2])))
        text += mark[2]
        position = mark.end()
    return text + marked[position:], expected


def note(name: str) -> str:
    # read_text would replace CRLF by LF and change all offsets after it.
    return (NOTES / name).read_bytes().decode("utf-8")


NAMES = [
    "Patient: «NAME:José Ñúñez»",
    "PATIENT: «NAME:JOSÉ ÑÚÑEZ»",
    "Patient Name: «NAME:Ottoline Marsh»",
    "Pt: «NAME:Łucja Żak» is well",
    "Pt. «NAME:Łucja Żak» is well",
    "Name: «NAME:Zoë O'Connor-Lindqvist»",
    "Name: «NAME:Zoë O\u2019Connor-Lindqvist»",
    "Name: «NAME:Ñúñez, José A.»",
    "Name: «NAME:Piet van der Molen»",
    "Name: «NAME:J. R. Hart»",
    "Seen by Dr. «NAME:Hart».",
    "Seen by Dr «NAME:Hart» today",
    "Mr. «NAME:Hart»'s cough",
    "Mrs. «NAME:Þórunn Gísladóttir»",
    "Ms. «NAME:de la Cruz»",
    "Attending: Dr. «NAME:Hart»",
    "Attending Physician: «NAME:Amara Lindqvist», MD",
    "Attending «NAME:Amara Lindqvist»",
    "Referring physician: «NAME:Amara Lindqvist»",
    "referring physician «NAME:Amara Lindqvist»",
    "Signed by «NAME:Amara Lindqvist»",
    "Electronically signed by: «NAME:Amara Lindqvist»",
    "with his wife, «NAME:Corina Drăgulescu», at home",
    "called «NAME:Ignatius Pell», RN, at noon",
    "Mr. «NAME:Jose\u0301 N\u0303u\u0301n\u0303ez»",
    "Dr. «NAME:Ελένη Παππά»",
    "Dr. «NAME:Олена Шевчук»",
    "Patient: «NAME:José Ñúñez» DOB: unknown",
    "Patient: «NAME:José Ñúñez»\nWard: seven",
    "Patient: «NAME:José Ñúñez»\r\nWard: seven",
]

DATES = [
    "on «DATE:2031-02-14».",
    "at «DATE:2031-02-14»T08:30",
    "on «DATE:02/14/2031»,",
    "on «DATE:2/4/31»",
    "on «DATE:02-14-2031»",
    "on «DATE:14.02.2031».",
    "on «DATE:14 Feb 2031»",
    "on «DATE:14 February 2031»",
    "on «DATE:14-FEB-31»",
    "on the «DATE:14th of February»",
    "on «DATE:February 14, 2031»",
    "on «DATE:Feb. 14th»",
    "in «DATE:July 2030»",
    "from «DATE:2031-02-14» to «DATE:2031-02-16»",
]

AGES = [
    "a «AGE:54»-year-old man",
    "a «AGE:54» year old man",
    "«AGE:54» years old",
    "«AGE:54» years of age",
    "«AGE:54» y/o",
    "«AGE:54» y.o. man",
    "«AGE:54»yo man",
    "a «AGE:3»-month-old",
    "aged «AGE:54»",
    "at the age of «AGE:101»",
    "Age: «AGE:54» Sex: M",
]

PHONES = [
    "Phone: «PHONE_OR_FAX:(555) 555-0142»",
    "«PHONE_OR_FAX:(555) 555-0142»",
    "«PHONE_OR_FAX:(555)555-0142»",
    "«PHONE_OR_FAX:555-555-0142».",
    "«PHONE_OR_FAX:555.555.0142»",
    "«PHONE_OR_FAX:1-555-555-0142»",
    "«PHONE_OR_FAX:+1 555 555 0142»",
    "«PHONE_OR_FAX:+1 (555) 555-0142»",
    "«PHONE_OR_FAX:555-555-0142 ext. 4410»",
    "«PHONE_OR_FAX:555-555-0142 x12»",
    "Tel. «PHONE_OR_FAX:555-0142»",
    "Fax: «PHONE_OR_FAX:555-0142»",
    "Fax «PHONE_OR_FAX:5555550142»",
    "cell «PHONE_OR_FAX:555-0142»",
    "call her at «PHONE_OR_FAX:555-0142»",
]

EMAILS = [
    "write to «EMAIL:zoe@clinic.example».",
    "<«EMAIL:zoe.hart+notes@mail.clinic.example»>",
    "«EMAIL:zoë@clinic.example»",
]

URLS = [
    "see «URL:https://portal.clinic.example/results?a=1».",
    "(«URL:http://clinic.example»)",
    "«URL:www.clinic.example», open daily",
]

IDS = [
    "MRN: «ID:0048213»",
    "MRN «ID:HR-0048213»",
    "MRN#«ID:0048213»",
    "Medical Record Number: «ID:00-48-213»",
    "Medical record no. «ID:0048213»",
    "Account: «ID:AC-77-1029»",
    "Acct # «ID:0048213»",
    "Accession No. «ID:ECHO-31-2206»",
    "Member ID: «ID:NWH-550-2291»",
    "SSN: «ID:000-12-3456»",
    "his number is «ID:900-45-0078».",
]

ADDRESSES = [
    "lives at «ADDRESS:12 Alder Lane»",
    "lives at «ADDRESS:12 Alder Lane».",
    "lives at «ADDRESS:12 Alder Ln.»",
    "«ADDRESS:12B Old Tannery Row» with a cat",
    "«ADDRESS:1502 N. Heron Mill Rd, Saltgate, OR 00155»",
    "«ADDRESS:12 Alder Lane, Port Ellery, OR 00142-0007» with",
    "«ADDRESS:12 Alder Lane, Port Ellery, OR» with",
    "«ADDRESS:12 Alder Lane, Port Ellery», with",
    "«ADDRESS:12 Alder Lane», Port Ellery where",
    "«ADDRESS:9 Quill Court, Apt 2B, Fennmouth, WA 00187»",
    "«ADDRESS:40 5th Avenue»",
    "«ADDRESS:7 Alder Dr, Saltgate»",
    "«ADDRESS:23 Étoile Street»",
]

PROFESSIONS = [
    "works as a «PROFESSION:ferry mechanic» and swims",
    "worked as an «PROFESSION:usher» until spring",
    "employed as a «PROFESSION:night-shift baker».",
    "a retired «PROFESSION:bridge engineer»,",
    "Occupation: «PROFESSION:Bus driver»",
    "Occupation: retired «PROFESSION:lighthouse keeper»",
    "she is a «PROFESSION:teacher».",
]

NOT_PHI = [
    "",
    "BP 120/80, HR 72, SpO2 98%",
    "118 120 2031",
    "room 555-0142",
    "may 10 tablets be taken",
    "Patient denies chest pain",
    "Patient: Denies chest pain",
    "Patient:\nJosé Ñúñez",
    "Physician: MD on call",
    "Mr.\nHart",
    "Occupation: none",
    "retired in spring",
    "the average 54, page 54",
    "MRN: pending",
    "12 Lead ECG",
    "Baker cyst",
    "user@host",
    "2031-13-14",
    "0000-12-3456",
    "3.54 years old",
]

PRECEDENCE = [
    "«URL:https://clinic.example/2031-02-14/zoe@clinic.example»",
    "Mr. «EMAIL:Zoe@clinic.example»",
    "Account: «DATE:02/14/2031»",
    "Account «ID:555-555-0142»",
    "Patient: «NAME:Zoë Hart», RN",
    "bed 12 Attending Dr. «NAME:Hart»",
    "a retired «PROFESSION:teacher»",
    "«ADDRESS:12 Dr. Hart Street»",
]

CASES = [
    *NAMES,
    *DATES,
    *AGES,
    *PHONES,
    *EMAILS,
    *URLS,
    *IDS,
    *ADDRESSES,
    *PROFESSIONS,
]


@pytest.mark.parametrize("marked", CASES)
def test_exactly_the_marked_spans_are_detected(marked: str) -> None:
    text, expected = unmark(marked)

    assert spans(detect(text)) == expected


@pytest.mark.parametrize("text", NOT_PHI)
def test_text_that_only_resembles_phi_is_not_detected(text: str) -> None:
    assert detect(text) == ()


@pytest.mark.parametrize("marked", PRECEDENCE)
def test_the_earlier_of_two_overlapping_rules_wins(marked: str) -> None:
    text, expected = unmark(marked)

    assert spans(detect(text)) == expected


def test_an_entity_has_the_members_of_the_service() -> None:
    assert detect("👩‍⚕️ Dr. Żak") == (
        Entity(
            id=0,
            begin_offset=9,
            end_offset=12,
            score=0.99,
            text="Żak",
            category="PROTECTED_HEALTH_INFORMATION",
            type="NAME",
        ),
    )


def test_the_rules_cover_the_types_of_the_service() -> None:
    assert {rule.type for rule in RULES} == TYPES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.type)
def test_the_only_group_of_a_rule_is_its_span(rule: Rule) -> None:
    assert (rule.pattern.groups, dict(rule.pattern.groupindex)) == (1, {"span": 1})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.type)
def test_the_score_of_a_rule_is_a_probability(rule: Rule) -> None:
    assert 0 < rule.score < 1


# Arbitrary text mixed with text that the rules look for. Each finds faults that the other misses.
anything = st.text(max_size=20)
awkward = st.sampled_from(
    ["😀", "👩\u200d⚕️", "e\u0301", "\u0301", "\r\n", "\n", "\0", " ", ": ", "\U0001d49c"]
)
phi = st.sampled_from([unmark(marked)[0] for marked in CASES + PRECEDENCE])
texts = st.lists(anything | awkward | phi, max_size=12).map("".join)

# A slow machine is not a fault of the detector.
untimed = settings(deadline=None)


@untimed
@given(texts)
def test_the_text_of_an_entity_is_the_slice_at_its_offsets(text: str) -> None:
    for entity in detect(text):
        assert entity.text == text[entity.begin_offset : entity.end_offset] != ""


@untimed
@given(texts)
def test_entities_are_sorted_and_do_not_overlap(text: str) -> None:
    offsets = [offset for _, begin, end in spans(detect(text)) for offset in (begin, end)]

    assert offsets == sorted(offsets)


@untimed
@given(texts)
def test_ids_count_from_zero(text: str) -> None:
    entities = detect(text)

    assert [entity.id for entity in entities] == list(range(len(entities)))


@untimed
@given(texts)
def test_no_entity_starts_or_ends_with_whitespace(text: str) -> None:
    for entity in detect(text):
        assert entity.text == entity.text.strip()


@untimed
@given(texts)
def test_no_entity_contains_a_line_end(text: str) -> None:
    for entity in detect(text):
        assert entity.text.splitlines() == [entity.text]


@untimed
@given(texts)
def test_a_line_before_the_text_shifts_all_offsets_by_its_code_points(text: str) -> None:
    shifted = tuple(
        msgspec.structs.replace(
            entity, begin_offset=entity.begin_offset + 2, end_offset=entity.end_offset + 2
        )
        for entity in detect(text)
    )

    assert detect("😀\n" + text) == shifted


ADVERSARIAL = [
    "5",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "-",
    ".",
    "/",
    "A",
    "a",
    "😀",
    "\u0301",
    "A\u0301",
    "A a ",
    "A A a ",
    "A-",
    "A'",
    "A.",
    "A, ",
    "A de de de ",
    "a@",
    "a@b.",
    "a-",
    "1/1/",
    "1 A ",
    "1 A A A A ",
    "1 St. ",
    "(555) ",
    "555-",
    "54 years ",
    "Feb ",
    "MRN ",
    "MRN A-",
    "Mr. ",
    "Name:",
    "Name\t",
    "signed by ",
    "his wife, ",
    "retired ",
    "works as the ",
]


@pytest.mark.parametrize("piece", ADVERSARIAL, ids=ascii)
def test_a_large_unusual_text_does_not_change_what_is_found_after_it(piece: str) -> None:
    odd = (piece * LIMIT)[:LIMIT]

    assert spans(detect(odd + "\nMr. Hart")) == [("NAME", LIMIT + 5, LIMIT + 9)]


NOTE_TYPES = {
    "cardiology/echo-report.txt": TYPES - {"ADDRESS", "URL"},
    "consult-no-phi.txt": set[str](),
    "discharge-summary.txt": TYPES,
    "emergency/triage note.txt": TYPES - {"EMAIL"},
    "nursing-note-crlf.txt": TYPES - {"URL"},
    "progress-note-accents.txt": TYPES - {"URL"},
    "radiology-report.txt": TYPES - {"ADDRESS", "EMAIL", "PROFESSION"},
    "referral-letter.txt": TYPES,
    "telephone-note.txt": TYPES - {"PROFESSION", "URL"},
    "too-large.txt": TYPES,
}


def test_the_table_of_notes_is_complete() -> None:
    on_disk = {path.relative_to(NOTES).as_posix() for path in NOTES.rglob("*.txt")}

    assert on_disk == set(NOTE_TYPES)


@pytest.mark.parametrize(("name", "types"), NOTE_TYPES.items())
def test_a_note_contains_its_types(name: str, types: set[str]) -> None:
    assert {entity.type for entity in detect(note(name))} == types


def test_the_notes_contain_every_type() -> None:
    assert {entity.type for name in NOTE_TYPES for entity in detect(note(name))} == TYPES


def test_only_the_large_note_is_too_large() -> None:
    sizes = {name: (NOTES / name).stat().st_size for name in NOTE_TYPES}

    assert [name for name, size in sizes.items() if size > LIMIT] == ["too-large.txt"]


def test_every_line_of_the_crlf_note_ends_in_crlf() -> None:
    text = note("nursing-note-crlf.txt")

    assert text.count("\r\n") == text.count("\n") == text.count("\r") > 0


def test_the_note_with_accents_has_more_bytes_than_code_points() -> None:
    text = note("progress-note-accents.txt")
    last = detect(text)[-1]
    before = text[: last.begin_offset]

    sizes = [len(before), len(before.encode("utf-16-le")) // 2, len(before.encode("utf-8"))]

    assert last.text == "Łucja Żak"
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", NOTE_TYPES)
def test_the_numbers_in_a_note_are_fictional(name: str) -> None:
    for entity in detect(note(name)):
        if entity.type == "PHONE_OR_FAX":
            assert re.search(r"555-01\d\d|555 01\d\d", entity.text)
        if re.fullmatch(r"\d{3}-\d\d-\d{4}", entity.text):
            assert entity.text.startswith(("000", "9"))

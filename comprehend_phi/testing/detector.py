"""A stand-in for the service's model: for tests and demos, never for real notes.

It knows cue words and fixed patterns, as they occur in forms, and misses most of what a person
would find in a sentence. Its entities follow the rules of the real service: offsets count code
points, the end is exclusive, entities are sorted, do not overlap and do not cross line ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .._entities import Entity

Detector = Callable[[str], Sequence[Entity]]  # finds the entities of a text, from any thread


class DetectorError(Exception):
    """The detector raised an exception. The message only has its class, because it may quote."""


def run_detector(detector: Detector, text: str) -> Sequence[Entity]:
    """Return the entities that a detector finds.

    Raises:
        DetectorError: the detector raised an exception, or returned no sequence.
    """
    try:
        return tuple(detector(text))
    except Exception as cause:  # noqa: BLE001 - a detector may raise anything
        problem = f"The detector raised {type(cause).__name__}."
    raise DetectorError(problem)


class Rule(NamedTuple):
    """A pattern for one type of entity. Its group `span` is the entity."""

    type: str
    score: float
    pattern: re.Pattern[str]


# Every pattern begins at the edge of a word, and its repetitions are bounded or can end in only one
# place. So no text makes it backtrack over the same part again and again. No pattern uses \d, which
# matches the digits of every script.

_DAY = r"(?:0?[1-9]|[12][0-9]|3[01])"
_NTH = _DAY + r"(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20|21)[0-9]{2}"
# "may" in lower case is nearly always the verb.
_MONTH = (
    r"(?:(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)|May|MAY)\.?"
)

_EXTENSION = r"(?:,? (?i:ext\.?|x) ?[0-9]{1,6})?"

# Python's re has no class for capitals. These are from Latin, Greek, Cyrillic and Armenian.
_CAPITAL = "[" + "".join(c for c in map(chr, range(0x2000)) if c.isupper()) + "]"
# An accent may be a separate code point, as in text from macOS.
_ACCENTS = r"[\u0300-\u036f]*"
_LETTER = r"[^\W\d_]" + _ACCENTS
_WORD_END = r"(?![\w\u0300-\u036f])"
# The hyphen or apostrophe of a double name, but not the one of a possessive.
_JOIN = r"(?:(?!['\u2019]s(?!\w))['\u2019-])?"
_WORD = _CAPITAL + _ACCENTS + f"(?:{_JOIN}{_LETTER})" + r"{0,39}" + _WORD_END

_CREDENTIAL = r"MD|DO|MBBS|RN|LPN|NP|PA|PA-C|PT|DPT|RDCS|RT|PharmD|PhD"
_TITLE = r"Dr|Doctor|Mr|Mrs|Ms|Miss|Mx|Prof|Professor"
# Capitalized words that follow a name in a form, or replace a missing name. Titles are not part of
# names: the rule for titles finds the name in "Attending: Dr. Hart".
_NO_NAME = (
    rf"(?!(?:{_TITLE}|{_CREDENTIAL}|Name|Patient|DOB|Date|Age|Sex|Gender|MRN|SSN|ID|Account"
    r"|Phone|Tel|Fax|Email|Address|Room|Ward|Bed|Occupation|Physician|Nurse|Surgeon|None|Not"
    r"|Unknown|Denies|The)(?!\w))"
)
_INITIALS = rf"(?:{_CAPITAL}\.)" + r"{1,3}"
_NAME_PART = f"{_NO_NAME}(?:{_INITIALS}|{_WORD})"
_PARTICLES = r"(?:(?:al|bin|da|de|del|den|der|di|dos|el|la|le|ter|van|von) ){0,3}"
_NAME = f"{_PARTICLES}{_NAME_PART}(?: {_PARTICLES}{_NAME_PART})" + r"{0,3}"
_LAST_FIRST = f"{_NAME_PART}, {_NAME_PART}(?: {_NAME_PART})?"
_BY = r"(?:authored|dictated|prepared|recorded|reported|signed|taken|transcribed|written) by"
_KIN = r"(?:brother|daughter|father|husband|mother|partner|sister|son|wife)"

_STREET = (
    r"(?:(?:Avenue|Boulevard|Close|Court|Crescent|Drive|Highway|Lane|Parkway|Place|Quay|Road|Row"
    r"|Square|Street|Terrace|Way)(?!\w)"
    # "Dr" only ends a street if no doctor's name follows.
    rf"|(?:Ave|Blvd|Ct|Hwy|Ln|Pl|Rd|St|Dr(?!\.? {_CAPITAL}))(?!\w)\.?)"
)
_STREET_NAME = rf"(?:(?:{_WORD}\.?|[0-9]{{1,3}}(?:st|nd|rd|th)) ){{1,4}}"
_UNIT = r"(?:,? (?:Apt|Apartment|Unit|Suite|Ste)\.? #?[A-Za-z0-9]{1,6}(?!\w))?"
_STATE = r",? [A-Z]{2}(?!\w)(?: [0-9]{5}(?:-[0-9]{4})?(?!\w))?"
# A city without a state only counts if a comma, a full stop or the like follows.
_CITY = rf"(?:, {_WORD}(?: {_WORD}){{0,2}}(?:{_STATE}|(?! ?\w)))?"

_JOB_WORD = (
    r"(?!(?:after|ago|and|as|at|because|but|by|early|for|from|full|in|last|military|n|none|on|or"
    r"|part|retired|since|student|the|this|to|unemployed|unknown|until|when|who|with)(?![\w-]))"
    r"[^\W\d_](?:-?[^\W\d_]){2,29}(?![\w-])"
)
_JOB = f"{_JOB_WORD}(?: {_JOB_WORD})" + r"{0,2}"

# If two matches overlap, the earlier rule wins, and within one rule the match further left. So
# patterns that may contain others come first (a date in a URL), and patterns that depend on a cue
# alone come late (names).
RULES = tuple(
    Rule(type_, score, re.compile(pattern))
    for type_, score, pattern in (
        # A full stop or bracket after a URL is not part of it.
        (
            "URL",
            0.99,
            r"(?<!\w)(?P<span>(?i:https?://|www\.)[^\s<>\"']*[^\s<>\"'.,;:!?)\]])",
        ),
        (
            "EMAIL",
            0.99,
            r"(?<![\w.+-])(?P<span>\w[\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24})"
            r"(?![\w-])",
        ),
        # A social security number needs no cue.
        (
            "ID",
            0.99,
            r"(?<![\w-])(?P<span>[0-9]{3}-[0-9]{2}-[0-9]{4})(?![\w-])",
        ),
        # 2031-02-14, possibly with a time as in 2031-02-14T08:30.
        (
            "DATE",
            0.99,
            rf"(?<![\w/.-])(?P<span>{_YEAR}-(?:0[1-9]|1[0-2])-{_DAY})(?![0-9-])",
        ),
        # 02/14/2031, 14/02/31, 02-14-2031, 14.02.2031. Month and day may come in either order.
        (
            "DATE",
            0.98,
            rf"(?<![\w/.-])(?P<span>{_DAY}/{_DAY}/(?:{_YEAR}|[0-9]{{2}})"
            rf"|{_DAY}-{_DAY}-{_YEAR}|{_DAY}\.{_DAY}\.{_YEAR})(?![\w/-])",
        ),
        # 14 Feb 2031, 14-FEB-31, 14th of February
        (
            "DATE",
            0.97,
            rf"(?<![\w/.-])(?P<span>{_NTH}[ -](?:of )?{_MONTH}"
            rf"(?:,? {_YEAR}|-(?:{_YEAR}|[0-9]{{2}}))?)(?!\w)",
        ),
        # February 14, 2031; Feb 14th; February 2031
        (
            "DATE",
            0.96,
            rf"(?<!\w)(?P<span>{_MONTH}(?: {_NTH}(?:,? {_YEAR})?|,? {_YEAR}))(?!\w)",
        ),
        # A record number contains a digit, possibly after a few letters.
        (
            "ID",
            0.95,
            r"(?<!\w)(?i:MRN|medical record|account|acct|accession|chart|encounter|policy"
            r"|licen[cs]e|(?:patient|member|subscriber|case|health plan|device|serial)"
            r" (?:id|number|no))\.?"
            r"(?:[ \t]{0,3}(?i:number|no|id|#)\.?){0,2}[ \t]{0,3}[:#]?[ \t]{0,8}"
            r"(?P<span>(?=[A-Za-z-]{0,8}[0-9])[A-Za-z0-9](?:[A-Za-z0-9]|[-/](?=[A-Za-z0-9])){3,31})"
            r"(?!\w)",
        ),
        # Groups that are separated by spaces alone could be columns of a flow sheet.
        (
            "PHONE_OR_FAX",
            0.98,
            r"(?<![\w+.-])(?P<span>(?:(?:\+?1[ .-]?)?\([0-9]{3}\) ?[0-9]{3}[ .-]"
            r"|\+1[ .-]?[0-9]{3}[ .-][0-9]{3}[ .-]|(?:1[.-])?[0-9]{3}[.-][0-9]{3}[.-])[0-9]{4}"
            rf"{_EXTENSION})(?![\w-])",
        ),
        # After a cue the area code may be missing.
        (
            "PHONE_OR_FAX",
            0.93,
            r"(?<!\w)(?i:phone|telephone|tel|ph|fax|cell|mobile|pager|call|call back|callback)\.?"
            r"(?: (?i:number|no\.?|at|on|to|is|him|her|them)){0,2}[ \t]{0,3}:?[ \t]{0,8}"
            rf"(?P<span>(?:[0-9]{{3}}[ .-]?)?[0-9]{{3}}[ .-]?[0-9]{{4}}{_EXTENSION})(?![\w-])",
        ),
        (
            "ADDRESS",
            0.96,
            rf"(?<![\w.-])(?P<span>[0-9]{{1,6}}[A-Za-z]? {_STREET_NAME}{_STREET}{_UNIT}{_CITY})",
        ),
        # 54-year-old, 54 y/o, 54 years of age, 3-month-old: the number alone, as the service does.
        (
            "AGE",
            0.98,
            r"(?<![\w.-])(?P<span>[0-9]{1,3})(?=(?i:[ -]?(?:years?|yrs?|months?|weeks?|days?)"
            r"(?:[ -]old|[ ]of[ ]age)|[ -]?y\.?/?o(?!\w))(?!\w))",
        ),
        (
            "AGE",
            0.95,
            r"(?<!\w)(?i:aged|age(?: of)?)[ \t]{0,3}:?[ \t]{0,8}"
            r"(?P<span>[0-9]{1,3})(?![\w/-]|\.[0-9])",
        ),
        (
            "NAME",
            0.99,
            rf"(?<!\w)(?:{_TITLE})\.?[ \t]{{1,3}}(?P<span>{_NAME})",
        ),
        # The label of a form field with a colon. Only forms put the last name first.
        (
            "NAME",
            0.98,
            r"(?<!\w)(?i:patient|pt|name|attending|physician|surgeon|consultant|radiologist"
            r"|cardiologist|sonographer|technologist|pharmacist|nurse|provider|caller|contact|kin"
            rf"|witness|{_KIN})[ \t]{{0,8}}:[ \t]{{0,8}}(?P<span>{_LAST_FIRST}|{_NAME})",
        ),
        # Words that precede a name in a sentence.
        (
            "NAME",
            0.94,
            rf"(?<!\w)(?i:pt\.|{_BY}:?|(?:attending|referring)(?: physician)?"
            rf"|(?:his|her|their) {_KIN},?)[ \t]{{1,3}}(?P<span>{_NAME})",
        ),
        # Zoë Hart, RN
        (
            "NAME",
            0.92,
            rf"(?<![\w\u0300-\u036f'\u2019.-])(?P<span>{_NAME})"
            rf"(?=, (?:{_CREDENTIAL})(?!\w))",
        ),
        (
            "PROFESSION",
            0.93,
            r"(?<!\w)(?i:(?:works?|worked|working|employed) as(?: an?)?|retired)[ \t]{1,3}"
            rf"(?P<span>{_JOB})",
        ),
        (
            "PROFESSION",
            0.95,
            rf"(?<!\w)(?i:occupation|profession)[ \t]{{0,8}}:[ \t]{{0,8}}(?P<span>{_JOB})",
        ),
        # In lower case only, because capitalized they are surnames.
        (
            "PROFESSION",
            0.85,
            r"(?<![\w-])(?P<span>accountant|architect|baker|bricklayer|bus driver|carpenter|chef"
            r"|electrician|farmer|firefighter|florist|librarian|machinist|mechanic|plumber|roofer"
            r"|schoolteacher|seamstress|teacher|truck driver|violinist|waiter|waitress|welder)"
            r"(?![\w-])",
        ),
    )
)


def detect(text: str) -> tuple[Entity, ...]:
    """Return the entities that the rules find in `text`, in text order."""
    taken = bytearray(len(text))
    found: list[tuple[int, int, Rule]] = []
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            begin, end = match.span("span")
            if 1 not in taken[begin:end]:
                taken[begin:end] = b"\1" * (end - begin)
                found.append((begin, end, rule))
    return tuple(
        Entity(
            id=number,
            begin_offset=begin,
            end_offset=end,
            score=rule.score,
            text=text[begin:end],
            category="PROTECTED_HEALTH_INFORMATION",
            type=rule.type,
        )
        for number, (begin, end, rule) in enumerate(sorted(found))
    )

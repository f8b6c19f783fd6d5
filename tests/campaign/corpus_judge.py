"""Compare what became of a corpus with its plan."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from comprehend_phi import Entity, redact
from comprehend_phi.testing.detector import detect

from .corpus_copies import renamed
from .corpus_plan import ADDED_TYPE, NOTES, CorpusNote, CorpusPlan
from .corpus_program import RUNS
from .evidence import WORDS
from .plan import COPIES, FAILS_ITS_JOB, KEY_CANARY, STAGED
from .tally import Tally
from .world import Ledger

_ENDED_WELL = ("COMPLETED", "PARTIAL_SUCCESS")
_ENDS = (*_ENDED_WELL, "FAILED", "STOPPED")
# A job that meets one of these is not started, until the program runs it again.
_REFUSALS = ("S3: access denied", "S3: no such key", "refusal that quotes the job name")
_REMAINDER = ".comprehend-phi-"  # files like this can remain if a program is killed


@frozen(kw_only=True)
class _Accounts:
    """What the program says at its end: the keys of notes, by what became of them.

    Attributes:
        refusals: how often S3 or the service has refused something that a job needs.
    """

    unprocessed: Counter[str]
    skipped: Counter[str]
    failed: frozenset[str]
    missing: frozenset[str]
    without_results: tuple[tuple[str, str], ...]
    refusals: int

    @classmethod
    def read(cls, known: Mapping[str, Any], refusals: int) -> _Accounts:
        return cls(
            unprocessed=Counter(known["unprocessed"]),
            skipped=Counter(set(known["skipped"])),
            failed=frozenset(known["failed"]),
            missing=frozenset(known["missing"]),
            without_results=tuple((first, last) for first, last in known["without_results"]),
            refusals=refusals,
        )

    def has_no_results(self, key: str) -> bool:
        return any(first <= key <= last for first, last in self.without_results)


def judge_corpus(plan: CorpusPlan, directory: Path, ledger: Ledger, tally: Tally) -> None:
    """Compare the results with the plan and record the differences."""
    differs = tally.differences.append
    _judge_jobs(plan, ledger, tally)
    if staged := [key for key in ledger.objects if key.startswith(f"{STAGED}/")]:
        differs(f"{len(staged)} staged copies are left")
    _judge_files(plan, directory, tally)
    copies = _copies(plan, directory, ledger)
    for name, content in list(copies.items()):
        if name.rpartition("/")[2].startswith(_REMAINDER):
            if _names(content, WORDS):
                differs("a temporary file contains a canary")
            del copies[name]
    tally.documents_in = len(plan.notes)
    if plan.abandons == "for good" and copies.keys() - _obstructions(plan):
        differs(f"there are {len(copies)} copies of an abandoned plan")
    done = directory / "done.json"
    if not done.exists():
        return  # the program did not finish, which is a difference already
    refusals = sum(ledger.faults[kind] for kind in _REFUSALS)
    accounts = _Accounts.read(json.loads(done.read_text("utf-8")), refusals)
    for note in plan.notes:
        path = note.key.removeprefix(f"{NOTES}/")
        name = renamed(path) if plan.renames else path
        _judge_note(plan, note, copies.pop(name, None), accounts, tally)
    if copies:
        differs(f"{len(copies)} copies belong to no note")


def _judge_jobs(plan: CorpusPlan, ledger: Ledger, tally: Tally) -> None:
    differs = tally.differences.append
    tally.jobs = len(ledger.jobs)
    tally.starts = len(ledger.tokens)
    for ids in ledger.tokens.values():
        if len(ids) != 1:
            differs(f"a token made {len(ids)} jobs")
    names: Counter[str] = Counter()
    processed: Counter[str] = Counter()
    if running := [job for job in ledger.jobs if job["JobStatus"] not in _ENDS]:
        differs(f"{len(running)} jobs still run")
    for job in ledger.jobs:
        if job["JobStatus"] not in ("FAILED", "STOPPED"):
            names[job["JobName"]] += 1
        if job["JobStatus"] in _ENDED_WELL:
            processed.update(_processed(job, ledger.objects))
    for count in names.values():
        if count != 1:
            differs(f"a range was processed by {count} jobs")
    twice = [key for key, count in processed.items() if count > 1]
    if twice and not plan.changes:
        differs(f"{len(twice)} notes were processed by several jobs")


def _processed(job: Mapping[str, Any], objects: Mapping[str, bytes]) -> list[str]:
    """Return the paths below the corpus of the notes that a job processed."""
    folder: str = job["OutputDataConfig"]["S3Key"]
    source: str = job["InputDataConfig"]["S3Key"]
    if job["JobId"] not in folder:  # a rule of the service
        folder = next(key for key in objects if job["JobId"] in key).partition(job["JobId"])[0]
        folder += job["JobId"]
    below = "" if source.startswith(STAGED) else source.removeprefix(f"{NOTES}/")
    return [
        below + key.removeprefix(folder).lstrip("/")
        for key in objects
        if key.startswith(folder) and key.endswith(".out")
    ]


def _judge_files(plan: CorpusPlan, directory: Path, tally: Tally) -> None:
    """Search the ledgers and the audit file for canaries and keys."""
    for path in [*directory.glob("ledger-*"), *directory.glob("audit*")]:
        is_audit = path.name.startswith("audit")
        words = WORDS if is_audit and not plan.renames else (*WORDS, KEY_CANARY)
        tally.searched[f"bytes of {'audit files' if is_audit else 'ledgers'}"] += 1
        if _names(path.read_bytes(), words):
            tally.differences.append(f"{path.name} contains a canary or a key")


def _names(content: bytes, words: tuple[str, ...]) -> bool:
    text = content.decode("utf-8", "replace").lower()
    return any(word in text for word in words)


def _obstructions(plan: CorpusPlan) -> set[str]:
    """Return the paths of objects that are no copies."""
    return {note.key.removeprefix(f"{NOTES}/") for note in plan.notes if note.is_obstructed}


def _copies(plan: CorpusPlan, directory: Path, ledger: Ledger) -> dict[str, bytes]:
    """Return the copies by their paths below the destination."""
    if plan.copies_on_s3:
        return {
            key.removeprefix(f"{COPIES}/"): body
            for key, body in ledger.objects.items()
            if key.startswith(f"{COPIES}/")
        }
    root = directory / COPIES
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def _judge_note(
    plan: CorpusPlan, note: CorpusNote, copy: bytes | None, accounts: _Accounts, tally: Tally
) -> None:
    if note.is_obstructed:
        if copy != b"not a copy":
            tally.differences.append("an object that is no copy was replaced")
        copy = None
    has_no_results = accounts.has_no_results(note.key)
    # A job without results says nothing about the files that it did not process.
    unprocessed = accounts.unprocessed[note.key] + accounts.skipped[note.key]
    is_failed = note.key in accounts.failed or note.key in accounts.missing
    tally.redacted += copy is not None
    tally.unprocessed += unprocessed > 0
    tally.changed += is_failed and copy is None
    tally.withdrawn += has_no_results and not is_failed and copy is None and not unprocessed
    found = (copy is not None, unprocessed, is_failed, has_no_results)
    if copy is not None:
        if copy in (_redacted(plan, note, body) for body in note.contents):
            tally.clean += 1
        else:
            tally.differences.append(f"a copy is not redacted correctly: {note.key}")
    if plan.changes:
        # A changed note is named, and with it the notes that were staged with it.
        # A note that is deleted or arrives at another time may be in no plan.
        if not any(found) and None not in note.versions:
            tally.differences.append(f"{note.key} is lost")
        return
    if has_no_results and not _may_fail(plan, note.key, accounts):
        tally.differences.append(f"{note.key}: its job has no results, for no reason")
    # A note that was repaired was planned again, unless nobody named it because its job failed.
    is_repaired = note.repaired is not None and plan.abandons != "for good"
    is_processed = note.is_processed or is_repaired
    if has_no_results and note.is_planned:
        expected = (False, unprocessed, is_failed, True)
    elif is_processed and (note.is_planned or is_repaired):
        body = note.repaired or note.versions[0] or b""
        is_refused = note.is_obstructed or not _redacted(plan, note, body)
        # A file that was too large may be between those of a job without results.
        expected = (not is_refused, 0, is_refused, has_no_results)
    elif note.is_planned:
        expected = (False, 1, False, False)
    else:
        expected = (False, max(unprocessed, 1), False, has_no_results)
    if found != expected:
        tally.differences.append(
            f"{note.key}: (copied, unprocessed, failed, without results) is {found}, not {expected}"
        )


def _may_fail(plan: CorpusPlan, key: str, accounts: _Accounts) -> bool:
    """Return whether the job of a note may have failed each time, or was abandoned."""
    if plan.abandons == "for good":
        return True
    for first, last in accounts.without_results:
        together = [note for note in plan.notes if first <= note.key <= last]
        if first <= key <= last and not (
            all(not note.is_processed for note in together)
            or (
                (plan.failures + accounts.refusals >= RUNS or plan.run_timeout is not None)
                and any(FAILS_ITS_JOB.encode() in (note.versions[0] or b"") for note in together)
            )
        ):
            return False
    return True


def _redacted(plan: CorpusPlan, note: CorpusNote, body: bytes) -> bytes:
    """Return the copy that a content of a note must have; nothing if it must have none."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return b""
    entities, review = list(detect(text)), note.review
    if plan.requires_review and (review is None or not review.is_reviewed):
        return b""
    if review is not None:
        if text != review.text:
            return b""
        entities = [entity for entity in entities if entity.id not in review.rejected]
        begin, end = review.added
        entities.append(
            Entity(
                id=1_000,
                begin_offset=begin,
                end_offset=end,
                score=1.0,
                text=text[begin:end],
                category="PROTECTED_HEALTH_INFORMATION",
                type=ADDED_TYPE,
            )
        )
    return redact(text, entities).encode()

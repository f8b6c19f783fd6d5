"""Plans of corpus schedules: what is in the corpus, and how it is staged, run and copied."""

from __future__ import annotations

from random import Random
from typing import Literal

from attrs import evolve, field, frozen

from comprehend_phi.testing.detector import detect

from .plan import (
    COPIES,
    FAILS_ITS_JOB,
    FILE_BYTES,
    KEY_CANARY,
    NAME_CANARY,
    NOTE_CANARY,
    S3_KINDS,
    S3_WRITE_KINDS,
    Conditions,
    ObjectChange,
    S3Reading,
    draw_credentials,
    draw_faults,
    draw_interrupt,
    draw_rules,
)

NOTES, RESULTS = "notes", "results"

_KINDS = (*S3_KINDS, *S3_WRITE_KINDS)


# Whether the user stops all jobs at some time, and lets them run after all.
Abandons = Literal["", "for good", "and runs after all"]


@frozen(kw_only=True)
class Review:
    """A reviewer's decisions about one note.

    Attributes:
        text: what the reviewer read.
        rejected: the ids of the entities that stay readable.
        added: where a mark begins and ends that is redacted, too.
        is_reviewed: whether the note is marked as reviewed.
    """

    text: str = field(repr=False)
    rejected: frozenset[int]
    added: tuple[int, int]
    is_reviewed: bool


ADDED_TYPE = "ADDED"  # of the added marks


@frozen(kw_only=True)
class CorpusNote:
    """One note of a corpus.

    Attributes:
        versions: its contents one after the other; None means that it is deleted. If the first is
            None, the note arrives later.
        is_planned: whether planning alone shows that AWS would process it.
        is_processed: whether a job processes it.
        is_obstructed: whether an object that is no copy is in the place of its copy.
        repaired: what replaces it after the jobs have skipped it; None if nobody repairs it.
        review: a reviewer's decisions about it, if there are any.
    """

    key: str
    versions: tuple[bytes | None, ...]
    is_planned: bool = True
    is_processed: bool = True
    is_obstructed: bool = False
    repaired: bytes | None = None
    review: Review | None = None

    @property
    def contents(self) -> tuple[bytes, ...]:
        """Everything that the note ever contains."""
        return tuple(body for body in (*self.versions, self.repaired) if body is not None)


@frozen(kw_only=True)
class CorpusPlan(Conditions):
    """One schedule of a corpus.

    Attributes:
        notes: the notes, also those that arrive later.
        has_staging: whether files may be copied before their job starts.
        job_files: the most files in a job.
        copies_on_s3: whether the copies are written to S3, and otherwise to a folder.
        renames: whether the copies are renamed.
        encrypted: whether results and copies have a KMS key.
        run_timeout: the seconds after which a run ends early.
        cpu_kills: the seconds of CPU time after which each life is killed; 0 means never.
        abandons: whether the user abandons the first plan, and what follows.
        abandons_at: the number of changes of the jobs after which this happens.
        readers: how many processes write the copies, each of them a part; 1 means the program.
        reader_kills: the step at which each of these processes is killed.
        requires_review: whether notes that nobody has reviewed get no copy.
    """

    notes: tuple[CorpusNote, ...] = field(repr=False)
    has_staging: bool
    job_files: int
    copies_on_s3: bool
    renames: bool
    encrypted: bool
    run_timeout: float | None
    cpu_kills: tuple[float, ...]
    abandons: Abandons = ""
    abandons_at: int = 0
    readers: int = 1
    reader_kills: tuple[int, ...] = ()
    requires_review: bool = False

    @property
    def name(self) -> str:
        return f"{NAME_CANARY} {self.seed}"


def draw_corpus(seed: int) -> CorpusPlan:
    """Return the plan of a seed."""
    random = Random(f"corpus {seed}")
    has_staging = random.random() < 0.8
    job_files = random.choice((2, 3, 4, 6)) if has_staging else 8
    notes, changes = _notes(random, seed, has_staging=has_staging)
    copies_on_s3 = random.random() < 0.6
    renames = random.random() < 0.5
    objects = {note.key: note.versions[0] for note in notes if note.versions[0] is not None}
    if copies_on_s3 and not renames and random.random() < 0.3:
        index = random.randrange(len(notes))
        notes[index] = _obstructed(notes[index])
        objects[copy_key(notes[index])] = b"not a copy"
    last_step = random.choice((40, 120, 400))
    readings: tuple[S3Reading, ...] = ("client handed in", "boto3", "auto", "obstore")
    plan = CorpusPlan(
        seed=seed,
        objects=objects,
        changes=tuple(changes),
        others=tuple(random.randint(1, 120) for _ in range(random.choice((0, 0, 1, 3)))),
        failures=random.choice((0, 1, 2, 9)),
        faults=tuple(draw_faults(random)),
        s3_faults=tuple(_s3_faults(random)),
        kills=tuple(random.randint(1, last_step) for _ in range(random.choice((0, 1, 1, 2, 3, 5)))),
        active_jobs=random.choice((1, 2, 10)),
        slot_timeout=0.0,
        connections=random.choice((1, 4)),
        interrupts=tuple(draw_interrupt(random) for _ in range(random.choice((0, 0, 1, 2)))),
        credentials=tuple(draw_credentials(random) for _ in range(random.choice((0, 0, 0, 1, 2)))),
        s3_reading=random.choice(readings),
        rules=draw_rules(seed),
        notes=tuple(notes),
        has_staging=has_staging,
        job_files=job_files,
        copies_on_s3=copies_on_s3,
        renames=renames,
        encrypted=random.random() < 0.5,
        run_timeout=random.choice((None, None, None, 200.0)),
        cpu_kills=tuple(
            random.choice((0.0, random.uniform(0.05, 0.6)))
            for _ in range(random.choice((0, 0, 1, 2)))
        ),
    )
    return _extended(plan, Random(f"corpus users {seed}"))


def _extended(plan: CorpusPlan, random: Random) -> CorpusPlan:
    """Add what users do besides running a plan and writing copies."""
    notes = list(plan.notes)
    if random.random() < 0.35:
        notes = [_repaired(random, plan.seed, index, note) for index, note in enumerate(notes)]
    reviews = random.random() < 0.35
    if reviews:
        notes = [_reviewed(random, note) for note in notes]
    choices: list[Abandons] = ["for good", "and runs after all", "and runs after all"]
    if plan.run_timeout is not None:  # or jobs that fail each time would run forever
        choices = ["for good"]
    abandons = random.choice(choices) if random.random() < 0.15 else ""
    return evolve(
        plan,
        notes=tuple(notes),
        repairs={note.key: note.repaired for note in notes if note.repaired is not None},
        copy_kills=tuple(
            random.choice((-1, 1, 1)) * random.randint(1, 10)
            for _ in range(random.choice((0, 0, 1, 2)))
        ),
        abandons=abandons,
        abandons_at=random.randint(1, 15),
        readers=random.choice((1, 1, 1, 1, 1, 2, 3)),
        reader_kills=tuple(random.randint(1, 60) for _ in range(random.choice((0, 1, 2)))),
        requires_review=reviews and random.random() < 0.4,
    )


def _repaired(random: Random, seed: int, index: int, note: CorpusNote) -> CorpusNote:
    """Let the user repair a note that the jobs skip."""
    if note.is_processed or "//" in note.key or len(note.versions) > 1 or random.random() < 0.3:
        return note
    return evolve(note, repaired=_body(f"kept again {seed} {index}", 1))


def _reviewed(random: Random, note: CorpusNote) -> CorpusNote:
    """Let a reviewer decide about a note."""
    body = note.repaired or note.versions[0]
    if body is None or random.random() < 0.4:
        return note
    text = body.decode(errors="replace")
    phones = [entity.id for entity in detect(text) if entity.type.startswith("PHONE")]
    begin = text.index("kept")
    review = Review(
        text=text,
        rejected=frozenset(random.sample(phones, random.randint(0, 1))),
        added=(begin, begin + len("kept")),
        is_reviewed=random.random() < 0.7,
    )
    return evolve(note, review=review)


def copy_key(note: CorpusNote) -> str:
    """Return the key of a note's copy that was not renamed."""
    return COPIES + note.key.removeprefix(NOTES)


def _notes(
    random: Random, seed: int, *, has_staging: bool
) -> tuple[list[CorpusNote], list[ObjectChange]]:
    """Return the notes, and how some of them change."""
    folders = [f"{NOTES}/ward-{number}" for number in range(random.randint(2, 4))]
    if has_staging:
        folders += random.sample(
            [NOTES, f"{NOTES}/ward-0/{KEY_CANARY}", f"{NOTES}/ward-1//room"], random.randint(1, 3)
        )
    changes: list[ObjectChange] = []
    notes: list[CorpusNote] = []
    for folder in folders:
        count = random.randint(1, 4)
        fails = random.random() < 0.15
        for number in range(count):
            key = f"{folder}/{KEY_CANARY} {number}.txt"
            kept = f"kept {seed} {len(notes)}"
            if fails and number == 0:
                kept = f"{kept}, {FAILS_ITS_JOB}"
            notes.append(_note(random, key, kept))
    if random.random() < 0.3:
        for _ in range(random.randint(1, 3)):
            index = random.randrange(len(notes))
            notes[index], change = _changed(random, notes[index])
            changes.append(change)
    if random.random() < 0.15:
        key = f"{random.choice(folders)}/arrived.txt"
        body = _body(f"kept {seed} {len(notes)}", 1)
        notes.append(CorpusNote(key=key, versions=(None, body), is_planned="//" not in key))
        changes.append(ObjectChange(key=key, body=body, at_request=random.randint(2, 150)))
    return notes, changes


def _note(random: Random, key: str, kept: str) -> CorpusNote:
    body = _body(random.choice(("", "\N{FACE WITH TEARS OF JOY}\r\n")) + kept, random.randint(1, 2))
    kind = random.random()
    if "//" in key or kind < 0.07:
        body += b"." * (0 if "//" in key else FILE_BYTES)
        return CorpusNote(key=key, versions=(body,), is_planned=False, is_processed=False)
    if kind < 0.14:
        return CorpusNote(key=key, versions=(body + b"\xff\xfe",), is_processed=False)
    return CorpusNote(key=key, versions=(body,))


def _body(kept: str, count: int) -> bytes:
    return f"{kept}\nPatient: {NOTE_CANARY}\nPhone: (555) 555-0142\n".encode() * count


def _changed(random: Random, note: CorpusNote) -> tuple[CorpusNote, ObjectChange]:
    """Change a note at any time, between planning and reading."""
    last = note.versions[-1]
    body: bytes | None = None
    if last is not None and random.random() < 0.75:
        # The same size, or another one.
        body = last.replace(b"kept", b"kepT") + b"\n" * random.choice((0, 1))
    new = evolve(note, versions=(*note.versions, body))
    return new, ObjectChange(key=note.key, body=body, at_request=random.randint(2, 150))


def _obstructed(note: CorpusNote) -> CorpusNote:
    return evolve(note, is_obstructed=True)


def _s3_faults(random: Random) -> list[str]:
    faults: list[str] = []
    for _ in range(random.choice((0, 1, 3, 6))):
        faults += [""] * random.randint(0, 30)
        faults += [random.choice(_KINDS)] * random.randint(1, 3)
    return faults

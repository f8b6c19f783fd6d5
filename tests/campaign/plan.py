"""What one seed stands for: notes, misfortunes and kills. The same seed is the same plan."""

from __future__ import annotations

from random import Random

from attrs import frozen

# Planted where text may not leak from; looked for by their words, so that a part counts as well.
NOTE_CANARY = "Zinnia Quellwasser"
NAME_CANARY = "Orla Brandeis"
REFUSED_CANARY = "Kestrel Moonbeam"
CANARIES = (NOTE_CANARY, NAME_CANARY, REFUSED_CANARY)

FILE_BYTES = 2_000  # larger files are not processed

OPERATIONS = (
    "StartPHIDetectionJob",
    "DescribePHIDetectionJob",
    "ListPHIDetectionJobs",
    "StopPHIDetectionJob",
)

# How many in a row; the client tries eight times, so some of these are more than it bears.
_BURSTS = {
    "throttle": 12,
    "throttle, Retry-After": 3,
    "too many requests": 9,
    "job limit": 6,
    "server error before the work": 3,
    "server error after the work": 3,
    "unavailable": 10,
    "reset before the work": 9,
    "reset after the work": 9,
    "cut answer": 3,
    "cut to nothing": 3,
    "empty map": 9,
    "HTML, 200": 2,
    "HTML, 503 before the work": 2,
    "HTML, 429": 2,
    "HTML that quotes the job name": 2,
    "not UTF-8": 3,
    "slow answer": 3,
    "refusal that quotes the job name": 1,
    "expired credentials": 1,
}
KINDS = tuple(_BURSTS)

S3_KINDS = (
    "S3: slow down",
    "S3: server error",
    "S3: reset",
    "S3: cut object",
    "S3: no such key",
    "S3: access denied",
    "S3: HTML instead of results",
    "S3: slow answer",
)


@frozen(kw_only=True)
class Note:
    """One file of the input: its key, its bytes, and words that redaction has to leave there."""

    key: str
    body: bytes
    kept: str
    can_be_processed: bool


@frozen(kw_only=True)
class Folder:
    """The input of one logical start."""

    index: int
    prefix: str
    job_name: str
    notes: tuple[Note, ...]
    to_be_stopped: bool
    encrypted: bool


@frozen(kw_only=True)
class Plan:
    """One schedule.

    Attributes:
        faults: for the service, in order: operation or None for any, and the kind; an empty kind
            lets a call pass.
        s3_faults: for reads from S3, likewise.
        kills: the step at which each life of the program ends; after these lives, none does.
    """

    seed: int
    asynchronous: bool
    folders: tuple[Folder, ...]
    faults: tuple[tuple[str | None, str], ...]
    s3_faults: tuple[str, ...]
    kills: tuple[int, ...]
    active_jobs: int
    slot_timeout: float
    wait_timeout: float | None
    connections: int

    @property
    def bucket(self) -> str:
        return f"campaign-{self.seed}"


def draw(seed: int) -> Plan:
    """The schedule of a seed."""
    # Of Random, only methods whose results do not change between Pythons for the same seed.
    random = Random(seed)
    folders = tuple(_folder(random, seed, index) for index in range(random.randint(1, 3)))
    faults: list[tuple[str | None, str]] = []
    for operation in (*OPERATIONS, None):
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            faults += [(operation, "")] * random.randint(0, 3)
            kind = random.choice(KINDS)
            faults += [(operation, kind)] * random.randint(1, _BURSTS[kind])
    s3_faults: list[str] = []
    for _ in range(random.choice((0, 0, 1, 2))):
        s3_faults += [""] * random.randint(0, 6)
        s3_faults += [random.choice(S3_KINDS)] * random.randint(1, 3)
    last_step = random.choice((12, 40, 120))
    return Plan(
        seed=seed,
        asynchronous=seed % 2 == 1,
        folders=folders,
        faults=tuple(faults),
        s3_faults=tuple(s3_faults),
        kills=tuple(random.randint(1, last_step) for _ in range(random.choice((0, 1, 1, 2, 3, 5)))),
        active_jobs=random.choice((1, 2, 10)),
        slot_timeout=random.choice((0.0, 600.0, 7200.0)),
        wait_timeout=random.choice((None, None, 90.0)),
        connections=random.choice((1, 4)),
    )


def _folder(random: Random, seed: int, index: int) -> Folder:
    prefix = f"notes-{index}"
    hopeless = random.random() < 0.1  # the job fails, as none of its files can be processed
    return Folder(
        index=index,
        prefix=prefix,
        job_name=f"{NAME_CANARY} {seed} {index}",
        notes=tuple(
            _note(random, f"{prefix}/{number}.txt", f"kept {seed} {index} {number}", hopeless)
            for number in range(random.randint(1, 4))
        ),
        to_be_stopped=random.random() < 0.1,
        encrypted=random.random() < 0.8,
    )


def _note(random: Random, key: str, kept: str, hopeless: bool) -> Note:
    odd = random.choice(("", "\N{FACE WITH TEARS OF JOY}\r\n", "e\u0301te\u0301\n", "\ufeff"))
    text = f"{odd}{kept}\nPatient: {NOTE_CANARY}\nPhone: (555) 555-0142\n"
    body = text.encode() * random.randint(1, 3)
    bad = hopeless or random.random() < 0.15
    if bad and random.random() < 0.5:
        body = body + b"\xff\xfe"
    elif bad:
        body = body + b"." * FILE_BYTES
    return Note(key=key, body=body, kept=kept, can_be_processed=not bad)

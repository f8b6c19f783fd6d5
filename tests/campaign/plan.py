"""Plans: the notes, faults and kills of one schedule. The same seed gives the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

from attrs import evolve, field, frozen

# Names in notes and requests that must not appear in any recorded text, not even a word of them.
NOTE_CANARY = "Zinnia Quellwasser"
NAME_CANARY = "Orla Brandeis"
REFUSED_CANARY = "Kestrel Moonbeam"
CANARIES = (NOTE_CANARY, NAME_CANARY, REFUSED_CANARY)

# A word in the keys of a corpus. No ledger, no log record and no repr may contain it.
KEY_CANARY = "primrose"

# The folder with the copies for staged jobs, and the one for redacted copies.
STAGED, COPIES = "staged", "copies"

# A job that reads a note with these words may fail.
FAILS_ITS_JOB = "breaks the model"

FILE_BYTES = 2_000  # the service does not process larger files

OPERATIONS = (
    "StartPHIDetectionJob",
    "DescribePHIDetectionJob",
    "ListPHIDetectionJobs",
    "StopPHIDetectionJob",
)

# The most faults in a row. The client tries eight times, so some of these make a call fail.
_BURSTS = {
    "throttle": 12,
    "throttle, Retry-After": 3,
    "throttle, Retry-After of an hour": 2,
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
    "S3: slow down, Retry-After of an hour",
    "S3: server error",
    "S3: reset",
    "S3: cut object",
    "S3: no such key",
    "S3: access denied",
    "S3: HTML instead of results",
    "S3: slow answer",
)
# Requests that change something.
S3_WRITE_KINDS = (
    "S3: reset after the work",
    "S3: server error after the work",
    "S3: error in a successful answer",
)

# The kind of sleep that Ctrl-C interrupts.
RETRY_OR_POLL = "interrupt during a retry or between polls"
S3_BACKOFF = "interrupt during a backoff in a thread"
AN_HOUR = "interrupt during a Retry-After of an hour"
INTERRUPTS = (RETRY_OR_POLL, S3_BACKOFF, AN_HOUR)

LINE_BREAK = "credentials: a line break in the access key"
EXPIRED = "credentials: an expired token"
NO_SOURCE = "credentials: their source fails"
CREDENTIALS = (LINE_BREAK, EXPIRED, NO_SOURCE)

Change = Literal["", "note deleted", "note replaced", "note replaced, same size"]
CHANGES: tuple[Change, ...] = ("note deleted", "note replaced", "note replaced, same size")

# Alternatives to the rules of the local service, as in `comprehend_phi.testing.Rules`. Two are left
# out: files that a prefix adds to a job are not in the plan, and a start is only recognized as a
# repetition while the service remembers its token.
_OTHER_RULES = {
    "output_folder": ("appended",),
    "described_output_key": ("requested",),
    "other_parameters": ("same-job",),
    "unfiltered_list": ("oldest-first",),
    "two_filters": ("both",),
    "stop_after_end": ("accepted",),
    "second_stop": ("refused",),
    "error_status": ("service-model",),
    "manifest_path": ("uri", "absent"),
    "list_locations": ("uri", "absent"),
    "list_name": ("part-00000.json",),
    "file_names": ("uri", "path"),
    "unprocessed_files": ("names",),
    "success_count": ("SuccessfulFilesCount",),
    "write_test_file": ("present",),
}
# Results in a folder like this cannot be found under these rules, which is an error.
_ONLY_BELOW = ("described_output_key", "list_locations")

S3Reading = Literal["client handed in", "boto3", "auto", "obstore"]


@frozen(kw_only=True)
class Note:
    """One file of the input.

    Attributes:
        kept: words that must remain in the redacted text.
        change: how the note changes after its job has ended, before the results are read.
        replacement: the bytes that replace it.
    """

    key: str
    body: bytes
    kept: str
    can_be_processed: bool
    change: Change = ""
    replacement: bytes = b""


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
class Interrupt:
    """Ctrl-C during one of the sleeps of a life: the `number`th sleep of this `kind`."""

    kind: str
    number: int


@frozen(kw_only=True)
class BrokenCredentials:
    """Credentials that fail for `count` requests of a life, after `after` successful requests.

    If `count` is None, they fail for all remaining requests.
    """

    kind: str
    after: int
    count: int | None


@frozen(kw_only=True)
class ObjectChange:
    """A change of one object.

    Attributes:
        body: the new content; None deletes the object.
        job_name: make the change when the job of this name has ended. None means at a request.
        at_request: make the change before this request of S3, from 1.
    """

    key: str
    body: bytes | None
    job_name: str | None = None
    at_request: int = 0


@frozen(kw_only=True)
class Conditions:
    """What the service, S3 and the machine do in one schedule, whatever the program does.

    Attributes:
        objects: the objects that are in the bucket at first, by key.
        changes: how they change.
        others: before which requests of S3 other programs start a job.
        failures: how many jobs fail because of a note with `FAILS_ITS_JOB`.
        faults: the faults of the service, in order, as pairs of an operation (None for any) and a
            kind. An empty kind lets a call pass.
        s3_faults: the faults of requests of S3, in order.
        kills: the step at which each of the first lives of the program is killed.
        interrupts: the interrupt of each life, if any.
        credentials: how the credentials of each life fail, if they do.
        s3_reading: how the program reads results.
        rules: the rules of the service that differ from the local service's defaults.
        repairs: objects that are replaced when the program asks for it, by key.
        copy_kills: the redacted copies, counted from 1, whose sender is killed while S3 writes
            them: a positive number after the work, a negative one before it.
    """

    seed: int
    objects: Mapping[str, bytes]
    changes: tuple[ObjectChange, ...]
    others: tuple[int, ...] = ()
    failures: int = 0
    faults: tuple[tuple[str | None, str], ...]
    s3_faults: tuple[str, ...]
    kills: tuple[int, ...]
    active_jobs: int
    slot_timeout: float
    connections: int
    interrupts: tuple[Interrupt | None, ...]
    credentials: tuple[BrokenCredentials | None, ...]
    s3_reading: S3Reading
    rules: Mapping[str, str]
    repairs: Mapping[str, bytes] = field(factory=dict[str, bytes])
    copy_kills: tuple[int, ...] = ()

    @property
    def bucket(self) -> str:
        return f"campaign-{self.seed}"


@frozen(kw_only=True)
class Plan(Conditions):
    """One schedule of folders, each with its own start.

    Attributes:
        forks: the fork point at which each life forks: 1 is the first, -1 is the first one between
            two texts of a reading, and 0 means no fork.
    """

    asynchronous: bool
    folders: tuple[Folder, ...]
    wait_timeout: float | None
    forks: tuple[int, ...]


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    # This only uses methods of Random that return the same values in all versions of Python.
    random = Random(seed)
    folders = tuple(_folder(random, seed, index) for index in range(random.randint(1, 3)))
    faults = draw_faults(random)
    s3_faults: list[str] = []
    for _ in range(random.choice((0, 0, 1, 2))):
        s3_faults += [""] * random.randint(0, 6)
        s3_faults += [random.choice(S3_KINDS)] * random.randint(1, 3)
    interrupts = tuple(draw_interrupt(random) for _ in range(random.choice((0, 1, 2, 3, 4))))
    for interrupt in interrupts:
        if interrupt and interrupt.kind == S3_BACKOFF:
            s3_faults += [""] * random.randint(0, 8) + [random.choice(S3_KINDS[:4])] * 2
        elif interrupt and interrupt.kind == AN_HOUR:
            operation = random.choice(OPERATIONS[:2])
            faults += [(operation, "throttle, Retry-After of an hour")] * 2
    last_step = random.choice((12, 40, 120))
    readings: tuple[S3Reading, ...] = ("client handed in", "boto3", "auto", "obstore")
    return Plan(
        seed=seed,
        objects={note.key: note.body for folder in folders for note in folder.notes},
        changes=tuple(
            ObjectChange(
                key=note.key,
                body=None if note.change == "note deleted" else note.replacement,
                job_name=folder.job_name,
            )
            for folder in folders
            for note in folder.notes
            if note.change
        ),
        asynchronous=seed % 2 == 1,
        folders=folders,
        faults=tuple(faults),
        s3_faults=tuple(s3_faults),
        kills=tuple(random.randint(1, last_step) for _ in range(random.choice((0, 1, 1, 2, 3, 5)))),
        active_jobs=random.choice((1, 2, 10)),
        slot_timeout=random.choice((0.0, 600.0, 7200.0)),
        wait_timeout=random.choice((None, None, 90.0)),
        connections=random.choice((1, 4)),
        forks=tuple(
            random.choice((1, 2, 4, 8, -1, -2)) for _ in range(random.choice((0, 1, 2, 3)))
        ),
        interrupts=interrupts,
        credentials=tuple(draw_credentials(random) for _ in range(random.choice((0, 0, 1, 2)))),
        s3_reading=random.choice(readings),
        rules=draw_rules(seed),
    )


def draw_faults(random: Random) -> list[tuple[str | None, str]]:
    """Return faults of the service."""
    faults: list[tuple[str | None, str]] = []
    for operation in (*OPERATIONS, None):
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            faults += [(operation, "")] * random.randint(0, 3)
            kind = random.choice(KINDS)
            faults += [(operation, kind)] * random.randint(1, _BURSTS[kind])
    return faults


def draw_rules(seed: int) -> dict[str, str]:
    """Return the rules that differ; none for half of the seeds."""
    random = Random(f"rules {seed}")  # a generator of its own leaves the rest of the plan unchanged
    if random.random() < 0.5:
        return {}
    rules = {
        name: random.choice(options)
        for name, options in _OTHER_RULES.items()
        if random.random() < 0.5
    }
    if "output_folder" in rules:
        for name in _ONLY_BELOW:
            rules.pop(name, None)
    return rules


def draw_interrupt(random: Random) -> Interrupt | None:
    if random.random() < 0.3:
        return None
    return Interrupt(kind=random.choice(INTERRUPTS), number=random.choice((1, 1, 1, 2, 5)))


def draw_credentials(random: Random) -> BrokenCredentials | None:
    if random.random() < 0.3:
        return None
    return BrokenCredentials(
        kind=random.choice(CREDENTIALS),
        after=random.randint(0, 20),
        count=random.choice((1, 1, 3, None)),
    )


def _folder(random: Random, seed: int, index: int) -> Folder:
    prefix = f"notes-{index}"
    hopeless = random.random() < 0.1  # the job fails, because none of its files can be processed
    return Folder(
        index=index,
        prefix=prefix,
        job_name=f"{NAME_CANARY} {seed} {index}",
        notes=tuple(
            _changed(
                random,
                _note(random, f"{prefix}/{number}.txt", f"kept {seed} {index} {number}", hopeless),
            )
            for number in range(random.randint(1, 4))
        ),
        to_be_stopped=random.random() < 0.1,
        encrypted=random.random() < 0.8,
    )


def _note(random: Random, key: str, kept: str, hopeless: bool) -> Note:
    odd = random.choice(("", "\N{FACE WITH TEARS OF JOY}\r\n", "e\u0301te\u0301\n", "\ufeff"))
    found = f"Patient: {NOTE_CANARY}\nPhone: (555) 555-0142\n" if random.random() < 0.8 else ""
    text = f"{odd}{kept}\n{found}"
    body = text.encode() * random.randint(1, 3)
    bad = hopeless or random.random() < 0.15
    if bad and random.random() < 0.5:
        body = body + b"\xff\xfe"
    elif bad:
        body = body + b"." * FILE_BYTES
    return Note(key=key, body=body, kept=kept, can_be_processed=not bad)


def _changed(random: Random, note: Note) -> Note:
    """Change some of the notes that the job processes, after it has ended."""
    if not note.can_be_processed or random.random() < 0.85:
        return note
    change = random.choice(CHANGES)
    if change == "note deleted":
        return evolve(note, change=change)
    size = len(note.body)
    if change == "note replaced":
        size = random.choice((size - 1, size + 1, size * 2))
    text = f"{NOTE_CANARY}\nPatient: {NOTE_CANARY}\n" * (size // 20 + 1)
    return evolve(note, change=change, replacement=text.encode()[:size])

"""The ledger of a run: an SQLite file that says how far each job is.

Each fact is one transaction. The ledger uses SQLite's rollback journal, because write-ahead logging
would leave two more files beside it. `synchronous=FULL` makes a fact survive a power failure before
anything depends on it. The ledger contains hashes, tokens, ids, times and states. It contains no
keys and no note text.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from attrs import astuple, evolve, frozen

from ..errors import ComprehendPHIError, RequestValidationError
from ..models import JobStatus, request_token
from .plan import JobPlan, PlannedJob

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

_APPLICATION_ID = 0x70686931  # "phi1": marks the file as a ledger
_VERSION = 2

_SCHEMA = """
    CREATE TABLE job (
        token TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        copies TEXT NOT NULL,
        start_token TEXT,
        sent TEXT,
        job_id TEXT,
        status TEXT,
        message TEXT
    )
"""
_INSERT = "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT token, state, copies, start_token, sent, job_id, status, message FROM job"
_UPDATE = """
    UPDATE job
    SET state = ?, copies = ?, start_token = ?, sent = ?, job_id = ?, status = ?, message = ?
    WHERE token = ?
"""

_DAMAGED = (
    "The file is not a ledger, or it is damaged. Rename the file and run the same plan again: jobs"
    " that were started are found by their names, and none is started twice."
)


class LedgerError(ComprehendPHIError):
    """The ledger cannot be used: it is damaged, belongs to another plan, or cannot be written.

    The message says what to do. Jobs that are running are not affected.
    """


class LedgerInUseError(LedgerError):
    """Another process, or another call in this process, uses the ledger. Nothing was started."""


class JobState(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    STARTING = "starting"  # recorded before the call, so the job may have been started
    STARTED = "started"
    ENDED = "ended"
    NOT_STARTED = "not started"  # given up; the message says why
    LOST = "lost"  # the service has forgotten it, and no manifest says how it ended


class Copies(StrEnum):
    """Which staged copies of a job there are."""

    NONE = "none"
    SOME = "some"  # or perhaps none: recorded before the first copy is made
    ALL = "all"


@frozen(kw_only=True)
class Entry:
    """What the ledger says about one job.

    Attributes:
        state: how far the job is.
        copies: which staged copies there are.
        start_token: the token of the last start; None before the first one.
        sent: when the last start was sent for the first time, or when the service accepted it; None
            before the first one.
        job_id: the id of the job; None if no response to a start was recorded.
        status: how the job ended; None before that.
        message: why the job ended like this, or why it was not started.
    """

    state: JobState = JobState.WAITING
    copies: Copies = Copies.NONE
    start_token: str | None = None
    sent: datetime | None = None
    job_id: str | None = None
    status: JobStatus | None = None
    message: str | None = None

    @property
    def needs_lookup(self) -> bool:
        """Whether only the service knows if the job was started."""
        return self.state in (JobState.WAITING, JobState.STARTING)


class Ledger:
    """The ledger of one plan. It stays locked until it is closed.

    Args:
        path: the file, on a local disk. It is created if it does not exist. Only its owner can read
            it. File locks do not work reliably on network file systems.
        plan: the plan whose jobs the ledger has.

    Raises:
        RequestValidationError: `path` is no path.
        LedgerInUseError: the ledger is in use.
        LedgerError: the file is damaged, is no ledger, belongs to another plan, or cannot be
            opened.
    """

    def __init__(self, path: str | os.PathLike[str], plan: JobPlan) -> None:
        import sqlite3  # `import comprehend_phi` does not need it

        self._errors = sqlite3
        name = _checked_path(path)
        # SQLite gives some names a meaning, such as ":memory:", but no absolute path.
        self._path = self._guarded(lambda: str(Path(name).absolute()))
        self._connection: sqlite3.Connection = self._guarded(self._connect)
        try:
            self._entries: dict[str, Entry] = self._guarded(lambda: self._load(plan))
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def entry(self, job: PlannedJob) -> Entry:
        """Return what the ledger says about a job of the plan."""
        return self._entries[_key(job)]

    def record(self, job: PlannedJob, **changes: Any) -> Entry:
        """Change what the ledger says about a job, and return its entry.

        The changes are on disk when this returns.

        Raises:
            LedgerError: the change cannot be written.
        """
        entry = evolve(self.entry(job), **changes)
        self._guarded(lambda: self._connection.execute(_UPDATE, (*_row(entry), _key(job))))
        self._entries[_key(job)] = entry
        return entry

    def _connect(self) -> sqlite3.Connection:
        # SQLite would create the file with the permissions of the umask. Its journal gets those of
        # the file. An existing file is not opened here: closing it again would release the locks
        # that this process may have on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return self._errors.connect(self._path, timeout=0, isolation_level=None)

    def _load(self, plan: JobPlan) -> dict[str, Entry]:
        execute = self._connection.execute
        # Keep the lock between transactions, so that no other process gets in.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = DELETE")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN EXCLUSIVE")
        if not execute("SELECT 1 FROM sqlite_master").fetchone():
            self._create(plan)
        execute("COMMIT")
        if execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
            raise LedgerError("The file is not a ledger. Choose another file.")
        if execute("PRAGMA user_version").fetchone() != (_VERSION,):
            raise LedgerError(
                "Another version of this package wrote the ledger. Use that version to continue."
            )
        if execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise LedgerError(_DAMAGED)
        if execute("SELECT digest FROM plan").fetchall() != [(_digest(plan),)]:
            raise LedgerError(
                "The ledger belongs to another plan. If notes were added or changed, continue with"
                " the plan that the ledger was made for, then plan the other notes under another"
                " name and with another ledger."
            )
        entries = {token: _entry(values) for token, *values in execute(_SELECT)}
        if entries.keys() != {_key(job) for job in plan.jobs}:
            raise LedgerError(_DAMAGED)
        return entries

    def _create(self, plan: JobPlan) -> None:
        execute = self._connection.execute
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        execute(f"PRAGMA user_version = {_VERSION}")
        execute("CREATE TABLE plan (digest TEXT NOT NULL)")
        execute("INSERT INTO plan VALUES (?)", (_digest(plan),))
        execute(_SCHEMA)
        jobs = [(_key(job), *_row(_new_entry(job))) for job in plan.jobs]
        self._connection.executemany(_INSERT, jobs)

    def _guarded(self, use: Callable[[], _T]) -> _T:
        """Return what `use` returns. Raise `LedgerError` if the file cannot be used."""
        problem: LedgerError
        try:
            return use()
        except self._errors.OperationalError as error:
            problem = self._operational_problem(error)
        except (self._errors.Error, ValueError):  # ValueError: a state that this version lacks
            problem = LedgerError(_DAMAGED)
        except OSError as error:
            problem = _unusable(error.strerror or type(error).__name__)
        raise problem

    def _operational_problem(self, error: sqlite3.OperationalError) -> LedgerError:
        code = error.sqlite_errorcode & 0xFF  # the other bits are details
        if code == self._errors.SQLITE_BUSY:
            return LedgerInUseError(
                "Another run uses the ledger. Wait until it ends. For another plan, choose another"
                " ledger."
            )
        if code == self._errors.SQLITE_ERROR:  # a statement does not fit the tables
            return LedgerError(_DAMAGED)
        return _unusable(str(error))


def _checked_path(path: object) -> str:
    with suppress(TypeError):
        text = os.fspath(cast("str | bytes", path))
        if isinstance(text, str) and text and "\0" not in text:
            return text
    raise RequestValidationError(
        owner="run_jobs",
        field="ledger",
        shape="path",
        reason="must be a path, as a str or an os.PathLike",
    )


def _unusable(reason: str) -> LedgerError:
    return LedgerError(
        f"The ledger cannot be read or written: {reason}. Fix the cause, then run again."
    )


def _digest(plan: JobPlan) -> str:
    """Return what tells this plan from others. A job's token depends on all that matters."""
    return request_token("comprehend_phi.ledger", *map(_key, plan.jobs))


def _new_entry(job: PlannedJob) -> Entry:
    """Return what a new ledger says about a job."""
    # An earlier run, whose ledger was lost, may have copied files.
    return Entry(copies=Copies.SOME if job.staged else Copies.NONE)


def _key(job: PlannedJob) -> str:
    return job.request.client_request_token


def _row(entry: Entry) -> tuple[str | None, ...]:
    return tuple(None if value is None else str(value) for value in astuple(entry))


def _entry(values: list[Any]) -> Entry:
    state, copies, start_token, sent, job_id, status, message = values
    return Entry(
        state=JobState(state),
        copies=Copies(copies),
        start_token=start_token,
        sent=None if sent is None else datetime.fromisoformat(sent),
        job_id=job_id,
        status=None if status is None else JobStatus(status),
        message=message,
    )

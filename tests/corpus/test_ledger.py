"""The ledger of a run: facts on disk, for one plan and for one process at a time."""

from __future__ import annotations

import os
import pickle
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from comprehend_phi import JobStatus, RequestValidationError
from comprehend_phi.corpus import LedgerError, LedgerInUseError
from comprehend_phi.corpus.ledger import Copies, Entry, JobState, Ledger

from ..conftest import CANARY
from .plans import a_plan

PLAN = a_plan()
JOB = PLAN.jobs[1]
SENT = datetime(2031, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def reopened(path: Path) -> list[Entry]:
    with Ledger(path, PLAN) as ledger:
        return [ledger.entry(job) for job in PLAN.jobs]


def test_a_new_ledger_has_an_entry_for_each_job(path: Path) -> None:
    assert reopened(path) == [Entry()] * 3


def test_staged_jobs_may_have_copies_of_a_run_whose_ledger_was_lost(path: Path) -> None:
    with Ledger(path, plan := a_plan(2, staged=(1,))) as ledger:
        copies = [ledger.entry(job).copies for job in plan.jobs]
    assert copies == [Copies.NONE, Copies.SOME]


def test_a_name_that_sqlite_takes_for_a_database_in_memory_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger(":memory:", PLAN) as ledger:
        ledger.record(JOB, copies=Copies.ALL)
    assert reopened(Path(":memory:"))[1].copies is Copies.ALL


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    path.touch()
    assert reopened(path) == [Entry()] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"copies": Copies.SOME},
        {"copies": Copies.ALL},
        {"state": JobState.STARTING, "start_token": "token-1", "sent": SENT},
        {"state": JobState.STARTED, "job_id": "0123"},
        {"state": JobState.ENDED, "status": JobStatus.FAILED, "message": "the role is missing"},
        {"state": JobState.LOST, "job_id": "0123", "message": "it left no results"},
        {"state": JobState.NOT_STARTED, "message": "its files have changed"},
        {"state": JobState.ENDED, "status": JobStatus("NEW_STATE")},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_fact_is_there_when_the_ledger_is_opened_again(
    path: Path, changes: dict[str, Any]
) -> None:
    with Ledger(path, PLAN) as ledger:
        assert ledger.record(JOB, **changes) == ledger.entry(JOB) == Entry(**changes)
    assert reopened(path) == [Entry(), Entry(**changes), Entry()]


def test_facts_add_up(path: Path) -> None:
    with Ledger(path, PLAN) as ledger:
        ledger.record(JOB, copies=Copies.ALL)
        ledger.record(JOB, state=JobState.STARTING, start_token="token-1")
    with Ledger(path, PLAN) as ledger:
        ledger.record(JOB, state=JobState.STARTED, job_id="0123")
        assert ledger.entry(JOB) == Entry(
            copies=Copies.ALL, state=JobState.STARTED, start_token="token-1", job_id="0123"
        )


@pytest.mark.parametrize("state", JobState)
def test_only_the_service_knows_whether_a_start_without_a_response_worked(state: JobState) -> None:
    assert Entry(state=state).needs_lookup == (state in ("waiting", "starting"))


KILLED = """
import os, signal, sys
from comprehend_phi.corpus import JobPlan
from comprehend_phi.corpus.ledger import Copies, Ledger
plan = JobPlan.from_json(sys.stdin.read())
ledger = Ledger(sys.argv[1], plan)
for job in plan.jobs[:2]:
    ledger.record(job, copies=Copies.SOME)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_fact_survives_the_death_of_its_process(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path], input=PLAN.to_json(), text=True, check=False
    )
    assert done.returncode < 0
    assert [entry.copies for entry in reopened(path)] == [Copies.SOME, Copies.SOME, Copies.NONE]


# --- Who may use it -------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_only_the_owner_can_read_the_ledger_and_its_journal(path: Path) -> None:
    before = os.umask(0)
    try:
        with Ledger(path, PLAN) as ledger:
            ledger.record(JOB, copies=Copies.SOME)
            files = list(path.parent.iterdir())
            modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
    finally:
        os.umask(before)
    assert path in files
    assert path.with_name("ledger-journal") in files
    assert modes == {0o600}


def test_a_closed_ledger_is_one_file(path: Path) -> None:
    with Ledger(path, PLAN) as ledger:
        ledger.record(JOB, copies=Copies.SOME)
    assert list(path.parent.iterdir()) == [path]


def test_a_ledger_is_opened_once(path: Path) -> None:
    with Ledger(path, PLAN) as ledger:
        with pytest.raises(LedgerInUseError, match="Another run uses the ledger"):
            Ledger(path, PLAN)
        ledger.record(JOB, copies=Copies.SOME)
    assert reopened(path)[1].copies is Copies.SOME


OPEN = """
import sys
from comprehend_phi.corpus import JobPlan
from comprehend_phi.corpus.ledger import Ledger
try:
    Ledger(sys.argv[1], JobPlan.from_json(sys.stdin.read()))
except Exception as error:
    print(type(error).__name__)
"""


def test_another_process_cannot_open_it_even_after_a_refusal_in_this_one(path: Path) -> None:
    with Ledger(path, PLAN):
        with pytest.raises(LedgerInUseError):
            Ledger(path, PLAN)
        done = subprocess.run(
            [sys.executable, "-c", OPEN, path],
            input=PLAN.to_json(),
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        )
    assert done.stdout == "LedgerInUseError\n"


# --- What is refused ------------------------------------------------------------------------------


def test_the_ledger_of_another_plan_is_refused(path: Path) -> None:
    Ledger(path, PLAN).__exit__(None, None, None)
    with pytest.raises(LedgerError, match="belongs to another plan"):
        Ledger(path, a_plan(name="tuesday"))
    assert reopened(path) == [Entry()] * 3


def edit(statement: str) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(statement)
        connection.close()

    return edit


def write_text(path: Path) -> None:
    path.write_text("no database" * 100)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwrite_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xee" * 4096
    path.write_bytes(content)


def change_the_index(path: Path) -> None:
    # The table comes first, then its index. Both contain each token.
    token = JOB.request.client_request_token.encode()
    table, _, index = path.read_bytes().rpartition(token)
    path.write_bytes(table + b"7" + token[1:] + index)


@pytest.mark.parametrize(
    "damage",
    [
        write_text,
        cut,
        overwrite_a_page,
        change_the_index,
        edit("UPDATE job SET state = 'unknown'"),
        edit("DROP TABLE job"),
        edit("DELETE FROM job WHERE rowid = 1"),
    ],
    ids=["text", "cut", "page", "index", "state", "table", "row"],
)
def test_a_damaged_ledger_is_refused_with_advice(
    path: Path, damage: Callable[[Path], object]
) -> None:
    Ledger(path, PLAN).__exit__(None, None, None)
    damage(path)
    with pytest.raises(LedgerError, match=r"damaged\. Rename the file and run the same plan again"):
        Ledger(path, PLAN)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA application_id = 0", "not a ledger"),
        ("PRAGMA user_version = 1", "Another version of this package"),
    ],
)
def test_another_database_is_refused(path: Path, statement: str, message: str) -> None:
    Ledger(path, PLAN).__exit__(None, None, None)
    edit(statement)(path)
    with pytest.raises(LedgerError, match=message):
        Ledger(path, PLAN)


def test_a_ledger_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file or directory"):
        Ledger(tmp_path / "missing" / "ledger", PLAN)


@pytest.fixture
def deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of the program, which somebody has deleted."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


@pytest.mark.usefixtures("deleted_folder")
def test_a_ledger_elsewhere_can_be_used_in_a_deleted_folder(path: Path) -> None:
    assert reopened(path) == [Entry()] * 3


@pytest.mark.usefixtures("deleted_folder")
def test_a_ledger_in_a_deleted_folder_is_refused() -> None:
    with pytest.raises(LedgerError, match="No such file or directory"):
        Ledger("ledger", PLAN)


def test_a_fact_that_cannot_be_written_is_an_error_and_changes_nothing(path: Path) -> None:
    Ledger(path, PLAN).__exit__(None, None, None)
    with Ledger(path, PLAN) as ledger:
        path.with_name("ledger-journal").mkdir()
        with pytest.raises(LedgerError, match="cannot be read or written: unable to open"):
            ledger.record(JOB, copies=Copies.SOME)
        assert ledger.entry(JOB) == Entry()
    path.with_name("ledger-journal").rmdir()
    assert reopened(path) == [Entry()] * 3


@pytest.mark.parametrize("path", ["", "a\0b", 7, None, b"ledger"])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(RequestValidationError, match=r"run_jobs\.ledger .* must be a path"):
        Ledger(path, PLAN)


def test_the_ledger_contains_no_key(path: Path) -> None:
    with Ledger(path, PLAN) as ledger:
        ledger.record(JOB, state=JobState.STARTING, start_token="token-1")
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"token-1" in content
    assert not any(word.encode() in content for word in CANARY.split())


@pytest.mark.parametrize("error", [LedgerError("damaged"), LedgerInUseError("in use")], ids=type)
def test_errors_survive_pickling(error: LedgerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert isinstance(error, LedgerError)


def test_errors_have_no_cause(path: Path) -> None:
    path.write_text("no database" * 100)
    with pytest.raises(LedgerError) as caught:
        Ledger(path, PLAN)
    assert caught.value.__context__ is None

"""Run one schedule, from the first life of the program to the last, and judge the result."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import boto3
from attrs import frozen

from comprehend_phi import quiet_botocore

from . import program, world
from .corpus_judge import judge_corpus
from .corpus_plan import CorpusPlan
from .corpus_program import CorpusRun
from .evidence import Evidence, examine
from .life import BROKEN, GAVE_UP, INTERRUPTED, Sleeper
from .plan import CANARIES, Conditions, Folder, Plan
from .tally import Tally
from .world import Ledger, SharedClock

_MOST_LIVES = 40


@frozen
class Stage:
    """A service in its own process, and everything that the lives of the program need.

    This context manager forks, so its process must have only one thread.
    """

    directory: Path
    session: Any
    endpoint_url: str
    clock: SharedClock
    control: Connection
    server: Any

    @classmethod
    def build(cls) -> Self:
        context = get_context("fork")
        clock = SharedClock()
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(theirs, ours, clock), daemon=True)
        server.start()
        theirs.close()
        # The logs of botocore are searched, too, and `quiet_botocore` promises that nothing leaks.
        quiet_botocore()
        session: Any = boto3.Session(
            aws_access_key_id="testing", aws_secret_access_key="testing", region_name=world.REGION
        )
        # Load and import everything before the first life, so that each life starts quickly.
        for service in ("comprehendmedical", "s3"):
            session.client(service).close()
        for module in ("tenacity", "comprehend_phi._results.streams", "comprehend_phi._redaction"):
            import_module(module)
        gc.freeze()  # or the collector of each life copies the memory that it shares
        memory = Path("/dev/shm")
        directory = tempfile.mkdtemp(prefix="campaign-", dir=memory if memory.is_dir() else None)
        return cls(Path(directory), session, ours.recv(), clock, ours, server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.control.close()
        self.server.join(10)
        shutil.rmtree(self.directory)

    def play(self, plan: Plan | CorpusPlan, defect: str = "") -> Tally:
        """Run one plan and return its totals."""
        directory = self.directory / str(plan.seed)
        directory.mkdir()
        try:
            self.control.send(plan)
            self.control.recv()
            tally = Tally(schedules=1)
            self._lives(plan, directory, defect, tally)
            self.control.send(None)
            ledger: Ledger = self.control.recv()
            judge(plan, directory, ledger, tally)
            return tally
        finally:
            shutil.rmtree(directory)

    def _lives(self, plan: Plan | CorpusPlan, directory: Path, defect: str, tally: Tally) -> None:
        kills = list(plan.kills)
        for life in range(_MOST_LIVES):
            code = self._life(plan, directory, defect, life, kills.pop(0) if kills else None)
            if code == 0:
                return
            if code in (-signal.SIGKILL, -signal.SIGVTALRM):
                tally.kills += 1
            elif code == GAVE_UP:
                tally.gave_up += 1
            elif code == INTERRUPTED:
                tally.interrupted += 1
            else:
                tally.differences.append(f"life {life} of the program ended with code {code}")
                return
            self.clock.sleep(60.0)  # until the next start
        tally.differences.append(f"the program did not finish in {_MOST_LIVES} lives")

    def _life(
        self,
        plan: Plan | CorpusPlan,
        directory: Path,
        defect: str,
        life: int,
        kill_at: int | None,
    ) -> int:
        alive, end = os.pipe()  # the other end is closed when the life and all its forks have ended
        pid = os.fork()
        if pid:
            os.close(end)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.read(alive, 1)
            os.close(alive)
            return code
        code = BROKEN
        try:
            output = os.open(directory / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            evidence = Evidence(directory / "evidence")
            interrupt = plan.interrupts[life] if life < len(plan.interrupts) else None
            options: dict[str, Any] = {
                "directory": directory,
                "evidence": evidence,
                "session": self.session,
                "endpoint_url": self.endpoint_url,
                "kill_at": kill_at,
                "number": life,
                "defect": defect,
                "clock": Sleeper(self.clock, interrupt, evidence),
            }
            if isinstance(plan, CorpusPlan):
                code = CorpusRun(plan=plan, **options).live_corpus()
            else:
                fork_at = plan.forks[life] if life < len(plan.forks) else 0
                code = program.live(program.Run(plan=plan, fork_at=fork_at, **options))
        finally:
            os._exit(code)


def _serve(control: Connection, other_end: Connection, clock: SharedClock) -> None:
    other_end.close()
    world.serve(control, clock)


def judge(plan: Conditions, directory: Path, ledger: Ledger, tally: Tally) -> None:
    """Compare the results with the plan and record the differences."""
    tally.attempts, tally.faults = ledger.attempts, ledger.faults
    if isinstance(plan, CorpusPlan):
        judge_corpus(plan, directory, ledger, tally)
    elif isinstance(plan, Plan):
        judge_folders(plan, directory, ledger, tally)
    judge_evidence(directory, tally)


def judge_folders(plan: Plan, directory: Path, ledger: Ledger, tally: Tally) -> None:
    """Compare the starts and the documents with those of the plan."""
    differs = tally.differences.append
    names = Counter(job["JobName"] for job in ledger.jobs)
    tally.jobs, tally.starts = len(ledger.jobs), len(plan.folders)
    for folder in plan.folders:
        if names[folder.job_name] != 1:
            differs(f"start {folder.index} made {names[folder.job_name]} jobs")
        tally.documents_in += len(folder.notes)
        _judge_documents(folder, directory, tally)
    if tally.jobs != tally.starts:
        differs(f"{tally.starts} starts, {tally.jobs} jobs")
    listed: list[str] = _read(directory / "listed.json").get("job_ids", [])
    if len(set(listed)) != len(listed) or len(listed) != tally.jobs:
        differs(f"the service has {tally.jobs} jobs, the program saw {len(listed)}")


def judge_evidence(directory: Path, tally: Tally) -> None:
    """Search everything that the program has shown."""
    differs = tally.differences.append
    found = examine(directory / "evidence")
    tally.searched += found.searched
    tally.sightings = found.sightings
    tally.raised, tally.untyped = found.raised, len(found.untyped)
    tally.events += found.events
    for what in found.wrong:
        differs(f"wrong: {what}")
    begun, ended = (tally.events[event] for event in (program.FORKED, program.FORK_ENDED))
    if begun != ended:
        differs(f"{begun} forks, {ended} succeeded")
    for channel, count in found.sightings.items():
        differs(f"{count} canary sightings in: {channel}")
    for text in found.untyped:
        differs(f"untyped: {text.strip().splitlines()[-1]}")
    output = directory / "output"
    if output.exists() and (printed := output.read_text("utf-8", "replace").strip()):
        differs(f"the program printed: {printed.splitlines()[-1]}")


def _judge_documents(folder: Folder, directory: Path, tally: Tally) -> None:
    known = _read(directory / f"{folder.prefix}.json")
    unprocessed: Counter[str] = Counter(known.get("unprocessed", ()))
    redacted: Counter[str] = Counter(known.get("redacted", ()))
    failed: dict[str, str] = known.get("failed", {})
    if known.get("stopped") and not folder.to_be_stopped:
        tally.differences.append(
            f"folder {folder.index} counts as stopped, but nobody stopped its job"
        )
    for note in folder.notes:
        path = directory / "redacted" / note.key
        delivered = path.exists()
        if known.get("stopped"):
            tally.withdrawn += 1
            continue
        reason = failed.get(note.key, "").partition(":")[0]
        if note.change:
            expected = (False, 0, 0, "SourceChangedError")
        else:
            expected = (True, 0, 1, "") if note.can_be_processed else (False, 1, 0, "")
        if (delivered, unprocessed[note.key], redacted[note.key], reason) != expected:
            tally.differences.append(
                f"{note.key} ({note.change or 'unchanged'}): redacted {redacted[note.key]} times,"
                f" unprocessed {unprocessed[note.key]} times,"
                f" {'' if delivered else 'not '}delivered, failed with {reason or 'nothing'}"
            )
        tally.unprocessed += unprocessed[note.key]
        if reason:
            tally.changed += 1
            tally.events[note.change] += 1
        if delivered:
            text = path.read_bytes().decode()
            tally.redacted += 1
            if note.kept in text and not any(
                word in text for canary in CANARIES for word in canary.split()
            ):
                tally.clean += 1
            else:
                tally.differences.append(f"{note.key} is not redacted correctly")


def _read(path: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return known

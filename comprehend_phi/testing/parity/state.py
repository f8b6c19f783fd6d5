"""What a run must remember to continue after an interruption, in a file."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

import msgspec
from attrs import define, field

from ..._whole_file import whole_file
from .answers import Answer

_VERSION = 1


class StateError(Exception):
    """The file is not the state of a run with these options."""


@define(kw_only=True)
class State:
    """The state of one run. Every change is written at once, to a file of which only you can read.

    Attributes:
        path: the file.
        run: identifies the run. Tokens, job names and keys contain it.
        settings: a hash of the options, which must be the same when the run continues.
        attempted: the jobs whose start may have been sent.
        jobs: the ids of the jobs, by their names.
        others: the ids of jobs that a question has started by accident.
        answers: the answers so far, by the names of their questions.
    """

    path: Path
    run: str
    settings: str
    attempted: list[str] = field(factory=list[str])
    jobs: dict[str, str] = field(factory=dict[str, str])
    others: list[str] = field(factory=list[str])
    answers: dict[str, Answer] = field(factory=dict[str, Answer])

    def add_attempt(self, name: str) -> None:
        """Remember that a job's start is about to be sent."""
        self.attempted.append(name)
        self.save(sync=True)

    def add_job(self, name: str, job_id: str) -> None:
        """Remember the id of a job."""
        self.jobs[name] = job_id
        self.save(sync=True)

    def add_other(self, job_id: str) -> None:
        """Remember a job that a question has started by accident."""
        if job_id not in self.others:
            self.others.append(job_id)
            self.save(sync=True)

    def add_answer(self, question: str, answer: Answer) -> None:
        """Remember an answer."""
        self.answers[question] = answer
        self.save()

    def save(self, *, sync: bool = False) -> None:
        """Write the file.

        Args:
            sync: whether the content must survive a power failure.
        """
        stored = _Stored(
            version=_VERSION,
            run=self.run,
            settings=self.settings,
            attempted=self.attempted,
            jobs=self.jobs,
            others=self.others,
            answers=self.answers,
        )
        with whole_file(self.path, mode=0o600, sync=sync) as file:
            file.write(msgspec.json.encode(stored))

    def delete(self) -> None:
        """Delete the file, because there is nothing to continue."""
        self.path.unlink(missing_ok=True)


def open_state(path: Path, settings: str) -> State:
    """Return the state in a file, or that of a new run if there is no such file.

    Raises:
        StateError: the file is something else, or its run has other options.
        OSError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return State(path=path, run=token_hex(8), settings=settings)
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except msgspec.DecodeError:
        stored = None
    if stored is None or stored.version != _VERSION:
        raise StateError("the file is not the state of a run of this version")
    if stored.settings != settings:
        raise StateError(
            "the file belongs to a run with another role, bucket, key or region. Pass its options"
            " to continue or end that run, or another --state to begin a new one."
        )
    return State(
        path=path,
        run=stored.run,
        settings=settings,
        attempted=stored.attempted,
        jobs=stored.jobs,
        others=stored.others,
        answers=stored.answers,
    )


class _Stored(msgspec.Struct):
    version: int
    run: str
    settings: str
    attempted: list[str]
    jobs: dict[str, str]
    others: list[str]
    answers: dict[str, Answer]

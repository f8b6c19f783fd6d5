"""What the command line prints and writes.

Results go to stdout, all else to stderr. Where either is no terminal it gets plain lines, which are
never cut or wrapped. What comes from the service or from S3 is shown without its control
characters: they could steer the terminal, and an error is one line.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Self, TypeVar

import typer
from attrs import asdict

from .._clock import SystemClock
from .._results.layout import folder_key
from ..errors import IncompleteResultsError, ResultsError, mask

if TYPE_CHECKING:
    from types import TracebackType

    from rich.live import Live
    from rich.text import Text

    from .._results.documents import Document, UnprocessedFile
    from ..errors import ServiceError, TransportError
    from ..models import JobProperties


_Item = TypeVar("_Item")


class ClosedPipe(Exception):
    """Nobody reads any more what is printed."""


def emit(text: str) -> None:
    """Print one line of a result."""
    _echo(text, err=False)


def emit_json(value: object) -> None:
    """Print one line of JSON, in ASCII: it arrives whole whatever the encoding of stdout."""
    _echo(json.dumps(value), err=False)


def note(text: str) -> None:
    """Print one line for the person who waits; it has arrived when this returns."""
    _echo(printable(text), err=True)


@contextmanager
def retries_shown() -> Generator[None, None, None]:
    """Tell the person who waits which call is tried again, why, and when."""
    log, shown = logging.getLogger("comprehend_phi"), _Retries()
    level = log.level
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(shown)


class _Retries(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._told = self._advised = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record of a retry. Waiting for a job slot and what to check are said once."""
        fields: dict[str, Any] = vars(record)
        what = f"{fields['operation']}: {fields['code'] or fields['reason']}"
        what += f" on attempt {fields['attempt']}"
        if fields["attempt"] is None or what == self._told:
            return
        advice: str = fields["advice"] or ""
        line = f"{what}, trying again in {fields['delay']:.2f} s."
        note(line if advice in ("", self._advised) else f"{line} {advice}")
        self._told, self._advised = what, advice


def _echo(text: str, *, err: bool) -> None:
    error: Exception
    try:
        typer.echo(text, err=err)
    except BrokenPipeError:
        error = ClosedPipe()
    except OSError as cause:  # such as a full disk
        error = OSError(cause.errno, cause.strerror, "<stderr>" if err else "<stdout>")
    else:
        return
    raise error


def printable(text: str) -> str:
    """The text with an escape in the place of each control character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, plain columns elsewhere."""
    shown = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*headings, box=SIMPLE_HEAD)
        for row in shown:
            drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(headings, *shown, strict=True)]
    for line in ([*headings], *shown):
        emit(columns(line, widths))


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table."""
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


# --- What is known of jobs and files --------------------------------------------------------------


def job_members(job: JobProperties, *, show_names: bool = False) -> dict[str, Any]:
    """The properties of a job as JSON knows them; name and keys only where they are asked for."""
    members = asdict(job, value_serializer=lambda _job, _field, value: _plain(value))
    if show_names:
        return members
    locations = [members["input_data_config"], members["output_data_config"]]
    keys = [location.pop("s3_key") for location in locations if location]
    name, path = members.pop("job_name"), members.pop("manifest_file_path")
    if job.message is not None:
        members["message"] = mask(job.message, (name, path, *keys))
    return members


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def show_job(job: JobProperties, *, show_names: bool) -> None:
    """Print the properties of a job, one a line."""
    members = job_members(job, show_names=show_names)
    width = max(map(len, members))
    for name in ("input_data_config", "output_data_config"):
        if members[name] is not None:
            members[name] = "s3://" + "/".join(filter(None, members[name].values()))
    for name, value in members.items():
        if value is not None:
            emit(columns((name, printable(str(value))), (width, 0)))


def list_as_lines(jobs: Iterable[JobProperties], *, show_names: bool) -> None:
    """Print jobs as they arrive, one a line."""
    widths = (32, 15, 25, 25, 0)
    emit(columns(("JOB ID", "STATUS", "SUBMITTED", "ENDED", "NAME" if show_names else ""), widths))
    for job in jobs:
        times = (
            time.isoformat(timespec="seconds") if time else ""
            for time in (job.submit_time, job.end_time)
        )
        name = job.job_name or "" if show_names else ""
        cells = (job.job_id, str(job.job_status), *times, name)
        emit(columns([printable(cell) for cell in cells], widths))


def unprocessed_members(file: UnprocessedFile) -> dict[str, Any]:
    """An unprocessed file as JSON knows it."""
    return {
        "input_key": file.input_key,
        "error_code": file.error_code,
        "error_message": file.error_message,
    }


class Undelivered:
    """The notes that a command cannot deliver. Each is named on stderr as soon as it is known.

    Args:
        as_json: whether stdout gets a line for each, too.

    Attributes:
        failed: why each note was not delivered, by its key.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.failed: dict[str, str] = {}
        self._as_json = as_json
        self._other_problems: list[ResultsError] = []

    def all_but(
        self, stream: Generator[_Item, None, None], failed: dict[str, str] | None = None
    ) -> Generator[_Item, None, None]:
        """Yield what comes out of a stream of results; take in what it could not deliver.

        If you pass `failed`, it receives what this stream could not deliver.
        """
        with closing(stream):
            try:
                yield from stream
            except IncompleteResultsError as error:
                self._take_in(error)
                if failed is not None:
                    failed.update(error.failed)

    def _take_in(self, error: IncompleteResultsError) -> None:
        if not error.failed:
            self._other_problems.append(error)
        for key, reason in error.failed.items():
            if key in self.failed:
                continue
            self.failed[key] = reason
            note(f"Failed: {key} ({reason.rstrip('.')})")
            if self._as_json:
                emit_json({"failed": failed_members(key, reason)})

    @property
    def problems(self) -> list[ResultsError]:
        """The errors to end the command with; none if everything was delivered."""
        if not self.failed:
            return self._other_problems
        notes = amount(len(self.failed), "note", "notes")
        return [ResultsError(f"{notes} could not be delivered"), *self._other_problems]


def failed_members(key: str, reason: str) -> dict[str, str]:
    """A note that could not be delivered as JSON knows it."""
    return {"input_key": key, "reason": reason}


def document_members(document: Document, *, show_text: bool) -> dict[str, Any]:
    """A document as JSON knows it; the text of its entities only where it is asked for."""
    return {
        "input_key": document.input_key,
        "model_version": document.model_version,
        "entities": [
            {
                "id": entity.id,
                "begin_offset": entity.begin_offset,
                "end_offset": entity.end_offset,
                "score": entity.score,
                **({"text": entity.text} if show_text else {}),
                "category": entity.category,
                "type": entity.type,
                "traits": [{"name": trait.name, "score": trait.score} for trait in entity.traits],
            }
            for entity in document.entities
        ],
    }


def show_counts(documents: int, counts: Mapping[str, int]) -> None:
    """Print how many entities of each type there are, the most frequent first."""
    total = sum(counts.values())
    emit(f"{amount(total, 'entity', 'entities')} in {amount(documents, 'document', 'documents')}")
    if counts:
        rows = [(kind, str(number)) for kind, number in Counter(counts).most_common()]
        table(("TYPE", "COUNT"), rows)


def show_unprocessed(files: Sequence[UnprocessedFile]) -> None:
    """Print which files were not processed, and why; nothing where all were."""
    if files:
        emit(f"{amount(len(files), 'file was', 'files were')} not processed")
        table(
            ("FILE", "CODE", "REASON"),
            [(file.input_key, file.error_code or "", file.error_message or "") for file in files],
        )


def amount(number: int, one: str, many: str) -> str:
    """A number and what it counts."""
    return f"{number} {one if number == 1 else many}"


# --- Files ----------------------------------------------------------------------------------------


def path_below(folder: Path, name: str) -> Path | None:
    """Where below `folder` a file of this name belongs; None where that would lie outside of it."""
    parts = name.split("/")
    path = folder.joinpath(*parts)
    if (
        not {"", ".", ".."}.isdisjoint(parts)
        # On Windows, what has a drive or backslashes in it.
        or any(Path(part).name != part for part in parts)
        or "\0" in name
        # A link on the way.
        or not real_path(path.parent).is_relative_to(real_path(folder))
    ):
        return None
    return path


def real_path(path: Path) -> Path:
    """Return the path without links. A loop of links stays as it is and raises nothing."""
    # Path.resolve raises RuntimeError for a loop before Python 3.13.
    return Path(os.path.realpath(path))


def name_of_copy(key: str, input_key: str) -> str:
    """The path of a note below its job's input key."""
    # An input key that names one object is the only key there is.
    name = key.rpartition("/")[2] if key == input_key else key
    return name.removeprefix(folder_key(input_key))


# What is wrong with one path and leaves the others possible. A full disk is not among these.
_AWKWARD = {
    errno.EACCES,
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
}


class Folder:
    """A folder that gets a file for each of many keys.

    A key for which no file can be written is left out and keeps no other key from its file;
    `problem` tells of it in the end.

    Args:
        root: the folder; it is made if need be. Nothing is written outside of it.
        private: whether what is made is for its owner's eyes alone.
    """

    _SHOWN = 20

    def __init__(self, root: Path, *, private: bool) -> None:
        self._root = root
        self._folder_mode, self._file_mode = (0o700, 0o600) if private else (0o777, 0o666)
        self._written: set[tuple[int, int]] = set()
        self._left_out: list[str] = []
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(self._folder_mode, exist_ok=True)

    def write(self, key: str, name: str, content: bytes) -> Path | None:
        """Write the file of a key; returns its path, or None where the key was left out."""
        try:
            path = path_below(self._root, name)
            reason = (
                "its key has no path inside the folder" if path is None else self._obstacle(path)
            )
            if path is not None and not reason:
                put_file(path, content, mode=self._file_mode)
                self._written.add(_identity(path.lstat()))
                return path
        except UnicodeEncodeError:
            reason = "no file can have this name"
        except OSError as error:
            if error.errno not in _AWKWARD:
                raise
            reason = error.strerror
        self._left_out.append(f"{key} ({reason})")
        return None

    def _obstacle(self, path: Path) -> str | None:
        """Why no file may be written there, where only the name's folders are missing."""
        for parent in reversed(path.relative_to(self._root).parents):
            (self._root / parent).mkdir(self._folder_mode, exist_ok=True)
        if not replaceable(path):
            return "what is at its path is no regular file"
        # Names that differ may be one to the file system, in the case of their letters as an
        # example.
        if path.exists() and _identity(path.lstat()) in self._written:
            return "another key has its path"
        return None

    @property
    def problem(self) -> ResultsError | None:
        """The error that names the keys that were left out; None where none was."""
        if not self._left_out:
            return None
        shown = ", ".join(self._left_out[: self._SHOWN])
        more = len(self._left_out) - self._SHOWN
        return ResultsError(
            f"{amount(len(self._left_out), 'file was', 'files were')} not written below"
            f" {self._root}: {shown}" + (f" and {more} more" if more > 0 else "")
        )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def obstacle(folder: Path) -> str | None:
    """Return why no file can be created in a folder, which need not exist yet, or None."""
    for existing in (folder, *folder.parents):
        try:
            if not stat.S_ISDIR(existing.stat().st_mode):
                return "not a folder"
        except FileNotFoundError:
            if existing.is_symlink():
                return "a broken link"
            continue
        except OSError as error:
            return error.strerror
        return None if os.access(existing, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    return None


def replaceable(path: Path) -> bool:
    """Whether a file may be put there: nothing is there yet, or a regular file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def put_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put a file of this mode there, whole, or leave what was there."""
    part = path.with_name(f".comprehend-phi-{token_hex(8)}")
    try:
        # An older file would keep its permissions when it is opened; this one is new.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not replaceable(path):
        raise FileExistsError(errno.EEXIST, "There is something that is no regular file", str(path))
    put_file(path, text.encode(), mode=0o600)


# --- Waiting --------------------------------------------------------------------------------------


class WatchedClock(SystemClock):
    """The time of this machine, which tells when the sleep under way ends.

    Attributes:
        wakes: the monotonic time at which it ends.
    """

    wakes: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        self.wakes = self.monotonic() + seconds
        super().sleep(seconds)


class Progress:
    """How a wait goes, on stderr: a line per state, and on a terminal a live one below them."""

    def __init__(self, clock: WatchedClock) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self._status = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            if not console.is_dumb_terminal:
                self._live = Live(self, console=console, transient=True)
                self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def seen(self, job: JobProperties) -> None:
        """Take in what a poll brought."""
        if job.job_status == self._status:
            return
        self._status = str(job.job_status)
        self._say(f"{self._status} after {self._elapsed()}")

    def failed(self, error: ServiceError | TransportError) -> None:
        """Tell of a poll that failed; the wait goes on."""
        self._say(f"Poll failed after {self._elapsed()}: {error}")

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            note(line)

    def __rich__(self) -> Text:
        """The live line."""
        from rich.text import Text

        rest = self._clock.wakes - self._clock.monotonic()
        poll = f"next poll in {rest:.0f} s" if rest > 0 else "polling"
        return Text(f"{printable(self._status)} {self._elapsed()} elapsed, {poll}".strip())

    def _elapsed(self) -> str:
        seconds = round(self._clock.monotonic() - self._start)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"

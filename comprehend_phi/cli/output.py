"""What the command line prints, and on which stream.

Results go to stdout. Everything else goes to stderr. A stream that is not a terminal gets plain
lines, which are never truncated or wrapped. Text from the service or from S3 is printed with its
control characters escaped: they could steer the terminal, and an error is one line.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from attrs import asdict

from .._masking import mask
from .._wording import amount

if TYPE_CHECKING:
    from .._entities import Entity
    from .._results.documents import Document, UnprocessedFile
    from ..models import JobProperties


class ClosedPipe(Exception):
    """The reader of stdout or stderr has gone."""


def emit(text: str) -> None:
    """Print one line of a result to stdout."""
    _print(text, err=False)


def emit_exactly(text: str) -> None:
    """Print a text to stdout as it is: in UTF-8, and with its own line ends only."""
    _print(text.encode(), err=False)


def emit_json(value: object) -> None:
    """Print one line of JSON to stdout, in ASCII, so that it survives any encoding of stdout."""
    _print(json.dumps(value), err=False)


def inform(text: str) -> None:
    """Print one line to stderr. It has been written when this returns."""
    _print(printable(text), err=True)


def _print(text: str | bytes, *, err: bool) -> None:
    error: Exception
    try:
        click.echo(text, err=err, nl=isinstance(text, str))
    except BrokenPipeError:
        error = ClosedPipe()
    except OSError as cause:  # such as a full disk
        error = OSError(cause.errno, cause.strerror, "<stderr>" if err else "<stdout>")
    else:
        return
    raise error


def printable(text: str) -> str:
    """Return the text with each control character escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout: with rich on a terminal, otherwise as plain columns."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*headings, box=SIMPLE_HEAD)
        for row in cells:
            drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for line in ([*headings], *cells):
        emit(_columns(line, widths))


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


# --- Jobs -----------------------------------------------------------------------------------------


def job_members(job: JobProperties, *, show_names: bool = False) -> dict[str, Any]:
    """Return a job's properties for JSON; its name and its keys only with `show_names`."""
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
    """Print a job's properties to stdout, one per line."""
    members = job_members(job, show_names=show_names)
    width = max(map(len, members))
    for name in ("input_data_config", "output_data_config"):
        if members[name] is not None:
            members[name] = "s3://" + "/".join(filter(None, members[name].values()))
    for name, value in members.items():
        if value is not None:
            emit(_columns((name, printable(str(value))), (width, 0)))


def show_jobs(jobs: Iterable[JobProperties], *, show_names: bool) -> None:
    """Print jobs to stdout as they arrive, one per line."""
    widths = (32, 15, 25, 25, 0)
    emit(_columns(("JOB ID", "STATUS", "SUBMITTED", "ENDED", "NAME" if show_names else ""), widths))
    for job in jobs:
        times = (
            time.isoformat(timespec="seconds") if time else ""
            for time in (job.submit_time, job.end_time)
        )
        name = job.job_name or "" if show_names else ""
        cells = (job.job_id, str(job.job_status), *times, name)
        emit(_columns([printable(cell) for cell in cells], widths))


# --- Documents and files --------------------------------------------------------------------------


def entity_members(entity: Entity, *, show_text: bool) -> dict[str, Any]:
    """Return an entity for JSON; its text only with `show_text`."""
    return {
        "id": entity.id,
        "begin_offset": entity.begin_offset,
        "end_offset": entity.end_offset,
        "score": entity.score,
        **({"text": entity.text} if show_text else {}),
        "category": entity.category,
        "type": entity.type,
        "traits": [{"name": trait.name, "score": trait.score} for trait in entity.traits],
    }


def document_members(document: Document, *, show_text: bool) -> dict[str, Any]:
    """Return a document for JSON; the text of its entities only with `show_text`."""
    return {
        "input_key": document.input_key,
        "model_version": document.model_version,
        "entities": [entity_members(entity, show_text=show_text) for entity in document.entities],
    }


def unprocessed_members(file: UnprocessedFile) -> dict[str, Any]:
    """Return an unprocessed file for JSON."""
    return {
        "input_key": file.input_key,
        "error_code": file.error_code,
        "error_message": file.error_message,
    }


def show_counts(documents: int, counts: Mapping[str, int]) -> None:
    """Print to stdout how many entities of each type there are, the most frequent type first."""
    total = sum(counts.values())
    emit(f"{amount(total, 'entity', 'entities')} in {amount(documents, 'document')}")
    if counts:
        rows = [(kind, str(number)) for kind, number in Counter(counts).most_common()]
        table(("TYPE", "COUNT"), rows)


def show_unprocessed(files: Sequence[UnprocessedFile]) -> None:
    """Print to stdout which files were not processed, and why. Print nothing if all were."""
    if files:
        emit(f"{amount(len(files), 'file was', 'files were')} not processed")
        table(
            ("FILE", "CODE", "REASON"),
            [(file.input_key, file.error_code or "", file.error_message or "") for file in files],
        )

"""A page on which a person reviews detected PHI: one HTML file that needs nothing else.

AWS says that a person should review detected PHI before anyone relies on it. The page contains the
complete notes, so anyone who has the file has the PHI. Masking hides PHI from the screen, from the
browser's search and from screen readers until the reviewer reveals it, but not from the file.

Needs the extra `cli`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from heapq import heappop, heappush
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._entities import EntityType, usable_score
from .._redaction import check_entities, overlapping, rank
from .._results.decisions import AddedMark
from .._results.documents import Document
from .._shapes import InstanceShape, StringShape, check_argument
from ..errors import RedactionError, RequestValidationError

try:
    from jinja2 import Environment, StrictUndefined
except ModuleNotFoundError as _missing:
    raise ImportError(
        f"the review page needs the module {_missing.name}, which the extra `cli` of"
        " comprehend_phi installs",
        name=_missing.name,
    ) from None

if TYPE_CHECKING:
    from .._entities import Entity
    from .._results.documents import UnprocessedFile


def render(
    documents: Iterable[tuple[Document, str]],
    *,
    title: str = "PHI review",
    unprocessed: Iterable[UnprocessedFile] = (),
    failed: Mapping[str, str] | None = None,
) -> str:
    """Return the review page as HTML. It contains PHI, so store it as you store the notes.

    The page loads nothing and sends nothing. Its content security policy enforces that. Each entity
    is marked in the text and masked until the reviewer reveals it. Entities that overlap share one
    mark, which names all their types. The reviewer can reject and add marks, and saves these
    decisions in a file, which contains no text.

    Args:
        documents: the documents, each with its note, decoded as UTF-8 and with unchanged line
            endings; read once.
        title: the heading of the page.
        unprocessed: the files that the service did not process. The page lists them first.
        failed: why other notes cannot be shown, by their keys, as in `IncompleteResultsError`. The
            page lists them, too. It is read after `documents`, so reading `documents` may fill it.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RedactionError: an entity does not match its text, or two entities of a document have the
            same id. The error names the document's key, and there is no page.
        RequestValidationError: an argument has the wrong type, or two documents have the same key,
            so that decisions about them could not be told apart.
    """
    check_argument("render", "documents", _DOCUMENTS, documents)
    check_argument("render", "title", _STRING, title)
    check_argument("render", "unprocessed", _FILES, unprocessed)
    check_argument("render", "failed", _REASONS, failed, optional=True)
    rows: list[dict[str, Any]] = []
    types: Counter[str] = Counter()
    for document, text in documents:
        check_argument("render", "documents", _DOCUMENT, document)
        check_argument("render", "documents", _STRING, text)
        rows.append(_row(document, text))
        types.update(entity.type for entity in document.entities)
    _check_keys(rows)
    style = _asset("page.css")
    script = "\n".join(map(_asset, _SCRIPTS))
    page: str = _template().render(
        title=title,
        data={
            "documents": rows,
            "types": list(dict.fromkeys([*EntityType, *filter(_may_be_added, types)])),
        },
        types=types.most_common(),
        unprocessed=list(unprocessed),
        failed=dict(failed or {}),
        style=style,
        script=script,
        style_hash=_source_of(style),
        script_hash=_source_of(script),
    )
    return page


# Each script uses those before it. They share one `script` element.
_SCRIPTS = ("decisions.js", "note.js", "page.js")

_DOCUMENTS = InstanceShape(Iterable, "pass pairs of a Document and its text")
_DOCUMENT = InstanceShape(Document)
_STRING = StringShape("str")
_FILES = InstanceShape(Iterable, "pass the unprocessed files of a job's results")
_REASONS = InstanceShape(Mapping, "pass the attribute `failed` of an IncompleteResultsError")


def _row(document: Document, text: str) -> dict[str, Any]:
    """Return a document in the form that the page's script reads."""
    problem = ""
    try:
        check_entities(text, document.entities, consequence="No page was made.")
    except RedactionError as error:
        problem = str(error)
    if len({entity.id for entity in document.entities}) < len(document.entities):
        problem = problem or "Two entities have the same id. No page was made."
    if problem:
        raise RedactionError(f"{document.input_key}: {problem}")
    return {
        "key": document.input_key,
        "sha256": sha256(text.encode()).hexdigest(),
        "model": document.model_version,
        "pieces": _pieces(text, document.entities),
    }


def _check_keys(rows: list[dict[str, Any]]) -> None:
    """Raise `RequestValidationError` if two documents have the same key."""
    if len({row["key"] for row in rows}) < len(rows):
        raise RequestValidationError(
            owner="render",
            field="documents",
            shape="pairs",
            reason="must contain each key once; make one page for each bucket or job",
        )


def _pieces(text: str, entities: Iterable[Entity]) -> list[Any]:
    """Split the text into strings and marks, which alternate. The first and last are strings.

    The page contains no offsets, because JavaScript counts UTF-16 code units instead of code
    points.
    """
    pieces: list[Any] = []
    position = 0
    for group in overlapping(entities):
        pieces.append(text[position : group[0].begin_offset])
        pieces.append(_mark(text, sorted(group, key=rank)))
        position = max(entity.end_offset for entity in group)
    pieces.append(text[position:])
    return pieces


def _mark(text: str, group: list[Entity]) -> dict[str, Any]:
    """Return the mark for overlapping entities. The first entity gives the mark its color.

    The text is split at every offset of an entity. Each segment has the index of the innermost
    entity that covers it.
    """
    cuts = sorted({cut for entity in group for cut in (entity.begin_offset, entity.end_offset)})
    by_begin = sorted(enumerate(group), key=lambda numbered: -numbered[1].begin_offset)
    segments: list[tuple[str, int]] = []
    # A heap of the entities that have begun. The shortest is on top, because it is the last by
    # rank. Entities that have ended are removed when they come to the top.
    begun: list[tuple[int, int]] = []
    for begin, end in pairwise(cuts):
        while by_begin and by_begin[-1][1].begin_offset <= begin:
            number, entity = by_begin.pop()
            heappush(begun, (-number, entity.end_offset))
        while begun[0][1] <= begin:
            heappop(begun)
        segments.append((text[begin:end], -begun[0][0]))
    return {
        "entities": [
            {"id": entity.id, "type": entity.type, "score": usable_score(entity)}
            for entity in group
        ],
        "segments": segments,
    }


def _may_be_added(type_: str) -> bool:
    """Return whether a file of decisions may contain an added mark of this type."""
    try:
        AddedMark(begin_offset=0, end_offset=1, type=type_)
    except RequestValidationError:
        return False
    return True


@cache
def _asset(name: str) -> str:
    return (files("comprehend_phi.review") / "assets" / name).read_text(encoding="utf-8")


def _source_of(content: str) -> str:
    """Return the source expression of a content security policy for inline content."""
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.from_string(_asset("page.html.j2"))

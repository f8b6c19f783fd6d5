"""A page on which a person reviews what was found: one HTML file that needs nothing else.

AWS itself says that detected PHI should be reviewed by a person before it is relied upon. The page
holds the notes in full, so whoever has the file has the PHI: masking hides it from the screen, from
the page's search and from screen readers until the reviewer asks for it, not from the file.

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

from .._redaction import overlapping, rank, require_fit, usable_score
from ..errors import RedactionError

try:
    from jinja2 import Environment, StrictUndefined
except ModuleNotFoundError:
    raise ImportError("the review page needs jinja2: pip install 'comprehend_phi[cli]'") from None

if TYPE_CHECKING:
    from .._entities import Entity
    from .._results.documents import Document, UnprocessedFile


def render(
    documents: Iterable[tuple[Document, str]],
    *,
    title: str = "PHI review",
    unprocessed: Iterable[UnprocessedFile] = (),
    failed: Mapping[str, str] | None = None,
) -> str:
    """The review page of these documents, as HTML. It contains their PHI: keep it like the notes.

    The page loads nothing and sends nothing, and its own content security policy holds it to that.
    Entities are marked where they stand and masked until the reviewer asks for their text.
    Entities that overlap share one mark that names all their types, as in `redact`.

    Args:
        documents: what was found in each file, and the file's text, decoded as UTF-8, its line ends
            as they are in the file; read once.
        title: the heading of the page.
        unprocessed: the files that nobody has looked at. The page lists them above the documents.
        failed: why other notes cannot be shown, by their keys, as in `IncompleteResultsError`. The
            page lists them too. Read after `documents`, so that it may be filled meanwhile.

    Returns:
        The page, to be written as UTF-8.

    Raises:
        RedactionError: an entity does not fit its text. Names the document's key; no page is made.
    """
    rows: list[dict[str, Any]] = []
    types: Counter[str] = Counter()
    for document, text in documents:
        rows.append(_row(document, text))
        types.update(entity.type for entity in document.entities)
    style, script = _asset("page.css"), _asset("page.js")
    page: str = _template().render(
        title=title,
        data={"documents": rows},
        types=types.most_common(),
        unprocessed=list(unprocessed),
        failed=dict(failed or {}),
        style=style,
        script=script,
        style_hash=_source_of(style),
        script_hash=_source_of(script),
    )
    return page


def _row(document: Document, text: str) -> dict[str, Any]:
    """A document as the page's script reads it."""
    problem = ""
    try:
        require_fit(text, document.entities, consequence="No page was made.")
    except RedactionError as error:
        problem = f"{document.input_key}: {error}"
    if problem:
        raise RedactionError(problem)
    return {
        "key": document.input_key,
        "model": document.model_version,
        "pieces": _pieces(text, document.entities),
    }


def _pieces(text: str, entities: Iterable[Entity]) -> list[Any]:
    """The text in pieces: by turns a plain string and a mark, a string at either end.

    The page never sees an offset. JavaScript counts UTF-16 units where offsets count code points.
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
    """Entities that hang together, the one that names the mark first, and their text.

    The text is cut wherever one of them begins or ends; each segment names the innermost that
    covers it.
    """
    cuts = sorted({cut for entity in group for cut in (entity.begin_offset, entity.end_offset)})
    by_begin = sorted(enumerate(group), key=lambda numbered: -numbered[1].begin_offset)
    segments: list[tuple[str, int]] = []
    # Entities that have begun, on top the last in the order of ranks, which is the shortest. One
    # that has ended leaves when it comes to the top.
    begun: list[tuple[int, int]] = []
    for begin, end in pairwise(cuts):
        while by_begin and by_begin[-1][1].begin_offset <= begin:
            number, entity = by_begin.pop()
            heappush(begun, (-number, entity.end_offset))
        while begun[0][1] <= begin:
            heappop(begun)
        segments.append((text[begin:end], -begun[0][0]))
    return {
        "entities": [{"type": entity.type, "score": usable_score(entity)} for entity in group],
        "segments": segments,
    }


@cache
def _asset(name: str) -> str:
    return (files("comprehend_phi.review") / "assets" / name).read_text(encoding="utf-8")


def _source_of(content: str) -> str:
    """What a content security policy calls an inline style or script of this content."""
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.from_string(_asset("page.html.j2"))

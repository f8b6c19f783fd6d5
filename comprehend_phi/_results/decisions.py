"""A reviewer's decisions about detected PHI: which marks are wrong, and which are missing.

The review page saves them as JSON. The file contains keys, hashes, ids and offsets, but no text.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
from attrs import field, frozen
from msgspec.structs import asdict, replace

from .._entities import Entity
from .._redaction import overlapping
from .._shapes import (
    BOOL,
    NOTE_TEXT,
    TEXT,
    InstanceShape,
    IntegerShape,
    RuleShape,
    Shape,
    StringShape,
    check_argument,
    matching,
)
from .._structs import PrivateStruct
from .._whole_file import whole_file
from .._wording import amount
from ..errors import RedactionError, RequestValidationError
from .documents import DOCUMENT, Document


class DecisionsError(RedactionError):
    """A reviewer's decisions cannot be applied to a note, so it was not redacted.

    The message contains ids and offsets, but no part of the text.
    """


class AddedMark(PrivateStruct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mark that a reviewer added because the service had missed something.

    Attributes:
        begin_offset: where the mark begins, in code points from 0.
        end_offset: where the mark ends, exclusive.
        type: the entity type, such as one of `EntityType`. Only capital letters, digits and
            underscores, because it appears in redacted copies.
    """

    begin_offset: int
    end_offset: int
    type: str

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            RequestValidationError: a field has a wrong value or type.
        """
        check_argument("AddedMark", "begin_offset", _OFFSET, self.begin_offset)
        check_argument("AddedMark", "end_offset", _OFFSET, self.end_offset)
        check_argument("AddedMark", "type", _TYPE, self.type)
        if self.end_offset <= self.begin_offset:
            raise RequestValidationError(
                owner="AddedMark",
                field="end_offset",
                shape=_OFFSET.name,
                reason="must be greater than begin_offset",
            )


class DocumentDecisions(PrivateStruct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reviewer's decisions about one note.

    Attributes:
        input_key: the note's key in the input bucket. Not in the repr.
        sha256: the SHA-256 of the note, in UTF-8, as 64 hexadecimal digits in lower case. Not in
            the repr, because anyone can find a short note by hashing guesses.
        reviewed: whether a reviewer has marked the note as reviewed.
        rejected: the ids of the entities that must not be redacted. Entities that overlap share one
            mark, so all of them are rejected, or none.
        added: the marks that must be redacted, too.
    """

    _private: ClassVar[tuple[str, ...]] = ("input_key", "sha256")

    input_key: str
    sha256: str
    reviewed: bool
    rejected: tuple[int, ...]
    added: tuple[AddedMark, ...]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            RequestValidationError: a field has a wrong value or type, or repeats an item.
        """
        check_argument("DocumentDecisions", "input_key", TEXT, self.input_key)
        check_argument("DocumentDecisions", "sha256", _SHA256, self.sha256)
        check_argument("DocumentDecisions", "reviewed", BOOL, self.reviewed)
        _check_items("DocumentDecisions", "rejected", _ID, self.rejected)
        _check_items("DocumentDecisions", "added", InstanceShape(AddedMark), self.added)
        _check_distinct("DocumentDecisions", "rejected", self.rejected)
        _check_distinct("DocumentDecisions", "added", self.added)


def _check_items(owner: str, name: str, shape: Shape, items: Any) -> None:
    check_argument(owner, name, InstanceShape(tuple), items)
    for item in items:
        check_argument(owner, name, shape, item)


def _check_distinct(
    owner: str, name: str, items: Sequence[object], rule: str = "must not repeat an item"
) -> None:
    if len(set(items)) < len(items):
        raise RequestValidationError(owner=owner, field=name, shape="tuple", reason=rule)


_OFFSET = IntegerShape("offset", 0)
_ID = IntegerShape("entity id", 0)
_TYPE = StringShape("entity type", 1, 64, rule=matching("[A-Z][A-Z0-9_]*"))
_SHA256 = StringShape("SHA-256", rule=matching("[0-9a-f]{64}"))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON."""

    version: int
    documents: tuple[DocumentDecisions, ...]

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError("its version is not 1, which is the one that this package knows")


@frozen(repr=False)
class Decisions:
    """A reviewer's decisions about the notes of a job.

    They belong to the results that the reviewer saw. In the results of another job, the entities of
    the same note may have other ids.

    Attributes:
        documents: the decisions about each note. No two of them have the same key.
    """

    documents: tuple[DocumentDecisions, ...] = ()
    # The rich library prints the fields of attrs, whatever `__repr__` returns.
    _by_key: dict[str, DocumentDecisions] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _check_items("Decisions", "documents", InstanceShape(DocumentDecisions), self.documents)
        keys = [each.input_key for each in self.documents]
        _check_distinct("Decisions", "documents", keys, "must not contain a key twice")
        object.__setattr__(self, "_by_key", dict(zip(keys, self.documents, strict=True)))

    def __repr__(self) -> str:
        reviewed = sum(each.reviewed for each in self.documents)
        return f"<Decisions about {amount(len(self.documents), 'document')}, {reviewed} reviewed>"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the decisions in a file that the review page or `save` has written.

        Raises:
            RequestValidationError: the file does not contain decisions that this version of the
                package can read. Nothing in it is ignored. The error says where the problem is and
                quotes no value.
            OSError: the file cannot be read.
        """
        owner = f"{cls.__name__}.load"
        check_argument(owner, "path", _PATH, path)
        content = Path(path).read_bytes()
        try:
            members = json.loads(content.decode(), object_pairs_hook=_members_once)
            return cls(msgspec.convert(members, _File).documents)
        except (msgspec.ValidationError, RequestValidationError) as error:
            problem = str(error)
            if "unknown field" in problem:  # the message quotes it
                problem = "it contains a member that this package does not know"
        except (ValueError, RecursionError):  # it may quote the file
            problem = "it is not JSON in UTF-8"
        raise RequestValidationError(
            owner=owner,
            field="path",
            shape="decisions",
            reason=f"must be a file that the review page has saved: {problem}",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the decisions to a file that only its owner can read.

        A regular file that is there is replaced when the new one is complete. The file contains
        keys, which may name people, and hashes, which reveal a short note to anyone who guesses its
        text.

        Raises:
            OSError: the file cannot be written. An existing file stays as it was.
        """
        check_argument(f"{type(self).__name__}.save", "path", _PATH, path)
        with whole_file(Path(path), mode=0o600, sync=True) as file:
            file.write(msgspec.json.encode(_File(1, self.documents)))

    def apply(self, document: Document, text: str, *, require_reviewed: bool = False) -> Document:
        """Return the document without the rejected entities and with the added marks.

        An added mark becomes an entity with a score of 1, so `min_score` never leaves it out. A
        document without decisions is returned unchanged.

        Args:
            document: a document of the results that were reviewed.
            text: its note, decoded as UTF-8 and with unchanged line endings.
            require_reviewed: whether to refuse a note that is not marked as reviewed.

        Raises:
            DecisionsError: the text is not the one that was reviewed. Or the document lacks a
                rejected entity, or only some of the entities that overlap are rejected. Or an added
                mark ends after the end of the text. Or the note is not marked as reviewed, although
                `require_reviewed` is true.
            RequestValidationError: an argument has the wrong type.
        """
        check_argument("Decisions.apply", "document", DOCUMENT, document)
        check_argument("Decisions.apply", "text", NOTE_TEXT, text)
        check_argument("Decisions.apply", "require_reviewed", BOOL, require_reviewed)
        decided = self._by_key.get(document.input_key)
        if require_reviewed and not (decided and decided.reviewed):
            raise DecisionsError("The note is not marked as reviewed. Review it and save again.")
        if decided is None:
            return document
        if sha256(text.encode(errors="surrogatepass")).hexdigest() != decided.sha256:
            raise DecisionsError("The note is not the one that was reviewed. Review it again.")
        return replace(document, entities=_apply(decided, document.entities, text))


def _apply(decided: DocumentDecisions, entities: Sequence[Entity], text: str) -> tuple[Entity, ...]:
    ids = Counter(entity.id for entity in entities)
    for rejected in decided.rejected:
        if ids[rejected] != 1:
            raise DecisionsError(
                f"The decisions reject entity {rejected}, but the document has {ids[rejected]}"
                " entities with this id. Use the decisions for the results that were reviewed."
            )
    left_out = frozenset(decided.rejected)
    for group in overlapping(entities):
        in_one_mark = {entity.id for entity in group}
        if 0 < len(in_one_mark & left_out) < len(in_one_mark):
            raise DecisionsError(
                f"The decisions reject only some of the entities {sorted(in_one_mark)}, which"
                " overlap and share one mark. Reject all of them or none."
            )
    for mark in decided.added:
        if mark.end_offset > len(text):
            raise DecisionsError(
                f"The added mark at offsets {mark.begin_offset} to {mark.end_offset} ends after the"
                f" end of the text, which has {amount(len(text), 'code point')}. Review the note"
                " again."
            )
    kept = (entity for entity in entities if entity.id not in left_out)
    added = (
        Entity(
            id=id_,
            score=1.0,
            text=text[mark.begin_offset : mark.end_offset],
            category="PROTECTED_HEALTH_INFORMATION",
            **asdict(mark),
        )
        for id_, mark in enumerate(decided.added, max(ids, default=-1) + 1)
    )
    return (*kept, *added)


# Returns a document as a reviewer decided.
Decide = Callable[[Document, str], Document]


def decide_with(owner: str, decisions: Any, *, require_reviewed: Any) -> Decide | None:
    """Return the function that applies `decisions`, or None if there are none.

    Raises:
        RequestValidationError: an argument has the wrong type, or `require_reviewed` is true
            without decisions.
    """
    check_argument(owner, "decisions", _DECISIONS, decisions, optional=True)
    check_argument(owner, "require_reviewed", BOOL, require_reviewed)
    if decisions is not None:
        return partial(decisions.apply, require_reviewed=require_reviewed)
    if require_reviewed:
        raise RequestValidationError(
            owner=owner,
            field="require_reviewed",
            shape=BOOL.name,
            reason="needs decisions, which say what was reviewed",
        )
    return None


_DECISIONS = InstanceShape(Decisions, "Decisions.load reads the file of the review page")


def _path_problem(value: Any) -> str | None:
    if isinstance(value, (str, os.PathLike)):
        return None
    return f"must be a str or a path, not {type(value).__name__}"


_PATH = RuleShape("path", _path_problem)


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise msgspec.ValidationError("it repeats a member of an object")
    return members

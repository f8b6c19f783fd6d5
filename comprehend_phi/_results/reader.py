"""Reading one processed file: its document, its note, and the redacted note."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

from .._entities import Entity
from .._redaction import check_entities, redact
from .._wording import amount
from ..errors import (
    MissingObjectError,
    RedactionError,
    SourceChangedError,
    UnreadableObjectError,
)
from .decisions import Decide, Decisions, decide_with
from .decoding import decode_output
from .documents import Document
from .file_list import File
from .listing import Listing
from .storage import StoredObject

_T = TypeVar("_T")

_LEFT_OUT = (
    "The note was left out because it is not the text that the job read. Start another job for the"
    " current note."
)


class Reader:
    """Reads the processed files of one job.

    Methods block, and threads may share a reader.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def document(self, file: File) -> Document:
        """Return the document of one file. Raise `MissingObjectError` if it does not exist."""
        return self._document(file)[0]

    def _document(self, file: File) -> tuple[Document, datetime | None]:
        """Return the document of one file, and when it was written."""
        bucket, key = self._listing.target.s3_bucket, file.output_key
        if file.is_ambiguous:
            raise UnreadableObjectError(
                "the list of processed files has several entries for this document or its note, so"
                " it is unclear which belong together",
                bucket=bucket,
                key=key,
            )
        stored = self._listing.storage.read(bucket, key)
        content = decode_output(stored.body, bucket=bucket, key=key)
        document = Document(
            input_key=file.input_key,
            output_key=key,
            entities=content.entities,
            model_version=content.model_version,
        )
        return document, stored.last_modified

    def with_text(self, file: File, decide: Decide | None = None) -> tuple[Document, str]:
        """Return the document and the note of one file. Raise an error if they do not match.

        If there is `decide`, it changes the document.
        """
        document, written = self._document(file)
        text = self._text(file, written)

        def checked() -> Document:
            check_entities(text, document.entities, consequence=_LEFT_OUT)
            return document if decide is None else decide(document, text)

        return self._naming(file, checked), text

    def redacting(
        self,
        min_score: float,
        replacement: str | Callable[[Entity], str],
        decisions: Decisions | None,
        require_reviewed: bool,
    ) -> Callable[[File], tuple[str, str]]:
        """Return a function that returns the input key and the redacted note of one file."""
        redacting = partial(redact, min_score=min_score, replacement=replacement)
        redacting("", ())  # checks the arguments now, not after the first file was read
        decide = decide_with("redacted", decisions, require_reviewed=require_reviewed)

        def redacted(file: File) -> tuple[str, str]:
            document, text = self.with_text(file, decide)
            return file.input_key, self._naming(file, partial(redacting, text, document.entities))

        return redacted

    def _naming(self, file: File, call: Callable[[], _T]) -> _T:
        """Return what `call` returns. Name the note in a `RedactionError`."""
        try:
            return call()
        except RedactionError as error:
            kind, reason = type(error), str(error)
        raise kind(f"s3://{self._listing.notes.bucket}/{file.input_key}: {reason}")

    def _text(self, file: File, document_written: datetime | None) -> str:
        notes, key = self._listing.notes, file.input_key
        try:
            note = self._listing.storage.read(*notes.location_of(key))
            text = note.body.decode("utf-8")
        except MissingObjectError:
            reason = notes.missing
        except UnicodeDecodeError as error:
            reason = f"the note is not UTF-8 (byte {error.start})"
        else:
            change = self._change(note, file.size, document_written)
            if change is None:
                return text
            reason = f"{change}. {_LEFT_OUT}"
        job_id = self._listing.job.job_id
        raise SourceChangedError(reason, bucket=notes.bucket, key=key, job_id=job_id)

    def _change(
        self, note: StoredObject, size: int | None, document_written: datetime | None
    ) -> str | None:
        """Return why the note cannot be the one that the job read, or None.

        A document without entities fits every text, so only size and time can tell.
        """
        if size is not None and len(note.body) != size:
            return f"the note has {amount(len(note.body), 'byte')}, but the job read {size}"
        written = note.last_modified
        if self._listing.is_described:
            latest, event = self._listing.job.submit_time, "the job was submitted"
        else:
            latest, event = document_written, "its document was written"
        # S3 rounds times down to whole seconds, so a note that was written in the second of the
        # submission passes. Nobody outside AWS knows whether the job reads a note that is written
        # later. Our rule refuses such a note.
        if written is not None and latest is not None and written > latest:
            return (
                f"the note was written at {written.isoformat()}, after {event} at"
                f" {latest.isoformat()}"
            )
        return None

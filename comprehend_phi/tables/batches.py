"""Documents as Arrow record batches with one row per entity."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow
from pyarrow import compute

from .._entities import Entity
from .._results.documents import Document
from .._results.streams import JobResults
from .._shapes import InstanceShape, IntegerShape, check_argument
from .._stream import Stream
from ..corpus.run_results import RunResults
from ..errors import ComprehendPHIError, RequestValidationError

# pyarrow has no types. Its stubs are only good enough for annotations: they lack functions.
_arrow: Any = pyarrow
_compute: Any = compute

# The version of the schema. It changes when a column is renamed or removed, or gets another type.
SCHEMA_VERSION: str = "1"

DEFAULT_BATCH_ROWS: int = 65_536

_DOCUMENTS = InstanceShape(Iterable, "pass the results of a job, for example")
_DOCUMENT = InstanceShape(Document)
_FLAG = InstanceShape(bool)
_BATCH_ROWS = IntegerShape("rows", 1, 1 << 20)  # our rule: 1 GiB of keys, of which Arrow takes 2

_DICTIONARY = _arrow.dictionary(_arrow.int32(), _arrow.string())
_COLUMNS = (
    _arrow.field("input_key", _arrow.string(), nullable=False),
    _arrow.field("entity_id", _arrow.int64(), nullable=False),
    _arrow.field("begin_offset", _arrow.int64(), nullable=False),
    _arrow.field("end_offset", _arrow.int64(), nullable=False),
    _arrow.field("score", _arrow.float64(), nullable=False),
    _arrow.field("type", _DICTIONARY, nullable=False),
    _arrow.field("category", _DICTIONARY, nullable=False),
    _arrow.field("model_version", _DICTIONARY),
)
_TEXT = _arrow.field("text", _arrow.string(), nullable=False)


def entity_batches(
    documents: Iterable[Document],
    *,
    include_text: bool = False,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> pyarrow.RecordBatchReader:
    """Return all entities of `documents` as a stream of Arrow record batches.

    Documents are read when the reader needs them. Libraries that support Arrow's C stream interface
    take the reader, such as polars and DuckDB.

    If reading the documents fails, the reader raises the error after it has delivered all rows that
    were read before. To stop early, delete the reader: its `close` does not stop the fetching.

    The schema's metadata contains `comprehend_phi.schema`, the version of the schema. For the
    results of a job, it also contains `comprehend_phi.job_id`.

    Args:
        documents: the results of a job or of all jobs of a plan, a part of them, or any other
            iterable of documents.
        include_text: whether to add the column `text`, which is protected health information.
        batch_rows: how many rows a batch has at most, from 1 to 1,048,576.

    Raises:
        RequestValidationError: an argument is wrong. While reading: an item of `documents` is not a
            document, or has a value that Arrow cannot store. The error quotes no value.
    """
    batches = EntityBatches(
        documents, owner="entity_batches", include_text=include_text, batch_rows=batch_rows
    )
    reader: pyarrow.RecordBatchReader = _arrow.RecordBatchReader.from_batches(
        batches.schema, iter(batches)
    )
    return reader


class EntityBatches:
    """The batches of some documents, to be iterated over once.

    Attributes:
        schema: the schema of every batch.
        documents: how many documents have been read so far.
        rows: how many rows have been read so far.
    """

    def __init__(
        self, documents: Iterable[Document], *, owner: str, include_text: bool, batch_rows: int
    ) -> None:
        check_argument(owner, "documents", _DOCUMENTS, documents)
        check_argument(owner, "include_text", _FLAG, include_text)
        check_argument(owner, "batch_rows", _BATCH_ROWS, batch_rows)
        metadata = {"comprehend_phi.schema": SCHEMA_VERSION}
        if isinstance(documents, JobResults):
            metadata["comprehend_phi.job_id"] = documents.job.job_id
        columns = (*_COLUMNS, _TEXT) if include_text else _COLUMNS
        self.schema: pyarrow.Schema = _arrow.schema(columns, metadata=metadata)
        self.documents: int = 0
        self.rows: int = 0
        self._source = documents
        self._owner = owner
        self._batch_rows = batch_rows

    @property
    def unprocessed(self) -> int | None:
        """How many files the service did not process; None if the documents are no results."""
        if isinstance(self._source, (JobResults, RunResults)):
            return len(self._source.unprocessed)
        return None

    def __iter__(self) -> Iterator[pyarrow.RecordBatch]:
        return Stream(self._owner, self._batches())

    def _batches(self) -> Generator[pyarrow.RecordBatch, None, None]:
        source = iter(self._source)
        rows = _Rows(self.schema, self._owner)
        failed: ComprehendPHIError | None = None
        with ExitStack() as stack:
            if isinstance(source, Generator):
                stack.callback(source.close)
            try:
                for document in source:
                    check_argument(self._owner, "documents", _DOCUMENT, document)
                    entities = document.entities
                    self.documents += 1
                    self.rows += len(entities)
                    while (room := self._batch_rows - len(rows)) <= len(entities):
                        rows.add(document, entities[:room])
                        entities = entities[room:]
                        yield rows.take()
                    rows.add(document, entities)
            except ComprehendPHIError as error:
                failed = error
        if len(rows):
            yield rows.take()
        if failed is not None:
            raise failed


class _Rows:
    """The rows of the next batch, as columns of Python values.

    A document's values are copied while they are in the processor's cache. Its key and its version
    are stored once, with the number of the row after its last one.
    """

    def __init__(self, schema: pyarrow.Schema, owner: str) -> None:
        self._schema = schema
        self._owner = owner
        self._has_text = _TEXT.name in schema.names
        self._clear()

    def _clear(self) -> None:
        self._row_ends: list[int] = []
        self._keys: list[str] = []
        self._versions: list[str | None] = []
        self._ids: list[int] = []
        self._begin_offsets: list[int] = []
        self._end_offsets: list[int] = []
        self._scores: list[float] = []
        self._types: list[str] = []
        self._categories: list[str] = []
        self._texts: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, document: Document, entities: Sequence[Entity]) -> None:
        """Add one row for each of these entities of the document."""
        if not entities:
            return
        self._ids += [entity.id for entity in entities]
        self._begin_offsets += [entity.begin_offset for entity in entities]
        self._end_offsets += [entity.end_offset for entity in entities]
        self._scores += [entity.score for entity in entities]
        self._types += [entity.type for entity in entities]
        self._categories += [entity.category for entity in entities]
        if self._has_text:
            self._texts += [entity.text for entity in entities]
        self._row_ends.append(len(self._ids))
        self._keys.append(document.input_key)
        self._versions.append(document.model_version)

    def take(self) -> pyarrow.RecordBatch:
        """Return the rows as a batch, and forget them."""
        try:
            arrays = self._arrays()
        # Some of these errors quote the value.
        except (_arrow.ArrowException, TypeError, ValueError, OverflowError):
            arrays = None
        self._clear()
        if arrays is None or any(
            array.null_count and not column.nullable
            for array, column in zip(arrays, (*_COLUMNS, _TEXT), strict=False)
        ):
            raise RequestValidationError(
                owner=self._owner,
                field="documents",
                shape="Document",
                reason="must only have values that Arrow can store: strings that UTF-8 can encode,"
                " integers of 64 bits, and numbers as scores",
            )
        batch: pyarrow.RecordBatch = _arrow.RecordBatch.from_arrays(arrays, schema=self._schema)
        return batch

    def _arrays(self) -> list[Any]:
        arrays = [
            self._repeated(self._keys),
            _arrow.array(self._ids, _arrow.int64()),
            _arrow.array(self._begin_offsets, _arrow.int64()),
            _arrow.array(self._end_offsets, _arrow.int64()),
            _arrow.array(self._scores, _arrow.float64()),
            _arrow.array(self._types, _DICTIONARY),
            _arrow.array(self._categories, _DICTIONARY),
            self._repeated(self._versions).dictionary_encode(),
        ]
        if self._has_text:
            arrays.append(_arrow.array(self._texts, _arrow.string()))
        return arrays

    def _repeated(self, values: Sequence[str | None]) -> Any:
        """Return an array with one value per row, from one value per document."""
        ends = _arrow.array(self._row_ends, _arrow.int32())
        encoded = _arrow.RunEndEncodedArray.from_arrays(ends, _arrow.array(values, _arrow.string()))
        return _compute.run_end_decode(encoded)

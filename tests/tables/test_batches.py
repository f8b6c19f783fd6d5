"""Documents as Arrow record batches."""

from __future__ import annotations

import gc
import importlib
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comprehend_phi import (
    Document,
    Entity,
    IncompleteResultsError,
    JobResults,
    RequestValidationError,
    TransportError,
)
from comprehend_phi.tables import entity_batches

from ..conftest import CANARY
from .conftest import document, entity

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
COLUMNS = [
    ("input_key", pa.string(), False),
    ("entity_id", pa.int64(), False),
    ("begin_offset", pa.int64(), False),
    ("end_offset", pa.int64(), False),
    ("score", pa.float64(), False),
    ("type", DICTIONARY, False),
    ("category", DICTIONARY, False),
    ("model_version", DICTIONARY, True),
]


def rows(reader: Any) -> list[dict[str, Any]]:
    return [row for batch in reader for row in batch.to_pylist()]


def sizes(reader: Any) -> list[int]:
    return [batch.num_rows for batch in reader]


# --- The schema -----------------------------------------------------------------------------------


def test_the_schema_has_these_columns() -> None:
    schema: Any = entity_batches([]).schema

    assert [(each.name, each.type, each.nullable) for each in schema] == COLUMNS
    assert schema.metadata == {b"comprehend_phi.schema": b"1"}


def test_include_text_adds_one_column() -> None:
    schema: Any = entity_batches([], include_text=True).schema

    assert [(each.name, each.type, each.nullable) for each in schema] == [
        *COLUMNS,
        ("text", pa.string(), False),
    ]


def test_the_schema_names_the_job_of_results_and_of_their_parts(complete: JobResults) -> None:
    for results in (complete, complete.part(0, 2)):
        schema: Any = entity_batches(results).schema

        assert schema.metadata[b"comprehend_phi.job_id"] == complete.job.job_id.encode()


# --- The rows -------------------------------------------------------------------------------------


def test_a_job_becomes_one_row_per_entity(complete: JobResults) -> None:
    assert rows(entity_batches(complete)) == [
        {
            "input_key": document.input_key,
            "entity_id": entity.id,
            "begin_offset": entity.begin_offset,
            "end_offset": entity.end_offset,
            "score": entity.score,
            "type": entity.type,
            "category": entity.category,
            "model_version": document.model_version,
        }
        for document in complete
        for entity in document.entities
    ]


def test_the_parts_of_a_job_have_its_rows(complete: JobResults) -> None:
    parts = [rows(entity_batches(complete.part(index, 2))) for index in range(2)]

    assert parts[0]
    assert parts[1]
    by_key = sorted([*parts[0], *parts[1]], key=lambda row: row["input_key"])
    assert by_key == rows(entity_batches(complete))


def test_a_missing_model_version_is_null() -> None:
    documents = [document("a", version=None), document("b"), document("c", 2, version=None)]

    versions = [row["model_version"] for row in rows(entity_batches(documents))]

    assert versions == [None, "0.1.0", None, None]


integers = st.integers(-(2**63), 2**63 - 1)
entities = st.builds(
    Entity,
    id=integers,
    begin_offset=integers,
    end_offset=integers,
    score=st.floats(allow_nan=False),
    text=st.text(),
    category=st.sampled_from(["PROTECTED_HEALTH_INFORMATION", ""]),
    type=st.text(max_size=3),
)
documents = st.lists(
    st.builds(
        Document,
        input_key=st.text(),
        output_key=st.text(),
        entities=st.lists(entities, max_size=5).map(tuple),
        model_version=st.none() | st.text(max_size=3),
    ),
    max_size=5,
)


@given(documents=documents, batch_rows=st.integers(1, 7))
@settings(max_examples=50)
def test_batches_have_all_values_of_all_documents(
    documents: Sequence[Document], batch_rows: int
) -> None:
    batches = list(entity_batches(documents, include_text=True, batch_rows=batch_rows))

    assert [tuple(row.values()) for row in rows(batches)] == [
        (
            *(document.input_key, entity.id, entity.begin_offset, entity.end_offset),
            *(entity.score, entity.type, entity.category, document.model_version, entity.text),
        )
        for document in documents
        for entity in document.entities
    ]
    assert all(size == batch_rows for size in sizes(batches[:-1]))
    assert all(0 < size <= batch_rows for size in sizes(batches))
    for batch in batches:
        batch.validate(full=True)


# --- Streaming ------------------------------------------------------------------------------------


def test_a_document_with_more_entities_than_a_batch_is_divided() -> None:
    documents = [document("a", 2), document("b", 7), document("c", 0), document("d", 1)]

    assert sizes(entity_batches(documents, batch_rows=4)) == [4, 4, 2]


def test_documents_are_read_when_the_reader_needs_them() -> None:
    read: list[str] = []

    def source() -> Iterator[Document]:
        for name in "abcdef":
            read.append(name)
            yield document(name)

    reader: Any = entity_batches(source(), batch_rows=2)
    assert read == []
    reader.read_next_batch()
    assert read == ["a", "b"]


def test_batches_that_were_interrupted_do_not_look_complete() -> None:
    def documents() -> Iterator[Document]:
        yield document("a")
        raise KeyboardInterrupt

    reader = entity_batches(documents(), batch_rows=1)
    with pytest.raises(KeyboardInterrupt):
        reader.read_all()
    with pytest.raises(TransportError, match="interrupted in an earlier step"):
        reader.read_all()


def test_deleting_the_reader_closes_the_documents() -> None:
    closed: list[bool] = []

    def source() -> Generator[Document, None, None]:
        try:
            while True:
                yield document("a")
        finally:
            closed.append(True)

    # Another reference, so that only `close` can end the generator.
    documents = source()
    reader: Any = entity_batches(documents, batch_rows=1)
    reader.read_next_batch()
    del reader
    gc.collect()

    assert closed == [True]


@pytest.mark.parametrize(("name", "read"), [("a", ["b", "note"]), ("note", ["a", "b"])])
def test_all_rows_that_were_read_come_before_the_error(
    complete: JobResults, lose: Callable[[str], None], name: str, read: list[str]
) -> None:
    lose(name)
    reader: Any = entity_batches(complete)

    batch = reader.read_next_batch()
    with pytest.raises(IncompleteResultsError) as caught:
        reader.read_next_batch()

    keys = dict.fromkeys(batch.column("input_key").to_pylist())
    assert list(keys) == [f"notes/{each}.txt" for each in read]
    assert caught.value.failed.keys() == {f"notes/{name}.txt"}


# Untyped: some of their types are only partly known.
polars: Any = importlib.import_module("polars")
duckdb: Any = importlib.import_module("duckdb")


def by_polars(reader: Any) -> list[str]:
    return sorted(polars.DataFrame(reader)["input_key"].to_list())


def by_duckdb(reader: Any) -> list[str]:
    found = duckdb.connect().from_arrow(reader).query("t", "SELECT input_key FROM t ORDER BY 1")
    return [key for (key,) in found.fetchall()]


each_library = pytest.mark.parametrize("read", [by_polars, by_duckdb])


@each_library
def test_other_libraries_read_the_stream(read: Callable[[Any], list[str]]) -> None:
    documents = [document("a"), document("b", 2)]

    assert read(entity_batches(documents, batch_rows=1)) == ["a", "b", "b"]


@each_library
def test_other_libraries_fail_if_the_results_are_incomplete(
    complete: JobResults, lose: Callable[[str], None], read: Callable[[Any], list[str]]
) -> None:
    lose("b")

    with pytest.raises(Exception, match="could not be delivered") as caught:
        read(entity_batches(complete, include_text=True))

    assert not [word for word in (*CANARY.split(), "555-0142") if word in str(caught.value)]


# --- Wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "options", "field"),
    [
        (5, {}, "documents"),
        ([], {"include_text": 1}, "include_text"),
        ([], {"batch_rows": 0}, "batch_rows"),
        ([], {"batch_rows": 2**20 + 1}, "batch_rows"),
        ([], {"batch_rows": 1.5}, "batch_rows"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(
    documents: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestValidationError) as caught:
        entity_batches(documents, **options)

    assert (caught.value.owner, caught.value.field) == ("entity_batches", field)


def with_entity(**fields: Any) -> Document:
    return Document(input_key="a", output_key="o", entities=(entity(**fields),), model_version=None)


@pytest.mark.parametrize(
    "bad",
    [
        CANARY,
        document(f"{CANARY}\ud800"),
        document("a", version=f"{CANARY}\ud800"),
        with_entity(id=2**63),
        with_entity(begin_offset=CANARY),
        with_entity(end_offset=None),
        with_entity(score=CANARY),
        with_entity(type=f"{CANARY}\ud800"),
        with_entity(category=None),
        with_entity(text=f"{CANARY}\ud800"),
    ],
)
def test_a_wrong_document_is_refused_after_the_rows_before_it_and_is_not_quoted(bad: Any) -> None:
    reader: Any = entity_batches([document("before"), bad], include_text=True, batch_rows=1)

    assert rows([reader.read_next_batch()])[0]["input_key"] == "before"
    with pytest.raises(RequestValidationError, match=r"entity_batches\.documents") as caught:
        reader.read_next_batch()

    assert caught.value.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_no_repr_shows_keys_or_text() -> None:
    reader: Any = entity_batches([document(CANARY)], include_text=True)

    assert CANARY not in f"{reader!r} {reader.schema!r}"


def test_without_pyarrow_the_error_names_the_module_and_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for module in ("tables", "tables.batches", "tables.files"):
        monkeypatch.delitem(sys.modules, f"comprehend_phi.{module}")

    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("comprehend_phi.tables")

    assert str(caught.value) == (
        "tables need the module pyarrow, which the extra `arrow` of comprehend_phi installs"
    )
    assert caught.value.name == "pyarrow"

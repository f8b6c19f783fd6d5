"""Writing the entities of documents to files that are complete or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from pyarrow import csv, parquet

from .._results.documents import Document
from .._whole_file import whole_file
from ..errors import RequestValidationError
from .batches import DEFAULT_BATCH_ROWS, EntityBatches

# Untyped for the reason that `batches` gives.
_csv: Any = csv
_parquet: Any = parquet

_Encode = Callable[[EntityBatches], Generator[bytes, None, None]]


def write_parquet(
    documents: Iterable[Document],
    destination: str | os.PathLike[str],
    *,
    include_text: bool = False,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> int:
    """Write all entities of `documents` to a Parquet file, and return the number of rows.

    The file is complete or absent: it only appears after all documents were read and the results
    turned out to be complete. If anything fails before, a file that was there stays as it was.

    A local file can only be read by its owner (mode 600). Until it is complete, it has a name that
    begins with `.comprehend-phi-`, in the same folder. If the process is killed, that one remains.

    The columns are those of the package's description, compressed with Zstandard. The file's
    metadata contains `comprehend_phi.schema`, `comprehend_phi.documents` and
    `comprehend_phi.entities`: the version of the schema, and how many documents and entities there
    are. For the results of a job, it also contains `comprehend_phi.job_id`.

    Args:
        documents: the results of a job or a part of them, or any other iterable of documents.
        destination: the path of the file. An existing file is replaced.
        include_text: whether to add the column `text`, which is protected health information.
        batch_rows: how many rows a row group has at most, from 1 to 1,048,576. All rows of a group
            are in memory at the same time.

    Raises:
        RequestValidationError: an argument is wrong, or an item of `documents` is. The error quotes
            no value.
        ResultsError, ServiceError, TransportError: raised as when iterating over `documents`.
        OSError: the file cannot be written, or something other than a regular file is there.
    """
    return _write(
        "write_parquet",
        _parquet_pieces,
        documents,
        destination,
        include_text=include_text,
        batch_rows=batch_rows,
    )


def write_csv(
    documents: Iterable[Document],
    destination: str | os.PathLike[str],
    *,
    include_text: bool = False,
    batch_rows: int = DEFAULT_BATCH_ROWS,
) -> int:
    """Write all entities of `documents` to a CSV file, and return the number of rows.

    The arguments and errors are those of `write_parquet`. The file is UTF-8 with a header. Strings
    have quotation marks, and a missing `model_version` is empty. There is no metadata.
    """
    return _write(
        "write_csv",
        _csv_pieces,
        documents,
        destination,
        include_text=include_text,
        batch_rows=batch_rows,
    )


class _Pieces(BytesIO):
    """Collects what pyarrow writes, so that errors of the real file never pass through pyarrow."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        piece = self.getvalue()
        self.seek(0)
        self.truncate()
        return piece


def _parquet_pieces(batches: EntityBatches) -> Generator[bytes, None, None]:
    pieces = _Pieces()
    with _parquet.ParquetWriter(pieces, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield pieces.take()
        counts = {"documents": batches.documents, "entities": batches.rows}
        writer.add_key_value_metadata(
            {f"comprehend_phi.{name}": str(count) for name, count in counts.items()}
        )
    yield pieces.take()


def _csv_pieces(batches: EntityBatches) -> Generator[bytes, None, None]:
    pieces = _Pieces()
    with _csv.CSVWriter(pieces, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield pieces.take()
    yield pieces.take()


def _write(
    owner: str,
    encode: _Encode,
    documents: Iterable[Document],
    destination: str | os.PathLike[str],
    *,
    include_text: bool,
    batch_rows: int,
) -> int:
    batches = EntityBatches(
        documents, owner=owner, include_text=include_text, batch_rows=batch_rows
    )
    _check_destination(owner, destination)
    with (
        whole_file(Path(destination), mode=0o600, sync=True) as file,
        closing(encode(batches)) as pieces,
    ):
        for piece in pieces:
            file.write(piece)
    return batches.rows


def _check_destination(owner: str, destination: object) -> None:
    if isinstance(destination, str) and destination.startswith("s3://"):
        reason = "must be the path of a local file"
    elif not isinstance(destination, (str, os.PathLike)):
        reason = f"must be a path, not {type(destination).__name__}"
    else:
        return
    raise RequestValidationError(owner=owner, field="destination", shape="path", reason=reason)

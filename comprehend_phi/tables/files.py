"""Writing the entities of documents to files that are complete or absent."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, closing
from io import BytesIO
from typing import Any

from pyarrow import csv, parquet

from .._client import PHIClient
from .._results.documents import Document
from .batches import DEFAULT_BATCH_ROWS, EntityBatches
from .destinations import Destination, Sink, open_destination

# Untyped for the reason that `batches` gives.
_csv: Any = csv
_parquet: Any = parquet

_PARQUET = "application/vnd.apache.parquet"
_CSV = "text/csv; charset=utf-8"


def write_parquet(
    documents: Iterable[Document],
    destination: Destination,
    *,
    client: PHIClient | None = None,
    include_text: bool = False,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    kms_key: str | None = None,
) -> int:
    """Write all entities of `documents` to a Parquet file, and return the number of rows.

    The file is complete or absent: it only appears after all documents were read and the results
    turned out to be complete. If anything fails before, a file that was there stays as it was.

    A local file can only be read by its owner (mode 600). Until it is complete, it has a name that
    begins with `.comprehend-phi-`, in the same folder. If the process is killed, that file remains.

    An object on S3 is written as a multipart upload, which is aborted if anything fails. If the
    process is killed, the parts remain until a lifecycle rule of the bucket deletes them.

    The columns are those of the package's description, compressed with Zstandard. The file's
    metadata contains `comprehend_phi.schema`, `comprehend_phi.documents` and
    `comprehend_phi.entities`: the version of the schema, and how many documents and entities there
    are. For results, it also contains `comprehend_phi.unprocessed`: how many files the service did
    not process. For the results of one job, it also contains `comprehend_phi.job_id`.

    Args:
        documents: the results of a job or of all jobs of a plan, a part of them, or any other
            iterable of documents.
        destination: the path of the file, or its location on S3. An existing file is replaced.
        client: the client whose connection to S3 is used. Required if the destination is on S3.
        include_text: whether to add the column `text`, which is protected health information.
        batch_rows: how many rows a row group has at most, from 1 to 1,048,576. All rows of a group
            are in memory at the same time.
        kms_key: the KMS key that encrypts the object on S3. Without it, S3 uses the bucket's
            default.

    Raises:
        RequestValidationError: an argument is wrong, or an item of `documents` is. The error quotes
            no value.
        ResultsError, ServiceError, TransportError: raised as when iterating over `documents`, or S3
            refuses or fails to store the file.
        OSError: the local file cannot be written, or something other than a regular file is there.
    """
    batches = EntityBatches(
        documents, owner="write_parquet", include_text=include_text, batch_rows=batch_rows
    )
    file = open_destination(
        "write_parquet", destination, client=client, kms_key=kms_key, media_type=_PARQUET
    )
    _write(_parquet_pieces(batches), file)
    return batches.rows


def write_csv(
    documents: Iterable[Document],
    destination: Destination,
    *,
    client: PHIClient | None = None,
    include_text: bool = False,
    batch_rows: int = DEFAULT_BATCH_ROWS,
    kms_key: str | None = None,
) -> int:
    """Write all entities of `documents` to a CSV file, and return the number of rows.

    The arguments and errors are those of `write_parquet`. The file is UTF-8 with a header. Strings
    have quotation marks, and a missing `model_version` is empty. There is no metadata.
    """
    batches = EntityBatches(
        documents, owner="write_csv", include_text=include_text, batch_rows=batch_rows
    )
    file = open_destination(
        "write_csv", destination, client=client, kms_key=kms_key, media_type=_CSV
    )
    _write(_csv_pieces(batches), file)
    return batches.rows


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
        counts = {
            "documents": batches.documents,
            "entities": batches.rows,
            "unprocessed": batches.unprocessed,
        }
        writer.add_key_value_metadata(
            {f"comprehend_phi.{name}": str(n) for name, n in counts.items() if n is not None}
        )
    yield pieces.take()


def _csv_pieces(batches: EntityBatches) -> Generator[bytes, None, None]:
    pieces = _Pieces()
    with _csv.CSVWriter(pieces, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield pieces.take()
    yield pieces.take()


def _write(pieces: Generator[bytes, None, None], destination: AbstractContextManager[Sink]) -> None:
    with destination as file, closing(pieces):
        for piece in pieces:
            file.write(piece)

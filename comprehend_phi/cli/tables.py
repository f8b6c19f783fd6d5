"""Where `results` writes a table: `--parquet` and `--csv`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from ..models import S3Location
from .exits import Exit, ExitCode
from .files import local_path, require_file

if TYPE_CHECKING:
    from .._client import PHIClient
    from .._results.streams import JobResults


def table_location(text: str) -> Path | S3Location:
    """Return the place that a user typed for a table: the path of a local file, or an S3 URI.

    Raises:
        ValueError: it is none of these, or names a folder.
    """
    if not text.startswith("s3://"):
        return local_path(text)
    location = S3Location.from_uri(text)
    if location.key is None or location.key.endswith("/"):
        raise ValueError
    return location


@frozen(kw_only=True)
class Table:
    """A file that gets all entities of a job.

    Attributes:
        kind: `parquet` or `csv`.
        location: where the file is.
        kms_key: the KMS key that encrypts it on S3.
    """

    kind: str
    location: Path | S3Location
    kms_key: str | None

    def __str__(self) -> str:
        return self.location.uri if isinstance(self.location, S3Location) else str(self.location)

    def write(self, results: JobResults, *, client: PHIClient, include_text: bool) -> int:
        """Write the file, and return how many entities it contains."""
        from ..tables import write_csv, write_parquet

        if isinstance(self.location, Path):
            self.location.parent.mkdir(parents=True, exist_ok=True)
        write = write_parquet if self.kind == "parquet" else write_csv
        return write(
            results,
            self.location,
            client=client,
            include_text=include_text,
            kms_key=self.kms_key,
        )


def requested_table(
    *, parquet: Path | S3Location | None, csv: Path | S3Location | None, kms_key: str | None
) -> Table | None:
    """Return the table that the options ask for, or None. Check that it can be written.

    Raises:
        Exit: it cannot, or the options contradict each other.
    """
    if parquet is not None and csv is not None:
        raise Exit(ExitCode.USAGE, "--csv cannot be combined with --parquet")
    location = csv if parquet is None else parquet
    if kms_key is not None and not isinstance(location, S3Location):
        raise Exit(ExitCode.USAGE, "--kms-key is only for a table on S3")
    if location is None:
        return None
    table = Table(kind="csv" if parquet is None else "parquet", location=location, kms_key=kms_key)
    if isinstance(location, Path):
        require_file(f"--{table.kind}", location)
    try:
        from ..tables import write_csv as _  # noqa: F401 - only to see whether pyarrow is installed
    except ImportError as error:
        reason = str(error)
    else:
        return table
    raise Exit(ExitCode.USAGE, reason)

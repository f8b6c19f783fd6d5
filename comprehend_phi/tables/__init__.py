"""The entities of many documents as one table: Arrow, Parquet and CSV. Needs the extra `arrow`.

    from comprehend_phi.tables import write_parquet

    write_parquet(client.results(job_id), "entities.parquet")

A table has one row per entity. Its columns are `input_key`, `entity_id`, `begin_offset`,
`end_offset`, `score`, `type`, `category` and `model_version`. With `include_text`, there is also
`text`, which is protected health information. Keys may name people.
"""

try:
    from .batches import entity_batches
    from .files import write_csv, write_parquet
except ModuleNotFoundError as _cause:
    _missing = str(_cause.name).partition(".")[0]
    raise ModuleNotFoundError(
        f"tables need the module {_missing}, which the extra `arrow` of comprehend_phi installs",
        name=_missing,
    ) from None

__all__ = ["entity_batches", "write_csv", "write_parquet"]

"""How does a value of any type stand as text? As DuckDB writes it, whichever side it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cdc.source.quote import identifier

if TYPE_CHECKING:
    import duckdb


def formatter(writes: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that turns Arrow data into text, or into the one file it `writes`: UTC."""
    from cdc.source.file.confined import confined

    return confined(
        {"arrow_lossless_conversion": True, "produce_arrow_string_view": False, "threads": 1}, writes=writes
    )


def texts(connection: duckdb.DuckDBPyConnection, batch: pa.RecordBatch) -> pa.Table:
    """`batch` with every value as text; NULL stays NULL. Columns keep their places and names."""
    numbered = batch.rename_columns([f"c{at}" for at in range(batch.num_columns)])
    columns = ", ".join(f"CAST({identifier(name)} AS VARCHAR) AS {name}" for name in numbered.schema.names)
    if not columns:
        return pa.table({})
    found = connection.from_arrow(pa.Table.from_batches([numbered])).project(columns).to_arrow_table()
    return found.rename_columns(batch.schema.names)

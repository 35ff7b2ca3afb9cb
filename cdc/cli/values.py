"""How does a value of any type stand as text? As DuckDB writes it, whichever side it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from cdc.source.quote import identifier

if TYPE_CHECKING:
    import duckdb


def formatter() -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory for turning Arrow data into text or files: UTC, order kept, nothing loaded from a
    network."""
    import duckdb

    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "arrow_lossless_conversion": True,
            "produce_arrow_string_view": False,
            "threads": 1,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def texts(connection: duckdb.DuckDBPyConnection, batch: pa.RecordBatch) -> pa.Table:
    """`batch` with every value as text; NULL stays NULL. Columns keep their places and names."""
    numbered = batch.rename_columns([f"c{at}" for at in range(batch.num_columns)])
    columns = ", ".join(f"CAST({identifier(name)} AS VARCHAR) AS {name}" for name in numbered.schema.names)
    if not columns:
        return pa.table({})
    found = connection.from_arrow(pa.Table.from_batches([numbered])).project(columns).to_arrow_table()
    return found.rename_columns(batch.schema.names)


def row_values(payload: bytes) -> list[tuple[str, str, str | None]]:
    """Name, Arrow type and text of each value of a failed row; None for NULL.

    The text is Arrow's own, which keeps what Python's values would lose: nanoseconds, and wide types.
    """
    with pa.ipc.open_stream(payload) as reader:
        row = reader.read_next_batch()
    return [
        (name, str(column.type), _value(column))
        for name, column in zip(row.schema.names, row.columns, strict=True)
    ]


def _value(column: pa.Array) -> str | None:
    if not column.is_valid()[0].as_py():
        return None
    if isinstance(column, pa.ExtensionArray):
        if isinstance(column.type, pa.UuidType):
            return str(column[0].as_py())
        column = column.storage
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return str(column[0].as_py().hex())
    try:
        return str(column.cast(pa.string())[0].as_py())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return str(column.to_string(indent=0, skip_new_lines=True))[1:-1]

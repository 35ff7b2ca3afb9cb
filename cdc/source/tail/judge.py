"""Does DuckDB read the same in these frames as our own decoder? What differs is said, and DuckDB is right.

Values are compared as they lie in Arrow's buffers: a NaN with its bits, -0.0 as another number than 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from cdc.source.format.decode import RowChanges
from cdc.source.tail.twin import Decoded, Twin


def difference(
    read: RowChanges, decoded: Decoded, twin: Twin, stored: Sequence[str], cursor: duckdb.DuckDBPyConnection
) -> str | None:
    """What of these frames was `read` otherwise than the attached `twin` shows it; None: nothing.

    Args:
        stored: the names of the stored columns, quoted.

    Raises:
        duckdb.Error: the twin cannot be read.
    """
    if decoded.inserts != bool(len(read.inserts[0])):
        return "whether rows were inserted"
    if decoded.inserts:
        rows = _read(cursor, f"SELECT {', '.join(stored)} FROM {twin.inserts} ORDER BY rowid")
        for name, ours, theirs in zip(stored, read.inserts, rows, strict=True):
            if not same(ours, theirs):
                return f"the inserted values of {name}"
    if decoded.deletes:
        [row_ids] = _read(cursor, f"SELECT row_id FROM {twin.deletes} ORDER BY rowid")
    else:
        row_ids = pa.nulls(0, pa.int64())
    if not np.array_equal(read.deletes, row_ids.to_numpy(zero_copy_only=False)):
        return "which rows were deleted"
    if decoded.updates != read.updates.keys():
        return "which columns were updated"
    for path, ours in read.updates.items():
        value = "(value IS NULL)::TINYINT" if path[1:] else "value"
        values, row_ids = _read(cursor, f"SELECT {value}, row_id FROM {twin.leaf(path)} ORDER BY rowid")
        is_null = pa.array(ours.values.is_null().to_numpy(zero_copy_only=False).astype(np.int8))
        mine = is_null if path[1:] else ours.values
        if not (same(mine, values) and np.array_equal(ours.row_ids, row_ids.to_numpy())):
            return f"the updates of {stored[path[0]]}"
    return None


def same(one: pa.Array, other: pa.Array) -> bool:
    """Whether both are of one type, and each value of one the same bits as that of the other, or NULL."""
    if one.type != other.type:
        return False
    if isinstance(one, pa.ExtensionArray):
        one, other = one.storage, other.storage
    if pa.types.is_floating(one.type):
        bits = pa.int32() if one.type.bit_width == 32 else pa.int64()
        one, other = one.view(bits), other.view(bits)
    equal: bool = one.equals(other)
    return equal


def _read(cursor: duckdb.DuckDBPyConnection, sql: str) -> list[pa.Array]:
    """The columns, each in one array."""
    table = cursor.sql(sql).to_arrow_table().combine_chunks()
    return [column.chunk(0) if column.num_chunks else pa.nulls(0, column.type) for column in table.columns]

"""Which rows did the snapshot after a checkpoint find that the log, followed past it, never showed?"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cdc.source.quote import identifier

_MOST_ROWS = 1_000_000
"""Rows that are remembered at most; more are too many to be of a commit that the log shows a moment later."""
_TABLE = "cdc_gap"


class Gap:
    """Counts the rows by their keys. On the tail's connection, whose views it is shown."""

    def __init__(self, key: Sequence[str], cursor: duckdb.DuckDBPyConnection) -> None:
        self._key = list(dict.fromkeys(key))
        self._cursor = cursor
        self._rows: pa.Table | None = None
        self._more = 0

    def found(self, rows: pa.RecordBatch) -> None:
        """`rows` are of the snapshot, and were not handed out before."""
        keys = pa.Table.from_batches([rows.select(self._key)])
        if self._rows is not None and self._rows.num_rows > _MOST_ROWS:
            self._more += keys.num_rows
        else:
            self._rows = keys if self._rows is None else pa.concat_tables([self._rows, keys])

    def shown(self, relation: str) -> None:
        """The log showed the rows of `relation` after all.

        Raises:
            duckdb.Error: they cannot be read.
        """
        if self._rows is None or not self._rows.num_rows:
            return
        same = " AND ".join(f"f.{name} IS NOT DISTINCT FROM s.{name}" for name in map(identifier, self._key))
        self._cursor.register(_TABLE, self._rows)
        try:
            sql = f"SELECT f.* FROM {_TABLE} AS f ANTI JOIN {relation} AS s ON {same}"
            self._rows = self._cursor.sql(sql).to_arrow_table()
        finally:
            self._cursor.unregister(_TABLE)

    def count(self) -> int:
        return self._more + (self._rows.num_rows if self._rows is not None else 0)

"""Which rows did the snapshot after a checkpoint find that the log, followed past it, never showed?"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cdc.source.quote import identifier

_MOST_ROWS = 1_000_000
"""Rows that are remembered at most; more are too many to be of a commit that the log shows a moment later."""
_FOUND, _SHOWN = "cdc_gap_found", "cdc_gap_shown"


class Gap:
    """Counts the rows by their keys. On the tail's connection, whose views it is shown."""

    def __init__(self, key: Sequence[str], cursor: duckdb.DuckDBPyConnection) -> None:
        self._key = list(dict.fromkeys(key))
        self._cursor = cursor
        self._rows: pa.Table | None = None
        self._shown: list[pa.Table] = []
        self._more = 0

    def found(self, rows: pa.RecordBatch) -> None:
        """`rows` are of the snapshot, and were not handed out before."""
        keys = pa.Table.from_batches([rows.select(self._key)])
        if self._rows is not None and self._rows.num_rows > _MOST_ROWS:
            self._more += keys.num_rows
        else:
            self._rows = keys if self._rows is None else pa.concat_tables([self._rows, keys])

    def shown(self, relation: str) -> None:
        """The log showed the rows of `relation` after all: found by now, or in a later batch of the snapshot.

        Raises:
            duckdb.Error: they cannot be read.
        """
        keys = ", ".join(map(identifier, self._key))
        self._shown.append(self._cursor.sql(f"SELECT {keys} FROM {relation}").to_arrow_table())

    def count(self) -> int:
        """The rows found and not shown.

        Raises:
            duckdb.Error: they cannot be compared.
        """
        if self._rows is None or not self._shown:
            return self._more + (self._rows.num_rows if self._rows is not None else 0)
        same = " AND ".join(f"f.{name} IS NOT DISTINCT FROM s.{name}" for name in map(identifier, self._key))
        tables = {_FOUND: self._rows, _SHOWN: pa.concat_tables(self._shown)}
        for name, table in tables.items():
            self._cursor.register(name, table)
        try:
            sql = f"SELECT count(*) FROM {_FOUND} AS f ANTI JOIN {_SHOWN} AS s ON {same}"
            [(left,)] = self._cursor.execute(sql).fetchall()
        finally:
            for name in tables:
                self._cursor.unregister(name)
        return self._more + int(left)

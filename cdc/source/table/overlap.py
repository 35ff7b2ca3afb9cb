"""Which rows of the overlap window are already in the target, as they are now?

Each read goes back by the overlap, so most of what it finds was sent before. A row counts as sent when its
key and the hash of all its delivered columns are known from a batch: a changed row has another. A batch that
turns out not to be acknowledged is forgotten.
The hash is DuckDB's, 64 bits, compared under the same key only. Values that SQL calls equal hash alike, and
some others: what tells them apart is hashed besides (`cdc.duckdb_types.Hashed`).
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from cdc.change import Column, TablePlan
from cdc.duckdb_types import Hashed, meaning_of
from cdc.errors import SourceError
from cdc.source.quote import by_bytes, identifier
from cdc.source.table.own_columns import OwnColumns

MAX_BYTES = 256 << 20
"""What the window may hold: 6 million rows with a UUID as key and a timestamp."""
_SLACK_ROWS = 10_000
"""Rows that may have left the window before it is worth sweeping them out."""
_TABLE = "cdc_window"
_ADDED = "cdc_window_added"
_BARE = "cdc_window_bare"
_UNHASHED_ROWS = 10_000
_UNHASHED_BYTES = 8 << 20
"""What rows may take, with all their columns, until they get a hash."""


def hash_of(plan: TablePlan) -> str:
    """The SQL of a row's hash over all delivered columns, by which different values differ."""
    return f"hash({', '.join(map(_hashed, plan.columns))})"


def _hashed(column: Column) -> str:
    name = by_bytes(column)
    match meaning_of(column.type).hashed:
        case Hashed.WITH_SIGN:
            return f"{name}, signbit({name})"
        case Hashed.WITH_TEXT:
            return f"{name}, CAST({name} AS VARCHAR)"
        case Hashed.WITH_JSON:
            return f"{name}, CAST({name} AS VARCHAR), CAST(to_json({name}) AS VARCHAR)"
        case _:
            return name


class Window:
    """Rows handed out from the window's low end on: position and hash of each key's newest state.

    Only the newest state counts: a row that returns to an earlier one has changed once more, and what a long
    snapshot shows of a row that the log has changed meanwhile is not what the target has.
    """

    def __init__(self, plan: TablePlan, max_bytes: int = MAX_BYTES) -> None:
        self._plan = plan
        self._own = OwnColumns.of(plan)
        self._max_bytes = max_bytes
        self._rows: pa.Table | None = None
        self._added: list[pa.RecordBatch] = []
        """Of rows that were decoded without DuckDB, all that is delivered and no hash, for a while: a
        statement for each round costs more than the round. All have a number, by which the last is newest."""
        self._added_bytes = 0
        self._number = 0
        self._without_hash = 0
        """Rows that wait for one."""
        self._swept = 0

    def __len__(self) -> int:
        parts = [*self._added, self._rows] if self._rows is not None else self._added
        return int(sum(part.num_rows for part in parts))

    def columns(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """What of `rows` the window needs; rows whose hash is NULL are outside."""
        own = self._own
        if rows.schema.get_field_index(own.hash) < 0:
            return rows.select([*self._plan.column_names, own.read_at])
        names = dict.fromkeys((self._plan.watermark.name, *self._plan.key, own.read_at, own.hash))
        kept = rows.select(list(names))
        hashes = kept.column(own.hash)
        return kept.filter(hashes.is_valid()) if hashes.null_count else kept

    def add(self, rows: pa.RecordBatch) -> None:
        """Note `rows`, as `columns` gave them, as sent.

        Raises:
            SourceError: the window outgrew its bound.
        """
        if not rows.num_rows:
            return
        numbers = np.arange(self._number, self._number + rows.num_rows)
        self._number += rows.num_rows
        self._added.append(rows.append_column(self._own.number, pa.array(numbers)))
        self._added_bytes += rows.nbytes
        if rows.schema.get_field_index(self._own.hash) < 0:
            self._without_hash += rows.num_rows
        if self._added_bytes + (self._rows.nbytes if self._rows is not None else 0) > self._max_bytes:
            raise SourceError(
                "replicate",
                self._plan.table,
                f"{len(self)} rows lie within the overlap or lack a watermark, more than memory allows",
                "Shorten its overlap, choose a finer watermark, or leave rows without one out by its filter",
            )

    @property
    def many_without_hash(self) -> bool:
        """It is time for `hash_all`."""
        return self._without_hash > _UNHASHED_ROWS or (
            self._without_hash > 0 and self._added_bytes > _UNHASHED_BYTES
        )

    def hash_all(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let all rows have a hash, and no more of their columns than the window needs."""
        if not self._without_hash:
            return
        own = self._own
        bare = [batch for batch in self._added if batch.schema.get_field_index(own.hash) < 0]
        connection.register(_BARE, pa.Table.from_batches(bare))
        names = dict.fromkeys((self._plan.watermark.name, *self._plan.key))
        typed = ", ".join(
            f"CAST({identifier(column.name)} AS {column.type}) AS {identifier(column.name)}"
            for column in self._plan.columns
        )
        hashed = connection.sql(
            f"SELECT {', '.join(map(identifier, names))}, {own.read_at}, {hash_of(self._plan)} AS {own.hash},"
            f" {own.number} FROM (SELECT {typed}, {own.read_at}, {own.number} FROM {_BARE})"
        ).to_arrow_table()
        connection.unregister(_BARE)
        others = [batch for batch in self._added if batch.schema.get_field_index(own.hash) >= 0]
        self._added = [*others, *hashed.to_batches()]
        self._added_bytes = sum(batch.nbytes for batch in self._added)
        self._without_hash = 0

    def forget(self, rows: pa.RecordBatch, connection: duckdb.DuckDBPyConnection) -> None:
        """Note that `rows`, as `columns` gave them, were not sent after all: all of their keys' states."""
        self._settle(connection)
        connection.register(_ADDED, rows)
        others = f"SELECT found.* FROM {_TABLE} AS found ANTI JOIN {_ADDED} AS sent ON {self._same()}"
        self._rows = self._run(connection, others)
        connection.unregister(_ADDED)

    def sweep(self, low: str | None, connection: duckdb.DuckDBPyConnection) -> None:
        """Forget the rows below `low`, once enough of them may have gathered."""
        if low is None or len(self) < 2 * self._swept + _SLACK_ROWS:
            return
        self._settle(connection)
        mark = identifier(self._plan.watermark.name)
        kept = f"{mark} >= CAST($1 AS {self._plan.watermark.type}) OR {mark} IS NULL"
        self._rows = self._run(connection, f"SELECT * FROM {_TABLE} WHERE {kept}", [low])
        self._swept = len(self)

    def unsent(self, rows: str, connection: duckdb.DuckDBPyConnection) -> str:
        """The SQL that leaves out what was sent of `rows`, a SELECT that has a hash."""
        if not len(self):
            return rows
        self._settle(connection)
        connection.register(_TABLE, self._rows)
        return (
            f"SELECT * FROM ({rows}) AS found ANTI JOIN temp.{_TABLE} AS sent ON {self._same(self._own.hash)}"
        )

    def _settle(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let the states added since the last time take the place of earlier ones under the same keys."""
        if not self._added:
            return
        own = self._own
        self.hash_all(connection)
        connection.register(_ADDED, pa.Table.from_batches(self._added))
        keys = ", ".join(map(identifier, self._plan.key))
        newest = f"row_number() OVER (PARTITION BY {keys} ORDER BY {own.read_at} DESC, {own.number} DESC) = 1"
        rows = f"FROM {_ADDED}"
        if self._rows is not None:
            known = f"SELECT *, -1 AS {own.number} FROM {_TABLE} AS found"
            rows = f"{known} SEMI JOIN {_ADDED} AS sent ON {self._same()} UNION ALL BY NAME {rows}"
        rows = f"SELECT * EXCLUDE ({own.number}) FROM ({rows}) QUALIFY {newest}"
        if self._rows is not None:
            others = f"SELECT found.* FROM {_TABLE} AS found ANTI JOIN {_ADDED} AS sent ON {self._same()}"
            rows = f"{others} UNION ALL BY NAME {rows}"
        self._rows = self._run(connection, rows)
        self._added, self._added_bytes = [], 0  # not earlier: DuckDB may fail, and be asked again
        connection.unregister(_ADDED)

    def _same(self, *names: str) -> str:
        """The condition that `found` and `sent` agree in the key and `names`."""
        return " AND ".join(
            f"found.{identifier(name)} IS NOT DISTINCT FROM sent.{identifier(name)}"
            for name in (*self._plan.key, *names)
        )

    def _run(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[str] | None = None
    ) -> pa.Table:
        """What `sql` selects, of the settled rows as `_TABLE` among others."""
        if self._rows is not None:
            connection.register(_TABLE, self._rows)
        found = connection.sql(sql, params=parameters).to_arrow_table()
        if self._rows is not None:
            connection.unregister(_TABLE)
        return found

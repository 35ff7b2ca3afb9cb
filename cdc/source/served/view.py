"""A page's rows, as DuckDB here sees them: with the types that the table has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from cdc.change import Column, Position, TableId, TablePlan
from cdc.source.file.snapshot import Stream
from cdc.source.served.carried import restored

_CARRIED = "cdc_carried"
_SMALL_ROWS = 2_048


class PageView:
    """The rows of one page, for a `SnapshotReader` to hand out."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, columns: Sequence[Column], rows: int, position: Position
    ) -> None:
        self.cursor = cursor
        self.position = position
        self.small = rows <= _SMALL_ROWS
        self.decoded: pa.RecordBatch | None = None
        self.types: Mapping[str, str] = {}
        self._relation = f"(SELECT {restored(columns)} FROM temp.{_CARRIED})"

    def relation(self, table: TableId) -> str:  # noqa: ARG002 - a page is of one table
        return self._relation

    def stream(self, sql: str, parameters: Sequence[str], rows: int) -> Stream:
        found = self.cursor.sql(sql, params=list(parameters))
        types = dict(zip(found.columns, map(str, found.types), strict=True))
        reader = found.to_arrow_reader(rows)
        return Stream(reader.schema, types, iter(reader))

    def select(self, sql: str) -> tuple[pa.Table, dict[str, str]]:
        found = self.cursor.sql(sql)
        return found.to_arrow_table(), dict(zip(found.columns, map(str, found.types), strict=True))


@contextmanager
def viewed(
    cursor: duckdb.DuckDBPyConnection, plan: TablePlan, page: pa.Table, position: Position
) -> Iterator[PageView]:
    """`page`, which has the plan's columns as they were carried, to be read within the context."""
    carried = page.select(list(plan.column_names))
    cursor.register(_CARRIED, carried)
    try:
        yield PageView(cursor, plan.columns, page.num_rows, position)
    finally:
        cursor.unregister(_CARRIED)


def local(cursor: duckdb.DuckDBPyConnection, columns: Sequence[Column], page: pa.Table) -> pa.Table:
    """The `columns` of `page`, which were carried, with their types and in the page's order."""
    cursor.register(_CARRIED, page.select([column.name for column in columns]))
    try:
        return cursor.sql(f"SELECT {restored(columns)} FROM temp.{_CARRIED}").to_arrow_table()
    finally:
        cursor.unregister(_CARRIED)

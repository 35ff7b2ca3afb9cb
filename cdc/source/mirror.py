"""What is the present state of the rows that the log has touched since the checkpoint?

The log addresses rows by row id, and says of an update only which columns are new. The mirror keeps, in
memory, every row the log inserted or changed, as it stands now; a row that was in the file before is fetched
from there the first time it is touched. It grows with the log and starts anew with each checkpoint, which
renumbers rows.

The row ids follow DuckDB's replay: a table's first free one at a checkpoint is the number of rows stored in
the file, deleted ones among them, and each inserted row takes the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb

from cdc.change import Column
from cdc.source.quote import identifier
from cdc.source.twin import Decoded, Twin

CHANGED = "changed"
"""The rows that the last round inserted or updated and did not delete, at their present state: `row_id` and
the table's stored columns."""
REMOVED = "removed"
"""The rows that the last round deleted, as they stood. Those it inserted itself are among them, for a
snapshot may have shown them meanwhile."""


class Mirror:
    """The rows of one table touched since one checkpoint. It lives on the twin's connection."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        twin: Twin,
        columns: Sequence[Column],
        stored_rows: int,
        base: Callable[[], str],
    ) -> None:
        """`stored_rows`: rows in the file, deleted ones included. `base` attaches the file as it was at the
        checkpoint, without its log, and names the table in it; it is called when a row of it is touched."""
        self._connection = connection
        self._twin = twin
        self._names = [identifier(column.name) for column in columns]
        self._next_row_id = stored_rows
        self._base = base
        stored = ", ".join(f"{name} {column.type}" for name, column in zip(self._names, columns, strict=True))
        for table in ("mirror", CHANGED, REMOVED):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} (row_id BIGINT, {stored})")
        connection.execute("CREATE OR REPLACE TEMP TABLE touched (row_id BIGINT)")

    def apply(self, decoded: Decoded) -> None:
        """Take in the round that the attached twin holds; `CHANGED` and `REMOVED` are its outcome.

        Raises:
            duckdb.Error: the file cannot be read.
        """
        run = self._connection.execute
        run(f"DELETE FROM {CHANGED}")
        run(f"DELETE FROM {REMOVED}")
        first_new = self._next_row_id
        if decoded.inserts:
            inserted = run(
                f"INSERT INTO mirror SELECT {first_new} + rowid, * FROM {self._twin.inserts}"
            ).fetchone()
            assert inserted is not None
            self._next_row_id += int(inserted[0])
        if decoded.values or decoded.nulls or decoded.deletes:
            self._touch(decoded, first_new)
            for column in sorted({*decoded.values, *decoded.nulls}):
                self._update(column)
        if decoded.deletes:
            gone = f"row_id IN (SELECT row_id FROM {self._twin.deletes})"
            run(f"INSERT INTO {REMOVED} SELECT * FROM mirror WHERE {gone}")
            run(f"DELETE FROM mirror WHERE {gone}")
        updated = " OR row_id IN (SELECT row_id FROM touched)" if decoded.values or decoded.nulls else ""
        run(f"INSERT INTO {CHANGED} SELECT * FROM mirror WHERE row_id >= {first_new}{updated}")

    def _touch(self, decoded: Decoded, first_new: int) -> None:
        """Note which rows are updated or deleted; fetch from the file those touched for the first time."""
        run = self._connection.execute
        tables = [self._twin.values(column) for column in decoded.values]
        tables += [self._twin.nulls(column) for column in decoded.nulls]
        tables += [self._twin.deletes] if decoded.deletes else []
        union = " UNION ".join(f"SELECT row_id FROM {table}" for table in tables)
        run("DELETE FROM touched")
        run(f"INSERT INTO touched {union}")
        missing = run(
            "SELECT row_id FROM touched ANTI JOIN mirror USING (row_id) WHERE row_id < ?", [first_new]
        ).fetchall()
        if missing:
            # Literals, for DuckDB then reads only the row groups that hold them.
            row_ids = ", ".join(str(row_id) for (row_id,) in missing)
            names = ", ".join(self._names)
            run(f"INSERT INTO mirror SELECT rowid, {names} FROM {self._base()} WHERE rowid IN ({row_ids})")

    def _update(self, column: int) -> None:
        """Give the touched rows the last value and the last null flag that the round has for `column`.

        A row set to NULL has some value all the same; one that has no flag stays NULL or not, as it was.
        """
        name = self._names[column]
        values, nulls = (
            f"(SELECT row_id, last({value} ORDER BY rowid) AS value FROM {table} GROUP BY row_id)"
            for value, table in (
                ("value", self._twin.values(column)),
                ("value IS NULL", self._twin.nulls(column)),
            )
        )
        self._connection.execute(
            f"UPDATE mirror SET {name} = CASE WHEN coalesce(new.is_null, mirror.{name} IS NULL) THEN NULL"
            f" WHEN new.has_value THEN new.value ELSE mirror.{name} END"
            f" FROM (SELECT row_id, v.value, v.row_id IS NOT NULL AS has_value, n.value AS is_null"
            f" FROM {values} v FULL JOIN {nulls} n USING (row_id)) new WHERE mirror.row_id = new.row_id"
        )

"""What is the present state of the rows that the log has updated or deleted since the checkpoint?

The log addresses rows by row id, and says of an update only which columns are new. The mirror keeps, in
memory, every row that was updated, as it stands now. A row is fetched when it is first touched: from the file
as the checkpoint left it, or from the log's own insert, whose payload is kept. So what is only inserted costs
nothing here. It starts anew with each checkpoint, which may number rows anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from cdc.change import Column
from cdc.source import frames
from cdc.source.base import Base
from cdc.source.frames import NotUnderstood
from cdc.source.groups import Logged
from cdc.source.quote import identifier
from cdc.source.twin import Decoded, LeafPath, Twin

_LITERALS = 2_000
"""Row ids that are looked for one by one: DuckDB then reads only the row groups that hold them."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a round did, as relations of the table's stored columns; None where nothing of the kind.

    They last until the next round, and while the twin is attached.
    """

    changed: str | None
    """The rows inserted or updated and not deleted, at their present state."""
    removed: str | None
    """The rows deleted, as they stood, and rows whose key was changed, before that; unless the key is among
    `changed`. Those that the round inserted itself are among them, for a snapshot may have shown them."""


class Mirror:
    """The rows of one table touched since one checkpoint. It lives on the twin's connection."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        twin: Twin,
        columns: Sequence[Column],
        key: Sequence[str],
        base: Base,
    ) -> None:
        self._connection = connection
        self._twin = twin
        self._older = Twin(connection, columns)
        self._names = [identifier(column.name) for column in columns]
        self._key = [identifier(name) for name in key]
        self._key_columns = {n for n, column in enumerate(columns) if column.name in key}
        self.base = base
        self._next_row_id = -1
        self._starts: list[int] = []
        self._inserts: list[bytes] = []
        self.inserted_rows = self.deleted_rows = 0
        stored = ", ".join(f"{name} {column.type}" for name, column in zip(self._names, columns, strict=True))
        for table in ("mirror", "removed"):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} (row_id BIGINT, {stored})")
        for table in ("touched", "missing", "gone"):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} (row_id BIGINT)")

    def begin(self, base: Base) -> None:
        """Start anew on the file as a checkpoint left it."""
        self.base = base
        self._next_row_id = -1
        self._starts.clear()
        self._inserts.clear()
        self.inserted_rows = self.deleted_rows = 0
        self._connection.execute("DELETE FROM mirror")
        self._connection.execute("DELETE FROM gone")

    def close(self) -> None:
        self._older.close()

    @property
    def numbered(self) -> bool:
        """Whether it is known which row ids inserted rows get."""
        return self._next_row_id >= 0

    @property
    def next_row_id(self) -> int:
        """The row id of the next row inserted, or one before it."""
        return self._next_row_id if self.numbered else self.base.stored_rows

    def number_from(self, next_row_id: int) -> None:
        """Tell which row id the first inserted row gets."""
        self._next_row_id = next_row_id

    def logged(self) -> Logged:
        """What the log did to the table since the checkpoint."""
        first_logged = self._starts[0] if self._starts else self._end()
        touched = "SELECT row_id FROM mirror UNION ALL FROM gone"
        found = self._connection.execute(f"FROM ({touched}) WHERE row_id < {first_logged}").fetchnumpy()
        return Logged(self.inserted_rows, self.deleted_rows, np.asarray(found["row_id"], dtype=np.int64))

    def apply(self, decoded: Decoded, inserts: Sequence[bytes]) -> Changes:
        """Take in the round that the attached twin holds; `inserts` are its INSERT payloads.

        A round that could not be taken in may be given once more, with or without later ones.

        Raises:
            SnapshotSuperseded: a row is needed from the file, which a checkpoint has overtaken.
            NotUnderstood: a row is not where its row id says.
            duckdb.Error, SourceError: it cannot be read.
        """
        first_new = self._next_row_id if inserts else self._end()
        if not decoded.updates and not decoded.deletes:
            self._note(inserts)
            return Changes(self._twin.inserts, None)
        self._touch(decoded, first_new)
        run = self._connection.execute
        run("DELETE FROM removed")
        if self._key_columns.intersection(decoded.columns):
            run("INSERT INTO removed SELECT * FROM mirror WHERE row_id IN (SELECT row_id FROM touched)")
        if decoded.updates:
            self._update(decoded)
        if decoded.deletes:
            gone = f"row_id IN (SELECT row_id FROM {self._twin.deletes})"
            run(f"INSERT INTO removed SELECT * FROM mirror WHERE {gone}")
            [(deleted,)] = run(f"DELETE FROM mirror WHERE {gone}").fetchall()
            run(f"INSERT INTO gone SELECT row_id FROM {self._twin.deletes}")
            self.deleted_rows += deleted
        self._note(inserts)
        names = ", ".join(self._names)
        changed = f"SELECT {names} FROM mirror WHERE row_id IN (SELECT row_id FROM touched)"
        if decoded.inserts:
            untouched = f"{first_new} + rowid NOT IN (SELECT row_id FROM touched)"
            changed += f" UNION ALL SELECT {names} FROM {self._twin.inserts} WHERE {untouched}"
        same = " AND ".join(f"gone.{name} IS NOT DISTINCT FROM here.{name}" for name in self._key)
        removed = f"(SELECT {names} FROM removed gone ANTI JOIN ({changed}) here ON {same})"
        rows_removed = decoded.deletes or bool(self._key_columns.intersection(decoded.columns))
        return Changes(f"({changed})", removed if rows_removed else None)

    def _end(self) -> int:
        """A row id past every row inserted so far, or past all if none was."""
        return self._next_row_id if self.numbered else 1 << 62

    def _note(self, inserts: Sequence[bytes]) -> None:
        for payload in inserts:
            self._starts.append(self._next_row_id)
            self._inserts.append(payload)
            rows = frames.inserted_rows(payload)
            self._next_row_id += rows
            self.inserted_rows += rows

    def _touch(self, decoded: Decoded, first_new: int) -> None:
        """Note which rows are updated or deleted; fetch those touched for the first time."""
        run = self._connection.execute
        tables = [self._twin.leaf(path) for path in decoded.updates]
        tables += [self._twin.deletes] if decoded.deletes else []
        run("DELETE FROM touched")
        run(f"INSERT INTO touched {' UNION '.join(f'SELECT row_id FROM {table}' for table in tables)}")
        run("DELETE FROM missing")
        run("INSERT INTO missing SELECT row_id FROM touched ANTI JOIN mirror USING (row_id)")
        missing = [
            row for (row,) in run("SELECT row_id FROM missing ORDER BY ALL LIMIT ?", [_LITERALS]).fetchall()
        ]
        if not missing:
            return
        least, most = missing[0], missing[-1]
        if len(missing) == _LITERALS:
            [(most,)] = run("SELECT max(row_id) FROM missing").fetchall()
        first_logged = self._starts[0] if self._starts else first_new
        if least < first_logged:
            self._fetch_stored(
                [row for row in missing if row < first_logged], len(missing) == _LITERALS, first_logged
            )
        if most >= first_logged and self._starts and least < first_new:
            self._fetch_logged(max(least, first_logged), min(most, first_new - 1))
        if most >= first_new:
            names = ", ".join(self._names)
            run(
                f"INSERT INTO mirror SELECT {first_new} + rowid, {names} FROM {self._twin.inserts}"
                f" WHERE {first_new} + rowid IN (SELECT row_id FROM missing)"
            )
        [(unknown,)] = run("SELECT count(*) FROM missing ANTI JOIN mirror USING (row_id)").fetchall()
        if unknown:
            raise NotUnderstood(f"{unknown} rows are changed that are in neither the file nor the log")

    def _fetch_stored(self, row_ids: list[int], many: bool, first_logged: int) -> None:
        which = f"IN ({', '.join(map(str, row_ids))})"
        if many:
            which = f"IN (SELECT row_id FROM missing WHERE row_id < {first_logged})"
        names = ", ".join(self._names)
        try:
            self._connection.execute(
                f"INSERT INTO mirror SELECT rowid, {names} FROM {self.base.relation} WHERE rowid {which}"
            )
        except duckdb.Error:
            self.base.verify()  # DuckDB reports a checkpoint during its reads in many ways
            raise
        self.base.verify()

    def _fetch_logged(self, least: int, most: int) -> None:
        """Rows that the log inserted since the checkpoint, from its payloads."""
        first, last = bisect_right(self._starts, least) - 1, bisect_right(self._starts, most) - 1
        payloads = self._inserts[first : last + 1]
        names = ", ".join(self._names)
        with self._older.attached(payloads):
            self._connection.execute(
                f"INSERT INTO mirror SELECT {self._starts[first]} + rowid, {names} FROM {self._older.inserts}"
                f" WHERE {self._starts[first]} + rowid IN (SELECT row_id FROM missing)"
            )

    def _update(self, decoded: Decoded) -> None:
        """Give the touched rows the last value and the last null flag that the round has for each leaf.

        A row set to NULL has some value all the same; one that has no flag stays NULL or not, as it was.
        """
        paths = sorted(decoded.updates)
        number = {path: n for n, path in enumerate(paths)}
        fields, joins = ["touched.row_id"], ["touched"]
        for path, n in number.items():
            value = "value IS NULL" if path[-1] == 0 and len(path) > 1 else "value"
            last = f"SELECT row_id, last({value} ORDER BY rowid) AS value FROM {self._twin.leaf(path)}"
            fields.append(f"leaf_{n}.value AS value_{n}, leaf_{n}.row_id IS NOT NULL AS has_{n}")
            joins.append(f"LEFT JOIN ({last} GROUP BY row_id) leaf_{n} ON leaf_{n}.row_id = touched.row_id")
        sets = ", ".join(
            f"{self._names[column]} = {_present((column,), f'mirror.{self._names[column]}', kind, number)}"
            for column, kind in enumerate(self._twin.kinds)
            if column in decoded.columns
        )
        self._connection.execute(
            f"UPDATE mirror SET {sets} FROM (SELECT {', '.join(fields)} FROM {' '.join(joins)}) new"
            " WHERE mirror.row_id = new.row_id"
        )


def _present(path: LeafPath, old: str, kind: Any, number: dict[LeafPath, int]) -> str:
    """The SQL of what now stands at `path`, where `old` stood; `value_N` and `has_N` are of leaves."""
    flag = number.get((*path, 0))
    is_null = f"{old} IS NULL" if flag is None else f"coalesce(new.value_{flag}, {old} IS NULL)"
    if kind.id == "struct":
        members = ", ".join(
            f"{identifier(name)} := {_present((*path, at), f'{old}.{identifier(name)}', member, number)}"
            for at, (name, member) in enumerate(kind.children, 1)
        )
        return f"CASE WHEN {is_null} THEN NULL ELSE struct_pack({members}) END"
    value = number.get(path)
    present = old if value is None else f"CASE WHEN new.has_{value} THEN new.value_{value} ELSE {old} END"
    return f"CASE WHEN {is_null} THEN NULL ELSE {present} END"

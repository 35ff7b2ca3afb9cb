"""What is the present state of the rows that the log has updated or deleted since the checkpoint?

The log addresses rows by row id, and says of an update only which columns are new. The table touched_rows
keeps, in memory, every row that was updated, as it stands now. A row is fetched when it is first touched:
from the file as the checkpoint left it, or from the log's own insert, whose frame is kept. So what is only
inserted costs nothing here. It starts anew with each checkpoint, which may number rows anew.

A statement of DuckDB costs half a millisecond, however few its rows: which rows are new to touched_rows, and
in which frames they are, is found out in NumPy, and a few row ids stand in the statement itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from cdc.change import Column, free_name
from cdc.source.format.frames import NotUnderstood
from cdc.source.quote import by_bytes, definition, identifier
from cdc.source.tail.checkpoint_base import CheckpointBase
from cdc.source.tail.inserted import InsertedRows
from cdc.source.tail.leaves import RowIds, each_once, lying, present, together, value
from cdc.source.tail.row_groups import Logged
from cdc.source.tail.twin import Decoded, LeafPath, Twin

LITERALS = 2_000
"""Row ids that stand in a statement: DuckDB then reads only the row groups that hold them."""
_LEAVES = 64
"""Of updates, in one statement: 1,000 take 0.1 s so, 0.7 s two by two, and a minute at once."""
_LEAVES_OF_SEVERAL = 8
"""Where several UPDATEs wrote them, so that they are aggregated."""
_JOINED = 16
"""Leaves that are joined by their row ids; more of them by their places, for which no order is sought."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a round did, as relations of the table's columns, or as the rows themselves; None where nothing of
    the kind.

    Relations last until the next round, and while the twin is attached.
    """

    changed: str | pa.RecordBatch | None
    """The rows inserted or updated and not deleted, at their present state."""
    removed: str | pa.RecordBatch | None
    """The rows deleted, as they stood, and before that: rows whose key was changed and rows that left the
    filter; unless the key is among `changed` within the filter. Those that the round inserted are among
    them, for a snapshot may have shown them."""
    touched: RowIds | None = None
    """The row ids updated and deleted, ascending."""
    left: str | None = None
    """Those of `removed` whose key the table has still, outside the filter."""


class TouchedRows:
    """The rows of one table touched since one checkpoint. It lives on the twin's connection."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        twin: Twin,
        columns: Sequence[Column],
        key: Sequence[str],
        base: CheckpointBase,
        filter: str | None = None,
    ) -> None:
        """`filter`: the condition for rows to be replicated."""
        self._filter = filter
        self._connection = connection
        self._twin = twin
        self._older = Twin(connection, columns)
        stored = [column for column in columns if column.generated is None]
        self._names = [identifier(column.name) for column in stored]
        """Of the stored columns, as the log numbers them."""
        self._stored = ", ".join(self._names)
        self._all = ", ".join(identifier(column.name) for column in columns)
        self._key = [by_bytes(column) for column in columns if column.name in key]
        self._stored_names = [column.name for column in stored]
        self._kinds = [column.type for column in stored]
        self._key_columns = {n for n, column in enumerate(stored) if column.name in key}
        if any(column.generated is not None and column.name in key for column in columns):
            self._key_columns.update(range(len(stored)))  # whichever of them it is made of
        names = [column.name for column in columns]
        self._row_id, self._in_round = (free_name(f"__cdc_{name}", names) for name in ("row_id", "round"))
        """Of touched_rows, besides the table's columns; and the round that a row was touched in last."""
        self._under = [identifier(free_name(f"__cdc_under_{n}", names)) for n in range(len(stored))]
        """Of touched_rows, by the number of a stored column: what lies under a NULL; see `present`."""
        under = (f"{name} {column.type}" for name, column in zip(self._under, stored, strict=True))
        self._definition = ", ".join([*map(definition, columns), *under])
        self.begin(base)

    def begin(self, base: CheckpointBase) -> None:
        """Start anew on the file as a checkpoint left it."""
        self.base = base
        self._inserted = InsertedRows()
        self._fetched: RowIds = np.empty(0, dtype=np.int64)
        """The row ids that DuckDB's touched_rows has, or had."""
        self._round = 0
        self.deleted_rows = 0
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE touched_rows"
            f" ({self._row_id} BIGINT, {self._in_round} BIGINT, {self._definition})"
        )

    @property
    def numbered(self) -> bool:
        """Whether it is known which row ids inserted rows get."""
        return self._inserted.next_row_id >= 0

    @property
    def inserted_rows(self) -> int:
        return self._inserted.rows

    @property
    def next_row_id(self) -> int:
        """The row id of the next row inserted, or one before it."""
        return self._inserted.next_row_id if self.numbered else self.base.stored_rows

    def number_from(self, next_row_id: int) -> None:
        """Tell which row id the first inserted row gets."""
        self._inserted.next_row_id = next_row_id

    def logged(self) -> Logged:
        """What the log did to the table since the checkpoint."""
        touched = self._touched()
        stored = touched[touched < self._first(self._end())]
        return Logged(self.inserted_rows, self.deleted_rows, stored)

    def _touched(self) -> RowIds:
        """The row ids of all rows touched so far, ascending."""
        return self._fetched

    def apply(self, decoded: Decoded, inserts: Sequence[bytes]) -> Changes:
        """Take in the round that the attached twin holds; `inserts` are its INSERT frames.

        A round that could not be taken in may be given once more, with or without later ones.

        Raises:
            SnapshotSuperseded: a row is needed from the file, which a checkpoint has overtaken.
            NotUnderstood: a row is not where its row id says, or its frame is kept no more.
            duckdb.Error, SourceError: it cannot be read.
        """
        first_new = self._end()
        if not decoded.updates and not decoded.deletes:
            self._inserted.note(inserts)
            return Changes(self._twin.inserts, None)
        run = self._connection.execute
        paths = sorted(decoded.updates)
        ids, leaves = self._row_ids(decoded, paths)
        touched, gone = np.unique(ids), np.unique(ids[leaves == len(paths)])
        self._round += 1
        run(f"SET VARIABLE cdc_round = {self._round}; SET VARIABLE cdc_first_new = {first_new}")
        self._fetch(touched, first_new)
        rekeyed = bool(self._key_columns.intersection(decoded.columns))
        before = rekeyed or (self._filter is not None and bool(paths))
        if before:
            among_touched = self._among("touched", touched)
            run(f"CREATE OR REPLACE TEMP TABLE removed AS FROM touched_rows WHERE {among_touched}")
        if paths:
            self._update(paths, ids, leaves)
        if decoded.deletes:
            among_gone = self._among("gone", gone)
            into = "INSERT INTO removed" if before else "CREATE OR REPLACE TEMP TABLE removed AS"
            run(f"{into} FROM touched_rows WHERE {among_gone}")
            [(deleted,)] = run(f"DELETE FROM touched_rows WHERE {among_gone}").fetchall()
            self.deleted_rows += deleted
        self._inserted.note(inserts)
        changed = self._changed(decoded, touched, first_new)
        if not decoded.deletes and not before:
            return Changes(f"({changed})", None, touched)
        same = " AND ".join(f"gone.{name} IS NOT DISTINCT FROM here.{name}" for name in self._key)
        if self._filter is None:
            removed = f"(SELECT {self._all} FROM removed gone ANTI JOIN ({changed}) here ON {same})"
            return Changes(f"({changed})", removed, touched)
        within = f"coalesce(({self._filter}\n), FALSE)"
        removed = (
            f"(SELECT {self._all} FROM (FROM removed WHERE {within}) gone"
            f" ANTI JOIN (FROM ({changed}) WHERE {within}) here ON {same})"
        )
        outside = f"(FROM ({changed}) WHERE NOT {within})"
        left = f"(SELECT {self._all} FROM {removed} gone SEMI JOIN {outside} here ON {same})"
        return Changes(f"({changed})", removed, touched, left)

    def _changed(self, decoded: Decoded, touched: RowIds, first_new: int) -> str:
        """The SELECT of the rows inserted or updated by this round: the same text for rounds alike, where
        nothing is deleted, so that DuckDB is asked once what it means."""
        this_round = f"FROM touched_rows WHERE {self._in_round} = getvariable('cdc_round')"
        changed = f"SELECT {self._all} {this_round}"
        if not decoded.inserts:
            return changed
        changed += f" UNION ALL SELECT {self._all} FROM {self._twin.inserts}"
        if touched[-1] < first_new:
            return changed
        if decoded.deletes:  # then some of them are not in touched_rows any more
            return f"{changed} WHERE NOT ({self._among('touched', touched, f'{first_new} + rowid')})"
        updated = f"SELECT {self._row_id} {this_round}"
        return f"{changed} WHERE getvariable('cdc_first_new') + rowid NOT IN ({updated})"

    def _end(self) -> int:
        """A row id past every row inserted so far, or past all if none was."""
        return self._inserted.next_row_id if self.numbered else 1 << 62

    def _first(self, otherwise: int) -> int:
        """The row id of the first row that the log inserted, if it inserted any."""
        return otherwise if self._inserted.first is None else self._inserted.first

    def _row_ids(self, decoded: Decoded, paths: Sequence[LeafPath]) -> tuple[RowIds, RowIds]:
        """The row ids of all updates and deletions, and for each the number of its leaf; deletions are the
        last number."""
        tables = [self._twin.leaf(path) for path in paths]
        tables += [self._twin.deletes] if decoded.deletes else []
        found: list[tuple[RowIds, RowIds]] = []
        for first in range(0, len(tables), _LEAVES):
            each = enumerate(tables[first : first + _LEAVES], first)
            sql = " UNION ALL ".join(
                f"SELECT row_id, {number} AS leaf FROM {table}" for number, table in each
            )
            rows = self._connection.execute(sql).fetchnumpy()
            found.append((_integers(rows["row_id"]), _integers(rows["leaf"])))
        ids, leaves = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return ids, leaves

    def _among(self, table: str, row_ids: RowIds, row_id: str | None = None) -> str:
        """The condition that `row_id`, or else that of touched_rows, is one of the sorted `row_ids`; many of
        them go into a `table`."""
        row_id = row_id or self._row_id
        if len(row_ids) and row_ids[-1] - row_ids[0] == len(row_ids) - 1:
            return f"{row_id} BETWEEN {row_ids[0]} AND {row_ids[-1]}"
        if len(row_ids) <= LITERALS:
            return f"{row_id} IN ({', '.join(map(str, row_ids.tolist()))})"
        name = f"cdc_{table}"
        self._connection.register(f"{name}_ids", pa.table({"row_id": row_ids}))
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM {name}_ids")
        self._connection.unregister(f"{name}_ids")
        return f"{row_id} IN (SELECT row_id FROM {name})"

    def _fetch(self, touched: RowIds, first_new: int) -> None:
        """Take in the rows that are touched for the first time."""
        missing = np.setdiff1d(touched, self._fetched, assume_unique=True)
        if not len(missing):
            return
        first_logged = self._first(first_new)
        stored, logged = np.searchsorted(missing, [first_logged, first_new])
        found = 0
        if stored:
            found += self._fetch_stored(missing[:stored])
        if logged > stored:
            found += self._fetch_logged(missing[stored:logged])
        if len(missing) > logged:
            new = missing[logged:]
            found += self._take_at(self._twin.inserts, new - first_new, new)
        if found != len(missing):
            raise NotUnderstood(
                f"{len(missing) - found} rows are changed that are in neither the file nor the log"
            )
        self._fetched = np.union1d(self._fetched, missing)

    def _take(self, rows: str, parameters: Sequence[list[int]] = ()) -> int:
        """Take in `rows`, which have a row id and then the stored columns; answers how many."""
        sql = (
            f"INSERT INTO touched_rows ({self._row_id}, {self._in_round}, {self._stored})"
            f" SELECT {self._row_id}, {self._round}, {self._stored} FROM ({rows})"
        )
        [(taken,)] = self._connection.execute(sql, parameters).fetchall()
        return int(taken)

    def _take_at(self, table: str, places: RowIds, row_ids: RowIds) -> int:
        """Take in the rows that stand at `places` of an attached twin's `table`; `row_ids` are theirs."""
        wanted, parameters = "SELECT unnest($1::BIGINT[]) AS place, unnest($2::BIGINT[]) AS row_id", []
        if len(places) <= LITERALS:
            parameters = [places.tolist(), row_ids.tolist()]
        else:
            self._connection.register("cdc_wanted", pa.table({"place": places, "row_id": row_ids}))
            wanted = "FROM cdc_wanted"
        columns = ", ".join(f"found.{name}" for name in self._names)
        taken = self._take(
            f"SELECT wanted.row_id AS {self._row_id}, {columns} FROM {table} found"
            f" JOIN ({wanted}) wanted ON found.rowid = wanted.place",
            parameters,
        )
        if not parameters:
            self._connection.unregister("cdc_wanted")
        return taken

    def _fetch_stored(self, row_ids: RowIds) -> int:
        among = self._among("missing", row_ids, "rowid")
        try:
            taken = self._take(
                f"SELECT rowid AS {self._row_id}, {self._stored} FROM {self.base.relation} WHERE {among}"
            )
        except duckdb.Error:
            self.base.verify()  # DuckDB reports a checkpoint during its reads in many ways
            raise
        self.base.verify()
        return taken

    def _fetch_logged(self, row_ids: RowIds) -> int:
        """Rows that the log inserted since the checkpoint, from their frames alone."""
        inserts, places = self._inserted.lying_in(row_ids)
        with self._older.attached(inserts):
            return self._take_at(self._older.inserts, places, row_ids)

    def _update(self, paths: Sequence[LeafPath], row_ids: RowIds, leaves: RowIds) -> None:
        """Give the touched rows the last value and the last null flag that the round has for each leaf.

        A row set to NULL has some value all the same; one that has no flag stays NULL or not, as it was.
        A statement over very many leaves takes DuckDB minutes, over some of them a few milliseconds; those of
        one value stay together, and what they lie in comes first, as in the order of paths.
        """
        alike = each_once(row_ids, leaves, len(paths))
        for some in together(paths, _LEAVES if alike else _LEAVES_OF_SEVERAL):
            if alike:
                self._update_once(some, int(np.count_nonzero(leaves == 0)))
            else:
                self._update_last(some)

    def _update_once(self, paths: Sequence[LeafPath], rows: int) -> None:
        """All leaves have the same `rows`, and each of them once."""
        fields = (f"leaf_{n}.{value(path)} AS value_{n}, TRUE AS has_{n}" for n, path in enumerate(paths))
        joined = " JOIN ".join(
            f"{self._twin.leaf(path)} leaf_{n}" + (f" ON leaf_{n}.row_id = leaf_0.row_id" if n else "")
            for n, path in enumerate(paths)
        )
        if len(paths) > _JOINED:
            # One UPDATE wrote them, so they are in one order; where they are not, too few rows are found.
            tables = [f"{self._twin.leaf(path)} leaf_{n}" for n, path in enumerate(paths)]
            ids = ", ".join(f"leaf_{n}.row_id" for n in range(len(paths)))
            joined = f"{' POSITIONAL JOIN '.join(tables)} WHERE least({ids}) = greatest({ids})"
        found = self._set(paths, f"SELECT leaf_0.row_id, {', '.join(fields)} FROM {joined}")
        if found != rows:
            self._update_last(paths)

    def _update_last(self, paths: Sequence[LeafPath]) -> None:
        each = " UNION ALL BY NAME ".join(
            f"SELECT row_id, rowid AS place, {value(path)} AS value_{n}, TRUE AS has_{n}"
            f" FROM {self._twin.leaf(path)}"
            for n, path in enumerate(paths)
        )
        last = ", ".join(
            f"last(value_{n} ORDER BY place) FILTER (WHERE has_{n}) AS value_{n},"
            f" coalesce(bool_or(has_{n}), FALSE) AS has_{n}"
            for n in range(len(paths))
        )
        self._set(paths, f"SELECT row_id, {last} FROM ({each}) GROUP BY row_id")

    def _set(self, paths: Sequence[LeafPath], new: str) -> int:
        """Set what is at `paths`, of which `new` selects `value_N` and `has_N`; answers how many rows."""
        number = {path: n for n, path in enumerate(paths)}
        sets = []
        for column in sorted({path[0] for path in paths}):
            name, kind = self._names[column], self._twin.kinds[column]
            old, under = f"touched_rows.{name}", f"touched_rows.{self._under[column]}"
            sets.append(f"{name} = {present((column,), old, under, kind, number)}")
            sets.append(f"{self._under[column]} = {lying((column,), old, under, kind, number)}")
        [(found,)] = self._connection.execute(
            f"UPDATE touched_rows SET {', '.join(sets)}, {self._in_round} = {self._round} FROM ({new}) new"
            f" WHERE touched_rows.{self._row_id} = new.row_id"
        ).fetchall()
        return int(found)


def _integers(column: Any) -> RowIds:
    return np.asarray(column, dtype=np.int64)

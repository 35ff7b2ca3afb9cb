"""How does a round that was decoded directly become changed rows? Of touched rows that are kept in Arrow.

DuckDB's touched_rows has those of the rounds that DuckDB decoded, and gets the others before it decodes one.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

from cdc.source.format.decode import FrameDecoder, RowChanges
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.layouts import Flags, NotDecodable
from cdc.source.tail.checkpoint_base import CheckpointBase
from cdc.source.tail.leaves import RowIds
from cdc.source.tail.mirror import Mirror, Rows, joined, updated, without
from cdc.source.tail.touched import LITERALS, Changes, TouchedRows
from cdc.source.tail.twin import Decoded

_MOST_MIRRORED = 20_000
"""Touched rows that are kept in Arrow, before DuckDB gets them."""


class MirroredRows(TouchedRows):
    """Touched rows that take in rounds of either kind."""

    def begin(self, base: CheckpointBase) -> None:
        super().begin(base)
        self._mirror = Mirror()
        """Rows that DuckDB's touched_rows has not got, or not as they are."""

    def _touched(self) -> RowIds:
        return np.union1d(self._fetched, self._mirror.row_ids)

    def apply(self, decoded: Decoded, inserts: Sequence[bytes]) -> Changes:
        if decoded.updates or decoded.deletes:
            self._hand_over()
        return super().apply(decoded, inserts)

    def take_in(self, read: RowChanges, inserts: Sequence[bytes], decoder: FrameDecoder) -> Changes:
        """As `apply`, of a round of a table without a filter or generated columns that was decoded directly.

        Raises:
            NotDecodable: it must be given to `apply` instead.
            SnapshotSuperseded, NotUnderstood, duckdb.Error, SourceError: as `apply`.
        """
        if not read.updates and not len(read.deletes):
            self._inserted.note(inserts, read.inserts)
            return Changes(self._batch(read.inserts), None)
        first_new = self._end()
        gone = np.unique(read.deletes)
        touched = np.unique(np.concatenate([*(new.row_ids for new in read.updates.values()), gone]))
        if len(touched) > LITERALS or read.inserted > LITERALS:
            raise NotDecodable("a round of many rows")  # DuckDB is as fast
        before = self._present(touched, first_new, read, decoder)
        after = updated(before, touched, read.updates)
        stays = ~np.isin(touched, gone)
        self._inserted.note(inserts, read.inserts)
        self._mirror.put(touched, after, gone)
        self.deleted_rows += len(gone)
        if len(self._mirror) > _MOST_MIRRORED:
            self._hand_over()
        shown = after.shown()
        other = ~np.isin(np.arange(first_new, first_new + read.inserted), touched)
        rows = zip(_those(shown, stays), _those(read.inserts, other), strict=True)
        changed = self._batch([pa.concat_arrays(parts) for parts in rows])
        rekeyed = self._key_columns.intersection(path[0] for path in read.updates)
        if not rekeyed and not len(gone):
            return Changes(changed, None, touched)
        removed = _those(shown, ~stays)
        if rekeyed:
            removed = [pa.concat_arrays(parts) for parts in zip(before.shown(), removed, strict=True)]
        removed = without(removed, changed.columns, sorted(self._key_columns))
        return Changes(changed, self._batch(removed) if len(removed[0]) else None, touched)

    def _batch(self, columns: Sequence[pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(list(columns), names=self._stored_names)

    def _present(self, touched: RowIds, first_new: int, read: RowChanges, decoder: FrameDecoder) -> Rows:
        """The rows as they were before the round, or as it inserted them."""
        parts: list[tuple[RowIds, Rows]] = []

        def found(row_ids: RowIds, rows: Rows) -> None:
            parts.append((row_ids, rows))

        mirrored = self._mirror.has(touched)
        if mirrored.any():
            found(touched[mirrored], self._mirror.rows(touched[mirrored]))
        missing = touched[~mirrored]
        known = np.isin(missing, self._fetched, assume_unique=True)
        if known.any():
            found(*self._selected("touched_rows", self._row_id, missing[known], self._under))
        missing = missing[~known]
        recent, holding, places = self._inserted.recent(missing)
        if holding:
            found(missing[recent], joined([Rows.of(each.columns) for each in holding]).take(places))
            missing = missing[~recent]
        stored, logged = np.searchsorted(missing, [self._first(first_new), first_new])
        if stored:
            found(*self._selected_stored(missing[:stored]))
        if logged > stored:
            inserts, places = self._inserted.lying_in(missing[stored:logged])
            found(missing[stored:logged], Rows.of(decoder.inserts(inserts)).take(places))
        if len(missing) > logged:
            found(missing[logged:], Rows.of(read.inserts).take(missing[logged:] - first_new))
        row_ids = np.concatenate([each for each, _ in parts])
        if len(row_ids) != len(touched):
            raise NotUnderstood(
                f"{len(touched) - len(row_ids)} rows are changed that are in neither the file nor the log"
            )
        return joined([rows for _, rows in parts]).take(np.argsort(row_ids))

    def _selected_stored(self, row_ids: RowIds) -> tuple[RowIds, Rows]:
        try:
            found = self._selected(self.base.relation, "rowid", row_ids)
        except duckdb.Error:
            self.base.verify()  # DuckDB reports a checkpoint during its reads in many ways
            raise
        self.base.verify()
        return found

    def _selected(
        self, relation: str, row_id: str, row_ids: RowIds, under: Sequence[str] = ()
    ) -> tuple[RowIds, Rows]:
        """The rows of a relation that have these row ids; `under` names what lies under a NULL."""
        among = self._among("missing", row_ids, row_id)
        lying = self._names
        if under:
            lying = [f"coalesce({name}, {below})" for name, below in zip(self._names, under, strict=True)]
        nulls = [f"{name} IS NULL" for name in self._names] if under else []
        columns = ", ".join(f"{each} AS c{n}" for n, each in enumerate([*lying, *nulls]))
        table = self._connection.sql(
            f"SELECT {row_id} AS row_id, {columns} FROM {relation} WHERE {among}"
        ).to_arrow_table()
        [ids, *found] = [
            pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
            for column in table.columns
        ]
        count = len(self._names)
        flags: list[Flags | None] = [
            each.storage.to_numpy(zero_copy_only=False).astype(np.bool_) for each in found[count:]
        ] or [None] * count
        return ids.to_numpy(), Rows(found[:count], flags)

    def _hand_over(self) -> None:
        """Let DuckDB's touched_rows have the rows of rounds that it did not decode."""
        if not len(self._mirror):
            return
        touched, live = self._mirror.row_ids, self._mirror.live()
        known = np.intersect1d(touched, self._fetched, assume_unique=True)
        if len(known):
            self._connection.execute(f"DELETE FROM touched_rows WHERE {self._among('known', known)}")
        if live is not None:
            row_ids, rows = live
            columns = [pa.array(row_ids), *rows.shown(), *rows.lying]
            given = pa.RecordBatch.from_arrays(columns, names=[f"c{n}" for n in range(len(columns))])
            self._connection.register("cdc_given", given)
            kinds = ("BIGINT", *self._kinds, *self._kinds)
            casts = ", ".join(f"CAST(c{n} AS {kind})" for n, kind in enumerate(kinds))
            names = ", ".join([self._row_id, *self._names, *self._under])
            self._connection.execute(f"INSERT INTO touched_rows ({names}) SELECT {casts} FROM cdc_given")
            self._connection.unregister("cdc_given")
        self._fetched = np.union1d(self._fetched, touched)
        self._mirror.clear()


def _those(columns: Sequence[pa.Array], chosen: Flags) -> Sequence[pa.Array]:
    if chosen.all():
        return columns
    flags = pa.array(chosen)
    return [values.filter(flags) for values in columns]

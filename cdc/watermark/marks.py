"""How far each table of one source has been delivered, as its replicator stores it: one decision, one commit.

A commit is refused, whole, when the replicator no longer is the one: its lease was given up, its epoch was
overtaken, or the mark was reset since it was loaded. A commit never moves a mark backwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cdc.change import Mark, Position, TableId, TablePlan
from cdc.clock import Clock
from cdc.errors import LeaseHeld, Meaning, StateError
from cdc.state import breaks, held, spool
from cdc.state import digests as delivered_digests
from cdc.state.database import Database
from cdc.state.eras import StoredEras
from cdc.state.failed import FailedRecord, FailedRows
from cdc.state.lease import HeldLease
from cdc.state.store import Store
from cdc.stored import Decision, Spooled, SpoolEntry, TableProgress
from cdc.stored import Held as HeldGroups
from cdc.watermark.columns import MarkColumns, check_same_columns


def bind(store: Store, source: str, lease: HeldLease) -> BoundMarks:
    """The marks of `source`, for the replicator that holds its lease; earlier holders are fenced off.

    Raises:
        StateError: the lease is not held, or the store cannot be written.
        ValueError: it is the lease of another source.
    """
    if lease.source != source:
        raise ValueError(f"the lease is of {lease.source}, not of {source}")
    marks = BoundMarks(store.database, store.failed_rows, lease, store.clock, store.eras)
    marks.check_lease()
    return marks


class BoundMarks:
    """The marks of one source, for the replicator that holds its lease. Threads may share it."""

    def __init__(
        self, database: Database, failed: FailedRows, lease: HeldLease, clock: Clock, eras: StoredEras
    ) -> None:
        """Overtake every earlier replicator of the lease's source: none of them can commit from now on."""
        self._database = database
        self._failed = failed
        self._lease = lease
        self._clock = clock
        self._eras = eras
        self._resets: dict[TableId, int] = {}
        self._chunks: dict[TableId, int] = {}
        """The last chunk delivered of each table: what was sent at last is not spooled any more."""
        self._spooling: set[TableId] = set()
        """Tables that may have a spool: the others' commits need not look."""
        with database.transaction() as connection:
            ((self._epoch,),) = connection.execute(_NEXT_EPOCH, (lease.source,)).fetchall()

    def __repr__(self) -> str:
        return f"BoundMarks({self._lease.source}, epoch {self._epoch})"

    def describe(self, plan: TablePlan) -> None:
        """Store which columns the table's mark is of; to be called before the table is loaded.

        Raises:
            StateError: the watermark's type has no exact order, or the stored mark is of other columns.
        """
        columns = MarkColumns.of(plan)
        columns.watermark_type  # noqa: B018 - refuses a type that cannot be a watermark
        with self._database.transaction() as connection:
            self._fence(connection)
            stored = _table(connection, self._lease.source, plan.table)
            if stored.mark is not None:
                check_same_columns(plan.table, stored.mark, stored.columns, columns)
            if stored.columns != columns:
                now = self._clock.wall()
                values = (self._lease.source, plan.table.schema, plan.table.name, columns.to_json(), now)
                connection.execute(_DESCRIBE, values)

    def load(self, table: TableId) -> TableProgress:
        """What is stored of the table; a commit is refused if it is reset after this."""
        with self._database.transaction() as connection:
            self._fence(connection)
            stored = _table(connection, self._lease.source, table)
            values = (self._lease.source, table.schema, table.name)
            ((failed,),) = connection.execute(_COUNT_FAILED, values).fetchall()
            digests = delivered_digests.load(connection, self._lease.source, table)
        self._resets[table] = stored.resets
        return TableProgress(
            mark=stored.mark,
            position=stored.position,
            rows=stored.rows,
            bytes=stored.bytes,
            batches=stored.batches,
            failed_rows=failed,
            schema_version=stored.schema_version,
            resets=stored.resets,
            digests=digests,
            delivered_to=stored.delivered_to,
            rows_there=stored.rows - stored.rows_before,
        )

    def commit(self, decision: Decision) -> int:
        """Store all of `decision` in one durable transaction; answers how many failed rows it mended.

        Raises:
            StateError: it was not stored; nothing of it was. The meaning is retry where loading the table
                again, or space on the disk, is all that is needed.
        """
        table, now = decision.table, self._clock.wall()
        place = (self._lease.source, table.schema, table.name)
        with self._database.transaction() as connection:
            self._fence(connection)
            stored = _table(connection, self._lease.source, table)
            if stored.resets != self._resets.get(table, stored.resets):
                raise _reset_meanwhile(table)
            if decision.mark is not None:
                _check_forward(table, stored, decision.mark)
            if decision.schema_version != stored.schema_version:
                connection.execute(_ADD_SCHEMA_VERSION, (*place, decision.schema_version, now))
            connection.execute(
                _COMMIT,
                {
                    "source": self._lease.source,
                    "schema": table.schema,
                    "table": table.name,
                    "mark": None if decision.mark is None else decision.mark.to_json(),
                    "rows": decision.rows,
                    "bytes": decision.bytes,
                    "position": None if decision.position is None else decision.position.to_text(),
                    "schema_version": decision.schema_version,
                    "now": now,
                },
            )
            if decision.failed:
                self._failed.add(connection, self._lease.source, table, decision.failed, now)
            forgotten = self._failed.superseded(connection, self._lease.source, table, decision.delivered)
            held.store(connection, self._lease.source, table, decision.holding, now)
            if decision.chunk is not None and table in self._spooling:
                spool.remove(connection, self._lease.source, table, decision.chunk)
            if decision.chunk is not None:  # within the transaction's lock: `append` looks at it there
                self._chunks[table] = decision.chunk
        return forgotten

    def remember(self, table: TableId, digests: bytes, position: Position | None = None) -> None:
        """Store what the table's reader knows the target to hold, in place of what it knew before, and the
        position up to which everything is delivered.

        Raises:
            StateError: it was not stored. The meaning is retry where the mark was reset meanwhile.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            stored = _table(connection, self._lease.source, table)
            if stored.resets != self._resets.get(table, stored.resets):
                raise _reset_meanwhile(table)
            delivered_digests.store(connection, self._lease.source, table, digests)
            if position is not None:
                place = (self._lease.source, table.schema, table.name)
                connection.execute(_MOVE, (position.to_text(), *place))

    def note_unseen(self, table: TableId, reason: str) -> None:
        """Remember that changes of the table may have gone unseen; it is on the disk when this returns.

        Raises:
            StateError: it is not remembered.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            breaks.note(connection, self._lease.source, table, reason, self._clock.wall())

    def held(self, table: TableId) -> HeldGroups:
        """The table's rows that wait for their group to be complete, as they were committed. [F8]"""
        return held.load(self._database, self._lease.source, table)

    def spooled(self, table: TableId) -> Spooled:
        """What was read of the table while the target was away, and is not delivered. [R4]"""
        found = spool.load(self._database, self._lease.source, table)
        if found.chunks:
            self._spooling.add(table)
        return replace(found, next_chunk=max(found.next_chunk, self._chunks.get(table, 0) + 1))

    def chunk(self, table: TableId, number: int) -> tuple[SpoolEntry, ...]:
        """The entries of one chunk; one that is damaged has no payload."""
        return spool.entries(self._database, self._lease.source, table, number)

    def append(self, table: TableId, entries: Sequence[SpoolEntry]) -> None:
        """Store `entries` durably at the end of the table's spool; those delivered meanwhile are left out.

        Raises:
            StateError: nothing of it was stored. The meaning is retry where loading the table again, or space
                on the disk, is all that is needed.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            stored = _table(connection, self._lease.source, table)
            if stored.resets != self._resets.get(table, stored.resets):
                raise _reset_meanwhile(table)
            delivered = self._chunks.get(table, 0)
            self._spooling.add(table)
            spool.append(
                connection, self._lease.source, table, (each for each in entries if each.chunk > delivered)
            )

    def discard(self, table: TableId, ids: Sequence[int]) -> None:
        """Forget entries of the spool. The rest of it moves the mark no more: what they held is to be read
        again, from the stored mark on.

        Raises:
            StateError: nothing of it was stored.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            spool.discard(connection, self._lease.source, table, ids)
            delivered_digests.drop(connection, self._lease.source, table)

    def shrink(self) -> None:
        """Give the room of a spool that was delivered back to the file system.

        Raises:
            StateError: the store cannot be written.
        """
        self._database.shrink()

    def due(self, table: TableId, limit: int) -> Sequence[FailedRecord]:
        """Failed rows of this table whose next attempt is due, the longest due first."""
        return self._failed.due(self._lease.source, table, self._clock.wall(), limit)

    def retried(self, delivered: Iterable[int], failed: Mapping[int, str]) -> None:
        """Store what became of failed rows that were tried again: ids delivered, and id → reason.

        Raises:
            StateError: nothing of it was stored.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            self._failed.remove(connection, delivered)
            self._failed.again(connection, failed, self._clock.wall())

    def restart(self, table: TableId) -> None:
        """Forget mark and position of the table, and what it was delivered to: every row is to be delivered
        again. Load it after this.

        Raises:
            StateError: nothing of it was stored.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            connection.execute(_RESTART, (self._lease.source, table.schema, table.name))
            spool.unmark(connection, self._lease.source, table)
            delivered_digests.drop(connection, self._lease.source, table)
            breaks.note(connection, self._lease.source, table, breaks.READ_ANEW, self._clock.wall())

    def moved(self) -> frozenset[TableId]:
        """The tables whose mark was moved by hand since they were loaded.

        Raises:
            StateError: the store cannot be read.
        """
        rows = self._database.query(_RESETS, (self._lease.source,))
        stored = {TableId(schema, name): resets for schema, name, resets in rows}
        return frozenset(
            table for table, resets in dict(self._resets).items() if stored.get(table, 0) != resets
        )

    def deliver_to(self, table: TableId, known: str) -> None:
        """Store which table of the target the rows go to, before any goes there.

        Raises:
            StateError: it was not stored.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            values = (self._lease.source, table.schema, table.name, known, self._clock.wall())
            connection.execute(_DELIVER_TO, values)

    def hasten(self, table: TableId) -> None:
        """Make all failed rows of the table due now.

        Raises:
            StateError: nothing of it was stored.
        """
        with self._database.transaction() as connection:
            self._fence(connection)
            values = (self._clock.wall(), self._lease.source, table.schema, table.name)
            connection.execute(_HASTEN, values)

    def check_lease(self) -> None:
        """See that this replicator is still the one, before it begins an insert; and whether somebody else
        delivers rows with an era of his own, past which it is to go on then.

        Raises:
            LeaseHeld: the lease was given up, or another replicator has overtaken this one.
            StateError: the store cannot be used.
        """
        [(epoch, era)] = self._database.query(_EPOCH_AND_ERA, (self._lease.source,))
        self._check_epoch(epoch)
        floor = self._eras.seen(era)
        if floor is not None:  # no position is made any more that is not past it, and that may be relied on
            with self._database.transaction() as connection:
                self._fence(connection)
                connection.execute(_PAST, (floor, self._lease.source))

    def _fence(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(_EPOCH, (self._lease.source,)).fetchone()
        self._check_epoch(None if row is None else row[0])

    def _check_epoch(self, epoch: int | None) -> None:
        if not self._lease.held:
            problem = "this replicator has given up its lease"
        elif epoch != self._epoch:
            problem = f"another replicator has taken over (epoch {epoch}, this one has {self._epoch})"
        else:
            return
        raise LeaseHeld(
            "write the marks of the source",
            self._lease.source,
            problem,
            "Leave the work to the other replicator, or stop it and start this one again",
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    mark: Mark | None = None
    columns: MarkColumns | None = None
    position: Position | None = None
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    schema_version: str | None = None
    resets: int = 0
    delivered_to: str | None = None
    rows_before: int = 0


def _table(connection: sqlite3.Connection, source: str, table: TableId) -> _Stored:
    row: tuple[Any, ...] | None = connection.execute(_TABLE, (source, table.schema, table.name)).fetchone()
    if row is None:
        return _Stored()
    mark, columns, position, *counts = row
    return _Stored(
        None if mark is None else Mark.from_json(mark),
        None if columns is None else MarkColumns.from_json(columns),
        None if position is None else Position.parse(position),
        *counts,
    )


def _check_forward(table: TableId, stored: _Stored, mark: Mark) -> None:
    if stored.columns is None:
        raise StateError(
            "move the mark of", table, "its columns are not known", "This is a defect: report it with the log"
        )
    order = stored.columns.order(mark)
    if stored.mark is not None and order < stored.columns.order(stored.mark):
        raise StateError(
            "move the mark of",
            table,
            f"it would go back, from {stored.mark.to_json()} to {mark.to_json()}",
            "This is a defect: report it with the log. Nothing is lost; the mark stays",
        )


def _reset_meanwhile(table: TableId) -> StateError:
    return StateError(
        "move the mark of",
        table,
        "it was reset since this replicator loaded it",
        "Nothing needs to be done: the table is set up again from the new mark",
        meaning=Meaning.RETRY,
    )


_NEXT_EPOCH = """
    INSERT INTO sources (source, epoch) VALUES (?, 1)
    ON CONFLICT DO UPDATE SET epoch = epoch + 1
    RETURNING epoch
"""
_EPOCH = "SELECT epoch FROM sources WHERE source = ?"
_EPOCH_AND_ERA = "SELECT (SELECT epoch FROM sources WHERE source = ?), (SELECT next FROM eras)"
_PAST = "UPDATE sources SET floor = ? WHERE source = ?"
_MOVE = "UPDATE tables SET position = ? WHERE source = ? AND schema_name = ? AND table_name = ?"
_TABLE = """
    SELECT mark, columns, position, rows, bytes, batches, schema_version, resets, delivered_to, rows_before
    FROM tables WHERE source = ? AND schema_name = ? AND table_name = ?
"""
_RESETS = "SELECT schema_name, table_name, resets FROM tables WHERE source = ?"
_COUNT_FAILED = "SELECT count(*) FROM failed_rows WHERE source = ? AND schema_name = ? AND table_name = ?"
_RESTART = """
    UPDATE tables SET mark = NULL, position = NULL, schema_version = NULL, resets = resets + 1,
                      delivered_to = NULL, rows_before = rows
    WHERE source = ? AND schema_name = ? AND table_name = ?
"""
_DELIVER_TO = """
    INSERT INTO tables (source, schema_name, table_name, delivered_to, updated_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET delivered_to = excluded.delivered_to
"""
_HASTEN = "UPDATE failed_rows SET due_at = ? WHERE source = ? AND schema_name = ? AND table_name = ?"
_DESCRIBE = """
    INSERT INTO tables (source, schema_name, table_name, columns, updated_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET columns = excluded.columns
"""
_ADD_SCHEMA_VERSION = """
    INSERT INTO schema_versions (source, schema_name, table_name, version, since) VALUES (?, ?, ?, ?, ?)
"""
_COMMIT = """
    INSERT INTO tables (source, schema_name, table_name, mark, rows, bytes, batches, position,
                        schema_version, updated_at)
    VALUES (:source, :schema, :table, :mark, :rows, :bytes, 1, :position, :schema_version, :now)
    ON CONFLICT DO UPDATE SET
        mark = coalesce(excluded.mark, mark),
        rows = rows + excluded.rows,
        bytes = bytes + excluded.bytes,
        batches = batches + 1,
        position = coalesce(excluded.position, position),
        schema_version = excluded.schema_version,
        updated_at = excluded.updated_at
"""

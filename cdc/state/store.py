"""The state store: what is known of every source's tables and failed rows, for replicators and for commands.

One SQLite file in the state directory. A replicator writes through `cdc.watermark.bind`; commands read and
change it, also while one runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdc.change import Mark, Position, TableId
from cdc.clock import Clock, SystemClock
from cdc.closing import Closing
from cdc.eras import first_era
from cdc.errors import StateError
from cdc.state import breaks, digests, spool
from cdc.state.breaks import Breaks
from cdc.state.database import Database, Mode
from cdc.state.eras import StoredEras
from cdc.state.failed import RETRY_BACKOFF_SEC, FailedRecord, FailedRows

FILE_NAME = "state.sqlite3"


@dataclass(frozen=True, slots=True)
class TableRecord:
    """What the store knows of one table of one source."""

    source: str
    table: TableId
    mark: Mark | None
    columns: str | None
    """The columns the mark is of, as JSON that `cdc.watermark.MarkColumns` reads. None until the table was
    replicated once."""
    rows: int
    bytes: int
    batches: int
    failed_rows: int
    spooled_rows: int
    """Read, and not delivered yet."""
    position: Position | None
    schema_version: str | None
    updated_at: float
    """Seconds since 1970."""


class Store(Closing):
    """The open store. A context manager; threads may share it."""

    def __init__(self, database: Database, backoff_sec: Sequence[float], clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.failed_rows = FailedRows(database, backoff_sec)
        self.eras = StoredEras(database, lambda: first_era(clock.wall()))

    def __repr__(self) -> str:
        return f"Store({self.database.path})"

    def close(self) -> None:
        self.database.close()

    @property
    def path(self) -> Path:
        return self.database.path

    @property
    def created(self) -> bool:
        """Whether this opening made the store: every table starts from its first row."""
        return self.database.created

    def breaks(self, source: str) -> Breaks:
        """The tables of `source` whose changes may have gone unseen."""
        return Breaks(self.database, source, self.clock)

    def tables(self, table: TableId | None = None) -> list[TableRecord]:
        """Every table of every source, or those of one name."""
        records = [_record(row) for row in self.database.query(_TABLES)]
        return [record for record in records if table in (None, record.table)]

    def schema_versions(self, source: str, table: TableId) -> list[tuple[str, float]]:
        """The table's schema versions in their order, each with when it was first committed. [R10]"""
        return list(self.database.query(_SCHEMA_VERSIONS, (source, table.schema, table.name)))

    def rebuild(self, source: str, marks: Mapping[TableId, Mark | None]) -> None:
        """Set the marks of these tables, known to the store or not: those found in the target.

        The values are checked against the columns' types when the table is next set up.
        """
        now = self.clock.wall()
        with self.database.transaction() as connection:
            connection.executemany(
                _RESET,
                [
                    (source, table.schema, table.name, None if mark is None else mark.to_json(), now)
                    for table, mark in marks.items()
                ],
            )
            # Kept, for some of it may be gone from the source; but the table is read from its new mark.
            for table in marks:
                spool.unmark(connection, source, table)
                digests.drop(connection, source, table)
                breaks.note(connection, source, table, breaks.MARK_MOVED, now)

    def salvage(self, damaged: Path) -> int:
        """Take over the failed rows that can still be read in a damaged store. Returns how many."""
        return self.failed_rows.salvage(damaged)

    def failed(self, table: TableId | None = None, *, limit: int = 100) -> list[FailedRecord]:
        """Failed rows of one table or all, the oldest first."""
        return self.failed_rows.listed(table, limit)

    def most_attempts(self, source: str) -> dict[TableId, int]:
        """How often the failed row that was tried most often was tried, of each table that has any."""
        rows = self.database.query(_MOST_ATTEMPTS, (source,))
        return {TableId(schema, name): attempts for schema, name, attempts in rows}

    def failed_row(self, id_: int) -> FailedRecord:
        """One failed row.

        Raises:
            StateError: there is none of this id.
        """
        record = self.failed_rows.get(id_)
        if record is None:
            raise StateError("find the failed row", id_, "there is none", "See 'cdc failed list'")
        return record

    def failed_count(self, table: TableId | None = None) -> int:
        """How many failed rows one table or all have."""
        return self.failed_rows.count(table)

    def retry(self, ids: Iterable[int] | None) -> int:
        """Make failed rows due now (None: all of them); the replicator sends them again. Returns how many."""
        now = self.clock.wall()
        with self.database.transaction() as connection:
            if ids is None:
                return connection.execute("UPDATE failed_rows SET due_at = ?", (now,)).rowcount
            statement = "UPDATE failed_rows SET due_at = ? WHERE id = ?"
            return connection.executemany(statement, [(now, id_) for id_ in ids]).rowcount

    def discard(self, ids: Iterable[int]) -> int:
        """Forget failed rows for good. Returns how many."""
        with self.database.transaction() as connection:
            return self.failed_rows.remove(connection, ids)


def open_store(
    directory: Path,
    *,
    failed_table: str = "failed_syncs",
    retry_backoff_sec: Sequence[float] = RETRY_BACKOFF_SEC,
    mode: Mode = "create",
    clock: Clock | None = None,
) -> Store:
    """The store in the state directory.

    "create", for a replicator, makes it or brings it up to date, and gives the failed rows their name;
    "write" and "read", for commands, want it to be there as it should be.

    Raises:
        StateError: it is missing, damaged, of another version, or may not be opened.
        ConfigError: `failed_table` cannot be a name.
    """
    return Store(
        Database(directory / FILE_NAME, mode, failed_table), retry_backoff_sec, clock or SystemClock()
    )


def set_aside(directory: Path, clock: Clock | None = None) -> list[Path]:
    """Rename the store's files so that a new store can be made; nothing is deleted. Returns their new paths.

    The caller sees to it that no replicator runs: one that has the files open would go on writing to them.

    Raises:
        StateError: a file cannot be renamed.
    """
    moment = datetime.fromtimestamp((clock or SystemClock()).wall(), UTC).strftime("%Y%m%dT%H%M%S%fZ")
    moved = []
    for suffix in ("-wal", "-shm", ""):  # the file last: its log must never be taken for that of a new store
        path = directory / (FILE_NAME + suffix)
        kept = directory / f"{FILE_NAME}.aside-{moment}{suffix}"
        try:
            path.rename(kept)
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = str(error.strerror)
            raise StateError("set aside", path, problem, "Stop the programs that have it open") from error
        moved.append(kept)
    return moved


def _record(row: tuple[Any, ...]) -> TableRecord:
    source, schema, name, mark, columns, rows, bytes_, batches, failed, *rest = row
    spooled, position, version, updated = rest
    return TableRecord(
        source=source,
        table=TableId(schema, name),
        mark=None if mark is None else Mark.from_json(mark),
        columns=columns,
        rows=rows,
        bytes=bytes_,
        batches=batches,
        failed_rows=failed,
        spooled_rows=spooled,
        position=None if position is None else Position.parse(position),
        schema_version=version,
        updated_at=updated,
    )


_TABLES = """
    SELECT source, schema_name, table_name, mark, columns, rows, bytes, batches,
           (SELECT count(*) FROM failed_rows f
            WHERE f.source = t.source AND f.schema_name = t.schema_name AND f.table_name = t.table_name),
           (SELECT coalesce(sum(s.rows), 0) FROM spool s
            WHERE s.source = t.source AND s.schema_name = t.schema_name AND s.table_name = t.table_name),
           position, schema_version, updated_at
    FROM tables t ORDER BY source, schema_name, table_name
"""
_MOST_ATTEMPTS = """
    SELECT schema_name, table_name, max(attempts) FROM failed_rows
    WHERE source = ? GROUP BY schema_name, table_name
"""
_SCHEMA_VERSIONS = """
    SELECT version, since FROM schema_versions
    WHERE source = ? AND schema_name = ? AND table_name = ? ORDER BY id
"""
_RESET = """
    INSERT INTO tables (source, schema_name, table_name, mark, updated_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        mark = excluded.mark,
        position = NULL, -- what the source's history held up to there is no longer all delivered
        resets = resets + 1,
        updated_at = excluded.updated_at
"""

"""The rows that could not be loaded: kept with their reason until they are delivered or discarded.

A row that fails again is the same failed row with one more attempt, known by its key; a newer state of it
takes its place. Rows whose key is not whole (a NULL in it) are told apart by content, so none hides another.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdc.change import FailedRow, TableId
from cdc.state.database import Database

RETRY_BACKOFF_SEC = (10.0, 30.0, 60.0, 120.0)
"""When a failed row is tried again: after its first attempt, its second, and so on; the last one repeats."""


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A failed row as it is stored. Times are seconds since 1970."""

    id: int
    source: str
    table: TableId
    row: FailedRow
    attempts: int
    first_at: float
    last_at: float
    due_at: float


class FailedRows:
    """Reads and writes the failed rows; the methods that take a connection run inside its transaction."""

    def __init__(self, database: Database, backoff_sec: Sequence[float]) -> None:
        self._database = database
        delays = tuple(backoff_sec)
        database.define("retry_delay", lambda attempts: delays[min(attempts, len(delays)) - 1])

    def add(
        self,
        connection: sqlite3.Connection,
        source: str,
        table: TableId,
        rows: Iterable[FailedRow],
        now: float,
    ) -> None:
        """Store rows that failed `now`, or one more attempt of those already there."""
        connection.executemany(_ADD, (_parameters(source, table, row, now) for row in rows))

    def again(self, connection: sqlite3.Connection, reasons: Mapping[int, str], now: float) -> None:
        """Count one more attempt of rows that were tried again and failed."""
        connection.executemany(_AGAIN, [(reason, now, now, id_) for id_, reason in reasons.items()])

    def superseded(
        self,
        connection: sqlite3.Connection,
        source: str,
        table: TableId,
        delivered: Mapping[tuple[str, ...], int],
    ) -> int:
        """Forget rows whose key was delivered in their version or a newer one. Returns how many.

        A row without a whole key stays: its key names other rows too.
        """
        if not delivered:
            return 0
        known = connection.execute(_VERSIONS, (source, table.schema, table.name)).fetchall()
        gone = [
            id_ for id_, key, version in known if delivered.get(tuple(json.loads(key)), -1) >= int(version)
        ]
        return self.remove(connection, gone)

    def remove(self, connection: sqlite3.Connection, ids: Iterable[int]) -> int:
        """Forget rows: they were delivered, or a person discarded them. Returns how many."""
        return connection.executemany("DELETE FROM failed_rows WHERE id = ?", [(i,) for i in ids]).rowcount

    def salvage(self, damaged: Path) -> int:
        """Copy what can still be read of a damaged store's failed rows. Returns how many."""
        rows: list[tuple[Any, ...]] = []
        with (
            suppress(sqlite3.Error),  # it is damaged: what was read before the damage is what there is
            closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as connection,
        ):
            rows.extend(connection.execute(_SALVAGE))
        with self._database.transaction() as connection:
            connection.executemany(_RESTORE, rows)
        return len(rows)

    def due(self, source: str, table: TableId, now: float, limit: int) -> list[FailedRecord]:
        """Rows of one table to be tried again `now`, the longest due first."""
        of_table = "WHERE source = ? AND schema_name = ? AND table_name = ?"
        where = f"{of_table} AND due_at <= ? ORDER BY due_at, id LIMIT ?"
        return self._select(where, source, table.schema, table.name, now, limit)

    def listed(self, table: TableId | None, limit: int) -> list[FailedRecord]:
        """Rows of one table or all, the oldest first."""
        if table is None:
            return self._select("ORDER BY id LIMIT ?", limit)
        where = "WHERE schema_name = ? AND table_name = ? ORDER BY id LIMIT ?"
        return self._select(where, table.schema, table.name, limit)

    def count(self, table: TableId | None) -> int:
        """How many rows one table or all have."""
        count = "SELECT count(*) FROM failed_rows"
        if table is None:
            ((rows,),) = self._database.query(count)
        else:
            where = " WHERE schema_name = ? AND table_name = ?"
            ((rows,),) = self._database.query(count + where, (table.schema, table.name))
        return int(rows)

    def get(self, id_: int) -> FailedRecord | None:
        return next(iter(self._select("WHERE id = ?", id_)), None)

    def _select(self, where: str, *parameters: object) -> list[FailedRecord]:
        return [_record(row) for row in self._database.query(_COLUMNS + where, parameters)]


def _parameters(source: str, table: TableId, row: FailedRow, now: float) -> dict[str, object]:
    whole = bool(row.key) and all(row.key)
    return {
        "source": source,
        "schema": table.schema,
        "table": table.name,
        "key": json.dumps(row.key, ensure_ascii=False),
        "content": b"" if whole else hashlib.blake2b(row.payload, digest_size=16).digest(),
        "watermark": row.watermark,
        "reason": row.reason,
        "now": now,
        "payload": row.payload,
        "version": f"{row.version:020}",
        "deleted": row.deleted,
    }


def _record(row: tuple[Any, ...]) -> FailedRecord:
    id_, source, schema, table, key, watermark, reason, payload, version, deleted, *times = row
    return FailedRecord(
        id_,
        source,
        TableId(schema, table),
        FailedRow(tuple(json.loads(key)), watermark, reason, payload, int(version), bool(deleted)),
        *times,
    )


_COLUMNS = """
    SELECT id, source, schema_name, table_name, key, watermark, reason, payload, version, deleted,
           attempts, first_at, last_at, due_at
    FROM failed_rows
"""
_ADD = """
    INSERT INTO failed_rows (source, schema_name, table_name, key, content, watermark, reason, attempts,
                             first_at, last_at, due_at, payload, version, deleted)
    VALUES (:source, :schema, :table, :key, :content, :watermark, :reason, 1,
            :now, :now, :now + retry_delay(1), :payload, :version, :deleted)
    ON CONFLICT DO UPDATE SET
        attempts = attempts + 1,
        last_at = excluded.last_at,
        due_at = :now + retry_delay(attempts + 1),
        reason = iif(excluded.version >= version, excluded.reason, reason),
        watermark = iif(excluded.version >= version, excluded.watermark, watermark),
        payload = iif(excluded.version >= version, excluded.payload, payload),
        deleted = iif(excluded.version >= version, excluded.deleted, deleted),
        version = max(excluded.version, version)
"""
_VERSIONS = """
    SELECT id, key, version FROM failed_rows
    WHERE source = ? AND schema_name = ? AND table_name = ? AND content = x''
"""
_SALVAGE = """
    SELECT source, schema_name, table_name, key, content, watermark, reason, attempts,
           first_at, last_at, due_at, payload, version, deleted
    FROM failed_rows
"""
_RESTORE = """
    INSERT OR IGNORE INTO failed_rows
        (source, schema_name, table_name, key, content, watermark, reason, attempts,
         first_at, last_at, due_at, payload, version, deleted)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_AGAIN = """
    UPDATE failed_rows
    SET attempts = attempts + 1, reason = ?, last_at = ?, due_at = ? + retry_delay(attempts + 1)
    WHERE id = ?
"""

"""Of which tables may changes have gone unseen? Remembered until source and target were found equal again.

Each break of a table is counted. Who compares the table asks for the count before it begins, and a break that
came meanwhile is then not forgotten with the others.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from cdc.change import TableId
from cdc.clock import Clock
from cdc.state.database import Database

MARK_MOVED = "its mark was moved: what was deleted before that is not known any more"
"""Why a table whose mark was moved by hand is to be compared."""
READ_ANEW = "its columns are others: it is read anew, and what was deleted meanwhile is not known"


@dataclass(frozen=True, slots=True)
class Break:
    """What is remembered of one table."""

    table: TableId
    reason: str
    """Of the last one."""
    since: float
    """When the first one was told, seconds since 1970."""
    times: int


class Breaks:
    """The tables of one source whose changes may have gone unseen. Threads may share it.

    No lease is asked for: to remember too much costs a comparison, and what is forgotten was compared.
    """

    def __init__(self, database: Database, source: str, clock: Clock) -> None:
        self._database = database
        self._source = source
        self._clock = clock

    def __repr__(self) -> str:
        return f"Breaks({self._source})"

    def note(self, table: TableId, reason: str) -> None:
        """Remember one more; it is on the disk when this returns.

        Raises:
            StateError: it is not remembered.
        """
        with self._database.transaction() as connection:
            note(connection, self._source, table, reason, self._clock.wall())

    def standing(self) -> tuple[Break, ...]:
        """What is remembered, the oldest first.

        Raises:
            StateError: the store cannot be read.
        """
        rows = self._database.query(_STANDING, (self._source,))
        return tuple(
            Break(TableId(schema, name), reason, since, times) for schema, name, reason, since, times in rows
        )

    def mended(self, found: Break) -> bool:
        """Forget `found`; False if there was another break since, which then stays.

        Raises:
            StateError: nothing was forgotten.
        """
        place = (self._source, found.table.schema, found.table.name)
        with self._database.transaction() as connection:
            return bool(connection.execute(_MENDED, (*place, found.times, found.since)).rowcount)


def note(connection: sqlite3.Connection, source: str, table: TableId, reason: str, now: float) -> None:
    """Remember one more break of `source`'s table within a transaction."""
    connection.execute(_NOTE, (source, table.schema, table.name, reason, now))


_NOTE = """
    INSERT INTO broken_tables (source, schema_name, table_name, reason, since, times)
    VALUES (?, ?, ?, ?, ?, 1)
    ON CONFLICT DO UPDATE SET reason = excluded.reason, times = times + 1
"""
_STANDING = """
    SELECT schema_name, table_name, reason, since, times FROM broken_tables
    WHERE source = ? ORDER BY since, schema_name, table_name
"""
_MENDED = """
    DELETE FROM broken_tables
    WHERE source = ? AND schema_name = ? AND table_name = ? AND times = ? AND since = ?
"""

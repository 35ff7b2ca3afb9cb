"""The rows that wait for their group to be complete, and the groups delivered lately, as stored. [F8]

They change in the transaction that moves the mark past them, so that a row is always either before the mark
and held, or before it and delivered, or behind it.
"""

from __future__ import annotations

import sqlite3

from cdc.change import TableId
from cdc.state.database import Database
from cdc.stored import Held, HeldRows, Holding


def store(connection: sqlite3.Connection, source: str, table: TableId, change: Holding, now: float) -> None:
    """Apply `change`, inside the caller's transaction."""
    place = (source, table.schema, table.name)
    connection.executemany(_RELEASE, [(*place, group) for group in change.released])
    connection.executemany(
        _PARK,
        [
            (*place, each.group, each.since, each.rows, each.payload, each.schema_version)
            for each in change.parked
        ],
    )
    connection.executemany(_FORGET, [(*place, group) for group in change.forgotten])
    connection.executemany(_REMEMBER, [(*place, group, now) for group in change.delivered])


def load(database: Database, source: str, table: TableId) -> Held:
    """What is stored of one table.

    Raises:
        StateError: the store cannot be read.
    """
    place = (source, table.schema, table.name)
    return Held(
        rows=tuple(HeldRows(*row) for row in database.query(_HELD, place)),
        delivered=tuple(database.query(_DELIVERED, place)),
    )


_OF_TABLE = "WHERE source = ? AND schema_name = ? AND table_name = ?"
_RELEASE = f"DELETE FROM held_rows {_OF_TABLE} AND group_key = ?"  # noqa: S608 - constants
_PARK = """
    INSERT INTO held_rows (source, schema_name, table_name, group_key, since, rows, payload, schema_version)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_FORGET = f"DELETE FROM delivered_groups {_OF_TABLE} AND group_key = ?"  # noqa: S608 - constants
_REMEMBER = """
    INSERT INTO delivered_groups (source, schema_name, table_name, group_key, at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET at = excluded.at
"""
_HELD = f"""
    SELECT group_key, since, rows, payload, schema_version FROM held_rows {_OF_TABLE} ORDER BY id
"""  # noqa: S608 - constants
_DELIVERED = f"SELECT group_key, at FROM delivered_groups {_OF_TABLE} ORDER BY at, group_key"  # noqa: S608

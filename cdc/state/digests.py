"""What the reader of each table knows the target to hold, as it is stored: bytes that only the reader reads.

They are replaced as a whole, in a transaction of their own, and dropped with every reset of the mark.
"""

from __future__ import annotations

import sqlite3

from cdc.change import TableId


def load(connection: sqlite3.Connection, source: str, table: TableId) -> bytes | None:
    """What is stored of the table."""
    row = connection.execute(_LOAD, (source, table.schema, table.name)).fetchone()
    return None if row is None else bytes(row[0])


def store(connection: sqlite3.Connection, source: str, table: TableId, digests: bytes) -> None:
    """Replace what is stored of the table."""
    connection.execute(_STORE, (source, table.schema, table.name, digests))


def drop(connection: sqlite3.Connection, source: str, table: TableId) -> None:
    """Forget what is stored of the table: its rows are delivered again, or were not delivered by us."""
    connection.execute(_DROP, (source, table.schema, table.name))


_LOAD = "SELECT digests FROM delivered_digests WHERE source = ? AND schema_name = ? AND table_name = ?"
_STORE = """
    INSERT INTO delivered_digests (source, schema_name, table_name, digests) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET digests = excluded.digests
"""
_DROP = "DELETE FROM delivered_digests WHERE source = ? AND schema_name = ? AND table_name = ?"

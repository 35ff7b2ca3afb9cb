"""What the state store's SQLite file contains, and how an older one is brought up to date.

`PRAGMA user_version` counts the migrations applied. All of them, and the number, change in one transaction.
"""

from __future__ import annotations

import sqlite3

from cdc.errors import ConfigError, StateError

APPLICATION_ID = 0x63646331
"""`cdc1`, by which the file is told from another program's database."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE sources (
            source TEXT PRIMARY KEY,
            epoch INTEGER NOT NULL -- grows with each replicator; an older one can no longer commit
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE tables (
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            mark TEXT,                    -- JSON: [watermark, key...]; NULL: nothing is delivered yet
            columns TEXT,                 -- JSON: [[name, type]...] of the mark's values; NULL: not known yet
            rows INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL DEFAULT 0,
            batches INTEGER NOT NULL DEFAULT 0,
            position TEXT,
            schema_version TEXT,
            resets INTEGER NOT NULL DEFAULT 0, -- a replicator that loaded before a reset must load again
            updated_at REAL NOT NULL,
            PRIMARY KEY (source, schema_name, table_name)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE schema_versions (
            id INTEGER PRIMARY KEY,
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            version TEXT NOT NULL,
            since REAL NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE failed_rows (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            key TEXT NOT NULL,            -- JSON: [value...]
            content BLOB NOT NULL,        -- tells rows without a whole key apart; empty where the key does
            watermark TEXT,
            reason TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            first_at REAL NOT NULL,
            last_at REAL NOT NULL,
            due_at REAL NOT NULL,
            payload BLOB NOT NULL,        -- Arrow IPC stream of one row
            version TEXT NOT NULL,        -- a UInt64 as 20 digits: SQLite's integers end at 2^63
            deleted INTEGER NOT NULL,
            UNIQUE (source, schema_name, table_name, key, content)
        ) STRICT
        """,
        "CREATE INDEX failed_rows_due ON failed_rows (source, schema_name, table_name, due_at)",
    ),
    (
        """
        CREATE TABLE held_rows (
            id INTEGER PRIMARY KEY,
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            group_key TEXT NOT NULL,
            since REAL NOT NULL,          -- when the group's first row came
            rows INTEGER NOT NULL,
            payload BLOB NOT NULL,        -- Arrow IPC stream of them, with their versions
            schema_version TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX held_rows_group ON held_rows (source, schema_name, table_name, group_key)",
        """
        CREATE TABLE delivered_groups (   -- lately: their later rows do not wait
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            group_key TEXT NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (source, schema_name, table_name, group_key)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE broken_tables (      -- changes may have gone unseen; until they were compared
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            reason TEXT NOT NULL,
            since REAL NOT NULL,
            times INTEGER NOT NULL,       -- grows with each break: one that comes during a comparison stays
            PRIMARY KEY (source, schema_name, table_name)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE delivered_digests (  -- what a table's reader knows the target to hold
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            digests BLOB NOT NULL,
            PRIMARY KEY (source, schema_name, table_name)
        ) STRICT
        """,
    ),
    (
        """
        CREATE TABLE spool (              -- read while the target was away, and not delivered yet
            id INTEGER PRIMARY KEY,
            source TEXT NOT NULL,
            schema_name TEXT NOT NULL,
            table_name TEXT NOT NULL,
            chunk INTEGER NOT NULL,       -- entries of one chunk are delivered as one batch
            rows INTEGER NOT NULL,
            mark TEXT,
            position TEXT,
            schema_version TEXT NOT NULL,
            at REAL NOT NULL,             -- when the oldest of the changes was noticed
            digest BLOB NOT NULL,         -- of the payload
            payload BLOB NOT NULL         -- Arrow IPC stream; last, so that the others are read without it
        ) STRICT
        """,
        "CREATE INDEX spool_chunk ON spool (source, schema_name, table_name, chunk)",
    ),
    (
        # JSON: {host: [uuid, made]...}: which table of the target rows were delivered to; NULL: not known
        "ALTER TABLE tables ADD COLUMN delivered_to TEXT",
        # Of `rows`, those that were delivered before everything was to be delivered again
        "ALTER TABLE tables ADD COLUMN rows_before INTEGER NOT NULL DEFAULT 0",
    ),
    (
        """
        CREATE TABLE eras (
            only INTEGER PRIMARY KEY,     -- 0: there is one row
            next INTEGER NOT NULL         -- no era from there on was ever taken
        ) STRICT
        """,
        "ALTER TABLE sources ADD COLUMN floor INTEGER NOT NULL DEFAULT 0",  # its replicator is past this era
    ),
)

VERSION = len(MIGRATIONS)

_TABLES = (
    "sources",
    "tables",
    "schema_versions",
    "failed_rows",
    "held_rows",
    "delivered_groups",
    "broken_tables",
    "spool",
    "delivered_digests",
    "eras",
)


def check_version(connection: sqlite3.Connection, subject: str) -> int:
    """The store's version; 0 for an empty file.

    Raises:
        StateError: if the file is another program's, or was written by a newer version of this one.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or version or objects):
        raise StateError(
            "open the state store",
            subject,
            "it is the database of another program",
            "Point [state] directory at a directory of its own",
        )
    if version > VERSION:
        raise StateError(
            "open the state store",
            subject,
            f"it was written by a newer cdc (store version {version}, this one knows {VERSION})",
            "Run that version of cdc, or a newer one",
        )
    return int(version)


def migrate(connection: sqlite3.Connection, version: int, failed_table: str) -> None:
    """Bring the store from `version` up to date, inside the caller's transaction.

    The failed rows show as a view of the configured name, with times a person can read.
    """
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    views = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
    for name in views:
        connection.execute(f"DROP VIEW {quote(name)}")
    connection.execute(
        f"""
        CREATE VIEW {quote(failed_table)} AS
        SELECT id, schema_name || '.' || table_name AS "table", key, watermark, reason, attempts,
               datetime(first_at, 'unixepoch') AS first_time, datetime(last_at, 'unixepoch') AS last_time,
               payload, version, deleted, source
        FROM failed_rows
        """  # noqa: S608 - a statement takes no parameter for a name
    )


def up_to_date(connection: sqlite3.Connection, version: int, failed_table: str) -> bool:
    """Whether there is nothing for `migrate` to do."""
    views = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    return version == VERSION and views == [(failed_table,)]


def check_failed_table(name: str) -> None:
    """Refuse a name for the failed rows that the store cannot give them.

    Raises:
        ConfigError: if it is not one word, or is taken by the store itself.
    """
    if not (name.isascii() and name.isidentifier()) or name.lower().startswith("sqlite_"):
        problem = "it is not one word of letters, digits and underscores"
    elif name.lower() in _TABLES:
        problem = "the store has a table of this name"
    else:
        return
    raise ConfigError("use [error_handling] failed_sync_table", repr(name), problem, "Write failed_syncs")


def quote(name: str) -> str:
    """`name` as an identifier of SQLite."""
    return '"' + name.replace('"', '""') + '"'

"""The batches that were read while the target was away, as stored until it takes them. [R4, R5]

They are removed in the transaction that moves the mark past them, so that a row is either in the spool,
or before the mark and delivered, or behind what was read.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

from cdc.change import Mark, Position, TableId
from cdc.state.database import Database
from cdc.stored import SpoolChunk, Spooled, SpoolEntry

DIGEST_BYTES = 16


def append(
    connection: sqlite3.Connection, source: str, table: TableId, entries: Iterable[SpoolEntry]
) -> None:
    """Add `entries` at the end, inside the caller's transaction."""
    connection.executemany(
        _APPEND,
        [
            (
                source,
                table.schema,
                table.name,
                each.chunk,
                each.rows,
                None if each.mark is None else each.mark.to_json(),
                None if each.position is None else each.position.to_text(),
                each.schema_version,
                each.at,
                _digest(each.payload or b""),
                each.payload or b"",
            )
            for each in entries
        ],
    )


def remove(connection: sqlite3.Connection, source: str, table: TableId, chunk: int) -> None:
    """The chunk is delivered."""
    connection.execute(_REMOVE, (source, table.schema, table.name, chunk))


def unmark(connection: sqlite3.Connection, source: str, table: TableId) -> None:
    """What is spooled of the table is delivered, and moves nothing: the table is read from its mark again."""
    connection.execute(_UNMARK, (source, table.schema, table.name))


def discard(connection: sqlite3.Connection, source: str, table: TableId, ids: Sequence[int]) -> None:
    """Forget entries that cannot be delivered; what they held is read again from the table's mark."""
    connection.executemany("DELETE FROM spool WHERE id = ?", [(id_,) for id_ in ids])
    unmark(connection, source, table)


def load(database: Database, source: str, table: TableId) -> Spooled:
    """What there is of one table, without the rows.

    Raises:
        StateError: the store cannot be read.
    """
    place = (source, table.schema, table.name)
    chunks = tuple(SpoolChunk(*row) for row in database.query(_CHUNKS, place))
    marks, positions = database.query(_LAST_MARK, place), database.query(_LAST_POSITION, place)
    return Spooled(
        chunks,
        Mark.from_json(marks[0][0]) if marks else None,
        Position.parse(positions[0][0]) if positions else None,
        max((each.number for each in chunks), default=0) + 1,
    )


def entries(database: Database, source: str, table: TableId, chunk: int) -> tuple[SpoolEntry, ...]:
    """The entries of one chunk in the order of appending; one that is damaged has no payload.

    Raises:
        StateError: the store cannot be read.
    """
    found = []
    for id_, rows, mark, position, version, at, digest, payload in database.query(
        _ENTRIES, (source, table.schema, table.name, chunk)
    ):
        found.append(
            SpoolEntry(
                chunk,
                rows,
                payload if _digest(payload) == digest else None,
                None if mark is None else Mark.from_json(mark),
                None if position is None else Position.parse(position),
                version,
                at,
                id_,
            )
        )
    return tuple(found)


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).digest()


_OF_TABLE = "WHERE source = ? AND schema_name = ? AND table_name = ?"
_APPEND = """
    INSERT INTO spool (source, schema_name, table_name, chunk, rows, mark, position, schema_version, at,
                       digest, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_REMOVE = f"DELETE FROM spool {_OF_TABLE} AND chunk = ?"  # noqa: S608 - constants
_UNMARK = f"UPDATE spool SET mark = NULL, position = NULL {_OF_TABLE}"  # noqa: S608 - constants
_CHUNKS = f"""
    SELECT chunk, sum(rows), sum(length(payload)), min(at), min(schema_version) FROM spool {_OF_TABLE}
    GROUP BY chunk ORDER BY chunk
"""  # noqa: S608 - constants
_LAST_MARK = f"SELECT mark FROM spool {_OF_TABLE} AND mark IS NOT NULL ORDER BY chunk DESC, id DESC LIMIT 1"  # noqa: S608
_LAST_POSITION = f"""
    SELECT position FROM spool {_OF_TABLE} AND position IS NOT NULL ORDER BY chunk DESC, id DESC LIMIT 1
"""  # noqa: S608 - constants
_ENTRIES = f"""
    SELECT id, rows, mark, position, schema_version, at, digest, payload FROM spool {_OF_TABLE} AND chunk = ?
    ORDER BY id
"""  # noqa: S608 - constants

"""What do these frames of the log say? DuckDB decodes them: it replays them into a small twin database.

The twin has one table for inserted rows, one for deleted row ids, and two for each column: new values, and
new null flags, with their row ids. All are plain, without keys, so every frame becomes an insert:

* INSERT_TUPLE, `100 type, 101 chunk`, goes into the first as it is;
* DELETE_TUPLE, `100 type, 101 chunk of row ids`, differs from an insert by its type alone;
* UPDATE_TUPLE, `100 type, 101 column path, 102 chunk of value and row id`, loses its column path. The path
  `[column]` holds values, which say nothing of NULL; `[column, 0]` holds a BOOLEAN that is NULL or not.

They are framed again behind a log header and USE_TABLE frames that DuckDB wrote for the twin itself.
Replaying costs by the frames given, whatever the size of the log they come from. (DuckDB: wal_replay.cpp.)
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from cdc.change import Column
from cdc.source import frames
from cdc.source.frames import NotUnderstood
from cdc.source.log import parse_log_header
from cdc.source.quote import identifier

_numbers = itertools.count(1)  # attached databases and filesystems are named for all connections at once
_OTHERS = 2
"""The twin's tables before those of the columns."""
_CHUNK = (102).to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Which tables of the attached twin hold rows."""

    inserts: bool
    deletes: bool
    values: tuple[int, ...]
    """Numbers of the stored columns that have new values."""
    nulls: tuple[int, ...]
    """Numbers of the stored columns that have new null flags."""


class Twin:
    """The twin of one table, on one connection that the caller keeps and closes. Not thread safe."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> None:
        """Make the twin of a table with these stored columns, in order.

        Raises:
            duckdb.Error: a column's type cannot be spelled in a CREATE TABLE.
        """
        self._connection = connection
        self._name = f"cdc_twin_{next(_numbers)}"
        self._files = MemoryFiles(self._name)
        log = _write_twin(columns, self._files)
        header = parse_log_header(log)
        assert header is not None, "DuckDB wrote this log just now"
        self._header = log[: header.size]
        payloads = [bytes(payload) for payload in frames.read_payloads(log, header.size)]
        self._use_table = [frames.frame(p) for p in payloads if frames.kind(p) == frames.USE_TABLE]
        self._commit = next(frames.frame(p) for p in payloads if frames.kind(p) == frames.COMMIT)
        connection.register_filesystem(self._files)

    @property
    def inserts(self) -> str:
        """The table of inserted rows in the order of the log: the table's stored columns."""
        return f"{self._name}.inserts"

    @property
    def deletes(self) -> str:
        """The table of deleted row ids: `row_id`."""
        return f"{self._name}.deletes"

    def values(self, column: int) -> str:
        """The table of new values of a stored column: `value`, `row_id`; of one row id the last is newest.

        A row whose column is NULL now has some value here all the same; see `nulls`.
        """
        return f"{self._name}.values_{column}"

    def nulls(self, column: int) -> str:
        """The table of new null flags of a stored column: `value` (NULL or not), `row_id`; as above."""
        return f"{self._name}.nulls_{column}"

    def close(self) -> None:
        """Take the twin's filesystem off the connection."""
        self._connection.unregister_filesystem(self._name)

    @contextlib.contextmanager
    def attached(self, payloads: Sequence[bytes]) -> Iterator[Decoded]:
        """The twin as these payloads of INSERT, DELETE and UPDATE frames of its table make it.

        Raises:
            NotUnderstood: a payload is none of those, or updates a part of a nested column.
            duckdb.Error: DuckDB cannot replay them.
        """
        log, used, last = [self._header], set(), -1
        for payload in payloads:
            table, insert = self._as_insert(payload)
            if table != last:
                log.append(self._use_table[table])
                used.add(table)
                last = table
            log.append(frames.frame(insert))
        log.append(self._commit)
        self._files.content["db.wal"] = b"".join(log)
        self._connection.execute(f"ATTACH '{self._name}://db' AS {self._name} (READ_ONLY)")
        try:
            of_columns = sorted(table - _OTHERS for table in used if table >= _OTHERS)
            yield Decoded(
                inserts=0 in used,
                deletes=1 in used,
                values=tuple(number // 2 for number in of_columns if number % 2 == 0),
                nulls=tuple(number // 2 for number in of_columns if number % 2 == 1),
            )
        finally:
            self._connection.execute(f"DETACH {self._name}")

    def _as_insert(self, payload: bytes) -> tuple[int, bytes]:
        """The number of the twin's table that the payload goes to, and the payload as an insert."""
        kind = frames.kind(payload)
        if kind == frames.INSERT:
            return 0, payload
        if kind == frames.DELETE:
            return 1, payload[:2] + bytes([frames.INSERT]) + payload[3:]
        if kind != frames.UPDATE:
            raise NotUnderstood(f"a log entry of type {kind}")
        path, at = _column_path(payload)
        table = _OTHERS + 2 * path[0] + (len(path) > 1)
        if path[1:] not in ([], [0]) or payload[at : at + 2] != _CHUNK or table >= len(self._use_table):
            raise NotUnderstood(f"an update of column path {path}")
        return table, payload[:2] + bytes([frames.INSERT]) + payload[3:5] + payload[at + 2 :]


def _column_path(payload: bytes) -> tuple[list[int], int]:
    """Field 101 of an UPDATE payload, and where it ends."""
    depth, at = frames.varint(payload, 5)
    path = []
    for _ in range(depth):
        column, at = frames.varint(payload, at)
        path.append(column)
    return path, at


def _write_twin(columns: Sequence[Column], files: MemoryFiles) -> bytes:
    """Let DuckDB write the twin once: its empty file to `files`, and a log that uses each table in turn."""
    stored = ", ".join(f"{identifier(column.name)} {column.type}" for column in columns)
    tables = {"inserts": stored, "deletes": "row_id BIGINT"}
    for number, column in enumerate(columns):
        tables[f"values_{number}"] = f"value {column.type}, row_id BIGINT"
        tables[f"nulls_{number}"] = "value BOOLEAN, row_id BIGINT"
    with tempfile.TemporaryDirectory(prefix="cdc-twin-") as directory:
        path = Path(directory, "db")
        with duckdb.connect(str(path)) as scratch:
            scratch.execute("PRAGMA disable_checkpoint_on_shutdown")
            for name, definition in tables.items():
                scratch.execute(f"CREATE TABLE {name} ({definition})")
            scratch.execute("CHECKPOINT")
            for name in tables:
                scratch.execute(f"INSERT INTO {name} DEFAULT VALUES")
        files.content["db"] = path.read_bytes()
        return path.with_name("db.wal").read_bytes()


class MemoryFiles(AbstractFileSystem):  # type: ignore[misc]
    """Files in memory, by name, for one DuckDB connection to read."""

    cachable = False  # fsspec would give every twin the same files

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol
        self.content: dict[str, bytes] = {}

    def info(self, path: str, **_: Any) -> dict[str, object]:
        name = path.rpartition("://")[2]
        if name not in self.content:
            raise FileNotFoundError(path)
        return {"name": name, "size": len(self.content[name]), "type": "file"}

    def open(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        name = path.rpartition("://")[2]
        if name not in self.content:
            raise FileNotFoundError(path)
        return io.BytesIO(self.content[name])

"""What do these frames of the log say? DuckDB decodes them: it replays them into a small twin database.

The twin has one table for inserted rows, one for deleted row ids, and two for each column, or each leaf of a
STRUCT: new values, and new null flags, with their row ids. All are plain, without keys, so every frame
becomes an insert:

* INSERT_TUPLE, `100 type, 101 chunk`, goes into the first as it is;
* DELETE_TUPLE, `100 type, 101 chunk of row ids`, differs from an insert by its type alone;
* UPDATE_TUPLE, `100 type, 101 column path, 102 chunk of value and row id`, loses its column path. The path
  `[column]` holds values, which say nothing of NULL; `[column, 0]` holds a BOOLEAN that is NULL or not; the
  members of a STRUCT follow, `[column, 1]` and so on, each with values and null flags of its own.

They stand behind a log header and USE_TABLE frames that DuckDB wrote for the twin itself. A frame that is
changed is framed again, once its own checksum was compared; DuckDB compares those of the others.
Replaying costs by the frames given, whatever the size of the log they come from; attaching costs by the
twin's tables, so a round of inserts is given the first alone, and another one those that were needed so far.
(DuckDB: wal_replay.cpp.)
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import tempfile
from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from cdc.change import Column
from cdc.source.format import frames
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.log import parse_log_header
from cdc.source.quote import definition

_numbers = itertools.count(1)  # attached databases and filesystems are named for all connections at once
_CHUNK = (102).to_bytes(2, "little")
_INSERT_TYPE = bytes((100, 0, frames.INSERT))
_KEPT = 64
"""Images kept for other twins of the same columns: each tail has two, and writing one takes some 20 ms."""
_INSERTS, _DELETES = "inserts", "deletes"

LeafPath = tuple[int, ...]
"""A column of an update, as DuckDB's log addresses it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Which tables of the attached twin hold rows."""

    inserts: bool
    deletes: bool
    updates: frozenset[LeafPath]

    @property
    def columns(self) -> list[int]:
        """Numbers of the stored columns that have new values or null flags."""
        return sorted({path[0] for path in self.updates})

    @property
    def nested(self) -> bool:
        """Whether members of a STRUCT have changed."""
        return any(path[1:] not in ((), (0,)) for path in self.updates)


@dataclass(frozen=True, slots=True)
class _Image:
    """A twin as DuckDB wrote it: its file, and the parts of which logs for it are made."""

    file: bytes
    header: bytes
    use_table: dict[str, bytes]


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
        stored = ", ".join(map(definition, columns))
        self.kinds = _kinds(stored)
        """The stored columns' types, as DuckDB's own objects."""
        self._leaves = dict(leaf for n, kind in enumerate(self.kinds) for leaf in _leaves_of(kind, (n,)))
        self._definitions = {_INSERTS: stored, _DELETES: "row_id BIGINT"}
        for path, kind in self._leaves.items():
            self._definitions[_table(path)] = f"value {kind}, row_id BIGINT"
        self._plain = self._grown = self._image([_INSERTS])
        connection.register_filesystem(self._files)

    @property
    def inserts(self) -> str:
        """The table of inserted rows in the order of the log: the table's stored columns."""
        return f"{self._name}.{_INSERTS}"

    @property
    def deletes(self) -> str:
        """The table of deleted row ids: `row_id`."""
        return f"{self._name}.{_DELETES}"

    def values(self, column: int) -> str:
        """The table of new values of a stored column: `value`, `row_id`; of one row id the last is newest.

        A row whose column is NULL now has some value here all the same; see `nulls`.
        """
        return self.leaf((column,))

    def nulls(self, column: int) -> str:
        """The table of new null flags of a stored column: `value` (NULL or not), `row_id`; as above."""
        return self.leaf((column, 0))

    def leaf(self, path: LeafPath) -> str:
        """The table of new values or null flags at `path`."""
        return f"{self._name}.{_table(path)}"

    def close(self) -> None:
        """Take the twin's filesystem off the connection, which must not have failed."""
        self._connection.unregister_filesystem(self._name)

    @contextlib.contextmanager
    def attached(self, changes: Sequence[bytes]) -> Iterator[Decoded]:
        """The twin as these INSERT, DELETE and UPDATE frames of its table make it.

        Raises:
            NotUnderstood: a frame is none of those, is damaged, or updates what is no column nor a member of
                one.
            duckdb.Error: DuckDB cannot replay them.
        """
        inserts = [self._as_insert(frame) for frame in changes]
        used = {table for table, _, _ in inserts}
        image = self._image_with(used)
        log, last = [image.header], ""
        for table, _, insert in inserts:
            if table != last:
                log.append(image.use_table[table])
                last = table
            log.append(insert)
        log.append(frames.COMMIT_FRAME)
        updates = frozenset(path for _, path, _ in inserts if path is not None)
        self._files.content = {"db": image.file, "db.wal": b"".join(log)}
        self._connection.execute(f"ATTACH '{self._name}://db' AS {self._name} (READ_ONLY)")
        try:
            yield Decoded(_INSERTS in used, _DELETES in used, updates)
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # rows are read of it still; a next attach will say so
                self._detach()
            raise
        self._detach()

    def _detach(self) -> None:
        self._connection.execute(f"DETACH {self._name}")

    def _image_with(self, tables: Set[str]) -> _Image:
        """An image that has these tables. Few are made: the second one only grows."""
        if tables <= self._plain.use_table.keys():
            return self._plain
        if not tables <= self._grown.use_table.keys():
            self._grown = self._image(tables | self._grown.use_table.keys())
        return self._grown

    def _image(self, tables: Collection[str]) -> _Image:
        chosen = ((name, stored) for name, stored in self._definitions.items() if name in tables)
        return _write_image(tuple(chosen))

    def _as_insert(self, frame: bytes) -> tuple[str, LeafPath | None, bytes]:
        """The twin's table that the frame goes to, what it updates, and the frame as an insert."""
        kind = frames.kind(frame)
        if kind == frames.INSERT:
            if (columns := frames.inserted_columns(frame)) != len(self.kinds):
                raise NotUnderstood(f"an insert of {columns} columns into {len(self.kinds)}")
            return _INSERTS, None, frame
        if not frames.is_sound(frame):
            raise NotUnderstood("a damaged log entry")
        if kind == frames.DELETE:
            return _DELETES, None, _insert_of(frame[frames.BODY :])
        if kind != frames.UPDATE:
            raise NotUnderstood(f"a log entry of type {kind}")
        path, at = _column_path(frame)
        if path not in self._leaves or frame[at : at + 2] != _CHUNK:
            raise NotUnderstood(f"an update of column path {list(path)}")
        return _table(path), path, _insert_of(frame[frames.BODY : frames.BODY + 2] + frame[at + 2 :])


def _table(path: LeafPath) -> str:
    return "_".join(["at", *map(str, path)])


def _insert_of(fields: bytes) -> bytes:
    """An INSERT frame with these fields behind its type."""
    return frames.make_frame(_INSERT_TYPE + fields)


def _column_path(frame: bytes) -> tuple[LeafPath, int]:
    """Field 101 of an UPDATE frame, and where it ends."""
    depth, at = frames.varint(frame, frames.BODY + 2)
    path = []
    for _ in range(depth):
        column, at = frames.varint(frame, at)
        path.append(column)
    return tuple(path), at


@functools.lru_cache(_KEPT)
def _kinds(stored: str) -> tuple[Any, ...]:
    with duckdb.connect() as scratch:
        scratch.execute(f"CREATE TABLE {_INSERTS} ({stored})")
        return tuple(scratch.table(_INSERTS).types)


def _leaves_of(kind: Any, path: LeafPath) -> Iterator[tuple[LeafPath, str]]:
    """The paths that updates of such a column may have, with the types of their values."""
    yield (*path, 0), "BOOLEAN"
    if kind.id != "struct":
        yield path, str(kind)
        return
    for number, (_, member) in enumerate(kind.children, 1):
        yield from _leaves_of(member, (*path, number))


@functools.lru_cache(_KEPT)
def _write_image(tables: tuple[tuple[str, str], ...]) -> _Image:
    """Let DuckDB write the twin with these tables once: its empty file, and a log that uses each in turn."""
    with tempfile.TemporaryDirectory(prefix="cdc-twin-") as directory:
        path = Path(directory, "db")
        with duckdb.connect(str(path)) as scratch:
            scratch.execute("PRAGMA disable_checkpoint_on_shutdown")
            for name, definition in tables:
                scratch.execute(f"CREATE TABLE {name} ({definition})")
            scratch.execute("CHECKPOINT")
            for name, _ in tables:
                scratch.execute(f"INSERT INTO {name} DEFAULT VALUES")
        file = path.read_bytes()
        log = path.with_name("db.wal").read_bytes()
    header = parse_log_header(log)
    assert header is not None, "DuckDB wrote this log just now"
    written = frames.read_frames(log, header.size)
    uses = [frame for frame in written if frames.kind(frame) == frames.USE_TABLE]
    return _Image(file, log[: header.size], dict(zip((name for name, _ in tables), uses, strict=True)))


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

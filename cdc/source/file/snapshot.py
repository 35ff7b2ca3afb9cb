"""A consistent read-only view of the database at one committed position, to query as long as it lasts.

A snapshot ends in one way only: a checkpoint of the writer supersedes it, and then everything it had not
delivered yet raises `SnapshotSuperseded`. What was delivered before is good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from cdc.change import Position, TableId, TableSchema
from cdc.clock import Clock
from cdc.closing import Closing
from cdc.errors import SnapshotSuperseded, SourceError
from cdc.source.events import NoEvents, SourceEvents
from cdc.source.file.catalog import read_tables
from cdc.source.file.direct import attach_when_free
from cdc.source.file.pin import Pin, Pinner
from cdc.source.file.session import Attachment, Session
from cdc.source.quote import identifier, literal, qualified

Parameters = Sequence[Any] | dict[str, Any]
Result = TypeVar("Result")

_SCHEMAS = """
SELECT schema_name FROM duckdb_schemas()
WHERE database_name = $1 AND NOT internal AND schema_name <> 'main' ORDER BY schema_name
"""

_ROWS = 122_880
"""Rows of an Arrow batch where the caller does not say: DuckDB's row group."""


class Attached:
    """A pinned database as attached to the session, shared by the snapshots of several readers."""

    def __init__(self, session: Session, pin: Pin, attachment: Attachment, direct: bool) -> None:
        self.session = session
        self.pin = pin
        self.attachment = attachment
        self.name = attachment.name
        self.direct = direct
        self.users = 0
        self.tables: tuple[TableSchema, ...] | None = None
        """What a snapshot found, for the others: as many tables begin at once as there are."""

    def shows(self, position: Position) -> bool:
        """Whether this is still attached, and the state at `position`."""
        lasting = self.attachment.generation == self.session.generation and not self.pin.superseded
        return lasting and self.pin.position == position

    def translated(self, operation: str) -> AbstractContextManager[None]:
        """See `Session.translated`."""
        return self.session.translated(self.pin, operation, self.attachment.generation)

    def close(self) -> None:
        self.session.detach(self.attachment)
        self.pin.close()


@dataclass(frozen=True, slots=True)
class Stream:
    """What a SELECT found."""

    schema: pa.Schema
    types: dict[str, str]
    """The columns' types in DuckDB's spelling."""
    batches: Iterator[pa.RecordBatch]

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, self.batches)


class Snapshot(Closing):
    """One reader's view, with a connection of its own; a context manager, for one thread."""

    def __init__(self, attached: Attached, release: Callable[[Attached], None]) -> None:
        self._attached = attached
        self._release = release
        try:
            self._cursor = attached.session.cursor(attached.attachment.generation)
        except BaseException:
            release(attached)
            raise
        self._default = False
        self._open = True

    def __repr__(self) -> str:
        return f"Snapshot({self._attached.pin!r})"

    @property
    def position(self) -> Position:
        return self._attached.pin.position

    @property
    def database(self) -> str:
        """The name the database is attached under, for qualified table names."""
        return self._attached.name

    @property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._cursor

    def interrupt(self) -> None:
        """End the query that runs, from any thread."""
        self._cursor.interrupt()

    def translated(self, operation: str) -> AbstractContextManager[None]:
        """Turn what fails within on this snapshot's cursor into SnapshotSuperseded or SourceError."""
        return self._attached.translated(operation)

    def relation(self, table: TableId) -> str:
        """The table's qualified name."""
        return qualified(self.database, table)

    def tables(self) -> tuple[TableSchema, ...]:
        """Every table, in order of schema and name.

        Raises:
            SnapshotSuperseded, SourceError: it cannot be read.
        """
        found = self._attached.tables
        if found is None:
            with self._attached.translated("list the tables of"):
                found = self._attached.tables = read_tables(self._cursor, self.database)
        return found

    def query(self, sql: str, parameters: Parameters | None = None) -> pa.RecordBatchReader:
        """Run one SELECT; unqualified names are DuckDB's own, then the source's, of its schema `main`
        first: no macro or view of the file stands for a function or table of DuckDB.

        The rows stream while the snapshot is open.

        Raises:
            SnapshotSuperseded, SourceError: also while the rows are read.
        """
        with self._attached.translated("query"):
            if not self._default:
                self._cursor.execute(f"SET search_path = {literal(self._search_path())}")
                self._default = True
        return self.stream(sql, parameters).reader()

    def stream(self, sql: str, parameters: Parameters | None = None, rows: int = _ROWS) -> Stream:
        """The rows of one SELECT as they come, in record batches of at most `rows`.

        Raises:
            SnapshotSuperseded, SourceError: also while the rows are read.
        """
        with self._attached.translated("query"):
            found = self._cursor.sql(sql, params=parameters)
            if found is None:
                raise SourceError("query", self._attached.pin.path, "there is no statement", "Write a SELECT")
            types = dict(zip(found.columns, map(str, found.types), strict=True))
            reader = found.to_arrow_reader(rows)
            return Stream(reader.schema, types, self._batches(reader))

    def single(self, sql: str, parameters: Parameters | None = None) -> int:
        """The number that a SELECT of one answers.

        Raises:
            SnapshotSuperseded, SourceError: it cannot be read.
        """
        return int(next(self.stream(sql, parameters).batches).column(0)[0].as_py())

    def _search_path(self) -> str:
        found = self._cursor.execute(_SCHEMAS, [self.database]).fetchall()
        own = ("main", *(schema for (schema,) in found))
        return ",".join(["system.main", *(f"{identifier(self.database)}.{identifier(each)}" for each in own)])

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            with self._attached.translated("query"):
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                if self._attached.direct:
                    # Closing any descriptor of a file drops this process's POSIX locks on it, so that a
                    # writer may have begun: only the headers tell.
                    self._attached.pin.verify()
            yield batch

    def close(self) -> None:
        if self._open:
            self._open = False
            self._cursor.close()
            self._release(self._attached)


class Snapshots:
    """Gives out snapshots of the newest position; readers at the same position share one attached database.

    The newest one stays attached while nobody uses it, so that several tables pay for one replay of the log.
    With `direct` nothing stays: the open file keeps its writer out.
    """

    def __init__(
        self,
        pinner: Pinner,
        session: Session,
        clock: Clock,
        events: SourceEvents | None = None,
        *,
        direct: bool = False,
    ) -> None:
        self._pinner = pinner
        self._session = session
        self._clock = clock
        self._events = events or NoEvents()
        self._direct = direct
        self._lock = threading.Lock()
        self._current: Attached | None = None
        self.superseded = 0
        """How many snapshots a checkpoint has overtaken."""
        self.ending = False
        """Whether to give up instead of retrying."""

    def take(self) -> Snapshot:
        """A snapshot of the newest committed state; one superseded while it is attached is retried at once.

        Raises:
            SourceError: the database cannot be read.
        """
        return self.retrying(lambda: Snapshot(self._acquire(), self._release))

    def run(self, work: Callable[[Snapshot], Result]) -> Result:
        """The result of `work` on a snapshot that lasted until its end."""

        def once() -> Result:
            with self.take() as snapshot:
                return work(snapshot)

        return self.retrying(once)

    def retrying(self, work: Callable[[], Result]) -> Result:
        """`work`, again for as long as a checkpoint supersedes what it reads."""
        while True:
            try:
                return work()
            except SnapshotSuperseded as error:
                self.overtaken(error)

    def overtaken(self, error: SnapshotSuperseded) -> None:
        """Count a snapshot that was superseded, before another is taken.

        Raises:
            SnapshotSuperseded: `error`, if this is to end instead.
        """
        self.superseded += 1
        self._events.snapshot_superseded()
        if self.ending:
            raise error

    def close(self) -> None:
        with self._lock:
            current, self._current = self._current, None
        if current is not None and not current.users:
            current.close()

    def _acquire(self) -> Attached:
        with self._lock:
            pin = self._pinner.pin()
            current = self._current
            if current is not None and current.shows(pin.position):
                pin.close()
                current.users += 1
                return current
            try:
                attachment = self._attach(pin)
            except BaseException:
                pin.close()
                raise
            self._current = Attached(self._session, pin, attachment, self._direct)
            self._current.users += 1
            if current is not None and not current.users:
                current.close()
            return self._current

    def _attach(self, pin: Pin) -> Attachment:
        if self._direct:
            return attach_when_free(self._session.attach, pin, self._clock)
        return self._session.attach(pin)

    def _release(self, attached: Attached) -> None:
        with self._lock:
            attached.users -= 1
            if attached.users:
                return
            if attached is self._current:
                if not self._direct and not attached.pin.superseded:
                    return
                self._current = None
            attached.close()

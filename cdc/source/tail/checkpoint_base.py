"""What was one table at the newest checkpoint, and which row ids do the rows after it get?

The log addresses rows by row id. Before DuckDB's 2.0 format a checkpoint numbers a table's stored rows, of
which some are deleted, from 0 on. In 2.0 it drops wholly deleted row groups and leaves a gap, and stores the
next free row id where no query shows it. Where a count leaves a doubt, DuckDB itself is asked: it replays
the first insert of the log on the file, and shows the row ids it gave.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass

import duckdb

from cdc.change import TableId
from cdc.errors import SnapshotSuperseded
from cdc.source.file.logs import PinnedLog
from cdc.source.file.pin import Pin, Pinner
from cdc.source.file.places import LOG
from cdc.source.file.session import Attachment, Session
from cdc.source.format import frames
from cdc.source.format.headers import Headers
from cdc.source.quote import qualified


@dataclass(slots=True)
class SharedBase:
    """The file as its newest checkpoint left it, attached for several tables."""

    pin: Pin
    attached: Attachment
    users: int = 1


class Bases:
    """Attaches the file as its newest checkpoint left it, without its log, once for the tails of all tables:
    each time it is attached DuckDB keeps a catalog of them all. Thread safe."""

    def __init__(self, pinner: Pinner, session: Session) -> None:
        self.pinner = pinner
        self.session = session
        self._lock = threading.Lock()
        self._newest: SharedBase | None = None

    def take(self, generation: int) -> SharedBase:
        """That of the newest checkpoint, attached to the DuckDB of `generation`; to be given back.

        Raises:
            SnapshotSuperseded, SourceError: the file cannot be attached.
        """
        pin = self.pinner.pin(logs=False)
        with self._lock:
            newest = self._newest
            if newest is not None and newest.attached.generation == generation and newest.pin.shows_what(pin):
                pin.close()
                newest.users += 1
                return newest
            try:
                self._newest = SharedBase(pin, self.session.attach(pin, generation=generation))
            except BaseException:
                pin.close()
                raise
            return self._newest

    def give_back(self, base: SharedBase) -> None:
        with self._lock:
            base.users -= 1
            if base.users:
                return
            if base is self._newest:
                self._newest = None
            self.session.detach(base.attached)
            base.pin.close()


class CheckpointBase:
    """One table in the file as its newest checkpoint left it; to be closed."""

    def __init__(
        self, bases: Bases, cursor: duckdb.DuckDBPyConnection, table: TableId, generation: int = 0
    ) -> None:
        """`generation` says which DuckDB of the session the `cursor` is of.

        Raises:
            SnapshotSuperseded, SourceError: the file cannot be attached.
        """
        self._bases = bases
        self._cursor = cursor
        self._table = table
        self._shared: SharedBase | None = bases.take(generation)
        self._pin, self._attached = self._shared.pin, self._shared.attached
        try:
            self._find()
        except BaseException:
            self.close()
            raise

    def _find(self) -> None:
        table = self._table
        self.iteration = self._pin.position.iteration
        self.relation = qualified(self._attached.name, table)
        found = self._cursor.execute(
            "SELECT estimated_size FROM duckdb_tables()"
            " WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [self._attached.name, table.schema, table.name],
        ).fetchall()  # to the end, or else the cursor serves nothing but this
        self.exists = bool(found)
        """Whether the table was there already."""
        self.stored_rows = int(found[0][0]) if found else 0
        """Rows in the file, deleted ones included."""

    @property
    def headers(self) -> Headers:
        """The file's."""
        return self._pin.headers

    def verify(self) -> None:
        """Raises:
        SnapshotSuperseded: a later checkpoint has overtaken the file.
        """
        self._pin.verify()

    def next_row_id(self, header: bytes, use_table: bytes, insert: bytes) -> int:
        """The row id of the first row inserted after the checkpoint.

        Args:
            header: the bytes before the first frame of the log after it.
            use_table, insert: the frames of the first insert into the table in that log.

        Raises:
            SnapshotSuperseded, SourceError, duckdb.Error: the file cannot be read.
        """
        if not self.exists:
            return 0
        [(live,)] = self._cursor.execute(f"SELECT count(*) FROM {self.relation}").fetchall()
        if live and live == self.stored_rows:
            last = f"SELECT max(rowid) FROM {self.relation} WHERE rowid >= {live - 1}"
            return int(self._cursor.execute(last).fetchall()[0][0]) + 1
        log = b"".join((header, use_table, insert, frames.COMMIT_FRAME))
        with self._bases.pinner.pin(logs=False) as pin, tempfile.TemporaryFile() as file:
            if pin.position.iteration != self.iteration:
                raise SnapshotSuperseded("read", pin.path, "a checkpoint overtook it", "Take a new snapshot")
            file.write(log)
            file.flush()
            pin.logs = {LOG: PinnedLog(file.fileno(), len(log))}
            attached = self._bases.session.attach(pin, generation=self._attached.generation)
            try:
                sql = f"SELECT max(rowid) FROM {qualified(attached.name, self._table)}"
                [(last_row_id,)] = self._cursor.execute(sql).fetchall()
            finally:
                self._bases.session.detach(attached)
        return int(last_row_id) + 1 - frames.inserted_rows(insert)

    def close(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            self._bases.give_back(shared)

"""Which rows of one table did the newest commits change, at the price of those commits alone?

The tail follows the log, the twin decodes it, and touched rows are kept as they now are. The tail stands
beside the snapshots, never instead of them: it starts where a snapshot has read, and whenever it meets what
it cannot follow (a change of the catalog, a bulk load that left row groups in the file, an update inside a
nested column, missing commits) it says `Lost`, and a snapshot reads on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from cdc.change import Column, Position, TableId
from cdc.errors import SnapshotSuperseded
from cdc.source.file.passing import PassingLogs
from cdc.source.file.session import FATAL
from cdc.source.format import frames
from cdc.source.format.frames import NotUnderstood
from cdc.source.format.layouts import NotDecodable
from cdc.source.tail.checkpoint_base import Bases, CheckpointBase
from cdc.source.tail.checkpoints import Checkpoints
from cdc.source.tail.direct import Decoding, DirectReader
from cdc.source.tail.follow import AnotherHistory, Commits, LogFollower, NotFollowable
from cdc.source.tail.leaves import RowIds
from cdc.source.tail.mirrored import MirroredRows
from cdc.source.tail.round import DecodedRows, Queries, Round, RoundView
from cdc.source.tail.touched import Changes
from cdc.source.tail.twin import Twin

_ROW_CHANGES = (frames.INSERT, frames.DELETE, frames.UPDATE)
_CATALOG_CHANGES = (frames.DROP_TABLE, frames.DROP_SCHEMA, frames.ALTER)
_SMALL_BYTES = 4 << 20
"""Of log: more than that is what a commit of 50,000 trades writes."""
_ROW_ID = "rowid"
"""What DuckDB calls a row's id, unless a column is named so."""
_KEEPS_COLUMNS = {6, 7, 8, 9, 10, 11}
"""Of DuckDB's AlterTableType: default, foreign key, not null, comment, constraint."""


class Lost(Exception):
    """The tail cannot say what changed; the message says why. A snapshot must be read, and a tail begun anew.

    `passing`: what happened is over, and a new tail may start at once; otherwise not before a checkpoint.
    `broken`: what the file holds is not the continuation of what was handed out.
    `recreated`: the table was dropped. `first_row_id`: rows from there on were inserted and not handed out.
    """

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        broken: bool = False,
        recreated: bool = False,
        first_row_id: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.passing = passing or broken
        self.broken = broken
        self.recreated = recreated
        self.first_row_id = first_row_id


class Tail:
    """The tail of one table, for one thread."""

    def __init__(
        self,
        table: TableId,
        columns: Sequence[Column],
        key: Sequence[str],
        bases: Bases,
        passing: PassingLogs | None = None,
        *,
        filter: str | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        """`columns` are all the table's columns, in order.

        Raises:
            Lost: a column cannot be spelled for the twin, or its name hides the row ids.
        """
        hiding = next((column.name for column in columns if column.name.lower() == _ROW_ID), None)
        if hiding is not None:
            raise Lost(f"a column is named {hiding}, and hides DuckDB's row ids")
        self._table = table
        self._columns = columns
        self._types = {column.name: column.type for column in columns}
        self._key = key
        self._filter = filter
        self._bases = bases
        self._pinner, self._session = bases.pinner, bases.session
        self._follower = LogFollower(bases.pinner, passing)
        self._touched: MirroredRows | None = None
        self.cursor, self._generation = bases.session.connect()
        self._queries = Queries(self.cursor)
        stored = [column.name for column in columns if column.generated is None]
        self.checkpoints = Checkpoints(self.cursor, stored)
        try:
            self._twin = Twin(self.cursor, columns)
        except duckdb.Error as error:
            self.cursor.close()
            raise self.failed(error) from error
        self._direct = DirectReader(
            decoding or Decoding(enabled=False),
            table,
            columns,
            self._twin,
            self.cursor,
            filtered=filter is not None,
        )

    @property
    def position(self) -> Position:
        """Everything up to here was handed out."""
        return self._follower.position

    @property
    def base(self) -> CheckpointBase:
        """The file as the checkpoint before the present log left it."""
        assert self._touched is not None, "start() came first"
        return self._touched.base

    @property
    def touched(self) -> RowIds:
        """Row ids of stored rows that the present log has updated or deleted so far."""
        assert self._touched is not None, "start() came first"
        return self._touched.logged().touched

    def start(self, since: Position | None, *, whole_log: bool = False) -> bool:
        """Go on from `since` if its log is still there, as it was up to there, else from here, or from the
        beginning of the `whole_log`; answers whether it was.

        What was committed before is for a snapshot to read, after this.

        Raises:
            Lost: the log cannot be followed.
            SourceError: the file cannot be read.
        """
        newest = self._pinner.position()
        resumed = since is not None and self._pinner.proves(since)
        place = replace(newest, offset=0, proof=None) if whole_log else newest
        if resumed and since is not None:
            place = replace(newest, offset=since.offset, proof=since.proof)
        with self._losing():
            commits = self._follower.start(place)
            self._begin(commits.position)
            for _ in self._apply(commits):
                pass
        return resumed

    def rounds(self) -> Iterator[Round]:
        """The commits since the last call: one round for each log they are in.

        Raises:
            Lost: it cannot be said what they changed.
            SourceError: the file cannot be read.
        """
        with self._losing():
            coming = self._follower.look()
            while coming:
                commits = coming.pop(0)
                if commits.checkpointed:
                    self._begin(commits.position)
                    self.checkpoints.explained &= not commits.missing
                try:
                    yield from self._apply(commits)
                except SnapshotSuperseded:
                    coming = coming or self._follower.look()
                    if coming and not coming[0].checkpointed:
                        commits = commits.and_then(coming.pop(0))
                    self._move_to_next_base(commits)
                    yield from self._apply(commits)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (NotFollowable, NotUnderstood, duckdb.Error) as error:
            raise self.failed(error) from error
        except SnapshotSuperseded as error:
            raise Lost(error.problem, passing=True) from error

    def failed(self, error: Exception) -> Lost:
        """What `error` means. If DuckDB has ended, in which several tails work, it is started afresh once.

        The one that it ends by time and again is not to be followed: it would take the others with it.
        """
        if isinstance(error, FATAL):
            self._session.restart(self._generation, str(error))
        touched_rows = self._touched
        overtaken = (
            touched_rows is not None and self._pinner.position().iteration > touched_rows.base.iteration
        )
        ended = self._session.replaced(self._generation, error)
        broken = isinstance(error, AnotherHistory)
        return Lost(str(error).partition("\n")[0], passing=overtaken or ended, broken=broken)

    def close(self) -> None:
        if self._touched is not None:
            self._touched.base.close()
        self._follower.close()
        self.cursor.close()

    def _apply(self, commits: Commits) -> Iterator[Round]:
        touched_rows = self._touched
        assert touched_rows is not None, "start() came first"
        use_table, own = self._of_this_table(commits.frames)
        if not own:
            yield Round(commits.position, checkpointed=commits.checkpointed, unread=commits.unread)
            return
        inserts = [frame for frame in own if frames.kind(frame) == frames.INSERT]
        if inserts and not touched_rows.numbered:
            touched_rows.number_from(
                touched_rows.base.next_row_id(self._follower.header, use_table, inserts[0])
            )
        read = self._direct.read(own)
        checked = read is not None and self._direct.is_to_be_checked(own)
        if read is not None and self._direct.decoder is not None and not checked:
            try:
                changes = touched_rows.take_in(read, inserts, self._direct.decoder)
            except NotDecodable:
                self._direct.surprised()
            else:
                yield self._round(commits, changes)
                return
        with self._twin.attached(own) as decoded:
            if read is not None and checked:
                self._direct.check(read, decoded, own)
            yield self._round(commits, touched_rows.apply(decoded, inserts))

    def _round(self, commits: Commits, changes: Changes) -> Round:
        small = sum(map(len, commits.frames)) <= _SMALL_BYTES

        def view(name: str, rows: str | pa.RecordBatch | None) -> RoundView | DecodedRows | None:
            if rows is None:
                return None
            if isinstance(rows, str):
                return RoundView(commits.position, self.cursor, rows, self._queries, small)
            return DecodedRows(name, commits.position, self.cursor, rows, self._types)

        changed, removed, left = (
            view("changed", changes.changed),
            view("removed", changes.removed),
            view("left", changes.left),
        )
        return Round(
            commits.position, changed, removed, left, commits.checkpointed, commits.unread, changes.touched
        )

    def _of_this_table(self, committed: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
        """The frame that puts this table in use, and its row changes among those `committed`.

        Raises:
            Lost: its definition changed, or it got rows that are not in the log.
        """
        used: TableId | None = None
        use = own_use = b""
        own: list[bytes] = []
        for frame in committed:
            kind = frames.kind(frame)
            if kind == frames.USE_TABLE:
                if frame != use:
                    use, used = frame, frames.used_table(frame)
                    own_use = frame if used == self._table else own_use
            elif kind in _CATALOG_CHANGES:
                if self._concerns_its_rows(kind, frame):
                    dropped = kind != frames.ALTER
                    raise Lost("the table was altered or dropped", recreated=dropped)
            elif used == self._table and kind == frames.ROW_GROUPS:
                first = self._touched.next_row_id if self._touched is not None else None
                raise Lost("a bulk load left its rows in the file", first_row_id=first)
            elif used == self._table and kind in _ROW_CHANGES:
                own.append(frame)
        return own_use, own

    def _concerns_its_rows(self, kind: int, frame: bytes) -> bool:
        """Whether a change of the catalog may drop this table or give it other columns.

        A foreign key to a table alters it, and names both: its rows stay as they are.
        """
        if kind == frames.ALTER:
            altered, change = frames.altered_table(frame)
            return altered == self._table and change not in _KEEPS_COLUMNS
        return frames.may_concern(frame, self._table)

    def _begin(self, position: Position) -> None:
        """Start touched rows over the file as its newest checkpoint left it, which `position` must follow."""
        base = CheckpointBase(self._bases, self.cursor, self._table, self._generation)
        touched_rows = self._touched
        self.checkpoints.reached(base, None if touched_rows is None else touched_rows.logged())
        if touched_rows is None:
            self._touched = MirroredRows(
                self.cursor, self._twin, self._columns, self._key, base, self._filter
            )
        else:
            touched_rows.base.close()
            touched_rows.begin(base)
        self._direct.begin(base.headers)
        if base.iteration != position.iteration:
            raise Lost("a checkpoint followed a checkpoint", passing=True)

    def _move_to_next_base(self, last: Commits) -> None:
        """Fetch rows from the file as the checkpoint after the `last` commits of a log left it, where they
        stand in their present state under the same row ids, unless the checkpoint dropped rows.

        Raises:
            Lost: it did, or other rows came in besides.
        """
        touched_rows = self._touched
        assert touched_rows is not None
        before, inserted = touched_rows.base, touched_rows.inserted_rows
        _, own = self._of_this_table(last.frames)
        inserted += sum(frames.inserted_rows(frame) for frame in own if frames.kind(frame) == frames.INSERT)
        base = CheckpointBase(self._bases, self.cursor, self._table, self._generation)
        before.close()
        touched_rows.base = base
        if base.iteration != before.iteration + 1 or base.stored_rows != before.stored_rows + inserted:
            raise Lost("a checkpoint overtook the log", passing=True)

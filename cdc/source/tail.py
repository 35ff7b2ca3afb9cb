"""Which rows of one table did the newest commits change, at the price of those commits alone?

The tail follows the log, and lets the twin decode it and the mirror apply it. It stands beside the snapshots,
never instead of them: it starts where a snapshot has read, and whenever it meets what it cannot follow (a
change of the catalog, a bulk load that left row groups in the file, an update inside a nested column, missing
commits) it says `Lost`, and a snapshot reads on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from cdc.change import Column, Position, TableId
from cdc.errors import SnapshotSuperseded
from cdc.source import frames
from cdc.source.follow import Commits, LogFollower, NotFollowable
from cdc.source.frames import NotUnderstood
from cdc.source.mirror import CHANGED, REMOVED, Mirror
from cdc.source.pin import Pin, Pinner
from cdc.source.quote import identifier, qualified
from cdc.source.session import Session
from cdc.source.snapshot import Stream
from cdc.source.twin import Twin

_ROW_CHANGES = (frames.INSERT, frames.DELETE, frames.UPDATE)
_KEEPS_COLUMNS = {6, 7, 8, 9, 10, 11}
"""Of DuckDB's AlterTableType: default, foreign key, not null, comment, constraint. Rows stay as they are."""


class Lost(Exception):
    """The tail cannot say what changed; the message says why. A snapshot must be read, and a tail begun anew.

    `passing`: what happened is over, and a new tail may start at once; otherwise not before a checkpoint.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class RoundView:
    """The rows of a round, as they are now or as they were when they were deleted; until the next round."""

    position: Position
    cursor: duckdb.DuckDBPyConnection
    rows: str

    def relation(self, _: TableId) -> str:
        return self.rows

    def stream(self, sql: str, parameters: Sequence[str], rows: int) -> Stream:
        found = self.cursor.sql(sql, params=parameters)
        types = dict(zip(found.columns, map(str, found.types), strict=True))
        reader = found.to_arrow_reader(rows)
        return Stream(reader.schema, types, iter(reader))


@dataclass(frozen=True, slots=True)
class Round:
    """What some commits did to the table; None where they did nothing of the kind."""

    position: Position
    changed: RoundView | None
    """Rows inserted or updated, and not deleted."""
    removed: RoundView | None
    """Rows deleted, unless their key was inserted again."""
    checkpointed: bool
    """A checkpoint came before: compare with a snapshot, for a commit may have bypassed the log."""


class Tail:
    """The tail of one table, for one thread."""

    def __init__(
        self,
        table: TableId,
        columns: Sequence[Column],
        key: Sequence[str],
        pinner: Pinner,
        session: Session,
    ) -> None:
        """`columns` are all the table's stored columns, in order.

        Raises:
            Lost: a column's type cannot be spelled for the twin.
        """
        self._table = table
        self._columns = columns
        self._key = ", ".join(map(identifier, key))
        self._pinner = pinner
        self._session = session
        self._follower = LogFollower(pinner)
        self._base: tuple[Pin, str] | None = None
        self._mirror: Mirror | None = None
        self.cursor = session.cursor()
        try:
            self._twin = Twin(self.cursor, columns)
        except duckdb.Error as error:
            self.cursor.close()
            raise Lost(str(error).partition("\n")[0]) from error

    @property
    def position(self) -> Position:
        """Everything up to here was handed out."""
        return self._follower.position

    def start(self, since: Position | None) -> bool:
        """Go on from `since` if its log is still there, else from here; answers whether it was.

        What was committed before is for a snapshot to read, after this.

        Raises:
            Lost: the log cannot be followed.
            SourceError: the file cannot be read.
        """
        newest = self._pinner.position()
        resumed = since is not None and since.iteration == newest.iteration and since <= newest
        with self._losing():
            commits = self._follower.start(since if resumed and since is not None else newest)
            self._begin_mirror()
            self._apply(commits)
        return resumed

    def rounds(self) -> Iterator[Round]:
        """The commits since the last call: one round for each log they are in.

        Raises:
            Lost: it cannot be said what they changed.
            SourceError: the file cannot be read.
        """
        with self._losing():
            for commits in self._follower.look():
                if commits.missing:
                    raise Lost("commits came and went between two looks", passing=True)
                if commits.checkpointed:
                    self._begin_mirror()
                yield self._apply(commits)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (NotFollowable, NotUnderstood, duckdb.Error) as error:
            # DuckDB reports a checkpoint during its reads in many ways; only the headers tell
            overtaken = self._base is not None and self._base[0].is_superseded()
            raise Lost(str(error).partition("\n")[0], passing=overtaken) from error
        except SnapshotSuperseded as error:
            raise Lost(error.problem, passing=True) from error

    def close(self) -> None:
        self._detach_base()
        self._follower.close()
        self._twin.close()
        self.cursor.close()

    def _apply(self, commits: Commits) -> Round:
        assert self._mirror is not None, "start() came first"
        payloads = self._of_this_table(commits.payloads)
        if not payloads:
            return Round(commits.position, None, None, commits.checkpointed)
        with self._twin.attached(payloads) as decoded:
            self._mirror.apply(decoded)
        changed = decoded.inserts or decoded.values or decoded.nulls
        gone = f"(FROM {REMOVED} ANTI JOIN {CHANGED} USING ({self._key}))"
        return Round(
            commits.position,
            RoundView(commits.position, self.cursor, CHANGED) if changed else None,
            RoundView(commits.position, self.cursor, gone) if decoded.deletes else None,
            commits.checkpointed,
        )

    def _of_this_table(self, payloads: Sequence[bytes]) -> list[bytes]:
        """The row changes of this table among `payloads`.

        Raises:
            Lost: the catalog changed, or the table got rows that are not in the log.
        """
        used: TableId | None = None
        use: bytes = b""
        own: list[bytes] = []
        for payload in payloads:
            kind = frames.kind(payload)
            if kind == frames.USE_TABLE:
                if payload != use:
                    use, used = payload, frames.used_table(payload)
            elif self._is_another_table_after(kind, payload):
                raise Lost("the table was altered or dropped")
            elif used == self._table and kind == frames.ROW_GROUPS:
                raise Lost("a bulk load left its rows in the file")
            elif used == self._table and kind in _ROW_CHANGES:
                own.append(payload)
        return own

    def _is_another_table_after(self, kind: int, payload: bytes) -> bool:
        """Whether this change of the catalog drops the table or gives it other columns."""
        if kind == frames.ALTER:
            table, change = frames.altered_table(payload)
            return table == self._table and change not in _KEEPS_COLUMNS
        if kind == frames.DROP_TABLE:
            return frames.used_table(payload) == self._table
        return kind == frames.DROP_SCHEMA

    def _begin_mirror(self) -> None:
        """A new mirror over the file as its newest checkpoint left it."""
        self._detach_base()
        pin = self._pinner.pin().without_logs()
        try:
            name = self._session.attach(pin)
        except BaseException:
            pin.close()
            raise
        self._base = pin, name
        table = qualified(name, self._table)
        stored = self.cursor.execute(
            "SELECT estimated_size FROM duckdb_tables()"
            " WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [name, self._table.schema, self._table.name],
        ).fetchone()
        self._mirror = Mirror(
            self.cursor, self._twin, self._columns, stored[0] if stored else 0, lambda: table
        )

    def _detach_base(self) -> None:
        if self._base is not None:
            pin, name = self._base
            self._base = None
            self._session.detach(name)
            pin.close()

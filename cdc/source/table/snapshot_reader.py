"""Reads one table past its mark, in watermark order: what is new, what is late, and at first everything.

A read that follows the previous one takes one snapshot and one query from the mark less the overlap on. A
first read, or one that a checkpoint overtook, is cut into pieces, each of which may have its own snapshot; a
piece that is overtaken is halved, one that succeeds is followed by a larger one, so that a busy writer slows
reading down and never stops it. After the pieces, the end is read once more from the overlap before it: rows
that were committed late while the pieces were read are found there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa

from cdc.change import Batch, Mark, Position, TablePlan
from cdc.clock import Clock
from cdc.errors import SnapshotSuperseded
from cdc.source.file.session import KeptCursor, Session
from cdc.source.file.snapshot import Snapshot
from cdc.source.quote import identifier, qualified
from cdc.source.table.altered import check_columns, explained
from cdc.source.table.batching import rebatch
from cdc.source.table.marking import Marking
from cdc.source.table.ordering import Undecided, in_order
from cdc.source.table.overlap import Window, hash_of
from cdc.source.table.own_columns import OwnColumns
from cdc.source.table.ranges import Range, Selection, columns, cut, order
from cdc.source.table.repeated_keys import hidden, shown
from cdc.source.table.versions import check_version_column
from cdc.source.table.view import KnowsRepeatedKeys, ReadState, RoundRows, TakesSnapshots, View

PIECE_ROWS = 50_000
"""Rows of the least piece: some 20 ms of reading, where writers checkpoint every 100 ms at the worst."""
_FIRST_PIECES = 2
_MOST_PIECES = 4
"""Pieces read at once and sorted in memory. More are no faster: 20 take 80 MB more for the same 5 million
rows a second."""
_UNDECIDED_ROUNDS = 100
_SHOWN = "cdc_shown_keys"
_DELETED = "CAST(0 AS UBIGINT)"
"""Stands for the hash of a deleted row, so that the same row, inserted again, is not taken for sent."""


@dataclass(slots=True)
class _Rest:
    """The rows at the end of one piece that do not fill a batch: the next piece's first."""

    rows: list[pa.RecordBatch] = field(default_factory=list)
    keep: bool = False
    """Another piece follows."""


class SnapshotReader:
    """Reads one table through snapshots. For one thread; a context manager is not needed, `close` is."""

    def __init__(
        self,
        plan: TablePlan,
        snapshots: TakesSnapshots,
        session: Session,
        clock: Clock,
        max_skew_seconds: float,
        repeated: KnowsRepeatedKeys,
        piece_rows: int = PIECE_ROWS,
    ) -> None:
        check_version_column(plan)
        self._plan = plan
        self._own = OwnColumns.of(plan)
        self._snapshots = snapshots
        self._clock = clock
        self._marking = Marking(plan, max_skew_seconds)
        self._repeated = repeated
        self._piece_rows = piece_rows
        self._connection = KeptCursor(session)
        self._window = Window(plan)
        self._names = list(plan.column_names)
        self._selected = f"{columns(plan)}, {hash_of(plan)} AS {self._own.hash}"
        self._undecided = 0
        """Rounds that DuckDB is to put in order, after one that could not be without it."""
        self._unacknowledged: dict[int, tuple[Batch, pa.RecordBatch]] = {}
        self._followed = False
        self._complete_at: Position | None = None
        """Where the last read found its end: there is nothing more while the position is this."""
        self.resume_from: Position | None = None
        """Where a tail is to go on once the batches made now are delivered; None: where each was read."""

    def __repr__(self) -> str:
        return f"SnapshotReader({self._plan.table}, {len(self._window)} rows in the window)"

    @property
    def updates_move_the_mark(self) -> bool:
        """Whether a snapshot past the mark shows every updated row: its version is its watermark."""
        return self._plan.version == self._plan.watermark.name

    @property
    def complete_at(self) -> Position | None:
        """Where the last read of a snapshot found its end; None while one goes on."""
        return self._complete_at

    @property
    def plan(self) -> TablePlan:
        return self._plan

    def begin(self) -> None:
        """Begin a read: what the one before handed out and was not acknowledged is to be handed out again."""
        for _, rows in self._unacknowledged.values():
            self._connection.run(partial(self._window.forget, rows))
            self._complete_at = None
        self._unacknowledged.clear()

    def past(self, standing: ReadState, *, everything: bool = False) -> Generator[Batch, None, ReadState]:
        """The rows past the mark less the overlap, or `everything`, in batches.

        Rows without a watermark, or with one too far in the future, are handed out and do not move the mark.

        Raises:
            SourceError: the source cannot be read, or its table no longer matches the plan.
        """
        complete, self._complete_at = self._complete_at, None
        low = None if everything else self.low(standing.mark)
        self._connection.run(partial(self._window.sweep, low))
        if not self._followed:
            self._repeated.count(self._plan)
        in_pieces = everything or not self._followed
        while True:
            if in_pieces:
                low, standing = yield from self._pieces(low, standing)
            try:
                with self._snapshots.take() as snapshot:
                    if snapshot.position != complete or everything:
                        standing = yield from self._stream(snapshot, Range(low=low), standing, low)
                        if self._plan.watermark.nullable:
                            standing = yield from self._stream(snapshot, None, standing, low)
                    self._complete_at = snapshot.position
            except SnapshotSuperseded as error:
                self._snapshots.overtaken(error)
                in_pieces = True
                continue
            self._followed = True
            return standing

    def between(
        self, first: int, end: int, iteration: int, before: Mark | None, standing: ReadState
    ) -> Generator[Batch, None, ReadState]:
        """The rows with `first <= row id < end` in the file that the checkpoint `iteration` left, but for
        those that `past` reads, from the mark `before` on. They do not move the mark.

        Raises:
            SnapshotSuperseded: another checkpoint came.
            SourceError: the source cannot be read, or its table no longer matches the plan.
        """
        low = self.low(before)
        if low is None:
            return standing
        with self._snapshots.take() as snapshot:
            if snapshot.position.iteration != iteration:
                raise SnapshotSuperseded("read", self._plan.table, "a checkpoint came", "Read it again")
            selection = Selection(self._plan)
            where = f"{selection.within(Range(high=low))} AND rowid >= {first} AND rowid < {end}"
            rows = self._rows(snapshot, "FALSE", hash_of(self._plan), where)
            return (yield from self._batches(snapshot, rows, selection, standing))

    def changes(
        self, view: RoundRows, standing: ReadState, *, known: bool, moving: bool, removed: bool = False
    ) -> Generator[Batch, None, ReadState]:
        """Batches of all rows of `view`, which hold the newest changes and nothing else.

        Args:
            known: leave out those that were handed out in this very state.
            moving: they may move the mark.
            removed: they are deletions, which never do.

        Raises:
            SourceError: the table no longer matches the plan.
        """
        if not self._plan.unique_key and (removed or self._repeated.known(self._plan)):
            return (yield from self._shown(view, standing, moving=moving, removed=removed))
        if view.small and not known and (view.decoded is not None or not removed):
            mark = None if removed else standing.mark
            found = self._in_order(view, mark, moving=moving, removed=removed)
            if found is not None:
                return (yield from self._handed_out(found, view.position, standing, removed=removed))
        selection = Selection(self._plan)
        moves = self._moves(selection, standing.mark) if moving and not removed else "FALSE"
        hashed = _DELETED if removed else hash_of(self._plan)
        rows = self._rows(view, moves, hashed, selection.filter())
        sql = self._window.unsent(rows, view.cursor) if known else rows
        return (yield from self._batches(view, sql, selection, standing, removed=removed))

    def acknowledged(self, batch: Batch) -> None:
        """`batch` is in the target: its rows need not be read again while they stay as they are."""
        self._unacknowledged.pop(id(batch), None)

    def rows_behind(self, after: Mark | None) -> int:
        """Rows of the newest snapshot past `after`, for the status.

        Raises:
            SourceError: the source cannot be read.
        """
        selection = Selection(self._plan)
        where = selection.within(Range(after=after))

        def count(snapshot: Snapshot) -> int:
            table = qualified(snapshot.database, self._plan.table)
            with explained(snapshot.cursor, table, self._plan):
                return snapshot.single(f"SELECT count(*) FROM {table} WHERE {where}", selection.parameters)

        return self._snapshots.run(count)

    def close(self) -> None:
        self._unacknowledged.clear()
        self._connection.close()

    def sweep(self, mark: Mark | None) -> None:
        """Forget what was handed out before the overlap that ends at `mark`."""
        self._connection.run(partial(self._window.sweep, self.low(mark)))

    def low(self, mark: Mark | None) -> str | None:
        """The least watermark that `past` reads from `mark` on; None: it reads all."""
        return None if mark is None else self._marking.low(mark.watermark)

    def _pieces(
        self, low: str | None, standing: ReadState
    ) -> Generator[Batch, None, tuple[str | None, ReadState]]:
        """The rows from `low` to near the end, in pieces; answers where to read on from."""
        places = self._snapshots.run(lambda snapshot: cut(snapshot, self._plan, low, self._piece_rows))
        if not places:
            return low, standing
        end = self.low(places[-1])
        done, width = 0, _FIRST_PIECES
        rest = _Rest()
        while done < len(places):
            width = min(width, len(places) - done)
            bounds = Range(
                low=low if done == 0 else None,
                after=places[done - 1] if done else None,
                upto=places[done + width - 1],
            )
            try:
                with self._snapshots.take() as snapshot:
                    rest.keep = done + width < len(places)
                    standing = yield from self._stream(snapshot, bounds, standing, end, rest)
            except SnapshotSuperseded as error:
                self._snapshots.overtaken(error)
                width = max(1, width // 2)
                continue
            done += width
            width = min(2 * width, _MOST_PIECES)
        return end, standing

    def _stream(
        self,
        view: Snapshot,
        bounds: Range | None,
        standing: ReadState,
        remember_from: str | None,
        rest: _Rest | None = None,
    ) -> Generator[Batch, None, ReadState]:
        """Batches of the rows within `bounds`, or of those without a watermark if it is None.

        Rows from `remember_from` on get a hash, by which they are known once they are acknowledged.
        """
        plan, selection = self._plan, Selection(self._plan)
        column = identifier(plan.watermark.name)
        hashed, moves = hash_of(plan), "FALSE"
        if bounds is None:
            where = f"{selection.filter()} AND {column} IS NULL"
        else:
            if remember_from is not None and bounds.low != remember_from:
                start = selection.value(remember_from, plan.watermark.type)
                hashed = f"CASE WHEN {column} >= {start} THEN {hashed} END"
            moves = self._moves(selection, standing.mark)
            where = selection.within(bounds)
        rows = self._rows(view, moves, hashed, where)
        with view.translated("read"):
            unsent = self._window.unsent(rows, view.cursor)
        return (yield from self._batches(view, unsent, selection, standing, rest=rest))

    def _moves(self, selection: Selection, mark: Mark | None) -> str:
        """The condition that a row moves the mark: it lies past it, and not too far in the future."""
        moves = selection.past(mark)
        latest = self._marking.latest(self._clock.wall())
        if latest is None:
            return moves
        watermark = self._plan.watermark
        return f"{moves} AND {identifier(watermark.name)} <= {selection.value(latest, watermark.type)}"

    def _rows(self, view: View, moves: str, hashed: str, where: str) -> str:
        """The SELECT of delivered columns, of whether a row moves the mark, and of its hash."""
        own, relation = self._own, view.relation(self._plan.table)
        if isinstance(view, Snapshot) and not self._plan.unique_key and self._repeated.known(self._plan):
            where = f"({where}) AND rowid NOT IN ({hidden(self._plan, relation)})"
        return (
            f"SELECT {columns(self._plan)}, coalesce({moves}, FALSE) AS {own.moves}, {hashed} AS {own.hash} "
            f"FROM {relation} WHERE {where}"
        )

    def _shown(
        self, view: RoundRows, standing: ReadState, *, moving: bool, removed: bool
    ) -> Generator[Batch, None, ReadState]:
        """Of each key of `view` the row that the target is to show now, as a snapshot has it; of the keys of
        which there is none any more, the rows of `view` as deletions.

        The snapshot may be later than the view: what came in between is handed out once more, by the tail.
        """
        plan, own, within = self._plan, self._own, Selection(self._plan).filter()
        keys = ", ".join(map(identifier, plan.key))
        relation = view.relation(plan.table)
        wanted = view.stream(
            f"SELECT DISTINCT {keys} FROM {relation} WHERE {within}", (), standing.limits.rows
        ).reader()
        table = wanted.read_all()
        if not table.num_rows:
            return standing
        while True:
            try:
                with self._snapshots.take() as snapshot:
                    position = snapshot.position
                    selection = Selection(plan)
                    moves = "FALSE"
                    if moving and not removed and position == view.position:
                        moves = self._moves(selection, standing.mark)
                    selected = (
                        f"{columns(plan)}, coalesce({moves}, FALSE) AS {own.moves}, "
                        f"{hash_of(plan)} AS {own.hash}"
                    )
                    found = shown(snapshot, plan, table, selected, selection, own.rows)
            except SnapshotSuperseded as error:
                self._snapshots.overtaken(error)
                continue
            break
        counts = found.column(own.rows).to_numpy()
        # Where the very state after a deletion has another row of its key, there were two.
        several = np.flatnonzero(counts >= (1 if removed and position == view.position else 2))
        if len(several):
            [row] = found.slice(int(several[0]), 1).combine_chunks().to_batches()
            place = self._connection.run(partial(self._marking.place, row))
            self._repeated.noticed(plan, place.key)
        rows = found.drop_columns([own.rows])
        standing = yield from self._handed_out(rows.to_batches(), position, standing)
        if not removed:
            return standing
        gone = self._rows(view, "FALSE", _DELETED, within)
        names = map(identifier, plan.key)
        same = " AND ".join(f"gone.{name} IS NOT DISTINCT FROM here.{name}" for name in names)
        others = f"SELECT gone.* FROM ({gone}) AS gone ANTI JOIN temp.{_SHOWN} AS here ON {same}"
        view.cursor.register(_SHOWN, rows.select(list(plan.key)))
        batches = list(view.stream(others, (), standing.limits.rows).batches)
        view.cursor.unregister(_SHOWN)
        return (yield from self._handed_out(batches, position, standing, removed=True))

    def _in_order(
        self, view: RoundRows, mark: Mark | None, *, moving: bool, removed: bool
    ) -> list[pa.RecordBatch] | None:
        """The rows of `view` with the columns of `_rows`, put in order without DuckDB, whose planner is most
        of what a few rows cost; None where it must do it."""
        if self._undecided and not removed:
            self._undecided -= 1
            return None
        rows = self._decoded(view) if view.decoded is not None else self._selected_rows(view)
        if not rows.num_rows:
            return []
        try:
            rows, moves = in_order(rows, self._plan, mark, self._marking.latest(self._clock.wall()))
        except Undecided:
            self._undecided = self._undecided if removed else _UNDECIDED_ROUNDS
            return None
        if removed:  # by the hash that `_DELETED` is
            moves &= False
            rows = rows.append_column(self._own.hash, pa.array(np.zeros(rows.num_rows, dtype=np.uint64)))
        return [rows.append_column(self._own.moves, pa.array(moves & moving))]

    def _decoded(self, view: RoundRows) -> pa.RecordBatch:
        """The rows of `view`, which were decoded without DuckDB and have no filter. They get a hash later."""
        check_columns(self._plan, view.types)
        assert view.decoded is not None, "the caller has seen it"
        return view.decoded.select(self._names)

    def _selected_rows(self, view: RoundRows) -> pa.RecordBatch:
        relation, selection = view.relation(self._plan.table), Selection(self._plan)
        sql = f"SELECT {self._selected} FROM {relation} WHERE {selection.filter()}"
        with explained(view.cursor, relation, self._plan):
            table, types = view.select(sql)
        check_columns(self._plan, types)
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)

    def _batches(
        self,
        view: View,
        sql: str,
        selection: Selection,
        standing: ReadState,
        *,
        removed: bool = False,
        rest: _Rest | None = None,
    ) -> Generator[Batch, None, ReadState]:
        sql = f"{sql} ORDER BY {order(self._plan)}"
        with explained(view.cursor, view.relation(self._plan.table), self._plan):
            found = view.stream(sql, selection.parameters, standing.limits.rows)
        check_columns(self._plan, found.types)
        found_rows, position = found.batches, view.position
        return (yield from self._handed_out(found_rows, position, standing, removed=removed, rest=rest))

    def _handed_out(
        self,
        found: Iterable[pa.RecordBatch],
        position: Position,
        standing: ReadState,
        *,
        removed: bool = False,
        rest: _Rest | None = None,
    ) -> Generator[Batch, None, ReadState]:
        """Batches within the limits of `found`, which are in order, and of the `rest` before them."""
        rest = rest or _Rest()
        read = (self._versioned(rows, position) for rows in found)
        before, handed_out = list(rest.rows), 0
        held: list[pa.RecordBatch] = []
        for rows in rebatch(chain(before, read), standing.limits):
            ready, held = [*held, rows], []
            if rest.keep and rows.num_rows < standing.limits.rows:
                held = [ready.pop()]
            for each in ready:
                handed_out += each.num_rows
                if handed_out >= sum(part.num_rows for part in before):
                    rest.rows = []  # not earlier: a checkpoint may come before they are handed out
                batch, standing = self._batch(each, position, standing, removed=removed)
                yield batch
        if rest.keep:
            rest.rows = held
        return standing

    def _versioned(self, rows: pa.RecordBatch, position: Position) -> pa.RecordBatch:
        """`rows` with their versions: a batch may hold rows that were read at several positions."""
        read_at = np.full(rows.num_rows, position.as_version(), dtype=np.uint64)
        return rows.append_column(self._own.read_at, pa.array(read_at))

    def _batch(
        self, rows: pa.RecordBatch, position: Position, standing: ReadState, *, removed: bool
    ) -> tuple[Batch, ReadState]:
        delivered = rows.select(self._names)
        moving = np.flatnonzero(rows.column(self._own.moves).to_numpy(zero_copy_only=False))
        last = delivered.slice(int(moving[-1]), 1) if len(moving) else None
        mark = None if last is None else self._connection.run(partial(self._marking.place, last))
        batch = Batch(
            plan=self._plan,
            rows=delivered,
            versions=rows.column(self._own.read_at),
            mark=mark,
            position=self.resume_from or position,
            seen_at=standing.seen_at,
            deleted=pa.array(np.ones(len(rows), dtype=bool)) if removed else None,
        )
        known = self._window.columns(rows)
        self._window.add(known)
        if self._window.many_without_hash:
            self._connection.run(self._window.hash_all)
        self._unacknowledged[id(batch)] = batch, known
        return batch, ReadState(mark or standing.mark, standing.limits, standing.seen_at)

"""Reads one table as its log grows, and with snapshots wherever the log alone cannot be trusted.

The order is always: put the tail at a position, read a snapshot past the mark, then hand out what the tail
finds. So nothing can fall between the two; what both find is delivered once, known by its key and hash. A
snapshot is read at first, after each checkpoint (a commit may have bypassed the log), and whenever the tail
is lost. While there is no tail, every read is a snapshot's.

A snapshot past the mark does not show updates of older rows. Where the tail may have missed some, the row
groups that the next checkpoint wrote anew are handed out again; a small table whole, where several
checkpoints came and went, as while nothing runs. What remains is said to be broken: large tables then, and
deletions that the log did not show; `cdc verify` mends those.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from cdc.change import Batch, BatchLimits, Mark, Position, TableId
from cdc.clock import Clock
from cdc.errors import SnapshotSuperseded
from cdc.source.events import SourceEvents
from cdc.source.gap import Gap
from cdc.source.groups import RowGroups
from cdc.source.pin import Pinner
from cdc.source.reader import SnapshotReader, Standing
from cdc.source.session import FATAL
from cdc.source.tail import Lost, Round, Tail

_MOST_ROWS_AGAIN = 1_000_000
"""Rows of a table that is handed out whole when it cannot be said what changed: about a second's delivery."""


_UNREAD = "a log, or the end of one, may have come and gone between two reads"
_LATE = "updates and deletions of rows before the mark are not seen before the writer's next checkpoint"


class TailingReader:
    """The reader of one table that the replicator uses; for one thread."""

    def __init__(
        self,
        table: TableId,
        reader: SnapshotReader,
        make_tail: Callable[[], Tail],
        pinner: Pinner,
        events: SourceEvents,
        clock: Clock,
        *,
        since: Position | None,
        deletes: bool,
    ) -> None:
        """
        Args:
            make_tail: a new tail of the table, not started; may raise Lost.
            since: the position of the last batch delivered, for the tail to go on from.
            deletes: hand out deleted rows too.
        """
        self._table = table
        self._reader = reader
        self._make_tail = make_tail
        self._pinner = pinner
        self._events = events
        self._clock = clock
        self._since = since
        self._deletes = deletes
        self._tail: Tail | None = None
        self._refused_in: int | None = None
        """The checkpoint whose log cannot be followed; a tail is tried again after the next one."""
        self._told = ""
        """Why there is no tail, as was told."""
        self._warned = False
        """It was told that updates may be seen late."""
        self._snapshot_due = True
        self._recreated = False
        """The table was dropped and created again: what it holds was not there before."""
        self._overlaps = False
        """The tail's next rounds may hold what a snapshot has handed out already."""
        self._groups: RowGroups | None = None
        """The row groups of the last checkpoint that everything is handed out of, but for `_unseen`."""
        self._unseen = False
        """Updates or deletions since that checkpoint may not have been handed out."""
        self._again: list[int] = []
        """Numbers of the row groups that are to be handed out again for that."""
        self._inserted_from: int | None = None
        """The row id of the first row that is in the log, and not among its frames."""
        self._gap = Gap(reader.key, lambda rows: events.tail_gap(table, rows))

    def __repr__(self) -> str:
        return f"TailingReader({self._table}, {'tail' if self._tail else 'snapshots'})"

    def read(self, after: Mark | None, limits: BatchLimits) -> Generator[Batch, None, None]:
        """Rows committed and not yet acknowledged, in batches within `limits`; see `SnapshotReader.read`.

        Updated rows are among them wherever they lie, as long as the log can be followed.

        Raises:
            SourceError: the source cannot be read, or its table no longer matches the plan.
        """
        self._reader.begin()
        standing = Standing(after, limits, self._clock.monotonic())
        if not self._snapshot_due:
            standing = yield from self._rounds(standing, moving=True)
        while self._snapshot_due:
            if self._tail is None:
                self._start_tail()
            self._snapshot_due = self._tail is None
            before = standing.mark
            standing = yield from self._snapshot(standing)
            standing = yield from self._rewritten(before, standing)
            if self._tail is None:
                return
            standing = yield from self._rounds(standing, moving=True)
        self._gap.end()

    def acknowledged(self, batch: Batch) -> None:
        """See `SnapshotReader.acknowledged`."""
        self._reader.acknowledged(batch)

    def rows_behind(self, after: Mark | None) -> int:
        """See `SnapshotReader.rows_behind`."""
        return self._reader.rows_behind(after)

    def close(self) -> None:
        self._drop_tail()
        self._reader.close()

    def _snapshot(self, standing: Standing) -> Generator[Batch, None, Standing]:
        """What a snapshot has past the mark. Between its batches the tail goes on: a backfill may outlast
        several logs. Its rows do not move the mark then, for there are rows before them still to be read."""
        everything, self._recreated = self._recreated, False
        for batch in self._reader.past(standing, everything=everything):
            yield batch
            if self._gap.counting:
                self._gap.found(batch.rows, self._pinner.position())
            standing = replace(standing, mark=batch.mark or standing.mark)
            if self._tail is not None:
                self._overlaps = True
                yield from self._rounds(standing, moving=False)
        if not self._snapshot_due:
            self._gap.complete()
        self._overlaps = True
        return standing

    def _rewritten(self, before: Mark | None, standing: Standing) -> Generator[Batch, None, Standing]:
        """The row groups in which changes went unseen, handed out again as far as the snapshot past the mark
        `before` did not show them."""
        groups = self._groups
        first, self._inserted_from = self._inserted_from, None
        try:
            if first is not None and groups is not None:
                standing = yield from self._reader.between(first, 1 << 62, groups.iteration, before, standing)
                first = None
            while self._again and groups is not None:
                standing = yield from self._reader.between(
                    *groups.row_ids(self._again[0]), groups.iteration, before, standing
                )
                self._again.pop(0)
        except SnapshotSuperseded:
            if groups is not None:
                left = self._again if first is None else range(len(groups.digests))
                self._groups, self._unseen = groups.without(left), True
            self._again.clear()
        return standing

    def _rounds(self, standing: Standing, *, moving: bool) -> Generator[Batch, None, Standing]:
        """What the tail has found since the last time."""
        if self._tail is None:
            return standing
        try:
            for found in self._tail.rounds():
                views = [(view, n == 1) for n, view in enumerate((found.changed, found.removed)) if view]
                for view, _ in views:
                    self._gap.shown(view.rows, view.cursor)
                if found.checkpointed:
                    self._compare_after(found, self._tail)
                    self._checkpointed(self._tail)
                known = self._overlaps
                for view, removed in views:
                    if self._deletes or not removed:
                        standing = yield from self._reader.changes(
                            view, standing, known=known, moving=moving, removed=removed
                        )
                # Batches of this round were stamped with where the tail was before it: if not all of them
                # are delivered, the round is found again.
                self._reader.resume_from = found.position
                self._snapshot_due |= found.checkpointed
            self._gap.passed(self._tail.position, self._tail.cursor)
            if moving:
                self._overlaps = False
        except Lost as lost:
            self._lose(lost)
        except FATAL as error:
            self._lose(self._tail.failed(error))
        return standing

    def _checkpointed(self, tail: Tail) -> None:
        """A tail stands on a new checkpoint: find out what came into it and was not handed out."""
        if tail.vanished and self._deletes:
            self._events.tail_broken(self._table, f"{tail.vanished} rows were deleted without the log")
        before, self._groups = self._groups, tail.groups
        if (
            self._unseen
            and self._deletes
            and (before is None or tail.groups is None or tail.groups.may_lack_rows_of(before))
        ):
            self._events.tail_broken(self._table, "rows may have been deleted while the log was not followed")
        if (self._unseen or not tail.explained) and tail.groups is not None:
            again = tail.groups.rewritten_since(before) if before is not None else None
            if again is None and tail.groups.stored_rows <= _MOST_ROWS_AGAIN:
                again, self._inserted_from = [], 0
            if again is None:
                self._events.tail_broken(self._table, "checkpoints came while the log was not followed")
            self._again = again or []
        self._unseen = False

    def _start_tail(self) -> None:
        iteration = self._pinner.position().iteration
        if self._refused_in == iteration:
            return
        try:
            self._tail = self._make_tail()
            resumed = self._tail.start(self._since)
        except Lost as lost:
            self._lose(lost)
            return
        if self._groups is None:
            self._unseen = self._since is not None and not resumed
            self._checkpointed(self._tail)
        elif self._tail.groups is not None and self._tail.groups.iteration > self._groups.iteration:
            self._checkpointed(self._tail)
        self._told = ""
        self._since = None
        self._refused_in = None
        self._reader.resume_from = self._tail.position

    def _lose(self, lost: Lost) -> None:
        """Read snapshots until a tail can be started again."""
        if str(lost) != self._told:  # a log that never can be followed is worth one event
            self._events.tail_lost(self._table, str(lost))
            self._told = str(lost)
        if not (lost.passing or self._warned or self._reader.updates_move_the_mark):
            self._warned = True
            self._events.tail_broken(self._table, f"{_LATE}: {lost}")
        self._refused_in = None if lost.passing else self._pinner.position().iteration
        self._snapshot_due = True
        self._unseen = True
        self._inserted_from = lost.first_row_id
        self._recreated |= lost.recreated
        self._gap.broken()
        self._drop_tail()

    def _drop_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _compare_after(self, found: Round, tail: Tail) -> None:
        """What the snapshot after a checkpoint finds is a gap, unless the log was not seen whole."""
        if found.unread:
            self._events.tail_lost(self._table, _UNREAD)
            self._gap.broken()
        else:
            self._gap.checkpoint(tail.appeared if self._reader.plan.filter is None else 0)

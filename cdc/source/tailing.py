"""Reads one table as its log grows, and with snapshots wherever the log alone cannot be trusted.

The order is always: put the tail at a position, read a snapshot past the mark, then hand out what the tail
finds. So nothing can fall between the two; what both find is delivered once, known by its key and hash. A
snapshot is read at first, after each checkpoint (a commit may have bypassed the log), and whenever the tail
is lost. While there is no tail, every read is a snapshot's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from cdc.change import Batch, BatchLimits, Mark, Position, TableId
from cdc.clock import Clock
from cdc.source.events import SourceEvents
from cdc.source.pin import Pinner
from cdc.source.reader import SnapshotReader, Standing
from cdc.source.tail import Lost, Tail


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
        self._snapshot_due = True
        self._overlaps = False
        """The tail's next rounds may hold what a snapshot has handed out already."""

    def __repr__(self) -> str:
        return f"TailingReader({self._table}, {'tail' if self._tail else 'snapshots'})"

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        """Rows committed and not yet acknowledged, in batches within `limits`; see `SnapshotReader.read`.

        Updated rows are among them wherever they lie, as long as the log can be followed.

        Raises:
            SourceError: the source cannot be read, or its table no longer matches the plan.
        """
        standing = Standing(after, limits, self._clock.monotonic())
        if not self._snapshot_due:
            standing = yield from self._rounds(standing, moving=True)
        while self._snapshot_due:
            if self._tail is None:
                self._start_tail()
            self._snapshot_due = self._tail is None
            standing = yield from self._snapshot(standing)
            if self._tail is None:
                return
            standing = yield from self._rounds(standing, moving=True)

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
        for batch in self._reader.read(standing.mark, standing.limits):
            yield batch
            standing = replace(standing, mark=batch.mark or standing.mark)
            if self._tail is not None:
                self._overlaps = True
                yield from self._rounds(standing, moving=False)
        self._overlaps = True
        return standing

    def _rounds(self, standing: Standing, *, moving: bool) -> Generator[Batch, None, Standing]:
        """What the tail has found since the last time."""
        if self._tail is None:
            return standing
        try:
            for found in self._tail.rounds():
                known = self._overlaps
                for view, removed in ((found.changed, False), (found.removed, True)):
                    if view is not None and (self._deletes or not removed):
                        standing = yield from self._reader.changes(
                            view, standing, known=known, moving=moving, removed=removed
                        )
                # Batches of this round were stamped with where the tail was before it: if not all of them
                # are delivered, the round is found again.
                self._reader.resume_from = found.position
                self._snapshot_due |= found.checkpointed
            if moving:
                self._overlaps = False
        except Lost as lost:
            self._lose(lost)
        return standing

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
        if self._since is not None and not resumed:
            self._events.tail_broken(self._table, "a checkpoint came while it was not followed")
        self._since = None
        self._refused_in = None
        self._reader.resume_from = self._tail.position

    def _lose(self, lost: Lost) -> None:
        """Read snapshots until a tail can be started again."""
        self._events.tail_lost(self._table, str(lost))
        if self._tail is not None:
            self._since = self._reader.resume_from or self._since
        self._refused_in = None if lost.passing else self._pinner.position().iteration
        self._snapshot_due = True
        self._drop_tail()

    def _drop_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

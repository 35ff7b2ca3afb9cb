"""Reads one table as its log grows, and with snapshots wherever the log alone cannot be trusted.

The order is always: put the tail at a position, read a snapshot past the mark, then hand out what the tail
finds. So nothing can fall between the two; what both find is delivered once, known by its key and hash. A
snapshot is read at first, after each checkpoint (a commit may have bypassed the log), and whenever the tail
is lost. While there is no tail, every read is a snapshot's.

A snapshot past the mark does not show updates of older rows. Where the tail may have missed some, rows are
handed out again: of a single checkpoint those of the row groups that it wrote anew, and where several came
and went, as while nothing runs, those that are not known to be in the target as they are (see `again`). What
remains is said to be broken: deletions that the log did not show.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

from cdc.change import NOWHERE, Batch, BatchLimits, Mark, Position, TableId, Unseen
from cdc.clock import Clock
from cdc.errors import HistoryBroken, SnapshotSuperseded
from cdc.source.events import SourceEvents
from cdc.source.file.pin import Pinner
from cdc.source.file.session import FATAL
from cdc.source.table.following import Following
from cdc.source.table.gap import Gap
from cdc.source.table.resend import Resend
from cdc.source.table.snapshot_reader import SnapshotReader
from cdc.source.table.view import ReadState
from cdc.source.tail.round import Round
from cdc.source.tail.row_groups import RowGroups
from cdc.source.tail.tail import Lost, Tail

_UNREAD = "a log, or the end of one, may have come and gone between two reads"
_LACKING = "rows may have been deleted while the log was not followed"
_DOUBTFUL = "a commit that skipped the log may have updated rows among those that the log changed"
_SKIPPED = "commits came before the log could be followed again"
_LATE = "updates and deletions of rows before the mark are not seen before the writer's next checkpoint"
_TELL_SECONDS = 2.0
"""Between two tellings of that while commits go on: each may be one that is not seen."""


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
        digests: bytes | None,
        deletes: bool,
    ) -> None:
        """
        Args:
            make_tail: a new tail of the table, not started; may raise Lost.
            since: the position of the last batch delivered, for the tail to go on from.
            digests: what the reader before gave last, before a send or after an acknowledgement.
            deletes: hand out deleted rows too.
        """
        self._table = table
        self._reader = reader
        self._make_tail = make_tail
        self._pinner = pinner
        self._events = events
        self._clock = clock
        self._since = since
        self._line = pinner.line_era
        """The first era of the history that is read."""
        self._broken: str | None = None
        """Why what was delivered is of another history, until a tail stands in the present one."""
        self._deletes = deletes
        self._loses_rows = deletes or reader.plan.filter is not None
        """Rows of the target may have to go, which a snapshot past the mark does not show."""
        self._following = Following()
        self._recreated = False
        """The table was dropped and created again: what it holds was not there before."""
        self._overlaps = False
        """The tail's next rounds may hold what a snapshot has handed out already."""
        self._groups: RowGroups | None = None
        """The row groups of the last checkpoint that everything is handed out of, but for `_unseen`."""
        self._read_whole = False
        """The last read came to its end with a tail."""
        self._unseen = False
        """Updates or deletions since that checkpoint may not have been handed out."""
        self._handed_to: Position | None = None
        """How far a tail that was lost had been handed out: the next one goes on there, if it can."""
        self._resend = Resend(reader, clock, digests)
        self._shown = NOWHERE
        """How far rows that were handed out again may have been read."""
        self._mark: Mark | None = None
        """Where the last read ended."""
        self._inserted_from: int | None = None
        """The row id of the first row that is in the log, and not among its frames."""
        self._unnoted: Unseen | None = None
        """What may have gone unseen, and was not handed out to be remembered."""
        self._gap = Gap(reader.plan.key, lambda rows: events.tail_gap(table, rows))
        if since is not None and not pinner.proves(since) and (why := pinner.doubt(since)) is not None:
            self._tell_broken(why)

    def __repr__(self) -> str:
        return f"TailingReader({self._table}, {self._following})"

    @property
    def _tail(self) -> Tail | None:
        return self._following.tail

    def read(self, after: Mark | None, limits: BatchLimits) -> Generator[Batch, None, None]:
        """Rows committed and not yet acknowledged, past `after` less the overlap, in batches within `limits`.

        Updated rows are among them wherever they lie, as long as the log can be followed. A row already
        acknowledged in its present state is not repeated within this reader's life. The iterator ends when
        there is nothing more; a superseded snapshot is retried inside.

        Raises:
            SourceError: the source cannot be read, or its table no longer matches the plan.
            HistoryBroken: what was delivered is of another history, and the log of this one is not followed.
        """
        self._reader.begin()
        self._read_whole = False
        if self._pinner.line_era != self._line:
            self._lose(Lost(self._pinner.broken, broken=True))
        standing = ReadState(after, limits, self._clock.monotonic())
        if not self._following.due:
            standing = yield from self._rounds(standing, moving=True)
        while self._following.due:
            if self._tail is None:
                self._start_tail()
                self._tell_late()
                if self._tail is None and self._broken is not None:
                    raise HistoryBroken("follow", self._table, self._broken, "It is read from its beginning")
            if self._tail is not None:
                self._following = self._following.read()
            before = standing.mark
            standing = yield from self._snapshot(standing)
            standing = yield from self._rewritten(before, standing)
            if self._tail is None:
                return
            standing = yield from self._rounds(standing, moving=True)
        self._gap.end()
        self._read_whole, self._mark = True, standing.mark

    def acknowledged(self, batch: Batch) -> None:
        """See `SnapshotReader.acknowledged`."""
        self._reader.acknowledged(batch)

    def unseen_before_send(self) -> Unseen | None:
        """What may have gone unseen since this was asked last: to be remembered before anything is sent."""
        unseen, self._unnoted = self._unnoted, None
        return unseen

    def digests_before_send(self) -> bytes | None:
        """What must be stored before the batch handed out last is sent; see `digests`."""
        return self._resend.digests_before_send()

    def digests_after_acknowledgement(self) -> bytes | None:
        """What may be stored now that everything handed out is acknowledged."""
        tail, groups, read_to = self._tail, self._groups, self._reader.complete_at
        whole = self._read_whole and not (self._unseen or self._following.due or self._resend.suspicious)
        if not whole or tail is None or groups is None or read_to is None:
            return self._resend.digests_before_send()
        if tail.position < max(read_to, self._shown):
            return self._resend.digests_before_send()
        if tail.base.iteration != groups.iteration:
            return self._resend.digests_before_send()
        try:
            return self._resend.digests_after_acknowledgement(tail, self._mark)
        except SnapshotSuperseded:
            return self._resend.digests_before_send()  # the checkpoint is met by the next read
        except FATAL as error:
            self._lose(tail.failed(error))
            return self._resend.digests_before_send()

    @property
    def position(self) -> Position | None:
        """Where the log is to be followed from, once all that was handed out is delivered; None: nowhere."""
        return self._tail.position if self._tail is not None and self._read_whole else None

    @property
    def learning(self) -> bool:
        """The next read is to be soon, also if nothing is committed."""
        if self._late_untold() is not None:
            return True
        return self._tail is not None and self._read_whole and self._resend.learning

    def rows_behind(self, after: Mark | None) -> int:
        """See `SnapshotReader.rows_behind`."""
        return self._reader.rows_behind(after)

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()
        self._reader.close()

    def _snapshot(self, standing: ReadState) -> Generator[Batch, None, ReadState]:
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
        if not self._following.due:
            self._gap.complete()
        self._overlaps = True
        return standing

    def _rewritten(self, before: Mark | None, standing: ReadState) -> Generator[Batch, None, ReadState]:
        """The rows of which changes may have gone unseen, as far as the snapshot past the mark `before` did
        not show them. Between them the tail goes on, until it meets a checkpoint."""
        groups = self._groups
        first, self._inserted_from = self._inserted_from, None
        if groups is None:
            return standing
        try:
            if first is not None:
                standing = yield from self._reader.between(first, 1 << 62, groups.iteration, before, standing)
            while (tail := self._tail) is not None and groups is self._groups:
                try:
                    spans = self._resend.take(tail, before)
                except FATAL as error:
                    self._lose(tail.failed(error))
                    break
                if spans is None:
                    break
                for span in spans:
                    standing = yield from self._reader.between(*span, groups.iteration, before, standing)
                self._resend.handed_out()
                self._shown = self._pinner.position()
                standing = yield from self._rounds(standing, moving=True)
        except SnapshotSuperseded:
            pass  # what is left stays suspect until the next checkpoint is met
        return standing

    def _rounds(self, standing: ReadState, *, moving: bool) -> Generator[Batch, None, ReadState]:
        """What the tail has found since the last time."""
        if self._tail is None:
            return standing
        try:
            for found in self._tail.rounds():
                for view in (found.changed, found.removed):
                    if view is not None and self._gap.counting:
                        self._gap.shown(view.rows, view.cursor)
                gone = found.removed if self._deletes else found.left
                if found.checkpointed:
                    self._compare_after(found, self._tail)
                    self._checkpointed(self._tail)
                if found.touched is not None:
                    self._resend.touched(found.touched)
                known = self._overlaps
                for view in (found.changed, gone):
                    if view is not None:
                        standing = yield from self._reader.changes(
                            view, standing, known=known, moving=moving, removed=view is gone
                        )
                # Batches of this round were stamped with where the tail was before it: if not all of them
                # are delivered, the round is found again.
                self._reader.resume_from = found.position
                if found.checkpointed:
                    self._following = self._following.checkpointed()
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
        found = tail.checkpoints
        before, self._groups = self._groups, found.groups
        groups, logged = found.groups, None if self._unseen else found.logged
        assert groups is not None, "it has been started"
        unseen = self._unseen or not found.explained
        if unseen and self._loses_rows:  # other changes are handed out again
            self._note(Unseen(_LACKING))
        elif found.doubtful:
            self._note(Unseen(_DOUBTFUL, urgent=False))
        self._resend.checkpointed(groups, before, logged, unseen=unseen)
        self._unseen = False

    def _start_tail(self) -> None:
        iteration = self._pinner.position().iteration
        if self._following.refused_in == iteration:
            return
        before = self._groups
        later = before is not None and iteration > before.iteration
        since = self._since if before is None else self._handed_to
        tail: Tail | None = None
        try:
            tail = self._make_tail()
            place = self._resend.resume_from(since) if before is None else since
            resumed = tail.start(place, whole_log=later or since is not None)
            groups = tail.checkpoints.groups
            assert groups is not None, "it has been started"
            if before is not None and groups.iteration > before.iteration and not later:
                raise Lost("a checkpoint ran meanwhile", passing=True)  # it did not begin where the log does
        except Lost as lost:
            if tail is not None:
                tail.close()
            self._lose(lost)
            return
        if before is None:
            self._groups = groups
            unseen = self._resend.restarted(groups, since, resumed=resumed, unseen=self._unseen)
            if unseen and self._loses_rows and self._broken is None:
                self._note(Unseen(_LACKING))
            self._unseen = False
        elif groups.iteration > before.iteration:
            self._unseen = True
            self._checkpointed(tail)
        elif not resumed:
            self._unseen = True
            self._note(Unseen(_SKIPPED))
        self._resend.touched(tail.touched)
        self._since = self._broken = None
        self._reader.resume_from = tail.position
        self._following = self._following.followed(tail)

    def _lose(self, lost: Lost) -> None:
        """Read snapshots until a tail can be started again."""
        before = self._following
        if str(lost) != before.reason:  # a log that never can be followed is worth one event
            self._events.tail_lost(self._table, str(lost))
        refused_in = None if lost.passing else self._pinner.position().iteration
        self._following = before.lost(str(lost), refused_in)
        self._unseen |= not lost.passing
        if before.tail is not None:
            self._handed_to = self._reader.resume_from
            before.tail.close()
        if lost.broken:  # what was handed out is delivered, and nobody knows what of it there is
            self._line, self._groups, self._since = self._pinner.line_era, None, NOWHERE
            self._unseen = True
            self._tell_broken(str(lost))
        self._inserted_from = lost.first_row_id
        self._recreated |= lost.recreated
        self._resend.lost(recreated=lost.recreated)
        self._gap.broken()

    def _tell_broken(self, why: str) -> None:
        """Tell that what was delivered is of another history: all of it is read anew and compared."""
        self._broken = why
        if self._loses_rows:
            self._note(Unseen(f"{why}; all rows are read anew and compared"))

    def _late_untold(self) -> Position | None:
        """Where the source is, if commits up to there may hold changes that go unseen, and were not told."""
        state = self._following
        if state.refused_in is None or (self._reader.updates_move_the_mark and not self._loses_rows):
            return None
        position = self._pinner.position()
        return None if state.told is not None and position == state.told[0] else position

    def _tell_late(self) -> None:
        """Tell that changes may go unseen: at once after each checkpoint, then again as commits follow."""
        if (position := self._late_untold()) is None:
            return
        now, told = self._clock.monotonic(), self._following.told
        if told is None or told[0].iteration != position.iteration or now - told[1] >= _TELL_SECONDS:
            self._following = self._following.said(position, now)
            self._note(Unseen(f"{_LATE}: {self._following.reason}"))

    def _note(self, unseen: Unseen) -> None:
        if self._unnoted is None or unseen.urgent:
            self._unnoted = unseen

    def _compare_after(self, found: Round, tail: Tail) -> None:
        """What the snapshot after a checkpoint finds is a gap, unless the log was not seen whole."""
        if found.unread:
            self._events.tail_lost(self._table, _UNREAD)
            self._gap.broken()
        else:
            self._gap.checkpoint(tail.checkpoints.appeared if self._reader.plan.filter is None else 0)

"""Which rows are handed out again, because changes of them may have gone unseen?

Where a checkpoint may hold what the log did not show, its rows are suspects: those of the row groups that it
wrote anew, or all of them where that cannot be said, as after several checkpoints or a restart. What the
digests know to be as it is in the target is suspected no more; the rest is handed out, some row ids at a time
and each time from a new snapshot, so that no checkpoint makes it begin anew.

To know that costs a look at the rows, once: it is taken a part at a time, when all there is is delivered.
"""

from __future__ import annotations

import duckdb

from cdc.change import Mark, Position
from cdc.clock import Clock
from cdc.source.file.session import FATAL
from cdc.source.table.digests import Digests, RangeDigests, Span, fingerprint_of, read_digests
from cdc.source.table.snapshot_reader import SnapshotReader
from cdc.source.tail.leaves import RowIds
from cdc.source.tail.row_groups import Logged, RowGroups
from cdc.source.tail.tail import Tail

ROWS = 122_880
"""Row ids of suspects taken at a time: a row group, some 50 ms to look at."""
LEARN_ROWS = 40_960
"""Row ids looked at at a time while rows are being delivered: some 20 ms that a commit may have to wait."""
_REST = 9.0
"""Pauses between looks, in times of a look's duration: a tenth of a core at most."""
_STORE_SECONDS = 5.0
"""Between two storings of what is learnt bit by bit."""
_NOWHERE = 1 << 62


class Resend:
    """The suspects of one table, and its digests. For one thread."""

    def __init__(self, reader: SnapshotReader, clock: Clock, stored: bytes | None) -> None:
        """`stored` is what was last given to be stored, before a send or after an acknowledgement."""
        self._reader = reader
        self._clock = clock
        fingerprint = fingerprint_of(reader.plan)
        loaded = None if stored is None else Digests.load(stored, fingerprint)
        self._digests = loaded or Digests(fingerprint)
        self._stored = stored is not None
        self._complete_at = loaded.iteration if loaded is not None and loaded.complete else None
        """The checkpoint that is delivered as a whole, by what is stored."""
        self._taken: tuple[Span, RangeDigests | None] | None = None
        self._learn_at = self._store_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"Resend({self._digests})"

    @property
    def suspicious(self) -> bool:
        return self._digests.suspicious

    @property
    def learning(self) -> bool:
        """There is more to learn of what was delivered."""
        return self._digests.wanting

    def resume_from(self, since: Position | None) -> Position | None:
        """From where the log may be followed after a restart: `since`, if all before it is delivered."""
        whole = since is not None and since.iteration == self._complete_at
        return since if whole or not self._stored else None

    def restarted(
        self, groups: RowGroups, since: Position | None, *, resumed: bool, unseen: bool = False
    ) -> bool:
        """Begin on what is stored, at the checkpoint of `groups`; answers whether changes may have gone
        unseen, as they have where `unseen` says it."""
        if resumed and self._complete_at == groups.iteration and not unseen:
            self._digests.checkpointed(groups.iteration, groups.end, appended_from=_NOWHERE)
            return False
        self.lost(recreated=False)  # at the checkpoint of that number, which another history has too
        unseen |= self._stored or (since is not None and not resumed)
        self.checkpointed(groups, None, None, unseen=unseen)
        return unseen

    def checkpointed(
        self, groups: RowGroups, before: RowGroups | None, logged: Logged | None, *, unseen: bool
    ) -> None:
        """A later checkpoint left `groups`.

        Args:
            before: those of the checkpoint that everything is handed out of.
            logged: what the log did since then.
            unseen: not all was handed out of what changed.
        """
        digests = self._digests
        if not unseen:
            shifted = 0
            if before is not None and logged is not None:
                shifted = before.stored_rows + logged.inserted - groups.stored_rows
            place = None if before is None or shifted else before.end
            digests.checkpointed(groups.iteration, groups.end, appended_from=place, shifted=shifted)
            return
        left, touched = digests.suspicious, digests.touched
        digests.checkpointed(groups.iteration, groups.end, appended_from=_NOWHERE)
        numbers = groups.rewritten_since(before) if before is not None else None
        if before is None or numbers is None:
            digests.suspect(None)
        else:
            unmoved = groups.unmoved_since(before)
            every = [groups.row_ids(number) for number in range(len(groups.digests))]
            # Rows that moved may be those that were suspected before.
            digests.suspect(
                [each for each in every if each not in unmoved] if left else map(groups.row_ids, numbers)
            )
            digests.suspect(touched)  # what the log changed may have been lost with its end
            digests.keep_known(unmoved)
        if not self._stored:  # else a restart would take it that nothing is left to be handed out
            digests.owed = True

    def touched(self, row_ids: RowIds) -> None:
        """The log changed these rows."""
        self._digests.touch(row_ids)

    def lost(self, *, recreated: bool) -> None:
        """The log was not followed to its end: a restart must not go on in it where this one was."""
        if recreated:
            self._digests.forget()
        if self._complete_at is not None:
            self._complete_at, self._digests.owed = None, True

    def take(self, tail: Tail, mark: Mark | None) -> list[Span] | None:
        """The next rows to be handed out, as far as `past` does not read them from `mark` on; None: no more.

        Raises:
            SnapshotSuperseded: a checkpoint overtook the file.
            duckdb.FatalException, duckdb.InternalException: see `Tail.failed`.
        """
        span = self._digests.next_suspects(ROWS)
        if span is None:
            return None
        found = None
        try:
            found = self._look(tail, mark, span)
        except FATAL:
            raise
        except duckdb.Error:
            pass  # the rows are handed out without being compared
        self._taken = span, found
        return self._digests.differing(span, found)

    def handed_out(self) -> None:
        """All that `take` gave: at the next checkpoint it is known, in this run."""
        assert self._taken is not None, "take() came first"
        span, found = self._taken
        self._digests.cleared(span)
        if found is not None:
            self._digests.learn(span, found)

    def digests_before_send(self) -> bytes | None:
        """What must be stored before anything more is sent."""
        if not self._digests.owed:
            return None
        return self._dump(complete=self._complete_at == self._digests.iteration)

    def digests_after_acknowledgement(self, tail: Tail, mark: Mark | None) -> bytes | None:
        """What may be stored now that all of the file at the tail's checkpoint is delivered, and what the log
        after it showed.

        Raises:
            SnapshotSuperseded: a checkpoint overtook the file.
            duckdb.FatalException, duckdb.InternalException: see `Tail.failed`.
        """
        digests, now = self._digests, self._clock.monotonic()
        digests.settle()
        span = digests.next_wanting(LEARN_ROWS)
        if span is not None and now >= self._learn_at:
            try:
                digests.learn(span, self._look(tail, mark, span))
            except FATAL:
                raise
            except duckdb.Error:
                digests.leave(span)
            digests.settle()
            after = self._clock.monotonic()
            self._learn_at = after + _REST * (after - now)
        due = not digests.wanting or now >= self._store_at
        if self._complete_at != digests.iteration or (digests.grown and due):
            self._complete_at = digests.iteration
            self._store_at = now + _STORE_SECONDS
            return self._dump(complete=True)
        return self.digests_before_send()

    def _look(self, tail: Tail, mark: Mark | None, span: Span) -> RangeDigests:
        low = self._reader.low(mark)
        width = self._digests.width
        try:
            found = read_digests(tail.cursor, tail.base.relation, self._reader.plan, low, span, width)
        except FATAL:
            raise
        except duckdb.Error:
            tail.base.verify()  # DuckDB reports a checkpoint during its reads in many ways
            raise
        tail.base.verify()
        return found

    def _dump(self, *, complete: bool) -> bytes:
        self._stored = True
        return self._digests.dump(complete=complete)

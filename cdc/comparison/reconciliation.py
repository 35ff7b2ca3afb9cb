"""How is one table of the target made equal to its source, beside the replicator that goes on with it?

Compared in ranges first, then by rows where the ranges differ; what still differs after rows had time to
arrive is delivered again or marked deleted, and compared once more. Memory: that of a comparison of
`GROUP_ROWS` rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from cdc.change import Batch, TablePlan
from cdc.clock import Clock
from cdc.comparison.compare import Comparer, Differences, Overview, Span, TargetRows
from cdc.comparison.cutting import RANGE_ROWS, ComparedSource, boundaries_of
from cdc.comparison.digest import Hashes, RowHasher
from cdc.comparison.pacing import PacedSource, PacedTarget, Pacing, SharePacing
from cdc.comparison.repair import Clocked, Outranking, Repaired, delete_gone, deliver_again

AUDIT_RANGE_ROWS = 20_000
"""Rows of the source that an audit reads at a time, some 50 ms of work; more, in a table of many."""
GROUP_ROWS = 1_000_000
"""Rows that are compared by key at once: about 60 MB, and one FINAL of the target for all of them."""
PATIENCE_SECONDS = 3.0
"""The wait for rows on their way: one that differs in the same way before and after it is taken not to be.
Should it be all the same, it is sent twice, which does no harm."""
MOST_PASSES = 20
"""Repairs of one group, each of which must leave less to repair."""

_NOTHING: Hashes = np.zeros(0, np.uint64)


Found = Callable[[Comparer, Span, Differences], None]
"""Is told of rows of a span that differ, and that are mended next."""


class ComparedTarget(TargetRows, Protocol):
    """What is asked of the target, beside its rows."""

    def maximum(self, plan: TablePlan, upto: str | None = None) -> str | None: ...

    def newest_version(self, plan: TablePlan) -> int | None: ...

    def check_versions(self, plan: TablePlan) -> None: ...


class ReconciledSource(ComparedSource, Clocked, Protocol):
    """What is asked of the source."""


class Redelivers(Protocol):
    """Delivers rows of one table again; see `cdc.replicator.redelivery`."""

    def send(self, batch: Batch) -> int: ...


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of every table, and the way from one to the other."""

    source: ReconciledSource
    target: ComparedTarget
    redelivery: Callable[[TablePlan], AbstractContextManager[Redelivers]]
    kept_back: Callable[[TablePlan], Iterable[pa.RecordBatch]]
    """Gives rows that differ and that the replicator sees to itself: those set aside, and those that wait for
    their group."""
    deletes: bool
    """Rows that only the target has are to be marked deleted."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of one reconciliation."""

    repaired: Repaired = field(default_factory=Repaired)
    left: int = 0
    """Rows that differ all the same."""
    waited_seconds: float = 0.0
    """For rows on their way, without any work."""


class Reconciliation:
    """Reconciles tables, one at a time; for one thread."""

    def __init__(
        self,
        sides: Sides,
        clock: Clock,
        stop: threading.Event,
        crowded: Callable[[], bool] = lambda: False,
        *,
        mends: bool = True,
    ) -> None:
        """
        Args:
            crowded: whether the process holds too much memory just now.
            mends: False: what differs is told, and nothing is sent.
        """
        self._mends = mends
        self._sides = sides
        self._clock = clock
        self._stop = stop
        self._crowded = crowded

    def reconcile(
        self, plan: TablePlan, look: Callable[[], None], repairing: Callable[[], None]
    ) -> Reconciled:
        """Compare and mend one table; only differences that stood for a while count.

        Args:
            look: is called between pieces of work; what it raises ends the reconciliation.
            repairing: is called before rows are sent.

        Raises:
            SourceError, TargetError: a side cannot be read, or the target refuses rows for good, or has rows
                that nothing outranks. What was sent stays sent.
            LeaseHeld, StateError: see `Redelivery`.
            Stopped: a stop was asked for.
        """
        pacing = Pacing(self._clock, self._stop, look, self._crowded)
        return self._reconcile(plan, pacing, RANGE_ROWS, lambda *_: repairing())

    def audit(self, plan: TablePlan, pacing: SharePacing, found: Found) -> Reconciled:
        """As `reconcile`, in smaller pieces and at the pace of `pacing`, until rows are known to differ.

        Args:
            found: is told of them before they are mended: the rows of a part of the table at a time.
        """

        def differ(comparer: Comparer, span: Span, rows: Differences) -> None:
            pacing.hurried = True
            found(comparer, span, rows)

        return self._reconcile(plan, pacing, AUDIT_RANGE_ROWS, differ)

    def _reconcile(self, plan: TablePlan, pacing: Pacing, range_rows: int, found: Found) -> Reconciled:
        sides = self._sides
        sides.target.maximum(plan)  # who may not read the target is told so before the source is read
        with RowHasher() as hasher:
            source, target = PacedSource(sides.source, pacing), PacedTarget(sides.target, pacing)
            comparer = Comparer(plan, source, target, hasher)
            overviews = comparer.overview(boundaries_of(sides.source, plan, range_rows=range_rows))
            every = [each.span for each in overviews]
            table = _Table(sides, comparer, pacing, every, plan.unique_key, self._mends)
            repaired, left = Repaired(), 0
            for pieces in groups(overviews):
                done, still = table.mend(pieces, found)
                repaired, left = repaired + done, left + still
            if left:
                sides.target.check_versions(plan)
        return Reconciled(repaired, left, table.waited_seconds)


def groups(overviews: Sequence[Overview]) -> Iterator[tuple[Span, ...]]:
    """The ranges that differ, in runs of at most `GROUP_ROWS` rows, with the equal ranges in between."""
    run: list[Overview] = []
    rows = 0
    for each in overviews:
        size = max(each.source.rows, each.target.rows)
        if run and rows + size > GROUP_ROWS:
            yield _upto_last_different(run)
            run, rows = [], 0
        if run or not each.equal:
            run.append(each)
            rows += size
    if run:
        yield _upto_last_different(run)


def _upto_last_different(run: Sequence[Overview]) -> tuple[Span, ...]:
    last = max(at for at, each in enumerate(run) if not each.equal)
    return tuple(each.span for each in run[: last + 1])


class _Table:
    """One table, whose ranges are mended group by group."""

    def __init__(
        self,
        sides: Sides,
        comparer: Comparer,
        pacing: Pacing,
        every: Sequence[Span],
        unique: bool,
        mends: bool,
    ) -> None:
        """`every` range of the table; `unique`: a key has one row in the source."""
        self._mends = mends
        self._sides = sides
        self._comparer = comparer
        self._pacing = pacing
        self._every = every
        self._unique = unique
        self.waited_seconds = 0.0

    def mend(self, pieces: Sequence[Span], told: Found) -> tuple[Repaired, int]:
        """Repair until nothing differs or a repair did not help; what was sent, and the rows left.

        `told` is called once, of what is found first.
        """
        done, left = Repaired(), -1
        moved = _NOTHING
        for _ in range(MOST_PASSES):
            found = self._lasting(pieces, moved)
            before, left = left, self._count(found)
            if not left or 0 <= before <= left:
                break
            if before < 0:
                told(self._comparer, _whole(pieces), found)
            if not self._mends:
                break
            sent, elsewhere = self._repair(pieces, found)
            done, moved = done + sent, np.union1d(moved, elsewhere)
        return done, left

    def _repair(self, pieces: Sequence[Span], found: Differences) -> tuple[Repaired, Hashes]:
        """What was sent, and the keys that only the target has here, and the source has in another range."""
        comparer, clock = self._comparer, Outranking(self._sides.source, self._sides.target)
        with self._sides.redelivery(comparer.plan) as redelivery:
            sent = deliver_again(comparer, clock, pieces, found, redelivery.send)
            if not self._sides.deletes and comparer.plan.filter is None:
                return sent, _NOTHING
            here = {_whole(pieces): found}
            deleted, elsewhere = delete_gone(comparer, clock, here, self._every, redelivery.send)
            return sent + deleted, elsewhere

    def _lasting(self, pieces: Sequence[Span], moved: Hashes) -> Differences:
        """The differences that are not on their way, and not kept back; `moved` keys belong elsewhere."""
        found = self._differences(pieces, moved)
        if not self._count(found):
            return found
        self._pacing.wait(PATIENCE_SECONDS)
        self.waited_seconds += PATIENCE_SECONDS
        found = found.still(self._differences(pieces, moved))
        return found.where(~np.isin(found.keys, self._kept_back()))

    def _differences(self, pieces: Sequence[Span], moved: Hashes) -> Differences:
        span = _whole(pieces)
        found = self._comparer.differences(span, pieces)
        if not self._unique and (found.source != 0).any():
            found = self._comparer.newest_states({span: found}, self._every)[span]
        if not self._sides.deletes:  # what the source has pruned stays, but not what has left the filter
            left = self._comparer.left_the_filter(self._every, found.extra)
            found = replace(found, more_extra=0).where((found.source != 0) | np.isin(found.keys, left))
        return found.where((found.source != 0) | ~np.isin(found.keys, moved))

    def _kept_back(self) -> Hashes:
        plan = self._comparer.plan
        keys = [
            self._comparer.key_numbers(rows)
            for rows in self._sides.kept_back(plan)
            if set(plan.key) <= set(rows.schema.names)
        ]
        return np.concatenate([_NOTHING, *keys])

    def _count(self, found: Differences) -> int:
        return len(found) + found.more_extra


def _whole(pieces: Sequence[Span]) -> Span:
    return Span(pieces[0].low, pieces[-1].high)

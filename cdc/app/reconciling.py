"""What compares beside a replication, wired together: a thread that mends tables whose changes went unseen,
and one that audits all tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from cdc.app.auditing import audit_thread
from cdc.app.opening import Opened
from cdc.change import TableId, TablePlan
from cdc.clock import SystemClock
from cdc.comparison import Reconciler, Reconciliation, Sides
from cdc.replicator.breaker import BreakerState
from cdc.replicator.runner import Replicator
from cdc.state import Store
from cdc.watermark import BoundMarks

STOP_SECONDS = 0.2
"""How long it may end by itself once a stop was asked for; then what it reads is closed."""
END_SECONDS = 15.0
"""See `cdc.replicator.runner`."""


class ComparingThreads:
    """A running reconciler, and the audit. Source and target are the replicator's, which ends first."""

    def __init__(
        self,
        opened: Opened,
        replicator: Replicator,
        plans: Callable[[], Mapping[TableId, TablePlan]],
    ) -> None:
        """`plans` gives the tables replicated now."""
        self._clock = clock = SystemClock()
        sync, observer, limits, stop = opened.settings.sync, opened.observer, opened.limits, opened.stop
        self._source = source = opened.source
        self._target = target = opened.clickhouse
        sides = Sides(
            source,
            target,
            replicator.redelivery,
            lambda plan: _kept_back(plan, opened.store, opened.marks, source.identity),
            deletes=sync.deletes == "replicate",
        )
        # Reads are not for the breaker to count: a server that has no memory for them still takes rows.
        work = Reconciliation(sides, clock, stop, lambda: limits.crowded).reconcile
        self._reconciler = Reconciler(
            opened.store.breaks(source.identity),
            work if sync.reconcile else None,
            observer.unseen,
            plans=plans,
            standing=observer.standing,
            reachable=lambda: replicator.breaker.state is BreakerState.CLOSED,
            interval_seconds=sync.reconcile_interval_sec,
            lost=replicator.lost,
            clock=clock,
            stop=stop,
        )
        observer.unseen.heard = self._reconciler.heard
        reconciler = threading.Thread(target=self._reconciler.run, name="reconciler", daemon=True)
        reconciler.start()
        audit = audit_thread(opened, replicator, sides, plans, clock)
        self._threads = [reconciler] if audit is None else [reconciler, audit]

    def join(self) -> bool:
        """Wait until they have stopped, which was asked for before, as the replicator has.

        Returns:
            False when it still did not end: source and target must not be closed under it.
        """
        if self._ended(STOP_SECONDS):
            return True
        self._target.close()
        self._source.close(END_SECONDS)
        return self._ended(END_SECONDS)

    def _ended(self, seconds: float) -> bool:
        until = self._clock.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


def _kept_back(plan: TablePlan, store: Store, marks: BoundMarks, identity: str) -> Iterator[pa.RecordBatch]:
    """The rows of the table that are set aside, and those that wait for their group."""
    for record in store.failed(plan.table, limit=max(1, store.failed_count(plan.table))):
        if record.source == identity:
            yield from _rows(record.row.payload)
    for held in marks.held(plan.table).rows:
        yield from _rows(held.payload)


def _rows(payload: bytes) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_stream(payload) as reader:
        yield from reader

"""The reconciler of `cdc run`, wired together: one thread that mends tables whose changes went unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

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


class ReconcilerThread:
    """A running reconciler. It shares source and target with the replicator, which ends first."""

    def __init__(
        self,
        opened: Opened,
        replicator: Replicator,
        plans: Callable[[], Mapping[TableId, TablePlan]],
    ) -> None:
        """`plans` gives the tables replicated now."""
        clock = SystemClock()
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
        self._thread = threading.Thread(target=self._reconciler.run, name="reconciler", daemon=True)
        self._thread.start()

    def join(self) -> bool:
        """Wait until it has stopped, which was asked for before, as the replicator has.

        Returns:
            False when it still did not end: source and target must not be closed under it.
        """
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._target.close()
            self._source.close(END_SECONDS)
            self._thread.join(END_SECONDS)
        return not self._thread.is_alive()


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

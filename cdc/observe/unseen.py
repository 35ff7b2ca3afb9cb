"""What is told of changes that may have gone unseen, until source and target are equal again?"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from cdc.change import TableId, Unseen
from cdc.clock import Clock
from cdc.comparison.reconciler import ReconciliationReport, Step
from cdc.errors import CdcError
from cdc.observe.alarms import Alarms
from cdc.observe.metrics import Metrics
from cdc.observe.record import TableObservation
from cdc.state import Break


def _unheard(_table: TableId, _unseen: Unseen) -> None:
    """Nobody reconciles."""


class UnseenChanges:
    """The reconciler's `Events`, and the break itself. Its methods take a lock for microseconds."""

    def __init__(
        self,
        lock: threading.Lock,
        record: Callable[[TableId], TableObservation],
        alarms: Alarms,
        metrics: Metrics,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        """
        Args:
            lock: guards the records and the alarms.
            record: what is known of a table.
            changed: the status is another.
        """
        self._lock = lock
        self._record = record
        self._alarms = alarms
        self._metrics = metrics
        self._clock = clock
        self._changed = changed
        self._log = structlog.get_logger("cdc.replicator")
        self.heard: Callable[[TableId, Unseen], None] = _unheard
        """Is told of a break that is remembered, and compares soon."""

    def noted(self, table: TableId, unseen: Unseen) -> None:
        """Changes of the table may have gone unseen; what is urgent is remembered."""
        self.heard(table, unseen)
        if not unseen.urgent:
            self._log.debug("to be compared at leisure", table=str(table), reason=unseen.reason)
            return
        self._metrics.tail_broken.labels(str(table)).inc()
        with self._lock:
            record = self._record(table)
            again = record.broken_since is not None
            record.broken_since = record.broken_since or self._clock.wall()
        say = self._log.debug if again else self._log.info  # a log that cannot be followed breaks often
        say("to be compared with the target", table=str(table), reason=unseen.reason)
        self._changed()

    def break_stands(self, found: Break, *, by_itself: bool) -> None:
        with self._lock:
            record = self._record(found.table)
            record.broken_since = found.since
            record.reconciling = record.reconciling or ("waiting" if by_itself else None)
            if not by_itself:  # an alert is for a person: what is compared by itself is compared first
                self._alarms.tail_broken(found.table, found.reason)
        self._changed()

    def break_mended(self, table: TableId) -> None:
        with self._lock:
            record = self._record(table)
            known = record.broken_since is not None
            record.broken_since = record.reconciling = None
            known |= self._alarms.tail_mended(table)
        if known:
            self._log.info("source and target are equal again", table=str(table))
        self._changed()

    def reconciling(self, table: TableId, step: Step) -> None:
        with self._lock:
            self._record(table).reconciling = step
        if step != "waiting":
            self._log.info("reconciling", table=str(table), step=step)
        self._changed()

    def reconciled(self, event: ReconciliationReport) -> None:
        name, repaired = str(event.table), event.result.repaired
        metrics = self._metrics
        metrics.reconciliations.labels(name, event.outcome).inc()
        metrics.reconciliation_seconds.labels(name).inc(event.seconds)
        metrics.reconciled_rows.labels(name, "delivered").inc(repaired.sent)
        metrics.reconciled_rows.labels(name, "deleted").inc(repaired.deleted)
        with self._lock:
            if event.outcome in ("equal", "repaired"):
                record = self._record(event.table)
                record.reconciled_at = self._clock.wall()
                record.reconciled_rows = repaired.sent + repaired.deleted
            else:
                self._alarms.not_reconciled(event)
        say = self._log.info if event.outcome in ("equal", "repaired", "interrupted") else self._log.warning
        say(
            "reconciled" if event.outcome in ("equal", "repaired") else "not reconciled",
            table=name,
            outcome=event.outcome,
            delivered=repaired.sent,
            deleted=repaired.deleted,
            set_aside=repaired.rejected,
            left=event.result.left,
            seconds=round(event.seconds, 2),
            **({} if event.error is None else {"error": str(event.error)}),
        )
        self._changed()

    def reconciler_failed(self, error: CdcError) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        self._log.warning("breaks are not remembered", error=str(error), error_class=type(error).__name__)

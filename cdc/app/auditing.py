"""The audit of a replication, wired together: one thread that compares all tables, round and round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from cdc.app.opening import Opened
from cdc.change import TableId, TablePlan
from cdc.clock import Clock
from cdc.comparison import Auditor, Reconciliation, Sides
from cdc.replicator.breaker import BreakerState
from cdc.replicator.runner import Replicator


def audit_thread(
    opened: Opened,
    replicator: Replicator,
    sides: Sides,
    plans: Callable[[], Mapping[TableId, TablePlan]],
    clock: Clock,
) -> threading.Thread | None:
    """The thread, started; None where no audit is wanted. It ends soon after a stop was asked for."""
    audit, observer, limits = opened.settings.audit, opened.observer, opened.limits
    if not audit.enabled:
        observer.audits.before = "off"
        return None
    reconciles = opened.settings.sync.reconcile
    auditor = Auditor(
        Reconciliation(sides, clock, opened.stop, lambda: limits.crowded, mends=reconciles).audit,
        observer.audits,
        plans=plans,
        standing=observer.standing,
        broken=observer.broken if reconciles else _nobody_reconciles,
        reachable=lambda: replicator.breaker.state is BreakerState.CLOSED,
        crowded=lambda: limits.crowded,
        interval_seconds=audit.interval_hours * 3600.0,
        cpu_percent=audit.cpu_percent,
        process_cpu=time.process_time,
        lost=replicator.lost,
        clock=clock,
        stop=opened.stop,
    )
    observer.audits.ask = auditor.ask
    thread = threading.Thread(target=auditor.run, name="audit", daemon=True)
    thread.start()
    return thread


def _nobody_reconciles(_table: TableId) -> bool:
    """What may have gone unseen is left to no one: the audit tells of it."""
    return False

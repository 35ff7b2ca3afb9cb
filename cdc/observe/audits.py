"""What is told of the audit: that rows differ, which, and what became of them?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from cdc.change import TableId
from cdc.clock import Clock
from cdc.comparison.audit import AuditFindings, AuditReport, Kind
from cdc.observe.alarms import Alarms
from cdc.observe.metrics import Metrics
from cdc.observe.record import TableObservation

KINDS: tuple[Kind, ...] = ("missing", "extra", "different")
REFUSED = "off: this user may not read the target"


def _nobody_asks(_table: TableId) -> None:
    """No audit runs."""


class Audits:
    """The auditor's `AuditEvents`. Its methods take a lock for microseconds."""

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
        self.before: str | None = None
        """What is said of a table before its first audit."""
        self.ask: Callable[[TableId], None] = _nobody_asks
        """Has a table audited as soon as it can be."""

    def target_restarted(self, table: TableId, reason: str) -> None:
        """The target may hold an earlier state of the table."""
        self._log.info("to be audited", table=str(table), reason=reason)
        self.ask(table)

    def audit_begun(self, table: TableId) -> None:
        self._log.debug("audit begun", table=str(table))

    def audit_found(self, table: TableId, found: AuditFindings, more: Mapping[Kind, int]) -> None:
        for kind, rows in more.items():
            self._metrics.audit_differences.labels(str(table), kind).inc(rows)
        with self._lock:
            self._alarms.audit_differences(table, f"the audit found rows that differ: {found}", mended=False)
            self._record(table).audit = f"differs: {found}"
        self._log.error("source and target differ", table=str(table), found=str(found))
        self._changed()

    def audited(self, report: AuditReport) -> None:
        name, table = str(report.table), report.table
        self._metrics.audits.labels(name, report.outcome).inc()
        self._metrics.audit_seconds.labels(name).inc(report.seconds)
        with self._lock:
            record = self._record(table)
            if report.outcome in ("equal", "repaired", "different"):
                record.audited_at = self._clock.wall()
                self._metrics.last_audit.labels(name).set(record.audited_at)
            record.audit = self._word(report, record.audit)
            if report.outcome == "equal":
                self._alarms.audited_equal(table)
            elif len(report.found):
                message = f"the audit found rows that differ: {report.found}. {_done(report)}"
                self._alarms.audit_differences(table, message, mended=report.outcome == "repaired")
        say = self._log.warning if report.outcome in ("different", "failed") else self._log.info
        say(
            "audited",
            table=name,
            outcome=report.outcome,
            **({"found": str(report.found), "done": _done(report)} if len(report.found) else {}),
            seconds=round(report.seconds, 2),
            next_seconds=round(report.next_seconds, 1),
            **({} if report.error is None else {"error": str(report.error)}),
        )
        self._changed()

    def _word(self, report: AuditReport, before: str | None) -> str | None:
        match report.outcome:
            case "equal":
                return "equal"
            case "repaired" | "different":
                return f"differed: {report.found}. {_done(report)}"
            case "refused":
                return REFUSED
            case "failed":
                return f"failed: {report.error}"
            case "interrupted":
                return before


def _done(report: AuditReport) -> str:
    repaired = report.result.repaired
    done = f"{repaired.sent} were delivered again, {repaired.deleted} marked deleted"
    if repaired.rejected:
        done += f", {repaired.rejected} set aside"
    if report.outcome == "repaired":
        return f"Mended: {done}"
    if report.result.left:
        return f"{done}; {report.result.left} differ all the same"
    return f"Not mended to the end: {done}"

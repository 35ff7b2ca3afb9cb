"""Which of the replicator's events ask for a person's attention? The monitoring table, applied."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cdc.alert import (
    BUFFER_MEMORY,
    FAILED_SYNCS,
    MONITORING,
    SUCCESS_RATE,
    SYNC_LATENCY,
    TARGET_LATENCY,
    TRADE_RATE,
    AlertKind,
    Alerts,
    Severity,
    Threshold,
)
from cdc.change import TableId
from cdc.clock import Clock
from cdc.config import AlertsConfig
from cdc.errors import CdcError, Meaning, SourceError, TargetError
from cdc.observe.status import StandingAlert

if TYPE_CHECKING:  # `cdc status` asks this package for a verdict, and is to start at once
    from cdc.comparison.reconciler import ReconciliationReport
    from cdc.replicator.hold_decision import Early
    from cdc.replicator.ports import Delivered

ATTEMPTS_COUNTED = 100
ATTEMPTS_NEEDED = 20
"""The success rate is that of the last so many attempts to deliver, and says nothing of fewer than these."""
SPOOL_SHARE = 0.8
"""Of the spool's room; above it a person is told, for reading will stop. [R5]"""
DISK_SECONDS = 10.0
RATE_SECONDS = 5.0
FAILURES_TOLD = 1
"""A comparison that was in vain so often in a row is tried again without a word: a table altered meanwhile is
set up anew, one that changes while its log is not followed differs, a target away has an alert of its own."""
MENDED_SECONDS = 600.0
"""A table that breaks again so soon after it was mended will go on: its alert is not cleared at once."""

FAILED_ATTEMPTS = AlertKind(
    "failed_attempts",
    Severity.CRITICAL,
    "Run 'cdc failed list': these rows will not pass by themselves; correct or discard them.",
)
TABLE_HALTED = AlertKind(
    "table_halted",
    Severity.CRITICAL,
    "Do what the message says; the table then goes on by itself.",
    told=True,
)
SOURCE_AWAY = AlertKind(
    "source_away",
    Severity.CRITICAL,
    "Bring the DuckDB file back, or correct [database] path.",
    unwell=True,
    told=True,
)
TARGET_AWAY = AlertKind(
    "target_away",
    Severity.CRITICAL,
    "Start ClickHouse or open the network path to it; the rows wait in the spool and in the source.",
    unwell=True,
)
TARGET_REFUSES = AlertKind(
    "target_refuses",
    Severity.CRITICAL,
    "Do what the message says; the rows wait in the spool and in the source.",
    unwell=True,
)
DELIVERY_STALLED = AlertKind(
    "delivery_stalled",
    Severity.CRITICAL,
    "See whether ClickHouse hangs or has too much to do (its log, system.processes), and whether the network "
    "path to it is open; the rows wait in the spool and in the source.",
)
SPOOL_ROOM = AlertKind(
    "spool_room",
    Severity.CRITICAL,
    "Bring ClickHouse back, or raise [spool] max_mb: once the spool is full, reading stops, and updates and "
    "deletions may go unseen.",
)
INCOMPLETE_GROUPS = AlertKind(
    "incomplete_groups",
    Severity.WARNING,
    "See whether the writer lost the end of these groups, or correct the bounds of [tables.completion].",
    told=True,
)
TAIL_BROKEN = AlertKind(
    "tail_broken",
    Severity.WARNING,
    "Run 'cdc verify TABLE --repair'.",
    unwell=True,
)
KEY_REPEATED = AlertKind(
    "key_not_unique",
    Severity.WARNING,
    "Name columns in [[tables]] key that tell its rows apart, and run 'cdc resync TABLE'; or take the rows "
    "out of the source. Until then the target shows one row of each key: the one with the greatest version, "
    "or else watermark.",
    unwell=True,
)
SELF_TEST = AlertKind(
    "self_test", Severity.CRITICAL, "Install a DuckDB that was tested, and restart.", unwell=True
)
AUDIT_DIFFERENCES = AlertKind(
    "audit_differences",
    Severity.CRITICAL,
    "See the rows with 'cdc verify TABLE'. Find out who changed them in ClickHouse; if nobody did, report it "
    "with the log: rows that differ without a reason are a fault.",
)
TARGET_CHANGED = AlertKind(
    "target_changed",
    Severity.WARNING,
    "Find out who changed the table in ClickHouse; the rows are delivered again without any help.",
)
DECODER_MISMATCH = AlertKind(
    "decoder_mismatch",
    Severity.WARNING,
    "Nothing is wrong in the target: DuckDB decides. Report it with the versions of DuckDB at both ends; "
    "until a restart reading the log costs more.",
)
DISK_SPACE = AlertKind(
    "state_disk",
    Severity.CRITICAL,
    "Free space where the state directory is; a mark that cannot be stored halts its table.",
)


@dataclass(frozen=True, slots=True)
class TableCondition:
    """What is known of one table when it is looked at."""

    table: TableId
    live_rows: int = 0
    """Delivered as they came, so that their number in a time is the pace of the writer."""
    failed_rows: int = 0
    most_attempts: int = 0
    waiting_seconds: float | None = None


class Alarms:
    """Raises and clears the replicator's alerts. Its caller holds a lock; nothing here waits."""

    def __init__(self, alerts: Alerts, config: AlertsConfig, state_directory: Path, clock: Clock) -> None:
        self.alerts = alerts
        self._clock = clock
        self._directory = state_directory
        limits = {
            SYNC_LATENCY: config.latency_ms,
            FAILED_SYNCS: config.failed_rows,
            BUFFER_MEMORY: config.memory_percent,
            TRADE_RATE: config.rows_per_second,
            TARGET_LATENCY: config.round_trip_ms,
            SUCCESS_RATE: config.success_percent,
        }
        self._thresholds: Mapping[AlertKind, Threshold] = {
            kind: replace(MONITORING[kind.name], limit=limit) for kind, limit in limits.items()
        }
        self._most_attempts = config.failed_attempts
        self._standstill_seconds = config.standstill_sec
        self._trouble: TargetError | None = None
        """The last that the target was in,"""
        self._troubles: dict[TableId, TargetError] = {}
        """and of each table what it was refused with, until it delivers again."""
        self._least_free_mb = config.free_disk_mb
        self._outcomes: deque[bool] = deque(maxlen=ATTEMPTS_COUNTED)
        self._rows: deque[tuple[float, int]] = deque()
        self._mended_at: dict[TableId, float] = {}
        self._disk_at = float("-inf")

    def delivered(self, event: Delivered, *, caught_up: bool) -> None:
        """`caught_up`: the table is not reading what was there before, whose lag means nothing."""
        self._attempted(not event.failed_rows)
        self._troubles.pop(event.table, None)
        if caught_up:
            self._measure(SYNC_LATENCY, str(event.table), event.lag_seconds * 1000.0)

    def retried(self, table: TableId, error: CdcError) -> None:
        self._attempted(False)
        if isinstance(error, TargetError):
            self._trouble = self._troubles[table] = error

    def cycle(self, table: TableId) -> None:
        """The table was read to its end."""
        self._measure(SYNC_LATENCY, str(table), 0.0)
        self.alerts.clear(SOURCE_AWAY, "source", at_once=True)
        self.alerts.clear(TABLE_HALTED, str(table), at_once=True)
        self.alerts.clear(TARGET_CHANGED, str(table))

    def halted(self, table: TableId, error: CdcError) -> None:
        if isinstance(error, SourceError) and error.meaning is Meaning.RETRY:
            self.source_away(error)
        else:
            self.alerts.raise_alert(TABLE_HALTED, str(table), str(error))

    def source_away(self, error: CdcError) -> None:
        self.alerts.raise_alert(SOURCE_AWAY, "source", str(error))

    def self_test_failed(self, duckdb: str, problem: str, remedy: str) -> None:
        """It stands until a restart, which tests again."""
        message = f"tables are read in snapshots only, for with DuckDB {duckdb} {problem}"
        self.alerts.raise_alert(replace(SELF_TEST, remedy=remedy), "source", message)

    def key_repeated(self, table: TableId, example: str) -> None:
        self.alerts.raise_alert(KEY_REPEATED, str(table), f"its key is not unique: {example}")

    def key_unique(self, table: TableId) -> None:
        self.alerts.clear(KEY_REPEATED, str(table), at_once=True)

    def decoder_mismatch(self, table: TableId, what: str) -> None:
        """It stands until a restart, after which the decoder is tested again."""
        message = f"our own decoder reads {what} otherwise than DuckDB, which decodes the log alone now"
        self.alerts.raise_alert(DECODER_MISMATCH, str(table), message)

    def measured(self, round_trip_seconds: float | None, memory_share: float | None) -> None:
        if round_trip_seconds is not None:
            self._measure(TARGET_LATENCY, "target", round_trip_seconds * 1000.0)
        if memory_share is not None:
            self._measure(BUFFER_MEMORY, "process", memory_share * 100.0)

    def delivered_early(self, table: TableId, early: Early) -> None:
        """It stands until none was seen for a while: each is an event, and has no end."""
        message = f"{early.groups} groups delivered, such as {early.example}: {early.reason}"
        self.alerts.raise_alert(INCOMPLETE_GROUPS, str(table), message)
        self.alerts.clear(INCOMPLETE_GROUPS, str(table))

    def spooled(self, share: float) -> None:
        """So much of the spools' room is taken."""
        if share > SPOOL_SHARE:
            self.alerts.raise_alert(SPOOL_ROOM, "spool", f"{share:.0%} of its room is taken")
        else:
            self.alerts.clear(SPOOL_ROOM, "spool")

    def tail_broken(self, table: TableId, reason: str) -> None:
        """Nobody but a person compares source and target; it stands until they were found equal."""
        self._tail_broken(
            table,
            f"changes of older rows may have gone unseen: {reason}",
            f"Run 'cdc verify {table} --repair', or set [sync] reconcile = true.",
        )

    def not_reconciled(self, event: ReconciliationReport) -> None:
        table, error = event.table, event.error
        later = f"It is tried again in {event.next_seconds:.0f} s"
        if event.outcome == "refused" and error is not None:
            self._tail_broken(
                table,
                f"changes of older rows may have gone unseen, and this user may not compare: {error.problem}",
                f"GRANT SELECT on the table in ClickHouse to the replicator's user, or run "
                f"'cdc verify {table} --repair' as a user who may read it. {later}.",
            )
        elif event.outcome == "different" and event.failures > FAILURES_TOLD:
            self._tail_broken(
                table,
                f"{event.result.left} rows differ although they were sent again",
                f"See which with 'cdc verify {table}': the target may have greater versions. {later}.",
            )
        elif error is not None and event.failures > FAILURES_TOLD:
            problem = f"changes of older rows may have gone unseen, and comparing failed: {error.problem}"
            self._tail_broken(table, problem, f"{error.remedy}. {later}.")

    def tail_mended(self, table: TableId) -> bool:
        """Cleared at once, unless it comes and goes, as while an encrypted log is not followed. Answers
        whether it stood."""
        if not any(
            each.name == TAIL_BROKEN.name and each.subject == str(table) for each in self.alerts.standing()
        ):
            return False
        now, before = self._clock.monotonic(), self._mended_at.get(table)
        self._mended_at[table] = now
        often = before is not None and now - before < MENDED_SECONDS
        self.alerts.clear(TAIL_BROKEN, str(table), at_once=not often)
        return True

    def audit_differences(self, table: TableId, message: str, *, mended: bool) -> None:
        """It stands until an audit of the table finds none."""
        remedy = AUDIT_DIFFERENCES.remedy.replace("TABLE", str(table))
        kind = replace(AUDIT_DIFFERENCES, remedy=remedy, unwell=not mended)
        self.alerts.raise_alert(kind, str(table), message)

    def audited_equal(self, table: TableId) -> None:
        self.alerts.clear(AUDIT_DIFFERENCES, str(table), at_once=True)

    def target_changed(self, table: TableId, what: str) -> None:
        """It stands until the table was caught up with, and a while after that."""
        message = f"the table in the target {what}: everything is delivered again"
        self.alerts.raise_alert(TARGET_CHANGED, str(table), message)

    def look(self, tables: Iterable[TableCondition], breaker: str) -> None:
        """What no event tells; to be called about once a second."""
        self._target(breaker)
        rows = 0
        for known in tables:
            rows += known.live_rows
            self._stalled(known, breaker)
            self._measure(FAILED_SYNCS, str(known.table), known.failed_rows)
            if known.most_attempts > self._most_attempts:
                message = f"{known.most_attempts} attempts have failed"
                self.alerts.raise_alert(FAILED_ATTEMPTS, str(known.table), message)
            else:
                self.alerts.clear(FAILED_ATTEMPTS, str(known.table))
        self._rate(rows)
        self._disk()
        self.alerts.tick()

    def standing(self) -> tuple[StandingAlert, ...]:
        """The alerts that stand, as the status shows them."""
        return tuple(
            StandingAlert(
                name=each.name,
                subject=each.subject,
                severity=each.severity.value,
                message=each.message,
                remedy=each.remedy,
                raised_at=each.raised_at,
                times=each.times,
                unwell=each.unwell,
            )
            for each in self.alerts.standing()
        )

    def _target(self, breaker: str) -> None:
        """One that gives no answer and one that answers with a refusal ask for different things."""
        trouble = self._trouble
        refuses = trouble is not None and trouble.code is not None
        kind, other = (TARGET_REFUSES, TARGET_AWAY) if refuses else (TARGET_AWAY, TARGET_REFUSES)
        self.alerts.clear(other, "target", at_once=True)
        if breaker == "closed":
            self.alerts.clear(kind, "target", at_once=True)
        elif trouble is None:
            self.alerts.raise_alert(kind, "target", f"the breaker is {breaker}")
        else:
            remedy = f"{trouble.remedy}. The rows wait in the spool and in the source."
            self.alerts.raise_alert(replace(kind, remedy=remedy), "target", trouble.problem)

    def _stalled(self, known: TableCondition, breaker: str) -> None:
        """Told for each table, unless it is told already that none can deliver."""
        seconds, subject = known.waiting_seconds, str(known.table)
        if seconds is None or seconds <= self._standstill_seconds or breaker != "closed":
            self.alerts.clear(DELIVERY_STALLED, subject)
            return
        message, kind = f"the target has not taken what it was sent for {seconds:.0f} s", DELIVERY_STALLED
        if (trouble := self._troubles.get(known.table)) is not None:
            message, kind = f"{message}: {trouble.problem}", replace(kind, remedy=trouble.remedy)
        self.alerts.raise_alert(kind, subject, message)

    def _tail_broken(self, table: TableId, message: str, remedy: str) -> None:
        self.alerts.raise_alert(replace(TAIL_BROKEN, remedy=remedy), str(table), message)

    def _attempted(self, success: bool) -> None:
        self._outcomes.append(success)
        if len(self._outcomes) >= ATTEMPTS_NEEDED:
            percent = 100.0 * sum(self._outcomes) / len(self._outcomes)
            self._measure(SUCCESS_RATE, "target", percent)

    def _rate(self, rows: int) -> None:
        now = self._clock.monotonic()
        self._rows.append((now, rows))
        while now - self._rows[0][0] > RATE_SECONDS:
            self._rows.popleft()
        since, before = self._rows[0]
        if now > since and self._thresholds[TRADE_RATE].limit:
            self._measure(TRADE_RATE, "source", (rows - before) / (now - since))

    def _disk(self) -> None:
        now = self._clock.monotonic()
        if now - self._disk_at < DISK_SECONDS:
            return
        self._disk_at = now
        try:
            free_mb = shutil.disk_usage(self._directory).free >> 20
        except OSError:
            return  # the status file, written there, will say so
        if free_mb < self._least_free_mb:
            self.alerts.raise_alert(DISK_SPACE, str(self._directory), f"{free_mb} MB are free")
        else:
            self.alerts.clear(DISK_SPACE, str(self._directory))

    def _measure(self, kind: AlertKind, subject: str, value: float) -> None:
        self.alerts.measure(self._thresholds[kind], subject, value)

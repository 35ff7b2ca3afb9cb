"""What is made of the replicator's events: log lines, metrics and the status, without ever holding it up."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil
import structlog

from cdc.alert import Alerts, Handler
from cdc.change import TableId, TablePlan, Unseen
from cdc.clock import Clock, SystemClock
from cdc.comparison.reconciler import LoopState
from cdc.config import AlertsConfig
from cdc.errors import CdcError
from cdc.observe.alarms import Alarms
from cdc.observe.audits import KINDS, Audits
from cdc.observe.health import HealthReport, live, ready
from cdc.observe.metrics import DUCKDB, Metrics, set_or_absent
from cdc.observe.record import About, FailedCount, TableObservation, as_number, utc
from cdc.observe.status import LeftOutTable, Status
from cdc.observe.status_file import StatusFile
from cdc.observe.unseen import UnseenChanges
from cdc.product import __version__
from cdc.replicator.hold_decision import Early, Waiting
from cdc.replicator.limits import MemoryUse
from cdc.replicator.plan import LeftOut
from cdc.replicator.ports import Delivered, Spooling
from cdc.stored import TableProgress


class ReplicationObserver:
    """The replicator's `Observer`. Its methods take a lock for microseconds and do no input or output: the
    log has a thread of its own, and so has the status file.

    It is a context manager: entering starts the status file (StateError where its directory cannot be made),
    leaving writes its last word.
    """

    def __init__(
        self,
        metrics: Metrics,
        status_path: Path,
        about: About,
        *,
        alerts: AlertsConfig | None = None,
        handlers: Sequence[Handler] = (),
        stalled_seconds: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            handlers: are told of each alert raised or cleared.
            stalled_seconds: a table not heard of for this long is stalled; more than its longest rest.
        """
        alerts = alerts or AlertsConfig()
        self._metrics = metrics
        self._about = about
        self._stalled_seconds = stalled_seconds
        self._clock = clock or SystemClock()
        self._log = structlog.get_logger("cdc.replicator")
        self._lock = threading.Lock()
        self._tables: dict[TableId, TableObservation] = {}
        self._left_out: tuple[LeftOutTable, ...] = ()
        self._state: Literal["starting", "running", "stopped"] = "starting"
        self._breaker: Callable[[], str] = lambda: "closed"
        self._failed_rows: Callable[[], Mapping[TableId, FailedCount]] = dict
        self._waiting: Callable[[], Mapping[TableId, float]] = dict
        self._standstill_seconds = alerts.standstill_sec
        self._was_well = True
        self._alarms = Alarms(
            Alerts(self._clock, handlers=handlers, gauge=self._gauge),
            alerts,
            status_path.parent,
            self._clock,
        )
        self._started_at = self._clock.wall()
        self._process_start = psutil.Process().create_time()
        self._decoder_mismatch: str | None = None
        self.tails_lost = 0
        """How often a log could not be followed: because a table was altered, among other reasons."""
        self._file = StatusFile(
            status_path, self._clock, status=self._counted, look=self._look, unwritten=self._unwritten
        )
        self.unseen = UnseenChanges(
            self._lock, self._record, self._alarms, metrics, self._clock, self._file.changed
        )
        """The reconciler tells it."""
        self.audits = Audits(self._lock, self._record, self._alarms, metrics, self._clock, self._file.changed)
        """The audit tells it."""

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._state = "stopped"
        self._file.__exit__(kind, error, trace)

    def about(self, about: About) -> None:
        """Replace what is said of the process, once more is known."""
        with self._lock:
            self._about = about
        self._file.changed(urgent=True)

    def begin(
        self,
        plans: Iterable[TablePlan],
        left_out: Iterable[LeftOut],
        progress: Mapping[TableId, TableProgress],
        breaker: Callable[[], str] | None = None,
        failed_rows: Callable[[], Mapping[TableId, FailedCount]] | None = None,
        waiting: Callable[[], Mapping[TableId, float]] | None = None,
    ) -> None:
        """What is about to be replicated, and from where; called again for tables that are added.

        Args:
            progress: what the store knows of the tables, for their marks and failed rows.
            breaker: gives the breaker's state: `closed`, `open` or `half-open`.
            failed_rows: counts the failed rows that are stored; asked before the status is written, by its
                thread. Between, those of the deliveries are added.
            waiting: gives for how many seconds the target of a table has not taken what it was sent.
        """
        now, heard_at = self._clock.wall(), self._clock.monotonic()
        left = tuple(
            LeftOutTable(table=str(item.table), reason=item.reason, listed=item.listed) for item in left_out
        )
        with self._lock:
            for plan in plans:
                known = progress.get(plan.table, TableProgress())
                table = TableObservation(str(plan.table), plan.target, since=now, heard_at=heard_at)
                table.failed_rows, table.audit = known.failed_rows, self.audits.before
                table.watermark = None if known.mark is None else known.mark.watermark
                self._tables[plan.table] = table
                self._metrics.enter(table.name, table.state)
                self._metrics.failed_rows.labels(table.name).set(known.failed_rows)
                for kind in KINDS:  # it is 0 and not absent where nothing was found
                    self._metrics.audit_differences.labels(table.name, kind)
                set_or_absent(self._metrics.watermark, table.name, as_number(table.watermark))
            news = [item for item in left if item not in self._left_out]
            self._left_out = left
            self._breaker = breaker or self._breaker
            self._failed_rows = failed_rows or self._failed_rows
            self._waiting = waiting or self._waiting
            self._state = "running"
        for item in news:
            say = self._log.error if item.listed else self._log.info
            say("table left out", table=item.table, reason=item.reason)
        self._file.changed(urgent=True)

    # The Observer port

    def delivered(self, event: Delivered) -> None:
        name = str(event.table)
        with self._lock:
            table = self._heard(event.table, event.target)
            table.delivered(event)
            self._metrics.delivered(event)
            if event.mark is not None:
                set_or_absent(self._metrics.watermark, name, as_number(table.watermark))
            self._metrics.failed_rows.labels(name).set(table.failed_rows)
            set_or_absent(self._metrics.seconds_behind, name, table.seconds_behind)
            self._alarms.delivered(event, caught_up=table.state == "running")
        self._log.debug(
            "delivered",
            table=name,
            rows=event.rows,
            bytes=event.bytes,
            watermark=table.watermark,
            lag_ms=round(event.lag_seconds * 1000, 1),
        )
        if event.failed_rows:
            self._log.error(
                "rows set aside", table=name, rows=event.failed_rows, remedy="See: cdc failed list"
            )
        self._file.changed()

    def cycle(self, table: TableId, rows_behind: int | None) -> None:
        with self._lock:
            known = self._heard(table)
            known.rows_behind = rows_behind
            known.error = None
            if rows_behind == 0:
                known.seconds_behind = 0.0
                known.last_cycle_at = self._clock.wall()
                self._metrics.last_cycle.labels(known.name).set(known.last_cycle_at)
                set_or_absent(self._metrics.seconds_behind, known.name, 0.0)
            set_or_absent(self._metrics.rows_behind, known.name, rows_behind)
            self._alarms.cycle(table)
        self._file.changed()

    def state(self, table: TableId, state: str, error: CdcError | None = None) -> None:
        with self._lock:
            known = self._heard(table)
            changed = known.state != state
            known.state = state
            known.since = self._clock.wall() if changed else known.since
            known.error = None if error is None else str(error)
            self._metrics.enter(known.name, state)
            if error is not None:
                self._alarms.halted(table, error)
            if state != "running":  # how far behind it is will be known again once it runs
                known.rows_behind = known.seconds_behind = None
                set_or_absent(self._metrics.rows_behind, known.name, None)
                set_or_absent(self._metrics.seconds_behind, known.name, None)
        if error is not None:
            self._failed(known.name, "table halted", error, state=state)
        elif changed:
            self._log.info("table state", table=known.name, state=state)
        self._file.changed(urgent=changed)

    def retried(self, table: TableId, error: CdcError, attempt: int, delay_seconds: float) -> None:
        with self._lock:
            known = self._heard(table)
            known.heard_at += delay_seconds
            halted = known.state == "paused" and known.error == str(error)
            known.retries += 1
            known.error = str(error)
            known.rows_behind = known.seconds_behind = None
            self._metrics.retries.labels(known.name).inc()
            self._alarms.retried(table, error)
            set_or_absent(self._metrics.rows_behind, known.name, None)
            set_or_absent(self._metrics.seconds_behind, known.name, None)
        if not halted:  # of which there is a line already
            self._failed(known.name, "retry", error, attempt=attempt, delay_seconds=round(delay_seconds, 2))
        self._file.changed()

    def unseen_noted(self, table: TableId, unseen: Unseen) -> None:
        self.unseen.noted(table, unseen)

    def held(self, table: TableId, waiting: Waiting) -> None:
        with self._lock:
            known = self._heard(table)
            known.held_rows, known.held_groups = waiting.rows, waiting.groups
            known.held_since = waiting.since
            self._metrics.held_rows.labels(known.name).set(waiting.rows)
            self._metrics.held_groups.labels(known.name).set(waiting.groups)
            set_or_absent(self._metrics.held_since, known.name, waiting.since)
        self._file.changed()

    def delivered_early(self, table: TableId, early: Early) -> None:
        self._metrics.incomplete_groups.labels(str(table)).inc(early.groups)
        with self._lock:
            self._alarms.delivered_early(table, early)
        self._log.warning(
            "incomplete groups delivered",
            table=str(table),
            groups=early.groups,
            rows=early.rows,
            example=early.example,
            reason=early.reason,
        )
        self._file.changed()

    def spooled(self, table: TableId, spooling: Spooling) -> None:
        with self._lock:
            known = self._heard(table)
            before, since = known.spool_rows, known.spool_since
            known.spool_rows, known.spool_bytes = spooling.rows, spooling.bytes
            known.spool_since = spooling.since
            self._metrics.spool_rows.labels(known.name).set(spooling.rows)
            self._metrics.spool_bytes.labels(known.name).set(spooling.bytes)
            set_or_absent(self._metrics.spool_since, known.name, spooling.since)
            self._alarms.spooled(spooling.share)
        if spooling.rows and not before:
            self._log.warning("target away, rows are spooled", table=known.name, rows=spooling.rows)
        elif before and not spooling.rows:
            seconds = 0.0 if since is None else max(0.0, self._clock.wall() - since)
            self._log.info("spool delivered", table=known.name, seconds=round(seconds, 1))
        self._file.changed(urgent=bool(spooling.rows) != bool(before))

    def spool_discarded(self, table: TableId, rows: int, reason: str) -> None:
        self._metrics.spool_discarded_rows.labels(str(table)).inc(rows)
        self._log.error(
            "rows of the spool dropped, to be read again",
            table=str(table),
            rows=rows,
            reason=reason,
            remedy=f"Those that are gone from the source by now are lost; see: cdc verify {table}",
        )

    def target_changed(self, table: TableId, what: str) -> None:
        self._metrics.target_changes.labels(str(table)).inc()
        with self._lock:
            self._alarms.target_changed(table, what)
        self._log.warning(f"the table in the target {what}: everything is delivered again", table=str(table))
        self._file.changed(urgent=True)

    def measured(self, round_trip_seconds: float | None, memory: MemoryUse | None) -> None:
        if memory is not None:
            self._metrics.memory.labels("standing").set(memory.standing)
            self._metrics.memory.labels("waiting").set(memory.waiting)
            self._metrics.memory.labels("room").set(memory.room)
        self._metrics.round_trip.set(math.nan if round_trip_seconds is None else round_trip_seconds)
        with self._lock:
            self._alarms.measured(round_trip_seconds, memory.share if memory is not None else None)

    def source_away(self, error: CdcError) -> None:
        """The source cannot be opened yet."""
        with self._lock:
            self._alarms.source_away(error)
        self._log.warning("waiting for the source", error=str(error), error_class=type(error).__name__)

    def self_tested(self, failed: str | None, remedy: str, seconds: float) -> None:
        """What the self-test found wrong with the DuckDB at hand; nothing at best."""
        self._metrics.self_test_failed.set(failed is not None)
        if failed is None:
            self._log.info("self-test passed", duckdb=DUCKDB, seconds=round(seconds, 2))
        else:
            with self._lock:
                self._alarms.self_test_failed(DUCKDB, failed, remedy)

    # The source's events

    def snapshot_superseded(self) -> None:
        self._metrics.snapshot_retries.inc()
        self._log.debug("snapshot superseded")

    def duckdb_failed(self, reason: str) -> None:
        self._metrics.duckdb_failures.inc()
        self._log.warning("DuckDB failed and was replaced, what it read is read again", reason=reason)

    def tail_lost(self, table: TableId, reason: str) -> None:
        self.tails_lost += 1
        self._metrics.tail_lost.labels(str(table)).inc()
        self._log.info("log not followed, reading snapshots", table=str(table), reason=reason)

    def decoder_mismatch(self, table: TableId, what: str) -> None:
        self._metrics.decoder_mismatches.labels(str(table)).inc()
        with self._lock:
            self._decoder_mismatch = f"{table}: {what}"
            self._alarms.decoder_mismatch(table, what)
        self._log.error(
            "DuckDB reads the log otherwise than our own decoder, and decodes it alone now",
            table=str(table),
            what=what,
        )
        self._file.changed(urgent=True)

    def tail_gap(self, table: TableId, rows: int) -> None:
        self._metrics.tail_gap_rows.labels(str(table)).inc(rows)
        self._log.info("rows found that were not in the log", table=str(table), rows=rows)

    def key_repeated(self, table: TableId, example: str) -> None:
        self._log.warning("the key is not unique", table=str(table), example=example)
        with self._lock:
            self._alarms.key_repeated(table, example)

    def key_unique(self, table: TableId) -> None:
        self._log.info("the key is unique again", table=str(table))
        with self._lock:
            self._alarms.key_unique(table)

    # What the page and the status command ask

    def status(self) -> Status:
        """All that is known now."""
        with self._lock:
            self._see_what_waits()
            return Status(
                state=self._state,
                version=__version__,
                pid=os.getpid(),
                process_start=self._process_start,
                started_at=utc(self._started_at),
                updated_at=utc(self._clock.wall()),
                config=self._about.config,
                source=self._about.source,
                identity=self._about.identity,
                lease_number=self._about.lease_number,
                targets=self._about.targets,
                page=self._about.page,
                breaker=self._breaker(),
                duckdb=DUCKDB,
                self_test=self._about.self_test,
                decoder_mismatch=self._decoder_mismatch,
                untested=self._about.untested,
                tables=tuple(table.status() for table in self._tables.values()),
                left_out=self._left_out,
                alerts=self._alarms.standing(),
                standstill_seconds=self._standstill_seconds,
            )

    def render_metrics(self) -> bytes:
        self._metrics.breaker(self._breaker())
        with self._lock:
            self._see_what_waits()
        return self._metrics.render()

    def live(self) -> HealthReport:
        """Every table's loop turns: it was heard of within `stalled_seconds`."""
        with self._lock:
            return live(self._tables.values(), self._clock.monotonic(), self._stalled_seconds)

    def ready(self) -> HealthReport:
        """Every table is caught up and running; see `cdc.observe.health`."""
        return ready(self.status())

    def standing(self, id_: TableId) -> LoopState:
        """What the table's loop does now."""
        with self._lock:
            table = self._record(id_)
            running = table.state == "running" and table.error is None
            return LoopState(running, table.since, table.last_cycle_at)

    def broken(self, id_: TableId) -> bool:
        """Whether changes of the table may have gone unseen, and it is yet to be compared."""
        with self._lock:
            return self._record(id_).broken_since is not None

    def _heard(self, id_: TableId, target: str = "") -> TableObservation:
        table = self._record(id_, target)
        table.heard_at = self._clock.monotonic()
        return table

    def _record(self, id_: TableId, target: str = "") -> TableObservation:
        table = self._tables.get(id_)
        if table is None:
            table = self._tables[id_] = TableObservation(
                str(id_), target or id_.name, since=self._clock.wall()
            )
            table.heard_at = self._clock.monotonic()
        return table

    def _failed(self, table: str, event: str, error: CdcError, **facts: object) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        self._log.warning(event, table=table, error=str(error), error_class=type(error).__name__, **facts)

    def _count_failed_rows(self) -> None:
        """Rows that were retried or discarded are no longer among them, which no event tells."""
        try:
            counts = self._failed_rows()
        except CdcError as error:
            self._failed("", "failed rows not counted", error)
            return
        with self._lock:
            for id_, count in counts.items():
                if (table := self._tables.get(id_)) is not None:
                    table.failed_rows = count.rows
                    table.most_attempts = count.most_attempts
                    self._metrics.failed_rows.labels(table.name).set(count.rows)

    def _see_what_waits(self) -> None:
        waiting = self._waiting()
        for id_, table in self._tables.items():
            table.waiting_seconds = waiting.get(id_)
            self._metrics.waiting.labels(table.name).set(table.waiting_seconds or 0.0)

    def _look(self) -> bool:
        """Raise and clear what no event tells; whether the status is another by it."""
        with self._lock:
            self._see_what_waits()
            standing = [table.condition(id_) for id_, table in self._tables.items()]
            before = self._alarms.alerts.standing()
            self._alarms.look(standing, self._breaker())
            changed = len(before) != len(self._alarms.alerts.standing())
        well = self.ready().ok
        changed |= well != self._was_well  # who reads the file comes to the same verdict as who asks the page
        self._was_well = well
        return changed

    def _gauge(self, name: str, severity: str, count: int) -> None:
        self._metrics.alert.labels(name, severity).set(count)

    def _counted(self) -> Status:
        self._count_failed_rows()
        return self.status()

    def _unwritten(self, path: Path, error: OSError) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        self._log.warning(
            "status file not written",
            path=str(path),
            error_class=type(error).__name__,
            error=str(error),
        )

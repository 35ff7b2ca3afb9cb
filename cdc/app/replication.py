"""What `cdc run` comes to: everything wired together, and kept so until told to stop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

import structlog

from cdc.alert import Handler
from cdc.alert_delivery import AlertDelivery
from cdc.app.reconciling import ReconcilerThread
from cdc.app.wiring import plan_again, plans_of, source_of, store_of, target_of
from cdc.change import Batch, BatchLimits, Position, TableId, TablePlan
from cdc.clock import SystemClock
from cdc.config import Settings
from cdc.errors import CdcError, ExitCode, Meaning
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.page import Page
from cdc.observe.record import About, FailedCount
from cdc.rate import Rate
from cdc.replicator.breaker import Breaker
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Hooks, Policies, Ports
from cdc.replicator.ports import Target
from cdc.replicator.retry import Backoff
from cdc.replicator.runner import Replicator
from cdc.source import CompletionRule, DuckDbSource
from cdc.state import Lease, Leases, Store
from cdc.watermark import BoundMarks, bind

LOOK_SECONDS = 1.0
"""How often a running replicator looks for tables that are new or altered."""
AWAY_SECONDS = 1.0
"""The pause before a source that is not there yet is looked for again."""


def replicate(settings: Settings, stop: threading.Event, *, standby: bool = False) -> None:
    """Replicate until `stop` is set.

    Raises:
        ConfigError, SourceError, StateError: nothing can be replicated until a person does something.
        LeaseHeld: another replicator is active on this source, or has taken over.
    """
    with ExitStack() as stack:
        # Before anything that two replicators would share: status file, page, store. Which database the path
        # leads to is known later; a lease of that one then guards it from other paths to it.
        if not _take(Lease(settings.state.directory, str(settings.database.path)), stack, stop, standby):
            return
        store = stack.enter_context(store_of(settings))  # first, for the last status counts its failed rows
        about = About(str(settings.path), str(settings.database.path), tuple(map(str, settings.endpoints)))
        metrics = Metrics()
        observer = stack.enter_context(
            ReplicationObserver(
                metrics,
                settings.status_path,
                about,
                alerts=settings.alerts,
                handlers=_handlers(settings, stack),
                stalled_seconds=_longest_rest(settings),
            )
        )
        if settings.metrics.enabled:
            about = replace(about, page=stack.enter_context(Page(settings.metrics, observer)).url)
        source = _source_once_there(settings, observer, stop)
        if source is None:
            return
        stack.callback(source.close)
        about = replace(about, identity=source.identity)
        observer.about(about)
        lease = Lease(settings.state.directory, source.identity)
        if not _take(lease, stack, stop, standby):
            return
        held = Leases(lease)
        if settings.redis.lease:
            from cdc.app.with_redis import lease_of

            elsewhere = lease_of(settings, source.identity)
            if elsewhere is not None:
                if not _take(elsewhere, stack, stop, standby):
                    return
                held = Leases(lease, elsewhere)
                about = replace(about, lease_number=elsewhere.number)
                observer.about(about)
                structlog.get_logger("cdc.run").info("lease taken in Redis", number=elsewhere.number)
        marks = bind(store, source.identity, held)
        sent = Rate(settings.limits.max_bytes_per_second, SystemClock())
        clickhouse = target_of(settings, sent=sent)
        stack.callback(clickhouse.close)
        target: Target = clickhouse
        copied: Callable[[Batch], None] | None = None
        if (redis := settings.redis.options) is not None:
            from cdc.app.with_redis import copied_to_redis

            target = copy = copied_to_redis(
                target, settings, redis, source.identity, observer.status, metrics, stack, about.lease_number
            )
            copied = copy.offer
        limits = _limits(settings, sent)
        replicator = Replicator(
            Ports(source, target, marks, observer),
            Policies(
                pace=_pace(settings),
                backoff=_backoff(settings),
                breaker=_breaker(settings),
                limits=limits,
                room=DiskBudget(settings.spool.max_mb << 20) if settings.spool.enabled else None,
            ),
            Hooks(
                plan_again=lambda plan: plan_again(settings, source, plan),
                rules=CompletionRule,
                copied=copied,
            ),
            stop=stop,
        )
        tables = _Tables(settings, source, store, marks, observer, replicator)
        reconciler = ReconcilerThread(
            settings,
            source,
            clickhouse,
            store,
            marks,
            observer,
            replicator,
            limits,
            lambda: tables.found,
            stop,
        )
        while not stop.is_set():
            tables.look()
            stop.wait(LOOK_SECONDS if tables.found else AWAY_SECONDS)
        replicator.stop()
        if not (replicator.join() and reconciler.join()):
            # Nothing durable is open: it is as if it were killed now, without the signal.
            structlog.get_logger("cdc.run").warning("ended although a read is still under way")
            os._exit((ExitCode.OK if replicator.error is None else replicator.error.exit_code).value)
        if replicator.error is not None:
            raise replicator.error


class Takes(Protocol):
    """A lease, of this host or of several."""

    def standby(self, stop: threading.Event) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...


class _Tables:
    """Adds the source's tables to the replicator as they appear, and tells it of those that were altered."""

    def __init__(
        self,
        settings: Settings,
        source: DuckDbSource,
        store: Store,
        marks: BoundMarks,
        observer: ReplicationObserver,
        replicator: Replicator,
    ) -> None:
        self._settings = settings
        self._source = source
        self._store = store
        self._marks = marks
        self._observer = observer
        self._replicator = replicator
        self._looked_at: Position | None = None
        self._tails_lost = 0
        self._complete = False
        self.found: dict[TableId, TablePlan] = {}

    def look(self) -> None:
        """Add what is new. The catalog is read again only after a checkpoint, or while a table is missing, or
        when a log could no longer be followed.

        Raises:
            CdcError: at the first look only; a later one is tried again.
        """
        try:
            position, tails_lost = self._source.position(), self._observer.tails_lost
            seen = self._looked_at is not None and (
                position == self._looked_at
                or (
                    self._complete
                    and tails_lost == self._tails_lost
                    and position.iteration == self._looked_at.iteration
                )
            )
            if not seen:
                self._add()
                self._looked_at, self._tails_lost = position, tails_lost
        except CdcError as error:
            if error.meaning is not Meaning.RETRY and not self.found:
                raise
            structlog.get_logger("cdc.run").warning("tables not looked for", error=str(error))

    def _add(self) -> None:
        resolution = plans_of(self._settings, self._source, strict=False)
        new = [plan for plan in resolution.plans if plan.table not in self.found]
        self._observer.begin(
            new,
            resolution.left_out,
            {plan.table: self._marks.load(plan.table) for plan in new},
            breaker=lambda: self._replicator.breaker.state.value,
            failed_rows=self._failed_rows,
        )
        for plan in resolution.plans:
            known = self.found.get(plan.table)
            self.found[plan.table] = plan
            if known is None:
                self._replicator.add(plan)
            elif plan != known:
                self._replicator.replan(plan)
        self._complete = bool(self.found) and not any(table.listed for table in resolution.left_out)

    def _failed_rows(self) -> dict[TableId, FailedCount]:
        source = self._source.identity
        attempts = self._store.most_attempts(source)
        return {
            each.table: FailedCount(each.failed_rows, attempts.get(each.table, 0))
            for each in self._store.tables()
            if each.source == source
        }


def _take(lease: Takes, stack: ExitStack, stop: threading.Event, standby: bool) -> bool:
    """Take the lease until the stack ends; False when told to stop while waiting for it."""
    if standby:
        log = structlog.get_logger("cdc.run")
        log.info("standing by", lease=str(lease))
        if not lease.standby(stop):
            return False
        log.info("lease taken", lease=str(lease))
        stack.callback(lease.release)
    else:
        stack.enter_context(lease)
    return True


def _handlers(settings: Settings, stack: ExitStack) -> tuple[Handler, ...]:
    """Where alerts go besides log, status and metrics."""
    alerts = settings.supervisor.alerts
    if not alerts.command and alerts.webhook is None:
        return ()
    webhook = None if alerts.webhook is None else alerts.webhook.get_secret_value()
    return (stack.enter_context(AlertDelivery(alerts.command or (), webhook)).deliver,)


def _source_once_there(
    settings: Settings, observer: ReplicationObserver, stop: threading.Event
) -> DuckDbSource | None:
    """The source, as soon as there is one: a writer may start later. None when stopped before."""
    while not stop.is_set():
        try:
            return source_of(settings, events=observer)
        except CdcError as error:
            if error.meaning is not Meaning.RETRY:
                raise
            observer.source_away(error)
        stop.wait(AWAY_SECONDS)
    return None


def _pace(settings: Settings) -> Pace:
    sync = settings.sync
    return Pace(
        limits=BatchLimits(rows=sync.batch_size, bytes=sync.max_batch_bytes),
        linger_ms=sync.linger_ms,
        busy_percent=sync.busy_percent,
        interval_seconds=sync.sync_interval_sec,
        halted_seconds=settings.error_handling.halted_sec,
        retry_at_once_rows=settings.alerts.failed_rows,
    )


def _limits(settings: Settings, sent: Rate) -> ReplicatorLimits:
    limits = settings.limits
    return ReplicatorLimits(
        SystemClock(),
        rows_per_second=limits.max_rows_per_second,
        sent=sent,
        memory_bytes=limits.max_memory_mb << 20,
    )


def _backoff(settings: Settings) -> Backoff:
    errors = settings.error_handling
    return Backoff(
        first_seconds=errors.retry_first_ms / 1000.0,
        first_attempts=errors.retry_first_attempts,
        steps_seconds=errors.retry_backoff_sec,
    )


def _breaker(settings: Settings) -> Breaker:
    errors = settings.error_handling
    return Breaker(SystemClock(), errors.breaker_failures, errors.breaker_open_sec)


def _longest_rest(settings: Settings) -> float:
    """Seconds a table's loop may be silent although all is well."""
    pace, errors = _pace(settings), settings.error_handling
    waits = (pace.idle_seconds, pace.gap_seconds, errors.halted_sec, *errors.retry_backoff_sec)
    return 2.0 * max(waits) + settings.target.receive_timeout_sec

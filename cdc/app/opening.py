"""What does a replication work with, in which order is it opened, and what is waited for meanwhile?"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from cdc.alert import Handler
from cdc.alert_delivery import AlertDelivery
from cdc.app.policies import limits_of, longest_rest_seconds
from cdc.app.wiring import source_of, store_of, target_of
from cdc.change import Batch
from cdc.clock import SystemClock
from cdc.config import Settings, loosened
from cdc.eras import Eras
from cdc.errors import CdcError, Meaning
from cdc.observe.metrics import Metrics
from cdc.observe.observer import ReplicationObserver
from cdc.observe.page import Page
from cdc.observe.record import About
from cdc.observe.status import PASSED
from cdc.rate import Rate
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.ports import Target
from cdc.source import AnySource, SelfTest, run_self_test
from cdc.state import Lease, Leases, Store
from cdc.target import ClickHouseTarget
from cdc.watermark import BoundMarks, bind

AWAY_SECONDS = 1.0
"""The pause before a source that is not there yet is looked for again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What one replication has open. The stack that it was opened on closes it."""

    settings: Settings
    store: Store
    observer: ReplicationObserver
    source: AnySource
    marks: BoundMarks
    """Those of the source, guarded by its leases."""
    clickhouse: ClickHouseTarget
    limits: ReplicatorLimits
    target: Target
    """Where batches are delivered: `clickhouse`, or that and the copy in Redis."""
    copied: Callable[[Batch], None] | None
    """Offers a batch to the copy in Redis; None: there is no copy."""
    stop: threading.Event
    """Ends every wait."""


class StoppedWaiting(Exception):
    """It was told to stop before everything was open."""


class Opening:
    """Opens what a replication works with, on `stack`.

    Args:
        stop: ends the wait for a lease or a source.
        standby: wait for a lease that another replicator holds, instead of being refused.
    """

    def __init__(self, settings: Settings, stack: ExitStack, stop: threading.Event, *, standby: bool) -> None:
        self._settings = settings
        self._stack = stack
        self._stop = stop
        self._standby = standby
        self._metrics = Metrics()
        self._about = About(
            str(settings.path), str(settings.database.path), tuple(map(str, settings.endpoints))
        )
        self._log = structlog.get_logger("cdc.run")

    def all(self) -> Opened:
        """Everything, as soon as there is a source and this replicator may have it.

        Raises:
            StoppedWaiting: it was told to stop before.
            ConfigError, SourceError, StateError: nothing can be replicated until a person does something.
            LeaseHeld: another replicator is active on this source.
        """
        settings = self._settings
        for setting in loosened(settings):
            self._log.warning(
                "loosened", danger=setting.danger, allowed_by=f"{setting.section}.{setting.key}"
            )
        # Before anything that two replicators would share: status file, page, store. Which database the path
        # leads to is known later; a lease of that one then guards it from other paths to it.
        self._take(Lease(settings.state.directory, str(settings.database.path)))
        store = self._stack.enter_context(store_of(settings))  # first: the last status counts its failed rows
        observer = self._observer()
        source = self._source_once_there(self._self_tested(observer), observer, store.eras)
        marks = bind(store, source.identity, self._leases(source, observer))
        sent = Rate(settings.limits.max_bytes_per_second, SystemClock())
        clickhouse = target_of(settings, sent=sent)
        self._stack.callback(clickhouse.close)
        target, copied = self._copied(clickhouse, source, observer)
        limits = limits_of(settings, sent)
        return Opened(
            settings, store, observer, source, marks, clickhouse, limits, target, copied, self._stop
        )

    def _observer(self) -> ReplicationObserver:
        """What tells of the replication: status file, metrics and alerts, and their page if there is one."""
        settings = self._settings
        observer = ReplicationObserver(
            self._metrics,
            settings.status_path,
            self._about,
            alerts=settings.alerts,
            handlers=self._alert_handlers(),
            stalled_seconds=longest_rest_seconds(settings),
        )
        self._stack.enter_context(observer)
        if settings.metrics.enabled:
            page = self._stack.enter_context(Page(settings.metrics, observer))
            self._about = replace(self._about, page=page.url)
        return observer

    def _alert_handlers(self) -> tuple[Handler, ...]:
        """Where alerts go besides log, status and metrics."""
        alerts = self._settings.supervisor.alerts
        if not alerts.command and alerts.webhook is None:
            return ()
        webhook = None if alerts.webhook is None else alerts.webhook.get_secret_value()
        return (self._stack.enter_context(AlertDelivery(alerts.command or (), webhook)).deliver,)

    def _self_tested(self, observer: ReplicationObserver) -> SelfTest | None:
        """How far the DuckDB at hand is to be relied on. Where no log is followed, as on
        Windows and where the database is served, there is no test."""
        if sys.platform == "win32" or self._settings.database.address is not None:
            return None
        done = run_self_test(self._settings.state.directory)
        self._about = replace(self._about, self_test=done.failed or PASSED)
        observer.about(self._about)
        observer.self_tested(done.failed, done.remedy, done.seconds)
        return done

    def _source_once_there(
        self, self_test: SelfTest | None, observer: ReplicationObserver, eras: Eras
    ) -> AnySource:
        """The source, as soon as there is one: a writer may start later."""
        while not self._stop.is_set():
            try:
                source = source_of(self._settings, self_test=self_test, events=observer, eras=eras)
            except CdcError as error:
                if error.meaning is not Meaning.RETRY:
                    raise
                observer.source_away(error)
            else:
                self._stack.callback(source.close)
                self._about = replace(self._about, identity=source.identity, untested=source.untested)
                observer.about(self._about)
                self._log.info("source opened", way=way_of(self._settings, sys.platform))
                if source.untested:
                    self._log.warning("not tested", versions="; ".join(source.untested))
                self._say_of_key(source)
                return source
            self._stop.wait(AWAY_SECONDS)
        raise StoppedWaiting

    def _say_of_key(self, source: AnySource) -> None:
        """Whoever gives a key believes the file to be encrypted; that of a served one is its writer's."""
        if self._settings.database.address is not None:
            return
        if self._settings.database.encryption_key is not None and not source.encrypted:
            self._log.warning(
                "the file is not encrypted: its key is not used",
                path=str(source.path),
                remedy="Take master_key of [encryption] out of secrets.toml and DUCKDB_ENCRYPTION_KEY out of "
                "the environment, or have the writer encrypt the file",
            )

    def _leases(self, source: AnySource, observer: ReplicationObserver) -> Leases:
        """The source's lease of this host, and the one in Redis where several hosts ask for it."""
        here = Lease(self._settings.state.directory, source.identity)
        self._take(here)
        if not self._settings.redis.lease:
            return Leases(here)
        from cdc.app.with_redis import lease_of

        elsewhere = lease_of(self._settings, source.identity)
        if elsewhere is None:
            return Leases(here)
        self._take(elsewhere)
        self._about = replace(self._about, lease_number=elsewhere.number)
        observer.about(self._about)
        self._log.info("lease taken in Redis", number=elsewhere.number)
        return Leases(here, elsewhere)

    def _copied(
        self, clickhouse: ClickHouseTarget, source: AnySource, observer: ReplicationObserver
    ) -> tuple[Target, Callable[[Batch], None] | None]:
        """The target with its copy in Redis, where one is asked for, and what offers a batch to the copy."""
        settings, options = self._settings, self._settings.redis.options
        if options is None:
            return clickhouse, None
        from cdc.app.with_redis import copied_to_redis

        number = self._about.lease_number
        copy = copied_to_redis(
            clickhouse,
            settings,
            options,
            source.identity,
            observer.status,
            self._metrics,
            self._stack,
            number,
        )
        return copy, copy.offer

    def _take(self, lease: _Takes) -> None:
        """Take the lease until the stack ends.

        Raises:
            StoppedWaiting: it was told to stop while waiting for it.
        """
        if not self._standby:
            self._stack.enter_context(lease)
            return
        self._log.info("standing by", lease=str(lease))
        if not lease.standby(self._stop):
            raise StoppedWaiting
        self._log.info("lease taken", lease=str(lease))
        self._stack.callback(lease.release)


class _Takes(Protocol):
    """A lease, of this host or of several."""

    def standby(self, stop: threading.Event) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...


def way_of(settings: Settings, platform: str) -> str:
    """Which of the ways of the README the source is read in, and why."""
    if settings.database.address is not None:
        return "served: its writer answers at the address"
    if platform == "win32":
        return "released: DuckDB shares its file with nobody here, so it is read while no writer holds it"
    return "live: the file is read beside its writer"

"""Which policies do settings ask of a replicator?"""

from __future__ import annotations

from cdc.change import BatchLimits
from cdc.clock import SystemClock
from cdc.config import Settings
from cdc.rate import Rate
from cdc.replicator.breaker import Breaker
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Policies
from cdc.replicator.retry import Backoff


def policies_of(settings: Settings, limits: ReplicatorLimits) -> Policies:
    """All of them; `limits` are what `limits_of` gave."""
    return Policies(
        pace=_pace(settings),
        backoff=_backoff(settings),
        breaker=_breaker(settings),
        limits=limits,
        room=DiskBudget(settings.spool.max_mb << 20) if settings.spool.enabled else None,
    )


def limits_of(settings: Settings, sent: Rate) -> ReplicatorLimits:
    """Those of [limits]; `sent` is told by the target of the bytes that it sends."""
    limits = settings.limits
    return ReplicatorLimits(
        SystemClock(),
        rows_per_second=limits.max_rows_per_second,
        sent=sent,
        memory_bytes=limits.max_memory_mb << 20,
    )


def longest_rest_seconds(settings: Settings) -> float:
    """How long a table's loop may be silent although all is well."""
    pace, errors = _pace(settings), settings.error_handling
    waits = (pace.idle_seconds, pace.gap_seconds, errors.halted_sec, *errors.retry_backoff_sec)
    return 2.0 * max(waits) + settings.target.receive_timeout_sec


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

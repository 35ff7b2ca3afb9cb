"""What is made of the events of the copy in Redis: log lines and metrics."""

from __future__ import annotations

import threading

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from cdc.errors import CdcError


class RedisEvents:
    """The copy's events. A trouble is logged once, and its end; the metrics count all of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """The metrics are made here: where there is no Redis, there are none of it."""
        self._up = Gauge("cdc_redis_up", "1 while Redis takes the copy of the state", registry=registry)
        self._rows = Counter(
            "cdc_redis_rows_total", "Rows whose last state was copied to Redis", registry=registry
        )
        self._dropped = Counter(
            "cdc_redis_dropped_rows_total", "Rows not copied, for Redis was slow or away", registry=registry
        )
        self._errors = Counter(
            "cdc_redis_errors_total", "Requests that Redis did not answer, or refused", registry=registry
        )
        self._log = structlog.get_logger("cdc.redis")
        self._lock = threading.Lock()
        self._error: str | None = None
        self._up.set(1)

    def redis_wrote(self, rows: int) -> None:
        self._rows.inc(rows)

    def redis_dropped(self, rows: int) -> None:
        self._dropped.inc(rows)

    def redis_reached(self, error: CdcError | None) -> None:
        self._up.set(error is None)
        with self._lock:
            news = None if error is None else error.problem
            changed, self._error = news != self._error, news
        if error is not None:
            self._errors.inc()
        if changed and error is not None:
            self._log.warning("Redis away, going on without it", error=str(error))
        elif changed:
            self._log.info("Redis is back")

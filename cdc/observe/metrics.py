"""Every Prometheus metric of a replicator, by name.

Base units: seconds and bytes. `table` is the source's table as `schema.name`. A value that is not known is
absent, never 0.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from cdc.product import __version__
from cdc.replicator.ports import Delivered


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


CONTENT_TYPE = CONTENT_TYPE_LATEST

TABLE_STATES = ("setup", "snapshot", "running", "paused", "resync", "failed")
DUCKDB = _version("duckdb")
BREAKER_STATES = ("closed", "open", "half-open")

_LAG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Around the alert threshold of 100 ms, and far enough up to tell a minute's outage from an hour's."""


class Metrics:
    """The metrics of one replicator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = self._counter("cdc_rows_total", "Rows acknowledged by the target", "table")
        self.bytes = self._counter("cdc_bytes_total", "Bytes of acknowledged blocks", "table")
        self.batches = self._counter("cdc_batches_total", "Batches acknowledged by the target", "table")
        self.encode_seconds = self._counter("cdc_encode_seconds_total", "Time spent encoding", "table")
        self.send_seconds = self._counter(
            "cdc_send_seconds_total", "Time spent sending, with retries", "table"
        )
        self.lag_seconds = Histogram(
            "cdc_lag_seconds",
            "From noticing a change to its acknowledgement",
            ["table"],
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )
        self.retries = self._counter("cdc_retries_total", "Attempts that failed and are repeated", "table")
        self.snapshot_retries = self._counter(
            "cdc_snapshot_retries_total", "Snapshots overtaken by a checkpoint and taken again"
        )
        self.duckdb_failures = self._counter(
            "cdc_duckdb_failures_total", "Times the DuckDB that reads the source failed and was replaced"
        )
        self.tail_lost = self._counter(
            "cdc_tail_lost_total", "Times the log could not be followed and snapshots were read", "table"
        )
        self.decoder_mismatches = self._counter(
            "cdc_decoder_mismatches_total",
            "Times our own decoder read the log otherwise than DuckDB, which decodes it alone since",
            "table",
        )
        self.tail_gap_rows = self._counter(
            "cdc_tail_gap_rows_total", "Rows that a snapshot found and the log had not shown", "table"
        )
        self.tail_broken = self._counter(
            "cdc_tail_broken_total", "Times changes of older rows may have gone unseen", "table"
        )
        self.reconciliations = self._counter(
            "cdc_reconciliations_total",
            "Comparisons of a table of which changes may have gone unseen",
            "table",
            "outcome",
        )
        self.reconciled_rows = self._counter(
            "cdc_reconciled_rows_total", "Rows delivered again or marked deleted by them", "table", "kind"
        )
        self.reconciliation_seconds = self._counter(
            "cdc_reconciliation_seconds_total", "Time that they took, rests included", "table"
        )
        self.memory = self._gauge(
            "cdc_memory_bytes",
            "What memory is for: standing, rows waiting to be delivered, and the room those have",
            "use",
        )
        self.audit_differences = self._counter(
            "cdc_audit_differences_total",
            "Rows that an audit found missing, extra or different in the target; expected to stay 0",
            "table",
            "kind",
        )
        self.audits = self._counter("cdc_audits_total", "Audits of a table", "table", "outcome")
        self.audit_seconds = self._counter(
            "cdc_audit_seconds_total", "Time that they took, rests included", "table"
        )
        self.last_audit = self._gauge(
            "cdc_last_audit_timestamp_seconds", "When the table was last audited to the end", "table"
        )
        self.target_changes = self._counter(
            "cdc_target_changes_total",
            "Times a table in the target was another than rows were delivered to, and was filled anew",
            "table",
        )
        self.errors = self._counter("cdc_errors_total", "Errors, by the class of the error", "class")
        self.failed_rows = self._gauge(
            "cdc_failed_rows", "Rows that cannot be loaded and are set aside", "table"
        )
        self.held_rows = self._gauge(
            "cdc_held_rows", "Rows that wait for their group to be complete", "table"
        )
        self.held_groups = self._gauge("cdc_held_groups", "Groups that are not complete", "table")
        self.held_since = self._gauge(
            "cdc_held_oldest_timestamp_seconds", "When the first row of the oldest such group came", "table"
        )
        self.incomplete_groups = self._counter(
            "cdc_incomplete_groups_total", "Groups delivered although they were not complete", "table"
        )
        self.spool_rows = self._gauge(
            "cdc_spool_rows", "Rows read while the target was away, and not delivered yet", "table"
        )
        self.spool_bytes = self._gauge("cdc_spool_bytes", "What they take in the state store", "table")
        self.spool_since = self._gauge(
            "cdc_spool_oldest_timestamp_seconds", "When the oldest of them was noticed", "table"
        )
        self.spool_discarded_rows = self._counter(
            "cdc_spool_discarded_rows_total", "Rows of the spool that could not be delivered as read", "table"
        )
        self.waiting = self._gauge(
            "cdc_target_waiting_seconds", "For how long the target has not taken what it was sent", "table"
        )
        self.rows_behind = self._gauge("cdc_rows_behind", "Rows of the source past the watermark", "table")
        self.seconds_behind = self._gauge(
            "cdc_seconds_behind", "0 when caught up, else the lag of the last batch", "table"
        )
        self.watermark = self._gauge(
            "cdc_watermark", "The watermark: the number, or seconds since 1970 of a time", "table"
        )
        self.last_cycle = self._gauge(
            "cdc_last_cycle_timestamp_seconds", "When the table was last found caught up", "table"
        )
        self.table_state = self._gauge("cdc_table_state", "1 for the state the table is in", "table", "state")
        self.breaker_state = self._gauge("cdc_breaker_state", "1 for the state the breaker is in", "state")
        self.round_trip = self._gauge(
            "cdc_target_round_trip_seconds", "Of a ping to the target; NaN while it does not answer"
        )
        self.self_test_failed = self._gauge(
            "cdc_self_test_failed", "1 where the DuckDB at hand does not do what following its log relies on"
        )
        self.alert = self._gauge("cdc_alert", "Alerts that stand", "name", "severity")
        Info("cdc_build", "Versions", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version(), "duckdb": DUCKDB}
        )
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """All of them, in Prometheus' text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def delivered(self, event: Delivered) -> None:
        name = str(event.table)
        self.rows.labels(name).inc(event.rows)
        self.bytes.labels(name).inc(event.bytes)
        self.batches.labels(name).inc()
        self.encode_seconds.labels(name).inc(max(0.0, event.encode_seconds))
        self.send_seconds.labels(name).inc(max(0.0, event.send_seconds))
        self.lag_seconds.labels(name).observe(max(0.0, event.lag_seconds))

    def enter(self, table: str, state: str) -> None:
        """`table` is in `state` and in no other."""
        for name in TABLE_STATES:
            self.table_state.labels(table, name).set(name == state)

    def breaker(self, state: str) -> None:
        for name in BREAKER_STATES:
            self.breaker_state.labels(name).set(name == state)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry)


def set_or_absent(gauge: Gauge, table: str, value: float | None) -> None:
    """Set the table's value, or take it away where there is none."""
    if value is not None:
        gauge.labels(table).set(value)
    else:
        gauge.remove(table)

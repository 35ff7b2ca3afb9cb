"""What is known of a replication, and of one of its tables, while it is replicated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cdc.change import TableId
from cdc.observe.alarms import TableCondition
from cdc.observe.status import TableStatus

if TYPE_CHECKING:  # `cdc status` needs what is known of tables, and is to start at once
    from cdc.replicator.ports import Delivered


@dataclass(frozen=True, slots=True)
class About:
    """What a status says of the process as a whole. `targets` are endpoints without credentials."""

    config: str
    source: str
    targets: tuple[str, ...]
    identity: str | None = None
    lease_number: int | None = None
    page: str | None = None
    self_test: str | None = None
    """See the status file."""
    untested: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedCount:
    """The failed rows stored of one table, and the attempts of the one tried most often."""

    rows: int
    most_attempts: int = 0


@dataclass(slots=True)
class TableObservation:
    """What is known of one table; it changes, under its owner's lock. Times are wall clock seconds."""

    name: str
    target: str
    since: float
    state: str = "setup"
    watermark: str | None = None
    position: str | None = None
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    failed_rows: int = 0
    held_rows: int = 0
    held_groups: int = 0
    held_since: float | None = None
    spool_rows: int = 0
    spool_bytes: int = 0
    spool_since: float | None = None
    most_attempts: int = 0
    live_rows: int = 0
    """Of `rows`, those delivered as they came: neither what was there before nor what waited in the spool."""
    waiting_seconds: float | None = None
    retries: int = 0
    lag_seconds: float | None = None
    rows_behind: int | None = None
    seconds_behind: float | None = None
    last_cycle_at: float | None = None
    broken_since: float | None = None
    reconciling: str | None = None
    reconciled_at: float | None = None
    reconciled_rows: int | None = None
    audited_at: float | None = None
    audit: str | None = None
    error: str | None = None
    heard_at: float = 0.0
    """Monotonic: the last event of any kind, or when the wait it announced is over."""

    def delivered(self, event: Delivered) -> None:
        self.rows += event.rows
        self.bytes += event.bytes
        self.batches += 1
        self.failed_rows += event.failed_rows
        if self.state == "running" and not self.spool_rows:
            self.live_rows += event.rows
        if event.position is not None:
            self.position = str(event.position)
        if event.mark is not None:
            self.watermark = event.mark.watermark
        self.lag_seconds = self.seconds_behind = max(0.0, event.lag_seconds)
        self.error = None

    def condition(self, id_: TableId) -> TableCondition:
        """What the alarms look at."""
        return TableCondition(id_, self.live_rows, self.failed_rows, self.most_attempts, self.waiting_seconds)

    def status(self) -> TableStatus:
        """What the status file says of it: the fields of the same names, and its own name as `table`."""
        told = {name: getattr(self, name) for name in TableStatus.model_fields if name != "table"}
        return TableStatus(table=self.name, **told)  # which takes a number for seconds since 1970


_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?: (\d{2}:\d{2}:\d{2})(\.\d+)?)?(\+00)?")


def as_number(watermark: str | None) -> float | None:
    """A number as it is, a date or time as seconds since 1970 (UTC), anything else None."""
    if watermark is None:
        return None
    if match := _TIME.fullmatch(watermark):
        day, time, fraction = match[1], match[2] or "00:00:00", match[3] or ""
        try:
            whole = datetime.fromisoformat(f"{day}T{time}+00:00").timestamp()
        except ValueError:  # DuckDB knows times that Python does not
            return None
        return whole + float(f"0{fraction}") if fraction else whole
    if re.fullmatch(r"-?\d+(\.\d*)?", watermark):
        return float(watermark)
    return None


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a time."""
    return datetime.fromtimestamp(seconds, UTC)

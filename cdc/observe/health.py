"""Is a replicator well? Do its tables' loops turn, and is the target what the source is, as far as is known?

`ready` is the one function that decides it: for /readyz, and for the exit code of `cdc status`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from cdc.observe.record import TableObservation
from cdc.observe.status import Status, TableStatus


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether all is well, and if not, what is not: one line each."""

    problems: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


def live(tables: Collection[TableObservation], now: float, stalled_seconds: float) -> HealthReport:
    """Every table was heard of within `stalled_seconds` before `now`, which is monotonic."""
    silent = [(table.name, now - table.heard_at) for table in tables]
    return HealthReport(
        tuple(
            f"{name}: nothing heard for {seconds:.0f} s"
            for name, seconds in silent
            if seconds > stalled_seconds
        )
    )


def ready(status: Status) -> HealthReport:
    """Every table asked for is replicated and caught up, what was read arrives, and no difference is known.

    It tells by the status alone, so that whoever reads the status comes to the same verdict.
    """
    return HealthReport(tuple(_problems(status)))


def _problems(status: Status) -> Iterator[str]:
    if status.state != "running":
        yield f"the replicator is {status.state}"
    elif not status.tables:
        yield "no table of the source is replicated: there is none, or each is left out, as is told"
    for left in status.left_out:
        if left.listed:
            yield f"{left.table}: left out: {left.reason}"
    for table in status.tables:
        yield from _of_table(table, status)
    for alert in status.alerts:
        if alert.unwell:
            yield f"{alert.subject}: {alert.name}: {alert.message}. {alert.remedy}"


def _of_table(table: TableStatus, status: Status) -> Iterator[str]:
    if table.state != "running" or table.error:
        yield f"{table.table}: {table.state}" + (f": {table.error}" if table.error else "")
    if table.waiting_seconds is not None and table.waiting_seconds > status.standstill_seconds:
        yield (
            f"{table.table}: delivery stands still: the target has not taken what it was sent for "
            f"{table.waiting_seconds:.0f} s"
        )
    if table.spool_rows and table.spool_since is not None:
        age = (status.updated_at - table.spool_since).total_seconds()
        if age > status.standstill_seconds:
            yield f"{table.table}: {table.spool_rows} rows wait in the spool, the oldest for {age:.0f} s"
    if table.failed_rows:
        yield (
            f"{table.table}: {table.failed_rows} rows could not be loaded: "
            f"run 'cdc failed list {table.table}' for the reasons"
        )
    if table.broken_since is not None:
        does = {"comparing": "it is being compared", "repairing": "what differs is being delivered again"}
        yield (
            f"{table.table}: changes may have gone unseen: "
            f"{does.get(table.reconciling or '', 'it is still to be compared with the target')}"
        )

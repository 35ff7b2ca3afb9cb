"""Is a replicator well? Whether its tables' loops turn, and whether all of them are caught up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from cdc.observe.record import TableObservation
from cdc.observe.status import LeftOutTable


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


def ready(
    state: str, tables: Collection[TableObservation], left_out: Collection[LeftOutTable]
) -> HealthReport:
    """Every table is caught up and running, and none is left out that was asked for."""
    if state != "running":
        return HealthReport((f"the replicator is {state}",))
    if not tables:
        return HealthReport(("no table of the source can be replicated yet",))
    missing = [f"{item.table}: {item.reason}" for item in left_out if item.listed]
    unwell = [
        f"{table.name}: {table.state}" + (f": {table.error}" if table.error else "")
        for table in tables
        if table.state != "running" or table.error
    ]
    return HealthReport((*missing, *unwell))

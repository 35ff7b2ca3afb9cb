"""In how many ranges is a table compared, and may a key have several rows in it?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cdc.change import TableId, TablePlan, TableSchema
from cdc.comparison.compare import SourceRows, again

RANGE_ROWS = 100_000
MOST_RANGES = 1000


class ComparedSnapshot(Protocol):
    """What is asked of one state of the source."""

    def relation(self, table: TableId) -> str: ...

    def single(self, sql: str) -> int: ...


class ComparedSource(SourceRows, Protocol):
    """What is asked of the source, beside its rows."""

    def tables(self) -> Sequence[TableSchema]: ...

    def snapshot(self) -> AbstractContextManager[ComparedSnapshot]: ...

    def boundaries(self, plan: TablePlan, ranges: int) -> tuple[str, ...]: ...


def boundaries_of(
    source: ComparedSource, plan: TablePlan, ranges: int | None = None, *, range_rows: int = RANGE_ROWS
) -> tuple[str, ...]:
    """The watermarks that cut the table into `ranges`; into one for `range_rows` rows if not said.

    Raises:
        SourceError: the table cannot be read.
    """

    def count() -> int:
        with source.snapshot() as snapshot:
            return snapshot.single(f"SELECT count(*) FROM {snapshot.relation(plan.table)}")  # noqa: S608

    if ranges is None:
        ranges = min(MOST_RANGES, 1 + again(count) // range_rows)
    return source.boundaries(plan, ranges)

"""Which rows lie between two places of a table, and where is a table best cut into pieces?

A place is a `Mark`: a watermark and, as tie-break, a key. All values are parameters, cast to their columns'
types, so that DuckDB compares them as the type does and prunes row groups by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cdc.change import Mark, TablePlan
from cdc.errors import SourceError
from cdc.source.file.snapshot import Snapshot
from cdc.source.quote import by_bytes, identifier, qualified
from cdc.source.table.altered import explained

_SAMPLED_ROWS = 2_000_000
"""Rows that planning looks at, at most: it must end before a busy writer's next checkpoint. 2,000,000 take
about 10 ms."""
_SAMPLES_PER_PIECE = 64
"""Sampled rows per piece: the pieces' sizes then scatter by an eighth."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of a table between two places; None leaves an end open. Rows without a watermark are outside."""

    low: str | None = None
    """The least watermark, included."""
    high: str | None = None
    """The watermark that ends it, excluded."""
    after: Mark | None = None
    """The place before the first row."""
    upto: Mark | None = None
    """The place of the last row."""


@dataclass(slots=True)
class Selection:
    """A WHERE clause under construction, with its parameters. Column names in it are unqualified."""

    plan: TablePlan
    parameters: list[Any] = field(default_factory=list)

    def value(self, text: str, kind: str) -> str:
        """`text` as a parameter of the type `kind`, a type that DuckDB itself named."""
        self.parameters.append(text)
        return f"CAST(${len(self.parameters)} AS {kind})"

    def filter(self) -> str:
        return f"({self.plan.filter})" if self.plan.filter else "TRUE"

    def within(self, bounds: Range) -> str:
        """The condition that a row is within `bounds`. NULL keys sort last in their watermark."""
        mark, kind = identifier(self.plan.watermark.name), self.plan.watermark.type
        terms = [self.filter(), f"{mark} IS NOT NULL"]
        if bounds.low is not None:
            terms.append(f"{mark} >= {self.value(bounds.low, kind)}")
        if bounds.high is not None:
            terms.append(f"{mark} < {self.value(bounds.high, kind)}")
        if bounds.after is not None:
            value = self.value(bounds.after.watermark, kind)
            terms.append(f"{mark} >= {value}")
            terms.append(f"NOT ({mark} = {value} AND coalesce({self._keys(bounds.after, '<=')}, FALSE))")
        if bounds.upto is not None:
            value = self.value(bounds.upto.watermark, kind)
            terms.append(f"{mark} <= {value}")
            terms.append(f"NOT ({mark} = {value} AND coalesce({self._keys(bounds.upto, '>')}, TRUE))")
        return " AND ".join(terms)

    def past(self, mark: Mark | None) -> str:
        """The condition that a row with a watermark lies past `mark`, and has a key."""
        terms = [f"{identifier(name)} IS NOT NULL" for name in self.plan.key]
        if mark is not None:
            column, kind = identifier(self.plan.watermark.name), self.plan.watermark.type
            value = self.value(mark.watermark, kind)
            terms.append(f"({column} > {value} OR ({column} = {value} AND {self._keys(mark, '>')}))")
        return " AND ".join(terms)

    def _keys(self, mark: Mark, comparison: str) -> str:
        """The key compared with that of `mark`, first column first."""
        kinds = {column.name: column for column in self.plan.columns}
        if not mark.key:  # as a reset leaves it: before every row of its watermark
            return "TRUE" if comparison == ">" else "FALSE"
        if len(mark.key) != len(self.plan.key):
            raise SourceError(
                "read",
                self.plan.table,
                f"its mark has {len(mark.key)} key values, and its key {len(self.plan.key)} columns",
                f"The configured key has changed: set it back, or run 'cdc resync {self.plan.table}'",
            )
        columns = ", ".join(by_bytes(kinds[name]) for name in self.plan.key)
        values = ", ".join(
            self.value(text, kinds[name].type) for name, text in zip(self.plan.key, mark.key, strict=True)
        )
        return (
            f"({columns}) {comparison} ({values})"
            if len(mark.key) > 1
            else f"{columns} {comparison} {values}"
        )


def order(plan: TablePlan) -> str:
    """The ORDER BY list of watermark and key."""
    kinds = {column.name: column for column in plan.columns}
    return ", ".join([identifier(plan.watermark.name), *(by_bytes(kinds[name]) for name in plan.key)])


def columns(plan: TablePlan) -> str:
    return ", ".join(identifier(name) for name in plan.column_names)


def cut(snapshot: Snapshot, plan: TablePlan, low: str | None, piece_rows: int) -> list[Mark]:
    """Places, in order, that cut the rows from `low` on into pieces of about `piece_rows`; the last lies near
    the end. Empty for a table that is one piece.

    Raises:
        SnapshotSuperseded, SourceError: the table cannot be read.
    """
    table = qualified(snapshot.database, plan.table)
    with explained(snapshot.cursor, table, plan):
        return _cut(snapshot, plan, table, low, piece_rows)


def _cut(snapshot: Snapshot, plan: TablePlan, table: str, low: str | None, piece_rows: int) -> list[Mark]:
    total = snapshot.single(f"SELECT count(*) FROM {table}")
    if total <= piece_rows:
        return []
    share = min(1.0, _SAMPLED_ROWS / total)
    source = f"{table} TABLESAMPLE system({share * 100:.4f} PERCENT)" if share < 1.0 else table
    names = [plan.watermark.name, *plan.key]
    selection = Selection(plan)
    # filter and key columns are read of the sampled rows alone
    rows = (
        f"SELECT {', '.join(map(identifier, names))} FROM {source} WHERE {selection.within(Range(low=low))}"
    )
    keyed = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in plan.key)
    size = _SAMPLES_PER_PIECE * max(1, total // piece_rows)
    texts = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in names)
    counted = snapshot.single(f"SELECT count(*) FROM ({rows})", selection.parameters) / share
    found = snapshot.stream(
        f"SELECT {texts} FROM (SELECT * FROM ({rows} AND {keyed}) USING SAMPLE reservoir({size} ROWS)) "
        f"ORDER BY {order(plan)}",
        selection.parameters,
    )
    places = [Mark(row[0], tuple(row[1:])) for batch in found.batches for row in _rows(batch)]
    step = max(1, round(len(places) * piece_rows / max(counted, 1)))
    return places[step - 1 :: step] if counted > piece_rows else []


def plan_boundaries(snapshot: Snapshot, plan: TablePlan, ranges: int) -> tuple[str, ...]:
    """At most `ranges - 1` watermarks, in order, that cut the table into ranges of about equal rows.

    Raises:
        SnapshotSuperseded, SourceError: the table cannot be read.
    """
    table = qualified(snapshot.database, plan.table)
    with explained(snapshot.cursor, table, plan):
        total = snapshot.single(f"SELECT count(*) FROM {table}")
    places = cut(snapshot, plan, None, max(1, -(-total // ranges))) if ranges > 1 else []
    return tuple(dict.fromkeys(place.watermark for place in places))[: ranges - 1]


def read_range(
    snapshot: Snapshot, plan: TablePlan, low: str | None, high: str | None
) -> pa.RecordBatchReader:
    """The plan's columns of the rows with `low <= watermark < high`, by watermark, key and row id; closes
    `snapshot` at the end. Without `low`, rows without a watermark come first.

    Raises:
        SnapshotSuperseded, SourceError: also while the rows are read.
    """
    selection = Selection(plan)
    where = selection.within(Range(low=low, high=high))
    if low is None:
        where = f"({where}) OR ({selection.filter()} AND {identifier(plan.watermark.name)} IS NULL)"
    table = qualified(snapshot.database, plan.table)
    try:
        with explained(snapshot.cursor, table, plan):
            found = snapshot.stream(
                f"SELECT {columns(plan)} FROM {table} WHERE {where} "
                f"ORDER BY {identifier(plan.watermark.name)} NULLS FIRST, {order(plan)}"
                f"{'' if plan.unique_key else ', rowid'}",
                selection.parameters,
            )
    except SourceError:
        snapshot.close()
        raise

    def closed_at_the_end() -> Iterator[pa.RecordBatch]:
        with closing(snapshot):
            yield from found.batches

    return pa.RecordBatchReader.from_batches(found.schema, closed_at_the_end())


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)

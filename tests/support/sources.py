"""Plans over tables that a test's writer made, and all that one read of them delivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cdc.change import Batch, BatchLimits, Mark, TableId, TablePlan
from cdc.replicator.ports import TableReader
from cdc.source import AnySource

LIMITS = BatchLimits(rows=10_000, bytes=32 << 20)


def plan_of(
    source: AnySource,
    table: str,
    *,
    key: tuple[str, ...] = ("id",),
    watermark: str = "seq",
    overlap: str = "0",
    version: str | None = None,
    filter: str | None = None,
    columns: tuple[str, ...] | None = None,
    unique_key: bool = True,
) -> TablePlan:
    """A plan for `table` as the newest snapshot shows it; all columns unless `columns` names some."""
    schema = next(schema for schema in source.tables() if schema.table == TableId.parse(table))
    mark = schema.column(watermark)
    assert mark is not None
    return TablePlan(
        table=schema.table,
        target=schema.table.name,
        columns=tuple(c for c in schema.columns if columns is None or c.name in columns),
        key=key,
        watermark=mark,
        version=version,
        filter=filter,
        overlap=overlap,
        unique_key=unique_key,
    )


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one read delivered, all of it acknowledged; `mark` is where the table stands afterwards."""

    batches: tuple[Batch, ...]
    mark: Mark | None

    def column(self, name: str) -> list[Any]:
        return [value for batch in self.batches for value in _plain(batch.rows.column(name)).to_pylist()]


def deliver(reader: TableReader, after: Mark | None, limits: BatchLimits = LIMITS) -> Delivered:
    """Read to the end as the replicator does: each batch is acknowledged, and moves the mark."""
    batches = []
    for batch in reader.read(after, limits):
        reader.acknowledged(batch)
        batches.append(batch)
        after = batch.mark or after
    return Delivered(tuple(batches), after)


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column

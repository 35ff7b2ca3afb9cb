"""A table of trades as the target sees it: its plan, and batches of any size with known values."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pyarrow as pa

from cdc.change import Batch, Column, Mark, Position, TableId, TablePlan

COLUMNS = (
    Column("id", "UUID", nullable=False),
    Column("seq", "BIGINT", nullable=False),
    Column("symbol", "VARCHAR"),
    Column("price", "DECIMAL(18,6)"),
)
PLAN = TablePlan(TableId("main", "trades"), "trades", COLUMNS, key=("id",), watermark=COLUMNS[1])


def trade_id(seq: int) -> UUID:
    return UUID(int=seq * 0x9E3779B97F4A7C15 % (1 << 128))


def trades(
    first: int, count: int, *, version: int = 1, deleted: bool = False, plan: TablePlan = PLAN
) -> Batch:
    """`count` trades whose sequence starts at `first`; every third has no symbol."""
    numbers = range(first, first + count)
    values = {
        "id": pa.array([trade_id(n).bytes for n in numbers], pa.binary(16)),
        "seq": pa.array(numbers, pa.int64()),
        "symbol": pa.array([None if n % 3 == 0 else f"SYM{n % 7}" for n in numbers], pa.string()),
        "price": pa.array([Decimal(n) / 1000 for n in numbers], pa.decimal128(18, 6)),
        "note": pa.array([f"note {n}" for n in numbers], pa.string()),
    }
    names = [name for name in plan.column_names if name in values]
    return Batch(
        plan=plan,
        rows=pa.RecordBatch.from_arrays([values[name] for name in names], names=names),
        versions=pa.array([version] * count, pa.uint64()),
        mark=Mark(str(first + count - 1), (str(trade_id(first + count - 1)),)),
        position=Position(1, 1, 1),
        seen_at=0.0,
        deleted=pa.array([True] * count) if deleted else None,
    )

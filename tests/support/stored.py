"""What tests of the state store commit to it: a lease of theirs, plans, decisions, rows."""

from __future__ import annotations

from cdc.change import Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.stored import Decision

SOURCE = "0f3a"
TRADES = TableId("main", "trades")
ORDERS = TableId("main", "orders")


class FakeLease:
    """A lease that tests give and take."""

    def __init__(self, source: str = SOURCE) -> None:
        self.source = source
        self.held = True


def plan(
    table: TableId = TRADES, *, watermark: str = "BIGINT", column: str = "seq", key: str = "UUID"
) -> TablePlan:
    columns = (Column("id", key), Column(column, watermark))
    return TablePlan(table, table.name, columns, ("id",), columns[1])


def decision(
    mark: Mark | str | None, *failed: FailedRow, table: TableId = TRADES, version: str = "v1"
) -> Decision:
    mark = Mark(mark, ("00000000-0000-7000-8000-000000000000",)) if isinstance(mark, str) else mark
    return Decision(table, mark, 10, 100, Position(1, 1, 2), version, failed)


def failed_row(key: str, *, reason: str = "too long", payload: bytes = b"row", version: int = 1) -> FailedRow:
    return FailedRow((key,), "5", reason, payload, version)

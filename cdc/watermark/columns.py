"""Of which columns is a table's mark, and is a stored one still of those that it is replicated by?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from cdc.change import Mark, TableId, TablePlan
from cdc.duckdb_types.values import MarkType, Order, TextMarkType, find_mark_type, mark_type
from cdc.errors import StateError
from cdc.state.store import TableRecord


@dataclass(frozen=True, slots=True)
class MarkColumns:
    """The columns whose values a table's mark holds: the watermark, then the key."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    """As DuckDB spells them."""

    @classmethod
    def of(cls, plan: TablePlan) -> Self:
        types = {column.name: column.type for column in plan.columns}
        return cls((plan.watermark.name, *plan.key), (plan.watermark.type, *(types[k] for k in plan.key)))

    @classmethod
    def from_json(cls, text: str) -> Self:
        names, types = zip(*json.loads(text), strict=True)
        return cls(names, types)

    def to_json(self) -> str:
        return json.dumps(list(zip(self.names, self.types, strict=True)))

    def __str__(self) -> str:
        watermark, *key = (f"{name} {type_}" for name, type_ in zip(self.names, self.types, strict=True))
        return f"{watermark} with the key {', '.join(key)}"

    @property
    def watermark_type(self) -> MarkType:
        return mark_type(self.types[0])

    def alike(self, other: Self) -> bool:
        """Whether the watermarks are of one family of types, such as the integers."""
        return type(self.watermark_type) is type(other.watermark_type)

    def order(self, mark: Mark) -> tuple[Order, ...]:
        """What sorts marks of this table; a mark without a key is before every row of its watermark.

        Key values are compared as far as their types have an exact order. Text does not count: its column may
        have a collation, and a mark wrongly taken to go backwards would halt the table.

        Raises:
            StateError: a value is not of its column's type.
        """
        orders = [self.watermark_type.order(mark.watermark)]
        for name, value in zip(self.types[1:], mark.key, strict=False):
            kind = find_mark_type(name)
            if kind is None or isinstance(kind, TextMarkType):
                break
            orders.append(kind.order(value))
        return tuple(orders)


def columns_of(record: TableRecord) -> MarkColumns | None:
    """The columns that a stored table's mark is of; None until the table was replicated once."""
    return None if record.columns is None else MarkColumns.from_json(record.columns)


def check_mark(record: TableRecord, mark: Mark) -> Mark:
    """`mark` with its watermark in canonical form.

    Raises:
        StateError: the table's type is not known yet, or the value is not of it.
    """
    columns = columns_of(record)
    if columns is None:
        raise StateError(
            "check a mark of",
            record.table,
            "its watermark's type is not known yet",
            f"Start 'cdc run' once, or read it anew: cdc watermark reset {record.table}",
        )
    return Mark(columns.watermark_type.canonical(mark.watermark), mark.key)


def check_same_columns(table: TableId, mark: Mark, before: MarkColumns | None, after: MarkColumns) -> None:
    """A wider type is the same column still; another column, or a type without this value, is not.

    Raises:
        StateError: the mark cannot be gone on from.
    """
    try:
        after.order(mark)
        readable = True
    except StateError:
        readable = False
    # columns are not known of a mark rebuilt from the target: only its text can be checked
    if readable and (before is None or (before.names == after.names and before.alike(after))):
        return
    raise StateError(
        "go on from the mark of",
        table,
        f"{mark.to_json()} is of {before or 'unknown columns'}, and the table is now replicated by {after}",
        f"Set the columns back, or run 'cdc resync {table}' to send every row again",
    )

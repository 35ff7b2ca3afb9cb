"""What are the columns called that reading puts beside a table's own? As none of the table's is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cdc.change import TablePlan


@dataclass(frozen=True, slots=True)
class OwnColumns:
    """Names that need no quotes: a letter or an underscore first, and no other character after it."""

    hash: str
    """Of all delivered columns."""
    read_at: str
    """The position a row was read at, as the UInt64 that is its version."""
    moves: str
    """Whether the row moves the mark."""
    number: str
    """Of a row, in the order in which rows were noted."""
    rows: str
    """How many rows have its key."""

    @classmethod
    def of(cls, plan: TablePlan) -> Self:
        return cls(*(plan.free_name(f"__cdc_{name}") for name in cls.__slots__))

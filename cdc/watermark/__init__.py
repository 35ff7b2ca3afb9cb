"""The watermark: how far each table has been delivered, its marks, reset and rebuild."""

from cdc.duckdb_types.values import MarkType, mark_type
from cdc.watermark.columns import MarkColumns, columns_of
from cdc.watermark.marks import BoundMarks, bind
from cdc.watermark.reset import (
    Change,
    Rebuilt,
    apply_reset,
    no_replicator,
    plan_reset,
    rebuild,
    reset_mark,
)

__all__ = [
    "BoundMarks",
    "Change",
    "MarkColumns",
    "MarkType",
    "Rebuilt",
    "apply_reset",
    "bind",
    "columns_of",
    "mark_type",
    "no_replicator",
    "plan_reset",
    "rebuild",
    "reset_mark",
]

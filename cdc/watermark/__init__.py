"""The watermark: how far each table has been delivered, its value types, its marks, reset and rebuild."""

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
from cdc.watermark.value import MarkType, mark_type

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

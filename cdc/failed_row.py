"""What is kept of a row that cannot be loaded?"""

from __future__ import annotations

from cdc.change import Batch, FailedRow
from cdc.packing import pack_rows
from cdc.text import texts


def failed_row(batch: Batch, index: int, reason: str) -> FailedRow:
    """Row `index` as a failed row: its key and watermark as text, and the whole row as Arrow."""
    row = batch.rows.slice(index, 1)
    (watermark,) = texts(row.column(batch.plan.watermark.name))
    return FailedRow(
        key=tuple(texts(row.column(name))[0] or "" for name in batch.plan.key),
        watermark=watermark,
        reason=reason,
        payload=pack_rows(row),
        version=int(batch.versions[index].as_py()),
        deleted=bool(batch.deleted is not None and batch.deleted[index].as_py()),
    )

"""What is kept of a row that cannot be loaded?"""

from __future__ import annotations

import pyarrow as pa

from cdc.change import Batch, FailedRow
from cdc.text import texts


def failed_row(batch: Batch, index: int, reason: str) -> FailedRow:
    """Row `index` as a failed row: its key and watermark as text, and the whole row as Arrow."""
    row = batch.rows.slice(index, 1)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    (watermark,) = texts(row.column(batch.plan.watermark.name))
    return FailedRow(
        key=tuple(texts(row.column(name))[0] or "" for name in batch.plan.key),
        watermark=watermark,
        reason=reason,
        payload=sink.getvalue().to_pybytes(),
        version=int(batch.versions[index].as_py()),
        deleted=bool(batch.deleted is not None and batch.deleted[index].as_py()),
    )

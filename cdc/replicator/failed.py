"""Tries failed rows again when they are due: what made them fail may have been mended meanwhile. [R1]"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from cdc.change import Batch, TablePlan
from cdc.replicator.delivery import Delivery
from cdc.replicator.ports import DueRow, Marks

MAX_ROWS = 1000
"""Rows tried again at once; the rest waits for the next time."""


def retry_due(plan: TablePlan, marks: Marks, delivery: Delivery) -> int:
    """Send the table's due rows again; answers how many are delivered.

    A row keeps its version, so that a newer state of it, delivered meanwhile, stays the newer one.

    Raises:
        Stopped, TargetError, StateError: as `Delivery.deliver`; what was due stays due.
    """
    due = marks.due(plan.table, MAX_ROWS)
    delivered: list[int] = []
    failed: dict[int, str] = {}
    for group in _alike(due):
        rows = _rows(group)
        if tuple(rows.schema.names) != plan.column_names:
            reason = (
                "its columns are no longer those replicated; discard it once its newer state is delivered"
            )
            failed |= dict.fromkeys((each.id for each in group), reason)
            continue
        reasons = {(row.key, row.version): row.reason for row in delivery.place(_batch(plan, rows, group))}
        for each in group:
            known_by = each.row.key, each.row.version
            if known_by in reasons:
                failed[each.id] = reasons[known_by]
            else:
                delivered.append(each.id)
    if due:
        marks.retried(delivered, failed)
    return len(delivered)


def _alike(due: Sequence[DueRow]) -> list[list[DueRow]]:
    """Rows of one schema together: some may have been set aside before it changed."""
    groups: defaultdict[bytes, list[DueRow]] = defaultdict(list)
    for each in due:
        groups[pa.ipc.open_stream(each.row.payload).schema.serialize().to_pybytes()].append(each)
    return list(groups.values())


def _rows(group: Sequence[DueRow]) -> pa.RecordBatch:
    tables = [pa.ipc.open_stream(each.row.payload).read_all() for each in group]
    (rows,) = pa.concat_tables(tables).combine_chunks().to_batches()
    return rows


def _batch(plan: TablePlan, rows: pa.RecordBatch, group: Sequence[DueRow]) -> Batch:
    return Batch(
        plan=plan,
        rows=rows,
        versions=pa.array([each.row.version for each in group], pa.uint64()),
        mark=None,
        position=None,  # they were read long ago; their versions are kept
        seen_at=0.0,
        deleted=pa.array([each.row.deleted for each in group]) if any(e.row.deleted for e in group) else None,
    )

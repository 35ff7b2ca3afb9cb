"""How are rows that differ delivered again? Read from the source once more, and sent as any batch is.

Their version is that of a row read now, so it outranks what the target has, and is outranked by what comes
later. Where the version is a column, a row in the target with a greater version stays as it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from cdc.change import Batch, Position, TablePlan
from cdc.comparison.compare import Comparer, again, spans
from cdc.comparison.digest import Hashes
from cdc.comparison.joining import joined
from cdc.comparison.verification import TableResult
from cdc.replicator.ports import Target, TargetTable
from cdc.source import DuckDbSource
from cdc.source.versions import row_versions


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was sent: rows delivered again, rows marked deleted, and rows the target's types cannot hold."""

    sent: int = 0
    deleted: int = 0
    rejected: int = 0

    def __add__(self, other: Repaired) -> Repaired:
        return Repaired(self.sent + other.sent, self.deleted + other.deleted, self.rejected + other.rejected)


def repair(result: TableResult, comparer: Comparer, source: DuckDbSource, target: Target) -> Repaired:
    """Deliver what `result` says is missing or different; mark deleted what only the target has, where the
    target is to lose it.

    Raises:
        SourceError, TargetError: what was sent before stays sent; another repair does the rest.
    """
    table = target.open(result.plan)
    try:
        done = Repaired()
        for each in result.ranges:
            wanted = each.differences.where(each.differences.source != 0).keys
            if len(wanted):
                rows = partial(comparer.source_rows, each.overview.span, wanted)
                done += again(partial(_deliver_now, table, result.plan, source, rows))
        if result.deletes:
            done += _delete(result, comparer, source, table)
        return done
    finally:
        table.close()


def _delete(result: TableResult, comparer: Comparer, source: DuckDbSource, table: TargetTable) -> Repaired:
    """Mark deleted the rows whose key is nowhere in the source, seen at one position."""
    done = Repaired()
    extra = np.unique(np.concatenate([each.differences.extra for each in result.ranges] or [_NOTHING]))
    position = source.position()
    gone = again(lambda: _absent(comparer, source, result, extra)) if len(extra) else extra
    for each in result.ranges:
        here = gone[np.isin(gone, each.differences.extra)]
        if len(here):
            rows = comparer.target_rows(each.overview.span, here)
            sent = _deliver(table, result.plan, position, rows, deleted=True)
            done += replace(sent, sent=0, deleted=sent.sent)
    return done


_NOTHING = np.zeros(0, np.uint64)


def _absent(comparer: Comparer, source: DuckDbSource, result: TableResult, keys: Hashes) -> Hashes:
    """Those of `keys` that no row of the source has: one that moved to another range is not gone."""
    left = keys
    for span in spans([each.span.high for each in result.overviews if each.span.high is not None]):
        with source.rows(result.plan, span.low, span.high) as reader:
            for batch in reader:
                left = left[~np.isin(left, comparer.key_numbers(batch))]
    return left


def _deliver_now(
    table: TargetTable,
    plan: TablePlan,
    source: DuckDbSource,
    read: Callable[[], Iterable[pa.RecordBatch]],
) -> Repaired:
    """Deliver what `read` finds, as of a position before it: what changes later is newer."""
    position = source.position()
    return _deliver(table, plan, position, read())


def _deliver(
    table: TargetTable,
    plan: TablePlan,
    position: Position,
    batches: Iterable[pa.RecordBatch],
    *,
    deleted: bool = False,
) -> Repaired:
    done = Repaired()
    for rows in joined(batches):
        batch = Batch(
            plan=plan,
            rows=rows,
            versions=row_versions(rows, plan, position),
            mark=None,
            position=position,
            seen_at=0.0,
            deleted=pa.array(np.ones(rows.num_rows, np.bool_)) if deleted else None,
        )
        encoded = table.encode(batch)
        if encoded.rows:
            # A token of its own: the server may remember these very rows from their first delivery.
            table.send(replace(encoded, token=f"repair-{uuid.uuid4()}"))
        done += Repaired(sent=encoded.rows, rejected=len(encoded.rejected))
    return done

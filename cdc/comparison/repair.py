"""How are rows that differ delivered again? Read from the source once more, and sent as any batch is.

Their version is that of a row read now, once the source's clock is past every version that the target has. So
they outrank what is there, and are outranked by what comes later: the position is taken before the rows are
read, so a change that they show already, or do not show yet, has a greater one. A version that no clock gets
past is left alone, and told.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from cdc.change import Batch, Position, TablePlan
from cdc.comparison.compare import Comparer, Differences, Span, again
from cdc.comparison.digest import Hashes
from cdc.comparison.joining import joined
from cdc.comparison.verification import TableResult
from cdc.replicator.ports import Target, TargetTable

Send = Callable[[Batch], int]
"""Delivers a batch; answers how many of its rows the target will never take."""


class Clocked(Protocol):
    """The source, as far as it says where it stands."""

    def outrank(self, version: int) -> Position:
        """The newest position, of a greater version than `version`."""
        ...


class Versioned(Protocol):
    """The target, as far as it says which versions it has."""

    def newest_version(self, plan: TablePlan) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Outranking:
    """Gives positions whose versions are past all that the target has."""

    source: Clocked
    target: Versioned

    def position(self, plan: TablePlan) -> Position:
        """One of now: rows that are read after this are no older.

        Raises:
            SourceError, TargetError: a side cannot be read.
            StateError: the clock cannot be raised.
        """
        return self.source.outrank(self.target.newest_version(plan) or 0)


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was sent: rows delivered again, rows marked deleted, and rows the target's types cannot hold."""

    sent: int = 0
    deleted: int = 0
    rejected: int = 0

    def __add__(self, other: Repaired) -> Repaired:
        return Repaired(self.sent + other.sent, self.deleted + other.deleted, self.rejected + other.rejected)


def repair(result: TableResult, comparer: Comparer, clock: Outranking, target: Target) -> Repaired:
    """Deliver what `result` says is missing or different; mark deleted what only the target has, where the
    target is to lose it.

    Raises:
        SourceError, TargetError: what was sent before stays sent; another repair does the rest.
    """
    table = target.open(result.plan)
    try:
        found = {each.overview.span: each.differences for each in result.ranges}
        every = [each.span for each in result.overviews]
        done = Repaired()
        for span, differences in found.items():
            done += deliver_again(comparer, clock, (span,), differences, partial(_send, table))
        if not result.deletes:
            found = {span: part.where(np.isin(part.keys, result.left)) for span, part in found.items()}
        deleted, _ = delete_gone(comparer, clock, found, every, partial(_send, table))
        done += deleted
        return done
    finally:
        table.close()


def deliver_again(
    comparer: Comparer, clock: Outranking, pieces: Sequence[Span], found: Differences, send: Send
) -> Repaired:
    """Deliver the source's rows among `found`, which lie in `pieces`."""
    done = Repaired()
    wanted = found.where(found.source != 0).keys
    if not len(wanted):
        return done

    def deliver(span: Span) -> Repaired:
        position = clock.position(comparer.plan)
        return _deliver(comparer.plan, position, comparer.source_rows(span, wanted), send)

    for span in pieces:
        done += again(partial(deliver, span))
    return done


def delete_gone(
    comparer: Comparer,
    clock: Outranking,
    found: Mapping[Span, Differences],
    every: Sequence[Span],
    send: Send,
) -> tuple[Repaired, Hashes]:
    """Mark deleted the rows that only the target has, if their key is nowhere in the source, all of whose
    ranges are `every`. Answers besides which keys are: such a row has moved to another range."""
    done = Repaired()
    extra = np.unique(np.concatenate([each.extra for each in found.values()] or [_NOTHING]))
    if not len(extra):
        return done, extra
    position = clock.position(comparer.plan)
    gone = _absent(comparer, every, extra)
    for span, differences in found.items():
        here = gone[np.isin(gone, differences.extra)]
        if len(here):
            rows = comparer.target_rows(span, here)
            sent = _deliver(comparer.plan, position, rows, send, deleted=True)
            done += replace(sent, sent=0, deleted=sent.sent)
    return done, extra[~np.isin(extra, gone)]


_NOTHING = np.zeros(0, np.uint64)


def _absent(comparer: Comparer, every: Iterable[Span], keys: Hashes) -> Hashes:
    """Those of `keys` that no row of the source has. One that moves meanwhile, so that no range shows it, has
    a greater version by that than its deletion."""
    left = keys
    for span in every:
        left = again(partial(comparer.without_those_of, span, left))
    return left


def _deliver(
    plan: TablePlan,
    position: Position,
    batches: Iterable[pa.RecordBatch],
    send: Send,
    *,
    deleted: bool = False,
) -> Repaired:
    done = Repaired()
    for rows in joined(batches):
        batch = Batch(
            plan=plan,
            rows=rows,
            versions=pa.array(np.full(rows.num_rows, position.as_version(), np.uint64)),
            mark=None,
            position=position,
            seen_at=0.0,
            deleted=pa.array(np.ones(rows.num_rows, np.bool_)) if deleted else None,
        )
        rejected = send(batch)
        done += Repaired(sent=len(batch) - rejected, rejected=rejected)
    return done


def _send(table: TargetTable, batch: Batch) -> int:
    encoded = table.encode(batch)
    if encoded.rows:
        # A token of its own: the server may remember these very rows from their first delivery.
        table.send(replace(encoded, token=f"repair-{uuid.uuid4()}"))
    return len(encoded.rejected)

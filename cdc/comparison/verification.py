"""What differs between source and target of one table, by range, by kind, and with examples?

On a live system rows are always on their way. So ranges that differ are compared again for as long as the
caller waits, and only a row that differs in just the same way every time counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa

from cdc.change import TablePlan
from cdc.clock import Clock
from cdc.comparison.compare import Comparer, Differences, Overview, Span, again, merged
from cdc.comparison.digest import Hashes
from cdc.comparison.values import texts
from cdc.state import FailedRecord

Kind = Literal["missing", "extra", "different"]

PAUSE_SECONDS = 0.5
"""Between two comparisons of a range: a replicator that lives delivers within less."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row that differs."""

    kind: Kind
    key: tuple[str | None, ...]
    columns: tuple[str, ...] = ()
    """Those that differ, of a row that both sides have."""
    failed: FailedRecord | None = None
    """The failed row that explains it."""


@dataclass(frozen=True, slots=True)
class RangeResult:
    """A range, and its rows that differ: counts by kind."""

    overview: Overview
    differences: Differences
    missing: int
    extra: int
    different: int


@dataclass(frozen=True, slots=True)
class TableResult:
    """What the comparison of one table found."""

    plan: TablePlan
    overviews: tuple[Overview, ...]
    ranges: tuple[RangeResult, ...]
    """Those with rows that differ."""
    missing: int
    extra: int
    different: int
    failed: int
    """Of the missing and different rows, those that failed to load."""
    examples: tuple[Example, ...]
    deletes: bool
    """Whether the target is to lose what the source loses; else rows it alone has are pruned ones,"""
    left: Hashes
    """but for those of these keys, which the source has still, outside the filter: the target is to lose
    them."""

    @property
    def source_rows(self) -> int:
        return sum(each.source.rows for each in self.overviews)

    @property
    def target_rows(self) -> int:
        return sum(each.target.rows for each in self.overviews)

    @property
    def equal(self) -> bool:
        """Whether every row of the source is in the target as it is, and what else is there may be there."""
        return not (self.missing or self.different or len(self.left) or (self.deletes and self.extra))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for rows that are on their way."""

    seconds: float
    clock: Clock


class Verifier:
    """Verifies tables, each with a comparer of its own.

    Args:
        deletes: rows that only the target has are differences.
        limit: examples of a table, at most.
        progress: is told of rows read.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        patience: Patience,
        *,
        deletes: bool,
        limit: int,
        progress: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._deletes = deletes
        self._limit = limit
        self._progress = progress

    def verify(
        self,
        comparer: Comparer,
        boundaries: Sequence[str],
        failed: Sequence[FailedRecord] = (),
        *,
        unique: bool = True,
    ) -> TableResult:
        """Compare one table in the ranges that `boundaries` cut it into.

        `unique` False: the source may have several rows of one key, of which the newest counts.

        Raises:
            SourceError, TargetError: a side cannot be read.
        """
        overviews = comparer.overview(boundaries, self._progress)
        found, left = self._settled(comparer, overviews, unique)
        total = merged(found.values())
        left = left[np.isin(left, total.extra)]
        failures = _failures(comparer, failed)
        wanting = np.concatenate((total.missing, total.different))
        ranges = tuple(
            RangeResult(each, found[each.span], *_counts(found[each.span], total))
            for each in overviews
            if each.span in found and (len(found[each.span]) or found[each.span].more_extra)
        )
        return TableResult(
            plan=comparer.plan,
            overviews=overviews,
            ranges=ranges,
            missing=len(total.missing),
            extra=len(total.extra) + total.more_extra,
            different=len(total.different),
            failed=int(np.isin(wanting, np.array(list(failures), np.uint64)).sum()),
            examples=tuple(self._examples(comparer, found, total, left, failures)),
            deletes=self._deletes,
            left=left,
        )

    def _settled(
        self, comparer: Comparer, overviews: Sequence[Overview], unique: bool
    ) -> tuple[dict[Span, Differences], Hashes]:
        """The differences that last, of the ranges that have any; and keys of rows that may have left the
        filter, where that is not seen by their being gone."""
        clock = self._patience.clock
        deadline = clock.monotonic() + self._patience.seconds
        found = {each.span: comparer.differences(each.span) for each in overviews if not each.equal}
        if not unique and found:
            found = comparer.newest_states(found, [each.span for each in overviews])
        left = np.zeros(0, np.uint64)
        if not self._deletes:
            extra = merged(found.values()).extra
            left = comparer.left_the_filter([each.span for each in overviews], extra)
        matters = partial(self._matters, left=left)
        while clock.monotonic() < deadline and any(map(matters, found.values())):
            clock.wait(threading.Event(), min(PAUSE_SECONDS, deadline - clock.monotonic()))
            for span, before in found.items():
                if matters(before):
                    found[span] = before.still(comparer.differences(span))
        return found, left

    def _matters(self, found: Differences, left: Hashes) -> bool:
        if self._deletes:
            return bool(len(found) or found.more_extra)
        return bool(((found.source != 0) | np.isin(found.keys, left)).any())

    def _examples(
        self,
        comparer: Comparer,
        found: Mapping[Span, Differences],
        total: Differences,
        left: Hashes,
        failures: Mapping[int, FailedRecord],
    ) -> Iterator[Example]:
        """The first of each kind, as many as the limit allows; a range is read for its own only."""
        kinds: dict[int, Kind] = {}
        chosen: tuple[tuple[Kind, Hashes], ...] = (
            ("missing", total.missing),
            ("different", total.different),
            ("extra", total.extra if self._deletes else left),
        )
        for kind, keys in chosen:
            kinds |= dict.fromkeys(keys[: self._limit - len(kinds)].tolist(), kind)
        wanted = np.sort(np.array(list(kinds), np.uint64))
        source, target = _rows_of(comparer, found, wanted)
        for number, kind in kinds.items():
            there, here = source.get(number), target.get(number)
            row = here if there is None else there
            if row is None:  # gone since
                continue
            key = texts(self._connection, row.select(list(comparer.plan.key)))
            columns: tuple[str, ...] = ()
            if there is not None and here is not None:
                columns = _differing_columns(comparer, there, here)
            values = tuple(column[0].as_py() for column in key.columns)
            yield Example(kind, values, columns, failures.get(number))


Rows = dict[int, pa.RecordBatch]
"""One row for each key, by the key's number."""


def _rows_of(comparer: Comparer, found: Mapping[Span, Differences], wanted: Hashes) -> tuple[Rows, Rows]:
    """The rows of the keys `wanted` on both sides."""
    source: Rows = {}
    target: Rows = {}
    for span, part in found.items():
        here = wanted[np.isin(wanted, part.keys)]
        if len(here):
            source |= again(partial(_by_key, comparer, partial(comparer.source_rows, span, here)))
            target |= _by_key(comparer, partial(comparer.target_rows, span, here))
    return source, target


def _by_key(comparer: Comparer, read: Callable[[], Iterator[pa.RecordBatch]]) -> Rows:
    return {
        number: batch.slice(at, 1)
        for batch in read()
        for at, number in enumerate(comparer.key_numbers(batch).tolist())
    }


def _differing_columns(comparer: Comparer, one: pa.RecordBatch, other: pa.RecordBatch) -> tuple[str, ...]:
    numbers = comparer.column_numbers(other)
    return tuple(name for name, found in comparer.column_numbers(one).items() if found[0] != numbers[name][0])


def _counts(part: Differences, total: Differences) -> tuple[int, int, int]:
    """Missing, extra and different rows of a range, by what they are in the whole table."""
    missing, extra, different = (
        int(np.isin(part.keys, keys).sum()) for keys in (total.missing, total.extra, total.different)
    )
    return missing, extra + part.more_extra, different


def _failures(comparer: Comparer, failed: Sequence[FailedRecord]) -> dict[int, FailedRecord]:
    """The failed rows by the number of their key; those from before the key changed explain nothing."""
    found = {}
    for record in failed:
        with pa.ipc.open_stream(record.row.payload) as reader:
            row = reader.read_next_batch()
        if set(comparer.plan.key) <= set(row.schema.names):
            found[int(comparer.key_numbers(row)[0])] = record
    return found

"""Where do source and target differ? Digests of ranges first, then the rows of the ranges that differ.

A range is cut by watermarks. Its digest is the number of its rows and the sum of their numbers, so the order
in which rows arrive does not matter. Rows are known by the number of their key. Both sides may change
meanwhile: a difference stands only if the target's row is that of the source neither before the target was
read nor after it.

Memory: a batch of each side, 16 bytes for each source row of one range, 24 for each row that differs. Rows
that only the target has may be its whole history: past `MOST_EXTRA` in a range they are counted alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cdc.change import TablePlan
from cdc.comparison.digest import Hashes, RowHasher, fold
from cdc.comparison.joining import joined
from cdc.errors import SnapshotSuperseded
from cdc.source.file.confined import confined
from cdc.source.quote import literal
from cdc.source.table.versions import column_versions

T = TypeVar("T")

MOST_EXTRA = 1_000_000

_TRIES = 100
"""Snapshots of one range that may be superseded before that is an error."""


class SourceRows(Protocol):
    """The side whose reads may be superseded."""

    def rows(self, plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader: ...


class TargetRows(Protocol):
    """The side that is read as it stands."""

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader: ...


@dataclass(frozen=True, slots=True)
class Span:
    """The rows with `low <= watermark < high`; None leaves an end open, and NULL is below the first."""

    low: str | None = None
    high: str | None = None

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return "all"
        if self.low is None:
            return f"before {self.high}"
        return f"from {self.low}" + (f" to before {self.high}" if self.high is not None else " on")


def spans(boundaries: Sequence[str]) -> tuple[Span, ...]:
    """The ranges that `boundaries`, which ascend, cut a table into."""
    return tuple(Span(low, high) for low, high in zip((None, *boundaries), (*boundaries, None), strict=True))


@dataclass(frozen=True, slots=True)
class Digest:
    """Rows, and the sum of their numbers modulo 2**64: equal for other rows with a chance of 2**-64."""

    rows: int = 0
    checksum: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, (self.checksum + other.checksum) % (1 << 64))


@dataclass(frozen=True, slots=True)
class Overview:
    """A range's digest on both sides."""

    span: Span
    source: Digest
    target: Digest

    @property
    def equal(self) -> bool:
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class Differences:
    """Rows that differ, by the number of their key, ascending. A side's number 0: it has no such row."""

    keys: Hashes
    source: Hashes
    target: Hashes
    more_extra: int = 0
    """Rows that only the target has, beyond those that are kept here."""

    @classmethod
    def none(cls) -> Differences:
        nothing = np.zeros(0, np.uint64)
        return cls(nothing, nothing, nothing)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def missing(self) -> Hashes:
        """Keys of rows that the target lacks."""
        return self.where(self.target == 0).keys

    @property
    def extra(self) -> Hashes:
        """Keys of rows that only the target has."""
        return self.where(self.source == 0).keys

    @property
    def different(self) -> Hashes:
        """Keys of rows that both have, not alike."""
        return self.where((self.source != 0) & (self.target != 0)).keys

    def where(self, chosen: npt.NDArray[np.bool_]) -> Differences:
        return Differences(self.keys[chosen], self.source[chosen], self.target[chosen], self.more_extra)

    def still(self, later: Differences) -> Differences:
        """What differs in `later` in just the same way: what has changed in between is on its way."""
        at = np.minimum(np.searchsorted(later.keys, self.keys), max(len(later) - 1, 0))
        if not len(later):
            return Differences.none()
        same = (later.keys[at] == self.keys) & (later.source[at] == self.source)
        return replace(self.where(same & (later.target[at] == self.target)), more_extra=later.more_extra)


def merged(parts: Iterable[Differences]) -> Differences:
    """The differences of several ranges as one: a row whose watermark changed is missing in one range and
    extra in another, and so differs."""
    found = list(parts) or [Differences.none()]
    keys, source, target = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("keys", "source", "target")
    )
    order = np.argsort(keys, kind="stable")
    keys, source, target = keys[order], source[order], target[order]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else order
    if not len(first):
        return Differences.none()
    more = sum(part.more_extra for part in found)
    source, target = np.maximum.reduceat(source, first), np.maximum.reduceat(target, first)
    return Differences(keys[first], source, target, more).where(source != target)


def _silent(rows: int) -> None:
    """No progress shown."""


class Comparer:
    """Compares one table. For one thread.

    Raises (every method):
        SourceError, TargetError: a side cannot be read.
    """

    def __init__(self, plan: TablePlan, source: SourceRows, target: TargetRows, hasher: RowHasher) -> None:
        self.plan = plan
        self._source = source
        self._target = target
        self._hasher = hasher

    def overview(
        self, boundaries: Sequence[str], progress: Callable[[int], None] = _silent
    ) -> tuple[Overview, ...]:
        """Each range's digests; `progress` is told of rows read, on either side.

        The source is read range by range, for a snapshot may not last for all of it; the target once, for
        FINAL costs it the same for a part as for the whole.
        """
        ranges = spans(boundaries)
        source = []
        for span in ranges:
            source.append(self.source_digest(span))
            progress(source[-1].rows)
        target = [Digest() for _ in ranges]
        places = _Places(self.plan, boundaries)
        with self._target.rows(self.plan, None, None, ordered=False) as reader:
            for batch in joined(reader):
                _, rows = self.numbers(batch)
                for at, digest in places.digests(batch, rows):
                    target[at] += digest
                progress(len(rows))
        return tuple(map(Overview, ranges, source, target))

    def source_digest(self, span: Span) -> Digest:
        def read() -> Digest:
            found = Digest()
            with self._source.rows(self.plan, span.low, span.high) as reader:
                for batch in reader:
                    _, rows = self.numbers(batch)
                    found += Digest(len(rows), int(rows.sum(dtype=np.uint64)))
            return found

        return again(read)

    def differences(self, span: Span, pieces: Sequence[Span] = ()) -> Differences:
        """The rows of `span` that differ, each side read now; the source in `pieces` of the span, if given.

        The target is read once: FINAL costs it the same for a part as for the whole.
        """
        keys, rows = self._source_numbers(pieces or (span,))
        found = self._against(span, keys, rows)
        if not len(found):
            return found
        keys, rows = self._source_numbers(pieces or (span,))
        now = lookup(keys, rows, found.keys)
        return replace(found, source=now).where(now != found.target)

    def newest_states(
        self, found: Mapping[Span, Differences], ranges: Iterable[Span]
    ) -> dict[Span, Differences]:
        """`found` without the source's rows that a newer row of the same key has replaced.

        They exist where the key is not the source's primary key: the target has one row for each key. The
        newest has the greatest version, and of several the last. Reads all `ranges` of the source, in order.
        """
        keys = np.unique(np.concatenate([part.where(part.source != 0).keys for part in found.values()]))
        newest, versions = np.zeros(len(keys), np.uint64), np.zeros(len(keys), np.uint64)

        def read(span: Span) -> None:
            with self._source.rows(self.plan, span.low, span.high) as reader:
                for batch in reader:
                    numbers, rows = self.numbers(batch)
                    here = np.flatnonzero(np.isin(numbers, keys))
                    version = column_versions(batch, self.plan).to_numpy()[here]
                    order = np.argsort(version, kind="stable")  # of one key the last assigned stays
                    here, version = here[order], version[order]
                    at = np.searchsorted(keys, numbers[here])
                    newer = version >= versions[at]
                    newest[at[newer]], versions[at[newer]] = rows[here[newer]], version[newer]

        for span in ranges:
            again(partial(read, span))
        return {span: _only(part, lookup(keys, newest, part.keys)) for span, part in found.items()}

    def numbers(self, batch: pa.RecordBatch) -> tuple[Hashes, Hashes]:
        """The number of each row's key, and of the whole row; none is 0."""
        columns = self.column_numbers(batch)
        keys = fold([columns[name] for name in self.plan.key], batch.num_rows)
        return keys, np.maximum(fold(list(columns.values()), batch.num_rows), np.uint64(1))

    def column_numbers(self, batch: pa.RecordBatch) -> dict[str, Hashes]:
        """The number of each value, by column."""
        return {name: self._hasher.values(batch.column(name)) for name in self.plan.column_names}

    def key_numbers(self, batch: pa.RecordBatch) -> Hashes:
        """The number of each row's key; `batch` may have any columns beside the key's."""
        return fold([self._hasher.values(batch.column(name)) for name in self.plan.key], batch.num_rows)

    def source_rows(self, span: Span, keys: Hashes) -> Iterator[pa.RecordBatch]:
        """The source's rows of these keys (ascending) in `span`.

        Raises:
            SnapshotSuperseded: besides the others; what was delivered before is good.
        """
        return self._chosen(self._source.rows(self.plan, span.low, span.high), keys)

    def target_rows(self, span: Span, keys: Hashes) -> Iterator[pa.RecordBatch]:
        """The target's rows of these keys (ascending) in `span`."""
        return self._chosen(self._target.rows(self.plan, span.low, span.high, ordered=False), keys)

    def without_those_of(self, span: Span, keys: Hashes) -> Hashes:
        """Those of `keys` (ascending) that no row of the source in `span` has.

        Raises:
            SnapshotSuperseded: besides the others.
        """
        left = keys
        with self._source.rows(self.plan, span.low, span.high) as reader:
            for batch in reader:
                left = left[~np.isin(left, self.key_numbers(batch))]
        return left

    def left_the_filter(self, every: Iterable[Span], keys: Hashes) -> Hashes:
        """Those of `keys` (ascending) that the source has in rows outside the plan's filter, in any of the
        ranges `every`: such a row is no longer what is replicated, though nothing was deleted."""
        if self.plan.filter is None or not len(keys):
            return keys[:0]
        needed = {*self.plan.key, self.plan.watermark.name}
        outside = replace(
            self.plan,
            columns=tuple(column for column in self.plan.columns if column.name in needed),
            filter=f"NOT coalesce(({self.plan.filter}\n), FALSE)",
        )

        def read(span: Span) -> Hashes:
            with self._source.rows(outside, span.low, span.high) as reader:
                found = [self.key_numbers(batch) for batch in reader]
            return keys[np.isin(keys, np.concatenate([keys[:0], *found]))]

        return np.unique(np.concatenate([keys[:0], *(again(partial(read, span)) for span in every)]))

    def _chosen(self, reader: pa.RecordBatchReader, keys: Hashes) -> Iterator[pa.RecordBatch]:
        with reader:
            for batch in joined(reader):
                chosen = np.isin(self.key_numbers(batch), keys)
                if chosen.any():
                    yield batch.take(pa.array(np.flatnonzero(chosen)))

    def _source_numbers(self, pieces: Iterable[Span]) -> tuple[Hashes, Hashes]:
        """The source's rows of `pieces`, by key; of several rows with one key the last in order."""

        def read(span: Span) -> list[tuple[Hashes, Hashes]]:
            with self._source.rows(self.plan, span.low, span.high) as reader:
                return [self.numbers(batch) for batch in reader]

        parts = [part for span in pieces for part in again(partial(read, span))]
        empty = np.zeros(0, np.uint64)
        keys = np.concatenate([empty, *(keys for keys, _ in parts)])
        rows = np.concatenate([empty, *(rows for _, rows in parts)])
        keys, last = np.unique(keys[::-1], return_index=True)
        return keys, rows[::-1][last]

    def _against(self, span: Span, keys: Hashes, rows: Hashes) -> Differences:
        """How the target's rows of `span` differ from these."""
        seen = np.zeros(len(keys), np.bool_)
        parts = []
        room = MOST_EXTRA
        with self._target.rows(self.plan, span.low, span.high, ordered=False) as reader:
            for batch in joined(reader):
                there, target = self.numbers(batch)
                source = lookup(keys, rows, there)
                differs = Differences(there, source, target).where(source != target)
                only_target = np.cumsum(differs.source == 0)
                kept = differs.where((differs.source != 0) | (only_target <= room))
                parts.append(replace(kept, more_extra=len(differs) - len(kept)))
                room -= int((kept.source == 0).sum())
                seen[np.searchsorted(keys, there[source != 0])] = True
        lacking = keys[~seen]
        parts.append(Differences(lacking, rows[~seen], np.zeros(len(lacking), np.uint64)))
        return merged(parts)


def _only(part: Differences, newest: Hashes) -> Differences:
    """`part`, where only a key's newest row counts as the source's."""
    source = np.where(part.source == newest, part.source, np.uint64(0))
    return replace(part, source=source).where(source != part.target)


def lookup(keys: Hashes, rows: Hashes, wanted: Hashes) -> Hashes:
    """The row of each key in `wanted` among `keys`, which ascend; 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.uint64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, rows[at], np.uint64(0))


def again(read: Callable[[], T]) -> T:
    """What `read` answers, tried again while checkpoints supersede the snapshot it reads.

    Raises:
        SnapshotSuperseded: that happened every time.
    """
    for _ in range(_TRIES - 1):
        try:
            return read()
        except SnapshotSuperseded:
            continue
    return read()


class _Places:
    """Finds the range of each row, by comparing watermarks as DuckDB does."""

    def __init__(self, plan: TablePlan, boundaries: Sequence[str]) -> None:
        self._name = plan.watermark.name
        self._count = len(boundaries) + 1
        kind = plan.watermark.type
        texts = [f"CAST({literal(text)} AS {kind})" for text in boundaries]
        self._expression = _choice(f"CAST(w AS {kind})", texts, 0)
        self._duckdb = confined({"threads": 1})

    def digests(self, batch: pa.RecordBatch, rows: Hashes) -> Iterator[tuple[int, Digest]]:
        """The digest of each range's part of these rows."""
        if self._count == 1:
            yield 0, Digest(len(rows), int(rows.sum(dtype=np.uint64)))
            return
        column = pa.table({"w": batch.column(self._name)})
        placed = self._duckdb.from_arrow(column).project(f"CAST({self._expression} AS INTEGER) AS p")
        places = np.ma.getdata(placed.fetchnumpy()["p"])
        order = np.argsort(places, kind="stable")
        found, first, counts = np.unique(places[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(rows[order], first)
        for at, count, checksum in zip(found.tolist(), counts.tolist(), sums.tolist(), strict=True):
            yield at, Digest(count, checksum)


def _choice(value: str, boundaries: Sequence[str], first: int) -> str:
    """An expression for the range of `value`, the first being `first`: a comparison for each halving."""
    if not boundaries:
        return str(first)
    middle = len(boundaries) // 2
    below = _choice(value, boundaries[:middle], first)
    above = _choice(value, boundaries[middle + 1 :], first + middle + 1)
    return f"CASE WHEN {value} >= {boundaries[middle]} THEN {above} ELSE {below} END"

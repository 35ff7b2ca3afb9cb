"""What of a table is the target known to hold, so that after any number of checkpoints only the rest is read?

A table's row ids are cut into ranges, and of each there is a digest: the number of its rows, and the sum of
their hashes over all delivered columns. A range is *known* while the target holds its rows in the state that
the digest is of. If it then has the same digest in the file of a later checkpoint, however many came between,
nothing in it has changed. Digests are of values and not of blocks, because blocks prove nothing over several
checkpoints: freed ones are used again, and DuckDB's checksum of a block is an exclusive or over its words, so
that two values that change places, or two equal ones that change alike, leave it as it was.

A row that changed and came back hides its change: with A known, B delivered after that, and A in the file
again, the digests are equal and the target has B. So a range stops being known *before* a change of one of
its rows is sent, in the store as well, and is known again only after a checkpoint:

* `touch`: the log changed rows of it. `differing`: it was compared, and is handed out again.
* A snapshot past the mark hands out changes too. A range of which any row lies past the mark less the
  overlap, or has no watermark, is therefore never known. What is left are rows that an update brings past the
  mark, and that a snapshot shows sooner than the log does: they would have to get their old watermark back,
  unseen, after a crash in that moment.

What is stored is safe at any crash. It is enlarged only when all that was handed out is acknowledged and
committed: a crash before leaves the former one, and then more is handed out again. It is reduced before what
reduced it is sent: a crash before that has sent nothing, one after it hands the range out again. The store
replaces it as a whole in one transaction. `complete` says that all of the file at that checkpoint is
delivered, so that a restart in the log after it goes on where it was; it is stored as false before anything
is sent that an unfollowed log or an unfinished reading again comes before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import duckdb
import numpy as np

from cdc.change import TablePlan
from cdc.source.quote import identifier
from cdc.source.table.overlap import hash_of
from cdc.source.table.ranges import Selection

WIDTH = 8_192
"""Row ids of a range: what is handed out again at least. A row group of DuckDB has 15 of them."""
MOST_RANGES = 4_096
"""Ranges of a table at most: some 50 KB to store. A longer table has wider ones."""
_HEADER = struct.Struct("<8s?QQQ")
_ROWS = "<u4"
_SUMS = "<u8"

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Sums = np.ndarray[Any, np.dtype[np.uint64]]
Span = tuple[int, int]
"""Row ids: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class RangeDigests:
    """Digests of the ranges from `first` on, as a file has them."""

    first: int
    rows: Sums
    sums: Sums
    late: Flags
    """A row of it lies past the mark less the overlap, or has no watermark."""


class Digests:
    """The digests of one table at one checkpoint. For one thread."""

    def __init__(self, fingerprint: bytes) -> None:
        """`fingerprint` names what is digested; see `fingerprint_of`."""
        self._fingerprint = fingerprint
        self.iteration = 0
        self.complete = False
        self.width = WIDTH
        self.end = 0
        """The row id after the last one of the checkpoint."""
        self._rows: Sums = np.empty(0, dtype=np.uint64)
        self._sums: Sums = np.empty(0, dtype=np.uint64)
        self._known, self._suspect, self._touched, self._tried, self._stored, self._unsettled = (
            np.empty(0, dtype=np.bool_) for _ in range(6)
        )
        self.owed = False
        """The store must be told before anything more is sent."""

    def __repr__(self) -> str:
        known, suspect = int(self._known.sum()), int(self._suspect.sum())
        return f"Digests({known} of {len(self._known)} known, {suspect} suspect, at {self.iteration})"

    @classmethod
    def load(cls, stored: bytes, fingerprint: bytes) -> Self | None:
        """What `dump` made; of something else than `fingerprint` names, nothing is known. None if it is
        damaged."""
        if len(stored) < _HEADER.size:
            return None
        named, complete, iteration, width, count = _HEADER.unpack_from(stored)
        flags = -(-count // 8)
        if len(stored) != _HEADER.size + flags + 12 * count:
            return None
        made = cls(fingerprint)
        made.iteration, made.complete = iteration, complete
        if named != fingerprint:
            made.owed = True  # it would be known again once the plan is as it was
            return made
        made.width, made.end = width, width * count
        at = _HEADER.size
        bits = np.frombuffer(stored, dtype=np.uint8, count=flags, offset=at)
        made._resize(count)
        made._known = np.unpackbits(bits, count=count).astype(np.bool_)
        made._rows = np.frombuffer(stored, _ROWS, count, at + flags).astype(np.uint64)
        made._sums = np.frombuffer(stored, _SUMS, count, at + flags + 4 * count).astype(np.uint64)
        made._stored = made._known.copy()
        return made

    def dump(self, *, complete: bool) -> bytes:
        """What is known and acknowledged: to be stored at once."""
        self.complete, self.owed = complete, False
        known = self._stored = self._known & ~self._unsettled
        rows, sums = (np.where(known, column, 0) for column in (self._rows, self._sums))
        head = _HEADER.pack(self._fingerprint, complete, self.iteration, self.width, len(known))
        return b"".join(
            (
                head,
                np.packbits(known).tobytes(),
                *(c.astype(t).tobytes() for c, t in ((rows, _ROWS), (sums, _SUMS))),
            )
        )

    @property
    def suspicious(self) -> bool:
        """Some ranges may have changes that were not handed out."""
        return bool(self._suspect.any())

    @property
    def wanting(self) -> bool:
        """Some ranges could become known."""
        return bool(self._wanting().any())

    @property
    def grown(self) -> bool:
        """More is known than is stored."""
        return bool((self._known & ~self._stored).any())

    @property
    def ranges_known(self) -> int:
        return int(self._known.sum())

    def checkpointed(self, iteration: int, end: int, *, appended_from: int | None, shifted: int = 0) -> None:
        """The file is at another checkpoint now.

        Args:
            end: the row id after its last one.
            appended_from: rows from there on are new, the others have the row ids they had; None: they may
                have others, by which nothing is known any more.
            shifted: by so much a row id may be less than it was, if they are others.
        """
        first = int(np.argmax(self._suspect)) * self.width if self.suspicious else None
        if appended_from is None:
            self._known[:] = False
        else:
            self._known[appended_from // self.width :] = False
        self.iteration, self.end = iteration, end
        while -(-end // self.width) > MOST_RANGES:
            self._widen()
        self._resize(-(-end // self.width))
        self._touched[:] = self._tried[:] = False
        if first is not None and appended_from is None:
            self.suspect([(max(0, first - shifted), end)])

    @property
    def touched(self) -> list[Span]:
        """Ranges of which the log after the checkpoint changed rows."""
        return [(a * self.width, b * self.width) for a, b in _runs(np.flatnonzero(self._touched))]

    def suspect(self, spans: Iterable[Span] | None) -> None:
        """Changes of the rows in `spans`, or of any, may not have been handed out."""
        if spans is None:
            self._suspect[:] = True
            return
        for first, end in spans:
            self._suspect[first // self.width : -(-end // self.width)] = True

    def keep_known(self, spans: Iterable[Span]) -> None:
        """Of the ranges that are no suspects, only those wholly within `spans` have the rows they had."""
        kept = self._suspect.copy()
        for first, end in spans:
            kept[-(-first // self.width) : end // self.width] = True
        self._known &= kept

    def touch(self, row_ids: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """The log after the checkpoint changed these rows; to be said before that is handed out."""
        numbers = np.unique(row_ids // self.width)
        numbers = numbers[numbers < len(self._known)]
        self._touched[numbers] = True
        self._forget(numbers)

    def forget(self) -> None:
        """Nothing is known."""
        self._forget(np.arange(len(self._known)))

    def differing(self, span: Span, found: RangeDigests | None) -> list[Span]:
        """Those of the suspects in `span` that are not known to be as they are; they are so no more."""
        first, end = span[0] // self.width, -(-span[1] // self.width)
        same = self._known[first:end].copy()
        if found is None:
            same[:] = False
        else:
            same &= (self._rows[first:end] == found.rows) & (self._sums[first:end] == found.sums)
        numbers = first + np.flatnonzero(self._suspect[first:end] & ~same)
        self._forget(numbers)
        return [(a * self.width, b * self.width) for a, b in _runs(numbers)]

    def cleared(self, span: Span) -> None:
        """What was suspected in `span` is handed out."""
        self._suspect[span[0] // self.width : -(-span[1] // self.width)] = False

    def next_suspects(self, rows: int) -> Span | None:
        """The first suspects, of about `rows` row ids."""
        return self._first(self._suspect, rows)

    def next_wanting(self, rows: int) -> Span | None:
        """The first ranges that could become known, of about `rows` row ids."""
        return self._first(self._wanting(), rows)

    def settle(self) -> None:
        """All that was handed out is acknowledged."""
        self._unsettled[:] = False

    def learn(self, span: Span, found: RangeDigests) -> None:
        """The target holds the ranges of `span` as they were `found`, but for those the log touched; or it
        will, for it is not stored before it is settled."""
        within = slice(span[0] // self.width, -(-span[1] // self.width))
        learnt = ~(found.late | self._touched[within] | self._suspect[within] | self._known[within])
        self._tried[within] = True
        for column, values in ((self._rows, found.rows), (self._sums, found.sums)):
            column[within] = np.where(learnt, values, column[within])
        self._known[within] |= learnt
        self._unsettled[within] |= learnt

    def leave(self, span: Span) -> None:
        """Nothing can be learnt of `span` before the next checkpoint."""
        self._tried[span[0] // self.width : -(-span[1] // self.width)] = True

    def _wanting(self) -> Flags:
        return ~(self._known | self._suspect | self._touched | self._tried)

    def _first(self, flags: Flags, rows: int) -> Span | None:
        if not flags.any():
            return None
        first = int(np.argmax(flags))
        most = flags[first : first + max(1, rows // self.width)]
        count = len(most) if most.all() else int(np.argmin(most))
        return first * self.width, (first + count) * self.width

    def _forget(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        self._known[numbers] = False
        self.owed |= bool(self._stored[numbers].any())

    def _resize(self, count: int) -> None:
        for name in ("_rows", "_sums", "_known", "_suspect", "_touched", "_tried", "_stored", "_unsettled"):
            column = getattr(self, name)
            sized = np.zeros(count, dtype=column.dtype)
            sized[: len(column)] = column[:count]
            setattr(self, name, sized)

    def _widen(self) -> None:
        """Make each two ranges one; digests of both add up to its digest."""
        if len(self._known) % 2:
            self._resize(len(self._known) + 1)
        self.width *= 2
        names = ("_known", "_suspect", "_stored", "_unsettled")
        pairs = {name: getattr(self, name).reshape(-1, 2) for name in names}
        self._rows, self._sums = self._rows.reshape(-1, 2).sum(1), self._sums.reshape(-1, 2).sum(1)
        self._known = pairs["_known"].all(1)
        self._suspect, self._stored = pairs["_suspect"].any(1), pairs["_stored"].any(1)
        self._unsettled = pairs["_unsettled"].any(1)
        self._touched = self._tried = np.zeros(len(self._known), dtype=np.bool_)


def fingerprint_of(plan: TablePlan) -> bytes:
    """Names what digests of the plan's rows are of: what is hashed, in which types, its filter, and the hash,
    which is DuckDB's."""
    described = [[column.name, column.type] for column in plan.columns]
    hashed = [hash_of(plan), duckdb.__version__]
    text = json.dumps([described, plan.watermark.name, plan.filter, *hashed])
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def read_digests(
    cursor: duckdb.DuckDBPyConnection, relation: str, plan: TablePlan, low: str | None, span: Span, width: int
) -> RangeDigests:
    """The digests of the ranges of `span` in the table `relation`.

    Args:
        low: the least watermark that a snapshot past the mark reads.

    Raises:
        duckdb.Error: they cannot be read.
    """
    selection = Selection(plan)
    mark = identifier(plan.watermark.name)
    late = (
        "TRUE"
        if low is None
        else f"{mark} IS NULL OR NOT {mark} < {selection.value(low, plan.watermark.type)}"
    )
    sql = (
        f"SELECT rowid // {width}, count(*), CAST(sum({hash_of(plan)}) % 18446744073709551616 AS UBIGINT),"
        f" bool_or({late}) FROM {relation}"
        f" WHERE {selection.filter()} AND rowid >= {span[0]} AND rowid < {span[1]} GROUP BY 1"
    )
    first = span[0] // width
    count = -(-span[1] // width) - first
    found = RangeDigests(
        first, np.zeros(count, np.uint64), np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    )
    for number, rows, total, is_late in cursor.execute(sql, selection.parameters).fetchall():
        found.rows[number - first], found.sums[number - first] = rows, total
        found.late[number - first] = is_late
    return found


def _runs(numbers: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]) -> list[Span]:
    """Ascending `numbers` as runs of consecutive ones."""
    runs: list[Span] = []
    for number in map(int, numbers):
        if runs and runs[-1][1] == number:
            runs[-1] = runs[-1][0], number + 1
        else:
            runs.append((number, number + 1))
    return runs

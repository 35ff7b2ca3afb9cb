"""What of a served table is the target known to hold, so that only the rest is read again?

The table's watermarks are cut into ranges, and behind the last of them lies the open area, in which rows
still arrive. Of each range there is a digest: its rows, the sum of the hashes of their keys, and that of the
hashes of all their columns. It is of just the rows that were handed out. Of each row in the open area, and of
those without a watermark, its own hashes are known. The hashes are the server's.

A range is *known* while the target holds, or is about to hold, its rows as the digest says. A range of which
any row is handed out in another state is known no more before that is sent, in the store too: else the row
could come back to the state that the digest is of, and would be left out. It is known again once all of its
rows were handed out anew. What was stored therefore is safe at any crash (see `cdc.source.table.digests`).

The sum of the keys outlives that: with other keys, rows were deleted or came late, and deletions are what
only a comparison with the target finds.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from cdc.change import TablePlan
from cdc.duckdb_types import mark_type
from cdc.errors import StateError
from cdc.source.table.overlap import hash_of

RANGE_ROWS = 16_384
"""Rows that a range begins with: what is read again at least when one of them has changed."""
MOST_RANGES = 4_096
"""Ranges of a table: when there are more, each two become one."""
_MODULUS = 1 << 64


@dataclass(frozen=True, slots=True)
class Digest:
    """Of the rows of a range."""

    rows: int = 0
    keys: int = 0
    values: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(
            self.rows + other.rows,
            (self.keys + other.keys) % _MODULUS,
            (self.values + other.values) % _MODULUS,
        )

    @classmethod
    def of(cls, keys: pa.ChunkedArray, values: pa.ChunkedArray) -> Digest:
        return cls(len(keys), _total(keys), _total(values))


@dataclass(slots=True)
class KnownRange:
    """The rows whose watermark is at least that of the range before, and less than `high`."""

    high: str
    digest: Digest | None = None
    """Of the rows as they were handed out last; None: they never were."""
    known: bool = False
    settled: bool = False
    """All of that is acknowledged."""
    stored: bool = False
    """The store says that it is known."""


@dataclass(slots=True)
class Known:
    """What is known of one table. For one thread."""

    plan: TablePlan
    server: str
    """The version of the DuckDB that hashes."""
    ranges: list[KnownRange] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    """Of the rows in the open area: the hash of the key, and that of the row."""
    owed: bool = False
    """The store must be told before anything more is sent."""

    def __repr__(self) -> str:
        known = sum(each.known for each in self.ranges)
        return f"Known({known} of {len(self.ranges)} ranges, {len(self.open)} rows in the open area)"

    @property
    def end(self) -> str | None:
        """Where the open area begins; None: everything is in it."""
        return self.ranges[-1].high if self.ranges else None

    @property
    def grown(self) -> bool:
        """More is known and acknowledged than is stored."""
        return any(each.known and each.settled and not each.stored for each in self.ranges)

    def low(self, number: int) -> str | None:
        """Where the range of this number begins."""
        return self.ranges[number - 1].high if number else None

    def begin(self, highs: Iterable[str]) -> None:
        """The table is cut there; nothing is known."""
        self.ranges = [KnownRange(high) for high in highs]

    def learn(self, number: int, digest: Digest) -> None:
        """All rows of the range were handed out, and this is their digest."""
        found = self.ranges[number]
        found.digest, found.known, found.settled = digest, True, False

    def forget(self, number: int) -> None:
        """Rows of the range are handed out in another state."""
        found = self.ranges[number]
        found.known = found.settled = False
        self.owed |= found.stored

    def touch(self, places: Iterable[str | None]) -> None:
        """Rows with these watermarks are handed out in another state."""
        if not self.ranges:
            return
        kind = mark_type(self.plan.watermark.type)
        highs = [kind.order(each.high) for each in self.ranges]
        wanted = {place for place in places if place is not None}
        for number in {bisect_right(highs, kind.order(place)) for place in wanted}:
            if number < len(self.ranges):
                self.forget(number)

    def unsettled(self) -> None:
        """What was handed out and not acknowledged is to be handed out again."""
        for number, each in enumerate(self.ranges):
            if each.known and not each.settled:
                self.forget(number)
        self.open.clear()

    def settle(self) -> None:
        """All that was handed out is acknowledged."""
        for each in self.ranges:
            each.settled = each.known

    def close(self, highs: Sequence[str], digests: Sequence[Digest | None]) -> None:
        """The open area begins later: before it are ranges with these ends; None: not all rows of a range
        were handed out as they are."""
        for high, digest in zip(highs, digests, strict=True):
            self.ranges.append(KnownRange(high, digest, known=digest is not None))
        while len(self.ranges) > MOST_RANGES:
            self.ranges = [_joined(self.ranges[at : at + 2]) for at in range(0, len(self.ranges), 2)]

    def dump(self) -> bytes:
        """What is known and acknowledged: to be stored at once."""
        self.owed = False
        found: list[list[Any]] = []
        for each in self.ranges:
            each.stored = each.known and each.settled
            digest = each.digest if each.stored else None
            found.append(
                [each.high] if digest is None else [each.high, digest.rows, digest.keys, digest.values]
            )
        text = json.dumps({"of": _fingerprint(self.plan, self.server), "ranges": found})
        return zlib.compress(text.encode())

    def load(self, stored: bytes) -> None:
        """What `dump` made; of another plan or another DuckDB, or damaged, nothing is known."""
        try:
            found = json.loads(zlib.decompress(stored))
            if found["of"] != _fingerprint(self.plan, self.server):
                self.owed = True  # it would be known again once the plan is as it was
                return
            kind = mark_type(self.plan.watermark.type)
            ranges = []
            for high, *digest in found["ranges"]:
                kind.order(high)
                known = bool(digest)
                ranges.append(KnownRange(high, Digest(*digest) if known else None, known, known, known))
        except (ValueError, KeyError, TypeError, zlib.error, StateError):
            self.owed = True
            return
        self.ranges = ranges


def _joined(pair: Sequence[KnownRange]) -> KnownRange:
    if len(pair) == 1:
        return pair[0]
    one, other = pair
    if one.digest is None or other.digest is None:
        return KnownRange(other.high)
    known = one.known and other.known
    settled = one.settled and other.settled
    return KnownRange(other.high, one.digest + other.digest, known, settled, stored=False)


def _total(hashes: pa.ChunkedArray) -> int:
    return int(np.sum(hashes.to_numpy(), dtype=np.uint64)) if len(hashes) else 0


def _fingerprint(plan: TablePlan, server: str) -> str:
    """Names what is hashed, in which types, and by which DuckDB."""
    described = [[column.name, column.type] for column in plan.columns]
    text = json.dumps([described, plan.key, plan.watermark.name, plan.filter, hash_of(plan), server])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

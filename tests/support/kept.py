"""What a target would hold: each key's row of the newest version, kept from what a reader hands out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import cast

import duckdb

from cdc.change import NOWHERE, Batch, BatchLimits, Mark, Position, TableId, TablePlan, Unseen
from cdc.errors import HistoryBroken
from cdc.replicator.ports import TableReader
from cdc.source import AnySource
from tests.support.sources import LIMITS
from tests.support.waiting import wait_until
from tests.support.writers import Writer

IN_FLIGHT = 2
"""Batches handed out and not acknowledged while the next is read, as the replicator's pipeline has them."""

Row = tuple[str | None, ...]

_SPELLER = duckdb.connect()
"""Turns rows into Python values: one for all, for connecting takes as long as a thousand rows."""


@dataclass
class Heard:
    """The events of a source, remembered."""

    superseded: int = 0
    failures: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)

    def snapshot_superseded(self) -> None:
        self.superseded += 1

    def duckdb_failed(self, reason: str) -> None:
        self.failures.append(reason)

    def tail_lost(self, table: TableId, reason: str) -> None:
        self.lost.append(reason)

    def decoder_mismatch(self, table: TableId, what: str) -> None:
        self.mismatches.append(what)

    def tail_gap(self, table: TableId, rows: int) -> None:
        self.gaps.append(rows)

    def key_repeated(self, table: TableId, example: str) -> None:
        self.repeated.append(f"{table}: {example}")

    def key_unique(self, table: TableId) -> None:
        self.repeated.clear()


class Kept:
    """Reads one table as the replicator does, and keeps what a query with FINAL would show of it."""

    def __init__(self, source: AnySource, plan: TablePlan) -> None:
        self._source = source
        self._plan = plan
        self._versions: dict[Row, int] = {}
        self._rows: dict[Row, Row | None] = {}
        self.mark: Mark | None = None
        self.position: Position | None = None
        self.handed_out = 0
        self.keeping = True
        """Whether rows are kept, or counted only: a million of them take a minute."""
        self.digests: bytes | None = None
        """What the reader gave to be stored, as it would be found after a crash."""
        self.unseen: list[Unseen] = []
        """What the reader said may have gone unseen, as it would be remembered."""
        self.reader: TableReader = source.open(plan)

    @property
    def rows(self) -> set[Row]:
        return {row for row in self._rows.values() if row is not None}

    def read(self, limits: BatchLimits = LIMITS) -> int:
        """Read to the end, each batch acknowledged two batches later; answers how many rows came."""
        before = self.handed_out
        try:
            self._read(limits)
        except HistoryBroken as error:
            self.reader.close()
            self.unseen.append(Unseen(error.problem))
            self.mark = self.position = self.digests = None
            self.reader = self._source.open(self._plan)
            self._read(limits)
        return self.handed_out - before

    def _read(self, limits: BatchLimits) -> None:
        flying: deque[Batch] = deque()
        for batch in self.reader.read(self.mark, limits):
            self.before_send()
            flying.append(batch)
            if len(flying) > IN_FLIGHT:
                self.take(flying.popleft())
        while flying:
            self.take(flying.popleft())
        self.note()
        self.store(self.reader.digests_after_acknowledgement(), self.reader.position)

    def learn(self) -> None:
        """Let the reader learn all there is to know of what was handed out."""

        def learnt() -> bool:
            self.store(self.reader.digests_after_acknowledgement(), self.reader.position)
            return not self.reader.learning

        wait_until(learnt, "everything to be learnt", 60.0)

    def crash(self, source: AnySource, sent: int, committed: int, limits: BatchLimits = LIMITS) -> int:
        """Read until so many batches are in the target and stored as delivered, or all are; then go on as
        after kill -9. Answers how many batches there were."""
        batches = cast("Generator[Batch]", self.reader.read(self.mark, limits))
        flying: deque[Batch] = deque()
        number = 0
        while number < sent and (batch := next(batches, None)) is not None:
            self.before_send()
            self.keep(batch)
            flying.append(batch)
            number += 1
            if number <= committed:
                self.commit(flying.popleft())
        batches.close()
        self.reopen(source)
        return number

    def reopen(self, source: AnySource, since: Position | None = None) -> None:
        """Go on with a new reader, as after a restart: from the last batch's position, or from `since`."""
        self.reader.close()
        self._source = source
        self.reader = source.open(self._plan, since or self.position, self.digests)

    @property
    def broken(self) -> list[str]:
        """Why changes may have gone unseen."""
        return [each.reason for each in self.unseen if each.urgent]

    def note(self) -> None:
        """Remember what the reader says may have gone unseen."""
        if (unseen := self.reader.unseen_before_send()) is not None:
            self.unseen.append(unseen)

    def before_send(self) -> None:
        """What the replicator does before it sends a batch."""
        self.note()
        self.store(self.reader.digests_before_send())

    def inherit(self, other: Kept) -> None:
        """The target is that of `other`, and nothing is known of it."""
        self._versions, self._rows = other._versions, other._rows
        self.reopen(self._source, NOWHERE)

    def store(self, digests: bytes | None, position: Position | None = None) -> None:
        """Store what the reader gave, if it gave anything."""
        if digests is not None:
            self.digests, self.position = digests, position or self.position

    def take(self, batch: Batch) -> None:
        """Acknowledge `batch`, and keep its rows."""
        self.keep(batch)
        self.commit(batch)

    def commit(self, batch: Batch) -> None:
        """Store that `batch` is delivered."""
        self.reader.acknowledged(batch)
        self.mark, self.position = batch.mark or self.mark, batch.position

    def keep(self, batch: Batch) -> None:
        """Keep the rows of `batch`, as the target does."""
        self.handed_out += len(batch)
        if not self.keeping:
            return
        removed = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
        for row, version, gone in zip(_texts(batch), batch.versions.to_pylist(), removed, strict=True):
            key = tuple(row[self._plan.column_names.index(name)] for name in self._plan.key)
            if version >= self._versions.get(key, 0):
                self._versions[key], self._rows[key] = version, None if gone else row


def written(writer: Writer, table: str, columns: Sequence[str] = ("*",)) -> set[Row]:
    """The table's rows as its writer sees them."""
    return {tuple(row) for row in writer.run(f"SELECT {', '.join(columns)} FROM {table}")}


def _texts(batch: Batch) -> list[Row]:
    """The rows as the writer program spells them."""
    found = _SPELLER.from_arrow(batch.rows).fetchall()
    return [tuple(None if value is None else str(value) for value in row) for row in found]

"""A source, a target and a store in memory, that can be told to fail: for tests of the replicator alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from cdc.change import (
    Batch,
    BatchLimits,
    Column,
    Encoded,
    FailedRow,
    Mark,
    Position,
    TableId,
    TablePlan,
    TableSchema,
    Unseen,
)
from cdc.errors import CdcError, LeaseHeld, TargetError
from cdc.failed_row import failed_row
from cdc.replicator.hold_decision import Early, Waiting
from cdc.replicator.limits import MemoryUse
from cdc.replicator.ports import Delivered, Spooling
from cdc.sighting import Sighting
from cdc.stored import Decision, Held, HeldRows, SpoolChunk, Spooled, SpoolEntry, TableProgress

PLAN = TablePlan(
    table=TableId("main", "trades"),
    target="trades",
    columns=(Column("id", "INTEGER", nullable=False), Column("seq", "BIGINT", nullable=False)),
    key=("id",),
    watermark=Column("seq", "BIGINT", nullable=False),
)


def plan(name: str) -> TablePlan:
    return replace(PLAN, table=TableId("main", name), target=name)


def batch_of(seqs: Sequence[int], table: TablePlan = PLAN, *, seen_at: float = 1000.0) -> Batch:
    """A batch whose rows have these sequence numbers, and the same numbers as keys."""
    rows = pa.RecordBatch.from_arrays(
        [pa.array(seqs, pa.int32()), pa.array(seqs, pa.int64())], names=list(table.column_names)
    )
    return Batch(
        plan=table,
        rows=rows,
        versions=pa.array(seqs, pa.uint64()),
        mark=Mark(str(seqs[-1]), (str(seqs[-1]),)),
        position=Position(1, 1, seqs[-1]),
        seen_at=seen_at,
    )


def seqs_of(batch: Batch) -> list[int]:
    return [int(value) for value in batch.rows.column(1).to_pylist()]


class MemorySource:
    """Tables that hold sequence numbers; `append` is a commit."""

    identity = "memory"

    def __init__(self, *plans: TablePlan) -> None:
        self._changed = threading.Condition()
        self._rows: dict[TableId, list[int]] = {each.table: [] for each in plans or (PLAN,)}
        self._commits = 0
        self._woken = False
        self._nudges = 0
        self.open_error: Callable[[TablePlan], CdcError | None] = lambda plan: None
        self.unseen: list[Unseen] = []
        """What each of its readers says may have gone unseen."""
        self.opened = 0

    def append(self, *seqs: int, table: TableId = PLAN.table) -> None:
        with self._changed:
            self._rows[table].extend(seqs)
            self._commits += 1
            self._changed.notify_all()

    def tables(self) -> Sequence[TableSchema]:
        return [TableSchema(table, PLAN.columns, PLAN.key) for table in self._rows]

    def position(self) -> Position:
        with self._changed:
            return Position(1, 1, self._commits)

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> MemoryReader:
        self.opened += 1
        if (error := self.open_error(plan)) is not None:
            raise error
        return MemoryReader(self, plan)

    def outrank(self, version: int) -> Position:
        return self.position()

    def rows(self, table: TableId) -> list[int]:
        with self._changed:
            return sorted(self._rows[table])

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        with self._changed:
            nudges = self._nudges
            self._changed.wait_for(
                lambda: self._woken or nudges != self._nudges or since != Position(1, 1, self._commits),
                timeout_seconds,
            )
            return Position(1, 1, self._commits)

    def nudge(self) -> None:
        with self._changed:
            self._nudges += 1
            self._changed.notify_all()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        self.wake()


class MemoryReader:
    def __init__(self, source: MemorySource, plan: TablePlan) -> None:
        self._source = source
        self._plan = plan
        self._unseen = list(source.unseen)

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        past = int(after.watermark) if after else 0
        new = [seq for seq in self._source.rows(self._plan.table) if seq > past]
        for start in range(0, len(new), limits.rows):
            yield batch_of(new[start : start + limits.rows], self._plan)

    def acknowledged(self, batch: Batch) -> None: ...

    def rows_behind(self, after: Mark | None) -> int:
        past = int(after.watermark) if after else 0
        return sum(seq > past for seq in self._source.rows(self._plan.table))

    def unseen_before_send(self) -> Unseen | None:
        return self._unseen.pop(0) if self._unseen else None

    def digests_before_send(self) -> bytes | None:
        return None

    def digests_after_acknowledgement(self) -> bytes | None:
        return None

    learning = False
    position = None

    def close(self) -> None: ...


Refuse = Callable[[list[int]], TargetError | None]


class MemoryTarget:
    """Keeps what it was sent. `refuse` may return an error for a block; `reject` names rows never encoded."""

    def __init__(self) -> None:
        self.refuse: Refuse = lambda seqs: None
        self.reject: Callable[[int], bool] = lambda seq: False
        self.open_error: Callable[[TablePlan], CdcError | None] = lambda plan: None
        self.sighting: Callable[[TablePlan], Sighting | None] = lambda plan: Sighting("memory", uuid="1")
        self.ping_error: Callable[[], TargetError | None] = lambda: None
        self.round_trip = 0.0
        self.blocks: dict[str, list[list[int]]] = {}
        self.closed = threading.Event()

    def received(self, target: str = PLAN.target) -> list[int]:
        return [seq for block in self.blocks.get(target, []) for seq in block]

    def open(self, plan: TablePlan, generation: int = 0) -> MemoryTargetTable:
        if (error := self.open_error(plan)) is not None:
            raise error
        return MemoryTargetTable(self, plan)

    def sightings(self, plans: Sequence[TablePlan]) -> Mapping[TableId, Sighting | None]:
        return {plan.table: self.sighting(plan) for plan in plans}

    def newest_version(self, plan: TablePlan) -> int | None:
        if (error := self.open_error(plan)) is not None:
            raise error
        return max(self.received(plan.target), default=None)  # numbers are versions, see `batch_of`

    def ping(self) -> float:
        if (error := self.ping_error()) is not None:
            raise error
        return self.round_trip

    def close(self) -> None:
        self.closed.set()


class MemoryTargetTable:
    def __init__(self, target: MemoryTarget, plan: TablePlan) -> None:
        self._target = target
        self._plan = plan

    def encode(self, batch: Batch) -> Encoded:
        seqs = seqs_of(batch)
        rejected: list[FailedRow] = [
            failed_row(batch, index, "not a number I like")
            for index, seq in enumerate(seqs)
            if self._target.reject(seq)
        ]
        kept = [seq for seq in seqs if not self._target.reject(seq)]
        return Encoded(kept, len(kept), 8 * len(kept), f"token {seqs}", tuple(rejected))

    def send(self, encoded: Encoded) -> None:
        assert isinstance(encoded.block, list)
        if (error := self._target.refuse(encoded.block)) is not None:
            raise error
        self._target.blocks.setdefault(self._plan.target, []).append(encoded.block)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Due:
    id: int
    row: FailedRow


@dataclass
class MemoryMarks:
    """Keeps decisions. `refuse` may return an error for one."""

    decisions: list[Decision] = field(default_factory=list)
    forgets: int = 0
    """What a commit says to have forgotten of failed rows."""
    refuse: Callable[[Decision], CdcError | None] = lambda decision: None

    notes: list[tuple[str, int]] = field(default_factory=list)
    """What may have gone unseen, with how many decisions were stored before."""
    refuse_note: Callable[[], CdcError | None] = lambda: None
    lease_error: LeaseHeld | None = None
    restarted: list[TableId] = field(default_factory=list)
    delivered_to: dict[TableId, str] = field(default_factory=dict)
    hastened: list[TableId] = field(default_factory=list)
    entries: list[tuple[TableId, SpoolEntry]] = field(default_factory=list)
    """The spool, and"""
    refuse_append: Callable[[], CdcError | None] = lambda: None
    """what is said to more of it."""
    delivered_chunks: dict[TableId, int] = field(default_factory=dict)
    discarded: list[int] = field(default_factory=list)
    appends: int = 0
    shrunk: int = 0
    _ids: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    due_rows: dict[int, FailedRow] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def describe(self, plan: TablePlan) -> None: ...

    def check_lease(self) -> None:
        if self.lease_error is not None:
            raise self.lease_error

    def remember(self, table: TableId, digests: bytes, position: Position | None = None) -> None: ...

    def note_unseen(self, table: TableId, reason: str) -> None:
        if (error := self.refuse_note()) is not None:
            raise error
        self.notes.append((reason, len(self.decisions)))

    def moved(self) -> frozenset[TableId]:
        return frozenset()

    def restart(self, table: TableId) -> None:
        self.restarted.append(table)
        self.delivered_to.pop(table, None)
        self.decisions = [each for each in self.decisions if each.table != table]

    def deliver_to(self, table: TableId, known: str) -> None:
        self.delivered_to[table] = known

    def hasten(self, table: TableId) -> None:
        self.hastened.append(table)

    def due(self, table: TableId, limit: int) -> list[Due]:
        return [Due(id_, row) for id_, row in list(self.due_rows.items())[:limit]]

    def retried(self, delivered: Iterable[int], failed: Mapping[int, str]) -> None:
        for id_ in (*delivered, *failed):
            del self.due_rows[id_]
        self.reasons |= failed

    def load(self, table: TableId) -> TableProgress:
        decisions = [each for each in self.decisions if each.table == table]
        marks = [each.mark for each in decisions if each.mark is not None]
        version = decisions[-1].schema_version if decisions else None
        positions = [each.position for each in decisions if each.position is not None]
        return TableProgress(
            mark=marks[-1] if marks else None,
            position=positions[-1] if positions else None,
            schema_version=version,
            delivered_to=self.delivered_to.get(table),
            rows_there=sum(each.rows for each in decisions),
        )

    def held(self, table: TableId) -> Held:
        rows: list[HeldRows] = []
        delivered: dict[str, float] = {}
        for decision in self.decisions:
            if decision.table == table:
                change = decision.holding
                rows = [each for each in rows if each.group not in change.released] + list(change.parked)
                for group in change.forgotten:
                    delivered.pop(group, None)
                delivered |= dict.fromkeys(change.delivered, 0.0)
        return Held(tuple(rows), tuple(delivered.items()))

    def commit(self, decision: Decision) -> int:
        with self.lock:
            if (error := self.refuse(decision)) is not None:
                raise error
            self.decisions.append(decision)
            if decision.chunk is not None:
                self.delivered_chunks[decision.table] = decision.chunk
                self.entries = [
                    each
                    for each in self.entries
                    if (each[0], each[1].chunk) != (decision.table, decision.chunk)
                ]
        return self.forgets

    def spooled(self, table: TableId) -> Spooled:
        with self.lock:
            found = [entry for each, entry in self.entries if each == table]
        chunks: dict[int, SpoolChunk] = {}
        for entry in found:
            known = chunks.get(entry.chunk) or SpoolChunk(entry.chunk, 0, 0, entry.at, entry.schema_version)
            nbytes = known.bytes + len(entry.payload or b"")
            chunks[entry.chunk] = replace(known, rows=known.rows + entry.rows, bytes=nbytes)
        marks = [each.mark for each in found if each.mark is not None]
        positions = [each.position for each in found if each.position is not None]
        last = max([*chunks, self.delivered_chunks.get(table, 0)])
        return Spooled(
            tuple(chunks.values()),
            marks[-1] if marks else None,
            positions[-1] if positions else None,
            last + 1,
        )

    def chunk(self, table: TableId, number: int) -> list[SpoolEntry]:
        return [entry for each, entry in self.entries if (each, entry.chunk) == (table, number)]

    def append(self, table: TableId, entries: Sequence[SpoolEntry]) -> None:
        with self.lock:
            if (spool_error := self.refuse_append()) is not None:
                raise spool_error
            delivered = self.delivered_chunks.get(table, 0)
            for entry in entries:
                if entry.chunk > delivered:
                    self._ids += 1
                    self.entries.append((table, replace(entry, id=self._ids)))
            self.appends += 1

    def discard(self, table: TableId, ids: Sequence[int]) -> None:
        self.discarded += ids
        kept = [(each, entry) for each, entry in self.entries if entry.id not in ids]
        self.entries = [
            (each, replace(entry, mark=None, position=None) if each == table else entry)
            for each, entry in kept
        ]

    def shrink(self) -> None:
        self.shrunk += 1

    def failed(self) -> list[FailedRow]:
        return [row for decision in self.decisions for row in decision.failed]


@dataclass
class Recorder:
    """An observer that remembers."""

    events: list[Delivered] = field(default_factory=list)
    states: list[tuple[TableId, str, CdcError | None]] = field(default_factory=list)
    retries: list[tuple[TableId, CdcError, int, float]] = field(default_factory=list)
    cycles: list[tuple[TableId, int | None]] = field(default_factory=list)
    measures: list[tuple[float | None, MemoryUse | None]] = field(default_factory=list)

    unseen: list[tuple[TableId, Unseen]] = field(default_factory=list)
    waiting: dict[TableId, Waiting] = field(default_factory=dict)
    early: list[Early] = field(default_factory=list)

    spooling: list[Spooling] = field(default_factory=list)
    discarded: list[tuple[int, str]] = field(default_factory=list)
    changed: list[tuple[TableId, str]] = field(default_factory=list)

    def spooled(self, table: TableId, spooling: Spooling) -> None:
        self.spooling.append(spooling)

    def spool_discarded(self, table: TableId, rows: int, reason: str) -> None:
        self.discarded.append((rows, reason))

    def unseen_noted(self, table: TableId, unseen: Unseen) -> None:
        self.unseen.append((table, unseen))

    def held(self, table: TableId, waiting: Waiting) -> None:
        self.waiting[table] = waiting

    def delivered_early(self, table: TableId, early: Early) -> None:
        self.early.append(early)

    def delivered(self, event: Delivered) -> None:
        self.events.append(event)

    def cycle(self, table: TableId, rows_behind: int | None) -> None:
        self.cycles.append((table, rows_behind))

    def state(self, table: TableId, state: str, error: CdcError | None = None) -> None:
        self.states.append((table, state, error))

    def retried(self, table: TableId, error: CdcError, attempt: int, delay_seconds: float) -> None:
        self.retries.append((table, error, attempt, delay_seconds))

    def target_changed(self, table: TableId, what: str) -> None:
        self.changed.append((table, what))

    def measured(self, round_trip_seconds: float | None, memory: MemoryUse | None) -> None:
        self.measures.append((round_trip_seconds, memory))

    def state_of(self, table: TableId) -> str | None:
        return next((state for each, state, _ in reversed(self.states) if each == table), None)

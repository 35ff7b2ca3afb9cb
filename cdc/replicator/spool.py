"""What was read and waits in the state store, for the target is away: in order, bounded, durable. [R4, R5]

Rows are gathered to a thousand, or for half a second, before they are stored as an entry: small commits would
cost a write to the disk each. Entries are joined to chunks of a batch's size: a chunk is delivered as one
batch, so that an hour's rows are delivered in a few inserts. What a chunk holds never changes once it was
begun to be delivered, nor by a restart, so the insert's deduplication token stays the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cdc.change import Batch, BatchLimits, Mark, Position, TablePlan, schema_version
from cdc.clock import Clock
from cdc.errors import Meaning, StateError
from cdc.replicator.disk_budget import DiskBudget
from cdc.replicator.packed import pack, together, unpack
from cdc.replicator.pipeline import InFlight
from cdc.replicator.ports import Marks, Observer, Spooling
from cdc.stored import SpoolChunk, SpoolEntry

GATHER_ROWS = 1000
GATHER_BYTES = 1 << 20
GATHER_SECONDS = 0.5
"""What is not stored yet is read again after a crash: so long ago at most."""


@dataclass(slots=True)
class _Gathered:
    batches: list[Batch]
    rows: int = 0
    bytes: int = 0
    since: float = 0.0


class Spool:
    """The spool of one table. For one thread; a chunk that is delivered is removed by the store's commit.

    `backlog` is what is not on its way yet: whatever is read goes behind it.
    """

    def __init__(
        self,
        plan: TablePlan,
        marks: Marks,
        observer: Observer,
        room: DiskBudget | None,
        limits: BatchLimits,
        clock: Clock,
    ) -> None:
        """Load what is stored.

        Args:
            room: None: nothing more is spooled; what there is is delivered.

        Raises:
            StateError: the store cannot be read.
        """
        self._plan = plan
        self._marks = marks
        self._observer = observer
        self._room = room
        self._limits = limits
        self._clock = clock
        self._schema_version = schema_version(plan)
        found = marks.spooled(plan.table)
        self._chunks = OrderedDict((each.number, each) for each in found.chunks)
        self._next_to_go = 0
        """Chunks below this are on their way."""
        self._next = found.next_chunk
        self._open: int | None = None
        """The chunk that what is appended joins, with"""
        self._open_rows = self._open_bytes = 0
        self._gathered = _Gathered([])
        self._refused_bytes = 0
        """What there was no room for."""
        self.mark: Mark | None = found.mark
        self.position: Position | None = found.position
        """Where the table has been read to, if that is past what is delivered."""
        if room is not None:
            room.occupy(sum(each.bytes for each in found.chunks))
        if self._chunks:
            self._tell()

    def __repr__(self) -> str:
        return f"Spool({self._plan.table}, {len(self._chunks)} chunks, {self._gathered.rows} rows gathered)"

    @property
    def enabled(self) -> bool:
        return self._room is not None

    @property
    def backlog(self) -> bool:
        """There is something that is not on its way yet."""
        if not self._chunks:
            return bool(self._gathered.batches)
        return bool(self._gathered.batches) or any(
            each >= self._next_to_go for each in reversed(self._chunks)
        )

    def older(self) -> list[SpoolChunk]:
        """Chunks read by a plan of other columns."""
        return [each for each in self._chunks.values() if each.schema_version != self._schema_version]

    def number(self) -> int:
        """A number for a batch that goes to the target directly, by which it can be spooled later."""
        number, self._next = self._next, self._next + 1
        return number

    def gather(self, batch: Batch) -> bool:
        """Take one more batch, to be stored soon; False when there is no room for it."""
        if self._room is None or not self._room.has(self._refused_bytes):
            return False
        held = self._gathered
        if held.batches and (
            held.rows + len(batch) > self._limits.rows or held.bytes + batch.nbytes > self._limits.bytes
        ):
            if not self.flush():
                return False
            held = self._gathered
        if not held.batches:
            held.since = self._clock.monotonic()
        held.batches.append(batch)
        held.rows += len(batch)
        held.bytes += batch.nbytes
        if (held.rows >= GATHER_ROWS or held.bytes >= GATHER_BYTES) and not self.flush():
            held.batches.pop()
            held.rows -= len(batch)
            held.bytes -= batch.nbytes
            return False
        return True

    def flush_due(self) -> None:
        """Store what was gathered long enough ago."""
        held = self._gathered
        if held.batches and self._clock.monotonic() - held.since >= GATHER_SECONDS:
            self.flush()

    def flush(self) -> bool:
        """Store what was gathered; False when there is no room for it.

        Raises:
            StateError: it was not stored.
        """
        held = self._gathered
        if not held.batches:
            return True
        batch = together(held.batches)
        joins = (
            self._open is not None
            and self._open_rows + len(batch) <= self._limits.rows
            and self._open_bytes + batch.nbytes <= self._limits.bytes
        )
        number = self._open if joins and self._open is not None else self.number()
        if not self._append([(number, batch)]):
            return False
        self._gathered = _Gathered([])
        self._open_rows = len(batch) + (self._open_rows if joins else 0)
        self._open_bytes = batch.nbytes + (self._open_bytes if joins else 0)
        self._open = number
        return True

    def secure(self, flying: Sequence[InFlight]) -> bool:
        """Store what is on its way, so that it is there after a crash; False when there is no room for it.

        Raises:
            StateError: it was not stored.
        """
        left = [(each.chunk, each.batch) for each in flying if each.chunk is not None and not each.durable]
        if left and (self._room is None or not self._room.has(self._refused_bytes)):
            return False
        if left and not self._append(left):
            return False
        self._open = None  # it is before these
        for each in flying:
            if each.chunk is not None:
                each.durable = True
                self._next_to_go = max(self._next_to_go, each.chunk + 1)
        return True

    def take(self) -> tuple[int, Batch, bool]:
        """The next batch to go, with its number, and whether it is stored. There must be a backlog.

        Raises:
            StateError: a part of it is damaged; it was discarded, and the table is to be loaded again.
        """
        number = next((each for each in self._chunks if each >= self._next_to_go), None)
        if number is None:
            held, self._gathered = self._gathered, _Gathered([])
            return self.number(), together(held.batches), False
        batch = self.load(number)
        self._next_to_go = number + 1
        if self._open == number:
            self._open = None  # what comes now is another insert
        return number, batch, True

    def load(self, number: int) -> Batch:
        """The batch of a chunk.

        Raises:
            StateError: as `take`.
        """
        entries = self._marks.chunk(self._plan.table, number)
        batches, damaged = [], []
        for each in entries:
            try:
                batches.append(self._unpacked(each))
            except ValueError:
                damaged.append(each)
        if damaged or not batches:
            self._discard(damaged, "damaged in the state store")
            raise StateError(
                "read the spool of",
                self._plan.table,
                f"{sum(each.rows for each in damaged)} rows in it are damaged",
                "Nothing needs to be done: they are dropped, and read again from the stored mark on. "
                f"'cdc verify {self._plan.table}' shows whether some were gone from the source by then",
                meaning=Meaning.RETRY,
            )
        return together(batches)

    def discard(self, number: int, reason: str) -> None:
        """Drop a chunk that cannot be delivered, and tell so.

        Raises:
            StateError: nothing was dropped.
        """
        self._discard(self._marks.chunk(self._plan.table, number), reason)

    def delivered(self, numbers: Iterable[int | None]) -> None:
        """Chunks of these numbers are in the target, and no longer in the store."""
        if not self._chunks:
            return
        gone = [self._chunks.pop(each) for each in numbers if each is not None and each in self._chunks]
        if not gone:
            return
        if self._room is not None:
            self._room.give_back(sum(each.bytes for each in gone))
        if not self._chunks:
            self.mark = self.position = None
            with suppress(StateError):  # then it is larger than it need be, and its room is used again
                self._marks.shrink()
        self._tell()

    def close(self) -> None:
        """Store what was gathered, if that is possible, and leave the room to whoever loads it next."""
        with suppress(StateError):  # what is not stored will be read again
            self.flush()
        if self._room is not None:
            self._room.give_back(sum(each.bytes for each in self._chunks.values()))

    def _discard(self, entries: Sequence[SpoolEntry], reason: str) -> None:
        self._marks.discard(self._plan.table, [each.id for each in entries])
        self._observer.spool_discarded(self._plan.table, sum(each.rows for each in entries), reason)

    def _append(self, batches: Sequence[tuple[int, Batch]]) -> bool:
        entries = [self._entry(number, batch) for number, batch in batches]
        stored = sum(len(each.payload or b"") for each in entries)
        if self._room is None or not self._room.take(stored):
            self._refused_bytes = stored
            return False
        self._refused_bytes = 0
        try:
            self._marks.append(self._plan.table, entries)
        except BaseException:
            self._room.give_back(stored)
            raise
        for each in entries:
            nbytes = len(each.payload or b"")
            known = self._chunks.get(each.chunk)
            if known is None:
                known = SpoolChunk(each.chunk, 0, 0, each.at, each.schema_version)
            self._chunks[each.chunk] = replace(
                known, rows=known.rows + each.rows, bytes=known.bytes + nbytes, at=min(known.at, each.at)
            )
            self.mark, self.position = each.mark or self.mark, each.position or self.position
        self._tell()
        return True

    def _entry(self, number: int, batch: Batch) -> SpoolEntry:
        return SpoolEntry(
            chunk=number,
            rows=len(batch),
            payload=pack(batch),
            mark=batch.mark,
            position=batch.position,
            schema_version=self._schema_version,
            at=self._clock.wall() - max(0.0, self._clock.monotonic() - batch.seen_at),
        )

    def _unpacked(self, entry: SpoolEntry) -> Batch:
        if entry.payload is None:
            raise ValueError("its digest is another")
        age = max(0.0, self._clock.wall() - entry.at)
        return replace(
            unpack(entry.payload, self._plan),
            mark=entry.mark,
            position=entry.position,
            seen_at=self._clock.monotonic() - age,
        )

    def _tell(self) -> None:
        chunks = self._chunks.values()
        self._observer.spooled(
            self._plan.table,
            Spooling(
                rows=sum(each.rows for each in chunks),
                bytes=sum(each.bytes for each in chunks),
                since=min((each.at for each in chunks), default=None),
                share=0.0 if self._room is None else self._room.share,
            ),
        )

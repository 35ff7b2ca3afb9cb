"""A source whose log forgets: changes that nobody read before a checkpoint are seen no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cdc.change import Batch, BatchLimits, Encoded, Mark, Position, TablePlan, TableSchema, Unseen
from cdc.errors import Meaning, TargetError
from tests.support.replication import PLAN, MemoryTarget, MemoryTargetTable

SPEED = 20.0


class QuickClock:
    """Time that passes twenty times as fast: a second's patience takes 50 ms."""

    def monotonic(self) -> float:
        return time.monotonic() * SPEED

    def wall(self) -> float:
        return 1_760_000_000.0 + time.monotonic() * SPEED

    def thread_cpu(self) -> float:
        return time.thread_time() * SPEED

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds) / SPEED)


@dataclass(frozen=True, slots=True)
class Change:
    """A row's new state; `seq` is its place in the log, and its version."""

    seq: int
    key: int
    deleted: bool = False


class LoggedSource:
    """One table's log. Thread safe."""

    identity = "logged"

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._log: list[Change] = []
        self._woken = False
        self.history: list[Change] = []
        self.opened: list[Position | None] = []
        self.seen = 0
        """How far the log was read."""

    def commit(self, *changes: tuple[int, bool]) -> None:
        """Of the keys, each with whether its row is deleted."""
        with self._changed:
            for key, deleted in changes:
                change = Change(len(self.history) + 1, key, deleted)
                self.history.append(change)
                self._log.append(change)
            self._changed.notify_all()

    def checkpoint(self) -> None:
        """The log begins anew."""
        with self._changed:
            self._log.clear()

    @property
    def end(self) -> int:
        with self._changed:
            return len(self.history)

    def tables(self) -> Sequence[TableSchema]:
        return [TableSchema(PLAN.table, PLAN.columns, PLAN.key)]

    def position(self) -> Position:
        return Position(1, 1, self.end)

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> LoggedReader:
        self.opened.append(since)
        return LoggedReader(self, plan, 0 if since is None else since.offset)

    def outrank(self, version: int) -> Position:
        return self.position()

    def after(self, seq: int) -> list[Change]:
        with self._changed:
            return [each for each in self._log if each.seq > seq]

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        with self._changed:
            self._changed.wait_for(
                lambda: self._woken or since != Position(1, 1, len(self.history)), timeout_seconds / SPEED
            )
            return Position(1, 1, len(self.history))

    def nudge(self) -> None: ...

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def awake(self) -> None:
        """May be waited for again."""
        self._woken = False

    def close(self) -> None:
        self.wake()


class LoggedReader:
    """Hands out again what it handed out in the read before and was not acknowledged, as real ones do."""

    learning = False
    position = None

    def __init__(self, source: LoggedSource, plan: TablePlan, at: int) -> None:
        self._source = source
        self._plan = plan
        self._acknowledged = at
        self._ends: dict[int, tuple[Batch, int]] = {}

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        self._ends.clear()
        found = self._source.after(self._acknowledged)
        for start in range(0, len(found), limits.rows):
            changes = found[start : start + limits.rows]
            batch = change_batch(changes, self._plan)
            self._ends[id(batch)] = batch, changes[-1].seq
            yield batch
            self._source.seen = max(self._source.seen, changes[-1].seq)

    def acknowledged(self, batch: Batch) -> None:
        if id(batch) in self._ends:
            _, end = self._ends.pop(id(batch))
            self._acknowledged = max(self._acknowledged, end)

    def unseen_before_send(self) -> Unseen | None:
        return None

    def digests_before_send(self) -> bytes | None:
        return None

    def digests_after_acknowledgement(self) -> bytes | None:
        return None

    def rows_behind(self, after: Mark | None) -> int:
        return 0

    def close(self) -> None: ...


def change_batch(changes: Sequence[Change], plan: TablePlan = PLAN) -> Batch:
    seqs, keys = [each.seq for each in changes], [each.key for each in changes]
    rows = pa.RecordBatch.from_arrays(
        [pa.array(keys, pa.int32()), pa.array(seqs, pa.int64())], names=list(plan.column_names)
    )
    deleted = pa.array([each.deleted for each in changes])
    return Batch(
        plan=plan,
        rows=rows,
        versions=pa.array(seqs, pa.uint64()),
        mark=Mark(str(seqs[-1]), (str(keys[-1]),)),
        position=Position(1, 1, seqs[-1]),
        seen_at=QuickClock().monotonic(),
        deleted=deleted if deleted.true_count else None,
    )


class ChangingTarget(MemoryTarget):
    """Keeps every change that it was sent, and the tokens; it can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.changes: list[Change] = []
        self.tokens: dict[str, list[int]] = {}
        self.inserts = 0
        self.refuse = lambda seqs: self._error("insert into") if self.away else None
        self.open_error = lambda plan: self._error("open") if self.away else None
        self.ping_error = lambda: self._error("reach") if self.away else None
        self.batches: dict[str, Batch] = {}

    def open(self, plan: TablePlan, generation: int = 0) -> ChangingTable:
        if (error := self.open_error(plan)) is not None:
            raise error
        return ChangingTable(self, plan)

    def final(self) -> dict[int, Change]:
        """What a query with FINAL would show."""
        newest: dict[int, Change] = {}
        for each in self.changes:
            if each.key not in newest or each.seq >= newest[each.key].seq:
                newest[each.key] = each
        return newest

    def _error(self, operation: str) -> TargetError:
        return TargetError(operation, "trades", "connection refused", "Start it", meaning=Meaning.RETRY)


class ChangingTable(MemoryTargetTable):
    def __init__(self, target: ChangingTarget, plan: TablePlan) -> None:
        super().__init__(target, plan)
        self._changing = target

    def encode(self, batch: Batch) -> Encoded:
        encoded = super().encode(batch)
        self._changing.batches[encoded.token] = batch
        return encoded

    def send(self, encoded: Encoded) -> None:
        super().send(encoded)
        target, batch = self._changing, self._changing.batches[encoded.token]
        deleted = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
        keys, seqs = batch.rows.column(0).to_pylist(), batch.rows.column(1).to_pylist()
        found = [Change(*each) for each in zip(seqs, keys, deleted, strict=True)]
        before = target.tokens.setdefault(encoded.token, seqs)
        assert before == seqs
        target.changes += found
        target.inserts += 1

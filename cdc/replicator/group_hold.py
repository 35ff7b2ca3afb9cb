"""Which rows wait until their group is complete, and which are delivered now? [F8]

A table's completion rule names a column that makes groups (an order's fills) and a condition over a group.
Rows of a group that is not complete are parked: they are stored in the transaction that moves the mark past
them, and delivered together with the row that completes the group. Nothing waits for ever, and not too much
waits: past the rule's age or room the oldest groups are delivered as they are, and the observer is told.

The condition sees the rows that wait. A group that was delivered is remembered for the rule's age, so that a
later change of one of its rows is delivered at once instead of waiting for rows that will not come again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from cdc.change import Batch, TablePlan
from cdc.clock import Clock
from cdc.packing import pack_rows
from cdc.replicator.earlier_schema_holds import VERSION, HeldByEarlierSchema, plain, versions_of
from cdc.replicator.hold_decision import GROUP_NUMBER, Early, GroupRule, HoldDecision, Waiting
from cdc.replicator.identity import Key, keys
from cdc.stored import Held, HeldRows, Holding
from cdc.text import texts

MAX_PIECES = 64
"""A group that came in more pieces is stored anew as one."""
MAX_REMEMBERED = 100_000
"""Groups delivered that are remembered at most: some 10 MB."""


@dataclass(slots=True)
class _Group:
    since: float
    pieces: list[pa.RecordBatch] = field(default_factory=list)
    """The plan's columns and last the versions, in the order they came."""
    keys: set[Key] = field(default_factory=set)
    stored: bool = False

    @property
    def rows(self) -> int:
        return sum(piece.num_rows for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        return sum(int(piece.nbytes) for piece in self.pieces)


class GroupHold:
    """The held rows of one table. For one thread; what it admits is to be delivered in the same order.

    What it answers is taken as done at once: whoever fails to deliver it makes a new one from what is stored.
    """

    def __init__(
        self, plan: TablePlan, schema_version: str, rule: GroupRule | None, held: Held, clock: Clock
    ) -> None:
        """`rule` is None where the configuration has none any more: all that is held is due then."""
        self._plan = plan
        self._schema_version = schema_version
        self._rule = rule
        self._clock = clock
        self._groups: OrderedDict[str, _Group] = OrderedDict()  # by age
        self._homes: dict[Key, str] = {}
        self._rows = 0
        self._bytes = 0
        self._outdated = HeldByEarlierSchema(
            plan, (each for each in held.rows if each.schema_version != schema_version)
        )
        now = clock.wall()
        self._delivered = OrderedDict((group, min(at, now)) for group, at in held.delivered)
        for each in sorted(held.rows, key=lambda each: each.since):  # stable: pieces stay in their order
            if each.schema_version != schema_version:
                continue
            (piece,) = pa.ipc.open_stream(each.payload)
            since = min(each.since, now)  # the clock may have been set back
            group = self._groups.setdefault(each.group, _Group(since, stored=True))
            self._add(each.group, group, piece)

    def __repr__(self) -> str:
        return f"GroupHold({self._plan.table}, {self._rows} rows in {len(self._groups)} groups)"

    @property
    def waiting(self) -> Waiting:
        oldest = next(iter(self._groups.values()), None)
        return Waiting(self._rows, len(self._groups), None if oldest is None else oldest.since)

    @property
    def done(self) -> bool:
        """Nothing is held, and nothing will be: there is no rule."""
        return self._rule is None and not (self._groups or self._outdated or self._delivered)

    def due_in(self) -> float:
        """Seconds until the oldest group has waited long enough; infinite when nothing is held."""
        if self._outdated or (self._rule is None and not self.done):
            return 0.0
        since = self.waiting.since
        return float("inf") if since is None else max(0.0, since + self._max_age - self._clock.wall())

    def due(self) -> HoldDecision | None:
        """Groups that have waited long enough; None when there are none.

        To be asked once the table was read to its end: what completes them might still be to be read before.
        """
        if self.due_in() > 0:
            return None
        turn = _Turn()
        self._expel(turn, aged=True)
        self._remember(turn)
        failed, released = self._outdated.give_up()
        turn.released |= released
        return HoldDecision(self._batch(turn.pieces), turn.holding(), failed, turn.early(), self.waiting)

    def admit(self, batch: Batch) -> HoldDecision:
        """What of `batch`, and of the rows held, is delivered now.

        Raises:
            CdcError: the rule cannot be evaluated.
        """
        turn, rule = _Turn(), self._plan.completion
        if self._outdated:
            self._outdated.met(keys(batch.rows, self._plan.key))
            turn.parked, turn.released = self._outdated.set_apart()
        if rule is None or self._rule is None:
            self._expel(turn, aged=True)  # what was held goes before its newer state
            self._remember(turn)
            if not turn.changed:
                return HoldDecision(batch)
            whole = self._before(self._batch(turn.pieces), batch)
            return HoldDecision(whole, turn.holding(), (), turn.early(), self.waiting)
        passing, waiting = self._sort(batch, rule.group, turn)
        complete = self._complete(batch, waiting, turn)
        for group in complete:
            passing += waiting.pop(group, ())
            self._release(group, turn)
            turn.delivered.append(group)
        for group, indices in waiting.items():
            self._park(group, batch, indices, turn)
        self._clear_away(turn)
        self._expel(turn, aged=False)
        self._remember(turn)
        self._store(turn)
        if not turn.pieces and len(passing) == len(batch):
            return HoldDecision(batch, turn.holding(), waiting=self.waiting if turn.changed else None)
        chosen = pa.array(sorted(passing), pa.int64())
        kept = replace(
            batch,
            rows=batch.rows.take(chosen),
            versions=batch.versions.take(chosen),
            deleted=None if batch.deleted is None else batch.deleted.take(chosen),
        )
        whole = self._before(self._batch(turn.pieces), kept)
        return HoldDecision(whole, turn.holding(), (), turn.early(), self.waiting)

    def close(self) -> None:
        if self._rule is not None:
            self._rule.close()

    @property
    def _max_age(self) -> float:
        return 0.0 if self._plan.completion is None else self._plan.completion.max_age_seconds

    def _sort(self, batch: Batch, column: str, turn: _Turn) -> tuple[list[int], dict[str, list[int]]]:
        """The rows that wait for nothing, and those of each group that may have to."""
        passing: list[int] = []
        waiting: dict[str, list[int]] = {}
        newest: dict[Key, int] = {}
        outdated: dict[str, set[Key]] = {}
        superseded: set[int] = set()
        deleted = None if batch.deleted is None else batch.deleted.to_pylist()
        groups = texts(batch.rows.column(column))
        for index, (group, key) in enumerate(zip(groups, keys(batch.rows, self._plan.key), strict=True)):
            if None not in key:  # else nothing tells two rows apart
                if (home := self._homes.get(key)) is not None:
                    outdated.setdefault(home, set()).add(key)
                if (before := newest.get(key)) is not None:  # an older state in the same batch
                    superseded.add(before)
                newest[key] = index
            if group is None or group in self._delivered or (deleted is not None and deleted[index]):
                passing.append(index)
            else:
                waiting.setdefault(group, []).append(index)
        for group, dropped in outdated.items():
            self._drop(group, dropped, turn)
        if superseded:
            passing = [index for index in passing if index not in superseded]
            left = {name: [i for i in found if i not in superseded] for name, found in waiting.items()}
            waiting = {name: found for name, found in left.items() if found}
        return passing, waiting

    def _complete(self, batch: Batch, waiting: dict[str, list[int]], turn: _Turn) -> list[str]:
        """The groups that this batch completes."""
        names = list(dict.fromkeys((*waiting, *(group for group in turn.stale if group in self._groups))))
        if not names or self._rule is None:
            return []
        indices = [index for name in names for index in waiting.get(name, ())]
        numbers = [number for number, name in enumerate(names) for _ in waiting.get(name, ())]
        taken = batch.rows.take(pa.array(indices, pa.int64()))
        parts = [self._numbered(taken, pa.array(numbers, pa.int32()))]
        for number, name in enumerate(names):
            if (group := self._groups.get(name)) is not None:
                parts += [
                    self._numbered(plain(piece), pa.array([number] * len(piece), pa.int32()))
                    for piece in group.pieces
                ]
        complete = self._rule.complete(pa.concat_tables(parts).unify_dictionaries())
        return [name for number, name in enumerate(names) if number in complete]

    def _taken(self, batch: Batch, indices: Sequence[int]) -> pa.RecordBatch:
        """Rows of the batch with their versions, copied: nothing else of it is kept in memory."""
        chosen = pa.array(indices, pa.int64())
        name = self._plan.free_name(VERSION)
        return batch.rows.take(chosen).append_column(name, batch.versions.take(chosen))

    def _numbered(self, rows: pa.RecordBatch, numbers: pa.Array) -> pa.Table:
        name = self._plan.free_name(GROUP_NUMBER)
        return pa.Table.from_batches([rows.append_column(name, numbers)])

    def _park(self, name: str, batch: Batch, indices: Sequence[int], turn: _Turn) -> None:
        group = self._groups.setdefault(name, _Group(self._clock.wall()))
        piece = self._taken(batch, indices)
        self._add(name, group, piece)
        turn.fresh[name] = piece

    def _add(self, name: str, group: _Group, piece: pa.RecordBatch) -> None:
        group.pieces.append(piece)
        found = [key for key in keys(piece, self._plan.key) if None not in key]
        group.keys.update(found)
        self._homes.update(dict.fromkeys(found, name))
        self._rows += piece.num_rows
        self._bytes += int(piece.nbytes)

    def _drop(self, name: str, dropped: set[Key], turn: _Turn) -> None:
        """Forget rows of a group whose newer state has come."""
        group, kept = self._groups[name], []
        self._rows -= group.rows
        self._bytes -= group.nbytes
        for piece in group.pieces:
            stay = [index for index, key in enumerate(keys(piece, self._plan.key)) if key not in dropped]
            if stay:
                kept.append(piece.take(pa.array(stay)))
        for key in dropped:
            del self._homes[key]
        group.pieces, group.keys = kept, group.keys - dropped
        self._rows += group.rows
        self._bytes += group.nbytes
        turn.stale.add(name)

    def _clear_away(self, turn: _Turn) -> None:
        """Groups whose last row went to its newer state's group."""
        for name in turn.stale:
            if name in self._groups and not self._groups[name].pieces:
                self._take_out(name, turn)

    def _release(self, name: str, turn: _Turn) -> None:
        """Deliver what is held of the group."""
        if name in self._groups:
            turn.pieces += self._take_out(name, turn).pieces

    def _take_out(self, name: str, turn: _Turn) -> _Group:
        group = self._groups.pop(name)
        for key in group.keys:
            self._homes.pop(key, None)
        self._rows -= group.rows
        self._bytes -= group.nbytes
        if group.stored:
            turn.released.add(name)
        turn.fresh.pop(name, None)
        return group

    def _expel(self, turn: _Turn, *, aged: bool) -> None:
        """Deliver the oldest groups as they are while there are too many rows, or, if asked, are too old."""
        rule = self._plan.completion
        now = self._clock.wall()
        while self._groups:
            name, group = next(iter(self._groups.items()))
            if self._rule is None or rule is None:
                reason = "the table has no completion rule any more"
            elif aged and now - group.since >= rule.max_age_seconds:
                reason = f"not complete after {rule.max_age_seconds:g} s"
            elif self._rows > rule.max_rows:
                reason = f"more than {rule.max_rows} rows would wait"
            elif self._bytes > rule.max_bytes:
                reason = f"more than {rule.max_bytes} bytes would wait"
            else:
                return
            turn.expelled(name, group.rows, reason)
            self._release(name, turn)
            turn.delivered.append(name)

    def _remember(self, turn: _Turn) -> None:
        now = self._clock.wall()
        for name in turn.delivered:
            self._delivered[name] = now
            self._delivered.move_to_end(name)
        while self._delivered:
            name, at = next(iter(self._delivered.items()))
            young = self._rule is not None and now - at <= self._max_age
            if young and len(self._delivered) <= MAX_REMEMBERED:
                break
            del self._delivered[name]
            turn.forgotten.append(name)
        turn.delivered = [name for name in turn.delivered if name in self._delivered]

    def _store(self, turn: _Turn) -> None:
        """What is parked now and not stored yet."""
        for name in dict.fromkeys((*turn.fresh, *(name for name in turn.stale if name in self._groups))):
            group = self._groups[name]
            if group.stored and name not in turn.stale and len(group.pieces) <= MAX_PIECES:
                turn.parked.append(self._held(name, group.since, turn.fresh[name]))
                continue
            (piece,) = pa.Table.from_batches(group.pieces).combine_chunks().to_batches()
            group.pieces = [piece]
            if group.stored:
                turn.released.add(name)
            group.stored = True
            turn.parked.append(self._held(name, group.since, piece))

    def _held(self, name: str, since: float, piece: pa.RecordBatch) -> HeldRows:
        return HeldRows(name, since, piece.num_rows, pack_rows(piece), self._schema_version)

    def _before(self, held: Batch, batch: Batch) -> Batch:
        """`batch` with the rows that were held before its own."""
        if not len(held):
            return batch
        table = pa.concat_tables([pa.Table.from_batches([each.rows]) for each in (held, batch)])
        (rows,) = table.combine_chunks().to_batches()
        deleted = batch.deleted
        if deleted is not None:
            deleted = pa.concat_arrays([pa.array(np.zeros(len(held), dtype=bool)), deleted])
        return replace(
            batch,
            rows=rows,
            versions=pa.concat_arrays([held.versions, batch.versions]),
            deleted=deleted,
        )

    def _batch(self, pieces: Sequence[pa.RecordBatch]) -> Batch:
        """These rows as a batch that moves nothing."""
        if not pieces:
            empty = pa.RecordBatch.from_arrays([], names=[])
            return Batch(self._plan, empty, pa.array([], pa.uint64()), None, None, self._clock.monotonic())
        (rows,) = pa.Table.from_batches(pieces).combine_chunks().to_batches()
        return Batch(
            plan=self._plan,
            rows=plain(rows),
            versions=versions_of(rows),
            mark=None,
            position=None,
            seen_at=self._clock.monotonic(),
        )


@dataclass(slots=True)
class _Turn:
    """What one call decides, as it goes."""

    pieces: list[pa.RecordBatch] = field(default_factory=list)
    """Held rows that are delivered, oldest group first."""
    fresh: dict[str, pa.RecordBatch] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Groups that lost a row to its newer state."""
    parked: list[HeldRows] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    delivered: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    early_groups: int = 0
    early_rows: int = 0
    example: str = ""
    reason: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.parked or self.released)

    def expelled(self, name: str, rows: int, reason: str) -> None:
        self.example, self.reason = self.example or name, self.reason or reason
        self.early_groups += 1
        self.early_rows += rows

    def early(self) -> Early | None:
        if not self.early_groups:
            return None
        return Early(self.early_groups, self.early_rows, self.example, self.reason)

    def holding(self) -> Holding:
        return Holding(tuple(self.parked), tuple(self.released), tuple(self.delivered), tuple(self.forgotten))

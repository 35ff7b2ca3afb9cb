"""One table is made equal while its rows go on changing and its own loop goes on delivering. [R3 R8]"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import UNREACHABLE, Batch, Position, TableId, TablePlan, TableSchema, era_of
from cdc.comparison.compare import Comparer, Digest, Overview, Span, spans
from cdc.comparison.digest import RowHasher
from cdc.comparison.reconciliation import PATIENCE_SECONDS, Reconciliation, Sides, groups
from cdc.comparison.repair import Outranking, Repaired, delete_gone, deliver_again
from cdc.errors import SnapshotSuperseded, TargetError
from cdc.replicator.delivery import Stopped
from tests.support.clock import FakeClock
from tests.unit.test_compare import PLAN, SCHEMA, Row, Side, States, hasher, rows

__all__ = ["hasher"]

BOUNDARIES = ("3", "7")


@dataclass
class World:
    """A source that commits, a target that keeps each key's greatest version, and the table's loop between.

    `script` is what happens next, one step at each read, send or look at the position.
    """

    source: States
    target: dict[str, tuple[int, Row | None]]
    script: list[Callable[[World], None]] = field(default_factory=list)
    position: int = 100
    era: int = 1
    undelivered: list[tuple[str, int, Row | None]] = field(default_factory=list)
    sent: list[tuple[int, bool]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()

    def step(self) -> None:
        if self.script:
            self.script.pop(0)(self)

    def commit(self, key: str, row: Row | None) -> None:
        self.position += 1
        if row is None:
            self.source.pop(key, None)
        else:
            self.source[key] = row
        self.undelivered.append((key, self.position, row))

    def deliver(self, count: int = 1) -> None:
        """The loop's turn: each change arrives as of its commit, in order."""
        for _ in range(min(count, len(self.undelivered))):
            key, position, row = self.undelivered.pop(0)
            self.arrive(key, _at(position, self.era).as_version(), row)

    def arrive(self, key: str, version: int, row: Row | None) -> None:
        if version >= self.target.get(key, (0, None))[0]:
            self.target[key] = version, row

    def present(self) -> States:
        return {key: row for key, (_, row) in self.target.items() if row is not None}


def _at(position: int, era: int) -> Position:
    """Commits end further apart than versions tell."""
    return Position(era, 1, 32 * position)


class WorldSource:
    def __init__(self, world: World) -> None:
        self._world = world

    def outrank(self, version: int) -> Position:
        if _at(self._world.position, self._world.era).as_version() <= version:
            self._world.era = era_of(version) + 1
        found = _at(self._world.position, self._world.era)
        self._world.step()
        return found

    def rows(self, plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader:
        found = Side(dict(self._world.source)).rows(plan, low, high)
        self._world.step()
        return found

    def tables(self) -> Sequence[TableSchema]:
        return [TableSchema(PLAN.table, PLAN.columns, PLAN.key)]

    def boundaries(self, plan: TablePlan, ranges: int) -> tuple[str, ...]:
        return BOUNDARIES

    @contextmanager
    def snapshot(self) -> Iterator[Counted]:
        yield Counted()


class Counted:
    def relation(self, table: TableId) -> str:
        return str(table)

    def single(self, sql: str) -> int:
        return 1


class WorldTarget:
    def __init__(self, world: World) -> None:
        self._world = world

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        found = Side(self._world.present()).rows(plan, low, high, ordered=ordered)
        self._world.step()
        return found

    def maximum(self, plan: TablePlan, upto: str | None = None) -> str | None:
        return None

    def newest_version(self, plan: TablePlan) -> int | None:
        versions = [version for version, _ in self._world.target.values()]
        return max((each for each in versions if each < UNREACHABLE), default=None)

    def check_versions(self, plan: TablePlan) -> None:
        if any(version >= UNREACHABLE for version, _ in self._world.target.values()):
            raise TargetError("mend", "t", "a version that nothing outranks", "Run ALTER TABLE t DELETE")


class WorldRedelivery:
    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, batch: Batch) -> int:
        world, rejected = self._world, 0
        for at, row in enumerate(batch.rows.to_pylist()):
            if row["id"] in world.refused:
                rejected += 1
                continue
            gone = batch.deleted is not None and bool(batch.deleted[at].as_py())
            items = None if row["l"] is None else tuple(row["l"])
            state = None if gone else (row["seq"], row["x"], items)
            world.sent.append((at, gone))
            world.arrive(row["id"], int(batch.versions[at].as_py()), state)
        world.step()
        return rejected


class Bench:
    def __init__(self, world: World, *, deletes: bool = True, kept_back: Sequence[str] = ()) -> None:
        @contextmanager
        def redelivery(plan: TablePlan) -> Iterator[WorldRedelivery]:
            yield WorldRedelivery(world)

        back = pa.Table.from_pylist([{"id": key, "seq": 1} for key in kept_back], SCHEMA).to_batches()
        self.clock = FakeClock()
        self.stop = threading.Event()
        self.repairs = 0
        self.source = WorldSource(world)
        sides = Sides(self.source, WorldTarget(world), redelivery, lambda plan: back, deletes=deletes)
        self.reconciliation = Reconciliation(sides, self.clock, self.stop)

    def reconcile(self, look: Callable[[], None] = lambda: None) -> tuple[Repaired, int]:
        def repairing() -> None:
            self.repairs += 1

        found = self.reconciliation.reconcile(PLAN, look, repairing)
        return found.repaired, found.left


ONE: States = {f"k{n}": (n, float(n), (n,)) for n in range(10)}


def delivered(states: States) -> dict[str, tuple[int, Row | None]]:
    return {key: (1, row) for key, row in states.items()}


def test_missing_different_and_deleted_rows_are_mended_and_compared_again() -> None:
    there = {key: row for key, row in ONE.items() if key not in ("k0", "k5")}
    target = delivered({**ONE, "k1": (1, -1.0, None), "k8": (2, 8.0, (8,))})  # k8 has moved to another range
    del target["k9"]
    world = World(there, target)
    bench = Bench(world)
    assert bench.reconcile() == (Repaired(sent=3, deleted=2), 0)
    assert (world.present(), bench.repairs) == (there, 1)


def test_equal_tables_are_read_once_and_nothing_is_sent() -> None:
    world = World(dict(ONE), delivered(ONE))
    bench = Bench(world)
    assert bench.reconcile() == (Repaired(), 0)
    assert (world.sent, bench.repairs, bench.clock.waits) == ([], 0, [])


def test_rows_that_only_the_target_has_are_left_alone_where_deletions_are_ignored() -> None:
    target = delivered({**ONE, "old": (2, 0.0, None)})
    del target["k4"]
    world = World(dict(ONE), target)
    assert Bench(world, deletes=False).reconcile() == (Repaired(sent=1), 0)
    assert world.present() == {**ONE, "old": (2, 0.0, None)}


def test_rows_on_their_way_are_waited_for_and_not_sent() -> None:
    world = World(dict(ONE), delivered(ONE))
    world.commit("k3", (3, 9.0, None))
    world.commit("new", (5, 9.0, None))
    world.commit("k4", None)
    bench = Bench(world)
    # A look at three ranges of the source, at the target, and at the one range that differs: then they come.
    world.script = [lambda each: None] * (3 + 1 + 3) + [lambda each: each.deliver(3)]
    assert bench.reconcile() == (Repaired(), 0)
    assert (world.sent, world.present()) == ([], world.source)
    assert bench.clock.waits[0] == PATIENCE_SECONDS


def test_rows_set_aside_or_waiting_for_their_group_are_left_to_the_replicator() -> None:
    target = delivered(ONE)
    del target["k2"], target["k3"]
    world = World(dict(ONE), target)
    assert Bench(world, kept_back=["k2"]).reconcile() == (Repaired(sent=1), 0)
    assert world.present().keys() == ONE.keys() - {"k2"}


def test_a_repair_outranks_a_row_that_the_target_has_with_a_greater_version() -> None:
    """[issue 12 case 28] And what comes later outranks the repair."""
    target = delivered(ONE) | {"k2": (Position(9, 0, 5000).as_version(), (2, -1.0, None))}
    world = World(dict(ONE), target)
    bench = Bench(world)
    assert bench.reconcile() == (Repaired(sent=1), 0)
    assert bench.repairs == 1
    world.commit("k2", (3, 3.0, None))
    world.deliver()
    assert world.present() == world.source


def test_a_row_with_a_version_that_nothing_outranks_is_said_to_be_left_with_what_to_run() -> None:
    target = delivered(ONE) | {"k2": (2**64 - 1, (2, -1.0, None)), "k3": (UNREACHABLE - 1, (3, -1.0, None))}
    world = World(dict(ONE), target)
    bench = Bench(world)
    with pytest.raises(TargetError, match="ALTER TABLE"):
        bench.reconcile()
    assert {key for key, row in ONE.items() if world.present()[key] != row} == {"k2"}


def test_a_row_that_the_target_refuses_is_set_aside_and_not_sent_for_ever() -> None:
    target = delivered(ONE)
    del target["k2"]
    world = World(dict(ONE), target, refused=frozenset({"k2"}))
    bench = Bench(world)
    assert bench.reconcile() == (Repaired(rejected=1), 1)
    assert bench.repairs == 1


def test_a_stop_ends_it_between_two_reads() -> None:
    world = World(dict(ONE), {})
    bench = Bench(world)
    world.script = [lambda each: None, lambda each: bench.stop.set()]
    with pytest.raises(Stopped):
        bench.reconcile()
    assert world.sent == []


def test_what_the_look_between_two_pieces_raises_ends_it() -> None:
    world = World(dict(ONE), {})
    bench = Bench(world)

    def look() -> None:
        raise TimeoutError("the table is halted")

    with pytest.raises(TimeoutError):
        bench.reconcile(look)
    assert world.sent == []


def test_a_superseded_snapshot_is_read_again_before_its_rows_are_sent_with_their_own_position() -> None:
    world = World(dict(ONE), {})
    bench = Bench(world)
    plain, left = bench.source.rows, [1] * 5

    def rows(plan: TablePlan, low: str | None, high: str | None) -> pa.RecordBatchReader:
        if left:
            left.pop()
            world.commit("k1", (1, float(len(left)), None))
            raise SnapshotSuperseded("read", "it", "a checkpoint came", "Read it again")
        return plain(plan, low, high)

    bench.source.rows = rows  # type: ignore[method-assign]
    bench.reconcile()
    world.deliver(100)
    assert world.present() == world.source


keys = st.sampled_from([f"k{n}" for n in range(6)])
steps = st.one_of(
    st.just(None),
    st.tuples(keys, st.none() | rows),
    st.integers(1, 5),
)


def act(step: object) -> Callable[[World], None]:
    def happen(world: World) -> None:
        if isinstance(step, int):
            world.deliver(step)
        elif isinstance(step, tuple):
            world.commit(*step)

    return happen


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(
    source=st.dictionaries(keys, rows, max_size=6),
    target=st.dictionaries(keys, rows, max_size=6),
    script=st.lists(steps, max_size=60),
)
def test_whatever_changes_while_it_repairs_what_the_loop_delivers_later_outranks_the_repair(
    source: States, target: States, script: list[object]
) -> None:
    """Both sides begin as unlike as can be. Rows change, and changes arrive, between any two reads and sends;
    in the end, when all of them have arrived, the target is the source."""
    world = World(dict(source), delivered(target), [act(step) for step in script])
    _, left = Bench(world).reconcile()
    unmended = {key for key, _, _ in world.undelivered}
    world.script.clear()
    world.deliver(len(world.undelivered))
    if left:  # it says so; the break stays, and the next one mends it
        _, left = Bench(world).reconcile()
        assert left == 0
    assert repr(sorted(world.present().items())) == repr(sorted(world.source.items())), unmended


@pytest.mark.long
@settings(deadline=None, max_examples=150)
@given(
    source=st.dictionaries(keys, rows, max_size=6),
    target=st.dictionaries(keys, rows, max_size=6),
    script=st.lists(steps, max_size=20),
)
def test_a_row_repaired_once_has_the_version_of_a_position_before_its_read(
    source: States, target: States, script: list[object], hasher: RowHasher
) -> None:
    """The same without a second comparison that would mend what the first repair did wrong."""
    world = World(dict(source), delivered(target))
    sides = WorldSource(world)
    comparer = Comparer(PLAN, sides, WorldTarget(world), hasher)
    found = comparer.differences(Span())
    world.script = [act(step) for step in script]
    send, every = WorldRedelivery(world).send, spans(BOUNDARIES)
    clock = Outranking(sides, WorldTarget(world))
    deliver_again(comparer, clock, every, found, send)
    delete_gone(comparer, clock, {Span(): found}, every, send)
    world.script.clear()
    world.deliver(len(world.undelivered))
    assert repr(sorted(world.present().items())) == repr(sorted(world.source.items()))


def overview(number: int, rows: int, *, equal: bool) -> Overview:
    digest = Digest(rows, 1)
    return Overview(Span(str(number), str(number + 1)), digest, digest if equal else Digest(rows, 2))


def test_ranges_that_differ_are_compared_in_runs_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.comparison.reconciliation.GROUP_ROWS", 30)
    shape = [True, False, True, False, True, True, False, True]
    found = list(groups([overview(n, 10, equal=equal) for n, equal in enumerate(shape)]))
    assert [[int(each.low or -1) for each in group] for group in found] == [[1, 2, 3], [6]]
    assert list(groups([overview(n, 10, equal=True) for n in range(3)])) == []
    [large] = groups([overview(0, 1000, equal=False)])
    assert len(large) == 1

"""Rows of a group wait until it is complete, and are delivered once, whole, and in order. [F8]"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import Batch, Column, Completion, Mark, Position, TableId, TablePlan, schema_version
from cdc.replicator import group_hold as hold_module
from cdc.replicator.group_hold import GroupHold
from cdc.replicator.hold_decision import GROUP_NUMBER, Early, HoldDecision
from cdc.state import open_store
from cdc.stored import Decision
from cdc.watermark import BoundMarks, bind
from tests.support.clock import FakeClock

RULE = Completion("order_id", "bool_or(done)", max_age_seconds=60.0, max_rows=1000, max_bytes=1 << 20)
PLAN = TablePlan(
    table=TableId("main", "fills"),
    target="fills",
    columns=(
        Column("id", "INTEGER"),
        Column("seq", "BIGINT"),
        Column("order_id", "VARCHAR"),
        Column("done", "BOOLEAN"),
    ),
    key=("id",),
    watermark=Column("seq", "BIGINT"),
    completion=RULE,
)
SCHEMA = pa.schema({"id": pa.int32(), "seq": pa.int64(), "order_id": pa.string(), "done": pa.bool_()})


@dataclass(frozen=True)
class Row:
    id: int
    seq: int
    order_id: str | None
    done: bool = False
    deleted: bool = False


class AnyDone:
    """What DuckDB answers for bool_or(done)."""

    def complete(self, rows: pa.Table) -> set[int]:
        found = zip(rows.column(GROUP_NUMBER).to_pylist(), rows.column("done").to_pylist(), strict=True)
        return {number for number, done in found if done}

    def close(self) -> None: ...


def batch_of(rows: Sequence[Row], version: int = 7) -> Batch:
    values = [{name: getattr(row, name) for name in SCHEMA.names} for row in rows]
    return Batch(
        plan=PLAN,
        rows=pa.RecordBatch.from_pylist(values, SCHEMA),
        versions=pa.array([version] * len(rows), pa.uint64()),
        mark=Mark(str(rows[-1].seq), (str(rows[-1].id),)),
        position=Position(1, 1, rows[-1].seq),
        seen_at=0.0,
        deleted=pa.array([row.deleted for row in rows]) if any(row.deleted for row in rows) else None,
    )


def rows_of(batch: Batch) -> list[Row]:
    deleted = [False] * len(batch) if batch.deleted is None else batch.deleted.to_pylist()
    return [Row(**row, deleted=gone) for row, gone in zip(batch.rows.to_pylist(), deleted, strict=True)]


class FreeLease:
    source = "s"
    held = True


@dataclass
class Bench:
    """A hold over a real store, and what was delivered of it."""

    directory: Path
    plan: TablePlan = PLAN
    clock: FakeClock = field(default_factory=FakeClock)
    sent: list[Row] = field(default_factory=list)
    blocks: list[list[int]] = field(default_factory=list)
    early: list[Early] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = open_store(self.directory, clock=self.clock)
        self.marks: BoundMarks = bind(self.store, "s", FreeLease())
        self.marks.describe(self.plan)
        self.hold: GroupHold = self.restart()

    def restart(self, plan: TablePlan | None = None) -> GroupHold:
        self.plan = plan or self.plan
        rule = AnyDone() if self.plan.completion else None
        held = self.marks.held(PLAN.table)
        self.hold = GroupHold(self.plan, schema_version(self.plan), rule, held, self.clock)
        return self.hold

    def admit(self, *rows: Row) -> list[int]:
        return self.deliver(self.hold.admit(batch_of(rows)))

    def due(self) -> list[int]:
        admitted = self.hold.due()
        return [] if admitted is None else self.deliver(admitted)

    def deliver(self, admitted: HoldDecision) -> list[int]:
        batch = admitted.batch
        version = schema_version(self.plan)
        self.marks.commit(
            Decision(
                PLAN.table, None, len(batch), 0, batch.position, version, admitted.failed, admitted.holding
            )
        )
        found = rows_of(batch)
        self.sent += found
        self.blocks.append([row.id for row in found])
        self.failed += [row.reason for row in admitted.failed]
        if admitted.early is not None:
            self.early.append(admitted.early)
        return self.blocks[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterable[Bench]:
    made = Bench(tmp_path)
    with made.store:
        yield made


def test_rows_of_a_group_wait_and_are_delivered_together_with_the_one_that_completes_it(bench: Bench) -> None:
    assert bench.admit(Row(1, 1, "a"), Row(2, 2, "b"), Row(3, 3, None)) == [3]
    assert (bench.hold.waiting.rows, bench.hold.waiting.groups) == (2, 2)
    assert bench.hold.waiting.since == bench.clock.wall()
    assert bench.admit(Row(4, 4, "a")) == []
    assert bench.admit(Row(5, 5, "a", done=True), Row(6, 6, "c", done=True)) == [1, 4, 5, 6]
    assert bench.hold.waiting.rows == 1
    assert bench.early == []


def test_a_batch_that_completes_all_its_groups_passes_as_it_is(bench: Bench) -> None:
    batch = batch_of([Row(1, 1, "a"), Row(2, 2, "a", done=True), Row(3, 3, None)])
    assert bench.hold.admit(batch).batch is batch


def test_held_rows_are_there_after_a_restart(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"))
    bench.admit(Row(2, 2, "a"))
    bench.restart()
    assert bench.hold.waiting.rows == 2
    assert bench.admit(Row(3, 3, "a", done=True)) == [1, 2, 3]
    assert bench.restart().waiting.rows == 0


def test_a_newer_state_replaces_the_held_one_also_from_another_group(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"), Row(2, 2, "a"))
    bench.admit(Row(1, 3, "b"))
    bench.restart()
    assert bench.hold.waiting.rows == 2
    assert bench.admit(Row(2, 4, "a", done=True)) == [2]
    assert bench.admit(Row(1, 5, "b", done=True)) == [1]
    assert [row.seq for row in bench.sent] == [4, 5]


def test_rows_without_a_key_are_all_kept(bench: Bench) -> None:
    nobody = [{"id": None, "seq": n, "order_id": "a", "done": n == 3} for n in range(4)]
    rows = pa.RecordBatch.from_pylist(nobody, SCHEMA)
    whole = replace(batch_of([Row(1, 1, "a")] * 4), rows=rows)
    bench.deliver(bench.hold.admit(whole.slice(0, 3)))
    assert bench.restart().waiting.rows == 3
    bench.deliver(bench.hold.admit(whole.slice(3, 1)))
    assert [row.seq for row in bench.sent] == [0, 1, 2, 3]


def test_a_deletion_waits_for_nothing_and_ends_the_waiting_of_its_row(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"), Row(2, 2, "a"))
    assert bench.admit(Row(1, 1, "a", deleted=True)) == [1]
    bench.restart()
    assert bench.admit(Row(3, 3, "a", done=True)) == [2, 3]


def test_past_the_age_a_group_is_delivered_as_it_is_and_said_to_be_so(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"))
    bench.clock.advance(30)
    bench.admit(Row(2, 2, "b"))
    assert bench.due() == []
    assert bench.hold.due_in() == 30.0
    bench.clock.advance(30)
    assert bench.due() == [1]
    assert [(each.groups, each.rows, each.example) for each in bench.early] == [(1, 1, "a")]
    assert "60 s" in bench.early[0].reason
    assert bench.restart().waiting.rows == 1


def test_what_comes_after_its_group_was_delivered_waits_no_more_also_after_a_restart(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"), Row(2, 2, "a", done=True))
    assert bench.admit(Row(1, 3, "a")) == [1]
    bench.restart()
    assert bench.admit(Row(1, 4, "a")) == [1]
    bench.clock.advance(61)
    assert bench.admit(Row(9, 9, None)) == [9]  # the group is forgotten by now
    assert bench.admit(Row(1, 5, "a")) == []


def test_an_aged_group_that_is_completed_by_what_is_still_to_be_read_is_delivered_whole(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"))
    bench.clock.advance(3600)  # nothing ran meanwhile
    bench.restart()
    assert bench.admit(Row(2, 2, "b")) == []
    assert bench.admit(Row(3, 3, "a", done=True)) == [1, 3]
    assert bench.early == []


def test_no_more_rows_wait_than_there_is_room_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.admit(*(Row(n, n, f"g{n}") for n in range(1000)))
    assert bench.early == []
    assert bench.admit(*(Row(n, n, f"g{n}") for n in range(1000, 1003))) == [0, 1, 2]
    assert bench.hold.waiting.rows == 1000
    assert (bench.early[0].groups, bench.early[0].example) == (3, "g0")
    assert bench.restart().waiting.rows == 1000
    monkeypatch.setattr(hold_module, "MAX_REMEMBERED", 2)
    bench.admit(*(Row(n, n, f"g{n}", done=True) for n in range(100, 110)))
    assert [group for group, _ in bench.marks.held(PLAN.table).delivered] == ["g108", "g109"]


def test_a_large_value_counts_by_its_bytes(bench: Bench) -> None:
    assert bench.admit(Row(1, 1, "a" * (1 << 20))) == [1]
    assert "bytes" in bench.early[0].reason


def test_a_group_in_many_pieces_is_stored_as_one(bench: Bench) -> None:
    for n in range(2 * hold_module.MAX_PIECES):
        bench.admit(Row(n, n, "a"))
    assert len(bench.marks.held(PLAN.table).rows) <= hold_module.MAX_PIECES
    bench.restart()
    assert bench.admit(Row(999, 999, "a", done=True)) == [*range(2 * hold_module.MAX_PIECES), 999]


def test_without_a_rule_what_was_held_goes_first(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"), Row(2, 2, "b", done=True))
    bench.restart(replace(PLAN, completion=None))
    assert bench.admit(Row(3, 3, "a")) == [1, 3]
    assert bench.hold.done
    assert bench.restart().done


def test_rows_of_other_columns_are_forgotten_when_read_anew_and_else_set_aside(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"), Row(2, 2, "a"), Row(3, 3, "b"))
    other = replace(PLAN, version="seq")
    bench.restart(other)
    assert bench.admit(Row(2, 2, "a")) == []
    assert bench.restart(other).waiting.rows == 1
    assert bench.admit(Row(1, 1, "a")) == []
    assert bench.due() == []
    assert bench.failed == ["it waited for its group, and its columns are no longer those replicated"] * 2
    assert bench.restart(other).waiting.rows == 2
    assert bench.admit(Row(4, 4, "a", done=True)) == [2, 1, 4]
    assert bench.restart(other).waiting.rows == 0


def test_rows_of_other_columns_and_no_rule_any_more(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"))
    bench.restart(replace(PLAN, version="seq", completion=None))
    assert bench.admit(Row(1, 1, "a")) == [1]
    assert bench.due() == []
    assert bench.failed == []
    assert bench.hold.done


def test_a_clock_set_back_does_not_make_a_group_wait_longer_than_its_age(bench: Bench) -> None:
    bench.admit(Row(1, 1, "a"))
    bench.clock.set_wall(bench.clock.wall() - 86_400)
    bench.restart()
    assert bench.hold.due_in() == 60.0


ROWS = st.builds(
    Row,
    id=st.integers(0, 9),
    seq=st.just(0),
    order_id=st.sampled_from([None, "a", "b", "c"]),
    done=st.sampled_from([False, False, True]),
    deleted=st.sampled_from([False, False, False, True]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.lists(ROWS, min_size=1, max_size=6)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    max_size=12,
)


@given(steps=STEPS, room=st.sampled_from([3, 1000]))
@settings(max_examples=80, deadline=None)
def test_the_newest_state_of_every_row_is_delivered_and_groups_are_whole_unless_told(
    steps: list[tuple[str, object]], room: int
) -> None:
    """All rows have one version: what is delivered last is what the target keeps."""
    completion = Completion("order_id", "bool_or(done)", 60.0, room, 1 << 20)
    plan = replace(PLAN, completion=completion)
    newest: dict[int, Row] = {}
    seq = 0
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), plan)
        with bench.store:
            for kind, value in steps:
                if kind == "batch":
                    assert isinstance(value, list)
                    rows = []
                    for row in value:
                        seq += 1
                        rows.append(Row(row.id, seq, row.order_id, row.done, row.deleted))
                        newest[row.id] = rows[-1]
                    early, remembered = len(bench.early), set(bench.hold._delivered)
                    before = len(bench.sent)
                    if seq % 5 == 0:  # an attempt that was never committed
                        bench.hold.admit(batch_of(rows))
                        bench.restart()
                    bench.admit(*rows)
                    _check_whole(bench, before, early, remembered)
                elif kind == "wait":
                    assert isinstance(value, int)
                    bench.clock.advance(value)
                    bench.due()
                else:
                    bench.restart()
            bench.clock.advance(61)
            bench.due()
            assert bench.hold.waiting.rows == 0
            assert bench.restart().waiting.rows == 0
    kept: dict[int, Row] = {}
    for row in bench.sent:
        kept[row.id] = row
    assert kept == newest
    assert len(set(bench.sent)) == len(bench.sent)


def _check_whole(bench: Bench, before: int, early: int, remembered: set[str]) -> None:
    """Each group came with a row that is done, unless it was said, and nothing of it stayed behind."""
    if len(bench.early) > early:
        return
    sent = [row for row in bench.sent[before:] if not row.deleted and row.order_id is not None]
    for group in {row.order_id for row in sent} - remembered:
        assert any(row.done for row in sent if row.order_id == group)
        assert group not in bench.hold._groups

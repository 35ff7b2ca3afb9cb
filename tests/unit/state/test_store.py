"""The state store: what a commit stores, what it refuses, and what is said when the file is not usable."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.change import Mark, Position, TableId, TablePlan
from cdc.errors import Meaning, StateError
from cdc.state import Store, open_store
from cdc.stored import TableProgress
from cdc.watermark import BoundMarks, bind, reset_mark
from tests.support.clock import FakeClock
from tests.support.stored import ORDERS, SOURCE, TRADES, FakeLease, decision, failed_row, plan


def test_a_commit_stores_everything_the_decision_says(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    assert marks.load(TRADES) == TableProgress()
    mark = Mark("7", ("00000000-0000-7000-8000-000000000001",))
    marks.commit(decision(mark, failed_row("a")))
    clock.set_wall(1_001.0)
    marks.commit(decision(None))
    progress = marks.load(TRADES)
    assert (progress.mark, progress.rows, progress.bytes, progress.batches) == (mark, 20, 200, 2)
    assert (progress.failed_rows, progress.schema_version) == (1, "v1")
    (record,) = store.tables()
    assert (record.source, record.table, record.mark) == (SOURCE, TRADES, mark)
    assert (record.position, record.updated_at, record.failed_rows) == (Position(1, 1, 2), 1_001.0, 1)


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.created
        marks = bind(store, SOURCE, FakeLease())
        marks.describe(plan())
        marks.commit(decision("7", failed_row("a", version=2**64 - 1, payload=b"\x00\xff")))
    with open_store(tmp_path) as store:
        assert not store.created
        assert store.tables()[0].mark == decision("7").mark
        assert store.failed()[0].row == failed_row("a", version=2**64 - 1, payload=b"\x00\xff")


def test_tables_and_sources_do_not_touch_each_other(store: Store, marks: BoundMarks) -> None:
    other = bind(store, "another", FakeLease("another"))
    other.describe(plan())
    marks.describe(plan(ORDERS))
    marks.commit(decision("7"))
    marks.commit(decision("8", table=ORDERS))
    other.commit(decision("9"))
    assert [
        (record.source, record.table.name, record.mark and record.mark.watermark) for record in store.tables()
    ] == [(SOURCE, "orders", "8"), (SOURCE, "trades", "7"), ("another", "trades", "9")]
    assert len(store.tables(TRADES)) == 2


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_mark_never_moves_back_by_a_commit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    with open_store(tmp_path_factory.mktemp("state")) as store:
        marks = bind(store, SOURCE, FakeLease())
        marks.describe(plan(key="INTEGER"))
        highest: tuple[int, int] | None = None
        for step in steps:
            attempt = decision(Mark(str(step[0]), (str(step[1]),)))
            if highest is None or step >= highest:
                marks.commit(attempt)
                highest = step
            else:
                with pytest.raises(StateError, match="would go back"):
                    marks.commit(attempt)
            stored = marks.load(TRADES).mark
            assert stored == Mark(str(highest[0]), (str(highest[1]),))


def test_nothing_of_a_refused_commit_is_stored(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("10"))
    before = store.tables()
    with pytest.raises(StateError, match="would go back"):
        marks.commit(decision("9", failed_row("a"), version="v2"))
    assert store.tables() == before
    assert store.failed() == []
    assert store.schema_versions(SOURCE, TRADES) == [("v1", 1_000.0)]


def test_marks_compare_by_type_and_not_as_text(marks: BoundMarks) -> None:
    marks.commit(decision("9"))
    marks.commit(decision("10"))
    with pytest.raises(StateError, match="would go back"):
        marks.commit(decision("9"))


def test_a_mark_without_a_key_is_before_every_row_of_its_watermark(marks: BoundMarks) -> None:
    marks.commit(decision(Mark("10", ())))
    marks.commit(decision("10"))
    with pytest.raises(StateError, match="would go back"):
        marks.commit(decision(Mark("10", ())))


def test_a_value_that_is_not_of_the_watermarks_type_is_not_stored(marks: BoundMarks) -> None:
    with pytest.raises(StateError, match="not a BIGINT"):
        marks.commit(decision("2024-01-01 00:00:00"))
    assert marks.load(TRADES).mark is None


def test_schema_versions_are_kept_with_their_time(store: Store, marks: BoundMarks, clock: FakeClock) -> None:
    for version in ("v1", "v1", "v2", "v1"):
        marks.commit(decision(None, version=version))
        clock.advance(1)
    assert store.schema_versions(SOURCE, TRADES) == [("v1", 1_000.0), ("v2", 1_002.0), ("v1", 1_003.0)]


def test_a_replicator_that_was_overtaken_can_neither_commit_nor_load(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("7"))
    newer = bind(store, SOURCE, FakeLease())
    for refused in (
        lambda: marks.commit(decision("8", failed_row("a"))),
        lambda: marks.load(TRADES),
        lambda: marks.describe(plan()),
        lambda: marks.retried([1], {}),
        marks.check_lease,
    ):
        with pytest.raises(StateError, match="another replicator has taken over"):
            refused()
    newer.check_lease()
    newer.commit(decision("9"))
    assert newer.load(TRADES).rows == 20


def test_a_replicator_without_its_lease_cannot_commit(store: Store) -> None:
    lease = FakeLease()
    marks = bind(store, SOURCE, lease)
    lease.held = False
    with pytest.raises(StateError, match="given up its lease"):
        marks.commit(decision(None))
    assert store.tables() == []


def test_marks_are_bound_to_the_source_of_the_lease(store: Store) -> None:
    with pytest.raises(ValueError, match="not of another"):
        bind(store, "another", FakeLease())


def test_a_mark_reset_meanwhile_is_loaded_again_before_the_next_commit(
    store: Store, marks: BoundMarks
) -> None:
    marks.load(TRADES)
    marks.commit(decision("10"))
    before = reset_mark(store, SOURCE, TRADES, Mark("+03", ()))
    assert before.mark == decision("10").mark
    with pytest.raises(StateError, match="was reset") as caught:
        marks.commit(decision("11"))
    assert caught.value.meaning is Meaning.RETRY
    assert marks.load(TRADES).mark == Mark("3", ())
    marks.commit(decision("4"))


def test_a_cleared_mark_sends_every_row_again_and_keeps_the_counts(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("10"))
    reset_mark(store, SOURCE, TRADES, None)
    assert marks.load(TRADES) == TableProgress(
        rows=10, rows_there=10, bytes=100, batches=1, schema_version="v1", resets=1
    )


def test_a_reset_to_another_type_is_refused_with_the_form(store: Store, marks: BoundMarks) -> None:
    with pytest.raises(StateError, match="an integer from -9223372036854775808"):
        reset_mark(store, SOURCE, TRADES, Mark("yesterday", ()))
    with pytest.raises(StateError, match="no such table"):
        reset_mark(store, SOURCE, ORDERS, None)


def test_a_wider_type_goes_on_from_the_mark(marks: BoundMarks) -> None:
    marks.commit(decision("10"))
    marks.describe(plan(watermark="HUGEINT"))
    marks.commit(decision(str(2**100)))


@pytest.mark.parametrize(
    "changed",
    [plan(column="ts"), plan(watermark="TIMESTAMP"), plan(watermark="VARCHAR"), plan(watermark="TINYINT")],
    ids=["another column", "another type", "another order", "too small"],
)
def test_a_mark_of_other_columns_halts_the_table_until_a_resync(
    store: Store, marks: BoundMarks, changed: TablePlan
) -> None:
    marks.commit(decision("1000"))
    with pytest.raises(StateError, match=r"cdc resync main\.trades"):
        marks.describe(changed)
    reset_mark(store, SOURCE, TRADES, None)
    marks.describe(changed)
    assert marks.load(TRADES).mark is None


def test_a_column_without_an_exact_order_is_refused_as_watermark(marks: BoundMarks) -> None:
    with pytest.raises(StateError, match="Choose a column"):
        marks.describe(plan(ORDERS, watermark="DOUBLE"))


def test_marks_rebuilt_from_the_target_are_checked_when_the_table_is_set_up(store: Store) -> None:
    store.rebuild(SOURCE, {TRADES: Mark("41", ()), ORDERS: Mark("2024-01-01", ())})
    marks = bind(store, SOURCE, FakeLease())
    marks.describe(plan())
    assert marks.load(TRADES).mark == Mark("41", ())
    with pytest.raises(StateError, match="unknown columns"):
        marks.describe(plan(ORDERS))


def test_another_connection_reads_during_a_commit(tmp_path: Path, store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("7"))
    with (
        open_store(tmp_path, mode="read") as reader,
        closing(sqlite3.connect(store.path, isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE tables SET rows = 0")
        assert reader.tables()[0].rows == 10
        writer.execute("ROLLBACK")


def test_threads_commit_their_tables_side_by_side(store: Store) -> None:
    marks = bind(store, SOURCE, FakeLease())
    tables = [TableId("main", f"t{n}") for n in range(4)]
    errors: list[BaseException] = []

    def run(table: TableId) -> None:
        try:
            marks.describe(plan(table))
            marks.load(table)
            for n in range(25):
                marks.commit(decision(str(n), table=table))
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [(record.rows, record.mark and record.mark.watermark) for record in store.tables()] == [
        (250, "24")
    ] * 4

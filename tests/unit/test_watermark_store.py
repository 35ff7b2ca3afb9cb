"""The state store: what a commit stores, what it refuses, and what is said when the file is not usable."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.change import Column, Decision, FailedRow, Mark, Position, Progress, TableId, TablePlan
from cdc.errors import ConfigError, Meaning, StateError
from cdc.watermark import BoundMarks, Lease, Store, open_store, set_aside

SOURCE = "0f3a"
TRADES = TableId("main", "trades")
ORDERS = TableId("main", "orders")


class FakeClock:
    """A wall clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return event.is_set()


class FakeLease:
    """A lease that tests give and take."""

    def __init__(self, source: str = SOURCE) -> None:
        self.source = source
        self.held = True


def plan(
    table: TableId = TRADES, *, watermark: str = "BIGINT", column: str = "seq", key: str = "UUID"
) -> TablePlan:
    columns = (Column("id", key), Column(column, watermark))
    return TablePlan(table, table.name, columns, ("id",), columns[1])


def decision(
    mark: Mark | str | None, *failed: FailedRow, table: TableId = TRADES, version: str = "v1"
) -> Decision:
    mark = Mark(mark, ("00000000-0000-7000-8000-000000000000",)) if isinstance(mark, str) else mark
    return Decision(table, mark, 10, 100, Position(1, 2), version, failed)


def failed_row(key: str, *, reason: str = "too long", payload: bytes = b"row", version: int = 1) -> FailedRow:
    return FailedRow((key,), "5", reason, payload, version)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    with open_store(tmp_path, clock=clock) as store:
        yield store


@pytest.fixture
def marks(store: Store) -> BoundMarks:
    marks = store.bind(SOURCE, FakeLease())
    marks.describe(plan())
    return marks


def test_a_commit_stores_everything_the_decision_says(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    assert marks.load(TRADES) == Progress()
    mark = Mark("7", ("00000000-0000-7000-8000-000000000001",))
    marks.commit(decision(mark, failed_row("a")))
    clock.now = 1_001.0
    marks.commit(decision(None))
    progress = marks.load(TRADES)
    assert (progress.mark, progress.rows, progress.bytes, progress.batches) == (mark, 20, 200, 2)
    assert (progress.failed_rows, progress.schema_version) == (1, "v1")
    (record,) = store.tables()
    assert (record.source, record.table, record.mark) == (SOURCE, TRADES, mark)
    assert (record.position, record.updated_at, record.failed_rows) == (Position(1, 2), 1_001.0, 1)


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.created
        marks = store.bind(SOURCE, FakeLease())
        marks.describe(plan())
        marks.commit(decision("7", failed_row("a", version=2**64 - 1, payload=b"\x00\xff")))
    with open_store(tmp_path) as store:
        assert not store.created
        assert store.tables()[0].mark == decision("7").mark
        assert store.failed()[0].row == failed_row("a", version=2**64 - 1, payload=b"\x00\xff")


def test_tables_and_sources_do_not_touch_each_other(store: Store, marks: BoundMarks) -> None:
    other = store.bind("another", FakeLease("another"))
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
        marks = store.bind(SOURCE, FakeLease())
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
        clock.now += 1
    assert store.schema_versions(SOURCE, TRADES) == [("v1", 1_000.0), ("v2", 1_002.0), ("v1", 1_003.0)]


def test_a_replicator_that_was_overtaken_can_neither_commit_nor_load(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("7"))
    newer = store.bind(SOURCE, FakeLease())
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
    marks = store.bind(SOURCE, lease)
    lease.held = False
    with pytest.raises(StateError, match="given up its lease"):
        marks.commit(decision(None))
    assert store.tables() == []


def test_marks_are_bound_to_the_source_of_the_lease(store: Store) -> None:
    with pytest.raises(ValueError, match="not of another"):
        store.bind("another", FakeLease())


def test_a_mark_reset_meanwhile_is_loaded_again_before_the_next_commit(
    store: Store, marks: BoundMarks
) -> None:
    marks.load(TRADES)
    marks.commit(decision("10"))
    before = store.reset(SOURCE, TRADES, Mark("+03", ()))
    assert before.mark == decision("10").mark
    with pytest.raises(StateError, match="was reset") as caught:
        marks.commit(decision("11"))
    assert caught.value.meaning is Meaning.RETRY
    assert marks.load(TRADES).mark == Mark("3", ())
    marks.commit(decision("4"))


def test_a_cleared_mark_sends_every_row_again_and_keeps_the_counts(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("10"))
    store.reset(SOURCE, TRADES, None)
    assert marks.load(TRADES) == Progress(rows=10, bytes=100, batches=1, schema_version="v1", resets=1)


def test_a_reset_to_another_type_is_refused_with_the_form(store: Store, marks: BoundMarks) -> None:
    with pytest.raises(StateError, match="an integer from -9223372036854775808"):
        store.reset(SOURCE, TRADES, Mark("yesterday", ()))
    with pytest.raises(StateError, match="no such table"):
        store.reset(SOURCE, ORDERS, None)


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
    store.reset(SOURCE, TRADES, None)
    marks.describe(changed)
    assert marks.load(TRADES).mark is None


def test_a_column_without_an_exact_order_is_refused_as_watermark(marks: BoundMarks) -> None:
    with pytest.raises(StateError, match="Choose a column"):
        marks.describe(plan(ORDERS, watermark="DOUBLE"))


def test_marks_rebuilt_from_the_target_are_checked_when_the_table_is_set_up(store: Store) -> None:
    store.rebuild(SOURCE, {TRADES: Mark("41", ()), ORDERS: Mark("2024-01-01", ())})
    marks = store.bind(SOURCE, FakeLease())
    marks.describe(plan())
    assert marks.load(TRADES).mark == Mark("41", ())
    with pytest.raises(StateError, match="unknown columns"):
        marks.describe(plan(ORDERS))


def test_a_row_that_fails_again_is_one_row_with_more_attempts(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    marks.commit(decision(None, failed_row("a", version=5, payload=b"old")))
    clock.now = 1_100.0
    marks.commit(decision(None, failed_row("a", version=6, payload=b"new", reason="still too long")))
    marks.commit(decision(None, failed_row("a", version=4, payload=b"stale")))
    (record,) = store.failed()
    assert (record.attempts, record.first_at, record.last_at) == (3, 1_000.0, 1_100.0)
    assert record.row == failed_row("a", version=6, payload=b"new", reason="still too long")


def test_versions_past_two_to_the_63rd_keep_their_order(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision(None, failed_row("a", version=2**63 + 1, payload=b"new")))
    marks.commit(decision(None, failed_row("a", version=9, payload=b"old")))
    assert store.failed()[0].row.payload == b"new"


def test_rows_without_a_whole_key_do_not_hide_each_other(store: Store, marks: BoundMarks) -> None:
    for _ in range(2):
        marks.commit(decision(None, failed_row("", payload=b"one"), failed_row("", payload=b"two")))
    assert [(record.row.payload, record.attempts) for record in store.failed()] == [(b"one", 2), (b"two", 2)]


def test_failed_rows_are_due_by_their_attempts_and_the_last_delay_repeats(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    marks.commit(decision(None, failed_row("a")))
    for delay in (10.0, 30.0, 60.0, 120.0, 120.0):
        clock.now += delay - 1
        assert marks.due(TRADES, 10) == []
        clock.now += 1
        (record,) = marks.due(TRADES, 10)
        marks.retried([], {record.id: "refused again"})
    assert store.failed()[0].attempts == 6
    assert store.failed()[0].row.reason == "refused again"


def test_a_retried_row_that_was_delivered_is_gone(store: Store, marks: BoundMarks, clock: FakeClock) -> None:
    marks.commit(decision(None, failed_row("a"), failed_row("b")))
    assert marks.due(TRADES, 10) == []
    assert store.retry(None) == 2
    first, second = marks.due(TRADES, 10)
    marks.retried([first.id], {second.id: "still"})
    assert [record.row.key for record in store.failed()] == [("b",)]
    assert store.retry([second.id, 999]) == 1
    assert [record.id for record in marks.due(TRADES, 10)] == [second.id]
    assert store.discard([second.id]) == 1
    assert store.failed_count() == 0
    with pytest.raises(StateError, match="cdc failed list"):
        store.failed_row(second.id)


def test_failed_rows_are_listed_by_table_and_no_more_than_asked(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision(None, failed_row("a"), failed_row("b")))
    marks.commit(decision(None, failed_row("c"), table=ORDERS))
    assert [record.row.key for record in store.failed(ORDERS)] == [("c",)]
    assert len(store.failed(limit=2)) == 2
    assert marks.load(TRADES).failed_rows == 2


def test_the_failed_rows_show_under_the_configured_name(tmp_path: Path, clock: FakeClock) -> None:
    with open_store(tmp_path, clock=clock) as store:
        store.bind(SOURCE, FakeLease()).commit(decision(None, failed_row("a")))
    with (
        open_store(tmp_path, failed_table="not_synced", clock=clock) as store,
        closing(sqlite3.connect(store.path)) as reader,
    ):
        rows = reader.execute('SELECT "table", reason, first_time FROM not_synced').fetchall()
        assert rows == [("main.trades", "too long", "1970-01-01 00:16:40")]
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            reader.execute("SELECT * FROM failed_syncs")


@pytest.mark.parametrize("name", ["", "failed rows", "tables", "sqlite_x", 'x"; DROP TABLE tables', "é"])
def test_a_name_the_failed_rows_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="failed_sync_table"):
        open_store(tmp_path, failed_table=name)
    assert list(tmp_path.iterdir()) == []


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


def test_a_full_disk_asks_for_a_retry_and_leaves_nothing_by_halves(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("1"))
    before = store.tables()
    with store._database.transaction() as connection:
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    store._database.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StateError, match="the disk is full") as caught:
        marks.commit(decision("2", *(failed_row(str(n), payload=bytes(1000)) for n in range(100))))
    assert caught.value.meaning is Meaning.RETRY
    assert store.tables() == before
    assert store.failed() == []
    store._database.query("PRAGMA max_page_count = 1073741823")
    marks.commit(decision("2"))


def test_a_store_that_another_program_keeps_locked_asks_for_a_retry(
    store: Store, marks: BoundMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    store._database.query("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked") as caught:
            marks.commit(decision("1"))
        other.execute("ROLLBACK")
    assert caught.value.meaning is Meaning.RETRY
    marks.commit(decision("1"))


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_missing_store_is_said_and_not_made(tmp_path: Path, mode: str) -> None:
    with pytest.raises(StateError, match="there is none"):
        open_store(tmp_path / "state", mode="read" if mode == "read" else "write")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("where", [0, 2 * 4096 + 8], ids=["header", "page"])
def test_a_damaged_store_is_said_kept_aside_and_rebuilt(tmp_path: Path, where: int, clock: FakeClock) -> None:
    with open_store(tmp_path) as store:
        marks = store.bind(SOURCE, FakeLease())
        marks.describe(plan())
        marks.commit(decision("7"))
        path = store.path
    damaged = bytearray(path.read_bytes())
    damaged[where : where + 64] = b"\xa5" * 64
    path.write_bytes(damaged)
    with pytest.raises(StateError, match="cdc watermark rebuild"):
        open_store(tmp_path)
    (aside,) = set_aside(tmp_path, clock)
    assert aside.read_bytes() == damaged
    with open_store(tmp_path) as store:
        assert store.created
        store.rebuild(SOURCE, {TRADES: Mark("7", ())})
        assert store.tables()[0].mark == Mark("7", ())


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        path = store.path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="newer cdc"):
        open_store(tmp_path)
    with pytest.raises(StateError, match="newer cdc"):
        open_store(tmp_path, mode="read")


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    content = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        open_store(tmp_path)
    assert path.read_bytes() == content


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StateError, match=r"\[state\] directory"):
        open_store(tmp_path / "file" / "state")
    with pytest.raises(StateError, match=r"\[state\] directory"):
        Lease(tmp_path / "file" / "state", SOURCE).acquire()


def test_threads_commit_their_tables_side_by_side(store: Store) -> None:
    marks = store.bind(SOURCE, FakeLease())
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

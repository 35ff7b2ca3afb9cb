"""What `cdc verify` makes of two tables: rows on their way, pruned rows, failed rows, and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from cdc.change import Batch, FailedRow, Mark, Position, TableId, TablePlan
from cdc.cli.tables import chosen_plans
from cdc.cli.verified import document_of, show_result
from cdc.cli.verify import LIVE_WAIT_SECONDS, VerifyRun
from cdc.comparison.compare import Comparer, Span
from cdc.comparison.digest import RowHasher
from cdc.comparison.values import formatter
from cdc.comparison.verification import PAUSE_SECONDS, Patience, TableResult, Verifier
from cdc.config import load
from cdc.errors import ConfigError
from cdc.failed_row import failed_row
from cdc.replicator.plan import LeftOut, Resolution
from cdc.state import FailedRecord, Lease
from tests.support.clock import FakeClock
from tests.unit.test_compare import PLAN, SCHEMA, Side, States

ONE: States = {f"k{n:02}": (n, float(n), (n,)) for n in range(20)}


@pytest.fixture(scope="module")
def hasher() -> Iterator[RowHasher]:
    with RowHasher() as made:
        yield made


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with formatter() as made:
        yield made


Verify = Callable[..., TableResult]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def verify(hasher: RowHasher, connection: duckdb.DuckDBPyConnection, clock: FakeClock) -> Verify:
    def verify(
        source: Side,
        target: Side,
        *,
        wait: float = 0.0,
        deletes: bool = False,
        limit: int = 20,
        failed: tuple[FailedRecord, ...] = (),
        boundaries: tuple[str, ...] = ("5", "10"),
        unique: bool = True,
    ) -> TableResult:
        verifier = Verifier(
            connection, Patience(wait, clock), deletes=deletes, limit=limit, progress=lambda rows: None
        )
        return verifier.verify(Comparer(PLAN, source, target, hasher), boundaries, failed, unique=unique)

    return verify


class Log(Side):
    """A table that keeps every state of a row: the key is not unique in it."""

    def __init__(self, *entries: tuple[str, int, float]) -> None:
        super().__init__({})
        self.entries = entries

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        within = [
            {"id": key, "seq": seq, "x": x, "l": None}
            for key, seq, x in sorted(self.entries, key=lambda entry: entry[1])
            if (low is None or seq >= int(low)) and (high is None or seq < int(high))
        ]
        return pa.Table.from_pylist(within, SCHEMA).to_reader(max_chunksize=2)


def without(states: States, *keys: str) -> States:
    return {key: row for key, row in states.items() if key not in keys}


def failed_record(key: str, reason: str) -> FailedRecord:
    row = pa.Table.from_pylist([{"id": key, "seq": 1}], SCHEMA).to_batches()[0]
    batch = Batch(PLAN, row, pa.array([1], pa.uint64()), Mark("1", (key,)), Position(1, 1, 1), 0.0)
    failed: FailedRow = failed_row(batch, 0, reason)
    return FailedRecord(7, "0f3a", PLAN.table, failed, 1, 0.0, 0.0, 0.0)


def test_equal_tables_are_compared_once_and_nothing_waits(verify: Verify, clock: FakeClock) -> None:
    source, target = Side(ONE), Side(ONE)
    result = verify(source, target, wait=60.0)
    assert (result.equal, result.source_rows, result.target_rows) == (True, 20, 20)
    assert (len(source.reads), len(target.reads), clock.waits) == (3, 1, [])


def test_missing_and_different_rows_are_named_with_their_range_and_columns(verify: Verify) -> None:
    changed = {**without(ONE, "k03"), "k12": (12, -1.0, ())}
    result = verify(Side(ONE), Side(changed))
    assert (result.equal, result.missing, result.different, result.extra) == (False, 1, 1, 0)
    assert [(str(each.overview.span), each.missing, each.different) for each in result.ranges] == [
        ("before 5", 1, 0),
        ("from 10 on", 0, 1),
    ]
    assert [(each.kind, each.key, each.columns) for each in result.examples] == [
        ("missing", ("k03",), ()),
        ("different", ("k12",), ("x", "l")),
    ]


def test_a_row_whose_watermark_moved_is_one_that_differs(verify: Verify) -> None:
    result = verify(Side(ONE), Side({**ONE, "k03": (19, 3.0, (3,))}))
    assert (result.missing, result.different, result.extra) == (0, 1, 0)
    assert result.examples[0].columns == ("seq",)


def test_rows_on_their_way_are_waited_for(verify: Verify, clock: FakeClock) -> None:
    target = Side(without(ONE, "k01", "k19"))

    def arrive(side: Side) -> None:
        if clock.monotonic() >= 1002.0:
            side.states = ONE

    target.before_read = arrive
    result = verify(Side(ONE), target, wait=10.0)
    assert result.equal
    assert sum(clock.waits) == 2.0
    assert set(clock.waits) == {PAUSE_SECONDS}


def test_what_stays_different_is_reported_when_the_time_is_over(verify: Verify, clock: FakeClock) -> None:
    result = verify(Side(ONE), Side(without(ONE, "k01")), wait=3.0)
    assert (result.equal, result.missing) == (False, 1)
    assert sum(clock.waits) == pytest.approx(3.0)


def test_rows_that_keep_changing_while_it_waits_are_no_difference(verify: Verify) -> None:
    source, target = Side(dict(ONE)), Side(dict(ONE))
    ticks = iter(range(1000, 2000))

    def tick(side: Side) -> None:  # the source is always one state ahead of the target
        target.states["k07"] = source.states["k07"]
        source.states["k07"] = (7, float(next(ticks)), None)

    source.before_read = tick
    target.states["k02"] = (2, None, None)  # and this one is really different
    result = verify(source, target, wait=2.0)
    assert [each.key for each in result.examples] == [("k02",)]
    assert result.different == 1


def test_rows_only_in_the_target_were_pruned_in_the_source(verify: Verify, clock: FakeClock) -> None:
    source, target = Side(without(ONE, "k00", "k01")), Side(ONE)
    result = verify(source, target, wait=60.0)
    assert (result.equal, result.extra, result.examples, clock.waits) == (True, 2, (), [])
    assert document_of(result)["pruned"] == 2
    assert document_of(result)["extra"] == 0


def test_with_deletes_replicated_rows_only_in_the_target_are_a_difference(verify: Verify) -> None:
    result = verify(Side(without(ONE, "k00")), Side(ONE), deletes=True)
    assert (result.equal, result.extra) == (False, 1)
    assert [(each.kind, each.key) for each in result.examples] == [("extra", ("k00",))]


def test_older_states_of_a_row_that_the_source_keeps_are_no_difference(
    verify: Verify, clock: FakeClock
) -> None:
    source = Log(("a", 1, 1.0), ("a", 4, 2.0), ("a", 12, 3.0), ("b", 2, 1.0), ("c", 3, 1.0))
    target = Side({"a": (12, 3.0, None), "b": (2, 1.0, None), "c": (3, 1.0, None)})
    result = verify(source, target, unique=False, wait=60.0)
    assert (result.equal, clock.waits) == (True, [])
    assert (result.source_rows, result.target_rows) == (5, 3)
    stale = Side({"a": (4, 2.0, None), "b": (2, 1.0, None)})
    result = verify(source, stale, unique=False)
    assert (result.missing, result.different) == (2, 0)
    assert {each.key for each in result.examples} == {("a",), ("c",)}


def test_more_history_than_is_kept_in_memory_is_still_counted(
    verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.comparison.compare.MOST_EXTRA", 3)
    result = verify(Side({"k00": ONE["k00"], "k19": ONE["k19"]}), Side(without(ONE, "k19")), boundaries=())
    assert (result.extra, result.missing) == (18, 1)


def test_a_missing_row_that_failed_to_load_is_named_as_such(verify: Verify) -> None:
    failures = (failed_record("k03", "value out of range"), failed_record("k09", "delivered since"))
    result = verify(Side(ONE), Side(without(ONE, "k03", "k04")), failed=failures)
    assert (result.equal, result.missing, result.failed) == (False, 2, 1)
    reasons = {each.key: each.failed and each.failed.row.reason for each in result.examples}
    assert reasons == {("k03",): "value out of range", ("k04",): None}


def test_a_failed_row_from_before_the_key_changed_explains_nothing(verify: Verify) -> None:
    record = failed_record("k03", "x")
    sink = pa.BufferOutputStream()
    row = pa.record_batch({"other": ["k03"]})
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    record = replace(record, row=replace(record.row, payload=sink.getvalue().to_pybytes()))
    assert verify(Side(ONE), Side(without(ONE, "k03")), failed=(record,)).failed == 0


def test_examples_are_limited_and_the_rest_is_counted(
    verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    result = verify(Side(ONE), Side({}), limit=4)
    assert (len(result.examples), result.missing) == (4, 20)
    show_result(result)
    assert "16 more; see --limit" in capsys.readouterr().out


def test_a_person_sees_ranges_keys_columns_and_reasons(
    verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    states = {**without(ONE, "k03"), "k12": (12, -1.0, (12,))}
    show_result(verify(Side(ONE), Side(states), failed=(failed_record("k03", "out of\nrange"),)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["main.t:", "DIFFERENT;"]
    assert ["before", "5", "5", "4", "1", "0", "0"] in lines
    assert ["missing", "k03", "7:", "out", "of", "range"] in lines
    assert ["different", "k12", "x"] in lines


def test_a_program_gets_the_same(verify: Verify) -> None:
    document = document_of(
        verify(Side(ONE), Side(without(ONE, "k03")), failed=(failed_record("k03", "why"),))
    )
    assert (document["equal"], document["missing"], document["failed"], document["ranges"]) == (
        False,
        1,
        1,
        3,
    )
    [differing] = document["differing_ranges"]
    assert (differing["low"], differing["high"], differing["source"]["rows"]) == (None, "5", 5)
    assert document["examples"] == [
        {"kind": "missing", "key": {"id": "k03"}, "columns": [], "failed_row": 7, "reason": "why"}
    ]


def test_the_ranges_are_half_open(verify: Verify) -> None:
    result = verify(Side(ONE), Side(ONE))
    assert [each.source.rows for each in result.overviews] == [5, 5, 10]
    assert [each.span for each in result.overviews] == [Span(None, "5"), Span("5", "10"), Span("10", None)]


def test_a_table_that_is_not_replicated_is_refused_with_the_reason() -> None:
    resolution = Resolution((PLAN,), (LeftOut(TableId("main", "log"), "it has no primary key"),))
    assert chosen_plans(resolution, None) == (PLAN,)
    assert chosen_plans(resolution, [TableId("MAIN", "T")]) == (PLAN,)
    with pytest.raises(ConfigError, match="no primary key"):
        chosen_plans(resolution, [TableId("main", "log")])
    with pytest.raises(ConfigError, match=r"Replicated are: main\.t"):
        chosen_plans(resolution, [TableId("main", "nosuch")])
    with pytest.raises(ConfigError, match="no primary key"):
        chosen_plans(Resolution((), resolution.left_out), None)


def test_while_a_replicator_runs_rows_may_be_on_their_way_for_some_seconds(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(str(path)) as made:
        made.execute("CREATE TABLE t (id INTEGER)").fetchall()
    config = tmp_path / "c.toml"
    config.write_text(
        f'[database]\npath = "{path.as_posix()}"\n[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n'
    )
    settings = load(config, {})
    with VerifyRun(settings, ranges=None, wait=None, limit=1, force=False) as run:
        assert run.wait_seconds == 0.0
        identity = run.source.identity
    with Lease(settings.state.directory, identity):
        with VerifyRun(settings, ranges=None, wait=None, limit=1, force=False) as run:
            assert run.wait_seconds == LIVE_WAIT_SECONDS
        with VerifyRun(settings, ranges=None, wait=3.0, limit=1, force=False) as run:
            assert run.wait_seconds == 3.0


FILTERED = replace(PLAN, filter="x < 100")


class Filtered(Side):
    """A source whose rows with an x of 100 and more lie outside the plan's filter."""

    def rows(
        self, plan: TablePlan, low: str | None, high: str | None, *, ordered: bool = True
    ) -> pa.RecordBatchReader:
        within = plan.filter == FILTERED.filter
        states = {key: row for key, row in self.states.items() if (row[1] is None or row[1] < 100) is within}
        found = Side(states).rows(plan, low, high, ordered=ordered).read_all()
        return found.select(list(plan.column_names)).to_reader()


def test_a_row_that_left_the_filter_is_a_difference_and_a_pruned_one_is_none(
    hasher: RowHasher, connection: duckdb.DuckDBPyConnection, clock: FakeClock
) -> None:
    source = Filtered(without(ONE, "k03", "k04") | {"k05": (5, 500.0, (5,)), "k06": (17, 600.0, (6,))})
    verifier = Verifier(connection, Patience(0.0, clock), deletes=False, limit=20, progress=lambda rows: None)
    comparer = Comparer(FILTERED, source, Side(ONE), hasher)
    result = verifier.verify(comparer, ("5", "10"))
    assert not result.equal
    assert (result.missing, result.different, result.extra, len(result.left)) == (0, 0, 4, 2)
    assert [(each.kind, each.key) for each in sorted(result.examples, key=lambda each: each.key)] == [
        ("extra", ("k05",)),
        ("extra", ("k06",)),
    ]
    document = document_of(result)
    assert (document["extra"], document["pruned"]) == (2, 2)
    pruned = Comparer(FILTERED, Filtered(without(ONE, "k03")), Side(ONE), hasher)
    assert verifier.verify(pruned, ("5", "10")).equal

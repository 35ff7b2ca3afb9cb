"""Reading a table past its mark: nothing committed is lost, nothing acknowledged is repeated.

Each test runs with the log followed and with snapshots alone: both must deliver the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdc.change import BatchLimits, Mark
from cdc.errors import SourceError
from cdc.source import DuckDbSource, open_source
from tests.support.sources import deliver, plan_of
from tests.support.waiting import wait_until
from tests.support.writers import VERSIONS, Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with Writer(tmp_path / "t.db") as running:
        yield running


@pytest.fixture(params=[True, False], ids=["tail", "snapshots"])
def source(writer: Writer, request: pytest.FixtureRequest) -> Iterator[DuckDbSource]:
    with open_source(writer.path, tailing=request.param) as opened:
        yield opened


def test_each_read_delivers_what_was_committed_since_in_watermark_order(
    writer: Writer, source: DuckDbSource
) -> None:
    """[F2 F6]"""
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
    reader = source.open(plan_of(source, "t"))
    writer.run("INSERT INTO t VALUES (3, 30), (1, 10), (2, 20)")
    first = deliver(reader, None)
    assert first.column("id") == [1, 2, 3]
    assert first.mark == Mark("30", ("3",))
    assert deliver(reader, first.mark).batches == ()
    for step in range(4, 8):
        writer.run("INSERT INTO t VALUES (?, ?)", step, 10 * step)
        if step % 2:
            writer.run("CHECKPOINT")
        found = deliver(reader, first.mark)
        assert found.column("id") == [step]
        first = found
    reader.close()


def test_equal_watermarks_are_told_apart_by_the_key(writer: Writer, source: DuckDbSource) -> None:
    """Rows that share a timestamp with the mark, before and behind it in key order. [late rows]"""
    writer.run("CREATE TABLE t (id INTEGER, seq TIMESTAMP)")
    reader = source.open(plan_of(source, "t"))
    writer.run("INSERT INTO t VALUES (5, '2026-01-01'), (9, '2026-01-01')")
    found = deliver(reader, None)
    assert found.mark == Mark("2026-01-01 00:00:00", ("9",))
    writer.run("INSERT INTO t VALUES (1, '2026-01-01'), (10, '2026-01-01')")
    found = deliver(reader, found.mark)
    assert found.column("id") == [1, 10]
    assert found.mark == Mark("2026-01-01 00:00:00", ("10",))
    assert deliver(reader, found.mark).batches == ()


def test_a_row_committed_late_is_delivered_and_does_not_move_the_mark_back(
    writer: Writer, source: DuckDbSource
) -> None:
    writer.run("CREATE TABLE t (id INTEGER, seq TIMESTAMP_NS)")
    writer.run("INSERT INTO t VALUES (1, '2026-01-01 00:00:10.000000001')")
    reader = source.open(plan_of(source, "t", overlap="5s"))
    found = deliver(reader, None)
    mark = found.mark
    assert mark == Mark("2026-01-01 00:00:10.000000001", ("1",))
    writer.run("INSERT INTO t VALUES (2, '2026-01-01 00:00:05.000000001')")
    writer.run("CHECKPOINT")
    late = deliver(reader, mark)
    assert late.column("id") == [2]
    assert late.mark == mark
    assert deliver(reader, mark).batches == ()


def test_a_row_that_changed_is_delivered_again_and_one_that_did_not_is_not(
    writer: Writer, source: DuckDbSource
) -> None:
    """[R10] also when it returns to an earlier state."""
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)")
    writer.run("INSERT INTO t VALUES (1, 1, 'NEW'), (2, 2, 'NEW')")
    reader = source.open(plan_of(source, "t", overlap="10"))
    found = deliver(reader, None)
    versions = [found.batches[0].versions[0].as_py()]
    for state in ("PARTIAL", "NEW", "FILLED"):
        writer.run("UPDATE t SET s = ? WHERE id = 1", state)
        found = deliver(reader, Mark("2", ("2",)))
        assert (found.column("id"), found.column("s")) == ([1], [state])
        versions.append(found.batches[0].versions[0].as_py())
    assert versions == sorted(set(versions))


def test_after_a_restart_the_window_is_sent_once_more_and_nothing_is_lost(
    writer: Writer, source: DuckDbSource
) -> None:
    """[R3]"""
    writer.run("CREATE TABLE t AS SELECT i AS id, i AS seq FROM range(100) AS r(i)")
    plan = plan_of(source, "t", overlap="3")
    mark = deliver(source.open(plan), None).mark
    writer.run("INSERT INTO t VALUES (100, 98)")
    assert deliver(source.open(plan), mark).column("id") == [96, 97, 98, 100, 99]


def test_a_row_without_a_watermark_is_delivered_once_and_moves_nothing(
    writer: Writer, source: DuckDbSource
) -> None:
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
    writer.run("INSERT INTO t VALUES (1, NULL), (2, 5)")
    reader = source.open(plan_of(source, "t"))
    found = deliver(reader, None)
    assert sorted(found.column("id")) == [1, 2]
    assert found.mark == Mark("5", ("2",))
    writer.run("INSERT INTO t VALUES (3, NULL)")
    again = deliver(reader, found.mark)
    assert again.column("id") == [3]
    assert again.mark == found.mark
    assert deliver(reader, found.mark).batches == ()


def test_a_row_without_a_key_does_not_vanish(writer: Writer, source: DuckDbSource) -> None:
    """The target then says which row it is, in failed_syncs. [F3]"""
    writer.run("CREATE TABLE t AS SELECT i AS id, i // 10 AS seq FROM range(1000) AS r(i)")
    writer.run("UPDATE t SET id = NULL WHERE id % 100 = 99")
    plan = plan_of(source, "t")
    reader = source.open(plan)
    found = deliver(reader, None)
    assert len(found.column("id")) == 1000
    assert found.column("id").count(None) == 10
    assert found.mark is not None
    assert None not in found.mark.key
    assert deliver(reader, found.mark).batches == ()


def test_a_stamp_in_the_future_is_delivered_and_does_not_make_the_others_late(
    writer: Writer, source: DuckDbSource
) -> None:
    now = datetime.now(UTC)
    writer.run("CREATE TABLE t (id INTEGER, seq TIMESTAMPTZ)")
    writer.run(
        "INSERT INTO t VALUES (1, ?), (2, ?)", now.isoformat(), (now + timedelta(days=400)).isoformat()
    )
    reader = source.open(plan_of(source, "t"))
    found = deliver(reader, None)
    assert found.column("id") == [1, 2]
    assert found.mark is not None
    assert found.mark.key == ("1",)
    writer.run("INSERT INTO t VALUES (3, ?)", (now + timedelta(seconds=1)).isoformat())
    again = deliver(reader, found.mark)
    assert again.column("id") == [3]
    assert again.mark is not None
    assert again.mark.key == ("3",)


def test_batches_honour_both_bounds_exactly(writer: Writer, source: DuckDbSource) -> None:
    """[F9 R5]"""
    writer.run("CREATE TABLE t AS SELECT i AS id, i AS seq, repeat('x', 100) AS s FROM range(20000) AS r(i)")
    plan = plan_of(source, "t")
    by_rows = deliver(source.open(plan), None, BatchLimits(rows=3_000, bytes=1 << 30)).batches
    assert [len(batch) for batch in by_rows] == [3_000] * 6 + [2_000]
    by_bytes = deliver(source.open(plan), None, BatchLimits(rows=20_000, bytes=100_000)).batches
    assert all(batch.nbytes <= 100_000 for batch in by_bytes)
    assert sum(map(len, by_bytes)) == 20_000
    assert len(by_bytes) < 30


def test_filter_and_columns_are_applied(writer: Writer, source: DuckDbSource) -> None:
    """[F3]"""
    writer.run(
        "CREATE TABLE t AS SELECT i AS id, i AS seq, i * 2 AS \"double d\", 'no' AS n FROM range(50) AS r(i)"
    )
    plan = plan_of(source, "t", filter='"double d" >= 90 OR id = 3', columns=("id", "seq", "double d"))
    reader = source.open(plan)
    found = deliver(reader, None)
    assert found.column("id") == [3, 45, 46, 47, 48, 49]
    assert found.batches[0].rows.schema.names == ["id", "seq", "double d"]
    writer.run("INSERT INTO t VALUES (50, 50, 100, 'no'), (51, 51, 1, 'no')")
    assert deliver(reader, found.mark).column("id") == [50]


def test_a_filter_that_does_not_fit_is_a_source_error(writer: Writer, source: DuckDbSource) -> None:
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
    reader = source.open(plan_of(source, "t", filter="no_such_column > 1"))
    with pytest.raises(SourceError, match="no_such_column"):
        deliver(reader, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER seq TYPE HUGEINT", r"its column seq was BIGINT and is HUGEINT\. seq is part of its key"),
        ("ALTER seq TYPE BOOLEAN", r"its column seq was BIGINT and is BOOLEAN\. seq is part of its key"),
        ("RENAME id TO other", r"its column id \(INTEGER\) is gone, perhaps renamed to other\. id is part"),
        ("ALTER s TYPE BLOB", r"its column s was VARCHAR and is BLOB\. Compare with `cdc schema diff`"),
        ("RENAME s TO other", r"its column s \(VARCHAR\) is gone, perhaps renamed to other\. It goes on"),
        ("DROP s", r"its column s \(VARCHAR\) is gone\. It goes on without .* `cdc resync main\.t`"),
    ],
)
def test_a_table_that_no_longer_matches_its_plan_halts_with_the_difference(
    writer: Writer, source: DuckDbSource, change: str, words: str
) -> None:
    """[R10]"""
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT, s VARCHAR)")
    writer.run("INSERT INTO t VALUES (1, 1, 'a')")
    plan = plan_of(source, "t", overlap="5")
    reader = source.open(plan)
    mark = deliver(reader, None).mark
    writer.run(f"ALTER TABLE t {change}")
    words = f"cannot read main.t: {words}"
    with pytest.raises(SourceError, match=words):
        deliver(reader, mark)
    with pytest.raises(SourceError, match=words):  # as after a restart
        deliver(source.open(plan), mark)
    if "TYPE" not in change:  # which verify sees when it compares
        with pytest.raises(SourceError, match=words):
            source.rows(plan, None, None)


def test_a_table_that_is_gone_halts_and_says_so(writer: Writer, source: DuckDbSource) -> None:  # [R10]
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT)")
    writer.run("INSERT INTO t VALUES (1, 1)")
    plan = plan_of(source, "t")
    reader = source.open(plan)
    mark = deliver(reader, None).mark
    writer.run("DROP TABLE t")
    for call in (
        lambda: deliver(reader, mark),
        lambda: deliver(source.open(plan), None),
        lambda: reader.rows_behind(mark),
        lambda: source.boundaries(plan, 4),
        lambda: source.rows(plan, None, None),
    ):
        with pytest.raises(SourceError, match=r"cannot read main\.t: the table is gone\. Create it again"):
            call()


MARKS = {
    "TINYINT": ("-128", "-1", "0", "127"),
    "BIGINT": ("-9223372036854775808", "-5", "10", "9", "9223372036854775807"),
    "UBIGINT": ("0", "18446744073709551615"),
    "HUGEINT": ("-170141183460469231731687303715884105728", "0", "170141183460469231731687303715884105727"),
    "UHUGEINT": ("0", "340282366920938463463374607431768211455"),
    "DECIMAL(38,10)": ("-1.0000000001", "9", "10.5", "9999999999999999999999999999.9999999999"),
    "DATE": ("1969-12-31", "1970-01-01", "2026-02-28"),
    "TIMESTAMP": ("1960-01-01 00:00:00", "2026-01-01 00:00:00.000001", "2026-01-01 00:00:00.00001"),
    "TIMESTAMP_S": ("2026-01-01 00:00:00", "2026-01-01 00:00:01"),
    "TIMESTAMP_MS": ("2026-01-01 00:00:00.001", "2026-01-01 00:00:00.01"),
    "TIMESTAMP_NS": ("2026-01-01 00:00:00.000000001", "2026-01-01 00:00:00.000000002"),
    "TIMESTAMP WITH TIME ZONE": ("2026-01-01 00:00:00+00", "2026-01-01 02:00:00+01"),
    "UUID": ("0190a000-0000-7000-8000-000000000000", "0190a000-0001-7000-8000-000000000000"),
    "VARCHAR": ("", "Z", "a", "a'b", "ä", "\U0001f600"),
}


@pytest.mark.parametrize("kind", MARKS)
def test_every_watermark_type_is_ordered_marked_and_followed(
    writer: Writer, source: DuckDbSource, kind: str
) -> None:
    writer.run(f"CREATE TABLE t (id BLOB, seq {kind})")
    writer.run("INSERT INTO t VALUES ('first'::BLOB, ?)", MARKS[kind][0])
    reader = source.open(plan_of(source, "t"))
    found = deliver(reader, None)
    for number, value in enumerate(MARKS[kind][1:]):
        key = f"\\x00{number}"
        writer.run("INSERT INTO t VALUES (CAST(? AS BLOB), ?)", key, value)
        found = deliver(reader, found.mark)
        [[expected, as_text]] = writer.run(
            "SELECT CAST(max(seq) AS VARCHAR), CAST(max_by(id, seq) AS VARCHAR) FROM t"
        )
        if kind.endswith("ZONE"):
            expected = {"2026-01-01 02:00:00+01": "2026-01-01 01:00:00+00"}[value]
        assert found.mark == Mark(str(expected), (str(as_text),)) or (kind, value) == ("BIGINT", "9")
        assert sum(map(len, found.batches)) == 1 or (kind, value) == ("BIGINT", "9")
    assert source.open(plan_of(source, "t")).rows_behind(found.mark) == 0


def test_a_composite_key_breaks_ties_column_by_column(writer: Writer, source: DuckDbSource) -> None:
    writer.run("CREATE TABLE t (id INTEGER, leg VARCHAR, seq BIGINT)")
    writer.run("INSERT INTO t VALUES (1, 'b', 1), (1, 'a', 1), (0, 'z', 1)")
    plan = plan_of(source, "t", key=("id", "leg"))
    reader = source.open(plan)
    found = deliver(reader, None)
    assert found.mark == Mark("1", ("1", "b"))
    assert reader.rows_behind(Mark("1", ("0", "z"))) == 2
    assert reader.rows_behind(Mark("1", ("1", "a"))) == 1
    writer.run("INSERT INTO t VALUES (1, 'aa', 1), (2, '', 1)")
    found = deliver(reader, found.mark)
    assert found.column("leg") == ["aa", ""]
    assert found.mark == Mark("1", ("2", ""))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_backfill_under_a_busy_writer_ends_with_every_row(tmp_path: Path, version: str) -> None:
    """Checkpoints supersede piece after piece, and never starve it. [F2]"""
    with Writer(tmp_path / "busy.db", version, {"checkpoint_threshold": "64KB"}) as writer:
        writer.run("CREATE TABLE t (id BIGINT, v BIGINT)")
        writer.run("INSERT INTO t SELECT i, 7 * i FROM range(300000) AS r(i)")
        with open_source(writer.path, tailing=False) as source:
            plan = plan_of(source, "t", watermark="id")
            writer.load("t", rows=200, transfers=3)
            mark: Mark | None = None
            seen: set[int] = set()

            def read_all() -> bool:
                """A whole backfill; whether a checkpoint came in between."""
                nonlocal mark
                before = writer.committed
                found = deliver(source.open(plan), None)
                mark = found.mark
                seen.clear()
                seen.update(found.column("id"))
                assert len(seen) >= before
                assert seen == set(range(len(seen)))
                return source.superseded > 0

            wait_until(read_all, "a checkpoint supersedes a piece", seconds=60)
            committed = writer.pause()
            seen.update(deliver(source.open(plan), mark).column("id"))
            assert seen == set(range(committed))


def test_many_rows_under_one_watermark_are_read_in_pieces(writer: Writer, source: DuckDbSource) -> None:
    """One bulk load on one day: more rows than a piece share a watermark."""
    writer.run("CREATE TABLE t AS SELECT uuid() AS id, DATE '2026-01-01' AS seq FROM range(220000)")
    reader = source.open(plan_of(source, "t"))
    found = deliver(reader, None)
    assert len(set(found.column("id"))) == len(found.column("id")) == 220_000
    assert deliver(reader, found.mark).batches == ()
    writer.run("INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000000', '2026-01-01')")
    assert sum(map(len, deliver(reader, found.mark).batches)) == 1


@pytest.mark.parametrize("version", [None, "rev"])
def test_the_place_where_a_row_was_read_is_its_version_whatever_its_version_column_says(
    writer: Writer, source: DuckDbSource, version: str | None
) -> None:
    writer.run("CREATE TABLE t (id INTEGER, seq BIGINT, rev INTEGER)")
    writer.run("INSERT INTO t VALUES (1, 1, -1), (2, 2, 4)")
    [batch] = deliver(source.open(plan_of(source, "t", version=version)), None).batches
    assert batch.versions.to_pylist() == [source.position().as_version()] * 2


def test_verify_reads_half_open_ranges_that_make_up_the_table(writer: Writer, source: DuckDbSource) -> None:
    writer.run("CREATE TABLE t AS SELECT i AS id, (i * 7919) % 100000 AS seq FROM range(100000) AS r(i)")
    writer.run("INSERT INTO t VALUES (-1, NULL)")
    plan = plan_of(source, "t")
    cuts = source.boundaries(plan, 8)
    assert len(cuts) == 7
    assert list(cuts) == sorted(cuts, key=int)
    counts = [
        source.rows(plan, low, high).read_all().num_rows
        for low, high in zip((None, *cuts), (*cuts, None), strict=True)
    ]
    assert sum(counts) == 100_001
    assert max(counts) < 2 * 100_000 / 8
    found = source.rows(plan, "100", "103").read_all()
    assert found.column("seq").to_pylist() == [100, 101, 102]

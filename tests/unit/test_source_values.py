"""Watermark bounds, versions, batch bounds and quoting: what needs no file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import BatchLimits, Column, TableId, TablePlan
from cdc.errors import SourceError
from cdc.source.quote import identifier, literal
from cdc.source.table.batching import rebatch
from cdc.source.table.marking import Marking
from cdc.source.table.text import duckdb_text
from cdc.source.table.versions import check_version_column, column_versions

pytestmark = pytest.mark.long


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connected:
        connected.execute("SET TimeZone = 'UTC'")
        yield connected


def plan(
    kind: str, overlap: str = "0", version: str | None = None, version_type: str = "BIGINT"
) -> TablePlan:
    columns = (Column("id", "BIGINT"), Column("mark", kind), Column("v", version_type))
    return TablePlan(
        TableId("main", "t"), "t", columns, ("id",), columns[1], version=version, overlap=overlap
    )


@pytest.mark.parametrize(
    ("kind", "overlap", "mark", "low"),
    [
        ("BIGINT", "0", "100", "100"),
        ("BIGINT", "7", "100", "93"),
        ("BIGINT", "7", str(-(2**63) + 3), None),
        ("UTINYINT", "9", "5", None),
        ("HUGEINT", "1", str(-(2**127) + 1), str(-(2**127))),
        ("UHUGEINT", "1", str(2**128 - 1), str(2**128 - 2)),
        ("DECIMAL(18,6)", "0.5", "10.250000", "9.750000"),
        ("DECIMAL(4,2)", "50", "-60.00", None),
        ("DATE", "1d", "2026-03-01", "2026-02-28"),
        ("TIMESTAMP", "5s", "2026-03-01 00:00:02", "2026-02-28 23:59:57"),
        ("TIMESTAMP_S", "200ms", "2026-03-01 00:00:00", "2026-02-28 23:59:59"),
        ("TIMESTAMP_MS", "10us", "2026-03-01 00:00:00.500", "2026-03-01 00:00:00.499"),
        ("TIMESTAMP_S", "1m", "2026-03-01 00:00:00", "2026-02-28 23:59:00"),
        ("TIMESTAMP_NS", "1ms", "2026-03-01 00:00:00.123456789", "2026-03-01 00:00:00.122456789"),
        ("TIMESTAMP WITH TIME ZONE", "1h", "2026-03-01 00:00:00+00", "2026-02-28 23:00:00+00"),
        (
            "UUID",
            "1s",
            "0195a000-0000-7000-8000-000000000000",
            "01959fff-fc18-0000-0000-000000000000",
        ),
        ("VARCHAR", "0", "ab", "ab"),
    ],
)
def test_the_overlap_goes_back_in_the_watermarks_own_unit(
    kind: str, overlap: str, mark: str, low: str | None
) -> None:
    assert Marking(plan(kind, overlap), 60).low(mark) == low


@pytest.mark.parametrize(
    ("kind", "overlap"),
    [
        ("BIGINT", "5s"),
        ("TIMESTAMP", "5"),
        ("VARCHAR", "1"),
        ("DATE", "soon"),
        ("BIGINT", "-1"),
        ("UUID", "3"),
    ],
)
def test_an_overlap_of_the_wrong_unit_is_refused_with_the_right_one(kind: str, overlap: str) -> None:
    with pytest.raises(SourceError, match="Set overlap to"):
        Marking(plan(kind, overlap), 60)


@pytest.mark.parametrize("kind", ["DOUBLE", "INTERVAL", "BLOB", "TIME", "INTEGER[]", "BOOLEAN"])
def test_a_type_that_cannot_be_a_watermark_is_refused(kind: str) -> None:
    with pytest.raises(SourceError, match=r"its watermark mark is a"):
        Marking(plan(kind), 60)


def test_the_latest_stamp_is_now_and_the_allowed_skew() -> None:
    wall = 1_767_225_600.0  # 2026-01-01
    assert Marking(plan("TIMESTAMP"), 60).latest(wall) == "2026-01-01 00:01:00"
    assert Marking(plan("TIMESTAMP WITH TIME ZONE"), 60).latest(wall) == "2026-01-01 00:01:00+00"
    assert Marking(plan("DATE"), 86_400).latest(wall) == "2026-01-02"
    assert Marking(plan("UUID"), 0).latest(wall) == "019b76da-a800-ffff-ffff-ffffffffffff"
    assert Marking(plan("BIGINT"), 60).latest(wall) is None


@settings(deadline=None, max_examples=50)
@given(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**63 - 2),
    st.text(max_size=20),
    st.uuids(),
    st.integers(-(10**9), 10**9),
)
def test_a_text_made_without_duckdb_is_the_text_duckdb_makes(
    number: int, nanoseconds: int, text: str, uuid: UUID, second: int
) -> None:
    """Also around the ends of the range in which it is made without."""
    near = 253_402_300_800 + second // 10**6
    with duckdb.connect() as connected:
        connected.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
        relation = connected.sql(
            "SELECT $1::BIGINT AS a, make_timestamp_ns($2) AS b, $3::VARCHAR AS c, $4::UUID AS d,"
            " make_timestamp($5::BIGINT * 1000000) AS e, to_timestamp($5) AS f, to_timestamp($6) AS g,"
            " make_timestamp($2::BIGINT // 1000)::TIMESTAMP_MS AS h, 'infinity'::TIMESTAMP AS i,"
            " 1.5::DECIMAL(4,2) AS j",
            params=[number, nanoseconds, text.replace("\0", ""), str(uuid), second, near],
        )
        [row] = relation.to_arrow_table().to_batches()
        connected.register("arrived", row)
        [expected] = connected.execute("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM arrived").fetchall()
    texts = [duckdb_text(column) for column in row.columns]
    assert texts[:4] == list(expected[:4])
    assert all(made is None or made == wanted for made, wanted in zip(texts, expected, strict=True))
    assert texts[-2:] == [None, None]


VERSIONED = {
    "BIGINT": [-(2**63), -5, -1, 0, 1, 2**63 - 1],
    "TINYINT": [-128, -1, 0, 127],
    "UBIGINT": [0, 1, 2**64 - 1],
}


@pytest.mark.parametrize("kind", VERSIONED)
def test_versions_keep_the_order_of_their_column(kind: str) -> None:
    types = {"BIGINT": pa.int64(), "TINYINT": pa.int8(), "UBIGINT": pa.uint64()}
    rows = pa.record_batch({"v": pa.array(VERSIONED[kind], types[kind])})
    versions = column_versions(rows, plan("BIGINT", version="v", version_type=kind)).to_pylist()
    assert versions == sorted(versions)
    assert len(set(versions)) == len(versions)


@pytest.mark.parametrize(
    "kind", ["DATE", "TIMESTAMP_S", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"]
)
def test_times_are_versions_by_their_native_integer(connection: duckdb.DuckDBPyConnection, kind: str) -> None:
    reader = connection.sql(
        f"SELECT CAST(x AS {kind}) AS v FROM (VALUES ('1969-12-31'), ('1970-01-01'), ('1970-01-02')) AS t(x)"
    ).to_arrow_table()
    rows = reader.combine_chunks().to_batches()[0]
    before, epoch, after = column_versions(rows, plan("BIGINT", version="v", version_type=kind)).to_pylist()
    assert epoch == 1 << 63
    assert before < epoch < after


def test_a_row_without_a_version_is_older_than_every_other() -> None:
    rows = pa.record_batch({"v": pa.array([None, -(2**62)], pa.int64())})
    assert column_versions(rows, plan("BIGINT", version="v")).to_pylist() == [0, 2**62]


def test_without_a_version_column_all_rows_are_alike() -> None:
    rows = pa.record_batch({"v": pa.array([1, 2])})
    assert column_versions(rows, plan("BIGINT")).to_pylist() == [0, 0]


@pytest.mark.parametrize("kind", ["VARCHAR", "HUGEINT", "DOUBLE", "DECIMAL(18,6)"])
def test_a_version_column_without_an_order_in_64_bits_is_refused(kind: str) -> None:
    with pytest.raises(SourceError, match="at most 64 bits"):
        check_version_column(plan("BIGINT", version="v", version_type=kind))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.text(max_size=40), max_size=30), max_size=10),
    st.integers(1, 20),
    st.integers(8, 400),
)
def test_batches_keep_every_row_in_order_and_never_exceed_their_bounds(
    parts: list[list[str]], rows: int, size: int
) -> None:
    batches = [pa.record_batch({"s": pa.array(part, pa.string())}) for part in parts]
    cut = list(rebatch(batches, BatchLimits(rows, size)))
    assert [text for batch in cut for text in batch.column(0).to_pylist()] == [*chain(*parts)]
    assert all(0 < batch.num_rows <= rows for batch in cut)
    assert all(batch.nbytes <= size or batch.num_rows == 1 for batch in cut)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 90))
def test_within_the_byte_bound_only_the_last_batch_is_short(total: int, part: int, rows: int) -> None:
    numbers = pa.record_batch({"n": pa.array(range(total), pa.int64())})
    parts = [numbers.slice(start, part) for start in range(0, total, part)]
    sizes = [batch.num_rows for batch in rebatch(parts, BatchLimits(rows, 1 << 30))]
    assert sizes == [rows] * (total // rows) + ([total % rows] if total % rows else [])


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_quoted_names_and_texts_mean_themselves(text: str) -> None:
    text = text.replace("\0", "")
    with duckdb.connect() as connected:
        assert connected.execute(f"SELECT {literal(text)}").fetchall() == [(text,)]
        if text:
            assert connected.execute(f"SELECT 1 AS {identifier(text)}").description[0][0] == text

"""What NumPy says of a round's order and of what moves the mark is what DuckDB says. [F6]"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.change import Column, Mark, TableId, TablePlan
from cdc.source.table.ordering import Undecided, in_order

KINDS = ["TINYINT", "BIGINT", "UBIGINT", "DATE", "TIMESTAMP_S", "TIMESTAMP", "TIMESTAMP_NS"]
KINDS.append("TIMESTAMP WITH TIME ZONE")
OTHERS = ["HUGEINT", "DECIMAL(18,3)", "VARCHAR", "UUID"]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"arrow_lossless_conversion": True}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def plan(kind: str) -> TablePlan:
    columns = (Column("id", "INTEGER"), Column("mark", kind))
    return TablePlan(TableId("main", "t"), "t", columns, ("id",), columns[1])


def text_of(kind: str, number: int) -> str:
    """A value of the type that grows with the number."""
    if "INT" in kind or kind.startswith("DECIMAL"):
        return str(number)
    if kind == "VARCHAR":
        return f"{number:03}"
    if kind == "UUID":
        return f"00000000-0000-7000-8000-{number:012x}"
    if kind == "DATE":
        return f"2026-11-{1 + number:02}"
    return f"2026-11-21 00:00:{number:02}" + ("+00" if kind.endswith("ZONE") else "")


def rows_of(duck: duckdb.DuckDBPyConnection, kind: str, values: list[tuple[int | None, int | None]]) -> Any:
    texts = [(key, None if number is None else text_of(kind, number)) for key, number in values]
    listed = ", ".join(
        f"({'NULL' if key is None else key}, {'NULL' if text is None else repr(text)})" for key, text in texts
    )
    duck.execute(f"CREATE OR REPLACE TEMP TABLE t (id INTEGER, mark {kind})")
    duck.execute(f"INSERT INTO t VALUES {listed}")
    [batch] = duck.sql("FROM t").to_arrow_table().combine_chunks().to_batches()
    return batch


def told_by_duckdb(
    duck: duckdb.DuckDBPyConnection, kind: str, mark: Mark | None, latest: str | None
) -> list[tuple[int, bool]]:
    past = "TRUE"
    if mark is not None:
        place = f"CAST('{mark.watermark}' AS {kind})"
        past = f"(mark > {place} OR (mark = {place} AND id > {mark.key[0]}))"
    if latest is not None:
        past += f" AND mark <= CAST('{latest}' AS {kind})"
    return duck.execute(f"SELECT id, {past} FROM t ORDER BY mark, id").fetchall()


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    values=st.lists(st.integers(0, 27), min_size=1, max_size=8, unique=True),
    mark=st.none() | st.integers(0, 27),
    latest=st.none() | st.integers(0, 27),
)
def test_the_order_and_what_moves_the_mark_are_duckdbs(
    duck: duckdb.DuckDBPyConnection, kind: str, values: list[int], mark: int | None, latest: int | None
) -> None:
    batch = rows_of(duck, kind, [(100 + number, number) for number in values])
    place = None if mark is None else Mark(text_of(kind, mark), (str(100 + mark),))
    bound = None if latest is None else text_of(kind, latest)
    rows, moves = in_order(batch, plan(kind), place, bound)
    found = list(zip(rows.column("id").to_pylist(), moves.tolist(), strict=True))
    assert found == told_by_duckdb(duck, kind, place, bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "mark"),
    [([(1, 5), (2, 5)], None), ([(2, 5)], Mark("5", ("1",))), ([(1, None)], None), ([(None, 5)], None)],
    ids=["two of a watermark", "another row of the mark's watermark", "no watermark", "no key"],
)
def test_what_watermarks_alone_do_not_tell_is_left_to_duckdb(
    duck: duckdb.DuckDBPyConnection, kind: str, values: list[tuple[int | None, int | None]], mark: Mark | None
) -> None:
    place = None if mark is None else Mark(text_of(kind, int(mark.watermark)), mark.key)
    batch = rows_of(duck, kind, values)
    with pytest.raises(Undecided):
        in_order(batch, plan(kind), place, None)


@pytest.mark.parametrize("kind", OTHERS)
def test_types_of_another_order_are_left_to_duckdb(duck: duckdb.DuckDBPyConnection, kind: str) -> None:
    with pytest.raises(Undecided):
        in_order(rows_of(duck, kind, [(1, 1), (2, 2)]), plan(kind), None, None)


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("TIMESTAMP", "infinity"),
        ("TIMESTAMP", "0044-03-15 (BC)"),
        ("TIMESTAMP", "10000-01-01"),
        ("BIGINT", "2026-11-21"),
    ],
)
def test_a_mark_that_cannot_be_read_here_is_left_to_duckdb(
    duck: duckdb.DuckDBPyConnection, kind: str, mark: str
) -> None:
    with pytest.raises(Undecided):
        in_order(rows_of(duck, kind, [(1, 1)]), plan(kind), Mark(mark, ("7",)), None)

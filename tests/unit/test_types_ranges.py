"""Values that a ClickHouse type cannot hold are rejected, and only those: never a wrong value [F7]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import duckdb
import pytest

from cdc.target.types import column_codec
from cdc.target.version import ServerVersion
from tests.support.duckdb_values import duckdb_source, selected

OLD, MIDDLE, NEW = ServerVersion(18, 16, 1), ServerVersion(24, 8), ServerVersion(26, 9)


@pytest.fixture(scope="module")
def source() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb_source() as connection:
        yield connection


CASES = [
    (OLD, "DATE", ("'1970-01-01'", "'2105-12-31'"), ("'1969-12-31'", "'2106-01-01'")),
    (MIDDLE, "DATE", ("'1900-01-01'", "'2299-12-31'"), ("'1899-12-31'", "'2300-01-01'")),
    (NEW, "DATE", ("'0001-01-01'", "'9999-12-31'"), ("'0001-12-31 (BC)'", "'10000-01-01'")),
    (NEW, "DATE", (), ("'5877642-06-25 (BC)'", "'5881580-07-10'")),
    (
        MIDDLE,
        "TIMESTAMP",
        ("'1900-01-01'", "'2299-12-31 23:59:59.999999'"),
        ("'1899-12-31 23:59:59.999999'", "'2300-01-01'", "'290309-12-22 (BC) 00:00:00'"),
    ),
    (
        NEW,
        "TIMESTAMP_S",
        ("'0001-01-01'", "'9999-12-31 23:59:59'"),
        ("'0001-12-31 (BC) 23:59:59'", "'10000-01-01'"),
    ),
    (
        MIDDLE,
        "TIMESTAMP_MS",
        ("'1900-01-01'", "'2299-12-31 23:59:59.999'"),
        ("'1899-12-31 23:59:59.999'", "'2300-01-01'"),
    ),
    (
        MIDDLE,
        "TIMESTAMP_NS",
        ("'1900-01-01'", "'2262-04-11 23:47:16.854775806'"),
        ("'1899-12-31 23:59:59.999999999'",),
    ),
    (NEW, "TIMESTAMP_NS", ("'1677-09-22'", "'2262-04-11 23:47:16.854775806'"), ()),
    (
        MIDDLE,
        "TIMESTAMP WITH TIME ZONE",
        ("'1900-01-01 00:00:00+00'", "'2299-12-31 23:59:59.999999+00'"),
        ("'1900-01-01 00:00:00+01'", "'2299-12-31 23:59:59.999999-01'"),
    ),
]


@pytest.mark.parametrize(("server", "kind", "held", "beyond"), CASES)
def test_the_first_and_last_value_are_held_and_their_neighbours_are_not(
    source: duckdb.DuckDBPyConnection,
    server: ServerVersion,
    kind: str,
    held: tuple[str, ...],
    beyond: tuple[str, ...],
) -> None:
    column, array = selected(source, kind, (*held, *beyond), nullable=True)
    held_by = column_codec(replace(column, nullable=False), server).clickhouse_type
    codec = column_codec(column, server)
    rejected = codec.rejects(array)
    found = [row for each in rejected for row, bad in enumerate(each.rows) if bad]
    assert found == [2 * at for at in range(len(held), len(held) + len(beyond))]
    assert codec.clickhouse_type == f"Nullable({held_by})"
    assert all(each.reason == f"out of the range of {held_by}" for each in rejected)


@pytest.mark.parametrize(
    "kind",
    ["DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"],
)
def test_infinity_is_rejected_and_called_by_its_name(source: duckdb.DuckDBPyConnection, kind: str) -> None:
    column, array = selected(source, kind, ("'infinity'", "'-infinity'", "'2024-01-01'"), nullable=False)
    for server in (MIDDLE, NEW):
        codec = column_codec(column, server)
        (rejected,) = codec.rejects(array)
        assert rejected.rows.tolist() == [True, True, False]
        assert rejected.reason == f"infinity does not fit {codec.clickhouse_type}"


def test_where_a_timestamp_is_a_number_infinity_is_one_too(source: duckdb.DuckDBPyConnection) -> None:
    column, array = selected(
        source, "TIMESTAMP", ("'infinity'", "'-infinity'", "'290309-12-22 (BC) 00:00:00'"), nullable=True
    )
    assert column_codec(column, OLD).rejects(array) == ()


@pytest.mark.parametrize(
    ("kind", "value", "bad"),
    [
        ("DATE[]", "['2024-01-01', {}]", "'infinity'"),
        ("DATE[2]", "['2024-01-01', {}]", "'-infinity'"),
        ("STRUCT(a INTEGER, d DATE)", "{{'a': 1, 'd': {}}}", "'10000-01-01'"),
        ("STRUCT(d DATE[])[]", "[{{'d': ['2024-01-01']}}, NULL, {{'d': [{}]}}]", "'10000-01-01'"),
        ("MAP(VARCHAR, DATE)", "MAP {{'a': {}, 'b': NULL}}", "'10000-01-01'"),
        ("MAP(DATE, INTEGER)", "MAP {{{}: 1}}", "DATE '10000-01-01'"),
        ("UNION(d DATE, n INTEGER)", "union_value(d := DATE {})", "'10000-01-01'"),
    ],
)
def test_one_bad_value_inside_rejects_its_row_alone(
    source: duckdb.DuckDBPyConnection, kind: str, value: str, bad: str
) -> None:
    good = "DATE '2024-02-29'" if "MAP(DATE" in kind else "'2024-02-29'"
    values = tuple(value.format(each) for each in (good, bad, good))
    column, array = selected(source, kind, values, nullable=True)
    (rejected,) = column_codec(column, NEW).rejects(array)
    assert rejected.rows.tolist() == [False, False, True, False, False, False]
    (rejected,) = column_codec(column, NEW).rejects(array.slice(2))
    assert rejected.rows.tolist() == [True, False, False, False]

"""`cdc watermark rebuild`, and how far a table reaches in every target, for every type of watermark. [R3]"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from cdc.change import Batch, Column, Position, TableId, TablePlan
from cdc.config import load
from cdc.errors import ExitCode, TargetError
from cdc.state import Lease, open_store
from cdc.watermark import mark_type
from tests.support.commands import commands
from tests.support.duckdb_values import duckdb_source, selected
from tests.support.places import Place
from tests.support.writers import Writer

ASCENDING: dict[str, tuple[str, ...]] = {
    "INTEGER": ("-5", "9", "10"),
    "UBIGINT": ("9", "18446744073709551615"),
    "DECIMAL(18,6)": ("-1.000000", "9.500000", "10.250000"),
    "DATE": ("1999-12-31", "2024-02-29"),
    "TIMESTAMP_S": ("2024-01-01 00:00:00", "2024-01-01 00:00:01"),
    "TIMESTAMP_MS": ("2024-01-01 00:00:00", "2024-01-01 00:00:00.001"),
    "TIMESTAMP": ("2024-01-01 00:00:00", "2024-01-01 00:00:00.000001"),
    "TIMESTAMP_NS": ("2024-01-01 00:00:00", "2024-01-01 00:00:00.000000001"),
    "TIMESTAMP WITH TIME ZONE": ("2024-01-01 00:00:00+00", "2024-01-01 00:00:00.5+00"),
    "UUID": ("018cc251-f400-7000-ffff-ffffffffffff", "018cc251-f401-7000-0000-000000000000"),
    "VARCHAR": ("10", "9", "é"),
}
"""Watermarks of each type in ascending order, as DuckDB writes them."""
WIDE = ("9", "-10", "170141183460469231731687303715884105727")


def delivered(place: Place, kind: str, values: tuple[str, ...]) -> TablePlan:
    """A table with one row for each value; the last row's watermark is NULL."""
    with duckdb_source() as connection:
        quoted = tuple(f"'{value}'" for value in values)
        column, marks = selected(connection, kind, (*quoted, "NULL"), nullable=False)
        _, ids = selected(connection, "INTEGER", tuple(map(str, range(len(values) + 1))), nullable=False)
    mark = Column("w", column.type, nullable=True)
    plan = TablePlan(TableId("main", "t"), "t", (Column("id", "INTEGER", False), mark), ("id",), mark)
    rows = pa.RecordBatch.from_arrays([ids, marks], names=["id", "w"])
    versions = pa.array([1] * len(rows), pa.uint64())
    with place.target(auto_create=True) as target:
        table = target.open(plan)
        table.send(table.encode(Batch(plan, rows, versions, None, Position(1, 1, 1), 0.0)))
    return plan


@pytest.mark.parametrize("kind", ASCENDING)
def test_the_greatest_watermark_is_that_of_the_sources_order(any_place: Place, kind: str) -> None:
    values = ASCENDING[kind]
    plan = delivered(any_place, kind, values)
    with any_place.target() as target:
        found = target.maximum(plan)
        below = target.maximum(plan, values[0])
    assert found is not None
    assert mark_type(plan.watermark.type).canonical(found) == values[-1]
    assert below is not None
    assert mark_type(plan.watermark.type).canonical(below) == values[0]


def test_a_wide_integer_is_compared_as_a_number_or_refused(any_place: Place) -> None:
    plan = delivered(any_place, "HUGEINT", WIDE)
    with any_place.target() as target:
        if target.server_version.has_int128:
            assert target.maximum(plan) == WIDE[-1]
        else:
            with pytest.raises(TargetError, match="held as text"):
                target.maximum(plan)


def test_an_empty_table_has_no_greatest_watermark(any_place: Place) -> None:
    plan = delivered(any_place, "INTEGER", ("1",))
    with any_place.target(auto_create=True) as target:
        other = replace(plan, target="empty")
        target.open(other)
        assert target.maximum(other) is None


TABLES = """
    [[tables]]
    name = "trades"
    watermark = "ts"
    [[tables]]
    name = "empty"
    watermark = "seq"
    [[tables]]
    name = "later"
    watermark = "seq"
"""


def test_a_lost_store_is_rebuilt_and_a_row_of_the_future_is_not_believed(
    tmp_path: Path, any_place: Place
) -> None:  # [R3]
    cdc = commands(tmp_path, any_place, tables=TABLES)
    state = load(cdc.config, {}).state.directory
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, ts TIMESTAMP_NS)")
        writer.run(
            "INSERT INTO trades VALUES "
            "(1, '2024-01-01 00:00:00.000000001'), (2, '2024-01-02'), (3, '2105-01-01')"
        )
        writer.run("CREATE TABLE empty (id INTEGER PRIMARY KEY, seq BIGINT)")
        writer.run("CREATE TABLE later (id INTEGER PRIMARY KEY, seq BIGINT)")
        assert cdc("schema", "apply", "trades", "empty", "--yes").exit_code == 0
        assert cdc("verify", "trades", "--repair").exit_code == 0
        assert cdc("watermark", "rebuild").exit_code == ExitCode.USAGE.value  # nobody to ask
        assert not state.joinpath("state.sqlite3").exists()
        done = cdc("watermark", "rebuild", "--yes")
    assert done.exit_code == 0, done.exception
    assert "main.trades: 2024-01-02 00:00:00\n" in done.stdout
    assert "main.empty: nothing in the target" in done.stdout
    assert "main.later: nothing in the target" in done.stdout
    assert "cdc verify" in done.stdout
    with open_store(state, mode="read") as store:
        marks = {each.table.name: each.mark and each.mark.watermark for each in store.tables()}
    assert marks == {"trades": "2024-01-02 00:00:00", "empty": None, "later": None}


def test_a_rebuild_clears_the_mark_of_a_table_that_the_target_lost(tmp_path: Path, any_place: Place) -> None:
    cdc = commands(tmp_path, any_place, tables='[[tables]]\nname = "trades"\nwatermark = "seq"\n')
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, seq BIGINT)")
        writer.run("INSERT INTO trades VALUES (1, 7)")
        cdc("schema", "apply", "--yes")
        cdc("verify", "--repair")
        assert cdc("watermark", "rebuild", "--yes").exit_code == 0
        assert json.loads(cdc("watermark", "list", "--json").stdout)[0]["mark"] == "7"
        any_place.query(f"DROP TABLE {any_place.database}.trades")
        assert cdc("watermark", "rebuild", "--yes").exit_code == 0
        assert json.loads(cdc("watermark", "list", "--json").stdout)[0]["mark"] is None


COMPLETION = """
    [[tables]]
    name = "fills"
    watermark = "seq"
    [tables.completion]
    group = "order_id"
    condition = "bool_or(done)"
"""


def test_a_table_whose_rows_wait_for_their_group_is_sent_from_its_beginning(
    tmp_path: Path, any_place: Place
) -> None:
    """Rows that the lost store held lie before the greatest watermark of the target. [F8]"""
    cdc = commands(tmp_path, any_place, tables=COMPLETION)
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE fills (id INTEGER PRIMARY KEY, seq BIGINT, order_id INTEGER, done BOOLEAN)")
        writer.run("INSERT INTO fills VALUES (1, 7, 1, true)")
        cdc("schema", "apply", "--yes")
        cdc("verify", "--repair")
        done = cdc("watermark", "rebuild", "--yes")
        assert "main.fills: rows may wait for their group: no mark, every row is sent" in done.stdout
        assert json.loads(cdc("watermark", "list", "--json").stdout)[0]["mark"] is None


def test_a_rebuild_is_refused_while_a_replicator_runs(tmp_path: Path, any_place: Place) -> None:
    cdc = commands(tmp_path, any_place, tables='[[tables]]\nname = "trades"\nwatermark = "seq"\n')
    with Writer(tmp_path / "t.duckdb") as writer:
        writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, seq BIGINT)")
        cdc("watermark", "rebuild", "--yes")
        identity = json.loads(cdc("watermark", "list", "--json").stdout)[0]["source"]
        with Lease(load(cdc.config, {}).state.directory, identity):
            refused = cdc("watermark", "rebuild", "--yes")
    assert type(refused.exception).__name__ == "LeaseHeld"

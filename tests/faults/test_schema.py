"""Columns that come, go, change type or name while rows are replicated; very large changes. [R10]"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.waiting import wait_until
from tests.support.writers import Writer

TABLES = """
[[tables]]
name = "orders"
watermark = "updated_at"
version = "updated_at"
"""
INSERT = (
    "INSERT INTO orders BY NAME SELECT i AS id, now()::TIMESTAMP AS updated_at, {} FROM range({}, {}) r(i)"
)


@contextmanager
def _orders(server: ClickHouseServer, directory: Path) -> Iterator[tuple[Rig, Writer]]:
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    with (
        Rig(directory, url, server.query, tables=TABLES) as rig,
        Writer(rig.source) as writer,
    ):
        writer.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, updated_at TIMESTAMP NOT NULL, v VARCHAR)")
        writer.run(INSERT.format("'before' AS v", 0, 10))
        rig.replicate()
        _arrive(rig, 10)
        yield rig, writer


@pytest.fixture
def orders(clickhouse_server: ClickHouseServer, tmp_path: Path) -> Iterator[tuple[Rig, Writer]]:
    with _orders(clickhouse_server, tmp_path) as made:
        yield made


def _arrive(rig: Rig, rows: int, seconds: float = 30.0) -> float:
    began = time.monotonic()

    def there() -> bool:
        try:
            return int(rig.query("SELECT uniqExact(id) FROM DB.orders")) == rows
        except AssertionError:
            return False

    wait_until(there, f"{rows} rows to arrive", seconds)
    return time.monotonic() - began


def test_a_column_that_is_added_is_followed(orders: tuple[Rig, Writer]) -> None:
    rig, writer = orders
    writer.run("ALTER TABLE orders ADD COLUMN w INTEGER DEFAULT 5")
    writer.run(INSERT.format("'after' AS v, i AS w", 10, 20))
    took = _arrive(rig, 20)
    rig.settle("column added", took, "none: it is followed", tables=["orders"])


def test_a_column_that_is_dropped_halts_with_a_message_or_goes_on_without_it(
    orders: tuple[Rig, Writer],
) -> None:
    rig, writer = orders
    writer.run("ALTER TABLE orders DROP COLUMN v")
    writer.run(
        "INSERT INTO orders BY NAME SELECT i AS id, now()::TIMESTAMP AS updated_at FROM range(10, 20) r(i)"
    )
    message = rig.said()
    took = _arrive(rig, 20)
    rig.settle("column dropped", took, message, tables=["orders"])


def test_a_column_of_another_type_halts_the_table_with_the_difference(orders: tuple[Rig, Writer]) -> None:
    rig, writer = orders
    writer.run("ALTER TABLE orders ALTER v TYPE BLOB")
    writer.run(INSERT.format("'after'::BLOB AS v", 10, 20))
    message = rig.said()
    assert "v" in message
    writer.run("ALTER TABLE orders ALTER v TYPE VARCHAR")
    took = _arrive(rig, 20)
    rig.settle("column retyped, then back", took, message, tables=["orders"])


def test_a_column_of_another_name_is_a_new_column(orders: tuple[Rig, Writer]) -> None:
    rig, writer = orders
    writer.run("ALTER TABLE orders RENAME v TO renamed")
    writer.run(INSERT.format("'after' AS renamed", 10, 20))
    message = rig.said()
    took = _arrive(rig, 20)
    rig.settle("column renamed", took, message, tables=["orders"])


def test_a_transaction_of_100_000_rows_arrives_whole(orders: tuple[Rig, Writer]) -> None:
    rig, writer = orders
    writer.run(INSERT.format("repeat('x', 100) AS v", 10, 100_010))
    took = _arrive(rig, 100_010)
    rig.settle("a transaction of 100,000 rows", took, "none", tables=["orders"])


def test_a_row_of_10_mb_arrives_whole(orders: tuple[Rig, Writer]) -> None:
    rig, writer = orders
    writer.run(INSERT.format("repeat('x', 10485760) AS v", 10, 11))
    took = _arrive(rig, 11)
    assert rig.query("SELECT max(length(v)) FROM DB.orders") == "10485760"
    rig.settle("a row of 10 MB", took, "none", tables=["orders"])

"""Partial fills beside a real writer and a real server: orders arrive whole, whatever is killed. [F8, R3]"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.dying import STEPS
from tests.support.replica import Replica
from tests.support.waiting import wait_until
from tests.support.writers import Writer

CONFIG = """
[database]
path = '{database}'
[sync]
clickhouse_endpoint = 'clickhouse://127.0.0.1:{port}/{name}'
overlap_count = 3
[target]
auto_create = true
[metrics]
port = 0
[[tables]]
name = "fills"
watermark = "seq"
[tables.completion]
group = "order_id"
condition = "{condition}"
max_age_sec = {age}
"""
FILLS = 3


@dataclass
class Exchange:
    """A writer of fills, and where they are replicated to."""

    directory: Path
    server: ClickHouseServer
    writer: Writer
    fills: int = 0

    @property
    def name(self) -> str:
        return f"fills_{os.getpid()}_{self.directory.name}"

    def configure(self, *, age: float = 600.0, condition: str = "bool_or(status = 'FILLED')") -> Path:
        config = self.directory / "cdc.toml"
        config.write_text(
            CONFIG.format(
                database=(self.directory / "fills.duckdb").as_posix(),
                port=self.server.native_port,
                name=self.name,
                condition=condition,
                age=age,
            )
        )
        return config

    def fill(self, order: int, number: int) -> None:
        """One transaction: fill `number`, from 1, of an order."""
        self.fills += 1
        status = "FILLED" if number == FILLS else "PARTIAL"
        sql = "INSERT INTO fills VALUES (uuid(), ?, ?, ?, now()::TIMESTAMP)"
        self.writer.run(sql, self.fills, order, status)

    def query(self, sql: str) -> str:
        return self.server.query(sql.replace("fills", f"`{self.name}`.fills"))

    def arrived(self) -> dict[int, int]:
        """How many fills of each order are in the target."""
        if self.server.query(f"EXISTS TABLE `{self.name}`.fills") == "0":
            return {}
        found = self.query("SELECT order_id, count() FROM fills FINAL GROUP BY order_id")
        return {int(order): int(count) for order, count in (line.split() for line in found.splitlines())}

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.directory / "fills.duckdb.cdc/status.json").read_text())
        return status

    def table(self) -> dict[str, Any]:
        (table,) = self.status()["tables"]
        assert isinstance(table, dict)
        return table


@pytest.fixture
def exchange(clickhouse_server: ClickHouseServer, tmp_path: Path) -> Iterator[Exchange]:
    with Writer(tmp_path / "fills.duckdb") as writer:
        writer.run(
            "CREATE TABLE fills (id UUID PRIMARY KEY, seq BIGINT NOT NULL, order_id BIGINT, "
            "status VARCHAR NOT NULL, filled_at TIMESTAMP NOT NULL)"
        )
        made = Exchange(tmp_path, clickhouse_server, writer)
        yield made
        clickhouse_server.query(f"DROP DATABASE IF EXISTS `{made.name}`")


def test_orders_arrive_whole_although_the_replicator_is_killed_at_every_step(exchange: Exchange) -> None:
    config = exchange.configure()
    orders = 0
    filled: set[int] = set()
    for step in STEPS:
        with Replica(config, die_at=step, die_on=3) as replica:
            deadline = time.monotonic() + 30.0
            while replica.process.poll() is None:
                assert time.monotonic() < deadline, f"the replicator did not die {step}"
                late = set(range(orders)) - filled
                fresh = range(orders, orders + 3)
                orders += 3
                for number in range(1, FILLS + 1):
                    for order in (*fresh[:-1], *late) if number == FILLS else fresh:
                        exchange.fill(order, number)
                filled |= {*fresh[:-1], *late}
                assert set(exchange.arrived().values()) <= {FILLS}
            assert replica.process.returncode == -9
    with Replica(config) as replica:
        wait_until(lambda: exchange.arrived().keys() == filled, "every filled order to arrive")
        wait_until(lambda: exchange.table()["held_rows"] == FILLS - 1, "what is open is held")
        assert replica.stop() == 0
    assert exchange.arrived().keys() == filled
    (left,) = set(range(orders)) - filled
    exchange.fill(left, FILLS)
    with Replica(config) as replica:
        wait_until(lambda: left in exchange.arrived(), "the last order to arrive")
        wait_until(lambda: exchange.table()["held_rows"] == 0, "nothing is held any more")
        assert exchange.status()["alerts"] == []
        assert replica.stop() == 0
    assert sum(exchange.arrived().values()) == exchange.fills
    assert exchange.query("SELECT count() - uniqExact(id) FROM fills FINAL") == "0"


def test_an_order_that_is_never_completed_arrives_after_its_age_with_an_alert(exchange: Exchange) -> None:
    config = exchange.configure(age=0.5)
    exchange.fill(1, 1)
    exchange.fill(1, 2)
    with Replica(config) as replica:
        wait_until(lambda: exchange.arrived() == {1: 2}, "the order to arrive as it is")
        wait_until(lambda: exchange.status()["alerts"], "the alert")
        (alert,) = exchange.status()["alerts"]
        assert (alert["name"], alert["subject"]) == ("incomplete_groups", "main.fills")
        assert "such as 1: not complete after 0.5 s" in alert["message"]
        page = exchange.status()["page"]
        with urllib.request.urlopen(f"{page}/metrics".replace("//metrics", "/metrics")) as answer:
            metrics = answer.read().decode()
        assert 'cdc_incomplete_groups_total{table="main.fills"} 1.0' in metrics
        assert 'cdc_held_rows{table="main.fills"} 0.0' in metrics
        assert 'cdc_held_groups{table="main.fills"} 0.0' in metrics
        assert any("incomplete groups delivered" in message for message in replica.messages())
        assert replica.stop() == 0


def test_what_waits_is_shown(exchange: Exchange) -> None:
    config = exchange.configure()
    exchange.fill(1, 1)
    with Replica(config):
        wait_until(lambda: _held(exchange) == (1, 1), "the row to be held")
        assert exchange.table()["held_since"] is not None
        assert exchange.arrived() == {}


def test_a_condition_that_is_none_leaves_the_table_out_and_says_so(exchange: Exchange) -> None:
    config = exchange.configure(condition="bool_or(state = 'FILLED')")
    with Replica(config) as replica:
        wait_until(lambda: "tables.completion.condition" in replica.log, "word of it")
        assert 'column \\"state\\" not found' in replica.log


def _held(exchange: Exchange) -> tuple[int, int] | None:
    try:
        table = exchange.table()
    except (OSError, ValueError):
        return None
    return table["held_rows"], table["held_groups"]

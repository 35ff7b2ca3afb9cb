"""kill -9 while rows are handed out again that changed unseen, and then come back to what they were. [R3]

The table is larger than what is handed out, checkpoints come whenever no replicator runs, and at the end
source and target are equal, by value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

import pytest

from cdc.source.format.headers import HEADERS_SIZE, parse_headers
from cdc.source.table.digests import WIDTH, Digests, fingerprint_of
from tests.support.clickhouse import ClickHouseServer
from tests.support.dying import DIGEST_STEPS, STEPS
from tests.support.faults import Rig
from tests.support.waiting import wait_until
from tests.support.writers import Writer

ROWS = 150_000
PLACES = (7, 60_000, 130_000)
TABLES = """
[[tables]]
name = "orders"
watermark = "seq"
"""


@dataclass
class Orders:
    """A table in a source, its writer, and its replica."""

    rig: Rig
    writer: Writer

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.writer.run(statement)

    def change(self, value: str) -> None:
        """Change rows in three places, with a checkpoint after each, and so that freed blocks are used."""
        for place in PLACES:
            self.run(f"UPDATE orders SET v = '{value}' WHERE id = {place}", "CHECKPOINT")

    def ranges_known(self) -> int:
        """Ranges of which it is stored that the target has them as they are at the newest checkpoint."""
        state = self.rig.directory / "trades.duckdb.cdc" / "state.sqlite3"
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True)) as store,
        ):
            found = store.execute("SELECT digests FROM delivered_digests").fetchone()
            if found is not None:
                loaded = Digests.load(found[0], fingerprint_of(self.rig.plan("orders")))
                if loaded is not None and (loaded.iteration, loaded.complete) == (self.iteration(), True):
                    return loaded.ranges_known
        return 0

    def iteration(self) -> int:
        """The number of the newest checkpoint."""
        with self.rig.source.open("rb") as file:
            active = parse_headers(file.read(HEADERS_SIZE), self.rig.source).active
        return 0 if active is None else active.iteration

    def rows_sent(self) -> int:
        state = self.rig.directory / "trades.duckdb.cdc" / "state.sqlite3"
        with closing(sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True)) as store:
            return int(store.execute("SELECT rows FROM tables").fetchone()[0])


@pytest.fixture(scope="module")
def orders(_clickhouse: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    _clickhouse.ensure()
    url = f"clickhouse://127.0.0.1:{_clickhouse.native_port}"
    with (
        Rig(tmp_path_factory.mktemp("again"), url, _clickhouse.query, tables=TABLES) as rig,
        Writer(rig.source) as writer,
    ):
        made = Orders(rig, writer)
        made.run(
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)",
            f"INSERT INTO orders SELECT i, i, 'order ' || i FROM range({ROWS}) AS r(i)",
            "CHECKPOINT",
        )
        made.change("as it was")
        yield made


@pytest.mark.parametrize("step", [*STEPS, *DIGEST_STEPS])
def test_after_kill_9_while_rows_are_handed_out_again_none_is_left_out(orders: Orders, step: str) -> None:
    with orders.rig.replicate():
        wait_until(lambda: orders.ranges_known() >= ROWS // WIDTH, "all to be known", 60.0)
    before = orders.rows_sent()
    orders.change("away")
    with orders.rig.replicate(die_at=step, die_on=1 if step in DIGEST_STEPS else 3) as dying:
        assert dying.wait() == -9
    orders.change("as it was")
    with orders.rig.replicate():
        orders.rig.settle(f"kill -9 {step}, rows handed out again", 0.0, "none", tables=["orders"])
        wait_until(lambda: orders.ranges_known() >= ROWS // WIDTH, "all to be known again", 60.0)
        again = orders.rows_sent() - before
    print(f"{again} of {ROWS} rows were sent again")
    assert again < ROWS

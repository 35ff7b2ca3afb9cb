"""ClickHouse killed while the writer goes on through checkpoints: all that happened arrives. [R4, R5]"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.waiting import wait_until
from tests.support.writers import Writer

TABLES = """
[[tables]]
name = "orders"
watermark = "seq"
"""
ROWS = 5000
"""Far more than the overlap reaches back, which a restart reads again."""


@dataclass
class Outage:
    """A writer and a replicator of one table, whose ClickHouse is killed and started again."""

    rig: Rig
    writer: Writer
    server: ClickHouseServer
    last: int = 0

    def insert(self, count: int) -> None:
        first, self.last = self.last + 1, self.last + count
        self.writer.run(f"INSERT INTO orders SELECT i, i, 'new' FROM range({first}, {self.last + 1}) r(i)")

    def status(self) -> dict[str, object]:
        found: dict[str, object] = self.rig.trouble_tables()[0]
        return found

    def wait_spooled(self, watermark: int) -> None:
        """Until the rows up to this one are spooled, or as it were delivered."""
        store = self.rig.directory / "trades.duckdb.cdc" / "state.sqlite3"
        wait_until(lambda: _spooled_to(store) >= watermark, f"row {watermark} to be in the spool", 30.0)

    def final(self) -> dict[int, tuple[str, int]]:
        sql = "SELECT id, v, _cdc_deleted FROM DB.orders FINAL ORDER BY id FORMAT TabSeparated"
        lines = self.rig.query(sql).splitlines()
        return {int(id_): (v, int(deleted)) for id_, v, deleted in (line.split("\t") for line in lines)}

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.rig.status()['page']}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )

    def events(self, text: str) -> list[str]:
        return [line for line in self.rig.replica.log.splitlines() if text in line]

    def rows_sent(self) -> int:
        return int(self.metric("cdc_rows_total"))


def _spooled_to(store: Path) -> int:
    import json
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        marks = connection.execute("SELECT mark FROM spool WHERE mark IS NOT NULL").fetchall()
    return max((int(json.loads(mark)[0]) for (mark,) in marks), default=0)


@contextmanager
def outage(server: ClickHouseServer, directory: Path, deletes: str) -> Iterator[Outage]:
    url = f"clickhouse://127.0.0.1:{server.native_port}"
    with (
        Rig(
            directory,
            url,
            server.query,
            tables=TABLES,
            more="[limits]\nmax_bytes_per_second = 0",
            backoff="[1, 2]",
            deletes=deletes,
        ) as rig,
        Writer(rig.source) as writer,
    ):
        text = rig.config.read_text()  # without a comparison, which would bring what the spool did not
        rig.config.write_text(text.replace("[sync]", "[sync]\nreconcile = false", 1))
        writer.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, v VARCHAR)")
        made = Outage(rig, writer, server)
        made.insert(ROWS)
        writer.run("CHECKPOINT")
        rig.replicate()
        wait_until(lambda: rig.status() and _arrived(rig) == ROWS, "the first rows to arrive")
        wait_until(lambda: made.status()["state"] == "running", "the table to be followed")
        try:
            yield made
        finally:
            server.ensure()


def _arrived(rig: Rig) -> int:
    try:
        return int(rig.query("SELECT uniqExact(id) FROM DB.orders"))
    except AssertionError:
        return 0


def _churn(run: Outage, checkpoints: int) -> None:
    """Inserts, updates and deletions of old and new rows, and a checkpoint after each round."""
    for round_ in range(checkpoints):
        run.writer.run(f"UPDATE orders SET v = 'updated {round_}' WHERE id = {round_ + 1}")
        run.writer.run(f"DELETE FROM orders WHERE id = {100 + round_}")
        run.writer.run(f"DELETE FROM orders WHERE id = {run.last - 3}")
        run.insert(50)  # last, so that all before it is spooled when it is
        run.wait_spooled(run.last)
        run.writer.run("CHECKPOINT")


def test_updates_and_deletions_through_several_checkpoints_of_an_outage_arrive_after_it(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    with outage(clickhouse_server, tmp_path, "replicate") as run:
        before = run.rows_sent()
        clickhouse_server.kill()
        run.insert(10)
        run.wait_spooled(run.last)
        _churn(run, 4)
        assert run.status()["spool_rows"]
        assert run.metric("cdc_spool_rows") > 0
        began = time.monotonic()
        clickhouse_server.start()
        wait_until(lambda: run.metric("cdc_spool_rows") == 0, "the spool to be delivered", 30.0)
        took = time.monotonic() - began
        source = {int(id_ or 0): (str(v), 0) for id_, v in run.writer.run("SELECT id, v FROM orders")}
        wait_until(
            lambda: {id_: row for id_, row in run.final().items() if not row[1]} == source,
            "source and target to be equal",
        )
        assert run.rows_sent() - before < ROWS / 2, "nothing is read as a whole again"
        assert run.metric("cdc_tail_broken_total") == 0, run.events("tail")
        assert run.events("rows are spooled")
        assert run.events("spool delivered")
        run.rig.settle("ClickHouse killed for four checkpoints", took, "spooled", tables=["orders"])


def test_rows_inserted_and_pruned_during_an_outage_are_in_the_target_after_it(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    with outage(clickhouse_server, tmp_path, "ignore") as run:
        clickhouse_server.kill()
        for _ in range(3):
            run.insert(100)
            run.wait_spooled(run.last)
            run.writer.run("DELETE FROM orders")
            run.writer.run("CHECKPOINT")
        clickhouse_server.start()
        wait_until(lambda: len(run.final()) == ROWS + 300, "every row that ever was to arrive", 30.0)
        assert {deleted for _, deleted in run.final().values()} == {0}


@pytest.mark.parametrize("back", [True, False], ids=["target back", "target still away"])
def test_a_replicator_killed_during_an_outage_loses_nothing_of_it(
    clickhouse_server: ClickHouseServer, tmp_path: Path, back: bool
) -> None:
    with outage(clickhouse_server, tmp_path, "replicate") as run:
        clickhouse_server.kill()
        run.insert(10)
        run.wait_spooled(run.last)
        _churn(run, 2)
        for _ in range(2):  # the one meets the checkpoint, the other has its place in the log after it
            run.insert(10)
            run.wait_spooled(run.last)
        run.rig.replica.kill()
        if back:
            clickhouse_server.start()
        run.rig.replicate()
        if not back:
            wait_until(lambda: run.status().get("spool_rows"), "the spool to be told of", 30.0)
            run.writer.run("UPDATE orders SET v = 'late' WHERE id = 7")
            run.insert(10)
            run.wait_spooled(run.last)
            run.writer.run("CHECKPOINT")
            clickhouse_server.start()
        wait_until(lambda: run.final().get(run.last) is not None, "the last row to arrive", 30.0)
        source = {int(id_ or 0): (str(v), 0) for id_, v in run.writer.run("SELECT id, v FROM orders")}
        wait_until(
            lambda: {id_: row for id_, row in run.final().items() if not row[1]} == source,
            "source and target to be equal",
        )
        assert run.metric("cdc_tail_broken_total") == 0, run.events("tail")
        assert run.rows_sent() < ROWS / 2
        assert run.rig.query("SELECT count() - uniqExact(id) FROM DB.orders FINAL").strip() == "0"


@pytest.mark.parametrize(
    ("step", "by"),
    [
        ("before spooling", "KILL"),
        ("after spooling", "KILL"),
        ("after spooling", "TERM"),
        ("before send", "KILL"),
        ("after send", "KILL"),
        ("in commit", "KILL"),
    ],
)
def test_an_end_at_a_step_of_spooling_or_of_delivering_the_spool_loses_nothing(
    clickhouse_server: ClickHouseServer, tmp_path: Path, step: str, by: str
) -> None:
    with outage(clickhouse_server, tmp_path, "replicate") as run:
        run.rig.stop()
        run.rig.replicate(mortal=True)
        run.insert(1)
        wait_until(lambda: _arrived(run.rig) == ROWS + 1, "the restarted replicator to be at work")
        clickhouse_server.kill()
        run.insert(10)
        run.wait_spooled(run.last)
        began = run.insert if "spooling" in step else lambda _: clickhouse_server.start()
        happening = threading.Timer(0.3, began, (20,))
        happening.start()
        assert run.rig.replica.die(step, by) == (0 if by == "TERM" else -9)
        happening.join()
        clickhouse_server.ensure()
        run.writer.run("UPDATE orders SET v = 'after' WHERE id = 3")
        run.insert(10)
        run.rig.replicate()
        source = {int(id_ or 0): (str(v), 0) for id_, v in run.writer.run("SELECT id, v FROM orders")}
        wait_until(lambda: run.final() == source, "source and target to be equal", 30.0)
        assert run.rig.query("SELECT count() - uniqExact(id) FROM DB.orders FINAL").strip() == "0"


def test_a_reset_during_an_outage_keeps_what_is_spooled_and_sends_all_again(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    from cdc.change import TableId
    from cdc.state import open_store
    from cdc.watermark import reset_mark

    with outage(clickhouse_server, tmp_path, "ignore") as run:
        clickhouse_server.kill()
        run.insert(100)
        run.wait_spooled(run.last)
        run.writer.run(f"DELETE FROM orders WHERE id > {ROWS}")
        run.rig.replica.kill()
        with open_store(run.rig.directory / "trades.duckdb.cdc", mode="write") as store:
            (record,) = store.tables(TableId("main", "orders"))
            assert record.spooled_rows >= 100
            reset_mark(store, record.source, record.table, None)
        clickhouse_server.start()
        run.rig.replicate()
        pid = run.rig.replica.process.pid
        wait_until(lambda: run.rig.status()["pid"] == pid and run.rig.status()["page"], "the restart", 30.0)
        wait_until(lambda: run.rows_sent() >= ROWS + 100, "all to be sent again", 30.0)
        assert len(run.final()) == ROWS + 100

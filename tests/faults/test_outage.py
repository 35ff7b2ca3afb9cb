"""An hour without the target, at 200 trades a second: memory and store stay bounded. [R4, R5]"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import psutil

from cdc.change import Batch, Encoded
from cdc.errors import Meaning, TargetError
from cdc.replicator.pipeline import DEPTH, Pipeline
from cdc.replicator.retry import Backoff
from tests.support.clickhouse import ClickHouseServer
from tests.support.faults import Rig
from tests.support.proxy import Proxy
from tests.support.replication import PLAN, MemoryTargetTable, batch_of
from tests.support.waiting import wait_until
from tests.support.writers import Writer
from tests.unit.test_replicator_delivery import Bench

TRADES = 200 * 3600
COMMITS = 36
MB = 1 << 20

TABLES = """
[[tables]]
name = "orders"
watermark = "updated_at"
version = "updated_at"
"""


def _state_bytes(rig: Rig) -> int:
    return sum(file.stat().st_size for file in (rig.directory / "trades.duckdb.cdc").iterdir())


def test_an_hour_of_trades_is_waited_for_in_bounded_memory_and_store(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    """The hour's trades are written as fast as they can be: what is bounded goes by their number."""
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with (
        Proxy(clickhouse_server.native_port) as proxy,
        Rig(
            tmp_path,
            url,
            clickhouse_server.query,
            through=f"clickhouse://127.0.0.1:{proxy.port}",
            tables=TABLES,
            more="[limits]\nmax_bytes_per_second = 0",
        ) as rig,
        Writer(rig.source) as writer,
    ):
        writer.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, updated_at TIMESTAMP NOT NULL, v VARCHAR)")
        insert = "INSERT INTO orders SELECT i, now()::TIMESTAMP, 'order ' || i FROM range({}, {}) r(i)"
        writer.run(insert.format(0, 1))
        replica = rig.replicate()
        wait_until(lambda: rig.status() and _arrived(rig) == 1, "the first order to arrive")
        process = psutil.Process(replica.process.pid)
        memory, state = process.memory_info().rss, _state_bytes(rig)
        proxy.refuse()
        most = 0
        share = TRADES // COMMITS
        for first in range(1, TRADES, share):
            writer.run(insert.format(first, first + share))
            most = max(most, process.memory_info().rss)
        message = rig.said()
        wait_until(lambda: _spooled_rows(rig) >= TRADES, "the hour to be spooled", 60.0)
        most = max(most, process.memory_info().rss)
        spooled = _state_bytes(rig) - state
        proxy.heal()
        began = time.monotonic()
        wait_until(lambda: _arrived(rig) == TRADES + 1, "every order to arrive", 60.0)
        took = time.monotonic() - began
        most = max(most, process.memory_info().rss)
        wait_until(lambda: _spooled_rows(rig) == 0, "the spool to be empty")
        wait_until(lambda: _state_bytes(rig) - state < 2 * MB, "the store to be small again")
        seen = (
            f"{(most - memory) // MB} MB of memory more, {spooled // 1024} kB of store, "
            f"{(_state_bytes(rig) - state) // 1024} kB afterwards: {message}"
        )
        rig.settle("target away for an hour of 200 trades/s", took, seen, tables=["orders"])
        assert most - memory < 400 * MB, seen
        assert spooled < 60 * TRADES, seen


def _spooled_rows(rig: Rig) -> int:
    return sum(int(each["spool_rows"]) for each in rig.trouble_tables())


def _arrived(rig: Rig) -> int:
    try:
        return int(rig.query("SELECT uniqExact(id) FROM DB.orders"))
    except AssertionError:
        return 0


def test_however_long_the_target_is_away_three_batches_are_held() -> None:
    bench = Bench()
    back = threading.Event()
    encoded: list[int] = []

    class Counting(MemoryTargetTable):
        def encode(self, batch: Batch) -> Encoded:
            encoded.append(len(batch))
            return super().encode(batch)

    bench.delivery._target = Counting(bench.target, PLAN)
    began, attempts = bench.clock.monotonic(), 0

    def refuse(seqs: list[int]) -> TargetError | None:
        nonlocal attempts
        attempts += 1
        if bench.clock.monotonic() - began < 3600.0:
            return TargetError("insert", "trades", "away", "Wait", meaning=Meaning.RETRY)
        assert back.wait(20.0)
        return None

    bench.target.refuse = refuse
    bench.target.ping_error = lambda: TargetError("reach", "it", "away", "Wait", meaning=Meaning.RETRY)
    with Pipeline(bench.delivery, "trades") as pipeline:

        def read() -> None:
            for seq in range(1, 11):
                pipeline.put(batch_of([seq]))

        reading = threading.Thread(target=read)
        reading.start()
        wait_until(lambda: bench.clock.monotonic() - began >= 3600.0, "the hour to pass")
        wait_until(lambda: len(encoded) == DEPTH + 2, "the pipeline to be full")
        assert reading.is_alive()
        back.set()
        reading.join(20.0)
        assert pipeline.is_empty(None)
    assert bench.target.received() == list(range(1, 11))
    assert attempts < 3600 / 120 + 20, "the target is not asked more often than configured"


def test_the_waits_of_an_hour_follow_the_list() -> None:
    backoff, rng = Backoff(), random.Random(3)
    waits: list[float] = []
    while sum(waits) < 3600.0:
        waits.append(backoff.delay(len(waits) + 1, rng))
    assert len(waits) < 50
    assert all(wait <= 120.0 for wait in waits)

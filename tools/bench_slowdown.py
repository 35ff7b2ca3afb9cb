"""How much slower is a writer beside a replicator, and who takes it: the replicator, or ClickHouse?

`python -m tools.bench latency writer-slowdown` runs it; see `bench_latency`.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa

from cdc.change import Batch, Column, TableId, TablePlan
from cdc.config.endpoint import parse_endpoint
from cdc.target import TargetOptions, open_target
from tests.support.served import free_port
from tools.bench_latency import Cost, Endpoints, child, ended, go, served_python, serving, told
from tools.bench_writer import COLUMNS, INSERT


def print_slowdown(
    directory: Path,
    endpoint: Endpoints,
    seconds: float,
    alternations: int,
    niceness: int,
    updates: float,
    *,
    served: bool,
) -> None:
    """`served`: the writer serves its database in every arm, and the replicator reads it there."""
    print("commits a second alone, beside a replicator, beside its inserts alone; their ratios to alone")
    python = served_python() if served else Path(sys.executable)
    beside, fed = [], []
    cost: Cost | None = None
    for number in range(alternations):
        rates: dict[str, float] = {}
        arms = random.sample(["alone", "beside", "fed"], 3)
        if cost is None:  # how many inserts to send is known from a replicator
            arms.sort(key=lambda arm: arm == "fed")
        servers: dict[str, float] = {}
        for arm in arms:
            path, port = directory / f"{arm}-{number}.duckdb", free_port()
            with contextlib.ExitStack() as stack:
                settings = (path, 0, 0, 20, 1, updates, seconds, *(serving(port) if served else ()))
                writer = stack.enter_context(child("--write", *settings, python=python))
                other = None
                if arm == "beside":
                    source, way = (f"quack://127.0.0.1:{port}", "quack") if served else (path, "log")
                    given = (source, endpoint(2 * number), way, niceness)
                    other = stack.enter_context(child("--replicate", *given))
                elif arm == "fed" and cost is not None:
                    inserts = max(1, cost.rounds)
                    rounds, rows = inserts / cost.seconds, max(1, round(cost.rows / inserts))
                    other = stack.enter_context(child("--send", endpoint(2 * number + 1), rounds, rows))
                if other is not None:
                    go(other)
                used = _server_seconds()
                go(writer)
                rates[arm] = len(told(writer)["commits"]) / seconds
                servers[arm] = (_server_seconds() - used) / seconds
                if other is not None:
                    result = ended(other)
                    cost = Cost(**result["cost"]) if arm == "beside" else cost
        beside.append(rates["beside"] / rates["alone"])
        fed.append(rates["fed"] / rates["alone"])
        assert cost is not None
        print(
            f"{number}: {rates['alone']:6,.0f} {rates['beside']:6,.0f} {rates['fed']:6,.0f}"
            f"   {beside[-1]:.3f} {fed[-1]:.3f}   of a core: replicator {cost.share:.0%},"
            f" ClickHouse {servers['beside']:.0%} and {servers['fed']:.0%}, alone {servers['alone']:.0%}",
            flush=True,
        )
    reading = statistics.median(both / alone for both, alone in zip(beside, fed, strict=True))
    print(
        f"median ratio {statistics.median(beside):.3f}; of the inserts alone {statistics.median(fed):.3f};"
        f" beside the replicator to beside the inserts alone {reading:.3f}"
    )


def _server_seconds() -> float:
    """Processor time of the ClickHouse server that this process has started."""
    servers = [p for p in psutil.Process().children() if "clickhouse" in p.name()]
    return sum(server.cpu_times().user + server.cpu_times().system for server in servers)


def send(arguments: Sequence[str]) -> None:
    """The sender: says `ready`, and once told makes so many inserts a second until its input ends."""
    endpoint, per_second, rows = arguments
    with duckdb.connect(config={"arrow_lossless_conversion": True}) as connection:
        connection.execute(f"CREATE TABLE trades ({COLUMNS.format(key='')})")
        connection.execute(INSERT, [0, int(rows)])
        [block] = connection.sql("FROM trades").to_arrow_table().combine_chunks().to_batches()
        described = connection.execute("DESCRIBE trades").fetchall()
    columns = tuple(Column(name, kind, name != "trade_id") for name, kind, *_ in described)
    plan = TablePlan(TableId("main", "trades"), "trades", columns, ("trade_id",), columns[1])
    batch = Batch(plan, block, pa.array([1] * len(block), pa.uint64()), None, None, 0.0)
    stopped = threading.Event()
    with open_target([parse_endpoint(endpoint)], TargetOptions(auto_create=True)) as target:
        table = target.open(plan)
        encoded = table.encode(batch)
        print("ready", flush=True)
        sys.stdin.readline()

        def await_end() -> None:
            sys.stdin.read()
            stopped.set()

        threading.Thread(target=await_end, daemon=True).start()
        due = time.monotonic()
        while not stopped.wait(max(0.0, due - time.monotonic())):
            table.send(encoded)
            due = max(due + 1 / float(per_second), time.monotonic())
        print(json.dumps({}), flush=True)
        table.close()


if __name__ == "__main__":
    send(sys.argv[2:])

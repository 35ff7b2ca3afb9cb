"""What does a round of the log cost to read? The processor time of one thread, by what the round holds.

No server, no clock, no other process: a writer's whole log is made first; then it grows by some commits at a
time under a reader, which reads, acknowledges and rests, for what follows at once finds caches warm and costs
half. So two states of the code can be compared on a machine that has other work to do.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from cdc.change import BatchLimits, Mark
from cdc.replicator.plan import resolve
from cdc.source import open_source
from tools.bench_latency import Defaults
from tools.bench_writer import COLUMNS, INSERT, commit_trades

ROWS = 5_000
"""In the file before the log begins."""
WARM = 20
"""Rounds before those that count."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What each round holds."""

    commits: int
    rows: int
    """Of a commit."""
    updates: float
    """Updated rows for each inserted one."""

    def __str__(self) -> str:
        return f"{self.commits:3} commits of {self.rows:2} rows, {self.updates:4.0%} updates"


SHAPES = tuple(
    Shape(*parts)
    for parts in ((1, 1, 0), (8, 1, 0), (70, 1, 0), (4, 20, 0), (8, 1, 0.2), (70, 1, 0.2), (4, 20, 0.2))
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many count for each line")
    parser.add_argument("--rest-ms", type=float, default=20.0, help="between two rounds")
    options = parser.parse_args(arguments)
    print(f"{'a round':36} {'median':>8} {'90 %':>8} ms of processor")
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(prefix="cdc-rounds-") as name:
            costs = measure(Path(name), shape, options.rounds, options.rest_ms / 1e3)
        cuts = statistics.quantiles(costs, n=10)
        print(f"{shape!s:36} {1e3 * cuts[4]:8.2f} {1e3 * cuts[8]:8.2f}", flush=True)
    return 0


def measure(directory: Path, shape: Shape, rounds: int, rest_seconds: float) -> list[float]:
    """Seconds of processor time for each round."""
    written = directory / "written.duckdb"
    ends = write(written, shape, shape.commits * (rounds + WARM))
    log = Path(f"{written}.wal").read_bytes()
    path = directory / "read.duckdb"
    shutil.copy(written, path)
    costs: list[float] = []
    mark: Mark | None = None
    seen = 0
    with Path(f"{path}.wal").open("wb", buffering=0) as growing:
        growing.write(log[: ends[0]])
        with open_source(path) as source:
            (plan,) = resolve((), Defaults(), source.tables()).plans
            reader = source.open(plan)
            for round_, last in enumerate(ends[:: shape.commits]):
                growing.write(log[growing.tell() : last])
                time.sleep(rest_seconds)
                began = time.thread_time()
                for batch in reader.read(mark, BatchLimits(100_000, 32 << 20)):
                    mark, seen = batch.mark or mark, seen + len(batch)
                    reader.acknowledged(batch)
                if round_ >= WARM:
                    costs.append(time.thread_time() - began)
            reader.close()
    inserted = ROWS + shape.rows * (1 + (len(ends) - 1) // shape.commits * shape.commits)
    assert mark is not None
    assert int(mark.watermark) == inserted - 1, "the rounds were not read to their end"
    return costs


def write(path: Path, shape: Shape, commits: int) -> list[int]:
    """A file with `commits` in its log; where each of them ends."""
    ends: list[int] = []
    log = Path(f"{path}.wal")
    random.seed(1)
    with duckdb.connect(str(path)) as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("SET checkpoint_threshold = '10GB'")
        connection.execute(f"CREATE TABLE trades ({COLUMNS.format(key='')})")
        connection.execute(INSERT, [0, ROWS])
        connection.execute("CHECKPOINT")
        for number in range(commits):
            commit_trades(connection, ROWS + number * shape.rows, shape.rows, shape.updates)
            ends.append(log.stat().st_size)
    return ends

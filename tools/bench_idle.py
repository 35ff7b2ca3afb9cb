"""What does a replicator cost that has nothing to do? Its share of a core, and the growth of its memory.

It runs as `cdc run` beside a writer that holds the file and commits nothing, after a first part in which rows
were replicated and caches filled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from cdc.observe.status import read_status
from tests.support.waiting import wait_until

_WRITER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, seq BIGINT)")
connection.execute("INSERT INTO t SELECT i, i FROM range(100000) rows(i)")
print("ready", flush=True)
sys.stdin.read()
"""
_CONFIG = """
[database]
path = '{directory}/idle.duckdb'
[sync]
clickhouse_endpoint = 'chdb:///{chdb}'
[defaults]
watermark = "seq"
[target]
auto_create = true
[metrics]
port = 0
"""
ROWS = 100_000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench idle", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cdc-idle-") as name:
        directory = Path(name)
        config = directory / "idle.toml"
        chdb = (directory / "clickhouse").as_posix().lstrip("/")
        config.write_text(_CONFIG.format(directory=directory.as_posix(), chdb=chdb))
        command = [sys.executable, "-c", _WRITER, str(directory / "idle.duckdb")]
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
            (directory / "log").open("wb") as log,
        ):
            assert writer.stdout is not None
            writer.stdout.readline()
            run = [sys.executable, "-m", "cdc", "--config", str(config), "run"]
            with subprocess.Popen(run, stdout=log, stderr=log) as replicator:
                try:
                    _measure(replicator.pid, directory, options.minutes * 60.0, options.samples)
                finally:
                    replicator.terminate()
                    writer.terminate()
    return 0


def _measure(pid: int, directory: Path, seconds: float, samples: int) -> None:
    status_path = directory / "idle.duckdb.cdc" / "status.json"

    def replicated() -> bool:
        status = read_status(status_path)
        return status is not None and sum(table.rows for table in status.tables) >= ROWS

    wait_until(replicated, "the rows are replicated", 60.0)
    process = psutil.Process(pid)
    print(f"{'minutes':>8} {'% of a core':>12} {'memory MB':>10}")
    started, used = time.monotonic(), _cpu(process)
    first = process.memory_info().rss
    for number in range(1, samples + 1):
        time.sleep(max(0.0, started + number * seconds / samples - time.monotonic()))
        elapsed = time.monotonic() - started
        share = 100.0 * (_cpu(process) - used) / elapsed
        print(f"{elapsed / 60:8.1f} {share:12.2f} {process.memory_info().rss / 2**20:10.1f}", flush=True)
    growth = (process.memory_info().rss - first) / 2**20
    print(f"grown by {growth:.1f} MB in {seconds / 60:.1f} minutes")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The writer of `bench latency`, also of one that serves: needs DuckDB and nothing else, of any version.

`python tools/bench_writer.py PATH LOG_MB RATE ROWS KEYED UPDATES SECONDS [PORT TOKEN EXTENSION...]`
It fills the log, says `ready`, and once told commits at its rate; it prints each commit's last seq and time.
A rate of 0 is as fast as it can, with checkpoints as DuckDB makes them. With a port it serves its database.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb

COLUMNS = """trade_id UUID {key}, seq BIGINT, symbol VARCHAR, side VARCHAR, price DECIMAL(18,6),
    quantity BIGINT, status VARCHAR, executed_at TIMESTAMP_NS"""
INSERT = """INSERT INTO trades SELECT
    uuid(), i, 'SYM' || (i % 500), 'BUY', (i % 1000)::DECIMAL(18,6), i, 'NEW',
    current_timestamp::TIMESTAMP_NS FROM range($1, $2) AS r(i)"""


def write(arguments: Sequence[str]) -> None:
    """Write as the arguments tell, until the input ends."""
    path, log_mb, rate, rows, keyed, updates, seconds, *served = arguments
    connection = duckdb.connect(path, config={"allow_unsigned_extensions": "true"} if served else {})
    if int(rate):
        connection.execute("SET checkpoint_threshold = '10GB'")
    connection.execute(f"CREATE TABLE trades ({COLUMNS.format(key='PRIMARY KEY' * int(keyed))})")
    connection.execute(INSERT, [0, 20])
    connection.execute("CHECKPOINT")
    if served:
        serve(connection, *served)
    commit_trades(connection, 20, 20, 1.0)  # the replicator has done each kind of work before it is measured
    log, seq, size = Path(f"{path}.wal"), 40, int(rows)
    while int(log_mb) and (not log.exists() or log.stat().st_size < int(log_mb) << 20):
        connection.execute(INSERT, [seq, seq + 20])
        seq += 20
    print("ready", flush=True)
    sys.stdin.readline()
    commits: list[tuple[int, int]] = []
    started = time.monotonic()
    while (passed := time.monotonic() - started) < float(seconds):
        due = started + len(commits) * size / int(rate) if int(rate) else 0.0
        time.sleep(max(0.0, due - time.monotonic()))
        commit_trades(connection, seq, size, float(updates))
        seq += size
        commits.append((seq - 1, time.time_ns()))
    print(json.dumps({"commits": commits, "seconds": passed}), flush=True)
    sys.stdin.read()
    connection.close()


def serve(connection: duckdb.DuckDBPyConnection, port: str, token: str, *extensions: str) -> None:
    """Serve the database over Quack, as docs/quack.md has it."""
    for extension in extensions:
        connection.execute(f"LOAD '{extension}'")
    connection.execute(f"CALL quack_serve('quack:127.0.0.1:{port}', token = '{token}')")


def commit_trades(connection: duckdb.DuckDBPyConnection, seq: int, rows: int, updates: float) -> None:
    """One transaction of so many new trades from `seq` on, and so many updates of recent ones for each."""
    connection.execute("BEGIN")
    connection.execute(INSERT, [seq, seq + rows])
    for _ in range(_times(updates * rows)):
        old = random.randint(max(0, seq - 5_000), max(0, seq - 1))
        connection.execute("UPDATE trades SET status = 'FILLED' WHERE seq = ?", [old])
    connection.execute("COMMIT")


def _times(expected: float) -> int:
    return int(expected) + (random.random() < expected % 1)


if __name__ == "__main__":
    write(sys.argv[1:])

"""A writer process for tests: started, watched through its heartbeat, stopped or killed by its process id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from tests.support.waiting import wait_until

REFERENCE_WRITER = (sys.executable, str(Path(__file__).parents[2] / "tools" / "reference_writer.py"))
"""The command of tools/reference_writer.py; a Rust writer's is its binary alone."""


@dataclass(frozen=True, slots=True)
class WriterProcess:
    """A writer that was started; both reference writers write the same tables and the same heartbeat."""

    process: subprocess.Popen[str]
    database: Path

    @property
    def heartbeat(self) -> dict[str, Any]:
        """Its last heartbeat (pid, time, rows, updated, commits, last_seq, last_commit), else empty."""
        try:
            beat: dict[str, Any] = json.loads(Path(f"{self.database}.heartbeat").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return beat if beat["pid"] == self.process.pid else {}

    def wait_for_rows(self, rows: int) -> None:
        """Return once the heartbeat says that so many rows are committed by this process.

        Raises:
            AssertionError: the process ended before, or it took too long.
        """

        def written() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the writer ended: {self.process.communicate()[1]}")
            return bool(self.heartbeat) and self.heartbeat["rows"] >= rows

        wait_until(written, f"{rows} rows written", seconds=60)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, wait for that; its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait(timeout=60)


@contextmanager
def running_writer(
    database: Path, *options: object, command: Sequence[str] = REFERENCE_WRITER
) -> Iterator[WriterProcess]:
    """A writer on this database with these options; killed at the end if it still runs."""
    arguments = [*command, "--path", str(database), *map(str, options)]
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=bare_environment()
    ) as process:
        writer = WriterProcess(process, database)
        try:
            yield writer
        finally:
            writer.kill()


def run_writer(
    *options: object, command: Sequence[str] = REFERENCE_WRITER, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a writer until it ends by itself."""
    arguments = [*command, *map(str, options)]
    environment = bare_environment() | environ
    return subprocess.run(
        arguments, capture_output=True, text=True, env=environment, timeout=100, check=False
    )


def bare_environment() -> dict[str, str]:
    """This process's environment without the variables that writers read."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DUCKDB_")}


def read(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query on a database that no process holds."""
    with duckdb.connect(str(database)) as connection:
        return connection.execute(sql).fetchall()


IMPOSSIBLE = """SELECT trade_id FROM trades WHERE NOT (
    broker_id IN (SELECT broker_id FROM brokers) AND quantity > 0 AND price > 0 AND side IN ('BUY', 'SELL')
    AND updated_at >= executed_at AND CASE status
        WHEN 'NEW' THEN filled = 0 AND updated_at = executed_at
        WHEN 'PARTIAL' THEN filled BETWEEN 1 AND quantity - 1
        WHEN 'FILLED' THEN filled = quantity
        WHEN 'CANCELLED' THEN filled < quantity
        ELSE false END)"""


def check_trades(database: Path) -> int:
    """The number of trades, after a check that each of them is possible and none is there twice."""
    assert read(database, IMPOSSIBLE) == []
    ((count, ids, seqs),) = read(
        database, "SELECT count(*), count(DISTINCT trade_id), count(DISTINCT seq) FROM trades"
    )
    assert (ids, seqs) == (count, count)
    return int(count)

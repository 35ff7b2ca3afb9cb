"""A writer, `cdc run` and a ClickHouse, for changes that go unseen: made while the log is not followed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cdc.state import open_store
from tests.support.replica import Replica
from tests.support.waiting import wait_until
from tests.support.writers import CURRENT, Writer

COLUMNS = "id INTEGER PRIMARY KEY, seq BIGINT NOT NULL, s VARCHAR"
VALUES = "i, i, 'row ' || i"


class Scene:
    """One table `t` (id, seq, s), replicated with its deletions. A context manager.

    Args:
        url: of the target, for the replicator.
        query: asks the target round our code.
        columns, values: of the table, if it is another; the values are of row number `i`.
        sync, more: lines of the configuration.
        version: the writer's DuckDB, if it is another.
    """

    def __init__(
        self,
        directory: Path,
        url: str,
        query: Callable[[str], str],
        *,
        rows: int = 1000,
        columns: str = COLUMNS,
        values: str = VALUES,
        deletes: str = "replicate",
        sync: str = "",
        more: str = "",
        version: str = "",
    ) -> None:
        self.source = directory / "s.duckdb"
        self.config = directory / "c.toml"
        self.database = f"unseen_{os.getpid()}_{time.monotonic_ns()}"
        self._query = query
        self.url = url
        self.configure(url, deletes=deletes, sync=sync, more=more)
        self.writer = Writer(self.source, version or CURRENT)
        self.writer.run(f"CREATE TABLE t ({columns})")
        self.writer.run(f"INSERT INTO t SELECT {values} FROM range({rows}) r(i)")
        self.writer.run("CHECKPOINT")

    def configure(
        self, url: str, *, deletes: str = "replicate", sync: str = "", more: str = "", create: bool = True
    ) -> None:
        self.config.write_text(
            f"""
[database]
path = "{self.source}"
[logging]
log_format = "json"
[sync]
clickhouse_endpoint = "{url}"
deletes = "{deletes}"
{"" if "reconcile_interval_sec" in sync else "reconcile_interval_sec = 1"}
{sync}
[error_handling]
retry_first_ms = 100
retry_first_attempts = 1
retry_backoff_sec = [1]
breaker_open_sec = 1
halted_sec = 0.5
[target]
database = "{self.database}"
auto_create = {str(create).lower()}
connect_timeout_sec = 2
send_timeout_sec = 5
receive_timeout_sec = 10
[metrics]
port = 0
[defaults]
watermark = "seq"
[alerts]
rows_per_second = 0
{more}
"""
        )

    def verify(self, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cdc", "-c", str(config), "verify", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        self._query(f"DROP DATABASE IF EXISTS {self.database}")

    def replicate(self, **options: Any) -> Replica:
        return Replica(self.config, **options)

    def deliver_once(self, seconds: float = 30.0) -> None:
        """Deliver everything there is, and end."""
        with self.replicate() as replica:
            self.wait_caught_up(replica, seconds)
            assert replica.stop() == 0, replica.log

    def commit(self, *statements: str) -> None:
        for sql in statements:
            self.writer.run(sql)

    def unseen(self, *statements: str) -> None:
        """Each in a checkpoint of its own, and a row after them."""
        for sql in statements:
            self.commit(sql, "CHECKPOINT")
        self.commit("INSERT INTO t SELECT max(id) + 1, max(seq) + 1, 'last' FROM t", "CHECKPOINT")

    def note(self, reason: str) -> None:
        """Have it remembered that changes went unseen, as the replicator does."""
        with open_store(Path(f"{self.source}.cdc"), mode="write") as store:
            [table] = store.tables()
            store.breaks(table.source).note(table.table, reason)

    def status(self) -> dict[str, Any]:
        """The status file; empty where there is none."""
        path = Path(f"{self.source}.cdc/status.json")
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def table(self) -> dict[str, Any]:
        return next(iter(self.status().get("tables", ())), {})

    def alert(self) -> dict[str, Any] | None:
        """The alert `tail_broken`, while it stands."""
        alerts = self.status().get("alerts", ())
        return next((each for each in alerts if each["name"] == "tail_broken"), None)

    def wait_caught_up(self, replica: Replica, seconds: float = 30.0) -> None:
        wait_until(
            lambda: (
                self.status().get("pid") == replica.process.pid
                and self.table().get("state") == "running"
                and self.table().get("last_cycle_at") is not None
            ),
            "the replicator to catch up",
            seconds,
        )

    def wait_mended(self, replica: Replica, seconds: float = 40.0) -> None:
        """Until this process has made both sides equal, and forgotten the break."""

        def mended() -> bool:
            assert replica.process.poll() is None, replica.log
            known = self.table()
            return (
                self.status().get("pid") == replica.process.pid
                and known.get("reconciled_at") is not None
                and known.get("broken_since") is None
                and self.alert() is None
            )

        wait_until(mended, "the table to be reconciled", seconds)

    def wait_step(self, step: str, seconds: float = 30.0) -> None:
        """Until the table is in this step of its reconciliation."""
        wait_until(
            lambda: self.table().get("reconciling") == step,
            f"the table to be {step}; it is {self.table()}",
            seconds,
        )

    def wait_alert(self, words: str, seconds: float = 30.0) -> dict[str, Any]:
        """The alert, once its message or remedy has these words."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            alert = self.alert()
            found[:] = [alert] if alert and words in f"{alert['message']} {alert['remedy']}" else []
            return bool(found)

        wait_until(told, f"an alert that says {words!r}; it is {self.alert()}", seconds)
        return found[0]

    def there(self) -> list[tuple[str, ...]]:
        rows = self.writer.run("SELECT id, seq, s FROM t ORDER BY id")
        return [tuple(str(value) for value in row) for row in rows]

    def here(self) -> list[tuple[str, ...]]:
        sql = f"SELECT id, seq, s FROM {self.database}.t FINAL WHERE _cdc_deleted = 0 ORDER BY id"
        return [tuple(line.split("\t")) for line in self._query(sql).splitlines()]

    def query(self, sql: str) -> str:
        return self._query(sql.replace("DB", self.database))

"""`cdc run` over a database that its writer serves, as a process, and the commands on it. [F2 F5 L1]"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc.errors import ExitCode
from cdc.observe.status import Status, read_status
from tests.support.served import TOKEN, ServedWriter, free_port
from tests.support.waiting import wait_until

ROWS = 20_000
CONFIG = """
[database]
path = "{address}"
[served]
compare_interval_sec = 0.5
compare_percent = 100
[sync]
clickhouse_endpoint = 'chdb:///{target}'
deletes = "replicate"
[defaults]
watermark = "seq"
[target]
auto_create = true
[metrics]
port = 0
"""


@dataclass(frozen=True)
class Place:
    directory: Path
    address: str

    @property
    def config(self) -> Path:
        return self.directory / "cdc.toml"

    def configure(self) -> None:
        target = (self.directory / "clickhouse").as_posix().lstrip("/")
        self.config.write_text(CONFIG.format(address=self.address, target=target))
        secrets = self.directory / "secrets.toml"
        secrets.write_text(f'[auth]\nquack_token = "{TOKEN}"\n')
        secrets.chmod(0o600)

    def cdc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cdc", "--config", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    @contextmanager
    def replicator(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.directory / "run.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cdc", "--config", str(self.config), "run"], stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def state(self) -> Path:
        [found] = self.directory.glob("quack-127.0.0.1-*.cdc")
        return found

    def status(self) -> Status | None:
        found = list(self.directory.glob("quack-127.0.0.1-*.cdc/status.json"))
        return read_status(found[0]) if found else None

    def rows(self) -> int:
        status = self.status()
        return 0 if status is None else sum(table.rows for table in status.tables)

    def rows_of(self, table: str) -> int:
        status = self.status()
        found = () if status is None else status.tables
        return sum(each.rows for each in found if each.table == f"main.{table}")

    def log(self) -> str:
        return (self.directory / "run.log").read_text()


def test_what_is_served_arrives_with_its_updates_and_deletions_and_is_equal(tmp_path: Path) -> None:
    port = free_port()
    place = Place(tmp_path, f"quack://127.0.0.1:{port}")
    place.configure()
    with ServedWriter(tmp_path / "t.duckdb", port=port) as writer:
        writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT NOT NULL, day DATE, u UUID)")
        writer.run(f"INSERT INTO t SELECT i, i, DATE '2020-02-29', uuid() FROM range({ROWS}) AS r(i)")
        assert place.cdc("config", "check").returncode == 0
        assert "asked of the server that its writer runs" in place.cdc("doctor").stdout
        assert "table `default`.`t` is missing" in place.cdc("schema", "diff").stdout
        shown = place.cdc("config", "show")
        assert place.address in shown.stdout
        assert TOKEN not in shown.stdout
        with place.replicator() as running:
            wait_until(lambda: place.rows() >= ROWS, "the first copy", 60)
            writer.run("UPDATE t SET day = DATE '2021-01-01' WHERE id = 5")
            writer.run("DELETE FROM t WHERE id % 1000 = 7")
            writer.run(f"INSERT INTO t VALUES ({ROWS}, {ROWS}, NULL, NULL)")
            wait_until(lambda: "reconciled" in place.log(), "the comparison", 60)
            wait_until(lambda: place.rows() > ROWS, "the new row", 60)
            writer.run("CREATE TABLE later (id INTEGER PRIMARY KEY, seq BIGINT NOT NULL)")
            writer.run("INSERT INTO later VALUES (1, 1)")
            wait_until(lambda: place.rows_of("later") == 1, "a table that was created meanwhile", 60)
            wait_until(lambda: place.cdc("status").returncode == 0, "all to be well", 60)
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
        assert TOKEN not in place.log()
        verified = place.cdc("verify")
        assert verified.returncode == 0, (verified.stdout, verified.stderr, place.log()[-3000:])
        assert place.cdc("schema", "diff").stdout == "main.later: as needed\nmain.t: as needed\n"
        asked = place.cdc("query", "SELECT id, day FROM t WHERE id IN (5, 7) ORDER BY id", "--format", "csv")
        assert asked.stdout.split() == ['"id","day"', '5,"2021-01-01"'], asked.stderr
        assert "t" in place.cdc("query", "--tables", "--format", "csv").stdout


def test_a_server_that_is_away_is_waited_for_and_a_wrong_token_is_told(tmp_path: Path) -> None:
    port = free_port()
    place = Place(tmp_path, f"quack://127.0.0.1:{port}")
    place.configure()
    asked = place.cdc("query", "SELECT 1")
    assert asked.returncode == ExitCode.SOURCE.value
    assert "gives no answer: connection refused" in asked.stderr
    with place.replicator() as running:
        wait_until(lambda: "gives no answer" in place.log(), "the replicator to say so", 60)
        assert running.poll() is None
        with ServedWriter(tmp_path / "t.duckdb", port=port) as writer:
            writer.run("CREATE TABLE t (id INTEGER PRIMARY KEY, seq BIGINT NOT NULL)")
            writer.run("INSERT INTO t VALUES (1, 1)")
            wait_until(lambda: place.rows() == 1, "the row", 60)
        with ServedWriter(tmp_path / "t.duckdb", port=port) as writer:
            writer.run("INSERT INTO t VALUES (2, 2)")
            wait_until(lambda: place.rows() >= 2, "the row after the writer's restart", 60)
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0
            environment = {**os.environ, "DUCKDB_QUACK_TOKEN": "another-token"}
            command = [sys.executable, "-m", "cdc", "--config", str(place.config), "run"]
            told = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=100, env=environment
            )
            assert told.returncode == ExitCode.SOURCE.value
            assert "refuses the token" in told.stderr
            assert "another-token" not in told.stderr

"""`cdc up` is stopped: the writer first, then the replicator, once the rest is delivered. [P5] [issue 12]"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdc.service.running import DRAIN_SECONDS
from tests.support.clickhouse import ClickHouseServer
from tests.support.places import Place, place
from tests.support.reference_writer import REFERENCE_WRITER, bare_environment, read
from tests.support.supervision import marked
from tests.support.waiting import wait_until

_CONFIG = """
[database]
path = "{database}"
[sync]
clickhouse_endpoint = "clickhouse://127.0.0.1:{port}"
[target]
database = "{name}"
auto_create = true
[metrics]
port = 0
[defaults]
watermark = "seq"
[[tables]]
name = "trades"
[programs.writer]
command = {command}
"""


@dataclass
class Installed:
    directory: Path
    place: Place

    @property
    def database(self) -> Path:
        return self.directory / "trades.duckdb"

    @property
    def log(self) -> str:
        logs = (self.directory / "up.log", *self.directory.glob("trades.duckdb.cdc/supervisor/*.log"))
        return "\n".join(path.read_text(errors="replace") for path in logs if path.exists())

    def arrived(self) -> int:
        try:
            return int(self.place.query(f"SELECT count() FROM {self.place.database}.trades FINAL"))
        except AssertionError:  # no such table yet
            return 0

    def committed(self) -> int:
        ((count,),) = read(self.database, "SELECT count(*) FROM trades")
        return int(count)


@pytest.fixture
def installed(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Installed]:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with place(url, clickhouse_server.query) as found:
        yield Installed(tmp_path, found)


@contextmanager
def up(installed: Installed, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`cdc up` at work."""
    writer = (
        *REFERENCE_WRITER,
        "--path",
        str(installed.database),
        "--rate",
        "400",
        "--rows-per-commit",
        "20",
    )
    config = installed.directory / "cdc.toml"
    config.write_text(
        _CONFIG.format(
            database=installed.database,
            port=port,
            name=installed.place.database,
            command=json.dumps(list(writer)),
        )
    )
    command = [sys.executable, "-m", "cdc", "--config", str(config), "up"]
    with (installed.directory / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=bare_environment())
    try:
        wait_until(lambda: installed.arrived() > 200, f"rows to arrive\n{installed.log}", 60.0)
        yield process
    finally:
        process.kill()
        process.wait()
        for left in marked(installed.directory, ("writer:", "replicator:")):
            left.kill()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_after_a_clean_stop_the_target_has_every_row_of_the_source(
    installed: Installed, clickhouse_server: ClickHouseServer, signum: signal.Signals
) -> None:
    with up(installed, clickhouse_server.native_port) as process:
        process.send_signal(signum)
        assert process.wait(60.0) == 0
        assert installed.arrived() == installed.committed(), installed.log
    assert "everything is delivered" in installed.log


def test_with_clickhouse_hung_it_ends_all_the_same_and_says_what_is_left(
    installed: Installed, clickhouse_server: ClickHouseServer
) -> None:
    with up(installed, clickhouse_server.native_port) as process:
        with clickhouse_server.frozen():
            time.sleep(1.0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DRAIN_SECONDS + 50.0) == 0
        assert "ended before all was delivered" in installed.log
        assert "main.trades" in installed.log
    committed = installed.committed()
    command = [sys.executable, "-m", "cdc", "--config", str(installed.directory / "cdc.toml"), "run"]
    with subprocess.Popen(command, env=os.environ | bare_environment()) as again:
        try:
            wait_until(lambda: installed.arrived() == committed, "the next start to deliver the rest", 60.0)
        finally:
            again.terminate()


def test_a_second_signal_hurries(installed: Installed, clickhouse_server: ClickHouseServer) -> None:
    with up(installed, clickhouse_server.native_port) as process, clickhouse_server.frozen():
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(30.0)
        assert time.monotonic() - began < DRAIN_SECONDS

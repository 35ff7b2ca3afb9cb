"""`cdc status` and /readyz of a real replicator agree; neither is well while anything is not. [issue 12]"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cdc.observe.status import Status, TableStatus, read_status
from tests.support.clickhouse import ClickHouseServer
from tests.support.commands import Commands
from tests.support.places import Place, place
from tests.support.replica import Replica
from tests.support.waiting import wait_until
from tests.support.writers import Writer

_CONFIG = """
[database]
path = "{database}"
[sync]
clickhouse_endpoint = "clickhouse://127.0.0.1:{port}"
deletes = "replicate"
[defaults]
watermark = "seq"
[target]
database = "{name}"
auto_create = true
[metrics]
port = 0
[error_handling]
halted_sec = 1
{more}
"""


@dataclass
class Scene:
    """A live file with its writer, a target of its own, and the configuration of both."""

    directory: Path
    place: Place
    server: ClickHouseServer

    @property
    def database(self) -> Path:
        return self.directory / "t.duckdb"

    def configure(self, more: str = "") -> Path:
        path = self.directory / "c.toml"
        path.write_text(
            _CONFIG.format(
                database=self.database, port=self.server.native_port, name=self.place.database, more=more
            )
        )
        return path

    def command(self, *arguments: str) -> tuple[int, str]:
        result = Commands(self.directory / "c.toml", self.place)(*arguments)
        return result.exit_code, result.output

    def status(self) -> Status | None:
        return read_status(self.directory / "t.duckdb.cdc" / "status.json")

    def readyz(self) -> tuple[int, str]:
        status = self.status()
        assert status is not None
        assert status.page is not None
        where = urlsplit(status.page)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        status = self.status()
        return status is not None and status.page is not None and self.readyz()[0] == 200

    def metric(self, name: str) -> float:
        status = self.status()
        assert status is not None
        assert status.page is not None
        where = urlsplit(status.page)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        values = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)]
        return max(values, default=float("nan"))

    @contextmanager
    def running(self, more: str = "") -> Iterator[Replica]:
        with Replica(self.configure(more)) as replica:

            def began() -> bool:
                status = self.status()
                assert replica.process.poll() is None, replica.log
                return status is not None and status.pid == replica.process.pid and status.state == "running"

            wait_until(began, "the replicator to begin", 40.0)
            yield replica


@pytest.fixture
def scene(tmp_path: Path, clickhouse_server: ClickHouseServer) -> Iterator[Scene]:
    url = f"clickhouse://127.0.0.1:{clickhouse_server.native_port}"
    with place(url, clickhouse_server.query) as found:
        yield Scene(tmp_path, found, clickhouse_server)


def trades(writer: Writer) -> None:
    writer.run("CREATE TABLE trades (id INTEGER PRIMARY KEY, seq BIGINT)")
    writer.run("INSERT INTO trades SELECT i, i FROM range(100) r(i)")


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('name = "trades"\nwatermark = "sqe"', "Did you mean seq?"),
        ('name = "trades"\nkey = ["idd"]', "Did you mean id?"),
        ('name = "trade"', "Did you mean trades?"),
        ('name = "trades"\ncolumns = ["id", "seq", "prise"]', "which is not a column"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_listed_table_that_cannot_be_replicated_is_said_by_status_and_readiness(
    scene: Scene, listed: str, said: str, alone: bool
) -> None:
    """[case 27]"""
    more = f"[[tables]]\n{listed}" + ("" if alone else '\n[[tables]]\nname = "others"')
    with Writer(scene.database) as writer:
        trades(writer)
        writer.run("CREATE TABLE others (id INTEGER PRIMARY KEY, seq BIGINT)")
        with scene.running(more):
            if not alone:
                wait_until(lambda: any(t.state == "running" for t in _tables(scene)), "the other to run", 30)
            code, shown = scene.command("status")
            ready, lines = scene.readyz()
    assert (code, ready) == (1, 503)
    assert said in shown.replace("\n", " ")
    assert said in lines


def _tables(scene: Scene) -> list[TableStatus]:
    status = scene.status()
    return [] if status is None else list(status.tables)


def test_a_replicator_with_nothing_to_do_is_not_well(scene: Scene) -> None:
    with Writer(scene.database) as writer:
        writer.run("CREATE TABLE notes (words VARCHAR)")
        with scene.running():
            code, shown = scene.command("status")
            assert (code, scene.readyz()[0]) == (1, 503)
            assert (
                "left out: main.notes: watermark names 'seq', which is not a column. Its columns are: words"
                in (shown)
            )


@pytest.mark.parametrize("more", ["", "[spool]\nenabled = false"], ids=["spooling", "without a spool"])
def test_status_says_within_seconds_that_delivery_stands_still(scene: Scene, more: str) -> None:
    """[case 31]"""
    with Writer(scene.database) as writer:
        trades(writer)
        with scene.running(more) as replica:
            wait_until(scene.is_ready, "it to be well", 40.0)
            assert scene.command("status")[0] == 0
            with scene.server.frozen():
                began, number = time.monotonic(), 1000
                while scene.command("status")[0] == 0:
                    writer.run(f"INSERT INTO trades VALUES ({number}, {number})")
                    number += 1
                    assert time.monotonic() - began < 15.0, "nothing is said for 15 s"
                    time.sleep(0.2)
                took = time.monotonic() - began
                wait_until(lambda: _alerts(scene) & {"delivery_stalled", "target_away"}, "the alert", 15.0)
                code, shown = scene.command("status")
                ready, lines = scene.readyz()
                assert (code, ready) == (1, 503)
                assert "trades" in lines
                assert scene.metric("cdc_target_waiting_seconds") > 3.0
            print(f"said after {took:.1f} s")
            wait_until(lambda: scene.command("status")[0] == 0, "it to be well again", 90.0)
            assert scene.is_ready()
            assert replica.process.poll() is None
    assert shown


def _alerts(scene: Scene) -> set[str]:
    status = scene.status()
    return set() if status is None else {alert.name for alert in status.alerts}


def test_a_suspended_replicator_is_said_at_once(scene: Scene) -> None:
    with Writer(scene.database) as writer:
        trades(writer)
        with scene.running() as replica:
            wait_until(scene.is_ready, "it to be well", 40.0)
            os.kill(replica.process.pid, signal.SIGSTOP)
            try:
                wait_until(lambda: scene.command("status")[0] == 1, "it to be said", 5.0)
                _, shown = scene.command("status")
            finally:
                os.kill(replica.process.pid, signal.SIGCONT)
            assert "SUSPENDED" in shown
            assert f"kill -CONT {replica.process.pid}" in shown
            wait_until(lambda: scene.command("status")[0] == 0, "it to go on", 20.0)

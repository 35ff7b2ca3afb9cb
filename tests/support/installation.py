"""A whole installation under `cdc up`: the Rust writer, the replicator, a real ClickHouse, short patience."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdc.errors import StateError
from cdc.supervisor import ask
from tests.support.clickhouse import ClickHouseServer
from tests.support.reference_writer import bare_environment
from tests.support.supervision import marked
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PROGRAMS = ("writer", "replicator")
MEMORY_MB = 192
RATE = "--rate 200 --rows-per-commit 20"

START = 'exec "$0" --path "$1" $(cat "$2")'
"""The writer's options are read from a file at each start, so that one start can be given others."""

CONFIG = """
[database]
path = "{database}"
[sync]
clickhouse_endpoint = "clickhouse://127.0.0.1:{clickhouse}"
[target]
database = "{target}"
auto_create = true
[metrics]
port = {page}
[alerts]
rows_per_second = 0
[defaults]
watermark = "updated_at"
version = "updated_at"

[programs.writer]
command = {command}
grace_sec = 1
[programs.writer.health]
interval_sec = 0.5
unresponsive_sec = 1.5
[[programs.writer.health.checks]]
kind = "heartbeat"
path = "{database}.heartbeat"
max_age_sec = 30
[programs.writer.restart]
backoff_initial_sec = 0.2
backoff_max_sec = 0.5
stable_sec = 1
[programs.writer.limits]
memory_mb = {memory_mb}
"""


class Installation:
    """`cdc up` over one directory; the supervisor may be killed and begun again."""

    def __init__(self, directory: Path, writer: Path, clickhouse: ClickHouseServer) -> None:
        self.directory = directory
        self.database = directory / "trades.duckdb"
        self.target = f"up_{os.getpid()}"
        self._config = directory / "cdc.toml"
        self._options = directory / "options"
        self._clickhouse = clickhouse
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.give(RATE)
        self._config.write_text(
            CONFIG.format(
                database=self.database,
                clickhouse=clickhouse.native_port,
                target=self.target,
                page=free_port(),
                command=json.dumps(
                    ["/bin/sh", "-c", START, *map(str, (writer, self.database, self._options))]
                ),
                memory_mb=MEMORY_MB,
            )
        )

    def give(self, options: str) -> None:
        """The writer's options from its next start on."""
        self._options.write_text(options)

    def begin(self) -> None:
        """Start `cdc up` and wait until it answers."""
        with (self.directory / "up.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                self._command("up"), cwd=ROOT, stdout=log, stderr=log, env=bare_environment()
            )
        wait_until(self._answers, "the supervisor answers", 60)

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        assert self._supervisor is not None
        return self._supervisor

    def cdc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of a person."""
        return subprocess.run(
            self._command(*arguments),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env=bare_environment(),
        )

    def status(self, name: str = "writer") -> dict[str, Any]:
        return dict(self._ask()["programs"][name])

    def pid(self, name: str = "writer") -> int:
        pid = self.status(name)["pid"]
        assert isinstance(pid, int)
        return pid

    def restart_writer(self) -> None:
        """Restart it, and return as soon as it is another process."""
        old = self.pid()
        self._ask("restart", "writer")
        wait_until(lambda: self.status()["pid"] not in (old, None), "the writer is another process", 60)

    def wait_for(self, state: str, name: str = "writer") -> None:
        wait_until(lambda: self.status(name)["state"] == state, f"{name} is {state}", 60)

    def alerts(self) -> set[str]:
        """The names of the alerts that stand."""
        return {alert["name"] for alert in self._ask()["alerts"]}

    def log(self) -> str:
        """What the supervisor told, over all its lives."""
        return (self.directory / "up.log").read_text()

    def arrived(self) -> int:
        """The newest trade in the target; 0 before there is one."""
        try:
            return int(self._clickhouse.query(f"SELECT max(seq) FROM {self.target}.trades"))
        except AssertionError:  # no such table yet
            return 0

    def wait_for_more(self) -> None:
        """Return once a trade arrived that was not there when this was called."""
        before = self.arrived()
        wait_until(lambda: self.arrived() > before, f"a trade after {before} arrives", 60)

    def outage(self, fault: str, cause: Callable[[], object], name: str = "writer") -> None:
        """Let `cause` break a program, wait until it works again as another process, print both times."""
        old, began = self.pid(name), time.monotonic()
        cause()

        def noticed() -> bool:
            status = self.status(name)
            return bool(status["state"] != "running" or status["pid"] != old)

        wait_until(noticed, f"{fault} is noticed", 60)
        noticed_after = time.monotonic() - began
        wait_until(lambda: self.status(name)["pid"] not in (old, None), f"{name} is started again", 60)
        self.wait_for_more()
        back_after = time.monotonic() - began
        print(f"{fault}: noticed after {noticed_after:.1f} s, rows arrive again after {back_after:.1f} s")
        self.wait_for("running", name)

    def _ask(self, command: str = "status", name: str | None = None) -> dict[str, Any]:
        directory = self.directory / "trades.duckdb.cdc" / "supervisor"
        return ask(directory, {"command": command, "name": name})

    def _answers(self) -> bool:
        assert self.supervisor.poll() is None, self.log()
        try:
            pid: int = self._ask()["pid"]
        except StateError:
            return False
        return pid == self.supervisor.pid

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cdc", "--config", str(self._config), *arguments]


@contextmanager
def installed(directory: Path, writer: Path, clickhouse: ClickHouseServer) -> Iterator[Installation]:
    """An installation with both programs at work; nothing of it is left at the end."""
    installation = Installation(directory, writer, clickhouse)
    clickhouse.query(f"CREATE DATABASE {installation.target}")
    try:
        installation.begin()
        for name in PROGRAMS:
            installation.wait_for("running", name)
        installation.wait_for_more()
        yield installation
    finally:
        if installation._supervisor is not None:
            installation.supervisor.kill()
            installation.supervisor.wait()
        for process in marked(directory, tuple(f"{name}:" for name in PROGRAMS)):
            process.kill()
        clickhouse.query(f"DROP DATABASE {installation.target}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

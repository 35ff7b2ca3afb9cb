"""A Windows writer that serves Quack and `cdc up` beside it: ClickHouse is equal after the writer was killed.

    python -m tools.windows_end_to_end

Three Windows processes run under wine (see windows.sh): supervisor, writer and replicator; ClickHouse is this
system's, over TCP. Exit code 1: something did not come out, and the logs are printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cdc.stop_event import VARIABLE, name_of
from tests.support.clickhouse import ClickHouseServer, make_certificates, running_server
from tests.support.served import TOKEN, free_port
from tools.ending import leaving_nothing

ROOT = Path(__file__).parents[1]
SECONDS = 120.0


def main() -> int:
    with leaving_nothing(), tempfile.TemporaryDirectory(prefix="cdc-windows-") as directory:
        place = Path(directory)
        with running_server(place / "server", make_certificates(place / "certificates")) as server:
            run = _Run(place / "run", server)
            try:
                run.all()
            except (AssertionError, subprocess.SubprocessError) as error:
                print(f"FAILED: {error}")
                for log in sorted(run.directory.rglob("*.log")):
                    print(f"== {log.name}\n{log.read_text(errors='replace')[-6000:]}")
                return 1
    print("equal")
    return 0


class _Run:
    def __init__(self, directory: Path, server: ClickHouseServer) -> None:
        self.directory = directory
        directory.mkdir()
        self._server = server
        self._port = free_port()
        self._up: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, "DUCKDB_QUACK_TOKEN": TOKEN}
        where = self._windows("--served", "-c", _WHERE).stdout.splitlines()
        python, served = where[0], where[1]
        extensions = [part for each in where[2:] for part in ("--extension", each)]
        writer = [
            python,
            _windows_path(ROOT / "tools" / "reference_writer.py"),
            *("--path", _windows_path(directory / "t.duckdb"), "--rate", "200", "--rows-per-commit", "20"),
            *("--serve", f"quack:127.0.0.1:{self._port}", *extensions),
        ]
        (directory / "cdc.toml").write_text(
            f"""
[database]
path = "quack://127.0.0.1:{self._port}"
[sync]
clickhouse_endpoint = "clickhouse://127.0.0.1:{server.native_port}"
[[tables]]
name = "trades"
watermark = "seq"
version = "updated_at"
[[tables]]
name = "brokers"
watermark = "broker_id"
[target]
auto_create = true
[logging]
log_path = {json.dumps(_windows_path(directory / "cdc.log"))}
[programs.writer]
command = {json.dumps(writer)}
grace_sec = 30
[programs.writer.environment]
PYTHONPATH = {json.dumps(served)}
DUCKDB_QUACK_TOKEN = "{TOKEN}"
[programs.writer.limits]
disk_paths = []
"""
        )
        self._config = _windows_path(directory / "cdc.toml")

    def all(self) -> None:
        print(self._windows("-m", "cdc", "--version").stdout.strip())
        with (self.directory / "up.log").open("wb") as log:
            up = subprocess.Popen(
                [ROOT / "tools" / "windows.sh", "-m", "cdc", "--config", self._config, "up"],
                cwd=self.directory,
                env={**self._environment, VARIABLE: _EVENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._up = up
            self._until(lambda: self._rows() > 1000, "1,000 trades in ClickHouse")
            print(f"{self._rows():,} trades have arrived; the writer is killed")
            before = self._beat()["pid"]
            self._windows("-c", f"import os; os.kill({before}, 9)")
            self._until(lambda: self._beat()["pid"] != before, "the writer to be started again")
            arrived = self._rows()
            self._until(lambda: self._rows() > arrived + 1000, "1,000 more trades")
            print(f"{self._rows():,} trades have arrived")
            self._cdc("verify")
            self._cdc("ctl", "stop", "writer")
            self._until(lambda: " updates in " in self._log(), "the writer to end in order")
            print("the writer has ended in order")
        finally:
            self._windows("-c", f"from cdc.stop_event import set_event; set_event({_EVENT!r})", check=False)
            try:
                print(f"cdc up ended with {up.wait(90)}")
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            if self._up is not None and self._up.poll() is not None:
                raise AssertionError("cdc up has ended")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {SECONDS} s in vain for {what}")
            time.sleep(0.5)

    def _rows(self) -> int:
        if str(self._server.query("EXISTS TABLE trades")).strip() != "1":
            return 0
        return int(str(self._server.query("SELECT count() FROM trades FINAL")))

    def _beat(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.directory / "t.duckdb.heartbeat").read_text())
        except (OSError, ValueError):
            return {"pid": 0}
        return found

    def _log(self) -> str:
        return "".join(log.read_text(errors="replace") for log in self.directory.rglob("*.log"))

    def _cdc(self, *arguments: str, check: bool = True) -> str:
        done = self._windows("-m", "cdc", "--config", self._config, *arguments, check=check)
        print(f"$ cdc {' '.join(arguments)}\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def _windows(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [ROOT / "tools" / "windows.sh", *arguments],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done


_EVENT = name_of("end-to-end")
_WHERE = """
import sys, duckdb, pathlib
served = pathlib.Path(duckdb.__file__).parents[1]
print(sys.executable)
print(served)
for name in ("httpfs", "quack"):
    print(next(served.glob(f"**/{name}.duckdb_extension")))
"""


def _windows_path(path: Path) -> str:
    """Wine shows this system's root as drive Z."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


if __name__ == "__main__":
    sys.exit(main())

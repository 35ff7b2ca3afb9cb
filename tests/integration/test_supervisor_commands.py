"""The commands as a person uses them: `cdc up`, `supervise`, `ctl`, `check-file` and `service`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.source.format.headers import HEADERS_SIZE
from tests.support.supervision import alive, marked
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]

WRITER = """
import duckdb, pathlib, signal, sys, threading
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
con = duckdb.connect(sys.argv[1], config={"threads": 1})
con.execute("CREATE TABLE IF NOT EXISTS trades AS SELECT i, md5(i::VARCHAR) AS t FROM range(50000) r(i)")
con.execute("CHECKPOINT")
while not done.wait(0.05):
    con.execute("INSERT INTO trades VALUES (1, 'one')")
    pathlib.Path(sys.argv[2]).touch()
con.close()
"""
SLEEP = "import signal, threading; e = threading.Event(); signal.signal(15, lambda *_: e.set())\n"
SLEEP += "while not e.wait(0.05): pass"


class Cdc:
    """The command line over one configuration, and the supervisor it started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "trades.duckdb"
        self.config = directory / "config.toml"
        beat = directory / "beat"
        writer = [sys.executable, "-c", WRITER, str(self.database), str(beat)]
        self.config.write_text(
            f"""
[database]
path = "{self.database}"
[sync]
clickhouse_endpoint = "http://127.0.0.1:1"
[state]
directory = "{directory / "state"}"
[programs.writer]
command = {json.dumps(writer)}
[[programs.writer.health.checks]]
kind = "heartbeat"
path = "{beat}"
[programs.writer.restart]
backoff_initial_sec = 0.1
[programs.replicator]
command = {json.dumps([sys.executable, "-c", SLEEP])}
after = ["writer"]
"""
        )
        self.supervisor: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cdc", "--config", str(self.config), *arguments]

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def begin(self, command: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self.supervisor = subprocess.Popen(self.command(command), cwd=ROOT, stdout=log, stderr=log)
        wait_until((self.directory / "state/supervisor/control.json").exists, "it listens")

    def status(self, name: str) -> dict[str, Any]:
        path = self.directory / "state" / "supervisor" / "status.json"
        return dict(json.loads(path.read_text())["programs"][name]) if path.exists() else {"state": None}

    def wait_for(self, name: str, state: str) -> dict[str, Any]:
        wait_until(lambda: self.status(name)["state"] == state, f"{name} is {state}", 40)
        return self.status(name)


@pytest.fixture
def cdc(tmp_path: Path) -> Iterator[Cdc]:
    cdc = Cdc(tmp_path)
    yield cdc
    if cdc.supervisor is not None:
        cdc.supervisor.kill()
        cdc.supervisor.wait()
    for process in marked(tmp_path, ("writer:", "replicator:")):
        process.kill()


def test_up_runs_both_checks_the_file_of_a_killed_writer_and_leaves_the_replicator_alone(cdc: Cdc) -> None:
    """[P1-P5 P7]"""
    cdc.begin("up")
    replicator = cdc.wait_for("replicator", "running")["pid"]
    writer = cdc.status("writer")["pid"]
    assert len(os.sched_getaffinity(writer)) == min(2, len(os.sched_getaffinity(0)))
    os.kill(writer, signal.SIGKILL)
    wait_until(lambda: cdc.status("writer")["pid"] not in (writer, None), "the writer was restarted", 40)
    assert "files sound" in (cdc.directory / "log").read_text()
    assert cdc.wait_for("writer", "running")["restarts"] == 1
    assert cdc.status("replicator")["pid"] == replicator
    assert cdc.supervisor is not None
    cdc.supervisor.send_signal(signal.SIGTERM)
    assert cdc.supervisor.wait(30) == 0
    assert not alive(replicator)
    assert cdc.run("check-file", str(cdc.database)).startswith(f"{cdc.database}: sound; ")


def test_a_damaged_file_is_set_aside_and_the_writer_is_not_restarted(cdc: Cdc) -> None:
    """[P7]"""
    cdc.begin("up")
    writer = cdc.wait_for("writer", "running")["pid"]
    os.kill(writer, signal.SIGSTOP)
    with cdc.database.open("r+b") as file:
        file.seek(HEADERS_SIZE + 5000)
        file.write(b"damage" * 1000)
    os.kill(writer, signal.SIGKILL)
    assert "does not match its checksum" in cdc.wait_for("writer", "fatal")["reason"]
    assert not cdc.database.exists()
    (kept,) = (path for path in cdc.directory.glob("trades.duckdb.damaged-*"))
    assert "DAMAGED" in cdc.run("check-file", str(kept), code=7)
    shown = cdc.run("ctl", "status", code=1)
    assert "ALERT file_corrupt writer" in shown
    assert "Restore a backup" in shown


def test_ctl_starts_stops_and_restarts_and_waits_for_it(cdc: Cdc) -> None:
    cdc.begin("supervise")
    assert cdc.run("ctl", "start", "writer") == "writer: running\n"
    first = json.loads(cdc.run("ctl", "status", "writer", "--json"))["programs"]["writer"]
    assert first["state"] == "running"
    again = json.loads(cdc.run("ctl", "restart", "writer", "--json"))
    assert again["state"] == "running"
    assert again["pid"] != first["pid"]
    assert cdc.run("ctl", "stop", "writer") == "writer: stopped (stop was asked for)\n"
    assert not alive(again["pid"])
    shown = cdc.run("ctl", "status").splitlines()
    assert shown[0].split() == ["program", "state", "pid", "for", "restarts", "memory", "reason"]
    assert [line.split()[:2] for line in shown[1:]] == [["writer", "stopped"], ["replicator", "running"]]


def test_ctl_says_what_cannot_be_done(cdc: Cdc) -> None:
    assert "none runs there" in cdc.run("ctl", "status", code=6)
    cdc.begin("supervise")
    assert "There are: writer, replicator." in cdc.run("ctl", "stop", "trader", code=1)
    assert "no reload_signal" in cdc.run("ctl", "reload", "writer", code=1)


def test_a_second_supervisor_ends_with_its_own_exit_code(cdc: Cdc) -> None:
    cdc.begin("supervise")
    assert "another supervisor" in cdc.run("supervise", code=8)


def test_without_programs_there_is_nothing_to_supervise(cdc: Cdc) -> None:
    text = cdc.config.read_text()
    cdc.config.write_text(text[: text.index("[programs.writer]")])
    assert "no [programs.NAME]" in cdc.run("supervise", code=3)
    assert "no [programs.writer]" in cdc.run("up", code=3)


def test_check_file_as_json_says_where_the_damage_is(cdc: Cdc, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and longer than twelve bytes")
    found = json.loads(cdc.run("check-file", str(tmp_path / "text"), "--json", code=7))
    assert found["problems"] == ["it is not a DuckDB database"]
    assert not found["sound"]


def test_service_print_writes_what_the_program_writes_to(cdc: Cdc) -> None:
    unit = cdc.run("service", "print", "--kind", "systemd", "--up")
    assert f"ReadWritePaths=-{cdc.directory / 'state'}\n" in unit
    assert f"ReadWritePaths=-{cdc.directory}\n" in unit
    assert f"--config {cdc.config} up\n" in unit
    assert "<Task" in cdc.run("service", "print", "--kind", "task-scheduler")
    windows = cdc.run(
        "service", "print", "--kind", "windows", "--name", "my trades", "--up", "--user", "DESK\\trader"
    )
    assert '--kind windows --name "my trades" --user DESK\\trader --up' in windows
    assert "%i" in cdc.run("service", "print", "--template", code=3)
    assert "not Windows" in cdc.run("service", "install", "--kind", "windows", code=3)

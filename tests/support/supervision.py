"""A real supervisor in a process of its own, over small programs, driven through its control socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from cdc.errors import StateError
from cdc.supervisor import ask
from cdc.supervisor.process import MARK
from tests.support.waiting import wait_until

RUN = """
import json, pathlib, signal, sys
from pydantic import TypeAdapter
from cdc.config.programs import Programs, SupervisorConfig
from cdc.supervisor import Supervisor

directory = pathlib.Path(sys.argv[1])
content = json.loads((directory / "config.json").read_text())
supervisor = Supervisor(
    TypeAdapter(Programs).validate_python(content["programs"]),
    SupervisorConfig.model_validate(content["supervisor"]),
    directory,
    random=lambda: 0.5,
)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: supervisor.stop())
supervisor.run()
"""

QUICK_HEALTH = {"interval_sec": 0.2, "unresponsive_sec": 0.4, "start_timeout_sec": 20}
QUICK_RESTART = {"backoff_initial_sec": 0.05, "backoff_max_sec": 0.1}


def program(source: str, *arguments: object, **settings: Any) -> dict[str, Any]:
    """The settings of a program that runs `source`, with the patience of a test."""
    defaults: dict[str, Any] = {
        "command": [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        "health": QUICK_HEALTH,
        "restart": QUICK_RESTART,
        "grace_sec": 5,
    }
    return defaults | settings


class Supervision:
    """One directory, and the supervisor that runs on it; after it was killed, another may be started."""

    def __init__(self, directory: Path, programs: Mapping[str, Any], supervisor: Mapping[str, Any]) -> None:
        self.directory = directory
        content = {"programs": programs, "supervisor": supervisor}
        (directory / "config.json").write_text(json.dumps(content, default=str))
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start a supervisor and wait until it answers."""
        with (self.directory / "supervisor.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(self.directory)], stdout=log, stderr=log
            )
        wait_until(lambda: self.answers() or self.process.poll() is not None, "the supervisor answers")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def answers(self) -> bool:
        try:
            pid: int = self.ask("status")["pid"]
        except StateError:
            return False
        return pid == self.process.pid

    def ask(self, command: str, name: str = "writer") -> dict[str, Any]:
        return ask(self.directory, {"command": command, "name": name})

    def status(self, name: str = "writer") -> dict[str, Any]:
        return dict(self.ask("status")["programs"][name])

    def pid(self, name: str = "writer") -> int:
        pid = self.status(name)["pid"]
        assert isinstance(pid, int)
        return pid

    def alerts(self) -> dict[str, str]:
        """Names and messages of the alerts that stand."""
        return {alert["name"]: alert["message"] for alert in self.ask("status")["alerts"]}

    def wait_for(self, state: str, name: str = "writer") -> dict[str, Any]:
        """Wait until the program is in `state`; its status then."""
        wait_until(lambda: self.status(name)["state"] == state, f"{name} is {state}")
        return self.status(name)

    def wait_for_another(self, pid: int, name: str = "writer") -> int:
        """Wait until the program runs as another process than `pid`; its pid."""

        def restarted() -> bool:
            status = self.status(name)
            return bool(status["state"] == "running" and status["pid"] != pid)

        wait_until(restarted, f"{name} was restarted")
        return self.pid(name)

    def log(self, name: str = "writer") -> str:
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def own_log(self) -> str:
        return (self.directory / "supervisor.log").read_text()

    def kill(self) -> None:
        """End the supervisor as a crash would."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask the supervisor to stop, and wait until it has; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def supervised(
    directory: Path, supervisor: Mapping[str, Any] | None = None, **programs: Any
) -> Iterator[Supervision]:
    """A supervisor over `programs`; at the end nothing of it is left."""
    supervision = Supervision(directory, programs, supervisor or {})
    names = tuple(f"{name}:" for name in programs)
    try:
        supervision.begin()
        yield supervision
    finally:
        if supervision._process is not None:
            supervision.kill()
        for process in marked(directory, names):
            process.kill()


def marked(directory: Path, names: tuple[str, ...]) -> list[psutil.Process]:
    """The supervised processes that this test's supervisor started: their output goes to its directory."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
            output = os.readlink(f"/proc/{process.pid}/fd/1") if mark.startswith(names) else ""
        except (psutil.Error, OSError):
            continue
        if output.startswith(str(directory)):
            found.append(process)
    return found


def alive(pid: int) -> bool:
    """Whether `pid` is a process that has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""What `cdc run` adds to a replication: signals, niceness, the log, and how the process ends. [P5]"""

from __future__ import annotations

import ast
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cdc.app import replication
from cdc.app.replication import Ended
from cdc.cli import build_app, run
from cdc.config import Settings
from cdc.errors import ExitCode, LeaseHeld

SIGNALS = [signal.SIGTERM, signal.SIGINT]


class Exits(BaseException):
    """Instead of the end of the process."""


class Stand:
    """Stands in for a replication, and sees what the command has done before it runs."""

    def __init__(self) -> None:
        self.ended = Ended()
        self.standby = False
        self.level = logging.NOTSET
        self.gave_way = False

    def __call__(self, settings: Settings) -> Stand:
        return self

    def run(
        self,
        stop: threading.Event,
        *,
        standby: bool = False,
        drain_seconds: float = 0.0,
        hurry: threading.Event | None = None,
    ) -> Ended:
        self.standby = standby
        self.level = logging.getLogger("cdc").level
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(20.0), "a signal tells it to stop"
        return self.ended


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    stand = Stand()

    def give_way() -> None:
        stand.gave_way = True

    def end(code: int) -> None:
        raise Exits(code)

    monkeypatch.setattr(replication, "Replication", stand)
    monkeypatch.setattr(run, "give_way", give_way)
    monkeypatch.setattr(os, "_exit", end)
    before = [signal.getsignal(each) for each in SIGNALS]
    yield stand
    for each, handler in zip(SIGNALS, before, strict=True):
        signal.signal(each, handler)


def cdc(directory: Path, *arguments: str, more: str = "") -> Result:
    config = directory / "c.toml"
    config.write_text(
        f"""
        [database]
        path = "{(directory / "t.duckdb").as_posix()}"
        [sync]
        clickhouse_endpoint = "http://localhost"
        [logging]
        log_level = "WARN"
        {more}
        """
    )
    env = {"DUCKDB_PATH": "", "CLICKHOUSE_ENDPOINT": ""}
    return CliRunner().invoke(build_app(), ["-c", str(config), "run", *arguments], env=env)


def test_the_command_gives_way_logs_and_stops_the_replication_on_a_signal(
    stand: Stand, tmp_path: Path
) -> None:
    level = logging.getLogger("cdc").level
    result = cdc(tmp_path, "--standby")
    assert (result.exit_code, result.exception) == (0, None)
    assert (stand.gave_way, stand.standby, stand.level) == (True, True, logging.WARNING)
    assert logging.getLogger("cdc").level == level


def test_with_normal_priority_it_does_not_give_way(stand: Stand, tmp_path: Path) -> None:
    assert cdc(tmp_path, more='[performance]\npriority = "normal"').exit_code == 0
    assert not stand.gave_way


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, ExitCode.OK), (LeaseHeld("write", "marks", "taken over", "Leave it"), ExitCode.HELD)],
)
def test_a_read_still_under_way_ends_the_process_at_once_with_the_code_of_the_error(
    stand: Stand, tmp_path: Path, error: LeaseHeld | None, code: ExitCode
) -> None:
    stand.ended = Ended(reading=True, error=error)
    with pytest.raises(Exits, match=f"^{code.value}$"):
        cdc(tmp_path)


def test_nothing_below_the_commands_ends_the_process() -> None:
    """`os._exit` and `sys.exit` would end the program that a replication runs in."""
    package = Path(replication.__file__).parents[1]
    ending = [
        f"{path.relative_to(package)}: {ast.unparse(node)}"
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os._exit", "sys.exit", "exit", "quit")
    ]
    assert ending == []

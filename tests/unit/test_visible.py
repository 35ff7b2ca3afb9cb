"""A terminal and a log are not the attacker's: what others wrote is shown, and steers nothing. [S4]"""

from __future__ import annotations

import io
import logging
from pathlib import Path

import duckdb
import pytest
import structlog
from rich.panel import Panel
from rich.text import Text
from typer.testing import CliRunner

from cdc.cli import build_app
from cdc.cli.console import console, table
from cdc.cli.saying import complain, say
from cdc.errors import CdcError
from cdc.observe import log
from cdc.visible import visible, visible_line

HOSTILE = "\x1b]0;mine\x07\x9b31m\u202eback[bold]\r\x00"
STEERING = set("\x1b\x07\x9b\u202e\r\x00")


def steers(text: str) -> bool:
    return bool(STEERING & set(text))


def test_what_steers_is_shown_and_what_is_read_stays() -> None:
    assert visible(HOSTILE) == r"\x1b]0;mine\x07\x9b31m\u202eback[bold]\x0d\x00"
    assert visible("caf\u00e9 \u65e5\u672c \U0001f600\ta\nb") == "caf\u00e9 \u65e5\u672c \U0001f600\ta\nb"
    assert visible_line("a\nb") == r"a\nb"
    assert visible("\ud800") == r"\ud800"


def test_no_error_steers_a_terminal() -> None:
    error = CdcError("read", HOSTILE, HOSTILE, HOSTILE)
    assert not steers(str(error) + error.subject + error.problem + error.remedy)


def test_no_line_of_a_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    complain(HOSTILE + "\ncdc: all is well")
    out, err = capsys.readouterr()
    assert not steers(out + err)
    assert len(err.splitlines()) == 1


def test_no_drawing_of_a_command_does_and_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    screen = console()
    for each in (HOSTILE, Text(HOSTILE), table(["a"], [[HOSTILE]]), Panel(HOSTILE)):
        screen.print(each)
    out = capsys.readouterr().out
    assert not steers(out)
    assert out.count("[bold]") == 4


def test_no_name_in_the_file_does(tmp_path: Path) -> None:
    name = HOSTILE.replace("\x00", "")
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(f'CREATE TABLE "{name}" ("{name}" INTEGER PRIMARY KEY)')
    config = tmp_path / "c.toml"
    config.write_text('[database]\npath = "t.duckdb"\n[sync]\nclickhouse_endpoint = "http://127.0.0.1:9"\n')
    for arguments in (
        ["query", "--tables", "-f", "table"],
        ["query", "FROM nosuch"],
        ["verify"],
        ["schema", "diff"],
    ):
        path = str(tmp_path / "t.duckdb")
        found = CliRunner().invoke(
            build_app(), ["-c", str(config), *arguments], env={"DUCKDB_PATH": path, "CLICKHOUSE_ENDPOINT": ""}
        )
        assert not steers(found.output + str(found.exception)), arguments


def test_no_line_of_the_log_on_a_terminal_does() -> None:
    shown = log._shown(None, "info", {"event": HOSTILE + "\nforged", "table": HOSTILE, "rows": 3})
    rendered = structlog.dev.ConsoleRenderer(colors=False)(logging.getLogger(), "info", dict(shown))
    assert not steers(rendered)
    assert len(io.StringIO(rendered).readlines()) == 1

"""How commands end: one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cdc import __version__, cli
from cdc.errors import CdcError, ExitCode, StateError


def ends(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["cdc", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `cdc fail` raise `error`."""

    def fail() -> None:
        raise error

    real = cli.build_app

    def build() -> typer.Typer:
        app = real()
        app.command("fail")(fail)
        return app

    monkeypatch.setattr(cli, "build_app", build)


Capture = pytest.CaptureFixture[str]


def test_the_version_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert ends(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"cdc {__version__}\n"


def test_an_error_is_one_line_and_its_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    raising(monkeypatch, StateError("open", "state.sqlite3", "it is damaged", "Rebuild it"))
    assert ends(monkeypatch, "fail") == ExitCode.STATE.value
    assert capsys.readouterr() == ("", "cdc: cannot open state.sqlite3: it is damaged. Rebuild it\n")


def test_a_defect_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, ZeroDivisionError("division by zero"))
    assert ends(monkeypatch, "fail") == ExitCode.FAILED.value
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "unexpected ZeroDivisionError: division by zero" in err
    assert "CDC_DEBUG=1" in err


def test_whoever_asks_for_it_gets_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, StateError("open", "x", "y", "z"))
    monkeypatch.setenv("CDC_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["cdc", "fail"])
    with pytest.raises(CdcError):
        cli.main()


def test_an_interrupt_ends_with_130_and_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert ends(monkeypatch, "fail") == 130
    assert capsys.readouterr() == ("", "")


def test_a_wrong_argument_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert ends(monkeypatch, "config", "check", "--moon") == ExitCode.USAGE.value
    assert "--moon" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[database]\npath = "x"\n[sync]\nclickhouse_endpoint = "http://a"\n')
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "cdc", "-c", str(path), "config", "show"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert b"Traceback" not in ended.stderr


def test_every_command_registers_itself_and_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert ends(monkeypatch, "--help") == 0
    listed = capsys.readouterr().out
    assert [name for name in ("config", "status") if name not in listed] == []


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_configuration_is_named_by_option_or_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, by: str
) -> None:
    option = ["-c", "absent.toml"] if by == "option" else []
    monkeypatch.setenv("CDC_CONFIG", "absent.toml" if by == "variable" else "")
    assert ends(monkeypatch, *option, "config", "check") == ExitCode.CONFIG.value
    assert "absent.toml" in capsys.readouterr().err

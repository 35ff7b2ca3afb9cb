"""`cdc ctl`: how do the supervised programs stand, and change that."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc.cli import context
from cdc.cli.console import console, table
from cdc.cli.saying import say
from cdc.errors import ExitCode

POLL_SECONDS = 0.2

Name = Annotated[str, typer.Argument(help="The program, as in [programs.NAME].")]
Json = Annotated[bool, typer.Option("--json", help="As one JSON object.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for it; 0: not at all.")
]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="See and control the supervised programs.")
    for command in (status, start, stop, restart, reload):
        commands.command(command.__name__)(command)
    app.add_typer(commands, name="ctl")


def status(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One program; all without it.")] = None,
    as_json: Json = False,
) -> None:
    """Show the programs and the alerts that stand. Exit code 1 when one is FATAL or an alert stands."""
    from cdc.supervisor import ask

    answer = ask(_directory(ctx), {"command": "status", "name": name})
    if name is not None:
        answer["programs"] = {name: answer["programs"][name]}
        answer["alerts"] = [alert for alert in answer["alerts"] if alert["subject"] == name]
    if as_json:
        say(json.dumps(answer, indent=2))
    else:
        _show(answer)
    fatal = any(program["state"] == "fatal" for program in answer["programs"].values())
    raise typer.Exit(ExitCode.FAILED.value if fatal or answer["alerts"] else ExitCode.OK.value)


def start(ctx: typer.Context, name: Name, as_json: Json = False, timeout: Timeout = 90.0) -> None:
    """Start a program; one that is FATAL too."""
    _change(ctx, "start", name, ("running", "exited"), as_json, timeout)


def stop(ctx: typer.Context, name: Name, as_json: Json = False, timeout: Timeout = 90.0) -> None:
    """Stop a program and keep it stopped."""
    _change(ctx, "stop", name, ("stopped",), as_json, timeout)


def restart(ctx: typer.Context, name: Name, as_json: Json = False, timeout: Timeout = 90.0) -> None:
    """Stop a program gracefully and start it again."""
    _change(ctx, "restart", name, ("running", "exited"), as_json, timeout)


def reload(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Send a program its reload signal."""
    _change(ctx, "reload", name, (), as_json, 0.0)


def _change(
    ctx: typer.Context, command: str, name: str, wanted: tuple[str, ...], as_json: bool, timeout: float
) -> None:
    from cdc.supervisor import ask

    directory = _directory(ctx)
    since = _one(directory, name)["since"]
    ask(directory, {"command": command, "name": name})
    deadline = time.monotonic() + timeout
    reached = not wanted or not timeout
    program = _one(directory, name)
    while not reached and time.monotonic() < deadline:
        changed = command != "restart" or program["since"] > since
        reached = program["state"] in wanted and changed
        if reached or program["state"] == "fatal":
            break
        time.sleep(POLL_SECONDS)
        program = _one(directory, name)
    if as_json:
        say(json.dumps({"name": name, **program}, indent=2))
    else:
        say(f"{name}: {program['state']}{_because(program)}")
    raise typer.Exit(ExitCode.OK.value if reached else ExitCode.FAILED.value)


def _one(directory: Path, name: str) -> dict[str, Any]:
    from cdc.supervisor import ask

    answer = ask(directory, {"command": "status", "name": name})
    return dict(answer["programs"][name])


def _directory(ctx: typer.Context) -> Path:
    from cdc.service import supervisor_directory

    return supervisor_directory(context.settings(ctx))


def _because(program: dict[str, Any]) -> str:
    return f" ({program['reason']})" if program["reason"] else ""


def _show(answer: dict[str, Any]) -> None:
    headings = ("program", "state", "pid", "for", "restarts", "memory", "reason")
    rows = [
        (
            name,
            program["state"],
            str(program["pid"] or "-"),
            f"{max(0.0, answer['time'] - program['since']):.0f} s",
            str(program["restarts"]),
            f"{program['memory_bytes'] / 2**20:.0f} MB",
            program["reason"],
        )
        for name, program in answer["programs"].items()
    ]
    screen = console()
    screen.print(table(headings, rows, right=("pid", "for", "restarts", "memory")))
    for alert in answer["alerts"]:
        line = f"ALERT {alert['name']} {alert['subject']}: {alert['message']}. {alert['remedy']}"
        screen.print(line, markup=False)

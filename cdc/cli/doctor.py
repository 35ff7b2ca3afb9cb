"""`cdc doctor`: is everything there that a replication needs, and what is to be done where it is not?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cdc.cli import context
from cdc.cli.saying import say
from cdc.errors import ConfigError, ExitCode
from cdc.visible import visible_line

if TYPE_CHECKING:
    from cdc.app.doctor import Finding

_SIGNS = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM "}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Look at source, tables, target, state directory, Redis and ports; say what is wrong and what mends it.

    Exit code 1: there is a problem. Nothing is changed; it may be run beside a replicator.

    Example: cdc -c cdc.toml doctor
    """
    from cdc.app.doctor import Finding, examine, worst

    found: list[Finding] = []
    try:
        settings = context.settings(ctx)
    except ConfigError as error:
        found.append(Finding("problem", "configuration", f"{error.subject}: {error.problem}", error.remedy))
        if not as_json:
            _print(found[-1])
    else:
        found.append(Finding("ok", "configuration", f"{settings.path} is valid"))
        if not as_json:
            _print(found[-1])
        for finding in examine(settings):
            found.append(finding)
            if not as_json:
                _print(finding)
    level = worst(found)
    if as_json:
        say(json.dumps({"level": level, "findings": [asdict(each) for each in found]}, indent=2))
    else:
        problems = sum(each.level == "problem" for each in found)
        warnings = sum(each.level == "warning" for each in found)
        say(f"\n{problems} problems, {warnings} warnings")
    raise typer.Exit(ExitCode.FAILED.value if level == "problem" else ExitCode.OK.value)


def _print(finding: Finding) -> None:
    say(visible_line(f"{_SIGNS[finding.level]}{finding.subject}: {finding.said}"))
    for number, line in enumerate(finding.remedy.splitlines()):
        say(visible_line(f"        {'   ' if number else '-> '}{line}"))

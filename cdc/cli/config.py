"""`cdc config`: is the configuration right, and what does it come to?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cdc.cli import context
from cdc.cli.saying import say
from cdc.config import Settings, loosened, shown
from cdc.errors import ConfigError


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Check or show the configuration.")
    commands.command("check")(check)
    commands.command("show")(show)
    app.add_typer(commands, name="config")


def check(
    ctx: typer.Context,
    security: Annotated[
        bool, typer.Option("--security", help="List what is allowed that protects less than it could.")
    ] = False,
) -> None:
    """Validate the configuration, its secrets and the environment. Nothing is connected to."""
    settings = context.settings(ctx)
    if security:
        _list_loosened(settings)
        return
    _tls_files_exist(settings)
    listed = ", ".join(table.name for table in settings.tables)
    say(f"{settings.path}: ok")
    say(f"  source  {settings.database.path}")
    say(f"  target  {', '.join(map(str, settings.endpoints))}")
    say(f"  tables  {listed or 'every table with a key and a watermark'}")
    say(f"  state   {settings.state.directory}")


def show(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show every setting and where it came from; secrets are masked."""
    items = list(shown(context.settings(ctx)))
    if as_json:
        document = {item.key: {"value": item.value, "origin": item.origin} for item in items}
        say(json.dumps(document, indent=2))
        return
    lines = [
        (f"{item.key} = {_text(item.value)}", item.origin.removesuffix(f":{item.key}")) for item in items
    ]
    width = min(60, max(len(line) for line, _ in lines))
    for line, origin in lines:
        say(f"{line.ljust(width)}  # {origin}")


def _text(value: object) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)


def _list_loosened(settings: Settings) -> None:
    found = list(loosened(settings))
    for setting in found:
        say(f"{setting.section}.{setting.key}: {setting.danger}; {setting.instead}")
    if not found:
        say(f"{settings.path}: nothing is loosened")


def _tls_files_exist(settings: Settings) -> None:
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings.target, key)
        if path is not None and not path.is_file():
            raise ConfigError(
                "use the configuration",
                settings.path,
                f"target.{key} = {path}: no such file",
                "Correct the path",
            )

"""The command line: which commands there are, and how they end.

Exit codes are those of `cdc.errors.ExitCode`, and 130 after Ctrl-C. An error is one line on standard error;
with CDC_DEBUG=1 in the environment it is the traceback.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cdc.cli.pandas_left_out import leave_pandas_out
from cdc.cli.saying import complain, say
from cdc.config import DEFAULT_PATH
from cdc.errors import CdcError, ExitCode
from cdc.product import __version__

COMMANDS = (
    "check",
    "config",
    "ctl",
    "demo",
    "doctor",
    "failed",
    "init",
    "query",
    "run",
    "schema",
    "service",
    "status",
    "supervise",
    "verify",
    "watermark",
)
"""Modules of this package; each has `register(app)`, and imports what is heavy inside its commands."""

__all__ = ["COMMANDS", "build_app", "main"]


class _Commands(TyperGroup):
    """The commands; the option that names the configuration may also follow a command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _configuration_first(args))


def _configuration_first(args: list[str]) -> list[str]:
    first: list[str] = []
    rest = list(args)
    end = rest.index("--") if "--" in rest else len(rest)
    at = 0
    while at < end:
        taken = 2 if rest[at] in ("-c", "--config") else 1 if rest[at].startswith("--config=") else 0
        if taken == 0 or at + taken > end:
            at += 1
            continue
        first += rest[at : at + taken]
        del rest[at : at + taken]
        end -= taken
    return first + rest


def build_app() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
        cls=_Commands,
        name="cdc",
        help="Replicate the committed rows of a live DuckDB file into ClickHouse.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in COMMANDS:
        import_module(f"{__name__}.{name}").register(app)
    return app


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    leave_pandas_out()
    try:
        build_app()(prog_name="cdc")
    except CdcError as error:
        _end(error, str(error), error.exit_code.value)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets a line, not a traceback
        problem = f"unexpected {type(error).__name__}: {error}. This is a defect: run again with CDC_DEBUG=1"
        _end(error, problem, ExitCode.FAILED.value)


def _end(error: Exception, line: str, code: int) -> None:
    if os.environ.get("CDC_DEBUG"):
        raise error
    complain(line)
    sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"cdc {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Option("--config", "-c", envvar="CDC_CONFIG", metavar="FILE", help="The configuration file."),
    ] = DEFAULT_PATH,
    version: Annotated[  # noqa: ARG001 - acts before the command
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    context.obj = config

"""The command line: which commands there are, and how they end.

Exit codes are those of `cdc.errors.ExitCode`, and 130 after Ctrl-C. An error is one line on standard error;
with CDC_DEBUG=1 in the environment it is the traceback.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from cdc.cli.saying import complain, say
from cdc.config import DEFAULT_PATH
from cdc.errors import CdcError, ExitCode
from cdc.product import __version__

COMMANDS = (
    "check",
    "config",
    "ctl",
    "demo",
    "failed",
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


def build_app() -> typer.Typer:
    """The application with every command."""
    app = typer.Typer(
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

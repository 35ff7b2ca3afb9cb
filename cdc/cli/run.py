"""`cdc run`: replicate until told to stop."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from cdc import stop_event
from cdc.cli import context
from cdc.cli.priority import give_way
from cdc.cli.saying import complain
from cdc.config import Settings, load, secrets_of
from cdc.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="A DuckDB file, or quack://host:port; not with a configuration."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="As clickhouse://host/db or chdb:///directory.")
    ] = None,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby", help="Where another replicator is active: wait, and take over when it ends."
        ),
    ] = False,
    drain: Annotated[
        float,
        typer.Option(
            "--drain",
            min=0.0,
            metavar="SECONDS",
            help="Once told to stop, deliver first what is committed by then, for so long at most; "
            "told again, end at once.",
        ),
    ] = 0.0,
) -> None:
    """Replicate until told to stop, by Ctrl-C or SIGTERM; the batch in flight is finished or sent again.

    With SOURCE and TARGET no configuration is needed: what 'cdc init' would propose is done, and written down
    beside the source, in SOURCE.cdc/cdc.toml.

    Examples: cdc -c cdc.toml run; cdc run trades.duckdb clickhouse://localhost/trading
    """
    settings = _settings(ctx, source, target)
    stop, hurry = threading.Event(), threading.Event()

    def told(*_: object) -> None:
        (hurry if stop.is_set() else stop).set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is Windows' own
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), told)
    stop_event.listen(told)
    if settings.performance.priority == "low":
        give_way()  # before any thread is made: an import may make one
    from cdc.app.replication import Replication
    from cdc.observe.log import logging_to

    with logging_to(settings.logging, secrets=secrets_of(settings)):
        ended = Replication(settings).run(stop, standby=standby, drain_seconds=drain, hurry=hurry)
    if ended.reading:  # nothing durable is open: it is as if it were killed now, without the signal
        os._exit((ExitCode.OK if ended.error is None else ended.error.exit_code).value)


def _settings(ctx: typer.Context, source: str | None, target: str | None) -> Settings:
    """Of the configuration; of what the command line names instead, or the environment where there is none.

    Raises:
        ConfigError, SourceError: as `load`, and where nothing can be proposed.
    """
    if source is not None and target is None:
        raise typer.BadParameter("name the target too: cdc run SOURCE TARGET", param_hint="TARGET")
    if source is None and context.is_default(ctx) and not context.config_path(ctx).exists():
        source, target = os.environ.get("DUCKDB_PATH"), os.environ.get("CLICKHOUSE_ENDPOINT")
    elif source is not None and not context.is_default(ctx):
        raise typer.BadParameter("SOURCE and TARGET, or --config, not both")
    if not source or not target:
        return context.settings(ctx)
    from cdc.app.first_configuration import kept_configuration

    path = kept_configuration(source, target)
    complain(f"configuration: {path}; for other commands: cdc -c {path} status")
    return load(path)

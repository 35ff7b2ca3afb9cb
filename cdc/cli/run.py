"""`cdc run`: replicate until told to stop."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from cdc.cli import context
from cdc.cli.priority import give_way
from cdc.config import secrets_of
from cdc.errors import ExitCode


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    ctx: typer.Context,
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
    """Replicate until told to stop, by Ctrl-C or SIGTERM; the batch in flight is finished or sent again."""
    settings = context.settings(ctx)
    stop, hurry = threading.Event(), threading.Event()

    def told(*_: object) -> None:
        (hurry if stop.is_set() else stop).set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is Windows' own
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), told)
    if settings.performance.priority == "low":
        give_way()  # before any thread is made: an import may make one
    from cdc.app.replication import Replication
    from cdc.observe.log import logging_to

    with logging_to(settings.logging, secrets=secrets_of(settings)):
        ended = Replication(settings).run(stop, standby=standby, drain_seconds=drain, hurry=hurry)
    if ended.reading:  # nothing durable is open: it is as if it were killed now, without the signal
        os._exit((ExitCode.OK if ended.error is None else ended.error.exit_code).value)

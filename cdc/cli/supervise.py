"""`cdc supervise` and `cdc up`: keep the configured programs running until told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import typer

from cdc import stop_event
from cdc.cli import context
from cdc.config import Settings
from cdc.config.programs import ProgramConfig


def register(app: typer.Typer) -> None:
    app.command("supervise")(supervise)
    app.command("up")(up)


def supervise(ctx: typer.Context) -> None:
    """Run and watch the configured programs. Ctrl-C or SIGTERM stops them; a second one hurries."""
    settings = context.settings(ctx)
    _run(settings, settings.programs)


def up(ctx: typer.Context) -> None:
    """Run and watch the writer and the replicator together."""
    from cdc.service import programs_of_up

    settings = context.settings(ctx)
    _run(settings, programs_of_up(settings))


def _run(settings: Settings, programs: Mapping[str, ProgramConfig]) -> None:
    from cdc.observe.log import logging_to
    from cdc.service import supervisor_log, supervisor_of, systemd_from

    supervisor = supervisor_of(settings, programs, systemd_from(os.environ))
    with logging_to(supervisor_log(settings)):
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is Windows' own
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: supervisor.stop())
        stop_event.listen(supervisor.stop)
        supervisor.run()

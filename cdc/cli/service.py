"""`cdc service`: run the supervisor as a service of this machine, or see what that would be."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdc.cli import context
from cdc.cli.saying import say
from cdc.errors import CdcError, ConfigError

if TYPE_CHECKING:
    from cdc.service import Task, Unit


class ServiceKind(StrEnum):
    systemd = "systemd"
    windows = "windows"
    task = "task-scheduler"


KindOption = Annotated[ServiceKind, typer.Option("--kind", help="What runs services on this machine.")]
NameOption = Annotated[str, typer.Option("--name", help="The service's name.")]
UserOption = Annotated[str | None, typer.Option("--user", help="Run as this user.")]
UpOption = Annotated[bool, typer.Option("--up", help="Run 'cdc up' instead of 'cdc supervise'.")]
TemplateOption = Annotated[
    bool,
    typer.Option("--template", help="systemd: one unit for several sources; --config has %i for the source."),
]
WritableOption = Annotated[
    list[Path] | None, typer.Option("--writable", help="systemd: another directory that programs write.")
]
ON_WINDOWS = os.name == "nt"
DEFAULT_KIND = ServiceKind.windows if ON_WINDOWS else ServiceKind.systemd


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="Run the supervisor as a service of this machine.")
    commands.command("print")(print_service)
    commands.command("install")(install)
    commands.command("uninstall")(uninstall)
    app.add_typer(commands, name="service")


def print_service(
    ctx: typer.Context,
    kind: KindOption = DEFAULT_KIND,
    name: NameOption = "cdc",
    user: UserOption = None,
    up: UpOption = False,
    template: TemplateOption = False,
    writable: WritableOption = None,
) -> None:
    """Print the unit file or the task; nothing is changed."""
    from cdc.service import render_task, render_unit

    match kind:
        case ServiceKind.systemd:
            say(render_unit(_unit(ctx, name, user, up, template, writable or [])), nl=False)
        case ServiceKind.task:
            say(render_task(_task(ctx, user, up)).decode("utf-16"))
        case ServiceKind.windows:
            say(_install_command(_config(ctx), name, user, up))


def _install_command(config: Path, name: str, user: str | None, up: bool) -> str:
    """What installs the Windows service as asked for, as its command line wants it quoted."""
    from subprocess import list2cmdline

    words = [sys.executable, "-m", "cdc", "--config", str(config), "service", "install", "--kind", "windows"]
    words += ["--name", name, *(["--user", user] if user else []), *(["--up"] if up else [])]
    return list2cmdline(words)


def install(
    ctx: typer.Context,
    kind: KindOption = DEFAULT_KIND,
    name: NameOption = "cdc",
    user: UserOption = None,
    up: UpOption = False,
    template: TemplateOption = False,
    writable: WritableOption = None,
) -> None:
    """Install the service and start it, now and at each boot."""
    from cdc.service import render_task, systemd

    match kind:
        case ServiceKind.systemd:
            path = systemd.install(_unit(ctx, name, user, up, template, writable or []))
            say(f"{path}: installed")
        case ServiceKind.task:
            _task_to_scheduler(name, render_task(_task(ctx, user, up)))
        case ServiceKind.windows:
            if not ON_WINDOWS:
                raise _not_here("install", "a Windows service")
            from cdc.service import windows

            password = typer.prompt("Password", hide_input=True) if user else None
            windows.install(name, _config(ctx), "up" if up else "supervise", user, password)
            say(f"{name}: installed; start it with 'sc start {name}'")


def uninstall(kind: KindOption = DEFAULT_KIND, name: NameOption = "cdc") -> None:
    """Stop the service and remove it."""
    from cdc.service import systemd

    match kind:
        case ServiceKind.systemd:
            for path in systemd.uninstall(name):
                say(f"{path}: removed")
        case ServiceKind.task:
            _schtasks("/Delete", "/TN", name, "/F")
        case ServiceKind.windows:
            if not ON_WINDOWS:
                raise _not_here("uninstall", "a Windows service")
            from cdc.service import windows

            windows.uninstall(name)


def _unit(
    ctx: typer.Context, name: str, user: str | None, up: bool, template: bool, writable: list[Path]
) -> Unit:
    from cdc.service import Unit, supervisor_directory

    config = _config(ctx)
    stop_seconds = 60.0
    if not template:
        settings = context.settings(ctx)
        stop_seconds = settings.supervisor.shutdown_sec
        known = [settings.state.directory, supervisor_directory(settings)]
        if settings.database.file is not None:
            known.append(settings.database.file.parent)
        if settings.logging.log_path is not None:
            known.append(settings.logging.log_path.parent)
        writable = [path.absolute() for path in known] + writable
    elif "%i" not in str(config):
        raise ConfigError(
            "write a template unit for", config, "its path has no %i", "Give --config /etc/cdc/%i.toml"
        )
    return Unit(
        name=name,
        python=Path(sys.executable),
        config=config,
        writable=tuple(dict.fromkeys(writable)),
        command="up" if up else "supervise",
        user=user,
        stop_seconds=stop_seconds,
        instances=template,
    )


def _task(ctx: typer.Context, user: str | None, up: bool) -> Task:
    from cdc.service import Task

    config = _config(ctx)
    task = Task(Path(sys.executable), config, config.parent, command="up" if up else "supervise")
    return task if user is None else Task(task.python, config, config.parent, user, task.command)


def _task_to_scheduler(name: str, xml: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "task.xml"
        path.write_bytes(xml)
        _schtasks("/Create", "/TN", name, "/XML", str(path), "/F")


def _schtasks(*arguments: str) -> None:
    if not ON_WINDOWS:
        raise _not_here("use", "the Task Scheduler")
    import subprocess

    done = subprocess.run(["schtasks", *arguments], capture_output=True, text=True, timeout=60, check=False)
    say(done.stdout.strip())
    if done.returncode != 0:
        raise CdcError("run", "schtasks", done.stderr.strip(), "Run this as an administrator")


def _config(ctx: typer.Context) -> Path:
    return context.config_path(ctx).absolute()


def _not_here(operation: str, subject: str) -> ConfigError:
    return ConfigError(
        operation, subject, "this is not Windows", "Use --kind systemd, or 'cdc service print'"
    )

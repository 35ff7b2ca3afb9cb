"""The systemd unit of a supervisor: what it may touch, how systemd knows that it works, how it ends."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdc.errors import CdcError, ConfigError

UNIT_DIRECTORY = Path("/etc/systemd/system")
COMMAND_SEC = 120.0

TEMPLATE = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{user}\
Restart=on-failure
RestartSec=2
WatchdogSec=30
TimeoutStartSec=60
# The supervisor stops its programs itself, in order. Only it is signalled, so that a crash of it, or its
# upgrade, leaves the writer running: the next one adopts what it finds.
KillMode=process
TimeoutStopSec={stop_seconds}
# A control group of its own to put programs under the kernel's memory ceiling. It is why ProtectControlGroups
# is not here.
Delegate=memory
UMask=0077

# It reads everything and writes where it is named below.
ProtectSystem=strict
{writable}\
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
RemoveIPC={remove_ipc}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit says of one installation. `writable` is every directory that it or its programs write.

    With `instances`, the unit is a template: `%i` in the configuration's path and in `writable` stands for
    the source's name, and `systemctl start NAME@SOURCE` runs one supervisor for each.
    """

    name: str
    python: Path
    config: Path
    writable: tuple[Path, ...]
    command: str = "supervise"
    user: str | None = None
    stop_seconds: float = 60.0
    instances: bool = False

    @property
    def file_name(self) -> str:
        return f"{self.name}{'@' if self.instances else ''}.service"


def render_unit(unit: Unit) -> str:
    """The unit file.

    Raises:
        ConfigError: a path cannot be written in one.
    """
    subject = f"source {'%i' if unit.instances else unit.config.stem}"
    arguments = (str(unit.python), "-m", "cdc", "--config", str(unit.config), unit.command)
    # systemd makes a missing directory of ReadWritePaths an error, unless a minus says that it may be missing
    writable = "".join(f"ReadWritePaths=-{_path(path, unit)}\n" for path in unit.writable)
    return TEMPLATE.format(
        description=f"Supervisor of DuckDB to ClickHouse replication, {subject}",
        command=" ".join(_argument(argument, unit) for argument in arguments),
        user=f"User={unit.user}\n" if unit.user else "",
        writable=writable,
        stop_seconds=int(unit.stop_seconds) + 15,
        remove_ipc="yes" if unit.user else "no",
    )


def install(unit: Unit, directory: Path = UNIT_DIRECTORY, systemctl: Sequence[str] = ("systemctl",)) -> Path:
    """Write the unit and start it, now and at each boot; a template is only written.

    Raises:
        CdcError: the unit could not be written, or systemd refused it.
    """
    path = directory / unit.file_name
    try:
        path.write_text(render_unit(unit))
    except OSError as error:
        raise CdcError(
            "install", path, error.strerror or str(error), "Run this as root, or use 'cdc service print'"
        ) from error
    _run(systemctl, "daemon-reload")
    if not unit.instances:
        _run(systemctl, "enable", "--now", unit.file_name)
    return path


def uninstall(
    name: str, directory: Path = UNIT_DIRECTORY, systemctl: Sequence[str] = ("systemctl",)
) -> list[Path]:
    """Stop and remove the unit of this name, or the template.

    Raises:
        CdcError: there is none, or systemd refused.
    """
    paths = [
        path for path in (directory / f"{name}.service", directory / f"{name}@.service") if path.exists()
    ]
    if not paths:
        raise CdcError(
            "uninstall", name, f"there is no such unit in {directory}", "Give its name with --name"
        )
    for path in paths:
        if not path.stem.endswith("@"):
            _run(systemctl, "disable", "--now", path.name)
        path.unlink()
    _run(systemctl, "daemon-reload")
    return paths


def _run(systemctl: Sequence[str], *arguments: str) -> None:
    command = [*systemctl, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SEC, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CdcError("run", shlex.join(command), str(error), "Is this machine run by systemd?") from error
    if done.returncode != 0:
        raise CdcError("run", shlex.join(command), done.stderr.strip(), "See 'journalctl -xe'")


def _argument(text: str, unit: Unit) -> str:
    """One word of ExecStart, by the rules of systemd.service(5)."""
    text = _specifiers(text, unit).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"' if " " in text else text


def _path(path: Path, unit: Unit) -> str:
    text = _specifiers(str(path), unit)
    return f'"{text}"' if " " in text else text


def _specifiers(text: str, unit: Unit) -> str:
    if any(character in text for character in "\n\r\0") or ('"' in text and " " in text):
        raise ConfigError("write", text, "it cannot stand in a unit file", "Choose another path")
    doubled = text.replace("%", "%%")
    return doubled.replace("%%i", "%i") if unit.instances else doubled

"""What a program may use, and whether it uses more: cores, priority, memory, space on disk.

Cores and priority are set right after the start, before the program has threads of its own to speak of.
Memory is watched; the kernel's hard ceiling above it is for a program that grows faster than it is watched.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil

from cdc.config.programs import ProgramLimitsConfig
from cdc.supervisor.process import SpawnError, Tree

if sys.platform == "linux":
    from cdc.supervisor import linux as kernel
else:
    from cdc.supervisor import elsewhere as kernel

MIB = 1 << 20


class Ceiling:
    """The kernel's memory ceiling over one program, where there is one.

    Raises:
        SpawnError: the configuration insists on a control group and none may be made.
    """

    def __init__(self, name: str, config: ProgramLimitsConfig) -> None:
        self._bytes = int((config.memory_mb or 0) * MIB * config.memory_hard_factor)
        self._address_space = bool(self._bytes) and config.memory_ceiling == "rlimit"
        self._group: kernel.ControlGroup | None = None
        self._kills = 0
        self.missing: str | None = None
        """Why memory is only watched; None: the kernel enforces it, or nobody asked for it."""
        if self._bytes and config.memory_ceiling in ("auto", "cgroup"):
            try:
                self._group = kernel.ControlGroup.create(name, self._bytes)
                self._kills = self._group.kills()
            except OSError as error:
                self.missing = str(error)
                if config.memory_ceiling == "cgroup":
                    raise SpawnError(
                        "limit the memory of",
                        name,
                        str(error),
                        "Delegate a control group to the supervisor, or set memory_ceiling to 'auto'.",
                    ) from error

    def apply(self, tree: Tree) -> None:
        """Put a program that was just started below the ceiling.

        Raises:
            OSError: the kernel refused.
        """
        if self._group is not None:
            for process in tree.members():
                self._group.add(process.pid)
        elif self._address_space:
            kernel.limit_address_space(tree.identity.pid, self._bytes)

    def killed(self) -> bool:
        """Whether the kernel killed the program for its memory since this was last asked."""
        if self._group is None:
            return False
        before, self._kills = self._kills, self._group.kills()
        return self._kills > before


def apply_share(tree: Tree, config: ProgramLimitsConfig) -> None:
    """Pin the program to its cores and set its priority.

    Raises:
        psutil.AccessDenied, OSError: a priority above the supervisor's own needs a permission.
    """
    if config.cpu_cores is not None:
        # the last cores: interrupts, and everybody else, prefer the first
        cores = sorted(kernel.allowed_cores())[-config.cpu_cores :]
        kernel.pin(tree.identity.pid, set(cores))
    if config.nice:
        psutil.Process(tree.identity.pid).nice(config.nice)


def memory_breach(used: int, config: ProgramLimitsConfig) -> str | None:
    """How far `used` resident bytes are above the limit; None: they are not."""
    if config.memory_mb is None or used <= config.memory_mb * MIB:
        return None
    return f"it uses {used / MIB:.0f} MB of memory, above its limit of {config.memory_mb} MB"


def short_of_space(path: Path, config: ProgramLimitsConfig) -> str | None:
    """How little space is free where `path` is or will be; None: enough, or no such place."""
    place = next((place for place in (path, *path.parents) if place.exists()), None)
    if place is None:
        return None
    free = shutil.disk_usage(place).free
    if free >= config.disk_free_mb * MIB:
        return None
    return f"{free / MIB:.0f} MB are free, below {config.disk_free_mb} MB"

"""What stands in for `linux` on other systems: the same names, with what psutil offers, or a refusal."""

from __future__ import annotations

from pathlib import Path

import psutil


def start_token(pid: int) -> str | None:
    """Names the process that has `pid` now; None: there is none."""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def adopt_orphans() -> None:
    """Orphans go where the system sends them."""


def a_child_ended() -> bool:
    """Nobody knows more cheaply than by looking."""
    return True


def limit_address_space(_pid: int, _limit_bytes: int) -> None:
    """Refused.

    Raises:
        OSError: always.
    """
    raise OSError("a limit on the address space of a running process is Linux's")


def pin(pid: int, cores: set[int]) -> None:
    """Let a process run on these cores only; macOS cannot."""
    process = psutil.Process(pid)
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(sorted(cores))


def allowed_cores() -> set[int]:
    """All cores."""
    return set(range(psutil.cpu_count() or 1))


class NoControlGroup:
    """Control groups are Linux's."""

    path: Path

    @classmethod
    def create(cls, name: str, memory_max: int) -> NoControlGroup:
        """Refused.

        Raises:
            OSError: always.
        """
        raise OSError(f"no control group for {name} of {memory_max} bytes: control groups are Linux's")

    def add(self, pid: int) -> None: ...

    def kills(self) -> int:
        return 0

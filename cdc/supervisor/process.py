"""One running program: its main process, the tree below it, and how both are signalled.

A process is known by its pid together with its start (`Identity`), never by the pid alone, as pids are used
again. A tree is what descends from the main process, shares its session, or carries its mark in the
environment, so that a process that lost its parent is still found.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cdc.environment import without_secrets
from cdc.errors import CdcError
from cdc.private import open_private
from cdc.supervisor.command import is_own_replicator

if sys.platform == "win32":
    from cdc.supervisor import windows as host
else:
    from cdc.supervisor import posix as host

if sys.platform == "linux":
    from cdc.supervisor import linux as kernel
else:
    from cdc.supervisor import elsewhere as kernel

MARK = "CDC_SUPERVISED"
"""Environment variable of every supervised process: which start of which program it belongs to."""
NOT_FOR_CHILDREN = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)
"""What the service manager tells the supervisor; a program that answered would answer for it."""
SIGNALS = host.SIGNALS
ENDED = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})
SUSPENDED = frozenset({psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP})


class SpawnError(CdcError):
    """A program could not be started."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, as it can be recognised by a later supervisor. `mark` names this start of the program."""

    pid: int
    start: str
    mark: str

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        if kernel.start_token(self.pid) != self.start:
            return False
        try:
            return psutil.Process(self.pid).status() not in ENDED
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True)
class Ended:
    """The main process ended. `code` as subprocess has it (negative: a signal); None: nobody knows."""

    code: int | None


class Tree:
    """The processes of one program. `child` is its Popen, when this supervisor started it."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child
        self._asked: set[int] = set()

    def __repr__(self) -> str:
        return f"Tree({self.identity.pid}{'' if self._child else ', adopted'})"

    def poll(self) -> Ended | None:
        """How the main process ended; None while it runs."""
        if self._child is not None:
            code = self._child.poll()
            return None if code is None else Ended(code)
        return None if self.identity.alive() else Ended(None)

    def trouble(self) -> str | None:
        """Why the main process cannot be at work, by its state alone; None: it can."""
        try:
            status = psutil.Process(self.identity.pid).status()
        except psutil.NoSuchProcess:
            return "its process is gone"
        if status in ENDED:
            return f"its process is a {status}"
        return "its process is suspended" if status in SUSPENDED else None

    def members(self) -> list[psutil.Process]:
        """Every process of the tree that has not ended, the main process first."""
        leader = self.identity.pid
        own = kernel.start_token(leader) in (
            self.identity.start,
            None,
        )  # else the pid is someone else's by now
        found: dict[int, psutil.Process] = {}
        if own and self.identity.alive():
            main = psutil.Process(leader)
            found[leader] = main
            found |= {child.pid: child for child in _descendants(main)}
        for process in psutil.process_iter():
            if process.pid in found or process.pid == os.getpid():
                continue
            if (own and host.in_session(process.pid, leader)) or mark_of(process) == self.identity.mark:
                found[process.pid] = process
        return [process for process in found.values() if not _ended(process)]

    def memory(self) -> int:
        """Resident bytes of the main process and all below it: cheaper to find than every member."""
        if not self.identity.alive():
            return 0
        main = psutil.Process(self.identity.pid)
        return sum(_resident(process) for process in (main, *_descendants(main)))

    def ask_to_stop(self, signal_name: str) -> None:
        """Send the signal to the main process; to the others of the tree once that is gone.

        Nobody is asked twice: many programs take a second signal for impatience.
        """
        members = self.members()
        main = [process for process in members if process.pid == self.identity.pid]
        for process in main or members:
            if process.pid not in self._asked:
                self._asked.add(process.pid)
                host.ask_to_stop(process, signal_name, self.identity.mark)

    def send(self, signal_name: str) -> None:
        """Send a signal to the main process alone."""
        if self.identity.alive():
            host.ask_to_stop(psutil.Process(self.identity.pid), signal_name, self.identity.mark)

    def kill(self) -> None:
        """End every process of the tree now."""
        for process in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def reap(self) -> None:
        """Collect what has ended of the session and became a child of this process."""
        if not kernel.a_child_ended():
            return
        main = self.identity.pid
        host.reap(
            child.pid
            for child in psutil.Process().children()
            if child.pid != main and host.in_session(child.pid, main) and _ended(child)
        )


def spawn(
    command: Sequence[str],
    *,
    mark: str,
    log: Path,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Tree:
    """Start a program, detached from this process, its output appended to `log`.

    Raises:
        SpawnError: naming the command and why it could not be started.
    """
    given = os.environ if is_own_replicator(command) else without_secrets()
    inherited = {name: value for name, value in given.items() if name not in NOT_FOR_CHILDREN}
    try:
        options = host.popen_options(user)
        descriptor = open_private(log, os.O_WRONLY | os.O_APPEND)
        try:
            child = subprocess.Popen(
                list(command),
                cwd=directory,
                env=inherited | dict(environment or {}) | {MARK: mark} | host.environment(mark),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                **options,
            )
        finally:
            os.close(descriptor)
    except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        raise SpawnError(
            "start", command[0], f"{error}", "Check the program's command, directory and user."
        ) from error
    return Tree(Identity(child.pid, kernel.start_token(child.pid) or "", mark), child)


def find_marked(mark: str) -> Identity | None:
    """The main process of a start whose pid was never recorded: the supervisor died in between."""
    marked = [
        process for process in psutil.process_iter() if mark_of(process) == mark and not _ended(process)
    ]
    for process in sorted(marked, key=_born):
        token = kernel.start_token(process.pid)
        if token is not None:
            return Identity(process.pid, token, mark)
    return None


def kill_marked(mark: str) -> None:
    """End every process that carries the mark."""
    for process in psutil.process_iter():
        if mark_of(process) == mark:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def mark_of(process: psutil.Process) -> str | None:
    """The mark in a process's environment, where it may be read."""
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() in ENDED
    except psutil.NoSuchProcess:
        return True


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _born(process: psutil.Process) -> float:
    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return float("inf")

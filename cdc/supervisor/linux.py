"""What only Linux offers a supervisor: start times that survive clock changes, control groups (v2), limits of
a running process, and becoming the parent of orphans.

Formats: proc(5) and the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from functools import cache
from pathlib import Path

assert sys.platform == "linux"

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans below this process become its children, so that it can reap them."""
START_TIME_FIELD = 22
"""Field of /proc/PID/stat: when the process started, in ticks since the machine did."""
CGROUP_ROOT = Path("/sys/fs/cgroup")


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_token(pid: int) -> str | None:
    """Names the process that has `pid` now, unlike any other that had or will have it; None: there is none.

    Not psutil's create_time: that is counted from a boot time which moves when the wall clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold spaces and parentheses
    return f"{boot_id()}/{int(fields[START_TIME_FIELD - 3])}"


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def a_child_ended() -> bool:
    """Whether any child waits to be reaped; one system call, which reaps none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def limit_address_space(pid: int, limit_bytes: int) -> None:
    """Cap the address space of a running process (RLIMIT_AS): allocations past it fail inside the process.

    Raises:
        OSError: no such process, or no permission.
    """
    resource.prlimit(pid, resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def pin(pid: int, cores: set[int]) -> None:
    """Let every thread of a process run on these cores only."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)


def allowed_cores() -> set[int]:
    """The cores this process may use itself."""
    return os.sched_getaffinity(0)


class ControlGroup:
    """A control group (v2) of one program, below the supervisor's own: the kernel's hard memory ceiling.

    It exists where the supervisor may create groups and the memory controller is delegated to it, as with
    `Delegate=memory` in a systemd unit. It stays for the program's next start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"ControlGroup({self.path})"

    @classmethod
    def create(cls, name: str, memory_max: int, *, parent: Path | None = None) -> ControlGroup:
        """Make the group, or take it over with the processes that are in it.

        Raises:
            OSError: no control groups here, no memory controller, or no permission.
        """
        parent = own_group() if parent is None else parent
        if "memory" not in (parent / "cgroup.controllers").read_text().split():
            raise OSError(f"no memory controller in {parent}")
        control = parent / "cgroup.subtree_control"
        if "memory" not in control.read_text().split():
            _empty(parent)
            control.write_text("+memory")
        path = parent / f"cdc-{name}"
        path.mkdir(exist_ok=True)
        (path / "memory.max").write_text(str(memory_max))
        (path / "memory.oom.group").write_text("1")
        return cls(path)

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How often the kernel killed a process of this group for its memory."""
        for line in (self.path / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0


def own_group(root: Path = CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")) -> Path:
    """The directory of the group whose children this supervisor may make.

    Raises:
        OSError: version 2 is not mounted at `root`.
    """
    for line in membership.read_text().splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and controllers == "":
            group = root / path.lstrip("/")
            if not (group / "cgroup.controllers").exists():
                raise OSError(f"control groups version 2 are not mounted at {root}")
            return group.parent if group.name == SUPERVISOR_GROUP else group
    raise OSError("this process is in no control group of version 2")


SUPERVISOR_GROUP = "supervisor"
"""Where the supervisor itself sits: a group with processes of its own cannot hand controllers to children."""


def _empty(group: Path) -> None:
    leaf = group / SUPERVISOR_GROUP
    leaf.mkdir(exist_ok=True)
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (leaf / "cgroup.procs").write_text(pid)

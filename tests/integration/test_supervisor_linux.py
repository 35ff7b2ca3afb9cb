"""[P4] What only Linux offers: these tests are for it alone."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from cdc.config.programs import ProgramLimitsConfig
from cdc.supervisor.limits import Ceiling, apply_share
from cdc.supervisor.linux import ControlGroup, own_group
from cdc.supervisor.process import SpawnError, spawn
from tests.support.waiting import wait_until


def test_cores_and_priority_hold_for_the_program_and_what_it_starts(tmp_path: Path) -> None:
    source = """
import os, threading, time
while os.nice(0) != 5: time.sleep(0.01)
print(sorted(os.sched_getaffinity(0)), flush=True)
"""
    tree = spawn([sys.executable, "-c", source], mark="writer:1", log=tmp_path / "log")
    apply_share(tree, ProgramLimitsConfig(cpu_cores=1, nice=5))
    wait_until(tree.poll, "it ended")
    assert (tmp_path / "log").read_text().strip() == f"[{max(os.sched_getaffinity(0))}]"


def test_an_address_space_limit_fails_the_allocation_inside_the_program(tmp_path: Path) -> None:
    source = """
import sys, time, resource
while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY: time.sleep(0.01)
try: held = bytearray(2 << 30)
except MemoryError: print("refused")
"""
    tree = spawn([sys.executable, "-c", source], mark="writer:1", log=tmp_path / "log")
    ceiling = Ceiling("writer", ProgramLimitsConfig(memory_mb=512, memory_ceiling="rlimit"))
    ceiling.apply(tree)
    wait_until(tree.poll, "it ended")
    assert (tmp_path / "log").read_text() == "refused\n"


def test_a_control_group_gets_the_ceiling_and_counts_the_kills(tmp_path: Path) -> None:
    """Against a directory laid out as the kernel's, which behaves like one as far as it is used here."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text(f"{psutil.Process().pid}\n")
    group = ControlGroup.create("writer", 4 << 30, parent=tmp_path)
    assert (tmp_path / "supervisor" / "cgroup.procs").read_text() == str(psutil.Process().pid)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert group.path == tmp_path / "cdc-writer"
    assert (group.path / "memory.max").read_text() == str(4 << 30)
    assert (group.path / "memory.oom.group").read_text() == "1"
    group.add(1234)
    assert (group.path / "cgroup.procs").read_text() == "1234"
    (group.path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    assert group.kills() == 2


def test_without_a_memory_controller_there_is_no_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu pids")
    with pytest.raises(OSError, match="no memory controller"):
        ControlGroup.create("writer", 4 << 30, parent=tmp_path)


@pytest.mark.parametrize(
    ("own", "parent"), [("/cdc.service", "cdc.service"), ("/cdc.service/supervisor", "cdc.service")]
)
def test_groups_are_made_beside_the_supervisors_own(tmp_path: Path, own: str, parent: str) -> None:
    membership = tmp_path / "membership"
    membership.write_text(f"4:memory:/elsewhere\n0::{own}\n")
    (tmp_path / own.lstrip("/")).mkdir(parents=True)
    (tmp_path / own.lstrip("/") / "cgroup.controllers").touch()
    assert own_group(tmp_path, membership) == tmp_path / parent


def test_insisting_on_a_group_where_there_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> ControlGroup:
        raise PermissionError("Permission denied")

    monkeypatch.setattr(ControlGroup, "create", refuse)
    with pytest.raises(SpawnError, match="Permission denied"):
        Ceiling("writer", ProgramLimitsConfig(memory_mb=10, memory_ceiling="cgroup"))
    assert Ceiling("writer", ProgramLimitsConfig(memory_mb=10)).missing == "Permission denied"

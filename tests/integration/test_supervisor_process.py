"""[P1 P5] Which process is meant, and which belong to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cdc.supervisor import process
from cdc.supervisor.command import expand, is_own_replicator, run
from cdc.supervisor.process import Ended, Identity, SpawnError, Tree, find_marked, kill_marked, spawn
from tests.support.supervision import alive
from tests.support.waiting import wait_until

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = spawn(SLEEP, mark=f"writer:{tmp_path}", log=tmp_path / "log")
    yield tree
    tree.kill()
    wait_until(tree.poll, "it ended")


def test_a_spawned_process_leads_its_own_session_and_carries_its_mark(tree: Tree, tmp_path: Path) -> None:
    pid = tree.identity.pid
    assert os.getsid(pid) == pid
    wait_until(lambda: (tmp_path / "log").read_text() == "up\n", "its output is in its log")
    assert psutil.Process(pid).environ()[process.MARK] == f"writer:{tmp_path}"


def test_a_pid_that_was_used_again_is_not_the_process(tree: Tree) -> None:
    identity = tree.identity
    assert identity.alive()
    reused = Identity(identity.pid, f"{identity.start}0", identity.mark)
    assert not reused.alive()
    stranger = Tree(Identity(identity.pid, "another/1", "writer:gone"))
    assert stranger.poll() == Ended(None)
    assert stranger.members() == []
    stranger.kill()
    stranger.ask_to_stop("SIGKILL")
    assert tree.poll() is None, "the process that has the pid now is left alone"


def test_an_ended_process_is_not_alive_though_its_zombie_has_the_pid(tree: Tree) -> None:
    os.kill(tree.identity.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(tree.identity.pid).status() == "zombie", "it is a zombie")
    assert not tree.identity.alive()
    assert tree.trouble() == "its process is a zombie"
    assert tree.members() == []
    assert tree.poll() == Ended(-9)


def test_a_suspended_process_is_in_trouble(tree: Tree) -> None:
    assert tree.trouble() is None
    os.kill(tree.identity.pid, signal.SIGSTOP)
    wait_until(lambda: tree.trouble() == "its process is suspended", "it is suspended")


def test_a_start_whose_pid_was_never_recorded_is_found_by_its_mark(tree: Tree, tmp_path: Path) -> None:
    # the kernel shows a new program's environment a moment after it started it
    wait_until(lambda: find_marked(f"writer:{tmp_path}") == tree.identity, "it is found")
    assert find_marked(f"writer:{tmp_path}/another") is None
    kill_marked(f"writer:{tmp_path}")
    wait_until(tree.poll, "it was killed")


def test_a_grandchild_in_a_session_of_its_own_is_still_a_member_when_its_parents_are_gone(
    tmp_path: Path,
) -> None:
    source = f"import subprocess; subprocess.Popen({SLEEP!r}, start_new_session=True)"
    tree = spawn([sys.executable, "-c", source], mark=f"writer:{tmp_path}", log=tmp_path / "log")
    wait_until(tree.poll, "the main process ended")
    (orphan,) = tree.members()
    assert os.getsid(orphan.pid) == orphan.pid
    tree.kill()
    wait_until(lambda: not alive(orphan.pid), "the orphan was killed")


def test_a_program_sees_nothing_of_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    source = "import os; print(os.environ.get('NOTIFY_SOCKET'), os.environ['ADDED'])"
    command = [sys.executable, "-c", source]
    tree = spawn(command, mark="writer:1", log=tmp_path / "log", environment={"ADDED": "yes"})
    wait_until(tree.poll, "it ended")
    assert (tmp_path / "log").read_text() == "None yes\n"


@pytest.mark.parametrize(
    ("command", "user", "problem"),
    [(["/nowhere/writer"], None, "No such file"), (SLEEP, "no-such-user", "no-such-user")],
)
def test_what_cannot_be_started_says_why(
    tmp_path: Path, command: list[str], user: str | None, problem: str
) -> None:
    with pytest.raises(SpawnError, match=problem):
        spawn(command, mark="writer:1", log=tmp_path / "log", user=user)


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    source = f"import subprocess, sys, time; p = subprocess.Popen({SLEEP!r}); "
    source += "open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(600)"
    done = run([sys.executable, "-c", source, str(child)], 5.0)
    assert (done.code, done.output) == (None, "it did not end within 5 s")
    pid = int(child.read_text())
    wait_until(lambda: not alive(pid), "its child was killed")


def test_a_command_tells_its_exit_code_and_the_end_of_its_output() -> None:
    done = run([sys.executable, "-c", "print('x' * 9000 + 'end'); raise SystemExit(3)"], 20.0)
    assert done.code == 3
    assert len(done.output) == 1999
    assert done.output.endswith("xend")
    assert run(["/nowhere/check"], 1.0).output.startswith("it could not be started")


def test_placeholders_are_filled_in_without_a_shell(tmp_path: Path) -> None:
    command = ("{python}", "-m", "cdc", "--config={config}", "$HOME; ls")
    expanded = expand(command, tmp_path / "a b.toml")
    assert expanded == (sys.executable, "-m", "cdc", f"--config={tmp_path}/a b.toml", "$HOME; ls")


def test_no_process_started_by_these_tests_inherits_a_descriptor(tmp_path: Path) -> None:
    """A lock of the supervisor that a program inherited would outlive the supervisor."""
    with (tmp_path / "lock").open("w") as lock:
        source = "import os; print(sorted(os.listdir('/proc/self/fd')))"
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        tree = spawn([sys.executable, "-c", source], mark="writer:1", log=tmp_path / "log")
        wait_until(tree.poll, "it ended")
        assert str(lock.fileno()) not in done.stdout
        assert (tmp_path / "log").read_text() == done.stdout


SECRETS = ("CLICKHOUSE_PASSWORD", "REDIS_PASSWORD", "DUCKDB_ENCRYPTION_KEY")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "sesame")


SHOW = [sys.executable, "-c", "import os; print(sorted(n for n, v in os.environ.items() if v == 'sesame'))"]


def test_a_program_gets_no_secret_that_it_is_not_given(tmp_path: Path, secrets: None) -> None:
    given = {"DUCKDB_ENCRYPTION_KEY": "sesame"}
    for environment, found in ((None, []), (given, ["DUCKDB_ENCRYPTION_KEY"])):
        log = tmp_path / f"log-{len(found)}"
        tree = spawn(SHOW, mark="writer:1", log=log, environment=environment)
        wait_until(tree.poll, "it ended")
        assert log.read_text() == f"{found}\n"


def test_a_check_and_a_command_get_no_secret(secrets: None) -> None:
    assert run(SHOW, 60.0).output == "[]"


def test_the_products_own_replicator_keeps_them() -> None:
    assert is_own_replicator([sys.executable, "-m", "cdc", "--config", "c.toml", "run"])
    assert not is_own_replicator([sys.executable, "-m", "cdc", "check-file", "x"])
    assert not is_own_replicator(["/elsewhere/python", "-m", "cdc", "run"])

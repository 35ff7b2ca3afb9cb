"""Real programs below a real supervisor: killed, suspended, growing; and the supervisor itself killed."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from cdc.errors import CdcError
from tests.support.supervision import QUICK_HEALTH, alive, program, supervised
from tests.support.waiting import wait_until

IDLE = """
    import signal, sys, threading
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), done.set()))
    print("started", flush=True)
    while not done.wait(0.05): pass
"""
STUBBORN = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
    print("started", flush=True)
    while True: time.sleep(0.05)
"""


def test_a_program_is_started_and_its_output_goes_to_its_own_log(tmp_path: Path) -> None:
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it wrote its log")
        assert os.getsid(run.pid()) == run.pid(), "a session of its own [P1]"
        assert run.end() == 0
        assert run.log().splitlines() == ["started", "asked to stop"]


def test_a_killed_program_is_restarted(tmp_path: Path) -> None:
    """[P2]"""
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.pid()
        os.kill(first, signal.SIGKILL)
        run.wait_for_another(first)
        assert run.status()["restarts"] == 1


def test_a_suspended_program_is_noticed_and_restarted(tmp_path: Path) -> None:
    """[P2]"""
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.pid()
        os.kill(first, signal.SIGSTOP)
        run.wait_for_another(first)
        assert not alive(first)
        assert "asked to stop" in run.log(), "it was let run again, to end gracefully"


def test_three_non_zero_exits_are_fatal_with_an_alert(tmp_path: Path) -> None:
    """[P3]"""
    failing = program("raise SystemExit(3)", restart={"max_restarts": 2, "backoff_initial_sec": 0.05})
    with supervised(tmp_path, writer=failing) as run:
        status = run.wait_for("fatal")
        assert status["reason"] == "it ended with exit code 3, after 2 restarts within 300 s"
        assert status["pid"] is None
        assert "program_fatal" in run.alerts()


def test_an_alert_is_handed_to_the_configured_command_when_raised_and_when_cleared(tmp_path: Path) -> None:
    """[P3]"""
    told = tmp_path / "told"
    append = "import sys; open(sys.argv[1], 'ab').write(sys.stdin.buffer.read() + b'\\n')"
    alerts = {"command": [sys.executable, "-c", append, str(told)]}
    failing = program("raise SystemExit(3)", restart={"max_restarts": 0})
    with supervised(tmp_path, {"alerts": alerts}, writer=failing) as run:
        run.wait_for("fatal")
        run.ask("stop")
        run.ask("start")
        wait_until(lambda: told.exists() and told.read_text().count("\n") >= 3, "it was told", 30)
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [event["raised"] for event in events[:3]] == [True, False, True]
    assert {event["name"] for event in events} == {"program_fatal"}
    assert "cdc ctl start" in events[0]["remedy"]


def test_a_fatal_program_can_be_started_by_a_person(tmp_path: Path) -> None:
    source = """
        import pathlib, sys, time
        if not pathlib.Path(sys.argv[1]).exists(): raise SystemExit(1)
        time.sleep(600)
    """
    failing = program(source, tmp_path / "mended", restart={"max_restarts": 0})
    with supervised(tmp_path, writer=failing) as run:
        run.wait_for("fatal")
        (tmp_path / "mended").touch()
        run.ask("start")
        run.wait_for("running")
        assert run.alerts() == {}


def test_a_program_above_its_memory_limit_is_an_alert_and_restarted_gracefully(tmp_path: Path) -> None:
    """[P4]"""
    source = """
        import pathlib, signal, sys, threading
        once = pathlib.Path(sys.argv[1])
        done = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), done.set()))
        if not once.exists():
            once.touch()
            held = b"x" * (200 << 20)
        while not done.wait(0.05): pass
    """
    limits = {"memory_mb": 120, "memory_ceiling": "none"}
    with supervised(tmp_path, writer=program(source, tmp_path / "once", limits=limits)) as run:
        wait_until(lambda: "program_memory" in run.alerts(), "the alert")
        assert "above its limit of 120 MB" in run.alerts()["program_memory"]
        run.wait_for("running")
        assert run.log() == "asked to stop\n"
        assert run.status()["restarts"] == 1


def test_the_whole_tree_is_stopped_also_what_left_its_session(tmp_path: Path) -> None:
    """[P5]"""
    source = """
        import subprocess, sys, time
        sleep = [sys.executable, "-c", "import time; print('child', flush=True); time.sleep(600)"]
        subprocess.Popen(sleep)
        subprocess.Popen(sleep, start_new_session=True)
        time.sleep(600)
    """
    with supervised(tmp_path, writer=program(source)) as run:
        run.wait_for("running")
        wait_until(lambda: run.log().count("child") == 2, "the children run")
        tree = [run.pid(), *(child.pid for child in psutil.Process(run.pid()).children())]
        assert len(tree) == 3
        run.ask("stop")
        run.wait_for("stopped")
        assert not any(map(alive, tree))


def test_an_orphan_is_reaped_when_it_ends(tmp_path: Path) -> None:
    source = """
        import subprocess, sys, time
        orphan = "import os, sys, time\\nwhile os.getppid() != int(sys.argv[1]): time.sleep(0.01)\\n"
        orphan += "print(os.getpid(), flush=True)"
        middle = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])"
        subprocess.run([sys.executable, "-c", middle, orphan, str(__import__("os").getppid())])
        time.sleep(600)
    """
    with supervised(tmp_path, writer=program(source)) as run:
        wait_until(lambda: run.log().endswith("\n"), "the orphan became the supervisor's child, and ended")
        orphan = int(run.log())
        wait_until(lambda: not psutil.pid_exists(orphan), "nothing is left of it, not even a zombie")
        assert run.status()["state"] == "running"


def test_without_a_record_supervision_goes_on_and_nothing_is_started(tmp_path: Path) -> None:
    """A full disk, or a directory that is not writable any more."""
    with supervised(tmp_path, writer=program(IDLE), other=program(IDLE, autostart=False)) as run:
        run.wait_for("running")
        (tmp_path / "programs.json.new").mkdir()
        with pytest.raises(CdcError, match="cannot store the record"):
            run.ask("start", "other")
        wait_until(lambda: "record_not_stored" in run.alerts(), "the alert")
        assert run.status("other")["state"] == "waiting"
        (tmp_path / "programs.json.new").rmdir()
        run.wait_for("running", "other")
        assert (run.status("writer")["restarts"], run.status("other")["restarts"]) == (0, 0)


def test_what_a_crashed_program_left_behind_is_ended_before_it_is_restarted(tmp_path: Path) -> None:
    source = """
        import subprocess, sys, time
        if len(sys.argv) == 1: time.sleep(600)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, flush=True)
        time.sleep(600)
    """
    with supervised(tmp_path, writer=program(source, "main")) as run:
        run.wait_for("running")
        wait_until(lambda: run.log().endswith("\n"), "the child runs")
        first, orphan = run.pid(), int(run.log())
        os.kill(first, signal.SIGKILL)
        run.wait_for_another(first)
        assert not alive(orphan)


def test_programs_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    """[P5]"""
    source = """
        import pathlib, signal, sys, threading
        done = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: done.set())
        with open(sys.argv[1], "a") as file:
            print("start", sys.argv[2], file=file, flush=True)
            while not done.wait(0.05): pass
            print("stop", sys.argv[2], file=file, flush=True)
    """
    order = tmp_path / "order"
    with supervised(
        tmp_path,
        replicator=program(source, order, "replicator", after=["writer"]),
        writer=program(source, order, "writer"),
    ) as run:
        run.wait_for("running", "replicator")
        assert run.end() == 0
        told = order.read_text().splitlines()
        assert told == ["start writer", "start replicator", "stop replicator", "stop writer"]


def test_a_program_that_does_not_stop_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    """[P5]"""
    with supervised(tmp_path, writer=program(STUBBORN, grace_sec=0.3)) as run:
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it ignores SIGTERM")
        pid = run.pid()
        assert run.end() == 0
        assert not alive(pid)
        assert run.log() == "started\nno\n", "it was asked once"


@pytest.mark.parametrize("autostart", [True, False])
def test_what_was_killed_at_a_shutdown_is_checked_before_its_next_start(
    tmp_path: Path, autostart: bool
) -> None:
    """[P5 P7]"""
    checked = tmp_path / "checked"
    check = {"command": [sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(checked)]}
    settings: dict[str, Any] = {"grace_sec": 0.1, "before_restart": check, "autostart": autostart}
    with supervised(tmp_path, writer=program(STUBBORN, **settings)) as run:
        run.ask("start")
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it ignores SIGTERM")
        assert run.end() == 0
        assert not checked.exists()
        run.begin()
        if not autostart:
            assert run.status()["state"] == "stopped"
            run.ask("start")
        run.wait_for("running")
        assert checked.exists()


def test_a_second_signal_hurries(tmp_path: Path) -> None:
    """[P5]"""
    with supervised(tmp_path, writer=program(STUBBORN, grace_sec=600)) as run:
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it ignores SIGTERM")
        pid = run.pid()
        run.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "no" in run.log(), "it was asked")
        assert alive(pid)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(20) == 0
        assert not alive(pid)


def test_a_detaching_supervisor_leaves_its_programs_running(tmp_path: Path) -> None:
    with supervised(tmp_path, {"on_exit": "detach"}, writer=program(IDLE)) as run:
        run.wait_for("running")
        pid = run.pid()
        assert run.end() == 0
        assert alive(pid)
        run.begin()
        assert run.pid() == pid


def test_reload_sends_its_signal_and_a_restart_is_graceful(tmp_path: Path) -> None:
    reload = 'signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))'
    source = IDLE.replace('print("started"', f'{reload}\n    print("started"')
    with supervised(tmp_path, writer=program(source, reload_signal="SIGHUP")) as run:
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it listens")
        run.ask("reload")
        wait_until(lambda: "reloaded" in run.log(), "it was told")
        first = run.pid()
        run.ask("restart")
        run.wait_for_another(first)
        assert run.status()["restarts"] == 0, "a person's restart is not counted"
        assert "asked to stop" in run.log()


def test_a_heartbeat_that_stops_restarts_the_program(tmp_path: Path) -> None:
    """[P2]"""
    source = """
        import pathlib, sys, time
        beat, once = map(pathlib.Path, sys.argv[1:])
        while True:
            if not once.exists(): beat.touch()
            time.sleep(0.05)
    """
    beat, hang = tmp_path / "beat", tmp_path / "hang"
    checks = [{"kind": "heartbeat", "path": str(beat), "max_age_sec": 1}]
    with supervised(
        tmp_path, writer=program(source, beat, hang, health=QUICK_HEALTH | {"checks": checks})
    ) as run:
        run.wait_for("running")
        first = run.pid()
        hang.touch()
        wait_until(lambda: run.status()["pid"] != first, "it was restarted", 30)
        hang.unlink()
        run.wait_for("running")
        assert run.status()["restarts"] >= 1


@pytest.mark.parametrize("damaged", [False, True])
def test_the_files_of_a_crashed_program_are_checked_before_it_is_started_again(
    tmp_path: Path, damaged: bool
) -> None:
    """[P7]"""
    data, log = tmp_path / "trades.duckdb", tmp_path / "trades.duckdb.wal"
    data.write_text("damaged" if damaged else "sound")
    log.write_text("log")
    check = "import pathlib, sys; sys.exit(7 if 'damaged' in pathlib.Path(sys.argv[1]).read_text() else 0)"
    before = {"command": [sys.executable, "-c", check, str(data)], "set_aside": [str(data), str(log)]}
    with supervised(tmp_path, writer=program(IDLE, before_restart=before)) as run:
        run.wait_for("running")
        first = run.pid()
        os.kill(first, signal.SIGKILL)
        if not damaged:
            run.wait_for_another(first)
            assert data.read_text() == "sound"
            return
        assert "set aside as" in run.wait_for("fatal")["reason"]
        assert "file_corrupt" in run.alerts()
        (kept,) = tmp_path.glob("trades.duckdb.damaged-*")
        (kept_log,) = tmp_path.glob("trades.duckdb.wal.damaged-*")
        assert (kept.read_text(), kept_log.read_text()) == ("damaged", "log")
        assert not data.exists()
        run.kill()
        run.begin()
        assert run.status()["state"] == "fatal", "not even the next supervisor starts it"

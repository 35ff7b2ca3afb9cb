"""A supervisor that is killed, and the next one: programs are adopted, and never there twice. [P1]"""

import json
import os
import signal
from pathlib import Path

from tests.integration.test_supervisor_end_to_end import IDLE, STUBBORN
from tests.support.supervision import alive, program, supervised
from tests.support.waiting import wait_until


def test_a_killed_supervisor_leaves_its_programs_and_the_next_one_adopts_them(tmp_path: Path) -> None:
    """[P1]"""
    with supervised(tmp_path, writer=program(IDLE), replicator=program(IDLE, order=1)) as run:
        run.wait_for("running", "replicator")
        pids = run.pid("writer"), run.pid("replicator")
        run.kill()
        assert all(map(alive, pids))
        run.begin()
        assert (run.pid("writer"), run.pid("replicator")) == pids
        assert run.status("writer")["state"] == "running"
        assert run.log("writer") == "started\n", "no second copy"
        os.kill(pids[0], signal.SIGKILL)
        run.wait_for_another(pids[0])
        assert run.pid("replicator") == pids[1], "the replicator is not restarted because the writer was [P3]"
        assert run.end() == 0
        assert not any(map(alive, pids))


def test_a_start_that_the_killed_supervisor_could_not_record_is_found_by_its_mark(tmp_path: Path) -> None:
    """[P1] The supervisor died after it started the program and before it stored its pid."""
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.pid()
        run.kill()
        record = tmp_path / "programs.json"
        content = json.loads(record.read_text())
        content["programs"]["writer"] |= {"pid": None, "start": None, "state": "waiting"}
        record.write_text(json.dumps(content))
        run.begin()
        assert run.wait_for("running")["pid"] == first
        assert run.log() == "started\n", "no second copy"


def test_a_pid_that_another_process_has_by_now_is_not_adopted(tmp_path: Path) -> None:
    """[P1]"""
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.pid()
        run.kill()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first), "it ended")
        record = tmp_path / "programs.json"
        content = json.loads(record.read_text())
        content["programs"]["writer"]["pid"] = os.getpid()
        record.write_text(json.dumps(content))
        run.begin()
        assert run.wait_for_another(os.getpid()) != first
        assert run.end() == 0, "and this process still runs"


def test_a_stop_that_a_person_asked_for_is_finished_by_the_next_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, writer=program(STUBBORN, grace_sec=600)) as run:
        run.wait_for("running")
        wait_until(lambda: "started" in run.log(), "it ignores SIGTERM")
        pid = run.pid()
        run.ask("stop")
        wait_until(lambda: "no" in run.log(), "it was asked")
        run.kill()
        run.begin()
        assert run.status()["state"] == "stopping"
        os.kill(pid, signal.SIGKILL)
        run.wait_for("stopped")


def test_a_program_that_ended_while_no_supervisor_watched_is_started_again(tmp_path: Path) -> None:
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.pid()
        run.kill()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first), "it ended")
        run.begin()
        run.wait_for_another(first)


def test_a_program_stopped_by_a_person_stays_stopped_under_the_next_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        run.ask("stop")
        run.wait_for("stopped")
        run.kill()
        run.begin()
        assert run.status()["state"] == "stopped"


def test_a_second_supervisor_of_the_same_directory_is_refused(tmp_path: Path) -> None:
    with supervised(tmp_path, writer=program(IDLE)) as run:
        run.wait_for("running")
        first = run.process
        run.begin()
        assert run.process.returncode == 1
        assert "SupervisorHeld" in run.own_log()
        run._process = first

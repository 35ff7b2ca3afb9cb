"""[P2]"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from cdc.clock import SystemClock
from cdc.config.programs import Check, HealthConfig, HeartbeatCheck
from cdc.supervisor.health import BoundedCheck, Probe, ProgramHealth, heartbeat, probe_of
from tests.support.clock import FakeClock
from tests.support.waiting import wait_until


def probe(clock: FakeClock | None = None, **settings: Any) -> Probe:
    check: Check = TypeAdapter(Check).validate_python(settings)
    return probe_of(check, clock or FakeClock(), {"CDC_PROGRAM": "writer"})


def well() -> str | None:
    return None


@pytest.mark.parametrize(
    ("age", "problem"), [(0, None), (5, None), (5.1, "5.1 s old"), (-6, "6.0 s in the future")]
)
def test_a_heartbeat_must_be_recent_and_of_this_time(tmp_path: Path, age: float, problem: str | None) -> None:
    beat = tmp_path / "beat"
    beat.touch()
    os.utime(beat, (1_760_000_000 - age,) * 2)
    found = heartbeat(HeartbeatCheck(kind="heartbeat", path=beat, max_age_sec=5), 1_760_000_000)
    assert found == (None if problem is None else f"{beat} is {problem}")


def test_a_heartbeat_that_was_never_written_is_a_failure(tmp_path: Path) -> None:
    assert "No such file" in str(probe(kind="heartbeat", path=tmp_path / "beat")())


def test_the_heartbeat_of_an_earlier_start_says_nothing_of_this_one(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    beat.touch()
    os.utime(beat, (1_760_000_000,) * 2)
    check = HeartbeatCheck(kind="heartbeat", path=beat)
    clock = FakeClock(wall=1_760_000_001)
    started = probe_of(check, clock, {})
    adopted = probe_of(check, clock, {}, adopted=True)
    assert adopted() is None
    assert started() == f"{beat} was not touched since the start"
    os.utime(beat, (1_760_000_001,) * 2)
    assert started() is None


def test_progress_is_any_change_of_any_file(tmp_path: Path) -> None:
    clock = FakeClock()
    data, log = tmp_path / "t.duckdb", tmp_path / "t.duckdb.wal"
    data.write_text("x")
    progress = probe(clock, kind="progress", paths=[data, log], max_idle_sec=60)
    assert progress() is None
    clock.advance(60)
    assert progress() is None
    clock.advance(1)
    assert progress() == "nothing was written for 61 s"
    log.write_text("x")
    assert progress() is None, "the log appeared"
    clock.advance(61)
    assert progress() is not None
    log.unlink()
    assert progress() is None, "a checkpoint took it away"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health?deep=1" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_must_answer_with_its_status(page: str) -> None:
    assert probe(kind="http", url=f"{page}/health?deep=1")() is None
    assert probe(kind="http", url=f"{page}/")() == "status 503 instead of 200"
    assert probe(kind="http", url=f"{page}/", status=503)() is None


def test_a_closed_port_is_a_failure_and_an_open_one_is_not(page: str) -> None:
    port = int(page.rpartition(":")[2])
    assert probe(kind="tcp", port=port)() is None
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "refused" in str(probe(kind="tcp", port=port)())
    assert "refused" in str(probe(kind="http", url=f"http://127.0.0.1:{port}/")())


def test_a_command_must_exit_with_0() -> None:
    source = "import os, sys; print(os.environ['CDC_PROGRAM']); sys.exit(int(sys.argv[1]))"
    command = ["{python}", "-c", source]
    assert probe(kind="command", command=[*command, "0"], timeout_sec=20)() is None
    assert probe(kind="command", command=[*command, "2"], timeout_sec=20)() == "exit code 2: writer"
    hang = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert probe(kind="command", command=hang, timeout_sec=0.2)() == "it did not end within 0.2 s"


def test_a_check_that_hangs_is_a_failure_and_is_not_piled_up() -> None:
    release, calls, clock = threading.Event(), [], FakeClock()

    def hang() -> None:
        calls.append(1)
        release.wait(20)

    check = BoundedCheck("tcp", hang, 3.0, clock)
    check.begin()
    assert not check.finished()
    clock.advance(3)
    assert check.finished()
    assert check.result() == "tcp: no answer within 3 s"
    check.begin()
    assert len(calls) == 1
    assert check.result() == "tcp: no answer within 3 s"
    release.set()
    wait_until(lambda: check.result() is None, "it ended after all")


def health(trouble: Callable[[], str | None], clock: FakeClock, **settings: Any) -> ProgramHealth:
    return ProgramHealth(HealthConfig.model_validate(settings), clock, trouble, environment={})


def test_a_round_is_made_every_interval() -> None:
    clock = FakeClock()
    checked = health(well, clock, interval_sec=5)
    rounds = []
    for _ in range(21):
        rounds.append(checked.poll()[0])
        clock.advance(0.5)
    assert [index for index, ended in enumerate(rounds) if ended] == [0, 10, 20]


def test_a_starting_program_is_asked_more_often() -> None:
    clock = FakeClock()
    checked = health(lambda: "not yet", clock, interval_sec=5)
    for _ in range(4):
        assert checked.poll(starting=True) == (True, "not yet")
        clock.advance(0.5)


def test_the_state_of_the_process_is_part_of_every_round() -> None:
    assert health(lambda: "its process is suspended", FakeClock()).poll() == (
        True,
        "its process is suspended",
    )


def test_every_failed_check_is_named(tmp_path: Path) -> None:
    missing = [{"kind": "heartbeat", "path": tmp_path / name} for name in ("a", "b")]
    checked = ProgramHealth(
        HealthConfig.model_validate({"checks": missing}), SystemClock(), well, environment={}
    )
    problems: list[str] = []

    def ended() -> bool:
        done, problem = checked.poll()
        problems.append(problem or "")
        return done

    wait_until(ended, "the round ended")
    assert problems[-1].count("heartbeat: ") == 2

"""The lease: one holder per source, whatever happened to the one before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cdc.errors import ExitCode, LeaseHeld
from cdc.state import Lease, Owner, holder

HOLDER = """
import sys
from pathlib import Path
from cdc.state import Lease

with Lease(Path(sys.argv[1]), "source"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of "source" until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_lease(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        lease = Lease(tmp_path, "source")
        with pytest.raises(LeaseHeld, match=f"process {process.pid} on .+ since .+Z") as caught:
            lease.acquire()
        assert not lease.held
        assert caught.value.exit_code is ExitCode.HELD
        owner = holder(tmp_path, "source")
        assert owner is not None
        assert owner.pid == process.pid
        with Lease(tmp_path, "another source") as other:
            assert other.held


def test_a_holder_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        process.kill()
        process.wait()
        assert len(list(tmp_path.glob("*.json"))) == 1  # the note of the dead holder
        assert holder(tmp_path, "source") is None
        with Lease(tmp_path, "source"):
            owner = holder(tmp_path, "source")
            assert owner is not None
            assert owner.pid == os.getpid()


def test_a_holder_that_hangs_keeps_the_lease(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        psutil.Process(process.pid).suspend()
        with pytest.raises(LeaseHeld):
            Lease(tmp_path, "source").acquire()


def test_a_standby_takes_over_once_the_holder_is_gone(tmp_path: Path) -> None:
    """[R8] The clock ends the holder at the third try: a standby has no wait but the clock's."""
    with another_process(tmp_path) as process:

        class Clock:
            def __init__(self) -> None:
                self.waits: list[float] = []

            def monotonic(self) -> float:
                return 0.0

            def wall(self) -> float:
                return 0.0

            def thread_cpu(self) -> float:
                return 0.0

            def wait(self, event: threading.Event, seconds: float) -> bool:
                self.waits.append(seconds)
                if len(self.waits) == 3:
                    process.kill()
                    process.wait()
                return event.is_set()

        clock = Clock()
        lease = Lease(tmp_path, "source", clock=clock)
        assert lease.standby(threading.Event())
        assert holder(tmp_path, "source") == Owner.of_this_process(since=0.0)
        lease.release()
        assert len(clock.waits) == 3
        assert max(clock.waits) <= 10.0


def test_a_standby_ends_when_stop_is_asked_for(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with another_process(tmp_path):
        lease = Lease(tmp_path, "source")
        assert lease.standby(stop) is False
        assert not lease.held


def test_a_lease_given_up_can_be_taken_again_and_leaves_no_note(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "source")
    for _ in range(2):
        with lease:
            assert holder(tmp_path, "source") is not None
        assert not lease.held
        assert holder(tmp_path, "source") is None
        assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_note_that_cannot_be_read_decides_nothing(tmp_path: Path, note: str) -> None:
    with another_process(tmp_path):
        (path,) = tmp_path.glob("*.json")
        path.write_text(note)
        assert holder(tmp_path, "source") is None
        with pytest.raises(LeaseHeld, match="has not said which"):
            Lease(tmp_path, "source").acquire()


def test_a_process_that_took_over_the_pid_is_not_the_holder(tmp_path: Path) -> None:
    with Lease(tmp_path, "source"):
        (path,) = tmp_path.glob("*.json")
        note = json.loads(path.read_text())
        path.write_text(json.dumps(note | {"started_at": note["started_at"] - 100}))
        assert holder(tmp_path, "source") is None
        path.write_text(json.dumps(note | {"host": "another-host", "pid": 0}))
        assert str(holder(tmp_path, "source")).startswith("process 0 on another-host since 20")

"""`cdc up` over the Rust writer and the replicator: each is broken in turn, nothing is lost. [P1-P5 P7 W4]

The tests share one installation and leave it at work. `pytest -rP` on this file prints how soon each fault
was noticed, and when rows arrived again in ClickHouse.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.clickhouse import Certificates, running_server
from tests.support.installation import MEMORY_MB, PROGRAMS, RATE, Installation, installed
from tests.support.rust_writer import rust_writer_binary
from tests.support.supervision import alive
from tests.support.waiting import wait_until

__all__ = ["rust_writer_binary"]


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory, rust_writer_binary: Path, certificates: Certificates
) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("up")
    with (
        running_server(directory / "clickhouse", certificates) as clickhouse,
        installed(directory, rust_writer_binary, clickhouse) as installation,
    ):
        yield installation


def test_a_killed_writer_is_back_and_the_replicator_is_left_alone(up: Installation) -> None:
    replicator = up.pid("replicator")
    up.outage("the writer is killed", lambda: os.kill(up.pid(), signal.SIGKILL))
    assert "writer: files sound" in up.log(), "its file was checked before [P7]"
    assert up.pid("replicator") == replicator, "[P3]"


def test_a_suspended_writer_is_restarted(up: Installation) -> None:
    """[P2]"""
    replicator = up.pid("replicator")
    up.outage("the writer is suspended", lambda: os.kill(up.pid(), signal.SIGSTOP))
    assert "writer: stopping: unresponsive: its process is suspended" in up.log()
    assert up.pid("replicator") == replicator


def test_a_writer_that_fails_three_restarts_stays_down_until_a_person_starts_it(up: Installation) -> None:
    """[P3]"""
    replicator = up.pid("replicator")
    up.give("--no-such-option")
    began = time.monotonic()
    assert up.cdc("ctl", "restart", "writer").returncode == 1
    up.wait_for("fatal")
    print(f"the writer fails at each start: given up after {time.monotonic() - began:.1f} s")
    assert up.status()["reason"] == "it ended with exit code 2, after 3 restarts within 300 s"
    assert "program_fatal" in up.alerts()
    assert up.pid("replicator") == replicator
    told = up.cdc("ctl", "status")
    assert told.returncode == 1
    assert "cdc ctl start NAME" in told.stdout
    up.give(RATE)
    assert up.cdc("ctl", "start", "writer").returncode == 0
    up.wait_for_more()
    assert "program_fatal" not in up.alerts()


def test_a_writer_above_its_memory_ceiling_is_an_alert_and_restarted(up: Installation) -> None:
    """[P4]"""
    replicator = up.pid("replicator")
    up.give("--rate 0 --rows-per-commit 20000000")
    up.restart_writer()
    up.give(RATE)
    up.outage(
        "the writer outgrows its memory",
        lambda: wait_until(lambda: "program_memory" in up.alerts(), "alert", 60),
    )
    assert psutil.Process(up.pid()).memory_info().rss < MEMORY_MB << 20
    assert up.pid("replicator") == replicator


def test_a_killed_replicator_is_back_and_the_writer_is_left_alone(up: Installation) -> None:
    writer = up.pid()
    up.outage("the replicator is killed", lambda: os.kill(up.pid("replicator"), signal.SIGKILL), "replicator")
    assert up.pid() == writer


def test_a_killed_supervisor_leaves_both_at_work_and_the_next_one_adopts_them(up: Installation) -> None:
    """[P1]"""
    pids = [up.pid(name) for name in PROGRAMS]
    up.supervisor.kill()
    up.supervisor.wait()
    up.wait_for_more()
    began = time.monotonic()
    up.begin()
    print(f"the supervisor is killed: both adopted {time.monotonic() - began:.1f} s after its next start")
    assert [up.status(name)["state"] for name in PROGRAMS] == ["running", "running"]
    assert [up.pid(name) for name in PROGRAMS] == pids


def test_source_and_target_are_equal_after_all_that_and_the_end_is_in_order(up: Installation) -> None:
    """[P5]"""
    assert up.cdc("ctl", "stop", "writer").returncode == 0
    compared = up.cdc("verify")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    replicator = up.pid("replicator")
    up.supervisor.send_signal(signal.SIGTERM)
    assert up.supervisor.wait(60) == 0
    assert not alive(replicator)

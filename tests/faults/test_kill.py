"""kill -9 and SIGTERM at each step of the cycle: a restart resumes, nothing lost, nothing twice. [R3, R8]"""

from __future__ import annotations

import time

import pytest

from cdc.errors import ExitCode
from tests.support.dying import STEPS
from tests.support.faults import Rig
from tests.support.replica import Replica
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def rig(written_rig: Rig) -> Rig:
    return written_rig


@pytest.mark.parametrize("step", STEPS)
def test_after_kill_9_at_a_step_a_restart_leaves_nothing_out_and_nothing_twice(rig: Rig, step: str) -> None:
    assert _running(rig).die(step, "KILL") == -9
    began = time.monotonic()
    _running(rig)
    rig.settle(f"kill -9 {step}", time.monotonic() - began, "the process is gone; its restart says nothing")


@pytest.mark.parametrize("step", STEPS)
def test_sigterm_at_a_step_ends_in_order_and_a_restart_goes_on(rig: Rig, step: str) -> None:
    assert _running(rig).die(step, "TERM") == 0
    assert rig.status()["state"] == "stopped"
    began = time.monotonic()
    _running(rig)
    rig.settle(f"SIGTERM {step}", time.monotonic() - began, "state: stopped")


def _running(rig: Rig) -> Replica:
    """A replicator that can be told to die, caught up: the one there is, or a new one."""
    if not rig.runs():
        rig.replicate(mortal=True)
    rig.recover()
    return rig.replica


def test_a_second_replicator_is_refused_and_harms_nothing(rig: Rig) -> None:
    rig.stop()
    with rig.replicate() as first:
        rig.recover()
        before = rig.status()["pid"]
        with rig.replicate() as second:
            assert second.wait() == ExitCode.HELD.value
            message = second.messages()[-1]
            assert f"held by process {first.process.pid}" in message
        rig.recover()
        assert rig.status()["pid"] == before == first.process.pid
        rig.settle("two replicators on one source", 0.0, message)


def test_a_replicator_that_was_overtaken_ends_and_inserts_no_more(rig: Rig) -> None:
    """Its lock file was removed by hand: the epoch in the store is what is left."""
    rig.stop()
    with rig.replicate() as first:
        rig.recover()
        for lock in (rig.directory / "trades.duckdb.cdc").glob("lease-*.lock"):
            lock.unlink()
        with rig.replicate() as second:
            assert first.wait() == ExitCode.HELD.value
            message = first.messages()[-1]
            assert "another replicator has taken over" in message
            took = rig.recover()
            assert second.process.poll() is None
            rig.settle("lease lost while running", took, message)


def test_a_standby_takes_over_within_ten_seconds(rig: Rig) -> None:
    rig.stop()
    with rig.replicate() as first:
        rig.recover()
        with rig.replicate("--standby") as second:
            wait_until(lambda: second.process.poll() is None and rig.recover() >= 0, "the first works on")
            assert rig.status()["pid"] == first.process.pid
            first.kill()
            began = time.monotonic()
            wait_until(lambda: rig.status()["pid"] == second.process.pid, "the standby to take over", 10.0)
            rig.recover()
            took = time.monotonic() - began
            rig.settle("the active replicator killed, a standby there", took, "none: the standby goes on")

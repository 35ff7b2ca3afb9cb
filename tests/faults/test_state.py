"""What the replicator itself depends on fails: its disk, its store, the clock. [R3]"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cdc.errors import ExitCode
from tests.support.faults import Rig
from tests.support.replica import ROOT
from tests.support.waiting import wait_until

LEAST_BYTES = 1 << 16
"""Room for log and status, which are to go on telling."""


@pytest.fixture(scope="module")
def rig(written_rig: Rig) -> Rig:
    return written_rig


def _store(rig: Rig) -> Path:
    return next((rig.directory / "trades.duckdb.cdc").glob("*.sqlite3"))


def test_a_store_that_cannot_grow_halts_with_the_reason_and_goes_on_with_space(rig: Rig) -> None:
    with rig.replicate() as replica:
        rig.calm()
        log = _store(rig).with_name(f"{_store(rig).name}-wal")
        process = psutil.Process(replica.process.pid)
        limit = max(LEAST_BYTES, log.stat().st_size)
        process.rlimit(psutil.RLIMIT_FSIZE, (limit, psutil.RLIM_INFINITY))
        message = rig.said()
        assert "state store" in message
        assert "disk" in message
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        rig.settle("state disk full", rig.recover(), message)
        assert replica.stop() == 0


def test_a_clock_that_is_set_back_and_forth_changes_nothing_that_arrives(rig: Rig) -> None:
    clock = rig.directory / "clock"
    clock.write_text("0")
    with rig.replicate(clock=clock) as replica:
        rig.calm()
        for hours in (-1, 2, 0):
            fresh = clock.with_suffix(".new")
            fresh.write_text(str(3600 * hours))
            fresh.replace(clock)
            rig.recover()
        rig.settle("clock set back an hour, then two on, then right", rig.recover(), "none")
        assert replica.stop() == 0


def test_a_store_that_is_gone_means_that_everything_is_sent_again(rig: Rig) -> None:
    for file in _store(rig).parent.glob(f"{_store(rig).name}*"):
        file.unlink()
    began = time.monotonic()
    with rig.replicate() as replica:
        rig.recover()
        rig.settle("state store deleted", time.monotonic() - began, "none: it starts from the first row")
        assert replica.stop() == 0


def test_a_damaged_store_is_said_and_rebuilt_on_request(rig: Rig) -> None:
    content = bytearray(_store(rig).read_bytes())
    for at in range(100, len(content), 50):
        content[at] ^= 0xFF
    _store(rig).write_bytes(content)
    with rig.replicate() as refused:
        assert refused.wait() == ExitCode.STATE.value
        message = refused.messages()[-1]
    assert "cdc watermark rebuild" in message
    rebuild = [sys.executable, "-m", "cdc", "--config", str(rig.config), "watermark", "rebuild", "--yes"]
    done = subprocess.run(rebuild, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    began = time.monotonic()
    with rig.replicate() as replica:
        rig.recover()
        wait_until(lambda: replica.process.poll() is None, "it goes on")
        rig.settle("state store damaged, then rebuilt from the target", time.monotonic() - began, message)
        assert replica.stop() == 0

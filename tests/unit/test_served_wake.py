"""A served source is looked at when its log grows, else ever less often; positions only grow."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from cdc.change import Position
from cdc.clock import SystemClock
from cdc.eras import MemoryEras
from cdc.source.served.wake import Ticks, Wake
from tests.support.clock import FakeClock

NEARLY = 0.002


def waits(wake: Wake, ticks: Ticks, clock: FakeClock, number: int) -> list[float]:
    """How long it takes until something is to be looked at, so often."""
    found = []
    for _ in range(number):
        before = clock.monotonic()
        since = ticks.now()
        assert wake.wait(since, 100.0) != since
        found.append(round(clock.monotonic() - before, 3))
    return found


def test_without_a_log_looks_become_rarer_until_one_is_worth_it() -> None:
    clock = FakeClock()
    ticks = Ticks(MemoryEras(0.0))
    wake = Wake(ticks, clock, None, shortest=0.02, longest=1.0)
    pauses = waits(wake, ticks, clock, 30)
    assert pauses[0] == pytest.approx(0.02, abs=NEARLY)
    assert all(then >= before - NEARLY for before, then in pairwise(pauses))
    assert pauses[-1] == pytest.approx(1.0, abs=NEARLY)
    wake.found()
    assert waits(wake, ticks, clock, 1) == [pytest.approx(0.02, abs=NEARLY)]


def test_a_log_that_grows_ends_the_wait(tmp_path: Path) -> None:
    log = tmp_path / "t.db.wal"
    log.write_bytes(b"1")
    clock = FakeClock()
    ticks = Ticks(MemoryEras(0.0))
    wake = Wake(ticks, clock, log, shortest=0.02, longest=1.0)
    assert wake.sees_log
    waits(wake, ticks, clock, 30)
    log.write_bytes(b"12")
    assert waits(wake, ticks, clock, 1) == [0.0]
    log.unlink()
    assert waits(wake, ticks, clock, 1) == [0.0], "after a checkpoint there is none"


def test_a_log_that_is_elsewhere_is_not_relied_on() -> None:
    clock = FakeClock()
    ticks = Ticks(MemoryEras(0.0))
    wake = Wake(ticks, clock, Path("/no/such/directory/t.db.wal"), shortest=0.02, longest=1.0)
    assert not wake.sees_log
    assert waits(wake, ticks, clock, 1) == [pytest.approx(0.02, abs=NEARLY)]


def test_a_wait_ends_by_time_by_nudge_and_by_wake() -> None:
    ticks = Ticks(MemoryEras(0.0))
    wake = Wake(ticks, SystemClock(), None, shortest=60.0, longest=60.0)
    since = ticks.now()
    assert wake.wait(since, 0.01) == since
    for end in (wake.nudge, wake.wake):
        timer = threading.Timer(0.1, end)
        timer.start()
        assert wake.wait(since, 30.0) == since
        timer.join()
    assert wake.wait(since, 30.0) == since, "those to come, too"


def test_positions_and_their_versions_grow_past_whatever_was_there() -> None:
    ticks = Ticks(MemoryEras(0.0))
    first, then = ticks.now(), ticks.next()
    assert first < then
    assert first.as_version() < then.as_version()
    ahead = Position(then.era + 1_000, 7, 48).as_version()
    assert ticks.past(ahead).as_version() > ahead
    assert ticks.now() > then
    before = ticks.now()
    assert ticks.past(first.as_version()) == before, "one that was passed long ago changes nothing"


def test_a_counter_that_another_raised_is_followed() -> None:
    eras = MemoryEras(0.0)
    ticks = Ticks(eras)
    before = ticks.now()
    eras.past(Position(before.era + 5, 0, 0).as_version())
    assert ticks.now().era > before.era + 5

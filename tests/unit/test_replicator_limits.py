"""Rates, memory, pressure and the target's return: what slows the replicator, and what lets it go on.

[R4, R5, R7, S5]
"""

from __future__ import annotations

import random
import threading

import pytest

from cdc.errors import LeaseHeld, Meaning, Relief, TargetError
from cdc.rate import Rate
from cdc.replicator.breaker import Breaker, BreakerState
from cdc.replicator.limits import MemoryUse, ReplicatorLimits
from cdc.replicator.parts import Policies, Ports
from cdc.replicator.pressure import EASE_SECONDS, WIDEST, Pressure
from cdc.replicator.runner import Replicator
from cdc.replicator.target_probe import TargetProbe
from tests.support.clock import FakeClock
from tests.support.replication import PLAN, MemoryMarks, MemorySource, MemoryTarget, Recorder
from tests.support.waiting import wait_until
from tests.unit.test_replicator_delivery import Bench


def away(code: int | None = None, relief: Relief | None = None) -> TargetError:
    return TargetError("insert", "trades", "no", "Wait", meaning=Meaning.RETRY, code=code, relief=relief)


def test_a_second_s_worth_passes_at_once_and_the_rest_waits_its_turn() -> None:
    clock = FakeClock()
    rate = Rate(100.0, clock)
    assert rate.take(100) == 0.0
    assert rate.take(50) == 0.5
    assert rate.take(50) == 1.0
    clock.advance(1.0)
    assert rate.take(0) == 0.0
    clock.advance(60.0)
    assert rate.take(1000) == 9.0, "no more than a second's worth is saved up"


def test_no_limit_is_no_wait() -> None:
    assert Rate(0.0, FakeClock()).take(1e12) == 0.0


def test_blocks_keep_to_the_rows_of_a_second() -> None:
    clock = FakeClock()
    bench = Bench(clock=clock, limits=ReplicatorLimits(clock, rows_per_second=2.0))
    began = clock.monotonic()
    for seq in range(1, 7):
        bench.deliver(seq)
    assert clock.monotonic() - began == pytest.approx(2.0), "two rows were free, four took two seconds"


def test_blocks_keep_to_the_bytes_of_a_second_as_they_were_sent() -> None:
    clock = FakeClock()
    sent = Rate(100.0, clock)
    bench = Bench(clock=clock, limits=ReplicatorLimits(clock, sent=sent))
    began = clock.monotonic()
    for seq in range(1, 5):
        bench.deliver(seq)
        sent.take(150)  # what the target tells of each block
    assert clock.monotonic() - began == pytest.approx(3.5), "each but the first waits for those before it"


def test_memory_is_crowded_by_rows_that_wait_and_never_without_a_limit() -> None:
    used = [500]
    limits = ReplicatorLimits(FakeClock(), memory_bytes=1000, used=lambda: used[0])
    limits.wait(200)
    assert (limits.look(), limits.crowded) == (MemoryUse(300, 200, 500), False)
    states = []
    for more in (301, -301):
        limits.wait(more)
        states.append(limits.crowded)
    assert states == [True, False]
    unlimited = ReplicatorLimits(FakeClock(), used=lambda: 10**12)
    unlimited.wait(10**12)
    assert (unlimited.look(), unlimited.crowded) == (None, False)


def test_a_process_that_is_large_without_any_rows_reads_on_all_the_same() -> None:  # [issue 12 case 21]
    limits = ReplicatorLimits(FakeClock(), memory_bytes=1000, used=lambda: 2400)
    assert limits.look() == MemoryUse(2400, 0, 125)
    states = [limits.crowded]
    limits.wait(126)
    assert [*states, limits.crowded] == [False, True]
    use = limits.look()
    assert use is not None
    assert use.share == pytest.approx(126 / 125)


def test_complaints_widen_the_gap_and_the_calm_narrows_it_again() -> None:
    clock = FakeClock()
    pressure = Pressure(clock)
    assert pressure.gap(0.01) == 0.01
    widths = []
    for _ in range(8):
        pressure.complain()
        widths.append(pressure.width)
    assert widths == [2, 4, 8, 16, 32, WIDEST, WIDEST, WIDEST]
    assert pressure.gap(0.01) == pytest.approx(0.05 * WIDEST)
    assert pressure.gap(300.0) == 300.0, "an interval that is longer already is kept"
    clock.advance(2 * EASE_SECONDS)
    assert pressure.width == WIDEST // 4
    clock.advance(3 * EASE_SECONDS)
    assert pressure.gap(0.01) == 0.01


def test_too_many_parts_spread_the_batches_that_follow() -> None:
    bench = Bench()
    errors = [away(252, Relief.FEWER)] * 2
    bench.target.refuse = lambda seqs: errors.pop() if errors else None
    bench.deliver(1)
    assert bench.pressure.width == 4
    began = bench.clock.monotonic()
    bench.deliver(2)
    assert bench.clock.monotonic() - began == pytest.approx(0.2)


def test_a_block_too_large_for_the_targets_memory_is_sent_in_halves() -> None:
    bench = Bench()
    bench.target.refuse = lambda seqs: away(241, Relief.SMALLER) if len(seqs) > 2 else None
    bench.deliver(*range(1, 9))
    assert bench.target.blocks["trades"] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    (decision,) = bench.marks.decisions
    assert (decision.rows, decision.failed) == (8, ())


def test_a_long_wait_ends_when_a_target_that_was_silent_answers_again() -> None:  # [R4]
    bench = Bench()
    back_at = bench.clock.monotonic() + 30.0

    def refuse(seqs: list[int]) -> TargetError | None:
        return away() if bench.clock.monotonic() < back_at else None

    bench.target.refuse = refuse
    bench.target.ping_error = lambda: refuse([])
    bench.deliver(1)
    assert bench.target.received() == [1]
    assert bench.clock.monotonic() - back_at < 3.0, "the wait asked for was longer"
    assert max(delay for *_, delay in bench.observer.retries) == 30.0


def test_a_target_that_comes_back_while_an_attempt_still_fails_is_not_waited_for() -> None:  # [R4]
    bench = Bench()
    ended: list[float] = []

    def refuse(seqs: list[int]) -> TargetError | None:
        if len(ended) == 6:
            ended.append(bench.clock.monotonic())
            return None
        bench.clock.advance(8.0)
        assert not bench.reach.answers()  # as somebody asks now and then
        if len(ended) == 5:
            bench.target.ping_error = lambda: None
        bench.clock.advance(2.0)
        ended.append(bench.clock.monotonic())
        return away()

    bench.target.refuse = refuse
    bench.target.ping_error = away
    bench.deliver(1)
    assert [delay for *_, delay in bench.observer.retries][-1] == 30.0
    assert ended[6] - ended[5] < 3.0


def test_a_target_that_answers_pings_and_refuses_is_left_alone_for_the_whole_wait() -> None:
    bench = Bench()
    errors = [away()] * 5
    bench.target.refuse = lambda seqs: errors.pop() if errors else None
    began = bench.clock.monotonic()
    bench.deliver(1)
    assert bench.clock.monotonic() - began == pytest.approx(2 * 0.5 + 2 * 5.0 + 10.0), (
        "the breaker has its say"
    )


def test_pings_are_shared_and_at_most_one_a_second() -> None:
    clock, target = FakeClock(), MemoryTarget()
    asked: list[float] = []

    def note() -> None:
        asked.append(clock.monotonic())

    target.ping_error = note
    reach = TargetProbe(target, clock)
    for _ in range(100):
        assert reach.answers()
        clock.advance(0.1)
    assert len(asked) == 10


def test_a_target_that_refuses_a_ping_is_there() -> None:
    target = MemoryTarget()
    target.ping_error = lambda: TargetError("reach", "it", "wrong password", "Correct it")
    assert TargetProbe(target, FakeClock()).answers()


def test_the_breaker_may_be_asked_to_let_a_probe_through_early() -> None:
    clock = FakeClock()
    breaker = Breaker(clock)
    breaker.half_open()
    assert breaker.state is BreakerState.CLOSED
    for _ in range(3):
        breaker.failed()
    breaker.half_open()
    assert (breaker.state, breaker.delay()) == (BreakerState.HALF_OPEN, 0.0)


def test_a_lost_lease_lets_no_insert_begin_and_ends_the_replicator() -> None:  # [R8]
    source, target, marks = MemorySource(), MemoryTarget(), MemoryMarks()
    marks.lease_error = LeaseHeld("write", "the marks", "another has taken over", "Leave it")
    stop = threading.Event()
    replicator = Replicator(Ports(source, target, marks, Recorder()), stop=stop)
    source.append(1, 2, 3)
    replicator.add(PLAN)
    assert stop.wait(10.0)
    assert replicator.join(5.0)
    assert replicator.error is marks.lease_error
    assert target.received() == []
    assert marks.decisions == []


def test_a_slow_round_trip_is_a_complaint_and_is_told() -> None:
    source, target, observer = MemorySource(), MemoryTarget(), Recorder()
    target.round_trip = 0.7
    replicator = Replicator(Ports(source, target, MemoryMarks(), observer), rng=random.Random(1))
    loop = replicator.add(PLAN)
    try:
        wait_until(lambda: loop.pressure.width > 1, "the table goes slower")
        assert observer.measures[0] == (0.7, None)
    finally:
        replicator.stop()
        assert replicator.join(5.0)


def test_crowded_memory_makes_reading_wait_for_delivery() -> None:
    source, target, observer = MemorySource(), MemoryTarget(), Recorder()
    limits = ReplicatorLimits(FakeClock(), memory_bytes=100, used=lambda: 99)
    limits.wait(99)  # of another table
    limits.look()
    source.append(1, 2, 3)
    replicator = Replicator(Ports(source, target, MemoryMarks(), observer), Policies(limits=limits))
    replicator.add(PLAN)
    try:
        wait_until(lambda: target.received() == [1, 2, 3], "the rows arrive all the same")
        assert (0.0, MemoryUse(0, 99, 80)) in observer.measures
    finally:
        replicator.stop()
        assert replicator.join(5.0)

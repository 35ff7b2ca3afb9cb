"""A batch is in the target or among the failed rows before the mark moves. [F5, R1, R2, R7]"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import Meaning, StateError, TargetError
from cdc.failed_row import failed_row
from cdc.replicator.breaker import Breaker, BreakerState
from cdc.replicator.delivery import Delivery, Stopped
from cdc.replicator.failed import retry_due
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.pressure import Pressure
from cdc.replicator.retry import Backoff
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.target_probe import TargetProbe
from tests.support.clock import FakeClock
from tests.support.replication import (
    PLAN,
    MemoryMarks,
    MemorySource,
    MemoryTarget,
    MemoryTargetTable,
    Recorder,
    batch_of,
)


def refusal(meaning: Meaning) -> TargetError:
    return TargetError("insert into", "trades", "it says no", "Ask it", meaning=meaning)


@dataclass
class Bench:
    target: MemoryTarget = field(default_factory=MemoryTarget)
    marks: MemoryMarks = field(default_factory=MemoryMarks)
    observer: Recorder = field(default_factory=Recorder)
    clock: FakeClock = field(default_factory=FakeClock)
    stop: threading.Event = field(default_factory=threading.Event)
    limits: ReplicatorLimits | None = None

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.clock)
        self.pressure = Pressure(self.clock)
        self.reach = TargetProbe(self.target, self.clock)
        around = SharedContext(
            source=MemorySource(),
            target=self.target,
            marks=self.marks,
            observer=self.observer,
            pace=Pace(),
            backoff=Backoff(jitter=0.0),
            breaker=self.breaker,
            probe=self.reach,
            limits=self.limits or ReplicatorLimits(self.clock),
            clock=self.clock,
            stop=self.stop,
            rng=random.Random(1),
        )
        table = MemoryTargetTable(self.target, PLAN)
        self.delivery = Delivery(table, around, self.pressure, schema_version="1")

    def deliver(self, *seqs: int) -> None:
        batch = batch_of(seqs)
        self.delivery.deliver(batch, *self.delivery.encode(batch))


def test_the_mark_moves_with_the_counters_once_the_target_acknowledged() -> None:
    bench = Bench()
    bench.deliver(1, 2, 3)
    assert bench.target.received() == [1, 2, 3]
    (decision,) = bench.marks.decisions
    assert decision.mark is not None
    assert (decision.mark.watermark, decision.rows, decision.failed) == ("3", 3, ())
    assert [event.rows for event in bench.observer.events] == [3]


def test_an_error_that_may_pass_is_retried_until_it_does_and_the_mark_waits() -> None:
    bench = Bench()
    errors = [refusal(Meaning.RETRY)] * 7

    def refuse(seqs: list[int]) -> TargetError | None:
        assert bench.marks.decisions == []
        return errors.pop() if errors else None

    bench.target.refuse = refuse
    bench.deliver(1)
    assert bench.target.received() == [1]
    assert [attempt for _, _, attempt, _ in bench.observer.retries] == [1, 2, 3, 4, 5, 6, 7]
    assert [delay for *_, delay in bench.observer.retries] == [0.5, 0.5, 0.5, 0.5, 10.0, 30.0, 60.0]


def test_a_stop_ends_the_wait_for_a_retry_and_nothing_is_decided() -> None:
    bench = Bench()

    def refuse(seqs: list[int]) -> TargetError:
        bench.stop.set()
        return refusal(Meaning.RETRY)

    bench.target.refuse = refuse
    with pytest.raises(Stopped):
        bench.deliver(1)
    assert bench.marks.decisions == []


def test_an_error_that_needs_a_person_is_raised_at_once_and_nothing_is_decided() -> None:
    bench = Bench()
    bench.target.refuse = lambda seqs: refusal(Meaning.STOP)
    with pytest.raises(TargetError):
        bench.deliver(1)
    assert bench.marks.decisions == []
    assert bench.observer.retries == []


def test_a_mark_that_cannot_be_stored_is_an_error_although_the_rows_arrived() -> None:
    bench = Bench()
    bench.marks.refuse = lambda decision: StateError("store", "the mark", "disk full", "Free some")
    with pytest.raises(StateError):
        bench.deliver(1)
    assert bench.target.received() == [1]
    assert bench.observer.events == []


@given(poisoned=st.sets(st.integers(1, 40)), rejected=st.sets(st.integers(1, 40)))
def test_only_the_bad_rows_fail_and_the_rest_arrives_in_order(poisoned: set[int], rejected: set[int]) -> None:
    bench = Bench()
    bench.target.refuse = lambda seqs: refusal(Meaning.POISON) if poisoned & set(seqs) else None
    bench.target.reject = rejected.__contains__
    bench.deliver(*range(1, 41))
    bad = poisoned | rejected
    assert bench.target.received() == [seq for seq in range(1, 41) if seq not in bad]
    assert sorted(int(row.key[0]) for row in bench.marks.failed()) == sorted(bad)
    (decision,) = bench.marks.decisions
    assert decision.mark is not None
    assert (decision.mark.watermark, decision.rows) == ("40", 40 - len(bad))


def test_failed_rows_that_are_due_are_sent_again_with_their_own_versions() -> None:
    bench = Bench()
    batch = batch_of([1, 2, 3])
    bench.marks.due_rows = {id_: failed_row(batch, id_ - 10, "it was broken") for id_ in (10, 11, 12)}
    bench.target.reject = {2}.__contains__
    assert retry_due(PLAN, bench.marks, bench.delivery) == 2
    assert bench.target.received() == [1, 3]
    assert bench.marks.reasons == {11: "not a number I like"}
    assert bench.marks.decisions == []


def test_a_failed_row_of_other_columns_fails_again_and_says_so() -> None:
    bench = Bench()
    bench.marks.due_rows = {1: failed_row(batch_of([1]), 0, "it was broken")}
    narrower = replace(PLAN, columns=PLAN.columns[:1])
    assert retry_due(narrower, bench.marks, bench.delivery) == 0
    assert bench.target.received() == []
    assert "no longer those replicated" in bench.marks.reasons[1]


def test_three_failures_open_the_breaker_and_an_answer_closes_it() -> None:
    bench = Bench()
    seen: list[BreakerState] = []
    errors = [refusal(Meaning.RETRY)] * 4

    def refuse(seqs: list[int]) -> TargetError | None:
        seen.append(bench.breaker.state)
        return errors.pop() if errors else None

    bench.target.refuse = refuse
    bench.deliver(1)
    assert seen == [
        BreakerState.CLOSED,
        BreakerState.CLOSED,
        BreakerState.CLOSED,
        BreakerState.HALF_OPEN,
        BreakerState.HALF_OPEN,
    ]
    assert bench.breaker.state is BreakerState.CLOSED


def test_an_open_breaker_lets_one_probe_through_and_not_a_second() -> None:
    clock = FakeClock()
    breaker = Breaker(clock, failures=3, open_seconds=5.0)
    for _ in range(3):
        assert breaker.delay() == 0.0
        breaker.failed()
    assert (breaker.state, breaker.delay()) == (BreakerState.OPEN, 5.0)
    clock.advance(5.0)
    assert (breaker.state, breaker.delay()) == (BreakerState.HALF_OPEN, 0.0)
    assert breaker.delay() == 5.0
    breaker.failed()
    assert (breaker.state, breaker.delay()) == (BreakerState.OPEN, 5.0)


def test_jitter_only_shortens_a_wait_and_the_last_step_repeats() -> None:
    backoff = Backoff(first_seconds=0.5, first_attempts=1, steps_seconds=(10.0, 30.0), jitter=0.2)
    rng = random.Random(7)
    for attempt, base in ((1, 0.5), (2, 10.0), (3, 30.0), (4, 30.0), (99, 30.0)):
        assert all(base * 0.8 <= backoff.delay(attempt, rng) <= base for _ in range(100))


def test_what_is_delivered_is_told_to_the_store_only_where_rows_have_failed() -> None:
    """So that a failed row is forgotten once a newer state of it arrived. [issue 12]"""
    bench = Bench()
    bench.deliver(1, 2)
    bench.target.reject = {3}.__contains__
    bench.deliver(3, 4)
    bench.deliver(5)
    assert [dict(each.delivered) for each in bench.marks.decisions] == [{}, {}, {("5",): 5}]


def test_once_no_failed_row_is_left_keys_are_looked_at_no_more() -> None:
    bench = Bench()
    bench.target.reject = {3}.__contains__
    bench.deliver(3)
    bench.target.reject = lambda seq: False
    bench.marks.forgets = 1
    bench.deliver(3)
    assert bench.delivery.failed_rows == 0
    bench.deliver(4)
    assert bench.marks.decisions[-1].delivered == {}

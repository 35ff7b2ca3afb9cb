"""How long a table rests between two reads."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cdc.change import Batch, BatchLimits, Mark, Position, TablePlan
from cdc.replicator.breaker import Breaker
from cdc.replicator.limits import ReplicatorLimits
from cdc.replicator.pace import Pace
from cdc.replicator.retry import Backoff
from cdc.replicator.shared_context import SharedContext
from cdc.replicator.table import TableLoop
from cdc.replicator.target_probe import TargetProbe
from tests.support.clock import FakeClock
from tests.support.replication import PLAN, MemoryMarks, MemoryReader, MemorySource, MemoryTarget, Recorder


def test_a_short_round_is_followed_by_the_linger() -> None:
    assert Pace(linger_ms=10.0).gap(0.001, 0.001) == pytest.approx(0.010)


def test_a_busy_table_takes_its_share_of_a_core() -> None:
    assert Pace(busy_percent=25.0).gap(0.010, 0.010) == pytest.approx(0.040)
    assert Pace(busy_percent=100.0).gap(0.020, 0.020) == pytest.approx(0.020)


def test_what_a_round_waited_is_part_of_its_rest() -> None:
    assert Pace(busy_percent=20.0).gap(0.006, 0.018) == pytest.approx(0.030)
    assert Pace(busy_percent=20.0).gap(0.006, 3.000) == pytest.approx(0.030), "which is over already"


def test_the_rest_is_bounded_however_much_a_round_takes() -> None:
    assert Pace(busy_percent=10.0).gap(2.0, 2.0) == pytest.approx(2.1)


def test_an_interval_is_kept_whatever_a_round_takes() -> None:
    assert Pace(interval_seconds=5.0).gap(0.5, 0.5) == pytest.approx(5.0)


@dataclass(frozen=True)
class Round:
    """What one round takes, in seconds."""

    reading: float = 0.0
    """Processor time of the table's own thread,"""
    sending: float = 0.0
    """and of the sending thread, which besides"""
    waiting: float = 0.0
    """waits for the target."""


class PacedSource(MemorySource):
    """A commit for each round, and a stop after the last."""

    def __init__(self, clock: FakeClock, stop: threading.Event, rounds: tuple[Round, ...]) -> None:
        super().__init__()
        self.clock, self.left = clock, deque(rounds)
        self._stop = stop
        self.append(1)

    def open(
        self, plan: TablePlan, since: Position | None = None, digests: bytes | None = None
    ) -> MemoryReader:
        return PacedReader(self, plan)

    def wait(self, since: Position, timeout_seconds: float) -> Position:
        self.left.popleft()
        if self.left:
            self.append(len(self.rows(PLAN.table)) + 1)
        else:
            self._stop.set()
        return self.position()


class PacedReader(MemoryReader):
    def __init__(self, source: PacedSource, plan: TablePlan) -> None:
        super().__init__(source, plan)
        self._paced = source

    def read(self, after: Mark | None, limits: BatchLimits) -> Iterator[Batch]:
        self._paced.clock.work(self._paced.left[0].reading)
        yield from super().read(after, limits)


def rests_after(*rounds: Round) -> list[float]:
    """How long a table rests after each of the rounds that is followed by a rest."""
    clock, stop, target = FakeClock(), threading.Event(), MemoryTarget()
    source = PacedSource(clock, stop, rounds)

    def take(seqs: list[int]) -> None:
        clock.work(source.left[0].sending)
        clock.advance(source.left[0].waiting)

    target.refuse = take
    observer = Recorder()
    around = SharedContext(
        source=source,
        target=target,
        marks=MemoryMarks(),
        observer=observer,
        pace=Pace(linger_ms=1.0, busy_percent=20.0),
        backoff=Backoff(),
        breaker=Breaker(clock),
        probe=TargetProbe(target, clock),
        limits=ReplicatorLimits(clock),
        clock=clock,
        stop=stop,
        rng=random.Random(1),
    )
    TableLoop(PLAN, around, lost=lambda error: None).run()
    assert target.received() == list(range(1, len(rounds) + 1))
    assert [state for _, state, _ in observer.states] == ["snapshot", "running"]
    return clock.waits


def test_a_table_rests_for_the_processor_time_of_both_its_threads() -> None:
    """A fifth of a core: after 2 ms of work there are 8 of rest."""
    assert rests_after(Round(reading=0.002)) == pytest.approx([0.008])
    assert rests_after(Round(sending=0.002)) == pytest.approx([0.008])
    assert rests_after(Round(reading=0.002, sending=0.003)) == pytest.approx([0.020])


def test_waiting_for_the_target_does_not_lengthen_the_rest_but_is_part_of_it() -> None:
    assert rests_after(Round(reading=0.002, sending=0.002, waiting=0.007)) == pytest.approx([0.009])
    assert rests_after(Round(reading=0.002, sending=0.002, waiting=0.5)) == []


def test_each_round_is_followed_by_its_own_rest() -> None:
    rounds = Round(reading=0.004, sending=0.004), Round(sending=0.001), Round(0.004, 0.004, waiting=0.002)
    assert rests_after(*rounds) == pytest.approx([0.032, 0.004, 0.030])


def test_a_table_rests_a_tenth_of_a_second_at_most() -> None:
    assert rests_after(Round(reading=0.1, sending=0.1, waiting=0.1)) == pytest.approx([0.1])

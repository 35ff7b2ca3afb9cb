"""A table of the target that is not the one that was delivered to is filled anew, from the first row on."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdc.change import BatchLimits
from cdc.errors import TargetError
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Policies, Ports
from cdc.replicator.retry import Backoff
from cdc.replicator.runner import Replicator
from cdc.sighting import Sighting, Verdict
from tests.support.replication import PLAN, MemoryMarks, MemorySource, MemoryTarget, Recorder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


# Halted for longer than any test: what goes on sooner was woken.
PACE = Pace(limits=BatchLimits(rows=10, bytes=1 << 20), linger_ms=1.0, halted_seconds=600.0)
FIRST, SECOND = Sighting("a", uuid="1"), Sighting("a", uuid="2")


class Rig:
    def __init__(self) -> None:
        self.source, self.target = MemorySource(), MemoryTarget()
        self.marks, self.observer = MemoryMarks(), Recorder()
        self.source.append(1, 2, 3)
        self.target.sighting = lambda plan: FIRST

    @contextmanager
    def running(self) -> Iterator[None]:
        replicator = Replicator(
            Ports(self.source, self.target, self.marks, self.observer),
            Policies(pace=PACE, backoff=Backoff(first_seconds=0.01, steps_seconds=(0.01,))),
            rng=random.Random(1),
            stop=threading.Event(),
        )
        replicator.add(PLAN)
        try:
            yield
        finally:
            replicator.stop()
            assert replicator.join(5.0)

    def wait_for(self, *seqs: int) -> None:
        wait_until(lambda: self.target.received() == list(seqs), f"the target to hold {seqs}")

    def deliver_once(self) -> None:
        with self.running():
            self.wait_for(1, 2, 3)
            wait_until(lambda: self.marks.decisions, "the mark is stored")


def test_another_table_at_the_start_is_filled_anew_and_compared() -> None:
    rig = Rig()
    rig.deliver_once()
    rig.target.sighting = lambda plan: SECOND
    with rig.running():
        rig.wait_for(1, 2, 3, 1, 2, 3)
        assert rig.marks.restarted == [PLAN.table]
        assert rig.observer.changed == [(PLAN.table, Verdict.ANOTHER.value)]
        assert rig.marks.notes  # it is compared: it may hold rows that the source has not
    with rig.running():
        wait_until(lambda: rig.observer.state_of(PLAN.table) == "running", "the table to run")
    assert rig.marks.restarted == [PLAN.table]  # it is known now


def test_another_table_is_noticed_while_nothing_happens_in_the_source() -> None:
    rig = Rig()
    with rig.running():
        rig.wait_for(1, 2, 3)
        wait_until(lambda: rig.observer.cycles, "the table to be caught up with")
        rig.target.sighting = lambda plan: SECOND
        rig.wait_for(1, 2, 3, 1, 2, 3)


def test_a_table_that_is_gone_halts_it_until_it_is_there_and_is_then_filled_anew() -> None:
    rig = Rig()
    gone = TargetError("replicate into", "t", "it is missing", "make it")
    with rig.running():
        rig.wait_for(1, 2, 3)
        rig.target.sighting = lambda plan: None
        rig.target.open_error = lambda plan: gone
        wait_until(lambda: rig.observer.state_of(PLAN.table) == "failed", "the table to halt")
        rig.target.open_error = lambda plan: None
        rig.target.sighting = lambda plan: SECOND
        rig.wait_for(1, 2, 3, 1, 2, 3)
        assert [error for _, _, error in rig.observer.states if error is not None] == [gone]  # said once


def test_a_table_that_comes_back_is_gone_on_with_and_not_filled_anew() -> None:
    rig = Rig()
    with rig.running():
        rig.wait_for(1, 2, 3)
        rig.target.sighting = lambda plan: None
        rig.target.open_error = lambda plan: TargetError("replicate into", "t", "it is missing", "make it")
        wait_until(lambda: rig.observer.state_of(PLAN.table) == "failed", "the table to halt")
        rig.target.open_error = lambda plan: None
        rig.target.sighting = lambda plan: FIRST
        rig.source.append(4)
        rig.wait_for(1, 2, 3, 4)
    assert rig.marks.restarted == []


def test_an_insert_that_finds_no_table_opens_it_again_at_once_and_fills_it_anew() -> None:
    rig = Rig()
    with rig.running():
        rig.wait_for(1, 2, 3)
        dropped = TargetError("insert into", "t", "no such table", "make it", code=60)
        gone = [dropped]

        def refuse(seqs: list[int]) -> TargetError | None:
            rig.target.sighting = lambda plan: SECOND
            return gone.pop() if gone else None

        rig.target.refuse = refuse
        rig.source.append(4)
        rig.wait_for(1, 2, 3, 1, 2, 3, 4)
        assert not [state for _, state, _ in rig.observer.states if state == "failed"]


def test_an_emptied_table_is_filled_anew_each_time() -> None:
    rig = Rig()
    with rig.running():
        rig.wait_for(1, 2, 3)
        for turn in (2, 3):
            rig.target.sighting = lambda plan: Sighting("a", uuid="1", rows=0)
            wait_until(lambda turn=turn: len(rig.observer.changed) == turn - 1, "it to be noticed")  # type: ignore[misc]
            rig.target.sighting = lambda plan: Sighting("a", uuid="1", rows=3)
            rig.wait_for(*(1, 2, 3) * turn)

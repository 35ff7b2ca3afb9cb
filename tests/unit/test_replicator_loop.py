"""Each table is read past its mark, delivered in order, and runs alone. [F2, F5, F9, L3]"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cdc.change import BatchLimits, TableId, TablePlan, Unseen
from cdc.errors import Meaning, SourceError, StateError, TargetError
from cdc.replicator.pace import Pace
from cdc.replicator.parts import Policies, Ports
from cdc.replicator.retry import Backoff
from cdc.replicator.runner import Replicator
from tests.support.replication import PLAN, MemoryMarks, MemorySource, MemoryTarget, Recorder, plan
from tests.support.waiting import wait_until

PACE = Pace(limits=BatchLimits(rows=10, bytes=1 << 20), linger_ms=1.0, halted_seconds=0.05)
BACKOFF = Backoff(first_seconds=0.01, steps_seconds=(0.01,))


class Rig:
    def __init__(self, *plans: TablePlan) -> None:
        self.plans = plans or (PLAN,)
        self.source = MemorySource(*self.plans)
        self.target = MemoryTarget()
        self.marks = MemoryMarks()
        self.observer = Recorder()

    @contextmanager
    def running(self, backoff: Backoff = BACKOFF) -> Iterator[Replicator]:
        replicator = Replicator(
            Ports(self.source, self.target, self.marks, self.observer), Policies(pace=PACE, backoff=backoff)
        )
        for each in self.plans:
            replicator.add(each)
        try:
            yield replicator
        finally:
            replicator.stop()
            assert replicator.join(5.0)

    def wait_for(self, seqs: list[int], target: str = PLAN.target) -> None:
        wait_until(lambda: self.target.received(target) == seqs, f"{target} holds {seqs[:3]}…")


def test_nothing_is_sent_before_it_is_remembered_that_changes_went_unseen() -> None:
    """[R3] Also while the store fails: what was not remembered is lost with the process."""
    rig = Rig()
    refused: list[StateError] = []

    def refuse() -> StateError | None:
        if len(refused) == 3:
            return None
        refused.append(StateError("write", "the store", "the disk is full", "Free it", meaning=Meaning.RETRY))
        assert rig.target.received() == []
        return refused[-1]

    rig.marks.refuse_note = refuse
    rig.source.unseen.append(Unseen("the log was cut"))
    rig.source.append(1, 2)
    with rig.running():
        rig.wait_for([1, 2])
    assert rig.marks.notes == [("the log was cut", 0)]
    assert rig.observer.unseen == [(PLAN.table, Unseen("the log was cut"))]
    assert [error for _, error, _, _ in rig.observer.retries] == refused


def test_what_only_cannot_be_excluded_is_told_and_not_remembered() -> None:
    rig = Rig()
    doubt = Unseen("it cannot be excluded", urgent=False)
    rig.source.unseen.append(doubt)
    with rig.running():
        wait_until(lambda: bool(rig.observer.cycles), "the table to be read to its end")
    assert (rig.marks.notes, rig.observer.unseen) == ([], [(PLAN.table, doubt)])


def test_what_went_unseen_is_remembered_also_where_there_is_nothing_to_send() -> None:
    rig = Rig()
    rig.source.unseen.append(Unseen("the table was emptied"))
    with rig.running():
        wait_until(lambda: bool(rig.observer.cycles), "the table to be read to its end")
    assert rig.marks.notes == [("the table was emptied", 0)]


def test_what_was_there_before_and_what_comes_after_arrive_in_order() -> None:
    rig = Rig()
    rig.source.append(*range(1, 36))
    with rig.running():
        rig.wait_for(list(range(1, 36)))
        rig.source.append(36, 37)
        rig.wait_for(list(range(1, 38)))
    assert [len(block) for block in rig.target.blocks["trades"][:4]] == [10, 10, 10, 5]
    assert [state for _, state, _ in rig.observer.states][:2] == ["snapshot", "running"]
    assert (PLAN.table, 0) in rig.observer.cycles


def test_a_restart_goes_on_from_the_stored_mark() -> None:
    rig = Rig()
    rig.source.append(1, 2, 3)
    with rig.running():
        rig.wait_for([1, 2, 3])
        wait_until(lambda: rig.marks.decisions, "the mark is stored")
    rig.source = MemorySource()
    rig.source.append(1, 2, 3, 4)
    with rig.running():
        rig.wait_for([1, 2, 3, 4])


def test_a_table_with_other_columns_than_before_is_read_again_from_its_first_row() -> None:  # [R10]
    rig = Rig()
    rig.source.append(1, 2)
    with rig.running() as replicator:
        rig.wait_for([1, 2])
        wait_until(lambda: rig.marks.decisions, "the mark is stored")
        replicator.replan(replace(PLAN, version="seq"))
        rig.source.append(3)
        rig.wait_for([1, 2, 1, 2, 3])
    assert rig.marks.restarted == [PLAN.table]
    assert "resync" in [state for _, state, _ in rig.observer.states]


@pytest.mark.parametrize(("rows", "hastened"), [(10, []), (11, [PLAN.table])])
def test_more_than_ten_failed_rows_are_tried_again_at_once_and_once(
    rows: int, hastened: list[TableId]
) -> None:
    rig = Rig()
    rig.target.reject = lambda seq: seq <= rows
    rig.source.append(*range(1, rows + 1))
    with rig.running():
        wait_until(lambda: len(rig.marks.failed()) == rows, "the rows are set aside")
        for seq in range(100, 103):
            rig.source.append(seq)
            wait_until(lambda seq=seq: seq in rig.target.received(), "a later row arrives")  # type: ignore[misc]
    assert rig.marks.hastened == hastened


def test_a_halted_table_leaves_the_others_going_and_recovers_once_mended() -> None:
    rig = Rig(plan("good"), plan("bad"))
    bad = rig.plans[1].table
    broken = threading.Event()
    broken.set()
    error = TargetError("open", "bad", "no such table", "Run cdc schema apply")
    rig.target.open_error = lambda each: error if each.table == bad and broken.is_set() else None
    rig.source.append(1, table=rig.plans[0].table)
    rig.source.append(7, table=bad)
    with rig.running():
        rig.wait_for([1], "good")
        wait_until(lambda: rig.observer.state_of(bad) == "failed", "the bad table has failed")
        assert rig.target.received("bad") == []
        broken.clear()
        rig.wait_for([7], "bad")


def test_a_source_that_is_away_pauses_the_table_and_is_tried_again() -> None:
    rig = Rig()
    errors = [SourceError("open", "file", "it is gone", "Bring it back", meaning=Meaning.RETRY)] * 3
    rig.source.open_error = lambda each: errors.pop() if errors else None
    rig.source.append(1)
    with rig.running():
        rig.wait_for([1])
    assert [state for _, state, _ in rig.observer.states].count("paused") == 3


def test_a_table_that_could_not_be_set_up_is_once_the_target_answers_again() -> None:  # [R4]
    """Whatever the list of waits says: it is for a target that is away."""
    rig = Rig()
    away = threading.Event()
    away.set()
    error = TargetError("reach", "it", "no answer", "Wait", meaning=Meaning.RETRY)
    rig.target.open_error = lambda each: error if away.is_set() else None
    rig.target.ping_error = lambda: error if away.is_set() else None
    rig.source.append(1)
    with rig.running(Backoff(first_seconds=3600.0)):
        wait_until(lambda: rig.observer.state_of(PLAN.table) == "paused", "the table to wait")
        away.clear()
        rig.wait_for([1])


def test_a_mark_that_cannot_be_stored_halts_the_table_and_the_rows_are_sent_again() -> None:
    rig = Rig()
    errors = [StateError("store", "the mark", "disk full", "Free some")]
    rig.marks.refuse = lambda decision: errors.pop() if errors else None
    rig.source.append(1)
    with rig.running():
        rig.wait_for([1, 1])
        wait_until(lambda: rig.marks.decisions, "the mark is stored at last")


def test_a_defect_in_one_table_halts_it_with_a_message_and_not_the_process() -> None:
    rig = Rig(plan("good"), plan("bad"))
    bad = rig.plans[1].table

    def fail(each: TablePlan) -> None:
        if each.table == bad:
            raise ZeroDivisionError("oops")

    rig.target.open_error = fail
    rig.source.append(1, table=rig.plans[0].table)
    with rig.running():
        rig.wait_for([1], "good")
        wait_until(lambda: rig.observer.state_of(bad) == "failed", "the bad table has failed")
    error = next(error for table, _, error in rig.observer.states if table == bad and error is not None)
    assert "ZeroDivisionError" in str(error)


def test_a_stop_ends_a_wait_for_a_target_that_is_away() -> None:
    rig = Rig()
    refused = threading.Event()

    def refuse(seqs: list[int]) -> TargetError:
        refused.set()
        return TargetError("insert", "trades", "away", "Start it", meaning=Meaning.RETRY)

    rig.target.refuse = refuse
    rig.source.append(1)
    with rig.running():
        assert refused.wait(5.0)
    assert rig.marks.decisions == []


def test_a_target_that_hangs_is_closed_when_the_stop_takes_too_long() -> None:
    rig = Rig()
    sending = threading.Event()

    def hang(seqs: list[int]) -> TargetError:
        sending.set()
        rig.target.closed.wait(10.0)
        return TargetError("insert", "trades", "closed", "Nothing", meaning=Meaning.RETRY)

    rig.target.refuse = hang
    rig.source.append(1)
    replicator = Replicator(Ports(rig.source, rig.target, rig.marks, rig.observer), Policies(pace=PACE))
    replicator.add(PLAN)
    assert sending.wait(5.0)
    replicator.stop()
    replicator.join(0.05)
    assert rig.target.closed.is_set()
    assert rig.marks.decisions == []

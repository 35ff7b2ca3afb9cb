"""While the target is away reading goes on, into the spool: in order, bounded, nothing lost. [R4, R5]"""

from __future__ import annotations

import threading

import pytest

from cdc.errors import Meaning, TargetError
from cdc.replicator.disk_budget import DiskBudget
from tests.support.spooling import PACE, Rig
from tests.support.waiting import wait_until


def test_changes_that_a_log_forgets_during_an_outage_arrive_after_it() -> None:
    rig = Rig()
    rig.insert(1, 2, 3)
    with rig.running():
        rig.wait_delivered()
        rig.outage()
        for round_ in range(5):
            rig.source.commit((2, False), (10 + round_, False), (10 + round_, True))
            rig.wait_read()
            rig.source.checkpoint()
        rig.wait_spooled()
        assert rig.delivered() == {1, 2, 3}
        rig.target.away = False
        rig.wait_delivered()
    assert [each.seq for each in rig.target.changes] == list(range(1, rig.source.end + 1))
    assert {key: each.deleted for key, each in rig.target.final().items()}[14]
    assert rig.source.opened == [None]
    assert rig.in_order()


def test_an_outage_shorter_than_a_second_spools_nothing() -> None:
    rig = Rig()
    with rig.running():
        rig.insert(1)
        rig.wait_delivered()
        rig.target.away = True
        rig.insert(2)
        wait_until(lambda: rig.observer.retries, "an attempt to fail")
        rig.target.away = False
        rig.insert(3)
        rig.wait_delivered()
    assert rig.marks.appends == 0
    assert rig.observer.spooling == []


def test_many_small_commits_of_an_outage_are_delivered_in_few_inserts() -> None:
    rig = Rig()
    with rig.running():
        rig.outage()
        for key in range(2, 200):
            rig.insert(key)
        rig.wait_spooled()
        before = rig.target.inserts
        rig.target.away = False
        rig.wait_delivered()
    assert rig.target.inserts - before <= 8
    assert max(len(seqs) for seqs in rig.target.tokens.values()) <= PACE.limits.rows


@pytest.mark.parametrize("back", [False, True])
def test_a_restart_delivers_the_spool_first_and_reads_on_from_its_end(back: bool) -> None:
    rig = Rig()
    rig.insert(1)
    with rig.running():
        rig.wait_delivered()
        rig.outage()
        rig.insert(2, 3)
        rig.wait_spooled()
        end = rig.source.position()
    rig.source.checkpoint()
    rig.insert(4)
    rig.target.away = not back
    with rig.running():
        if not back:
            rig.insert(5)
            rig.wait_spooled()
            rig.target.away = False
        rig.wait_delivered()
    assert rig.source.opened[1] == end
    assert [each.seq for each in rig.target.changes] == list(range(1, rig.source.end + 1))
    assert rig.in_order()


def test_without_a_spool_reading_stops_while_the_target_is_away() -> None:
    rig = Rig(room=None)
    with rig.running():
        rig.target.away = True
        for key in range(1, 6):
            rig.insert(key)
        wait_until(lambda: len(rig.observer.retries) > 4, "several attempts", 10.0)
        assert rig.source.seen < rig.source.end or rig.delivered() == set()
        rig.target.away = False
        rig.wait_delivered()
    assert rig.marks.appends == 0


def test_a_spool_that_was_switched_off_is_still_delivered_first() -> None:
    rig = Rig()
    with rig.running():
        rig.outage()
        rig.insert(2, 3)
        rig.wait_spooled()
    rig.room, rig.target.away = None, False
    rig.insert(4)
    with rig.running():
        rig.wait_delivered()
    assert [each.seq for each in rig.target.changes] == [1, 2, 3, 4]


def test_a_full_spool_stops_reading_and_nothing_is_lost() -> None:  # [R5]
    rig = Rig(room=DiskBudget(30_000))
    with rig.running():
        rig.outage()
        for first in range(2, 8000, 200):
            rig.insert(*range(first, first + 200))
        wait_until(lambda: rig.observer.spooling[-1].share > 0.8, "the spool to be almost full", 10.0)
        seen = -1

        def stands_still() -> bool:
            nonlocal seen
            before, seen = seen, rig.source.seen
            return before == seen

        wait_until(stands_still, "reading to stop", 10.0)
        stored = sum(len(each.payload or b"") for _, each in rig.marks.entries)
        assert stored <= 30_000
        assert rig.source.seen < rig.source.end
        rig.target.away = False
        rig.wait_delivered()
    assert rig.in_order()
    assert rig.observer.spooling[-1].share == 0.0
    assert rig.observer.spooling[-1].rows == 0
    assert rig.marks.shrunk >= 1


def test_what_is_spooled_is_offered_to_whoever_keeps_a_copy() -> None:
    rig = Rig()
    with rig.running():
        rig.outage()
        rig.insert(2, 3)
        rig.wait_spooled()
        assert rig.copied == [2, 3], "the first was offered on its way to the target"


def test_two_tables_share_the_room() -> None:
    room = DiskBudget(100)
    assert room.take(60)
    assert not room.take(60)
    assert room.has(40)
    room.give_back(60)
    assert room.take(100)
    assert room.share == 1.0


def test_a_target_that_is_slow_and_answers_is_waited_for_and_nothing_is_spooled() -> None:
    rig, blocked = Rig(), threading.Event()

    def slowly(seqs: list[int]) -> None:
        blocked.wait(0.4)  # eight seconds of this clock

    rig.target.refuse = slowly
    with rig.running():
        rig.insert(*range(1, 300))
        rig.wait_delivered()
    assert rig.marks.appends == 0


def test_a_target_that_hangs_and_does_not_answer_is_away() -> None:
    """A network that swallows everything: no attempt fails until it times out."""
    rig, back = Rig(), threading.Event()
    with rig.running():
        rig.insert(1)
        rig.wait_delivered()

        def hang(seqs: list[int]) -> TargetError | None:
            return None if back.wait(10.0) else TargetError("insert", "trades", "timed out", "Wait")

        rig.target.refuse = hang
        rig.target.ping_error = lambda: (
            None if back.is_set() else TargetError("reach", "it", "-", "-", meaning=Meaning.RETRY)
        )
        rig.insert(2)
        rig.insert(3)
        rig.wait_spooled()
        assert rig.delivered() == {1}
        back.set()
        rig.wait_delivered()
    assert [each.seq for each in rig.target.changes] == [1, 2, 3]

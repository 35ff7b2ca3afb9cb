"""While the target is away reading goes on, into the spool: in order, bounded, nothing lost. [R4, R5]"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cdc.change import BatchLimits, Column, Completion, TablePlan
from cdc.errors import Meaning, StateError, TargetError
from cdc.replicator.admitted import GROUP_NUMBER
from cdc.replicator.pace import Pace
from cdc.replicator.retry import Backoff
from cdc.replicator.room import Room
from cdc.replicator.runner import Replicator
from tests.support.changes import ChangingTarget, LoggedSource, QuickClock
from tests.support.replication import PLAN, MemoryMarks, Recorder, seqs_of
from tests.support.waiting import wait_until

PACE = Pace(limits=BatchLimits(rows=50, bytes=1 << 20), linger_ms=1.0, halted_seconds=1.0)
BACKOFF = Backoff(first_seconds=0.5, steps_seconds=(1.0,))


class EvenKeys:
    """A group is complete if its number is even."""

    def complete(self, rows: pa.Table) -> set[int]:
        found = zip(rows.column(GROUP_NUMBER).to_pylist(), rows.column("id").to_pylist(), strict=True)
        return {number for number, id_ in found if id_ % 2 == 0}

    def close(self) -> None: ...


@dataclass
class Rig:
    source: LoggedSource = field(default_factory=LoggedSource)
    target: ChangingTarget = field(default_factory=ChangingTarget)
    marks: MemoryMarks = field(default_factory=MemoryMarks)
    observer: Recorder = field(default_factory=Recorder)
    room: Room | None = field(default_factory=lambda: Room(1 << 20))
    plan: TablePlan = PLAN
    copied: list[int] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Replicator]:
        self.source.awake()
        replicator = Replicator(
            self.source,
            self.target,
            self.marks,
            self.observer,
            pace=PACE,
            backoff=BACKOFF,
            clock=QuickClock(),
            room=self.room,
            rules=lambda plan, completion: EvenKeys(),
            copied=lambda batch: self.copied.extend(seqs_of(batch)),
        )
        replicator.add(self.plan)
        try:
            yield replicator
        finally:
            replicator.stop()
            assert replicator.join(5.0)

    def insert(self, *keys: int) -> None:
        self.source.commit(*((key, False) for key in keys))

    def wait_read(self) -> None:
        """Until the log is read to its end."""
        wait_until(lambda: self.source.seen == self.source.end, "the log to be read", 10.0)

    def wait_spooled(self) -> None:
        """Until all that was committed is in the store."""
        wait_until(self._spooled_to_the_end, "all to be spooled", 10.0)

    def wait_delivered(self) -> None:
        wait_until(lambda: len(self.delivered()) == self.source.end, "all to be delivered", 20.0)
        wait_until(lambda: not self.marks.entries, "the spool to be empty", 10.0)

    def delivered(self) -> set[int]:
        return {each.seq for each in self.target.changes}

    def in_order(self) -> bool:
        """Whether the mark never went back."""
        marks = [int(each.mark.watermark) for each in self.marks.decisions if each.mark is not None]
        return marks == sorted(marks)

    def outage(self) -> None:
        """The target is away, and rows are spooled for it."""
        self.target.away = True
        self.insert(1)
        wait_until(lambda: self.marks.entries, "the first row to be spooled", 10.0)

    def _spooled_to_the_end(self) -> bool:
        spooled = self.marks.spooled(PLAN.table)
        return spooled.mark is not None and int(spooled.mark.watermark) == self.source.end


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
    rig = Rig(room=Room(30_000))
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


def test_a_damaged_entry_is_told_dropped_and_its_rows_read_again_from_the_stored_mark() -> None:
    rig = Rig()
    rig.insert(1)
    with rig.running():
        rig.wait_delivered()
        rig.outage()
        for key in range(2, 30):
            rig.insert(key)
        rig.wait_spooled()
    table, entry = rig.marks.entries[-1]
    rig.marks.entries[-1] = table, replace(entry, payload=None)
    rig.target.away = False
    with rig.running():
        rig.wait_delivered()
    assert rig.observer.discarded == [(entry.rows, "damaged in the state store")]
    errors = [str(error) for _, state, error in rig.observer.states if error and state == "paused"]
    assert "rows in it are damaged" in errors[-1]
    assert rig.in_order()


def test_rows_that_are_refused_within_a_spooled_chunk_are_set_aside_and_the_rest_arrives() -> None:  # [R2]
    rig = Rig()
    rig.target.reject = lambda seq: seq in (5, 7)
    with rig.running():
        rig.outage()
        rig.insert(*range(2, 12))
        rig.wait_spooled()
        rig.target.away = False
        wait_until(lambda: not rig.marks.entries, "the spool to be empty", 10.0)
    assert sorted(int(row.watermark or 0) for row in rig.marks.failed()) == [5, 7]


def test_a_store_that_cannot_take_the_spool_pauses_the_table_and_nothing_is_lost() -> None:
    rig = Rig()
    errors = [StateError("write", "the store", "the disk is full", "Free some", meaning=Meaning.RETRY)] * 3
    rig.marks.refuse_append = lambda: errors.pop() if errors else None
    with rig.running():
        rig.insert(0)
        rig.wait_delivered()
        rig.outage()
        rig.insert(2, 3)
        rig.wait_spooled()
        rig.target.away = False
        rig.wait_delivered()
    assert "paused" in [state for _, state, _ in rig.observer.states]


def test_spooled_rows_of_older_columns_are_delivered_as_they_were_read() -> None:  # [R10]
    rig = Rig()
    with rig.running():
        rig.insert(1)
        rig.wait_delivered()
        rig.outage()
        rig.insert(2)
        rig.wait_spooled()
    rig.source.checkpoint()  # as if they were pruned: nobody can read them again
    rig.target.away = False
    rig.plan = replace(PLAN, version="seq")
    with rig.running():
        rig.wait_delivered()
    assert rig.marks.restarted == [PLAN.table]
    assert rig.observer.discarded == []


def test_spooled_rows_whose_columns_the_target_refuses_are_dropped_with_a_reason() -> None:
    rig = Rig()
    with rig.running():
        rig.insert(1)
        rig.wait_delivered()
        rig.outage()
        rig.wait_spooled()
    rig.target.away = False
    older = PLAN.columns
    rig.plan = replace(PLAN, columns=(PLAN.columns[0], Column("seq", "HUGEINT", nullable=False)))
    refusal = TargetError("open", "trades", "it has no such column", "Run cdc schema apply")
    rig.target.open_error = lambda plan: refusal if plan.columns == older else None
    with rig.running():
        rig.wait_delivered()
    ((rows, reason),) = rig.observer.discarded
    assert rows == 1
    assert "no such column" in reason


def test_a_table_that_is_altered_during_an_outage_keeps_what_was_spooled_before() -> None:
    rig = Rig()
    with rig.running() as replicator:
        rig.insert(1)
        rig.wait_delivered()
        rig.outage()
        rig.wait_spooled()
        replicator.replan(replace(PLAN, version="seq"))
        rig.source.checkpoint()
        rig.insert(2)
        rig.target.away = False
        rig.wait_delivered()
    assert rig.marks.restarted == [PLAN.table]


def test_what_is_spooled_is_offered_to_whoever_keeps_a_copy() -> None:
    rig = Rig()
    with rig.running():
        rig.outage()
        rig.insert(2, 3)
        rig.wait_spooled()
        assert rig.copied == [2, 3], "the first was offered on its way to the target"


def test_rows_of_incomplete_groups_are_parked_when_the_spool_is_delivered_and_not_before() -> None:  # [F8]
    waiting = Completion("id", "even", max_age_seconds=100_000.0, max_rows=100, max_bytes=1 << 20)
    rig = Rig(plan=replace(PLAN, completion=waiting))
    with rig.running():
        rig.insert(2)
        rig.wait_delivered()
        rig.target.away = True
        rig.insert(4)
        wait_until(lambda: rig.marks.entries, "the first row to be spooled", 10.0)
        rig.insert(5, 6, 7)
        rig.wait_spooled()
        assert rig.marks.held(PLAN.table).rows == ()
    rig.target.away = False
    with rig.running():
        wait_until(lambda: not rig.marks.entries, "the spool to be empty", 10.0)
    assert sorted(each.key for each in rig.target.changes) == [2, 4, 6]
    assert sorted(each.group for each in rig.marks.held(PLAN.table).rows) == ["5", "7"]


def test_two_tables_share_the_room() -> None:
    room = Room(100)
    assert room.take(60)
    assert not room.take(60)
    assert room.has(40)
    room.give_back(60)
    assert room.take(100)
    assert room.share == 1.0


Step = st.sampled_from(["insert", "update", "delete", "away", "back", "read", "restart", "kill"])


@settings(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps=st.lists(Step, min_size=3, max_size=14))
def test_whatever_fails_and_restarts_every_change_arrives_and_the_newest_wins(steps: list[str]) -> None:
    """After a kill the store is what it was a moment before, and the target keeps what it was sent."""
    rig, key = Rig(), 0
    rig.insert(1000)
    stack = rig.running()
    stack.__enter__()
    rig.wait_delivered()  # a table of which nothing was delivered waits for the target to be there
    try:
        for step in steps:
            match step:
                case "insert":
                    rig.insert(*range(key + 1, key + 70))
                    key += 70
                case "update":
                    rig.source.commit((1000, False))
                case "delete":
                    rig.source.commit((key, True))
                case "away" | "back":
                    rig.target.away = step == "away"
                case "read":
                    rig.wait_read()
                case "restart":
                    stack.__exit__(None, None, None)
                    stack = rig.running()
                    stack.__enter__()
                case "kill":
                    with rig.marks.lock:
                        stored = MemoryMarks(list(rig.marks.decisions), entries=copy.copy(rig.marks.entries))
                    stack.__exit__(None, None, None)
                    rig.marks = stored
                    stack = rig.running()
                    stack.__enter__()
        rig.target.away = False
        rig.wait_delivered()
    finally:
        stack.__exit__(None, None, None)
    newest = {each.key: each for each in rig.source.history}
    assert rig.target.final() == newest
    assert rig.in_order()
    assert threading.active_count() < 20


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

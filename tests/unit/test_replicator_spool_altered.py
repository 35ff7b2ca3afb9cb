"""Spooled rows that cannot go as they are: damaged, refused, other columns, incomplete groups. [R4, R10]"""

from __future__ import annotations

from dataclasses import replace

from cdc.change import Column, Completion
from cdc.errors import Meaning, StateError, TargetError
from tests.support.replication import PLAN
from tests.support.spooling import Rig
from tests.support.waiting import wait_until


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

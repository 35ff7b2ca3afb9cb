"""What the target is known to hold of a served table survives a restart, and never more than that."""

from __future__ import annotations

from dataclasses import replace

from cdc.change import Column, TableId, TablePlan
from cdc.source.served.known import Digest, Known

PLAN = TablePlan(
    table=TableId("main", "t"),
    target="t",
    columns=(Column("id", "INTEGER"), Column("seq", "BIGINT")),
    key=("id",),
    watermark=Column("seq", "BIGINT"),
)
SERVER = "v1.5.5"
ONE, OTHER = Digest(10, 1, 2), Digest(10, 1, 3)


def known(*highs: str) -> Known:
    made = Known(PLAN, SERVER)
    made.begin(highs)
    for number in range(len(highs)):
        made.learn(number, ONE)
    made.settle()
    return made


def loaded(stored: bytes, plan: TablePlan = PLAN, server: str = SERVER) -> Known:
    made = Known(plan, server)
    made.load(stored)
    return made


def flags(each: Known) -> list[bool]:
    return [found.known for found in each.ranges]


def test_what_is_acknowledged_is_stored_and_found_again() -> None:
    found = loaded(known("100", "200").dump())
    assert flags(found) == [True, True]
    assert found.end == "200"
    assert [each.digest for each in found.ranges] == [ONE, ONE]


def test_what_is_not_acknowledged_is_not_stored() -> None:
    made = known("100", "200")
    made.learn(1, OTHER)
    assert flags(loaded(made.dump())) == [True, False]
    made.settle()
    assert made.grown
    assert flags(loaded(made.dump())) == [True, True]


def test_a_range_that_is_handed_out_anew_is_forgotten_in_the_store_before_that_is_sent() -> None:
    made = known("100", "200")
    made.dump()
    made.touch(["100", None, "199", "5000"])  # a range ends before its high; beyond the last one all is open
    assert made.owed
    assert flags(loaded(made.dump())) == [True, False]


def test_watermarks_are_ordered_as_their_type_is_and_not_as_text() -> None:
    made = known("9", "100")
    made.touch(["10"])
    assert flags(made) == [True, False]


def test_of_another_plan_or_server_and_of_damage_nothing_is_known() -> None:
    stored = known("100").dump()
    wider = replace(PLAN, columns=(*PLAN.columns, Column("v", "INTEGER")))
    for found in (loaded(stored, wider), loaded(stored, server="v1.5.6"), loaded(stored[:-3]), loaded(b"")):
        assert found.ranges == []
        assert found.owed, "else it would be known again once the plan is as it was"


def test_many_ranges_become_wider_ones_whose_digests_add_up() -> None:
    made = known(*(str(100 * number) for number in range(1, 4_097)))
    made.close(["409700"], [OTHER])
    assert len(made.ranges) == 2_049
    assert made.ranges[0].digest == Digest(20, 2, 4)
    assert made.ranges[0].high == "200"
    assert made.ranges[-1].high == "409700"
    assert made.ranges[-1].digest == OTHER

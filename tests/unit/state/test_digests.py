"""What a reader knows the target to hold is stored as a whole, and dropped with every reset. [R3]"""

from __future__ import annotations

import pytest

from cdc.change import Mark, Position
from cdc.errors import LeaseHeld, Meaning, StateError
from cdc.state import Lease, Store
from cdc.stored import Decision
from cdc.watermark import BoundMarks, apply_reset, bind, plan_reset
from tests.support.stored import SOURCE, TRADES, plan


@pytest.fixture
def marks(store: Store, lease: Lease) -> BoundMarks:
    """With one batch delivered and digests stored."""
    marks = bind(store, SOURCE, lease)
    marks.describe(plan(key="VARCHAR"))
    marks.load(TRADES)
    marks.commit(Decision(TRADES, Mark("5", ("k",)), 3, 30, Position(1, 1, 5), "v1"))
    marks.remember(TRADES, b"known")
    return marks


def test_digests_are_there_after_a_restart_and_the_later_ones_take_their_place(
    store: Store, marks: BoundMarks, lease: Lease
) -> None:
    assert bind(store, SOURCE, lease).load(TRADES).digests == b"known"
    again = bind(store, SOURCE, lease)
    again.remember(TRADES, b"known better")
    assert again.load(TRADES).digests == b"known better"
    assert again.load(TRADES).mark == Mark("5", ("k",))


@pytest.mark.parametrize("to", [None, "3"], ids=["reset", "set"])
def test_a_reset_drops_them_and_refuses_those_of_a_reader_from_before(
    store: Store, marks: BoundMarks, to: str | None
) -> None:
    apply_reset(store, plan_reset(store, TRADES, to=to))
    with pytest.raises(StateError) as refused:
        marks.remember(TRADES, b"of before")
    assert refused.value.meaning is Meaning.RETRY
    assert marks.load(TRADES).digests is None


def test_marks_rebuilt_from_the_target_drop_them(store: Store, marks: BoundMarks) -> None:
    store.rebuild(SOURCE, {TRADES: Mark("5", ())})
    assert marks.load(TRADES).digests is None


def test_a_table_to_be_delivered_again_has_none(marks: BoundMarks) -> None:
    marks.restart(TRADES)
    assert marks.load(TRADES).digests is None


def test_an_overtaken_replicator_stores_none(store: Store, marks: BoundMarks, lease: Lease) -> None:
    later = bind(store, SOURCE, lease)
    with pytest.raises(LeaseHeld):
        marks.remember(TRADES, b"of the one before")
    assert later.load(TRADES).digests == b"known"

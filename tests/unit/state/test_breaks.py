"""Which tables are remembered as broken, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.change import TableId
from cdc.state import Breaks, Store, open_store
from tests.support.clock import FakeClock

TRADES = TableId("main", "trades")
BROKERS = TableId("main", "brokers")


@pytest.fixture
def breaks(store: Store) -> Breaks:
    return store.breaks("db-1")


def test_a_break_is_remembered_across_a_restart_with_its_last_reason_and_its_first_time(
    store: Store, breaks: Breaks, clock: FakeClock, tmp_path: Path
) -> None:
    began = clock.wall()
    breaks.note(TRADES, "checkpoints came")
    clock.advance(60.0)
    breaks.note(BROKERS, "rows were deleted")
    breaks.note(TRADES, "rows may have been deleted")
    store.close()
    with open_store(tmp_path, mode="read") as again:
        first, second = again.breaks("db-1").standing()
        assert again.breaks("db-2").standing() == ()
    assert (first.table, first.reason, first.since) == (TRADES, "rows may have been deleted", began)
    assert (first.times, second.table, second.times) == (2, BROKERS, 1)


def test_a_mended_table_is_forgotten(breaks: Breaks) -> None:
    breaks.note(TRADES, "x")
    breaks.note(BROKERS, "y")
    trades = next(each for each in breaks.standing() if each.table == TRADES)
    assert breaks.mended(trades)
    assert [each.table for each in breaks.standing()] == [BROKERS]


def test_a_break_that_came_since_is_not_forgotten_with_the_one_that_was_mended(breaks: Breaks) -> None:
    breaks.note(TRADES, "x")
    [known] = breaks.standing()
    breaks.note(TRADES, "y")
    assert not breaks.mended(known)
    assert [each.reason for each in breaks.standing()] == ["y"]


def test_nor_is_one_that_came_after_somebody_else_had_mended_the_table(
    breaks: Breaks, clock: FakeClock
) -> None:
    breaks.note(TRADES, "x")
    [known] = breaks.standing()
    assert breaks.mended(known)
    clock.advance(1.0)
    breaks.note(TRADES, "x")
    assert not breaks.mended(known)
    assert len(breaks.standing()) == 1

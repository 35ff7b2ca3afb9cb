"""Failed rows in the state store: attempts, when they are due, and under which name they show. [R1 R2 R6]"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cdc.errors import ConfigError, StateError
from cdc.state import Store, open_store
from cdc.watermark import BoundMarks, bind
from tests.support.clock import FakeClock
from tests.support.stored import ORDERS, SOURCE, TRADES, FakeLease, decision, failed_row


def test_a_row_that_fails_again_is_one_row_with_more_attempts(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    marks.commit(decision(None, failed_row("a", version=5, payload=b"old")))
    clock.set_wall(1_100.0)
    marks.commit(decision(None, failed_row("a", version=6, payload=b"new", reason="still too long")))
    marks.commit(decision(None, failed_row("a", version=4, payload=b"stale")))
    (record,) = store.failed()
    assert (record.attempts, record.first_at, record.last_at) == (3, 1_000.0, 1_100.0)
    assert record.row == failed_row("a", version=6, payload=b"new", reason="still too long")


def test_versions_past_two_to_the_63rd_keep_their_order(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision(None, failed_row("a", version=2**63 + 1, payload=b"new")))
    marks.commit(decision(None, failed_row("a", version=9, payload=b"old")))
    assert store.failed()[0].row.payload == b"new"


def test_rows_without_a_whole_key_do_not_hide_each_other(store: Store, marks: BoundMarks) -> None:
    for _ in range(2):
        marks.commit(decision(None, failed_row("", payload=b"one"), failed_row("", payload=b"two")))
    assert [(record.row.payload, record.attempts) for record in store.failed()] == [(b"one", 2), (b"two", 2)]


def test_failed_rows_are_due_by_their_attempts_and_the_last_delay_repeats(
    store: Store, marks: BoundMarks, clock: FakeClock
) -> None:
    marks.commit(decision(None, failed_row("a")))
    for delay in (10.0, 30.0, 60.0, 120.0, 120.0):
        clock.advance(delay - 1)
        assert marks.due(TRADES, 10) == []
        clock.advance(1)
        (record,) = marks.due(TRADES, 10)
        marks.retried([], {record.id: "refused again"})
    assert store.failed()[0].attempts == 6
    assert store.failed()[0].row.reason == "refused again"


def test_a_retried_row_that_was_delivered_is_gone(store: Store, marks: BoundMarks, clock: FakeClock) -> None:
    marks.commit(decision(None, failed_row("a"), failed_row("b")))
    assert marks.due(TRADES, 10) == []
    assert store.retry(None) == 2
    first, second = marks.due(TRADES, 10)
    marks.retried([first.id], {second.id: "still"})
    assert [record.row.key for record in store.failed()] == [("b",)]
    assert store.retry([second.id, 999]) == 1
    assert [record.id for record in marks.due(TRADES, 10)] == [second.id]
    assert store.discard([second.id]) == 1
    assert store.failed_count() == 0
    with pytest.raises(StateError, match="cdc failed list"):
        store.failed_row(second.id)


def test_failed_rows_are_listed_by_table_and_no_more_than_asked(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision(None, failed_row("a"), failed_row("b")))
    marks.commit(decision(None, failed_row("c"), table=ORDERS))
    assert [record.row.key for record in store.failed(ORDERS)] == [("c",)]
    assert len(store.failed(limit=2)) == 2
    assert marks.load(TRADES).failed_rows == 2


def test_the_failed_rows_show_under_the_configured_name(tmp_path: Path, clock: FakeClock) -> None:
    with open_store(tmp_path, clock=clock) as store:
        bind(store, SOURCE, FakeLease()).commit(decision(None, failed_row("a")))
    with (
        open_store(tmp_path, failed_table="not_synced", clock=clock) as store,
        closing(sqlite3.connect(store.path)) as reader,
    ):
        rows = reader.execute('SELECT "table", reason, first_time FROM not_synced').fetchall()
        assert rows == [("main.trades", "too long", "1970-01-01 00:16:40")]
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            reader.execute("SELECT * FROM failed_syncs")


@pytest.mark.parametrize("name", ["", "failed rows", "tables", "sqlite_x", 'x"; DROP TABLE tables', "é"])
def test_a_name_the_failed_rows_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="failed_sync_table"):
        open_store(tmp_path, failed_table=name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_row_is_forgotten_once_its_key_is_delivered_in_no_older_version(
    store: Store, marks: BoundMarks
) -> None:
    """Whatever delivered it: its next state, its deletion, a repair. [issue 12]"""
    marks.commit(decision(None, *(failed_row(key, version=5) for key in "abcd"), failed_row("", version=5)))
    delivered: dict[tuple[str, ...], int] = {("a",): 6, ("b",): 5, ("c",): 4, ("",): 9}
    assert marks.commit(replace(decision(None), delivered=delivered)) == 2
    assert [record.row.key for record in store.failed()] == [("c",), ("d",), ("",)]


def test_a_row_that_fails_in_the_commit_that_delivers_its_older_state_stays(
    store: Store, marks: BoundMarks
) -> None:
    marks.commit(decision(None, failed_row("a", version=5)))
    again = replace(decision(None, failed_row("a", version=7)), delivered={("a",): 6})
    assert marks.commit(again) == 0
    assert [record.row.version for record in store.failed()] == [7]

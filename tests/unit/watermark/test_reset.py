"""Resets and rebuilding: what would change, who must not be running, and what is saved of a damaged store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cdc.change import Column, FailedRow, Mark, Position, TableId, TablePlan
from cdc.errors import LeaseHeld, StateError
from cdc.state import Lease, open_store
from cdc.stored import Decision
from cdc.watermark import bind, no_replicator, plan_reset, rebuild

SOURCE = "0f3a"
TRADES = TableId("main", "trades")
ORDERS = TableId("main", "orders")
FAILED = tuple(FailedRow((str(n),), "5", "too long", bytes(100), n) for n in range(300))


def plan(table: TableId) -> TablePlan:
    columns = (Column("id", "INTEGER"), Column("seq", "BIGINT"))
    return TablePlan(table, table.name, columns, ("id",), columns[1])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with Lease(tmp_path, SOURCE) as lease, open_store(tmp_path) as store:
        marks = bind(store, SOURCE, lease)
        marks.describe(plan(TRADES))
        marks.commit(Decision(TRADES, Mark("1000", ("7",)), 700, 9, Position(1, 1, 5), "v", FAILED))
    return tmp_path


def damage(path: Path, page: int) -> None:
    content = bytearray(path.read_bytes())
    content[page * 4096 : page * 4096 + 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def test_a_change_says_what_it_does(state: Path) -> None:
    with open_store(state, mode="read") as store:
        said = [str(plan_reset(store, TRADES, to=to)[0]) for to in (None, "999", "1000", "1001")]
    assert said == [
        "main.trades: seq 1000, id 7 → no mark: every row is sent again",
        "main.trades: seq 1000, id 7 → seq 999: rows from there on are sent again",
        "main.trades: seq 1000, id 7 → seq 1000: rows from there on are sent again",
        "main.trades: seq 1000, id 7 → seq 1001: rows before it that are not delivered yet are sent only once"
        " it is compared",
    ]


def test_no_replicator_can_start_while_marks_are_changed(state: Path) -> None:
    with no_replicator(state, SOURCE), pytest.raises(LeaseHeld):
        Lease(state, SOURCE).acquire()
    with Lease(state, SOURCE) as lease:
        assert lease.held


def test_marks_are_not_rebuilt_while_a_replicator_runs(state: Path) -> None:
    with Lease(state, SOURCE), pytest.raises(LeaseHeld):
        rebuild(state, SOURCE, {TRADES: Mark("5", ())})


def test_a_lost_store_is_rebuilt_from_the_targets_marks(tmp_path: Path) -> None:
    assert rebuild(tmp_path, SOURCE, {TRADES: Mark("5", ()), ORDERS: Mark("6", ())}).aside == ()
    with Lease(tmp_path, SOURCE) as lease, open_store(tmp_path) as store:
        marks = bind(store, SOURCE, lease)
        marks.describe(plan(TRADES))
        assert marks.load(TRADES).mark == Mark("5", ())


def test_a_store_that_can_be_used_keeps_all_but_the_marks(state: Path) -> None:
    rebuild(state, SOURCE, {TRADES: Mark("5", ())})
    with open_store(state, mode="read") as store:
        (record,) = store.tables()
    assert (record.mark, record.rows, record.failed_rows) == (Mark("5", ()), 700, 300)


def test_failed_rows_before_the_damage_are_saved_and_the_file_is_kept(state: Path) -> None:
    path = state / "state.sqlite3"
    damage(path, page=path.stat().st_size // 4096 - 2)
    content = path.read_bytes()
    done = rebuild(state, SOURCE, {TRADES: Mark("1000", ())}, failed_table="not_synced")
    (aside,) = done.aside
    assert aside.read_bytes() == content
    assert 0 < done.failed_rows <= len(FAILED)
    with open_store(state, mode="read") as store:
        saved = {record.row for record in store.failed(limit=1000)}
        assert len(saved) == done.failed_rows
        assert saved <= set(FAILED)
        assert store.tables()[0].mark == Mark("1000", ())


def test_a_store_damaged_from_its_first_byte_has_nothing_to_save(state: Path) -> None:
    damage(state / "state.sqlite3", page=0)
    assert rebuild(state, SOURCE, {}).failed_rows == 0
    with open_store(state) as store:
        assert store.tables() == []


def test_a_store_that_is_whole_but_not_ours_is_not_set_aside(tmp_path: Path) -> None:
    for statement, said in (
        ("PRAGMA user_version = 99", "newer cdc"),
        ("PRAGMA application_id = 1", "another"),
    ):
        directory = tmp_path / said
        with open_store(directory) as store, closing(sqlite3.connect(store.path)) as connection:
            connection.execute(statement)
        with pytest.raises(StateError, match=said):
            rebuild(directory, SOURCE, {})
        assert [path.name for path in directory.iterdir() if "aside" in path.name] == []

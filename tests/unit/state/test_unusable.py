"""A state store that is full, locked, missing, damaged, newer or another program's: what is said of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cdc.change import Mark
from cdc.errors import Meaning, StateError
from cdc.state import Lease, Store, open_store, set_aside
from cdc.watermark import BoundMarks, bind
from tests.support.clock import FakeClock
from tests.support.stored import SOURCE, TRADES, FakeLease, decision, failed_row, plan


def test_a_full_disk_asks_for_a_retry_and_leaves_nothing_by_halves(store: Store, marks: BoundMarks) -> None:
    marks.commit(decision("1"))
    before = store.tables()
    with store.database.transaction() as connection:
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    store.database.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StateError, match="the disk is full") as caught:
        marks.commit(decision("2", *(failed_row(str(n), payload=bytes(1000)) for n in range(100))))
    assert caught.value.meaning is Meaning.RETRY
    assert store.tables() == before
    assert store.failed() == []
    store.database.query("PRAGMA max_page_count = 1073741823")
    marks.commit(decision("2"))


def test_a_store_that_another_program_keeps_locked_asks_for_a_retry(
    store: Store, marks: BoundMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.database.query("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked") as caught:
            marks.commit(decision("1"))
        other.execute("ROLLBACK")
    assert caught.value.meaning is Meaning.RETRY
    marks.commit(decision("1"))


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_missing_store_is_said_and_not_made(tmp_path: Path, mode: str) -> None:
    with pytest.raises(StateError, match="there is none"):
        open_store(tmp_path / "state", mode="read" if mode == "read" else "write")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("where", [0, 2 * 4096 + 8], ids=["header", "page"])
def test_a_damaged_store_is_said_kept_aside_and_rebuilt(tmp_path: Path, where: int, clock: FakeClock) -> None:
    with open_store(tmp_path) as store:
        marks = bind(store, SOURCE, FakeLease())
        marks.describe(plan())
        marks.commit(decision("7"))
        path = store.path
    damaged = bytearray(path.read_bytes())
    damaged[where : where + 64] = b"\xa5" * 64
    path.write_bytes(damaged)
    with pytest.raises(StateError, match="cdc watermark rebuild"):
        open_store(tmp_path)
    (aside,) = set_aside(tmp_path, clock)
    assert aside.read_bytes() == damaged
    with open_store(tmp_path) as store:
        assert store.created
        store.rebuild(SOURCE, {TRADES: Mark("7", ())})
        assert store.tables()[0].mark == Mark("7", ())


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        path = store.path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="newer cdc"):
        open_store(tmp_path)
    with pytest.raises(StateError, match="newer cdc"):
        open_store(tmp_path, mode="read")


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    content = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        open_store(tmp_path)
    assert path.read_bytes() == content


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StateError, match=r"\[state\] directory"):
        open_store(tmp_path / "file" / "state")
    with pytest.raises(StateError, match=r"\[state\] directory"):
        Lease(tmp_path / "file" / "state", SOURCE).acquire()

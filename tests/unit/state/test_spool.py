"""The spool as stored: in order, removed as the mark moves, fenced, given back to the disk. [R4, R5]"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cdc.change import Mark, Position
from cdc.errors import LeaseHeld, Meaning, StateError
from cdc.state import Lease, Store, open_store
from cdc.stored import Decision, SpoolEntry
from cdc.watermark import BoundMarks, bind, reset_mark
from tests.support.stored import SOURCE, TRADES, plan


@pytest.fixture
def marks(store: Store, lease: Lease) -> BoundMarks:
    marks = bind(store, SOURCE, lease)
    marks.describe(plan(key="VARCHAR"))
    marks.load(TRADES)
    return marks


def entry(chunk: int, seq: int | None, payload: bytes = b"rows") -> SpoolEntry:
    mark = None if seq is None else Mark(str(seq), (f"key {seq}",))
    return SpoolEntry(
        chunk, 3, payload, mark, None if seq is None else Position(1, 1, seq), "v1", 500.0 + chunk
    )


def decision(chunk: int | None, seq: int) -> Decision:
    return Decision(TRADES, Mark(str(seq), ("k",)), 3, 30, Position(1, 1, seq), "v1", chunk=chunk)


def test_what_is_appended_is_there_after_a_restart_in_order_and_says_where_reading_goes_on(
    store: Store, marks: BoundMarks, lease: Lease
) -> None:
    marks.append(TRADES, [entry(1, 5), entry(2, 9)])
    marks.append(TRADES, [entry(2, None, b"more")])
    again = bind(store, SOURCE, lease)
    found = again.spooled(TRADES)
    assert [(each.number, each.rows, each.bytes, each.at) for each in found.chunks] == [
        (1, 3, 4, 501.0),
        (2, 6, 8, 502.0),
    ]
    assert found.mark == Mark("9", ("key 9",))
    assert found.position == Position(1, 1, 9)
    assert found.next_chunk == 3
    assert [each.payload for each in again.chunk(TRADES, 2)] == [b"rows", b"more"]
    assert store.tables(TRADES)[0].spooled_rows == 9


def test_a_commit_removes_the_chunk_that_it_delivered_and_no_other(marks: BoundMarks) -> None:
    marks.append(TRADES, [entry(1, 5), entry(2, 9)])
    marks.commit(decision(1, 5))
    assert [each.number for each in marks.spooled(TRADES).chunks] == [2]
    assert marks.load(TRADES).mark == Mark("5", ("k",))


def test_a_commit_that_is_refused_leaves_its_chunk(store: Store, marks: BoundMarks) -> None:
    marks.append(TRADES, [entry(1, 5)])
    reset_mark(store, SOURCE, TRADES, None)
    with pytest.raises(StateError):
        marks.commit(decision(1, 5))
    assert [each.number for each in marks.spooled(TRADES).chunks] == [1]


def test_a_batch_delivered_just_before_it_is_spooled_is_not_spooled(marks: BoundMarks) -> None:
    marks.commit(decision(4, 5))
    marks.append(TRADES, [entry(4, 5), entry(5, 9)])
    found = marks.spooled(TRADES)
    assert [each.number for each in found.chunks] == [5]
    assert found.next_chunk == 6


def test_numbers_go_on_past_those_delivered_when_the_table_is_set_up_again(marks: BoundMarks) -> None:
    marks.commit(decision(4, 5))
    assert marks.spooled(TRADES).next_chunk == 5


@pytest.mark.parametrize("how", ["reset", "rebuild", "restart"])
def test_a_moved_mark_keeps_the_spooled_rows_and_reads_from_the_new_mark(
    store: Store, marks: BoundMarks, how: str
) -> None:
    """Some of them may be gone from the source by now."""
    marks.append(TRADES, [entry(1, 5)])
    if how == "reset":
        reset_mark(store, SOURCE, TRADES, Mark("2", ()))
    elif how == "rebuild":
        store.rebuild(SOURCE, {TRADES: None})
    else:
        marks.restart(TRADES)
    found = marks.spooled(TRADES)
    assert [each.rows for each in found.chunks] == [3]
    assert (found.mark, found.position) == (None, None)
    assert [each.mark for each in marks.chunk(TRADES, 1)] == [None]


def test_nothing_is_appended_after_a_reset_until_the_table_is_loaded_again(
    store: Store, marks: BoundMarks
) -> None:
    reset_mark(store, SOURCE, TRADES, None)
    with pytest.raises(StateError) as caught:
        marks.append(TRADES, [entry(1, 5)])
    assert caught.value.meaning is Meaning.RETRY
    marks.load(TRADES)
    marks.append(TRADES, [entry(1, 5)])
    assert len(marks.spooled(TRADES).chunks) == 1


def test_a_replicator_that_was_overtaken_cannot_append(
    store: Store, marks: BoundMarks, lease: Lease
) -> None:  # [R8]
    bind(store, SOURCE, lease)
    with pytest.raises(LeaseHeld):
        marks.append(TRADES, [entry(1, 5)])
    with pytest.raises(LeaseHeld):
        marks.discard(TRADES, [1])


def test_a_damaged_entry_is_known_and_discarding_it_has_the_table_read_from_its_mark(
    store: Store, marks: BoundMarks
) -> None:
    marks.append(TRADES, [entry(1, 5), entry(2, 9)])
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute("UPDATE spool SET payload = x'00' WHERE chunk = 1")
    (damaged,) = marks.chunk(TRADES, 1)
    assert damaged.payload is None
    marks.discard(TRADES, [damaged.id])
    found = marks.spooled(TRADES)
    assert [each.number for each in found.chunks] == [2]
    assert (found.mark, found.position) == (None, None)


def test_the_file_is_as_small_after_a_spool_as_before(store: Store, marks: BoundMarks) -> None:
    marks.shrink()
    before = _size(store)
    for chunk in range(1, 41):
        marks.append(TRADES, [entry(chunk, chunk, os.urandom(500_000))])
    assert _size(store) > 20_000_000
    for chunk in range(1, 41):
        marks.commit(decision(chunk, chunk))
    marks.shrink()
    assert _size(store) - before < 2_000_000


def test_a_store_of_an_older_version_is_made_to_shrink_too(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as old:
        old.execute("PRAGMA auto_vacuum = 0")
        old.execute("PRAGMA application_id = 1667523377")
        old.execute("CREATE TABLE kept (a)")
        old.execute("INSERT INTO kept VALUES (1)")
        old.commit()
    with open_store(tmp_path) as store, closing(sqlite3.connect(store.path)) as other:
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert other.execute("SELECT a FROM kept").fetchone() == (1,)


def _size(store: Store) -> int:
    return sum(each.stat().st_size for each in store.path.parent.iterdir())

"""What of a table is known to be in the target, and when it stops being known. [R3]"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest

from cdc.change import Column, TableId, TablePlan
from cdc.source.table import digests as digests_module
from cdc.source.table.digests import Digests, RangeDigests, fingerprint_of, read_digests

NAMED = b"12345678"
PLAN = TablePlan(
    table=TableId("main", "t"),
    target="t",
    columns=(Column("id", "BIGINT"), Column("seq", "BIGINT"), Column("s", "VARCHAR")),
    key=("id",),
    watermark=Column("seq", "BIGINT"),
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests_module, "WIDTH", 10)
    monkeypatch.setattr(digests_module, "MOST_RANGES", 8)


def found(first: int, *sums: int, late: tuple[int, ...] = ()) -> RangeDigests:
    """Ranges of ten rows each, with these sums; those numbered `late` reach past the mark."""
    flags = np.array([first + at in late for at in range(len(sums))])
    return RangeDigests(first, np.full(len(sums), 10, np.uint64), np.array(sums, np.uint64), flags)


def known(rows: int = 50, iteration: int = 4) -> Digests:
    """All ranges of a table known, with the sums 0, 1, 2..., and stored so."""
    made = Digests(NAMED)
    made.checkpointed(iteration, rows, appended_from=None)
    made.learn((0, rows), found(0, *range(rows // 10)))
    made.settle()
    made.dump(complete=True)
    return made


def test_what_is_stored_is_what_is_known() -> None:
    stored = known().dump(complete=True)
    loaded = Digests.load(stored, NAMED)
    assert loaded is not None
    assert (loaded.iteration, loaded.complete, loaded.ranges_known) == (4, True, 5)
    loaded.checkpointed(9, 50, appended_from=1 << 62)
    loaded.suspect(None)
    assert loaded.differing((0, 50), found(0, 0, 1, 7, 3, 4)) == [(20, 30)]


def test_damaged_digests_are_none() -> None:
    stored = known().dump(complete=True)
    assert [Digests.load(part, NAMED) for part in (b"", stored[:-1], stored + b"x")] == [None] * 3


def test_of_another_plan_nothing_is_known_and_the_store_is_told_before_anything_is_sent() -> None:
    loaded = Digests.load(known().dump(complete=True), b"another.")
    assert loaded is not None
    assert (loaded.iteration, loaded.complete, loaded.ranges_known, loaded.owed) == (4, True, 0, True)


def test_rows_that_the_log_changes_make_their_ranges_unknown_in_the_store_too() -> None:
    made = known()
    made.touch(np.array([5, 7, 31, 70]))
    assert (made.ranges_known, made.owed) == (3, True)
    again = Digests.load(made.dump(complete=True), NAMED)
    assert again is not None
    assert again.ranges_known == 3
    made.touch(np.array([5, 7]))
    assert not made.owed


def test_a_range_that_the_log_changed_or_that_reaches_past_the_mark_is_not_learnt_before_a_checkpoint() -> (
    None
):
    made = known()
    made.touch(np.array([5]))
    made.learn((0, 50), found(0, 8, 8, 8, 8, 8))
    assert made.ranges_known == 4
    assert made.next_wanting(100) is None
    made.checkpointed(5, 60, appended_from=50)
    assert made.next_wanting(100) == (0, 10)
    made.learn((0, 10), found(0, 8))
    made.learn((50, 60), found(5, 9, late=(5,)))
    assert made.ranges_known == 5


def test_what_is_learnt_is_not_stored_before_all_is_acknowledged() -> None:
    made = Digests(NAMED)
    made.checkpointed(4, 50, appended_from=None)
    made.learn((0, 50), found(0, *range(5)))
    before = Digests.load(made.dump(complete=False), NAMED)
    made.settle()
    after = Digests.load(made.dump(complete=True), NAMED)
    assert before is not None
    assert after is not None
    assert (before.ranges_known, after.ranges_known) == (0, 5)


def test_rows_appended_make_only_the_last_range_unknown() -> None:
    made = known(rows=50)
    made.checkpointed(5, 58, appended_from=48)
    assert made.ranges_known == 4
    assert not made.suspicious


def test_when_row_ids_shift_nothing_is_known_and_suspects_begin_as_much_earlier() -> None:
    made = known()
    made.suspect([(30, 50)])
    made.checkpointed(5, 45, appended_from=None, shifted=5)
    assert made.ranges_known == 0
    assert made.next_suspects(1000) == (20, 50)


def test_only_ranges_wholly_within_row_groups_that_stayed_are_known_still() -> None:
    made = known()
    made.suspect([(20, 30)])
    made.keep_known([(5, 30)])
    assert made.differing((20, 30), found(2, 2)) == []
    assert made.ranges_known == 2  # the suspect, and the one from 10 on


def test_suspects_are_taken_in_runs_until_they_are_handed_out() -> None:
    made = known()
    made.suspect([(0, 10), (20, 50)])
    assert made.next_suspects(20) == (0, 10)
    made.cleared((0, 10))
    assert made.next_suspects(20) == (20, 40)
    assert made.differing((20, 40), None) == [(20, 40)]
    assert made.owed
    made.cleared((20, 40))
    made.cleared((40, 50))
    assert not made.suspicious


def test_a_table_that_grows_has_wider_ranges_whose_digests_are_sums() -> None:
    made = known(rows=80)
    made.suspect([(70, 80)])
    made.checkpointed(5, 81, appended_from=1 << 62)
    assert made.width == 20
    assert made.ranges_known == 4
    made.suspect(None)
    wide = RangeDigests(
        0, np.full(5, 20, np.uint64), np.array([1, 5, 9, 13, 0], np.uint64), np.zeros(5, np.bool_)
    )
    assert made.differing((0, 100), wide) == [(80, 100)]


@pytest.fixture
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS id, i AS seq, 'x' || i AS s FROM range(35) AS r(i)")
        yield connection


def sums(cursor: duckdb.DuckDBPyConnection, plan: TablePlan = PLAN, low: str | None = "100") -> list[int]:
    return [int(total) for total in read_digests(cursor, "t", plan, low, (0, 40), 10).sums]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET s = 'y' WHERE id = 15",
        "UPDATE t SET s = CASE id WHEN 14 THEN 'x15' ELSE 'x14' END WHERE id IN (14, 15)",
        "UPDATE t SET s = NULL WHERE id = 15",
        "DELETE FROM t WHERE id = 15",
    ],
)
def test_a_change_shows_in_the_digest_of_its_range_alone(
    cursor: duckdb.DuckDBPyConnection, change: str
) -> None:
    before = sums(cursor)
    cursor.execute(change)
    assert [at for at, (one, other) in enumerate(zip(before, sums(cursor), strict=True)) if one != other] == [
        1
    ]


def test_rows_outside_the_filter_and_columns_not_delivered_are_not_digested(
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    plan = dataclasses.replace(PLAN, columns=PLAN.columns[:2], filter="id <> 15")
    before = sums(cursor, plan)
    cursor.execute("UPDATE t SET s = 'y'")
    cursor.execute("DELETE FROM t WHERE id = 15")
    assert sums(cursor, plan) == before


def test_ranges_with_rows_past_the_mark_or_without_a_watermark_are_late(
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    cursor.execute("UPDATE t SET seq = NULL WHERE id = 3")
    assert read_digests(cursor, "t", PLAN, "29", (0, 40), 10).late.tolist() == [True, False, True, True]
    assert read_digests(cursor, "t", PLAN, None, (0, 40), 10).late.all()


def test_digests_of_other_columns_or_another_filter_have_another_name() -> None:
    others = (
        dataclasses.replace(PLAN, columns=PLAN.columns[:2]),
        dataclasses.replace(PLAN, filter="id > 1"),
    )
    assert len({fingerprint_of(plan) for plan in (PLAN, *others)}) == 3


def test_a_range_that_cannot_be_looked_at_is_left_until_the_next_checkpoint() -> None:
    made = known()
    made.touch(np.array([5]))
    made.checkpointed(5, 50, appended_from=50)
    made.leave((0, 10))
    assert not made.wanting
    made.checkpointed(6, 50, appended_from=50)
    assert made.next_wanting(100) == (0, 10)

"""Which row groups a checkpoint wrote anew, and whether the log explains them. [R3]"""

from __future__ import annotations

import numpy as np
import pytest

from cdc.source.tail.row_groups import Logged, RowGroups

BEFORE = RowGroups(iteration=4, stored_rows=30, live_rows=30, ends=(10, 20, 30), digests=(1, 2, 3))


def logged(inserted: int = 0, deleted: int = 0, touched: tuple[int, ...] = ()) -> Logged:
    return Logged(inserted, deleted, np.array(touched, dtype=np.int64))


def after(**changes: object) -> RowGroups:
    values = {"iteration": 5, "stored_rows": 30, "live_rows": 30, "ends": (10, 20, 30), "digests": (1, 2, 3)}
    return RowGroups(**{**values, **changes})  # type: ignore[arg-type]


def test_groups_with_other_blocks_were_written_anew() -> None:
    assert after(digests=(1, 7, 3, 8), ends=(10, 20, 30, 40)).rewritten_since(BEFORE) == [1, 3]
    assert after().rewritten_since(BEFORE) == []


def test_what_was_written_anew_is_not_known_across_two_checkpoints_nor_with_gaps_in_the_row_ids() -> None:
    assert after(iteration=6).rewritten_since(BEFORE) is None
    assert after(ends=()).rewritten_since(BEFORE) is None


def test_row_ids_of_a_group_begin_where_the_one_before_ends() -> None:
    assert [BEFORE.row_ids(number) for number in range(3)] == [(0, 10), (10, 20), (20, 30)]


@pytest.mark.parametrize(
    ("now", "log", "explained"),
    [
        (after(), logged(), True),
        (after(digests=(1, 7, 3)), logged(touched=(15,)), True),
        (after(digests=(1, 7, 3)), logged(touched=(9, 20)), False),
        (after(digests=(1, 7, 3)), logged(), False),
        (after(digests=(1, 2, 7), stored_rows=32, live_rows=32), logged(inserted=2), True),
        (after(digests=(1, 2, 7), stored_rows=33, live_rows=33), logged(inserted=2), False),
        (after(live_rows=29), logged(deleted=1, touched=(3,)), True),
        (after(live_rows=28), logged(deleted=1, touched=(3,)), False),
        (after(iteration=6), logged(), False),
    ],
)
def test_a_checkpoint_is_explained_by_what_the_log_touched(
    now: RowGroups, log: Logged, explained: bool
) -> None:
    assert now.explained_by(BEFORE, log) is explained


def test_rows_appeared_are_those_the_log_did_not_insert() -> None:
    assert after(live_rows=40).appeared(BEFORE, logged(inserted=3, deleted=1)) == 8
    assert after(live_rows=29).appeared(BEFORE, logged(deleted=1)) == 0


def test_rows_that_went_and_came_without_the_log_are_not_explained_though_as_many_live() -> None:
    """Ten rows deleted, and as many inserted besides."""
    assert not after(stored_rows=40, live_rows=30).explained_by(BEFORE, logged())
    assert not after(stored_rows=20, live_rows=20).kept_all(BEFORE, logged(deleted=10, touched=(1,)))
    assert after(stored_rows=31, live_rows=21).kept_all(BEFORE, logged(inserted=1, deleted=10, touched=(1,)))


def test_row_groups_that_were_written_anew_may_hide_an_update() -> None:
    assert after(digests=(1, 7, 3)).changed_since(BEFORE) == [1]
    assert after().changed_since(BEFORE) == []
    gaps = RowGroups(iteration=4, stored_rows=30, live_rows=30, ends=(), digests=(1, 2, 3), last=40)
    assert after(digests=(1, 7, 3)).changed_since(gaps) is None
    assert after().changed_since(gaps) == []


def test_groups_stay_where_they_were_if_blocks_and_row_ids_are_the_same() -> None:
    assert after(digests=(1, 7, 3)).unmoved_since(BEFORE) == [(0, 10), (20, 30)]
    assert after(digests=(1, 3), ends=(10, 20)).unmoved_since(BEFORE) == [(0, 10)]
    assert after(ends=()).unmoved_since(BEFORE) == []


def test_where_gaps_hide_row_ids_a_rewritten_group_is_explained_only_by_a_log_that_did_something() -> None:
    before = RowGroups(iteration=4, stored_rows=30, live_rows=30, ends=(), digests=(1, 2, 3), last=40)
    assert before.end == 41
    assert after().explained_by(before, logged())
    assert not after(digests=(1, 7, 3)).explained_by(before, logged())
    assert after(digests=(1, 7, 3)).explained_by(before, logged(touched=(15,)))

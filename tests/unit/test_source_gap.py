"""Which rows a snapshot found besides the log. [R3 issue 3]"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pytest

from cdc.change import Position
from cdc.source.table import gap as gap_module
from cdc.source.table.gap import Gap


class Counted:
    """A count begun at a checkpoint, on the log's first 100 bytes; `told` are its gaps."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.told: list[int] = []
        self._cursor = cursor
        self.gap = Gap(["id"], self.told.append)
        self.gap.complete()
        self.gap.checkpoint()

    def found(self, *ids: int | None, at: int = 100, iteration: int = 1) -> None:
        rows = pa.record_batch({"id": pa.array(ids, pa.int64()), "s": ["x"] * len(ids)})
        self.gap.found(rows, Position(1, iteration, at))

    def shown(self, ids: Sequence[int | None]) -> None:
        values = ", ".join(f"({value or 'NULL'})" for value in ids)
        self.gap.shown(f"(SELECT col0::BIGINT AS id FROM (VALUES {values}))", self._cursor)

    def passed(self, offset: int, iteration: int = 1) -> None:
        self.gap.passed(Position(1, iteration, offset), self._cursor)

    def end(self) -> list[int]:
        self.gap.end()
        return self.told


@pytest.fixture
def counted() -> Iterator[Counted]:
    with duckdb.connect() as connection:
        yield Counted(connection)


def test_rows_that_the_log_never_showed_are_told_once(counted: Counted) -> None:
    counted.found(1, 2)
    counted.passed(100)
    counted.found(3)
    counted.passed(100)
    assert counted.end() == [3]
    assert counted.end() == [3]


def test_rows_that_the_log_shows_after_all_are_no_gap(counted: Counted) -> None:
    counted.found(1, 2, None)
    counted.shown([2, None])
    counted.found(3, at=200)
    counted.shown([1, 3, 4])
    counted.passed(200)
    assert counted.end() == []


def test_rows_that_the_log_showed_before_the_snapshots_next_batch_are_no_gap(counted: Counted) -> None:
    counted.found(1)
    counted.shown([1, 2])
    counted.passed(150)
    counted.found(2, 3)
    counted.passed(150)
    assert counted.end() == [1]


def test_rows_of_commits_during_a_checkpoint_wait_for_the_log_that_shows_them(counted: Counted) -> None:
    """Their place is past the end of the log that the checkpoint ends."""
    counted.found(1, 2, at=250)
    counted.passed(200)
    assert counted.end() == []
    counted.shown([1, 2])
    counted.gap.checkpoint()
    counted.passed(20, iteration=2)
    assert counted.end() == []


def test_a_checkpoint_during_the_snapshot_forgets_nothing_that_was_shown(counted: Counted) -> None:
    counted.found(1)
    counted.shown([1, 2, 3])
    counted.gap.checkpoint()
    counted.passed(20, iteration=2)
    counted.found(2, 3, 4, at=20, iteration=2)
    counted.passed(20, iteration=2)
    assert counted.end() == [1]


def test_what_waits_for_a_log_that_was_not_followed_is_no_gap_and_what_was_compared_is(
    counted: Counted,
) -> None:
    counted.found(1, 2)
    counted.passed(100)
    counted.found(3, 4, 5, at=250)
    counted.gap.broken()
    assert counted.told == [2]
    assert counted.end() == [2]


def test_rows_that_the_mark_has_passed_are_counted_by_what_the_checkpoint_left(counted: Counted) -> None:
    counted.gap.checkpoint(appeared=5)
    counted.found(1, 2)
    counted.passed(100)
    counted.gap.checkpoint(appeared=1)
    assert counted.end() == [6]
    assert counted.end() == [6]


def test_nothing_is_counted_until_a_snapshot_has_had_everything(counted: Counted) -> None:
    counted.gap.broken()
    counted.gap.checkpoint()
    assert not counted.gap.counting
    counted.gap.complete()
    assert not counted.gap.counting
    counted.gap.checkpoint()
    assert counted.gap.counting


def test_more_rows_than_are_remembered_are_counted_as_they_come(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_module, "_MOST_ROWS", 2)
    for number in range(1, 6):
        counted.found(number)
    counted.shown([1, 2])
    counted.passed(100)
    assert counted.end() == [3]


def test_nothing_is_counted_while_the_log_shows_more_than_is_remembered(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_module, "_MOST_ROWS", 2)
    counted.found(1)
    counted.shown([2, 3, 4])
    assert not counted.gap.counting
    assert counted.end() == []

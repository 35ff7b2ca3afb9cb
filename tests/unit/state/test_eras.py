"""The counter of the versions' clock: it only grows, from run to run, and whoever else takes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.change import LAST_ERA, UNREACHABLE, Position, era_of
from cdc.eras import ERAS_PER_SECOND, MemoryEras, first_era
from cdc.errors import StateError
from cdc.state import Lease, open_store
from cdc.state.eras import MOST_RESERVED
from cdc.state.store import FILE_NAME
from cdc.watermark import bind
from tests.support.clock import FakeClock


def test_an_era_is_never_taken_twice_also_after_a_crash(tmp_path: Path) -> None:
    taken: list[int] = []
    for _ in range(5):
        with open_store(tmp_path, clock=FakeClock()) as store:
            taken += [store.eras.take() for _ in range(3 * MOST_RESERVED)]
    assert taken == sorted(set(taken))


def test_a_start_leaves_few_eras_unused_and_many_checkpoints_cost_few_commits(tmp_path: Path) -> None:
    with open_store(tmp_path, clock=FakeClock()) as store:
        first = store.eras.take()
    with open_store(tmp_path, clock=FakeClock()) as store:
        assert store.eras.take() == first + 1
        reserved = {
            store.database.query("SELECT next FROM eras")[0][0] for _ in range(640) if store.eras.take()
        }
        assert len(reserved) <= 7 + 640 // MOST_RESERVED


def test_a_counter_that_was_lost_begins_past_all_that_it_can_have_given(tmp_path: Path) -> None:
    clock = FakeClock()
    with open_store(tmp_path, clock=clock) as store:
        last = [store.eras.take() for _ in range(20 * ERAS_PER_SECOND)][-1]
    (tmp_path / FILE_NAME).unlink()
    clock.advance(21.0)
    with open_store(tmp_path, clock=clock) as store:
        assert store.eras.take() > last


def test_the_first_version_is_past_those_of_positions_and_version_columns_of_before() -> None:
    first = Position(first_era(1_750_000_000.0), 0, 0).as_version()
    by_position = 130_000_000 << 36  # of so many checkpoints
    by_nanoseconds = 2_200_000_000 * 10**9 ^ 1 << 63  # of the year 2039, as a signed column was taken
    assert by_position < by_nanoseconds < first


@pytest.mark.parametrize("kept", ["in the store", "in memory"])
def test_a_version_in_the_target_is_outranked_by_all_that_are_taken_later(tmp_path: Path, kept: str) -> None:
    with open_store(tmp_path, clock=FakeClock()) as store:
        eras = store.eras if kept == "in the store" else MemoryEras(0.0)
        seen = Position(eras.take() + 1000, 7, 12345).as_version()
        eras.past(seen)
        later = eras.take()
        assert later >= eras.floor > era_of(seen)
        assert Position(later, 0, 0).as_version() > seen
        with pytest.raises(StateError, match="no row that is sent"):
            eras.past(UNREACHABLE)
        assert eras.take() == later + 1


def test_another_process_that_takes_eras_is_followed_past_them_and_told_so(tmp_path: Path) -> None:
    """A repair beside a replicator relies on that before it reads a row."""
    with (
        open_store(tmp_path) as store,
        open_store(tmp_path, mode="write") as other,
        Lease(tmp_path, "s") as lease,
    ):
        marks = bind(store, "s", lease)
        before = store.eras.take()
        marks.check_lease()
        assert other.eras.floor_of("s") == 0
        theirs = other.eras.take()
        assert theirs > before
        marks.check_lease()
        assert other.eras.floor_of("s") > theirs
        assert store.eras.floor > theirs
        assert store.eras.take() > theirs


def test_a_process_that_went_on_past_another_by_itself_says_so_too(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "s")
    with open_store(tmp_path) as store, open_store(tmp_path, mode="write") as other, lease:
        marks = bind(store, "s", lease)
        store.eras.take()
        theirs = other.eras.take()
        store.eras.past(Position(theirs + 5, 0, 0).as_version())
        marks.check_lease()
        assert store.eras.take() >= other.eras.floor_of("s") > theirs


def test_positions_are_ordered_by_their_era_first_and_keep_their_order_as_versions() -> None:
    places = [(1, 9, 900), (2, 3, 0), (2, 3, 16), (2, 3, (1 << 36) - 1), (3, 0, 0), (LAST_ERA, 1, 1)]
    positions = [Position(*place) for place in places]
    versions = [each.as_version() for each in positions]
    assert positions == sorted(positions)
    assert versions == sorted(set(versions))
    assert [era_of(version) for version in versions] == [each.era for each in positions]


@pytest.mark.parametrize("proof", [None, 0, 2**64 - 1])
def test_a_position_is_read_as_it_was_stored(proof: int | None) -> None:
    position = Position(5, 6, 7, proof)
    found = Position.parse(position.to_text())
    assert (found, found.proof) == (position, proof)
    assert Position.parse(str(position)) == position


def test_a_position_of_before_there_were_eras_is_before_every_other_and_proves_nothing() -> None:
    old = Position.parse("300:4000")
    assert (old.era, old.iteration, old.offset, old.proof) == (0, 300, 4000, None)
    assert old < Position(1, 0, 0)

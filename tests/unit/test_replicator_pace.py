"""How long a table rests between two reads."""

import pytest

from cdc.replicator.pace import Pace


def test_a_short_round_is_followed_by_the_linger() -> None:
    assert Pace(linger_ms=10.0).gap(0.001) == pytest.approx(0.010)


def test_a_busy_table_works_for_its_share_of_the_time() -> None:
    assert Pace(busy_percent=25.0).gap(0.010) == pytest.approx(0.040)
    assert Pace(busy_percent=100.0).gap(0.020) == pytest.approx(0.020)


def test_the_rest_is_bounded_however_long_a_round_takes() -> None:
    assert Pace(busy_percent=10.0).gap(2.0) == pytest.approx(2.05)


def test_an_interval_is_kept_whatever_a_round_takes() -> None:
    assert Pace(interval_seconds=5.0).gap(0.5) == pytest.approx(5.0)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.config.programs import RestartConfig
from cdc.supervisor.restart import Restarts


def middle() -> float:
    return 0.5


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    config = RestartConfig(
        max_restarts=6, backoff_initial_sec=1, backoff_factor=3, backoff_max_sec=20, window_sec=1000
    )
    restarts = Restarts(config, middle, 0.0)
    assert [restarts.next_delay(float(now)) for now in range(7)] == [1, 3, 9, 20, 20, 20, None]


def test_three_restarts_in_the_window_are_made_and_a_fourth_is_not() -> None:
    restarts = Restarts(RestartConfig(window_sec=300), middle, 0.0)
    delays = [restarts.next_delay(now) for now in (0.0, 10.0, 20.0, 30.0)]
    assert [delay is not None for delay in delays] == [True, True, True, False]


def test_a_restart_that_left_the_window_no_longer_counts() -> None:
    restarts = Restarts(RestartConfig(window_sec=300), middle, 0.0)
    for now in (0.0, 10.0, 20.0):
        restarts.next_delay(now)
    assert restarts.next_delay(299.9) is None
    assert restarts.next_delay(300.0) == 4.0, "two remain in the window"
    assert restarts.next_delay(300.1) is None


def test_forgiven_restarts_no_longer_count() -> None:
    restarts = Restarts(RestartConfig(), middle, 0.0)
    for now in (0.0, 1.0, 2.0):
        restarts.next_delay(now)
    restarts.forgive()
    assert restarts.next_delay(3.0) == 1.0


def test_restarts_of_an_earlier_supervisor_count() -> None:
    first = Restarts(RestartConfig(window_sec=300), middle, 5000.0)
    for now in (5000.0, 5010.0, 5020.0):
        first.next_delay(now)
    second = Restarts(RestartConfig(window_sec=300), middle, 70.0, first.ages(5030.0))
    assert second.next_delay(70.0) is None
    assert second.next_delay(70.0 + 270.0) is not None, "the oldest is 300 s old by then"


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.integers(0, 30))
def test_jitter_keeps_a_delay_within_its_share(random: float, jitter: float, earlier: int) -> None:
    config = RestartConfig(max_restarts=31, jitter=jitter, backoff_max_sec=30)
    restarts = Restarts(config, lambda: random, 0.0, [1.0] * earlier)
    delay = restarts.next_delay(0.0)
    base = min(30.0, 2.0**earlier)
    assert delay is not None
    assert base * (1 - jitter) <= delay <= base * (1 + jitter)


def test_no_restarts_allowed_means_none_is_made() -> None:
    assert Restarts(RestartConfig(max_restarts=0), middle, 0.0).next_delay(0.0) is None


@pytest.mark.parametrize("age", [-5.0, 300.0, 1e9])
def test_an_age_that_makes_no_sense_is_ignored(age: float) -> None:
    """The wall clock may have been set between two supervisors."""
    assert Restarts(RestartConfig(window_sec=300), middle, 0.0, [age]).ages(0.0) == ()

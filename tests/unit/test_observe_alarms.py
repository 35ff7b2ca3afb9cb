"""The monitoring table, applied: which events raise an alert, and which clear it. [R4, R7]"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdc.alert import Alert, Alerts
from cdc.change import Position, TableId
from cdc.config import AlertsConfig
from cdc.errors import Meaning, SourceError, StateError
from cdc.observe.alarms import Alarms, TableCondition
from cdc.replicator.ports import Delivered
from cdc.target.codes import KNOWN, ErrorVerdict
from cdc.target.meaning import ServerError, target_error
from tests.support.clock import FakeClock

TRADES = TableId("main", "trades")
AWAY = target_error("insert into", "trades", ConnectionRefusedError())


def delivered(lag_seconds: float = 0.01, failed_rows: int = 0) -> Delivered:
    return Delivered(TRADES, "trades", 5, 99, failed_rows, None, Position(1, 1, 2), lag_seconds, 0.001, 0.002)


@dataclass
class Watch:
    path: Path
    config: AlertsConfig = field(default_factory=AlertsConfig)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[Alert] = []
        alerts = Alerts(self.clock, handlers=(self.told.append,), hold_seconds=60.0)
        self.alarms = Alarms(alerts, self.config, self.path, self.clock)

    def look(
        self,
        rows: int = 0,
        failed_rows: int = 0,
        most_attempts: int = 0,
        waiting_seconds: float | None = None,
        breaker: str = "closed",
    ) -> None:
        known = TableCondition(TRADES, rows, failed_rows, most_attempts, waiting_seconds)
        self.alarms.look([known], breaker)

    def standing(self) -> list[str]:
        return [each.name for each in self.alarms.alerts.standing()]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path, AlertsConfig(free_disk_mb=0))


def test_a_latency_above_the_limit_must_last_and_ends_when_caught_up(watch: Watch) -> None:
    watch.alarms.delivered(delivered(lag_seconds=0.2), caught_up=True)
    assert watch.standing() == []
    watch.clock.advance(5.0)
    watch.alarms.delivered(delivered(lag_seconds=0.3), caught_up=True)
    assert watch.standing() == ["sync_latency"]
    assert "300 ms is above 100 ms" in watch.told[0].message
    watch.alarms.cycle(TRADES)
    watch.clock.advance(60.0)
    watch.look()
    assert watch.standing() == []


def test_the_age_of_what_was_there_before_is_no_latency(watch: Watch) -> None:
    for _ in range(3):
        watch.alarms.delivered(delivered(lag_seconds=60.0), caught_up=False)
        watch.clock.advance(5.0)
    assert watch.standing() == []


def test_more_failed_rows_than_ten_are_told_and_ten_are_not(watch: Watch) -> None:
    watch.look(failed_rows=10)
    assert watch.standing() == []
    watch.look(failed_rows=11)
    assert watch.standing() == ["failed_syncs"]


def test_a_row_that_failed_more_than_ten_times_is_told(watch: Watch) -> None:
    watch.look(failed_rows=1, most_attempts=10)
    assert watch.standing() == []
    watch.look(failed_rows=1, most_attempts=11)
    assert watch.standing() == ["failed_attempts"]


def test_one_failure_in_fifteen_is_below_the_success_rate_once_enough_is_known(watch: Watch) -> None:
    watch.alarms.retried(TRADES, AWAY)
    for _ in range(18):
        watch.alarms.delivered(delivered(), caught_up=True)
    assert watch.standing() == []
    watch.alarms.retried(TRADES, AWAY)
    assert watch.standing() == ["success_rate"]


def test_the_breaker_tells_that_the_target_is_away_and_back(watch: Watch) -> None:
    watch.look(breaker="open")
    watch.look(breaker="half-open")
    assert watch.standing() == ["target_away"]
    watch.look()
    assert watch.standing() == []


def test_a_target_that_is_silent_is_told_as_away(watch: Watch) -> None:
    watch.alarms.retried(TRADES, AWAY)
    watch.look(breaker="open")
    (alert,) = watch.alarms.standing()
    assert (alert.name, alert.message) == ("target_away", "the connection was refused")
    assert "check that the server runs" in alert.remedy
    assert alert.unwell


@pytest.mark.parametrize(("code", "known"), KNOWN.items(), ids=[name for name, _ in KNOWN.values()])
def test_the_alert_of_every_error_code_names_the_cause_and_its_own_remedy(
    watch: Watch, code: int, known: tuple[str, ErrorVerdict]
) -> None:
    """[case 30]"""
    name, verdict = known
    error = target_error("insert into", "trades", ServerError(code, f"{name} happened"))
    match verdict.meaning:
        case Meaning.RETRY:
            watch.alarms.retried(TRADES, error)
            watch.look(breaker="open")
        case Meaning.STOP:
            watch.alarms.halted(TRADES, error)
        case Meaning.POISON:  # its rows are set aside; what a person reads is the reason of each
            watch.look(failed_rows=11)
    (alert,) = watch.alarms.standing()
    if verdict.meaning is Meaning.POISON:
        assert "cdc failed list" in alert.remedy
        return
    assert f"code {code}: {name} happened" in alert.message
    assert verdict.remedy in f"{alert.message}. {alert.remedy}"
    assert "Start ClickHouse" not in alert.remedy


def test_a_refusal_that_follows_a_silence_takes_its_place(watch: Watch) -> None:
    watch.alarms.retried(TRADES, AWAY)
    watch.look(breaker="open")
    watch.alarms.retried(TRADES, target_error("insert into", "trades", ServerError(252, "parts")))
    watch.look(breaker="open")
    assert watch.standing() == ["target_refuses"]
    watch.look()
    assert watch.standing() == []


def test_a_delivery_that_stands_still_is_told_after_five_seconds_with_what_is_known(watch: Watch) -> None:
    """[case 31]"""
    watch.look(waiting_seconds=5.0)
    assert watch.standing() == []
    watch.look(waiting_seconds=5.1)
    assert watch.standing() == ["delivery_stalled"]
    assert "system.processes" in watch.told[0].remedy
    watch.alarms.retried(TRADES, target_error("insert into", "trades", ServerError(252, "too many parts")))
    watch.look(waiting_seconds=6.0)
    (alert,) = watch.alarms.standing()
    assert "too many parts" in alert.message
    assert "raise linger_ms" in alert.remedy
    watch.look(waiting_seconds=None)
    watch.clock.advance(60.0)
    watch.look(waiting_seconds=None)
    assert watch.standing() == []


def test_a_source_that_is_away_is_one_alert_for_all_tables_until_it_is_read(watch: Watch) -> None:
    gone = SourceError("open", "trades.duckdb", "it is gone", "Bring it back", meaning=Meaning.RETRY)
    watch.alarms.halted(TRADES, gone)
    watch.alarms.halted(TableId("main", "brokers"), gone)
    assert watch.standing() == ["source_away"]
    watch.alarms.cycle(TRADES)
    assert watch.standing() == []


def test_a_halted_table_is_told_with_its_remedy_until_it_goes_on(watch: Watch) -> None:
    watch.alarms.halted(TRADES, StateError("write", "state.sqlite3", "the disk is full", "Free space"))
    assert watch.standing() == ["table_halted"]
    assert "Free space" in watch.told[0].message
    watch.alarms.cycle(TRADES)
    assert watch.standing() == []


def test_a_slow_network_and_crowded_memory_are_told(watch: Watch) -> None:
    watch.alarms.measured(0.5, 0.8)
    watch.alarms.measured(None, None)
    assert watch.standing() == []
    watch.alarms.measured(0.51, 0.81)
    assert watch.standing() == ["target_latency", "buffer_memory"]


def test_a_busy_source_is_told_when_it_lasts(watch: Watch) -> None:
    for second in range(9):
        watch.look(rows=201 * second)
        watch.clock.advance(1.0)
    assert watch.standing() == ["trade_rate"]


def test_a_source_at_the_limit_is_not(watch: Watch) -> None:
    for second in range(20):
        watch.look(rows=200 * second)
        watch.clock.advance(1.0)
    assert watch.standing() == []


def test_a_full_disk_and_a_tail_that_may_have_missed_updates_are_told(tmp_path: Path) -> None:
    watch = Watch(tmp_path, AlertsConfig(free_disk_mb=1 << 40))
    watch.look()
    watch.alarms.tail_broken(TRADES, "the log was cut")
    assert watch.standing() == ["state_disk", "tail_broken"]


def test_a_table_that_breaks_again_and_again_is_one_alert(watch: Watch) -> None:
    watch.alarms.tail_broken(TRADES, "the log is encrypted")
    watch.alarms.tail_mended(TRADES)
    assert watch.standing() == []
    for _ in range(3):
        watch.alarms.tail_broken(TRADES, "the log is encrypted")
        watch.clock.advance(5.0)
        watch.alarms.tail_mended(TRADES)
        assert watch.standing() == ["tail_broken"]
    watch.clock.advance(60.0)
    watch.look()
    assert watch.standing() == []

import pytest

from cdc.alert import MONITORING, Alert, AlertKind, Alerts, Severity, Threshold
from tests.support.clock import FakeClock

KIND = AlertKind("program_fatal", Severity.CRITICAL, "Read its log.")


class Seen:
    def __init__(self) -> None:
        self.events: list[Alert] = []
        self.gauges: dict[tuple[str, str], int] = {}
        self.clock = FakeClock()
        self.alerts = Alerts(self.clock, handlers=(self.events.append,), gauge=self.gauge, hold_seconds=60)

    def gauge(self, name: str, severity: str, count: int) -> None:
        self.gauges[name, severity] = count

    @property
    def told(self) -> list[bool]:
        return [event.raised for event in self.events]


def test_an_alert_raised_twice_is_told_once_and_says_what_was_seen_last() -> None:
    seen = Seen()
    seen.alerts.raise_alert(KIND, "writer", "exit code 1")
    seen.alerts.raise_alert(KIND, "writer", "exit code 2")
    assert seen.told == [True]
    (alert,) = seen.alerts.standing()
    assert (alert.message, alert.times, alert.remedy) == ("exit code 2", 2, "Read its log.")
    assert seen.gauges == {("program_fatal", "critical"): 1}


def test_two_subjects_are_two_alerts_of_one_name() -> None:
    seen = Seen()
    seen.alerts.raise_alert(KIND, "writer", "gone")
    seen.alerts.raise_alert(KIND, "replicator", "gone")
    assert seen.gauges == {("program_fatal", "critical"): 2}
    seen.alerts.clear(KIND, "writer", at_once=True)
    assert seen.gauges == {("program_fatal", "critical"): 1}
    assert [alert.subject for alert in seen.alerts.standing()] == ["replicator"]


def test_a_flapping_condition_is_one_alert() -> None:
    seen = Seen()
    for _ in range(20):
        seen.alerts.raise_alert(KIND, "writer", "down")
        seen.clock.advance(10)
        seen.alerts.clear(KIND, "writer")
        seen.clock.advance(10)
        seen.alerts.tick()
    assert seen.told == [True]


def test_a_clear_takes_effect_once_the_condition_stayed_away() -> None:
    seen = Seen()
    seen.alerts.raise_alert(KIND, "writer", "down")
    seen.alerts.clear(KIND, "writer")
    seen.clock.advance(59)
    seen.alerts.clear(KIND, "writer")
    seen.alerts.tick()
    assert seen.told == [True]
    seen.clock.advance(1)
    seen.alerts.tick()
    assert seen.told == [True, False]
    assert seen.events[-1].cleared_at == seen.clock.wall()
    assert seen.alerts.standing() == ()


def test_clearing_what_does_not_stand_tells_nobody() -> None:
    seen = Seen()
    seen.alerts.clear(KIND, "writer", at_once=True)
    assert seen.told == []


def test_a_threshold_must_be_exceeded_for_its_time_without_a_break() -> None:
    seen = Seen()
    latency = Threshold(KIND, 100.0, "ms", for_seconds=5.0)
    for value, raised in ((150, 0), (150, 0), (90, 0), (150, 0), (150, 0), (150, 1)):
        seen.alerts.measure(latency, "trades", value)
        assert len(seen.events) == raised
        seen.clock.advance(2.5)
    assert seen.events[0].message == "150 ms is above 100 ms"


def test_an_unknown_value_neither_raises_nor_clears() -> None:
    seen = Seen()
    seen.alerts.measure(Threshold(KIND, 1, "rows"), "trades", 2)
    seen.alerts.measure(Threshold(KIND, 1, "rows"), "trades", None)
    seen.clock.advance(61)
    seen.alerts.tick()
    assert seen.told == [True]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("sync_latency", 100, 101),
        ("failed_syncs", 10, 11),
        ("buffer_memory", 80, 81),
        ("trade_rate", 200, 201),
        ("target_latency", 500, 501),
        ("success_rate", 95, 94.9),
    ],
)
def test_the_monitoring_table_is_the_one_of_the_requirements(name: str, good: float, bad: float) -> None:
    threshold = MONITORING[name]
    assert not threshold.exceeded(good)
    assert threshold.exceeded(bad)
    assert threshold.kind.remedy.endswith(".")
